/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Private to lib/vring: what the driver side's two formats share.
 */

#ifndef VRING_DRV_FORMAT_H
#define VRING_DRV_FORMAT_H

#include "vring_drv.h"
#include "vring_layout.h"

/** A buffer in flight, in memory that the device does not see. */
struct vring_drv_buffer {
	void *cookie;
	uint32_t writable_bytes;
	uint16_t slots; /* descriptors taken; 0: not in flight */
};

/** A buffer to be added: checked, and with its table written if it has one. */
struct vring_drv_chain {
	const struct vring_buf *bufs;
	uint16_t nr_out;
	uint16_t nr; /* descriptors in the ring */
	const struct vring_table *table;
	uint16_t nr_table;
};

static inline void
vring_drv_break(struct vring_drv *q, enum vring_error error)
{
	if (q->error == VRING_ERR_NONE)
		q->error = (uint8_t)error;
}

/**
 * Return a buffer by id to the caller and take it out of flight; its descriptors are the format's.
 * @p len as reported, or VRING_DRV_SKIPPED.
 */
void
vring_drv_complete(struct vring_drv *q, uint16_t id, uint64_t len, struct vring_drv_done *done);

/** Instead of a length: an in-order batch skipped the buffer, which counts as used completely. */
#define VRING_DRV_SKIPPED UINT64_MAX

/** Is this id one that the device may give back? Breaks the queue if not. */
bool vring_drv_id_ok(struct vring_drv *q, uint32_t id);

/** In-order: buffers up to and with this id, oldest first; 0 if it is not among the published. */
uint32_t vring_drv_order_count(const struct vring_drv *q, uint16_t id);

/** In-order: the oldest id in flight. */
static inline uint16_t
vring_drv_order_oldest(const struct vring_drv *q)
{
	return q->order[q->order_first];
}

void vring_split_drv_add(
	struct vring_drv *q, const struct vring_drv_chain *c, void *cookie, uint32_t writable);
void vring_split_drv_publish(struct vring_drv *q);
uint16_t vring_split_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr);
void vring_packed_drv_add(
	struct vring_drv *q, const struct vring_drv_chain *c, void *cookie, uint32_t writable);
void vring_packed_drv_publish(struct vring_drv *q);
uint16_t vring_packed_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr);

#endif /* VRING_DRV_FORMAT_H */
