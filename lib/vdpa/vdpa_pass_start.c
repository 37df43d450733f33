/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"

/* The class is to serve the control queue. */
static bool
class_vq_wanted(const struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	return plan->ctrl_vq >= 0 && binding->plan[plan->ctrl_vq].ready &&
		!binding->plan[plan->ctrl_vq].failed;
}

static uint16_t
active_pairs(const struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	if (class_vq_wanted(binding, plan))
		return vdpa_cvq_active_pairs(binding->cvq);
	return binding->priv->contract.nr_pairs;
}

/*
 * Index 0 everywhere, said by the driver: it began anew, and so do the settings it made by the
 * control virtqueue. Not as the device starts: a relay may begin elsewhere than the driver's rings.
 */
static bool
all_fresh(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t nr)
{
	uint16_t fresh = vdpa_pass_packed(plan->features) ? PACKED_FRESH : 0;
	struct vdpa_vq_state state;

	for (uint16_t i = 0; i < nr; i++) {
		uint16_t index = binding->configs[i].index;
		const struct vdpa_session_vq *vq = &binding->plan[index];
		bool own_state = vq->base_seq == vq->base_applied && vq->state_valid;

		if (own_state || vdpa_pass_start_state(binding, plan, index, &state) != 0 ||
			state.avail != fresh)
			return false;
	}
	return true;
}

static uint64_t
device_features(const struct vdpa_device_priv *priv, uint64_t agreed)
{
	return agreed | (priv->info.features & (BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(F_RING_RESET)));
}

static void
note_mode(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;

	pthread_mutex_lock(&priv->lock);
	binding->run.mode = plan->mode;
	priv->mode = plan->mode;
	priv->mode_why = plan->mode_why;
	pthread_mutex_unlock(&priv->lock);
}

static int
device_started(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t nr)
{
	struct vdpa_device_priv *priv = binding->priv;

	pthread_mutex_lock(&priv->lock);
	binding->run.session = plan->session;
	binding->run.features = plan->features;
	binding->run.nr_active_pairs = active_pairs(binding, plan);
	plan->session->start_failed = false;
	priv->starts++;
	pthread_mutex_unlock(&priv->lock);
	note_mode(binding, plan);
	for (uint16_t i = 0; i < nr; i++) {
		uint16_t index = binding->configs[i].index;

		vdpa_pass_vq_note_running(binding, index, &binding->plan[index]);
	}
	return vdpa_pass_vqs_run(binding, plan, binding->configs, nr);
}

static bool
any_failed(const struct vdpa_binding *binding)
{
	for (uint16_t i = 0; i < binding->priv->contract.nr_vqs; i++)
		if (binding->plan[i].ready && binding->plan[i].failed)
			return true;
	return false;
}

/*
 * All that can run of what is wanted, in binding->configs. In a trial all has to. 0; else a
 * negative errno that was reported.
 */
static int
make_configs(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t *nr)
{
	*nr = 0;
	for (uint16_t i = 0; i < binding->priv->contract.nr_vqs; i++) {
		const struct vdpa_session_vq *vq = &binding->plan[i];
		int rc;

		if (!vq->ready || vq->failed || i == plan->ctrl_vq)
			continue;
		rc = vdpa_pass_make_config(binding, plan, i, &binding->configs[*nr]);
		if (rc == 0) {
			(*nr)++;
		} else if (vdpa_pass_is_trial(binding)) {
			vdpa_pass_start_failed(binding, plan, vdpa_error_text(), rc);
			return rc;
		} else {
			vdpa_pass_plan_vq_fail(binding, plan, i, rc, vdpa_error_text());
		}
	}
	return 0;
}

/* The device runs: what the driver had set, the class's own queue, and who has to know. */
static void
complete_start(struct vdpa_binding *binding, const struct vdpa_plan *plan, bool fresh)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = 0;

	vdpa_pass_set_health(priv, any_failed(binding) ? VDPA_HEALTH_DEGRADED : VDPA_HEALTH_OK);
	if (binding->cvq != NULL && !fresh)
		rc = vdpa_cvq_restore(binding->cvq);
	if (rc == -ETIMEDOUT)
		return;
	if (rc != 0)
		VDPA_LOG(ERR, "%s: settings of the driver not restored: %s", priv->dev->name,
			strerror(-rc));
	if (class_vq_wanted(binding, plan))
		vdpa_pass_vq_start(binding, plan, plan->ctrl_vq);
	vdpa_pass_arrived(binding, plan, fresh);
	vdpa_device_event(priv, VDPA_EVENT_STARTED, "started: %u virtqueues", binding->run.nr_vqs);
	/* the consumer may have been signalled into descriptors that nobody read */
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
		if (binding->run.vqs[i].ready)
			vdpa_pass_signal(binding, i);
}

