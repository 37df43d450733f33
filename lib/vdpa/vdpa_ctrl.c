/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <linux/virtio_net.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_ctrl.h"

/*
 * Features that GUEST_OFFLOADS_SET switches (virtio 1.2, 5.1.6.5.8); 54 and 55 are USO4 and USO6.
 */
#define OFFLOADS                                                             \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |       \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(54) | BIT(55))

void
vdpa_ctrl_reset(struct vdpa_ctrl *ctrl, uint64_t features)
{
	size_t kept = offsetof(struct vdpa_ctrl, features);

	memset((char *)ctrl + kept, 0, sizeof(*ctrl) - kept);
	ctrl->mac_set = false;
	ctrl->features = features;
	ctrl->pairs = 1;
}

static int
command(struct vdpa_ctrl *ctrl, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	return ctrl->effects->command(ctrl->effects->arg, cls, cmd, data, len_bytes);
}

/* ---- class RX: modes ---- */

/* A mode as the device is to have it: a table that was too long widens what passes. */
static uint8_t
effective_rx(const struct vdpa_ctrl *ctrl, uint8_t cmd)
{
	if (cmd == VIRTIO_NET_CTRL_RX_PROMISC && ctrl->unicast.overflow)
		return 1;
	if (cmd == VIRTIO_NET_CTRL_RX_ALLMULTI && ctrl->multicast.overflow)
		return 1;
	return ctrl->rx[cmd];
}

static int
send_rx(struct vdpa_ctrl *ctrl, uint8_t cmd)
{
	uint8_t on = effective_rx(ctrl, cmd);

	return command(ctrl, VIRTIO_NET_CTRL_RX, cmd, &on, sizeof(on));
}

static int
set_rx(struct vdpa_ctrl *ctrl, uint8_t cmd, const uint8_t *data)
{
	uint8_t former = ctrl->rx[cmd];
	int rc;

	if (data[0] > 1)
		return -EINVAL;
	ctrl->rx[cmd] = data[0];
	rc = send_rx(ctrl, cmd);
	if (rc != 0)
		ctrl->rx[cmd] = former;
	else
		ctrl->rx_set |= 1 << cmd;
	return rc;
}

/* ---- class MAC: tables and address ---- */

/* Read a count and its addresses; keep what fits. */
static int
read_macs(struct vring_cursor *cursor, uint32_t *left, struct vdpa_ctrl_macs *macs)
{
	uint32_t entries, bytes;

	if (vring_copy_from(&entries, cursor, sizeof(entries)) != sizeof(entries))
		return -EINVAL;
	*left -= sizeof(entries);
	entries = rte_le_to_cpu_32(entries);
	if (entries > *left / sizeof(macs->addrs[0]))
		return -EINVAL;
	bytes = entries * sizeof(macs->addrs[0]);
	*left -= bytes;
	macs->overflow = entries > VDPA_CTRL_MACS_MAX;
	macs->nr = macs->overflow ? 0 : entries;
	if (macs->overflow)
		return vring_skip(cursor, bytes) == bytes ? 0 : -EINVAL;
	return vring_copy_from(macs->addrs, cursor, bytes) == bytes ? 0 : -EINVAL;
}

static uint8_t *
put_macs(uint8_t *to, const struct vdpa_ctrl_macs *macs)
{
	rte_le32_t entries = rte_cpu_to_le_32(macs->nr);

	memcpy(to, &entries, sizeof(entries));
	memcpy(to + sizeof(entries), macs->addrs, macs->nr * sizeof(macs->addrs[0]));
	return to + sizeof(entries) + macs->nr * sizeof(macs->addrs[0]);
}

static int
send_table(struct vdpa_ctrl *ctrl)
{
	uint8_t data[2 * (sizeof(rte_le32_t) + sizeof(ctrl->unicast.addrs))];
	uint8_t *end = put_macs(put_macs(data, &ctrl->unicast), &ctrl->multicast);

	return command(ctrl, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, end - data);
}

