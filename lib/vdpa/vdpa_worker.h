/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_WORKER_H
#define VDPA_WORKER_H

/**
 * @file
 * A datapath worker, between vdpa_worker.c (who gets which path, threads that start and stop) and
 * vdpa_worker_loop.c (what a worker does, and the mailbox in front of it).
 *
 * A path is in one of three lists. ACTIVE paths are polled in every round. A path that found
 * nothing for a while is armed and becomes IDLE: only a kick wakes it. TIMED is idle without
 * anything that could wake it (no descriptor, or one that epoll refuses, as of a plain file): such
 * a path is polled once in VDPA_WORKER_TIMED_MS.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "vdpa_private.h"

#define VDPA_WORKER_SPIN_US  50 /* adaptive: without work so long, then armed */
#define VDPA_WORKER_PAUSE_US 5  /* without work so long, then the CPU is yielded in each round */
/*
 * Adaptive: a yield that took so long gave the CPU to somebody who needs it. For a while paths are
 * armed at once then: who sleeps is woken at once, who yields waits his turn.
 */
#define VDPA_WORKER_CROWDED_US     20
#define VDPA_WORKER_CROWDED_FOR_MS 10
#define VDPA_WORKER_EPOLL_US       50 /* active paths: kicks for idle ones are looked for */
#define VDPA_WORKER_TIMED_MS       1

enum vdpa_path_state {
	VDPA_PATH_NONE,
	VDPA_PATH_ACTIVE,
	VDPA_PATH_IDLE,
	VDPA_PATH_TIMED
};

enum vdpa_worker_cmd {
	/* of the path, and those that hang on it by its member batch */
	VDPA_WORKER_ADD,   /* the number of those that cannot be watched */
	VDPA_WORKER_DEL,
	VDPA_WORKER_EACH,  /* fn(path) for each */
	VDPA_WORKER_RUN,   /* fn(arg) for path alone */
	VDPA_WORKER_QUIET, /* nothing: it is between two rounds */
	VDPA_WORKER_STOP,
};

/* One command at a time; the poster that holds post_lock writes it before posting its number. */
struct vdpa_worker_mail {
	_Atomic(uint32_t) posted; /* number of the command that waits, 0: none */
	_Atomic(uint32_t) acked;  /* number of the last one done; a futex */
	_Atomic(int) result;
	_Atomic(enum vdpa_worker_cmd) cmd;
	_Atomic(struct vdpa_path *) path;
	void (*_Atomic fn)(void *arg);
	_Atomic(void *) arg;
};

struct vdpa_worker {
	/* the worker's own */
	_Alignas(64) struct vdpa_path *lists[VDPA_PATH_TIMED + 1];
	uint64_t spin, pause, epoll_every, timed_every; /* TSC cycles */
	uint64_t last_work, last_epoll, last_timed;     /* TSC */
	uint64_t crowded, crowded_for, crowded_until;   /* cycles, cycles, TSC */
	bool poll_only, stop;
	int epfd, wake_fd;

	/* written by the worker, read by anybody */
	_Alignas(64) _Atomic(uint64_t) loops;
	_Atomic(uint64_t) busy_loops;

	_Alignas(64) struct vdpa_worker_mail mail;

	/* posters */
	_Alignas(64) pthread_mutex_t post_lock;
	uint32_t generation;

	/* under the lock of vdpa_worker.c */
	pthread_t thread;
	_Atomic(bool) running;
	uint32_t nr_paths;
	int cpu; /* -1: the main lcore's CPU set */
	int numa_node;
};

/* Start routine of the thread. */
void *vdpa_worker_main(void *worker);
/* What has to be open before the thread starts. 0, or negative errno. */
int vdpa_worker_open(struct vdpa_worker *worker, enum vdpa_worker_idle idle);
void vdpa_worker_close(struct vdpa_worker *worker);
/*
 * Have a command done and wait for it, a second at most. The result of the command; -ETIMEDOUT: it
 * was withdrawn, or (RUN) hangs; -EDEADLK: the caller is a worker; -ESHUTDOWN: no thread.
 */
int vdpa_worker_post(struct vdpa_worker *worker, enum vdpa_worker_cmd cmd, struct vdpa_path *path,
	void (*fn)(void *arg), void *arg);

#endif /* VDPA_WORKER_H */
