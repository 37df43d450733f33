/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* lib/vring, device side: what holds for both ring formats. Every test runs once for each. */

#include "vring_env.h"

#define NR(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t
format(void **state)
{
	return *(const uint64_t *)*state;
}

/* What the driver sees: entries used and published since the start. */
static uint16_t
used_seen(const struct vring_env *e, uint16_t slot, bool wrap, uint16_t id, uint32_t len)
{
	const struct vring_packed_desc *p;
	uint16_t flags;

	if (!e->packed) {
		const struct vring_used *u = env_used(e);

		if (u->idx == htole16(slot))
			return 0;
		assert_int_equal(u->ring[slot % e->size].id, htole32(id));
		assert_int_equal(u->ring[slot % e->size].len, htole32(len));
		return 1;
	}
	p = env_packed_desc(e, slot);
	flags = le16toh(p->flags) >> 7 & 0x101;
	if (flags != (wrap ? 0x101 : 0))
		return 0;
	assert_int_equal(p->id, htole16(id));
	assert_int_equal(le16toh(p->flags) & VRING_DESC_F_WRITE, len ? VRING_DESC_F_WRITE : 0);
	if (len)
		assert_int_equal(p->len, htole32(len));
	return 1;
}

static void
empty_ring_gives_nothing(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);

	assert_int_equal(env_peek(e, 8), 0);
	assert_false(vring_dev_pending(&e->dev));
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	env_put_good(e, 0, 0);
	assert_true(vring_dev_pending(&e->dev));
	assert_int_equal(env_peek(e, 0), 0);
	assert_int_equal(env_peek(e, 8), 1);
	env_free(e);
}

static void
chain_gives_readable_then_writable_segments(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	const struct env_desc d[] = {
		{DATA_IOVA, 12, D_NEXT, D_AUTO},
		{DATA_IOVA + 100, 1500, D_NEXT, D_AUTO},
		{SINK_IOVA, 16, D_NEXT | D_WRITE, D_AUTO},
		{DATA_IOVA + DATA_SIZE - 1, 1, D_WRITE, 0},
	};
	uint16_t id = env_put(e, d, NR(d)), i;
	const struct vring_chain *c = &e->chains[0];

	assert_int_equal(env_peek(e, 8), 1);
	assert_int_equal(c->done.id, id);
	assert_int_equal(c->done.slots, e->packed ? 4 : 1);
	assert_int_equal(c->nr_segs, 4);
	assert_int_equal(c->nr_readable, 2);
	assert_int_equal(c->readable_bytes, 1512);
	assert_int_equal(c->writable_bytes, 17);
	for (i = 0; i < 4; i++) {
		assert_int_equal(c->segs[i].iova, d[i].addr);
		assert_int_equal(c->segs[i].len, d[i].len);
	}
	env_touch(e, e->chains, 1);
	env_free(e);
}

static void
indirect_table_is_followed(void **state)
{
	struct vring_env *e = env_new(4, format(state) | F_INDIRECT, 0);
	const struct env_desc t[] = {
		{DATA_IOVA, 12, D_NEXT, D_AUTO},
		{DATA_IOVA + 12, 20, D_NEXT, D_AUTO},
		{DATA_IOVA + 64, 30, D_NEXT, D_AUTO},
		{DATA_IOVA + 128, 40, D_NEXT, D_AUTO},
		{DATA_IOVA + 256, 50, D_WRITE, 0},
	};
	/* Unaligned, in memory that the device cannot write, marked writable, in two regions. */
	const uint64_t where[] = {DATA_IOVA + 4096, DATA_IOVA + 4099, ROM_IOVA,
		DATA_IOVA + DATA_SIZE - 40, MORE_IOVA - 1, MORE_IOVA + MORE_SIZE - 16,
		TOP_IOVA + TOP_SIZE - sizeof(t) / sizeof(t[0]) * 16};
	size_t i;
	uint16_t j;

	for (i = 0; i < NR(where); i++) {
		struct env_desc d = {where[i], NR(t) * 16, D_INDIRECT | (i & 1 ? D_WRITE : 0), 0};
		uint16_t id;

		env_table(e, where[i], t, NR(t));
		id = env_put(e, &d, 1);
		assert_int_equal(env_peek(e, 4), 1);
		assert_int_equal(e->chains[0].done.id, id);
		assert_int_equal(e->chains[0].done.slots, 1);
		assert_int_equal(e->chains[0].nr_segs, 5);
		assert_int_equal(e->chains[0].nr_readable, 4);
		for (j = 0; j < NR(t); j++) {
			assert_int_equal(e->segs[j].iova, t[j].addr);
			assert_int_equal(e->segs[j].len, t[j].len);
		}
		env_touch(e, e->chains, 1);
		vring_dev_consume(&e->dev, e->chains, 1);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 1), 0);
		vring_dev_flush(&e->dev);
	}
	env_free(e);
}

