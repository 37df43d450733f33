/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <stdio.h>
#include <string.h>

#include <stddef.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_private.h"
#include "vring_layout.h"

/* Newer than the kernel headers of Debian 12. */
#define NET_F_NOTF_COAL     53
#define NET_F_GUEST_USO4    54
#define NET_F_GUEST_USO6    55
#define NET_F_HOST_USO      56
#define F_NOTIFICATION_DATA 38
#define F_NOTIF_CONFIG_DATA 39
#define BLK_F_SECURE_ERASE  16
#define BLK_F_ZONED         17

struct dependency {
	uint8_t bit;
	uint64_t needs_any;
};

static uint64_t
drop_unmet(uint64_t features, const struct dependency *dependencies, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if ((features & dependencies[i].needs_any) == 0)
			features &= ~BIT(dependencies[i].bit);
	return features;
}

/* virtio 1.2, 5.1.3.1, in an order in which one pass is enough. */
static uint64_t
net_features_consistent(uint64_t features)
{
	static const struct dependency dependencies[] = {
		{VIRTIO_NET_F_GUEST_TSO4, BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{VIRTIO_NET_F_GUEST_TSO6, BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{VIRTIO_NET_F_GUEST_ECN,
			BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6)},
		{VIRTIO_NET_F_GUEST_UFO, BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{NET_F_GUEST_USO4, BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{NET_F_GUEST_USO6, BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{VIRTIO_NET_F_HOST_TSO4, BIT(VIRTIO_NET_F_CSUM)},
		{VIRTIO_NET_F_HOST_TSO6, BIT(VIRTIO_NET_F_CSUM)},
		{VIRTIO_NET_F_HOST_ECN, BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6)},
		{VIRTIO_NET_F_HOST_UFO, BIT(VIRTIO_NET_F_CSUM)},
		{NET_F_HOST_USO, BIT(VIRTIO_NET_F_CSUM)},
		{VIRTIO_NET_F_CTRL_RX, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_CTRL_RX_EXTRA, BIT(VIRTIO_NET_F_CTRL_RX)},
		{VIRTIO_NET_F_CTRL_VLAN, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_GUEST_ANNOUNCE, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_CTRL_MAC_ADDR, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_RSS, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_HASH_REPORT, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{NET_F_NOTF_COAL, BIT(VIRTIO_NET_F_CTRL_VQ)},
		{VIRTIO_NET_F_RSC_EXT, BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6)},
	};

	return drop_unmet(features, dependencies, RTE_DIM(dependencies));
}

static uint16_t
net_nr_pairs(uint16_t nr_data)
{
	return nr_data / 2;
}

/* virtio 1.2, 5.1.2: after all pairs if these were agreed, else after the first. */
static int
net_ctrl_vq(uint64_t features, uint16_t nr_pairs)
{
	if ((features & BIT(VIRTIO_NET_F_CTRL_VQ)) == 0)
		return -1; /* none */
	return (features & (BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_RSS))) != 0 ? 2 * nr_pairs : 2;
}

/* A Linux guest spins for ever on a control queue that nobody serves. */
static uint64_t
net_features_served(uint64_t features, bool commands, bool pairs)
{
	const uint64_t command_bits = BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |
		BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);

	if (!commands && !pairs)
		return features & ~(command_bits | BIT(VIRTIO_NET_F_CTRL_VQ));
	if (!commands)
		return features & ~command_bits;
	return pairs ? features : features & ~BIT(VIRTIO_NET_F_MQ);
}

static void
net_config_announce(uint8_t *config)
{
	((struct virtio_net_config *)config)->status |= rte_cpu_to_le_16(VIRTIO_NET_S_ANNOUNCE);
}

static void
net_config_status(uint64_t features, const uint8_t *config, struct vdpa_device_status *status)
{
	const struct virtio_net_config *net = (const struct virtio_net_config *)config;

	if ((features & BIT(VIRTIO_NET_F_MAC)) != 0)
		memcpy(status->mac, net->mac, sizeof(status->mac));
	if ((features & BIT(VIRTIO_NET_F_MTU)) != 0)
		status->mtu = rte_le_to_cpu_16(net->mtu);
	if ((features & BIT(VIRTIO_NET_F_STATUS)) != 0)
		status->link_down = (net->status & rte_cpu_to_le_16(VIRTIO_NET_S_LINK_UP)) == 0;
}

static void
net_config_limit(const struct vdpa_contract *contract, uint8_t *config)
{
	struct virtio_net_config *net = (struct virtio_net_config *)config;

	net->max_virtqueue_pairs = rte_cpu_to_le_16(RTE_MIN(
		rte_le_to_cpu_16(net->max_virtqueue_pairs), RTE_MAX(contract->nr_pairs, 1)));
}

static const char *
net_config_breaks(uint64_t features, const uint8_t *own, const uint8_t *other, bool mac_set,
	unsigned int i, char *text, size_t size)
{
	const struct virtio_net_config *has = (const struct virtio_net_config *)own;
	const struct virtio_net_config *wants = (const struct virtio_net_config *)other;
	const uint8_t *mac = wants->mac, *ours = has->mac;

	if (i == 0 && (features & BIT(VIRTIO_NET_F_MAC)) != 0 && !mac_set &&
		memcmp(ours, mac, 6) != 0)
		snprintf(text, size,
			"its MAC address is %02x:%02x:%02x:%02x:%02x:%02x, the consumer knows "
			"%02x:%02x:%02x:%02x:%02x:%02x",
			mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], ours[0], ours[1], ours[2],
			ours[3], ours[4], ours[5]);
	else if (i == 1 && (features & BIT(VIRTIO_NET_F_MTU)) != 0 && has->mtu != wants->mtu)
		snprintf(text, size, "its MTU is %u, the consumer knows %u",
			rte_le_to_cpu_16(wants->mtu), rte_le_to_cpu_16(has->mtu));
	else if (i == 2 && (features & BIT(VIRTIO_NET_F_SPEED_DUPLEX)) != 0 &&
		(has->speed != wants->speed || has->duplex != wants->duplex))
		snprintf(text, size, "its speed is %u, the consumer knows %u",
			rte_le_to_cpu_32(wants->speed), rte_le_to_cpu_32(has->speed));
	else
		return NULL;
	return text;
}

