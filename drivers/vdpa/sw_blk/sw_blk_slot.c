/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <rte_common.h>

#include "sw_blk_file.h"

#define IO_BYTES_MAX (UINT32_C(1) << 30) /* the kernel does not do 2 GiB and more at once */
#define ZEROS_BYTES  65536u
#define TRAIN_BYTES  (UINT32_C(4) << 20) /* they are complete together: not for long */

static const uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(4096)));

/* The data that are left, as far as one operation takes them. @return segments */
static uint16_t
gather(struct sw_blk_slot *slot, uint32_t *len_bytes, bool *aligned, uint32_t align)
{
	const struct sw_blk_request *request = &slot->request;
	uint32_t left = RTE_MIN(request->len_bytes, IO_BYTES_MAX), offset = request->data.offset;
	const struct vring_seg *seg = request->data.seg;
	uint16_t nr = 0;

	*len_bytes = left;
	*aligned = true;
	for (; left != 0; seg++, offset = 0) {
		uint32_t here = RTE_MIN(left, seg->len - offset);

		slot->iov[nr] = (struct iovec){seg->va + offset, here};
		*aligned &= ((uintptr_t)slot->iov[nr].iov_base | here) % align == 0;
		left -= here;
		nr++;
	}
	return nr;
}

static uint8_t *
bounce_of(const struct sw_blk_uring *uring, const struct sw_blk_slot *slot)
{
	return uring->bounces + (size_t)slot->bounce * SW_BLK_BOUNCE_BYTES;
}

/* Direct IO of memory that is not aligned goes through a buffer that is, piece by piece. */
static bool
prepare_bounce(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe)
{
	struct sw_blk_request *request = &slot->request;
	uint32_t len = RTE_MIN(request->len_bytes, SW_BLK_BOUNCE_BYTES);
	bool write = request->type == VIRTIO_BLK_T_OUT;
	struct sw_blk_uring *uring = vq->uring;
	struct vring_cursor data = request->data;
	uint8_t *buffer;

	if (slot->bounce < 0) {
		if (uring->nr_free_bounces == 0)
			return false;
		slot->bounce = uring->free_bounces[--uring->nr_free_bounces];
	}
	buffer = bounce_of(uring, slot);
	sw_blk_count(vq, SW_BLK_BOUNCED, 1);
	if (write)
		vring_copy_from(buffer, &data, len);
	if (write && uring->bounces_fixed)
		io_uring_prep_write_fixed(sqe, 0, buffer, len, request->offset_bytes, 0);
	else if (write)
		io_uring_prep_write(sqe, 0, buffer, len, request->offset_bytes);
	else if (uring->bounces_fixed)
		io_uring_prep_read_fixed(sqe, 0, buffer, len, request->offset_bytes, 0);
	else
		io_uring_prep_read(sqe, 0, buffer, len, request->offset_bytes);
	return true;
}

static bool
writes_through(const struct sw_blk_vq *vq)
{
	return !atomic_load_explicit(&vq->dev->write_cache, memory_order_relaxed);
}

static bool
prepare_data(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe)
{
	struct sw_blk_request *request = &slot->request;
	bool write = request->type == VIRTIO_BLK_T_OUT, aligned;
	uint32_t len;
	uint16_t nr = gather(slot, &len, &aligned, vq->dev->align_bytes);

	if (!aligned || slot->bounce >= 0) {
		if (!prepare_bounce(vq, slot, sqe))
			return false;
	} else if (nr == 1 && write) {
		io_uring_prep_write(sqe, 0, slot->iov[0].iov_base, len, request->offset_bytes);
	} else if (nr == 1) {
		io_uring_prep_read(sqe, 0, slot->iov[0].iov_base, len, request->offset_bytes);
	} else if (write) {
		io_uring_prep_writev(sqe, 0, slot->iov, nr, request->offset_bytes);
	} else {
		io_uring_prep_readv(sqe, 0, slot->iov, nr, request->offset_bytes);
	}
	if (write && writes_through(vq))
		sqe->rw_flags |= RWF_DSYNC;
	return true;
}

static void
prepare_zeros(struct sw_blk_slot *slot, struct io_uring_sqe *sqe)
{
	const struct sw_blk_range *range = &slot->request.ranges[slot->range];
	uint64_t left = range->len;
	uint16_t nr = 0;

	for (; nr < SW_BLK_SEGS && left != 0; nr++) {
		slot->iov[nr].iov_base = (void *)(uintptr_t)zeros;
		slot->iov[nr].iov_len = RTE_MIN(left, (uint64_t)ZEROS_BYTES);
		left -= slot->iov[nr].iov_len;
	}
	io_uring_prep_writev(sqe, 0, slot->iov, nr, range->offset);
}

