/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <rte_cycles.h>

#include "loop.h"
#include "perf.h"

#define SILENCE_US 2000000

/* Take what came; false: nothing has come for too long. */
static bool
receive(struct perf_loop *loop, uint64_t *last_us)
{
	uint16_t nr = perf_guest_receive(&loop->guest, 0, loop->burst);

	loop->in_flight -= nr;
	loop->received += nr;
	if (nr != 0)
		*last_us = 0;
	else if (*last_us == 0)
		*last_us = perf_now_us();
	else if (perf_now_us() - *last_us > SILENCE_US)
		return false;
	return true;
}

bool
perf_loop_run(struct perf_loop *loop, uint64_t cycles)
{
	uint64_t until = rte_rdtsc() + cycles, last_us = 0;

	while (rte_rdtsc() < until) {
		while (loop->in_flight + loop->burst <= loop->in_flight_max)
			loop->in_flight += perf_guest_send(&loop->guest, 0, loop->burst);
		if (!receive(loop, &last_us))
			return false;
	}
	while (loop->in_flight > 0)
		if (!receive(loop, &last_us))
			return false;
	return true;
}
