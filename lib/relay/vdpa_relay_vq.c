/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa_relay_private.h"

#define PAGE_BYTES UINT64_C(4096)

static uint64_t
pages(uint64_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

/* What the device writes (split: the used ring) shares no page with what it reads. */
uint64_t
vdpa_relay_shadow_bytes(uint16_t size, uint64_t features)
{
	return pages(vring_desc_bytes(size, features)) + pages(vring_driver_bytes(size, features)) +
		pages(vring_device_bytes(size, features));
}

struct vdpa_relay_vq *
vdpa_relay_vq_create(uint16_t size, uint64_t features)
{
	struct vdpa_relay_vq *vq = calloc(1, sizeof(*vq));

	if (vq == NULL)
		return NULL;
	vq->nr_max = size;
	vq->packed = vring_feature(features, VIRTIO_F_RING_PACKED);
	vq->held = calloc(size, sizeof(*vq->held));
	vq->simple = calloc(size, sizeof(*vq->simple));
	vq->buffers = calloc(size, sizeof(*vq->buffers));
	vq->order = calloc(size, sizeof(*vq->order));
	if (vq->held == NULL || vq->simple == NULL || vq->buffers == NULL || vq->order == NULL) {
		vdpa_relay_vq_free(vq);
		return NULL;
	}
	return vq;
}

void
vdpa_relay_vq_free(struct vdpa_relay_vq *vq)
{
	if (vq == NULL)
		return;
	vring_inflight_end(&vq->notes);
	free(vq->held);
	free(vq->simple);
	free(vq->buffers);
	free(vq->order);
	free(vq);
}

void
vdpa_relay_side_init(struct relay_side *side, bool packed, struct vring_state state)
{
	side->avail = packed ? state.avail & 0x7fff : state.avail;
	side->avail_wrap = packed && (state.avail & VRING_PACKED_WRAP) != 0;
	side->used = packed ? state.used & 0x7fff : state.used;
	side->used_wrap = packed && (state.used & VRING_PACKED_WRAP) != 0;
	side->untold = 0;
}

int
vdpa_relay_vq_init(struct vdpa_relay_vq *vq, const struct vring_config *guest, void *shadow,
	uint64_t shadow_iova, struct vring_state device_state, struct vring_config *device)
{
	uint64_t desc_bytes = pages(vring_desc_bytes(guest->size, guest->features));
	uint64_t driver_bytes = pages(vring_driver_bytes(guest->size, guest->features));
	enum vring_error error = VRING_ERR_NONE;
	int rc;

	vq->device_broke = false;
	if (guest->size > vq->nr_max || guest->state.avail != guest->state.used)
		error = guest->size > vq->nr_max ? VRING_ERR_BAD_SIZE : VRING_ERR_BAD_STATE;
	vq->error = error;
	if (error != VRING_ERR_NONE)
		return -EINVAL;
	rc = vring_config_check(guest, &vq->guest.areas, true, &error);
	vq->error = error;
	if (rc != 0)
		return rc;
	vring_inflight_end(&vq->notes);
	vq->config = *guest;
	vq->mem = guest->mem;
	vq->near = (struct relay_near){0};
	vq->size = guest->size;
	vq->event_idx = vring_feature(guest->features, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = vring_feature(guest->features, VIRTIO_RING_F_INDIRECT_DESC);
	vq->in_order = vring_feature(guest->features, VIRTIO_F_IN_ORDER);
	vq->asked = true;
	vq->first_signal = true;
	vq->in_flight = 0;
	vq->slots_in_flight = 0;
	vq->order_first = 0;
	vq->order_nr = 0;
	vq->batch.left = 0;
	memset(vq->held, RELAY_FREE, vq->size);
	vdpa_relay_side_init(&vq->guest, vq->packed, guest->state);
	vdpa_relay_side_init(&vq->shadow, vq->packed, device_state);
	vq->guest.told = vq->guest.used;
	vq->shadow.told = vq->shadow.avail;
	vq->shadow.areas.desc = shadow;
	vq->shadow.areas.driver = (uint8_t *)shadow + desc_bytes;
	vq->shadow.areas.device = (uint8_t *)shadow + desc_bytes + driver_bytes;
	if (vq->packed)
		vdpa_relay_packed_init(vq, device_state);
	else
		vdpa_relay_split_init(vq, device_state);
	*device = *guest;
	device->mem = NULL;
	device->desc_iova = shadow_iova;
	device->driver_iova = shadow_iova + desc_bytes;
	device->device_iova = shadow_iova + desc_bytes + driver_bytes;
	device->state = device_state;
	return 0;
}

int
vdpa_relay_vq_set_mem(struct vdpa_relay_vq *vq, const struct vring_mem *mem)
{
	struct vring_areas areas;
	int rc = vring_mem_check(mem);

	if (rc == 0)
		rc = vring_areas_map(&vq->config, mem, &areas, true);
	if (rc != 0)
		return rc;
	vq->guest.areas = areas;
	vq->mem = mem;
	vq->near = (struct relay_near){0};
	return 0;
}

void
vdpa_relay_break(struct vdpa_relay_vq *vq, enum vring_error error, bool device)
{
	if (vq->error != VRING_ERR_NONE)
		return;
	vq->error = error;
	vq->device_broke = device;
}

static void
set_near(struct vdpa_relay_vq *vq, const struct vring_region *region)
{
	vq->near = (struct relay_near){
		.iova = region->iova,
		.size_bytes = (region->perm & VRING_PERM_READ) != 0 ? region->size : 0,
		.refused = VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT |
			((region->perm & VRING_PERM_WRITE) != 0 ? 0 : VRING_DESC_F_WRITE),
	};
}

static enum vring_error
take_table(
	struct vdpa_relay_vq *vq, struct relay_buffer *buffer, const struct vring_desc_copy *desc)
{
	if (!vq->indirect)
		return VRING_ERR_INDIRECT_OFF;
	if ((desc->flags & VRING_DESC_F_NEXT) != 0)
		return VRING_ERR_INDIRECT_NEXT;
	if (desc->len == 0 || desc->len % VRING_DESC_BYTES != 0)
		return VRING_ERR_INDIRECT_LENGTH;
	if (desc->len / VRING_DESC_BYTES > VRING_SEGS_MAX)
		return VRING_ERR_TOO_MANY_SEGS;
	if (!vring_mem_covers(vq->mem, desc->addr, desc->len, VRING_PERM_READ))
		return VRING_ERR_INDIRECT_UNMAPPED;
	buffer->table_iova = desc->addr;
	buffer->table_nr = desc->len / VRING_DESC_BYTES;
	buffer->walk = true;
	return VRING_ERR_NONE;
}

enum vring_error
vdpa_relay_take_desc(
	struct vdpa_relay_vq *vq, struct relay_buffer *buffer, const struct vring_desc_copy *desc)
{
	bool write = (desc->flags & VRING_DESC_F_WRITE) != 0;

	if ((desc->flags & VRING_DESC_F_INDIRECT) != 0)
		return take_table(vq, buffer, desc);
	if (!write && buffer->writable_bytes != 0)
		return VRING_ERR_ORDER;
	if (desc->len == 0)
		return VRING_ERR_NONE;
	if (desc->addr + (desc->len - 1) < desc->addr)
		return VRING_ERR_ADDR_WRAP;
	if (!vring_mem_covers(
		    vq->mem, desc->addr, desc->len, write ? VRING_PERM_WRITE : VRING_PERM_READ))
		return VRING_ERR_ADDR_UNMAPPED;
	set_near(vq, vring_mem_find(vq->mem, desc->addr));
	if (!write)
		return VRING_ERR_NONE;
	buffer->writable_bytes += desc->len;
	if (buffer->writable_bytes > UINT32_MAX)
		return VRING_ERR_TOTAL_LENGTH;
	if (buffer->nr_segs < VDPA_RELAY_SEGS)
		buffer->segs[buffer->nr_segs++] = (struct vring_range){desc->addr, desc->len};
	else
		buffer->walk = true;
	return VRING_ERR_NONE;
}

static uint32_t
batch_nr(const struct vdpa_relay_vq *vq, uint32_t id)
{
	if (id >= vq->size || vq->held[id] == RELAY_FREE)
		return 0;
	if (!vq->in_order)
		return 1;
	for (uint32_t i = 0; i < vq->order_nr; i++) {
		uint32_t at = vq->order_first + i;

		if (vq->order[at >= vq->size ? at - vq->size : at] == id)
			return i + 1;
	}
	return 0;
}

bool
vdpa_relay_batch_begin(struct vdpa_relay_vq *vq, uint32_t id, uint32_t len_bytes, uint16_t flags)
{
	uint32_t nr = batch_nr(vq, id);

	if (nr == 0) {
		vdpa_relay_break(vq,
			id >= vq->size ? VRING_ERR_USED_ID : VRING_ERR_USED_NOT_IN_FLIGHT, true);
		return false;
	}
	vq->batch = (struct relay_batch){
		.nr = nr,
		.left = nr,
		.len_bytes = len_bytes,
		.id = (uint16_t)id,
		.flags = flags,
	};
	return true;
}

/*
 * The first len_bytes of the writable descriptors; what does not fit into the report is made one
 * range with the last.
 */
static void
report_desc(struct vdpa_relay_written *written, const struct vring_desc_copy *desc, uint64_t *left)
{
	uint64_t len = desc->len < *left ? desc->len : *left;

	if ((desc->flags & VRING_DESC_F_WRITE) == 0 || len == 0)
		return;
	relay_report(written, desc->addr, len);
	*left -= len;
}

/*
 * An indirect table is read from the guest's memory again: by changing it meanwhile a guest
 * deceives itself only.
 */
static bool
report_table(struct vdpa_relay_vq *vq, const struct relay_buffer *buffer, uint64_t left,
	struct vdpa_relay_written *written)
{
	uint32_t index = 0;

	for (uint32_t i = 0; i < buffer->table_nr && left > 0; i++) {
		uint64_t len = VRING_DESC_BYTES;
		const uint8_t *va = vring_mem_ptr(vq->mem,
			buffer->table_iova + (uint64_t)index * VRING_DESC_BYTES, &len,
			VRING_PERM_READ);
		struct vring_desc_copy desc;
		uint64_t words[2];

		if (va == NULL || len < VRING_DESC_BYTES)
			return true;
		memcpy(words, va, sizeof(words));
		desc = vq->packed ? vring_desc_packed(le64toh(words[0]), le64toh(words[1]))
				  : vring_desc_split(le64toh(words[0]), le64toh(words[1]));
		if (written->nr + 2 > written->nr_max)
			return false;
		report_desc(written, &desc, &left);
		if (vq->packed)
			index++;
		else if ((desc.flags & VRING_DESC_F_NEXT) == 0 ||
			desc.next_or_id >= buffer->table_nr)
			break;
		else
			index = desc.next_or_id;
	}
	return true;
}

/* The chain as it was copied into the shadow ring, from its head. */
static bool
report_chain(struct vdpa_relay_vq *vq, uint16_t id, const struct relay_buffer *buffer,
	uint64_t left, struct vdpa_relay_written *written)
{
	uint16_t slot = vq->packed ? buffer->first_slot : id;
	const uint64_t *ring = vq->shadow.areas.desc;

	for (uint32_t i = 0; i < vq->size && left > 0; i++) {
		struct vring_desc_copy desc = vq->packed
			? vring_desc_packed(vring_desc_addr(ring + 2 * slot),
				  vring_desc_tail(ring + 2 * slot))
			: vring_desc_split(vring_desc_addr(ring + 2 * slot),
				  vring_desc_tail(ring + 2 * slot));

		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0)
			return report_table(vq, buffer, left, written);
		if (written->nr + 2 > written->nr_max)
			return false;
		report_desc(written, &desc, &left);
		if ((desc.flags & VRING_DESC_F_NEXT) == 0 && !vq->packed)
			break;
		if (vq->packed && i + 1 == buffer->slots)
			break;
		slot = vq->packed ? (slot + 1 == vq->size ? 0 : slot + 1) : desc.next_or_id;
		if (slot >= vq->size)
			break;
	}
	return true;
}

/* A buffer in flight, in the form that holds any. */
static struct relay_buffer *
long_buffer(struct vdpa_relay_vq *vq, uint16_t id)
{
	const struct relay_simple *simple = &vq->simple[id];
	struct relay_buffer *buffer = &vq->buffers[id];

	if (vq->held[id] == RELAY_SIMPLE)
		*buffer = (struct relay_buffer){
			.writable_bytes = simple->writable_bytes,
			.slots = 1,
			.nr_segs = simple->writable_bytes != 0,
			.segs[0] = {simple->iova, simple->writable_bytes},
		};
	vq->held[id] = RELAY_LONG;
	return buffer;
}

/* What the device says that it wrote, and never more than there is room for. */
static bool
report_buffer(
	struct vdpa_relay_vq *vq, uint16_t id, uint64_t left, struct vdpa_relay_written *written)
{
	const struct relay_buffer *buffer = long_buffer(vq, id);
	uint32_t nr = written->nr;

	if (nr + VDPA_RELAY_SEGS + 1 > written->nr_max)
		return false;
	if (buffer->walk) {
		if (report_chain(vq, id, buffer, left, written))
			return true;
		written->nr = nr;
		if (nr == 0)
			vdpa_relay_break(vq, VRING_ERR_TOO_MANY_SEGS, false);
		return false;
	}
	for (uint8_t i = 0; i < buffer->nr_segs && left > 0; i++) {
		uint64_t len = buffer->segs[i].len < left ? buffer->segs[i].len : left;

		relay_report(written, buffer->segs[i].iova, len);
		left -= len;
	}
	return true;
}

static void
forget_buffer(struct vdpa_relay_vq *vq, uint16_t id)
{
	uint32_t slots = relay_slots(vq, id);

	vq->held[id] = RELAY_FREE;
	vq->in_flight--;
	vq->slots_in_flight -= slots;
	vq->batch.slots += slots;
	vq->batch.left--;
	if (vq->in_order)
		relay_order_drop(vq);
}

bool
vdpa_relay_batch_complete(struct vdpa_relay_vq *vq, struct vdpa_relay_written *written)
{
	struct relay_batch *batch = &vq->batch;
	const struct relay_buffer *last = long_buffer(vq, batch->id);

	/* buffers that were skipped are used completely (virtio 1.2, 2.7.9 and 2.8.8) */
	while (batch->left > 1) {
		uint16_t oldest = vq->order[vq->order_first];

		if (written != NULL && !report_buffer(vq, oldest, UINT64_MAX, written))
			return false;
		forget_buffer(vq, oldest);
	}
	/* what an indirect table holds is known when it is walked */
	if (last->table_nr == 0 && batch->len_bytes > last->writable_bytes)
		batch->len_bytes = (uint32_t)last->writable_bytes;
	if (written != NULL && !report_buffer(vq, batch->id, batch->len_bytes, written))
		return false;
	forget_buffer(vq, batch->id);
	return true;
}

uint32_t
vdpa_relay_vq_avail(struct vdpa_relay_vq *vq, uint32_t burst)
{
	if (vq->error != VRING_ERR_NONE)
		return 0;
	if (vq->asked)
		vdpa_relay_vq_disarm(vq);
	return vq->packed ? vdpa_relay_packed_avail(vq, burst) : vdpa_relay_split_avail(vq, burst);
}

bool
vdpa_relay_vq_kick_needed(struct vdpa_relay_vq *vq)
{
	if (vq->error != VRING_ERR_NONE)
		return false;
	return vq->packed ? vdpa_relay_packed_kick(vq) : vdpa_relay_split_kick(vq);
}

uint32_t
vdpa_relay_vq_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written)
{
	if (vq->error != VRING_ERR_NONE)
		return 0;
	return vq->packed ? vdpa_relay_packed_used(vq, burst, written)
			  : vdpa_relay_split_used(vq, burst, written);
}

