/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include <rte_common.h>

#include "fds.h"
#include "worker_path.h"

/* Datapath workers: threads, commands, where paths sit. */

static void
thread_lives_as_long_as_paths_do(void **state)
{
	struct path a, b;

	(void)state;
	path_init(&a);
	path_init(&b);
	path_add(&a.path);
	path_add(&b.path);
	assert_int_equal(nr_threads(), 1);
	wait_for(atomic_load(&a.noted) && atomic_load(&b.noted));
	assert_false(pthread_equal(a.thread, pthread_self()));
	assert_true(pthread_equal(a.thread, b.thread));
	assert_int_equal(vdpa_path_del(&a.path), 0);
	assert_int_equal(nr_threads(), 1);
	assert_int_equal(vdpa_path_del(&b.path), 0);
	wait_for(nr_threads() == 0);
	assert_int_equal(vdpa_path_del(&b.path), 0);
	/* and starts again */
	atomic_store(&a.noted, false);
	path_add(&a.path);
	wait_for(atomic_load(&a.noted));
	assert_int_equal(vdpa_path_del(&a.path), 0);
	path_fini(&a);
	path_fini(&b);
}

static void
only_faults_reach_a_worker(void **state)
{
	sigset_t own;
	struct path p;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	wait_for(atomic_load(&p.noted));
	pthread_sigmask(SIG_SETMASK, NULL, &own);
	assert_int_equal(sigismember(&own, SIGTERM), 0);
	assert_int_equal(sigismember(&p.blocked, SIGPIPE), 1);
	assert_int_equal(sigismember(&p.blocked, SIGTERM), 1);
	assert_int_equal(sigismember(&p.blocked, SIGUSR1), 1);
	assert_int_equal(sigismember(&p.blocked, SIGBUS), 0);
	assert_int_equal(sigismember(&p.blocked, SIGSEGV), 0);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

/* ---- commands ---- */

struct run {
	struct path *p;
	pthread_t thread;
	unsigned int count, given, late;
	atomic_bool hold, done;
	int rc;
};

static void
run_count(void *arg)
{
	struct run *run = arg;

	run->thread = pthread_self();
	run->count++;
}

static void
run_runs_once_on_the_worker(void **state)
{
	struct run run = {0};
	struct path p;

	(void)state;
	path_init(&p);
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), -EINVAL);
	path_add(&p.path);
	for (unsigned int i = 1; i <= 1000; i++) {
		assert_int_equal(vdpa_path_run(&p.path, run_count, &run), 0);
		assert_int_equal(run.count, i);
	}
	wait_for(atomic_load(&p.noted));
	assert_true(pthread_equal(run.thread, p.thread));
	assert_int_equal(vdpa_path_run(&p.path, NULL, &run), -EINVAL);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), -EINVAL);
	path_fini(&p);
}

static void
run_change_fd(void *arg)
{
	struct path *p = arg;

	p->path.wake_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void
run_polls_again_and_watches_what_changed(void **state)
{
	uint64_t one = 1;
	struct path p;
	int old;

	(void)state;
	path_init(&p);
	old = p.path.wake_fds[0];
	path_add(&p.path);
	wait_for(atomic_load(&p.armed) == 1);
	atomic_store(&p.work, 1); /* nobody kicks for it */
	assert_int_equal(vdpa_path_run(&p.path, run_change_fd, &p), 0);
	wait_for(atomic_load(&p.armed) >= 2);
	assert_int_equal(atomic_load(&p.done), 1);
	atomic_store(&p.work, 1);
	assert_int_equal(write(old, &one, sizeof(one)), sizeof(one));
	sleep_ms(30);
	assert_int_equal(atomic_load(&p.done), 1);
	kick(&p);
	wait_for(atomic_load(&p.done) == 2);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	close(old);
	path_fini(&p);
}

static void
run_from_a_worker(void *arg)
{
	struct run *run = arg;

	run->rc = vdpa_path_run(&run->p->path, run_count, run);
}

static void
run_within_a_worker_is_refused(void **state)
{
	struct path p;
	struct run run = {.p = &p};

	(void)state;
	path_init(&p);
	path_add(&p.path);
	assert_int_equal(vdpa_path_run(&p.path, run_from_a_worker, &run), 0);
	assert_int_equal(run.rc, -EDEADLK);
	assert_int_equal(run.count, 0);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
command_to_a_worker_that_hangs_is_withdrawn(void **state)
{
	struct run run = {0};
	struct path p, other;
	double begin;

	(void)state;
	path_init(&p);
	path_init(&other);
	path_add(&p.path);
	atomic_store(&p.hold, true);
	kick(&p);
	wait_for(atomic_load(&p.held));
	begin = now();
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), -ETIMEDOUT);
	assert_true(now() - begin > 0.9);
	assert_int_equal(vdpa_path_del(&p.path), -ETIMEDOUT);
	assert_int_equal(vdpa_path_add(&other.path, -1), -ETIMEDOUT);
	atomic_store(&p.hold, false);
	/* it answers again, and nothing of the above happens late */
	path_add(&other.path);
	assert_int_equal(run.count, 0);
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), 0);
	assert_int_equal(run.count, 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	assert_int_equal(vdpa_path_del(&other.path), 0);
	path_fini(&p);
	path_fini(&other);
}

