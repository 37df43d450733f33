/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <string.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "sw_blk.h"

#define HEADER_BYTES sizeof(struct virtio_blk_outhdr)
#define RANGE_BYTES  sizeof(struct virtio_blk_discard_write_zeroes)

static bool
answer(struct sw_blk_request *request, uint8_t status)
{
	request->status = status;
	return false;
}

/* Only this many bytes to and from the device, header and status left out, make sense. */
static bool
has_shape(const struct sw_blk_request *request, bool reads, bool writes)
{
	uint32_t out = request->chain.readable_bytes - HEADER_BYTES;
	uint32_t in = request->chain.writable_bytes - 1;

	return (out != 0) == reads && (in != 0) == writes;
}

static bool
inside(const struct sw_blk_vq *vq, uint64_t sector, uint64_t len_bytes)
{
	uint64_t size = atomic_load_explicit(&vq->dev->size_bytes, memory_order_acquire);

	return sector <= size / SW_BLK_SECTOR && len_bytes <= size - sector * SW_BLK_SECTOR;
}

static bool
take_data(struct sw_blk_vq *vq, struct sw_blk_request *request, uint64_t sector)
{
	const struct vring_chain *chain = &request->chain;
	bool write = request->type == VIRTIO_BLK_T_OUT;

	sw_blk_count(vq, write ? SW_BLK_WRITES : SW_BLK_READS, 1);
	if (!has_shape(request, write, !write))
		return answer(request, VIRTIO_BLK_S_IOERR);
	request->len_bytes = chain->readable_bytes - HEADER_BYTES;
	if (!write) {
		request->len_bytes = chain->writable_bytes - 1;
		request->data = vring_cursor_writable(chain);
	}
	if ((write && vq->dev->args.readonly) || request->len_bytes % SW_BLK_SECTOR != 0 ||
		!inside(vq, sector, request->len_bytes))
		return answer(request, VIRTIO_BLK_S_IOERR);
	request->offset_bytes = sector * SW_BLK_SECTOR;
	sw_blk_count(vq, write ? SW_BLK_WRITE_BYTES : SW_BLK_READ_BYTES, request->len_bytes);
	return true;
}

/* virtio 1.2, 5.2.6.2: a flag that is not known, and unmap of a discard, are unsupported. */
static uint8_t
take_range(const struct sw_blk_vq *vq, struct sw_blk_request *request, uint16_t i)
{
	struct virtio_blk_discard_write_zeroes raw;
	uint64_t sector, nr_sectors;
	uint32_t flags, known = 0;

	vring_copy_from(&raw, &request->data, sizeof(raw));
	sector = rte_le_to_cpu_64(raw.sector);
	nr_sectors = rte_le_to_cpu_32(raw.num_sectors);
	flags = rte_le_to_cpu_32(raw.flags);
	if (request->type == VIRTIO_BLK_T_WRITE_ZEROES)
		known = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if ((flags & ~known) != 0)
		return VIRTIO_BLK_S_UNSUPP;
	if (nr_sectors > SW_BLK_RANGE_SECTORS_MAX ||
		!inside(vq, sector, nr_sectors * SW_BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	request->ranges[i] = (struct sw_blk_range){
		.offset = sector * SW_BLK_SECTOR,
		.len = nr_sectors * SW_BLK_SECTOR,
		.unmap = flags != 0 || request->type == VIRTIO_BLK_T_DISCARD,
	};
	return VIRTIO_BLK_S_OK;
}

static bool
take_ranges(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	bool discard = request->type == VIRTIO_BLK_T_DISCARD;
	uint64_t feature = SW_BLK_BIT(discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES);
	uint32_t bytes = request->chain.readable_bytes - HEADER_BYTES;

	sw_blk_count(vq, discard ? SW_BLK_DISCARDS : SW_BLK_WRITE_ZEROES, 1);
	if ((vq->dev->features & feature) == 0)
		return answer(request, VIRTIO_BLK_S_UNSUPP);
	if (!has_shape(request, true, false) || bytes % RANGE_BYTES != 0 ||
		bytes / RANGE_BYTES > SW_BLK_RANGES_MAX || vq->dev->args.readonly)
		return answer(request, VIRTIO_BLK_S_IOERR);
	request->nr_ranges = bytes / RANGE_BYTES;
	for (uint16_t i = 0; i < request->nr_ranges; i++) {
		uint8_t status = take_range(vq, request, i);

		if (status != VIRTIO_BLK_S_OK)
			return answer(request, status);
	}
	return true;
}

static bool
get_id(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	char id[SW_BLK_ID_BYTES] = {0};
	const char *serial = vq->dev->args.serial;

	sw_blk_count(vq, SW_BLK_GET_IDS, 1);
	if (!has_shape(request, false, true))
		return answer(request, VIRTIO_BLK_S_IOERR);
	memcpy(id, serial, strnlen(serial, sizeof(id)));
	request->data = vring_cursor_writable(&request->chain);
	vring_copy_to(&request->data, id,
		RTE_MIN(request->chain.writable_bytes - 1, (uint32_t)sizeof(id)));
	return answer(request, VIRTIO_BLK_S_OK);
}

/* Done.len is all of the writable part: its last byte is the status. */
static void
find_status(struct sw_blk_request *request)
{
	struct vring_chain *chain = &request->chain;
	const struct vring_seg *last;

	request->status_va = NULL;
	chain->done.len = chain->writable_bytes;
	if (chain->writable_bytes == 0)
		return;
	last = &chain->segs[chain->nr_segs - 1];
	request->status_va = last->va + last->len - 1;
}

bool
sw_blk_request_take(
	struct sw_blk_vq *vq, const struct vring_chain *chain, struct sw_blk_request *request)
{
	struct virtio_blk_outhdr header;

	request->chain = *chain;
	find_status(request);
	if (request->status_va == NULL || chain->readable_bytes < HEADER_BYTES ||
		chain->nr_segs > SW_BLK_SEGS)
		return answer(request, VIRTIO_BLK_S_IOERR);
	/* once: the driver may change it meanwhile */
	request->data = vring_cursor_readable(chain);
	vring_copy_from(&header, &request->data, sizeof(header));
	request->type = rte_le_to_cpu_32(header.type);
	switch (request->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return take_data(vq, request, rte_le_to_cpu_64(header.sector));
	case VIRTIO_BLK_T_FLUSH:
		sw_blk_count(vq, SW_BLK_FLUSHES, 1);
		return has_shape(request, false, false) ? true
							: answer(request, VIRTIO_BLK_S_IOERR);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(vq, request);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return take_ranges(vq, request);
	default:
		return answer(request, VIRTIO_BLK_S_UNSUPP);
	}
}
