/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include <rte_cycles.h>

#include "loop.h"

#define DEVICE     "perf_blk"
#define SECTOR     512
#define SLOT_BYTES 128 /* of a request, without its data: table, header and status */
#define HEADER_AT  64
#define STATUS_AT  80
#define DESCS      3
#define BATCH      64
#define SILENCE_US 2000000

static struct perf_option options[] = {
	{"backend", "where the device keeps its data", "all,null,malloc,file", 0, 0, 0},
	{"request", "what is asked for", "all,read,write", 0, 0, 0},
	{"size", "bytes of a request, a multiple of 512", NULL, SECTOR, 1 << 20, 4096},
	{"disk", "MiB of the disk", NULL, 1, 4096, 16},
	{"burst", "requests sent at once", NULL, 1, BATCH, 32},
	{"in-flight", "requests under way, at least a burst", NULL, 1, 4096, 32},
	{"format", "ring format", "all,split,packed", 0, 0, 0},
	{"indirect", "indirect descriptors", "off,on", 0, 0, 0},
	{"ring-size", "entries of a ring", NULL, 4, 32768, 256},
	{"idle", "how the worker waits", PERF_IDLES, 0, 0, 0},
	{NULL},
};

/* A virtio-blk driver with one queue. Buffer n of the queue is what belongs to request n. */
struct disk {
	struct perf_attachment attachment;
	struct perf_memory memory;
	struct perf_guest_queue vq;
	uint64_t data_iova;
	uint32_t request_bytes, in_flight_max, in_flight;
	uint16_t burst;
	bool write, indirect;
	uint64_t nr_places, random, nr_done, nr_wrong;
	char path[64]; /* of backend file, "": none */
};

static int
memory_make(struct disk *d, uint16_t ring_size, uint64_t features)
{
	uint64_t data_bytes = (uint64_t)ring_size * d->request_bytes;
	int rc = perf_memory_init(
		&d->memory, perf_queue_bytes(ring_size, features, SLOT_BYTES) + data_bytes + 4096);

	if (rc == 0)
		rc = perf_guest_queue_open(&d->vq, &d->memory, ring_size, features, SLOT_BYTES);
	if (rc != 0)
		return rc;
	d->data_iova = perf_memory_take(&d->memory, data_bytes);
	return d->data_iova != 0 ? 0 : -ENOMEM;
}

static int
disk_open(struct disk *d, const struct perf_option *o, bool packed)
{
	/* with FLUSH a write is done once it is in the cache */
	uint64_t features = perf_guest_features(packed, false, false) |
		PERF_BIT(VIRTIO_BLK_F_FLUSH) |
		(d->indirect ? PERF_BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0);
	struct vdpa_wanted_vq vq;
	struct vdpa_range range;
	struct vdpa_wanted wanted = {
		.features = features,
		.driver_ok = true,
		.vqs = &vq,
		.nr_vqs = 1,
		.regions = &range,
		.nr_regions = 1,
		.regions_seq = 1,
	};
	int rc = memory_make(d, (uint16_t)perf_value(o, "ring-size"), features);

	if (rc == 0) {
		range = perf_guest_range(&d->memory);
		vq = perf_guest_wanted_vq(&d->vq);
		rc = perf_attach(&d->attachment, DEVICE, &wanted);
	}
	if (rc != 0)
		fprintf(stderr, "%s does not start: %s (%s)\n", DEVICE, strerror(-rc),
			vdpa_error_text());
	return rc;
}

static void
disk_close(struct disk *d)
{
	perf_detach(&d->attachment, DEVICE);
	perf_guest_queue_close(&d->vq);
	perf_memory_end(&d->memory);
}

/* Anywhere on the disk, at a multiple of the request's size. */
static uint64_t
next_sector(struct disk *d)
{
	d->random = d->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (d->random >> 33) % d->nr_places * d->request_bytes / SECTOR;
}

static bool
ask(struct disk *d)
{
	struct perf_queue *q = &d->vq.q;
	uint16_t slot = q->free_slots[q->nr_free - 1];
	uint64_t at = q->slots_iova + (uint64_t)slot * SLOT_BYTES;
	uint8_t *va = q->slots + (size_t)slot * SLOT_BYTES;
	const struct virtio_blk_outhdr header = {
		.type = d->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = next_sector(d),
	};
	const struct vring_buf bufs[DESCS] = {{at + HEADER_AT, sizeof(header)},
		{d->data_iova + (uint64_t)slot * d->request_bytes, d->request_bytes},
		{at + STATUS_AT, 1}};
	const struct vring_table table = {va, at, DESCS};
	uint16_t nr_out = d->write ? 2 : 1;

	memcpy(va + HEADER_AT, &header, sizeof(header));
	va[STATUS_AT] = UINT8_MAX;
	if (vring_drv_add(&q->ring, bufs, nr_out, DESCS - nr_out, (void *)(uintptr_t)slot,
		    d->indirect ? &table : NULL) != 0)
		return false;
	q->nr_free--;
	return true;
}

static uint16_t
take(struct disk *d)
{
	struct perf_queue *q = &d->vq.q;
	uint32_t len = d->write ? 1 : d->request_bytes + 1;
	struct vring_drv_done done[BATCH];
	uint16_t nr = vring_drv_get(&q->ring, done, d->burst);

	for (uint16_t i = 0; i < nr; i++) {
		uint16_t slot = (uint16_t)(uintptr_t)done[i].cookie;

		d->nr_wrong += done[i].len != len ||
			q->slots[(size_t)slot * SLOT_BYTES + STATUS_AT] != VIRTIO_BLK_S_OK;
		q->free_slots[q->nr_free++] = slot;
	}
	d->in_flight -= nr;
	d->nr_done += nr;
	return nr;
}

