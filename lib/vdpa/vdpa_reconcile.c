/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_pass.h"

/*
 * One pass makes what runs equal to what is wanted. It is the only code that calls ops of a device,
 * so they never overlap. What is wanted is copied under the lock first; ops run without it.
 */

/* Stop and reset a device that says it is broken. false: it hangs. */
static bool
give_up(struct vdpa_binding *binding, int error)
{
	struct vdpa_session *session = binding->run.session;
	bool goes_on;

	if ((session != NULL && vdpa_pass_device_stop(binding) != 0) ||
		vdpa_pass_device_reset(binding) == -ETIMEDOUT)
		return false;
	/* a session that stays as it is will be served by the stand-in */
	goes_on = session != NULL && vdpa_swap_standin(binding);
	vdpa_pass_mark_failed(binding, goes_on ? NULL : session, error);
	if (!goes_on)
		vdpa_pass_needs_reset(binding, error);
	return true;
}

static bool
take_vq_failure(struct vdpa_binding *binding, uint16_t index)
{
	struct vdpa_device_priv *priv = binding->priv;
	int error = atomic_exchange(&priv->vq_failed[index], 0);
	struct vdpa_session *session = binding->run.session;
	const char *why = atomic_load(&priv->vq_failed_why);

	if (error == 0 || session == NULL || !binding->run.vqs[index].ready)
		return true;
	if (why == NULL)
		why = strerror(-error);
	/* what the driver broke is broken on any device */
	if (error != -EBADMSG && vdpa_swap_standin(binding)) {
		vdpa_device_event(
			priv, VDPA_EVENT_DEVICE_FAILED, "virtqueue %u failed: %s", index, why);
		return give_up(binding, error);
	}
	vdpa_pass_vq_fail(
		binding, &session->vqs[index], binding->run.vqs[index].base_seq, index, error, why);
	return true;
}

static void
take_reports(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int error = atomic_exchange(&priv->failed, 0);

	if (error != 0) {
		const char *why = atomic_load(&priv->failed_why);

		vdpa_device_event(
			priv, VDPA_EVENT_DEVICE_FAILED, "%s", why != NULL ? why : strerror(-error));
		if (!give_up(binding, error))
			return;
	}
	for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
		if (!take_vq_failure(binding, i))
			return;
	if (atomic_exchange(&binding->unserved, false)) {
		/* it was stopped; whoever is attached now */
		vdpa_pass_mark_failed(binding, binding->session, -EIO);
		vdpa_pass_needs_reset(binding, -EIO);
	}
}

static void
serve_cvq(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (!atomic_exchange(&binding->cvq_kicked, false) || binding->run.session == NULL ||
		plan->ctrl_vq < 0 || !binding->run.vqs[plan->ctrl_vq].ready)
		return;
	rc = vdpa_cvq_serve(binding->cvq);
	if (vdpa_pass_is_hung(priv))
		return;
	/* more wait: after what else is queued */
	if (rc > 0)
		vdpa_pass_cvq_kicked(binding);
	if (rc == -EBADMSG) {
		vdpa_pass_vq_fail(binding, &binding->run.session->vqs[plan->ctrl_vq],
			binding->plan[plan->ctrl_vq].base_seq, plan->ctrl_vq, rc,
			vdpa_error_text());
		vdpa_pass_vq_stop(binding, plan->ctrl_vq);
	}
}

void
vdpa_pass_take_plan(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session *session;

	memset(plan, 0, sizeof(*plan));
	plan->ctrl_vq = -1;
	pthread_mutex_lock(&priv->lock);
	session = binding->session;
	plan->session = session;
	plan->relay = priv->relay;
	if (session != NULL) {
		plan->driver_ok = session->driver_ok;
		plan->features = session->features;
		plan->seq = session->seq;
		plan->domain = session->domain != NULL ? vdpa_domain_get(session->domain) : NULL;
		plan->log = session->log;
		plan->log_view = vdpa_log_get(session->log_view);
		plan->inflight = vdpa_inflight_get(session->inflight);
		plan->nr_vqs = priv->contract.nr_vqs;
		for (uint16_t i = 0; i < plan->nr_vqs; i++) {
			binding->plan[i] = session->vqs[i];
			vdpa_fd_get(binding->plan[i].kick);
			vdpa_fd_get(binding->plan[i].call);
			/*
			 * a driver's reset ends the time in which a failed start is not tried again
			 */
			if (session->vqs[i].base_seq != session->vqs[i].base_failed)
				session->start_failed = false;
		}
		if (session->start_failed || vdpa_swap_holds_locked(binding))
			plan->driver_ok = false;
		if (priv->class_cvq)
			plan->ctrl_vq = priv->type->ctrl_vq(
				plan->features, priv->contract.nr_pairs);
	}
	pthread_mutex_unlock(&priv->lock);
	if (vdpa_stopping() || plan->domain == NULL)
		plan->driver_ok = false;
}