bool
vdpa_relay_vq_signal_needed(struct vdpa_relay_vq *vq)
{
	bool needed;

	if (vq->error != VRING_ERR_NONE)
		return false;
	needed = vq->packed ? vdpa_relay_packed_signal(vq) : vdpa_relay_split_signal(vq);
	if (vq->event_idx && vq->first_signal)
		needed = true;
	vq->first_signal = false;
	return needed;
}

bool
vdpa_relay_vq_arm(struct vdpa_relay_vq *vq)
{
	if (vq->error != VRING_ERR_NONE)
		return false;
	vq->asked = true;
	if (vq->packed)
		vdpa_relay_packed_ask(vq, true);
	else
		vdpa_relay_split_ask(vq, true);
	vring_fence();
	return vq->packed ? vdpa_relay_packed_pending(vq) : vdpa_relay_split_pending(vq);
}

void
vdpa_relay_vq_asked(const struct vdpa_relay_vq *vq, struct vdpa_relay_written *written)
{
	uint64_t ring = vq->config.device_iova;

	if (vq->packed || !vq->event_idx)
		relay_report(written, ring, sizeof(uint32_t));
	else
		relay_report(written, ring + offsetof(struct vring_used, ring) + vq->size * 8ull,
			sizeof(uint16_t));
}

