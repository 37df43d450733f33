/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_eal.h>

#include "net_guest.h"

#define GUARD_BYTES UINT64_C(0x10000)
#define TABLE_DESCS 8
#define SYNC_MS     30000

void
net_sleep_ms(uint32_t ms)
{
	poll(NULL, 0, ms);
}

void
net_eal_start(const char *vdev)
{
	char program[] = "test", huge[] = "--no-huge", option[] = "-m", memory[] = "64",
	     pci[] = "--no-pci", telemetry[] = "--no-telemetry", conf[] = "--no-shconf",
	     level[] = "--log-level=lib.eal:error", vdevs[] = "--vdev";
	char *argv[] = {
		program, huge, option, memory, pci, telemetry, conf, level, vdevs, NULL, NULL};
	static char copy[256];
	int argc = RTE_DIM(argv) - 2;

	snprintf(copy, sizeof(copy), "%s", vdev != NULL ? vdev : "");
	argv[argc] = copy;
	/* without one, not even the option */
	if (rte_eal_init(vdev != NULL ? argc + 1 : argc - 1, argv) < 0)
		exit(1);
}

uint64_t
net_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000000) + ts.tv_nsec / 1000;
}

void
net_frame_fill(uint8_t *frame, uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		frame[i] = seed >> 24;
	}
}

/* ---- memory and rings ---- */

void *
net_guest_ptr(const struct net_guest *g, uint64_t iova)
{
	return g->region.va + (iova - NET_GUEST_IOVA);
}

static uint64_t
take_memory(struct net_guest *g, uint64_t bytes)
{
	uint64_t at = g->used_bytes;

	g->used_bytes = (at + bytes + 4095) & ~UINT64_C(4095);
	assert_true(g->used_bytes <= NET_GUEST_BYTES);
	return NET_GUEST_IOVA + at;
}

