/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * lib/vring, device side: drivers that break the rules. Each case puts lawful buffers before its
 * bad one; these must come, then the queue is broken for the reason expected, and nothing that is
 * called afterwards writes to memory. Guard pages end the program at an access outside memory.
 */

#include <stdio.h>

#include "vring_env.h"

#define NR(a)      (sizeof(a) / sizeof((a)[0]))

#define TABLE_IOVA (DATA_IOVA + 0x8000)
#define SIZE       16

/** A chain and the table that one of its descriptors may point to; both formats. */
struct chain_case {
	const char *name;
	enum vring_error error;
	uint16_t max_segs; /* 0: default */
	bool indirect_off;
	struct env_desc d[6];
	uint64_t table_iova; /* 0: no table */
	struct env_desc t[6];
	uint16_t fill_empty; /* entries of length 0 instead of t */
};

#define GOOD(flags, next)                  \
	{                                  \
		DATA_IOVA, 64, flags, next \
	}
#define TABLE(nr)                                  \
	{                                          \
		TABLE_IOVA, (nr)*16, D_INDIRECT, 0 \
	}

static const struct chain_case chain_cases[] = {
	{"address in no region", VRING_ERR_ADDR_UNMAPPED, .d = {{NOWHERE_IOVA, 64, 0, 0}}},
	{"address 0", VRING_ERR_ADDR_UNMAPPED, .d = {{0, 64, 0, 0}}},
	{"starts before a region", VRING_ERR_ADDR_UNMAPPED, .d = {{DATA_IOVA - 1, 64, 0, 0}}},
	{"starts behind a region", VRING_ERR_ADDR_UNMAPPED,
		.d = {{SINK_IOVA + SINK_SIZE, 1, 2, 0}}},
	{"one byte past a region", VRING_ERR_ADDR_UNMAPPED,
		.d = {{RING_IOVA + RING_SIZE - 63, 64, 0, 0}}},
	{"one byte past a region, writable", VRING_ERR_ADDR_UNMAPPED,
		.d = {{SINK_IOVA + SINK_SIZE - 63, 64, D_WRITE, 0}}},
	{"4 GiB from a region's start", VRING_ERR_ADDR_UNMAPPED,
		.d = {{DATA_IOVA, 0xffffffff, 0, 0}}},
	{"over three regions and out", VRING_ERR_ADDR_UNMAPPED,
		.d = {{MORE_IOVA - 1, MORE_SIZE + ROM_SIZE + 2, 0, 0}}},
	{"address and length wrap", VRING_ERR_ADDR_WRAP, .d = {{TOP_IOVA, TOP_SIZE + 1, 0, 0}}},
	{"last address, 2 bytes", VRING_ERR_ADDR_WRAP, .d = {{UINT64_MAX, 2, 0, 0}}},
	{"last address, 4 GiB", VRING_ERR_ADDR_WRAP, .d = {{UINT64_MAX, 0xffffffff, 2, 0}}},
	{"wraps around to mapped memory", VRING_ERR_ADDR_WRAP,
		.d = {{UINT64_MAX - 15, RING_IOVA + 64, 0, 0}}},
	{"second descriptor unmapped", VRING_ERR_ADDR_UNMAPPED,
		.d = {GOOD(D_NEXT, D_AUTO), {NOWHERE_IOVA, 1, 0, 0}}},
	{"last of six unmapped", VRING_ERR_ADDR_UNMAPPED,
		.d = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO),
			GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO),
			{ROM_IOVA - 1, ROM_SIZE + 2, 0, 0}}},
	{"writable in read-only memory", VRING_ERR_PERMISSION, .d = {{ROM_IOVA, 64, D_WRITE, 0}}},
	{"readable in write-only memory", VRING_ERR_PERMISSION, .d = {{SINK_IOVA, 64, 0, 0}}},
	{"writable runs into read-only memory", VRING_ERR_PERMISSION,
		.d = {{ROM_IOVA - 63, 64, D_WRITE, 0}}},
	{"second writable in read-only memory", VRING_ERR_PERMISSION,
		.d = {GOOD(D_NEXT | D_WRITE, D_AUTO), {ROM_IOVA + 8, 8, D_WRITE, 0}}},
	{"readable after writable", VRING_ERR_ORDER,
		.d = {GOOD(D_NEXT | D_WRITE, D_AUTO), GOOD(0, 0)}},
	{"readable between writable", VRING_ERR_ORDER,
		.d = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT | D_WRITE, D_AUTO), GOOD(D_NEXT, D_AUTO),
			GOOD(D_WRITE, 0)}},
	{"readable after writable in a table", VRING_ERR_ORDER, .d = {TABLE(2)},
		.table_iova = TABLE_IOVA, .t = {GOOD(D_NEXT | D_WRITE, D_AUTO), GOOD(0, 0)}},
	{"readable bytes pass 4 GiB", VRING_ERR_TOTAL_LENGTH,
		.d = {{HUGE_IOVA, 0x80000000, D_NEXT, D_AUTO}, {HUGE_IOVA, 0x80000000, 0, 0}}},
	{"writable bytes pass 4 GiB", VRING_ERR_TOTAL_LENGTH,
		.d = {{HUGE_IOVA, 0xc0000000, D_NEXT | 2, D_AUTO}, {HUGE_IOVA, 0x40000000, 2, 0}}},
	{"bytes pass 4 GiB in a table", VRING_ERR_TOTAL_LENGTH, .d = {TABLE(3)},
		.table_iova = TABLE_IOVA,
		.t = {{HUGE_IOVA, 0x60000000, D_NEXT, D_AUTO},
			{HUGE_IOVA, 0x60000000, D_NEXT, D_AUTO}, {HUGE_IOVA, 0x60000000, 0, 0}}},
	{"more descriptors than segments allowed", VRING_ERR_TOO_MANY_SEGS, .max_segs = 3,
		.d = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO),
			GOOD(0, 0)}},
	{"more segments than allowed in a table", VRING_ERR_TOO_MANY_SEGS, .max_segs = 3,
		.d = {TABLE(4)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO),
			GOOD(0, 0)}},
	{"more segments than allowed by a crossing", VRING_ERR_TOO_MANY_SEGS, .max_segs = 2,
		.d = {{MORE_IOVA - 8, 16, D_NEXT, D_AUTO}, GOOD(0, 0)}},
	{"one descriptor over more regions than allowed", VRING_ERR_TOO_MANY_SEGS, .max_segs = 2,
		.d = {{MORE_IOVA - 1, MORE_SIZE + 2, 0, 0}}},
	{"endless empty descriptors in a table", VRING_ERR_TOO_MANY_SEGS, .max_segs = 64,
		.d = {{DATA_IOVA + 0x10000, 0xf000, D_INDIRECT, 0}},
		.table_iova = DATA_IOVA + 0x10000, .fill_empty = 0xf00},
	{"indirect without the feature", VRING_ERR_INDIRECT_OFF, .indirect_off = true,
		.d = {TABLE(1)}, .table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"indirect and next", VRING_ERR_INDIRECT_NEXT,
		.d = {{TABLE_IOVA, 16, D_INDIRECT | D_NEXT, D_AUTO}, GOOD(0, 0)},
		.table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"empty table", VRING_ERR_INDIRECT_LENGTH, .d = {TABLE(0)}},
	{"table of 15 bytes", VRING_ERR_INDIRECT_LENGTH, .d = {{TABLE_IOVA, 15, D_INDIRECT, 0}}},
	{"table of 17 bytes", VRING_ERR_INDIRECT_LENGTH, .d = {{TABLE_IOVA, 17, D_INDIRECT, 0}},
		.table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"table of 4 GiB - 1", VRING_ERR_INDIRECT_LENGTH,
		.d = {{TABLE_IOVA, 0xffffffff, D_INDIRECT, 0}}},
	{"table of 4 GiB - 16", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{TABLE_IOVA, 0xfffffff0, D_INDIRECT, 0}}, .table_iova = TABLE_IOVA,
		.t = {GOOD(0, 0)}},
	{"table in no region", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{NOWHERE_IOVA, 16, D_INDIRECT, 0}}},
	{"table's end past its region", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{RING_IOVA + RING_SIZE - 16, 32, D_INDIRECT, 0}}},
	{"table's last byte past its region", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{ROM_IOVA + ROM_SIZE - 15, 16, D_INDIRECT, 0}}},
	{"table past the last address", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{UINT64_MAX - 15, 32, D_INDIRECT, 0}}},
	{"table in write-only memory", VRING_ERR_INDIRECT_UNMAPPED,
		.d = {{SINK_IOVA, 16, D_INDIRECT, 0}}, .table_iova = SINK_IOVA, .t = {GOOD(0, 0)}},
	{"table in a table", VRING_ERR_INDIRECT_NESTED, .d = {TABLE(1)}, .table_iova = TABLE_IOVA,
		.t = {TABLE(1)}},
	{"table in a table, last entry", VRING_ERR_INDIRECT_NESTED, .d = {TABLE(3)},
		.table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO), {TABLE_IOVA, 16, D_INDIRECT, 0}}},
	{"table's entry unmapped", VRING_ERR_ADDR_UNMAPPED, .d = {TABLE(2)},
		.table_iova = TABLE_IOVA, .t = {GOOD(D_NEXT, D_AUTO), {NOWHERE_IOVA, 1, 0, 0}}},
	{"table's entry wraps", VRING_ERR_ADDR_WRAP, .d = {TABLE(2)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, D_AUTO), {UINT64_MAX, 2, D_WRITE, 0}}},
	{"table's entry writable in read-only memory", VRING_ERR_PERMISSION, .d = {TABLE(1)},
		.table_iova = TABLE_IOVA, .t = {{ROM_IOVA, 1, D_WRITE, 0}}},
};

