/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sw_blk.h"
#include "vdpa_dpdk_abi.h"

RTE_LOG_REGISTER_DEFAULT(sw_blk_logtype, NOTICE)

static struct vdpa_mgmtdev sw_blk_mgmtdev;

static const struct sw_blk_backend *const backends[] = {
	[SW_BLK_NULL] = &sw_blk_null,
	[SW_BLK_MALLOC] = &sw_blk_malloc,
	[SW_BLK_FILE] = &sw_blk_file,
};

/* Accepts a device that is half made. */
static void
dev_free(struct sw_blk_dev *dev)
{
	if (dev == NULL)
		return;
	dev->backend->close(dev);
	pthread_mutex_destroy(&dev->lock);
	free(dev->vqs);
	free(dev);
}

static int
dev_alloc(const char *name, const struct sw_blk_args *args, struct sw_blk_dev **out)
{
	struct sw_blk_dev *dev = calloc(1, sizeof(*dev));

	*out = dev;
	if (dev == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", name);
	memcpy(dev->name, name, strlen(name));
	dev->vdpa.name = dev->name;
	dev->vdpa.ops = &sw_blk_ops;
	dev->vdpa.mgmtdev = &sw_blk_mgmtdev;
	dev->args = *args;
	dev->backend = backends[args->backend];
	dev->memory_fd = dev->file_fd = -1;
	atomic_store(&dev->write_cache, args->write_cache);
	pthread_mutex_init(&dev->lock, NULL);
	dev->vqs = calloc(args->nr_vqs, sizeof(*dev->vqs));
	if (dev->vqs == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", name);
	for (uint16_t i = 0; i < args->nr_vqs; i++) {
		dev->vqs[i].dev = dev;
		dev->vqs[i].index = i;
	}
	return 0;
}

static int
sw_blk_dev_add(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *text)
{
	struct sw_blk_dev *dev = NULL;
	struct sw_blk_args args;
	int rc;

	(void)mgmtdev;
	if (name[0] == '\0' || strlen(name) >= VDPA_NAME_MAX)
		return vdpa_error_set(
			-ENAMETOOLONG, "name %s: expected 1 to %u bytes", name, VDPA_NAME_MAX - 1);
	rc = sw_blk_args_parse(name, text, &args);
	if (rc == 0)
		rc = dev_alloc(name, &args, &dev);
	if (rc == 0)
		rc = dev->backend->open(dev);
	if (rc == 0)
		rc = vdpa_device_register(&dev->vdpa);
	if (rc != 0)
		dev_free(dev);
	return rc;
}

static int
sw_blk_dev_del(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, bool force)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int rc = vdpa_device_unregister(vdpa, force);

	(void)mgmtdev;
	if (rc != 0)
		return rc;
	if (sw_blk_end(dev) != 0) {
		/* freed memory in a worker's hands would be worse */
		SW_BLK_LOG(ERR, "%s: its disk or its datapath worker hangs, its memory is kept",
			dev->name);
		return 0;
	}
	dev_free(dev);
	return 0;
}

static int
parse_size(const char *key, const char *value, void *size_bytes)
{
	return sw_blk_arg_size(key, value, size_bytes);
}

/* Key size: capacity, told to a driver that runs. */
static int
sw_blk_dev_set(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, const char *args)
{
	static const char *const keys[] = {"size", NULL};
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	uint64_t size_bytes = 0;
	int rc = vdpa_args_parse(args, keys, parse_size, &size_bytes);

	(void)mgmtdev;
	if (rc == 0 && size_bytes % dev->args.blk_size_bytes != 0)
		rc = vdpa_error_set(-EINVAL,
			"size=%" PRIu64 ": expected a multiple of blk_size=%" PRIu32, size_bytes,
			dev->args.blk_size_bytes);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->lock);
	rc = dev->backend->resize(dev, size_bytes);
	pthread_mutex_unlock(&dev->lock);
	if (rc == 0)
		vdpa_config_changed(vdpa);
	return rc;
}

static struct vdpa_mgmtdev sw_blk_mgmtdev = {
	.name = "sw_blk",
	.set_keys = "size=BYTES[K|M|G|T]",
	.dev_set = sw_blk_dev_set,
	.keys = sw_blk_keys,
	.virtio_id = VIRTIO_ID_BLOCK,
	.max_vqp = SW_BLK_VQS_MAX,
	.dev_add = sw_blk_dev_add,
	.dev_del = sw_blk_dev_del,
};

RTE_INIT(sw_blk_mgmtdev_init)
{
	sw_blk_mgmtdev.features = sw_blk_features();
	vdpa_mgmtdev_register(&sw_blk_mgmtdev);
}

/* ---- vdev: --vdev vdpa_sw_blk0,KEY=VALUE,... ---- */

static int
sw_blk_probe(struct rte_vdev_device *vdev)
{
	return vdpa_emulated_probe(&sw_blk_mgmtdev, vdpa_vdev_name(vdev), vdpa_vdev_args(vdev));
}

static int
sw_blk_remove(struct rte_vdev_device *vdev)
{
	return vdpa_emulated_remove(&sw_blk_mgmtdev, vdpa_vdev_name(vdev));
}

static struct rte_vdev_driver sw_blk_vdev = {
	.probe = sw_blk_probe,
	.remove = sw_blk_remove,
};

VDPA_REGISTER_VDEV(vdpa_sw_blk, sw_blk_vdev);
VDPA_PMD_PARAMS(vdpa_sw_blk,
	"backend=<null|malloc|file> "
	"path=<file> "
	"size=<bytes> "
	"readonly=<on|off> "
	"num_queues=<1-256> "
	"blk_size=<512-65536> "
	"physical_block_size=<512-65536> "
	"seg_max=<1-254> "
	"size_max=<4096-1073741824> "
	"serial=<text> "
	"write_cache=<on|off> "
	"direct=<on|off> "
	"sqpoll=<on|off> "
	"hang_after=<0-1000000000> " VDPA_EMULATED_PMD_PARAMS);
