/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sw_blk.h"

#define MEMORY_MS 1500 /* that a change of memory waits for the backend */

int
sw_blk_vq_begin(struct sw_blk_dev *dev, const struct vdpa_vq_config *config)
{
	struct sw_blk_vq *vq = &dev->vqs[config->index];
	const struct vring_config ring = {
		.size = config->size,
		.max_segs = SW_BLK_CHAIN_SEGS,
		.features = dev->features,
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
	memset(&vq->path, 0, sizeof(vq->path));
	vq->path.poll = sw_blk_poll;
	vq->path.arm = sw_blk_arm;
	vq->path.wake_fds[0] = config->kick_fd;
	vq->path.wake_fds[1] = -1;
	vq->failed = vq->paused = false;
	vq->armed = true; /* whoever had the queue before may have asked for kicks */
	vq->unsignalled_bursts = 0;
	vdpa_delay_init(&vq->delay, dev->args.common.delay_us);
	if (dev->backend->vq_open != NULL)
		rc = dev->backend->vq_open(vq);
	if (rc != 0)
		return rc;
	rc = vdpa_path_add(&vq->path, -1);
	if (rc == 0)
		vq->running = true;
	else if (dev->backend->vq_close != NULL)
		dev->backend->vq_close(vq);
	return rc;
}

void
sw_blk_vq_state(const struct sw_blk_vq *vq, struct vdpa_vq_state *state)
{
	struct vring_state at = vring_dev_state(&vq->ring);

	state->avail = at.avail;
	state->used = at.used;
}

void
sw_blk_vq_nothing(void *vq)
{
	(void)vq;
}

void
sw_blk_vq_kill(void *arg)
{
	struct sw_blk_vq *vq = arg;

	vring_dev_break(&vq->ring, VRING_ERR_CALLER);
	vq->failed = true;
}

static int
run_each(struct sw_blk_dev *dev, uint16_t first, uint16_t last, void (*fn)(void *vq))
{
	int rc = 0;

	for (uint16_t i = first; i <= last; i++) {
		struct sw_blk_vq *vq = &dev->vqs[i];
		int error = vq->running ? vdpa_path_run(&vq->path, fn, vq) : 0;

		if (rc == 0)
			rc = error;
	}
	return rc;
}

int
sw_blk_vqs_run(struct sw_blk_dev *dev, void (*fn)(void *vq))
{
	return run_each(dev, 0, dev->args.nr_vqs - 1, fn);
}

static void
vq_pause(void *arg)
{
	struct sw_blk_vq *vq = arg;

	vq->paused = true;
}

static void
vq_resume(void *arg)
{
	struct sw_blk_vq *vq = arg;

	vq->paused = false;
}

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

/* Nothing is taken any more; what the backend has is waited for, by all queues at once. */
static int
drain(struct sw_blk_dev *dev, uint16_t first, uint16_t last, uint32_t timeout_ms)
{
	uint64_t until = now_ms() + timeout_ms;
	int rc = run_each(dev, first, last, vq_pause);

	for (uint16_t i = first; i <= last && rc == 0; i++)
		while (dev->vqs[i].running && atomic_load(&dev->vqs[i].nr_busy) != 0) {
			if (now_ms() > until)
				return -ETIMEDOUT;
			usleep(20);
		}
	return rc;
}

/* The last look at the ring is the worker's. */
static void
vq_end(void *arg)
{
	struct sw_blk_vq *vq = arg;

	if (!vq->failed && !sw_blk_fenced(vq))
		sw_blk_settle(vq);
}

static int
vq_stop(struct sw_blk_vq *vq)
{
	int rc;

	if (!vq->running)
		return 0;
	rc = vdpa_path_run(&vq->path, vq_end, vq);
	if (rc == 0)
		rc = vdpa_path_del(&vq->path);
	if (rc != 0)
		return rc;
	vq->running = false;
	if (vq->dev->backend->vq_close != NULL)
		vq->dev->backend->vq_close(vq);
	return 0;
}

int
sw_blk_vqs_end(struct sw_blk_dev *dev, uint16_t first, uint16_t last, uint32_t timeout_ms)
{
	int rc = drain(dev, first, last, timeout_ms);

	for (uint16_t i = first; i <= last && rc == 0; i++)
		rc = vq_stop(&dev->vqs[i]);
	return rc;
}

static void
vq_take_memory(void *arg)
{
	struct sw_blk_vq *vq = arg;

	vq->memory_rc = vring_dev_set_mem(&vq->ring, vq->dev->mem);
	if (vq->memory_rc != 0)
		sw_blk_vq_kill(vq);
	vq->paused = false;
}

int
sw_blk_vqs_take_memory(struct sw_blk_dev *dev)
{
	int rc = drain(dev, 0, dev->args.nr_vqs - 1, MEMORY_MS);

	if (rc != 0) {
		sw_blk_vqs_run(dev, vq_resume);
		return rc;
	}
	rc = sw_blk_vqs_run(dev, vq_take_memory);
	for (uint16_t i = 0; i < dev->args.nr_vqs && rc == 0; i++)
		if (dev->vqs[i].running)
			rc = dev->vqs[i].memory_rc;
	return rc;
}
