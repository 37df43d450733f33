/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "sw_blk.h"

/* ---- null: no data at all ---- */

static int
null_open(struct sw_blk_dev *dev)
{
	atomic_store(&dev->size_bytes, dev->args.size_bytes);
	return 0;
}

static void
null_close(struct sw_blk_dev *dev __rte_unused)
{
}

static int
null_resize(struct sw_blk_dev *dev, uint64_t size_bytes)
{
	atomic_store(&dev->size_bytes, size_bytes);
	return 0;
}

static bool
null_submit(struct sw_blk_vq *vq __rte_unused, struct sw_blk_request *request)
{
	request->status = VIRTIO_BLK_S_OK;
	return true;
}

const struct sw_blk_backend sw_blk_null = {
	.open = null_open,
	.close = null_close,
	.resize = null_resize,
	.submit = null_submit,
	.in_order = true,
};

/* ---- malloc: pages that are there once they are written ---- */

static void
malloc_close(struct sw_blk_dev *dev)
{
	uint8_t *memory = atomic_load(&dev->memory);

	if (memory != NULL)
		munmap(memory, dev->mapped_bytes);
	atomic_store(&dev->memory, NULL);
	if (dev->memory_fd >= 0)
		close(dev->memory_fd);
	dev->memory_fd = -1;
}

/* A second view of the same pages where the disk grows: workers may be in the first. */
static int
malloc_resize(struct sw_blk_dev *dev, uint64_t size_bytes)
{
	uint8_t *former = atomic_load(&dev->memory), *view;
	uint64_t former_bytes = dev->mapped_bytes;
	int rc;

	if (size_bytes < atomic_load(&dev->size_bytes)) {
		atomic_store(&dev->size_bytes, size_bytes);
		return 0;
	}
	if (size_bytes > former_bytes) {
		if (ftruncate(dev->memory_fd, size_bytes) != 0)
			return vdpa_error_set(-errno, "size=%" PRIu64 ": %m", size_bytes);
		view = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			dev->memory_fd, 0);
		if (view == MAP_FAILED)
			return vdpa_error_set(-errno, "size=%" PRIu64 ": %m", size_bytes);
		dev->mapped_bytes = size_bytes;
		atomic_store(&dev->memory, view);
	}
	atomic_store_explicit(&dev->size_bytes, size_bytes, memory_order_release);
	if (former == NULL || size_bytes <= former_bytes)
		return 0;
	/* a worker that hangs keeps it mapped */
	rc = sw_blk_vqs_run(dev, NULL);
	if (rc == 0)
		munmap(former, former_bytes);
	return 0;
}

static int
malloc_open(struct sw_blk_dev *dev)
{
	dev->memory_fd = memfd_create("sw_blk", MFD_CLOEXEC);
	if (dev->memory_fd < 0)
		return vdpa_error_set(-errno, "backend=malloc: %m");
	return malloc_resize(dev, dev->args.size_bytes);
}

/* Pages are given back whole; what is around them is set to zero. */
static void
clear(struct sw_blk_dev *dev, uint8_t *memory, const struct sw_blk_range *range)
{
	const uint64_t page = 4096;
	uint64_t begin = RTE_ALIGN_CEIL(range->offset, page);
	uint64_t end = RTE_ALIGN_FLOOR(range->offset + range->len, page);

	if (range->len == 0)
		return;
	if (begin >= end ||
		fallocate(dev->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin,
			end - begin) != 0) {
		memset(memory + range->offset, 0, range->len);
		return;
	}
	memset(memory + range->offset, 0, begin - range->offset);
	memset(memory + end, 0, range->offset + range->len - end);
}

static bool
malloc_submit(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	struct sw_blk_dev *dev = vq->dev;
	uint8_t *memory = atomic_load_explicit(&dev->memory, memory_order_relaxed);

	request->status = VIRTIO_BLK_S_OK;
	switch (request->type) {
	case VIRTIO_BLK_T_IN:
		vring_copy_to(&request->data, memory + request->offset_bytes, request->len_bytes);
		break;
	case VIRTIO_BLK_T_OUT:
		vring_copy_from(memory + request->offset_bytes, &request->data, request->len_bytes);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		for (uint16_t i = 0; i < request->nr_ranges; i++)
			clear(dev, memory, &request->ranges[i]);
		break;
	default: /* flush */
		break;
	}
	return true;
}

const struct sw_blk_backend sw_blk_malloc = {
	.open = malloc_open,
	.close = malloc_close,
	.resize = malloc_resize,
	.submit = malloc_submit,
	.in_order = true,
};
