/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "guest.h"
#include "perf.h"

#define SYNC_MS 5000

#ifndef VIRTIO_F_IN_ORDER
#define VIRTIO_F_IN_ORDER 35
#endif

uint64_t
perf_guest_features(bool packed, bool mergeable, bool in_order)
{
	return PERF_BIT(VIRTIO_F_VERSION_1) | (packed ? PERF_BIT(VIRTIO_F_RING_PACKED) : 0) |
		(mergeable ? PERF_BIT(VIRTIO_NET_F_MRG_RXBUF) : 0) |
		(in_order ? PERF_BIT(VIRTIO_F_IN_ORDER) : 0);
}

int
perf_device_add(const char *mgmtdev, const char *name, const char *args)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(mgmtdev);
	int rc = m != NULL ? m->dev_add(m, name, args) : -ENODEV;

	if (rc != 0)
		fprintf(stderr, "%s,%s: %s\n", name, args,
			m != NULL ? vdpa_error_text() : "no such kind of device");
	return rc;
}

void
perf_device_del(const char *name)
{
	struct vdpa_device *dev = vdpa_device_find(name);

	if (dev != NULL && dev->mgmtdev->dev_del(dev->mgmtdev, dev, true) != 0)
		fprintf(stderr, "%s: %s\n", name, vdpa_error_text());
}

static const struct vdpa_binding_ops binding_ops;

struct vdpa_wanted_vq
perf_guest_wanted_vq(const struct perf_guest_queue *q)
{
	return (struct vdpa_wanted_vq){
		.ready = true,
		.size = q->q.size,
		.desc_iova = q->q.desc_iova,
		.driver_iova = q->q.driver_iova,
		.device_iova = q->q.device_iova,
		.kick_fd = q->kick_fd,
		.call_fd = q->call_fd,
		.kick_seq = 1,
		.call_seq = 1,
	};
}

