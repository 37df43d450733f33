/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "vdpa_worker.h"

#define POOL_THREADS_MAX 64
#define POOL_IDLE_S      10 /* an idle thread of the pool ends after this */
#define NS_PER_MS        UINT64_C(1000000)
#define NS_PER_S         UINT64_C(1000000000)
#define GRACE_TICKS      8

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work; /* something was queued */
	pthread_cond_t done; /* some work, or a thread, ended; a fence is complete */
	struct vdpa_work *first, **last;
	unsigned int nr_queued, nr_threads, nr_idle;
	bool stopping;
	cpu_set_t cpus; /* of who started a thread last; empty: nobody did */

	/* control thread */
	bool control_runs;
	pthread_t control;
	int epoll_fd, wake_fd;
	uint64_t wake_at_ns; /* when it looks at deadlines next */
	struct vdpa_op *ops;
	struct vdpa_work *periodic;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
	.last = &pool.first,
};

/* Of this thread: the pass it runs, and whether the work went on without it. */
static _Thread_local struct vdpa_pass_frame *frame;
static _Thread_local bool left;

static struct timespec
realtime_after(uint64_t ns)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ns += ts.tv_nsec;
	ts.tv_sec += ns / NS_PER_S;
	ts.tv_nsec = ns % NS_PER_S;
	return ts;
}

/*
 * Pool.lock is held. Signals are the program's business, SIGPIPE nobody's: a front end's socket may
 * be gone. A worker that reports a failure has its CPU for the datapath, not for these threads.
 */
static int
start_thread(pthread_t *thread, void *(*fn)(void *), const char *name)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	if (!vdpa_worker_is_self())
		sched_getaffinity(0, sizeof(pool.cpus), &pool.cpus);
	if (CPU_COUNT(&pool.cpus) != 0)
		pthread_attr_setaffinity_np(&attr, sizeof(pool.cpus), &pool.cpus);

	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rc = pthread_create(thread, &attr, fn, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0) {
		VDPA_LOG(ERR, "cannot start thread %s: %s", name, strerror(rc));
		return -rc;
	}
	pthread_setname_np(*thread, name);
	return 0;
}

static void
run_one_locked(void)
{
	struct vdpa_work *work = pool.first;

	pool.first = work->next;
	if (pool.first == NULL)
		pool.last = &pool.first;
	pool.nr_queued--;
	work->queued = false;
	work->running = true;
	pthread_mutex_unlock(&pool.lock);
	work->fn(work);
	pthread_mutex_lock(&pool.lock);
	if (left) {
		left = false;
		pthread_cond_broadcast(&pool.done);
		return;
	}
	work->running = false;
	if (work->again) {
		work->again = false;
		work->queued = true;
		work->next = NULL;
		*pool.last = work;
		pool.last = &work->next;
		pool.nr_queued++;
	}
	pthread_cond_broadcast(&pool.done);
}

