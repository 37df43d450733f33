/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_PASS_H
#define VDPA_PASS_H

/**
 * @file
 * What the files of the pass (vdpa_reconcile.c) share. All of it runs on the op thread of the
 * binding, lock not held.
 */

#include <linux/virtio_config.h>

#include "vdpa_private.h"

#define PACKED_FRESH 0x8000 /* offset 0, wrap counter 1 */
#define CVQ_MS       1000u
#define RESET_MS     10000u
#define OP_MS        2000u

/* What the pass works on. */
struct vdpa_plan {
	struct vdpa_session *session; /* NULL: nobody is attached */
	bool driver_ok;
	uint64_t features;
	struct vdpa_domain *domain;
	uint16_t nr_vqs; /* that were copied */
	uint32_t seq;
	int ctrl_vq; /* index of the queue that the class serves, -1: none */
	bool log;
	struct vdpa_inflight *inflight; /* NULL: the consumer gave none */
	struct vdpa_log *log_view; /* NULL: the consumer gave none yet */
	enum vdpa_relay_policy relay;
	enum vdpa_mode mode;
	const char *mode_why;
	char why_not[128]; /* it cannot be run so */
	struct vdpa_domain
		*device_domain; /* domain, with the shadow rings if there are any; borrowed */
};

/* Run one op within its deadline. After -ETIMEDOUT the device hangs and is not touched any more. */
#define VDPA_OP(priv, name, default_ms, call)                              \
	__extension__({                                                    \
		struct vdpa_op op_;                                        \
		vdpa_op_begin(&op_, (priv)->dev, name,                     \
			RTE_MAX(default_ms, (priv)->info.op_deadline_ms)); \
		vdpa_pass_op_result(priv, &op_, (call));                   \
	})

/* Queues of the device that may run: it may have more than the consumer was promised. */
static inline uint16_t
vdpa_pass_nr_device_vqs(const struct vdpa_device_priv *priv)
{
	return RTE_MIN(priv->info.nr_vqs_max, priv->contract.nr_vqs);
}

static inline bool
vdpa_pass_packed(uint64_t features)
{
	return (features & BIT(VIRTIO_F_RING_PACKED)) != 0;
}

/* ---- vdpa_pass_log.c ---- */
/* How the device is to run; while it stops and starts it may turn out differently. */
void vdpa_pass_choose_mode(struct vdpa_binding *binding, struct vdpa_plan *plan);
/* Nothing runs: is a device that takes no start index asked for one? */
void vdpa_pass_choose_start_mode(struct vdpa_binding *binding, struct vdpa_plan *plan);
/*
 * Make what is logged as wanted: before a start, or while it runs. 0, or a negative errno of the
 * device.
 */
int vdpa_pass_log_adjust(struct vdpa_binding *binding, const struct vdpa_plan *plan);
/* All has stopped: the promise of the log is kept for what ran. */
void vdpa_pass_log_stopped(struct vdpa_binding *binding, const struct vdpa_plan *plan);
/*
 * The whole table, if there was a gap: last in a pass, so that the datapath does not wait for it.
 * What was written before the pass is marked by it, what is written since by who writes it.
 */
void vdpa_pass_log_mark(struct vdpa_binding *binding, const struct vdpa_plan *plan);
void vdpa_pass_log_sync(struct vdpa_binding *binding);
void vdpa_pass_log_off(struct vdpa_binding *binding);
/* What was written is not known: when logging engages next, the whole table is marked. */
void vdpa_pass_log_gap(struct vdpa_binding *binding);
/* The device may have to be relayed for this consumer: shadow rings are mapped beforehand. */
bool vdpa_pass_may_relay(const struct vdpa_device_priv *priv, const struct vdpa_plan *plan);
/* The used index in memory is where a queue stopped: buffers are used in order, on a split ring. */
bool vdpa_pass_index_is_position(const struct vdpa_device_priv *priv, uint64_t features);
/* Where a queue stopped is told by the device, or stands in memory; else nobody knows. */
bool vdpa_pass_position_is_known(const struct vdpa_device_priv *priv, uint64_t features);
uint16_t vdpa_pass_largest_vq(const struct vdpa_binding *binding);
/*
 * The domain of the device: the consumer's, with shadow rings once they are needed. 0, or a
 * negative errno.
 */
