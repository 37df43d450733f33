/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "sw_net_port.h"

#define STUCK_MS 10 /* frames that an ethdev does not take are dropped then */

static inline bool
is_carrying(const struct sw_net_port *port)
{
	return atomic_load_explicit(&port->carrying, memory_order_acquire);
}

/* ---- guest to ethdev ---- */

/* Frames that are held as far as the ethdev takes them. @return how many */
static unsigned int
send_held(struct sw_net_port *port, struct sw_net_vq *tx, struct sw_net_held *held)
{
	struct sw_net_port_tx *end = &port->tx[tx->index / 2];
	uint16_t begin = held->at, nr, sent;
	uint64_t now;

	if (end->shared && !rte_spinlock_trylock(&port->tx_locks[end->queue]))
		return 0;
	do {
		nr = RTE_MIN(held->nr - held->at, SW_NET_BURST);
		sent = rte_eth_tx_burst(port->id, end->queue, &held->mbufs[held->at], nr);
		held->at += sent;
	} while (sent == nr && held->at < held->nr);
	if (end->shared)
		rte_spinlock_unlock(&port->tx_locks[end->queue]);

	if (held->at == held->nr || held->at != begin) {
		end->stuck_tsc = 0;
		return held->at - begin;
	}
	now = rte_rdtsc();
	if (end->stuck_tsc == 0) {
		end->stuck_tsc = now;
	} else if (now - end->stuck_tsc > rte_get_tsc_hz() / 1000 * STUCK_MS) {
		sw_net_held_drop(held, tx, SW_NET_DROP_PORT);
		end->stuck_tsc = 0;
	}
	return 0;
}

/* Will the ethdev write the checksum that is marked? */
static bool
is_offloaded(const struct sw_net_port *port, const struct rte_mbuf *m)
{
	bool is_udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;

	return (port->tx_offloads &
		       (is_udp ? RTE_ETH_TX_OFFLOAD_UDP_CKSUM : RTE_ETH_TX_OFFLOAD_TCP_CKSUM)) != 0;
}

/* One mbuf where the ethdev takes no more than that. NULL: the pool is empty; m is used up. */
static struct rte_mbuf *
in_one_piece(const struct sw_net_port *port, struct rte_mbuf *m)
{
	struct rte_mbuf *whole;

	if (m->nb_segs == 1 || (port->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0)
		return m;
	whole = rte_pktmbuf_copy(m, port->pool, 0, UINT32_MAX);
	rte_pktmbuf_free(m);
	return whole;
}

static void
hold(struct sw_net_port *port, struct sw_net_vq *tx, struct sw_net_held *held, struct rte_mbuf *m)
{
	m = in_one_piece(port, m);
	if (m != NULL && (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) != 0 &&
		rte_eth_tx_prepare(port->id, port->tx[tx->index / 2].queue, &m, 1) != 1) {
		rte_pktmbuf_free(m);
		m = NULL;
	}
	if (m != NULL)
		held->mbufs[held->nr++] = m;
	else
		sw_net_count(tx, SW_NET_DROP_PORT, 1);
}

/* Let the ethdev write the checksum, or write it. */
static void
do_checksum(const struct sw_net_port *port, struct sw_net_vq *tx, struct rte_mbuf *m,
	const struct virtio_net_hdr_v1 *hdr)
{
	if (sw_net_mbuf_mark(m, hdr) && is_offloaded(port, m)) {
		sw_net_mbuf_pseudo_sum(m, m->pkt_len - m->l2_len - m->l3_len);
		return;
	}
	sw_net_mbuf_complete(
		m, rte_le_to_cpu_16(hdr->csum_start), rte_le_to_cpu_16(hdr->csum_offset));
	sw_net_count(tx, SW_NET_CSUM_DONE, 1);
}

/* Let the ethdev segment it if it can. */
static bool
is_segmented(
	const struct sw_net_port *port, struct rte_mbuf *m, const struct virtio_net_hdr_v1 *hdr)
{
	struct rte_ipv4_hdr *ip;

	if ((port->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO) == 0 ||
		m->nb_segs > port->nr_segs_max || !sw_net_mbuf_mark(m, hdr))
		return false;
	if ((m->ol_flags & RTE_MBUF_F_TX_IPV4) != 0) {
		ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, m->l2_len);
		ip->hdr_checksum = 0;
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	}
	/* of no length: an ethdev adds that of each segment */
	sw_net_mbuf_pseudo_sum(m, 0);
	return true;
}

