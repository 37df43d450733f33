/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "frames.h"

#define EXIT_NOT_RUN 2
/* Once a mismatch is known or a signal came, what is under way has so long to come back. */
#define DRAIN_S                1.0
#define IDLE_PASSES_BEFORE_NAP 256
#define NAP_US                 20

static volatile sig_atomic_t signalled;

struct run {
	const struct frames_options *options;
	const struct frames_port *port;
	struct frames_flow *flows;
	unsigned int nr_lcores;
	bool halt; /* a flow has failed: all stop sending; any lcore sets it */
};

static void
on_signal(int number __rte_unused)
{
	signalled = 1;
}

static bool
keep_sending(const struct run *run)
{
	return !signalled && !__atomic_load_n(&run->halt, __ATOMIC_RELAXED);
}

/* Two lcores may share a core: whoever finds nothing to do lets the other one run. */
static void
idle(unsigned int *nr_passes)
{
	if (++*nr_passes < IDLE_PASSES_BEFORE_NAP)
		sched_yield();
	else
		usleep(NAP_US);
}

static void
tell_progress(const struct run *run, uint64_t *due_cycles)
{
	uint64_t now = rte_get_timer_cycles();

	if (now < *due_cycles)
		return;
	*due_cycles = now + rte_get_timer_hz();
	frames_progress(run->flows, run->options->nr_queues);
}

/* Move every flow of this lcore once; returns how many have not ended. */
static unsigned int
pass(struct run *run, unsigned int first, unsigned int *nr_moved)
{
	bool sending = keep_sending(run);
	double timeout_s = sending ? run->options->timeout_s : DRAIN_S;
	unsigned int nr_live = 0, i;
	struct frames_flow *flow;

	*nr_moved = 0;
	for (i = first; i < run->options->nr_queues; i += run->nr_lcores) {
		flow = &run->flows[i];
		if (flow->end_cycles != 0)
			continue;
		*nr_moved += frames_flow_step(flow, run->port, run->options, sending);
		if (frames_flow_failed(flow))
			__atomic_store_n(&run->halt, true, __ATOMIC_RELAXED);
		if (!frames_flow_ended(flow, run->options, sending, timeout_s))
			nr_live++;
		else if (frames_flow_failed(flow))
			__atomic_store_n(&run->halt, true, __ATOMIC_RELAXED);
	}
	return nr_live;
}

static int
work(void *arg)
{
	struct run *run = arg;
	unsigned int first = rte_lcore_index(rte_lcore_id());
	bool progress = run->options->progress && rte_lcore_id() == rte_get_main_lcore();
	uint64_t due_cycles = rte_get_timer_cycles() + rte_get_timer_hz();
	unsigned int nr_moved, nr_idle = 0;

	while (pass(run, first, &nr_moved) > 0) {
		if (nr_moved == 0 && !run->options->latency)
			idle(&nr_idle);
		else
			nr_idle = 0;
		if (progress)
			tell_progress(run, &due_cycles);
	}
	return 0;
}

static int
run_flows(const struct frames_options *options, const struct frames_port *port)
{
	struct run run = {.options = options, .port = port, .nr_lcores = rte_lcore_count()};
	bool interrupted;
	uint16_t i;
	int code;

	run.flows = rte_zmalloc(
		"frames_flows", options->nr_queues * sizeof(*run.flows), RTE_CACHE_LINE_SIZE);
	if (run.flows == NULL) {
		fprintf(stderr, "no memory for %u queues: give EAL more by -m\n",
			options->nr_queues);
		return EXIT_NOT_RUN;
	}
	for (i = 0; i < options->nr_queues; i++)
		frames_flow_init(&run.flows[i], i);
	rte_eal_mp_remote_launch(work, &run, CALL_MAIN);
	rte_eal_mp_wait_lcore();
	interrupted = signalled != 0;
	code = frames_report(run.flows, options, port, interrupted);
	rte_free(run.flows);
	return code;
}

static void
catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* A back end that died must not end us before the report. */
	signal(SIGPIPE, SIG_IGN);
}

static bool
help_wanted(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

/* EAL takes what stands before `--`; find it first, so that our own mistakes are told at once. */
static int
own_arguments(int argc, char **argv, struct frames_options *options)
{
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		;
	if (i == argc)
		i--;
	return frames_options_parse(argc - i, argv + i, options);
}

int
main(int argc, char **argv)
{
	struct frames_options options;
	struct frames_port port;
	int code = EXIT_NOT_RUN;

	if (help_wanted(argc, argv)) {
		frames_usage(stdout);
		return 0;
	}
	if (own_arguments(argc, argv, &options) != 0)
		return EXIT_NOT_RUN;
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL does not start: %s\n", rte_strerror(rte_errno));
		return EXIT_NOT_RUN;
	}
	catch_signals();
	frames_pattern_init(&options);
	if (frames_port_open(&options, &port) == 0)
		code = run_flows(&options, &port);
	frames_port_close(&port);
	rte_eal_cleanup();
	return code;
}
