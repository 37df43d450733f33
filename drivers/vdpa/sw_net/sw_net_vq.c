/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <rte_byteorder.h>

#include "sw_net.h"

/* Segmentation of the frames that the driver sends, or receives. */
static uint8_t
agreed_gso(uint64_t features, bool sends)
{
	uint8_t gso = 0;

	if ((features & SW_NET_BIT(sends ? VIRTIO_NET_F_HOST_TSO4 : VIRTIO_NET_F_GUEST_TSO4)) != 0)
		gso |= SW_NET_GSO_TCP4;
	if ((features & SW_NET_BIT(sends ? VIRTIO_NET_F_HOST_TSO6 : VIRTIO_NET_F_GUEST_TSO6)) != 0)
		gso |= SW_NET_GSO_TCP6;
	if ((features & SW_NET_BIT(sends ? VIRTIO_NET_F_HOST_ECN : VIRTIO_NET_F_GUEST_ECN)) != 0)
		gso |= SW_NET_GSO_ECN;
	return gso;
}

int
sw_net_vq_init(struct sw_net_dev *dev, const struct vdpa_vq_config *config)
{
	uint64_t features = dev->features;
	struct sw_net_vq *vq = &dev->vqs[config->index];
	const struct vring_config ring = {
		.size = config->size,
		.features = features,
		.read_only = config->index % 2 == 1,
		.desc_iova = config->desc_iova,
		.driver_iova = config->driver_iova,
		.device_iova = config->device_iova,
		.mem = dev->mem,
		.state = {config->state.avail, config->state.used},
	};
	int rc = vring_dev_init(&vq->ring, &ring);

	if (rc != 0)
		return vdpa_error_set(rc, "%s: virtqueue %u: %s", dev->name, config->index,
			vring_error_text(vring_dev_error(&vq->ring)));
	/* what a former device took and did not give back is offered to us again */
	vring_dev_rewind(&vq->ring);
	vq->kick_fd = config->kick_fd;
	vq->active = config->index / 2 < dev->nr_active_pairs;
	vq->failed = false;
	vq->mergeable = (features & SW_NET_BIT(VIRTIO_NET_F_MRG_RXBUF)) != 0;
	vq->csum = (features & SW_NET_BIT(VIRTIO_NET_F_CSUM)) != 0;
	vq->guest_csum = (features & SW_NET_BIT(VIRTIO_NET_F_GUEST_CSUM)) != 0;
	vq->gso = agreed_gso(features, config->index % 2 == 1);
	vq->in_order = (features & SW_NET_BIT(VIRTIO_F_IN_ORDER)) != 0;
	vq->faulty = dev->args.random_order || dev->args.lie_bytes != 0;
	vq->hdr_bytes = sizeof(struct virtio_net_hdr);
	if (vq->mergeable || (features & SW_NET_BIT(VIRTIO_F_VERSION_1)) != 0)
		vq->hdr_bytes = sizeof(struct virtio_net_hdr_v1);
	vq->offload_mask = rte_cpu_to_le_16(0xff00 | (vq->csum ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0));
	vq->plain_header.num_buffers = rte_cpu_to_le_16(1);
	vq->running = true;
	return 0;
}

void
sw_net_vq_state(const struct sw_net_vq *vq, struct vdpa_vq_state *state)
{
	struct vring_state at = vring_dev_state(&vq->ring);

	state->avail = at.avail;
	state->used = at.used;
}

/* Its queues that have a flow of their own, all or those that run. */
static uint16_t
flow_queues(struct sw_net_dev *dev, bool all, struct sw_net_vq **vqs)
{
	uint16_t nr = 0;

	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++)
		if (sw_net_has_flow(&dev->vqs[i]) && (all || dev->vqs[i].running))
			vqs[nr++] = &dev->vqs[i];
	return nr;
}

int
sw_net_queues_end(struct sw_net_dev *dev)
{
	struct sw_net_dev *source = sw_net_source(dev);
	struct sw_net_vq *vqs[2 * SW_NET_PAIRS_MAX];
	int rc = sw_net_flows_stop(vqs, flow_queues(dev, true, vqs));

	if (rc != 0)
		return rc;
	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++)
		dev->vqs[i].running = false;
	dev->running = false;
	sw_net_mtu_settle(dev);
	return source != NULL ? sw_net_flows_connect(source) : 0;
}

void
sw_net_tell_peer(struct sw_net_dev *dev)
{
	struct sw_net_dev *other = sw_net_link_other(dev);

	if (other != NULL && other->listening)
		vdpa_config_changed(&other->vdpa);
}

int
sw_net_queues_begin(struct sw_net_dev *dev, const struct vdpa_vq_config *vqs, uint16_t nr_vqs)
{
	struct sw_net_dev *source = sw_net_source(dev);
	struct sw_net_vq *with_flow[2 * SW_NET_PAIRS_MAX];
	int rc = 0;

	for (uint16_t i = 0; i < nr_vqs && rc == 0; i++)
		rc = sw_net_vq_init(dev, &vqs[i]);
	if (rc != 0)
		return rc;
	dev->running = true;
	if (source != NULL)
		rc = sw_net_flows_connect(source);
	if (rc == 0)
		rc = sw_net_flows_start(with_flow, flow_queues(dev, false, with_flow));
	return rc;
}

/* Nothing of the ring is written from now on, and nothing signalled. */
static void
vq_kill(void *arg)
{
	struct sw_net_vq *vq = arg;

	vring_dev_break(&vq->ring, VRING_ERR_CALLER);
	vq->failed = true;
}

int
sw_net_kill(struct sw_net_dev *dev)
{
	int rc = 0;

	pthread_mutex_lock(&dev->link->lock);
	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs && rc == 0; i++)
		if (dev->vqs[i].running)
			rc = sw_net_vq_run(&dev->vqs[i], vq_kill, &dev->vqs[i]);
	if (rc == 0)
		rc = sw_net_queues_end(dev);
	if (rc == 0)
		sw_net_tell_peer(dev);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

void
sw_net_vq_toggle(void *arg)
{
	struct sw_net_vq *vq = arg;

	vq->active = !vq->active;
}

void
sw_net_vq_take_memory(void *arg)
{
	struct sw_net_vq *vq = arg;

	vq->memory_rc = vring_dev_set_mem(&vq->ring, vq->dev->mem);
	if (vq->memory_rc != 0)
		vq_kill(vq);
}