/** What only split rings can do: descriptors and tables are linked lists there. */
static const struct chain_case split_cases[] = {
	{"next is the queue size", VRING_ERR_NEXT, .d = {GOOD(D_NEXT, SIZE)}},
	{"next is 65535", VRING_ERR_NEXT, .d = {GOOD(D_NEXT, 65535)}},
	{"descriptor follows itself", VRING_ERR_LOOP, .d = {GOOD(D_NEXT, 3)}},
	{"two descriptors in a circle", VRING_ERR_LOOP,
		.d = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, 3)}},
	{"circle behind the head", VRING_ERR_LOOP,
		.d = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, 4)}},
	{"writable circle", VRING_ERR_LOOP, .d = {GOOD(D_NEXT | D_WRITE, 3)}},
	{"circle of empty descriptors", VRING_ERR_LOOP,
		.d = {{0, 0, D_NEXT, D_AUTO}, {0, 0, D_NEXT, 3}}},
	{"circle with few segments allowed", VRING_ERR_TOO_MANY_SEGS, .max_segs = 4,
		.d = {GOOD(D_NEXT, 3)}},
	{"table's next is the table's size", VRING_ERR_NEXT, .d = {TABLE(2)},
		.table_iova = TABLE_IOVA, .t = {GOOD(D_NEXT, D_AUTO), GOOD(D_NEXT, 2)}},
	{"table's next is 65535", VRING_ERR_NEXT, .d = {TABLE(2)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, 65535)}},
	{"table's entry follows itself", VRING_ERR_LOOP, .d = {TABLE(2)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, 0)}},
	{"table's circle of empty entries", VRING_ERR_LOOP, .d = {TABLE(3)},
		.table_iova = TABLE_IOVA,
		.t = {{0, 0, D_NEXT, 1}, {0, 0, D_NEXT, 2}, {0, 0, D_NEXT, 0}}},
	{"writable, then a table with readable", VRING_ERR_ORDER,
		.d = {GOOD(D_NEXT | D_WRITE, D_AUTO), TABLE(1)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(0, 0)}},
	{"chain, then indirect without the feature", VRING_ERR_INDIRECT_OFF, .indirect_off = true,
		.d = {GOOD(D_NEXT, D_AUTO), TABLE(1)}, .table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"chain, then indirect and next", VRING_ERR_INDIRECT_NEXT,
		.d = {GOOD(D_NEXT, D_AUTO), {TABLE_IOVA, 16, D_INDIRECT | D_NEXT, 3}},
		.table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"chain and table together too long", VRING_ERR_TOO_MANY_SEGS, .max_segs = 2,
		.d = {GOOD(D_NEXT, D_AUTO), TABLE(2)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(D_NEXT, D_AUTO), GOOD(0, 0)}},
};

