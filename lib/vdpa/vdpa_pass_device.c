/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"

bool
vdpa_pass_is_hung(struct vdpa_device_priv *priv)
{
	bool hung;

	pthread_mutex_lock(&priv->lock);
	hung = priv->hung;
	pthread_mutex_unlock(&priv->lock);
	return hung;
}

/*
 * A parent that says -ETIMEDOUT itself has no more power over its device than one that does not
 * return.
 */
int
vdpa_pass_op_result(struct vdpa_device_priv *priv, struct vdpa_op *op, int rc)
{
	if (vdpa_op_end(op) != 0)
		return -ETIMEDOUT;
	if (rc == -ETIMEDOUT)
		vdpa_device_fence(priv->dev, op->name);
	return rc;
}

void
vdpa_pass_set_health(struct vdpa_device_priv *priv, enum vdpa_health health)
{
	pthread_mutex_lock(&priv->lock);
	if (!priv->hung)
		priv->health = health;
	pthread_mutex_unlock(&priv->lock);
}

void
vdpa_pass_needs_reset(struct vdpa_binding *binding, int error)
{
	if (binding->ops->needs_reset != NULL)
		binding->ops->needs_reset(binding, binding->arg, error);
}

static void
forget_running(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;

	pthread_mutex_lock(&priv->lock);
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
		struct vdpa_session_vq *vq = &binding->run.vqs[i];

		vdpa_fd_put(vq->kick);
		vdpa_fd_put(vq->call);
		memset(vq, 0, sizeof(*vq));
	}
	binding->run.session = NULL;
	binding->run.nr_vqs = 0;
	pthread_mutex_unlock(&priv->lock);
}

/* Stop all; afterwards nothing runs, or the device hangs. */
int
vdpa_pass_device_stop(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool get_state = (priv->info.caps & VDPA_CAP_GET_STATE) != 0;
	uint16_t nr_vqs = priv->contract.nr_vqs;
	int rc;

	for (uint16_t i = 0; i < nr_vqs; i++)
		if (binding->run.vqs[i].ready &&
			vdpa_pass_is_class_vq(binding, binding->run.features, i))
			vdpa_pass_cvq_stop(binding, i);
		else
			vdpa_pass_doorbell_unwatch(binding, i);
	rc = VDPA_OP(priv, "stop", OP_MS,
		priv->dev->ops->stop(priv->dev, binding->states, vdpa_pass_nr_device_vqs(priv)));
	binding->over_ns[VDPA_PHASE_STOP] = vdpa_now_ns();
	if (rc == -ETIMEDOUT)
		return rc;
	if (binding->run.mode == VDPA_MODE_RELAYED && vdpa_relay_halt(binding->relay) != 0) {
		vdpa_device_fence(priv->dev, "relay");
		return -ETIMEDOUT;
	}
	for (uint16_t i = 0; i < nr_vqs; i++) {
		if (!binding->run.vqs[i].ready ||
			vdpa_pass_is_class_vq(binding, binding->run.features, i))
			continue;
		if (vdpa_pass_vq_ends(binding, i,
			    rc == 0 && get_state ? &binding->states[i] : NULL) == -ETIMEDOUT)
			return -ETIMEDOUT;
	}
	forget_running(binding);
	binding->over_ns[VDPA_PHASE_HARVEST] = vdpa_now_ns();
	if (rc != 0) {
		vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "stop: %s", strerror(-rc));
		rc = vdpa_pass_device_reset(binding);
		if (rc != 0)
			vdpa_pass_set_health(priv, VDPA_HEALTH_FAILED);
		if (rc == -ETIMEDOUT)
			return rc;
	}
	vdpa_pass_take_inflight(binding, NULL);
	vdpa_device_event(priv, VDPA_EVENT_STOPPED, "stopped");
	return 0;
}

/* Nothing is tried again until the driver resets the device, that is, sets a position. */
void
vdpa_pass_mark_failed(struct vdpa_binding *binding, struct vdpa_session *session, int error)
{
	struct vdpa_device_priv *priv = binding->priv;

	vdpa_pass_set_health(priv, VDPA_HEALTH_FAILED);
	pthread_mutex_lock(&priv->lock);
	if (session != NULL) {
		session->start_failed = true;
		session->result = error;
		for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
			session->vqs[i].base_failed = session->vqs[i].base_seq;
	}
	pthread_mutex_unlock(&priv->lock);
}

void
vdpa_pass_start_failed(
	struct vdpa_binding *binding, const struct vdpa_plan *plan, const char *what, int error)
{
	struct vdpa_device_priv *priv = binding->priv;

	vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "%s: %s", what, strerror(-error));
	if (vdpa_pass_is_trial(binding)) {
		vdpa_pass_trial_failed(binding, what, error);
		vdpa_pass_set_health(priv, VDPA_HEALTH_FAILED);
		vdpa_pass_device_reset(binding);
		return;
	}
	vdpa_pass_mark_failed(binding, plan->session, error);
	if (vdpa_pass_device_reset(binding) != 0)
		VDPA_LOG(ERR, "%s: reset after a failed start failed", priv->dev->name);
	vdpa_pass_needs_reset(binding, error);
}

int
vdpa_pass_abandon(struct vdpa_binding *binding)
{
	if (binding->run.session == NULL)
		return 0;
	for (uint16_t i = 0; i < binding->priv->contract.nr_vqs; i++) {
		if (!binding->run.vqs[i].ready)
			continue;
		if (vdpa_pass_is_class_vq(binding, binding->run.features, i)) {
			vdpa_pass_cvq_stop(binding, i);
			continue;
		}
		vdpa_pass_doorbell_unwatch(binding, i);
		if (vdpa_pass_vq_ends(binding, i, NULL) == -ETIMEDOUT)
			return -ETIMEDOUT;
	}
	forget_running(binding);
	return 0;
}

/*
 * The op that hung has returned after all: the device stays failed, but lets go of its consumer and
 * can be removed.
 */
void
vdpa_pass_let_go(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = 0;

	if (vdpa_pass_abandon(binding) != 0)
		return;
	if (!binding->let_go)
		rc = VDPA_OP(priv, "reset", RESET_MS, priv->dev->ops->reset(priv->dev));
	if (rc == -ETIMEDOUT)
		return;
	binding->let_go = true;
	binding->run.device_logs = false;
	vdpa_pass_log_off(binding);
	vdpa_pass_relay_drop(binding);
	vdpa_pass_take_domain(binding, NULL);
	vdpa_pass_take_inflight(binding, NULL);
	vdpa_pass_free_closed(binding);
	pthread_mutex_lock(&priv->lock);
	/* whoever is attached was told that it is over */
	if (rc == 0 && binding->session == NULL) {
		priv->hung = false;
		binding->let_go = false;
	}
	pthread_mutex_unlock(&priv->lock);
}
