/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_BLK_H
#define SW_BLK_H

/**
 * @file
 * sw_blk, the emulated virtio-blk device: what its files share.
 *
 *	sw_blk_vdpa.c	ops of the device
 *	sw_blk_config.c	configuration space
 *	sw_blk_mgmt.c	how devices come and go: management device, vdev driver
 *	sw_blk_args.c	keys and what they offer
 *	sw_blk_vq.c	its queues: begin, drain, end
 *	sw_blk_path.c	the datapath: one burst of a queue
 *	sw_blk_request.c	what a buffer asks for, checked
 *	sw_blk_memory.c	backends null and malloc, which complete at once
 *	sw_blk_file.c	backend file: the file itself
 *	sw_blk_slot.c	backend file: what is done next for a request
 *	sw_blk_uring.c	backend file: how that is handed to the kernel
 *
 * A queue is a path of its own, with a worker while it runs. Requests that a backend does not
 * complete at once stay in the queue's slots, and with them pointers into the consumer's memory:
 * before that memory changes, and before a queue ends, they are waited for.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include <rte_log.h>

#include "vdpa_emulated.h"
#include "vring_copy.h"
#include "vring_inflight.h"

#define SW_BLK_BIT(feature) (UINT64_C(1) << (feature))

#define SW_BLK_VQS_MAX     256
#define SW_BLK_SECTOR      512
#define SW_BLK_ID_BYTES    20   /* of GET_ID (virtio 1.2, 5.2.6.1) */
#define SW_BLK_CHAIN_SEGS  1024 /* of a buffer; more stop the queue */
#define SW_BLK_SEGS        320  /* of a buffer; more are refused */
#define SW_BLK_SLOTS       128  /* requests of a queue with the backend */
#define SW_BLK_RANGES_MAX  16   /* of a discard or write-zeroes request */
#define SW_BLK_RANGE_SECTORS_MAX (UINT32_C(1) << 21) /* of each: 1 GiB */
#define SW_BLK_HANG_NEVER  UINT32_MAX
#define SW_BLK_BYTES_MAX   (UINT64_C(1) << 60)

extern int sw_blk_logtype;
#define SW_BLK_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, sw_blk_logtype, "sw_blk: " fmt "\n", ##__VA_ARGS__)

/* Counters of a queue. */
#define SW_BLK_STATS(X)                                                             \
	X(READS, "reads")                                                           \
	X(WRITES, "writes")                                                         \
	X(FLUSHES, "flushes")                                                       \
	X(DISCARDS, "discards")                                                     \
	X(WRITE_ZEROES, "write_zeroes")                                             \
	X(GET_IDS, "get_ids")                                                       \
	X(READ_BYTES, "read_bytes")                                                 \
	X(WRITE_BYTES, "write_bytes")                                               \
	X(INTERRUPTS, "interrupts")                                                 \
	X(IO_ERRORS, "io_errors")       /* answered with IOERR: refused or failed */ \
	X(UNSUPPORTED, "unsupported")   /* answered with UNSUPP */                  \
	X(NO_STATUS, "no_status")       /* no byte to answer in */                  \
	X(SUBMITS, "submits")           /* system calls that handed requests over */ \
	X(BOUNCED, "bounced")           /* parts copied for their alignment */      \
	X(JOINED, "joined")             /* writes done with the one before */

enum sw_blk_stat {
#define SW_BLK_STAT_ENUM(name, text) SW_BLK_##name,
	SW_BLK_STATS(SW_BLK_STAT_ENUM)
#undef SW_BLK_STAT_ENUM
	SW_BLK_NR_STATS
};

enum sw_blk_backend_id {
	SW_BLK_NULL,
	SW_BLK_MALLOC,
	SW_BLK_FILE
};

