/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_PROBE_H
#define PERF_PROBE_H

/**
 * @file
 * What the polls of paths cost. This program's vdpa_path_add() stands before the library's, for
 * plug-ins too, and puts a function that measures before each path's own: the device is the one
 * that everybody uses.
 */

#include <stdint.h>

/** Sums over all paths since the program began. The measuring costs a poll some 40 cycles. */
struct perf_probe {
	uint64_t busy_cycles;	/**< of polls that completed something */
	uint64_t busy_polls;
	uint64_t entries;	/**< that polls completed */
	uint64_t polls;
};

void perf_probe_read(struct perf_probe *sums);

#endif /* PERF_PROBE_H */