/* What a disk is does not change under a driver; of all fields only writeback is the driver's. */
static const char *
blk_config_breaks(uint64_t features __rte_unused, const uint8_t *own, const uint8_t *other,
	bool mac_set __rte_unused, unsigned int i, char *text, size_t size)
{
	size_t after = offsetof(struct virtio_blk_config, wce) + 1;

	if (i == 0 && memcmp(own, other, sizeof(uint64_t)) != 0)
		snprintf(text, size, "its capacity differs");
	else if (i == 1 &&
		(memcmp(own + sizeof(uint64_t), other + sizeof(uint64_t),
			 after - 1 - sizeof(uint64_t)) != 0 ||
			memcmp(own + after, other + after, 256 - after) != 0))
		snprintf(text, size, "its limits or its geometry differ");
	else
		return NULL;
	return text;
}

static uint64_t
blk_features_consistent(uint64_t features)
{
	return features;
}

static uint16_t
blk_nr_pairs(uint16_t nr_data __rte_unused)
{
	return 0;
}

static int
blk_ctrl_vq(uint64_t features __rte_unused, uint16_t nr_pairs __rte_unused)
{
	return -1; /* none */
}

/* Names as in virtio 1.2, without their prefix. */
static const char *const transport_names[64] = {
	[VIRTIO_F_NOTIFY_ON_EMPTY] = "NOTIFY_ON_EMPTY",
	[VIRTIO_F_ANY_LAYOUT] = "ANY_LAYOUT",
	[VIRTIO_RING_F_INDIRECT_DESC] = "INDIRECT_DESC",
	[VIRTIO_RING_F_EVENT_IDX] = "EVENT_IDX",
	[VIRTIO_F_VERSION_1] = "VERSION_1",
	[VIRTIO_F_ACCESS_PLATFORM] = "ACCESS_PLATFORM",
	[VIRTIO_F_RING_PACKED] = "RING_PACKED",
	[VIRTIO_F_IN_ORDER] = "IN_ORDER",
	[VIRTIO_F_ORDER_PLATFORM] = "ORDER_PLATFORM",
	[VIRTIO_F_SR_IOV] = "SR_IOV",
	[F_NOTIFICATION_DATA] = "NOTIFICATION_DATA",
	[F_NOTIF_CONFIG_DATA] = "NOTIF_CONFIG_DATA",
	[F_RING_RESET] = "RING_RESET",
};