/* What the keys of a device say. */
struct sw_blk_args {
	enum sw_blk_backend_id backend;
	char path[256]; /* file */
	uint64_t size_bytes; /* 0: as large as the file */
	bool readonly, direct, sqpoll;
	bool write_cache; /* to begin with */
	uint16_t nr_vqs;
	uint32_t blk_size_bytes, physical_bytes; /* powers of two */
	uint32_t seg_max, size_max_bytes;        /* size_max 0: not offered */
	char serial[SW_BLK_ID_BYTES + 1];
	uint32_t hang_after; /* requests of a queue; SW_BLK_HANG_NEVER */
	uint64_t features; /* offered */
	struct vdpa_emulated_args common;
};

/* A range of a discard or write-zeroes request, in bytes; checked. */
struct sw_blk_range {
	uint64_t offset, len;
	bool unmap;
};

/* A request, checked. Its memory is the consumer's until it is given back. */
struct sw_blk_request {
	struct vring_chain chain; /* its segments, and what gives it back */
	uint32_t type;            /* VIRTIO_BLK_T_* */
	uint8_t status;           /* VIRTIO_BLK_S_*, once it is complete */
	uint8_t *status_va;       /* NULL: there is no such byte */
	struct vring_cursor data; /* its data, from here on len_bytes */
	uint64_t offset_bytes;       /* on the disk */
	uint32_t len_bytes;          /* of data, without header and status */
	uint16_t nr_ranges;
	struct sw_blk_range ranges[SW_BLK_RANGES_MAX];
};

struct sw_blk_dev;
struct sw_blk_uring; /* sw_blk_file.h */

/* A virtqueue. */
struct sw_blk_vq {
	struct vdpa_path path; /* first */
	struct vring_dev ring; /* worker */
	uint64_t stats[SW_BLK_NR_STATS]; /* written by the worker, relaxed; read by anybody */
	struct sw_blk_dev *dev;
	uint16_t index;
	bool running; /* op thread: with a worker */
	/* set before it runs, then the worker's */
	bool armed, failed;
	bool paused; /* nothing is taken */
	int memory_rc;
	uint16_t unsignalled_bursts;
	uint32_t nr_taken; /* for hang_after, up to that */
	struct vring_inflight notes; /* of what is with the backend */
	uint16_t *again, nr_again, again_at; /* what a former device took: done first */
	struct vdpa_delay delay;
	/* backend file */
	struct sw_blk_uring *uring;
	atomic_uint nr_busy; /* requests with the kernel; written by the worker */
};

/* How a device keeps its data. */
struct sw_blk_backend {
	/* Fill dev->size_bytes and what else is needed. 0; errors with vdpa_error_text(). */
	int (*open)(struct sw_blk_dev *dev);
	void (*close)(struct sw_blk_dev *dev); /* of a half open one, too */
	/* The same for a queue that begins to run; NULL: nothing to do. */
	int (*vq_open)(struct sw_blk_vq *vq);
	void (*vq_close)(struct sw_blk_vq *vq);
	/* Management thread: size_bytes is checked. */
	int (*resize)(struct sw_blk_dev *dev, uint64_t size_bytes);
	/*
	 * Worker: do a request. true: it is complete, its status set. false: the backend has copied
	 * it and completes it later. At most SW_BLK_SLOTS requests are with it at a time.
	 */
	bool (*submit)(struct sw_blk_vq *vq, struct sw_blk_request *request);
	/* Worker: hand over what was submitted, give back what is complete. @return how many */
	unsigned int (*poll)(struct sw_blk_vq *vq);
	/* Worker: wake the path at the next completion. true: keep polling. */
	bool (*arm)(struct sw_blk_vq *vq);
	bool in_order; /* completes in place */
};

struct sw_blk_dev {
	struct vdpa_device vdpa; /* first */
	char name[VDPA_NAME_MAX];
	struct sw_blk_args args;
	const struct sw_blk_backend *backend;
	_Atomic(uint64_t) size_bytes;     /* of the disk */
	_Atomic(uint8_t *) memory;        /* malloc: at least as large */
	int memory_fd, file_fd;           /* -1: none */
	uint64_t mapped_bytes;            /* malloc */
	uint32_t align_bytes;             /* file: of buffers, with direct */
	atomic_bool fenced, logging;
	atomic_bool write_cache; /* now */
	pthread_mutex_t lock;    /* whoever has workers do something: ops, and a new size */
	/* op thread */
	uint64_t features; /* agreed at the last start */
	const struct vring_mem *mem;
	struct sw_blk_vq *vqs; /* args.nr_vqs */
};

