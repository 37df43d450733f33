/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <rte_cycles.h>

#include "loop.h"
#include "relay.h"

#define DIRECT  "perf_direct"
#define RELAYED "perf_relayed"
#define GIB     (UINT64_C(1) << 30)

static struct perf_option options[] = {
	{"what", "what to measure", "all,ratio,parts,pause", 0, 0, 0},
	{"size", "bytes of a frame", NULL, 14, 9000, 64},
	{"burst", "frames sent at once", NULL, 1, 64, 32},
	{"in-flight", "frames under way, at least a burst", NULL, 1, 4096, 32},
	{"format", "ring format", "all,split,packed", 0, 0, 0},
	{"ring-size", "entries of a ring", NULL, 64, 32768, 256},
	{"switches", "switches of a sample of the pause, there and back", NULL, 1, 1000, 20},
	{"idle", "how the worker waits", "poll,adaptive,sleep", 0, 0, 0},
	{NULL},
};

static struct perf_loop direct, relayed;

static int
loop_open(struct perf_loop *loop, const char *device, const char *args, bool packed,
	const struct perf_option *o)
{
	const struct perf_guest_config config = {
		.device = device,
		.features = perf_guest_features(packed, true, false),
		.nr_pairs = 1,
		.ring_size = (uint16_t)perf_value(o, "ring-size"),
		.frame_bytes = (uint32_t)perf_value(o, "size"),
	};

	if (perf_device_add("sw_net", device, args) != 0)
		return PERF_EXIT_NOT_RUN;
	perf_loop_begin(loop, o);
	return perf_guest_open(&loop->guest, &config) == 0 ? 0 : PERF_EXIT_NOT_RUN;
}

static void
loop_close(struct perf_loop *loop, const char *device)
{
	perf_guest_close(&loop->guest);
	perf_device_del(device);
}

/* @return frames in a second, negative: they did not come back */
static double
rate(struct perf_loop *loop, uint64_t cycles)
{
	uint64_t received = loop->received, from = rte_rdtsc();

	if (!perf_loop_run(loop, cycles) || loop->guest.nr_wrong != 0)
		return -1;
	return (double)(loop->received - received) * perf_tsc_hz() / (double)(rte_rdtsc() - from);
}

/* Both devices are there, one is at rest; in turns, so that the machine's moods hit both. */
static int
measure_ratio(const struct perf_common *common, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);

	for (uint64_t i = 0; i <= common->repeats; i++) {
		double there = rate(&direct, cycles), here = rate(&relayed, cycles);

		if (there <= 0 || here <= 0)
			return PERF_EXIT_WRONG;
		if (i == 0)
			continue; /* warms up */
		perf_sample(row, "relayed_over_direct", "", here / there);
		perf_sample(row, "direct_frames_per_second", "1/s", there);
		perf_sample(row, "relayed_frames_per_second", "1/s", here);
		perf_sample(row, "relay_adds_a_frame", "cycles",
			perf_tsc_hz() / here - perf_tsc_hz() / there);
	}
	return 0;
}

static int
run_ratio(bool packed, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	int rc = loop_open(&direct, DIRECT, "relay=off", packed, o);

	if (rc == 0)
		rc = loop_open(&relayed, RELAYED, "relay=always,log=off", packed, o);
	if (rc == 0 && perf_guest_log(&relayed.guest, true) != 0)
		rc = PERF_EXIT_NOT_RUN;
	if (rc == 0)
		rc = measure_ratio(
			common, perf_row(result, packed ? "packed, logged" : "split, logged"));
	if (rc == PERF_EXIT_WRONG)
		fprintf(stderr, "frames were lost or changed\n");
	loop_close(&relayed, RELAYED);
	loop_close(&direct, DIRECT);
	return rc;
}

static int
run_parts(bool packed, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	int rc = loop_open(&relayed, RELAYED, "relay=always,log=off", packed, o);

	if (rc == 0 && perf_guest_log(&relayed.guest, true) != 0)
		rc = PERF_EXIT_NOT_RUN;
	if (rc == 0)
		rc = perf_relay_parts(o, common, packed, RELAYED,
			perf_row(
				result, packed ? "packed, alone and hot" : "split, alone and hot"));
	loop_close(&relayed, RELAYED);
	return rc;
}

/* ---- the pause ---- */

