/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_private.h"

/*
 * One pass makes what runs equal to what is wanted. It is the only code that calls ops of a device, so they never overlap.
 * What is wanted is copied under the lock first; ops run without it.
 */

#define BIT(feature) (UINT64_C(1) << (feature))
#define F_RING_RESET 40
#define PACKED_FRESH 0x8000		/* offset 0, wrap counter 1 */
#define STOP_MS 200u
#define CVQ_MS 1000u
#define RESET_MS 10000u
#define OP_MS 2000u

/* What the pass works on. */
struct plan {
	struct vdpa_session *session;	/* NULL: nobody is attached */
	bool driver_ok;
	uint64_t features;
	struct vdpa_domain *domain;
	uint32_t seq;
	int ctrl_vq;			/* index of the queue that the class serves, -1: none */
};

/* A parent that says -ETIMEDOUT itself has no more power over its device than one that does not return. */
static int
op_result(struct vdpa_device_priv *priv, struct vdpa_op *op, int rc)
{
	if (vdpa_op_end(op) != 0)
		return -ETIMEDOUT;
	if (rc == -ETIMEDOUT)
		vdpa_device_fence(priv->dev, op->name);
	return rc;
}

/* Run one op within its deadline. After -ETIMEDOUT the device hangs and is not touched any more. */
#define OP(priv, name, default_ms, call) \
	__extension__({ \
		struct vdpa_op op_; \
		vdpa_op_begin(&op_, (priv)->dev, name, RTE_MAX(default_ms, (priv)->info.op_deadline_ms)); \
		op_result(priv, &op_, (call)); \
	})

static bool
is_hung(struct vdpa_device_priv *priv)
{
	bool hung;

	pthread_mutex_lock(&priv->lock);
	hung = priv->hung;
	pthread_mutex_unlock(&priv->lock);
	return hung;
}

static void
set_health(struct vdpa_device_priv *priv, enum vdpa_health health)
{
	pthread_mutex_lock(&priv->lock);
	if (!priv->hung)
		priv->health = health;
	pthread_mutex_unlock(&priv->lock);
}

static void
needs_reset(struct vdpa_binding *binding, int error)
{
	if (binding->ops->needs_reset != NULL)
		binding->ops->needs_reset(binding, binding->arg, error);
}

static bool
packed(uint64_t features)
{
	return (features & BIT(VIRTIO_F_RING_PACKED)) != 0;
}

/* ---- memory ---- */

static bool
in_domain(const struct vdpa_domain *whole, const struct vdpa_domain *part, uint32_t index)
{
	uint32_t nr = 0;

	if (whole != NULL)
		vdpa_domain_ranges(whole, &nr);
	for (uint32_t i = 0; i < nr; i++)
		if (vdpa_range_same(part, index, whole, i))
			return true;
	return false;
}

static int
map_differences(struct vdpa_device_priv *priv, const struct vdpa_domain *from, const struct vdpa_domain *to)
{
	const struct vdpa_device_ops *ops = priv->dev->ops;
	const struct vdpa_range *ranges;
	uint32_t nr = 0;
	int rc = 0;

	ranges = from != NULL ? vdpa_domain_ranges(from, &nr) : NULL;
	for (uint32_t i = 0; i < nr && rc == 0; i++)
		if (!in_domain(to, from, i))
			rc = OP(priv, "unmap", OP_MS, ops->unmap(priv->dev, ranges[i].iova, ranges[i].size_bytes));
	nr = 0;
	ranges = to != NULL ? vdpa_domain_ranges(to, &nr) : NULL;
	for (uint32_t i = 0; i < nr && rc == 0; i++) {
		if (in_domain(from, to, i))
			continue;
		rc = OP(priv, "map", OP_MS, ops->map(priv->dev, &ranges[i]));
		/* what was mapped before it must not stay behind the domain's back */
		for (uint32_t k = i; rc != 0 && rc != -ETIMEDOUT && k-- > 0;)
			if (!in_domain(from, to, k))
				OP(priv, "unmap", OP_MS, ops->unmap(priv->dev, ranges[k].iova, ranges[k].size_bytes));
	}
	return rc;
}

