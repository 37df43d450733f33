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

#define POST_TIMEOUT_S 1
#define ANSWER_CYCLES  UINT64_C(150000) /* some 50 microseconds */

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

/* Wait until the command has been done. false: the time is over. */
static bool
mail_wait(struct vdpa_worker_mail *mail, uint32_t number, const struct timespec *until)
{
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
			errno == ETIMEDOUT)
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
	struct timespec until;
	uint64_t one = 1;

	atomic_store_explicit(&mail->cmd, cmd, memory_order_relaxed);
	atomic_store_explicit(&mail->path, path, memory_order_relaxed);
	atomic_store_explicit(&mail->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&mail->arg, arg, memory_order_relaxed);
	atomic_store_explicit(&mail->posted, number, memory_order_release);
	if (write(w->wake_fd, &one, sizeof(one)) < 0)
		VDPA_LOG(WARNING, "a worker cannot be woken: errno %d", errno);

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += POST_TIMEOUT_S;
	if (!mail_wait(mail, number, &until)) {
		if (atomic_compare_exchange_strong(&mail->posted, &expected, 0))
			return -ETIMEDOUT;
		/* Taken. Only foreign code can take long, and then it may hang for ever. */
		if (cmd == VDPA_WORKER_DEL || cmd == VDPA_WORKER_EACH || cmd == VDPA_WORKER_RUN)
			return -ETIMEDOUT;
		mail_wait(mail, number, NULL);
	}
	return 0;
}

int
vdpa_worker_post(struct vdpa_worker *w, enum vdpa_worker_cmd cmd, struct vdpa_path *path,
	void (*fn)(void *arg), void *arg)
{
	struct timespec until;
	int rc;

	if (vdpa_worker_is_self())
		return -EDEADLK;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += POST_TIMEOUT_S;
	if (pthread_mutex_timedlock(&w->post_lock, &until) != 0)
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
