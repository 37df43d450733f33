/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blk_guest.h"

#define GUARD_BYTES    UINT64_C(0x10000)
#define TABLE_DESCS    32
#define SYNC_MS        30000
#define ANSWER_MS      30000
#define HEADER         sizeof(struct virtio_blk_outhdr)
#define INFLIGHT_BYTES 4096
#define HEADER_AT      64 /* in the memory of a request, behind the status, as DATA_AT */
#define DATA_AT        4096

static struct blk_guest *open_guest;

/* ---- memory and rings ---- */

void *
blk_guest_ptr(const struct blk_guest *g, uint64_t iova)
{
	const struct vring_region *region = &g->regions[iova >= g->regions[1].iova];

	return region->va + (iova - region->iova);
}

static void
copy(const struct blk_guest *g, uint64_t iova, void *mine, uint32_t len, bool out)
{
	uint64_t border = g->regions[1].iova;
	uint32_t here = iova < border && iova + len > border ? border - iova : len;
	void *its = blk_guest_ptr(g, iova);

	memcpy(out ? its : mine, out ? mine : its, here);
	if (here < len)
		copy(g, border, (uint8_t *)mine + here, len - here, out);
}

void
blk_guest_fill(struct blk_guest *g, uint64_t iova, const void *from, uint32_t len)
{
	copy(g, iova, (void *)(uintptr_t)from, len, true);
}

void
blk_guest_read(const struct blk_guest *g, uint64_t iova, void *to, uint32_t len)
{
	copy(g, iova, to, len, false);
}

