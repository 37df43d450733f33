/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * lib/vring with two threads: a driver that changes what it has published while the device reads
 * it, and both sides on one ring, asleep whenever the other has nothing for them.
 */

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include "vring_env.h"

#define NR(a) (sizeof(a) / sizeof((a)[0]))

/* --- a racing driver --- */

#define RACE_ROUNDS 150000

struct racer {
	struct vring_env *e;
	uint8_t *at[2]; /* 16-byte things that are rewritten: a descriptor, a table's entry */
	uint64_t good[2][2], bad[8][2];
	int stop;
};

static void
store16(uint8_t *at, const uint64_t v[2])
{
	__atomic_store_n((uint64_t *)at, htole64(v[0]), __ATOMIC_RELAXED);
	__atomic_store_n((uint64_t *)at + 1, htole64(v[1]), __ATOMIC_RELAXED);
}

static void *
race(void *arg)
{
	struct racer *r = arg;
	uint64_t seed = 5;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint32_t what = env_random(&seed) % 2;

		store16(r->at[what], r->bad[env_random(&seed) % 8]);
		store16(r->at[what], r->good[what]);
	}
	return NULL;
}

static uint64_t
tail(bool packed, uint32_t len, uint16_t flags, bool ring)
{
	if (packed)
		return len | (uint64_t)(flags | (ring ? 0x80 : 0)) << 48 | 1ULL << 32;
	return len | (uint64_t)flags << 32 | 1ULL << 48;
}

/* What a check could see once, and a use differently. Half of a pair may be old: all of it is. */
static void
racer_setup(struct racer *r, bool packed)
{
	const struct env_desc bad[8] = {
		{NOWHERE_IOVA, 64, 0, 0},
		{UINT64_MAX - 1, 0xffffffff, 0, 0},
		{DATA_IOVA, 0xfffffff0, D_WRITE, 0},
		{ROM_IOVA, 64, D_WRITE, 0},
		{SINK_IOVA, 64, 0, 0},
		{DATA_IOVA + DATA_SIZE - 1, 0x8000000, D_NEXT, 0},
		{NOWHERE_IOVA, 0xfffffff0, D_INDIRECT, 0},
		{TOP_IOVA + TOP_SIZE - 1, 0xffff, 0, 0},
	};
	struct vring_env *e = r->e;
	struct env_desc table = {DATA_IOVA + 4096, 32, D_INDIRECT, 0};
	struct env_desc t[2] = {{DATA_IOVA, 64, 0, 0}, {DATA_IOVA + 64, 64, 0, 0}};
	int i;

	for (i = 0; i < 8; i++) {
		r->bad[i][0] = bad[i].addr;
		/* The flags that make a packed descriptor available stay. */
		r->bad[i][1] = tail(packed, bad[i].len, bad[i].flags, true);
	}
	for (i = 0; i < 4; i++)
		env_put_good(e, 0, 0);
	env_table(e, DATA_IOVA + 4096, t, 2);
	env_put(e, &table, 1);
	r->at[0] = packed ? (uint8_t *)env_packed_desc(e, 0) : (uint8_t *)env_split_desc(e, 0);
	r->at[1] = env_ptr(e, DATA_IOVA + 4096);
	r->good[0][0] = DATA_IOVA;
	r->good[0][1] = tail(packed, 64, 0, true);
	r->good[1][0] = DATA_IOVA;
	r->good[1][1] = tail(packed, 64, 0, false);
}

