/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <rte_cycles.h>

#include "frames.h"

bool
frames_latency_due(const struct frames_flow *flow, const struct frames_options *options)
{
	uint64_t gap = rte_get_timer_hz() / 1000000 * options->gap_us;

	return flow->next == 0 || rte_get_timer_cycles() - flow->last_rx_cycles >= gap;
}

void
frames_latency_sent(struct frames_latency *latency)
{
	latency->sent_cycles = rte_get_timer_cycles();
}

void
frames_latency_back(struct frames_latency *latency)
{
	uint64_t cycles = rte_get_timer_cycles() - latency->sent_cycles;
	uint64_t tenths = cycles * 10000000 / rte_get_timer_hz();

	latency->tenths[RTE_MIN(tenths, (uint64_t)FRAMES_LATENCY_BUCKETS - 1)]++;
	latency->nr++;
}

double
frames_latency_us(const struct frames_latency *latency, double percent)
{
	uint64_t below = 0;

	for (uint32_t i = 0; i < FRAMES_LATENCY_BUCKETS && latency->nr != 0; i++) {
		below += latency->tenths[i];
		if ((double)below >= percent / 100 * (double)latency->nr)
			return i / 10.0;
	}
	return 0;
}
