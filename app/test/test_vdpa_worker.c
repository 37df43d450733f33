/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <dirent.h>
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
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <rte_common.h>

#include "vdpa_private.h"

/* A path that consumes a number and notes what happens to it. */
struct path {
	struct vdpa_path path;
	atomic_uint work; /* polls that will find something */
	atomic_uint polls, armed, done;
	atomic_bool arm_finds;  /* arm says that work came in between */
	atomic_bool hold, held; /* poll hangs */
	pthread_t thread;
	sigset_t blocked;
	cpu_set_t cpus;
	atomic_bool noted;
};

static struct path *
path_of(struct vdpa_path *path)
{
	return (struct path *)((char *)path - offsetof(struct path, path));
}

static unsigned int
path_poll(struct vdpa_path *path)
{
	struct path *p = path_of(path);

	atomic_fetch_add(&p->polls, 1);
	if (!atomic_load(&p->noted)) {
		p->thread = pthread_self();
		pthread_sigmask(SIG_SETMASK, NULL, &p->blocked);
		pthread_getaffinity_np(p->thread, sizeof(p->cpus), &p->cpus);
		atomic_store(&p->noted, true);
	}
	while (atomic_load(&p->hold)) {
		atomic_store(&p->held, true);
		sched_yield();
	}
	if (atomic_load(&p->work) == 0)
		return 0;
	atomic_fetch_sub(&p->work, 1);
	atomic_fetch_add(&p->done, 1);
	return 1;
}

static bool
path_arm(struct vdpa_path *path)
{
	struct path *p = path_of(path);

	atomic_fetch_add(&p->armed, 1);
	return atomic_load(&p->arm_finds) || atomic_load(&p->work) != 0;
}

static void
path_init(struct path *p)
{
	memset(p, 0, sizeof(*p));
	p->path.poll = path_poll;
	p->path.arm = path_arm;
	p->path.wake_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->path.wake_fds[1] = -1;
	assert_true(p->path.wake_fds[0] >= 0);
}

static void
path_fini(struct path *p)
{
	for (int i = 0; i < 2; i++)
		if (p->path.wake_fds[i] >= 0)
			close(p->path.wake_fds[i]);
}

static void
kick(struct path *p)
{
	uint64_t one = 1;

	assert_int_equal(write(p->path.wake_fds[0], &one, sizeof(one)), sizeof(one));
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* Wait for what another thread does; a test that waits in vain fails after 10 s. */
#define wait_for(condition)                          \
	do {                                         \
		double until_ = now() + 30;          \
		while (!(condition)) {               \
			assert_true(now() < until_); \
			sleep_ms(1);                 \
		}                                    \
	} while (0)

static uint64_t
loops(unsigned int worker)
{
	struct vdpa_worker_status status;

	assert_int_equal(vdpa_worker_status_get(worker, &status), 0);
	return status.loops;
}

/* No round in a while: what a worker does before it sleeps may take its time on a busy machine. */
static void
wait_asleep(void)
{
	double until = now() + 30;
	uint64_t before;

	do {
		assert_true(now() < until);
		before = loops(0);
		sleep_ms(50);
	} while (loops(0) != before);
}

/* By name: sanitizers have threads of their own. */
static unsigned int
nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned int nr = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[300], name[16] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (file == NULL)
			continue;
		if (fgets(name, sizeof(name), file) != NULL && strncmp(name, "vdpa-w", 6) == 0)
			nr++;
		fclose(file);
	}
	closedir(dir);
	return nr;
}

static unsigned int
nr_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		nr++;
	closedir(dir);
	return nr;
}

