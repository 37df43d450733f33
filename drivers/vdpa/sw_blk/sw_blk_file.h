/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_BLK_FILE_H
#define SW_BLK_FILE_H

/**
 * @file
 * Backend file, between sw_blk_file.c (the file itself), sw_blk_slot.c (what is done next for a
 * request) and sw_blk_uring.c (how it is handed to the kernel).
 */

#include <sys/uio.h>

#include <liburing.h>

#include "sw_blk.h"

#define SW_BLK_BOUNCE_BYTES (128u << 10)
#define SW_BLK_BOUNCES      8 /* of a queue, with direct=on */

/*
 * A request that the kernel works on. It has one operation with the kernel at a time, or a part in
 * that of the first of its train.
 */
struct sw_blk_slot {
	struct sw_blk_request request; /* data, offset_bytes, len_bytes: what is left */
	struct sw_blk_slot *next_waiting, *next_joined; /* of a train */
	uint16_t range;     /* discard, write-zeroes: in work */
	bool syncs;         /* what remains is to make it stable */
	bool writes_zeroes; /* the file cannot do it: zeros are written */
	int8_t bounce;      /* buffer in use, -1: none */
	struct vring_seg segs[SW_BLK_SEGS];
	struct iovec iov[SW_BLK_SEGS];
};

/*
 * Writes to the page cache that follow each other on the disk, in one operation; more may join
 * until it is handed over. The kernel does those of a file one after another anyway.
 */
struct sw_blk_train {
	struct sw_blk_slot *first, *last; /* first NULL: there is none */
	struct io_uring_sqe *sqe;
	uint32_t len_bytes;
	uint16_t nr_iov; /* in first->iov; 0: nobody has joined */
};

struct sw_blk_uring {
	struct io_uring ring;
	int event_fd;
	bool event_on;
	struct sw_blk_slot *slots; /* SW_BLK_SLOTS */
	uint16_t free_slots[SW_BLK_SLOTS];
	uint16_t nr_free;
	struct sw_blk_train train; /* direct=off */
	/* direct=on */
	uint8_t *bounces; /* SW_BLK_BOUNCES of them, aligned */
	bool bounces_fixed;
	uint8_t free_bounces[SW_BLK_BOUNCES];
	uint8_t nr_free_bounces;
	struct sw_blk_slot *waiting, **waiting_tail; /* for a bounce buffer */
};

/* ---- sw_blk_uring.c ---- */
/* Is io_uring there at all? 0; negative errno with vdpa_error_text(). */
int sw_blk_uring_check(void);
int sw_blk_uring_open(struct sw_blk_vq *vq);
void sw_blk_uring_close(struct sw_blk_vq *vq);
bool sw_blk_uring_submit(struct sw_blk_vq *vq, struct sw_blk_request *request);
unsigned int sw_blk_uring_poll(struct sw_blk_vq *vq);
bool sw_blk_uring_arm(struct sw_blk_vq *vq);

/* ---- sw_blk_slot.c ---- */
/* Put the next operation of a request into sqe. false: there is no bounce buffer for it. */
bool sw_blk_slot_prepare(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe);
/* slot's operation is in sqe: more may join it, if it is such a write. */
void sw_blk_train_begin(struct sw_blk_vq *vq, struct sw_blk_slot *slot, struct io_uring_sqe *sqe);
/* Do a new request in the operation that is there. false: it needs one of its own. */
bool sw_blk_train_join(struct sw_blk_vq *vq, struct sw_blk_slot *slot);
/* Its operation has come to res. true: the request is complete. */
bool sw_blk_slot_advance(struct sw_blk_vq *vq, struct sw_blk_slot *slot, int res);

#endif /* SW_BLK_FILE_H */
