/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_pause.h>

#include "vdpa_worker.h"

#define WATCHED_MANY 16u /* descriptors */

static _Thread_local struct vdpa_worker *self;

/* ---- lists ---- */

static void
list_add(struct vdpa_worker *w, struct vdpa_path *path, enum vdpa_path_state state)
{
	struct vdpa_path **head = &w->lists[state];

	path->state = state;
	path->prev = NULL;
	path->next = *head;
	if (*head != NULL)
		(*head)->prev = path;
	*head = path;
}

static void
list_del(struct vdpa_worker *w, struct vdpa_path *path)
{
	if (path->prev != NULL)
		path->prev->next = path->next;
	else
		w->lists[path->state] = path->next;
	if (path->next != NULL)
		path->next->prev = path->prev;
	path->state = VDPA_PATH_NONE;
}

static void
path_wake(struct vdpa_worker *w, struct vdpa_path *path)
{
	if (path->state == VDPA_PATH_ACTIVE)
		return;
	list_del(w, path);
	path->idle_since = 0;
	list_add(w, path, VDPA_PATH_ACTIVE);
}

/* ---- kick descriptors ---- */

/*
 * Watch what the path names now. Only before it rests: while a path is polled nobody needs its
 * kicks, and what is switched over need not wait for it.
 */
static void
path_watch(struct vdpa_worker *w, struct vdpa_path *path)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = path};
	bool refused = false;

	path->watched = true;
	for (int i = 0; i < 2; i++) {
		int fd = path->wake_fds[i];

		if (fd < 0 || (i == 1 && fd == path->wake_fds[0]))
			continue;
		if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &event) != 0) {
			refused = true;
			continue;
		}
		path->armed_fds[i] = fd;
		w->nr_watched++;
	}
	path->timed = refused || (path->armed_fds[0] < 0 && path->armed_fds[1] < 0);
	if (refused)
		VDPA_LOG(NOTICE,
			"a kick descriptor cannot be watched: its queue is polled when idle");
}

/* Its descriptors are not watched, or not any more. @return how many were */
static unsigned int
path_forget(struct vdpa_worker *w, struct vdpa_path *path)
{
	unsigned int nr = (path->armed_fds[0] >= 0) + (path->armed_fds[1] >= 0);

	path->armed_fds[0] = path->armed_fds[1] = -1;
	path->watched = false;
	w->nr_watched -= nr;
	return nr;
}

/* @return all was still there */
static bool
path_unwatch(struct vdpa_worker *w, struct vdpa_path *path)
{
	bool found = true;

	for (int i = 0; i < 2; i++)
		if (path->armed_fds[i] >= 0 &&
			epoll_ctl(w->epfd, EPOLL_CTL_DEL, path->armed_fds[i], NULL) != 0)
			found = false;
	path_forget(w, path);
	return found;
}

static int
epoll_open(int wake_fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	if (epfd < 0)
		return -errno;
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, wake_fd, &event) != 0) {
		int error = -errno;

		close(epfd);
		return error;
	}
	return epfd;
}

/*
 * A descriptor was closed before it was taken back here. Its entry lives on with the file, which
 * the front end may hold open, and names a path that may go: only a new epoll instance is free of
 * it. Without one (no descriptors left) all paths are timed.
 */
static void
epoll_renew(struct vdpa_worker *w)
{
	struct vdpa_path *path;

	close(w->epfd);
	w->epfd = epoll_open(w->wake_fd);
	for (int state = VDPA_PATH_IDLE; state <= VDPA_PATH_TIMED; state++)
		while ((path = w->lists[state]) != NULL)
			path_wake(w, path);
	for (path = w->lists[VDPA_PATH_ACTIVE]; path != NULL; path = path->next)
		path_forget(w, path);
	w->nr_watched = 0;
}

/* Take what woke paths; wait for it if timeout_ms is not 0. */
static void
take_kicks(struct vdpa_worker *w, int timeout_ms)
{
	struct epoll_event events[64];
	int nr = epoll_wait(w->epfd, events, 64, timeout_ms);

	if (nr < 0 && w->epfd < 0)
		poll(NULL, 0, VDPA_WORKER_TIMED_MS);
	for (int i = 0; i < nr; i++)
		if (events[i].data.ptr != NULL)
			path_wake(w, events[i].data.ptr);
}

/* ---- commands ---- */