static void
take_domain(struct vdpa_binding *binding, struct vdpa_domain *domain)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_domain *former;

	pthread_mutex_lock(&priv->lock);
	former = binding->run.domain;
	binding->run.domain = domain != NULL ? vdpa_domain_get(domain) : NULL;
	priv->domain = binding->run.domain;
	pthread_mutex_unlock(&priv->lock);
	vdpa_domain_put(former);
}

/* To the state after registration; what the device had mapped is gone, unless it keeps that. */
static int
device_reset(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = OP(priv, "reset", RESET_MS, priv->dev->ops->reset(priv->dev));

	if (rc != -ETIMEDOUT && (priv->info.caps & VDPA_CAP_MAP_PERSIST) == 0)
		take_domain(binding, NULL);
	return rc;
}

/* Make the device reach another memory. A HOST_VA device is told by start, or by update_memory while it runs. */
static int
set_domain(struct vdpa_binding *binding, struct vdpa_domain *domain)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_device_ops *ops = priv->dev->ops;
	int rc = 0;

	if (binding->run.domain == domain)
		return 0;
	if (ops->set_map != NULL) {
		uint32_t nr = 0;
		const struct vdpa_range *ranges = domain != NULL ? vdpa_domain_ranges(domain, &nr) : NULL;

		rc = OP(priv, "set_map", OP_MS, ops->set_map(priv->dev, ranges, nr));
	} else if (ops->map != NULL) {
		rc = map_differences(priv, binding->run.domain, domain);
	} else if (binding->run.session != NULL) {
		rc = OP(priv, "update_memory", OP_MS, ops->update_memory(priv->dev, domain));
	}
	if (rc == 0)
		take_domain(binding, domain);
	return rc;
}

/* Where a split ring stands whose buffers are used in order. */
static int
used_index(const struct vdpa_domain *domain, uint64_t device_iova, struct vdpa_vq_state *state)
{
	uint16_t used;
	int rc;

	rc = vdpa_domain_read(domain, device_iova + offsetof(struct vring_used, idx), &used, sizeof(used));
	if (rc == 0) {
		state->used = rte_le_to_cpu_16(used);
		state->avail = state->used;
	}
	return rc;
}

/* ---- the control virtqueue of the class ---- */

static void
cvq_kicked(void *arg)
{
	struct vdpa_binding *binding = arg;

	atomic_store(&binding->cvq_kicked, true);
	vdpa_work_queue(&binding->work);
}

/* Remember where a queue stopped; state NULL: the device did not say. */
static void
keep_state(struct vdpa_binding *binding, uint16_t index, const struct vdpa_vq_state *state)
{
	const struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session_vq *kept = &binding->run.session->vqs[index];
	struct vdpa_vq_state read = { 0, 0 };
	bool valid = true;

	if (state == NULL) {
		valid = priv->type->index_in_memory && !packed(binding->run.features) &&
			used_index(binding->run.domain, binding->run.vqs[index].device_iova, &read) == 0;
		state = &read;
	}
	pthread_mutex_lock(&binding->priv->lock);
	kept->state = *state;
	kept->state_valid = valid;
	pthread_mutex_unlock(&binding->priv->lock);
}

static void
cvq_stop(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_session_vq *vq = &binding->run.vqs[index];
	struct vdpa_vq_state state;

	if (vq->kick != NULL)
		vdpa_watch_del(vq->kick->fd);
	vdpa_cvq_stop(binding->cvq, &state);
	keep_state(binding, index, &state);
}

static int
cvq_start(struct vdpa_binding *binding, const struct vdpa_vq_config *config, struct vdpa_domain *domain)
{
	int rc = vdpa_cvq_start(binding->cvq, config, domain);

	if (rc == 0 && config->kick_fd >= 0)
		rc = vdpa_watch_add(config->kick_fd, cvq_kicked, binding);
	/* it may have commands waiting */
	if (rc == 0)
		cvq_kicked(binding);
	return rc;
}

static bool
is_class_vq(const struct vdpa_binding *binding, uint64_t features, uint16_t index)
{
	const struct vdpa_device_priv *priv = binding->priv;

	return priv->class_cvq && priv->type->ctrl_vq(features, priv->contract.nr_pairs) == index;
}

/* ---- queues ---- */

/* Kicks of a device that does not watch the descriptor itself (not HOST_VA). */
static void
doorbell_rung(void *arg)
{
	const struct vdpa_doorbell *doorbell = arg;

	doorbell->dev->ops->kick(doorbell->dev, doorbell->index);
}