static int
first_cpu(void)
{
	cpu_set_t set;
	int cpu = 0;

	sched_getaffinity(0, sizeof(set), &set);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

static int
configure(enum vdpa_worker_idle idle)
{
	return vdpa_workers_configure(NULL, idle);
}

static int
adaptive(void **state)
{
	(void)state;
	return configure(VDPA_WORKER_ADAPTIVE);
}

/* ---- ---- */

static void
thread_lives_as_long_as_paths_do(void **state)
{
	struct path a, b;

	(void)state;
	path_init(&a);
	path_init(&b);
	assert_int_equal(vdpa_path_add(&a.path, -1), 0);
	assert_int_equal(vdpa_path_add(&b.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&a.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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

static void
idle_path_is_armed_and_the_worker_sleeps(void **state)
{
	struct path p;

	(void)state;
	path_init(&p);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	for (unsigned int i = 1; i <= 5; i++) {
		wait_for(atomic_load(&p.armed) == i);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&idle.path, -1), 0);
	wait_for(atomic_load(&idle.armed) == 1);
	atomic_store(&busy.work, UINT32_MAX);
	assert_int_equal(vdpa_path_add(&busy.path, -1), 0);
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
sleeping_workers_arm_at_the_first_empty_poll(void **state)
{
	struct path p;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_SLEEP), 0);
	path_init(&p);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	wait_for(atomic_load(&p.armed) == 1);
	assert_int_equal(atomic_load(&p.polls), 1);
	atomic_store(&p.work, 1);
	kick(&p);
	wait_for(atomic_load(&p.armed) == 2);
	assert_int_equal(atomic_load(&p.polls), 3);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

static void
polling_workers_never_arm(void **state)
{
	struct path p;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_POLL), 0);
	path_init(&p);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	wait_for(atomic_load(&p.polls) > 10000);
	atomic_store(&p.work, 1);
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(atomic_load(&p.armed), 0);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	path_fini(&p);
}

/* Two that never sleep, and this thread, all on one CPU. */
static void
polling_workers_share_a_cpu(void **state)
{
	cpu_set_t saved, one;
	struct path p;
	double begin;

	(void)state;
	assert_int_equal(configure(VDPA_WORKER_POLL), 0);
	sched_getaffinity(0, sizeof(saved), &saved);
	CPU_ZERO(&one);
	CPU_SET(first_cpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	path_init(&p);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	begin = now();
	for (unsigned int i = 1; i <= 2000; i++) {
		atomic_store(&p.work, 1);
		while (atomic_load(&p.done) != i)
			sched_yield();
	}
	/* without the worker's yield an exchange takes whole time slices: 6 s and more */
	assert_true(now() - begin < 4);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	wait_for(atomic_load(&p.armed) > 0);
	for (int i = 0; i < 300; i++) {
		polls = atomic_load(&p.polls);
		armed = atomic_load(&p.armed);
		atomic_store(&p.work, 1);
		kick(&p);
		wait_for(atomic_load(&p.armed) > armed);
		/* one poll with work, one without */
		nr_short += atomic_load(&p.polls) - polls <= 2;
	}
	assert_in_range(nr_short, 100, 300);
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
	unsigned int before;
	double begin;

	(void)state;
	path_init(&none);
	path_init(&file);
	path_fini(&none);
	path_fini(&file);
	none.path.wake_fds[0] = -1;
	file.path.wake_fds[0] = mkstemp(name); /* epoll refuses it */
	unlink(name);
	assert_int_equal(vdpa_path_add(&none.path, -1), 0);
	assert_int_equal(vdpa_path_add(&file.path, -1), 0);
	wait_for(atomic_load(&none.armed) > 1 && atomic_load(&file.armed) > 1);
	before = atomic_load(&none.polls);
	begin = now();
	sleep_ms(100);
	wait_for(atomic_load(&none.polls) - before >= 2);
	assert_in_range(atomic_load(&none.polls) - before, 2, 50 + (now() - begin) * 1000);
	atomic_store(&none.work, 2);
	atomic_store(&file.work, 2);
	wait_for(atomic_load(&none.done) == 2 && atomic_load(&file.done) == 2);
	assert_int_equal(vdpa_path_del(&none.path), 0);
	assert_int_equal(vdpa_path_del(&file.path), 0);
	path_fini(&file);
}

/* ---- commands ---- */

struct run {
	struct path *p;
	pthread_t thread;
	unsigned int count;
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	wait_for(atomic_load(&p.armed) == 1);
	atomic_store(&p.work, 1); /* nobody kicks for it */
	assert_int_equal(vdpa_path_run(&p.path, run_change_fd, &p), 0);
	wait_for(atomic_load(&p.armed) == 2);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	atomic_store(&p.hold, true);
	kick(&p);
	wait_for(atomic_load(&p.held));
	begin = now();
	assert_int_equal(vdpa_path_run(&p.path, run_count, &run), -ETIMEDOUT);
	assert_true(now() - begin > 0.9 && now() - begin < 2);
	assert_int_equal(vdpa_path_del(&p.path), -ETIMEDOUT);
	assert_int_equal(vdpa_path_add(&other.path, -1), -ETIMEDOUT);
	atomic_store(&p.hold, false);
	/* it answers again, and nothing of the above happens late */
	assert_int_equal(vdpa_path_add(&other.path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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

static void *
poster(void *arg)
{
	struct run *run = arg;

	for (int i = 0; i < 2000 && run->rc == 0; i++)
		run->rc = vdpa_path_run(&run->p->path, run_count, run);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	for (int i = 0; i < 4; i++) {
		runs[i] = (struct run){.p = &p};
		assert_int_equal(pthread_create(&threads[i], NULL, poster, &runs[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(runs[i].rc, 0);
		assert_int_equal(runs[i].count, 2000);
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
		run->rc = vdpa_path_add(&p.path, -1);
		if (run->rc == 0)
			run->rc = vdpa_path_del(&p.path);
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
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(runs[i].rc, 0);
	}
	wait_for(nr_threads() == 0);
}

/* The front end keeps the file open, so its entry in epoll outlives our descriptor. */
static void
closed_descriptor_leaves_nothing_behind(void **state)
{
	struct path *p = malloc(sizeof(*p)), other;
	unsigned int fds = nr_entries("/proc/self/fd");
	uint64_t one = 1;
	int theirs;

	(void)state;
	path_init(p);
	path_init(&other);
	theirs = dup(p->path.wake_fds[0]);
	assert_int_equal(vdpa_path_add(&other.path, -1), 0);
	assert_int_equal(vdpa_path_add(&p->path, -1), 0);
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
	assert_int_equal(nr_entries("/proc/self/fd"), fds);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
		assert_int_equal(vdpa_path_add(&paths[i].path, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
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
		assert_int_equal(vdpa_path_add(&paths[i].path, -1), 0);
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
	assert_int_equal(vdpa_paths_add(paths, NR_MANY, -1), 0);
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
	assert_int_equal(vdpa_paths_add(paths, NR_MANY, -1), 0);
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
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	vdpa_workers_keep();
	vdpa_workers_keep();
	assert_int_equal(vdpa_path_del(&p.path), 0);
	vdpa_workers_release();
	assert_int_equal(nr_threads(), 1);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	atomic_store(&p.work, 1);
	kick(&p);
	wait_for(atomic_load(&p.done) == 1);
	assert_int_equal(vdpa_path_del(&p.path), 0);
	assert_int_equal(nr_threads(), 1);
	vdpa_workers_release();
	wait_for(nr_threads() == 0);
	path_fini(&p);
}

#define TEST(name) cmocka_unit_test_setup(name, adaptive)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(thread_lives_as_long_as_paths_do),
		TEST(only_faults_reach_a_worker),
		TEST(idle_path_is_armed_and_the_worker_sleeps),
		TEST(kick_wakes_an_idle_path_and_is_not_read),
		TEST(second_descriptor_wakes_too),
		TEST(work_seen_by_arm_keeps_a_path_polled),
		TEST(kick_is_heard_while_another_path_is_busy),
		TEST(sleeping_workers_arm_at_the_first_empty_poll),
		TEST(polling_workers_never_arm),
		TEST(polling_workers_share_a_cpu),
		TEST(adaptive_worker_sleeps_at_once_where_it_is_crowded),
		TEST(path_that_nothing_wakes_is_polled_at_a_low_rate),
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
