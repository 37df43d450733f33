/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_WORKER_H
#define VDPA_WORKER_H

/**
 * @file
 * A datapath worker, between vdpa_worker.c (which there are, threads that start and stop),
 * vdpa_path.c (paths come, go and move), vdpa_path_group.c (which sit together), vdpa_balance.c
 * (load), vdpa_worker_mail.c (the mailbox in front of a worker) and vdpa_worker_loop.c (what it
 * does).
 *
 * A path is in one of three lists. ACTIVE paths are polled in every round. A path that found
 * nothing for a while, or waits, is armed and becomes IDLE: only a kick wakes it. TIMED is idle
 * without anything that could wake it (no descriptor, or one that epoll refuses, as of a plain
 * file): such a path is polled once in VDPA_WORKER_TIMED_MS.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "vdpa_private.h"

#define VDPA_WORKER_SPIN_US   50 /* adaptive: without work so long, then armed */
#define VDPA_WORKER_LINGER_US 3  /* sleep: the same; to fall asleep and be woken costs as much */
#define VDPA_WORKER_PAUSE_US  5  /* without work so long, then the CPU is yielded in each round */
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
	VDPA_WORKER_ADD,
	VDPA_WORKER_DEL,   /* calls end for each */
	VDPA_WORKER_OUT,   /* to be added to another worker */
	VDPA_WORKER_EACH,  /* fn(path) for each */
	VDPA_WORKER_RUN,   /* fn(arg) for path alone */
	VDPA_WORKER_QUIET, /* nothing: it is between two rounds */
	VDPA_WORKER_STOP,
};

/* One command at a time; the poster that holds post_lock writes it before posting its number. */
struct vdpa_worker_mail {
	_Atomic(uint32_t) posted; /* number of the command that waits, 0: none */
	_Atomic(uint32_t) acked;  /* number of the last one done; a futex */
	_Atomic(enum vdpa_worker_cmd) cmd;
	_Atomic(struct vdpa_path *) path;
	void (*_Atomic fn)(void *arg);
	_Atomic(void *) arg;
};

/* As the worker took it. */
struct vdpa_worker_command {
	uint32_t number;
	enum vdpa_worker_cmd cmd;
	struct vdpa_path *path;
	void (*fn)(void *arg);
	void *arg;
};

/* Paths that sit on one worker, always: those of one key, or a single one. */
struct vdpa_path_group {
	const void *key;
	struct vdpa_path *paths;
	struct vdpa_worker *worker;            /* NULL: no path */
	struct vdpa_path_group *next, **pprev; /* in a bucket */
	unsigned int refs;                     /* paths, and who works on it */
	int numa_node;
	bool by_hand;             /* stays where a person put it */
	uint64_t busy_then, busy; /* cycles: at the last count, in the last period */
};

struct vdpa_worker {
	/* the worker's own */
	_Alignas(64) struct vdpa_path *lists[VDPA_PATH_TIMED + 1];
	uint64_t spin, pause, epoll_every, timed_every; /* TSC cycles */
	uint64_t last_work, last_epoll, last_timed;     /* TSC */
	uint64_t crowded, crowded_for, crowded_until;   /* cycles, cycles, TSC */
	uint32_t round;
	bool poll_only, stop;
	unsigned int nr_watched; /* descriptors */
	int epfd, wake_fd;

	/* written by the worker, read by anybody */
	_Alignas(64) _Atomic(uint64_t) loops;
	_Atomic(uint64_t) busy_loops;
	_Atomic(uint64_t) busy_cycles;
	_Atomic(bool) sleeping;

	_Alignas(64) struct vdpa_worker_mail mail;

	/* posters */
	_Alignas(64) pthread_mutex_t post_lock;
	uint32_t generation;

	/* under vdpa_workers.lock */
	pthread_t thread;
	_Atomic(bool) running;
	uint32_t nr_paths;
	uint64_t busy_then, busy; /* cycles: at the last count, in the last period */
	uint32_t busy_permille;   /* of that */
	int cpu; /* -1: the main lcore's CPU set */
	int numa_node;
};

/*
 * Which workers there are, which of them run, and how many paths each has. The lock is never held
 * while a path's worker is waited for: one that hangs holds up its own paths and nobody else.
 */