/** What only packed rings can do. */
static const struct chain_case packed_cases[] = {
	{"indirect inside a chain", VRING_ERR_INDIRECT_NEXT, .d = {GOOD(D_NEXT, 0), TABLE(1)},
		.table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"indirect inside a chain, without the feature", VRING_ERR_INDIRECT_OFF,
		.indirect_off = true, .d = {GOOD(D_NEXT, 0), TABLE(1)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(0, 0)}},
	{"indirect and next inside a chain", VRING_ERR_INDIRECT_NEXT,
		.d = {GOOD(D_NEXT, 0), {TABLE_IOVA, 16, D_INDIRECT | D_NEXT, 0}, GOOD(0, 0)},
		.table_iova = TABLE_IOVA, .t = {GOOD(0, 0)}},
	{"next ignored in tables, entry behind it unmapped", VRING_ERR_ADDR_UNMAPPED,
		.d = {TABLE(2)}, .table_iova = TABLE_IOVA,
		.t = {GOOD(0, 0), {NOWHERE_IOVA, 1, 0, 0}}},
};

static uint16_t
count(const struct env_desc *d)
{
	uint16_t n = 0;

	while (n < 6 && (d[n].addr | d[n].len | d[n].flags) != 0)
		n++;
	return n;
}

static void
write_table(struct vring_env *e, const struct chain_case *c)
{
	const struct env_desc empty = {0, 0, D_NEXT, D_AUTO};
	uint16_t i;

	if (c->fill_empty)
		for (i = 0; i < c->fill_empty; i++)
			env_table(e, c->table_iova + i * 16ULL, &empty, 1);
	else if (c->table_iova)
		env_table(e, c->table_iova, c->t, count(c->t));
}

