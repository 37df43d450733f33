/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_common.h>

#include "vhost_bus.h"

/*
 * Every feature bit has a row. A bit without one is masked. "own" and "stock" say on whose sockets
 * a front end may see it where the device offers it.
 *
 * own    the message hook answers GET_FEATURES, so librte_vhost's own list does not count;
 *        configuration space can be read (protocol feature CONFIG)
 * stock  librte_vhost answers, passes its own list only, and has no CONFIG: bits whose meaning lies
 *        in configuration space would make a front end read zeros
 */
enum who {
	NOBODY,
	OWN, /* our sockets only */
	ANY,
};

struct feature {
	uint8_t bit;
	uint8_t who;
	const char *why; /* masked for, or a remark */
};

static const char no_config[] =
	"needs configuration space, which librte_vhost does not pass by itself";
static const char unknown_to_it[] = "not in librte_vhost's list";

static const struct feature transport[] = {
	{VIRTIO_F_NOTIFY_ON_EMPTY, NOBODY,
		"legacy interrupt rule that no datapath of ours follows"},
	{VHOST_F_LOG_ALL, ANY, "the transport's, where the class can log: not the device's"},
	{VIRTIO_F_ANY_LAYOUT, ANY, NULL},
	{VIRTIO_RING_F_INDIRECT_DESC, ANY, NULL},
	{VIRTIO_RING_F_EVENT_IDX, ANY, NULL},
	{VHOST_USER_F_PROTOCOL_FEATURES, NOBODY,
		"librte_vhost's: added beside the device's features"},
	{VIRTIO_F_VERSION_1, ANY, NULL},
	{VIRTIO_F_ACCESS_PLATFORM, NOBODY,
		"between class and device: rings name guest physical addresses"},
	{VIRTIO_F_RING_PACKED, ANY, NULL},
	{VIRTIO_F_IN_ORDER, ANY, NULL},
	{VIRTIO_F_ORDER_PLATFORM, OWN, unknown_to_it},
	{VIRTIO_F_SR_IOV, NOBODY, "a PCI function's, which a front end makes itself"},
	{38 /* NOTIFICATION_DATA */, NOBODY, "an eventfd cannot carry it"},
	{39 /* NOTIF_CONFIG_DATA */, NOBODY, "an eventfd cannot carry it"},
	{VIRTIO_F_RING_RESET, NOBODY,
		"between class and device: GET_VRING_BASE of one ring stops librte_vhost's device"},
	{41 /* ADMIN_VQ */, NOBODY, "the administration queue is the transport's"},
};

static const struct feature net[] = {
	{VIRTIO_NET_F_CSUM, ANY, NULL},
	{VIRTIO_NET_F_GUEST_CSUM, ANY, NULL},
	{VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, OWN, unknown_to_it},
	{VIRTIO_NET_F_MTU, OWN, no_config},
	{VIRTIO_NET_F_MAC, OWN, no_config},
	{6 /* GSO, legacy */, NOBODY, "legacy sum of the bits HOST_*"},
	{VIRTIO_NET_F_GUEST_TSO4, ANY, NULL},
	{VIRTIO_NET_F_GUEST_TSO6, ANY, NULL},
	{VIRTIO_NET_F_GUEST_ECN, ANY, NULL},
	{VIRTIO_NET_F_GUEST_UFO, ANY, NULL},
	{VIRTIO_NET_F_HOST_TSO4, ANY, NULL},
	{VIRTIO_NET_F_HOST_TSO6, ANY, NULL},
	{VIRTIO_NET_F_HOST_ECN, ANY, NULL},
	{VIRTIO_NET_F_HOST_UFO, ANY, NULL},
	{VIRTIO_NET_F_MRG_RXBUF, ANY, NULL},
	{VIRTIO_NET_F_STATUS, OWN, no_config},
	{VIRTIO_NET_F_CTRL_VQ, ANY, NULL},
	{VIRTIO_NET_F_CTRL_RX, ANY, NULL},
	{VIRTIO_NET_F_CTRL_VLAN, OWN, unknown_to_it},
	{VIRTIO_NET_F_CTRL_RX_EXTRA, OWN, unknown_to_it},
	{VIRTIO_NET_F_GUEST_ANNOUNCE, OWN, "needs the status field of configuration space"},
	{VIRTIO_NET_F_MQ, ANY, NULL},
	{VIRTIO_NET_F_CTRL_MAC_ADDR, OWN, unknown_to_it},
	{52 /* VQ_NOTF_COAL */, OWN, unknown_to_it},
	{53 /* NOTF_COAL */, OWN, unknown_to_it},
	{54 /* GUEST_USO4 */, OWN, unknown_to_it},
	{55 /* GUEST_USO6 */, OWN, unknown_to_it},
	{56 /* HOST_USO */, OWN, unknown_to_it},
	{57 /* HASH_REPORT */, OWN, unknown_to_it},
	{59 /* GUEST_HDRLEN */, OWN, unknown_to_it},
	{60 /* RSS */, OWN, unknown_to_it},
	{61 /* RSC_EXT */, OWN, unknown_to_it},
	{62 /* STANDBY */, NOBODY,
		"pairing with a passed-through card is the front end's business"},
	{63 /* SPEED_DUPLEX */, OWN, no_config},
};

/*
 * A stock program that serves block devices sets features and CONFIG itself, else no front end
 * could learn the capacity: so there is no difference between sockets.
 */