static void
split_chain_may_end_in_a_table(void **state)
{
	struct vring_env *e = env_new(8, F_INDIRECT, 0);
	const struct env_desc t[] = {{DATA_IOVA + 64, 5, D_NEXT, 2}, {NOWHERE_IOVA, 1, 0, 0},
		{DATA_IOVA + 128, 6, D_WRITE, 0}};
	const struct env_desc d[] = {{DATA_IOVA, 4, D_NEXT, D_AUTO},
		{DATA_IOVA + 4096, sizeof(t) / sizeof(t[0]) * 16, D_INDIRECT, 0}};

	(void)state;
	/* The table's entries are linked, too: the middle one is not part of it. */
	env_table(e, DATA_IOVA + 4096, t, NR(t));
	env_put(e, d, NR(d));
	assert_int_equal(env_peek(e, 8), 1);
	assert_int_equal(e->chains[0].nr_segs, 3);
	assert_int_equal(e->chains[0].readable_bytes, 9);
	assert_int_equal(e->chains[0].writable_bytes, 6);
	env_touch(e, e->chains, 1);
	env_free(e);
}

static void
empty_descriptors_are_skipped(void **state)
{
	struct vring_env *e = env_new(16, format(state) | F_INDIRECT, 0);
	const struct env_desc some[] = {
		{NOWHERE_IOVA, 0, D_NEXT, D_AUTO},
		{DATA_IOVA, 10, D_NEXT, D_AUTO},
		{NOWHERE_IOVA, 0, D_NEXT | D_WRITE, D_AUTO},
		{DATA_IOVA + 10, 10, D_NEXT, D_AUTO},
		{0, 0, 0, 0},
	};
	const struct env_desc none[] = {{0, 0, D_NEXT, D_AUTO}, {UINT64_MAX, 0, D_WRITE, 0}};
	const struct env_desc one = {NOWHERE_IOVA, 0, 0, 0};
	const struct env_desc table = {
		DATA_IOVA + 4096, sizeof(none) / sizeof(none[0]) * 16, D_INDIRECT, 0};
	uint16_t i;

	env_table(e, DATA_IOVA + 4096, none, NR(none));
	env_put(e, some, NR(some));
	env_put(e, none, NR(none));
	env_put(e, &one, 1);
	env_put(e, &table, 1);
	env_put_good(e, 7, D_WRITE);
	assert_int_equal(env_peek(e, 16), 5);
	assert_int_equal(e->chains[0].nr_segs, 2);
	assert_int_equal(e->chains[0].nr_readable, 2);
	for (i = 1; i < 4; i++) {
		assert_int_equal(e->chains[i].nr_segs, 0);
		assert_int_equal(e->chains[i].nr_readable, 0);
		assert_int_equal(e->chains[i].readable_bytes + e->chains[i].writable_bytes, 0);
	}
	assert_int_equal(e->chains[4].segs[0].iova, DATA_IOVA + 7 * 64);
	env_touch(e, e->chains, 5);
	env_free(e);
}

static void
buffer_over_two_regions_is_two_segments(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	const struct env_desc d = {MORE_IOVA - 100, 300, D_WRITE, 0};
	const struct env_desc three = {MORE_IOVA - 1, MORE_SIZE + 2, 0, 0};
	const struct vring_seg *s = e->segs;

	env_put(e, &d, 1);
	env_put(e, &three, 1);
	assert_int_equal(env_peek(e, 8), 2);
	assert_int_equal(e->chains[0].nr_segs, 2);
	assert_int_equal(e->chains[0].nr_readable, 0);
	assert_int_equal(s[0].len, 100);
	assert_int_equal(s[1].len, 200);
	assert_int_equal(s[1].iova, MORE_IOVA);
	assert_int_equal(e->chains[1].nr_segs, 3);
	assert_int_equal(e->chains[1].nr_readable, 3);
	assert_int_equal(s[4].iova, ROM_IOVA);
	assert_int_equal(s[4].len, 1);
	env_touch(e, e->chains, 2);
	env_free(e);
}

