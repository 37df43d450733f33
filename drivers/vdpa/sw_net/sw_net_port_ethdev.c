/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>

#include "sw_net_port.h"

#define RING_SIZE      512
#define FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + 2 * RTE_VLAN_HLEN)
#define CHECKSUMS      (RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM)
#define SEGMENTATION   (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
/* Segments of a frame that an ethdev takes which names no limit. */
#define SEGS_ANY UINT16_MAX

/* How a port is to be set up. */
struct setup {
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	uint16_t nr_queues, nr_rx_desc, nr_tx_desc;
};

static int
failed(const struct sw_net_port *port, int rc, const char *what)
{
	return vdpa_error_set(rc, "port=%s: %s: %s", port->dev->args.port, what, strerror(-rc));
}

/*
 * net_tap writes checksums and cuts frames in software as we do, but spoils a frame that it does
 * not get rid of at once, refuses full segments and knows no IPv6.
 */
static bool
is_tap(const struct rte_eth_dev_info *info)
{
	return strcmp(info->driver_name, "net_tap") == 0;
}

static void
choose_offloads(const struct sw_net_port *port, struct setup *s)
{
	uint64_t can_send = s->info.tx_offload_capa, can_receive = s->info.rx_offload_capa;
	uint64_t wanted = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | CHECKSUMS;

	if (port->dev->args.tso && (can_send & SEGMENTATION) == SEGMENTATION)
		wanted |= SEGMENTATION;
	if (is_tap(&s->info)) {
		wanted = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
		can_receive &= ~RTE_ETH_RX_OFFLOAD_CHECKSUM;
	}
	s->conf.txmode.offloads = can_send & wanted;
	s->conf.rxmode.offloads = can_receive & RTE_ETH_RX_OFFLOAD_CHECKSUM;
	if (port->mtu + FRAME_OVERHEAD > SW_NET_MBUF_BYTES)
		s->conf.rxmode.offloads |= can_receive & RTE_ETH_RX_OFFLOAD_SCATTER;
}