void
vdpa_pass_drop_plan(struct vdpa_session_vq *vqs, struct vdpa_plan *plan)
{
	vdpa_domain_put(plan->domain);
	vdpa_log_put(plan->log_view);
	vdpa_inflight_put(plan->inflight);
	for (uint16_t i = 0; i < plan->nr_vqs; i++) {
		vdpa_fd_put(vqs[i].kick);
		vdpa_fd_put(vqs[i].call);
		vqs[i].kick = NULL;
		vqs[i].call = NULL;
	}
	memset(plan, 0, sizeof(*plan));
}

/* One that was closed while this pass started it is stopped by the next. */
void
vdpa_pass_free_closed(struct vdpa_binding *binding)
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
note_switch(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	uint64_t before_ns = binding->begun_ns, end_ns = binding->over_ns[VDPA_PHASE_START];
	uint64_t ns[VDPA_PHASE_PAUSE + 1];

	for (int i = 0; i < VDPA_PHASE_PAUSE; i++) {
		ns[i] = binding->over_ns[i] - before_ns;
		before_ns = binding->over_ns[i];
	}
	ns[VDPA_PHASE_PAUSE] = end_ns - binding->begun_ns;
	pthread_mutex_lock(&priv->lock);
	for (int i = 0; i <= VDPA_PHASE_PAUSE; i++)
		vdpa_times_add(&priv->phases[i], ns[i]);
	pthread_mutex_unlock(&priv->lock);
	vdpa_device_event(priv, VDPA_EVENT_MODE,
		"%s%s%s, pause %.1f us: stop %.1f, harvest %.1f, repoint %.1f, start %.1f",
		vdpa_mode_name(plan->mode), plan->mode_why[0] != '\0' ? ": " : "", plan->mode_why,
		ns[VDPA_PHASE_PAUSE] / 1e3, ns[VDPA_PHASE_STOP] / 1e3, ns[VDPA_PHASE_HARVEST] / 1e3,
		ns[VDPA_PHASE_POINT] / 1e3, ns[VDPA_PHASE_START] / 1e3);
}

static void
stopped_positions(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	for (uint16_t i = 0; plan->session != NULL && i < binding->priv->contract.nr_vqs; i++) {
		binding->plan[i].state = plan->session->vqs[i].state;
		binding->plan[i].state_valid = plan->session->vqs[i].state_valid;
		binding->plan[i].base_applied = plan->session->vqs[i].base_applied;
	}
}

/* Nobody is attached, and nothing runs. */
static void
idle(struct vdpa_binding *binding)
{
	vdpa_pass_log_off(binding);
	if (binding->run.domain != NULL && vdpa_pass_set_domain(binding, NULL) == -ETIMEDOUT)
		return;
	vdpa_pass_relay_drop(binding);
}

static int
choose_or_say(struct vdpa_binding *binding, struct vdpa_plan *plan, bool start)
{
	const struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (start)
		vdpa_pass_choose_start_mode(binding, plan);
	else
		vdpa_pass_choose_mode(binding, plan);
	if (plan->mode != VDPA_MODE_RELAYED && !vdpa_pass_position_is_known(priv, plan->features))
		return vdpa_error_set(-ENOTSUP, "no ring position, and relay=off");
	rc = vdpa_pass_choose_domain(binding, plan);
	if (rc != 0 || start || plan->mode != VDPA_MODE_RELAYED ||
		binding->run.session != plan->session || binding->run.mode == VDPA_MODE_RELAYED)
		return rc;
	if ((priv->info.caps & VDPA_CAP_HOST_VA) == 0 || priv->dev->ops->update_memory != NULL)
		rc = vdpa_pass_set_domain(binding, plan->device_domain);
	return rc == 0 ? 0 : vdpa_error_set(rc, "mapping memory");
}

/*
 * What takes long is done before the pause: while the device serves, the shadow rings are made and
 * mapped.
 */
static int
choose(struct vdpa_binding *binding, struct vdpa_plan *plan, bool start)
{
	int rc = choose_or_say(binding, plan, start);

	if (rc != 0)
		snprintf(plan->why_not, sizeof(plan->why_not), "%s", vdpa_error_text());
	return rc;
}

