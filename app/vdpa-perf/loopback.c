/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <rte_cycles.h>

#include "loop.h"
#include "perf.h"

#define DEVICE "perf_loopback"

static struct perf_option options[] = {
	{"size", "bytes of a frame", NULL, 14, 9000, 64},
	{"burst", "frames sent at once", NULL, 1, 64, 32},
	{"in-flight", "frames under way, at least a burst", NULL, 1, 4096, 32},
	{"format", "ring format", "all,split,packed", 0, 0, 0},
	{"in-order", "VIRTIO_F_IN_ORDER", "off,on", 0, 0, 0},
	{"mergeable", "mergeable receive buffers", "on,off", 0, 0, 0},
	{"ring-size", "entries of a ring", NULL, 2, 32768, 256},
	{"idle", "how the worker waits", "poll,adaptive,sleep", 0, 0, 0},
	{NULL},
};

static void
add_samples(struct perf_row *row, const struct vdpa_worker_status *before,
	const struct vdpa_worker_status *after, uint64_t frames, uint64_t cycles)
{
	double busy = (double)(after->busy_cycles - before->busy_cycles);
	double rounds = (double)(after->busy_loops - before->busy_loops);

	perf_sample(row, "device_cycles_a_frame", "cycles", busy / (double)frames);
	perf_sample(
		row, "frames_per_second", "1/s", (double)frames * perf_tsc_hz() / (double)cycles);
	perf_sample(row, "real_burst", "frames", rounds > 0 ? (double)frames / rounds : 0);
	perf_sample(row, "device_idle_share", "", 1 - busy / (double)cycles);
}

static int
measure(struct perf_loop *run, const struct perf_common *common, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);

	if (!perf_loop_run(run, cycles / 10))
		return PERF_EXIT_WRONG;
	for (uint64_t i = 0; i < common->repeats; i++) {
		struct vdpa_worker_status before, after;
		uint64_t received = run->received, from = rte_rdtsc();
		bool ok;

		vdpa_worker_status_get(0, &before);
		ok = perf_loop_run(run, cycles);
		vdpa_worker_status_get(0, &after);
		if (!ok || run->received == received)
			return PERF_EXIT_WRONG;
		add_samples(row, &before, &after, run->received - received, rte_rdtsc() - from);
	}
	return run->guest.nr_wrong != 0 ? PERF_EXIT_WRONG : 0;
}

static int
run_format(bool packed, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	static struct perf_loop run;
	const struct perf_guest_config config = {
		.device = DEVICE,
		.features = perf_guest_features(
			packed, perf_value(o, "mergeable") == 0, perf_value(o, "in-order") == 1),
		.nr_pairs = 1,
		.ring_size = (uint16_t)perf_value(o, "ring-size"),
		.frame_bytes = (uint32_t)perf_value(o, "size"),
	};
	int rc = PERF_EXIT_NOT_RUN;

	if (perf_device_add("sw_net", DEVICE, "backend=loopback") != 0)
		return rc;
	run.burst = (uint16_t)perf_value(o, "burst");
	run.in_flight_max = (uint32_t)perf_value(o, "in-flight");
	run.in_flight = 0;
	run.received = 0;
	if (perf_guest_open(&run.guest, &config) == 0)
		rc = measure(&run, common, perf_row(result, packed ? "packed" : "split"));
	if (rc == PERF_EXIT_WRONG)
		fprintf(stderr, "%s: %s\n", packed ? "packed" : "split",
			run.guest.nr_wrong != 0 ? "frames came back changed in size"
						: "frames were lost");
	perf_guest_close(&run.guest);
	perf_device_del(DEVICE);
	return rc;
}

static int
run_loopback(
	const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	static const enum vdpa_worker_idle idles[] = {
		VDPA_WORKER_POLL, VDPA_WORKER_ADAPTIVE, VDPA_WORKER_SLEEP};
	uint64_t format = perf_value(o, "format");
	char cpu[16];
	int rc = 0;

	if (perf_value(o, "in-flight") < perf_value(o, "burst") ||
		perf_value(o, "in-flight") > perf_value(o, "ring-size")) {
		fprintf(stderr, "--in-flight: must be from --burst to --ring-size\n");
		return PERF_EXIT_NOT_RUN;
	}
	snprintf(cpu, sizeof(cpu), "%d", common->cpu_device);
	if (vdpa_workers_configure(cpu, idles[perf_value(o, "idle")]) != 0 ||
		perf_pin(common->cpu_driver) != 0) {
		fprintf(stderr, "CPUs %d and %d cannot be used: %s\n", common->cpu_device,
			common->cpu_driver, vdpa_error_text());
		return PERF_EXIT_NOT_RUN;
	}
	for (uint64_t packed = 0; packed < 2 && rc == 0; packed++)
		if (format == 0 || format == 1 + packed)
			rc = run_format(packed, o, common, result);
	return rc;
}

struct perf_command perf_loopback = {
	.name = "loopback",
	.help = "A sw_net device that returns frames to a driver in this process",
	.options = options,
	.fn = run_loopback,
};