static int
take_gso(struct sw_net_port *port, struct sw_net_vq *tx, struct sw_net_held *held,
	struct rte_mbuf *m, const struct virtio_net_hdr_v1 *hdr)
{
	struct rte_mbuf *segments[SW_NET_CUT_MAX];
	int nr;

	if (is_segmented(port, m, hdr)) {
		hold(port, tx, held, m);
		return 1;
	}
	nr = sw_net_cut(port->cutter, m, hdr, segments, SW_NET_CUT_MAX);
	if (nr == -ENOMEM) {
		rte_pktmbuf_free(m);
		return nr;
	}
	sw_net_count(tx, nr > 0 ? SW_NET_GSO_CUT : SW_NET_DROP_GSO, 1);
	for (int i = 0; i < nr; i++) {
		if (!is_offloaded(port, segments[i])) {
			sw_net_mbuf_complete(segments[i], segments[i]->l2_len + segments[i]->l3_len,
				rte_le_to_cpu_16(hdr->csum_offset));
			sw_net_count(tx, SW_NET_CSUM_DONE, 1);
		}
		hold(port, tx, held, segments[i]);
	}
	return 1;
}

/* A frame into mbufs that are held. @return 1, or what sw_net_frame_check() said; -ENOMEM: wait */
static int
take(struct sw_net_port *port, struct sw_net_vq *tx, struct sw_net_held *held,
	const struct vring_chain *out)
{
	struct virtio_net_hdr_v1 hdr;
	struct vring_cursor frame;
	uint32_t len, longest;
	struct rte_mbuf *m;
	int rc = sw_net_frame_check(tx, out, &hdr, &frame, &len);

	if (rc <= 0)
		return rc;
	/* a segment is as long as its payload and the headers before that, of 54 bytes at least */
	longest = hdr.gso_type != 0 ? rte_le_to_cpu_16(hdr.gso_size) + 54u : len;
	if (RTE_MIN(longest, len) > port->mtu + RTE_ETHER_HDR_LEN + 2u * RTE_VLAN_HLEN) {
		sw_net_count(tx, SW_NET_DROP_TOO_BIG, 1);
		return SW_NET_FRAME_DROPPED;
	}
	m = sw_net_mbuf_copy(port->pool, frame, len);
	if (m == NULL)
		return -ENOMEM;
	if (hdr.gso_type != 0)
		return take_gso(port, tx, held, m, &hdr);
	if (hdr.flags != 0)
		do_checksum(port, tx, m, &hdr);
	hold(port, tx, held, m);
	return 1;
}

static unsigned int
tx_poll(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;
	struct sw_net_held *held = flow->held;
	struct sw_net_vq *tx = flow->tx;
	struct sw_net_port *port;
	struct sw_net_burst out;
	unsigned int sent = 0;
	uint16_t nr, done = 0;
	uint64_t bytes = 0;
	int rc = 0;

	if (unlikely(flow->armed))
		sw_net_disarm(flow);
	if (unlikely(!sw_net_vq_usable(tx)))
		return 0;
	port = tx->dev->port;
	if (unlikely(!is_carrying(port))) {
		sw_net_held_drop(held, tx, SW_NET_DROP_LINK_DOWN);
		return sw_net_discard(flow, SW_NET_DROP_LINK_DOWN);
	}
	if (sw_net_is_holding(held))
		sent = send_held(port, tx, held);
	if (sw_net_is_holding(held))
		return sw_net_finish_burst(flow, sent);
	nr = vring_dev_peek(&tx->ring, out.chains, SW_NET_BURST, out.segs, SW_NET_NR_SEGS);
	if (unlikely(vring_dev_error(&tx->ring) != VRING_ERR_NONE)) {
		sw_net_vq_fail(tx, NULL);
		return sw_net_finish_burst(flow, 0);
	}
	nr = sw_net_pass(flow, nr);
	held->at = held->nr = 0;
	for (; done < nr && held->nr < SW_NET_BURST; done++) {
		rc = take(port, tx, held, &out.chains[done]);
		if (rc < 0)
			break;
		bytes += out.chains[done].readable_bytes - tx->hdr_bytes;
	}
	if (done != 0) {
		if (unlikely(flow->capturing))
			sw_net_capture_sent(tx, out.chains, done);
		sw_net_complete_tx(tx, out.chains, done);
		sw_net_count(tx, SW_NET_PACKETS, done);
		sw_net_count(tx, SW_NET_BYTES, bytes);
	}
	if (sw_net_is_holding(held))
		send_held(port, tx, held);
	if (unlikely(rc == SW_NET_FRAME_BAD_TX))
		sw_net_vq_fail(tx, "device-writable segment in a transmit buffer");
	return sw_net_finish_burst(flow, done + sent);
}

