/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_RELAY_PRIVATE_H
#define VDPA_RELAY_PRIVATE_H

/**
 * @file
 * A shadow virtqueue from inside. The formats are vdpa_relay_split.c and vdpa_relay_packed.c.
 */

#include "vdpa_relay_vq.h"
#include "vring_layout.h"

/*
 * What is kept of a buffer in flight, by head (split) or buffer id (packed). With one segment it
 * takes one line of the cache.
 */
struct relay_buffer {
	_Alignas(VRING_LINE_BYTES) uint64_t writable_bytes;
	uint64_t table_iova; /* walk: an indirect table of this many descriptors */
	uint32_t table_nr;
	uint16_t slots;      /* ring slots: of the chain (packed), 1 (split) */
	uint16_t first_slot; /* packed: of the chain in the shadow ring */
	uint8_t nr_segs;     /* kept: all writable ones, unless walk */
	bool walk;
	struct vring_range segs[VDPA_RELAY_SEGS];
};

struct relay_side { /* one of the two rings */
	struct vring_areas areas;
	uint16_t avail, used; /* split: free-running, packed: slot */
	bool avail_wrap, used_wrap;
	uint16_t told;   /* split: index at the last decision to notify */
	uint32_t untold; /* packed: slots since it */
};

/*
 * What one used entry of the device stands for: one buffer, or in-order all up to one. It is handed
 * back as a whole.
 */
struct relay_batch {
	uint32_t nr, left; /* buffers; left: not yet completed, as there was no room to report */
	uint32_t len_bytes;
	uint32_t slots; /* of those completed */
	uint16_t id, flags;
};

struct vdpa_relay_vq {
	uint16_t size, nr_max;
	bool packed, event_idx, indirect, in_order;
	bool asked;        /* notifications were asked for */
	bool first_signal; /* nothing was signalled yet: a former user may have left something */
	bool device_broke;
	uint8_t error;
	const struct vring_mem *mem;
	const struct vring_region *near; /* of mem: where the last buffer was; NULL: not known */
	struct relay_side guest, shadow;
	uint32_t in_flight; /* buffers */
	uint32_t slots_in_flight;
	uint32_t order_first, order_nr; /* in-order: heads or ids as they were made available */
	uint16_t *order;
	struct relay_batch batch;
	struct vring_config config;   /* of the guest's ring */
	struct relay_buffer *buffers; /* nr_max; what is not in flight is void */
	uint64_t *in_flight_map;      /* a bit for each of them */
};

static inline bool
relay_is_in_flight(const struct vdpa_relay_vq *vq, uint16_t id)
{
	return (vq->in_flight_map[id / 64] >> id % 64 & 1) != 0;
}

static inline void
relay_toggle_in_flight(struct vdpa_relay_vq *vq, uint16_t id)
{
	vq->in_flight_map[id / 64] ^= UINT64_C(1) << id % 64;
}

/*
 * Most buffers are one descriptor in the region of the one before. False: not such a one, and
 * nothing is said about it. slots and first_slot are the caller's.
 */
static inline bool
relay_take_simple(
	struct vdpa_relay_vq *vq, struct relay_buffer *buffer, const struct vring_desc_copy *desc)
{
	const struct vring_region *near = vq->near;
	bool write = (desc->flags & VRING_DESC_F_WRITE) != 0;
	uint64_t offset;

	if (VRING_UNLIKELY((desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) != 0 ||
		    near == NULL || desc->len == 0))
		return false;
	offset = desc->addr - near->iova;
	if (VRING_UNLIKELY(offset >= near->size || near->size - offset < desc->len ||
		    (near->perm & (write ? VRING_PERM_WRITE : VRING_PERM_READ)) == 0))
		return false;
	buffer->writable_bytes = write ? desc->len : 0;
	buffer->table_nr = 0;
	buffer->nr_segs = write;
	buffer->walk = false;
	buffer->segs[0] = (struct vring_range){desc->addr, desc->len};
	return true;
}

