/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_walk.h"

/* Heads are copied out of the available ring this many at a time. */
#define SPLIT_BATCH 64

/* Buffers available and not consumed, at most nr wanted; reads the index only if it must. */
static uint16_t
split_available(struct vring_dev *q, uint16_t nr)
{
	const struct vring_avail *ring = q->driver;
	uint16_t seen = (uint16_t)(q->avail_seen - q->avail);
	uint16_t held, now;

	if (seen >= nr)
		return nr;
	now = (uint16_t)(vring_load16_acquire(&ring->idx) - q->avail);
	held = (uint16_t)(q->avail - q->used_flushed);
	if (VRING_UNLIKELY(now < seen || now > q->size - held)) {
		vring_dev_break(q, VRING_ERR_INDEX);
		return seen;
	}
	q->avail_seen = (uint16_t)(q->avail + now);
	return now < nr ? now : nr;
}

static enum vring_error
split_walk(struct vring_walk *w, struct vring_desc_copy d)
{
	const struct vring_desc *ring = w->q->desc;
	uint32_t count = 0;

	for (;;) {
		enum vring_error error;

		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!w->q->indirect)
				return VRING_ERR_INDIRECT_OFF;
			if (d.flags & VRING_DESC_F_NEXT)
				return VRING_ERR_INDIRECT_NEXT;
			return vring_walk_table(w, &d);
		}
		if (++count > w->q->size)
			return VRING_ERR_LOOP;
		error = vring_walk_add(w, &d);
		if (error != VRING_ERR_NONE || !(d.flags & VRING_DESC_F_NEXT))
			return error;
		if (d.next_or_id >= w->q->size)
			return VRING_ERR_NEXT;
		ring = (const struct vring_desc *)w->q->desc + d.next_or_id;
		d = vring_desc_split(vring_desc_addr(ring), vring_desc_tail(ring));
	}
}

/* A chain that is not simple. False: the burst ends here, for an error or for lack of room. */
static bool
split_slow(struct vring_dev *q, const struct vring_desc_copy *d, struct vring_chain *chain,
	struct vring_seg *segs, uint32_t nr_left, bool first)
{
	struct vring_walk w = vring_walk_start(q, segs, nr_left);
	enum vring_error error = split_walk(&w, *d);

	if (error != VRING_ERR_NONE) {
		if (!w.no_room || first)
			vring_dev_break(q, error);
		return false;
	}
	vring_walk_finish(&w, chain);
	return true;
}

/* Copy heads and ask for their descriptors; fewer than nr if one is out of range. */
static uint16_t
split_heads(struct vring_dev *q, uint16_t at, uint16_t *heads, uint16_t nr)
{
	const struct vring_avail *ring = q->driver;
	const struct vring_desc *desc = q->desc;
	uint16_t mask = q->size - 1;
	uint16_t i;

	for (i = 0; i < nr; i++) {
		heads[i] = vring_load16(&ring->ring[(uint16_t)(at + i) & mask]);
		if (VRING_UNLIKELY(heads[i] > mask)) {
			vring_dev_break(q, VRING_ERR_HEAD);
			break;
		}
		vring_prefetch_read(&desc[heads[i]]);
	}
	return i;
}

uint16_t
vring_split_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs)
{
	const struct vring_desc *desc = q->desc;
	struct vring_hit hit = q->hit;
	uint16_t heads[SPLIT_BATCH];
	uint16_t done = 0, taken = 0, want, i;

	nr = split_available(q, nr);
	while (done < nr) {
		want = nr - done < SPLIT_BATCH ? nr - done : SPLIT_BATCH;
		want = split_heads(q, (uint16_t)(q->avail + done), heads, want);
		for (i = 0; i < want; i++, done++) {
			const struct vring_desc *from = &desc[heads[i]];
			struct vring_desc_copy d = vring_desc_split(
				vring_desc_addr(from), vring_desc_tail(from));
			struct vring_chain *chain = &chains[done];

			chain->done = (struct vring_done){heads[i], 1, 0};
			if (VRING_UNLIKELY(taken == nr_segs ||
				    !vring_walk_single(&hit, &d, chain, &segs[taken]))) {
				if (!split_slow(
					    q, &d, chain, segs + taken, nr_segs - taken, done == 0))
					return done;
				hit = q->hit;
			}
			if (VRING_LIKELY(chain->nr_segs))
				vring_walk_prefetch(chain, &segs[taken]);
			taken += chain->nr_segs;
		}
		if (want == 0 || q->error)
			break;
	}
	return done;
}

void
vring_split_push(struct vring_dev *q, const void *done, size_t stride, uint16_t nr)
{
	struct vring_used *ring = q->device;
	uint16_t mask = q->size - 1;
	uint16_t i;

	for (i = 0; i < nr; i++, done = (const char *)done + stride) {
		const struct vring_done *d = done;
		uint64_t entry = htole64((uint64_t)d->len << 32 | d->id);

		memcpy(&ring->ring[(uint16_t)(q->used + i) & mask], &entry, sizeof(entry));
	}
	q->used += nr;
}

bool
vring_split_again(struct vring_dev *q, uint16_t head, struct vring_chain *chain,
	struct vring_seg *segs, uint16_t nr_segs)
{
	const struct vring_desc *from = (const struct vring_desc *)q->desc + head;
	struct vring_desc_copy d;

	if (head >= q->size) {
		vring_dev_break(q, VRING_ERR_HEAD);
		return false;
	}
	d = vring_desc_split(vring_desc_addr(from), vring_desc_tail(from));
	chain->done = (struct vring_done){head, 1, 0};
	return split_slow(q, &d, chain, segs, nr_segs, true);
}
