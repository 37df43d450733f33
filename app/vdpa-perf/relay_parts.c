/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/virtio_net.h>

#include <rte_cycles.h>

#include "guest.h"
#include "relay.h"
#include "vdpa_relay_vq.h"
#include "vring_dev.h"

#define BURST_MAX   64
#define NR_SEGS     (VRING_SEGS_DEFAULT + BURST_MAX)
#define WRITTEN_MAX (VDPA_RELAY_WRITTEN_MIN + 4 * BURST_MAX)
#define SHADOW_IOVA (UINT64_C(1) << 40)
#define SHADOW_MAX  (UINT64_C(4) << 20)

/* A queue: driver, relay, device. */
struct queue {
	struct perf_queue driver;
	struct vdpa_relay_vq *relay;
	struct vring_dev device;
	bool writable;
};

struct rig {
	struct perf_memory memory;
	struct vring_region regions[2]; /* the driver's memory, and the shadow rings */
	struct vring_mem mem;
	struct queue tx, rx;
	struct vdpa_device *dev;
	uint16_t burst;
	uint32_t bytes;
	uint64_t nr_wrong;
};

/* Cycles of each part, summed. */
struct parts {
	uint64_t avail, used, dirty, notify, entries;
};

static int
queue_open(struct rig *r, struct queue *q, uint16_t size, uint64_t features, unsigned int nr)
{
	struct vring_config guest, device;
	uint64_t at = nr * (SHADOW_MAX / 2);
	int rc = perf_queue_init(&q->driver, &r->memory, size, features, r->bytes);

	q->relay = vdpa_relay_vq_create(size, features);
	if (rc != 0 || q->relay == NULL || vdpa_relay_shadow_bytes(size, features) > SHADOW_MAX / 2)
		return -1;
	vring_drv_disarm(&q->driver.ring);
	guest = perf_queue_config(&q->driver, &r->memory, features);
	guest.mem = &r->mem;
	rc = vdpa_relay_vq_init(
		q->relay, &guest, r->regions[1].va + at, SHADOW_IOVA + at, guest.state, &device);
	device.mem = &r->mem;
	return rc != 0 ? rc : vring_dev_init(&q->device, &device);
}