static void
map_memory(struct net_guest *g)
{
	g->mem_fd = -1;
	if (g->config.shared) {
		g->mem_fd = memfd_create("net_guest", MFD_CLOEXEC);
		assert_true(g->mem_fd >= 0);
		assert_int_equal(ftruncate(g->mem_fd, NET_GUEST_BYTES), 0);
	}
	/* between pages that nobody may touch */
	g->region.va = mmap(NULL, NET_GUEST_BYTES + 2 * GUARD_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(g->region.va != MAP_FAILED);
	g->guarded = g->region.va;
	g->region.va = mmap(g->region.va + GUARD_BYTES, NET_GUEST_BYTES, PROT_READ | PROT_WRITE,
		(g->config.shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_FIXED,
		g->mem_fd, 0);
	assert_true(g->region.va != MAP_FAILED);
	g->region.iova = NET_GUEST_IOVA;
	g->region.size = NET_GUEST_BYTES;
	g->region.perm = VRING_PERM_RW;
	g->mem.regions = &g->region;
	g->mem.nr_regions = 1;
}

static void
make_queue(struct net_guest *g, struct net_queue *q, uint16_t index, uint32_t slot_bytes)
{
	uint16_t size = g->config.ring_size;
	uint64_t features = g->config.features;
	struct vring_config config = {
		.size = size,
		.features = features,
		.mem = &g->mem,
		.state = VRING_STATE_SPLIT_START,
	};

	if ((features & F(F_RING_PACKED)) != 0)
		config.state = VRING_STATE_PACKED_START;
	q->index = index;
	q->desc_iova = take_memory(g, vring_desc_bytes(size, features));
	q->driver_iova = take_memory(g, vring_driver_bytes(size, features));
	q->device_iova = take_memory(g, vring_device_bytes(size, features));
	q->slots_iova = take_memory(g, (uint64_t)size * slot_bytes);
	q->tables_iova = take_memory(g, (uint64_t)size * TABLE_DESCS * 16);
	q->slot_bytes = slot_bytes;
	config.desc_iova = q->desc_iova;
	config.driver_iova = q->driver_iova;
	config.device_iova = q->device_iova;
	assert_int_equal(vring_drv_init(&q->ring, &config), 0);
	for (q->nr_free = 0; q->nr_free < size; q->nr_free++)
		q->free_slots[q->nr_free] = size - 1 - q->nr_free;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(q->kick_fd >= 0 && q->call_fd >= 0);
}

/* ---- session ---- */

static void
config_changed(struct vdpa_binding *binding, void *arg)
{
	struct net_guest *g = arg;

	(void)binding;
	__atomic_fetch_add(&g->config_changes, 1, __ATOMIC_RELAXED);
}

static void
needs_reset(struct vdpa_binding *binding, void *arg, int error)
{
	struct net_guest *g = arg;

	(void)binding;
	(void)error;
	__atomic_fetch_add(&g->resets, 1, __ATOMIC_RELAXED);
}

static const struct vdpa_binding_ops binding_ops = {
	.config_changed = config_changed,
	.needs_reset = needs_reset,
};

static int
want(struct net_guest *g, bool driver_ok)
{
	struct vdpa_wanted_vq vqs[2 * NET_GUEST_PAIRS_MAX] = {0};
	struct vdpa_range region = {
		.iova = NET_GUEST_IOVA,
		.size_bytes = g->region.size,
		.va = g->region.va,
		.fd = g->mem_fd,
	};
	struct vdpa_wanted wanted = {
		.features = g->config.features,
		.driver_ok = driver_ok,
		.vqs = vqs,
		.nr_vqs = 2 * g->config.nr_pairs,
		.regions = &region,
		.nr_regions = 1,
		.regions_seq = g->regions_seq,
	};
	int rc;

	for (uint16_t i = 0; i < wanted.nr_vqs; i++) {
		struct net_pair *pair = &g->pairs[i / 2];
		struct net_queue *q = i % 2 == 0 ? &pair->rx : &pair->tx;

		vqs[i] = (struct vdpa_wanted_vq){
			.ready = i / 2 < g->nr_ready,
			.size = g->config.ring_size,
			.desc_iova = q->desc_iova,
			.driver_iova = q->driver_iova,
			.device_iova = q->device_iova,
			.base = g->states[i],
			.base_seq = g->base_seq,
			.kick_fd = q->kick_fd,
			.call_fd = q->call_fd,
			.kick_seq = 1,
			.call_seq = 1,
		};
	}
	rc = vdpa_session_set(g->session, &wanted);
	return rc != 0 ? rc : vdpa_session_sync(g->session, SYNC_MS);
}

/* What a failed test leaves is put away for the next one; its guests on the stack are gone. */
static struct {
	struct vdpa_session *session;
	struct vdpa_binding *binding;
} open_guests[8];

static void
note_open(const struct net_guest *g, bool open)
{
	for (unsigned int i = 0; i < 8; i++) {
		if (open_guests[i].binding == (open ? NULL : g->binding)) {
			open_guests[i].binding = open ? g->binding : NULL;
			open_guests[i].session = open ? g->session : NULL;
			return;
		}
	}
	fail_msg("too many guests");
}

int
net_guest_try_open(struct net_guest *g, const struct net_guest_config *config)
{
	memset(g, 0, sizeof(*g));
	g->config = *config;
	if (g->config.nr_pairs == 0)
		g->config.nr_pairs = 1;
	if (g->config.ring_size == 0)
		g->config.ring_size = 64;
	if (g->config.rx_bytes == 0)
		g->config.rx_bytes = 9216;
	if (g->config.tx_bytes == 0)
		g->config.tx_bytes = 9216;
	g->nr_ready = g->config.nr_ready != 0 ? g->config.nr_ready : g->config.nr_pairs;
	g->hdr_bytes = (config->features & (F(F_VERSION_1) | F(NET_F_MRG_RXBUF))) != 0 ? 12 : 10;
	g->regions_seq = 1;
	map_memory(g);
	for (uint16_t i = 0; i < g->config.nr_pairs; i++) {
		make_queue(g, &g->pairs[i].rx, 2 * i, g->config.rx_bytes);
		make_queue(g, &g->pairs[i].tx, 2 * i + 1, g->config.tx_bytes);
	}
	g->dev = vdpa_device_find(config->device);
	assert_non_null(g->dev);
	g->binding = vdpa_binding_create(config->device, g->dev, &binding_ops, g);
	assert_non_null(g->binding);
	g->session = vdpa_session_open(g->binding, "test");
	assert_non_null(g->session);
	note_open(g, true);
	return want(g, true);
}

void
net_guest_open(struct net_guest *g, const struct net_guest_config *config)
{
	int rc = net_guest_try_open(g, config);

	if (rc != 0)
		fail_msg("%s does not start: %d %s", config->device, rc, vdpa_error_text());
}

static void
drop_queue(struct net_queue *q)
{
	vring_drv_fini(&q->ring);
	close(q->kick_fd);
	close(q->call_fd);
}

int
net_guest_teardown(void **state)
{
	int rc = 0;

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		if (open_guests[i].binding == NULL)
			continue;
		vdpa_session_close(open_guests[i].session);
		rc |= vdpa_binding_destroy(open_guests[i].binding);
		open_guests[i].binding = NULL;
	}
	return rc != 0 ? rc : devices_remove();
}

void
net_guest_close(struct net_guest *g)
{
	vdpa_session_close(g->session);
	net_guest_end(g);
}

void
net_guest_end(struct net_guest *g)
{
	note_open(g, false);
	assert_int_equal(vdpa_binding_destroy(g->binding), 0);
	for (uint16_t i = 0; i < g->config.nr_pairs; i++) {
		drop_queue(&g->pairs[i].rx);
		drop_queue(&g->pairs[i].tx);
	}
	munmap(g->guarded, NET_GUEST_BYTES + 2 * GUARD_BYTES);
	if (g->former_va != NULL)
		munmap(g->region.va, NET_GUEST_BYTES);
	if (g->mem_fd >= 0)
		close(g->mem_fd);
}

int
net_guest_stop(struct net_guest *g)
{
	return vdpa_session_stop(g->session, g->states, 2 * g->config.nr_pairs, SYNC_MS);
}

int
net_guest_start(struct net_guest *g, uint16_t nr_ready)
{
	g->nr_ready = nr_ready;
	return want(g, true);
}

void
net_guest_remap(struct net_guest *g)
{
	uint8_t *va = mmap(NULL, NET_GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g->mem_fd, 0);

	assert_true(va != MAP_FAILED);
	assert_null(g->former_va);
	/* by address, so that the class cannot take over its own mapping of the file */
	close(g->mem_fd);
	g->mem_fd = -1;
	g->former_va = g->region.va;
	g->region.va = va;
	g->regions_seq++;
	assert_int_equal(want(g, true), 0);
}

int
net_guest_shrink(struct net_guest *g, uint64_t size_bytes)
{
	int rc;

	g->region.size = size_bytes;
	g->regions_seq++;
	rc = want(g, true);
	assert_int_equal(
		mprotect(g->region.va + size_bytes, NET_GUEST_BYTES - size_bytes, PROT_NONE), 0);
	return rc;
}

/* ---- frames ---- */

void
net_guest_kick(struct net_guest *g, struct net_queue *q)
{
	uint64_t one = 1;

	(void)g;
	vring_drv_publish(&q->ring);
	if (vring_drv_kick_needed(&q->ring))
		assert_int_equal(write(q->kick_fd, &one, sizeof(one)), sizeof(one));
}

uint16_t
net_guest_fill(struct net_guest *g, uint16_t pair, uint16_t nr)
{
	struct net_queue *q = &g->pairs[pair].rx;
	uint16_t done = 0;

	for (; done < nr && q->nr_free > 0; done++) {
		uint16_t slot = q->free_slots[q->nr_free - 1];
		struct vring_buf buf = {
			q->slots_iova + (uint64_t)slot * q->slot_bytes, q->slot_bytes};

		if (vring_drv_add(&q->ring, &buf, 0, 1, (void *)(uintptr_t)(slot + 1), NULL) != 0)
			break;
		q->nr_free--;
	}
	net_guest_kick(g, q);
	return done;
}

/* Pieces of a buffer; the header may be cut, too. */
static uint16_t
cut(enum net_shape shape, uint64_t iova, uint32_t hdr, uint32_t len, struct vring_buf *bufs)
{
	uint32_t cuts[5] = {0}, at = 0, left = hdr + len;
	uint16_t nr = 0;

	switch (shape) {
	case NET_SPLIT:
		cuts[0] = hdr;
		break;
	case NET_SCATTERED:
	case NET_INDIRECT:
		cuts[0] = 3, cuts[1] = hdr - 3 + 5, cuts[2] = 1, cuts[3] = len / 3;
		break;
	default:
		break;
	}
	for (int i = 0; i < 5 && cuts[i] != 0 && cuts[i] < left; i++) {
		bufs[nr++] = (struct vring_buf){iova + at, cuts[i]};
		at += cuts[i];
		left -= cuts[i];
	}
	bufs[nr++] = (struct vring_buf){iova + at, left};
	return nr;
}

bool
net_guest_send(struct net_guest *g, uint16_t pair, enum net_shape shape,
	const struct virtio_net_hdr_v1 *hdr, const void *frame, uint32_t len)
{
	static const struct virtio_net_hdr_v1 zero;
	struct net_queue *q = &g->pairs[pair].tx;
	bool indirect = shape == NET_INDIRECT &&
		(g->config.features & F(RING_F_INDIRECT_DESC)) != 0;
	struct vring_buf bufs[6];
	struct vring_table table;
	uint64_t iova;
	uint16_t slot, nr;

	net_guest_reap(g, pair);
	if (q->nr_free == 0)
		return false;
	slot = q->free_slots[q->nr_free - 1];
	iova = q->slots_iova + (uint64_t)slot * q->slot_bytes;
	assert_true(g->hdr_bytes + len <= q->slot_bytes);
	memcpy(net_guest_ptr(g, iova), hdr != NULL ? hdr : &zero, g->hdr_bytes);
	memcpy((uint8_t *)net_guest_ptr(g, iova) + g->hdr_bytes, frame, len);
	nr = cut(shape == NET_INDIRECT && !indirect ? NET_WHOLE : shape, iova, g->hdr_bytes, len,
		bufs);
	table.iova = q->tables_iova + (uint64_t)slot * TABLE_DESCS * 16;
	table.va = net_guest_ptr(g, table.iova);
	table.nr = TABLE_DESCS;
	if (vring_drv_add(&q->ring, bufs, nr, 0, (void *)(uintptr_t)(slot + 1),
		    indirect ? &table : NULL) != 0)
		return false;
	q->nr_free--;
	net_guest_kick(g, q);
	return true;
}

static uint16_t
slot_back(struct net_queue *q, const struct vring_drv_done *done)
{
	uint16_t slot = (uintptr_t)done->cookie - 1;

	q->free_slots[q->nr_free++] = slot;
	return slot;
}

uint16_t
net_guest_reap(struct net_guest *g, uint16_t pair)
{
	struct net_queue *q = &g->pairs[pair].tx;
	struct vring_drv_done done[32];
	uint16_t total = 0, nr;

	while ((nr = vring_drv_get(&q->ring, done, 32)) != 0) {
		for (uint16_t i = 0; i < nr; i++) {
			assert_int_equal(done[i].len, 0);
			slot_back(q, &done[i]);
		}
		total += nr;
	}
	assert_int_equal(vring_drv_error(&q->ring), VRING_ERR_NONE);
	return total;
}

/* One buffer, its bytes from skip on appended to the frame. */
static uint32_t
take_buffer(struct net_guest *g, struct net_queue *q, uint32_t skip, struct virtio_net_hdr_v1 *hdr,
	uint8_t *frame, uint32_t size)
{
	struct vring_drv_done done;
	const uint8_t *data;

	assert_int_equal(vring_drv_get(&q->ring, &done, 1), 1);
	assert_int_equal(done.flags & VRING_DONE_CLAMPED, 0);
	assert_true(done.len >= skip && done.len - skip <= size);
	data = net_guest_ptr(g, q->slots_iova + (uint64_t)slot_back(q, &done) * q->slot_bytes);
	if (hdr != NULL) {
		memset(hdr, 0, sizeof(*hdr));
		memcpy(hdr, data, skip);
	}
	memcpy(frame, data + skip, done.len - skip);
	return done.len - skip;
}

static bool
have_buffer(struct net_queue *q)
{
	/* looks without taking: arm says whether used buffers are there */
	bool have = vring_drv_arm(&q->ring);

	vring_drv_disarm(&q->ring);
	return have;
}

int
net_guest_receive(struct net_guest *g, uint16_t pair, struct virtio_net_hdr_v1 *hdr, void *frame,
	uint32_t size)
{
	struct net_queue *q = &g->pairs[pair].rx;
	struct virtio_net_hdr_v1 header;
	uint32_t len;

	if (!have_buffer(q)) {
		assert_int_equal(vring_drv_error(&q->ring), VRING_ERR_NONE);
		return -1;
	}
	len = take_buffer(g, q, g->hdr_bytes, &header, frame, size);
	if (g->hdr_bytes == 12)
		assert_true(header.num_buffers >= 1);
	if ((g->config.features & F(NET_F_MRG_RXBUF)) == 0 && g->hdr_bytes == 12)
		assert_int_equal(header.num_buffers, 1);
	for (uint16_t i = 1; g->hdr_bytes == 12 && i < header.num_buffers; i++)
		len += take_buffer(g, q, 0, NULL, (uint8_t *)frame + len, size - len);
	if (hdr != NULL)
		*hdr = header;
	return len;
}

int
net_guest_wait(struct net_guest *g, uint16_t pair, struct virtio_net_hdr_v1 *hdr, void *frame,
	uint32_t size, uint32_t timeout_ms)
{
	struct net_queue *q = &g->pairs[pair].rx;
	uint64_t until = net_now_us() + timeout_ms * UINT64_C(1000);
	int len;

	while ((len = net_guest_receive(g, pair, hdr, frame, size)) < 0) {
		struct pollfd call = {.fd = q->call_fd, .events = POLLIN};
		uint64_t count, now = net_now_us();

		if (now >= until)
			return -1;
		if (vring_drv_arm(&q->ring))
			continue;
		/* as a driver that sleeps: only an interrupt ends it */
		if (poll(&call, 1, (until - now + 999) / 1000) == 1)
			assert_int_equal(read(q->call_fd, &count, sizeof(count)), sizeof(count));
	}
	return len;
}

/* ---- devices ---- */

void
net_stat_wait(struct vdpa_device *dev, uint16_t index, const char *name, uint64_t value)
{
	for (int i = 0; i < 30000 && device_stat(dev, index, name) != value; i++)
		net_sleep_ms(1);
	assert_int_equal(device_stat(dev, index, name), value);
}

static bool
link_up(struct net_guest *g)
{
	struct virtio_net_config config;

	vdpa_binding_config_read(g->binding, 0, &config, sizeof(config));
	return (config.status & VIRTIO_NET_S_LINK_UP) != 0;
}

void
net_link_wait(struct net_guest *g, bool up)
{
	for (int i = 0; i < 30000 && link_up(g) != up; i++)
		net_sleep_ms(1);
	assert_int_equal(link_up(g), up);
}

int
net_device_try_add(const char *name, const char *args)
{
	return device_try_add("sw_net", name, args);
}

void
net_device_add(const char *name, const char *args)
{
	device_add("sw_net", name, args);
}