static void
run_hold(void *arg)
{
	struct run *run = arg;

	while (atomic_load(&run->hold))
		sched_yield();
	atomic_store(&run->done, true);
}

static void
command_that_hangs_is_left_and_the_next_is_not_confused(void **state)
{
	struct run hang = {.hold = true}, run = {0};
	struct path p;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	assert_int_equal(vdpa_path_run(&p.path, run_hold, &hang), -ETIMEDOUT);
	assert_false(atomic_load(&hang.done));
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), -ETIMEDOUT);
	atomic_store(&hang.hold, false);
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), 0);
	assert_true(atomic_load(&hang.done));
	assert_int_equal(run.count, 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

/* A worker that gets no turn on a busy machine looks as if it hung: try again. */
static void *
poster(void *arg)
{
	struct run *run = arg;

	while (run->given < 2000 && run->rc == 0) {
		run->rc = vdpa_path_run(&run->p->path, run_count, run);
		if (run->rc == 0)
			run->given++;
		if (run->rc == -ETIMEDOUT) {
			run->late++;
			run->rc = 0;
		}
	}
	return NULL;
}

static void
commands_of_many_threads_are_all_done(void **state)
{
	struct run runs[4];
	pthread_t threads[4];
	struct path p;

	(void)state;
	path_init(&p);
	atomic_store(&p.work, UINT32_MAX);
	path_add(&p.path);
	for (int i = 0; i < 4; i++) {
		runs[i] = (struct run){.p = &p};
		assert_int_equal(pthread_create(&threads[i], NULL, poster, &runs[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(runs[i].rc, 0);
		/* one that was late is done once, or not at all */
		assert_in_range(runs[i].count, 2000, 2000 + runs[i].late);
	}
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void *
come_and_go(void *arg)
{
	struct run *run = arg;
	struct path p;

	path_init(&p);
	for (int i = 0; i < 200 && run->rc == 0; i++) {
		do
			run->rc = vdpa_path_add(&p.path, -1);
		while (run->rc == -ETIMEDOUT);
		if (run->rc != 0)
			break;
		do
			run->rc = vdpa_path_del(&p.path);
		while (run->rc == -ETIMEDOUT);
	}
	path_fini(&p);
	return NULL;
}

static void
paths_come_and_go_from_many_threads(void **state)
{
	struct run runs[4] = {0};
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &runs[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 4; i++)
		assert_int_equal(runs[i].rc, 0);
	wait_for(nr_threads() == 0);
}

/* The front end keeps the file open, so its entry in epoll outlives our descriptor. */
static void
closed_descriptor_leaves_nothing_behind(void **state)
{
	struct path *p = malloc(sizeof(*p)), other;
	unsigned int fds = nr_fds();
	uint64_t one = 1;
	int theirs;

	(void)state;
	path_init(p);
	path_init(&other);
	theirs = dup(p->path.wake_fds[0]);
	path_add(&other.path);
	path_add(&p->path);
	wait_for(atomic_load(&p->armed) > 0); /* it is watched */
	close(p->path.wake_fds[0]);
	assert_int_equal(vdpa_path_del(&p->path), 0);
	free(p);
	wait_for(atomic_load(&other.armed) > 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(write(theirs, &one, sizeof(one)), sizeof(one));
		atomic_store(&other.work, 1);
		kick(&other);
		wait_for(atomic_load(&other.work) == 0);
	}
	assert_int_equal(vdpa_path_del(&other.path), 0);
	close(theirs);
	path_fini(&other);
	assert_int_equal(nr_fds(), fds);
}

static void
run_close_fd(void *arg)
{
	struct path *p = arg;

	/* the number is the same, the file another one */
	close(p->path.wake_fds[0]);
	p->path.wake_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void
descriptor_may_be_replaced_under_its_number(void **state)
{
	struct path p;
	int number;

	(void)state;
	path_init(&p);
	number = p.path.wake_fds[0];
	path_add(&p.path);
	assert_int_equal(vdpa_path_run(&p.path, run_close_fd, &p), 0);
	assert_int_equal(p.path.wake_fds[0], number);
	wait_for(atomic_load(&p.armed) > 0);
	sleep_ms(5);
	atomic_store(&p.work, 1);
	kick(&p);
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

/* ---- many ---- */

static void
thousand_paths(void **state)
{
	enum {
		NR = 1000
	};
	struct path *paths = calloc(NR, sizeof(*paths));
	struct rlimit limit;
	double begin;

	(void)state;
	assert_non_null(paths);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < 2 * NR) {
		limit.rlim_cur = RTE_MIN(limit.rlim_max, (rlim_t)2 * NR);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
	for (int i = 0; i < NR; i++)
		path_init(&paths[i]);
	begin = now();
	for (int i = 0; i < NR; i++)
		path_add(&paths[i].path);
	print_message("add: %.1f us a path\n", (now() - begin) * 1e6 / NR);
	for (int i = 0; i < NR; i++)
		wait_for(atomic_load(&paths[i].armed) > 0);
	wait_asleep();
	for (int i = 0; i < NR; i++) {
		atomic_store(&paths[i].work, 1);
		kick(&paths[i]);
	}
	for (int i = 0; i < NR; i++)
		wait_for(atomic_load(&paths[i].done) == 1);
	begin = now();
	for (int i = 0; i < NR; i++)
		assert_int_equal(vdpa_path_del(&paths[i].path), 0);
	print_message("del: %.1f us a path\n", (now() - begin) * 1e6 / NR);
	for (int i = 0; i < NR; i++)
		path_fini(&paths[i]);
	free(paths);
}

static void
stop_ends_workers_that_have_paths(void **state)
{
	struct run run = {0};
	struct path p;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	vdpa_workers_stop();
	wait_for(nr_threads() == 0);
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), 0);
	assert_int_equal(run.count, 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	vdpa_workers_stop();
	path_fini(&p);
}

/* ---- configuration ---- */

static void
bad_cpu_lists_are_refused_with_a_sentence(void **state)
{
	static const char *const lists[] = {
		"",
		"x",
		"1-",
		"-1",
		"0,",
		",0",
		"0 ",
		"0-0-0",
		"3-2",
		"0,0,0,0,0,0,0,0,0",
		"99999",
		"1000",
		"0x1",
		"18446744073709551617",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		vdpa_error_set(0, "none");
		assert_int_equal(vdpa_workers_configure(lists[i], VDPA_WORKER_POLL), -EINVAL);
		assert_non_null(strstr(vdpa_error_text(), "workers="));
	}
}

static void
worker_runs_on_the_cpu_named(void **state)
{
	char list[16];
	struct path p;

	(void)state;
	snprintf(list, sizeof(list), "%d", first_cpu());
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE), 0);
	path_init(&p);
	assert_int_equal(vdpa_path_add(&p.path, 0), 0);
	wait_for(atomic_load(&p.noted));
	assert_int_equal(CPU_COUNT(&p.cpus), 1);
	assert_true(CPU_ISSET(first_cpu(), &p.cpus));
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE), -EBUSY);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
paths_are_spread_over_workers(void **state)
{
	struct vdpa_worker_status status;
	struct path paths[4];
	cpu_set_t set;
	char list[32];
	int cpu;

	(void)state;
	sched_getaffinity(0, sizeof(set), &set);
	if (CPU_COUNT(&set) < 2) {
		print_message("skipped: this process may use one CPU only\n");
		skip();
	}
	for (cpu = first_cpu() + 1; !CPU_ISSET(cpu, &set); cpu++)
		;
	snprintf(list, sizeof(list), "%d,%d", first_cpu(), cpu);
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE), 0);
	for (int i = 0; i < 4; i++) {
		path_init(&paths[i]);
		path_add(&paths[i].path);
		wait_for(atomic_load(&paths[i].noted));
	}
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(vdpa_worker_status_get(i, &status), 0);
		assert_int_equal(status.nr_paths, 2);
	}
	assert_int_equal(vdpa_worker_status_get(2, &status), -ENOENT);
	assert_false(pthread_equal(paths[0].thread, paths[1].thread));
	for (int i = 0; i < 4; i++) {
		assert_int_equal(vdpa_path_del(&paths[i].path), 0);
		path_fini(&paths[i]);
	}
}

