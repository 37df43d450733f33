/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "sw_blk_file.h"

#define SQPOLL_IDLE_MS 50
#define CQE_BURST      32

static int
ring_open(struct io_uring *ring, unsigned int entries, bool sqpoll)
{
	struct io_uring_params params = {0};
	int rc;

	if (sqpoll) {
		params.flags = IORING_SETUP_SQPOLL;
		params.sq_thread_idle = SQPOLL_IDLE_MS;
	}
	rc = io_uring_queue_init_params(entries, ring, &params);
	if (rc == -EPERM || rc == -ENOSYS || rc == -EACCES)
		return vdpa_error_set(rc,
			"backend=file: io_uring is refused by the kernel (sysctl "
			"kernel.io_uring_disabled, or the filter of a container)");
	return rc != 0 ? vdpa_error_set(rc, "backend=file: io_uring: %s", strerror(-rc)) : 0;
}

int
sw_blk_uring_check(void)
{
	struct io_uring ring;
	int rc = ring_open(&ring, 2, false);

	if (rc == 0)
		io_uring_queue_exit(&ring);
	return rc;
}

/* Fixed buffers are pinned: without leave to do so they are used as any others. */
static int
bounces_open(struct sw_blk_uring *uring)
{
	struct iovec iov = {.iov_len = SW_BLK_BOUNCES * SW_BLK_BOUNCE_BYTES};

	uring->bounces = aligned_alloc(SW_BLK_BOUNCE_BYTES, iov.iov_len);
	if (uring->bounces == NULL)
		return -ENOMEM;
	memset(uring->bounces, 0, iov.iov_len);
	iov.iov_base = uring->bounces;
	uring->bounces_fixed = io_uring_register_buffers(&uring->ring, &iov, 1) == 0;
	for (uint8_t i = 0; i < SW_BLK_BOUNCES; i++)
		uring->free_bounces[i] = i;
	uring->nr_free_bounces = SW_BLK_BOUNCES;
	return 0;
}

static void
uring_free(struct sw_blk_uring *uring)
{
	if (uring->event_fd >= 0)
		close(uring->event_fd);
	free(uring->bounces);
	free(uring->slots);
	free(uring);
}

void
sw_blk_uring_close(struct sw_blk_vq *vq)
{
	if (vq->uring == NULL)
		return;
	io_uring_queue_exit(&vq->uring->ring);
	uring_free(vq->uring);
	vq->uring = NULL;
}

static int
uring_setup(struct sw_blk_vq *vq)
{
	struct sw_blk_uring *uring = vq->uring;
	int rc = io_uring_register_files(&uring->ring, &vq->dev->file_fd, 1);

	if (rc < 0)
		return rc;
	uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uring->event_fd < 0)
		return -errno;
	rc = io_uring_register_eventfd(&uring->ring, uring->event_fd);
	if (rc < 0)
		return rc;
	uring->event_on = true;
	return vq->dev->args.direct ? bounces_open(uring) : 0;
}

int
sw_blk_uring_open(struct sw_blk_vq *vq)
{
	struct sw_blk_uring *uring = calloc(1, sizeof(*uring));
	int rc;

	if (uring == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", vq->dev->name);
	uring->event_fd = -1;
	uring->waiting_tail = &uring->waiting;
	/* large, and touched as far as it is used */
	uring->slots = calloc(SW_BLK_SLOTS, sizeof(*uring->slots));
	for (uint16_t i = 0; i < SW_BLK_SLOTS; i++)
		uring->free_slots[i] = SW_BLK_SLOTS - 1 - i;
	uring->nr_free = SW_BLK_SLOTS;
	rc = uring->slots == NULL ? vdpa_error_set(-ENOMEM, "%s: out of memory", vq->dev->name)
				  : ring_open(&uring->ring, 2 * SW_BLK_SLOTS, vq->dev->args.sqpoll);
	if (rc != 0) {
		uring_free(uring);
		return rc;
	}
	vq->uring = uring;
	atomic_store(&vq->nr_busy, 0);
	rc = uring_setup(vq);
	if (rc < 0) {
		sw_blk_uring_close(vq);
		return vdpa_error_set(rc, "backend=file: io_uring: %s", strerror(-rc));
	}
	vq->path.wake_fds[1] = uring->event_fd;
	return 0;
}

static void
set_event(struct sw_blk_uring *uring, bool on)
{
	uring->event_on = on;
	io_uring_cq_eventfd_toggle(&uring->ring, on);
}

/* The kernel's threads, which copy between memory and page cache, have the worker's CPUs. */
static void
set_busy(struct sw_blk_vq *vq)
{
	unsigned int nr = SW_BLK_SLOTS - vq->uring->nr_free;

	vq->path.waits = nr != 0;
	atomic_store_explicit(&vq->nr_busy, nr, memory_order_release);
}

static void
mark(struct io_uring_sqe *sqe, struct sw_blk_slot *slot)
{
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, slot);
}