/* Lawful buffers that leave different regions as the one hit last. */
static const struct env_desc before[] = {
	{DATA_IOVA, 64, 0, 0},
	{DATA_IOVA, 64, D_WRITE, 0},
	{ROM_IOVA, 64, 0, 0},
	{SINK_IOVA, 64, D_WRITE, 0},
	{TOP_IOVA, 64, 0, 0},
	{HUGE_IOVA, 64, D_WRITE, 0},
	{RING_IOVA, 64, 0, 0},
	{MORE_IOVA + 64, 64, D_WRITE, 0},
};

/* The bad chain behind three lawful buffers, in one burst with them and in the next one. */
static void
run_behind(const struct chain_case *c, bool packed, const struct env_desc *first, bool next_burst)
{
	uint64_t features = (packed ? F_PACKED : 0) | (c->indirect_off ? 0 : F_INDIRECT);
	struct vring_env *e = env_new(SIZE, features, c->max_segs);
	uint16_t i;

	write_table(e, c);
	for (i = 0; i < 3; i++)
		env_put(e, first, 1);
	if (next_burst) {
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 3);
		env_touch(e, e->chains, 3);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 2), 0);
		vring_dev_flush(&e->dev);
	}
	env_put(e, c->d, count(c->d));
	env_put_good(e, 9, 0);
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	assert_int_equal(env_peek(e, 8), next_burst ? 0 : 3);
	if (!next_burst)
		env_touch(e, e->chains, 3);
	env_assert_broken(e, c->error);
	env_free(e);
}

static void
run_chain(const struct chain_case *c, bool packed)
{
	size_t i;

	for (i = 0; i < NR(before); i++)
		/* A table that lies where the lawful buffers write is theirs. */
		if (c->table_iova != SINK_IOVA || before[i].addr != SINK_IOVA) {
			run_behind(c, packed, &before[i], false);
			if (i < 2)
				run_behind(c, packed, &before[i], true);
		}
}

static void
chain_split(void **state)
{
	run_chain(*state, false);
}

static void
chain_packed(void **state)
{
	run_chain(*state, true);
}

/* --- the available ring itself, split --- */

static void
publish(struct vring_env *e, uint16_t index)
{
	env_avail(e)->idx = htole16(index);
}

static void
index_case(uint16_t start, uint16_t in_flight, uint16_t index, bool good)
{
	struct vring_state s = {start, start};
	struct vring_env *e = env_new_at(SIZE, 0, 0, s);
	uint16_t i;

	for (i = 0; i < SIZE; i++)
		env_put_good(e, i, 0);
	publish(e, start + in_flight);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, SIZE, e->segs, ENV_NR_SEGS), in_flight);
	publish(e, start + index);
	if (good) {
		assert_int_equal(env_peek(e, 64), index - in_flight);
		assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	} else {
		assert_int_equal(env_peek(e, 64), 0);
		env_assert_broken(e, VRING_ERR_INDEX);
	}
	env_free(e);
}

static void
index_may_be_ahead_by_the_ring_size_only(void **state)
{
	static const uint16_t starts[] = {0, 1, 0x7fff, 0xfff0, 0xffff};
	size_t k;

	(void)state;
	for (k = 0; k < NR(starts); k++) {
		index_case(starts[k], 0, SIZE, true);
		index_case(starts[k], 0, SIZE + 1, false);
		index_case(starts[k], 0, 0x7fff, false);
		index_case(starts[k], 0, 0x8000, false);
		index_case(starts[k], 0, 0xffff, false);
		index_case(starts[k], 5, SIZE, true);
		index_case(starts[k], 5, SIZE + 1,
			false); /* lawful only if the five were given back */
		index_case(starts[k], 5, 4, false);
		index_case(starts[k], SIZE, SIZE, true);
		index_case(starts[k], SIZE, SIZE + 1, false);
	}
}

