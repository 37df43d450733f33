/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_ethdev.h>
#include <rte_gso.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include "sw_net_gso.h"

#define TCP_CWR 0x80

/* Bytes of an IPv6 header where the library writes and reads what an IPv4 header has there. */
#define IPV6_SAVED 8

/* ---- what is made before it is needed ---- */

void
sw_net_cutter_free(struct sw_net_cutter *cutter)
{
	if (cutter == NULL)
		return;
	sw_net_pool_retire(cutter->frames);
	sw_net_pool_retire(cutter->headers);
	sw_net_pool_retire(cutter->payloads);
	free(cutter);
}

struct sw_net_cutter *
sw_net_cutter_create(const char *device, uint32_t nr_frames, uint32_t nr_segments)
{
	struct sw_net_cutter *cutter = calloc(1, sizeof(*cutter));

	if (cutter == NULL) {
		vdpa_error_set(-ENOMEM, "%s: out of memory", device);
		return NULL;
	}
	if (nr_frames != 0)
		cutter->frames = sw_net_pool_create(device, nr_frames * SW_NET_FRAME_MBUFS,
			RTE_PKTMBUF_HEADROOM + SW_NET_MBUF_BYTES);
	cutter->headers = sw_net_pool_create(
		device, nr_segments, RTE_PKTMBUF_HEADROOM + SW_NET_CUT_HEADERS);
	/* the payload of a segment lies in two mbufs of the frame at most, where it is short */
	cutter->payloads = sw_net_pool_create(device, nr_segments + SW_NET_FRAME_MBUFS, 0);
	if ((nr_frames != 0 && cutter->frames == NULL) || cutter->headers == NULL ||
		cutter->payloads == NULL) {
		sw_net_cutter_free(cutter);
		return NULL;
	}
	return cutter;
}

int
sw_net_cutter_prepare(struct sw_net_flow *flow)
{
	const struct sw_net_vq *tx = flow->tx, *rx = flow->new_rx;

	if (rx == NULL || (tx->gso & ~rx->gso) == 0 || flow->cutter != NULL)
		return 0;
	if (flow->held == NULL)
		flow->held = calloc(1, sizeof(*flow->held));
	if (flow->held == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", tx->dev->name);
	flow->cutter = sw_net_cutter_create(tx->dev->name, 1, SW_NET_CUT_MAX);
	return flow->cutter != NULL ? 0 : -ENOMEM;
}

void
sw_net_held_drop(struct sw_net_held *held, struct sw_net_vq *vq, enum sw_net_stat why)
{
	if (!sw_net_is_holding(held))
		return;
	sw_net_count(vq, why, held->nr - held->at);
	for (; held->at < held->nr; held->at++)
		rte_pktmbuf_free(held->mbufs[held->at]);
	held->at = held->nr = 0;
}

/* ---- cutting ---- */

/*
 * The library knows IPv4 only. An IPv6 header passes as one without options whose fragment fields
 * are zero; its first bytes are put back into each segment afterwards.
 */
static void
ipv6_hide(struct rte_mbuf *m, uint8_t saved[IPV6_SAVED])
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len);

	memcpy(saved, ip, IPV6_SAVED);
	memset(ip + offsetof(struct rte_ipv4_hdr, fragment_offset), 0, sizeof(uint16_t));
}

static void
ipv6_restore(struct rte_mbuf *m, const uint8_t saved[IPV6_SAVED])
{
	struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, m->l2_len);

	memcpy(ip, saved, IPV6_SAVED);
	ip->payload_len = rte_cpu_to_be_16(m->pkt_len - m->l2_len - sizeof(*ip));
}

/* What the library leaves to do in a segment. */
static void
finish_segment(struct rte_mbuf *m, bool is_first, uint64_t marks, const uint8_t saved[IPV6_SAVED])
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, m->l2_len);
	struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(
		m, struct rte_tcp_hdr *, m->l2_len + m->l3_len);

	if ((marks & RTE_MBUF_F_TX_IPV6) != 0) {
		ipv6_restore(m, saved);
	} else {
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	/* once a window (RFC 3168, 6.1.2) */
	if (!is_first)
		tcp->tcp_flags &= ~TCP_CWR;
	m->ol_flags = marks;
	sw_net_mbuf_pseudo_sum(m, m->pkt_len - m->l2_len - m->l3_len);
}

/* A frame that is one segment as it is. */
static int
cut_nothing(struct rte_mbuf *m, struct rte_mbuf **out)
{
	uint8_t saved[IPV6_SAVED];

	memcpy(saved, rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len), sizeof(saved));
	finish_segment(m, true, m->ol_flags & ~RTE_MBUF_F_TX_TCP_SEG, saved);
	out[0] = m;
	return 1;
}

static int
cut_whole(const struct sw_net_cutter *cutter, struct rte_mbuf *m, uint16_t headers,
	struct rte_mbuf **out, uint16_t nr_max)
{
	struct rte_gso_ctx ctx = {
		.direct_pool = cutter->headers,
		.indirect_pool = cutter->payloads,
		.gso_types = RTE_ETH_TX_OFFLOAD_TCP_TSO,
		.gso_size = headers + m->tso_segsz,
	};
	uint64_t marks = m->ol_flags & ~RTE_MBUF_F_TX_TCP_SEG;
	bool is_ipv6 = (marks & RTE_MBUF_F_TX_IPV6) != 0;
	uint8_t saved[IPV6_SAVED] = {0};
	int nr;

	if (is_ipv6)
		ipv6_hide(m, saved);
	m->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4;
	nr = rte_gso_segment(m, &ctx, out, nr_max);
	if (nr <= 0) {
		if (is_ipv6)
			ipv6_restore(m, saved);
		return nr < 0 ? nr : -EINVAL;
	}
	rte_pktmbuf_free(m); /* the segments hold what they point to */
	for (int i = 0; i < nr; i++)
		finish_segment(out[i], i == 0, marks, saved);
	return nr;
}

