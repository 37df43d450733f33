/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_LOOP_H
#define PERF_LOOP_H

/**
 * @file
 * Frames through a device that returns them, on one queue pair.
 */

#include "guest.h"

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

#endif /* PERF_LOOP_H */