static void
buffers_at_the_ends_of_memory_are_legal(void **state)
{
	struct vring_env *e = env_new(16, format(state), 0);
	const struct env_desc d[] = {
		{UINT64_MAX, 1, 0, 0},
		{TOP_IOVA, TOP_SIZE, D_WRITE, 0},
		{DATA_IOVA, 1, 0, 0},
		{SINK_IOVA, SINK_SIZE, D_WRITE, 0},
		{ROM_IOVA + ROM_SIZE - 1, 1, 0, 0},
		{HUGE_IOVA, HUGE_SIZE, 0, 0},
		{RING_IOVA, 1, 0, 0},
	};
	size_t i;

	for (i = 0; i < NR(d); i++)
		env_put(e, &d[i], 1);
	assert_int_equal(env_peek(e, 16), NR(d));
	for (i = 0; i < NR(d); i++) {
		assert_int_equal(e->chains[i].nr_segs, 1);
		assert_int_equal(e->segs[i].len, d[i].len);
	}
	env_touch(e, e->chains, NR(d));
	env_free(e);
}

static void
peek_moves_nothing_and_consume_takes_the_first(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	struct vring_state s0 = vring_dev_state(&e->dev), s;
	uint16_t ids[6], i;

	for (i = 0; i < 6; i++)
		ids[i] = env_put_good(e, i, i % 2 ? D_WRITE : 0);
	env_snapshot(e);
	for (i = 0; i < 3; i++) {
		assert_int_equal(env_peek(e, 8), 6);
		s = vring_dev_state(&e->dev);
		assert_memory_equal(&s, &s0, sizeof(s));
	}
	vring_dev_consume(&e->dev, e->chains, 2);
	vring_dev_consume(&e->dev, e->chains + 2, 1);
	s = vring_dev_state(&e->dev);
	assert_int_equal(s.avail, s0.avail + 3);
	assert_int_equal(s.used, s0.used);
	assert_int_equal(env_peek(e, 2), 2);
	assert_int_equal(e->chains[0].done.id, ids[3]);
	assert_int_equal(e->chains[1].done.id, ids[4]);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 3);
	assert_int_equal(env_peek(e, 8), 0);
	env_assert_untouched(e);
	env_free(e);
}

static void
unpop_gives_the_last_ones_back(void **state)
{
	/* Chains of different lengths, over the end of the ring. */
	struct vring_env *e = env_new(8, format(state), 0);
	const struct env_desc two[] = {{DATA_IOVA, 8, D_NEXT, D_AUTO}, {DATA_IOVA + 8, 8, 0, 0}};
	struct vring_state s;
	uint16_t ids[3], i, round;

	for (round = 0; round < 20; round++) {
		ids[0] = env_put_good(e, 0, 0);
		ids[1] = env_put(e, two, 2);
		ids[2] = env_put(e, two, 2);
		s = vring_dev_state(&e->dev);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 3);
		assert_int_equal(vring_dev_unpop(&e->dev, e->chains + 1, 2), 0);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains + 1, 8, e->segs, ENV_NR_SEGS), 2);
		for (i = 0; i < 3; i++)
			assert_int_equal(e->chains[i].done.id, ids[i]);
		assert_int_equal(vring_dev_unpop(&e->dev, e->chains, 3), 0);
		assert_int_equal(vring_dev_state(&e->dev).avail, s.avail);
		assert_int_equal(vring_dev_unpop(&e->dev, e->chains, 1), -EINVAL);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 3);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 3), 0);
		assert_int_equal(vring_dev_unpop(&e->dev, e->chains, 1), -EINVAL);
		vring_dev_flush(&e->dev);
	}
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	env_free(e);
}

