/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "sw_blk.h"

#define BURST                  32
#define NR_SEGS                (SW_BLK_CHAIN_SEGS + 128)
#define MAX_UNSIGNALLED_BURSTS 4

static void
vq_fail(struct sw_blk_vq *vq)
{
	const char *why = vring_error_text(vring_dev_error(&vq->ring));

	if (vq->failed)
		return;
	vq->failed = true;
	vdpa_vq_failed(&vq->dev->vdpa, vq->index, -EBADMSG, why);
}

void
sw_blk_settle(struct sw_blk_vq *vq)
{
	vq->unsignalled_bursts = 0;
	if (!vring_dev_signal_needed(&vq->ring))
		return;
	sw_blk_count(vq, SW_BLK_INTERRUPTS, 1);
	vdpa_vq_signal(&vq->dev->vdpa, vq->index);
}

/*
 * The decision about an interrupt needs a full fence, so it waits for the poll that finds nothing
 * more to do (polls follow each other as long as one found something), but not for ever.
 */
static inline unsigned int
finish_burst(struct sw_blk_vq *vq, unsigned int nr)
{
	if (vq->unsignalled_bursts != 0 &&
		(nr == 0 || vq->unsignalled_bursts >= MAX_UNSIGNALLED_BURSTS))
		sw_blk_settle(vq);
	if (nr != 0)
		vq->unsignalled_bursts++;
	return nr;
}

static inline bool
is_logging(const struct sw_blk_vq *vq)
{
	return atomic_load_explicit(&vq->dev->logging, memory_order_relaxed);
}

/* The status is the last that is written to a buffer. */
static inline void
write_status(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	if (unlikely(request->status != VIRTIO_BLK_S_OK))
		sw_blk_count(vq,
			request->status == VIRTIO_BLK_S_UNSUPP ? SW_BLK_UNSUPPORTED
							       : SW_BLK_IO_ERRORS,
			1);
	if (likely(request->status_va != NULL))
		*(volatile uint8_t *)request->status_va = request->status;
	else
		sw_blk_count(vq, SW_BLK_NO_STATUS, 1);
}

static inline void
give_back(struct sw_blk_vq *vq, const struct vring_chain *chains, uint16_t nr)
{
	for (uint16_t i = 0; i < nr; i++)
		vring_inflight_give(&vq->notes, chains[i].done.id);
	vring_dev_push_chains(&vq->ring, chains, nr);
	vring_dev_flush(&vq->ring);
	vring_inflight_given(&vq->notes, vring_dev_state(&vq->ring).used);
	if (unlikely(is_logging(vq)))
		vdpa_dirty_chains(&vq->dev->vdpa, &vq->ring, chains, nr);
}

void
sw_blk_complete(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	/* fenced: the memory is no longer the consumer's */
	if (vq->failed || sw_blk_fenced(vq))
		return;
	write_status(vq, request);
	give_back(vq, &request->chain, 1);
}

static uint16_t
room(const struct sw_blk_vq *vq)
{
	unsigned int busy = atomic_load_explicit(&vq->nr_busy, memory_order_relaxed);

	return RTE_MIN((unsigned int)BURST, SW_BLK_SLOTS - busy);
}

/* Key hang_after: it is taken and never done. */
static inline bool
hangs(struct sw_blk_vq *vq)
{
	if (likely(vq->dev->args.hang_after == SW_BLK_HANG_NEVER))
		return false;
	if (vq->nr_taken == vq->dev->args.hang_after)
		return true;
	vq->nr_taken++;
	return false;
}

/* Hand buffers that were taken to the backend; what is complete at once is given back at once. */
static void
do_requests(struct sw_blk_vq *vq, struct vring_chain *chains, uint16_t nr)
{
	struct sw_blk_request request;
	uint16_t nr_done = 0;

	for (uint16_t i = 0; i < nr; i++) {
		if (unlikely(hangs(vq)))
			continue;
		if (sw_blk_request_take(vq, &chains[i], &request) &&
			!vq->dev->backend->submit(vq, &request))
			continue;
		write_status(vq, &request);
		chains[nr_done++] = request.chain;
	}
	if (nr_done != 0)
		give_back(vq, chains, nr_done);
}

/* @return buffers taken */
static unsigned int
take_burst(struct sw_blk_vq *vq)
{
	struct vring_chain chains[BURST];
	struct vring_seg segs[NR_SEGS];
	uint16_t nr;

	nr = vring_dev_peek(&vq->ring, chains, room(vq), segs, NR_SEGS);
	if (unlikely(vring_dev_error(&vq->ring) != VRING_ERR_NONE)) {
		vq_fail(vq);
		return 0;
	}
	nr = vdpa_delay_pass(&vq->delay, nr);
	vring_inflight_take_chains(&vq->notes, &vq->ring, chains, nr);
	vring_dev_consume(&vq->ring, chains, nr);
	do_requests(vq, chains, nr);
	return nr;
}

/* The same for what a former device took and did not give back, one at a time. */
static unsigned int
take_again(struct sw_blk_vq *vq)
{
	struct vring_seg segs[SW_BLK_CHAIN_SEGS];
	struct vring_chain chain;

	if (room(vq) == 0)
		return 0;
	if (!vring_dev_again(
		    &vq->ring, &vq->notes, vq->again[vq->again_at], &chain, segs, RTE_DIM(segs))) {
		vq_fail(vq);
		return 0;
	}
	vq->again_at++;
	do_requests(vq, &chain, 1);
	return 1;
}

static void
disarm(struct sw_blk_vq *vq)
{
	vq->armed = false;
	if (vq->failed || sw_blk_fenced(vq))
		return;
	vring_dev_disarm(&vq->ring);
	if (unlikely(is_logging(vq)))
		vdpa_dirty_chains(&vq->dev->vdpa, &vq->ring, NULL, 0);
}

unsigned int
sw_blk_poll(struct vdpa_path *path)
{
	struct sw_blk_vq *vq = (struct sw_blk_vq *)path;
	unsigned int nr = 0;

	if (unlikely(vq->armed))
		disarm(vq);
	if (likely(!vq->failed && !vq->paused && !sw_blk_fenced(vq)))
		nr = likely(vq->again_at == vq->nr_again) ? take_burst(vq) : take_again(vq);
	if (vq->dev->backend->poll != NULL)
		nr += vq->dev->backend->poll(vq);
	if (unlikely(vq->failed || sw_blk_fenced(vq)))
		return 0;
	return finish_burst(vq, nr);
}

/* true: keep polling. With all slots in use a kick is of no use, only a completion is. */
bool
sw_blk_arm(struct vdpa_path *path)
{
	struct sw_blk_vq *vq = (struct sw_blk_vq *)path;
	bool more = false;

	vq->armed = true;
	if (vq->dev->backend->arm != NULL)
		more = vq->dev->backend->arm(vq);
	if (vq->failed || vq->paused || sw_blk_fenced(vq) || room(vq) == 0)
		return more;
	more |= vring_dev_arm(&vq->ring);
	if (unlikely(is_logging(vq)))
		vdpa_dirty_chains(&vq->dev->vdpa, &vq->ring, NULL, 0);
	return more;
}
