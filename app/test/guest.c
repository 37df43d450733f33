/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include "guest.h"

#define BIT(feature) (UINT64_C(1) << (feature))
#define HEADER       sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define VQ_BYTES     0x4000u /* room for the three areas of one ring */
#define BUFS_IOVA    (GUEST_IOVA + GUEST_VQS_MAX * VQ_BYTES)
#define CTRL_IOVA    (GUEST_IOVA + GUEST_REGION_BYTES - 0x1000)

static void
on_config_changed(struct vdpa_binding *binding, void *arg)
{
	(void)binding;
	__atomic_fetch_add(&((struct guest *)arg)->config_changes, 1, __ATOMIC_SEQ_CST);
}

static void
on_needs_reset(struct vdpa_binding *binding, void *arg, int error)
{
	(void)binding;
	(void)error;
	__atomic_fetch_add(&((struct guest *)arg)->resets, 1, __ATOMIC_SEQ_CST);
}

static const struct vdpa_binding_ops binding_ops = {
	.config_changed = on_config_changed,
	.needs_reset = on_needs_reset,
};

static uint64_t
area(uint16_t index, unsigned int which)
{
	return GUEST_IOVA + index * VQ_BYTES + which * 0x1000u;
}

static uint64_t
buf_iova(uint16_t pair, bool rx, uint16_t slot)
{
	return BUFS_IOVA + ((pair * 2 + rx) * (uint64_t)GUEST_RING + slot) * GUEST_BUF_BYTES;
}

bool
guest_page_is_devices(struct guest *guest, uint64_t iova)
{
	for (uint16_t pair = 0; pair < guest->nr_pairs; pair++) {
		uint64_t first = buf_iova(pair, true, 0);

		if (iova >= first && iova < first + GUEST_RING * GUEST_BUF_BYTES)
			return true;
		for (unsigned int i = 0; i < 2; i++)
			if (iova == area(2 * pair + i, 2))
				return true;
	}
	return false;
}

void *
guest_va(struct guest *guest, uint64_t iova)
{
	return (uint8_t *)guest->regions[0].va + (iova - GUEST_IOVA);
}