static void
index_may_not_take_back_what_was_published(void **state)
{
	struct vring_env *e = env_new(SIZE, 0, 0);
	uint16_t i;

	(void)state;
	for (i = 0; i < 6; i++)
		env_put_good(e, i, 0);
	assert_int_equal(env_peek(e, SIZE), 6);
	publish(e, 3);
	/* What was seen before stays good. */
	assert_int_equal(env_peek(e, SIZE), 6);
	env_assert_broken(e, VRING_ERR_INDEX);
	env_free(e);
}

static void
index_runs_away_behind_good_buffers(void **state)
{
	struct vring_env *e = env_new(SIZE, 0, 0);
	uint16_t i;

	(void)state;
	for (i = 0; i < 6; i++)
		env_put_good(e, i, 0);
	assert_int_equal(env_peek(e, 4), 4);
	vring_dev_consume(&e->dev, e->chains, 4);
	publish(e, 1000);
	assert_int_equal(env_peek(e, SIZE), 2);
	env_touch(e, e->chains, 2);
	env_assert_broken(e, VRING_ERR_INDEX);
	env_free(e);
}

static void
largest_ring_index_is_bounded_too(void **state)
{
	struct vring_env *e = env_new(32768, 0, 0);

	(void)state;
	env_put_good(e, 0, 0);
	publish(e, 32769);
	assert_int_equal(env_peek(e, 8), 0);
	env_assert_broken(e, VRING_ERR_INDEX);
	env_free(e);
}

static void
head_case(uint16_t head, uint16_t place, uint16_t nr)
{
	struct vring_env *e = env_new(128, 0, 0);
	uint16_t i;

	for (i = 0; i < nr; i++)
		env_put_good(e, i, 0);
	env_avail(e)->ring[place] = htole16(head);
	assert_int_equal(env_peek(e, nr), place);
	env_touch(e, e->chains, place);
	env_assert_broken(e, VRING_ERR_HEAD);
	env_free(e);
}

static void
heads_out_of_range_are_refused(void **state)
{
	(void)state;
	head_case(128, 0, 1);
	head_case(129, 0, 5);
	head_case(0x8000, 4, 5);
	head_case(65535, 2, 100);
	head_case(255, 63, 128);
	head_case(256, 64, 128);
	head_case(65408, 127, 128); /* a multiple of the size */
}

static void
the_same_head_twice_is_the_drivers_affair(void **state)
{
	struct vring_env *e = env_new(4, 0, 0);

	(void)state;
	env_put_good(e, 0, 0);
	env_put_good(e, 1, 0);
	env_avail(e)->ring[1] = env_avail(e)->ring[0];
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS), 2);
	env_touch(e, e->chains, 2);
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 2), 0);
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 1), -EINVAL);
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	env_free(e);
}

/* --- the ring itself, packed --- */

static void
packed_chain_without_end(void **state)
{
	static const uint16_t flags[] = {D_NEXT, D_NEXT | D_WRITE};
	uint16_t i, j, before;

	(void)state;
	for (i = 0; i < NR(flags); i++)
		for (before = 0; before < 8; before++) {
			struct vring_env *e = env_new(8, F_PACKED, 0);
			struct env_desc d[8];

			for (j = 0; j < before; j++)
				env_put_good(e, j, 0);
			for (j = 0; j < 8; j++)
				d[j] = (struct env_desc){DATA_IOVA, 8, flags[i], 0};
			env_put(e, d, 8 - before);
			assert_int_equal(env_peek(e, 8), before);
			env_touch(e, e->chains, before);
			env_assert_broken(e, VRING_ERR_LOOP);
			env_free(e);
		}
}

static void
packed_chain_runs_into_what_is_in_flight(void **state)
{
	struct vring_env *e = env_new(8, F_PACKED, 0);
	struct env_desc d[4];
	uint16_t i;

	(void)state;
	for (i = 0; i < 5; i++)
		env_put_good(e, i, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 8, e->segs, ENV_NR_SEGS), 5);
	for (i = 0; i < 4; i++)
		d[i] = (struct env_desc){DATA_IOVA, 8, i < 3 ? D_NEXT : 0, 0};
	env_put(e, d, 4);
	assert_int_equal(env_peek(e, 8), 0);
	env_assert_broken(e, VRING_ERR_LOOP);
	env_free(e);
}