static void
descriptors_change_under_the_devices_eyes(void **state)
{
	uint32_t round, good = 0, broken = 0;
	bool packed = *(const uint64_t *)*state != 0;
	struct racer r = {.e = env_new(8, *(const uint64_t *)*state | F_INDIRECT, 16)};
	struct vring_dev fresh;
	pthread_t thread;

	racer_setup(&r, packed);
	/* it has hit a region before, as those that take four descriptors at a time must have */
	env_peek(r.e, 8);
	fresh = r.e->dev;
	assert_int_equal(pthread_create(&thread, NULL, race, &r), 0);
	for (round = 0; round < RACE_ROUNDS || (good < 100 || broken < 100); round++) {
		uint16_t n, i, j;

		assert_true(round < 200 * RACE_ROUNDS);
		r.e->dev = fresh;
		n = env_peek(r.e, 8);
		good += n;
		broken += vring_dev_error(&r.e->dev) != VRING_ERR_NONE;
		/* Every segment is inside the guest's memory with the right permission, whatever
		 * the descriptor says by now; the ends are enough, guard pages have the rest. */
		for (i = 0; i < n; i++)
			for (j = 0; j < r.e->chains[i].nr_segs; j++) {
				const struct vring_seg *s = &r.e->chains[i].segs[j];
				uint64_t len = s->len;
				uint32_t perm = j < r.e->chains[i].nr_readable ? VRING_PERM_READ
									       : VRING_PERM_WRITE;

				assert_ptr_equal(
					vring_mem_ptr(&r.e->mem, s->iova, &len, perm), s->va);
				assert_int_equal(len, s->len);
			}
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	env_free(r.e);
}

static void *
race_index(void *arg)
{
	struct racer *r = arg;
	uint64_t seed = 9;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(
			&env_avail(r->e)->idx, htole16(env_random(&seed) % 24), __ATOMIC_RELAXED);
		__atomic_store_n(&env_avail(r->e)->ring[3], htole16(env_random(&seed) % 12),
			__ATOMIC_RELAXED);
	}
	return NULL;
}

static void
heads_and_index_change_under_the_devices_eyes(void **state)
{
	struct racer r = {.e = env_new(8, 0, 16)};
	struct vring_dev fresh = r.e->dev;
	uint32_t round, good = 0, broken = 0, i;
	pthread_t thread;

	(void)state;
	for (i = 0; i < 8; i++)
		env_put_good(r.e, i, 0);
	assert_int_equal(pthread_create(&thread, NULL, race_index, &r), 0);
	for (round = 0; round < RACE_ROUNDS || (good < 100 || broken < 100); round++) {
		uint16_t n;

		assert_true(round < 200 * RACE_ROUNDS);
		r.e->dev = fresh;
		n = env_peek(r.e, 16);
		assert_true(n <= 8);
		for (i = 0; i < n; i++) {
			assert_true(r.e->chains[i].done.id < 8);
			assert_int_equal(r.e->chains[i].segs[0].iova,
				DATA_IOVA + r.e->chains[i].done.id * 64);
		}
		good += n;
		broken += vring_dev_error(&r.e->dev) != VRING_ERR_NONE;
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	env_free(r.e);
}

/* --- both sides, each with its own thread --- */

#define FRAMES 30000

struct duplex {
	struct vring_env *e;
	struct vring_drv drv;
	sem_t kick, call;
	uint32_t kicks, calls, device_sleeps;
	bool in_order;
};

/* Asleep for ever is what a lost notification looks like. */
static void
sleep_on(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	assert_int_equal(sem_timedwait(sem, &until), 0);
	while (sem_trywait(sem) == 0)
		continue;
}

/* Adds one to every word of the request and writes it behind. */
static void *
device_thread(void *arg)
{
	struct duplex *d = arg;
	struct vring_env *e = d->e;
	uint32_t total = 0;

	while (total < FRAMES) {
		uint16_t n = vring_dev_pop(&e->dev, e->chains, 16, e->segs, ENV_NR_SEGS), i, k;

		assert_int_equal(vring_dev_error(&e->dev), VRING_ERR_NONE);
		if (n == 0) {
			if (!vring_dev_arm(&e->dev)) {
				d->device_sleeps++;
				sleep_on(&d->kick);
			}
			vring_dev_disarm(&e->dev);
			continue;
		}
		for (i = 0; i < n; i++) {
			const struct vring_seg *s = e->chains[i].segs;
			uint32_t w[4];

			assert_int_equal(e->chains[i].nr_segs, 2);
			memcpy(w, s[0].va, 16);
			for (k = 0; k < 4; k++)
				w[k]++;
			memcpy(s[1].va, w, 16);
			e->chains[i].done.len = 16;
		}
		if (d->in_order && total % 2)
			assert_int_equal(vring_dev_push_batch(&e->dev, e->chains, n), 0);
		else
			assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, n), 0);
		vring_dev_flush(&e->dev);
		if (vring_dev_signal_needed(&e->dev)) {
			d->calls++;
			sem_post(&d->call);
		}
		total += n;
	}
	return NULL;
}

