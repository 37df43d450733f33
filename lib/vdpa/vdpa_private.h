/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_PRIVATE_H
#define VDPA_PRIVATE_H

/**
 * @file
 * Objects of the class and what its files promise one another.
 *
 *   vdpa_device.c     registry, checks at registration, status, bus drivers
 *   vdpa_session.c    bindings and sessions: what is wanted
 *   vdpa_reconcile.c  the pass that makes it so (op pool threads)
 *   vdpa_ops.c        op pool, deadlines, fencing
 *   vdpa_domain.c     memory          vdpa_sigbus.c   memory that its owner took away
 *   vdpa_worker.c     datapath workers and paths
 *   vdpa_type.c       what a virtio device type means (net, block); feature names
 *   vdpa_cvq.c        net control virtqueue served by the class
 *   vdpa_args.c       key=value parsing, error text
 *
 * Lock order: registry, binding, op pool. None is held during an op, a callback of a bus driver, or on the datapath.
 */

#include <pthread.h>
#include <stdatomic.h>

#include <rte_log.h>

#include "vdpa_consumer.h"
#include "vdpa_domain.h"

extern int vdpa_logtype;
#define VDPA_LOG(level, fmt, ...) rte_log(RTE_LOG_##level, vdpa_logtype, "vdpa: " fmt "\n", ##__VA_ARGS__)

/* ---- device types (vdpa_type.c) ---- */
struct vdpa_type {
	uint16_t virtio_id;
	const char *name;
	bool index_in_memory;		/* used->idx in memory tells where a split queue starts and stopped */
	bool drains;			/* what was taken from a queue must be completed before it stops */
	/* Queues of a device that the class serves a control queue for included; nr_data: queues of the device itself. */
	uint16_t (*nr_pairs)(uint16_t nr_data);
	/* Index of the control queue under these agreed features, or -1. */
	int (*ctrl_vq)(uint64_t features, uint16_t nr_pairs);
	/* Features which make no sense without another, dropped when the other is missing (virtio 1.2, 5.1.3.1). */
	uint64_t (*features_consistent)(uint64_t features);
};
const struct vdpa_type *vdpa_type_find(uint16_t virtio_id);

/* ---- net control virtqueue (vdpa_cvq.c) ---- */
struct vdpa_cvq;			/* settings made by the driver, and the ring while it runs */
struct vdpa_cvq_effects {		/* how commands take effect: called on the op thread, 0 or negative errno */
	int (*set_pairs)(void *arg, uint16_t nr_pairs);
	int (*command)(void *arg, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes);
	void (*announce_ack)(void *arg);
	void *arg;
};
/* nr_pairs: at most; features: what was agreed with the consumer. */
struct vdpa_cvq *vdpa_cvq_create(const struct vdpa_cvq_effects *effects, uint16_t nr_pairs);
void vdpa_cvq_free(struct vdpa_cvq *cvq);
void vdpa_cvq_reset(struct vdpa_cvq *cvq, uint64_t features);	/* a driver's reset: defaults, 1 pair active */
int vdpa_cvq_start(struct vdpa_cvq *cvq, const struct vdpa_vq_config *vq, struct vdpa_domain *domain);
void vdpa_cvq_stop(struct vdpa_cvq *cvq, struct vdpa_vq_state *state);
int vdpa_cvq_update_memory(struct vdpa_cvq *cvq, struct vdpa_domain *domain);
/* Serve all that is available; answers each command; signals by vq.call_fd. 0, or -EBADMSG: the ring is broken. */
int vdpa_cvq_serve(struct vdpa_cvq *cvq);
int vdpa_cvq_restore(struct vdpa_cvq *cvq);			/* play the settings to a device that was started anew */
uint16_t vdpa_cvq_active_pairs(const struct vdpa_cvq *cvq);

/* ---- datapath workers (vdpa_worker.c); paths: vdpa_parent.h ---- */
/*
 * Stop and join all workers, with or without paths; a worker that hangs is left alone after a
 * second. Runs by itself when the library is unloaded; a worker also stops with its last path.
 */
void vdpa_workers_stop(void);
struct vdpa_worker_counters {
	uint64_t loops, busy_loops;	/* rounds over the active paths, and those that found work */
	uint32_t nr_paths;
};
int vdpa_worker_counters(unsigned int index, struct vdpa_worker_counters *counters); /* -ENOENT */

/* ---- op pool (vdpa_ops.c) ---- */
/* Work of one binding: queued at most once, never on two threads. */
struct vdpa_work {
	void (*fn)(struct vdpa_work *);
	struct vdpa_work *next;
	bool queued, running, again;
};
int vdpa_work_queue(struct vdpa_work *work);
/* Wait until it is neither queued nor running; -ETIMEDOUT. Not from its own fn. */
int vdpa_work_wait(struct vdpa_work *work, uint32_t timeout_ms);
/*
 * Brackets of every op of a device. After the deadline the device is failed and fenced by vdpa_device_fence() on the
 * control thread; vdpa_op_end then returns -ETIMEDOUT and the caller touches the device no more.
 */
struct vdpa_op {
	struct vdpa_device *dev;
	const char *name;
	uint64_t deadline_ns;
	struct vdpa_op *next, **pprev;
	bool expired;
};
void vdpa_op_begin(struct vdpa_op *op, struct vdpa_device *dev, const char *name, uint32_t deadline_ms);
int vdpa_op_end(struct vdpa_op *op);
/* Watch a kick descriptor (edge-triggered, never read): fn runs on the control thread and must only queue. */
int vdpa_watch_add(int fd, void (*fn)(void *arg), void *arg);
void vdpa_watch_del(int fd);		/* fn does not run after it returns */

#endif /* VDPA_PRIVATE_H */
