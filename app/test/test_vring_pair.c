/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * lib/vring: driver side against device side, random but repeatable. Every buffer's content is
 * compared: what the device reads is what the driver wrote, and the other way round.
 */

#include <stdio.h>

#include "vring_copy.h"
#include "vring_env.h"

#define NR(a)      (sizeof(a) / sizeof((a)[0]))

#define MAX_PIECES 6
#define SLOT_BYTES 512u
#define NR_SLOTS   1024u /* buffer memory is as many slots, over three regions */

/* A buffer's life: what was sent, what the device is to answer. */
struct item {
	uint32_t number;
	uint32_t slot;
	uint16_t nr_out, nr_in;
	struct vring_buf bufs[MAX_PIECES];
	uint32_t out_bytes, in_bytes, answer_bytes;
	bool in_use;
};

struct run {
	struct vring_env *e;
	struct vring_drv drv;
	uint64_t features, seed;
	struct item items[NR_SLOTS];
	uint32_t sent, received, seen, kicks, signals;
	uint32_t answered;                /* by number, device side */
	struct vring_done held[NR_SLOTS]; /* consumed and not yet used */
	struct vring_chain held_chains[NR_SLOTS];
	uint32_t nr_held;
};

/* Content is a function of the buffer's number and the offset. */
static uint8_t
pattern(uint32_t number, uint32_t offset, uint8_t salt)
{
	return (uint8_t)(number * 31 + offset * 7 + (number >> 8) + salt);
}

static uint64_t
slot_iova(uint32_t slot)
{
	/* The middle slots lie over the border between two regions. */
	return MORE_IOVA - (uint64_t)(NR_SLOTS / 2) * SLOT_BYTES + (uint64_t)slot * SLOT_BYTES -
		100;
}

static void
fill(struct run *r, const struct item *it)
{
	uint32_t i, j, at = 0;

	for (i = 0; i < it->nr_out; i++)
		for (j = 0; j < it->bufs[i].len; j++)
			*(uint8_t *)env_ptr(r->e, it->bufs[i].iova + j) = pattern(
				it->number, at++, 1);
	for (; i < (uint32_t)it->nr_out + it->nr_in; i++)
		for (j = 0; j < it->bufs[i].len; j++)
			*(uint8_t *)env_ptr(r->e, it->bufs[i].iova + j) = 0;
}

/* A buffer of random shape; the first 4 readable bytes tell the device how much to write. */
static bool
send_one(struct run *r)
{
	uint32_t slot = env_random(&r->seed) % NR_SLOTS, at = 0, i, pieces;
	struct item *it = &r->items[slot];
	struct vring_table table = {NULL, 0, MAX_PIECES};
	int ret;

	if (it->in_use)
		return true;
	*it = (struct item){.number = r->sent, .slot = slot};
	pieces = env_random(&r->seed) % 3 ? 1 : env_random(&r->seed) % MAX_PIECES + 1;
	if (pieces > r->e->size)
		pieces = r->e->size;
	it->nr_out = (uint16_t)(env_random(&r->seed) % (pieces + 1));
	it->nr_in = (uint16_t)(pieces - it->nr_out);
	for (i = 0; i < pieces; i++) {
		it->bufs[i] = (struct vring_buf){slot_iova(slot) + at, env_random(&r->seed) % 60};
		if (env_random(&r->seed) % 4 == 0)
			it->bufs[i].len = 64;
		*(i < it->nr_out ? &it->out_bytes : &it->in_bytes) += it->bufs[i].len;
		at += it->bufs[i].len;
	}
	it->answer_bytes = it->in_bytes ? env_random(&r->seed) % (it->in_bytes + 1) : 0;
	if (r->features & F_INDIRECT && env_random(&r->seed) & 1) {
		/* Inside the slot, behind the data; mappings are contiguous but at the border. */
		table.iova = slot_iova(slot) + 400;
		table.iova += -table.iova & 7;
		table.va = env_ptr(r->e, table.iova);
		if (table.iova < MORE_IOVA && table.iova + 16 * MAX_PIECES > MORE_IOVA)
			table.va = NULL;
	}
	fill(r, it);
	ret = vring_drv_add(&r->drv, it->bufs, it->nr_out, it->nr_in, it, table.va ? &table : NULL);
	if (ret == -ENOSPC)
		return false;
	assert_int_equal(ret, 0);
	it->in_use = true;
	r->sent++;
	return true;
}

