/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* lib/vring: who asks for notifications, who suppresses them, and what the other side does. */

#include "vring_env.h"

#define NR(a)    (sizeof(a) / sizeof((a)[0]))

#define ENABLE   0u
#define DISABLE  (1u << 16)
#define DESC     (2u << 16)
#define RESERVED (3u << 16)

/* Use nr buffers of one slot and flush. */
static void
use(struct vring_env *e, uint16_t nr)
{
	uint16_t i;

	for (i = 0; i < nr; i++)
		env_put_good(e, i, 0);
	assert_int_equal(vring_dev_pop(&e->dev, e->chains, nr, e->segs, ENV_NR_SEGS), nr);
	assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, nr), 0);
	vring_dev_flush(&e->dev);
}

static bool
signal_after(struct vring_env *e, uint16_t nr)
{
	use(e, nr);
	return vring_dev_signal_needed(&e->dev);
}

static void
split_flags_decide_without_event_index(void **state)
{
	struct vring_env *e = env_new(8, 0, 0);

	(void)state;
	assert_false(vring_dev_signal_needed(&e->dev));
	assert_true(signal_after(e, 1));
	assert_false(vring_dev_signal_needed(&e->dev));
	env_avail(e)->flags = htole16(VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(signal_after(e, 8));
	/* Asked and answered: what came before the flag is not signalled later. */
	env_avail(e)->flags = 0;
	assert_false(vring_dev_signal_needed(&e->dev));
	assert_true(signal_after(e, 1));
	/* Only this bit means anything. */
	env_avail(e)->flags = htole16(0xfffe);
	assert_true(signal_after(e, 1));
	/* Nothing pushed, nothing flushed: nothing to say. */
	env_avail(e)->flags = 0;
	vring_dev_flush(&e->dev);
	assert_false(vring_dev_signal_needed(&e->dev));
	env_free(e);
}

static void
split_event_index_decides_over_the_burst(void **state)
{
	static const uint16_t starts[] = {0, 1, 100, 0x7ffe, 0xfffc, 0xffff};
	size_t k;
	int distance;

	(void)state;
	for (k = 0; k < NR(starts); k++)
		for (distance = -3; distance < 20; distance++) {
			struct vring_state s = {starts[k], starts[k]};
			struct vring_env *e = env_new_at(16, F_EVENT, 0, s);
			uint16_t event = starts[k] + 1 + distance;

			env_avail(e)->flags = htole16(VRING_AVAIL_F_NO_INTERRUPT);
			assert_true(signal_after(e, 1)); /* the first is always */
			env_avail(e)->ring[16] = htole16(event);
			/* Bursts of 5, 0, 7 and 2 entries; the first four of them judged as one. */
			use(e, 5);
			use(e, 7);
			assert_int_equal(
				vring_dev_signal_needed(&e->dev), distance >= 0 && distance < 12);
			assert_int_equal(signal_after(e, 2), distance >= 12 && distance < 14);
			env_free(e);
		}
}

static void
split_event_is_signalled_once_a_round(void **state)
{
	struct vring_env *e = env_new(64, F_EVENT, 0);
	uint32_t total = 0, signals = 0;

	(void)state;
	assert_true(signal_after(e, 1));
	env_avail(e)->ring[64] = htole16(1000);
	for (total = 1; total < 1 + 65536 * 3; total += 48)
		signals += signal_after(e, 48);
	assert_int_equal(signals, 3);
	env_free(e);
}

static void
undecided_rounds_are_signalled(void **state)
{
	uint64_t f[] = {F_EVENT, F_EVENT | F_PACKED};
	size_t k;

	(void)state;
	for (k = 0; k < NR(f); k++) {
		struct vring_env *e = env_new(64, f[k], 0);
		uint32_t total;

		assert_true(signal_after(e, 1));
		if (e->packed)
			*env_driver_event(e) = htole32(DESC | 0x8000 | 3);
		else
			env_avail(e)->ring[64] = htole16(3);
		/* The decision was put off for so long that the event may have passed unnoticed. */
		for (total = 0; total < 65536 * 2; total += 64)
			use(e, 64);
		assert_true(vring_dev_signal_needed(&e->dev));
		assert_false(vring_dev_signal_needed(&e->dev));
		env_free(e);
	}
}

static void
packed_flags_decide(void **state)
{
	static const struct {
		uint64_t features;
		uint32_t event;
		bool signal;
	} c[] = {
		{F_PACKED, ENABLE, true},
		{F_PACKED, DISABLE, false},
		{F_PACKED, DESC, true}, /* not agreed, so it cannot mean "not now" */
		{F_PACKED, RESERVED, true},
		{F_PACKED, DISABLE | 0xfffc0000, false},
		{F_PACKED | F_EVENT, ENABLE, true},
		{F_PACKED | F_EVENT, ENABLE | 0x1234, true},
		{F_PACKED | F_EVENT, DISABLE, false},
		{F_PACKED | F_EVENT, DISABLE | 0x8001, false},
		{F_PACKED | F_EVENT, DESC | 0x8000 | 7, false},
		{F_PACKED | F_EVENT, DESC | 0x8000 | 1, true},
		{F_PACKED | F_EVENT, DESC | 0x8000 | 3, true},
		{F_PACKED | F_EVENT, DESC | 0x8000 | 4, false},
		{F_PACKED | F_EVENT, DESC | 0x8000, false},
		{F_PACKED | F_EVENT, DESC | 2, false},
		{F_PACKED | F_EVENT, DESC | 0xffff, false}, /* no slot of this ring */
		{F_PACKED | F_EVENT, RESERVED | 0x8000 | 7, true},
	};
	size_t i;

	(void)state;
	for (i = 0; i < NR(c); i++) {
		struct vring_env *e = env_new(8, c[i].features, 0);

		assert_false(vring_dev_signal_needed(&e->dev));
		assert_true(signal_after(e, 1));
		*env_driver_event(e) = htole32(c[i].event);
		assert_int_equal(signal_after(e, 3), c[i].signal);
		assert_false(vring_dev_signal_needed(&e->dev));
		env_free(e);
	}
}

static void
packed_event_is_signalled_once_in_two_rounds(void **state)
{
	static const uint16_t sizes[] = {1, 2, 3, 7, 64, 100};
	size_t k;

	(void)state;
	for (k = 0; k < NR(sizes); k++) {
		uint16_t size = sizes[k], event, burst;

		for (event = 0; event < 2 * size; event += 1 + size / 8)
			for (burst = 1; burst <= size; burst += 1 + size / 4) {
				struct vring_env *e = env_new(size, F_PACKED | F_EVENT, 0);
				uint32_t total = 1, signals = 0, want = 0, i;
				/* Entries count from 0; a double round has each place once. */
				uint32_t place = event;

				assert_true(signal_after(e, 1));
				*env_driver_event(e) = htole32(
					DESC | (place % size) | (place < size ? 0x8000 : 0));
				while (total < 12u * size) {
					bool hit = false;

					for (i = total; i < total + burst; i++)
						hit |= i % (2 * size) == place;
					want += hit;
					assert_int_equal(signal_after(e, burst), hit);
					signals += hit;
					total += burst;
				}
				assert_int_equal(signals, want);
				assert_true(want >= 1);
				env_free(e);
			}
	}
}

/* Behind the used ring. */
static const uint16_t *
avail_event(const struct vring_env *e)
{
	return env_ptr(e, e->config.device_iova + vring_device_bytes(e->size, F_EVENT) - 2);
}

static void
device_arm_writes_the_wish_and_looks_again(void **state)
{
	static const uint64_t f[] = {0, F_EVENT, F_PACKED, F_PACKED | F_EVENT};
	size_t k;
	uint16_t round;

	(void)state;
	for (k = 0; k < NR(f); k++) {
		struct vring_env *e = env_new(4, f[k], 0);

		for (round = 0; round < 11; round++) {
			struct vring_state s = vring_dev_state(&e->dev);

			assert_false(vring_dev_arm(&e->dev));
			if (e->packed)
				assert_int_equal(le32toh(*env_device_event(e)),
					f[k] & F_EVENT ? DESC | s.avail : ENABLE | s.avail);
			else if (f[k] & F_EVENT)
				assert_int_equal(*avail_event(e), htole16(s.avail));
			else
				assert_int_equal(env_used(e)->flags, 0);
			env_put_good(e, 0, 0);
			assert_true(vring_dev_arm(&e->dev));
			vring_dev_disarm(&e->dev);
			if (e->packed)
				assert_int_equal(le32toh(*env_device_event(e)), DISABLE);
			else if (!(f[k] & F_EVENT))
				assert_int_equal(
					env_used(e)->flags, htole16(VRING_USED_F_NO_NOTIFY));
			assert_int_equal(
				vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS), 1);
			assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, 1), 0);
			vring_dev_flush(&e->dev);
		}
		env_free(e);
	}
}