static uint8_t *
map_guarded(int fd)
{
	uint8_t *va = mmap(NULL, BLK_REGION_BYTES + 2 * GUARD_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(va != MAP_FAILED);
	va = mmap(va + GUARD_BYTES, BLK_REGION_BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED, fd, 0);
	assert_true(va != MAP_FAILED);
	return va;
}

static void
unmap_guarded(uint8_t *va)
{
	munmap(va - GUARD_BYTES, BLK_REGION_BYTES + 2 * GUARD_BYTES);
}

static void
make_region(struct blk_guest *g, int i)
{
	g->fds[i] = memfd_create("blk_guest", MFD_CLOEXEC);
	assert_true(g->fds[i] >= 0);
	assert_int_equal(ftruncate(g->fds[i], BLK_REGION_BYTES), 0);
	g->regions[i] = (struct vring_region){BLK_GUEST_IOVA + i * BLK_REGION_BYTES,
		BLK_REGION_BYTES, map_guarded(g->fds[i]), VRING_PERM_RW};
	g->device_va[i] = map_guarded(g->fds[i]);
}

static void
make_queue(struct blk_guest *g, uint16_t index)
{
	uint64_t features = g->config.features;
	struct blk_queue *q = &g->vqs[index];
	uint64_t at = BLK_GUEST_IOVA + index * 0x100000;
	struct vring_config config = {
		.size = BLK_RING,
		.features = features,
		.desc_iova = at,
		.driver_iova = at + 0x4000,
		.device_iova = at + 0x8000,
		.mem = &g->mem,
		.state = VRING_STATE_SPLIT_START,
	};

	if ((features & F(F_RING_PACKED)) != 0)
		config.state = VRING_STATE_PACKED_START;
	q->desc_iova = config.desc_iova;
	q->driver_iova = config.driver_iova;
	q->device_iova = config.device_iova;
	q->table_iova = at + 0xc000;
	q->request_iova = BLK_GUEST_IOVA + BLK_REGION_BYTES + (index + 1) * UINT64_C(0x500000);
	assert_int_equal(vring_drv_init(&q->ring, &config), 0);
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(q->kick_fd >= 0 && q->call_fd >= 0);
}

/* ---- session ---- */

static void
config_changed(struct vdpa_binding *binding, void *arg)
{
	(void)binding;
	__atomic_fetch_add(&((struct blk_guest *)arg)->config_changes, 1, __ATOMIC_RELAXED);
}

static void
needs_reset(struct vdpa_binding *binding, void *arg, int error)
{
	(void)binding;
	(void)error;
	__atomic_fetch_add(&((struct blk_guest *)arg)->resets, 1, __ATOMIC_RELAXED);
}

static const struct vdpa_binding_ops binding_ops = {
	.config_changed = config_changed,
	.needs_reset = needs_reset,
};

static int
want(struct blk_guest *g)
{
	struct vdpa_wanted_vq vqs[BLK_GUEST_VQS_MAX] = {0};
	struct vdpa_range regions[2];
	struct vdpa_wanted wanted = {
		.features = g->config.features,
		.driver_ok = true,
		.vqs = vqs,
		.nr_vqs = g->config.nr_vqs,
		.regions = regions,
		.nr_regions = 2,
		.regions_seq = g->regions_seq,
	};
	int rc;

	if (g->inflight_fd >= 0) {
		wanted.inflight_fd = g->inflight_fd;
		wanted.inflight_bytes = INFLIGHT_BYTES;
		wanted.inflight_vqs = 1;
		wanted.inflight_vq_size = BLK_RING;
		wanted.inflight_seq = 1;
	}
	for (int i = 0; i < 2; i++)
		regions[i] = (struct vdpa_range){.iova = g->regions[i].iova,
			.size_bytes = BLK_REGION_BYTES,
			.va = g->device_va[i],
			.fd = -1};
	for (uint16_t i = 0; i < wanted.nr_vqs; i++)
		vqs[i] = (struct vdpa_wanted_vq){
			.ready = true,
			.size = BLK_RING,
			.desc_iova = g->vqs[i].desc_iova,
			.driver_iova = g->vqs[i].driver_iova,
			.device_iova = g->vqs[i].device_iova,
			.base = g->states[i],
			.base_seq = g->base_seq,
			.kick_fd = g->vqs[i].kick_fd,
			.call_fd = g->vqs[i].call_fd,
			.kick_seq = 1,
			.call_seq = 1,
		};
	rc = vdpa_session_set(g->session, &wanted);
	return rc != 0 ? rc : vdpa_session_sync(g->session, SYNC_MS);
}

void
blk_guest_open(struct blk_guest *g, const struct blk_guest_config *config)
{
	int rc;

	memset(g, 0, sizeof(*g));
	g->config = *config;
	if (g->config.nr_vqs == 0)
		g->config.nr_vqs = 1;
	g->regions_seq = 1;
	g->inflight_fd = -1;
	for (int i = 0; i < 2; i++)
		make_region(g, i);
	g->mem = (struct vring_mem){g->regions, 2};
	for (uint16_t i = 0; i < g->config.nr_vqs; i++)
		make_queue(g, i);
	g->dev = vdpa_device_find(config->device);
	assert_non_null(g->dev);
	g->binding = vdpa_binding_create(config->device, g->dev, &binding_ops, g);
	assert_non_null(g->binding);
	g->session = vdpa_session_open(g->binding, "test");
	assert_non_null(g->session);
	open_guest = g;
	rc = config->waits ? 0 : want(g);
	if (rc != 0)
		fail_msg("%s does not start: %d %s", config->device, rc, vdpa_error_text());
}

void
blk_guest_close(struct blk_guest *g)
{
	vdpa_session_close(g->session);
	open_guest = NULL;
	assert_int_equal(vdpa_binding_destroy(g->binding), 0);
	for (uint16_t i = 0; i < g->config.nr_vqs; i++) {
		vring_drv_fini(&g->vqs[i].ring);
		close(g->vqs[i].kick_fd);
		close(g->vqs[i].call_fd);
	}
	if (g->inflight_fd >= 0) {
		munmap(g->inflight, INFLIGHT_BYTES);
		close(g->inflight_fd);
	}
	for (int i = 0; i < 2; i++) {
		unmap_guarded(g->regions[i].va);
		unmap_guarded(g->device_va[i]);
		close(g->fds[i]);
	}
}

void
blk_guest_stop(struct blk_guest *g)
{
	assert_int_equal(vdpa_session_stop(g->session, g->states, g->config.nr_vqs, SYNC_MS), 0);
}

void
blk_guest_start(struct blk_guest *g)
{
	g->base_seq++;
	assert_int_equal(want(g), 0);
}

void *
blk_guest_inflight(struct blk_guest *g)
{
	if (g->inflight_fd >= 0)
		return g->inflight;
	g->inflight_fd = memfd_create("blk_inflight", MFD_CLOEXEC);
	assert_int_equal(ftruncate(g->inflight_fd, INFLIGHT_BYTES), 0);
	g->inflight = mmap(
		NULL, INFLIGHT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g->inflight_fd, 0);
	assert_true(g->inflight != MAP_FAILED);
	return g->inflight;
}

void
blk_guest_remap(struct blk_guest *g)
{
	uint8_t *former[2] = {g->device_va[0], g->device_va[1]};

	for (int i = 0; i < 2; i++)
		g->device_va[i] = map_guarded(g->fds[i]);
	g->regions_seq++;
	assert_int_equal(want(g), 0);
	for (int i = 0; i < 2; i++)
		unmap_guarded(former[i]);
}

/* ---- requests ---- */

void
blk_guest_add(struct blk_guest *g, uint16_t vq, const struct vring_buf *bufs, uint16_t nr_out,
	uint16_t nr_in, void *cookie, bool indirect)
{
	struct blk_queue *q = &g->vqs[vq];
	struct vring_table table = {
		.iova = q->table_iova,
		.va = blk_guest_ptr(g, q->table_iova),
		.nr = TABLE_DESCS,
	};
	uint64_t one = 1;

	assert_int_equal(
		vring_drv_add(&q->ring, bufs, nr_out, nr_in, cookie, indirect ? &table : NULL), 0);
	vring_drv_publish(&q->ring);
	if (vring_drv_kick_needed(&q->ring))
		assert_int_equal(write(q->kick_fd, &one, sizeof(one)), sizeof(one));
}

int64_t
blk_guest_wait(struct blk_guest *g, uint16_t vq, void **cookie, uint32_t timeout_ms)
{
	struct blk_queue *q = &g->vqs[vq];
	struct vring_drv_done done;
	uint64_t count;

	while (vring_drv_get(&q->ring, &done, 1) == 0) {
		struct pollfd call = {.fd = q->call_fd, .events = POLLIN};

		if (vring_drv_error(&q->ring) != VRING_ERR_NONE)
			fail_msg("%s", vring_error_text(vring_drv_error(&q->ring)));
		if (vring_drv_arm(&q->ring))
			continue;
		/* as a driver that sleeps: only an interrupt ends it */
		if (poll(&call, 1, timeout_ms) != 1)
			return -1;
		assert_int_equal(read(q->call_fd, &count, sizeof(count)), sizeof(count));
	}
	assert_int_equal(done.flags & VRING_DONE_CLAMPED, 0);
	if (cookie != NULL)
		*cookie = done.cookie;
	return done.len;
}

/* A part of a request in nr pieces, the first ones of a single byte. */
static uint16_t
cut(struct vring_buf *bufs, uint64_t iova, uint32_t len, uint16_t nr)
{
	uint16_t i = 0;

	for (; i + 1 < nr && len > 1; i++, iova++, len--)
		bufs[i] = (struct vring_buf){iova, 1};
	bufs[i] = (struct vring_buf){iova, len};
	return i + 1;
}

uint8_t
blk_guest_do(struct blk_guest *g, uint16_t vq, enum blk_shape shape, uint32_t type, uint64_t sector,
	void *data, uint32_t len)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	uint64_t status_at = g->vqs[vq].request_iova, at = status_at + HEADER_AT;
	uint64_t data_at = status_at + DATA_AT;
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID, answered;
	bool many = shape == BLK_SCATTERED || shape == BLK_INDIRECT;
	bool indirect = shape == BLK_INDIRECT &&
		(g->config.features & F(RING_F_INDIRECT_DESC)) != 0;
	struct vring_buf bufs[24];
	uint16_t nr_out, nr_in = 0;
	uint8_t status = BLK_PENDING;
	int64_t used;

	if (shape == BLK_CROSSING)
		data_at = BLK_GUEST_IOVA + BLK_REGION_BYTES - len / 2 - 1;
	if (shape == BLK_MERGED && !in)
		data_at = at + HEADER;
	if (shape == BLK_MERGED && in)
		status_at = data_at + len;
	assert_true(len + DATA_AT < BLK_DATA_MAX);
	blk_guest_fill(g, status_at, &status, 1);
	blk_guest_fill(g, at, &header, HEADER);
	if (len != 0)
		blk_guest_fill(g, data_at, data, len);
	nr_out = cut(bufs, at, HEADER + (shape == BLK_MERGED && !in ? len : 0), many ? 5 : 1);
	if (len != 0 && !(shape == BLK_MERGED && !in)) {
		uint16_t nr = cut(
			&bufs[nr_out], data_at, len + (shape == BLK_MERGED), many ? 6 : 1);

		if (in)
			nr_in = nr;
		else
			nr_out += nr;
	}
	if (shape != BLK_MERGED || !in || len == 0)
		bufs[nr_out + nr_in++] = (struct vring_buf){status_at, 1};
	blk_guest_add(g, vq, bufs, nr_out, nr_in, g, indirect);
	used = blk_guest_wait(g, vq, NULL, ANSWER_MS);
	answered = used == (in ? (int64_t)len + 1 : 1);
	if (!answered)
		fail_msg("request of type %u: %lld bytes used", type, (long long)used);
	blk_guest_read(g, status_at, &status, 1);
	if (in && status == VIRTIO_BLK_S_OK)
		blk_guest_read(g, data_at, data, len);
	return status;
}

int
blk_guest_teardown(void **state)
{
	(void)state;
	if (open_guest != NULL)
		blk_guest_close(open_guest);
	return devices_remove();
}

/* ---- devices ---- */

static char disk_path[] = "/tmp/test_sw_blk.XXXXXX";

int
blk_disk_create(void **state)
{
	int fd = mkstemp(disk_path);

	(void)state;
	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 0 : -1;
}

int
blk_disk_remove(void **state)
{
	(void)state;
	return unlink(disk_path);
}

void
blk_device_add(const char *name, const char *args)
{
	bool file = strstr(args, "backend=file") != NULL;
	char text[512];

	snprintf(text, sizeof(text), "%s%s%s", args, file ? ",path=" : "", file ? disk_path : "");
	assert_int_equal(truncate(disk_path, 0), 0);
	device_add("sw_blk", name, text);
}
