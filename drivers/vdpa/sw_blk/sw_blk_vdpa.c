/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>

#include "sw_blk.h"

/* A stop and a reset wait for what a disk has begun, and that may take long. */
#define FILE_STOP_MS   5000
#define MEMORY_STOP_MS 150
#define RESET_MS       9000

static int
fault(struct sw_blk_dev *dev, enum vdpa_fault_op op)
{
	return vdpa_emulated_fault(&dev->args.common, op);
}

static int
sw_blk_get_info(struct vdpa_device *vdpa, struct vdpa_info *info)
{
	const struct sw_blk_dev *dev = sw_blk_of(vdpa);

	info->virtio_id = VIRTIO_ID_BLOCK;
	info->nr_vqs_max = dev->args.nr_vqs;
	info->config_size_bytes = SW_BLK_CONFIG_BYTES;
	info->features = dev->args.features;
	vdpa_emulated_info(&dev->args.common, info);
	info->caps |= VDPA_CAP_INFLIGHT;
	if (dev->backend->in_order)
		info->caps |= VDPA_CAP_IN_ORDER;
	else
		info->op_deadline_ms = FILE_STOP_MS + 500;
	return 0;
}

static uint32_t
stop_ms(const struct sw_blk_dev *dev)
{
	return dev->backend->in_order ? MEMORY_STOP_MS : FILE_STOP_MS;
}

static int
end_all_locked(struct sw_blk_dev *dev, uint32_t timeout_ms)
{
	return sw_blk_vqs_end(dev, 0, dev->args.nr_vqs - 1, timeout_ms);
}

/* virtio 1.2, 5.2.5.2: without FLUSH, and until the driver says so, writes go through. */
static void
set_write_cache(struct sw_blk_dev *dev)
{
	bool flush = (dev->features & SW_BLK_BIT(VIRTIO_BLK_F_FLUSH)) != 0;
	bool config = (dev->features & SW_BLK_BIT(VIRTIO_BLK_F_CONFIG_WCE)) != 0;
	bool on = config ? flush && dev->args.write_cache : flush;

	if (atomic_exchange(&dev->write_cache, on) != on)
		vdpa_config_changed(&dev->vdpa);
}

static int
sw_blk_start(struct vdpa_device *vdpa, const struct vdpa_start *start)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_START);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->lock);
	dev->features = start->features;
	dev->mem = vdpa_domain_mem(start->domain);
	if (start->fresh)
		set_write_cache(dev);
	for (uint16_t i = 0; i < start->nr_vqs && rc == 0; i++)
		rc = sw_blk_vq_begin(dev, &start->vqs[i]);
	if (rc != 0 && end_all_locked(dev, stop_ms(dev)) != 0)
		SW_BLK_LOG(ERR, "%s: a queue does not end", dev->name);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int
sw_blk_stop(struct vdpa_device *vdpa, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_STOP), rc;

	pthread_mutex_lock(&dev->lock);
	rc = end_all_locked(dev, stop_ms(dev));
	pthread_mutex_unlock(&dev->lock);
	for (uint16_t i = 0; i < nr_vqs && i < dev->args.nr_vqs; i++)
		sw_blk_vq_state(&dev->vqs[i], &states[i]);
	return failure != 0 ? failure : rc;
}

int
sw_blk_end(struct sw_blk_dev *dev)
{
	int rc;

	atomic_store(&dev->logging, false);
	pthread_mutex_lock(&dev->lock);
	rc = sw_blk_vqs_run(dev, sw_blk_vq_kill);
	if (rc == 0)
		rc = end_all_locked(dev, RESET_MS);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int
sw_blk_reset(struct vdpa_device *vdpa)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_RESET), rc = sw_blk_end(dev);

	if (rc == 0)
		atomic_store(&dev->fenced, false);
	return failure != 0 ? failure : rc;
}

static int
sw_blk_fence(struct vdpa_device *vdpa)
{
	atomic_store(&sw_blk_of(vdpa)->fenced, true);
	return 0;
}

static int
sw_blk_vq_start(struct vdpa_device *vdpa, const struct vdpa_vq_config *config)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_VQ_START);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&dev->lock);
	rc = sw_blk_vq_begin(dev, config);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int
sw_blk_vq_stop(struct vdpa_device *vdpa, uint16_t index, struct vdpa_vq_state *state)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_VQ_STOP), rc;

	pthread_mutex_lock(&dev->lock);
	rc = sw_blk_vqs_end(dev, index, index, stop_ms(dev));
	pthread_mutex_unlock(&dev->lock);
	sw_blk_vq_state(&dev->vqs[index], state);
	return failure != 0 ? failure : rc;
}

static int
sw_blk_vq_stats(struct vdpa_device *vdpa, uint16_t index, uint64_t *values)
{
	const struct sw_blk_vq *vq = &sw_blk_of(vdpa)->vqs[index];

	for (int i = 0; i < SW_BLK_NR_STATS; i++)
		values[i] = __atomic_load_n(&vq->stats[i], __ATOMIC_RELAXED);
	return 0;
}

static const void *
sw_blk_vq_group(struct vdpa_device *vdpa, uint16_t index)
{
	return &sw_blk_of(vdpa)->vqs[index];
}

static const char *const sw_blk_stat_names[] = {
#define STAT_NAME(name, text) [SW_BLK_##name] = text,
	SW_BLK_STATS(STAT_NAME)
#undef STAT_NAME
		NULL,
};

static int
sw_blk_update_memory(struct vdpa_device *vdpa, struct vdpa_domain *domain)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int failure = fault(dev, VDPA_FAULT_MEMORY), rc;

	pthread_mutex_lock(&dev->lock);
	dev->mem = vdpa_domain_mem(domain);
	rc = sw_blk_vqs_take_memory(dev);
	pthread_mutex_unlock(&dev->lock);
	return failure != 0 ? failure : rc;
}

/* Each worker is between two bursts once: what was published without a report is so before. */
static int
sw_blk_dirty_start(struct vdpa_device *vdpa)
{
	struct sw_blk_dev *dev = sw_blk_of(vdpa);
	int rc = fault(dev, VDPA_FAULT_DIRTY);

	if (rc != 0)
		return rc;
	atomic_store(&dev->logging, true);
	pthread_mutex_lock(&dev->lock);
	rc = sw_blk_vqs_run(dev, NULL);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int
sw_blk_dirty_stop(struct vdpa_device *vdpa)
{
	atomic_store(&sw_blk_of(vdpa)->logging, false);
	return 0;
}

const struct vdpa_device_ops sw_blk_ops = {
	.get_info = sw_blk_get_info,
	.start = sw_blk_start,
	.stop = sw_blk_stop,
	.reset = sw_blk_reset,
	.fence = sw_blk_fence,
	.vq_start = sw_blk_vq_start,
	.vq_stop = sw_blk_vq_stop,
	.vq_stats = sw_blk_vq_stats,
	.vq_group = sw_blk_vq_group,
	.vq_stat_names = sw_blk_stat_names,
	.config_read = sw_blk_config_read,
	.config_write = sw_blk_config_write,
	.update_memory = sw_blk_update_memory,
	.dirty_start = sw_blk_dirty_start,
	.dirty_stop = sw_blk_dirty_stop,
};
