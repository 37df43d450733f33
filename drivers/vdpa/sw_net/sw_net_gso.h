/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_NET_GSO_H
#define SW_NET_GSO_H

/**
 * @file
 * Frames in mbufs: those that are segmented here, and those that come from or go to an ethdev.
 *
 * What a frame needs of its receiver stands in its mbuf as for an ethdev that sends it:
 * RTE_MBUF_F_TX_TCP_CKSUM or _UDP_CKSUM (with l2_len and l3_len; the field holds the sum of the
 * pseudo header), RTE_MBUF_F_TX_TCP_SEG with tso_segsz; or RTE_MBUF_F_RX_L4_CKSUM_GOOD. All are
 * set here, none is taken over from who made the mbuf.
 */

#include <rte_mbuf.h>

#include "sw_net_path.h"

#define SW_NET_CUT_MAX       512  /* segments of a frame: more is refused */
#define SW_NET_CUT_HEADERS   256  /* bytes of headers of a frame that can be cut */
#define SW_NET_MBUF_BYTES    2048 /* of a frame in an mbuf */
#define SW_NET_MBUF_SEGS_MAX 64   /* of a received frame */
/* mbufs of the longest frame */
#define SW_NET_FRAME_MBUFS   (SW_NET_FRAME_MAX / SW_NET_MBUF_BYTES + 1)

/* Frames on their way. Worker; with no worker: the op thread. */
struct sw_net_held {
	uint16_t at, nr; /* mbufs[at] to mbufs[nr - 1] */
	struct rte_mbuf *mbufs[SW_NET_CUT_MAX + SW_NET_BURST];
};

/* Pools for segmentation. */
struct sw_net_cutter {
	struct rte_mempool *frames; /* NULL or the cutter's */
	struct rte_mempool *headers, *payloads;
};

static inline bool
sw_net_is_holding(const struct sw_net_held *held)
{
	return held != NULL && held->at != held->nr;
}

/* ---- sw_net_mbuf.c ---- */
/* A pool with a name of its own. NULL with vdpa_error_text(). */
struct rte_mempool *sw_net_pool_create(const char *device, uint32_t nr, uint32_t bytes);
/* Free a pool (NULL: nothing) as soon as all its mbufs are back: an ethdev may have some still. */
void sw_net_pool_retire(struct rte_mempool *pool);
/* A copy of len bytes from src on; NULL: the pool is empty. */
struct rte_mbuf *
sw_net_mbuf_copy(struct rte_mempool *pool, struct vring_cursor src, uint32_t len);
/* The data of an mbuf as segments; segs has room for SW_NET_MBUF_SEGS_MAX. */
struct vring_cursor sw_net_mbuf_cursor(const struct rte_mbuf *m, struct vring_seg *segs);
/*
 * Mark what a checked virtio-net header asks for. false: not TCP or UDP over IP whose headers lie
 * in the first segment, or not the checksum that such a frame has; then nothing is marked.
 */
bool sw_net_mbuf_mark(struct rte_mbuf *m, const struct virtio_net_hdr_v1 *hdr);
/* Mark what an ethdev said of a frame that it received. */
void sw_net_mbuf_mark_received(struct rte_mbuf **frame);
/* The header that says what is marked. */
void sw_net_mbuf_header(const struct rte_mbuf *m, struct virtio_net_hdr_v1 *hdr);
/* Write the sum of the pseudo header, for a payload of so many bytes with the TCP or UDP header. */
void sw_net_mbuf_pseudo_sum(struct rte_mbuf *m, uint32_t bytes);
/* Complete the checksum at start + offset, and mark nothing more. */
void sw_net_mbuf_complete(struct rte_mbuf *m, uint32_t start, uint32_t offset);

/* ---- sw_net_gso.c ---- */
/* nr_frames is 0 where frames come in mbufs. NULL with vdpa_error_text(). */
struct sw_net_cutter *
sw_net_cutter_create(const char *device, uint32_t nr_frames, uint32_t nr_segments);
void sw_net_cutter_free(struct sw_net_cutter *cutter);
/* Let a flow be able to cut if its ends are to differ; it is freed with the flow. 0, -ENOMEM. */
int sw_net_cutter_prepare(struct sw_net_flow *flow);
/* Free the frames that are held, and count them at a queue. NULL is legal. */
void sw_net_held_drop(struct sw_net_held *held, struct sw_net_vq *vq, enum sw_net_stat why);
/*
 * Cut a frame by its header; m is used up. The segments are marked as needing a checksum.
 * @return segments put into out; -EINVAL: not what the header says; -E2BIG: into too many; -ENOMEM:
 *	a pool is empty, m stays
 */
int sw_net_cut(const struct sw_net_cutter *cutter, struct rte_mbuf *m,
	const struct virtio_net_hdr_v1 *hdr, struct rte_mbuf **out, uint16_t nr_max);
/* Take a frame of the transmit queue that gave SW_NET_FRAME_CUT; its segments are held. */
void sw_net_cut_take(struct sw_net_flow *flow, const struct vring_chain *out);
/* A poll that puts frames that are held into receive buffers, counting them at from. */
unsigned int sw_net_held_deliver(struct sw_net_flow *flow, struct sw_net_vq *from);

#endif /* SW_NET_GSO_H */
