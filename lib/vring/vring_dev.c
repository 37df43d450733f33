/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stddef.h>

#include "vring_walk.h"

static uint16_t
dev_used_position(const struct vring_dev *q)
{
	return q->packed ? vring_position(q->used, q->used_wrap) : q->used;
}

static void
dev_set_state(struct vring_dev *q, const struct vring_config *c)
{
	q->avail = c->state.avail;
	q->used = c->state.used;
	q->avail_wrap = q->used_wrap = false;
	if (q->packed) {
		q->avail_wrap = (c->state.avail & VRING_PACKED_WRAP) != 0;
		q->used_wrap = (c->state.used & VRING_PACKED_WRAP) != 0;
		q->avail &= ~VRING_PACKED_WRAP;
		q->used &= ~VRING_PACKED_WRAP;
	}
	q->avail_seen = q->avail;
	q->used_flushed = c->state.used;
	q->in_flight = vring_state_distance(c);
}

int
vring_dev_init(struct vring_dev *q, const struct vring_config *config)
{
	enum vring_error error;
	struct vring_areas areas;
	int ret;

	memset(q, 0, sizeof(*q));
	ret = vring_config_check(config, &areas, true, &error);
	if (ret < 0) {
		q->error = (uint8_t)error;
		return ret;
	}
	q->desc = areas.desc;
	q->driver = areas.driver;
	q->device = areas.device;
	q->mem = config->mem;
	q->size = config->size;
	q->max_segs = config->max_segs ? config->max_segs : VRING_SEGS_DEFAULT;
	q->packed = vring_feature(config->features, VIRTIO_F_RING_PACKED);
	q->event_idx = vring_feature(config->features, VIRTIO_RING_F_EVENT_IDX);
	q->indirect = vring_feature(config->features, VIRTIO_RING_F_INDIRECT_DESC);
	q->in_order = vring_feature(config->features, VIRTIO_F_IN_ORDER);
	q->read_only = config->read_only;
	q->signal_first = q->event_idx;
	q->features = config->features;
	q->desc_iova = config->desc_iova;
	q->driver_iova = config->driver_iova;
	q->device_iova = config->device_iova;
	dev_set_state(q, config);
	return 0;
}

int
vring_dev_set_mem(struct vring_dev *q, const struct vring_mem *mem)
{
	struct vring_config c = {
		.size = q->size,
		.features = q->features,
		.desc_iova = q->desc_iova,
		.driver_iova = q->driver_iova,
		.device_iova = q->device_iova,
	};
	struct vring_areas areas;

	if (vring_mem_check(mem) < 0)
		return -EINVAL;
	if (vring_areas_map(&c, mem, &areas, true) < 0)
		return -EFAULT;
	q->desc = areas.desc;
	q->driver = areas.driver;
	q->device = areas.device;
	q->mem = mem;
	memset(&q->hit, 0, sizeof(q->hit));
	return 0;
}

void
vring_dev_break(struct vring_dev *q, enum vring_error error)
{
	if (q->error == VRING_ERR_NONE)
		q->error = (uint8_t)error;
}

uint16_t
vring_dev_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr, struct vring_seg *segs,
	uint16_t nr_segs)
{
	if (VRING_UNLIKELY(q->error))
		return 0;
	if (q->packed)
		return vring_packed_peek(q, chains, nr, segs, nr_segs);
	return vring_split_peek(q, chains, nr, segs, nr_segs);
}

static uint32_t
dev_slots(const struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	uint32_t slots = 0;
	uint16_t i;

	if (!q->packed)
		return nr;
	for (i = 0; i < nr; i++)
		slots += chains[i].done.slots;
	return slots;
}

void
vring_dev_consume(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	uint32_t slots = dev_slots(q, chains, nr);

	if (q->packed)
		vring_forward(&q->avail, &q->avail_wrap, slots, q->size);
	else
		q->avail += nr;
	q->in_flight += slots;
}

