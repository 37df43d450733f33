/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdlib.h>

#include "vring_drv_format.h"

static void
drv_set_state(struct vring_drv *q, const struct vring_config *c)
{
	struct vring_avail *avail = q->driver;

	q->avail = c->state.avail;
	q->used = c->state.used;
	if (q->packed) {
		q->avail_wrap = q->used_wrap = (c->state.avail & VRING_PACKED_WRAP) != 0;
		q->avail &= ~VRING_PACKED_WRAP;
		q->used &= ~VRING_PACKED_WRAP;
	} else {
		vring_store16(&avail->idx, q->avail);
	}
	vring_drv_arm(q);
}

static int
drv_alloc(struct vring_drv *q)
{
	uint16_t i;

	q->buffers = calloc(q->size, sizeof(*q->buffers));
	q->next = calloc(q->size, sizeof(*q->next));
	q->order = calloc(q->size, sizeof(*q->order));
	if (q->buffers == NULL || q->next == NULL || q->order == NULL)
		return -ENOMEM;
	/* A circle: in order, split descriptors go and come along it (virtio 1.2, 2.7.9). */
	for (i = 0; i < q->size; i++)
		q->next[i] = (uint16_t)((i + 1) % q->size);
	q->nr_free = q->size;
	return 0;
}

int
vring_drv_init(struct vring_drv *q, const struct vring_config *config)
{
	enum vring_error error;
	struct vring_areas areas;
	int ret;

	memset(q, 0, sizeof(*q));
	ret = vring_config_check(config, &areas, false, &error);
	if (ret == 0 && config->state.avail != config->state.used) {
		error = VRING_ERR_BAD_STATE;
		ret = -EINVAL;
	}
	if (ret < 0) {
		q->error = (uint8_t)error;
		return ret;
	}
	q->desc = areas.desc;
	q->driver = areas.driver;
	q->device = areas.device;
	q->size = config->size;
	q->packed = vring_feature(config->features, VIRTIO_F_RING_PACKED);
	q->event_idx = vring_feature(config->features, VIRTIO_RING_F_EVENT_IDX);
	q->indirect = vring_feature(config->features, VIRTIO_RING_F_INDIRECT_DESC);
	q->in_order = vring_feature(config->features, VIRTIO_F_IN_ORDER);
	ret = drv_alloc(q);
	if (ret < 0) {
		vring_drv_fini(q);
		q->error = VRING_ERR_NO_MEMORY;
		return ret;
	}
	drv_set_state(q, config);
	return 0;
}

void
vring_drv_fini(struct vring_drv *q)
{
	free(q->buffers);
	free(q->next);
	free(q->order);
	memset(q, 0, sizeof(*q));
	q->error = VRING_ERR_CALLER;
}

/* Bytes of one direction, or more than UINT32_MAX. */
static uint64_t
bufs_bytes(const struct vring_buf *bufs, uint32_t nr)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < nr; i++)
		bytes += bufs[i].len;
	return bytes;
}

int
vring_drv_add(struct vring_drv *q, const struct vring_buf *bufs, uint16_t nr_out, uint16_t nr_in,
	void *cookie, const struct vring_table *table)
{
	uint32_t nr = (uint32_t)nr_out + nr_in;
	struct vring_drv_chain c = {bufs, nr_out, (uint16_t)nr, table, (uint16_t)nr};
	uint64_t writable;

	if (q->error)
		return -EIO;
	if (table != NULL && !q->indirect)
		return -ENOTSUP;
	if (nr == 0 || nr > q->size || (table != NULL && nr > table->nr))
		return -EINVAL;
	writable = bufs_bytes(bufs + nr_out, nr_in);
	if (writable > UINT32_MAX || bufs_bytes(bufs, nr_out) > UINT32_MAX)
		return -EINVAL;
	if (table != NULL)
		c.nr = 1;
	if (c.nr > q->nr_free)
		return -ENOSPC;
	if (q->packed)
		vring_packed_drv_add(q, &c, cookie, (uint32_t)writable);
	else
		vring_split_drv_add(q, &c, cookie, (uint32_t)writable);
	q->in_flight++;
	q->unpublished++;
	q->added += q->packed ? c.nr : 1;
	return 0;
}

void
vring_drv_publish(struct vring_drv *q)
{
	if (q->added == 0 || q->error)
		return;
	if (q->packed)
		vring_packed_drv_publish(q);
	else
		vring_split_drv_publish(q);
	/* Beyond a whole round the event index says nothing any more; stop counting there. */
	if (q->unkicked <= VRING_SIZE_MAX * 2)
		q->unkicked += q->added;
	q->added = 0;
	q->unpublished = 0;
}