static bool
has_doorbell(const struct vdpa_binding *binding, uint64_t features, uint16_t index)
{
	return binding->priv->dev->ops->kick != NULL && !is_class_vq(binding, features, index);
}

static void
doorbell_watch(struct vdpa_binding *binding, uint16_t index)
{
	const struct vdpa_session_vq *vq = &binding->run.vqs[index];
	int rc = 0;

	if (!vq->ready || !has_doorbell(binding, binding->run.features, index))
		return;
	if (vq->kick != NULL)
		rc = vdpa_watch_add(vq->kick->fd, doorbell_rung, &binding->doorbells[index]);
	if (rc != 0)
		VDPA_LOG(ERR, "%s: kicks of virtqueue %u are not heard: %s", binding->name, index, strerror(-rc));
	/* a kick before the watch is not seen */
	doorbell_rung(&binding->doorbells[index]);
}

static void
doorbell_unwatch(struct vdpa_binding *binding, uint16_t index)
{
	const struct vdpa_session_vq *vq = &binding->run.vqs[index];

	if (vq->kick != NULL && has_doorbell(binding, binding->run.features, index))
		vdpa_watch_del(vq->kick->fd);
}

static void
vq_note_running(struct vdpa_binding *binding, uint16_t index, const struct vdpa_session_vq *plan)
{
	struct vdpa_session_vq *vq = &binding->run.vqs[index];
	struct vdpa_session_vq *kept = &binding->run.session->vqs[index];

	pthread_mutex_lock(&binding->priv->lock);
	binding->run.nr_vqs += plan != NULL ? 1 : -1;
	vdpa_fd_put(vq->kick);
	vdpa_fd_put(vq->call);
	if (plan != NULL) {
		*vq = *plan;
		vdpa_fd_get(vq->kick);
		vdpa_fd_get(vq->call);
		kept->base_applied = plan->base_seq;
		kept->state_valid = false;
	} else {
		memset(vq, 0, sizeof(*vq));
	}
	pthread_mutex_unlock(&binding->priv->lock);
}

/* Where a queue starts: where the consumer put it, or where the class left it. */
static int
start_state(struct vdpa_binding *binding, const struct plan *plan, uint16_t index, struct vdpa_vq_state *state)
{
	const struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_session_vq *vq = &binding->plan[index];
	uint16_t fresh = packed(plan->features) ? PACKED_FRESH : 0;

	if (vq->base_seq == vq->base_applied && vq->state_valid) {
		*state = vq->state;
	} else if (vq->base_seq == 0) {
		*state = (struct vdpa_vq_state){ fresh, fresh };
	} else if (priv->type->index_in_memory && !packed(plan->features) &&
		   !is_class_vq(binding, plan->features, index)) {
		/* the consumer itself may have completed entries since it took the position */
		if (used_index(plan->domain, vq->device_iova, state) != 0)
			return vdpa_error_set(-EFAULT, "used ring of virtqueue %u is outside the memory", index);
	} else {
		*state = vq->base;
	}
	if ((priv->info.caps & VDPA_CAP_SET_STATE) == 0 && !is_class_vq(binding, plan->features, index) &&
	    (state->avail != fresh || state->used != fresh))
		return vdpa_error_set(-ENOTSUP, "virtqueue %u: the device takes no start index (%u)", index,
				      state->avail);
	return 0;
}

static int
make_config(struct vdpa_binding *binding, const struct plan *plan, uint16_t index, struct vdpa_vq_config *config)
{
	const struct vdpa_session_vq *vq = &binding->plan[index];
	struct vdpa_call *call = &binding->priv->calls[index];
	int rc;

	*config = (struct vdpa_vq_config){
		.index = index,
		.size = vq->size,
		.desc_iova = vq->desc_iova,
		.driver_iova = vq->driver_iova,
		.device_iova = vq->device_iova,
		.kick_fd = vq->kick != NULL ? vq->kick->fd : -1,
	};
	rc = start_state(binding, plan, index, &config->state);
	if (rc == 0)
		rc = vdpa_call_set(call, vq->call);
	config->call_fd = atomic_load_explicit(&call->fd, memory_order_relaxed);
	return rc;
}

