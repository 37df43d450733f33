/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "sw_net_port.h"

const char sw_net_set_keys[] =
	"link=up|down,mtu=68-65535,mac=MAC,capture=FILE|off,snaplen=64-65280";

#define SET_KEYS(X)           \
	X(LINK, "link")       \
	X(MTU, "mtu")         \
	X(MAC, "mac")         \
	X(CAPTURE, "capture") \
	X(SNAPLEN, "snaplen")

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
	char path[PATH_MAX]; /* "off": capture no more */
	uint32_t snaplen;
};

static bool
is_given(const struct change *change, enum set_key key)
{
	return (change->given & 1u << key) != 0;
}

static int
parse_path(const char *key, const char *value, char path[PATH_MAX])
{
	if (strlen(value) >= PATH_MAX)
		return vdpa_error_set(
			-EINVAL, "%s=%s: expected at most %d bytes", key, value, PATH_MAX - 1);
	memcpy(path, value, strlen(value) + 1);
	return 0;
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
	case KEY_CAPTURE:
		rc = parse_path(key, value, change->path);
		break;
	case KEY_SNAPLEN:
		rc = vdpa_arg_uint(key, value, SW_NET_SNAPLEN_MIN, SW_NET_SNAPLEN_MAX, &number);
		change->snaplen = rc == 0 ? number : 0;
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
	if (dev->port != NULL)
		sw_net_port_set_mtu(dev);
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

static bool
wants_file(const struct change *change)
{
	return is_given(change, KEY_CAPTURE) && strcmp(change->path, "off") != 0;
}

static int
check_capture(const struct sw_net_dev *dev, const struct change *change)
{
	const struct sw_net_capture *capture = atomic_load(&dev->capture);

	if (is_given(change, KEY_SNAPLEN) && !wants_file(change))
		return vdpa_error_set(-EINVAL, "snaplen=%u: expected capture=FILE beside it",
			(unsigned int)change->snaplen);
	if (wants_file(change) && sw_net_capture_runs(capture))
		return vdpa_error_set(-EBUSY, "%s: is captured to %s already: capture=off ends it",
			dev->name, sw_net_capture_path(capture));
	if (is_given(change, KEY_CAPTURE) && !wants_file(change) && capture == NULL)
		return vdpa_error_set(-ENOENT, "%s: is not captured", dev->name);
	return 0;
}

/*
 * Put a capture, NULL for none, in the place of the one that is there. The file of that one is
 * closed without the lock: it may take long.
 */
static int
set_capture(struct sw_net_dev *dev, struct sw_net_capture *capture)
{
	struct sw_net_capture *former;
	int rc;

	pthread_mutex_lock(&dev->link->lock);
	former = atomic_exchange(&dev->capture, capture);
	rc = sw_net_flows_capture(dev);
	pthread_mutex_unlock(&dev->link->lock);
	if (rc != 0) /* freed memory in a worker's hands would be worse */
		return vdpa_error_set(rc, "%s: a datapath worker hangs", dev->name);
	rc = sw_net_capture_close(former);
	return capture == NULL ? rc : 0;
}

static int
change_all(struct sw_net_dev *dev, const struct change *change)
{
	int rc;

	pthread_mutex_lock(&dev->link->lock);
	rc = check(dev, change);
	if (rc == 0)
		rc = apply(dev, change);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

int
sw_net_dev_set(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, const char *args)
{
	struct sw_net_dev *dev = (struct sw_net_dev *)vdpa;
	struct change change = {.snaplen = SW_NET_SNAPLEN_DEFAULT};
	struct sw_net_capture *capture = NULL;
	int rc = vdpa_args_parse(args, keys, parse_key, &change);

	(void)mgmtdev;
	if (rc == 0)
		rc = check_capture(dev, &change);
	if (rc == 0 && wants_file(&change))
		rc = sw_net_capture_open(dev->name, change.path, change.snaplen, &capture);
	if (rc == 0)
		rc = change_all(dev, &change);
	if (rc == 0 && is_given(&change, KEY_CAPTURE))
		return set_capture(dev, capture);
	sw_net_capture_close(capture);
	return rc;
}