static uint32_t
collect(struct duplex *d, uint32_t *free_slots, uint32_t *nr_free)
{
	struct vring_drv_done done[16];
	uint16_t n = vring_drv_get(&d->drv, done, 16), i, k;

	assert_int_equal(vring_drv_error(&d->drv), VRING_ERR_NONE);
	for (i = 0; i < n; i++) {
		uint32_t slot = (uint32_t)(uintptr_t)done[i].cookie, w[8];

		memcpy(w, env_ptr(d->e, DATA_IOVA + slot * 64ULL), 32);
		assert_int_equal(done[i].len, 16);
		for (k = 0; k < 4; k++)
			assert_int_equal(w[k] + 1, w[4 + k]);
		free_slots[(*nr_free)++] = slot;
	}
	return n;
}

static void
driver_send(struct duplex *d, uint32_t slot, uint32_t number)
{
	const struct vring_buf b[] = {
		{DATA_IOVA + slot * 64ULL, 16}, {DATA_IOVA + slot * 64ULL + 16, 16}};
	uint32_t w[8] = {number, number * 3, ~number, slot};

	memcpy(env_ptr(d->e, b[0].iova), w, 32);
	assert_int_equal(vring_drv_add(&d->drv, b, 1, 1, (void *)(uintptr_t)slot, NULL), 0);
}

static void
both_sides_sleep_and_wake(void **state)
{
	struct duplex d = {.e = env_new(32, *(const uint64_t *)*state, 0)};
	uint32_t slots[16], nr_free = 16, sent = 0, got = 0, i;
	uint64_t seed = 3;
	pthread_t thread;

	d.in_order = *(const uint64_t *)*state & F_IN_ORDER;
	for (i = 0; i < 16; i++)
		slots[i] = i;
	sem_init(&d.kick, 0, 0);
	sem_init(&d.call, 0, 0);
	assert_int_equal(vring_drv_init(&d.drv, &d.e->config), 0);
	assert_int_equal(pthread_create(&thread, NULL, device_thread, &d), 0);
	while (got < FRAMES) {
		uint32_t burst = env_random(&seed) % 16 + 1;

		for (i = 0; i < burst && nr_free > 0 && sent < FRAMES; i++)
			driver_send(&d, slots[--nr_free], sent++);
		vring_drv_publish(&d.drv);
		if (vring_drv_kick_needed(&d.drv)) {
			d.kicks++;
			sem_post(&d.kick);
		}
		got += collect(&d, slots, &nr_free);
		if (nr_free == 0 || sent == FRAMES) {
			if (got < FRAMES && !vring_drv_arm(&d.drv))
				sleep_on(&d.call);
			vring_drv_disarm(&d.drv);
		}
	}
	pthread_join(thread, NULL);
	assert_int_equal(nr_free, 16);
	/* There was something to lose, and not everything was notified. */
	assert_true(d.kicks > 0 && d.calls > 0 && d.device_sleeps > 0);
	vring_drv_fini(&d.drv);
	env_free(d.e);
}

/* --- the same without sleeping, one buffer at a time: only this finds a missing fence --- */

#define PINGS   400000
#define PINGS_S 10 /* no longer where both sides seldom have a CPU at once */

struct ping {
	struct vring_env *e;
	struct vring_drv drv;
	uint32_t kicked, called; /* notifications sent, by the other side */
	uint32_t nr;             /* buffers in all */
};

static time_t
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Wait until the other side has sent one more; it must. */
static void
await_notification(const uint32_t *sent, uint32_t *seen)
{
	time_t until = seconds() + 30;
	uint32_t spins = 0;

	while (__atomic_load_n(sent, __ATOMIC_ACQUIRE) == *seen) {
		if (++spins % 256 == 0)
			sched_yield();
		if (spins % 65536 == 0)
			assert_true(seconds() < until);
	}
	*seen = __atomic_load_n(sent, __ATOMIC_ACQUIRE);
}

