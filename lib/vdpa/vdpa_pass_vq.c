/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"

bool
vdpa_pass_is_class_vq(const struct vdpa_binding *binding, uint64_t features, uint16_t index)
{
	const struct vdpa_device_priv *priv = binding->priv;

	return priv->class_cvq && priv->type->ctrl_vq(features, priv->contract.nr_pairs) == index;
}

/* Remember where a queue stopped; state NULL: the device did not say. */
void
vdpa_pass_keep_state(
	struct vdpa_binding *binding, uint16_t index, const struct vdpa_vq_state *state)
{
	const struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session_vq *kept = &binding->run.session->vqs[index];
	struct vdpa_vq_state read = {0, 0};
	bool valid = true;

	if (state == NULL) {
		valid = vdpa_pass_index_is_position(priv, binding->run.features) &&
			vdpa_pass_used_index(binding->run.domain,
				binding->run.vqs[index].device_iova, &read) == 0;
		state = &read;
	}
	binding->position_lost |= !valid;
	pthread_mutex_lock(&binding->priv->lock);
	kept->state = *state;
	kept->state_valid = valid;
	pthread_mutex_unlock(&binding->priv->lock);
}

void
vdpa_pass_cvq_kicked(void *arg)
{
	struct vdpa_binding *binding = arg;

	atomic_store(&binding->cvq_kicked, true);
	vdpa_work_queue(&binding->work);
}

void
vdpa_pass_cvq_stop(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_session_vq *vq = &binding->run.vqs[index];
	struct vdpa_vq_state state;

	if (vq->kick != NULL)
		vdpa_watch_del(vq->kick->fd);
	vdpa_cvq_stop(binding->cvq, &state);
	vdpa_pass_keep_state(binding, index, &state);
}

static int
cvq_start(struct vdpa_binding *binding, const struct vdpa_vq_config *config,
	struct vdpa_domain *domain)
{
	struct vdpa_call *call = &binding->priv->calls[config->index];
	int rc = vdpa_cvq_start(binding->cvq, config, call, domain);

	if (rc == 0 && config->kick_fd >= 0)
		rc = vdpa_watch_add(config->kick_fd, vdpa_pass_cvq_kicked, binding);
	/* it may have commands waiting */
	if (rc == 0)
		vdpa_pass_cvq_kicked(binding);
	return rc;
}

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
	return binding->priv->dev->ops->kick != NULL &&
		!vdpa_pass_is_class_vq(binding, features, index);
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
		VDPA_LOG(ERR, "%s: kicks of virtqueue %u are not heard: %s", binding->name, index,
			strerror(-rc));
	/* a kick before the watch is not seen */
	doorbell_rung(&binding->doorbells[index]);
}

void
vdpa_pass_doorbell_unwatch(struct vdpa_binding *binding, uint16_t index)
{
	const struct vdpa_session_vq *vq = &binding->run.vqs[index];

	if (binding->run.mode != VDPA_MODE_RELAYED && vq->kick != NULL &&
		has_doorbell(binding, binding->run.features, index))
		vdpa_watch_del(vq->kick->fd);
}

int
vdpa_pass_vqs_run(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	const struct vdpa_vq_config *vqs, uint16_t nr)
{
	bool relayed = binding->run.mode == VDPA_MODE_RELAYED;
	int rc = relayed ? vdpa_relay_run(binding->relay, vqs, nr) : 0;

	if (rc == -ETIMEDOUT) {
		vdpa_device_fence(binding->priv->dev, "relay");
		return rc;
	}
	for (uint16_t i = 0; i < nr; i++) {
		if (!relayed)
			doorbell_watch(binding, vqs[i].index);
		else if (rc != 0)
			vdpa_pass_plan_vq_fail(
				binding, plan, vqs[i].index, rc, "the relay does not start");
	}
	return 0;
}

int
vdpa_pass_vq_ends(struct vdpa_binding *binding, uint16_t index, const struct vdpa_vq_state *state)
{
	struct vdpa_vq_state guest;

	if (binding->run.mode == VDPA_MODE_RELAYED) {
		if (vdpa_relay_vq_end(binding->relay, index, &guest) != 0) {
			vdpa_device_fence(binding->priv->dev, "relay");
			return -ETIMEDOUT;
		}
		state = &guest;
	}
	vdpa_pass_keep_state(binding, index, state);
	return 0;
}

