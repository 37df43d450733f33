/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <string.h>

#include <linux/virtio_net.h>

#include <rte_cycles.h>

#include "guest.h"
#include "perf.h"
#include "vring_copy.h"
#include "vring_dev.h"

#define BURST_MAX 64
#define NR_SEGS   (VRING_SEGS_DEFAULT + BURST_MAX)
#define HDR_BYTES ((uint32_t)sizeof(struct virtio_net_hdr_v1))

static struct perf_option options[] = {
	{"size", "bytes of a frame", NULL, 14, 9000, 64},
	{"burst", "buffers at once", NULL, 1, BURST_MAX, 32},
	{"format", "ring format", "all,split,split-in-order,packed,packed-in-order", 0, 0, 0},
	{"ring-size", "entries of a ring", NULL, 64, 32768, 256},
	{NULL},
};

/* Both sides of a queue. */
struct pair {
	struct perf_queue driver;
	struct vring_dev device;
	struct vring_chain chains[BURST_MAX];
	struct vring_seg segs[NR_SEGS];
};

/* Cycles of each step, summed. */
struct steps {
	uint64_t driver_add, device_take, copy, device_give, driver_get, frames;
};

struct rings {
	struct perf_memory memory;
	struct pair tx, rx;
	uint16_t burst;
	uint32_t bytes; /* header and frame */
	bool in_order;
	uint64_t nr_wrong;
};

static int
pair_open(struct rings *r, struct pair *p, uint16_t size, uint64_t features)
{
	int rc = perf_queue_init(&p->driver, &r->memory, size, features, r->bytes);
	struct vring_config config;

	if (rc != 0)
		return rc;
	config = perf_queue_config(&p->driver, &r->memory, features);
	return vring_dev_init(&p->device, &config);
}

static int
rings_open(struct rings *r, const struct perf_option *o, bool packed, bool in_order)
{
	uint16_t size = (uint16_t)perf_value(o, "ring-size");
	uint64_t features = perf_guest_features(packed, true, in_order);
	int rc;

	memset(r, 0, sizeof(*r));
	r->burst = (uint16_t)perf_value(o, "burst");
	r->bytes = HDR_BYTES + (uint32_t)perf_value(o, "size");
	r->in_order = in_order;
	rc = perf_memory_init(&r->memory, 2 * perf_queue_bytes(size, features, r->bytes));
	if (rc == 0)
		rc = pair_open(r, &r->tx, size, features);
	if (rc == 0)
		rc = pair_open(r, &r->rx, size, features);
	return rc;
}

static void
rings_close(struct rings *r)
{
	perf_queue_end(&r->tx.driver);
	perf_queue_end(&r->rx.driver);
	perf_memory_end(&r->memory);
}

static void
give(struct rings *r, struct pair *p, bool batch, uint16_t nr)
{
	vring_dev_consume(&p->device, p->chains, nr);
	if (batch)
		vring_dev_push_batch(&p->device, p->chains, nr);
	else
		vring_dev_push_chains(&p->device, p->chains, nr);
	vring_dev_flush(&p->device);
	(void)r;
}

/* One burst through both rings, as a device that loops does it. @return it went as it should */
static bool
turn(struct rings *r, struct steps *s)
{
	uint64_t t[6];
	uint16_t nr, room;

	t[0] = rte_rdtsc();
	perf_queue_give(&r->rx.driver, r->burst, r->bytes, true);
	perf_queue_give(&r->tx.driver, r->burst, r->bytes, false);
	t[1] = rte_rdtsc();
	nr = vring_dev_peek(&r->tx.device, r->tx.chains, r->burst, r->tx.segs, NR_SEGS);
	room = vring_dev_peek(&r->rx.device, r->rx.chains, nr, r->rx.segs, NR_SEGS);
	t[2] = rte_rdtsc();
	if (nr != r->burst || room != nr)
		return false;
	for (uint16_t i = 0; i < nr; i++) {
		vring_copy(r->rx.chains[i].segs->va, r->tx.chains[i].segs->va, r->bytes);
		r->rx.chains[i].done.len = r->bytes;
	}
	t[3] = rte_rdtsc();
	give(r, &r->rx, false, nr);
	give(r, &r->tx, r->in_order, nr);
	t[4] = rte_rdtsc();
	nr = perf_queue_take(&r->rx.driver, r->burst, r->bytes, &r->nr_wrong);
	room = perf_queue_take(&r->tx.driver, r->burst, 0, &r->nr_wrong);
	t[5] = rte_rdtsc();
	s->driver_add += t[1] - t[0];
	s->device_take += t[2] - t[1];
	s->copy += t[3] - t[2];
	s->device_give += t[4] - t[3];
	s->driver_get += t[5] - t[4];
	s->frames += nr;
	return nr == r->burst && room == nr && r->nr_wrong == 0;
}

static void
add_samples(struct perf_row *row, const struct steps *s)
{
	double frames = (double)s->frames;
	double take = (double)s->device_take / frames, copy = (double)s->copy / frames;
	double back = (double)s->device_give / frames;

	perf_sample(row, "device_loop", "cycles/frame", take + copy + back);
	perf_sample(row, "device_take", "cycles/frame", take);
	perf_sample(row, "device_copy", "cycles/frame", copy);
	perf_sample(row, "device_give", "cycles/frame", back);
	perf_sample(row, "driver_add", "cycles/frame", (double)s->driver_add / frames);
	perf_sample(row, "driver_get", "cycles/frame", (double)s->driver_get / frames);
}

static int
measure(struct rings *r, const struct perf_common *common, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);
	struct steps warm = {0};

	for (int i = 0; i < 1000; i++)
		if (!turn(r, &warm))
			return PERF_EXIT_WRONG;
	for (uint64_t i = 0; i < common->repeats; i++) {
		uint64_t until = rte_rdtsc() + cycles;
		struct steps s = {0};

		do
			if (!turn(r, &s))
				return PERF_EXIT_WRONG;
		while (rte_rdtsc() < until);
		add_samples(row, &s);
	}
	return 0;
}

static int
run_ring(const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	static const char *const labels[] = {
		"split", "split, in order", "packed", "packed, in order"};
	static struct rings rings;
	uint64_t format = perf_value(o, "format");
	int rc = 0;

	if (perf_pin(common->cpu_driver) != 0) {
		fprintf(stderr, "CPU %d cannot be used\n", common->cpu_driver);
		return PERF_EXIT_NOT_RUN;
	}
	for (uint64_t i = 0; i < 4 && rc == 0; i++) {
		if (format != 0 && format != i + 1)
			continue;
		rc = rings_open(&rings, o, i >= 2, i % 2 == 1) != 0
			? PERF_EXIT_NOT_RUN
			: measure(&rings, common, perf_row(result, labels[i]));
		if (rc != 0)
			fprintf(stderr, "%s: %s\n", labels[i],
				rc == PERF_EXIT_WRONG ? "buffers did not come back as given"
						      : "no memory");
		rings_close(&rings);
	}
	return rc;
}

struct perf_command perf_ring = {
	.name = "ring",
	.help = "Both sides of lib/vring alone, hot, on one CPU",
	.options = options,
	.fn = run_ring,
};
