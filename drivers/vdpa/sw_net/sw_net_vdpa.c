/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <rte_byteorder.h>

#include "sw_net_port.h"

static struct sw_net_dev *
sw_net_of(struct vdpa_device *vdpa)
{
	return (struct sw_net_dev *)vdpa;
}

static int
fault(struct sw_net_dev *dev, enum vdpa_fault_op op)
{
	return vdpa_emulated_fault(&dev->args.common, op);
}

static int
sw_net_get_info(struct vdpa_device *vdpa, struct vdpa_info *info)
{
	const struct sw_net_dev *dev = sw_net_of(vdpa);

	info->virtio_id = VIRTIO_ID_NET;
	info->nr_vqs_max = 2 * dev->args.nr_pairs;
	info->config_size_bytes = sizeof(struct virtio_net_config);
	info->features = dev->args.features;
	vdpa_emulated_info(&dev->args.common, info);
	if (!dev->args.random_order)
		info->caps |= VDPA_CAP_IN_ORDER;
	return 0;
}

static int
sw_net_start(struct vdpa_device *vdpa, const struct vdpa_start *start)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_START);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	dev->promisc = dev->allmulti = false;
	if (memcmp(dev->mac, dev->args.mac, sizeof(dev->mac)) != 0) {
		memcpy(dev->mac, dev->args.mac, sizeof(dev->mac));
		vdpa_config_changed(vdpa);
	}
	dev->features = start->features;
	dev->mem = vdpa_domain_mem(start->domain);
	dev->nr_active_pairs = start->nr_active_pairs;
	if (dev->port != NULL)
		sw_net_port_reset_filter(dev->port);
	rc = sw_net_queues_begin(dev, start->vqs, start->nr_vqs);
	if (rc == 0)
		sw_net_tell_peer(dev);
	else if (sw_net_queues_end(dev) != 0)
		SW_NET_LOG(ERR, "%s: a datapath worker hangs", dev->name);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

static int
sw_net_stop(struct vdpa_device *vdpa, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_STOP), rc;

	pthread_mutex_lock(&dev->link->lock);
	rc = sw_net_queues_end(dev);
	for (uint16_t i = 0; i < nr_vqs && i < 2 * dev->args.nr_pairs; i++)
		sw_net_vq_state(&dev->vqs[i], &states[i]);
	sw_net_tell_peer(dev);
	pthread_mutex_unlock(&dev->link->lock);
	return failure != 0 ? failure : rc;
}

static int
sw_net_reset(struct vdpa_device *vdpa)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_RESET), rc;

	atomic_store(&dev->logging, false);
	rc = sw_net_kill(dev);
	if (rc == 0)
		atomic_store(&dev->fenced, false);
	return failure != 0 ? failure : rc;
}

static int
sw_net_fence(struct vdpa_device *vdpa)
{
	atomic_store(&sw_net_of(vdpa)->fenced, true);
	return 0;
}

static int
sw_net_vq_start(struct vdpa_device *vdpa, const struct vdpa_vq_config *config)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	struct sw_net_vq *vq = &dev->vqs[config->index];
	struct sw_net_dev *source;
	int rc = fault(dev, VDPA_FAULT_VQ_START);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	rc = sw_net_vq_init(dev, config);
	if (rc == 0 && sw_net_has_flow(vq)) {
		rc = sw_net_flows_start(&vq, 1);
	} else if (rc == 0) {
		source = sw_net_source(dev);
		rc = source != NULL ? sw_net_flows_connect(source) : 0;
	}
	if (rc != 0)
		vq->running = false;
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

static int
sw_net_vq_stop(struct vdpa_device *vdpa, uint16_t index, struct vdpa_vq_state *state)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	struct sw_net_vq *vq = &dev->vqs[index];
	int failure = fault(dev, VDPA_FAULT_VQ_STOP), rc = 0;

	pthread_mutex_lock(&dev->link->lock);
	if (sw_net_has_flow(vq))
		rc = sw_net_flows_stop(&vq, 1);
	if (rc == 0)
		vq->running = false;
	if (!sw_net_has_flow(vq) && vq->flow != NULL)
		rc = sw_net_flows_connect(sw_net_source(dev));
	sw_net_vq_state(vq, state);
	sw_net_mtu_settle(dev);
	pthread_mutex_unlock(&dev->link->lock);
	return failure != 0 ? failure : rc;
}

static int
sw_net_vq_stats(struct vdpa_device *vdpa, uint16_t index, uint64_t *values)
{
	const struct sw_net_vq *vq = &sw_net_of(vdpa)->vqs[index];

	for (int i = 0; i < SW_NET_NR_STATS; i++)
		values[i] = __atomic_load_n(&vq->stats[i], __ATOMIC_RELAXED);
	return 0;
}

static const void *
sw_net_vq_group(struct vdpa_device *vdpa, uint16_t index)
{
	return sw_net_group(sw_net_of(vdpa), index);
}

static const char *const sw_net_stat_names[] = {
#define STAT_NAME(name, text) [SW_NET_##name] = text,
	SW_NET_STATS(STAT_NAME)
#undef STAT_NAME
		NULL,
};

/* ---- what changes while the device runs ---- */