bool
vring_drv_kick_needed(struct vring_drv *q)
{
	const struct vring_used *ring = q->device;
	uint32_t nr = q->unkicked;
	uint16_t published, event;

	if (nr == 0 || q->error)
		return false;
	q->unkicked = 0;
	vring_fence();
	published = (uint16_t)(q->avail - q->added);
	if (q->packed) {
		bool wrap = q->avail_wrap;

		published = q->avail;
		vring_back(&published, &wrap, q->added, q->size);
		return vring_event_wanted(
			q->device, q->event_idx, vring_position(published, wrap), nr, q->size);
	}
	if (!q->event_idx)
		return !(vring_load16(&ring->flags) & VRING_USED_F_NO_NOTIFY);
	if (nr > UINT16_MAX)
		return true;
	event = vring_load16(&ring->ring[q->size]);
	return vring_event_passed(event, published, (uint16_t)(published - nr));
}

bool
vring_drv_id_ok(struct vring_drv *q, uint32_t id)
{
	if (id >= q->size) {
		vring_drv_break(q, VRING_ERR_USED_ID);
		return false;
	}
	if (q->buffers[id].slots == 0) {
		vring_drv_break(q, VRING_ERR_USED_NOT_IN_FLIGHT);
		return false;
	}
	return true;
}

uint32_t
vring_drv_order_count(const struct vring_drv *q, uint16_t id)
{
	uint32_t i, place = q->order_first;

	for (i = 0; i < q->in_flight - q->unpublished; i++) {
		if (q->order[place] == id)
			return i + 1;
		if (++place == q->size)
			place = 0;
	}
	return 0;
}

void
vring_drv_complete(struct vring_drv *q, uint16_t id, uint64_t len, struct vring_drv_done *done)
{
	struct vring_drv_buffer *b = &q->buffers[id];

	done->cookie = b->cookie;
	done->id = id;
	done->flags = 0;
	if (len == VRING_DRV_SKIPPED) {
		done->flags |= VRING_DONE_SKIPPED;
		len = b->writable_bytes;
	} else if (len > b->writable_bytes) {
		done->flags |= VRING_DONE_CLAMPED;
		len = b->writable_bytes;
	}
	done->len = (uint32_t)len;
	b->slots = 0;
	q->in_flight--;
	if (q->in_order && ++q->order_first == q->size)
		q->order_first = 0;
}

uint16_t
vring_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr)
{
	if (q->error)
		return 0;
	if (q->packed)
		return vring_packed_drv_get(q, done, nr);
	return vring_split_drv_get(q, done, nr);
}

/* Are used buffers there that were not taken? */
static bool
drv_pending(const struct vring_drv *q)
{
	const struct vring_packed_desc *desc = q->desc;
	const struct vring_used *ring = q->device;

	if (q->batch_left)
		return true;
	if (q->packed)
		return vring_is_used(vring_load16_acquire(&desc[q->used].flags), q->used_wrap);
	return vring_load16_acquire(&ring->idx) != q->used;
}

bool
vring_drv_arm(struct vring_drv *q)
{
	struct vring_avail *ring = q->driver;

	if (q->error)
		return false;
	if (q->packed)
		vring_event_write(q->driver, vring_position(q->used, q->used_wrap),
			q->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
				     : VRING_PACKED_EVENT_FLAG_ENABLE);
	else if (q->event_idx)
		vring_store16(&ring->ring[q->size], q->used);
	else
		vring_store16(&ring->flags, 0);
	vring_fence();
	return drv_pending(q);
}

void
vring_drv_disarm(struct vring_drv *q)
{
	struct vring_avail *ring = q->driver;

	if (q->error)
		return;
	/* With event index there is no "never": half the index space away is the best there is. */
	if (q->packed)
		vring_event_write(q->driver, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	else if (q->event_idx)
		vring_store16(&ring->ring[q->size], (uint16_t)(q->used + 0x8000));
	else
		vring_store16(&ring->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

int
vring_drv_detach(struct vring_drv *q, void **cookie)
{
	for (; q->detach_next < q->size; q->detach_next++) {
		struct vring_drv_buffer *b = &q->buffers[q->detach_next];

		if (b->slots != 0) {
			*cookie = b->cookie;
			b->slots = 0;
			return 0;
		}
	}
	return -ENOENT;
}

struct vring_state
vring_drv_state(const struct vring_drv *q)
{
	struct vring_state s = {(uint16_t)(q->avail - q->added), q->used};

	if (q->packed) {
		uint16_t slot = q->avail;
		bool wrap = q->avail_wrap;

		vring_back(&slot, &wrap, q->added, q->size);
		s.avail = vring_position(slot, wrap);
		s.used = vring_position(q->used, q->used_wrap);
	}
	return s;
}
