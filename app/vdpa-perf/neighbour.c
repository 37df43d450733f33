/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <time.h>

#include <rte_cycles.h>

#include "hostile.h"
#include "loop.h"
#include "perf.h"

#define GOOD "perf_good"

static struct perf_option options[] = {
	{"size", "bytes of a frame", NULL, 14, 9000, 64},
	{"burst", "frames sent at once", NULL, 1, 64, 32},
	{"in-flight", "frames under way, at least a burst", NULL, 1, 4096, 128},
	{"format", "ring format", "all,split,packed", 0, 0, 0},
	{"hostile", "drivers that break their rings", NULL, 1, HOSTILES_MAX, 2},
	{"worker", "of their devices", "all,own,shared", 0, 0, 0},
	{"ring-size", "entries of a ring", NULL, 2, 32768, 256},
	{"idle", "how the workers wait", PERF_IDLES, 0, 0, 1},
	{NULL},
};

static struct perf_loop good;
static struct hostiles *bad;

/* Frames, in seconds by the clock, and of the driver's processor. */
struct rate {
	double frames, seconds, cpu_seconds;
};

static double
cpu_seconds(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static bool
measure(uint64_t cycles, struct rate *rate)
{
	uint64_t received = good.received, from = rte_rdtsc();
	double cpu = cpu_seconds();

	if (!perf_loop_run(&good, cycles) || good.guest.nr_wrong != 0)
		return false;
	rate->seconds = (double)(rte_rdtsc() - from) / perf_tsc_hz();
	rate->cpu_seconds = cpu_seconds() - cpu;
	rate->frames = (double)(good.received - received);
	return true;
}

static bool
measure_attacked(uint64_t cycles, struct rate *rate)
{
	bool done;

	if (hostiles_begin(bad) != 0)
		return false;
	done = measure(cycles, rate);
	return hostiles_end(bad) && done;
}

static void
add_samples(
	struct perf_row *row, const struct rate *alone, const struct rate *attacked, double attacks)
{
	double a = alone->frames / alone->seconds, b = attacked->frames / attacked->seconds;

	perf_sample(row, "frames_per_second", "1/s", a);
	perf_sample(row, "frames_per_second_attacked", "1/s", b);
	perf_sample(row, "attacked_over_alone", "", b / a);
	perf_sample(row, "cpu_share_attacked", "", attacked->cpu_seconds / attacked->seconds);
	perf_sample(row, "attacked_over_alone_cpu", "",
		attacked->frames / attacked->cpu_seconds / (alone->frames / alone->cpu_seconds));
	perf_sample(row, "attacks_per_second", "1/s", attacks / attacked->seconds);
}

/* In turns, so that the machine's moods hit both. */
static int
measure_pairs(const struct perf_common *common, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);
	struct rate alone, attacked;

	for (uint64_t i = 0; i <= common->repeats; i++) {
		uint64_t attacks = hostiles_attacks(bad);

		if (!measure(cycles, &alone) || !measure_attacked(cycles, &attacked))
			return PERF_EXIT_WRONG;
		if (i != 0) /* the first warms up */
			add_samples(
				row, &alone, &attacked, (double)(hostiles_attacks(bad) - attacks));
	}
	return 0;
}

static int
good_open(bool packed, const struct perf_option *o)
{
	const struct perf_guest_config config = {
		.device = GOOD,
		.features = perf_guest_features(packed, true, false),
		.nr_pairs = 1,
		.ring_size = (uint16_t)perf_value(o, "ring-size"),
		.frame_bytes = (uint32_t)perf_value(o, "size"),
		.numbered = true,
	};

	perf_loop_begin(&good, o);
	return perf_guest_open(&good.guest, &config);
}

/* The other worker, if there is one, has nothing: the bad device gets it at each of its starts. */
static int
place_good(const struct perf_common *common)
{
	struct vdpa_worker_status status;

	return vdpa_vq_move(vdpa_device_find(GOOD), 1,
		vdpa_worker_status_get(0, &status) != 0 || status.cpu != common->cpu_device);
}

static int
measure_row(bool packed, bool own, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	int rc = PERF_EXIT_NOT_RUN;
	struct perf_row *row;
	char label[64];

	snprintf(label, sizeof(label), "%s, %s", packed ? "packed" : "split",
		own ? "a worker of their own" : "one worker");
	row = perf_row(result, label);
	bad = NULL;
	if (good_open(packed, o) == 0 && place_good(common) == 0) {
		bad = hostiles_open((unsigned int)perf_value(o, "hostile"), packed);
		if (bad != NULL)
			rc = measure_pairs(common, row);
	}
	if (rc == PERF_EXIT_WRONG)
		fprintf(stderr, "%s: %s\n", label,
			good.guest.nr_wrong != 0 ? "frames came back changed" : "frames were lost");
	hostiles_close(bad);
	perf_guest_close(&good.guest);
	return rc;
}

static int
run_row(bool packed, bool own, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	int rc = perf_place(common, own, perf_value(o, "idle"));

	if (rc != 0)
		return rc;
	if (perf_device_add("sw_net", GOOD, "backend=loopback") != 0)
		return PERF_EXIT_NOT_RUN;
	rc = measure_row(packed, own, o, common, result);
	perf_device_del(GOOD);
	return rc;
}

static int
run_neighbour(
	const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	uint64_t format = perf_value(o, "format"), worker = perf_value(o, "worker");
	int rc = perf_loop_check(o);

	for (uint64_t packed = 0; packed < 2; packed++)
		for (uint64_t shared = 0; shared < 2 && rc == 0; shared++)
			if ((format == 0 || format == 1 + packed) &&
				(worker == 0 || worker == 1 + shared))
				rc = run_row(packed, !shared, o, common, result);
	return rc;
}

struct perf_command perf_neighbour = {
	.name = "neighbour",
	.help = "A sw_net device beside another one whose driver breaks its rings",
	.options = options,
	.fn = run_neighbour,
};