static int
map_region(struct guest *guest, unsigned int i, uint64_t iova)
{
	struct vdpa_range *region = &guest->regions[i];

	region->iova = iova;
	region->size_bytes = GUEST_REGION_BYTES;
	region->fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (region->fd < 0 || ftruncate(region->fd, GUEST_REGION_BYTES) != 0)
		return -errno;
	region->va = mmap(
		NULL, GUEST_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
	if (region->va == MAP_FAILED)
		return -errno;
	guest->mem_regions[i] = (struct vring_region){
		iova, GUEST_REGION_BYTES, region->va, VRING_PERM_RW};
	return 0;
}

int
guest_reset_rings(struct guest *guest)
{
	uint64_t features = guest->wanted.features;
	bool packed = (features & BIT(VIRTIO_F_RING_PACKED)) != 0;

	for (uint16_t i = 0; i < guest->wanted.nr_vqs; i++) {
		struct vring_config config = {
			.size = GUEST_RING,
			.features = features,
			.desc_iova = area(i, 0),
			.driver_iova = area(i, 1),
			.device_iova = area(i, 2),
			.mem = &guest->mem,
			.state = packed ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START,
		};
		struct vdpa_wanted_vq *vq = &guest->vqs[i];
		int rc;

		memset(guest_va(guest, area(i, 0)), 0, VQ_BYTES);
		vring_drv_fini(&guest->drv[i]);
		rc = vring_drv_init(&guest->drv[i], &config);
		if (rc != 0)
			return rc;
		vq->size = GUEST_RING;
		vq->desc_iova = config.desc_iova;
		vq->driver_iova = config.driver_iova;
		vq->device_iova = config.device_iova;
		vq->base.avail = config.state.avail;
		vq->base.used = config.state.used;
		vq->base_seq++;
		vq->ready = true;
	}
	memset(guest->slots, 0, sizeof(guest->slots));
	memset(guest->next_rx, 0, sizeof(guest->next_rx));
	memset(guest->next_tx, 0, sizeof(guest->next_tx));
	guest->received = guest->sent;
	return 0;
}

int
guest_create(struct guest *guest, struct vdpa_device *dev, uint64_t features, uint16_t nr_pairs)
{
	struct vdpa_contract contract;
	int rc;

	memset(guest, 0, sizeof(*guest));
	guest->nr_pairs = nr_pairs;
	guest->ctrl_vq = (features & BIT(VIRTIO_NET_F_CTRL_VQ)) != 0 ? 2 * nr_pairs : -1;
	rc = map_region(guest, 0, GUEST_IOVA);
	if (rc == 0)
		rc = map_region(guest, 1, GUEST_IOVA_HOTPLUG);
	if (rc != 0)
		return rc;
	guest->mem = (struct vring_mem){.regions = guest->mem_regions, .nr_regions = 2};
	guest->binding = vdpa_binding_create(dev->name, dev, &binding_ops, guest);
	if (guest->binding == NULL)
		return -EEXIST;
	vdpa_binding_contract(guest->binding, &contract);
	guest->wanted.features = features;
	guest->wanted.vqs = guest->vqs;
	guest->wanted.nr_vqs = 2 * nr_pairs + (guest->ctrl_vq >= 0 ? 1 : 0);
	guest->wanted.regions = guest->regions;
	guest->wanted.nr_regions = 1;
	guest->wanted.regions_seq = 1;
	for (uint16_t i = 0; i < guest->wanted.nr_vqs; i++) {
		guest->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		guest->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		guest->vqs[i].kick_fd = guest->kick[i];
		guest->vqs[i].call_fd = guest->call[i];
		guest->vqs[i].kick_seq = 1;
		guest->vqs[i].call_seq = 1;
	}
	return guest_reset_rings(guest);
}

int
guest_destroy_binding(struct guest *guest)
{
	int rc = vdpa_binding_destroy(guest->binding);

	if (rc == 0)
		guest->binding = NULL;
	return rc;
}

int
guest_destroy(struct guest *guest)
{
	int rc;

	if (guest->session != NULL)
		vdpa_session_close(guest->session);
	guest->session = NULL;
	rc = guest_destroy_binding(guest);
	for (uint16_t i = 0; i < guest->wanted.nr_vqs; i++) {
		vring_drv_fini(&guest->drv[i]);
		close(guest->kick[i]);
		close(guest->call[i]);
	}
	for (unsigned int i = 0; i < 2; i++) {
		munmap(guest->regions[i].va, GUEST_REGION_BYTES);
		close(guest->regions[i].fd);
	}
	return rc;
}

int
guest_set(struct guest *guest)
{
	int rc = vdpa_session_set(guest->session, &guest->wanted);

	return rc != 0 ? rc : vdpa_session_sync(guest->session, 30000);
}

int
guest_start(struct guest *guest)
{
	guest->session = vdpa_session_open(guest->binding, "guest");
	if (guest->session == NULL)
		return -EBUSY;
	guest->wanted.driver_ok = true;
	return guest_set(guest);
}

void
guest_hotplug(struct guest *guest, bool plugged)
{
	guest->wanted.nr_regions = plugged ? 2 : 1;
	guest->wanted.regions_seq++;
}

void
guest_kick(struct guest *guest, uint16_t index)
{
	uint64_t one = 1;
	ssize_t rc = write(guest->kick[index], &one, sizeof(one));

	(void)rc;
}

static void *
cookie(uint16_t slot)
{
	return (void *)(uintptr_t)(slot + 1);
}

static uint16_t
slot_of(const struct vring_drv_done *done)
{
	return (uint16_t)((uintptr_t)done->cookie - 1);
}

static int
free_slot(const char *slots)
{
	for (int i = 0; i < GUEST_RING; i++)
		if (slots[i] == 0)
			return i;
	return -1;
}

static uint32_t
frame_bytes(uint16_t pair, uint32_t number)
{
	return 64 + (number * 37 + pair * 11) % 1400;
}

static void
fill_frame(uint8_t *buf, uint16_t pair, uint32_t number)
{
	uint32_t len = frame_bytes(pair, number);

	memset(buf, 0, HEADER);
	memcpy(buf + HEADER, &number, sizeof(number));
	for (uint32_t i = sizeof(number); i < len; i++)
		buf[HEADER + i] = (uint8_t)(number + pair + i);
}

static bool
check_frame(const uint8_t *buf, uint32_t len_bytes, uint16_t pair, uint32_t number)
{
	uint32_t len = frame_bytes(pair, number);

	if (len_bytes != HEADER + len || memcmp(buf + HEADER, &number, sizeof(number)) != 0)
		return false;
	for (uint32_t i = sizeof(number); i < len; i++)
		if (buf[HEADER + i] != (uint8_t)(number + pair + i))
			return false;
	return true;
}

static bool
add(struct guest *guest, uint16_t index, uint64_t iova, uint32_t len, bool rx, int slot)
{
	struct vring_buf buf = {.iova = iova, .len = len};

	return vring_drv_add(
		       &guest->drv[index], &buf, rx ? 0 : 1, rx ? 1 : 0, cookie(slot), NULL) == 0;
}

static void
publish(struct guest *guest, uint16_t index)
{
	vring_drv_publish(&guest->drv[index]);
	if (vring_drv_kick_needed(&guest->drv[index]))
		guest_kick(guest, index);
}

static void
fill_rx(struct guest *guest, uint16_t pair)
{
	int slot;

	while ((slot = free_slot(guest->slots[pair][1])) >= 0 &&
		add(guest, 2 * pair, buf_iova(pair, true, slot), GUEST_BUF_BYTES, true, slot))
		guest->slots[pair][1][slot] = 1;
	publish(guest, 2 * pair);
}

unsigned int
guest_send(struct guest *guest, uint16_t pair, unsigned int nr)
{
	unsigned int sent = 0;
	int slot;

	fill_rx(guest, pair);
	while (sent < nr && (slot = free_slot(guest->slots[pair][0])) >= 0) {
		uint64_t iova = buf_iova(pair, false, slot);
		uint32_t number = guest->next_tx[pair];

		fill_frame(guest_va(guest, iova), pair, number);
		if (!add(guest, 2 * pair + 1, iova, HEADER + frame_bytes(pair, number), false,
			    slot))
			break;
		guest->slots[pair][0][slot] = 1;
		guest->next_tx[pair]++;
		sent++;
	}
	publish(guest, 2 * pair + 1);
	guest->sent += sent;
	return sent;
}

void
guest_poll(struct guest *guest, uint16_t pair)
{
	struct vring_drv_done done[GUEST_RING];
	uint16_t nr;

	nr = vring_drv_get(&guest->drv[2 * pair], done, GUEST_RING);
	for (uint16_t i = 0; i < nr; i++) {
		const uint8_t *buf = guest_va(guest, buf_iova(pair, true, slot_of(&done[i])));

		if (!check_frame(buf, done[i].len, pair, guest->next_rx[pair]))
			guest->bad++;
		guest->next_rx[pair]++;
		guest->received++;
		guest->slots[pair][1][slot_of(&done[i])] = 0;
	}
	nr = vring_drv_get(&guest->drv[2 * pair + 1], done, GUEST_RING);
	for (uint16_t i = 0; i < nr; i++)
		guest->slots[pair][0][slot_of(&done[i])] = 0;
}

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

int
guest_sent(struct guest *guest, uint16_t pair, unsigned int timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;

	while (guest->drv[2 * pair + 1].in_flight > 0) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		guest_poll(guest, pair);
		usleep(20);
	}
	return 0;
}