uint16_t
vring_dev_pop(struct vring_dev *q, struct vring_chain *chains, uint16_t nr, struct vring_seg *segs,
	uint16_t nr_segs)
{
	nr = vring_dev_peek(q, chains, nr, segs, nr_segs);
	vring_dev_consume(q, chains, nr);
	return nr;
}

int
vring_dev_unpop(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	uint32_t slots = dev_slots(q, chains, nr);

	if (q->error)
		return -EIO;
	if (slots > q->in_flight)
		return -EINVAL;
	if (q->packed)
		vring_back(&q->avail, &q->avail_wrap, slots, q->size);
	else
		q->avail -= nr;
	q->in_flight -= slots;
	return 0;
}

uint16_t
vring_chains_for(const struct vring_chain *chains, uint16_t nr, uint64_t len)
{
	uint64_t room = 0;
	uint16_t i;

	for (i = 0; i < nr; i++) {
		room += chains[i].writable_bytes;
		if (room >= len)
			return i + 1;
	}
	return 0;
}

/* Account for used slots before they are written: more than in flight would overrun the ring. */
static int
dev_take_in_flight(struct vring_dev *q, uint32_t slots)
{
	if (VRING_UNLIKELY(q->error))
		return -EIO;
	if (VRING_UNLIKELY(slots > q->in_flight))
		return -EINVAL;
	q->in_flight -= slots;
	q->unflushed += slots;
	return 0;
}

static int
dev_push(struct vring_dev *q, const struct vring_done *done, size_t stride, uint16_t nr)
{
	uint32_t slots = nr;
	int ret;

	if (q->packed) {
		const char *p = (const char *)done;
		uint16_t i;

		for (i = 0, slots = 0; i < nr; i++, p += stride)
			slots += ((const struct vring_done *)p)->slots;
	}
	ret = dev_take_in_flight(q, slots);
	if (ret < 0)
		return ret;
	if (q->packed)
		vring_packed_push(q, done, stride, nr);
	else
		vring_split_push(q, done, stride, nr);
	return 0;
}

int
vring_dev_push(struct vring_dev *q, const struct vring_done *done, uint16_t nr)
{
	return dev_push(q, done, sizeof(*done), nr);
}

int
vring_dev_push_chains(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	return dev_push(q, &chains->done, sizeof(*chains), nr);
}

int
vring_dev_push_batch(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	uint32_t slots = dev_slots(q, chains, nr);
	struct vring_done last;
	int ret;

	if (!q->in_order)
		return -ENOTSUP;
	if (nr == 0)
		return 0;
	ret = dev_take_in_flight(q, slots);
	if (ret < 0)
		return ret;
	last = chains[nr - 1].done;
	if (q->packed) {
		last.slots = (uint16_t)slots;
		vring_packed_push(q, &last, sizeof(last), 1);
	} else {
		vring_split_push(q, &last, sizeof(last), 1);
		q->used += nr - 1;
	}
	return 0;
}

void
vring_dev_flush(struct vring_dev *q)
{
	if (q->unflushed == 0 || VRING_UNLIKELY(q->error))
		return;
	if (q->packed) {
		struct vring_packed_desc *ring = q->desc;

		vring_store16_release(&ring[q->held_slot].flags, q->held_flags);
		q->held_valid = false;
	} else {
		struct vring_used *ring = q->device;

		vring_store16_release(&ring->idx, q->used);
	}
	q->used_flushed = dev_used_position(q);
	/* Beyond a whole round the event index says nothing any more; stop counting there. */
	if (q->unsignalled <= VRING_SIZE_MAX * 2)
		q->unsignalled += q->unflushed;
	q->unflushed = 0;
}

