/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <rte_common.h>

#include "vdpa_worker.h"
#include "worker_path.h"

/* Datapath workers: when paths are armed, who wakes them, and who has the CPU. */

static void
idle_path_is_armed_and_the_worker_sleeps(void **state)
{
	struct path p;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	wait_for(atomic_load(&p.armed) == 1);
	wait_asleep();
	assert_int_equal(atomic_load(&p.armed), 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
kick_wakes_an_idle_path_and_is_not_read(void **state)
{
	struct path p;
	uint64_t value;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	for (unsigned int i = 1; i <= 5; i++) {
		wait_for(atomic_load(&p.armed) >= i);
		sleep_ms(5);
		atomic_store(&p.work, 3);
		kick(&p);
		wait_for(atomic_load(&p.done) == 3 * i);
	}
	assert_int_equal(vdpa_path_del(&p.path), 0);
	assert_int_equal(read(p.path.wake_fds[0], &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 5);
	path_fini(&p);
}

static void
second_descriptor_wakes_too(void **state)
{
	struct path p;
	uint64_t one = 1;

	(void)state;
	path_init(&p);
	p.path.wake_fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	path_add(&p.path);
	wait_for(atomic_load(&p.armed) == 1);
	atomic_store(&p.work, 1);
	assert_int_equal(write(p.path.wake_fds[1], &one, sizeof(one)), sizeof(one));
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
work_seen_by_arm_keeps_a_path_polled(void **state)
{
	struct path p;
	unsigned int polls;

	(void)state;
	path_init(&p);
	atomic_store(&p.arm_finds, true);
	path_add(&p.path);
	wait_for(atomic_load(&p.armed) >= 3);
	polls = atomic_load(&p.polls);
	wait_for(atomic_load(&p.polls) > polls + 100);
	atomic_store(&p.arm_finds, false);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
kick_is_heard_while_another_path_is_busy(void **state)
{
	struct path idle, busy;

	(void)state;
	path_init(&idle);
	path_init(&busy);
	path_add(&idle.path);
	wait_for(atomic_load(&idle.armed) == 1);
	atomic_store(&busy.work, UINT32_MAX);
	path_add(&busy.path);
	wait_for(atomic_load(&busy.done) > 1000);
	atomic_store(&idle.work, 1);
	kick(&idle);
	wait_for(atomic_load(&idle.done) == 1);
	assert_int_equal(vdpa_path_del(&busy.path), 0);
	assert_int_equal(vdpa_path_del(&idle.path), 0);
	path_fini(&busy);
	path_fini(&idle);
}

static void
path_that_waits_is_armed_at_the_first_empty_poll(void **state)
{
	static const enum vdpa_worker_idle idles[] = {VDPA_WORKER_ADAPTIVE, VDPA_WORKER_SLEEP};
	struct path p;

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(idles); i++) {
		assert_int_equal(configure(idles[i]), 0);
		path_init(&p);
		p.path.waits = true;
		path_add(&p.path);
		wait_for(atomic_load(&p.armed) == 1);
		assert_int_equal(atomic_load(&p.polls), 1);
		wait_asleep();
		atomic_store(&p.work, 1);
		kick(&p);
		wait_for(atomic_load(&p.armed) == 2);
		assert_int_equal(atomic_load(&p.polls), 3);
		assert_int_equal(vdpa_path_del(&p.path), 0);
		path_fini(&p);
	}
}

/* A path that notes how often it was looked at in vain before it was armed. */
struct looking_path {
	struct path p;      /* first */
	unsigned int empty; /* polls since then, or since the last work */
	atomic_uint nr_more;
};

static unsigned int
looking_poll(struct vdpa_path *path)
{
	struct looking_path *l = (struct looking_path *)path_of(path);
	unsigned int nr = path_poll(path);

	l->empty = nr != 0 ? 0 : l->empty + 1;
	return nr;
}

static bool
looking_arm(struct vdpa_path *path)
{
	struct looking_path *l = (struct looking_path *)path_of(path);

	if (l->empty > 1)
		atomic_fetch_add(&l->nr_more, 1);
	l->empty = 0;
	return path_arm(path);
}

/* Not each time: where others want the CPU it is armed at once. How long is the worker's matter. */
static void
sleeping_workers_look_for_more_for_a_moment(void **state)
{
	struct looking_path l = {0};
	unsigned int armed;
	double until;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_SLEEP), 0);
	path_init(&l.p);
	l.p.path.poll = looking_poll;
	l.p.path.arm = looking_arm;
	path_add(&l.p.path);
	assert_in_range(vdpa_workers.all[0].spin, 1, vdpa_workers.all[0].pause);
	until = now() + 60;
	while (atomic_load(&l.nr_more) < 5) {
		assert_true(now() < until);
		armed = atomic_load(&l.p.armed);
		atomic_store(&l.p.work, 1);
		kick(&l.p);
		wait_for(atomic_load(&l.p.armed) > armed && atomic_load(&l.p.work) == 0);
	}
	assert_int_equal(vdpa_path_del(&l.p.path), 0);
	path_fini(&l.p);
}

static void
polling_workers_never_arm(void **state)
{
	struct path p;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_POLL), 0);
	path_init(&p);
	path_add(&p.path);
	/* each may cost a time slice of whoever else wants the CPU */
	sleep_ms(50);
	wait_for(atomic_load(&p.polls) > 100);
	atomic_store(&p.work, 1);
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(atomic_load(&p.armed), 0);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

/*
 * One that never sleeps, and this thread, both on one CPU. Without the worker's yield an exchange
 * takes it whole time slices, a hundred thousand rounds each.
 */
static void
polling_workers_share_a_cpu(void **state)
{
	cpu_set_t saved, one;
	uint64_t before;
	struct path p;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_POLL), 0);
	sched_getaffinity(0, sizeof(saved), &saved);
	CPU_ZERO(&one);
	CPU_SET(first_cpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	path_init(&p);
	path_add(&p.path);
	before = loops(0);
	for (unsigned int i = 1; i <= 200; i++) {
		atomic_store(&p.work, 1);
		while (atomic_load(&p.done) != i)
			sched_yield();
	}
	assert_true(loops(0) - before < 200 * 5000);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	sched_setaffinity(0, sizeof(saved), &saved);
	path_fini(&p);
}

