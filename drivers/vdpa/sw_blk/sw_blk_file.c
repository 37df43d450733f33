/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include <rte_common.h>

#include "sw_blk_file.h"

#define ALIGN_MAX 65536u

static int
file_error(const struct sw_blk_dev *dev, const char *what)
{
	int error = errno;

	return vdpa_error_set(-error, "path=%s: %s%s", dev->args.path, what, strerror(error));
}

/* 0 or negative errno. is_disk: a block device. */
static int
file_size(const struct sw_blk_dev *dev, uint64_t *bytes, bool *is_disk)
{
	struct stat st;

	if (fstat(dev->file_fd, &st) != 0)
		return file_error(dev, "");
	*is_disk = S_ISBLK(st.st_mode);
	*bytes = st.st_size;
	if (*is_disk && ioctl(dev->file_fd, BLKGETSIZE64, bytes) != 0)
		return file_error(dev, "size: ");
	if (!*is_disk && !S_ISREG(st.st_mode))
		return vdpa_error_set(-EINVAL, "path=%s: expected a regular file or a block device",
			dev->args.path);
	return 0;
}

/* Key size: a file is made longer, never shorter. */
static int
file_resize(struct sw_blk_dev *dev, uint64_t size_bytes)
{
	uint64_t bytes;
	bool is_disk;
	int rc = file_size(dev, &bytes, &is_disk);

	if (rc != 0)
		return rc;
	if (size_bytes > bytes && (is_disk || dev->args.readonly))
		return vdpa_error_set(-EINVAL, "size=%" PRIu64 ": %s has %" PRIu64 " bytes",
			size_bytes, dev->args.path, bytes);
	if (size_bytes > bytes && ftruncate(dev->file_fd, size_bytes) != 0)
		return file_error(dev, "");
	atomic_store_explicit(&dev->size_bytes, size_bytes, memory_order_release);
	return 0;
}

/* What direct IO asks of offsets and memory is what it takes: a read tells. */
static int
find_alignment(struct sw_blk_dev *dev)
{
	uint8_t *buffer = aligned_alloc(ALIGN_MAX, 2 * ALIGN_MAX);
	uint32_t align;

	if (buffer == NULL)
		return vdpa_error_set(-ENOMEM, "out of memory");
	for (align = SW_BLK_SECTOR; align < ALIGN_MAX; align *= 2)
		if (pread(dev->file_fd, buffer + align, align, align) >= 0)
			break;
	free(buffer);
	if (dev->args.blk_size_bytes < align)
		return vdpa_error_set(-EINVAL,
			"direct=on: %s takes blocks of %" PRIu32
			" bytes: expected blk_size=%" PRIu32 " or more",
			dev->args.path, align, align);
	dev->align_bytes = align;
	return 0;
}

static int
file_open(struct sw_blk_dev *dev)
{
	const struct sw_blk_args *args = &dev->args;
	uint64_t bytes;
	bool is_disk;
	int rc;

	dev->align_bytes = 1;
	dev->file_fd = open(args->path,
		O_CLOEXEC | (args->readonly ? O_RDONLY : O_RDWR) | (args->direct ? O_DIRECT : 0));
	if (dev->file_fd < 0)
		return file_error(dev, "");
	rc = file_size(dev, &bytes, &is_disk);
	if (rc == 0 && args->size_bytes != 0)
		rc = file_resize(dev, args->size_bytes);
	else if (rc == 0)
		atomic_store(
			&dev->size_bytes, RTE_ALIGN_FLOOR(bytes, (uint64_t)args->blk_size_bytes));
	if (rc == 0 && atomic_load(&dev->size_bytes) == 0)
		rc = vdpa_error_set(
			-EINVAL, "path=%s: it is empty: expected size=BYTES beside it", args->path);
	if (rc == 0 && args->direct)
		rc = find_alignment(dev);
	return rc == 0 ? sw_blk_uring_check() : rc;
}

static void
file_close(struct sw_blk_dev *dev)
{
	if (dev->file_fd >= 0)
		close(dev->file_fd);
	dev->file_fd = -1;
}

const struct sw_blk_backend sw_blk_file = {
	.open = file_open,
	.close = file_close,
	.vq_open = sw_blk_uring_open,
	.vq_close = sw_blk_uring_close,
	.resize = file_resize,
	.submit = sw_blk_uring_submit,
	.poll = sw_blk_uring_poll,
	.arm = sw_blk_uring_arm,
};