/* The two meet at a different moment every time. */
static void
jitter(uint64_t *seed)
{
	volatile uint32_t i = env_random(seed) % 128;

	while (i > 0)
		i--;
}

static void *
ping_device(void *arg)
{
	struct ping *p = arg;
	struct vring_env *e = p->e;
	uint32_t total = 0, seen = 0;
	uint64_t seed = 21;

	while (total < __atomic_load_n(&p->nr, __ATOMIC_ACQUIRE)) {
		uint16_t n = vring_dev_pop(&e->dev, e->chains, 4, e->segs, ENV_NR_SEGS);

		if (n == 0) {
			if (!vring_dev_arm(&e->dev))
				await_notification(&p->kicked, &seen);
			continue;
		}
		jitter(&seed);
		assert_int_equal(vring_dev_push_chains(&e->dev, e->chains, n), 0);
		vring_dev_flush(&e->dev);
		if (vring_dev_signal_needed(&e->dev))
			__atomic_add_fetch(&p->called, 1, __ATOMIC_RELEASE);
		total += n;
	}
	return NULL;
}

static void
no_notification_is_lost(void **state)
{
	struct ping p = {.e = env_new(4, *(const uint64_t *)*state, 0), .nr = PINGS};
	const struct vring_buf b = {DATA_IOVA, 64};
	struct vring_drv_done done[4];
	uint32_t sent = 0, got = 0, seen = 0;
	time_t until = seconds() + PINGS_S;
	uint16_t n;
	pthread_t thread;

	assert_int_equal(vring_drv_init(&p.drv, &p.e->config), 0);
	assert_int_equal(pthread_create(&thread, NULL, ping_device, &p), 0);
	while (got < p.nr) {
		/* Mostly one, now and then two in flight. */
		while (sent < p.nr && sent - got < 1 + (got % 64 == 0)) {
			assert_int_equal(vring_drv_add(&p.drv, &b, 1, 0, NULL, NULL), 0);
			sent++;
			vring_drv_publish(&p.drv);
			if (vring_drv_kick_needed(&p.drv))
				__atomic_add_fetch(&p.kicked, 1, __ATOMIC_RELEASE);
		}
		n = vring_drv_get(&p.drv, done, 4);
		got += n;
		if (n != 0 || vring_drv_arm(&p.drv))
			continue;
		await_notification(&p.called, &seen);
		if (seconds() >= until && p.nr == PINGS)
			__atomic_store_n(&p.nr, sent, __ATOMIC_RELEASE);
	}
	/* it may wait for more */
	__atomic_add_fetch(&p.kicked, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	vring_drv_fini(&p.drv);
	env_free(p.e);
}

int
main(void)
{
	static uint64_t f[] = {0, F_EVENT, F_IN_ORDER | F_EVENT, F_PACKED, F_PACKED | F_EVENT,
		F_PACKED | F_EVENT | F_IN_ORDER};
	const struct CMUnitTest tests[] = {
		{"descriptors change, split", descriptors_change_under_the_devices_eyes, NULL, NULL,
			&f[0]},
		{"descriptors change, packed", descriptors_change_under_the_devices_eyes, NULL,
			NULL, &f[3]},
		cmocka_unit_test(heads_and_index_change_under_the_devices_eyes),
		{"both sides, split", both_sides_sleep_and_wake, NULL, NULL, &f[0]},
		{"both sides, split, event index", both_sides_sleep_and_wake, NULL, NULL, &f[1]},
		{"both sides, split, in order", both_sides_sleep_and_wake, NULL, NULL, &f[2]},
		{"both sides, packed", both_sides_sleep_and_wake, NULL, NULL, &f[3]},
		{"both sides, packed, event index", both_sides_sleep_and_wake, NULL, NULL, &f[4]},
		{"both sides, packed, in order", both_sides_sleep_and_wake, NULL, NULL, &f[5]},
		{"no notification lost, split", no_notification_is_lost, NULL, NULL, &f[0]},
		{"no notification lost, split, event index", no_notification_is_lost, NULL, NULL,
			&f[1]},
		{"no notification lost, packed", no_notification_is_lost, NULL, NULL, &f[3]},
		{"no notification lost, packed, event index", no_notification_is_lost, NULL, NULL,
			&f[4]},
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
