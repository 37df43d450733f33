/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_RELAY_H
#define PERF_RELAY_H

/**
 * @file
 * The relay: relay.c has it beside the direct device and switched over, relay_parts.c alone.
 */

#include "perf.h"

/**
 * One shadow virtqueue a direction, hot, on one CPU: cycles of its parts a ring entry, for the
 * device's log, which is engaged. @return 0, PERF_EXIT_WRONG, PERF_EXIT_NOT_RUN
 */
int perf_relay_parts(const struct perf_option *options, const struct perf_common *common,
	bool packed, const char *device, struct perf_row *row);

#endif /* PERF_RELAY_H */
