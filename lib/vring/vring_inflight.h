/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Notes of a device about what it took from a split queue and has not given back, in memory that
 * outlives it: the next device does those again. The layout is vhost-user's ("Inflight I/O
 * tracking", queue region for split virtqueue).
 *
 * Marks are stores to memory and cost no more. Whoever provides the memory is not trusted: a note
 * about a descriptor that the queue does not have is not looked at.
 */

#ifndef VRING_INFLIGHT_H
#define VRING_INFLIGHT_H

#include "vring_dev.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** Notes of one queue. Private fields. */
struct vring_inflight {
	void *region; /**< NULL: none is kept, all functions do nothing */
	uint16_t size;
	uint64_t counter;
};

/** Bytes of the region of a queue of size entries. */
uint64_t vring_inflight_bytes(uint16_t size);

/**
 * Take over the notes of a former device, or begin them.
 *
 * @param notes filled in
 * @param region at least vring_inflight_bytes(size), aligned to 8
 * @param size of the queue
 * @param used_index of the queue, in memory (vring_split_used_index())
 * @param[out] heads descriptors that were taken and not given back, in the order in which they
 *   were taken; room for size
 * @return how many. The queue then stands at avail = used_index + this, used = used_index
 */
uint16_t vring_inflight_begin(struct vring_inflight *notes, void *region, uint16_t size,
	uint16_t used_index, uint16_t *heads);
/** These chains were taken. Before anything is done for them. */
void vring_inflight_take(
	struct vring_inflight *notes, const struct vring_chain *chains, uint16_t nr);
/** They are about to be given back: before vring_dev_flush(). */
void vring_inflight_give(
	struct vring_inflight *notes, const struct vring_chain *chains, uint16_t nr);
/** They have been. used_index: after vring_dev_flush(). */
void vring_inflight_given(struct vring_inflight *notes, const struct vring_chain *chains,
	uint16_t nr, uint16_t used_index);

/**
 * Look at a descriptor chain that a former device took, as vring_dev_peek() would. It counts as
 * consumed already.
 *
 * @param q a split queue, made with state.avail ahead of state.used by at least one
 * @return true; false: the queue is broken, vring_dev_error() has the reason
 */
bool vring_dev_again(struct vring_dev *q, uint16_t head, struct vring_chain *chain,
	struct vring_seg *segs, uint16_t nr_segs);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_INFLIGHT_H */
