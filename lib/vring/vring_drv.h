/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * The driver side of a virtqueue: make buffers available, take them back used.
 *
 *	vring_drv_add(q, bufs, nr_out, nr_in, cookie, NULL);       any number of times
 *	vring_drv_publish(q);                                      the device sees them
 *	if (vring_drv_kick_needed(q))
 *		... notify the device ...
 *	n = vring_drv_get(q, done, 32);                            each with its cookie
 *
 * The device is not trusted either: an id that is out of range or not in flight, an index that runs
 * ahead or, with IN_ORDER, an id that is not next, *breaks* the queue (vring_drv_error() has the
 * reason; nothing is added, published or taken from then on). A length beyond what the device could
 * have written is clamped and flagged. Descriptors are never read back from the ring: what is in
 * flight is remembered in memory that the device does not share.
 */

#ifndef VRING_DRV_H
#define VRING_DRV_H

#include "vring.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** One piece of a buffer, as the device will see it. */
struct vring_buf {
	uint64_t iova;
	uint32_t len; /**< bytes */
};

/** Memory for the descriptors of one indirect buffer. The caller's until the buffer comes back. */
struct vring_table {
	void *va;      /**< room for nr descriptors of 16 bytes, aligned to 8 bytes */
	uint64_t iova; /**< its address for the device */
	uint16_t nr;   /**< descriptors that fit */
};

/** Bits of struct vring_drv_done::flags. */
#define VRING_DONE_CLAMPED (1u << 0) /**< the device claimed to have written more than it could */
#define VRING_DONE_SKIPPED (1u << 1) /**< no entry of its own (in-order batch): used completely */

/** A buffer that came back. */
struct vring_drv_done {
	void *cookie;
	uint32_t len;   /**< bytes written by the device, at most the writable length */
	uint16_t flags; /**< VRING_DONE_* */
	uint16_t id;    /**< descriptor head or buffer id that it had */
};

struct vring_drv_buffer;

/** A queue as the driver sees it; all fields private. */
struct vring_drv {
	/* set by init */
	void *desc;
	void *driver;
	void *device;
	uint16_t size;
	bool packed;
	bool event_idx;
	bool indirect;
	bool in_order;
	/* moves */
	uint8_t error;   /* enum vring_error */
	bool held_valid; /* packed: the first flags are kept back until publish */
	bool avail_wrap;
	bool used_wrap;
	uint16_t held_slot;
	uint16_t held_flags;
	uint16_t avail;       /* split: free-running, entries written; packed: slot */
	uint16_t used;        /* split: free-running; packed: slot */
	uint16_t nr_free;     /* descriptors */
	uint16_t free_head;   /* split: free descriptors; packed: free ids */
	uint16_t batch_id;    /* in-order: last buffer of the batch that is being returned */
	uint16_t detach_next; /* where vring_drv_detach() looks on */
	uint32_t batch_left;  /* in-order: buffers of that batch still to be returned */
	uint32_t batch_len;
	uint32_t order_first; /* in-order: place of the oldest buffer in order */
	uint32_t in_flight;   /* buffers added and not taken back */
	uint32_t unpublished; /* buffers added and not published */
	uint32_t unkicked;    /* slots (split: entries) published since the last kick decision */
	uint32_t added;       /* slots (split: entries) added since the last publish */
	struct vring_drv_buffer *buffers; /* by id */
	uint16_t *next;                   /* split: next descriptor; packed: next free id */
	uint16_t *order;                  /* in-order: ids in the order of their addition */
};

/**
 * Make a queue and write the areas' initial content (index, flags; callbacks on). Allocates.
 *
 * The driver owns the areas and has them cleared before (a packed descriptor area must not hold
 * what looks like used or available descriptors). state is normally VRING_STATE_*_START; any other
 * must be with nothing in flight: avail equal to used.
 *
 * @param q filled in; to be given to vring_drv_fini() in any case
 * @param config max_segs is not used
 * @return 0; -EINVAL, -EFAULT as vring_dev_init(); -ENOMEM
 */
int vring_drv_init(struct vring_drv *q, const struct vring_config *config);

/** Free what init allocated. Accepts a queue whose init failed and one of zeros; twice is fine. */
void vring_drv_fini(struct vring_drv *q);

/** Why the queue is broken; VRING_ERR_NONE while it is not. */
static inline enum vring_error
vring_drv_error(const struct vring_drv *q)
{
	return (enum vring_error)q->error;
}

/** Descriptors that are free. A direct buffer takes one for each piece, an indirect buffer one. */
static inline uint16_t
vring_drv_nr_free(const struct vring_drv *q)
{
	return q->nr_free;
}

/**
 * Add a buffer. The device does not see it before vring_drv_publish().
 *
 * @param q the queue
 * @param bufs pieces: nr_out that the device reads, then nr_in that it writes
 * @param nr_out how many to read
 * @param nr_in how many to write; nr_out + nr_in at least 1, at most the queue's size
 * @param cookie comes back with the buffer
 * @param table write an indirect table here; NULL: direct descriptors
 * @return 0; -ENOSPC: not enough free descriptors, take used buffers first; -EINVAL: no piece, more
 *   than the queue's size or the table's, more than 2^32 - 1 bytes in one direction;
 *   -ENOTSUP: a table without INDIRECT_DESC; -EIO: broken
 */
int vring_drv_add(struct vring_drv *q, const struct vring_buf *bufs, uint16_t nr_out,
	uint16_t nr_in, void *cookie, const struct vring_table *table);

/** Make everything added visible to the device, with release order. Nothing on a broken queue. */
void vring_drv_publish(struct vring_drv *q);

/**
 * Does the device want a notification for what was published since the last call? Contains the
 * full fence between publishing and reading the device's wish.
 */
bool vring_drv_kick_needed(struct vring_drv *q);

/**
 * Take used buffers.
 *
 * @param q the queue
 * @param[out] done room for @p nr
 * @param nr how many at most
 * @return how many; 0: none, or broken
 */
uint16_t vring_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr);

/**
 * Ask for an interrupt with the next used buffer, then look again.
 * @return true: used buffers are there for which no interrupt may come: take them first
 */
bool vring_drv_arm(struct vring_drv *q);

/** Tell the device that no interrupt is needed. A hint: one may still come. */
void vring_drv_disarm(struct vring_drv *q);

/**
 * Take back a buffer that is still in flight, in no particular order. Only when the device has been
 * stopped or reset; also on a broken queue. Afterwards the queue is only good for vring_drv_fini().
 *
 * @param q the queue
 * @param[out] cookie of the buffer
 * @return 0; -ENOENT: nothing is in flight
 */
int vring_drv_detach(struct vring_drv *q, void **cookie);

/** Where the driver stands: added and published, taken back. */
struct vring_state vring_drv_state(const struct vring_drv *q);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_DRV_H */
