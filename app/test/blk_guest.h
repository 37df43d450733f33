/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef BLK_GUEST_H
#define BLK_GUEST_H

/**
 * @file
 * A guest with a virtio-blk driver inside the test program. Its memory is two regions that follow
 * each other by address and lie apart here, each between pages that kill who touches them. One
 * thread. Every step asserts (cmocka) that it worked unless its return value says so.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "devices.h"
#include "vdpa_consumer.h"
#include "vring_drv.h"

#define F(name) (UINT64_C(1) << VIRTIO_##name)
#define BLK_GUEST_IOVA    UINT64_C(0x40000000)
#define BLK_REGION_BYTES  UINT64_C(0x2000000) /* of each of the two */
#define BLK_GUEST_VQS_MAX 4
#define BLK_RING          128
#define BLK_DATA_MAX      (UINT32_C(4) << 20)
#define BLK_PENDING       0xff /* status of a request that nobody answered */

/* How a request lies in its buffers. */
enum blk_shape {
	BLK_PLAIN,     /* header, data, status */
	BLK_MERGED,    /* header and data, or data and status, in one */
	BLK_SCATTERED, /* every part cut, at odd places */
	BLK_INDIRECT,  /* BLK_SCATTERED in a table; without the feature as it is */
	BLK_CROSSING,  /* BLK_PLAIN, its data across the border of two regions */
	BLK_SHAPES
};

struct blk_guest_config {
	const char *device;
	uint64_t features;
	uint16_t nr_vqs; /* 0: 1 */
	bool waits;      /* only blk_guest_start() starts it */
};

struct blk_queue {
	struct vring_drv ring;
	int kick_fd, call_fd;
	uint64_t desc_iova, driver_iova, device_iova, table_iova;
	uint64_t request_iova; /* header, status and BLK_DATA_MAX of data */
};

struct blk_guest {
	struct blk_guest_config config;
	struct vdpa_device *dev;
	struct vdpa_binding *binding;
	struct vdpa_session *session;
	struct vring_region regions[2];
	struct vring_mem mem;
	int fds[2], inflight_fd; /* -1: none */
	void *inflight;
	uint8_t *device_va[2]; /* where the device has the regions */
	uint32_t base_seq, regions_seq;
	struct vdpa_vq_state states[BLK_GUEST_VQS_MAX];
	struct blk_queue vqs[BLK_GUEST_VQS_MAX];
	unsigned int config_changes, resets; /* from the op pool */
};

void blk_guest_open(struct blk_guest *g, const struct blk_guest_config *config);
void blk_guest_close(struct blk_guest *g);
/* Stop and remember where; start again there. */
void blk_guest_stop(struct blk_guest *g);
void blk_guest_start(struct blk_guest *g);
/* Give the device all the memory at other addresses of this process, while it runs. */
void blk_guest_remap(struct blk_guest *g);

/* Memory for the notes of queue 0: given to the device from the next start on. */
void *blk_guest_inflight(struct blk_guest *g);

void *blk_guest_ptr(const struct blk_guest *g, uint64_t iova);
void blk_guest_fill(struct blk_guest *g, uint64_t iova, const void *from, uint32_t len);
void blk_guest_read(const struct blk_guest *g, uint64_t iova, void *to, uint32_t len);

/* Make a chain available and kick. cookie comes back with it. */
void blk_guest_add(struct blk_guest *g, uint16_t vq, const struct vring_buf *bufs, uint16_t nr_out,
	uint16_t nr_in, void *cookie, bool indirect);
/* Wait for the next one that is given back. @return used bytes, -1: none in time */
int64_t blk_guest_wait(struct blk_guest *g, uint16_t vq, void **cookie, uint32_t timeout_ms);
/*
 * One request, and its answer: the status, BLK_PENDING if none was written. data: of a write or
 * ranges: what is sent; else what comes back is put there.
 */
uint8_t blk_guest_do(struct blk_guest *g, uint16_t vq, enum blk_shape shape, uint32_t type,
	uint64_t sector, void *data, uint32_t len);

/* Of all tests of a program: the file that is the disk of backend=file. */
int blk_disk_create(void **state);
int blk_disk_remove(void **state);
/* A sw_blk; with backend=file on that file, which is emptied. */
void blk_device_add(const char *name, const char *args);
/* Of each test: what it left open, and all devices. */
int blk_guest_teardown(void **state);

#endif /* BLK_GUEST_H */