static inline struct sw_blk_dev *
sw_blk_of(struct vdpa_device *vdpa)
{
	return (struct sw_blk_dev *)vdpa;
}

static inline void
sw_blk_count(struct sw_blk_vq *vq, enum sw_blk_stat stat, uint64_t nr)
{
	__atomic_store_n(&vq->stats[stat], vq->stats[stat] + nr, __ATOMIC_RELAXED);
}

static inline bool
sw_blk_fenced(const struct sw_blk_vq *vq)
{
	return atomic_load_explicit(&vq->dev->fenced, memory_order_relaxed);
}

/* ---- sw_blk_args.c ---- */
extern const char sw_blk_keys[]; /* for people */
/* features that a device can have, keys or not */
uint64_t sw_blk_features(void);
/* 0; -EINVAL with vdpa_error_text(). */
int sw_blk_args_parse(const char *name, const char *text, struct sw_blk_args *args);
/* "64M": bytes, a whole number of sectors. 0; -EINVAL with vdpa_error_text(). */
int sw_blk_arg_size(const char *key, const char *value, uint64_t *out);

/* ---- sw_blk_config.c, sw_blk_vdpa.c ---- */
#define SW_BLK_CONFIG_BYTES 60 /* as far as virtio 1.1 has it: to the end of write-zeroes */
int
sw_blk_config_read(struct vdpa_device *vdpa, uint32_t offset, void *data, uint32_t len_bytes);
int
sw_blk_config_write(struct vdpa_device *vdpa, uint32_t offset, const void *data, uint32_t len);
extern const struct vdpa_device_ops sw_blk_ops;
/* End whatever runs without touching a ring again. 0; -ETIMEDOUT: keep the memory. */
int sw_blk_end(struct sw_blk_dev *dev);

/* ---- sw_blk_vq.c; the device's lock is held ---- */
/* Make a queue and give it to a worker. 0 or negative errno, then it does not run. */
int sw_blk_vq_begin(struct sw_blk_dev *dev, const struct vdpa_vq_config *config);
/*
 * End queues first to last, which take nothing more and wait for their backend in parallel. 0;
 * -ETIMEDOUT: some may still use memory and stay.
 */
int sw_blk_vqs_end(struct sw_blk_dev *dev, uint16_t first, uint16_t last, uint32_t timeout_ms);
/* Use dev->mem from now on. 0; -EFAULT, -ETIMEDOUT. */
int sw_blk_vqs_take_memory(struct sw_blk_dev *dev);
/* Run fn(vq) for each queue that runs, on its worker; NULL: between two bursts. 0, -ETIMEDOUT. */
int sw_blk_vqs_run(struct sw_blk_dev *dev, void (*fn)(void *vq));
void sw_blk_vq_state(const struct sw_blk_vq *vq, struct vdpa_vq_state *state);
/* For sw_blk_vqs_run(): touch the ring no more. */
void sw_blk_vq_kill(void *vq);

/* ---- sw_blk_path.c; on the worker ---- */
unsigned int sw_blk_poll(struct vdpa_path *path);
bool sw_blk_arm(struct vdpa_path *path);
/* Signal what bursts left to signal. */
void sw_blk_settle(struct sw_blk_vq *vq);
/* Complete a request that was not complete at once. */
void sw_blk_complete(struct sw_blk_vq *vq, struct sw_blk_request *request);

/* ---- sw_blk_request.c; on the worker ---- */
/*
 * Take a buffer apart. true: to be given to the backend. false: it is complete, its status set (as
 * it was refused, or done here).
 */
bool sw_blk_request_take(
	struct sw_blk_vq *vq, const struct vring_chain *chain, struct sw_blk_request *request);

extern const struct sw_blk_backend sw_blk_null, sw_blk_malloc, sw_blk_file;

#endif /* SW_BLK_H */