int
sw_net_cut(const struct sw_net_cutter *cutter, struct rte_mbuf *m,
	const struct virtio_net_hdr_v1 *hdr, struct rte_mbuf **out, uint16_t nr_max)
{
	uint32_t headers, payload;
	int rc = -EINVAL;

	if (sw_net_mbuf_mark(m, hdr) && (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0) {
		headers = m->l2_len + m->l3_len + m->l4_len;
		payload = m->pkt_len - headers;
		if (payload <= m->tso_segsz)
			return cut_nothing(m, out);
		if (payload > (uint32_t)m->tso_segsz * RTE_MIN(nr_max, SW_NET_CUT_MAX))
			rc = -E2BIG;
		else if (headers <= SW_NET_CUT_HEADERS && headers + m->tso_segsz <= UINT16_MAX)
			rc = cut_whole(cutter, m, headers, out, nr_max);
	}
	if (rc < 0 && rc != -ENOMEM)
		rte_pktmbuf_free(m);
	return rc;
}

void
sw_net_cut_take(struct sw_net_flow *flow, const struct vring_chain *out)
{
	struct sw_net_held *held = flow->held;
	struct sw_net_vq *tx = flow->tx;
	struct virtio_net_hdr_v1 hdr;
	struct vring_cursor frame;
	struct rte_mbuf *m;
	uint32_t len = 0;
	int nr = sw_net_frame_check(tx, out, &hdr, &frame, &len);

	if (nr > 0) {
		m = sw_net_mbuf_copy(flow->cutter->frames, frame, len);
		nr = m != NULL ? sw_net_cut(flow->cutter, m, &hdr, held->mbufs, SW_NET_CUT_MAX)
			       : -ENOMEM;
		if (nr == -ENOMEM)
			rte_pktmbuf_free(m);
		held->at = 0;
		held->nr = RTE_MAX(nr, 0);
		sw_net_count(tx, nr > 0 ? SW_NET_GSO_CUT : SW_NET_DROP_GSO, 1);
	}
	if (unlikely(flow->capturing))
		sw_net_capture_sent(tx, out, 1);
	sw_net_complete_tx(tx, out, 1);
	sw_net_count(tx, SW_NET_PACKETS, 1);
	sw_net_count(tx, SW_NET_BYTES, len);
}

/* ---- to receive buffers ---- */

static int
deliver(struct sw_net_vq *from, const struct sw_net_vq *rx, const struct rte_mbuf *m,
	struct vring_chain *in, uint16_t nr)
{
	struct vring_seg segs[SW_NET_MBUF_SEGS_MAX];
	struct virtio_net_hdr_v1 hdr;

	if (m->nb_segs > SW_NET_MBUF_SEGS_MAX || m->pkt_len > SW_NET_FRAME_MAX ||
		m->pkt_len < SW_NET_FRAME_MIN) {
		sw_net_count(from, SW_NET_DROP_TOO_BIG, 1);
		return SW_NET_FRAME_DROPPED;
	}
	sw_net_mbuf_header(m, &hdr);
	return sw_net_frame_put(from, rx, &hdr, sw_net_mbuf_cursor(m, segs), m->pkt_len, in, nr);
}

unsigned int
sw_net_held_deliver(struct sw_net_flow *flow, struct sw_net_vq *from)
{
	struct sw_net_held *held = flow->held;
	struct sw_net_vq *rx = flow->rx;
	uint16_t nr_in, nr_rx = 0, begin = held->at;
	struct sw_net_burst in;
	uint64_t bytes = 0, nr_frames = 0;
	int used = 0;

	nr_in = vring_dev_peek(&rx->ring, in.chains,
		rx->mergeable ? SW_NET_RX_PEEK : RTE_MIN(held->nr - begin, SW_NET_RX_PEEK), in.segs,
		SW_NET_NR_SEGS);
	if (unlikely(vring_dev_error(&rx->ring) != VRING_ERR_NONE)) {
		sw_net_vq_fail(rx, NULL);
		return sw_net_finish_burst(flow, 0);
	}
	for (; held->at < held->nr; held->at++) {
		struct rte_mbuf *m = held->mbufs[held->at];

		used = deliver(from, rx, m, in.chains + nr_rx, nr_in - nr_rx);
		if (used == SW_NET_FRAME_WAIT && nr_rx == 0 && nr_in != 0 &&
			sw_net_rx_is_full(rx, &in, nr_in)) {
			sw_net_count(from, SW_NET_DROP_TOO_BIG, 1);
			used = SW_NET_FRAME_DROPPED;
		}
		if (used < 0)
			break;
		nr_rx += used;
		nr_frames += used != 0;
		bytes += used != 0 ? m->pkt_len : 0;
		rte_pktmbuf_free(m);
	}
	if (unlikely(flow->capturing))
		sw_net_capture_received(rx, in.chains, nr_rx);
	sw_net_complete_rx(rx, in.chains, nr_rx);
	sw_net_count(rx, SW_NET_PACKETS, nr_frames);
	sw_net_count(rx, SW_NET_BYTES, bytes);
	if (used == SW_NET_FRAME_BAD_RX)
		sw_net_vq_fail(rx, "device-readable segment in a receive buffer");
	if (used == SW_NET_FRAME_WAIT && held->at == begin && !flow->blocked)
		sw_net_count(rx, SW_NET_RX_WAITS, 1);
	flow->blocked = used == SW_NET_FRAME_WAIT && held->at == begin;
	return sw_net_finish_burst(flow, held->at - begin);
}