static void
path_in(struct vdpa_worker *w, struct vdpa_path *path)
{
	path->armed_fds[0] = path->armed_fds[1] = -1;
	path->watched = path->timed = false;
	path->idle_since = 0;
	list_add(w, path, VDPA_PATH_ACTIVE);
}

/* @return all that was watched was still there */
static bool
paths_out(struct vdpa_worker *w, struct vdpa_path *first, bool ends)
{
	unsigned int nr = 0, nr_before = w->nr_watched;
	bool found = true;

	for (struct vdpa_path *path = first; path != NULL; path = path->batch) {
		if (ends && path->end != NULL)
			path->end(path);
		list_del(w, path);
		nr += (path->armed_fds[0] >= 0) + (path->armed_fds[1] >= 0);
	}
	/* one by one they cost more than the others, watched anew */
	if (nr > WATCHED_MANY && 2 * nr >= nr_before)
		return false;
	for (struct vdpa_path *path = first; path != NULL; path = path->batch)
		found &= path_unwatch(w, path);
	return found;
}

/* @return as paths_out() */
static bool
path_run(struct vdpa_worker *w, struct vdpa_path *path, void (*fn)(void *arg), void *arg)
{
	bool found = path_unwatch(w, path);

	fn(arg);
	path_wake(w, path);
	return found;
}

static void
command_do(struct vdpa_worker *w, const struct vdpa_worker_command *command)
{
	struct vdpa_path *path = command->path;
	bool found = true;

	switch (command->cmd) {
	case VDPA_WORKER_ADD:
		for (; path != NULL; path = path->batch)
			path_in(w, path);
		break;
	case VDPA_WORKER_DEL:
	case VDPA_WORKER_OUT:
		found = paths_out(w, path, command->cmd == VDPA_WORKER_DEL);
		break;
	case VDPA_WORKER_EACH:
		for (; path != NULL; path = path->batch)
			found &= path_run(w, path, command->fn, path);
		break;
	case VDPA_WORKER_RUN:
		found = path_run(w, path, command->fn, command->arg);
		break;
	case VDPA_WORKER_QUIET:
		break;
	case VDPA_WORKER_STOP:
		w->stop = true;
		break;
	}
	if (!found)
		epoll_renew(w);
}

static void
command_take(struct vdpa_worker *w)
{
	struct vdpa_worker_command command;

	if (!vdpa_worker_mail_take(&w->mail, &command))
		return;
	command_do(w, &command);
	vdpa_worker_mail_done(&w->mail, &command);
}

bool
vdpa_worker_is_self(void)
{
	return self != NULL;
}

/* ---- the loop ---- */

/* Nothing came for long enough: ask for kicks, and leave the round unless something came. */
static void
path_rest(struct vdpa_worker *w, struct vdpa_path *path, uint64_t now)
{
	if (!path->watched)
		path_watch(w, path);
	if (path->arm(path)) {
		path->idle_since = now;
		return;
	}
	list_del(w, path);
	list_add(w, path, path->timed ? VDPA_PATH_TIMED : VDPA_PATH_IDLE);
}

/* One burst, and what it cost. Reading the clock for each burst would cost 1 % and more. */
static unsigned int
poll_sampled(struct vdpa_path *path)
{
	uint64_t before = rte_rdtsc();
	unsigned int nr = path->poll(path);

	if (nr != 0)
		__atomic_store_n(&path->busy,
			path->busy + (rte_rdtsc() - before) * VDPA_WORKER_SAMPLE, __ATOMIC_RELAXED);
	return nr;
}

static bool
poll_round(struct vdpa_worker *w, uint64_t now)
{
	bool sample = w->round++ % VDPA_WORKER_SAMPLE == 0;
	uint64_t spin = now < w->crowded_until ? 0 : w->spin;
	struct vdpa_path *path, *next;
	bool busy = false;

	for (path = w->lists[VDPA_PATH_ACTIVE]; path != NULL; path = next) {
		next = path->next;
		if ((unlikely(sample) ? poll_sampled(path) : path->poll(path)) != 0) {
			path->idle_since = 0;
			busy = true;
			continue;
		}
		if (path->idle_since == 0)
			path->idle_since = now;
		if (!w->poll_only && (path->waits || now - path->idle_since >= spin))
			path_rest(w, path, now);
	}
	return busy;
}

