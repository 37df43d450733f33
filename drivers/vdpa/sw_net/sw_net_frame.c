/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>

#include "sw_net.h"

/*
 * Ones' complement sum (RFC 1071) of a piece, in the memory's byte order. At most
 * SW_NET_FRAME_MAX bytes, so 64 bits never overflow.
 */
static uint64_t
sum_piece(const uint8_t *p, uint32_t len)
{
	uint64_t sum = 0;
	uint32_t word;
	uint16_t half;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
	}
	if (len >= sizeof(half)) {
		memcpy(&half, p, sizeof(half));
		sum += half;
		p += sizeof(half);
		len -= sizeof(half);
	}
	if (len != 0) {
		half = 0;
		memcpy(&half, p, 1);
		sum += half;
	}
	return sum;
}

static uint16_t
sum_fold(uint64_t sum)
{
	while ((sum >> 16) != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* The same over segments; a piece that begins at an odd byte counts with its bytes swapped. */
static uint16_t
sum_segments(struct vring_cursor at, uint32_t len)
{
	uint64_t total = 0;
	uint32_t done = 0;

	while (done < len && at.nr_segs > 0) {
		uint32_t piece = RTE_MIN(len - done, at.seg->len - at.offset);
		uint16_t sum = sum_fold(sum_piece(at.seg->va + at.offset, piece));

		total += (done & 1) != 0 ? rte_bswap16(sum) : sum;
		done += piece;
		vring_skip(&at, piece);
	}
	return sum_fold(total);
}

void
sw_net_complete_checksum(struct vring_cursor frame, uint32_t len, uint32_t start, uint32_t offset)
{
	struct vring_cursor field = frame;
	uint16_t sum;

	vring_skip(&frame, start);
	sum = (uint16_t)~sum_segments(frame, len - start);
	if (sum == 0)
		sum = 0xffff;
	vring_skip(&field, start + offset);
	vring_copy_to(&field, &sum, sizeof(sum));
}

/* Segmentation that the sender asks for. 0, or negative: why the frame is dropped. */
static int
check_gso(const struct sw_net_vq *tx, const struct virtio_net_hdr_v1 *from, uint32_t len,
	struct virtio_net_hdr_v1 *to)
{
	uint8_t bits = sw_net_gso_bits(from->gso_type);

	if (bits == 0 || (tx->gso & bits) != bits || from->gso_size == 0 ||
		(from->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0)
		return -(int)SW_NET_DROP_GSO;
	to->gso_type = from->gso_type;
	to->gso_size = from->gso_size;
	to->hdr_len = rte_cpu_to_le_16(RTE_MIN(rte_le_to_cpu_16(from->hdr_len), len));
	return 0;
}

/*
 * Make a header to pass on from the sender's: flags that were not agreed are ignored (virtio
 * 1.2, 5.1.6.2.2), and all that has no meaning is zero. Negative: why the frame is dropped.
 */
static int
check_header(const struct sw_net_vq *tx, const struct virtio_net_hdr_v1 *from, uint32_t len,
	struct virtio_net_hdr_v1 *to)
{
	uint32_t start = rte_le_to_cpu_16(from->csum_start);
	uint32_t offset = rte_le_to_cpu_16(from->csum_offset);
	int rc = 0;

	memset(to, 0, sizeof(*to));
	if (from->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		rc = check_gso(tx, from, len, to);
	if (rc != 0 || !tx->csum || (from->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0)
		return rc;
	if (start + offset + sizeof(uint16_t) > len)
		return -(int)SW_NET_DROP_CSUM;
	to->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	to->csum_start = from->csum_start;
	to->csum_offset = from->csum_offset;
	return 0;
}

static int
drop(struct sw_net_vq *tx, enum sw_net_stat why)
{
	sw_net_count(tx, why, 1);
	return SW_NET_FRAME_DROPPED;
}

int
sw_net_frame_check(struct sw_net_vq *tx, const struct vring_chain *out,
	struct virtio_net_hdr_v1 *hdr, struct vring_cursor *frame, uint32_t *len)
{
	struct virtio_net_hdr_v1 from = {0};
	int rc;

	if (unlikely(out->nr_readable != out->nr_segs))
		return SW_NET_FRAME_BAD_TX;
	if (out->readable_bytes < (uint32_t)tx->hdr_bytes + SW_NET_FRAME_MIN)
		return drop(tx, SW_NET_DROP_HEADER);
	*len = out->readable_bytes - tx->hdr_bytes;
	if (*len > SW_NET_FRAME_MAX)
		return drop(tx, SW_NET_DROP_TOO_BIG);
	*frame = vring_cursor_readable(out);
	vring_copy_from(&from, frame, tx->hdr_bytes);
	rc = check_header(tx, &from, *len, hdr);
	return rc < 0 ? drop(tx, -rc) : 1;
}

/* How many buffers the frame takes; 0: these are not enough. Their done.len is set. */
static uint16_t
take_buffers(const struct sw_net_vq *rx, struct vring_chain *in, uint16_t nr, uint32_t bytes)
{
	uint16_t nr_used = vring_chains_for(in, rx->mergeable ? nr : RTE_MIN(nr, 1), bytes);

	for (uint16_t i = 0; i < nr_used; i++) {
		in[i].done.len = RTE_MIN(bytes, in[i].writable_bytes);
		bytes -= in[i].done.len;
	}
	return nr_used;
}

/* The segments of chains that were peeked together follow each other. */
static struct vring_cursor
cursor_of(const struct vring_chain *in, uint16_t nr)
{
	struct vring_cursor at = vring_cursor_writable(in);

	for (uint16_t i = 1; i < nr; i++)
		at.nr_segs += in[i].nr_segs;
	return at;
}

int
sw_net_frame_put(struct sw_net_vq *from, const struct sw_net_vq *rx,
	const struct virtio_net_hdr_v1 *hdr, struct vring_cursor src, uint32_t len,
	struct vring_chain *in, uint16_t nr)
{
	bool complete = (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 && !rx->guest_csum;
	struct virtio_net_hdr_v1 to = {0};
	struct vring_cursor dst, frame;
	uint16_t nr_used;

	if (nr == 0)
		return SW_NET_FRAME_WAIT;
	for (uint16_t i = 0; i < nr; i++) {
		if (unlikely(in[i].nr_readable != 0))
			return SW_NET_FRAME_BAD_RX;
		if (!rx->mergeable)
			break;
	}
	nr_used = take_buffers(rx, in, nr, rx->hdr_bytes + len);
	if (nr_used == 0)
		return rx->mergeable ? SW_NET_FRAME_WAIT : drop(from, SW_NET_DROP_TOO_BIG);

	if (rx->guest_csum)
		to = *hdr;
	to.num_buffers = rte_cpu_to_le_16(nr_used);
	dst = cursor_of(in, nr_used);
	vring_copy_to(&dst, &to, rx->hdr_bytes);
	frame = dst;
	vring_copy_cursor(&dst, &src, len);
	if (complete) {
		sw_net_complete_checksum(frame, len, rte_le_to_cpu_16(hdr->csum_start),
			rte_le_to_cpu_16(hdr->csum_offset));
		sw_net_count(from, SW_NET_CSUM_DONE, 1);
	}
	return nr_used;
}

int
sw_net_frame(struct sw_net_vq *tx, const struct sw_net_vq *rx, const struct vring_chain *out,
	struct vring_chain *in, uint16_t nr)
{
	struct virtio_net_hdr_v1 hdr;
	struct vring_cursor frame;
	uint32_t len;
	uint8_t gso;
	int rc = sw_net_frame_check(tx, out, &hdr, &frame, &len);

	if (rc <= 0)
		return rc;
	gso = sw_net_gso_bits(hdr.gso_type);
	if ((rx->gso & gso) != gso)
		return SW_NET_FRAME_CUT;
	return sw_net_frame_put(tx, rx, &hdr, frame, len, in, nr);
}