int vdpa_pass_choose_domain(struct vdpa_binding *binding, struct vdpa_plan *plan);
/* Unless there is one. 0, -ENOMEM. */
int vdpa_pass_relay_make(struct vdpa_binding *binding, uint64_t features, uint16_t vq_size);
void vdpa_pass_relay_drop(struct vdpa_binding *binding);

/* ---- vdpa_pass_memory.c ---- */
void vdpa_pass_take_domain(struct vdpa_binding *binding, struct vdpa_domain *domain);
/*
 * Notes that the device writes: from its start until it has stopped or was reset. One that hangs
 * may still write them.
 */
void vdpa_pass_take_inflight(struct vdpa_binding *binding, struct vdpa_inflight *inflight);
/* To the state after registration; what the device had mapped is gone, unless it keeps that. */
int vdpa_pass_device_reset(struct vdpa_binding *binding);
/*
 * Make the device reach another memory. A HOST_VA device is told by start, or by update_memory
 * while it runs.
 */
int vdpa_pass_set_domain(struct vdpa_binding *binding, struct vdpa_domain *domain);
/* Where a split ring stands whose buffers are used in order. */
int vdpa_pass_used_index(
	const struct vdpa_domain *domain, uint64_t device_iova, struct vdpa_vq_state *state);

/* ---- vdpa_pass_config.c ---- */
/*
 * Do the writes that wait; read anew what the device changed, and tell the consumer. -ETIMEDOUT: it
 * hangs; other errors were reported.
 */
int vdpa_pass_config(struct vdpa_binding *binding);

/* ---- vdpa_pass_vq.c ---- */
bool vdpa_pass_is_class_vq(const struct vdpa_binding *binding, uint64_t features, uint16_t index);
/* Remember where a queue stopped; state NULL: the device did not say. */
void vdpa_pass_keep_state(
	struct vdpa_binding *binding, uint16_t index, const struct vdpa_vq_state *state);
void vdpa_pass_cvq_kicked(void *arg);
void vdpa_pass_cvq_stop(struct vdpa_binding *binding, uint16_t index);
/* The device runs these now: relay them, or hear their doorbells. -ETIMEDOUT: a worker hangs. */
int vdpa_pass_vqs_run(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	const struct vdpa_vq_config *vqs, uint16_t nr);
/*
 * The device has stopped it, here (NULL: it did not say): what the relay holds is handed back, the
 * position kept.
 */
int
vdpa_pass_vq_ends(struct vdpa_binding *binding, uint16_t index, const struct vdpa_vq_state *state);
/* Interrupt the consumer. */
void vdpa_pass_signal(struct vdpa_binding *binding, uint16_t index);
void vdpa_pass_doorbell_unwatch(struct vdpa_binding *binding, uint16_t index);
void vdpa_pass_vq_note_running(
	struct vdpa_binding *binding, uint16_t index, const struct vdpa_session_vq *plan);
int vdpa_pass_start_state(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, struct vdpa_vq_state *state);
int vdpa_pass_make_config(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, struct vdpa_vq_config *config);
/* A queue that cannot run is left out; the others go on. */
void vdpa_pass_vq_fail(struct vdpa_binding *binding, struct vdpa_session_vq *vq, uint32_t base_seq,
	uint16_t index, int error, const char *why);
int vdpa_pass_vq_stop(struct vdpa_binding *binding, uint16_t index);
void vdpa_pass_plan_vq_fail(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, int error, const char *why);
int vdpa_pass_vq_start(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t index);
/* Does a running queue differ in more than its call descriptor? */
bool vdpa_pass_vq_differs(const struct vdpa_session_vq *runs, const struct vdpa_session_vq *wanted);
int vdpa_pass_adjust_queues(struct vdpa_binding *binding, const struct vdpa_plan *plan);