static void
packed_ring_is_refilled_before_it_was_used(void **state)
{
	uint16_t in_flight;

	(void)state;
	for (in_flight = 0; in_flight <= 8; in_flight++) {
		struct vring_env *e = env_new(8, F_PACKED, 0);
		uint16_t i;

		for (i = 0; i < 8; i++)
			env_put_good(e, i, 0);
		assert_int_equal(vring_dev_pop(&e->dev, e->chains, in_flight, e->segs, ENV_NR_SEGS),
			in_flight);
		/* Slots in flight, made available once more for the next round. */
		for (i = 0; i < 8 && i < in_flight; i++)
			env_put_good(e, i, 0);
		assert_int_equal(env_peek(e, 16), 8 - in_flight);
		if (in_flight == 0) {
			assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
		} else {
			env_touch(e, e->chains, 8 - in_flight);
			env_assert_broken(e, VRING_ERR_INDEX);
		}
		env_free(e);
	}
}

static void
packed_slots_pushed_and_not_flushed_are_not_free(void **state)
{
	struct vring_env *e = env_new(4, F_PACKED, 0);
	uint16_t i;

	(void)state;
	for (i = 0; i < 4; i++)
		env_put_good(e, i, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS), 4);
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 4), 0);
	env_put_good(e, 0, 0);
	assert_int_equal(env_peek(e, 4), 0);
	env_assert_broken(e, VRING_ERR_INDEX);
	env_free(e);
}

static void
packed_flags_that_are_not_available(void **state)
{
	static const uint16_t flags[] = {0, 0x8080, 0x8000, 0x7f7f, 0xff7f, 0xffff};
	struct vring_env *e = env_new(4, F_PACKED, 0);
	size_t i;

	(void)state;
	for (i = 0; i < NR(flags); i++) {
		env_packed_desc(e, 0)->flags = htole16(flags[i] & ~0x0080);
		assert_int_equal(env_peek(e, 4), 0);
		env_packed_desc(e, 0)->flags = htole16(flags[i] | 0x8000);
		assert_int_equal(env_peek(e, 4), 0);
	}
	assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
	env_free(e);
}

static void
packed_any_buffer_id_is_echoed(void **state)
{
	struct vring_env *e = env_new(4, F_PACKED, 0);

	(void)state;
	env_put_good(e, 0, 0);
	env_packed_desc(e, 0)->id = htole16(0xfffe);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS), 1);
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 1), 0);
	vring_dev_flush(&e->dev);
	assert_int_equal(env_packed_desc(e, 0)->id, htole16(0xfffe));
	env_free(e);
}

/* --- packed descriptors are taken four at a time where they are alike --- */

static const struct env_desc alike[] = {
	{DATA_IOVA, 64, 0, 0},
	{DATA_IOVA, 64, D_WRITE, 0},
	{ROM_IOVA, 64, 0, 0},
	{SINK_IOVA, 64, D_WRITE, 0},
	{DATA_IOVA + DATA_SIZE - 64, 64, D_WRITE, 0},
	{TOP_IOVA + TOP_SIZE - 1, 1, 0, 0},
	{ROM_IOVA, 64, D_WRITE, 0},
	{SINK_IOVA, 64, 0, 0},
};

/* Among those, lawful or not. */
static const struct env_desc odd[] = {
	{DATA_IOVA, 0, 0, 0},
	{NOWHERE_IOVA, 0, D_WRITE, 0},
	{NOWHERE_IOVA, 64, 0, 0},
	{DATA_IOVA - 1, 64, 0, 0},
	{DATA_IOVA + DATA_SIZE - 63, 64, D_WRITE, 0},
	{SINK_IOVA + SINK_SIZE - 63, 64, D_WRITE, 0},
	{SINK_IOVA + SINK_SIZE, 1, D_WRITE, 0},
	{SINK_IOVA, 0xffffffff, D_WRITE, 0},
	{TOP_IOVA + TOP_SIZE - 1, 2, 0, 0},
	{DATA_IOVA, 64, D_NEXT, 0},
	{DATA_IOVA, 64, D_NEXT | D_WRITE, 0},
	{TABLE_IOVA, 64, D_INDIRECT, 0},
	{DATA_IOVA, 64, 0x78, 0},
};

/* Of another round, or used; a bit or both tell. */
static void
not_available(struct vring_env *e, uint16_t slot, bool wrap, uint64_t *seed)
{
	const uint16_t flags[] = {0, 0x8080, wrap ? 0x8000 : 0x80};

	env_packed_desc(e, slot)->flags = htole16(flags[env_random(seed) % NR(flags)]);
}

