/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_pause.h>

#include "vdpa_worker.h"

#define POST_MS       1000u
#define ANSWER_CYCLES UINT64_C(150000) /* some 50 microseconds */

static long
futex_call(_Atomic(uint32_t) *word, int op, uint32_t value, const struct timespec *until)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, until, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

/* ---- the worker's side ---- */

bool
vdpa_worker_mail_take(struct vdpa_worker_mail *mail, struct vdpa_worker_command *command)
{
	uint32_t expected = atomic_load_explicit(&mail->posted, memory_order_acquire);

	*command = (struct vdpa_worker_command){
		.number = expected,
		.cmd = atomic_load_explicit(&mail->cmd, memory_order_relaxed),
		.path = atomic_load_explicit(&mail->path, memory_order_relaxed),
		.fn = atomic_load_explicit(&mail->fn, memory_order_relaxed),
		.arg = atomic_load_explicit(&mail->arg, memory_order_relaxed),
	};
	/* it may have been withdrawn, or another one posted since: then what was read is void */
	return expected != 0 && atomic_compare_exchange_strong(&mail->posted, &expected, 0);
}

void
vdpa_worker_mail_done(struct vdpa_worker_mail *mail, const struct vdpa_worker_command *command)
{
	atomic_store_explicit(&mail->acked, command->number, memory_order_release);
	futex_call(&mail->acked, FUTEX_WAKE_BITSET, 1, NULL);
}

/* ---- who posts ---- */

/* Wait until the command has been done. false: the time is over. patience NULL: for ever. */
static bool
mail_wait(struct vdpa_worker_mail *mail, uint32_t number, struct vdpa_patience *patience)
{
	const struct timespec *until = patience != NULL ? &patience->tick_end : NULL;
	uint64_t began = rte_rdtsc();

	/*
	 * Most answers come sooner than a sleeper is woken, who then may have to wait for the CPU
	 * of the worker that woke him. Without yields: from Linux 6.18 on each of them costs the
	 * caller a time slice, to be paid when the CPU is wanted by others.
	 */
	while (atomic_load_explicit(&mail->acked, memory_order_acquire) != number &&
		rte_rdtsc() - began < ANSWER_CYCLES)
		rte_pause();
	for (;;) {
		uint32_t acked = atomic_load_explicit(&mail->acked, memory_order_acquire);

		if (acked == number)
			return true;
		if (futex_call(&mail->acked, FUTEX_WAIT_BITSET, acked, until) != 0 &&
			errno == ETIMEDOUT && !vdpa_patience_next(patience))
			return atomic_load_explicit(&mail->acked, memory_order_acquire) == number;
	}
}

static int
mail_post(struct vdpa_worker *w, enum vdpa_worker_cmd cmd, struct vdpa_path *path,
	void (*fn)(void *arg), void *arg)
{
	struct vdpa_worker_mail *mail = &w->mail;
	uint32_t number = ++w->generation != 0 ? w->generation : ++w->generation;
	uint32_t expected = number;
	struct vdpa_patience patience;
	uint64_t one = 1;

	atomic_store_explicit(&mail->cmd, cmd, memory_order_relaxed);
	atomic_store_explicit(&mail->path, path, memory_order_relaxed);
	atomic_store_explicit(&mail->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&mail->arg, arg, memory_order_relaxed);
	atomic_store_explicit(&mail->posted, number, memory_order_release);
	if (write(w->wake_fd, &one, sizeof(one)) < 0)
		VDPA_LOG(WARNING, "a worker cannot be woken: errno %d", errno);

	vdpa_patience_begin(&patience, POST_MS);
	if (!mail_wait(mail, number, &patience)) {
		if (atomic_compare_exchange_strong(&mail->posted, &expected, 0))
			return -ETIMEDOUT;
		/* Taken. Only foreign code can take long, and then it may hang for ever. */
		if (cmd == VDPA_WORKER_DEL || cmd == VDPA_WORKER_EACH || cmd == VDPA_WORKER_RUN)
			return -ETIMEDOUT;
		mail_wait(mail, number, NULL);
	}
	return 0;
}

/* pthread_mutex_timedlock() knows no other clock. */
static bool
lock_within_tick(pthread_mutex_t *mutex)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += VDPA_TICK_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return pthread_mutex_timedlock(mutex, &until) == 0;
}

int
vdpa_worker_post(struct vdpa_worker *w, enum vdpa_worker_cmd cmd, struct vdpa_path *path,
	void (*fn)(void *arg), void *arg)
{
	struct vdpa_patience patience;
	int rc;

	if (vdpa_worker_is_self())
		return -EDEADLK;
	vdpa_patience_begin(&patience, POST_MS);
	while (!lock_within_tick(&w->post_lock))
		if (!vdpa_patience_next(&patience))
			return -ETIMEDOUT;
	if (atomic_load(&w->running)) {
		rc = mail_post(w, cmd, path, fn, arg);
		if (cmd == VDPA_WORKER_STOP && rc == 0)
			atomic_store(&w->running, false);
	} else {
		rc = -ESHUTDOWN;
	}
	pthread_mutex_unlock(&w->post_lock);
	return rc;
}