#define NR_MANY 64

struct member {
	struct path p; /* first */
	unsigned int runs, ends;
	unsigned int at; /* rounds of the worker when it was run */
};

static void
member_run(void *path)
{
	struct member *member = path;

	member->runs++;
	member->at = atomic_load(&member->p.polls);
}

static void
member_end(struct vdpa_path *path)
{
	((struct member *)path)->ends++;
}

static void
members_create(struct member *members, struct vdpa_path **paths)
{
	for (unsigned int i = 0; i < NR_MANY; i++) {
		path_init(&members[i].p);
		members[i].runs = members[i].ends = 0;
		members[i].p.path.end = member_end;
		paths[i] = &members[i].p.path;
	}
}

/* All of one worker between the same two rounds: one message, however many they are. */
static void
many_paths_take_one_message(void **state)
{
	struct member *members = calloc(NR_MANY, sizeof(*members));
	struct vdpa_path *paths[NR_MANY];

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_POLL), 0);
	members_create(members, paths);
	paths_add(paths, NR_MANY);
	for (unsigned int round = 1; round <= 50; round++) {
		assert_int_equal(vdpa_paths_run(paths, NR_MANY, member_run), 0);
		for (unsigned int i = 0; i < NR_MANY; i++) {
			assert_int_equal(members[i].runs, round);
			assert_int_equal(members[i].at, members[0].at);
		}
		assert_int_equal(vdpa_paths_run(paths, NR_MANY, NULL), 0);
	}
	assert_int_equal(vdpa_paths_del(paths, NR_MANY), 0);
	for (unsigned int i = 0; i < NR_MANY; i++) {
		assert_int_equal(members[i].ends, 1);
		assert_null(paths[i]->worker);
		path_fini(&members[i].p);
	}
	wait_for(nr_threads() == 0);
	/* nobody has them any more */
	assert_int_equal(vdpa_paths_del(paths, NR_MANY), 0);
	assert_int_equal(vdpa_paths_run(paths, NR_MANY, member_run), 0);
	assert_int_equal(members[0].runs, 50);
	assert_int_equal(members[0].ends, 1);
	free(members);
}