static int
rig_open(struct rig *r, const struct perf_option *o, bool packed)
{
	uint16_t size = (uint16_t)perf_value(o, "ring-size");
	uint64_t features = perf_guest_features(packed, true, false);
	void *shadow;
	int rc;

	memset(r, 0, sizeof(*r));
	r->burst = (uint16_t)perf_value(o, "burst");
	r->bytes = sizeof(struct virtio_net_hdr_v1) + (uint32_t)perf_value(o, "size");
	r->rx.writable = true;
	rc = perf_memory_init(&r->memory, 2 * perf_queue_bytes(size, features, r->bytes));
	shadow = mmap(NULL, SHADOW_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (rc != 0 || shadow == MAP_FAILED)
		return -1;
	r->regions[0] = r->memory.region;
	r->regions[1] = (struct vring_region){SHADOW_IOVA, SHADOW_MAX, shadow, VRING_PERM_RW};
	r->mem = (struct vring_mem){r->regions, 2};
	rc = queue_open(r, &r->tx, size, features, 0);
	return rc != 0 ? rc : queue_open(r, &r->rx, size, features, 1);
}

static void
rig_close(struct rig *r)
{
	vdpa_relay_vq_free(r->tx.relay);
	vdpa_relay_vq_free(r->rx.relay);
	perf_queue_end(&r->tx.driver);
	perf_queue_end(&r->rx.driver);
	if (r->regions[1].va != NULL)
		munmap(r->regions[1].va, SHADOW_MAX);
	perf_memory_end(&r->memory);
}

static bool
device_turn(struct rig *r, struct queue *q)
{
	static struct vring_chain chains[BURST_MAX];
	static struct vring_seg segs[NR_SEGS];
	uint16_t nr = vring_dev_peek(&q->device, chains, r->burst, segs, NR_SEGS);

	for (uint16_t i = 0; i < nr; i++)
		chains[i].done.len = q->writable ? r->bytes : 0;
	vring_dev_consume(&q->device, chains, nr);
	vring_dev_push_chains(&q->device, chains, nr);
	vring_dev_flush(&q->device);
	return nr == r->burst;
}

/* One burst through one queue. @return it went as it should */
static bool
turn(struct rig *r, struct queue *q, struct parts *p)
{
	static struct vring_range ranges[WRITTEN_MAX];
	struct vdpa_relay_written written = {.ranges = ranges, .nr_max = WRITTEN_MAX};
	uint32_t there, back;
	uint64_t t[6];
	bool notified;

	perf_queue_give(&q->driver, r->burst, r->bytes, q->writable);
	t[0] = rte_rdtsc();
	there = vdpa_relay_vq_avail(q->relay, BURST_MAX);
	t[1] = rte_rdtsc();
	notified = vdpa_relay_vq_kick_needed(q->relay);
	t[2] = rte_rdtsc();
	p->avail += t[1] - t[0];
	p->notify += t[2] - t[1];
	if (!device_turn(r, q))
		return false;
	t[2] = rte_rdtsc();
	back = vdpa_relay_vq_used(q->relay, BURST_MAX, &written);
	t[3] = rte_rdtsc();
	vdpa_dirty(r->dev, written.ranges, written.nr);
	t[4] = rte_rdtsc();
	notified |= vdpa_relay_vq_signal_needed(q->relay);
	t[5] = rte_rdtsc();
	p->used += t[3] - t[2];
	p->dirty += t[4] - t[3];
	p->notify += t[5] - t[4];
	p->entries += back;
	(void)notified;
	return there == r->burst && back == there && written.nr > 0 &&
		perf_queue_take(&q->driver, r->burst, q->writable ? r->bytes : 0, &r->nr_wrong) ==
		r->burst &&
		r->nr_wrong == 0;
}

static void
add_samples(struct perf_row *row, const struct parts *p)
{
	double entries = (double)p->entries;
	double avail = (double)p->avail / entries, used = (double)p->used / entries;
	double dirty = (double)p->dirty / entries, notify = (double)p->notify / entries;

	perf_sample(row, "relay", "cycles/entry", avail + used + dirty + notify);
	perf_sample(row, "available_side", "cycles/entry", avail);
	perf_sample(row, "used_side", "cycles/entry", used);
	perf_sample(row, "dirty_marking", "cycles/entry", dirty);
	perf_sample(row, "notifications", "cycles/entry", notify);
}

static int
measure(struct rig *r, const struct perf_common *common, struct perf_row *row)
{
	uint64_t cycles = (uint64_t)(perf_tsc_hz() * (double)common->ms / 1000);

	for (uint64_t i = 0; i <= common->repeats; i++) {
		uint64_t until = rte_rdtsc() + cycles;
		struct parts p = {0};

		do
			if (!turn(r, &r->rx, &p) || !turn(r, &r->tx, &p))
				return PERF_EXIT_WRONG;
		while (rte_rdtsc() < until);
		if (i > 0) /* the first warms up */
			add_samples(row, &p);
	}
	return 0;
}

int
perf_relay_parts(const struct perf_option *options, const struct perf_common *common, bool packed,
	const char *device, struct perf_row *row)
{
	static struct rig rig;
	int rc = PERF_EXIT_NOT_RUN;

	if (rig_open(&rig, options, packed) == 0) {
		rig.dev = vdpa_device_find(device);
		rc = measure(&rig, common, row);
	}
	if (rc != 0)
		fprintf(stderr, "%s: %s\n", row->label,
			rc == PERF_EXIT_WRONG ? "buffers did not come back as given" : "no memory");
	rig_close(&rig);
	return rc;
}
