/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Notes of a device about what it took from a queue and has not given back, in memory that outlives
 * it: the next device does those again. The layouts are vhost-user's ("Inflight I/O tracking",
 * queue region for split and for packed virtqueues). A packed queue's notes hold the descriptors
 * themselves, as the ring's are overwritten by what is given back in another order.
 *
 * Marks are stores to memory and cost no more. Whoever provides the memory is not trusted: what
 * does not fit the queue is refused by vring_inflight_begin(), and later looked at no more.
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
	bool packed;
	uint64_t counter;
	uint16_t *batch; /**< ids that are about to be given back; owned */
	uint16_t nr_batch;
	uint16_t *entries; /**< packed, by buffer id: where it is noted; in batch's memory */
	uint16_t *slots;   /**< by id: slots of what is in flight, 0: it is not; likewise */
};

/** Bytes of the region of a queue of size entries with these features. */
uint64_t vring_inflight_bytes(uint16_t size, uint64_t features);

/**
 * Take over the notes of a former device, or begin them. Packed: used flags that it left behind and
 * never published are taken back.
 *
 * @param notes filled in; vring_inflight_end() frees what it owns
 * @param region at least vring_inflight_bytes(), aligned to 8
 * @param[in,out] ring the queue. Its state becomes where the ring stands: by its used index (split)
 *   or by the notes (packed), and so far ahead as what was taken
 * @param[out] heads what was taken and not given back, for vring_dev_again(), in the order in which
 *   it was taken; room for the queue's size
 * @return how many; -ENOMEM; -EINVAL, -EFAULT as vring_dev_init(); -EBADMSG: the notes are none of
 *   such a queue. notes then keeps none
 */
int vring_inflight_begin(
	struct vring_inflight *notes, void *region, struct vring_config *ring, uint16_t *heads);
/** No more is noted. The region stays as it is. */
void vring_inflight_end(struct vring_inflight *notes);
/**
 * A buffer was taken; before anything is done for it.
 *
 * @param desc, slot, slots packed: where its descriptors are, in a descriptor area of the queue's
 *   size. Split: not looked at
 * @param id below the queue's size: of the buffer (packed) or its head
 */
void vring_inflight_take(
	struct vring_inflight *notes, const void *desc, uint16_t slot, uint16_t slots, uint16_t id);
/** vring_inflight_take() of all that was peeked: before vring_dev_consume(). */
void vring_inflight_take_chains(struct vring_inflight *notes, const struct vring_dev *q,
	const struct vring_chain *chains, uint16_t nr);
/**
 * It is about to be given back: before that is published.
 * @return its slots; 0: it was not taken
 */
uint16_t vring_inflight_give(struct vring_inflight *notes, uint16_t id);
/** All that were about to have been. used_index: of a split ring, after it was published. */
void vring_inflight_given(struct vring_inflight *notes, uint16_t used_index);

/**
 * Look at a buffer that a former device took, as vring_dev_peek() would. It counts as consumed
 * already.
 *
 * @param q made with the state that vring_inflight_begin() gave
 * @param head of heads
 * @return true; false: the queue is broken, vring_dev_error() has the reason
 */
bool vring_dev_again(struct vring_dev *q, const struct vring_inflight *notes, uint16_t head,
	struct vring_chain *chain, struct vring_seg *segs, uint16_t nr_segs);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_INFLIGHT_H */