static const char *const net_names[64] = {
	[VIRTIO_NET_F_CSUM] = "CSUM",
	[VIRTIO_NET_F_GUEST_CSUM] = "GUEST_CSUM",
	[VIRTIO_NET_F_CTRL_GUEST_OFFLOADS] = "CTRL_GUEST_OFFLOADS",
	[VIRTIO_NET_F_MTU] = "MTU",
	[VIRTIO_NET_F_MAC] = "MAC",
	[VIRTIO_NET_F_GUEST_TSO4] = "GUEST_TSO4",
	[VIRTIO_NET_F_GUEST_TSO6] = "GUEST_TSO6",
	[VIRTIO_NET_F_GUEST_ECN] = "GUEST_ECN",
	[VIRTIO_NET_F_GUEST_UFO] = "GUEST_UFO",
	[VIRTIO_NET_F_HOST_TSO4] = "HOST_TSO4",
	[VIRTIO_NET_F_HOST_TSO6] = "HOST_TSO6",
	[VIRTIO_NET_F_HOST_ECN] = "HOST_ECN",
	[VIRTIO_NET_F_HOST_UFO] = "HOST_UFO",
	[VIRTIO_NET_F_MRG_RXBUF] = "MRG_RXBUF",
	[VIRTIO_NET_F_STATUS] = "STATUS",
	[VIRTIO_NET_F_CTRL_VQ] = "CTRL_VQ",
	[VIRTIO_NET_F_CTRL_RX] = "CTRL_RX",
	[VIRTIO_NET_F_CTRL_VLAN] = "CTRL_VLAN",
	[VIRTIO_NET_F_CTRL_RX_EXTRA] = "CTRL_RX_EXTRA",
	[VIRTIO_NET_F_GUEST_ANNOUNCE] = "GUEST_ANNOUNCE",
	[VIRTIO_NET_F_MQ] = "MQ",
	[VIRTIO_NET_F_CTRL_MAC_ADDR] = "CTRL_MAC_ADDR",
	[NET_F_NOTF_COAL] = "NOTF_COAL",
	[NET_F_GUEST_USO4] = "GUEST_USO4",
	[NET_F_GUEST_USO6] = "GUEST_USO6",
	[NET_F_HOST_USO] = "HOST_USO",
	[VIRTIO_NET_F_HASH_REPORT] = "HASH_REPORT",
	[59] = "GUEST_HDRLEN",
	[VIRTIO_NET_F_RSS] = "RSS",
	[VIRTIO_NET_F_RSC_EXT] = "RSC_EXT",
	[VIRTIO_NET_F_STANDBY] = "STANDBY",
	[VIRTIO_NET_F_SPEED_DUPLEX] = "SPEED_DUPLEX",
};

static const char *const blk_names[64] = {
	[VIRTIO_BLK_F_SIZE_MAX] = "SIZE_MAX",
	[VIRTIO_BLK_F_SEG_MAX] = "SEG_MAX",
	[VIRTIO_BLK_F_GEOMETRY] = "GEOMETRY",
	[VIRTIO_BLK_F_RO] = "RO",
	[VIRTIO_BLK_F_BLK_SIZE] = "BLK_SIZE",
	[VIRTIO_BLK_F_FLUSH] = "FLUSH",
	[VIRTIO_BLK_F_TOPOLOGY] = "TOPOLOGY",
	[VIRTIO_BLK_F_CONFIG_WCE] = "CONFIG_WCE",
	[VIRTIO_BLK_F_MQ] = "MQ",
	[VIRTIO_BLK_F_DISCARD] = "DISCARD",
	[VIRTIO_BLK_F_WRITE_ZEROES] = "WRITE_ZEROES",
	[BLK_F_SECURE_ERASE] = "SECURE_ERASE",
	[BLK_F_ZONED] = "ZONED",
};

static const struct vdpa_type types[] = {
	{
		.virtio_id = VIRTIO_ID_NET,
		.name = "net",
		.feature_names = net_names,
		.index_in_memory = true,
		.nr_pairs = net_nr_pairs,
		.ctrl_vq = net_ctrl_vq,
		.features_consistent = net_features_consistent,
		.features_served = net_features_served,
		.features_announce = BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_STATUS),
		.config_announce = net_config_announce,
		.config_status = net_config_status,
		.config_limit = net_config_limit,
		.config_breaks = net_config_breaks,
	},
	{
		.virtio_id = VIRTIO_ID_BLOCK,
		.name = "block",
		.feature_names = blk_names,
		.nr_pairs = blk_nr_pairs,
		.ctrl_vq = blk_ctrl_vq,
		.features_consistent = blk_features_consistent,
		.config_breaks = blk_config_breaks,
	},
};

const struct vdpa_type *
vdpa_type_find(uint16_t virtio_id)
{
	for (unsigned int i = 0; i < RTE_DIM(types); i++)
		if (types[i].virtio_id == virtio_id)
			return &types[i];
	return NULL;
}

const char *
vdpa_type_name(uint16_t virtio_id)
{
	const struct vdpa_type *type = vdpa_type_find(virtio_id);

	return type != NULL ? type->name : NULL;
}

const char *
vdpa_feature_name(uint16_t virtio_id, unsigned int bit)
{
	const struct vdpa_type *type = vdpa_type_find(virtio_id);
	const char *name = NULL;

	if (bit >= 64)
		return NULL;
	if (type != NULL)
		name = type->feature_names[bit];
	return name != NULL ? name : transport_names[bit];
}