/* Start anywhere, the first one's region hit last, some in flight, and fill some of the others. */
static void
four_fill(struct vring_env *e, uint64_t *seed)
{
	uint16_t slot = (uint16_t)(env_random(seed) % e->size), i;
	uint16_t in_flight = env_random(seed) % 4 ? 0 : (uint16_t)(env_random(seed) % e->size);
	bool wrap = env_random(seed) % 2, first_wrap = wrap;
	const struct vring_region *hit = NULL;
	uint32_t kind = env_random(seed) % NR(alike), rare = 2 + env_random(seed) % 40;
	uint16_t nr = (uint16_t)(env_random(seed) % (e->size + 1u));
	uint16_t first = slot, hole;

	for (i = 0; i < e->size; i++)
		not_available(e, i, (i >= slot) == wrap, seed);
	e->avail = slot;
	e->wrap = wrap;
	e->config.state.avail = slot | wrap << 15;
	if (in_flight > slot) {
		slot += e->size;
		wrap = !wrap;
	}
	e->config.state.used = (uint16_t)(slot - in_flight) | wrap << 15;
	assert_int_equal(vring_dev_init(&e->dev, &e->config), 0);
	for (i = 0; i < ENV_NR_REGIONS; i++)
		if (alike[kind].addr - e->regions[i].iova < e->regions[i].size)
			hit = &e->regions[i];
	e->dev.hit = (struct vring_hit){hit->iova, hit->size, hit->va, hit->perm};
	for (i = 0; i < nr; i++) {
		if (env_random(seed) % rare == 0)
			env_put(e, &odd[env_random(seed) % NR(odd)], 1);
		else
			env_put(e, &alike[kind], 1);
		if (env_random(seed) % 16 == 0)
			kind = env_random(seed) % NR(alike);
	}
	/* the first of a batch comes last */
	hole = (uint16_t)((first + env_random(seed) % e->size) % e->size);
	if (env_random(seed) % 2)
		not_available(e, hole, (hole >= first) == first_wrap, seed);
	/* what lies behind the ring looks as if it were of it */
	for (i = 0; i < 4; i++)
		*env_packed_desc(e, e->size + i) = *env_packed_desc(e, e->dev.avail);
}

static void
chains_alike(const struct vring_chain *a, const struct vring_chain *b)
{
	assert_int_equal(a->done.id, b->done.id);
	assert_int_equal(a->done.slots, b->done.slots);
	assert_int_equal(a->done.len, 0);
	assert_int_equal(a->nr_segs, b->nr_segs);
	assert_int_equal(a->nr_readable, b->nr_readable);
	assert_int_equal(a->readable_bytes, b->readable_bytes);
	assert_int_equal(a->writable_bytes, b->writable_bytes);
	for (uint16_t i = 0; i < a->nr_segs; i++) {
		assert_ptr_equal(a->segs[i].va, b->segs[i].va);
		assert_int_equal(a->segs[i].iova, b->segs[i].iova);
		assert_int_equal(a->segs[i].len, b->segs[i].len);
	}
}

static void
packed_four_at_a_time_are_as_one_by_one(void **state)
{
	static const uint16_t sizes[] = {3, 4, 7, 32};
	uint32_t nr_bursts = 0, nr_broken = 0;
	uint64_t seed = 77;

	(void)state;
	for (size_t s = 0; s < NR(sizes); s++) {
		struct vring_env *e = env_new(sizes[s], F_PACKED | F_INDIRECT, 8);

		for (uint32_t round = 0; round < 20000; round++) {
			uint16_t max = 1 + (uint16_t)(env_random(&seed) % 40), i, n, taken = 0;
			uint16_t nr_segs = 8 + (uint16_t)(env_random(&seed) % 40);
			struct vring_seg one_segs[8];
			struct vring_chain one;
			struct vring_dev q;

			four_fill(e, &seed);
			q = e->dev;
			e->chains[max].nr_segs = 0xabcd;
			e->segs[nr_segs].len = 0xabcdef;
			n = vring_dev_peek(&e->dev, e->chains, max, e->segs, nr_segs);
			assert_in_range(n, 0, max);
			assert_int_equal(e->chains[max].nr_segs, 0xabcd);
			assert_int_equal(e->segs[nr_segs].len, 0xabcdef);
			env_touch(e, e->chains, n);
			for (i = 0; i < n; i++) {
				assert_int_equal(vring_dev_pop(&q, &one, 1, one_segs, 8), 1);
				chains_alike(&e->chains[i], &one);
				taken += one.nr_segs;
			}
			/* what comes next is nothing, bad, or more than there was room for */
			i = vring_dev_peek(&q, &one, 1, one_segs, 8);
			if (n < max && nr_segs - taken >= 8) {
				assert_int_equal(i, 0);
				assert_int_equal(vring_dev_error(&e->dev), vring_dev_error(&q));
			}
			nr_bursts += n >= 8;
			nr_broken += vring_dev_error(&e->dev) != VRING_ERR_NONE;
		}
		env_free(e);
	}
	assert_true(nr_bursts > 5000 && nr_broken > 5000);
}