bool
vring_dev_signal_needed(struct vring_dev *q)
{
	const struct vring_avail *ring = q->driver;
	uint32_t nr = q->unsignalled;
	bool first = q->signal_first;
	uint16_t event;

	if (nr == 0 || VRING_UNLIKELY(q->error))
		return false;
	q->unsignalled = 0;
	q->signal_first = false;
	vring_fence();
	if (q->packed)
		return vring_event_wanted(
			q->driver, q->event_idx && !first, q->used_flushed, nr, q->size);
	if (!q->event_idx)
		return !(vring_load16(&ring->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	if (first || nr > UINT16_MAX)
		return true;
	event = vring_load16(&ring->ring[q->size]);
	return vring_event_passed(event, q->used_flushed, (uint16_t)(q->used_flushed - nr));
}

bool
vring_dev_pending(struct vring_dev *q)
{
	const struct vring_avail *ring = q->driver;
	const struct vring_packed_desc *desc = q->desc;

	if (q->error)
		return false;
	if (q->packed)
		return vring_is_avail(vring_load16_acquire(&desc[q->avail].flags), q->avail_wrap);
	return vring_load16_acquire(&ring->idx) != q->avail;
}

bool
vring_dev_backlog(const struct vring_dev *q, const struct vring_chain *chains, uint16_t nr)
{
	const struct vring_packed_desc *desc = q->desc;
	uint16_t slot = q->avail;
	bool wrap = q->avail_wrap;

	if (q->error)
		return false;
	if (!q->packed)
		return (uint16_t)(q->avail_seen - q->avail) > nr;
	vring_forward(&slot, &wrap, dev_slots(q, chains, nr), q->size);
	return vring_is_avail(vring_load16(&desc[slot].flags), wrap);
}

bool
vring_dev_arm(struct vring_dev *q)
{
	struct vring_used *ring = q->device;

	if (q->error)
		return false;
	if (q->packed)
		vring_event_write(q->device, vring_position(q->avail, q->avail_wrap),
			q->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
				     : VRING_PACKED_EVENT_FLAG_ENABLE);
	else if (q->event_idx)
		vring_store16(&ring->ring[q->size], q->avail);
	else
		vring_store16(&ring->flags, 0);
	vring_fence();
	return vring_dev_pending(q);
}

void
vring_dev_disarm(struct vring_dev *q)
{
	struct vring_used *ring = q->device;

	if (q->error)
		return;
	/* With event index there is no "never": half the index space away is the best there is. */
	if (q->packed)
		vring_event_write(q->device, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	else if (q->event_idx)
		vring_store16(&ring->ring[q->size], (uint16_t)(q->avail + 0x8000));
	else
		vring_store16(&ring->flags, VRING_USED_F_NO_NOTIFY);
}

struct vring_state
vring_dev_state(const struct vring_dev *q)
{
	struct vring_state s = {q->avail, q->used_flushed};

	if (q->packed)
		s.avail = vring_position(q->avail, q->avail_wrap);
	return s;
}

uint32_t
vring_dev_rewind(struct vring_dev *q)
{
	uint32_t slots = q->in_flight;

	if (q->error)
		return 0;
	vring_dev_flush(q);
	q->avail = q->used;
	q->avail_wrap = q->used_wrap;
	q->in_flight = 0;
	return slots;
}

uint32_t
vring_dev_written(const struct vring_dev *q, uint32_t nr_slots, struct vring_range *ranges)
{
	uint64_t entry_bytes = q->packed ? VRING_DESC_BYTES : sizeof(struct vring_used_elem);
	uint64_t ring = q->packed ? q->desc_iova
				  : q->device_iova + offsetof(struct vring_used, ring);
	uint32_t last = q->packed ? q->used : (uint32_t)(q->used & (q->size - 1));
	uint32_t nr = 0, before_last;

	nr_slots = nr_slots < q->size ? nr_slots : q->size;
	before_last = nr_slots < last ? nr_slots : last;
	if (before_last != 0)
		ranges[nr++] = (struct vring_range){
			ring + (last - before_last) * entry_bytes, before_last * entry_bytes};
	if (nr_slots > before_last)
		ranges[nr++] = (struct vring_range){
			ring + (q->size - (nr_slots - before_last)) * entry_bytes,
			(nr_slots - before_last) * entry_bytes};
	ranges[nr++] = (struct vring_range){q->device_iova, sizeof(uint32_t)};
	if (!q->packed)
		ranges[nr++] = (struct vring_range){ring + q->size * entry_bytes, sizeof(uint16_t)};
	return nr;
}