/* Both sides of ours on one ring. */
struct pair {
	struct vring_env *e;
	struct vring_drv drv;
};

static void
pair_new(struct pair *p, uint16_t size, uint64_t features)
{
	p->e = env_new(size, features, 0);
	assert_int_equal(vring_drv_init(&p->drv, &p->e->config), 0);
}

static void
pair_free(struct pair *p)
{
	vring_drv_fini(&p->drv);
	env_free(p->e);
}

static void
pair_add(struct pair *p, uint16_t nr)
{
	struct vring_buf buf = {DATA_IOVA, 64};

	while (nr-- > 0)
		assert_int_equal(vring_drv_add(&p->drv, &buf, 1, 0, p, NULL), 0);
	vring_drv_publish(&p->drv);
}

static uint16_t
pair_use(struct pair *p, uint16_t nr)
{
	nr = vring_dev_pop(&p->e->dev, p->e->chains, nr, p->e->segs, ENV_NR_SEGS);
	assert_int_equal(vring_dev_push_chains(&p->e->dev, p->e->chains, nr), 0);
	vring_dev_flush(&p->e->dev);
	return nr;
}

/* Events 0 and 1: each side armed or not; expected: it is notified exactly if it was. */
static void
suppression_matrix(void **state)
{
	static const uint64_t f[] = {0, F_EVENT, F_IN_ORDER, F_PACKED, F_PACKED | F_EVENT,
		F_PACKED | F_EVENT | F_IN_ORDER};
	struct vring_drv_done done[64];
	size_t k;
	uint32_t round;

	(void)state;
	for (k = 0; k < NR(f); k++) {
		uint64_t seed = 17 + k;
		struct pair p;

		pair_new(&p, f[k] & F_PACKED ? 48 : 32, f[k]);
		pair_add(&p, 1);
		pair_use(&p, 1);
		assert_true(vring_dev_signal_needed(&p.e->dev));
		assert_true(vring_drv_kick_needed(&p.drv));
		assert_int_equal(vring_drv_get(&p.drv, done, 64), 1);
		for (round = 0; round < 20000; round++) {
			uint16_t nr = env_random(&seed) % 24 + 1, more = env_random(&seed) % 4;
			bool kicks = env_random(&seed) & 1, signals = env_random(&seed) & 1;

			if (kicks)
				assert_false(vring_dev_arm(&p.e->dev));
			else
				vring_dev_disarm(&p.e->dev);
			if (signals)
				assert_false(vring_drv_arm(&p.drv));
			else
				vring_drv_disarm(&p.drv);
			pair_add(&p, nr);
			assert_int_equal(vring_drv_kick_needed(&p.drv), kicks);
			assert_false(vring_drv_kick_needed(&p.drv));
			/* With event index one was asked for, so the next is not sent. */
			pair_add(&p, more);
			assert_int_equal(
				vring_drv_kick_needed(&p.drv), kicks && more && !(f[k] & F_EVENT));
			assert_int_equal(pair_use(&p, nr), nr);
			assert_int_equal(vring_dev_signal_needed(&p.e->dev), signals);
			assert_int_equal(pair_use(&p, 64), more);
			assert_int_equal(vring_dev_signal_needed(&p.e->dev),
				signals && more && !(f[k] & F_EVENT));
			assert_int_equal(vring_drv_get(&p.drv, done, 64), nr + more);
		}
		pair_free(&p);
	}
}

