/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sw_blk.h"

#define MEMORY_MS 1500 /* that a change of memory waits for the backend */

/* Where the queue starts, and what is to be done again. */
static int
take_notes(struct sw_blk_vq *vq, const struct vdpa_vq_config *config, struct vring_config *ring)
{
	int nr;

	vq->nr_again = vq->again_at = 0;
	if (config->inflight == NULL)
		return 0;
	vq->again = calloc(config->size, sizeof(*vq->again));
	if (vq->again == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", vq->dev->name);
	nr = vring_inflight_begin(&vq->notes, config->inflight, ring, vq->again);
	if (nr == -ENOMEM || nr == -EBADMSG)
		return vdpa_error_set(nr, "%s: virtqueue %u: %s", vq->dev->name, vq->index,
			nr == -ENOMEM ? "out of memory" : "notes of no such queue");
	vq->nr_again = nr > 0 ? nr : 0; /* less: the queue says why */
	if (vq->nr_again != 0)
		SW_BLK_LOG(NOTICE, "%s: virtqueue %u: %u requests are done again", vq->dev->name,
			vq->index, vq->nr_again);
	return 0;
}

static void
drop_notes(struct sw_blk_vq *vq)
{
	vring_inflight_end(&vq->notes);
	free(vq->again);
	vq->again = NULL;
}

/* The last look at the ring is the worker's. */
static void
vq_end(struct vdpa_path *path)
{
	struct sw_blk_vq *vq = (struct sw_blk_vq *)path;

	if (!vq->failed && !sw_blk_fenced(vq))
		sw_blk_settle(vq);
}

static void
make_path(struct sw_blk_vq *vq, int kick_fd)
{
	memset(&vq->path, 0, sizeof(vq->path));
	vq->path.poll = sw_blk_poll;
	vq->path.arm = sw_blk_arm;
	vq->path.end = vq_end;
	vq->path.group = vq;
	vq->path.wake_fds[0] = kick_fd;
	vq->path.wake_fds[1] = -1;
}

static void
vq_close(struct sw_blk_vq *vq)
{
	if (vq->dev->backend->vq_close != NULL)
		vq->dev->backend->vq_close(vq);
	drop_notes(vq);
}

int
sw_blk_vq_begin(struct sw_blk_dev *dev, const struct vdpa_vq_config *config)
{
	struct sw_blk_vq *vq = &dev->vqs[config->index];
	struct vring_config ring = {
		.size = config->size,
		.max_segs = SW_BLK_CHAIN_SEGS,
		.features = dev->features,
		.desc_iova = config->desc_iova,
		.driver_iova = config->driver_iova,
		.device_iova = config->device_iova,
		.mem = dev->mem,
		.state = {config->state.avail, config->state.used},
	};
	int rc = take_notes(vq, config, &ring);

	if (rc != 0) {
		drop_notes(vq);
		return rc;
	}
	rc = vring_dev_init(&vq->ring, &ring);
	if (rc != 0)
		drop_notes(vq);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: virtqueue %u: %s", dev->name, config->index,
			vring_error_text(vring_dev_error(&vq->ring)));
	/* what a former device took and did not give back is offered to us again */
	if (vq->again == NULL)
		vring_dev_rewind(&vq->ring);
	make_path(vq, config->kick_fd);
	vq->failed = vq->paused = false;
	vq->armed = true; /* whoever had the queue before may have asked for kicks */
	vq->unsignalled_bursts = 0;
	vdpa_delay_init(&vq->delay, dev->args.common.delay_us);
	if (dev->backend->vq_open != NULL)
		rc = dev->backend->vq_open(vq);
	if (rc == 0)
		rc = vdpa_path_add(&vq->path, -1);
	vq->running = rc == 0;
	if (rc != 0)
		vq_close(vq);
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
sw_blk_vq_kill(void *arg)
{
	struct sw_blk_vq *vq = arg;

	vring_dev_break(&vq->ring, VRING_ERR_CALLER);
	vq->failed = true;
}

/* Those of queues first to last that run. @return their number */
static uint16_t
running(struct sw_blk_dev *dev, uint16_t first, uint16_t last, struct vdpa_path **paths)
{
	uint16_t nr = 0;

	for (uint16_t i = first; i <= last; i++)
		if (dev->vqs[i].running)
			paths[nr++] = &dev->vqs[i].path;
	return nr;
}

static int
run_each(struct sw_blk_dev *dev, uint16_t first, uint16_t last, void (*fn)(void *vq))
{
	struct vdpa_path *paths[SW_BLK_VQS_MAX] = {NULL};

	return vdpa_paths_run(paths, running(dev, first, last, paths), fn);
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

int
sw_blk_vqs_end(struct sw_blk_dev *dev, uint16_t first, uint16_t last, uint32_t timeout_ms)
{
	struct vdpa_path *paths[SW_BLK_VQS_MAX] = {NULL};
	int rc = drain(dev, first, last, timeout_ms);

	if (rc == 0)
		rc = vdpa_paths_del(paths, running(dev, first, last, paths));
	for (uint16_t i = first; i <= last && rc == 0; i++) {
		struct sw_blk_vq *vq = &dev->vqs[i];

		if (vq->running)
			vq_close(vq);
		vq->running = false;
	}
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
