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
#include "vring_inflight.h"
#include "vring_layout.h"

/* The log's unit. */
#define RELAY_PAGE_SHIFT 12

/* Which buffers the device has, by head (split) or buffer id (packed), and how each is kept. */
enum relay_held {
	RELAY_FREE,
	RELAY_SIMPLE, /* struct relay_simple: one descriptor, as almost all are */
	RELAY_LONG,   /* struct relay_buffer: all others */
};

/* Four take a line of the cache. */
struct relay_simple {
	uint64_t iova;
	uint32_t writable_bytes;
};

struct relay_buffer {
	uint64_t writable_bytes;
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

/* The region of the last buffer: the next one is most often there. */
struct relay_near {
	uint64_t iova, size_bytes; /* 0: not known */
	uint16_t refused;          /* flags of a descriptor that is not simple, or not allowed */
};

struct vdpa_relay_vq {
	uint16_t size, nr_max;
	bool packed, event_idx, indirect, in_order;
	bool asked;        /* notifications were asked for */
	bool first_signal; /* nothing was signalled yet: a former user may have left something */
	bool device_broke;
	uint8_t error;
	const struct vring_mem *mem;
	struct relay_near near;
	struct relay_side guest, shadow;
	uint32_t in_flight; /* buffers */
	uint32_t slots_in_flight;
	uint32_t order_first, order_nr; /* in-order: heads or ids as they were made available */
	uint16_t *order;
	struct relay_batch batch;
	struct vring_config config;  /* of the guest's ring */
	struct vring_inflight notes; /* for it */
	/* nr_max of each; what is not in flight is void */
	uint8_t *held;
	struct relay_simple *simple;
	struct relay_buffer *buffers;
};

static inline uint32_t
relay_slots(const struct vdpa_relay_vq *vq, uint16_t id)
{
	return vq->held[id] == RELAY_LONG ? vq->buffers[id].slots : 1;
}

/* One descriptor of the guest. False: it is not simple, and nothing is said about it. */
static inline bool
relay_take_simple(const struct relay_near *near, uint64_t addr, uint32_t len_bytes, uint16_t flags,
	struct relay_simple *simple)
{
	uint64_t offset = addr - near->iova;

	if (VRING_UNLIKELY((flags & near->refused) != 0 || len_bytes == 0 ||
		    offset >= near->size_bytes || near->size_bytes - offset < len_bytes))
		return false;
	simple->iova = addr;
	simple->writable_bytes = (flags & VRING_DESC_F_WRITE) != 0 ? len_bytes : 0;
	return true;
}

/* Is it a simple buffer, and the one whose turn it is? Neither number is trusted. */
static inline bool
relay_is_simple(const struct vdpa_relay_vq *vq, uint32_t id, const bool in_order)
{
	return VRING_LIKELY(id < vq->size && vq->held[id] == RELAY_SIMPLE &&
		(!in_order || vq->order[vq->order_first] == id));
}

static inline void
relay_order_add(struct vdpa_relay_vq *vq, uint16_t id)
{
	uint32_t at = vq->order_first + vq->order_nr++;

	vq->order[at >= vq->size ? at - vq->size : at] = id;
}

static inline void
relay_order_drop(struct vdpa_relay_vq *vq)
{
	vq->order_first = vq->order_first + 1 == vq->size ? 0 : vq->order_first + 1;
	vq->order_nr--;
}

static inline void
relay_report(struct vdpa_relay_written *written, uint64_t iova, uint64_t len_bytes)
{
	struct vring_range *last = written->ranges + written->nr;

	if (len_bytes == 0)
		return;
	if (written->nr > 0) {
		uint64_t last_end = last[-1].iova + last[-1].len;

		/* neighbours are one; in pages that are reported already nothing is new */
		if (iova == last_end) {
			last[-1].len += len_bytes;
			return;
		}
		if (iova >> RELAY_PAGE_SHIFT >= last[-1].iova >> RELAY_PAGE_SHIFT &&
			(iova + len_bytes - 1) >> RELAY_PAGE_SHIFT <= (last_end - 1) >>
				RELAY_PAGE_SHIFT)
			return;
	}
	written->ranges[written->nr++] = (struct vring_range){iova, len_bytes};
}

/*
 * The device used this id: forget the buffer if it is a simple one whose turn it is. len_bytes
 * becomes no more than there was room for. False: it is not, or there is no room left to report.
 */
static inline __attribute__((always_inline)) bool
relay_use_simple(struct vdpa_relay_vq *vq, uint32_t id, uint32_t *len_bytes,
	struct vdpa_relay_written *written, const bool in_order, const bool log)
{
	const struct relay_simple *simple;

	if (!relay_is_simple(vq, id, in_order))
		return false;
	simple = &vq->simple[id];
	if (*len_bytes > simple->writable_bytes)
		*len_bytes = simple->writable_bytes;
	if (log) {
		if (VRING_UNLIKELY(written->nr >= written->nr_max))
			return false;
		relay_report(written, simple->iova, *len_bytes);
	}
	vq->held[id] = RELAY_FREE;
	if (in_order)
		relay_order_drop(vq);
	return true;
}

void vdpa_relay_break(struct vdpa_relay_vq *vq, enum vring_error error, bool device);
/* Check one descriptor of the guest and keep what completion needs. */
enum vring_error vdpa_relay_take_desc(
	struct vdpa_relay_vq *vq, struct relay_buffer *buffer, const struct vring_desc_copy *desc);
/* The device used this id. False: it is not in flight, and the queue is broken. */
bool
vdpa_relay_batch_begin(struct vdpa_relay_vq *vq, uint32_t id, uint32_t len_bytes, uint16_t flags);
/* Take its buffers back, report what was written. False: no room left to report, call it again. */
bool vdpa_relay_batch_complete(struct vdpa_relay_vq *vq, struct vdpa_relay_written *written);

void vdpa_relay_side_init(struct relay_side *side, bool packed, struct vring_state state);

/* A buffer that a former device had; no more than were noted (vring_inflight_begin()). */
enum vring_error vdpa_relay_split_again(struct vdpa_relay_vq *vq, uint16_t head);
enum vring_error vdpa_relay_packed_again(struct vdpa_relay_vq *vq, uint16_t entry);
/*
 * Of a burst: of these buffers, from this position of the shadow ring on, before the device sees
 * them; and of the guest's ring, before the guest does. Only with vq->notes.
 */
void vdpa_relay_split_note_taken(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr);
void vdpa_relay_packed_note_taken(
	struct vdpa_relay_vq *vq, uint16_t first, uint16_t first_flags, uint32_t nr);
void vdpa_relay_split_note_given(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr);
void vdpa_relay_packed_note_given(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr);

static inline bool
relay_notes(const struct vdpa_relay_vq *vq)
{
	return VRING_UNLIKELY(vq->notes.region != NULL);
}

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