static void
mergeable_buffers_are_gathered_or_left(void **state)
{
	struct vring_env *e = env_new(16, format(state), 0);
	const struct env_desc in[] = {
		{DATA_IOVA, 1000, D_WRITE, 0},
		{DATA_IOVA + 1000, 500, D_WRITE, 0},
		{DATA_IOVA + 2000, 1500, D_WRITE, 0},
	};
	uint16_t i, n;

	for (i = 0; i < 3; i++)
		env_put(e, &in[i], 1);
	n = env_peek(e, 16);
	assert_int_equal(n, 3);
	assert_int_equal(vring_chains_for(e->chains, n, 0), 1);
	assert_int_equal(vring_chains_for(e->chains, n, 1000), 1);
	assert_int_equal(vring_chains_for(e->chains, n, 1001), 2);
	assert_int_equal(vring_chains_for(e->chains, n, 1501), 3);
	assert_int_equal(vring_chains_for(e->chains, n, 3000), 3);
	assert_int_equal(vring_chains_for(e->chains, n, 3001), 0);
	assert_int_equal(vring_chains_for(e->chains, 0, 1), 0);
	/* Not enough: they stay, and with one more of the driver's the frame fits. */
	env_put(e, &in[1], 1);
	n = env_peek(e, 16);
	assert_int_equal(vring_chains_for(e->chains, n, 3001), 4);
	vring_dev_consume(&e->dev, e->chains, 4);
	for (i = 0; i < 4; i++)
		e->chains[i].done.len = e->chains[i].writable_bytes;
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 4), 0);
	assert_int_equal(used_seen(e, 0, true, e->chains[0].done.id, 1000), 0);
	vring_dev_flush(&e->dev);
	for (i = 0; i < 4; i++)
		assert_int_equal(
			used_seen(e, i, true, e->chains[i].done.id, in[i % 3 + (i == 3)].len), 1);
	env_free(e);
}

static void
used_entries_show_at_the_flush_only(void **state)
{
	struct vring_env *e = env_new(4, format(state), 0);
	struct vring_done d[4];
	uint16_t i, slot = 0, round;
	bool wrap = true;

	for (round = 0; round < 13; round++) {
		for (i = 0; i < 3; i++)
			env_put_good(e, i, i == 1 ? 0 : D_WRITE);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS), 3);
		/* Last first, in two pushes. */
		for (i = 0; i < 3; i++) {
			d[i] = e->chains[2 - i].done;
			d[i].len = i == 1 ? 0 : 10 + i;
		}
		assert_int_equal(vring_dev_push(&e->dev, d, 2), 0);
		assert_int_equal(vring_dev_push(&e->dev, d + 2, 1), 0);
		assert_int_equal(used_seen(e, slot, wrap, d[0].id, d[0].len), 0);
		vring_dev_flush(&e->dev);
		for (i = 0; i < 3; i++) {
			assert_int_equal(used_seen(e, slot, wrap, d[i].id, d[i].len), 1);
			slot++;
			if (e->packed && slot == 4) {
				slot = 0;
				wrap = !wrap;
			}
		}
	}
	assert_int_equal(
		vring_dev_state(&e->dev).used, e->packed ? (uint16_t)(slot | wrap << 15) : slot);
	env_free(e);
}

static void
more_than_in_flight_is_refused(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	struct vring_done d[3] = {{0, 1, 0}, {1, 1, 0}, {2, 1, 0}};

	env_put_good(e, 0, 0);
	env_put_good(e, 1, 0);
	env_snapshot(e);
	assert_int_equal(vring_dev_push(&e->dev, d, 1), -EINVAL);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 2);
	assert_int_equal(vring_dev_push(&e->dev, d, 3), -EINVAL);
	vring_dev_flush(&e->dev);
	env_assert_untouched(e);
	assert_int_equal(vring_dev_push(&e->dev, d, 2), 0);
	assert_int_equal(vring_dev_push(&e->dev, d, 1), -EINVAL);
	vring_dev_flush(&e->dev);
	assert_int_equal(used_seen(e, 1, true, 1, 0), 1);
	env_free(e);
}

