/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <rte_common.h>

#include "daemon.h"

static int pipe_fds[2] = {-1, -1};
static atomic_uint nr_signals;
static atomic_bool stopping;

static void
wake(void)
{
	static const char byte;

	/* Full is as good as written: the reader is awake. */
	if (write(pipe_fds[1], &byte, sizeof(byte)) < 0)
		return;
}

static void
on_signal(int number)
{
	int saved = errno;

	if (atomic_fetch_add(&nr_signals, 1) > 0) {
		vdpad_prompt_restore();
		_exit(128 + number);
	}
	atomic_store(&stopping, true);
	wake();
	errno = saved;
}

int
vdpad_signals_start(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	unsigned int i;

	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
		return -errno;
	for (i = 0; i < RTE_DIM(numbers); i++)
		if (sigaction(numbers[i], &action, NULL) != 0)
			return -errno;
	/* A front end that goes while it is being written to must not end us. */
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int
vdpad_stop_fd(void)
{
	return pipe_fds[0];
}

void
vdpad_stop(void)
{
	atomic_store(&stopping, true);
	wake();
}

bool
vdpad_stopping(void)
{
	return atomic_load(&stopping);
}
