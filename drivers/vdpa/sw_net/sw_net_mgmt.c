/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sw_net_port.h"
#include "vdpa_dpdk_abi.h"

RTE_LOG_REGISTER_DEFAULT(sw_net_logtype, NOTICE)

static struct vdpa_mgmtdev sw_net_mgmtdev;

static void *
zalloc(size_t nr, size_t size)
{
	size_t bytes = RTE_ALIGN_CEIL(nr * size, RTE_CACHE_LINE_SIZE);
	void *memory = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);

	return memory != NULL ? memset(memory, 0, bytes) : NULL;
}

/* Accepts a device that is half made. */
static void
dev_free(struct sw_net_dev *dev)
{
	if (dev == NULL)
		return;
	sw_net_port_close(dev);
	sw_net_link_leave(dev);
	free(dev->flows);
	free(dev->vqs);
	free(dev);
}

static int
dev_alloc(const char *name, const struct sw_net_args *args, struct sw_net_dev **out)
{
	struct sw_net_dev *dev = zalloc(1, sizeof(*dev));

	*out = dev;
	if (dev == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", name);
	memcpy(dev->name, name, strlen(name));
	dev->vdpa.name = dev->name;
	dev->vdpa.ops = &sw_net_ops;
	dev->vdpa.mgmtdev = &sw_net_mgmtdev;
	dev->args = *args;
	memcpy(dev->mac, args->mac, sizeof(dev->mac));
	dev->mtu = args->mtu;
	dev->vqs = zalloc(2 * args->nr_pairs, sizeof(*dev->vqs));
	dev->flows = zalloc(
		(args->backend == SW_NET_PORT ? 2 : 1) * args->nr_pairs, sizeof(*dev->flows));
	if (dev->vqs == NULL || dev->flows == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", name);
	for (uint16_t i = 0; i < 2 * args->nr_pairs; i++) {
		dev->vqs[i].dev = dev;
		dev->vqs[i].index = i;
	}
	return 0;
}

/* Between true and false the other end may tell us of its link. */
static void
dev_listen(struct sw_net_dev *dev, bool listening)
{
	pthread_mutex_lock(&dev->link->lock);
	dev->listening = listening;
	pthread_mutex_unlock(&dev->link->lock);
	/* what it said before is caught up with */
	if (listening && dev->args.backend == SW_NET_PEER)
		vdpa_config_changed(&dev->vdpa);
}

static int
dev_create(const char *name, const struct sw_net_args *args)
{
	struct sw_net_dev *dev = NULL;
	int rc;

	if (name[0] == '\0' || strlen(name) >= VDPA_NAME_MAX)
		return vdpa_error_set(
			-ENAMETOOLONG, "name %s: expected 1 to %u bytes", name, VDPA_NAME_MAX - 1);
	rc = dev_alloc(name, args, &dev);
	if (rc == 0)
		rc = sw_net_link_join(dev);
	if (rc == 0 && args->backend == SW_NET_PORT)
		rc = sw_net_port_open(dev);
	if (rc == 0)
		rc = vdpa_device_register(&dev->vdpa);
	if (rc != 0) {
		dev_free(dev);
		return rc;
	}
	dev_listen(dev, true);
	if (dev->port != NULL)
		sw_net_port_watch(dev);
	return 0;
}

static int
sw_net_dev_add(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *text)
{
	struct sw_net_args args;
	int rc = sw_net_args_parse(name, text, &args);

	(void)mgmtdev;
	return rc != 0 ? rc : dev_create(name, &args);
}

static int
sw_net_dev_del(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, bool force)
{
	struct sw_net_dev *dev = (struct sw_net_dev *)vdpa;
	int rc;

	(void)mgmtdev;
	dev_listen(dev, false);
	rc = vdpa_device_unregister(vdpa, force);
	if (rc != 0) {
		dev_listen(dev, true);
		return rc;
	}
	if (sw_net_kill(dev) != 0) {
		/* freed memory in a worker's hands would be worse */
		SW_NET_LOG(ERR, "%s: its datapath worker hangs, its memory is kept", dev->name);
		return 0;
	}
	sw_net_capture_close(atomic_load(&dev->capture));
	dev_free(dev);
	return 0;
}

static struct vdpa_mgmtdev sw_net_mgmtdev = {
	.name = "sw_net",
	.keys = sw_net_keys,
	.virtio_id = VIRTIO_ID_NET,
	.max_vqp = SW_NET_PAIRS_MAX,
	.dev_add = sw_net_dev_add,
	.dev_del = sw_net_dev_del,
	.set_keys = sw_net_set_keys,
	.dev_set = sw_net_dev_set,
};

RTE_INIT(sw_net_mgmtdev_init)
{
	sw_net_mgmtdev.features = sw_net_features(2, true) |
		sw_net_features(SW_NET_PAIRS_MAX, true);
	vdpa_mgmtdev_register(&sw_net_mgmtdev);
}

/* ---- vdev: --vdev vdpa_sw_net0,KEY=VALUE,... ---- */

static int
sw_net_probe(struct rte_vdev_device *vdev)
{
	return vdpa_emulated_probe(&sw_net_mgmtdev, vdpa_vdev_name(vdev), vdpa_vdev_args(vdev));
}

static int
sw_net_remove(struct rte_vdev_device *vdev)
{
	return vdpa_emulated_remove(&sw_net_mgmtdev, vdpa_vdev_name(vdev));
}

static struct rte_vdev_driver sw_net_vdev = {
	.probe = sw_net_probe,
	.remove = sw_net_remove,
};

VDPA_REGISTER_VDEV(vdpa_sw_net, sw_net_vdev);
VDPA_PMD_PARAMS(vdpa_sw_net,
	"backend=<loopback|null|peer|port> "
	"peer=<name> "
	"port=<ethdev> "
	"tso=<on|off> "
	"mac=<xx:xx:xx:xx:xx:xx> "
	"mtu=<68-65535> "
	"max_vqp=<1-128> "
	"order=<in|random> "
	"lie_len=<0-1000000000> "
	"hang_after=<0-1000000000> " VDPA_EMULATED_PMD_PARAMS);