static int
send_widening(struct vdpa_ctrl *ctrl)
{
	int rc = send_rx(ctrl, VIRTIO_NET_CTRL_RX_PROMISC);

	return rc != 0 ? rc : send_rx(ctrl, VIRTIO_NET_CTRL_RX_ALLMULTI);
}

static int
set_table(struct vdpa_ctrl *ctrl, struct vring_cursor *cursor, uint32_t left)
{
	struct vdpa_ctrl_macs unicast = {0}, multicast = {0};
	struct vdpa_ctrl_macs former_unicast = ctrl->unicast, former_multicast = ctrl->multicast;
	bool widens, narrows;
	int rc = read_macs(cursor, &left, &unicast);

	if (rc == 0)
		rc = read_macs(cursor, &left, &multicast);
	if (rc != 0 || left != 0)
		return -EINVAL;
	widens = unicast.overflow || multicast.overflow;
	narrows = ctrl->unicast.overflow || ctrl->multicast.overflow;
	ctrl->unicast = unicast;
	ctrl->multicast = multicast;
	/* at no time less passes than before or after */
	if (widens)
		rc = send_widening(ctrl);
	if (rc == 0)
		rc = send_table(ctrl);
	if (rc == 0 && narrows && !widens)
		rc = send_widening(ctrl);
	if (rc != 0) {
		ctrl->unicast = former_unicast;
		ctrl->multicast = former_multicast;
		return rc;
	}
	ctrl->table_set = true;
	return 0;
}

static int
set_mac(struct vdpa_ctrl *ctrl, const uint8_t *mac)
{
	static const uint8_t zero[sizeof(ctrl->mac)];
	bool former = ctrl->mac_set;
	int rc;

	if ((mac[0] & 1) != 0 || memcmp(mac, zero, sizeof(zero)) == 0)
		return -EINVAL;
	ctrl->mac_set = true;
	rc = command(ctrl, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(zero));
	if (rc == 0)
		memcpy(ctrl->mac, mac, sizeof(ctrl->mac));
	else
		ctrl->mac_set = former;
	return rc;
}

/* ---- classes VLAN, ANNOUNCE, MQ, GUEST_OFFLOADS ---- */

static int
set_vlan(struct vdpa_ctrl *ctrl, uint8_t cmd, const uint8_t *data)
{
	uint16_t vlan = data[0] | data[1] << 8;
	int rc;

	if (vlan >= VDPA_CTRL_VLANS)
		return -EINVAL;
	rc = command(ctrl, VIRTIO_NET_CTRL_VLAN, cmd, data, 2);
	if (rc != 0)
		return rc;
	if (cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		ctrl->vlans[vlan / 8] |= 1 << vlan % 8;
	else
		ctrl->vlans[vlan / 8] &= ~(1 << vlan % 8);
	return 0;
}

static int
set_pairs(struct vdpa_ctrl *ctrl, const uint8_t *data)
{
	uint16_t pairs = data[0] | data[1] << 8;
	int rc;

	if (pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || pairs > ctrl->max_pairs)
		return -EINVAL;
	rc = ctrl->effects->set_pairs(ctrl->effects->arg, pairs);
	if (rc == 0)
		ctrl->pairs = pairs;
	return rc;
}

static int
acknowledge(struct vdpa_ctrl *ctrl)
{
	if (ctrl->effects->announce_ack != NULL)
		ctrl->effects->announce_ack(ctrl->effects->arg);
	return 0;
}

static int
set_offloads(struct vdpa_ctrl *ctrl, const uint8_t *data)
{
	uint64_t offloads;
	int rc;

	memcpy(&offloads, data, sizeof(offloads));
	offloads = rte_le_to_cpu_64(offloads);
	if ((offloads & ~(OFFLOADS & ctrl->features)) != 0)
		return -EINVAL;
	rc = command(ctrl, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, data,
		sizeof(offloads));
	if (rc == 0) {
		ctrl->offloads = offloads;
		ctrl->offloads_set = true;
	}
	return rc;
}

/* ---- commands ---- */

#define LEN_ANY UINT32_MAX

static const struct {
	uint8_t cls, cmd;
	uint8_t feature; /* that must be agreed, besides CTRL_VQ */
	uint32_t len_bytes;
} commands[] = {
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_F_CTRL_RX, 1},
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_F_CTRL_RX, 1},
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1},
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1},
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1},
	{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, VIRTIO_NET_F_CTRL_RX_EXTRA, 1},
	{VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_F_CTRL_RX, LEN_ANY},
	{VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR, 6},
	{VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, VIRTIO_NET_F_CTRL_VLAN, 2},
	{VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, VIRTIO_NET_F_CTRL_VLAN, 2},
	{VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_F_GUEST_ANNOUNCE, 0},
	{VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MQ, 2},
	{VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 8},
};

