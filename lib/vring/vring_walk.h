/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Private to lib/vring: turn descriptor copies into checked segments. Shared by both formats.
 */

#ifndef VRING_WALK_H
#define VRING_WALK_H

#include "vring_copy.h"
#include "vring_dev.h"
#include "vring_layout.h"

/** A chain that is being built. */
struct vring_walk {
	struct vring_dev *q;
	struct vring_seg *segs;
	uint32_t nr_segs, nr_segs_max;
	uint32_t nr_descs;
	uint32_t nr_readable;
	uint64_t readable_bytes, writable_bytes;
	bool no_room; /* the caller's array is full before the queue's limit is reached */
};

/** Begin a chain with what is left of the caller's segments. */
static inline struct vring_walk
vring_walk_start(struct vring_dev *q, struct vring_seg *segs, uint32_t nr_left)
{
	struct vring_walk w = {.q = q, .segs = segs};

	w.nr_segs_max = nr_left < q->max_segs ? nr_left : q->max_segs;
	return w;
}

/** Add the buffer of one descriptor. */
enum vring_error vring_walk_add(struct vring_walk *w, const struct vring_desc_copy *d);

/** Add what an indirect descriptor points to. @p d was checked to be allowed to be indirect. */
enum vring_error vring_walk_table(struct vring_walk *w, const struct vring_desc_copy *d);

/** Fill in all of the chain but its done. */
static inline void
vring_walk_finish(const struct vring_walk *w, struct vring_chain *chain)
{
	chain->segs = w->segs;
	chain->nr_segs = (uint16_t)w->nr_segs;
	chain->nr_readable = (uint16_t)w->nr_readable;
	chain->readable_bytes = (uint32_t)w->readable_bytes;
	chain->writable_bytes = (uint32_t)w->writable_bytes;
}

/**
 * A buffer of one segment, not empty, inside the region that was hit last. The permission was
 * checked.
 *
 * @return true: chain (all but done) and segment are filled in; false: take the long way
 */
static inline bool
vring_walk_inside(const struct vring_hit *hit, uint64_t addr, uint32_t len, bool write,
	struct vring_chain *chain, struct vring_seg *seg)
{
	uint64_t offset = addr - hit->iova;

	/* a length of 0 is more than any region */
	if (VRING_UNLIKELY(offset >= hit->size || (uint64_t)len - 1 >= hit->size - offset))
		return false;
	seg->va = hit->va + offset;
	seg->iova = addr;
	seg->len = len;
	chain->segs = seg;
	chain->nr_segs = 1;
	chain->nr_readable = write ? 0 : 1;
	chain->readable_bytes = write ? 0 : len;
	chain->writable_bytes = write ? len : 0;
	return true;
}

/** May the device do this in the region that was hit last? */
static inline bool
vring_walk_allowed(const struct vring_hit *hit, bool write)
{
	return (hit->perm & (write ? VRING_PERM_WRITE : VRING_PERM_READ)) != 0;
}

/** The common chain: one direct descriptor. @return as vring_walk_inside() */
static inline bool
vring_walk_single(const struct vring_hit *hit, const struct vring_desc_copy *d,
	struct vring_chain *chain, struct vring_seg *seg)
{
	bool write = (d->flags & VRING_DESC_F_WRITE) != 0;

	if (VRING_UNLIKELY((d->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) != 0 ||
		    !vring_walk_allowed(hit, write)))
		return false;
	return vring_walk_inside(hit, d->addr, d->len, write, chain, seg);
}

/**
 * Ask for the first two lines of a buffer (a small frame with its header): what will be copied
 * next, after the rest of the burst was looked at.
 */
static inline void
vring_walk_prefetch(const struct vring_chain *chain, const struct vring_seg *seg)
{
	bool two = (uintptr_t)seg->va % VRING_LINE_BYTES + seg->len > VRING_LINE_BYTES;

	if (chain->nr_readable) {
		vring_prefetch_read(seg->va);
		if (two)
			vring_prefetch_read(seg->va + VRING_LINE_BYTES);
	} else {
		vring_prefetch_write(seg->va);
		if (two)
			vring_prefetch_write(seg->va + VRING_LINE_BYTES);
	}
}

/* The two formats, called by vring_dev.c. */
uint16_t vring_split_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs);
void vring_split_push(struct vring_dev *q, const void *done, size_t stride, uint16_t nr);
uint16_t vring_packed_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs);
void vring_packed_push(struct vring_dev *q, const void *done, size_t stride, uint16_t nr);


/* vring_dev_again() of each format. */
bool vring_split_again(struct vring_dev *q, uint16_t head, struct vring_chain *chain,
	struct vring_seg *segs, uint16_t nr_segs);
bool vring_packed_again(struct vring_dev *q, const struct vring_inflight *notes, uint16_t head,
	struct vring_chain *chain, struct vring_seg *segs, uint16_t nr_segs);

#endif /* VRING_WALK_H */