/* One poll for each path that nothing wakes; it rests again at once unless it found work. */
static void
wake_timed(struct vdpa_worker *w, uint64_t now)
{
	struct vdpa_path *path;

	w->last_timed = now;
	while ((path = w->lists[VDPA_PATH_TIMED]) != NULL) {
		path_wake(w, path);
		path->idle_since = now - w->spin;
	}
}

static void
yield(struct vdpa_worker *w)
{
	uint64_t before = rte_rdtsc(), after;

	sched_yield();
	after = rte_rdtsc();
	if (after - before >= w->crowded)
		w->crowded_until = after + w->crowded_for;
}

/* Between two rounds: hear kicks, give the CPU to others, or sleep. */
static void
between_rounds(struct vdpa_worker *w, uint64_t now, bool busy)
{
	if (w->lists[VDPA_PATH_ACTIVE] == NULL) {
		atomic_store_explicit(&w->sleeping, true, memory_order_relaxed);
		take_kicks(w, w->lists[VDPA_PATH_TIMED] != NULL ? VDPA_WORKER_TIMED_MS : -1);
		atomic_store_explicit(&w->sleeping, false, memory_order_relaxed);
		now = w->last_epoll = w->last_work = rte_rdtsc();
	} else if (busy) {
		w->last_work = now;
	} else if (now - w->last_work < w->pause) {
		rte_pause();
	} else {
		yield(w);
	}
	if (w->lists[VDPA_PATH_IDLE] != NULL && now - w->last_epoll >= w->epoll_every) {
		take_kicks(w, 0);
		w->last_epoll = now;
	}
	if (w->lists[VDPA_PATH_TIMED] != NULL && now - w->last_timed >= w->timed_every)
		wake_timed(w, now);
}

void *
vdpa_worker_main(void *arg)
{
	struct vdpa_worker *w = arg;
	/* goes on where a former thread of this worker ended */
	uint64_t loops = atomic_load(&w->loops), busy_loops = atomic_load(&w->busy_loops);
	uint64_t busy_cycles = atomic_load(&w->busy_cycles), before = 0;
	bool busy = false;

	self = w;
	while (!w->stop) {
		uint64_t now = rte_rdtsc();

		/* from one round to the next: what a round leaves behind is part of it */
		if (busy)
			atomic_store_explicit(
				&w->busy_cycles, busy_cycles += now - before, memory_order_relaxed);
		before = now;
		busy = poll_round(w, now);
		busy_loops += busy;
		atomic_store_explicit(&w->loops, ++loops, memory_order_relaxed);
		atomic_store_explicit(&w->busy_loops, busy_loops, memory_order_relaxed);
		if (atomic_load_explicit(&w->mail.posted, memory_order_relaxed) != 0)
			command_take(w);
		else
			between_rounds(w, now, busy);
	}
	return NULL;
}

int
vdpa_worker_open(struct vdpa_worker *w, enum vdpa_worker_idle idle)
{
	/* before EAL knows the clock (unit tests) the order of magnitude will do */
	uint64_t hz = rte_get_tsc_hz() != 0 ? rte_get_tsc_hz() : 2000000000;

	for (int state = 0; state <= VDPA_PATH_TIMED; state++)
		w->lists[state] = NULL;
	w->poll_only = idle == VDPA_WORKER_POLL;
	w->stop = false;
	w->nr_watched = 0;
	w->spin = hz / 1000000 *
		(idle == VDPA_WORKER_SLEEP ? VDPA_WORKER_LINGER_US : VDPA_WORKER_SPIN_US);
	w->pause = hz / 1000000 * VDPA_WORKER_PAUSE_US;
	w->epoll_every = hz / 1000000 * VDPA_WORKER_EPOLL_US;
	w->timed_every = hz / 1000 * VDPA_WORKER_TIMED_MS;
	w->crowded = hz / 1000000 * VDPA_WORKER_CROWDED_US;
	w->crowded_for = hz / 1000 * VDPA_WORKER_CROWDED_FOR_MS;
	w->crowded_until = 0;
	w->last_work = w->last_epoll = w->last_timed = rte_rdtsc();

	w->epfd = -1;
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake_fd < 0)
		return -errno;
	w->epfd = epoll_open(w->wake_fd);
	return w->epfd < 0 ? w->epfd : 0;
}

void
vdpa_worker_close(struct vdpa_worker *w)
{
	if (w->epfd >= 0)
		close(w->epfd);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	w->epfd = w->wake_fd = -1;
}
