/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_LOOP_H
#define PERF_LOOP_H

/**
 * @file
 * What measures a device's worker have in common, and frames through a device that returns them, on
 * one queue pair.
 */

#include "guest.h"
#include "perf.h"

struct perf_loop {
	struct perf_guest guest;
	uint16_t burst;
	uint32_t in_flight_max, in_flight;
	uint64_t received;
};

/**
 * Send whole bursts only, so that the device sees what the user said, for so many cycles, then wait
 * for what is under way. @return false: frames did not come back
 */
bool perf_loop_run(struct perf_loop *loop, uint64_t cycles);

/** @return 0, or PERF_EXIT_NOT_RUN with a line on stderr: --in-flight does not fit */
int perf_loop_check(const struct perf_option *o);
/** Nothing is under way; --burst and --in-flight are as the user said. */
void perf_loop_begin(struct perf_loop *loop, const struct perf_option *o);

/** Order of the words of --idle. */
#define PERF_IDLES "poll,adaptive,sleep"
/**
 * Give the worker its CPU and its manner to wait (place in PERF_IDLES), and this thread its CPU.
 * @param second
 *	There is another worker, on this thread's CPU.
 * @return 0, or PERF_EXIT_NOT_RUN with a line on stderr
 */
int perf_place(const struct perf_common *common, bool second, uint64_t idle);
/**
 * Add samples of the cycles that the worker takes for each of what run() counts in *nr_done:
 * requests or frames. run(arg, cycles) drives the device so long; false: something got lost.
 * @return 0, PERF_EXIT_WRONG
 */
int perf_measure_worker(bool (*run)(void *arg, uint64_t cycles), void *arg,
	const uint64_t *nr_done, const struct perf_common *common, bool requests,
	struct perf_row *row);

#endif /* PERF_LOOP_H */