/* A file without any page behind it, above what the driver uses. */
static int
spare_region(struct perf_guest *g)
{
	uint64_t end = g->memory.region.iova + g->memory.region.size, size = g->config.spare_bytes;
	void *va;

	g->spare_fd = memfd_create("vdpa-perf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (g->spare_fd < 0 || ftruncate(g->spare_fd, (off_t)size) != 0 ||
		fcntl(g->spare_fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
		return -errno;
	va = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, g->spare_fd, 0);
	if (va == MAP_FAILED)
		return -errno;
	g->regions[1] = (struct vdpa_range){
		.iova = (end + (1 << 30)) >> 30 << 30,
		.size_bytes = size,
		.va = va,
		.fd = g->spare_fd,
	};
	g->wanted.nr_regions = 2;
	return 0;
}

struct vdpa_range
perf_guest_range(const struct perf_memory *memory)
{
	return (struct vdpa_range){
		.iova = memory->region.iova,
		.size_bytes = memory->region.size,
		.va = memory->region.va,
		.fd = -1,
	};
}

int
perf_attach(struct perf_attachment *a, const char *device, const struct vdpa_wanted *wanted)
{
	struct vdpa_device *dev = vdpa_device_find(device);
	int rc;

	if (dev == NULL)
		return -ENODEV;
	a->binding = vdpa_binding_create(device, dev, &binding_ops, a);
	if (a->binding == NULL)
		return -EBUSY;
	a->session = vdpa_session_open(a->binding, "vdpa-perf");
	if (a->session == NULL)
		return -EBUSY;
	rc = vdpa_session_set(a->session, wanted);
	return rc != 0 ? rc : vdpa_session_sync(a->session, SYNC_MS);
}

void
perf_detach(struct perf_attachment *a, const char *device)
{
	if (a->session != NULL) {
		vdpa_session_stop(a->session, NULL, 0, 0);
		vdpa_session_close(a->session);
	}
	if (a->binding != NULL && vdpa_binding_destroy(a->binding) != 0)
		fprintf(stderr, "%s hangs\n", device);
	memset(a, 0, sizeof(*a));
}

static int
attach(struct perf_guest *g)
{
	int rc = 0;

	g->regions[0] = perf_guest_range(&g->memory);
	g->wanted = (struct vdpa_wanted){
		.features = g->config.features,
		.driver_ok = true,
		.vqs = g->vqs,
		.nr_vqs = 2 * g->config.nr_pairs,
		.regions = g->regions,
		.nr_regions = 1,
		.regions_seq = 1,
	};
	for (uint16_t i = 0; i < g->config.nr_pairs; i++) {
		g->vqs[2 * i] = perf_guest_wanted_vq(&g->rx[i]);
		g->vqs[2 * i + 1] = perf_guest_wanted_vq(&g->tx[i]);
	}
	if (g->config.spare_bytes != 0)
		rc = spare_region(g);
	return rc != 0 ? rc : perf_attach(&g->attachment, g->config.device, &g->wanted);
}

static void
log_unmap(struct perf_guest *g)
{
	if (g->wanted.log_va != NULL)
		munmap(g->wanted.log_va, g->wanted.log_size_bytes);
	g->wanted.log_va = NULL;
}

static int
set_and_sync(struct perf_guest *g)
{
	int rc = vdpa_session_set(g->attachment.session, &g->wanted);

	return rc != 0 ? rc : vdpa_session_sync(g->attachment.session, SYNC_MS);
}

/* As a front end does: another log at each beginning. */
int
perf_guest_log(struct perf_guest *g, bool on)
{
	const struct vdpa_range *last = &g->regions[g->wanted.nr_regions - 1];
	void *va = MAP_FAILED;
	int rc = 0;

	if (on) {
		log_unmap(g);
		g->wanted.log_size_bytes = (last->iova + last->size_bytes) / 4096 / 8 + 8;
		va = mmap(NULL, g->wanted.log_size_bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		rc = va == MAP_FAILED ? -errno : 0;
		g->wanted.log_va = rc == 0 ? va : NULL;
		g->wanted.log_seq++;
	}
	g->wanted.log = on;
	if (rc == 0)
		rc = set_and_sync(g);
	if (rc != 0)
		fprintf(stderr, "the log cannot be switched: %s (%s)\n", strerror(-rc),
			vdpa_error_text());
	return rc;
}

int
perf_guest_queue_open(struct perf_guest_queue *q, struct perf_memory *memory, uint16_t ring_size,
	uint64_t features, uint32_t slot_bytes)
{
	int rc = perf_queue_init(&q->q, memory, ring_size, features, slot_bytes);

	q->kick_fd = q->call_fd = -1;
	if (rc != 0)
		return rc;
	vring_drv_disarm(&q->q.ring);
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->kick_fd < 0 || q->call_fd < 0 ? -errno : 0;
}

void
perf_guest_kick(struct perf_guest_queue *q)
{
	uint64_t one = 1;

	if (vring_drv_kick_needed(&q->q.ring) && write(q->kick_fd, &one, sizeof(one)) < 0)
		fprintf(stderr, "a kick is lost: %s\n", strerror(errno));
}

/* Buffers begin at a line's boundary, as those of most drivers do. */
static uint32_t
slot_bytes(uint32_t bytes)
{
	return (bytes + 63) & ~UINT32_C(63);
}

/* Content that depends on the place; the number is its beginning. */
static void
fill_frames(struct perf_guest *g)
{
	struct perf_queue *q = &g->tx[0].q;

	for (uint16_t slot = 0; slot < q->size; slot++)
		for (uint32_t i = 0; i < g->config.frame_bytes; i++)
			q->slots[slot * q->slot_bytes + g->hdr_bytes + i] = (uint8_t)(i * 7 + 1);
}

static int
guest_make(struct perf_guest *g)
{
	const struct perf_guest_config *c = &g->config;
	uint32_t tx_slot = slot_bytes(g->hdr_bytes + c->frame_bytes);
	uint32_t rx_slot = slot_bytes(c->rx_bytes);
	uint64_t pair_bytes = perf_queue_bytes(c->ring_size, c->features, tx_slot) +
		perf_queue_bytes(c->ring_size, c->features, rx_slot);
	int rc = perf_memory_init(&g->memory, pair_bytes * c->nr_pairs);

	for (uint16_t i = 0; i < c->nr_pairs && rc == 0; i++) {
		rc = perf_guest_queue_open(
			&g->rx[i], &g->memory, c->ring_size, c->features, rx_slot);
		if (rc == 0)
			rc = perf_guest_queue_open(
				&g->tx[i], &g->memory, c->ring_size, c->features, tx_slot);
		if (rc == 0)
			perf_queue_give(&g->rx[i].q, c->ring_size, c->rx_bytes, true);
	}
	if (rc == 0 && c->numbered)
		fill_frames(g);
	return rc;
}

int
perf_guest_open(struct perf_guest *g, const struct perf_guest_config *config)
{
	int rc;

	memset(g, 0, sizeof(*g));
	for (int i = 0; i < PERF_PAIRS_MAX; i++)
		g->rx[i].kick_fd = g->rx[i].call_fd = g->tx[i].kick_fd = g->tx[i].call_fd = -1;
	g->spare_fd = -1;
	g->config = *config;
	g->hdr_bytes = sizeof(struct virtio_net_hdr_v1);
	if (config->rx_bytes == 0)
		g->config.rx_bytes = g->hdr_bytes + config->frame_bytes;
	rc = guest_make(g);
	if (rc == 0)
		rc = attach(g);
	if (rc != 0)
		fprintf(stderr, "%s does not start: %s (%s)\n", config->device, strerror(-rc),
			vdpa_error_text());
	return rc;
}

void
perf_guest_queue_close(struct perf_guest_queue *q)
{
	perf_queue_end(&q->q);
	if (q->kick_fd >= 0)
		close(q->kick_fd);
	if (q->call_fd >= 0)
		close(q->call_fd);
}

void
perf_guest_close(struct perf_guest *g)
{
	perf_detach(&g->attachment, g->config.device);
	log_unmap(g);
	if (g->wanted.nr_regions == 2)
		munmap(g->regions[1].va, g->regions[1].size_bytes);
	if (g->spare_fd >= 0)
		close(g->spare_fd);
	for (uint16_t i = 0; i < g->config.nr_pairs; i++) {
		perf_guest_queue_close(&g->rx[i]);
		perf_guest_queue_close(&g->tx[i]);
	}
	perf_memory_end(&g->memory);
}

/* The driver's side, and where the device is to begin. */
static int
queue_restart(struct perf_guest *g, struct perf_guest_queue *q, struct vdpa_wanted_vq *vq)
{
	bool packed = (g->config.features & PERF_BIT(VIRTIO_F_RING_PACKED)) != 0;
	struct vring_state start = packed ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START;
	int rc = perf_queue_reset(&q->q, &g->memory, g->config.features);

	if (rc == 0)
		vring_drv_disarm(&q->q.ring);
	vq->base = (struct vdpa_vq_state){start.avail, start.used};
	vq->base_seq++;
	return rc;
}

int
perf_guest_restart(struct perf_guest *g)
{
	int rc;

	g->wanted.driver_ok = false;
	rc = set_and_sync(g);
	for (uint16_t i = 0; i < g->config.nr_pairs && rc == 0; i++) {
		rc = queue_restart(g, &g->rx[i], &g->vqs[2 * i]);
		if (rc == 0)
			rc = queue_restart(g, &g->tx[i], &g->vqs[2 * i + 1]);
	}
	g->wanted.driver_ok = true;
	if (rc == 0)
		rc = set_and_sync(g);
	if (rc != 0)
		fprintf(stderr, "%s does not start again: %s (%s)\n", g->config.device,
			strerror(-rc), vdpa_error_text());
	return rc;
}

/* The free buffer that was put there i before the last. */
static uint8_t *
free_slot(const struct perf_queue *q, uint16_t i)
{
	return q->slots + (size_t)q->free_slots[q->nr_free - 1 - i] * q->slot_bytes;
}

static void
number_frames(struct perf_guest *g, uint16_t nr)
{
	const struct perf_queue *q = &g->tx[0].q;

	for (uint16_t i = 0; i < nr && i < q->nr_free; i++, g->nr_sent++)
		memcpy(free_slot(q, i) + g->hdr_bytes, &g->nr_sent, sizeof(g->nr_sent));
}

/* The last nr that were taken; their buffers are free. */
static void
compare_frames(struct perf_guest *g, uint16_t nr)
{
	uint32_t rest = g->config.frame_bytes - sizeof(g->nr_received);

	for (uint16_t i = nr; i-- > 0; g->nr_received++) {
		const uint8_t *frame = free_slot(&g->rx[0].q, i) + g->hdr_bytes;

		g->nr_wrong += memcmp(frame, &g->nr_received, sizeof(g->nr_received)) != 0 ||
			memcmp(frame + sizeof(g->nr_received),
				g->tx[0].q.slots + g->hdr_bytes + sizeof(g->nr_received),
				rest) != 0;
	}
}

uint16_t
perf_guest_send(struct perf_guest *g, uint16_t pair, uint16_t nr)
{
	struct perf_guest_queue *tx = &g->tx[pair];

	if (g->config.numbered)
		number_frames(g, nr);
	nr = perf_queue_give(&tx->q, nr, g->hdr_bytes + g->config.frame_bytes, false);
	perf_guest_kick(tx);
	return nr;
}

uint16_t
perf_guest_receive(struct perf_guest *g, uint16_t pair, uint16_t nr)
{
	struct perf_guest_queue *rx = &g->rx[pair];

	nr = perf_queue_take(&rx->q, nr, g->hdr_bytes + g->config.frame_bytes, &g->nr_wrong);
	if (nr == 0)
		return 0;
	if (g->config.numbered)
		compare_frames(g, nr);
	perf_queue_give(&rx->q, nr, g->config.rx_bytes, true);
	perf_guest_kick(rx);
	perf_queue_take(&g->tx[pair].q, nr, 0, &g->nr_wrong);
	return nr;
}

bool
perf_guest_broken(const struct perf_guest *g)
{
	for (uint16_t i = 0; i < g->config.nr_pairs; i++)
		if (vring_drv_error(&g->rx[i].q.ring) != VRING_ERR_NONE ||
			vring_drv_error(&g->tx[i].q.ring) != VRING_ERR_NONE)
			return true;
	return false;
}
