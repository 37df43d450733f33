/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * A complete parent driver: copy it, then put your card in the place of the engine. The card here
 * is a virtio-net device of one queue pair that sends every frame back; skeleton_poll() is its
 * engine. lib/vdpa/vdpa_parent.h has the contract of everything that is called here.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <rte_common.h>

#include "vdpa_parent.h" /* the device class */
#include "vring_copy.h"  /* rings, for cards that are software */

#define FEATURES (UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_NET_F_MAC)
#define NR_VQS   2 /* 0 receives, 1 transmits (virtio 1.2, 5.1.2) */

struct skeleton {
	struct vdpa_device vdpa; /* first: the class hands it to every op */
	struct vdpa_path path;   /* what a datapath worker polls */
	struct vring_dev vqs[NR_VQS];
	char name[VDPA_NAME_MAX];
	uint8_t mac[6];
};

/* ---- the engine: your card does this by itself ---- */

/* One burst. Whatever a guest wrote into its rings: lib/vring has checked all that it returns. */
static unsigned int
skeleton_poll(struct vdpa_path *path)
{
	struct skeleton *sk = container_of(path, struct skeleton, path);
	const struct virtio_net_hdr_v1 hdr = {.num_buffers = 1};
	struct vring_seg out_segs[VRING_SEGS_DEFAULT], in_segs[VRING_SEGS_DEFAULT];
	struct vring_dev *rx = &sk->vqs[0], *tx = &sk->vqs[1];
	struct vring_chain out, in;
	unsigned int nr = 0;

	/* without a receive buffer the frame stays where it is; what does not fit is cut off */
	while (nr < 32 && vring_dev_peek(tx, &out, 1, out_segs, VRING_SEGS_DEFAULT) != 0 &&
		vring_dev_pop(rx, &in, 1, in_segs, VRING_SEGS_DEFAULT) != 0) {
		struct vring_cursor from = vring_cursor_readable(&out);
		struct vring_cursor to = vring_cursor_writable(&in);

		in.done.len = vring_copy_to(&to, &hdr, vring_skip(&from, sizeof(hdr)));
		in.done.len += vring_copy_cursor(&to, &from, out.readable_bytes);
		vring_dev_push_chains(rx, &in, 1);
		vring_dev_consume(tx, &out, 1);
		vring_dev_push_chains(tx, &out, 1);
		nr++;
	}
	for (uint16_t i = 0; i < NR_VQS; i++) {
		vring_dev_flush(&sk->vqs[i]); /* the driver sees what was pushed */
		if (vring_dev_signal_needed(&sk->vqs[i]))
			vdpa_vq_signal(&sk->vdpa, i);
		if (vring_dev_error(&sk->vqs[i]) != VRING_ERR_NONE)
			vdpa_vq_failed(&sk->vdpa, i, -EBADMSG, "the driver broke its ring");
	}
	return nr;
}

/* Before the worker sleeps: ask for a kick. A frame that waits needs a receive buffer to go. */
static bool
skeleton_arm(struct vdpa_path *path)
{
	struct skeleton *sk = container_of(path, struct skeleton, path);

	return vring_dev_arm(&sk->vqs[1]) && vring_dev_arm(&sk->vqs[0]);
}

/* ---- ops: the class keeps all settings, checks all arguments, calls one at a time ---- */

static int
skeleton_get_info(struct vdpa_device *dev __rte_unused, struct vdpa_info *info)
{
	info->virtio_id = VIRTIO_ID_NET;
	info->nr_vqs_max = NR_VQS;
	info->vq_size_min = 1;
	info->vq_size_max = VRING_SIZE_MAX;
	info->config_size_bytes = sizeof(struct virtio_net_config);
	info->features = FEATURES;
	/* instead of HOST_VA, a card that does DMA has ops map, unmap and kick (its doorbell) */
	info->caps = VDPA_CAP_HOST_VA | VDPA_CAP_IN_ORDER | VDPA_CAP_GET_STATE | VDPA_CAP_SET_STATE;
	return 0;
}