static void
make_it_so(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	bool switches = false, ran = binding->run.session != NULL;
	int rc = 0;

	if (plan->driver_ok && ran)
		rc = choose(binding, plan, false);
	if (rc == -ETIMEDOUT)
		return;
	binding->begun_ns = vdpa_now_ns();
	if (ran && (!plan->driver_ok || rc != 0 || vdpa_pass_needs_restart(binding, plan))) {
		switches = plan->session == binding->run.session && plan->driver_ok &&
			(binding->run.mode == VDPA_MODE_RELAYED) !=
				(plan->mode == VDPA_MODE_RELAYED);
		if (binding->run.session != NULL && vdpa_pass_device_stop(binding) != 0)
			return;
		vdpa_pass_log_stopped(binding, plan);
		stopped_positions(binding, plan);
	}
	if (plan->session == NULL)
		idle(binding);
	if (!plan->driver_ok)
		return;
	if (rc == 0 && binding->run.session == NULL)
		rc = choose(binding, plan, true);
	if (rc != 0) {
		if (rc != -ETIMEDOUT)
			vdpa_pass_start_failed(binding, plan, plan->why_not, rc);
	} else if (binding->run.session == NULL) {
		vdpa_pass_device_start(binding, plan);
		if (switches && binding->run.session != NULL)
			note_switch(binding, plan);
	} else {
		vdpa_pass_adjust(binding, plan);
	}
}

static void
apply(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	make_it_so(binding, plan);
	vdpa_pass_log_mark(binding, plan);
	vdpa_pass_log_sync(binding);
}

static void
reconcile(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session *session;
	bool again;
	uint32_t seq;

	take_reports(binding);
	if (vdpa_pass_is_hung(priv) || vdpa_pass_config(binding) == -ETIMEDOUT)
		return;
	vdpa_pass_take_plan(binding, plan);
	again = vdpa_pass_swap(binding, plan);
	do {
		if (again) {
			vdpa_pass_drop_plan(binding->plan, plan);
			vdpa_pass_take_plan(binding, plan);
		}
		if (!vdpa_pass_is_hung(priv))
			apply(binding, plan);
		again = vdpa_pass_swap_started(binding);
	} while (again);
	if (!vdpa_pass_is_hung(priv))
		vdpa_pass_announce(binding);
	if (!vdpa_pass_is_hung(priv))
		serve_cvq(binding, plan);
	session = plan->session;
	seq = plan->seq;
	vdpa_pass_drop_plan(binding->plan, plan);
	if (vdpa_pass_is_hung(priv))
		return;
	/* after a stop: what ran belonged to it */
	vdpa_pass_free_closed(binding);
	pthread_mutex_lock(&priv->lock);
	if (session != NULL && binding->session == session) {
		session->seq_done = seq;
		if (!session->start_failed)
			session->result = 0;
	}
	pthread_cond_broadcast(&priv->changed);
	pthread_mutex_unlock(&priv->lock);
}

static void
pass(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_binding *reserved;
	bool left, stuck;
	int rc;

	pthread_mutex_lock(&priv->lock);
	reserved = priv->reserved;
	left = binding->closed != NULL;
	pthread_mutex_unlock(&priv->lock);
	if (reserved != NULL) {
		/* what it ran for who was attached before is stopped first */
		if (left && !vdpa_pass_is_hung(priv))
			reconcile(binding, plan);
		vdpa_pass_swap_prepare(binding, reserved);
		return;
	}
	do {
		if (!vdpa_pass_is_hung(priv))
			reconcile(binding, plan);
		if (!vdpa_pass_is_hung(priv))
			return;
		rc = vdpa_pass_swap_forced(binding);
	} while (rc == 0);
	pthread_mutex_lock(&priv->lock);
	stuck = priv->stuck;
	pthread_mutex_unlock(&priv->lock);
	if (rc == -ENOENT && !stuck)
		vdpa_pass_let_go(binding);
}

/* The op in which this thread was left has returned: the device can be let go. */
static void
come_back(struct vdpa_pass_frame *frame)
{
	struct vdpa_device *dev = frame->left_in;

	vdpa_pass_drop_plan(frame->vqs, frame->plan);
	free(frame->vqs);
	free(frame->configs);
	free(frame->states);
	vdpa_moves_hold();
	pthread_mutex_lock(&dev->priv->lock);
	dev->priv->stuck = false;
	if (dev->priv->binding != NULL)
		vdpa_work_queue(&dev->priv->binding->work);
	pthread_mutex_unlock(&dev->priv->lock);
	vdpa_moves_release();
}

static void
pass_in_frame(struct vdpa_pass_frame *frame)
{
	vdpa_pass_frame_set(frame);
	/* between a stop and a start nobody has a path */
	vdpa_workers_keep();
	if (setjmp(frame->out) == 0)
		pass(frame->binding, frame->plan);
	else
		come_back(frame);
	vdpa_workers_release();
	vdpa_pass_frame_set(NULL);
}

void
vdpa_reconcile(struct vdpa_work *work)
{
	struct vdpa_binding *binding = (struct vdpa_binding *)((char *)work -
		offsetof(struct vdpa_binding, work));
	struct vdpa_plan plan = {.ctrl_vq = -1};
	struct vdpa_pass_frame frame = {.binding = binding, .plan = &plan};

	pass_in_frame(&frame);
}