static void
driver_arm_sees_what_came_in_between(void **state)
{
	static const uint64_t f[] = {0, F_EVENT, F_PACKED, F_PACKED | F_EVENT};
	struct vring_drv_done done[4];
	size_t k;
	uint16_t round;

	(void)state;
	for (k = 0; k < NR(f); k++) {
		struct pair p;

		pair_new(&p, 4, f[k]);
		for (round = 0; round < 11; round++) {
			assert_false(vring_drv_arm(&p.drv));
			pair_add(&p, 2);
			assert_false(vring_drv_arm(&p.drv));
			pair_use(&p, 1);
			assert_true(vring_drv_arm(&p.drv));
			pair_use(&p, 1);
			assert_int_equal(vring_drv_get(&p.drv, done, 1), 1);
			assert_true(vring_drv_arm(&p.drv));
			assert_int_equal(vring_drv_get(&p.drv, done, 4), 1);
			assert_false(vring_drv_arm(&p.drv));
		}
		pair_free(&p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_flags_decide_without_event_index),
		cmocka_unit_test(split_event_index_decides_over_the_burst),
		cmocka_unit_test(split_event_is_signalled_once_a_round),
		cmocka_unit_test(undecided_rounds_are_signalled),
		cmocka_unit_test(packed_flags_decide),
		cmocka_unit_test(packed_event_is_signalled_once_in_two_rounds),
		cmocka_unit_test(device_arm_writes_the_wish_and_looks_again),
		cmocka_unit_test(suppression_matrix),
		cmocka_unit_test(driver_arm_sees_what_came_in_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
