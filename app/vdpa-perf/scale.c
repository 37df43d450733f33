/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "perf.h"

#define FRAMES  8
#define WAIT_US 5000000

static struct perf_option options[] = {
	{"devices", "at most; the counts are 10, 100, 1000, ... below and this", NULL, 1, 4096,
		256},
	{"pairs", "queue pairs of a device", NULL, 1, PERF_PAIRS_MAX, 1},
	{"ring-size", "entries of a ring", NULL, 16, 1024, 64},
	{"idle", "how the worker waits", "sleep,adaptive", 0, 0, 0},
	{NULL},
};

struct scale {
	struct perf_guest *guests;
	uint64_t nr_added, nr_opened;
	uint16_t nr_pairs, ring_size;
};

static void
device_name(uint64_t i, char name[32])
{
	snprintf(name, 32, "scale%u", (unsigned int)i);
}

static int
add(struct scale *s, uint64_t nr)
{
	char name[32], args[64];

	snprintf(args, sizeof(args), "backend=loopback,max_vqp=%u", s->nr_pairs);
	for (; s->nr_added < nr; s->nr_added++) {
		device_name(s->nr_added, name);
		if (perf_device_add("sw_net", name, args) != 0)
			return PERF_EXIT_NOT_RUN;
	}
	return 0;
}

static int
attach(struct scale *s, uint64_t nr)
{
	char name[32];

	for (; s->nr_opened < nr; s->nr_opened++) {
		const struct perf_guest_config config = {
			.device = name,
			.features = perf_guest_features(false, true, false),
			.nr_pairs = s->nr_pairs,
			.ring_size = s->ring_size,
			.frame_bytes = 64,
		};

		device_name(s->nr_opened, name);
		if (perf_guest_open(&s->guests[s->nr_opened], &config) != 0) {
			perf_guest_close(&s->guests[s->nr_opened]);
			return PERF_EXIT_NOT_RUN;
		}
	}
	return 0;
}

/* A few frames through each device. */
static int
drive(struct scale *s)
{
	for (uint64_t i = 0; i < s->nr_opened; i++) {
		uint64_t until = perf_now_us() + WAIT_US;
		uint16_t left = perf_guest_send(&s->guests[i], 0, FRAMES);

		if (left != FRAMES)
			return PERF_EXIT_WRONG;
		while (left > 0 && perf_now_us() < until)
			left -= perf_guest_receive(&s->guests[i], 0, left);
		if (left > 0 || s->guests[i].nr_wrong != 0)
			return PERF_EXIT_WRONG;
	}
	return 0;
}

static void
detach(struct scale *s)
{
	while (s->nr_opened > 0)
		perf_guest_close(&s->guests[--s->nr_opened]);
}

static void delete (struct scale *s)
{
	char name[32];

	for (uint64_t i = 0; i < s->nr_added; i++) {
		device_name(i, name);
		perf_device_del(name);
	}
	s->nr_added = 0;
}

static double
heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return (double)(info.uordblks + info.hblkhd);
}

static double
cpu_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

/* Share of a processor that all need while nothing happens. */
static void
idle(struct perf_row *row, uint64_t ms)
{
	double used, began;

	usleep(200000); /* adaptive workers fall asleep */
	used = cpu_us();
	began = (double)perf_now_us();
	usleep((useconds_t)ms * 1000);
	perf_sample(
		row, "idle_share", "%", 100 * (cpu_us() - used) / ((double)perf_now_us() - began));
}

static void
add_time(struct perf_row *row, const char *name, uint64_t began_us, uint64_t nr)
{
	perf_sample(row, name, "us", (double)(perf_now_us() - began_us) / (double)nr);
}

static int
measure(struct scale *s, uint64_t nr, struct perf_row *row, const struct perf_common *common)
{
	double heap = heap_bytes();
	uint64_t began = perf_now_us();
	int rc = add(s, nr);

	add_time(row, "create", began, nr);
	perf_sample(row, "memory_a_device", "bytes", (heap_bytes() - heap) / (double)nr);
	began = perf_now_us();
	if (rc == 0)
		rc = attach(s, nr);
	add_time(row, "connect", began, nr);
	perf_sample(row, "memory_a_running_device", "bytes", (heap_bytes() - heap) / (double)nr);
	began = perf_now_us();
	if (rc == 0)
		rc = drive(s);
	add_time(row, "drive", began, nr);
	if (rc == 0)
		idle(row, common->ms);
	began = perf_now_us();
	detach(s);
	add_time(row, "disconnect", began, nr);
	began = perf_now_us();
	delete (s);
	add_time(row, "delete", began, nr);
	perf_sample(row, "memory_left", "bytes", heap_bytes() - heap);
	return rc;
}

static int
run_counts(struct scale *s, uint64_t most, const struct perf_common *common,
	struct perf_result *result)
{
	int rc = 0;

	for (uint64_t nr = most < 10 ? most : 10;; nr = nr * 10 < most ? nr * 10 : most) {
		char label[32];
		struct perf_row *row;

		snprintf(label, sizeof(label), "%u devices", (unsigned int)nr);
		row = perf_row(result, label);
		for (uint64_t i = 0; i < common->repeats && rc == 0; i++)
			rc = measure(s, nr, row, common);
		if (rc != 0 || nr == most)
			break;
	}
	if (rc == PERF_EXIT_WRONG)
		fprintf(stderr, "frames were lost\n");
	return rc;
}

/* As many descriptors as the system allows: a running device has some for each queue. */
static void
raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int
run_scale(const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	static const enum vdpa_worker_idle idles[] = {VDPA_WORKER_SLEEP, VDPA_WORKER_ADAPTIVE};
	uint64_t most = perf_value(o, "devices");
	struct scale s = {
		.nr_pairs = (uint16_t)perf_value(o, "pairs"),
		.ring_size = (uint16_t)perf_value(o, "ring-size"),
	};
	char cpu[16];
	int rc;

	raise_limit();
	snprintf(cpu, sizeof(cpu), "%d", common->cpu_device);
	if (vdpa_workers_configure(cpu, idles[perf_value(o, "idle")]) != 0 ||
		perf_pin(common->cpu_driver) != 0) {
		fprintf(stderr, "CPUs %d and %d cannot be used: %s\n", common->cpu_device,
			common->cpu_driver, vdpa_error_text());
		return PERF_EXIT_NOT_RUN;
	}
	s.guests = calloc(most, sizeof(*s.guests));
	if (s.guests == NULL) {
		fprintf(stderr, "no memory for %u drivers\n", (unsigned int)most);
		return PERF_EXIT_NOT_RUN;
	}
	/* what a first device leaves for good is none's */
	rc = measure(&s, 1, perf_row(result, "1 device"), common);
	if (rc == 0)
		rc = run_counts(&s, most, common, result);
	detach(&s);
	delete (&s);
	free(s.guests);
	return rc;
}

struct perf_command perf_scale = {
	.name = "scale",
	.help = "Many sw_net devices: memory, times of the control plane, cost of being idle",
	.options = options,
	.fn = run_scale,
};