static int
check(const struct vdpa_ctrl *ctrl, const struct virtio_net_ctrl_hdr *hdr, uint32_t len_bytes)
{
	uint64_t needed = BIT(VIRTIO_NET_F_CTRL_VQ);

	for (size_t i = 0; i < RTE_DIM(commands); i++) {
		if (commands[i].cls != hdr->class || commands[i].cmd != hdr->cmd)
			continue;
		needed |= BIT(commands[i].feature);
		if ((ctrl->features & needed) != needed)
			return -ENOTSUP;
		if (commands[i].len_bytes != LEN_ANY && commands[i].len_bytes != len_bytes)
			return -EINVAL;
		return 0;
	}
	return -ENOTSUP;
}

int
vdpa_ctrl_do(struct vdpa_ctrl *ctrl, struct vring_cursor *cursor, uint32_t len_bytes)
{
	struct virtio_net_ctrl_hdr hdr;
	uint8_t data[8];
	int rc;

	if (vring_copy_from(&hdr, cursor, sizeof(hdr)) != sizeof(hdr))
		return -EINVAL;
	len_bytes -= sizeof(hdr);
	rc = check(ctrl, &hdr, len_bytes);
	if (rc != 0)
		return rc;
	if (hdr.class == VIRTIO_NET_CTRL_MAC && hdr.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
		return set_table(ctrl, cursor, len_bytes);
	if (vring_copy_from(data, cursor, len_bytes) != len_bytes)
		return -EINVAL;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return set_rx(ctrl, hdr.cmd, data);
	case VIRTIO_NET_CTRL_MAC:
		return set_mac(ctrl, data);
	case VIRTIO_NET_CTRL_VLAN:
		return set_vlan(ctrl, hdr.cmd, data);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return acknowledge(ctrl);
	case VIRTIO_NET_CTRL_MQ:
		return set_pairs(ctrl, data);
	default:
		return set_offloads(ctrl, data);
	}
}

static void
first_error(int *rc, int next)
{
	if (*rc == 0)
		*rc = next;
}

int
vdpa_ctrl_restore(struct vdpa_ctrl *ctrl)
{
	rte_le64_t offloads = rte_cpu_to_le_64(ctrl->offloads);
	int rc = 0;

	for (uint8_t cmd = 0; cmd < RTE_DIM(ctrl->rx); cmd++)
		if ((ctrl->rx_set & 1 << cmd) != 0 || effective_rx(ctrl, cmd) != 0)
			first_error(&rc, send_rx(ctrl, cmd));
	if (ctrl->table_set)
		first_error(&rc, send_table(ctrl));
	if (ctrl->mac_set)
		first_error(&rc,
			command(ctrl, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, ctrl->mac,
				sizeof(ctrl->mac)));
	for (uint16_t vlan = 0; vlan < VDPA_CTRL_VLANS; vlan++) {
		rte_le16_t data = rte_cpu_to_le_16(vlan);

		if ((ctrl->vlans[vlan / 8] & 1 << vlan % 8) != 0)
			first_error(&rc,
				command(ctrl, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &data,
					sizeof(data)));
	}
	if (ctrl->offloads_set)
		first_error(&rc,
			command(ctrl, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, sizeof(offloads)));
	return rc;
}
