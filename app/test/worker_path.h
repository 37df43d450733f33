/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef WORKER_PATH_H
#define WORKER_PATH_H

/**
 * @file
 * A path for tests of datapath workers, and what they wait for. For cmocka programs, after its
 * headers.
 */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cpus.h"
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

static inline struct path *
path_of(struct vdpa_path *path)
{
	return (struct path *)((char *)path - offsetof(struct path, path));
}

static inline unsigned int
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

static inline bool
path_arm(struct vdpa_path *path)
{
	struct path *p = path_of(path);

	atomic_fetch_add(&p->armed, 1);
	return atomic_load(&p->arm_finds) || atomic_load(&p->work) != 0;
}

static inline void
path_init(struct path *p)
{
	memset(p, 0, sizeof(*p));
	p->path.poll = path_poll;
	p->path.arm = path_arm;
	p->path.wake_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->path.wake_fds[1] = -1;
	assert_true(p->path.wake_fds[0] >= 0);
}

static inline void
path_fini(struct path *p)
{
	for (int i = 0; i < 2; i++)
		if (p->path.wake_fds[i] >= 0)
			close(p->path.wake_fds[i]);
}

/* A worker that gets no processor for its second has not taken them. */
static inline void
paths_add(struct vdpa_path *const *paths, uint16_t nr)
{
	int rc = -ETIMEDOUT;

	for (int i = 0; i < 30 && rc == -ETIMEDOUT; i++)
		rc = vdpa_paths_add(paths, nr, -1);
	assert_int_equal(rc, 0);
}

static inline void
path_add(struct vdpa_path *path)
{
	paths_add(&path, 1);
}

static inline void
kick(struct path *p)
{
	uint64_t one = 1;

	assert_int_equal(write(p->path.wake_fds[0], &one, sizeof(one)), sizeof(one));
}

static inline double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static inline void
sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* Wait for what another thread does; a test that waits in vain fails after 30 s. */
#define wait_for(condition)                          \
	do {                                         \
		double until_ = now() + 30;          \
		while (!(condition)) {               \
			assert_true(now() < until_); \
			sleep_ms(1);                 \
		}                                    \
	} while (0)

static inline uint64_t
loops(unsigned int worker)
{
	struct vdpa_worker_status status;

	assert_int_equal(vdpa_worker_status_get(worker, &status), 0);
	return status.loops;
}

/* No round in a while: what a worker does before it sleeps may take its time on a busy machine. */
static inline void
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
static inline unsigned int
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

static inline int
configure(enum vdpa_worker_idle idle)
{
	return vdpa_workers_configure(NULL, idle);
}

static inline int
adaptive(void **state)
{
	(void)state;
	return configure(VDPA_WORKER_ADAPTIVE);
}

#define TEST(name) cmocka_unit_test_setup(name, adaptive)

#endif /* WORKER_PATH_H */