static void
driver_turn(struct run *r)
{
	uint32_t burst = env_random(&r->seed) % 20;

	while (burst-- > 0 && send_one(r))
		if (env_random(&r->seed) % 8 == 0)
			vring_drv_publish(&r->drv);
	vring_drv_publish(&r->drv);
	r->kicks += vring_drv_kick_needed(&r->drv);
}

/* Find whose buffer this is by its addresses; check what can be read, write the answer. */
static struct item *
device_serve(struct run *r, const struct vring_chain *c)
{
	uint8_t flat[SLOT_BYTES];
	struct vring_cursor cur = vring_cursor_readable(c);
	struct item *it = NULL;
	uint32_t i;

	for (i = 0; i < NR_SLOTS && c->nr_segs > 0; i++)
		if (c->segs[0].iova - slot_iova(i) < SLOT_BYTES)
			it = &r->items[i];
	if (it == NULL)
		return NULL; /* all its pieces are empty */
	assert_true(it->in_use);
	assert_int_equal(c->readable_bytes, it->out_bytes);
	assert_int_equal(c->writable_bytes, it->in_bytes);
	assert_int_equal(vring_copy_from(flat, &cur, SLOT_BYTES), it->out_bytes);
	for (i = 0; i < it->out_bytes; i++)
		assert_int_equal(flat[i], pattern(it->number, i, 1));
	for (i = 0; i < it->answer_bytes; i++)
		flat[i] = pattern(it->number, i, 77);
	cur = vring_cursor_writable(c);
	assert_int_equal(vring_copy_to(&cur, flat, it->answer_bytes), it->answer_bytes);
	return it;
}

static void
device_take(struct run *r)
{
	uint16_t n = env_peek(r->e, env_random(&r->seed) % 40), take, i;

	take = n ? env_random(&r->seed) % (n + 1) : 0;
	vring_dev_consume(&r->e->dev, r->e->chains, take);
	/* Now and then the device thinks better of it. */
	if (take > 2 && env_random(&r->seed) % 4 == 0) {
		uint16_t back = env_random(&r->seed) % take;

		assert_int_equal(vring_dev_unpop(&r->e->dev, r->e->chains + take - back, back), 0);
		take -= back;
	}
	for (i = 0; i < take; i++) {
		struct item *it = device_serve(r, &r->e->chains[i]);

		r->e->chains[i].done.len = it ? it->answer_bytes : 0;
		r->held_chains[r->nr_held] = r->e->chains[i];
		r->held[r->nr_held++] = r->e->chains[i].done;
	}
	r->seen += take;
}

static void
drop_held(struct run *r, uint32_t nr)
{
	r->nr_held -= nr;
	memmove(r->held, r->held + nr, r->nr_held * sizeof(r->held[0]));
	memmove(r->held_chains, r->held_chains + nr, r->nr_held * sizeof(r->held_chains[0]));
}

/* In order, a batch may only cover what is written completely before its last one. */
static uint32_t
batch_length(const struct run *r)
{
	uint32_t nr = 1;

	while (nr < r->nr_held && r->held[nr - 1].len == r->held_chains[nr - 1].writable_bytes)
		nr++;
	return nr;
}

static void
device_give(struct run *r)
{
	uint32_t nr, i;

	if (r->nr_held == 0)
		return;
	nr = env_random(&r->seed) % r->nr_held + 1;
	if (r->features & F_IN_ORDER) {
		if (env_random(&r->seed) & 1) {
			nr = batch_length(r);
			assert_int_equal(vring_dev_push_batch(&r->e->dev, r->held_chains, nr), 0);
		} else {
			assert_int_equal(vring_dev_push(&r->e->dev, r->held, nr), 0);
		}
	} else {
		/* Out of order. */
		for (i = 0; i < nr; i++) {
			uint32_t other = env_random(&r->seed) % r->nr_held;
			struct vring_done d = r->held[i];

			r->held[i] = r->held[other];
			r->held[other] = d;
		}
		assert_int_equal(vring_dev_push(&r->e->dev, r->held, nr), 0);
	}
	drop_held(r, nr);
	if (env_random(&r->seed) % 3)
		vring_dev_flush(&r->e->dev);
	if (env_random(&r->seed) % 3)
		r->signals += vring_dev_signal_needed(&r->e->dev);
}