static void *
pool_thread(void *arg __rte_unused)
{
	pthread_mutex_lock(&pool.lock);
	while (!pool.stopping) {
		struct timespec until = realtime_after(POOL_IDLE_S * NS_PER_S);
		int rc = 0;

		if (pool.first != NULL) {
			run_one_locked();
			continue;
		}
		pool.nr_idle++;
		while (pool.first == NULL && !pool.stopping && rc == 0)
			rc = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
		pool.nr_idle--;
		if (pool.first == NULL && rc == ETIMEDOUT)
			break;
	}
	pool.nr_threads--;
	pthread_cond_broadcast(&pool.done);
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* A thread for work that waits while none is free. */
static int
pool_grow_locked(void)
{
	pthread_t thread;
	int rc;

	if (pool.nr_idle >= pool.nr_queued || pool.nr_threads == POOL_THREADS_MAX)
		return 0;
	pool.nr_threads++;
	rc = start_thread(&thread, pool_thread, "vdpa-op");
	if (rc == 0) {
		pthread_detach(thread);
		return 0;
	}
	pool.nr_threads--;
	return pool.nr_threads > 0 ? 0 : rc;
}

static int
queue_locked(struct vdpa_work *work)
{
	int rc = 0;

	if (work->running) {
		work->again = true;
	} else if (!work->queued) {
		work->queued = true;
		work->next = NULL;
		*pool.last = work;
		pool.last = &work->next;
		pool.nr_queued++;
		rc = pool_grow_locked();
		pthread_cond_signal(&pool.work);
	}
	return rc;
}

int
vdpa_work_queue(struct vdpa_work *work)
{
	int rc;

	pthread_mutex_lock(&pool.lock);
	rc = queue_locked(work);
	pthread_mutex_unlock(&pool.lock);
	return rc;
}

void
vdpa_work_leave(struct vdpa_work *work)
{
	pthread_mutex_lock(&pool.lock);
	work->running = false;
	work->again = false;
	pthread_mutex_unlock(&pool.lock);
}

void
vdpa_pass_frame_set(struct vdpa_pass_frame *current)
{
	frame = current;
}

int
vdpa_work_wait_for(struct vdpa_work *work, struct vdpa_patience *patience)
{
	int rc = 0;

	pthread_mutex_lock(&pool.lock);
	while ((work->queued || work->running) && rc == 0)
		rc = vdpa_patience_wait(patience, &pool.done, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
	return rc;
}

int
vdpa_work_wait(struct vdpa_work *work, uint32_t timeout_ms)
{
	struct vdpa_patience patience;

	vdpa_patience_begin(&patience, timeout_ms);
	return vdpa_work_wait_for(work, &patience);
}

static void
control_wake(void)
{
	uint64_t one = 1;

	if (write(pool.wake_fd, &one, sizeof(one)) < 0)
		VDPA_LOG(ERR, "cannot wake the control thread: %s", strerror(errno));
}

static void
op_unlink_locked(struct vdpa_op *op)
{
	*op->pprev = op->next;
	if (op->next != NULL)
		op->next->pprev = op->pprev;
	op->pprev = NULL;
}

/* Fence the devices of overdue ops; when to look again. */
static uint64_t
check_deadlines(void)
{
	uint64_t now = vdpa_now_ns(), next = UINT64_MAX;
	struct vdpa_op *op;

	pthread_mutex_lock(&pool.lock);
restart:
	for (op = pool.ops; op != NULL; op = op->next) {
		/* was it the device, or did the machine stand still? */
		if (op->deadline_ns <= now && op->grace_ticks > 0) {
			op->grace_ticks--;
			op->deadline_ns = now + VDPA_TICK_NS;
		}
		if (op->deadline_ns > now) {
			next = RTE_MIN(next, op->deadline_ns);
			continue;
		}
		op_unlink_locked(op);
		op->expired = true;
		op->fencing = true;
		pthread_mutex_unlock(&pool.lock);
		vdpa_device_fence(op->dev, op->name);
		if (op->frame != NULL)
			op->left = vdpa_pass_leave(op->frame, op->dev);
		pthread_mutex_lock(&pool.lock);
		op->fencing = false;
		pthread_cond_broadcast(&pool.done);
		next = UINT64_MAX;
		goto restart;
	}
	for (struct vdpa_work *work = pool.periodic; work != NULL; work = work->next_periodic) {
		if (work->next_ns <= now) {
			work->next_ns = now + work->period_ms * NS_PER_MS;
			queue_locked(work);
		}
		next = RTE_MIN(next, work->next_ns);
	}
	pool.wake_at_ns = next;
	pthread_mutex_unlock(&pool.lock);
	return next;
}

static void *
control_thread(void *arg __rte_unused)
{
	struct epoll_event events[16];
	bool stopping = false;

	while (!stopping) {
		uint64_t next = check_deadlines(), now = vdpa_now_ns(), drained;
		int timeout_ms = -1, nr;

		if (next != UINT64_MAX)
			timeout_ms = next <= now ? 0
						 : RTE_MIN((next - now) / NS_PER_MS + 1, 60000u);
		nr = epoll_wait(pool.epoll_fd, events, RTE_DIM(events), timeout_ms);
		for (int i = 0; i < nr; i++) {
			if (events[i].data.u64 != 0)
				vdpa_watch_run(events[i].data.u64);
			else if (read(pool.wake_fd, &drained, sizeof(drained)) < 0 &&
				errno != EAGAIN)
				VDPA_LOG(ERR, "control thread: %s", strerror(errno));
		}
		pthread_mutex_lock(&pool.lock);
		stopping = pool.stopping;
		pthread_mutex_unlock(&pool.lock);
	}
	return NULL;
}

static int
control_start_locked(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int rc;

	if (pool.control_runs)
		return 0;
	pool.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pool.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pool.wake_at_ns = UINT64_MAX;
	if (pool.epoll_fd < 0 || pool.wake_fd < 0 ||
		epoll_ctl(pool.epoll_fd, EPOLL_CTL_ADD, pool.wake_fd, &event) != 0)
		rc = -errno;
	else
		rc = start_thread(&pool.control, control_thread, "vdpa-control");
	if (rc != 0) {
		VDPA_LOG(ERR, "cannot start the control thread: %s", strerror(-rc));
		if (pool.epoll_fd >= 0)
			close(pool.epoll_fd);
		if (pool.wake_fd >= 0)
			close(pool.wake_fd);
		return rc;
	}
	pool.control_runs = true;
	return 0;
}

int
vdpa_control_epoll(void)
{
	int rc;

	pthread_mutex_lock(&pool.lock);
	rc = control_start_locked();
	if (rc == 0)
		rc = pool.epoll_fd;
	pthread_mutex_unlock(&pool.lock);
	return rc;
}

void
vdpa_work_every(struct vdpa_work *work, uint32_t period_ms)
{
	struct vdpa_work **at = &pool.periodic;
	bool wake = false;

	pthread_mutex_lock(&pool.lock);
	while (*at != NULL && *at != work)
		at = &(*at)->next_periodic;
	if (period_ms == 0 && *at != NULL) {
		*at = work->next_periodic;
	} else if (period_ms != 0 && *at == NULL) {
		work->next_periodic = pool.periodic;
		pool.periodic = work;
		work->next_ns = vdpa_now_ns() + period_ms * NS_PER_MS;
		wake = control_start_locked() == 0 && work->next_ns < pool.wake_at_ns;
		if (wake)
			pool.wake_at_ns = work->next_ns;
	}
	work->period_ms = period_ms;
	pthread_mutex_unlock(&pool.lock);
	if (wake)
		control_wake();
}

void
vdpa_op_begin(struct vdpa_op *op, struct vdpa_device *dev, const char *name, uint32_t deadline_ms)
{
	bool wake;

	op->dev = dev;
	op->name = name;
	op->expired = false;
	op->fencing = false;
	op->left = false;
	op->frame = frame;
	op->deadline_ns = vdpa_now_ns() + deadline_ms * NS_PER_MS;
	op->grace_ticks = GRACE_TICKS;
	pthread_mutex_lock(&pool.lock);
	/* without a control thread nobody watches: the op runs all the same */
	wake = control_start_locked() == 0 && op->deadline_ns < pool.wake_at_ns;
	if (wake)
		pool.wake_at_ns = op->deadline_ns;
	op->next = pool.ops;
	op->pprev = &pool.ops;
	if (pool.ops != NULL)
		pool.ops->pprev = &op->next;
	pool.ops = op;
	pthread_mutex_unlock(&pool.lock);
	if (wake)
		control_wake();
}

int
vdpa_op_end(struct vdpa_op *op)
{
	bool expired;

	pthread_mutex_lock(&pool.lock);
	while (op->fencing)
		pthread_cond_wait(&pool.done, &pool.lock);
	expired = op->expired;
	if (!expired)
		op_unlink_locked(op);
	pthread_mutex_unlock(&pool.lock);
	if (op->left) {
		left = true;
		longjmp(op->frame->out, 1);
	}
	return expired ? -ETIMEDOUT : 0;
}

void
vdpa_ops_stop(void)
{
	struct timespec until = realtime_after(NS_PER_S);
	bool control_runs;
	int rc = 0;

	pthread_mutex_lock(&pool.lock);
	pool.stopping = true;
	control_runs = pool.control_runs;
	pthread_cond_broadcast(&pool.work);
	while (pool.nr_threads > 0 && rc == 0)
		rc = pthread_cond_timedwait(&pool.done, &pool.lock, &until);
	pthread_mutex_unlock(&pool.lock);
	if (!control_runs)
		return;
	control_wake();
	pthread_join(pool.control, NULL);
	close(pool.epoll_fd);
	close(pool.wake_fd);
	pthread_mutex_lock(&pool.lock);
	pool.control_runs = false;
	/* tests start anew */
	pool.stopping = false;
	pthread_mutex_unlock(&pool.lock);
}