static void *
hog(void *arg)
{
	while (!atomic_load((atomic_bool *)arg))
		;
	return NULL;
}

/* Somebody else needs the CPU all the time: a worker that spun there would wait its turn. */
static void
adaptive_worker_sleeps_at_once_where_it_is_crowded(void **state)
{
	unsigned int nr_short = 0, polls, armed;
	double until = now() + 60;
	atomic_bool stop = false;
	pthread_attr_t attr;
	pthread_t thread;
	struct path p;
	cpu_set_t one;
	char list[16];

	(void)state;
	CPU_ZERO(&one);
	CPU_SET(first_cpu(), &one);
	snprintf(list, sizeof(list), "%d", first_cpu());
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE), 0);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(one), &one);
	assert_int_equal(pthread_create(&thread, &attr, hog, &stop), 0);
	pthread_attr_destroy(&attr);
	path_init(&p);
	path_add(&p.path);
	wait_for(atomic_load(&p.armed) > 0);
	/* where this thread or the worker waits longer than it remembers, it looks again */
	while (nr_short < 5) {
		assert_true(now() < until);
		polls = atomic_load(&p.polls);
		armed = atomic_load(&p.armed);
		atomic_store(&p.work, 1);
		kick(&p);
		wait_for(atomic_load(&p.armed) > armed);
		/* one poll with work, one without */
		nr_short += atomic_load(&p.polls) - polls <= 2;
	}
	assert_int_equal(vdpa_path_del(&p.path), 0);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	path_fini(&p);
}

static void
path_that_nothing_wakes_is_polled_at_a_low_rate(void **state)
{
	char name[] = "/tmp/vdpa_worker_XXXXXX";
	struct path none, file;
	unsigned int before, nr;
	double begin;

	(void)state;
	path_init(&none);
	path_init(&file);
	path_fini(&none);
	path_fini(&file);
	none.path.wake_fds[0] = -1;
	file.path.wake_fds[0] = mkstemp(name); /* epoll refuses it */
	unlink(name);
	path_add(&none.path);
	path_add(&file.path);
	wait_for(atomic_load(&none.armed) > 1 && atomic_load(&file.armed) > 1);
	begin = now();
	before = atomic_load(&none.polls);
	sleep_ms(100);
	wait_for(atomic_load(&none.polls) - before >= 2);
	nr = atomic_load(&none.polls) - before;
	assert_in_range(nr, 2, 50 + (now() - begin) * 1000);
	atomic_store(&none.work, 2);
	atomic_store(&file.work, 2);
	wait_for(atomic_load(&none.done) == 2 && atomic_load(&file.done) == 2);
	assert_int_equal(vdpa_path_del(&none.path), 0);
	assert_int_equal(vdpa_path_del(&file.path), 0);
	path_fini(&file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(idle_path_is_armed_and_the_worker_sleeps),
		TEST(kick_wakes_an_idle_path_and_is_not_read),
		TEST(second_descriptor_wakes_too),
		TEST(work_seen_by_arm_keeps_a_path_polled),
		TEST(kick_is_heard_while_another_path_is_busy),
		TEST(path_that_waits_is_armed_at_the_first_empty_poll),
		TEST(sleeping_workers_look_for_more_for_a_moment),
		TEST(polling_workers_never_arm),
		TEST(polling_workers_share_a_cpu),
		TEST(adaptive_worker_sleeps_at_once_where_it_is_crowded),
		TEST(path_that_nothing_wakes_is_polled_at_a_low_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