static const struct feature block[] = {
	{VIRTIO_BLK_F_SIZE_MAX, ANY, NULL},
	{VIRTIO_BLK_F_SEG_MAX, ANY, NULL},
	{VIRTIO_BLK_F_GEOMETRY, ANY, NULL},
	{VIRTIO_BLK_F_RO, ANY, NULL},
	{VIRTIO_BLK_F_BLK_SIZE, ANY, NULL},
	{9 /* FLUSH */, ANY, NULL},
	{VIRTIO_BLK_F_TOPOLOGY, ANY, NULL},
	{11 /* CONFIG_WCE */, ANY, NULL},
	{VIRTIO_BLK_F_MQ, ANY, NULL},
	{VIRTIO_BLK_F_DISCARD, ANY, NULL},
	{VIRTIO_BLK_F_WRITE_ZEROES, ANY, NULL},
	{15 /* LIFETIME */, ANY, NULL},
	{16 /* SECURE_ERASE */, ANY, NULL},
	{17 /* ZONED */, NOBODY,
		"its part of configuration space changes without a message to tell it"},
};

/* Device types as this border sees them; all else of a type is the class's. */
struct device_type {
	uint16_t virtio_id;
	uint32_t vdpa_type; /* librte_vhost's name for it */
	const struct feature *features;
	unsigned int nr_features;
};

static const struct device_type types[] = {
	{VIRTIO_ID_NET, RTE_VHOST_VDPA_DEVICE_TYPE_NET, net, RTE_DIM(net)},
	{VIRTIO_ID_BLOCK, RTE_VHOST_VDPA_DEVICE_TYPE_BLK, block, RTE_DIM(block)},
};

static const struct device_type *
type_find(uint16_t virtio_id)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(types); i++)
		if (types[i].virtio_id == virtio_id)
			return &types[i];
	return NULL;
}

uint32_t
vdpa_vhost_vdpa_type(const struct vdpa_contract *contract)
{
	const struct device_type *type = type_find(contract->virtio_id);

	return type != NULL ? type->vdpa_type : RTE_VHOST_VDPA_DEVICE_TYPE_NET;
}

static const struct feature *
feature_find(unsigned int bit, uint16_t virtio_id)
{
	const struct device_type *type = type_find(virtio_id);
	unsigned int i;

	for (i = 0; i < RTE_DIM(transport); i++)
		if (transport[i].bit == bit)
			return &transport[i];
	for (i = 0; type != NULL && i < type->nr_features; i++)
		if (type->features[i].bit == bit)
			return &type->features[i];
	return NULL;
}

const char *
vdpa_vhost_feature_masked(unsigned int bit, uint16_t virtio_id, bool own_socket)
{
	const struct feature *feature = feature_find(bit, virtio_id);

	if (feature == NULL)
		return "not known here";
	if (feature->who == ANY || (feature->who == OWN && own_socket))
		return NULL;
	return feature->why;
}

uint64_t
vdpa_vhost_features(uint64_t offered, uint16_t virtio_id, bool own_socket)
{
	uint64_t passed = 0;
	unsigned int bit;

	for (bit = 0; bit < 64; bit++)
		if ((offered & (UINT64_C(1) << bit)) != 0 &&
			vdpa_vhost_feature_masked(bit, virtio_id, own_socket) == NULL)
			passed |= UINT64_C(1) << bit;
	return passed;
}

uint64_t
vdpa_vhost_offered(const struct vdpa_contract *contract, bool own_socket)
{
	const uint64_t log_all = UINT64_C(1) << VHOST_F_LOG_ALL;
	uint64_t features = contract->features & ~log_all;

	/* a device that was unplugged offers nothing */
	if (contract->can_log && features != 0)
		features |= log_all;
	return vdpa_vhost_features(features, contract->virtio_id, own_socket);
}

/*
 * STATUS: rings are all known when dev_conf comes. BACKEND_REQ: config changes are told. RARP: with
 * a device that announces. Not here, though librte_vhost would pass them: NET_MTU (the device's MTU
 * is in configuration space), BACKEND_SEND_FD and HOST_NOTIFIER (come with a device that has
 * doorbell pages), PAGEFAULT. INFLIGHT_SHMFD and CONFIGURE_MEM_SLOTS are ours alone: the hook adds
 * them, librte_vhost hears of neither.
 */
static const uint64_t protocol_features = UINT64_C(1) << VHOST_USER_PROTOCOL_F_MQ |
	UINT64_C(1) << VHOST_USER_PROTOCOL_F_LOG_SHMFD |
	UINT64_C(1) << VHOST_USER_PROTOCOL_F_REPLY_ACK |
	UINT64_C(1) << VDPA_VHOST_PROTOCOL_F_BACKEND_REQ |
	UINT64_C(1) << VHOST_USER_PROTOCOL_F_CONFIG | UINT64_C(1) << VHOST_USER_PROTOCOL_F_STATUS;

uint64_t
vdpa_vhost_protocol_features(const struct vdpa_contract *contract)
{
	const uint64_t rarp = UINT64_C(1) << VHOST_USER_PROTOCOL_F_RARP;

	return contract->can_announce ? protocol_features | rarp : protocol_features;
}

/*
 * User Mode Linux reads the answer as a count of rings and refuses less than it needs, others read
 * pairs. More than the pairs does no harm: rings beyond the contract are ignored.
 */
uint32_t
vdpa_vhost_queue_num(const struct vdpa_contract *contract, uint64_t offered)
{
	uint32_t nr;

	if (contract->nr_pairs == 0)
		nr = contract->nr_vqs;
	else if ((offered & (UINT64_C(1) << VIRTIO_NET_F_CTRL_VQ)) != 0)
		nr = 2 * contract->nr_pairs + 1;
	else
		nr = 2 * contract->nr_pairs;
	return RTE_MIN(nr, (uint32_t)VHOST_QUEUE_NUM_MAX);
}
