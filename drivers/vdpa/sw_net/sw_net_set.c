/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "sw_net.h"

const char sw_net_set_keys[] = "link=up|down,mtu=68-65535,mac=MAC";

#define SET_KEYS(X)     \
	X(LINK, "link") \
	X(MTU, "mtu")   \
	X(MAC, "mac")

enum set_key {
#define SET_KEY_ENUM(name, text) KEY_##name,
	SET_KEYS(SET_KEY_ENUM)
#undef SET_KEY_ENUM
};

static const char *const keys[] = {
#define SET_KEY_NAME(name, text) text,
	SET_KEYS(SET_KEY_NAME)
#undef SET_KEY_NAME
		NULL,
};

static const char *const links[] = {"up", "down", NULL};

/* What is to change; given: bit by key. */
struct change {
	unsigned int given;
	bool link_down;
	uint16_t mtu;
	uint8_t mac[ETH_ALEN];
};

static bool
is_given(const struct change *change, enum set_key key)
{
	return (change->given & 1u << key) != 0;
}

static int
parse_key(const char *key, const char *value, void *arg)
{
	struct change *change = arg;
	unsigned int which = 0, choice;
	uint64_t number;
	int rc = -EINVAL;

	while (strcmp(keys[which], key) != 0)
		which++;
	change->given |= 1u << which;
	switch ((enum set_key)which) {
	case KEY_LINK:
		rc = vdpa_arg_choice(key, value, links, &choice);
		change->link_down = rc == 0 && choice == 1;
		break;
	case KEY_MTU:
		rc = vdpa_arg_uint(key, value, ETH_MIN_MTU, ETH_MAX_MTU, &number);
		change->mtu = rc == 0 ? number : 0;
		break;
	case KEY_MAC:
		rc = vdpa_arg_mac(key, value, change->mac);
		break;
	}
	return rc;
}

/* The link lock is held, as in all that follows. */
static bool
runs(const struct sw_net_dev *dev)
{
	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++)
		if (dev->vqs[i].running)
			return true;
	return false;
}

static int
needs_feature(const struct sw_net_dev *dev, const char *key, unsigned int feature, const char *how)
{
	if ((dev->args.features & SW_NET_BIT(feature)) != 0)
		return 0;
	return vdpa_error_set(
		-ENOTSUP, "%s: %s cannot be changed: the device was made %s", dev->name, key, how);
}

static int
check(const struct sw_net_dev *dev, const struct change *change)
{
	int rc = 0;

	if (is_given(change, KEY_LINK))
		rc = needs_feature(dev, "link", VIRTIO_NET_F_STATUS,
			"with device_features that leave out STATUS");
	if (rc == 0 && is_given(change, KEY_MTU))
		rc = needs_feature(dev, "mtu", VIRTIO_NET_F_MTU, "without mtu=");
	if (rc == 0 && is_given(change, KEY_MAC))
		rc = needs_feature(
			dev, "mac", VIRTIO_NET_F_MAC, "with device_features that leave out MAC");
	if (rc == 0 && is_given(change, KEY_MAC) && runs(dev))
		rc = vdpa_error_set(-EBUSY,
			"%s: mac is changed while no driver runs the device; a driver that runs it "
			"can change its address itself",
			dev->name);
	return rc;
}

void
sw_net_mtu_settle(struct sw_net_dev *dev)
{
	if (dev->mtu == dev->args.mtu || runs(dev))
		return;
	dev->mtu = dev->args.mtu;
	vdpa_config_changed(&dev->vdpa);
}

static int
set_link(struct sw_net_dev *dev, bool down)
{
	struct sw_net_dev *source = sw_net_source(dev);
	int rc;

	if (dev->link_down == down)
		return 0;
	dev->link_down = down;
	rc = sw_net_flows_connect(dev);
	if (rc == 0 && source != NULL)
		rc = sw_net_flows_connect(source);
	vdpa_config_changed(&dev->vdpa);
	sw_net_tell_peer(dev);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: a datapath worker hangs", dev->name);
	return 0;
}

static int
apply(struct sw_net_dev *dev, const struct change *change)
{
	if (is_given(change, KEY_MAC)) {
		memcpy(dev->args.mac, change->mac, sizeof(dev->args.mac));
		memcpy(dev->mac, change->mac, sizeof(dev->mac));
		vdpa_config_changed(&dev->vdpa);
	}
	if (is_given(change, KEY_MTU)) {
		dev->args.mtu = change->mtu;
		sw_net_mtu_settle(dev);
	}
	return is_given(change, KEY_LINK) ? set_link(dev, change->link_down) : 0;
}

int
sw_net_dev_set(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, const char *args)
{
	struct sw_net_dev *dev = (struct sw_net_dev *)vdpa;
	struct change change = {0};
	int rc = vdpa_args_parse(args, keys, parse_key, &change);

	(void)mgmtdev;
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	rc = check(dev, &change);
	if (rc == 0)
		rc = apply(dev, &change);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}