/* Random memory for ring and tables: whatever comes out must be inside the guest's memory. */
static void
random_rings(uint64_t features)
{
	uint64_t seed = 0x1234567 + features;
	uint32_t broken = 0, chains = 0, round, i;
	struct vring_env *e = env_new(16, features, 32);

	for (round = 0; round < 20000; round++) {
		uint16_t n;

		for (i = 0; i < 16; i++) {
			static const uint64_t bases[] = {DATA_IOVA, MORE_IOVA - 40, ROM_IOVA,
				SINK_IOVA, TOP_IOVA + TOP_SIZE - 64, NOWHERE_IOVA, RING_IOVA};
			static const uint16_t kinds[] = {0, 0, 0, D_WRITE, D_NEXT, D_NEXT,
				D_NEXT | D_WRITE, D_INDIRECT, D_INDIRECT | D_WRITE, 0x78};
			uint32_t r = env_random(&seed);
			struct env_desc d = {bases[r % (r & 64 ? 7 : 3)] + (r >> 8) % 48,
				env_random(&seed) % 3 ? 16 * (env_random(&seed) % 4) : r % 100,
				kinds[(r >> 20) % 10], env_random(&seed) % 18};

			if (e->packed)
				env_packed_desc(e, i)->flags = 0;
			/* Tables are in the data too, so that indirect ones find something. */
			env_table(e, bases[r % 3] + (env_random(&seed) % 3) * 16, &d, 1);
			env_put(e, &d, 1);
		}
		n = env_peek(e, 32);
		env_touch(e, e->chains, n);
		chains += n;
		broken += vring_dev_error(&e->dev) != VRING_ERR_NONE;
		e->config.state = e->packed ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START;
		e->avail = e->desc = 0;
		e->wrap = true;
		assert_int_equal(vring_dev_init(&e->dev, &e->config), 0);
	}
	/* The mixture is such that both happen often. */
	assert_true(broken > 10000 && chains > 10000);
	env_free(e);
}

static void
random_rings_stay_inside_memory(void **state)
{
	(void)state;
	random_rings(F_INDIRECT);
	random_rings(F_INDIRECT | F_PACKED);
	random_rings(0);
	random_rings(F_PACKED);
}

#define NR_TESTS (2 * NR(chain_cases) + NR(split_cases) + NR(packed_cases) + 16)

static struct CMUnitTest all[NR_TESTS];
static char names[NR_TESTS][96];
static size_t nr_all;

static void
add(const char *format, const char *name, CMUnitTestFunction f, const struct chain_case *c)
{
	snprintf(names[nr_all], sizeof(names[0]), "%s: %s", format, name);
	all[nr_all] = (struct CMUnitTest){names[nr_all], f, NULL, NULL, (void *)(uintptr_t)c};
	nr_all++;
}

int
main(void)
{
	size_t i;

	for (i = 0; i < NR(chain_cases); i++)
		add("split", chain_cases[i].name, chain_split, &chain_cases[i]);
	for (i = 0; i < NR(split_cases); i++)
		add("split", split_cases[i].name, chain_split, &split_cases[i]);
	for (i = 0; i < NR(chain_cases); i++)
		add("packed", chain_cases[i].name, chain_packed, &chain_cases[i]);
	for (i = 0; i < NR(packed_cases); i++)
		add("packed", packed_cases[i].name, chain_packed, &packed_cases[i]);
#define ADD(format, f) add(format, #f, f, NULL)
	ADD("split", index_may_be_ahead_by_the_ring_size_only);
	ADD("split", index_may_not_take_back_what_was_published);
	ADD("split", index_runs_away_behind_good_buffers);
	ADD("split", largest_ring_index_is_bounded_too);
	ADD("split", heads_out_of_range_are_refused);
	ADD("split", the_same_head_twice_is_the_drivers_affair);
	ADD("packed", packed_chain_without_end);
	ADD("packed", packed_chain_runs_into_what_is_in_flight);
	ADD("packed", packed_ring_is_refilled_before_it_was_used);
	ADD("packed", packed_slots_pushed_and_not_flushed_are_not_free);
	ADD("packed", packed_flags_that_are_not_available);
	ADD("packed", packed_any_buffer_id_is_echoed);
	ADD("packed", packed_four_at_a_time_are_as_one_by_one);
	ADD("both", random_rings_stay_inside_memory);
#undef ADD
	/* The macro's own counting of tests needs an array of the right length. */
	return _cmocka_run_group_tests("hostile", all, nr_all, NULL, NULL);
}
