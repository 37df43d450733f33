/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>

#include "sw_net_path.h"
#include "sw_net_port.h"

#define ETH_P_REVERSE_ARP 0x8035

/* A reverse request for its own address (RFC 903), as QEMU and Linux announce a guest. */
struct rarp_frame {
	uint8_t to[ETH_ALEN], from[ETH_ALEN];
	uint16_t ethertype;
	uint16_t hardware, protocol;
	uint8_t hardware_bytes, protocol_bytes;
	uint16_t operation;
	uint8_t sender_mac[ETH_ALEN], sender_ip[4];
	uint8_t target_mac[ETH_ALEN], target_ip[4];
	uint8_t padding[ETH_ZLEN - 42];
} __attribute__((packed));

_Static_assert(sizeof(struct rarp_frame) == ETH_ZLEN, "the shortest frame");

static void
rarp_fill(struct rarp_frame *rarp, const uint8_t mac[ETH_ALEN])
{
	*rarp = (struct rarp_frame){
		.ethertype = rte_cpu_to_be_16(ETH_P_REVERSE_ARP),
		.hardware = rte_cpu_to_be_16(1),
		.protocol = rte_cpu_to_be_16(ETH_P_IP),
		.hardware_bytes = ETH_ALEN,
		.protocol_bytes = 4,
		.operation = rte_cpu_to_be_16(3),
	};
	memset(rarp->to, 0xff, ETH_ALEN);
	memcpy(rarp->from, mac, ETH_ALEN);
	memcpy(rarp->sender_mac, mac, ETH_ALEN);
	memcpy(rarp->target_mac, mac, ETH_ALEN);
}

struct delivery {
	struct sw_net_flow *flow;
	struct rarp_frame frame;
	int rc;
};

/* On the worker: between the frames of the flow. */
static void
deliver(void *arg)
{
	struct delivery *delivery = arg;
	struct sw_net_flow *flow = delivery->flow;
	struct sw_net_vq *rx = flow->rx;
	struct vring_seg seg = {.va = (uint8_t *)&delivery->frame, .len = ETH_ZLEN};
	struct vring_cursor frame = {&seg, 1, 0};
	struct virtio_net_hdr_v1 hdr = {0};
	struct sw_net_burst in;
	uint16_t nr;
	int used;

	delivery->rc = -EAGAIN;
	if (!sw_net_vq_usable(rx))
		return;
	nr = vring_dev_peek(
		&rx->ring, in.chains, rx->mergeable ? SW_NET_RX_PEEK : 1, in.segs, SW_NET_NR_SEGS);
	if (vring_dev_error(&rx->ring) != VRING_ERR_NONE) {
		sw_net_vq_fail(rx, NULL);
		return;
	}
	used = sw_net_frame_put(flow->tx, rx, &hdr, frame, ETH_ZLEN, in.chains, nr);
	if (used == SW_NET_FRAME_BAD_RX)
		sw_net_vq_fail(rx, "device-readable segment in a receive buffer");
	if (used <= 0)
		return;
	if (unlikely(flow->capturing))
		sw_net_capture_received(rx, in.chains, used);
	sw_net_complete_rx(rx, in.chains, used);
	sw_net_count(rx, SW_NET_PACKETS, 1);
	sw_net_count(rx, SW_NET_BYTES, ETH_ZLEN);
	flow->unsignalled_bursts++;
	sw_net_settle(flow);
	delivery->rc = 0;
}

static int
tell_peer(struct sw_net_dev *dev, const struct rarp_frame *frame)
{
	struct delivery delivery = {.flow = sw_net_tx(dev, 0)->flow, .frame = *frame};
	int rc;

	/* the other end runs no driver: nobody to tell */
	if (delivery.flow == NULL || delivery.flow->rx == NULL)
		return 0;
	rc = sw_net_vq_run(sw_net_tx(dev, 0), deliver, &delivery);
	return rc != 0 ? rc : delivery.rc;
}

/* A guest that hears only itself, or nobody, needs no announcement. */
int
sw_net_announce(struct vdpa_device *vdpa, const uint8_t mac[ETH_ALEN])
{
	struct sw_net_dev *dev = (struct sw_net_dev *)vdpa;
	struct rarp_frame frame;
	int rc = 0;

	rarp_fill(&frame, mac);
	pthread_mutex_lock(&dev->link->lock);
	if (dev->args.backend == SW_NET_PEER)
		rc = tell_peer(dev, &frame);
	else if (dev->args.backend == SW_NET_PORT)
		rc = sw_net_port_send(dev, &frame, sizeof(frame));
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}
