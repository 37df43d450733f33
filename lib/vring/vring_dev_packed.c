/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_inflight.h"
#include "vring_walk.h"

/* Where a burst reads, and how many slots a lawful driver can have filled from there on. */
struct packed_place {
	uint16_t slot;
	bool wrap;
	uint32_t room;
	const struct vring_inflight *notes; /* slot is one of theirs; NULL: of the ring */
};

static const struct vring_packed_desc *
packed_desc(const struct vring_dev *q, uint16_t slot)
{
	return (const struct vring_packed_desc *)q->desc + slot;
}

static struct vring_desc_copy
packed_next(const struct vring_dev *q, const struct vring_inflight *notes, uint16_t *slot)
{
	const struct vring_packed_desc *from;

	if (notes != NULL)
		return vring_inflight_desc(notes, slot);
	*slot = *slot + 1 == q->size ? 0 : *slot + 1;
	from = packed_desc(q, *slot);
	return vring_desc_packed(vring_desc_addr(from), vring_desc_tail(from));
}

/* Follow the slots of a chain; d is the first one's copy, and the last one's id is the buffer's. */
static enum vring_error
packed_walk(struct vring_walk *w, const struct packed_place *at, struct vring_desc_copy d,
	struct vring_done *done)
{
	uint16_t slot = at->slot;
	uint32_t slots = 1;

	for (;;) {
		enum vring_error error;

		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!w->q->indirect)
				return VRING_ERR_INDIRECT_OFF;
			if (slots > 1 || d.flags & VRING_DESC_F_NEXT)
				return VRING_ERR_INDIRECT_NEXT;
			*done = (struct vring_done){d.next_or_id, 1, 0};
			return vring_walk_table(w, &d);
		}
		error = vring_walk_add(w, &d);
		if (error != VRING_ERR_NONE)
			return error;
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
		if (++slots > at->room)
			return VRING_ERR_LOOP;
		d = packed_next(w->q, at->notes, &slot);
	}
	*done = (struct vring_done){d.next_or_id, (uint16_t)slots, 0};
	return VRING_ERR_NONE;
}

/* A chain that is not simple. False: the burst ends here, for an error or for lack of room. */
static bool
packed_slow(struct vring_dev *q, const struct packed_place *at, const struct vring_desc_copy *d,
	struct vring_chain *chain, struct vring_seg *segs, uint32_t nr_left, bool first)
{
	struct vring_walk w = vring_walk_start(q, segs, nr_left);
	enum vring_error error = packed_walk(&w, at, *d, &chain->done);

	if (error != VRING_ERR_NONE) {
		if (!w.no_room || first)
			vring_dev_break(q, error);
		return false;
	}
	vring_walk_finish(&w, chain);
	return true;
}

/* Ask for the descriptors of a burst, four in a line. */
static void
packed_prefetch(const struct vring_dev *q, uint16_t nr)
{
	uint32_t slot = q->avail & ~3u, end = q->avail + (uint32_t)nr;

	for (; slot < end && slot < q->size; slot += 4)
		vring_prefetch_read(packed_desc(q, (uint16_t)slot));
	if (end > q->size)
		vring_prefetch_read(packed_desc(q, 0));
}

/* Flags, where the second half of a descriptor has them. */
#define TAIL(flags) ((uint64_t)(flags) << 48)

static inline bool
packed_four_avail(const struct vring_packed_desc *from, bool wrap)
{
	const uint16_t flags[4] = {
		vring_load16_acquire(&from[0].flags),
		vring_load16_acquire(&from[1].flags),
		vring_load16_acquire(&from[2].flags),
		vring_load16_acquire(&from[3].flags),
	};
	uint16_t want = vring_avail_flags(wrap);

	return (((flags[0] ^ want) | (flags[1] ^ want) | (flags[2] ^ want) | (flags[3] ^ want)) &
		       (VRING_PACKED_AVAIL | VRING_PACKED_USED)) == 0;
}

/* Chains of one descriptor each, whose flags were checked. @return how many are good */
static inline uint32_t
packed_four_of(const struct vring_hit *hit, const struct vring_packed_desc *from,
	const uint64_t tail[4], bool write, struct vring_chain *chains, struct vring_seg *segs)
{
	uint32_t i;

	if (!vring_walk_allowed(hit, write))
		return 0;
#pragma GCC unroll 4
	for (i = 0; i < 4; i++) {
		struct vring_desc_copy d = vring_desc_packed(vring_desc_addr(&from[i]), tail[i]);

		if (!vring_walk_inside(hit, d.addr, d.len, write, &chains[i], &segs[i]))
			break;
		chains[i].done = (struct vring_done){d.next_or_id, 1, 0};
		vring_walk_prefetch(&chains[i], &segs[i]);
	}
	return i;
}

/* Four slots that are alike: one test for what their flags say, whose copies are what is used. */
static inline uint32_t
packed_four(const struct vring_hit *hit, const struct vring_packed_desc *from, bool wrap,
	struct vring_chain *chains, struct vring_seg *segs)
{
	const uint64_t alike = TAIL(VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE);
	uint64_t tail[4], want;