/* What can fail before the device is asked to start. 0; else a negative errno that was reported. */
static int
prepare_start(struct vdpa_binding *binding, const struct vdpa_plan *plan, uint16_t *nr, bool *fresh)
{
	const char *what = "dirty_start";
	int rc;

	rc = vdpa_pass_log_adjust(binding, plan);
	if (rc == 0) {
		rc = make_configs(binding, plan, nr);
		if (rc != 0 || *nr == 0)
			return rc;
		*fresh = all_fresh(binding, plan, *nr);
		if (binding->cvq != NULL && *fresh)
			vdpa_cvq_reset(binding->cvq, plan->features);
		else if (binding->cvq != NULL)
			vdpa_cvq_set_features(binding->cvq, plan->features);
		what = "mapping memory";
		rc = vdpa_pass_set_domain(binding, plan->device_domain);
	}
	if (rc != 0 && rc != -ETIMEDOUT)
		vdpa_pass_start_failed(binding, plan, what, rc);
	return rc;
}

void
vdpa_pass_device_start(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_start start = {
		.features = device_features(priv, plan->features),
		.domain = plan->device_domain,
		.vqs = binding->configs,
	};
	int rc;

	rc = prepare_start(binding, plan, &start.nr_vqs, &start.fresh);
	if (rc != 0 || start.nr_vqs == 0)
		return;
	start.nr_active_pairs = active_pairs(binding, plan);
	vdpa_pass_take_inflight(binding, plan->inflight);
	binding->over_ns[VDPA_PHASE_POINT] = vdpa_now_ns();
	rc = VDPA_OP(priv, "start", OP_MS, priv->dev->ops->start(priv->dev, &start));
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			vdpa_pass_start_failed(binding, plan, "start", rc);
		return;
	}
	rc = device_started(binding, plan, start.nr_vqs);
	binding->over_ns[VDPA_PHASE_START] = vdpa_now_ns();
	if (rc != -ETIMEDOUT)
		complete_start(binding, plan, start.fresh);
}

bool
vdpa_pass_needs_restart(const struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	const struct vdpa_device_priv *priv = binding->priv;

	if (binding->run.session != plan->session || binding->run.features != plan->features ||
		binding->run.inflight != plan->inflight)
		return true;
	if (binding->run.domain != plan->device_domain &&
		(priv->info.caps & VDPA_CAP_HOST_VA) != 0 && priv->dev->ops->update_memory == NULL)
		return true;
	if ((binding->run.mode == VDPA_MODE_RELAYED) != (plan->mode == VDPA_MODE_RELAYED))
		return true;
	if ((priv->info.caps & VDPA_CAP_LATE_VQ) != 0)
		return false;
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++) {
		const struct vdpa_session_vq *runs = &binding->run.vqs[i],
					     *wanted = &binding->plan[i];
		bool run = wanted->ready && !wanted->failed;

		if (i != plan->ctrl_vq &&
			(runs->ready != run || (run && vdpa_pass_vq_differs(runs, wanted))))
			return true;
	}
	return false;
}

static int
adjust_memory(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	int rc;

	if (binding->run.domain == plan->device_domain)
		return 0;
	rc = vdpa_pass_set_domain(binding, plan->device_domain);
	if (rc == 0 && binding->run.mode == VDPA_MODE_RELAYED)
		rc = vdpa_relay_update_memory(binding->relay);
	if (rc == 0 && plan->ctrl_vq >= 0 && binding->run.vqs[plan->ctrl_vq].ready)
		rc = vdpa_cvq_update_memory(binding->cvq, plan->domain);
	return rc;
}

static void
adjust_pairs(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	uint16_t pairs = active_pairs(binding, plan);
	int rc;

	if (pairs == binding->run.nr_active_pairs || priv->dev->ops->set_active_queues == NULL)
		return;
	rc = VDPA_OP(priv, "set_active_queues", OP_MS,
		priv->dev->ops->set_active_queues(priv->dev, pairs));
	if (rc == 0) {
		pthread_mutex_lock(&priv->lock);
		binding->run.nr_active_pairs = pairs;
		pthread_mutex_unlock(&priv->lock);
	} else if (rc != -ETIMEDOUT) {
		vdpa_device_event(
			priv, VDPA_EVENT_DEVICE_FAILED, "set_active_queues: %s", strerror(-rc));
	}
}

/* What runs cannot go on as it is wanted: it stops, and the promise of the log is kept for it. */
static void
give_up(struct vdpa_binding *binding, const struct vdpa_plan *plan, const char *what, int error)
{
	if (vdpa_pass_device_stop(binding) != 0)
		return;
	vdpa_pass_log_stopped(binding, plan);
	vdpa_pass_start_failed(binding, plan, what, error);
}

void
vdpa_pass_adjust(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	const char *what = "changing memory";
	int rc = adjust_memory(binding, plan);

	if (rc == 0) {
		what = "logging";
		rc = vdpa_pass_log_adjust(binding, plan);
	}
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			give_up(binding, plan, what, rc);
		return;
	}
	note_mode(binding, plan);
	if (vdpa_pass_adjust_queues(binding, plan) == 0)
		adjust_pairs(binding, plan);
}