/* Here comes all that a card must know, at once. After an error nothing may run. */
static int
skeleton_start(struct vdpa_device *dev, const struct vdpa_start *start)
{
	struct skeleton *sk = (struct skeleton *)dev;

	if ((start->features & FEATURES) != FEATURES)
		return vdpa_error_set(-ENOTSUP, "%s: needs VERSION_1 and MAC", dev->name);
	for (uint16_t i = 0; i < start->nr_vqs; i++) {
		const struct vdpa_vq_config *vq = &start->vqs[i];
		const struct vring_config ring = {.size = vq->size,
			.features = start->features,
			.desc_iova = vq->desc_iova,
			.driver_iova = vq->driver_iova,
			.device_iova = vq->device_iova,
			.mem = vdpa_domain_mem(start->domain),
			.state = {vq->state.avail, vq->state.used}};
		int rc = vring_dev_init(&sk->vqs[vq->index], &ring);

		if (rc != 0)
			return rc;
		sk->path.wake_fds[vq->index] = vq->kick_fd;
	}
	return start->nr_vqs == NR_VQS ? vdpa_path_add(&sk->path, -1) : 0;
}

/* The device is quiet when this returns: on that stand migration and hot-unplug. */
static int
skeleton_stop(struct vdpa_device *dev, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	struct skeleton *sk = (struct skeleton *)dev;
	int rc = vdpa_path_del(&sk->path);

	for (uint16_t i = 0; i < nr_vqs; i++) {
		states[i].avail = vring_dev_state(&sk->vqs[i]).avail;
		states[i].used = vring_dev_state(&sk->vqs[i]).used;
	}
	return rc;
}

static int
skeleton_reset(struct vdpa_device *dev)
{
	return skeleton_stop(dev, NULL, 0);
}

static int
skeleton_config_read(struct vdpa_device *dev, uint32_t offset, void *data, uint32_t len)
{
	struct virtio_net_config config = {.max_virtqueue_pairs = 1};

	memcpy(config.mac, ((struct skeleton *)dev)->mac, sizeof(config.mac));
	memcpy(data, (const uint8_t *)&config + offset, len);
	return 0;
}

static const struct vdpa_device_ops skeleton_ops = {skeleton_get_info, skeleton_start,
	skeleton_stop, skeleton_reset, .config_read = skeleton_config_read};

/* ---- devices come and go: by management, or as DPDK's vdev ---- */

static int
skeleton_key(const char *key, const char *value, void *arg)
{
	return vdpa_arg_mac(key, value, ((struct skeleton *)arg)->mac);
}

static int
skeleton_add(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *args)
{
	static const char *const keys[] = {"mac", NULL};
	struct skeleton *sk = calloc(1, sizeof(*sk));
	int rc;

	if (sk == NULL)
		return -ENOMEM;
	*sk = (struct skeleton){.vdpa = {sk->name, &skeleton_ops, mgmtdev, NULL},
		.path = {.poll = skeleton_poll, .arm = skeleton_arm},
		.mac = {2, 0, 0, 0, 0, 1}};
	snprintf(sk->name, sizeof(sk->name), "%s", name);
	rc = vdpa_args_parse(args, keys, skeleton_key, sk);
	if (rc == 0)
		rc = vdpa_device_register(&sk->vdpa);
	if (rc != 0)
		free(sk);
	return rc;
}

static int
skeleton_del(const struct vdpa_mgmtdev *mgmtdev __rte_unused, struct vdpa_device *dev, bool force)
{
	int rc = vdpa_device_unregister(dev, force);

	if (rc == 0)
		free(dev); /* not before */
	return rc;
}

static struct vdpa_mgmtdev mgmtdev = {
	"skeleton", "mac=MAC", FEATURES, VIRTIO_ID_NET, 1, skeleton_add, skeleton_del, NULL};

RTE_INIT(skeleton_init)
{
	vdpa_mgmtdev_register(&mgmtdev);
}