/* ---- vdpa_pass_device.c ---- */
bool vdpa_pass_is_hung(struct vdpa_device_priv *priv);
/*
 * A parent that says -ETIMEDOUT itself has no more power over its device than one that does not
 * return.
 */
int vdpa_pass_op_result(struct vdpa_device_priv *priv, struct vdpa_op *op, int rc);
void vdpa_pass_set_health(struct vdpa_device_priv *priv, enum vdpa_health health);
void vdpa_pass_needs_reset(struct vdpa_binding *binding, int error);
/* Stop all; afterwards nothing runs, or the device hangs. */
int vdpa_pass_device_stop(struct vdpa_binding *binding);
/* Nothing is tried again until the driver resets the device, that is, sets a position. */
void vdpa_pass_mark_failed(struct vdpa_binding *binding, struct vdpa_session *session, int error);
void vdpa_pass_start_failed(
	struct vdpa_binding *binding, const struct vdpa_plan *plan, const char *what, int error);
/*
 * The op that hung has returned after all: the device stays failed, but lets go of its consumer and
 * can be removed.
 */
void vdpa_pass_let_go(struct vdpa_binding *binding);
/* The queues of a device that hangs are ended without it. -ETIMEDOUT: a worker hangs, too. */
int vdpa_pass_abandon(struct vdpa_binding *binding);

/* ---- vdpa_pass_start.c ---- */
void vdpa_pass_device_start(struct vdpa_binding *binding, const struct vdpa_plan *plan);
bool vdpa_pass_needs_restart(const struct vdpa_binding *binding, const struct vdpa_plan *plan);
/* What runs goes on, and differently. */
void vdpa_pass_adjust(struct vdpa_binding *binding, const struct vdpa_plan *plan);

/* ---- vdpa_pass_swap.c ---- */
/*
 * Another binding is about to move to this one's device: this pass does what takes long for it.
 */
void vdpa_pass_swap_prepare(struct vdpa_binding *other, struct vdpa_binding *binding);
/*
 * A swap is ready: stop the former device, exchange. true: what is wanted has to be looked at
 * again, for the other device.
 */
bool vdpa_pass_swap(struct vdpa_binding *binding, const struct vdpa_plan *plan);
/* The start after it: true: it did not work, and the former device is to be started. */
bool vdpa_pass_swap_started(struct vdpa_binding *binding);
/* A start that fails now is not the end: the former device serves again. */
bool vdpa_pass_is_trial(struct vdpa_binding *binding);
void vdpa_pass_trial_failed(struct vdpa_binding *binding, const char *what, int error);
/*
 * The device hangs: another one takes over, if there is one. 0: it has, look at what is wanted;
 * -EINPROGRESS: it is prepared; -ENOENT: there is none.
 */
int vdpa_pass_swap_forced(struct vdpa_binding *binding);

/* ---- vdpa_announce.c ---- */
/* What a session asked for, once its device runs. */
void vdpa_pass_announce(struct vdpa_binding *binding);
/* All runs. fresh: from the start of every ring. */
void
vdpa_pass_arrived(struct vdpa_binding *binding, const struct vdpa_plan *plan, bool fresh);

/* ---- vdpa_reconcile.c ---- */
static inline uint64_t
vdpa_pass_now_us(void)
{
	return vdpa_now_ns() / 1000;
}
void vdpa_pass_take_plan(struct vdpa_binding *binding, struct vdpa_plan *plan);
/* vqs: binding->plan, or what it was when the plan was taken */
void vdpa_pass_drop_plan(struct vdpa_session_vq *vqs, struct vdpa_plan *plan);
/* One that was closed while this pass started it is stopped by the next. */
void vdpa_pass_free_closed(struct vdpa_binding *binding);

#endif /* VDPA_PASS_H */