void
vdpa_pass_signal(struct vdpa_binding *binding, uint16_t index)
{
	if (binding->run.mode == VDPA_MODE_RELAYED &&
		!vdpa_pass_is_class_vq(binding, binding->run.features, index))
		vdpa_relay_vq_signal(binding->relay, index);
	else
		vdpa_call_write(&binding->priv->calls[index]);
}

void
vdpa_pass_vq_note_running(
	struct vdpa_binding *binding, uint16_t index, const struct vdpa_session_vq *plan)
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

/*
 * User Mode Linux agrees to packed rings and sets position 0 as for a split one: offset 0 in a
 * second round. There the first descriptor has been used, and keeps its flag USED while the second
 * round goes on (virtio 1.2, 2.8.1). Where it is clear, the ring is in its first round.
 */
static bool
first_round(const struct vdpa_domain *domain, const struct vdpa_session_vq *vq)
{
	uint16_t flags;

	if (vq->base.avail != 0 ||
		vdpa_domain_read(domain, vq->desc_iova + offsetof(struct vring_packed_desc, flags),
			&flags, sizeof(flags)) != 0)
		return false;
	return (rte_le_to_cpu_16(flags) & 1 << VRING_PACKED_DESC_F_USED) == 0;
}

/* Where a queue starts: where the consumer put it, or where the class left it. */
int
vdpa_pass_start_state(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t index,
	struct vdpa_vq_state *state)
{
	const struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_session_vq *vq = &binding->plan[index];
	uint16_t fresh = vdpa_pass_packed(plan->features) ? PACKED_FRESH : 0;

	if (vq->base_seq == vq->base_applied && vq->state_valid) {
		*state = vq->state;
	} else if (vq->base_seq == 0) {
		*state = (struct vdpa_vq_state){fresh, fresh};
	} else if (priv->type->index_in_memory && !vdpa_pass_packed(plan->features) &&
		!vdpa_pass_is_class_vq(binding, plan->features, index) &&
		(vq->base_seq != vq->base_applied ||
			vdpa_pass_index_is_position(priv, plan->features))) {
		/* the consumer itself may have completed entries since it took the position */
		if (vdpa_pass_used_index(plan->domain, vq->device_iova, state) != 0)
			return vdpa_error_set(
				-EFAULT, "used ring of virtqueue %u is outside the memory", index);
	} else if (vq->base_seq == vq->base_applied) {
		/* it ran from there, and did not say how far it came */
		return vdpa_error_set(-ENODATA, "nobody knows where virtqueue %u stopped", index);
	} else {
		*state = vq->base;
		if (vdpa_pass_packed(plan->features) && first_round(plan->domain, vq))
			*state = (struct vdpa_vq_state){fresh, fresh};
	}
	if ((priv->info.caps & VDPA_CAP_SET_STATE) == 0 && plan->mode != VDPA_MODE_RELAYED &&
		!vdpa_pass_is_class_vq(binding, plan->features, index) &&
		(state->avail != fresh || state->used != fresh))
		return vdpa_error_set(-ENOTSUP,
			"virtqueue %u: the device takes no start index (%u)", index, state->avail);
	return 0;
}

int
vdpa_pass_make_config(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t index,
	struct vdpa_vq_config *config)
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
	rc = vdpa_pass_start_state(binding, plan, index, &config->state);
	config->inflight = vdpa_inflight_region(plan->inflight, index, vq->size, plan->features);
	if (rc == 0 && plan->mode == VDPA_MODE_RELAYED && index != plan->ctrl_vq)
		return vdpa_relay_vq_prepare(binding->relay, config, vq->call);
	if (rc == 0)
		rc = vdpa_call_set(call, vq->call);
	config->call_fd = atomic_load_explicit(&call->fd, memory_order_relaxed);
	return rc;
}

/* A queue that cannot run is left out; the others go on. */
void
vdpa_pass_vq_fail(struct vdpa_binding *binding, struct vdpa_session_vq *vq, uint32_t base_seq,
	uint16_t index, int error, const char *why)
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
	vdpa_pass_needs_reset(binding, error);
}