static void
batch_of_in_order_buffers_is_one_entry(void **state)
{
	struct vring_env *e = env_new(8, format(state) | F_IN_ORDER, 0);
	const struct env_desc two[] = {{DATA_IOVA, 8, D_NEXT, D_AUTO}, {DATA_IOVA + 8, 8, 0, 0}};
	uint16_t last, next, at;

	env_put_good(e, 0, 0);
	env_put(e, two, 2);
	last = env_put_good(e, 1, 0);
	next = env_put_good(e, 2, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 4);
	assert_int_equal(vring_dev_push_batch(&e->dev, e->chains, 0), 0);
	assert_int_equal(vring_dev_push_batch(&e->dev, e->chains, 3), 0);
	vring_dev_flush(&e->dev);
	assert_int_equal(used_seen(e, 0, true, last, 0), 1);
	at = e->packed ? 4 : 3;
	assert_int_equal(used_seen(e, at, true, next, 0), 0);
	assert_int_equal(vring_dev_push_batch(&e->dev, e->chains + 3, 1), 0);
	vring_dev_flush(&e->dev);
	assert_int_equal(used_seen(e, at, true, next, 0), 1);
	assert_int_equal(vring_dev_push_batch(&e->dev, e->chains, 1), -EINVAL);
	assert_int_equal(vring_dev_state(&e->dev).used & 0x7fff, e->packed ? 5 : 4);
	env_free(e);

	e = env_new(8, format(state), 0);
	env_put_good(e, 0, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 1);
	assert_int_equal(vring_dev_push_batch(&e->dev, e->chains, 1), -ENOTSUP);
	env_free(e);
}

static void
burst_ends_where_segments_do(void **state)
{
	struct vring_env *e = env_new(32, format(state), 5);
	struct env_desc five[5];
	uint16_t i, ids[5];

	for (i = 0; i < 5; i++)
		five[i] = (struct env_desc){DATA_IOVA + i * 8, 8, i < 4 ? D_NEXT : 0, D_AUTO};
	for (i = 0; i < 5; i++)
		ids[i] = env_put(e, five, 5);
	/* Five segments are the limit: legal, and as many chains come as fit as a whole. */
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 14), 2);
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 15), 3);
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 5), 1);
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	vring_dev_consume(&e->dev, e->chains, 1);
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 5), 1);
	assert_int_equal(e->chains[0].done.id, ids[1]);
	/* Single descriptors end the same way. */
	env_put_good(e, 0, 0);
	vring_dev_consume(&e->dev, e->chains, 1);
	assert_int_equal(env_peek(e, 32), 4);
	vring_dev_consume(&e->dev, e->chains, 3);
	env_put_good(e, 1, 0);
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 1), 1);
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	/* An array below the limit is the caller's fault, and stops rather than spins. */
	vring_dev_consume(&e->dev, e->chains, 1);
	env_put(e, five, 5);
	assert_int_equal(env_peek(e, 32), 2);
	vring_dev_consume(&e->dev, e->chains, 1);
	assert_int_equal(vring_dev_peek(&e->dev, e->chains, 32, e->segs, 4), 0);
	env_assert_broken(e, VRING_ERR_TOO_MANY_SEGS);
	env_free(e);
}

static void
state_carries_over_to_the_next_device(void **state)
{
	static const uint16_t sizes[] = {1, 2, 8, 256};
	size_t k;

	for (k = 0; k < NR(sizes); k++) {
		struct vring_env *e = env_new(sizes[k], format(state), 0);
		uint16_t round, id;

		for (round = 0; round < 1000; round++) {
			id = env_put_good(e, 0, 0);
			assert_int_equal(env_peek(e, 8), 1);
			assert_int_equal(e->chains[0].done.id, id);
			vring_dev_consume(&e->dev, e->chains, 1);
			if (round % 3 == 0)
				assert_int_equal(vring_dev_rewind(&e->dev), 1);
			/* In flight at the exchange, the next device gives it back. */
			e->config.state = vring_dev_state(&e->dev);
			assert_int_equal(vring_dev_init(&e->dev, &e->config), 0);
			if (round % 3 == 0)
				assert_int_equal(
					vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS),
					1);
			assert_int_equal(vring_dev_push(&e->dev, &e->chains[0].done, 1), 0);
			assert_int_equal(vring_dev_push(&e->dev, &e->chains[0].done, 1), -EINVAL);
			vring_dev_flush(&e->dev);
			assert_int_equal(vring_dev_rewind(&e->dev), 0);
			if (!e->packed) {
				uint16_t used;

				assert_int_equal(vring_split_used_index(&e->config, &used), 0);
				assert_int_equal(used, vring_dev_state(&e->dev).used);
			}
		}
		assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
		env_free(e);
	}
}