static void
driver_take(struct run *r)
{
	struct vring_drv_done done[40];
	uint16_t n = vring_drv_get(&r->drv, done, env_random(&r->seed) % 40), i;

	for (i = 0; i < n; i++) {
		struct item *it = done[i].cookie;
		uint32_t len = it->answer_bytes, at = 0, k, j;

		assert_true(it->in_use);
		assert_int_equal(done[i].flags & VRING_DONE_CLAMPED, 0);
		assert_int_equal(done[i].len, len);
		for (k = it->nr_out; k < (uint32_t)it->nr_out + it->nr_in; k++)
			for (j = 0; j < it->bufs[k].len; j++, at++) {
				uint8_t v = *(uint8_t *)env_ptr(r->e, it->bufs[k].iova + j);

				assert_int_equal(v, at < len ? pattern(it->number, at, 77) : 0);
			}
		if (r->features & F_IN_ORDER)
			assert_int_equal(it->number, r->received);
		it->in_use = false;
		r->received++;
	}
}

/* The same device stops and another goes on where it was, now and then. */
static void
device_exchange(struct run *r)
{
	if (r->nr_held > 0)
		return;
	vring_dev_rewind(&r->e->dev);
	r->e->config.state = vring_dev_state(&r->e->dev);
	assert_int_equal(r->e->config.state.avail, r->e->config.state.used);
	assert_int_equal(vring_dev_init(&r->e->dev, &r->e->config), 0);
}

static void
run_one(uint16_t size, uint64_t features, uint32_t nr)
{
	struct run *r = calloc(1, sizeof(*r));
	uint32_t turns = 0;

	assert_non_null(r);
	r->e = env_new(size, features, 0);
	r->features = features;
	r->seed = 88172645463325252ULL + size * 1000003ULL + features;
	assert_int_equal(vring_drv_init(&r->drv, &r->e->config), 0);
	while (r->received < nr) {
		assert_true(turns++ < nr * 60 + 1000);
		switch (env_random(&r->seed) % 9) {
		case 0:
		case 1:
			driver_turn(r);
			break;
		case 2:
		case 3:
			device_take(r);
			break;
		case 4:
		case 5:
			device_give(r);
			break;
		case 6:
			device_exchange(r);
			break;
		default:
			driver_take(r);
		}
		assert_int_equal(vring_dev_error(&r->e->dev), VRING_ERR_NONE);
		assert_int_equal(vring_drv_error(&r->drv), VRING_ERR_NONE);
	}
	assert_true(r->seen >= r->received && r->sent >= r->seen);
	vring_drv_fini(&r->drv);
	env_free(r->e);
	free(r);
}

struct combination {
	uint64_t features;
	char name[80];
};

static void
round_trips(void **state)
{
	static const uint16_t split[] = {1, 2, 8, 64, 256};
	static const uint16_t packed[] = {1, 2, 3, 7, 64, 100, 256};
	const struct combination *c = *state;
	size_t i;

	if (c->features & F_PACKED)
		for (i = 0; i < NR(packed); i++)
			run_one(packed[i], c->features, packed[i] < 8 ? 1000 : 4000);
	else
		for (i = 0; i < NR(split); i++)
			run_one(split[i], c->features, split[i] < 8 ? 1000 : 4000);
}

/* Long enough for the free-running indices and the wrap counters to go round with full checks. */
static void
indices_go_round(void **state)
{
	(void)state;
	run_one(64, F_EVENT | F_INDIRECT, 70000);
	run_one(63, F_PACKED | F_EVENT | F_INDIRECT, 70000);
}

int
main(void)
{
	static const uint64_t bits[] = {F_PACKED, F_INDIRECT, F_EVENT, F_IN_ORDER};
	static struct combination c[16];
	struct CMUnitTest tests[17];
	unsigned int i, j;

	for (i = 0; i < 16; i++) {
		for (j = 0; j < 4; j++)
			if (i >> j & 1)
				c[i].features |= bits[j];
		snprintf(c[i].name, sizeof(c[i].name), "%s%s%s%s", i & 1 ? "packed" : "split",
			i & 2 ? ", indirect" : "", i & 4 ? ", event index" : "",
			i & 8 ? ", in order" : "");
		tests[i] = (struct CMUnitTest){c[i].name, round_trips, NULL, NULL, &c[i]};
	}
	tests[16] = (struct CMUnitTest)cmocka_unit_test(indices_go_round);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