/* Two workers have them, and one hangs: the other lets go of its own. */
static void
many_paths_of_which_some_hang(void **state)
{
	struct member *members = calloc(NR_MANY, sizeof(*members));
	struct vdpa_path *paths[NR_MANY];
	unsigned int nr_left = 0;
	cpu_set_t set;
	char list[32];
	int cpu;

	(void)state;
	sched_getaffinity(0, sizeof(set), &set);
	if (CPU_COUNT(&set) < 2) {
		free(members);
		print_message("skipped: this process may use one CPU only\n");
		skip();
	}
	for (cpu = first_cpu() + 1; !CPU_ISSET(cpu, &set); cpu++)
		;
	snprintf(list, sizeof(list), "%d,%d", first_cpu(), cpu);
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE), 0);
	members_create(members, paths);
	paths_add(paths, NR_MANY);
	atomic_store(&members[7].p.hold, true);
	kick(&members[7].p);
	wait_for(atomic_load(&members[7].p.held));
	assert_int_equal(vdpa_paths_run(paths, NR_MANY, member_run), -ETIMEDOUT);
	assert_int_equal(vdpa_paths_del(paths, NR_MANY), -ETIMEDOUT);
	for (unsigned int i = 0; i < NR_MANY; i++) {
		bool left = paths[i]->worker == paths[7]->worker;

		nr_left += left;
		assert_int_equal(members[i].runs, !left);
		assert_int_equal(members[i].ends, !left);
		assert_true(left || paths[i]->worker == NULL);
	}
	assert_int_equal(nr_left, NR_MANY / 2);
	atomic_store(&members[7].p.hold, false);
	assert_int_equal(vdpa_paths_del(paths, NR_MANY), 0);
	for (unsigned int i = 0; i < NR_MANY; i++) {
		assert_int_equal(members[i].ends, 1);
		path_fini(&members[i].p);
	}
	free(members);
	wait_for(nr_threads() == 0);
}

