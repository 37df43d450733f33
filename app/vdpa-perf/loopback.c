/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

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

static bool
run_loop(void *loop, uint64_t cycles)
{
	return perf_loop_run(loop, cycles);
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
	perf_loop_begin(&run, o);
	if (perf_guest_open(&run.guest, &config) == 0)
		rc = perf_measure_worker(run_loop, &run, &run.received, common, false,
			perf_row(result, packed ? "packed" : "split"));
	if (rc == 0 && run.guest.nr_wrong != 0)
		rc = PERF_EXIT_WRONG;
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
	uint64_t format = perf_value(o, "format");
	int rc = perf_loop_check(o);

	if (rc == 0)
		rc = perf_place(common, false, perf_value(o, "idle"));
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