void
vdpa_relay_vq_disarm(struct vdpa_relay_vq *vq)
{
	if (vq->error != VRING_ERR_NONE)
		return;
	vq->asked = false;
	if (vq->packed)
		vdpa_relay_packed_ask(vq, false);
	else
		vdpa_relay_split_ask(vq, false);
}

struct vring_state
vdpa_relay_vq_stop(struct vdpa_relay_vq *vq)
{
	uint16_t at = vq->packed ? vring_position(vq->guest.used, vq->guest.used_wrap)
				 : vq->guest.used;

	/* noted: it will be done again */
	vring_inflight_end(&vq->notes);
	vq->in_flight = 0;
	vq->slots_in_flight = 0;
	/* the next user of the ring finds notifications on */
	if (vq->error == VRING_ERR_NONE) {
		vq->guest.avail = vq->guest.used;
		vq->guest.avail_wrap = vq->guest.used_wrap;
		vdpa_relay_vq_arm(vq);
	}
	return (struct vring_state){at, at};
}

uint32_t
vdpa_relay_vq_behind(const struct vdpa_relay_vq *vq)
{
	return vq->packed ? vdpa_relay_packed_behind(vq) : vdpa_relay_split_behind(vq);
}

uint32_t
vdpa_relay_vq_in_flight(const struct vdpa_relay_vq *vq)
{
	return vq->in_flight;
}

enum vring_error
vdpa_relay_vq_error(const struct vdpa_relay_vq *vq)
{
	return (enum vring_error)vq->error;
}

bool
vdpa_relay_vq_device_broke(const struct vdpa_relay_vq *vq)
{
	return vq->device_broke;
}