/* A queue that cannot run is left out; the others go on. */
static void
vq_fail(struct vdpa_binding *binding, struct vdpa_session_vq *vq, uint32_t base_seq, uint16_t index, int error,
	const char *why)
{
	struct vdpa_device_priv *priv = binding->priv;

	pthread_mutex_lock(&priv->lock);
	/* a position that the consumer set meanwhile is a new beginning */
	if (vq->base_seq == base_seq)
		vq->failed = true;
	if (!priv->hung && priv->health == VDPA_HEALTH_OK)
		priv->health = VDPA_HEALTH_DEGRADED;
	pthread_mutex_unlock(&priv->lock);
	vdpa_device_event(priv, VDPA_EVENT_VQ_FAILED, "virtqueue %u stopped: %s", index, why);
	needs_reset(binding, error);
}

static int
vq_stop(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool get_state = (priv->info.caps & VDPA_CAP_GET_STATE) != 0;
	struct vdpa_vq_state state = { 0, 0 };
	int rc = 0;

	if (is_class_vq(binding, binding->run.features, index)) {
		cvq_stop(binding, index);
	} else {
		doorbell_unwatch(binding, index);
		rc = OP(priv, "vq_stop", STOP_MS, priv->dev->ops->vq_stop(priv->dev, index, &state));
		if (rc == -ETIMEDOUT)
			return rc;
		keep_state(binding, index, rc == 0 && get_state ? &state : NULL);
	}
	vq_note_running(binding, index, NULL);
	return rc;
}

static void
plan_vq_fail(struct vdpa_binding *binding, const struct plan *plan, uint16_t index, int error, const char *why)
{
	binding->plan[index].failed = true;
	vq_fail(binding, &plan->session->vqs[index], binding->plan[index].base_seq, index, error, why);
}

static int
vq_start(struct vdpa_binding *binding, const struct plan *plan, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_vq_config config;
	int rc;

	rc = make_config(binding, plan, index, &config);
	if (rc != 0) {
		plan_vq_fail(binding, plan, index, rc, vdpa_error_text());
		return 0;
	}
	if (is_class_vq(binding, plan->features, index))
		rc = cvq_start(binding, &config, plan->domain);
	else
		rc = OP(priv, "vq_start", OP_MS, priv->dev->ops->vq_start(priv->dev, &config));
	if (rc == -ETIMEDOUT)
		return rc;
	if (rc != 0) {
		plan_vq_fail(binding, plan, index, rc, strerror(-rc));
		return 0;
	}
	vq_note_running(binding, index, &binding->plan[index]);
	doorbell_watch(binding, index);
	return 0;
}

static uint16_t
active_pairs(const struct vdpa_binding *binding, const struct plan *plan)
{
	if (plan->ctrl_vq >= 0 && binding->plan[plan->ctrl_vq].ready && !binding->plan[plan->ctrl_vq].failed)
		return vdpa_cvq_active_pairs(binding->cvq);
	return binding->priv->contract.nr_pairs;
}

/* ---- the device as a whole ---- */

/* Stop all; afterwards nothing runs, or the device hangs. */
static int
device_stop(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool get_state = (priv->info.caps & VDPA_CAP_GET_STATE) != 0;
	uint16_t nr_vqs = priv->contract.nr_vqs;
	int rc;

	for (uint16_t i = 0; i < nr_vqs; i++)
		if (binding->run.vqs[i].ready && is_class_vq(binding, binding->run.features, i))
			cvq_stop(binding, i);
		else
			doorbell_unwatch(binding, i);
	rc = OP(priv, "stop", STOP_MS, priv->dev->ops->stop(priv->dev, binding->states, priv->info.nr_vqs_max));
	if (rc == -ETIMEDOUT)
		return rc;
	for (uint16_t i = 0; i < nr_vqs; i++)
		if (binding->run.vqs[i].ready && !is_class_vq(binding, binding->run.features, i))
			keep_state(binding, i, rc == 0 && get_state ? &binding->states[i] : NULL);
	pthread_mutex_lock(&priv->lock);
	for (uint16_t i = 0; i < nr_vqs; i++) {
		struct vdpa_session_vq *vq = &binding->run.vqs[i];

		vdpa_fd_put(vq->kick);
		vdpa_fd_put(vq->call);
		memset(vq, 0, sizeof(*vq));
	}
	binding->run.session = NULL;
	binding->run.nr_vqs = 0;
	pthread_mutex_unlock(&priv->lock);
	if (rc != 0) {
		vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "stop: %s", strerror(-rc));
		rc = device_reset(binding);
		if (rc != 0)
			set_health(priv, VDPA_HEALTH_FAILED);
		if (rc == -ETIMEDOUT)
			return rc;
	}
	vdpa_device_event(priv, VDPA_EVENT_STOPPED, "stopped");
	return 0;
}