static bool
frames_pass(struct perf_guest *g)
{
	uint64_t until_us = perf_now_us() + 2000000;

	for (uint16_t i = 0; i < g->config.nr_pairs; i++) {
		if (perf_guest_send(g, i, 1) != 1)
			return false;
		while (perf_guest_receive(g, i, 1) == 0)
			if (perf_now_us() > until_us)
				return false;
	}
	return true;
}

static int
switch_over(struct perf_guest *g, uint64_t switches)
{
	for (uint64_t i = 0; i < 2 * switches; i++) {
		if (perf_guest_log(g, i % 2 == 0) != 0)
			return PERF_EXIT_NOT_RUN;
		if (!frames_pass(g))
			return PERF_EXIT_WRONG;
	}
	return 0;
}

/* The device was made for this: what it counts since then is of these switches. */
static void
pause_samples(struct perf_row *row)
{
	static const char *const names[] = {
		"median_of_stop",
		"median_of_harvest",
		"median_of_re_point",
		"median_of_start",
		"median_of_pause",
		"median_of_marking",
	};
	struct vdpa_device_status status;

	vdpa_device_status_get(vdpa_device_find(RELAYED), &status);
	perf_sample(
		row, "pause_median", "us", (double)status.phases[VDPA_PHASE_PAUSE].median_ns / 1e3);
	perf_sample(row, "pause_p99", "us", (double)status.phases[VDPA_PHASE_PAUSE].p99_ns / 1e3);
	perf_sample(row, "pause_max", "us", (double)status.phases[VDPA_PHASE_PAUSE].max_ns / 1e3);
	for (int i = 0; i < VDPA_NR_PHASES; i++)
		if (i != VDPA_PHASE_PAUSE)
			perf_sample(row, names[i], "us", (double)status.phases[i].median_ns / 1e3);
}

static int
pause_sample(
	struct perf_row *row, uint16_t nr_pairs, uint64_t spare_bytes, const struct perf_option *o)
{
	struct perf_guest *g = &relayed.guest;
	const struct perf_guest_config config = {
		.device = RELAYED,
		.features = perf_guest_features(false, true, false),
		.nr_pairs = nr_pairs,
		.ring_size = (uint16_t)perf_value(o, "ring-size"),
		.frame_bytes = (uint32_t)perf_value(o, "size"),
		.spare_bytes = spare_bytes,
	};
	char args[64];
	int rc = PERF_EXIT_NOT_RUN;

	snprintf(args, sizeof(args), "log=off,max_vqp=%u", nr_pairs);
	if (perf_device_add("sw_net", RELAYED, args) != 0)
		return rc;
	if (perf_guest_open(g, &config) == 0)
		rc = switch_over(g, perf_value(o, "switches"));
	if (rc == 0)
		pause_samples(row);
	else if (rc == PERF_EXIT_WRONG)
		fprintf(stderr, "%s: frames were lost\n", row->label);
	perf_guest_close(g);
	perf_device_del(RELAYED);
	return rc;
}

static int
run_pause(const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	static const struct {
		const char *label;
		uint16_t nr_pairs;
		uint64_t spare_bytes;
	} cases[] = {
		{"pause, 1 pair, 64 MiB", 1, GIB / 16},
		{"pause, 1 pair, 1 GiB", 1, GIB},
		{"pause, 1 pair, 16 GiB", 1, 16 * GIB},
		{"pause, 64 pairs, 64 MiB", 64, GIB / 16},
		{"pause, 64 pairs, 16 GiB", 64, 16 * GIB},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && rc == 0; i++) {
		struct perf_row *row = perf_row(result, cases[i].label);

		for (uint64_t k = 0; k < common->repeats && rc == 0; k++)
			rc = pause_sample(row, cases[i].nr_pairs, cases[i].spare_bytes, o);
	}
	return rc;
}

static int
run_relay(const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	uint64_t what = perf_value(o, "what"), format = perf_value(o, "format");
	int rc = perf_place(common, false, perf_value(o, "idle"));

	for (uint64_t packed = 0; packed < 2 && rc == 0; packed++) {
		if (format != 0 && format != 1 + packed)
			continue;
		if (what == 0 || what == 1)
			rc = run_ratio(packed, o, common, result);
		if (rc == 0 && (what == 0 || what == 2))
			rc = run_parts(packed, o, common, result);
	}
	if (rc == 0 && (what == 0 || what == 3))
		rc = run_pause(o, common, result);
	return rc;
}

struct perf_command perf_relay = {
	.name = "relay",
	.help = "The relay beside the direct device, its parts, and the pause of a switch-over",
	.options = options,
	.fn = run_relay,
};