int
guest_exchange(struct guest *guest, uint16_t pair, unsigned int nr, unsigned int timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;
	uint32_t goal = guest->next_tx[pair] + nr;

	while (guest->next_rx[pair] < goal) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		guest_send(guest, pair, goal - guest->next_tx[pair]);
		guest_poll(guest, pair);
		usleep(20);
	}
	return guest->bad == 0 ? 0 : -EILSEQ;
}

int
guest_command(struct guest *guest, uint8_t cls, uint8_t cmd, const void *data, uint32_t len_bytes)
{
	uint8_t *page = guest_va(guest, CTRL_IOVA);
	struct vring_buf bufs[3] = {
		{.iova = CTRL_IOVA, .len = 2},
		{.iova = CTRL_IOVA + 16, .len = len_bytes},
		{.iova = CTRL_IOVA + 2048, .len = 1},
	};
	struct vring_drv_done done;
	uint64_t until = now_ms() + 30000;
	uint16_t index = guest->ctrl_vq;

	page[0] = cls;
	page[1] = cmd;
	if (len_bytes > 0)
		memcpy(page + 16, data, len_bytes);
	page[2048] = 0xff;
	if (vring_drv_add(&guest->drv[index], bufs, 2, 1, cookie(0), NULL) != 0)
		return -ENOSPC;
	publish(guest, index);
	while (vring_drv_get(&guest->drv[index], &done, 1) == 0) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		usleep(100);
	}
	return page[2048];
}