static bool
tx_arm(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;

	return sw_net_is_holding(flow->held) || sw_net_arm(path);
}

/* ---- ethdev to guest ---- */

static bool
receive(const struct sw_net_port *port, struct sw_net_port_rx *end, struct sw_net_held *held)
{
	held->at = held->nr = 0;
	for (uint16_t i = 0; i < end->nr_queues && held->nr == 0; i++) {
		if (++end->next >= end->nr_queues)
			end->next = 0;
		held->nr = rte_eth_rx_burst(
			port->id, end->queues[end->next], held->mbufs, SW_NET_BURST);
	}
	return held->nr != 0;
}

static unsigned int
rx_poll(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;
	struct sw_net_held *held = flow->held;
	struct sw_net_vq *rx = flow->rx;
	struct sw_net_port *port;
	struct sw_net_port_rx *end;

	if (unlikely(flow->armed))
		sw_net_disarm(flow);
	if (unlikely(!sw_net_vq_usable(rx) || (flow->gated && sw_net_fault_hangs(flow))))
		return 0;
	port = rx->dev->port;
	end = &port->rx[rx->index / 2];
	if (sw_net_is_holding(held))
		return sw_net_held_deliver(flow, rx);
	flow->blocked = false;
	if (!receive(port, end, held))
		return sw_net_finish_burst(flow, 0);
	if (unlikely(!is_carrying(port))) { /* the link is pulled */
		sw_net_held_drop(held, rx, SW_NET_DROP_LINK_DOWN);
		return sw_net_finish_burst(flow, 0);
	}
	for (uint16_t i = 0; i < held->nr; i++)
		sw_net_mbuf_mark_received(&held->mbufs[i]);
	return sw_net_held_deliver(flow, rx);
}

/* Do frames wait that came before their arrival was asked for? */
static bool
ask_for_frames(const struct sw_net_port *port, const struct sw_net_port_rx *end)
{
	struct pollfd fd = {.fd = end->wake_fd, .events = POLLIN};
	bool more = false;

	if (port->fd_is_queue)
		return poll(&fd, 1, 0) > 0;
	for (uint16_t i = 0; i < end->nr_queues; i++) {
		rte_eth_dev_rx_intr_enable(port->id, end->queues[i]);
		more |= rte_eth_rx_queue_count(port->id, end->queues[i]) > 0;
	}
	return more;
}

static bool
rx_arm(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;
	const struct sw_net_port *port;
	const struct sw_net_port_rx *end;

	if (!sw_net_vq_usable(flow->rx) || (flow->gated && sw_net_fault_hangs(flow)))
		return false;
	if (sw_net_is_holding(flow->held))
		return sw_net_arm_rx(flow);
	port = flow->rx->dev->port;
	end = &port->rx[flow->rx->index / 2];
	return end->wake_fd >= 0 && ask_for_frames(port, end);
}

int
sw_net_port_flow_init(struct sw_net_flow *flow, struct sw_net_vq *vq)
{
	bool sends = vq->index % 2 == 1;
	struct sw_net_port_rx *end = &vq->dev->port->rx[vq->index / 2];

	if (!sends) {
		/* no share yet: what it read before is another queue's now */
		end->nr_queues = 0;
		end->wake_fd = -1;
	}
	flow->path.poll = sends ? tx_poll : rx_poll;
	flow->path.arm = sends ? tx_arm : rx_arm;
	flow->path.wake_fds[1] = -1;
	/* the queue may have been armed before */
	flow->armed = true;
	if (sends)
		flow->tx = vq;
	else
		flow->rx = vq;
	flow->held = calloc(1, sizeof(*flow->held));
	return flow->held != NULL ? 0 : vdpa_error_set(-ENOMEM, "%s: out of memory", vq->dev->name);
}