/* Hand over the next operation of a request. NULL: it waits for a bounce buffer. */
static struct io_uring_sqe *
slot_next(struct sw_blk_vq *vq, struct sw_blk_slot *slot)
{
	struct sw_blk_uring *uring = vq->uring;
	/* never NULL: a slot has one entry, and one more if it has waited */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	if (sw_blk_slot_prepare(vq, slot, sqe)) {
		mark(sqe, slot);
		return sqe;
	}
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	slot->next_waiting = NULL;
	*uring->waiting_tail = slot;
	uring->waiting_tail = &slot->next_waiting;
	return NULL;
}

bool
sw_blk_uring_submit(struct sw_blk_vq *vq, struct sw_blk_request *request)
{
	struct sw_blk_uring *uring = vq->uring;
	struct sw_blk_slot *slot = &uring->slots[uring->free_slots[--uring->nr_free]];
	const struct vring_seg *segs = request->chain.segs;

	slot->request = *request;
	memcpy(slot->segs, segs, request->chain.nr_segs * sizeof(*segs));
	slot->request.chain.segs = slot->segs;
	slot->request.data.seg = slot->segs + (request->data.seg - segs);
	slot->range = 0;
	slot->syncs = request->type == VIRTIO_BLK_T_FLUSH;
	slot->writes_zeroes = false;
	slot->bounce = -1;
	slot->next_joined = NULL;
	set_busy(vq);
	if (sw_blk_train_join(vq, slot))
		mark(uring->train.sqe, uring->train.first);
	else
		sw_blk_train_begin(vq, slot, slot_next(vq, slot));
	return false;
}

static void
slot_free(struct sw_blk_vq *vq, struct sw_blk_slot *slot)
{
	struct sw_blk_uring *uring = vq->uring;
	struct sw_blk_slot *next = uring->waiting;

	if (slot->bounce >= 0) {
		uring->free_bounces[uring->nr_free_bounces++] = slot->bounce;
		if (next != NULL) {
			uring->waiting = next->next_waiting;
			if (uring->waiting == NULL)
				uring->waiting_tail = &uring->waiting;
			slot_next(vq, next);
		}
	}
	uring->free_slots[uring->nr_free++] = slot - uring->slots;
	set_busy(vq);
}

static void
advance(struct sw_blk_vq *vq, struct sw_blk_slot *slot, int res)
{
	if (!sw_blk_slot_advance(vq, slot, res)) {
		slot_next(vq, slot);
		return;
	}
	sw_blk_complete(vq, &slot->request);
	slot_free(vq, slot);
}

/* What a train has written is its requests' in their order. Whom it did not reach goes alone. */
static void
advance_train(struct sw_blk_vq *vq, struct sw_blk_slot *slot, int res)
{
	uint32_t left = RTE_MAX(res, 0);

	while (slot != NULL) {
		uint32_t done = RTE_MIN(left, slot->request.len_bytes);
		struct sw_blk_slot *next = slot->next_joined;

		slot->next_joined = NULL;
		if (done == 0)
			slot_next(vq, slot);
		else
			advance(vq, slot, done);
		left -= done;
		slot = next;
	}
}

static void
reap(struct sw_blk_vq *vq, struct sw_blk_slot *slot, int res)
{
	if (slot == NULL)
		return;
	if (slot->next_joined == NULL)
		advance(vq, slot, res);
	else
		advance_train(vq, slot, res);
}

/* One system call a burst, and none where nothing waits. */
static void
hand_over(struct sw_blk_vq *vq)
{
	vq->uring->train.first = NULL;
	if (io_uring_sq_ready(&vq->uring->ring) == 0)
		return;
	sw_blk_count(vq, SW_BLK_SUBMITS, 1);
	/* what it does not take now stays, for the next poll */
	io_uring_submit(&vq->uring->ring);
}

unsigned int
sw_blk_uring_poll(struct sw_blk_vq *vq)
{
	struct sw_blk_uring *uring = vq->uring;
	struct io_uring_cqe *cqes[CQE_BURST];
	unsigned int nr;

	if (uring->nr_free == SW_BLK_SLOTS && io_uring_cq_ready(&uring->ring) == 0)
		return 0;
	hand_over(vq);
	nr = io_uring_peek_batch_cqe(&uring->ring, cqes, CQE_BURST);
	for (unsigned int i = 0; i < nr; i++)
		reap(vq, io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
	if (nr != 0) {
		io_uring_cq_advance(&uring->ring, nr);
		if (uring->event_on)
			set_event(uring, false);
	}
	return nr + io_uring_sq_ready(&uring->ring);
}

/*
 * The kernel looks at the wish for events after it has published a completion, on some kernels with
 * no barrier in between: what falls there is seen by the poll between the first of two calls, which
 * states the wish, and the second.
 */
bool
sw_blk_uring_arm(struct sw_blk_vq *vq)
{
	struct sw_blk_uring *uring = vq->uring;

	if (uring->nr_free == SW_BLK_SLOTS)
		return false;
	if (!uring->event_on) {
		set_event(uring, true);
		return true;
	}
	atomic_thread_fence(memory_order_seq_cst);
	return io_uring_cq_ready(&uring->ring) != 0 || io_uring_sq_ready(&uring->ring) != 0;
}