/* Index 0 everywhere: the driver began anew, and so do the settings it made by the control virtqueue. */
static bool
all_fresh(const struct vdpa_binding *binding, uint16_t nr, uint64_t features)
{
	uint16_t fresh = packed(features) ? PACKED_FRESH : 0;

	for (uint16_t i = 0; i < nr; i++)
		if (binding->configs[i].state.avail != fresh)
			return false;
	return true;
}

static uint64_t
device_features(const struct vdpa_device_priv *priv, uint64_t agreed)
{
	return agreed | (priv->info.features & (BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(F_RING_RESET)));
}

/* Nothing is tried again until the driver resets the device, that is, sets a position. */
static void
mark_failed(struct vdpa_binding *binding, struct vdpa_session *session, int error)
{
	struct vdpa_device_priv *priv = binding->priv;

	set_health(priv, VDPA_HEALTH_FAILED);
	pthread_mutex_lock(&priv->lock);
	if (session != NULL) {
		session->start_failed = true;
		session->result = error;
		for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
			session->vqs[i].base_failed = session->vqs[i].base_seq;
	}
	pthread_mutex_unlock(&priv->lock);
}

static void
start_failed(struct vdpa_binding *binding, const struct plan *plan, const char *what, int error)
{
	struct vdpa_device_priv *priv = binding->priv;

	vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "%s: %s", what, strerror(-error));
	mark_failed(binding, plan->session, error);
	if (device_reset(binding) != 0)
		VDPA_LOG(ERR, "%s: reset after a failed start failed", priv->dev->name);
	needs_reset(binding, error);
}

static void
device_started(struct vdpa_binding *binding, const struct plan *plan, uint16_t nr)
{
	struct vdpa_device_priv *priv = binding->priv;

	pthread_mutex_lock(&priv->lock);
	binding->run.session = plan->session;
	binding->run.features = plan->features;
	binding->run.nr_active_pairs = active_pairs(binding, plan);
	plan->session->start_failed = false;
	priv->starts++;
	pthread_mutex_unlock(&priv->lock);
	for (uint16_t i = 0; i < nr; i++) {
		uint16_t index = binding->configs[i].index;

		vq_note_running(binding, index, &binding->plan[index]);
		doorbell_watch(binding, index);
	}
}

static void
device_start(struct vdpa_binding *binding, const struct plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_start start = {
		.features = device_features(priv, plan->features),
		.domain = plan->domain,
		.vqs = binding->configs,
	};
	uint16_t nr = 0;
	bool fresh;
	int rc;

	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
		const struct vdpa_session_vq *vq = &binding->plan[i];

		if (!vq->ready || vq->failed || i == plan->ctrl_vq)
			continue;
		rc = make_config(binding, plan, i, &binding->configs[nr]);
		if (rc == 0)
			nr++;
		else
			plan_vq_fail(binding, plan, i, rc, vdpa_error_text());
	}
	if (nr == 0)
		return;
	fresh = all_fresh(binding, nr, plan->features);
	if (binding->cvq != NULL && fresh)
		vdpa_cvq_reset(binding->cvq, plan->features);
	rc = set_domain(binding, plan->domain);
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			start_failed(binding, plan, "mapping memory", rc);
		return;
	}
	start.nr_vqs = nr;
	start.nr_active_pairs = active_pairs(binding, plan);
	rc = OP(priv, "start", OP_MS, priv->dev->ops->start(priv->dev, &start));
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			start_failed(binding, plan, "start", rc);
		return;
	}
	device_started(binding, plan, nr);
	set_health(priv, VDPA_HEALTH_OK);
	if (binding->cvq != NULL && !fresh) {
		rc = OP(priv, "cvq", CVQ_MS, vdpa_cvq_restore(binding->cvq));
		if (rc != 0)
			VDPA_LOG(ERR, "%s: settings of the driver not restored: %s", priv->dev->name, strerror(-rc));
	}
	if (plan->ctrl_vq >= 0 && binding->plan[plan->ctrl_vq].ready && !binding->plan[plan->ctrl_vq].failed)
		vq_start(binding, plan, plan->ctrl_vq);
	vdpa_device_event(priv, VDPA_EVENT_STARTED, "started: %u virtqueues", binding->run.nr_vqs);
	/* the consumer may have been signalled into descriptors that nobody read */
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
		if (binding->run.vqs[i].ready)
			vdpa_call_write(&priv->calls[i]);
}