	if (!packed_four_avail(from, wrap))
		return 0;
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		tail[i] = vring_desc_tail(&from[i]);
	want = tail[0] & TAIL(VRING_DESC_F_WRITE);
	if (((tail[0] ^ want) | (tail[1] ^ want) | (tail[2] ^ want) | (tail[3] ^ want)) & alike)
		return 0;
	if (want != 0)
		return packed_four_of(hit, from, tail, true, chains, segs);
	return packed_four_of(hit, from, tail, false, chains, segs);
}

/*
 * The beginning of a burst: four by four, as long as each is a chain of its own and they are alike.
 * Apart from the loop for the rest, which keeps its registers. @return how many
 */
static __attribute__((noinline)) uint16_t
packed_fours(const struct vring_dev *q, struct packed_place *at, struct vring_chain *chains,
	uint16_t nr, struct vring_seg *segs, uint16_t nr_segs)
{
	struct packed_place next = *at;
	struct vring_hit hit = q->hit;
	uint32_t done = 0, n = 4, most = nr < nr_segs ? nr : nr_segs;

	most = most < next.room ? most : next.room;
	while (n == 4 && most - done >= 4 && q->size - next.slot >= 4) {
		n = packed_four(
			&hit, packed_desc(q, next.slot), next.wrap, &chains[done], &segs[done]);
		done += n;
		vring_forward(&next.slot, &next.wrap, n, q->size);
	}
	next.room -= done;
	*at = next;
	return (uint16_t)done;
}

uint16_t
vring_packed_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs)
{
	struct packed_place at = {
		q->avail, q->avail_wrap, q->size - q->in_flight - q->unflushed, NULL};
	struct vring_hit hit = q->hit;
	uint16_t done = 0, taken;

	packed_prefetch(q, nr);
	if (nr >= 4)
		done = packed_fours(q, &at, chains, nr, segs, nr_segs);
	for (taken = done; done < nr; done++) {
		const struct vring_packed_desc *from = packed_desc(q, at.slot);
		struct vring_chain *chain = &chains[done];
		struct vring_desc_copy d;

		if (!vring_is_avail(vring_load16_acquire(&from->flags), at.wrap))
			break;
		if (VRING_UNLIKELY(at.room == 0)) {
			vring_dev_break(q, VRING_ERR_INDEX);
			break;
		}
		d = vring_desc_packed(vring_desc_addr(from), vring_desc_tail(from));
		chain->done = (struct vring_done){d.next_or_id, 1, 0};
		if (VRING_UNLIKELY(taken == nr_segs ||
			    !vring_walk_single(&hit, &d, chain, &segs[taken]))) {
			if (!packed_slow(
				    q, &at, &d, chain, segs + taken, nr_segs - taken, done == 0))
				break;
			hit = q->hit;
		}
		if (VRING_LIKELY(chain->nr_segs))
			vring_walk_prefetch(chain, &segs[taken]);
		taken += chain->nr_segs;
		at.room -= chain->done.slots;
		vring_forward(&at.slot, &at.wrap, chain->done.slots, q->size);
	}
	return done;
}

void
vring_packed_push(struct vring_dev *q, const void *done, size_t stride, uint16_t nr)
{
	struct vring_packed_desc *ring = q->desc;
	uint16_t slot = q->used;
	bool wrap = q->used_wrap;
	uint16_t i;

	for (i = 0; i < nr; i++, done = (const char *)done + stride) {
		const struct vring_done *d = done;
		uint16_t flags = vring_used_flags(wrap) | (d->len ? VRING_DESC_F_WRITE : 0);

		if (VRING_UNLIKELY(!q->held_valid)) {
			q->held_valid = true;
			q->held_slot = slot;
			q->held_flags = flags;
			ring[slot].len = htole32(d->len);
			ring[slot].id = htole16(d->id);
		} else {
			uint64_t tail = (uint64_t)flags << 48 | (uint64_t)d->id << 32 | d->len;

			__atomic_store_n(
				(uint64_t *)&ring[slot] + 1, htole64(tail), __ATOMIC_RELAXED);
		}
		vring_forward(&slot, &wrap, d->slots, q->size);
	}
	q->used = slot;
	q->used_wrap = wrap;
}

bool
vring_packed_again(struct vring_dev *q, const struct vring_inflight *notes, uint16_t head,
	struct vring_chain *chain, struct vring_seg *segs, uint16_t nr_segs)
{
	struct packed_place at = {.slot = head, .notes = notes, .room = q->size};
	struct vring_desc_copy d = vring_inflight_desc(notes, &at.slot);

	if (!packed_slow(q, &at, &d, chain, segs, nr_segs, true))
		return false;
	/* it is in flight with as many slots as were noted then */
	if (chain->done.id >= q->size || notes->slots[chain->done.id] != chain->done.slots)
		vring_dev_break(q, VRING_ERR_HEAD);
	return q->error == VRING_ERR_NONE;
}