static void
kept_worker_outlives_its_last_path(void **state)
{
	struct path p;

	(void)state;
	path_init(&p);
	path_add(&p.path);
	vdpa_workers_keep();
	vdpa_workers_keep();
	assert_int_equal(vdpa_path_del(&p.path), 0);
	vdpa_workers_release();
	assert_int_equal(nr_threads(), 1);
	path_add(&p.path);
	atomic_store(&p.work, 1);
	kick(&p);
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	assert_int_equal(nr_threads(), 1);
	vdpa_workers_release();
	wait_for(nr_threads() == 0);
	path_fini(&p);
}

/* ---- the op pool beside it ---- */

#define NR_WORKS 3

static struct {
	struct vdpa_work work;
	cpu_set_t cpus;
} works[NR_WORKS];
static atomic_uint nr_works_begun;

/* They have a thread each: none ends before all have begun. */
static void
work_fn(struct vdpa_work *work)
{
	for (unsigned int i = 0; i < NR_WORKS; i++)
		if (work == &works[i].work)
			sched_getaffinity(0, sizeof(works[i].cpus), &works[i].cpus);
	atomic_fetch_add(&nr_works_begun, 1);
	wait_for(atomic_load(&nr_works_begun) == NR_WORKS);
}

static void
queue_works(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < NR_WORKS; i++)
		assert_int_equal(vdpa_work_queue(&works[i].work), 0);
}

static void
op_threads_that_a_worker_starts_are_not_on_its_cpu_alone(void **state)
{
	cpu_set_t own;
	char cpu[16];
	struct path p;

	(void)state;
	snprintf(cpu, sizeof(cpu), "%d", first_cpu());
	assert_int_equal(vdpa_workers_configure(cpu, VDPA_WORKER_ADAPTIVE), 0);
	sched_getaffinity(0, sizeof(own), &own);
	path_init(&p);
	path_add(&p.path);
	for (unsigned int i = 0; i < NR_WORKS; i++)
		works[i].work.fn = work_fn;
	assert_int_equal(vdpa_path_run(&p.path, queue_works, NULL), 0);
	for (unsigned int i = 0; i < NR_WORKS; i++) {
		assert_int_equal(vdpa_work_wait(&works[i].work, 30000), 0);
		assert_true(CPU_EQUAL(&works[i].cpus, &own));
	}
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(thread_lives_as_long_as_paths_do),
		TEST(only_faults_reach_a_worker),
		TEST(run_runs_once_on_the_worker),
		TEST(run_polls_again_and_watches_what_changed),
		TEST(run_within_a_worker_is_refused),
		TEST(command_to_a_worker_that_hangs_is_withdrawn),
		TEST(command_that_hangs_is_left_and_the_next_is_not_confused),
		TEST(commands_of_many_threads_are_all_done),
		TEST(paths_come_and_go_from_many_threads),
		TEST(closed_descriptor_leaves_nothing_behind),
		TEST(descriptor_may_be_replaced_under_its_number),
		TEST(thousand_paths),
		TEST(stop_ends_workers_that_have_paths),
		TEST(bad_cpu_lists_are_refused_with_a_sentence),
		TEST(worker_runs_on_the_cpu_named),
		TEST(paths_are_spread_over_workers),
		TEST(many_paths_take_one_message),
		TEST(many_paths_of_which_some_hang),
		TEST(kept_worker_outlives_its_last_path),
		TEST(op_threads_that_a_worker_starts_are_not_on_its_cpu_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