/* Does a running queue differ in more than its call descriptor? */
static bool
vq_differs(const struct vdpa_session_vq *runs, const struct vdpa_session_vq *wanted)
{
	return runs->size != wanted->size || runs->desc_iova != wanted->desc_iova ||
	       runs->driver_iova != wanted->driver_iova || runs->device_iova != wanted->device_iova ||
	       runs->base_seq != wanted->base_seq || runs->kick_seq != wanted->kick_seq;
}

static int
vq_new_call(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_device_ops *ops = priv->dev->ops;
	struct vdpa_session_vq *runs = &binding->run.vqs[index];
	struct vdpa_session_vq *wanted = &binding->plan[index];
	int rc;

	rc = vdpa_call_set(&priv->calls[index], wanted->call);
	if (rc == 0 && ops->vq_set_call != NULL && !is_class_vq(binding, binding->run.features, index))
		rc = OP(priv, "vq_set_call", OP_MS,
			ops->vq_set_call(priv->dev, index, atomic_load(&priv->calls[index].fd)));
	if (rc == -ETIMEDOUT)
		return rc;
	if (rc != 0)
		vdpa_device_event(priv, VDPA_EVENT_VQ_FAILED, "virtqueue %u: call descriptor: %s", index,
				  strerror(-rc));
	pthread_mutex_lock(&priv->lock);
	vdpa_fd_put(runs->call);
	runs->call = vdpa_fd_get(wanted->call);
	runs->call_seq = wanted->call_seq;
	pthread_mutex_unlock(&priv->lock);
	/* what fell between the two is signalled again */
	vdpa_call_write(&priv->calls[index]);
	return 0;
}

static bool
needs_restart(const struct vdpa_binding *binding, const struct plan *plan)
{
	const struct vdpa_device_priv *priv = binding->priv;

	if (binding->run.session != plan->session || binding->run.features != plan->features)
		return true;
	if (binding->run.domain != plan->domain && (priv->info.caps & VDPA_CAP_HOST_VA) != 0 &&
	    priv->dev->ops->update_memory == NULL)
		return true;
	if ((priv->info.caps & VDPA_CAP_LATE_VQ) != 0)
		return false;
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
		const struct vdpa_session_vq *runs = &binding->run.vqs[i], *wanted = &binding->plan[i];
		bool run = wanted->ready && !wanted->failed;

		if (i != plan->ctrl_vq && (runs->ready != run || (run && vq_differs(runs, wanted))))
			return true;
	}
	return false;
}

static int
adjust_queues(struct vdpa_binding *binding, const struct plan *plan)
{
	uint16_t nr_vqs = binding->priv->contract.nr_vqs;
	int rc = 0;

	for (uint16_t i = 0; i < nr_vqs && rc == 0; i++) {
		struct vdpa_session_vq *runs = &binding->run.vqs[i], *wanted = &binding->plan[i];
		bool run = wanted->ready && !wanted->failed;

		if (runs->ready && (!run || vq_differs(runs, wanted))) {
			rc = vq_stop(binding, i);
			if (rc == -ETIMEDOUT)
				return rc;
			pthread_mutex_lock(&binding->priv->lock);
			wanted->state = plan->session->vqs[i].state;
			wanted->state_valid = plan->session->vqs[i].state_valid;
			wanted->base_applied = plan->session->vqs[i].base_applied;
			pthread_mutex_unlock(&binding->priv->lock);
			rc = 0;
		}
		if (!runs->ready && run)
			rc = vq_start(binding, plan, i);
		else if (runs->ready && runs->call_seq != wanted->call_seq)
			rc = vq_new_call(binding, i);
	}
	return rc;
}