static void
rewind_offers_in_flight_again_in_order(void **state)
{
	struct vring_env *e = env_new(16, format(state), 0);
	const struct env_desc two[] = {{DATA_IOVA, 8, D_NEXT, D_AUTO}, {DATA_IOVA + 8, 8, 0, 0}};
	uint16_t ids[5], i, round;

	for (round = 0; round < 40; round++) {
		for (i = 0; i < 5; i++)
			ids[i] = i % 2 ? env_put(e, two, 2) : env_put_good(e, i, 0);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 5, e->segs, ENV_NR_SEGS), 5);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 2), 0);
		/* What is pushed counts, though nobody flushed. */
		assert_int_equal(vring_dev_rewind(&e->dev), e->packed ? 4 : 3);
		assert_int_equal(vring_dev_state(&e->dev).avail, vring_dev_state(&e->dev).used);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 3);
		for (i = 0; i < 3; i++)
			assert_int_equal(e->chains[i].done.id, ids[2 + i]);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 3), 0);
		vring_dev_flush(&e->dev);
	}
	env_free(e);
}

static void
memory_table_is_exchanged_between_bursts(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	struct vring_region without[ENV_NR_REGIONS];
	struct vring_mem less = {without, ENV_NR_REGIONS - 1}, no_ring = {e->regions + 1, 2};
	struct vring_mem unsorted = {without, ENV_NR_REGIONS};

	/* The same guest without its region DATA. */
	without[0] = e->regions[0];
	memcpy(&without[1], &e->regions[2], (ENV_NR_REGIONS - 2) * sizeof(without[0]));
	without[ENV_NR_REGIONS - 1] = without[0];
	env_put_good(e, 0, 0);
	assert_int_equal(env_peek(e, 8), 1);
	assert_int_equal(vring_dev_set_mem(&e->dev, &no_ring), -EFAULT);
	assert_int_equal(vring_dev_set_mem(&e->dev, &unsorted), -EINVAL);
	assert_int_equal(env_peek(e, 8), 1);
	assert_int_equal(vring_dev_set_mem(&e->dev, &less), 0);
	/* The last region hit is not remembered from the old table. */
	assert_int_equal(env_peek(e, 8), 0);
	env_assert_broken(e, VRING_ERR_ADDR_UNMAPPED);
	env_free(e);
}

static void
ring_follows_a_changed_mapping(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);
	uint8_t *old = e->regions[0].va, *moved;
	struct vring_region r[ENV_NR_REGIONS];
	struct vring_mem mem = {r, ENV_NR_REGIONS};

	env_put_good(e, 0, D_WRITE);
	moved = aligned_alloc(4096, RING_SIZE);
	assert_non_null(moved);
	memcpy(moved, old, RING_SIZE);
	memcpy(r, e->regions, sizeof(r));
	r[0].va = moved;
	assert_int_equal(vring_dev_set_mem(&e->dev, &mem), 0);
	memset(old, 0xff, RING_SIZE);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 1);
	e->chains[0].done.len = 5;
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 1), 0);
	vring_dev_flush(&e->dev);
	e->regions[0].va = moved;
	assert_int_equal(used_seen(e, 0, true, e->chains[0].done.id, 5), 1);
	e->regions[0].va = old;
	free(moved);
	env_free(e);
}

static void
the_users_reason_breaks_the_queue(void **state)
{
	struct vring_env *e = env_new(8, format(state), 0);

	env_put_good(e, 0, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 1);
	env_put_good(e, 0, 0);
	vring_dev_break(&e->dev, VRING_ERR_CALLER);
	env_assert_broken(e, VRING_ERR_CALLER);
	env_free(e);
}

static void
every_size_goes_round(void **state)
{
	static const uint16_t split[] = {1, 2, 4, 64, 256, 32768};
	static const uint16_t packed[] = {1, 2, 3, 5, 100, 255, 256, 1000, 32768};
	bool is_packed = (format(state) & F_PACKED) != 0;
	size_t k, nr = is_packed ? NR(packed) : NR(split);

	for (k = 0; k < nr; k++) {
		uint16_t size = is_packed ? packed[k] : split[k], slot = 0, i, n;
		struct vring_env *e = env_new(size, format(state), 0);
		uint32_t total = 0, rounds = 0;
		uint64_t seed = size + 1;
		bool wrap = true;

		/* Indices go round twice, and so does the ring. */
		while (total < 140000 && rounds < 200000) {
			uint16_t want = env_random(&seed) % (size < 40 ? size : 40) + 1;

			for (i = 0; i < want; i++)
				e->chains[i].done.id = env_put_good(e, i, i & 1 ? D_WRITE : 0);
			n = env_peek(e, 64);
			assert_int_equal(n, want);
			vring_dev_consume(&e->dev, e->chains, n);
			assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, n), 0);
			vring_dev_flush(&e->dev);
			for (i = 0; i < n; i++) {
				assert_int_equal(
					used_seen(e, slot, wrap, e->chains[i].done.id, 0), 1);
				slot++;
				if (is_packed && slot == size) {
					slot = 0;
					wrap = !wrap;
				}
			}
			total += n;
			rounds++;
		}
		assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
		env_free(e);
	}
}