struct vdpa_workers {
	pthread_mutex_t lock;
	struct vdpa_worker *all;
	unsigned int nr;
	unsigned int nr_keepers; /* workers without paths go on */
	enum vdpa_worker_idle idle;
	uint64_t counted_at; /* TSC */
};
extern struct vdpa_workers vdpa_workers;

static inline unsigned int
vdpa_worker_number(const struct vdpa_worker *worker)
{
	return worker - vdpa_workers.all;
}

/* ---- vdpa_worker.c ---- */
/*
 * More paths on a worker, which is started if need be. *worker NULL: the least loaded one, of the
 * wanted NUMA node if there is one.
 */
int vdpa_worker_get(struct vdpa_worker **worker, int numa_node, uint32_t nr_paths);
void vdpa_worker_put(struct vdpa_worker *worker, uint32_t nr_paths);

/* ---- vdpa_path.c ---- */
/*
 * Move all paths of a group. 0; -ETIMEDOUT: a worker hangs; -EBUSY: other paths come and go;
 * -ENOENT: it has no path any more.
 */
int vdpa_group_move(struct vdpa_path_group *group, struct vdpa_worker *to);

/* ---- vdpa_path_group.c ---- */
/* A group that is to stay while it is used; NULL: no path has this key. */
struct vdpa_path_group *vdpa_group_hold(const void *key);
void vdpa_group_put(struct vdpa_path_group *group);
/*
 * Make a path part of its group, and have a worker for it, the group's if that has one. 0, -ENOMEM,
 * or what starting a worker gave.
 */
int vdpa_group_join(struct vdpa_path *path, int numa_node);
/* No worker has it any more. */
void vdpa_group_leave(struct vdpa_path *path);
/* The worker that its paths are on; NULL: it has none. */
struct vdpa_worker *vdpa_group_on(const struct vdpa_path_group *group);
/* All its paths have gone there. */
void vdpa_group_put_on(struct vdpa_path_group *group, struct vdpa_worker *worker);
/* It stays where a person has put it. */
void vdpa_group_hold_by_hand(struct vdpa_path_group *group);
/* Number of the worker that a group is on; -ENOENT: no path has this key. Any thread. */
int vdpa_group_worker(const void *key);
/*
 * Count what each group did since the last time, and show those of a worker to choose(group, arg).
 * @return the one for which that was true last, held
 */
struct vdpa_path_group *vdpa_groups_count(struct vdpa_worker *of,
	bool (*choose)(const struct vdpa_path_group *group, void *arg), void *arg);

/* ---- vdpa_balance.c ---- */
#define VDPA_BALANCE_MS 1000 /* how often the load is measured */
extern struct vdpa_work vdpa_balance_work;
/* What vdpa_balance_work does. @return a group was moved */
bool vdpa_balance(void);

/* ---- vdpa_worker_loop.c ---- */
/*
 * Each path's cycles are measured in one round of so many. Odd: rounds with and without work often
 * alternate.
 */
#define VDPA_WORKER_SAMPLE 17
/* Start routine of the thread. */
void *vdpa_worker_main(void *worker);
/* What has to be open before the thread starts. 0, or negative errno. */
int vdpa_worker_open(struct vdpa_worker *worker, enum vdpa_worker_idle idle);
void vdpa_worker_close(struct vdpa_worker *worker);
/* Is the caller a worker? */
bool vdpa_worker_is_self(void);

/* ---- vdpa_worker_mail.c ---- */
/*
 * Have a command done and wait for it, a second at most. 0; -ETIMEDOUT: it
 * was withdrawn, or (RUN) hangs; -EDEADLK: the caller is a worker; -ESHUTDOWN: no thread.
 */
int vdpa_worker_post(struct vdpa_worker *worker, enum vdpa_worker_cmd cmd, struct vdpa_path *path,
	void (*fn)(void *arg), void *arg);
/* The worker's side. false: there is none. */
bool vdpa_worker_mail_take(struct vdpa_worker_mail *mail, struct vdpa_worker_command *command);
void
vdpa_worker_mail_done(struct vdpa_worker_mail *mail, const struct vdpa_worker_command *command);

#endif /* VDPA_WORKER_H */