static int
adjust(struct vdpa_binding *binding, const struct plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	uint16_t pairs;
	int rc;

	if (binding->run.domain != plan->domain) {
		rc = set_domain(binding, plan->domain);
		if (rc == 0 && plan->ctrl_vq >= 0 && binding->run.vqs[plan->ctrl_vq].ready)
			rc = vdpa_cvq_update_memory(binding->cvq, plan->domain);
		if (rc == -ETIMEDOUT)
			return rc;
		if (rc != 0) {
			rc = device_stop(binding);
			if (rc == 0)
				start_failed(binding, plan, "changing memory", -EFAULT);
			return rc;
		}
	}
	rc = adjust_queues(binding, plan);
	if (rc != 0)
		return rc;
	pairs = active_pairs(binding, plan);
	if (pairs != binding->run.nr_active_pairs && priv->dev->ops->set_active_queues != NULL) {
		rc = OP(priv, "set_active_queues", OP_MS, priv->dev->ops->set_active_queues(priv->dev, pairs));
		if (rc == 0) {
			pthread_mutex_lock(&priv->lock);
			binding->run.nr_active_pairs = pairs;
			pthread_mutex_unlock(&priv->lock);
		}
	}
	return rc;
}

/* ---- reports of the parent, writes of the consumer ---- */

static void
take_reports(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int error = atomic_exchange(&priv->failed, 0);
	struct vdpa_session *session;

	if (error != 0) {
		const char *why = atomic_load(&priv->failed_why);

		vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "%s", why != NULL ? why : strerror(-error));
		session = binding->run.session;
		if ((session != NULL && device_stop(binding) != 0) || device_reset(binding) == -ETIMEDOUT)
			return;
		mark_failed(binding, session, error);
		needs_reset(binding, error);
	}
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
		error = atomic_exchange(&priv->vq_failed[i], 0);
		session = binding->run.session;
		if (error != 0 && session != NULL && binding->run.vqs[i].ready) {
			const char *why = atomic_load(&priv->vq_failed_why);

			vq_fail(binding, &session->vqs[i], binding->run.vqs[i].base_seq, i, error,
				why != NULL ? why : strerror(-error));
		}
	}
}

static int
write_config(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_config_write *write;
	int rc = 0;

	for (;;) {
		pthread_mutex_lock(&priv->lock);
		write = binding->writes;
		if (write != NULL) {
			binding->writes = write->next;
			if (binding->writes == NULL)
				binding->writes_tail = &binding->writes;
		}
		pthread_mutex_unlock(&priv->lock);
		if (write == NULL)
			return rc;
		rc = OP(priv, "config_write", OP_MS,
			priv->dev->ops->config_write(priv->dev, write->offset, write->data, write->len_bytes));
		free(write);
		if (rc == -ETIMEDOUT)
			return rc;
		if (rc != 0)
			VDPA_LOG(WARNING, "%s: write of configuration space: %s", priv->dev->name, strerror(-rc));
		rc = OP(priv, "config_read", OP_MS, vdpa_device_config_load(priv));
		if (rc != 0)
			return rc;
	}
}

static int
take_config(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (!atomic_exchange(&priv->config_changed, false))
		return 0;
	rc = OP(priv, "config_read", OP_MS, vdpa_device_config_load(priv));
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "config_read: %s", strerror(-rc));
		return rc;
	}
	if (binding->ops->config_changed != NULL)
		binding->ops->config_changed(binding, binding->arg);
	return 0;
}

static void
serve_cvq(struct vdpa_binding *binding, const struct plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (!atomic_exchange(&binding->cvq_kicked, false) || binding->run.session == NULL ||
	    plan->ctrl_vq < 0 || !binding->run.vqs[plan->ctrl_vq].ready)
		return;
	rc = OP(priv, "cvq", CVQ_MS, vdpa_cvq_serve(binding->cvq));
	if (rc == -EBADMSG) {
		vq_fail(binding, &binding->run.session->vqs[plan->ctrl_vq], binding->plan[plan->ctrl_vq].base_seq,
			plan->ctrl_vq, rc, vdpa_error_text());
		vq_stop(binding, plan->ctrl_vq);
	}
}

/* ---- the pass ---- */

