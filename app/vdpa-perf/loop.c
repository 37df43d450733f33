/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <rte_cycles.h>

#include "loop.h"

#define SILENCE_US 30000000

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

int
perf_loop_check(const struct perf_option *o)
{
	if (perf_value(o, "in-flight") < perf_value(o, "burst") ||
		perf_value(o, "in-flight") > perf_value(o, "ring-size")) {
		fprintf(stderr, "--in-flight: must be from --burst to --ring-size\n");
		return PERF_EXIT_NOT_RUN;
	}
	return 0;
}

void
perf_loop_begin(struct perf_loop *loop, const struct perf_option *o)
{
	loop->burst = (uint16_t)perf_value(o, "burst");
	loop->in_flight_max = (uint32_t)perf_value(o, "in-flight");
	loop->in_flight = 0;
	loop->received = 0;
}

int
perf_place(const struct perf_common *common, bool second, uint64_t idle)
{
	static const enum vdpa_worker_idle idles[] = {
		VDPA_WORKER_POLL, VDPA_WORKER_ADAPTIVE, VDPA_WORKER_SLEEP};
	char cpus[32];
	int len = snprintf(cpus, sizeof(cpus), "%d", common->cpu_device);

	if (second)
		snprintf(cpus + len, sizeof(cpus) - len, ",%d", common->cpu_driver);
	if (vdpa_workers_configure(cpus, idles[idle]) == 0 && perf_pin(common->cpu_driver) == 0)
		return 0;
	fprintf(stderr, "CPUs %d and %d cannot be used: %s\n", common->cpu_device,
		common->cpu_driver, vdpa_error_text());
	return PERF_EXIT_NOT_RUN;
}

static void
add_samples(struct perf_row *row, const struct vdpa_worker_status *before,
	const struct vdpa_worker_status *after, double nr, double cycles, bool requests)
{
	static const char *const names[][2] = {{"device_cycles_a_frame", "frames_per_second"},
		{"device_cycles_a_request", "requests_per_second"}};
	double busy = (double)(after->busy_cycles - before->busy_cycles);
	double rounds = (double)(after->busy_loops - before->busy_loops);

	perf_sample(row, names[requests][0], "cycles", busy / nr);
	perf_sample(row, names[requests][1], "1/s", nr * perf_tsc_hz() / cycles);
	perf_sample(
		row, "real_burst", requests ? "requests" : "frames", rounds > 0 ? nr / rounds : 0);
	perf_sample(row, "device_idle_share", "", 1 - busy / cycles);
}

int
perf_measure_worker(bool (*run)(void *arg, uint64_t cycles), void *arg, const uint64_t *nr_done,
	const struct perf_common *common, bool requests, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);

	if (!run(arg, cycles / 10))
		return PERF_EXIT_WRONG;
	for (uint64_t i = 0; i < common->repeats; i++) {
		struct vdpa_worker_status before, after;
		uint64_t done = *nr_done, from = rte_rdtsc();
		bool ok;

		vdpa_worker_status_get(0, &before);
		ok = run(arg, cycles);
		vdpa_worker_status_get(0, &after);
		if (!ok || *nr_done == done)
			return PERF_EXIT_WRONG;
		add_samples(row, &before, &after, (double)(*nr_done - done),
			(double)(rte_rdtsc() - from), requests);
	}
	return 0;
}