static void
full_ring_comes_as_a_whole(void **state)
{
	struct vring_env *e = env_new(256, format(state), 0);
	uint16_t i, round;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < 256; i++)
			env_put_good(e, i, 0);
		assert_int_equal(env_peek(e, 300), 256);
		for (i = 0; i < 256; i++)
			assert_int_equal(e->segs[i].iova, DATA_IOVA + i * 64);
		vring_dev_consume(&e->dev, e->chains, 256);
		assert_int_equal(env_peek(e, 300), 0);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 256), 0);
		assert_int_equal(env_peek(e, 300), 0);
		vring_dev_flush(&e->dev);
		assert_int_equal(env_peek(e, 300), 0);
		assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	}
	env_free(e);
}

static void
backlog_is_what_lies_behind_a_peek(void **state)
{
	struct vring_env *e = env_new(4, format(state), 0);
	uint16_t round, i;

	for (round = 0; round < 9; round++) {
		for (i = 0; i < 4; i++)
			env_put_good(e, i, 0);
		assert_int_equal(env_peek(e, 3), 3);
		assert_true(vring_dev_backlog(&e->dev, e->chains, 2));
		assert_true(vring_dev_backlog(&e->dev, e->chains, 3));
		assert_int_equal(env_peek(e, 4), 4);
		assert_false(vring_dev_backlog(&e->dev, e->chains, 4));
		vring_dev_consume(&e->dev, e->chains, 3);
		assert_true(vring_dev_backlog(&e->dev, e->chains, 0));
		assert_false(vring_dev_backlog(&e->dev, e->chains + 3, 1));
		vring_dev_consume(&e->dev, e->chains + 3, 1);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 4), 0);
		vring_dev_flush(&e->dev);
		assert_false(vring_dev_backlog(&e->dev, e->chains, 0));
	}
	env_put_good(e, 0, 0);
	vring_dev_break(&e->dev, VRING_ERR_CALLER);
	assert_false(vring_dev_backlog(&e->dev, e->chains, 0));
	env_free(e);
}

static uint64_t split_format, packed_format = F_PACKED;

#define BOTH(f)                                              \
	{#f ", split", f, NULL, NULL, &split_format},        \
	{                                                    \
#f ", packed", f, NULL, NULL, &packed_format \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(empty_ring_gives_nothing),
		BOTH(chain_gives_readable_then_writable_segments),
		BOTH(indirect_table_is_followed),
		cmocka_unit_test(split_chain_may_end_in_a_table),
		BOTH(empty_descriptors_are_skipped),
		BOTH(buffer_over_two_regions_is_two_segments),
		BOTH(buffers_at_the_ends_of_memory_are_legal),
		BOTH(peek_moves_nothing_and_consume_takes_the_first),
		BOTH(unpop_gives_the_last_ones_back),
		BOTH(mergeable_buffers_are_gathered_or_left),
		BOTH(used_entries_show_at_the_flush_only),
		BOTH(more_than_in_flight_is_refused),
		BOTH(batch_of_in_order_buffers_is_one_entry),
		BOTH(burst_ends_where_segments_do),
		BOTH(state_carries_over_to_the_next_device),
		BOTH(rewind_offers_in_flight_again_in_order),
		BOTH(memory_table_is_exchanged_between_bursts),
		BOTH(ring_follows_a_changed_mapping),
		BOTH(the_users_reason_breaks_the_queue),
		BOTH(every_size_goes_round),
		BOTH(full_ring_comes_as_a_whole),
		BOTH(backlog_is_what_lies_behind_a_peek),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