static void
take_plan(struct vdpa_binding *binding, struct plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session *session;

	memset(plan, 0, sizeof(*plan));
	plan->ctrl_vq = -1;
	pthread_mutex_lock(&priv->lock);
	session = binding->session;
	plan->session = session;
	if (session != NULL) {
		plan->driver_ok = session->driver_ok;
		plan->features = session->features;
		plan->seq = session->seq;
		plan->domain = session->domain != NULL ? vdpa_domain_get(session->domain) : NULL;
		for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
			binding->plan[i] = session->vqs[i];
			vdpa_fd_get(binding->plan[i].kick);
			vdpa_fd_get(binding->plan[i].call);
			/* a driver's reset ends the time in which a failed start is not tried again */
			if (session->vqs[i].base_seq != session->vqs[i].base_failed)
				session->start_failed = false;
		}
		if (session->start_failed)
			plan->driver_ok = false;
		if (priv->class_cvq)
			plan->ctrl_vq = priv->type->ctrl_vq(plan->features, priv->contract.nr_pairs);
	}
	pthread_mutex_unlock(&priv->lock);
	if (vdpa_stopping() || plan->domain == NULL)
		plan->driver_ok = false;
}

static void
drop_plan(struct vdpa_binding *binding, struct plan *plan)
{
	vdpa_domain_put(plan->domain);
	for (uint16_t i = 0; plan->session != NULL && i < binding->priv->contract.nr_vqs; i++) {
		vdpa_fd_put(binding->plan[i].kick);
		vdpa_fd_put(binding->plan[i].call);
	}
}

/* One that was closed while this pass started it is stopped by the next. */
static void
free_closed(struct vdpa_binding *binding)
{
	struct vdpa_session *session, *next, *kept = NULL;

	pthread_mutex_lock(&binding->priv->lock);
	session = binding->closed;
	binding->closed = NULL;
	pthread_mutex_unlock(&binding->priv->lock);
	for (; session != NULL; session = next) {
		next = session->next_closed;
		if (session == binding->run.session)
			kept = session;
		else
			vdpa_session_free(session);
	}
	if (kept != NULL) {
		pthread_mutex_lock(&binding->priv->lock);
		kept->next_closed = binding->closed;
		binding->closed = kept;
		pthread_mutex_unlock(&binding->priv->lock);
	}
}

static void
apply(struct vdpa_binding *binding, const struct plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;

	if (binding->run.session != NULL && (!plan->driver_ok || needs_restart(binding, plan))) {
		if (device_stop(binding) != 0)
			return;
		/* positions of the stop are where the start begins */
		for (uint16_t i = 0; plan->session != NULL && i < priv->contract.nr_vqs; i++) {
			binding->plan[i].state = plan->session->vqs[i].state;
			binding->plan[i].state_valid = plan->session->vqs[i].state_valid;
			binding->plan[i].base_applied = plan->session->vqs[i].base_applied;
		}
	}
	if (plan->session == NULL && binding->run.domain != NULL && set_domain(binding, NULL) != 0)
		return;
	if (plan->driver_ok && binding->run.session == NULL)
		device_start(binding, plan);
	else if (plan->driver_ok)
		adjust(binding, plan);
}

void
vdpa_reconcile(struct vdpa_work *work)
{
	struct vdpa_binding *binding = (struct vdpa_binding *)((char *)work - offsetof(struct vdpa_binding, work));
	struct vdpa_device_priv *priv = binding->priv;
	struct plan plan;

	if (is_hung(priv))
		return;
	take_reports(binding);
	if (!is_hung(priv) && write_config(binding) != -ETIMEDOUT && take_config(binding) != -ETIMEDOUT) {
		take_plan(binding, &plan);
		apply(binding, &plan);
		if (!is_hung(priv))
			serve_cvq(binding, &plan);
		drop_plan(binding, &plan);
		if (is_hung(priv))
			return;
		/* after a stop: what ran belonged to it */
		free_closed(binding);
		pthread_mutex_lock(&priv->lock);
		if (plan.session != NULL && binding->session == plan.session) {
			plan.session->seq_done = plan.seq;
			if (!plan.session->start_failed)
				plan.session->result = 0;
		}
		pthread_cond_broadcast(&priv->changed);
		pthread_mutex_unlock(&priv->lock);
	}
}