/* Whole bursts only, for so many cycles; then what is under way is waited for. */
static bool
run_disk(void *arg, uint64_t cycles)
{
	struct disk *d = arg;
	uint64_t until = rte_rdtsc() + cycles, last_us = 0;
	bool more;

	while ((more = rte_rdtsc() < until) || d->in_flight > 0) {
		while (more && d->in_flight + d->burst <= d->in_flight_max) {
			for (uint16_t i = 0; i < d->burst; i++)
				if (!ask(d))
					return false;
			vring_drv_publish(&d->vq.q.ring);
			perf_guest_kick(&d->vq);
			d->in_flight += d->burst;
		}
		if (take(d) != 0)
			last_us = 0;
		else if (last_us == 0)
			last_us = perf_now_us();
		else if (perf_now_us() - last_us > SILENCE_US)
			return false;
	}
	return d->nr_wrong == 0;
}

static int
file_make(char path[64])
{
	int fd;

	snprintf(path, 64, "/tmp/vdpa-perf.XXXXXX");
	fd = mkstemp(path);
	if (fd >= 0) {
		close(fd);
		return 0;
	}
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	path[0] = '\0';
	return -EIO;
}

static int
device_add(struct disk *d, const char *backend, const struct perf_option *o)
{
	char args[160];
	int rc = 0;

	if (strcmp(backend, "file") == 0)
		rc = file_make(d->path);
	if (rc != 0)
		return rc;
	snprintf(args, sizeof(args), "backend=%s,size=%uM%s%s", backend,
		(unsigned int)perf_value(o, "disk"), d->path[0] != '\0' ? ",path=" : "", d->path);
	return perf_device_add("sw_blk", DEVICE, args);
}

static int
measure(struct disk *d, const char *backend, bool packed, const struct perf_option *o,
	const struct perf_common *common, struct perf_result *result)
{
	uint64_t request = perf_value(o, "request");
	int rc = 0;

	/* writes first: what is read is there then */
	for (uint64_t write = 2; write > 0 && rc == 0; write--) {
		char label[64];

		if (request != 0 && request != write)
			continue;
		d->write = write == 2;
		snprintf(label, sizeof(label), "%s, %s, %s", backend, packed ? "packed" : "split",
			d->write ? "write" : "read");
		rc = perf_measure_worker(
			run_disk, d, &d->nr_done, common, true, perf_row(result, label));
		if (rc != 0)
			fprintf(stderr, "%s: %s\n", label,
				d->nr_wrong != 0 ? "requests failed" : "requests were lost");
	}
	return rc;
}

static int
run_backend(const char *backend, const struct perf_option *o, const struct perf_common *common,
	struct perf_result *result)
{
	static struct disk d;
	uint64_t format = perf_value(o, "format");
	int rc = 0;

	for (uint64_t packed = 0; packed < 2 && rc == 0; packed++) {
		if (format != 0 && format != 1 + packed)
			continue;
		memset(&d, 0, sizeof(d));
		d.vq.kick_fd = d.vq.call_fd = -1;
		d.request_bytes = (uint32_t)perf_value(o, "size");
		d.nr_places = (perf_value(o, "disk") << 20) / d.request_bytes;
		d.in_flight_max = (uint32_t)perf_value(o, "in-flight");
		d.burst = (uint16_t)perf_value(o, "burst");
		d.indirect = perf_value(o, "indirect") == 1;
		rc = PERF_EXIT_NOT_RUN;
		if (device_add(&d, backend, o) == 0) {
			if (disk_open(&d, o, packed) == 0)
				rc = measure(&d, backend, packed, o, common, result);
			disk_close(&d);
			perf_device_del(DEVICE);
		}
		if (d.path[0] != '\0')
			unlink(d.path);
	}
	return rc;
}

static int
run_blk(const struct perf_option *o, const struct perf_common *common, struct perf_result *result)
{
	static const char *const backends[] = {"null", "malloc", "file"};
	uint64_t backend = perf_value(o, "backend"), in_flight = perf_value(o, "in-flight");
	uint64_t descs = perf_value(o, "indirect") == 1 ? 1 : DESCS;
	int rc;

	if (perf_value(o, "size") % SECTOR != 0) {
		fprintf(stderr, "--size: must be a multiple of %u\n", SECTOR);
		return PERF_EXIT_NOT_RUN;
	}
	if (in_flight < perf_value(o, "burst") || in_flight * descs > perf_value(o, "ring-size")) {
		fprintf(stderr,
			"--in-flight: must be from --burst to what --ring-size holds of %u "
			"descriptors each\n",
			(unsigned int)descs);
		return PERF_EXIT_NOT_RUN;
	}
	rc = perf_place(common, false, perf_value(o, "idle"));
	for (uint64_t i = 0; i < 3 && rc == 0; i++)
		if (backend == 0 || backend == 1 + i)
			rc = run_backend(backends[i], o, common, result);
	return rc;
}

struct perf_command perf_blk = {
	.name = "blk",
	.help = "A sw_blk device and a driver in this process: cycles of a request",
	.options = options,
	.fn = run_blk,
};