/* Receive or transmit queues. */
static int
set_active(struct sw_net_dev *dev, bool tx, uint16_t nr_pairs)
{
	int rc = 0;

	for (uint16_t i = 0; i < dev->args.nr_pairs && rc == 0; i++) {
		struct sw_net_vq *vq = tx ? sw_net_tx(dev, i) : sw_net_rx(dev, i);

		if (vq->running && vq->active != (i < nr_pairs))
			rc = sw_net_vq_run(vq, sw_net_vq_toggle, vq);
	}
	if (rc == 0 && !tx && dev->port != NULL)
		rc = sw_net_port_spread(dev);
	return rc;
}

static int
sw_net_set_active_queues(struct vdpa_device *vdpa, uint16_t nr_pairs)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_PAIRS);
	bool fewer;

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	/* who receives is there first and goes last: answers come back on the pair of the frame */
	fewer = nr_pairs < dev->nr_active_pairs;
	rc = set_active(dev, fewer, nr_pairs);
	if (rc == 0)
		rc = set_active(dev, !fewer, nr_pairs);
	if (rc == 0)
		dev->nr_active_pairs = nr_pairs;
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

/*
 * What the driver wants to receive: a filter of the ethdev for backend port; the others deliver
 * every frame whatever its address.
 */
static int
receive_mode(struct sw_net_dev *dev, uint8_t cmd, bool on)
{
	if (cmd == VIRTIO_NET_CTRL_RX_PROMISC)
		dev->promisc = on;
	else if (cmd == VIRTIO_NET_CTRL_RX_ALLMULTI)
		dev->allmulti = on;
	else
		return -ENOTSUP;
	if (dev->port != NULL)
		dev->port->mode_known = true;
	return 0;
}

static int
receive_addresses(struct sw_net_dev *dev, uint8_t cmd, const void *data, size_t len_bytes)
{
	if (cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET)
		memcpy(dev->mac, data, sizeof(dev->mac));
	else if (cmd != VIRTIO_NET_CTRL_MAC_TABLE_SET)
		return -ENOTSUP;
	else if (dev->port != NULL)
		sw_net_port_mac_table(dev->port, data, len_bytes);
	return 0;
}

static int
sw_net_cvq(struct vdpa_device *vdpa, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_CVQ);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	if (cls == VIRTIO_NET_CTRL_RX)
		rc = receive_mode(dev, cmd, *(const uint8_t *)data != 0);
	else if (cls == VIRTIO_NET_CTRL_MAC)
		rc = receive_addresses(dev, cmd, data, len_bytes);
	else
		rc = -ENOTSUP;
	if (rc == 0 && dev->port != NULL)
		sw_net_port_filter(dev->port);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

static int
sw_net_config_read(struct vdpa_device *vdpa, uint32_t offset, void *data, uint32_t len_bytes)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	struct virtio_net_config config = {0};
	int rc = fault(dev, VDPA_FAULT_CONFIG);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->link->lock);
	memcpy(config.mac, dev->mac, sizeof(config.mac));
	config.mtu = rte_cpu_to_le_16(dev->port != NULL ? dev->port->mtu : dev->mtu);
	config.status = rte_cpu_to_le_16(sw_net_link_is_up(dev) ? VIRTIO_NET_S_LINK_UP : 0);
	pthread_mutex_unlock(&dev->link->lock);
	config.max_virtqueue_pairs = rte_cpu_to_le_16(dev->args.nr_pairs);
	config.speed = rte_cpu_to_le_32(UINT32_MAX); /* unknown, as duplex */
	config.duplex = UINT8_MAX;
	memcpy(data, (const uint8_t *)&config + offset, len_bytes);
	return 0;
}

static int
sw_net_update_memory(struct vdpa_device *vdpa, struct vdpa_domain *domain)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_MEMORY);

	pthread_mutex_lock(&dev->link->lock);
	dev->mem = vdpa_domain_mem(domain);
	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++) {
		struct sw_net_vq *vq = &dev->vqs[i];
		int error;

		if (!vq->running)
			continue;
		/* each queue, whatever became of the others: none may use the former memory */
		error = sw_net_vq_run(vq, sw_net_vq_take_memory, vq);
		if (error == 0)
			error = vq->memory_rc;
		if (error != 0 && rc == 0)
			rc = error;
	}
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

/* Each worker is between two bursts once: a burst that began without reporting has ended then. */
static int
sw_net_dirty_start(struct vdpa_device *vdpa)
{
	struct sw_net_dev *dev = sw_net_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_DIRTY);

	if (rc != 0)
		return rc;
	atomic_store(&dev->logging, true);
	pthread_mutex_lock(&dev->link->lock);
	rc = sw_net_flows_quiet(dev);
	pthread_mutex_unlock(&dev->link->lock);
	return rc;
}

static int
sw_net_dirty_stop(struct vdpa_device *vdpa)
{
	atomic_store(&sw_net_of(vdpa)->logging, false);
	return 0;
}

const struct vdpa_device_ops sw_net_ops = {
	.get_info = sw_net_get_info,
	.start = sw_net_start,
	.stop = sw_net_stop,
	.reset = sw_net_reset,
	.fence = sw_net_fence,
	.vq_start = sw_net_vq_start,
	.vq_stop = sw_net_vq_stop,
	.vq_stats = sw_net_vq_stats,
	.vq_group = sw_net_vq_group,
	.vq_stat_names = sw_net_stat_names,
	.set_active_queues = sw_net_set_active_queues,
	.announce = sw_net_announce,
	.cvq = sw_net_cvq,
	.config_read = sw_net_config_read,
	.update_memory = sw_net_update_memory,
	.dirty_start = sw_net_dirty_start,
	.dirty_stop = sw_net_dirty_stop,
};