static inline void
relay_report(struct vdpa_relay_written *written, uint64_t iova, uint64_t len_bytes)
{
	struct vring_range *last = written->ranges + written->nr;

	if (len_bytes == 0)
		return;
	/* neighbours are one */
	if (written->nr > 0 && last[-1].iova + last[-1].len == iova)
		last[-1].len += len_bytes;
	else
		written->ranges[written->nr++] = (struct vring_range){iova, len_bytes};
}

/*
 * The device used a buffer of at most one kept segment, out of any batch: all of it is done here.
 * False: not such a one, and nothing is done.
 */
static inline bool
relay_complete_simple(struct vdpa_relay_vq *vq, uint32_t id, uint32_t *len_bytes,
	struct vdpa_relay_written *written)
{
	const struct relay_buffer *buffer;

	if (VRING_UNLIKELY(vq->in_order || vq->batch.left != 0 || id >= vq->size ||
		    !relay_is_in_flight(vq, (uint16_t)id)))
		return false;
	buffer = &vq->buffers[id];
	if (VRING_UNLIKELY(buffer->walk || buffer->nr_segs > 1 ||
		    (written != NULL &&
			    written->nr + VDPA_RELAY_SEGS + 1 > written->nr_max)))
		return false;
	if (*len_bytes > buffer->writable_bytes)
		*len_bytes = (uint32_t)buffer->writable_bytes;
	if (written != NULL)
		relay_report(written, buffer->segs[0].iova, *len_bytes);
	relay_toggle_in_flight(vq, (uint16_t)id);
	vq->in_flight--;
	vq->slots_in_flight -= buffer->slots;
	return true;
}

void vdpa_relay_break(struct vdpa_relay_vq *vq, enum vring_error error, bool device);
/* Check one descriptor of the guest and keep what completion needs. */
enum vring_error vdpa_relay_take_desc(
	struct vdpa_relay_vq *vq, struct relay_buffer *buffer, const struct vring_desc_copy *desc);
void vdpa_relay_order_add(struct vdpa_relay_vq *vq, uint16_t id);
/* The device used this id. False: it is not in flight, and the queue is broken. */
bool
vdpa_relay_batch_begin(struct vdpa_relay_vq *vq, uint32_t id, uint32_t len_bytes, uint16_t flags);
/* Take its buffers back, report what was written. False: no room left to report, call it again. */
bool vdpa_relay_batch_complete(struct vdpa_relay_vq *vq, struct vdpa_relay_written *written);

/* The shadow ring of a driver that has used it up to here; nothing is in flight. */
void vdpa_relay_split_init(struct vdpa_relay_vq *vq, struct vring_state state);
uint32_t vdpa_relay_split_avail(struct vdpa_relay_vq *vq, uint32_t burst);
uint32_t
vdpa_relay_split_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written);
bool vdpa_relay_split_kick(struct vdpa_relay_vq *vq);
bool vdpa_relay_split_signal(struct vdpa_relay_vq *vq);
void vdpa_relay_split_ask(struct vdpa_relay_vq *vq, bool ask);
bool vdpa_relay_split_pending(struct vdpa_relay_vq *vq);
uint32_t vdpa_relay_split_behind(const struct vdpa_relay_vq *vq);

void vdpa_relay_packed_init(struct vdpa_relay_vq *vq, struct vring_state state);
uint32_t vdpa_relay_packed_avail(struct vdpa_relay_vq *vq, uint32_t burst);
uint32_t vdpa_relay_packed_used(
	struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written);
bool vdpa_relay_packed_kick(struct vdpa_relay_vq *vq);
bool vdpa_relay_packed_signal(struct vdpa_relay_vq *vq);
void vdpa_relay_packed_ask(struct vdpa_relay_vq *vq, bool ask);
bool vdpa_relay_packed_pending(struct vdpa_relay_vq *vq);
uint32_t vdpa_relay_packed_behind(const struct vdpa_relay_vq *vq);

#endif /* VDPA_RELAY_PRIVATE_H */