static int
choose(struct sw_net_port *port, struct setup *s)
{
	uint16_t nr_max;
	int rc = rte_eth_dev_info_get(port->id, &s->info);

	if (rc != 0)
		return failed(port, rc, "cannot be asked what it can do");
	nr_max = RTE_MIN(s->info.max_rx_queues, s->info.max_tx_queues);
	if (nr_max == 0)
		return failed(port, -ENOTSUP, "does not both send and receive");
	s->nr_queues = RTE_MIN(nr_max, port->dev->args.nr_pairs);
	choose_offloads(port, s);
	s->conf.rxmode.mtu = port->mtu;
	if (s->nr_queues > 1) {
		s->conf.rx_adv_conf.rss_conf.rss_hf = s->info.flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
		if (s->conf.rx_adv_conf.rss_conf.rss_hf != 0)
			s->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	}
	s->conf.intr_conf.lsc = (*s->info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
	s->conf.intr_conf.rxq = 1;
	s->nr_rx_desc = s->nr_tx_desc = RING_SIZE;
	return 0;
}

/* Frames in both rings of all queues, on their way here, and being cut. */
static int
make_pools(struct sw_net_port *port, const struct setup *s)
{
	uint32_t nr_sent = s->nr_queues * s->nr_tx_desc;
	uint32_t nr = s->nr_queues * s->nr_rx_desc + nr_sent +
		2 * port->dev->args.nr_pairs * SW_NET_BURST + 4 * SW_NET_FRAME_MBUFS;
	bool pieces = (s->conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0 &&
		(s->conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
	uint32_t bytes = SW_NET_MBUF_BYTES, frame = port->mtu + FRAME_OVERHEAD;

	if (!pieces && frame > bytes)
		bytes = RTE_ALIGN_CEIL(frame, RTE_CACHE_LINE_SIZE);
	if (bytes + RTE_PKTMBUF_HEADROOM > UINT16_MAX)
		return failed(port, -EMSGSIZE, "its MTU does not fit a receive buffer");
	port->room_bytes = pieces ? UINT32_MAX : bytes;
	port->pool = sw_net_pool_create(port->dev->name, nr, RTE_PKTMBUF_HEADROOM + bytes);
	if (port->pool == NULL)
		return -ENOMEM;
	if (!port->dev->args.tso)
		return 0;
	port->cutter = sw_net_cutter_create(port->dev->name, 0, nr_sent + SW_NET_CUT_MAX);
	return port->cutter != NULL ? 0 : -ENOMEM;
}

void
sw_net_port_free_pools(struct sw_net_port *port)
{
	sw_net_pool_retire(port->pool);
	sw_net_cutter_free(port->cutter);
	port->pool = NULL;
	port->cutter = NULL;
}

static int
setup_queues(struct sw_net_port *port, const struct setup *s)
{
	struct rte_eth_rxconf rxconf = s->info.default_rxconf;
	struct rte_eth_txconf txconf = s->info.default_txconf;
	int rc = 0;

	rxconf.offloads = s->conf.rxmode.offloads;
	txconf.offloads = s->conf.txmode.offloads;
	for (uint16_t i = 0; i < s->nr_queues && rc == 0; i++) {
		rc = rte_eth_rx_queue_setup(
			port->id, i, s->nr_rx_desc, SOCKET_ID_ANY, &rxconf, port->pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(
				port->id, i, s->nr_tx_desc, SOCKET_ID_ANY, &txconf);
	}
	return rc;
}

static int
configure(struct sw_net_port *port, struct setup *s)
{
	int rc = rte_eth_dev_configure(port->id, s->nr_queues, s->nr_queues, &s->conf);

	if (rc == -EBUSY)
		return failed(port, rc, "somebody else has started it");
	if (rc == 0)
		rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &s->nr_rx_desc, &s->nr_tx_desc);
	if (rc != 0)
		return failed(port, rc, "cannot be configured");
	if (port->dev->args.mtu != 0) {
		rc = rte_eth_dev_set_mtu(port->id, port->mtu);
		if (rc != 0 && rc != -ENOTSUP)
			return failed(port, rc, "does not take the MTU that mtu= asks for");
	}
	rc = make_pools(port, s);
	if (rc != 0)
		return rc;
	rc = setup_queues(port, s);
	if (rc != 0)
		return failed(port, rc, "its queues cannot be set up");
	rc = rte_eth_dev_start(port->id);
	return rc != 0 ? failed(port, rc, "cannot be started") : 0;
}

int
sw_net_port_start(struct sw_net_port *port)
{
	struct setup s = {0};
	int rc;

	port->mtu = RTE_ETHER_MTU;
	rte_eth_dev_get_mtu(port->id, &port->mtu);
	if (port->dev->args.mtu != 0)
		port->mtu = port->dev->args.mtu;
	rc = choose(port, &s);
	if (rc == 0)
		rc = configure(port, &s);
	if (rc != 0 && rc != -EBUSY && s.conf.intr_conf.rxq != 0) {
		/* once more without interrupts of its queues, which not every driver has */
		rte_eth_dev_stop(port->id);
		sw_net_port_free_pools(port);
		s.conf.intr_conf.rxq = 0;
		rc = configure(port, &s);
	}
	if (rc != 0) {
		sw_net_port_free_pools(port);
		return rc;
	}
	port->nr_queues = s.nr_queues;
	port->tx_offloads = s.conf.txmode.offloads;
	port->nr_segs_max = s.info.tx_desc_lim.nb_seg_max != 0 ? s.info.tx_desc_lim.nb_seg_max
							       : SEGS_ANY;
	/* asked once: where there are none, ethdev logs an error each time */
	port->has_fds = rte_eth_dev_rx_intr_ctl_q_get_fd(port->id, 0) >= 0;
	port->fd_is_queue = is_tap(&s.info);
	port->applied.nr = 0;
	snprintf(port->device, sizeof(port->device), "%s", rte_dev_name(s.info.device));
	sw_net_port_filter(port);
	SW_NET_LOG(INFO, "%s: port %s (%s) with %u queues for %u pairs", port->dev->name,
		port->dev->args.port, s.info.driver_name, s.nr_queues, port->dev->args.nr_pairs);
	return 0;
}

void
sw_net_port_stop(struct sw_net_port *port, bool for_good)
{
	rte_eth_dev_stop(port->id);
	if (for_good)
		rte_eth_dev_close(port->id);
	sw_net_port_free_pools(port);
}

bool
sw_net_port_read(const struct sw_net_port *port, uint16_t *mtu)
{
	struct rte_eth_link link = {0};
	int rc = rte_eth_link_get_nowait(port->id, &link);

	rte_eth_dev_get_mtu(port->id, mtu);
	/* a driver that knows of no link: it is there */
	return rc == -ENOTSUP || (rc == 0 && link.link_status == RTE_ETH_LINK_UP);
}

/* ---- receive filter ---- */

/* Addresses of the filter beside the ethdev's own. false: not all, so it must be promiscuous. */
static bool
apply_unicast(struct sw_net_port *port)
{
	struct sw_net_macs *now = &port->applied;
	struct sw_net_macs wanted = port->unicast;
	bool all = !wanted.overflow;

	if (wanted.nr < SW_NET_MACS_MAX)
		memcpy(&wanted.addresses[wanted.nr++], port->dev->mac, RTE_ETHER_ADDR_LEN);
	else
		all = false;
	for (; now->nr != 0; now->nr--)
		rte_eth_dev_mac_addr_remove(port->id, &now->addresses[now->nr - 1]);
	for (uint16_t i = 0; i < wanted.nr && all; i++) {
		struct rte_ether_addr own;

		if (rte_eth_macaddr_get(port->id, &own) == 0 &&
			rte_is_same_ether_addr(&own, &wanted.addresses[i]))
			continue;
		all = rte_eth_dev_mac_addr_add(port->id, &wanted.addresses[i], 0) == 0;
		if (all)
			now->addresses[now->nr++] = wanted.addresses[i];
	}
	return all;
}

void
sw_net_port_filter(struct sw_net_port *port)
{
	const struct sw_net_dev *dev = port->dev;
	bool promisc = !port->mode_known || dev->promisc, allmulti = dev->allmulti;

	if (!sw_net_port_is_there(port))
		return;
	if (!promisc)
		promisc = !apply_unicast(port);
	if (!promisc && !allmulti)
		allmulti = port->multicast.overflow ||
			rte_eth_dev_set_mc_addr_list(
				port->id, port->multicast.addresses, port->multicast.nr) != 0;
	/* a driver without either mode receives all there is */
	if (allmulti)
		rte_eth_allmulticast_enable(port->id);
	else
		rte_eth_allmulticast_disable(port->id);
	if (promisc)
		rte_eth_promiscuous_enable(port->id);
	else
		rte_eth_promiscuous_disable(port->id);
}

void
sw_net_port_reset_filter(struct sw_net_port *port)
{
	port->mode_known = false;
	port->unicast.nr = port->multicast.nr = 0;
	port->unicast.overflow = port->multicast.overflow = false;
	sw_net_port_filter(port);
}

/* One of the two lists of struct virtio_net_ctrl_mac. @return what follows it */
static const uint8_t *
take_macs(struct sw_net_macs *macs, const uint8_t *data, const uint8_t *end)
{
	uint32_t nr;

	memset(macs, 0, sizeof(*macs));
	if ((size_t)(end - data) < sizeof(nr))
		return end;
	memcpy(&nr, data, sizeof(nr));
	data += sizeof(nr);
	nr = RTE_MIN(rte_le_to_cpu_32(nr), (uint32_t)(end - data) / RTE_ETHER_ADDR_LEN);
	macs->overflow = nr > SW_NET_MACS_MAX;
	macs->nr = RTE_MIN(nr, (uint32_t)SW_NET_MACS_MAX);
	memcpy(macs->addresses, data, macs->nr * sizeof(macs->addresses[0]));
	return data + nr * RTE_ETHER_ADDR_LEN;
}

void
sw_net_port_mac_table(struct sw_net_port *port, const void *data, size_t len_bytes)
{
	const uint8_t *at = data, *end = at + len_bytes;

	at = take_macs(&port->unicast, at, end);
	take_macs(&port->multicast, at, end);
}