bool
sw_blk_slot_prepare(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe)
{
	const struct sw_blk_request *request = &slot->request;
	const struct sw_blk_range *range = &request->ranges[slot->range];

	if (slot->syncs)
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	else if (request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_OUT)
		return prepare_data(vq, slot, sqe);
	else if (slot->writes_zeroes)
		prepare_zeros(slot, sqe);
	else
		io_uring_prep_fallocate(sqe, 0,
			FALLOC_FL_KEEP_SIZE |
				(range->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
			range->offset, range->len);
	return true;
}

void
sw_blk_train_begin(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe)
{
	struct sw_blk_train *train = &vq->uring->train;

	train->first = NULL;
	if (vq->dev->args.direct || slot->request.type != VIRTIO_BLK_T_OUT ||
		(sqe->rw_flags & RWF_DSYNC) != 0)
		return;
	*train = (struct sw_blk_train){slot, slot, sqe, slot->request.len_bytes, 0};
}

bool
sw_blk_train_join(struct sw_blk_vq *vq, struct sw_blk_slot *slot)
{
	const struct sw_blk_request *request = &slot->request;
	struct sw_blk_train *train = &vq->uring->train;
	struct sw_blk_slot *first = train->first;
	uint32_t len;
	uint16_t nr;
	bool aligned;

	if (first == NULL || request->type != VIRTIO_BLK_T_OUT || writes_through(vq) ||
		request->offset_bytes != first->request.offset_bytes + train->len_bytes ||
		(uint64_t)train->len_bytes + request->len_bytes > TRAIN_BYTES)
		return false;
	if (train->nr_iov == 0)
		train->nr_iov = gather(first, &len, &aligned, 1);
	nr = gather(slot, &len, &aligned, 1);
	if (train->nr_iov + nr > SW_BLK_SEGS)
		return false;
	memcpy(first->iov + train->nr_iov, slot->iov, nr * sizeof(slot->iov[0]));
	train->last->next_joined = slot;
	train->last = slot;
	train->nr_iov += nr;
	train->len_bytes += len;
	io_uring_prep_writev(train->sqe, 0, first->iov, train->nr_iov, first->request.offset_bytes);
	sw_blk_count(vq, SW_BLK_JOINED, 1);
	return true;
}

static bool
finish(struct sw_blk_slot *slot, uint8_t status)
{
	slot->request.status = status;
	return true;
}

static bool
advance_data(struct sw_blk_vq *vq, struct sw_blk_slot *slot, uint32_t done)
{
	struct sw_blk_request *request = &slot->request;

	done = RTE_MIN(done, request->len_bytes);
	if (slot->bounce >= 0 && request->type == VIRTIO_BLK_T_IN)
		vring_copy_to(&request->data, bounce_of(vq->uring, slot), done);
	else
		vring_skip(&request->data, done);
	request->offset_bytes += done;
	request->len_bytes -= done;
	return request->len_bytes == 0 && finish(slot, VIRTIO_BLK_S_OK);
}

/* The range in work, or done bytes of it as zeros, is done. */
static bool
advance_range(struct sw_blk_vq *vq, struct sw_blk_slot *slot, uint32_t done)
{
	struct sw_blk_request *request = &slot->request;
	struct sw_blk_range *range = &request->ranges[slot->range];

	if (slot->writes_zeroes && done < range->len) {
		range->offset += done;
		range->len -= done;
		return false;
	}
	slot->writes_zeroes = false;
	do
		slot->range++;
	while (slot->range < request->nr_ranges && request->ranges[slot->range].len == 0);
	if (slot->range < request->nr_ranges)
		return false;
	slot->syncs = writes_through(vq);
	return !slot->syncs && finish(slot, VIRTIO_BLK_S_OK);
}

/* A file system or a disk without holes: a discard is a hint, zeros must be written. */
static bool
cannot(struct sw_blk_vq *vq, struct sw_blk_slot *slot)
{
	if (slot->request.type == VIRTIO_BLK_T_DISCARD)
		return advance_range(vq, slot, 0);
	slot->writes_zeroes = true;
	return false;
}

bool
sw_blk_slot_advance(struct sw_blk_vq *vq, struct sw_blk_slot *slot, int res)
{
	uint32_t type = slot->request.type;
	bool data = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT;

	if (res == -EAGAIN || res == -EINTR)
		return false;
	if (res < 0 && !data && !slot->syncs && !slot->writes_zeroes &&
		(res == -EOPNOTSUPP || res == -ENODEV || res == -ENOSYS))
		return cannot(vq, slot);
	/* no more to read, or to write, than so: the file is shorter than the disk */
	if (res < 0 || (res == 0 && !slot->syncs && (data || slot->writes_zeroes)))
		return finish(slot, VIRTIO_BLK_S_IOERR);
	if (slot->syncs)
		return finish(slot, VIRTIO_BLK_S_OK);
	return data ? advance_data(vq, slot, res) : advance_range(vq, slot, res);
}