int
vdpa_pass_vq_stop(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool get_state = (priv->info.caps & VDPA_CAP_GET_STATE) != 0;
	struct vdpa_vq_state state = {0, 0};
	int rc = 0;

	if (vdpa_pass_is_class_vq(binding, binding->run.features, index)) {
		vdpa_pass_cvq_stop(binding, index);
	} else {
		vdpa_pass_doorbell_unwatch(binding, index);
		rc = VDPA_OP(
			priv, "vq_stop", OP_MS, priv->dev->ops->vq_stop(priv->dev, index, &state));
		if (rc == -ETIMEDOUT)
			return rc;
		if (vdpa_pass_vq_ends(binding, index, rc == 0 && get_state ? &state : NULL) ==
			-ETIMEDOUT)
			return -ETIMEDOUT;
	}
	vdpa_pass_vq_note_running(binding, index, NULL);
	return rc;
}

void
vdpa_pass_plan_vq_fail(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t index,
	int error, const char *why)
{
	binding->plan[index].failed = true;
	vdpa_pass_vq_fail(binding, &plan->session->vqs[index], binding->plan[index].base_seq, index,
		error, why);
}

int
vdpa_pass_vq_start(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_vq_config config;
	int rc;

	rc = vdpa_pass_make_config(binding, plan, index, &config);
	if (rc != 0) {
		vdpa_pass_plan_vq_fail(binding, plan, index, rc, vdpa_error_text());
		return 0;
	}
	if (vdpa_pass_is_class_vq(binding, plan->features, index))
		rc = cvq_start(binding, &config, plan->domain);
	else
		rc = VDPA_OP(priv, "vq_start", OP_MS, priv->dev->ops->vq_start(priv->dev, &config));
	if (rc == -ETIMEDOUT)
		return rc;
	if (rc != 0) {
		vdpa_pass_plan_vq_fail(binding, plan, index, rc, strerror(-rc));
		return 0;
	}
	vdpa_pass_vq_note_running(binding, index, &binding->plan[index]);
	return index == plan->ctrl_vq ? 0 : vdpa_pass_vqs_run(binding, plan, &config, 1);
}

/* Does a running queue differ in more than its call descriptor? */
bool
vdpa_pass_vq_differs(const struct vdpa_session_vq *runs, const struct vdpa_session_vq *wanted)
{
	return runs->size != wanted->size || runs->desc_iova != wanted->desc_iova ||
		runs->driver_iova != wanted->driver_iova ||
		runs->device_iova != wanted->device_iova || runs->base_seq != wanted->base_seq ||
		runs->kick_seq != wanted->kick_seq;
}

static int
vq_new_call(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_device_ops *ops = priv->dev->ops;
	struct vdpa_session_vq *runs = &binding->run.vqs[index];
	struct vdpa_session_vq *wanted = &binding->plan[index];
	bool relayed = binding->run.mode == VDPA_MODE_RELAYED &&
		!vdpa_pass_is_class_vq(binding, binding->run.features, index);
	int rc;

	if (relayed)
		rc = vdpa_relay_vq_set_call(binding->relay, index, wanted->call);
	else
		rc = vdpa_call_set(&priv->calls[index], wanted->call);
	if (rc == 0 && !relayed && ops->vq_set_call != NULL &&
		!vdpa_pass_is_class_vq(binding, binding->run.features, index))
		rc = VDPA_OP(priv, "vq_set_call", OP_MS,
			ops->vq_set_call(priv->dev, index, atomic_load(&priv->calls[index].fd)));
	if (rc == -ETIMEDOUT)
		return rc;
	if (rc != 0)
		vdpa_device_event(priv, VDPA_EVENT_VQ_FAILED, "virtqueue %u: call descriptor: %s",
			index, strerror(-rc));
	pthread_mutex_lock(&priv->lock);
	vdpa_fd_put(runs->call);
	runs->call = vdpa_fd_get(wanted->call);
	runs->call_seq = wanted->call_seq;
	pthread_mutex_unlock(&priv->lock);
	/* what fell between the two is signalled again */
	vdpa_pass_signal(binding, index);
	return 0;
}

int
vdpa_pass_adjust_queues(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	uint16_t nr_vqs = binding->priv->contract.nr_vqs;
	int rc = 0;

	for (uint16_t i = 0; i < nr_vqs && rc == 0; i++) {
		struct vdpa_session_vq *runs = &binding->run.vqs[i], *wanted = &binding->plan[i];
		bool run = wanted->ready && !wanted->failed;

		if (runs->ready && (!run || vdpa_pass_vq_differs(runs, wanted))) {
			rc = vdpa_pass_vq_stop(binding, i);
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
			rc = vdpa_pass_vq_start(binding, plan, i);
		else if (runs->ready && runs->call_seq != wanted->call_seq)
			rc = vq_new_call(binding, i);
	}
	return rc;
}
