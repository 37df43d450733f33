/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"

#define ROUNDS_MAX 3

/*
 * A live swap goes back and forth between the passes of two bindings. The other one's maps the
 * consumer's memory while the former device serves. The binding's own stops the former device,
 * exchanges the devices of the two bindings, and starts what it has then by the ordinary way.
 */

/* ---- the other binding's pass ---- */

/* What the other device will be asked to run, as far as it is known. */
static void
foresee(struct vdpa_binding *binding, struct vdpa_device_priv *to, struct vdpa_plan *plan,
	uint16_t *vq_size)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_session *session;

	*vq_size = 0;
	pthread_mutex_lock(&to->lock);
	plan->relay = to->relay;
	pthread_mutex_unlock(&to->lock);
	pthread_mutex_lock(&priv->lock);
	session = binding->session;
	if (session != NULL && session->domain != NULL) {
		plan->features = session->features;
		plan->log = session->log;
		plan->domain = vdpa_domain_get(session->domain);
		for (uint16_t i = 0; i < priv->contract.nr_vqs; i++)
			if (session->vqs[i].ready)
				*vq_size = RTE_MAX(*vq_size, session->vqs[i].size);
	}
	pthread_mutex_unlock(&priv->lock);
}

static int
map_for(struct vdpa_binding *other, const struct vdpa_plan *plan, uint16_t vq_size,
	const char **why)
{
	struct vdpa_domain *domain = plan->domain;
	int rc = 0;

	*why = NULL;
	if (other->relay != NULL && !vdpa_relay_fits(other->relay, plan->features, vq_size)) {
		rc = vdpa_pass_set_domain(other, NULL);
		if (rc != 0)
			return rc;
		vdpa_pass_relay_drop(other);
	}
	if (vq_size != 0 && vdpa_pass_may_relay(other->priv, plan)) {
		rc = vdpa_pass_relay_make(other, plan->features, vq_size);
		if (rc == 0)
			rc = vdpa_relay_domain(other->relay, domain, &domain);
		if (rc != 0)
			*why = vdpa_error_text();
	}
	return rc != 0 ? rc : vdpa_pass_set_domain(other, domain);
}

/* Unless the control thread has ended it: its device hung. */
static void
prepare_failed(
	struct vdpa_binding *other, struct vdpa_binding *binding, int error, const char *reason)
{
	char why[256];
	bool ours;

	pthread_mutex_lock(&other->priv->lock);
	ours = other->priv->reserved == binding;
	pthread_mutex_unlock(&other->priv->lock);
	snprintf(
		why, sizeof(why), "mapping memory: %s", reason != NULL ? reason : strerror(-error));
	if (ours)
		vdpa_swap_end(binding, error, why);
}

void
vdpa_pass_swap_prepare(struct vdpa_binding *other, struct vdpa_binding *binding)
{
	struct vdpa_swap *swap = vdpa_swap_in(binding, VDPA_SWAP_PREPARE);
	struct vdpa_plan plan = {.ctrl_vq = -1};
	uint64_t begin_us = vdpa_pass_now_us();
	const char *why = NULL;
	uint16_t vq_size;
	int rc = 0;

	if (swap == NULL)
		return;
	foresee(binding, other->priv, &plan, &vq_size);
	if (vdpa_pass_is_hung(other->priv))
		rc = -EIO;
	else /* it gets the former device, which may have more queues, and one of the class's */
		rc = vdpa_binding_reserve(other, binding->priv->info.nr_vqs_max + 1);
	if (rc == 0 && plan.domain != NULL)
		rc = map_for(other, &plan, vq_size, &why);
	if (rc != 0) {
		vdpa_domain_put(plan.domain);
		prepare_failed(other, binding, rc, why);
		return;
	}
	vdpa_domain_put(swap->prepared);
	swap->prepared = plan.domain;
	swap->report.rounds++;
	swap->report.prepare_us += vdpa_pass_now_us() - begin_us;
	vdpa_swap_set_phase(binding, VDPA_SWAP_READY);
	vdpa_work_queue(&binding->work);
}

/* ---- the binding's own pass ---- */

bool
vdpa_pass_is_trial(struct vdpa_binding *binding)
{
	return vdpa_swap_in(binding, VDPA_SWAP_MOVED) != NULL;
}

void
vdpa_pass_trial_failed(struct vdpa_binding *binding, const char *what, int error)
{
	struct vdpa_swap *swap = vdpa_swap_in(binding, VDPA_SWAP_MOVED);

	swap->rc = error;
	snprintf(swap->why, sizeof(swap->why), "%s: %s: %s", swap->to, what, strerror(-error));
}

static void
exchange(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	vdpa_pass_log_gap(binding);
	vdpa_devices_exchange(binding, swap->other);
	if (binding->relay != NULL)
		vdpa_relay_take(binding->relay, binding->priv);
	if (swap->other->relay != NULL)
		vdpa_relay_take(swap->other->relay, swap->other->priv);
}

/* Prepared for other memory than there is now. */
static void
prepare_again(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	if (swap->report.rounds >= ROUNDS_MAX) {
		vdpa_swap_end(binding, -EAGAIN, "the consumer changed its memory again and again");
		return;
	}
	vdpa_swap_set_phase(binding, VDPA_SWAP_PREPARE);
	vdpa_work_queue(&swap->other->work);
}

static void
move(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	exchange(binding, swap);
	swap->stopped_us = vdpa_pass_now_us();
	vdpa_swap_set_phase(binding, VDPA_SWAP_MOVED);
}

/* Nobody knows where a queue stood: nothing is started until a driver's reset. */
static void
check_positions(struct vdpa_binding *binding)
{
	if (!binding->position_lost)
		return;
	vdpa_pass_mark_failed(binding, binding->session, -EIO);
	vdpa_pass_needs_reset(binding, -EIO);
}

bool
vdpa_pass_swap(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_swap *swap = vdpa_swap_in(binding, VDPA_SWAP_READY);

	if (swap == NULL)
		return false;
	if (vdpa_stopping()) {
		vdpa_swap_end(binding, -ECANCELED, NULL);
		return false;
	}
	if (plan->domain != NULL && plan->domain != swap->prepared) {
		prepare_again(binding, swap);
		return false;
	}
	swap->begin_us = vdpa_pass_now_us();
	swap->ran = binding->run.session != NULL;
	if (swap->ran) {
		binding->position_lost = false;
		/* a device that hangs meanwhile is left behind: vdpa_pass_swap_forced() */
		if (vdpa_pass_device_stop(binding) != 0)
			return false;
		vdpa_pass_log_stopped(binding, plan);
		check_positions(binding);
	}
	move(binding, swap);
	return true;
}

/* Nobody has had what the former device's binding promises now. */
static int
settle(struct vdpa_binding *other)
{
	vdpa_cvq_free(other->cvq);
	other->cvq = NULL;
	return other->priv->class_cvq ? vdpa_binding_cvq_create(other) : 0;
}

static void
note_pause(struct vdpa_swap *swap)
{
	struct vdpa_swap_report *report = &swap->report;

	if (!swap->ran)
		return;
	report->pause_us = vdpa_pass_now_us() - swap->begin_us;
	report->stop_us = swap->stopped_us - swap->begin_us;
	report->start_us = report->pause_us - report->stop_us;
}

static void
moved(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_binding *other = swap->other;

	note_pause(swap);
	pthread_mutex_lock(&priv->lock);
	priv->swaps++;
	pthread_mutex_unlock(&priv->lock);
	if (settle(other) != 0)
		VDPA_LOG(ERR, "%s: no memory for its control virtqueue", other->name);
	if (binding->ops->moved != NULL)
		binding->ops->moved(binding, binding->arg, priv->dev);
	if (other->ops->moved != NULL)
		other->ops->moved(other, other->arg, other->priv->dev);
	/* the link of the one may be up and that of the other down */
	if (memcmp(priv->config, other->priv->config, sizeof(priv->config)) != 0) {
		atomic_store(&priv->config_changed, true);
		vdpa_work_queue(&binding->work);
	}
	vdpa_swap_end(binding, 0, NULL);
}

bool
vdpa_pass_swap_started(struct vdpa_binding *binding)
{
	struct vdpa_swap *swap = vdpa_swap_in(binding, VDPA_SWAP_BACK);

	if (vdpa_pass_is_hung(binding->priv))
		return false;
	if (swap != NULL) {
		note_pause(swap);
		vdpa_swap_end(binding, swap->rc, NULL);
		return false;
	}
	swap = vdpa_swap_in(binding, VDPA_SWAP_MOVED);
	if (swap == NULL)
		return false;
	if (swap->rc == 0) {
		moved(binding, swap);
		return false;
	}
	exchange(binding, swap);
	swap->report.went_back = true;
	vdpa_swap_set_phase(binding, VDPA_SWAP_BACK);
	return true;
}

/* ---- a device that hangs ---- */

/* The fence has put zero pages into every mapping that the device knew. */
static int
renew_memory(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_domain *domain = NULL, *renewed = NULL;
	int rc;

	pthread_mutex_lock(&priv->lock);
	if (binding->session != NULL && binding->session->domain != NULL &&
		vdpa_domain_is_fenced(binding->session->domain))
		domain = vdpa_domain_get(binding->session->domain);
	pthread_mutex_unlock(&priv->lock);
	if (domain == NULL)
		return 0;
	rc = vdpa_domain_renew(&renewed, domain, priv->dev);
	if (rc == 0) {
		pthread_mutex_lock(&priv->lock);
		if (binding->session != NULL && binding->session->domain == domain)
			RTE_SWAP(binding->session->domain, renewed);
		pthread_mutex_unlock(&priv->lock);
	}
	vdpa_domain_put(renewed);
	vdpa_domain_put(domain);
	return rc;
}

static bool
is_prepared(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	bool prepared;

	pthread_mutex_lock(&binding->priv->lock);
	prepared = binding->session == NULL || binding->session->domain == NULL ||
		binding->session->domain == swap->prepared;
	pthread_mutex_unlock(&binding->priv->lock);
	return prepared;
}

static int
fall_back(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	swap->rc = -ETIMEDOUT;
	exchange(binding, swap);
	swap->report.went_back = true;
	vdpa_swap_set_phase(binding, VDPA_SWAP_BACK);
	return 0;
}

/* The datapath ended by force, now. */
static void
note_forced(struct vdpa_binding *binding, uint64_t begin_us)
{
	pthread_mutex_lock(&binding->priv->lock);
	if (binding->swap != NULL) {
		binding->swap->ran = true;
		binding->swap->report.forced = true;
		binding->swap->begin_us = begin_us;
	}
	pthread_mutex_unlock(&binding->priv->lock);
	check_positions(binding);
}

int
vdpa_pass_swap_forced(struct vdpa_binding *binding)
{
	uint64_t begin_us = vdpa_pass_now_us();
	bool ran = binding->run.session != NULL;
	struct vdpa_swap *swap = vdpa_swap_in(binding, VDPA_SWAP_BACK);

	if (swap != NULL) {
		/* both hang */
		vdpa_swap_end(binding, swap->rc, NULL);
		return -ENOENT;
	}
	/* asked for by who left the other thread behind, or here, or not at all */
	if (!vdpa_swap_is_asked(binding) && (!ran || !vdpa_swap_standin(binding)))
		return -ENOENT;
	binding->position_lost = false;
	if (vdpa_pass_abandon(binding) != 0)
		return -ENOENT;
	if (renew_memory(binding) != 0)
		VDPA_LOG(ERR, "%s: memory cannot be mapped again: %s", binding->name,
			vdpa_error_text());
	swap = vdpa_swap_in(binding, VDPA_SWAP_MOVED);
	if (swap != NULL)
		return fall_back(binding, swap);
	if (ran)
		note_forced(binding, begin_us);
	swap = vdpa_swap_in(binding, VDPA_SWAP_READY);
	if (swap != NULL && is_prepared(binding, swap)) {
		move(binding, swap);
		return 0;
	}
	if (swap != NULL)
		prepare_again(binding, swap);
	return vdpa_swap_is_asked(binding) ? -EINPROGRESS : -ENOENT;
}

/* On the control thread, while the frame's thread is in the op. */
bool
vdpa_pass_leave(struct vdpa_pass_frame *frame, struct vdpa_device *dev)
{
	struct vdpa_binding *binding = frame->binding, *reserved;
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session_vq *vqs;
	struct vdpa_vq_config *configs;
	struct vdpa_vq_state *states;

	pthread_mutex_lock(&priv->lock);
	reserved = priv->reserved;
	pthread_mutex_unlock(&priv->lock);
	if (reserved != NULL) {
		/* it was to be prepared: the other device is not concerned */
		vdpa_swap_end(reserved, -ETIMEDOUT, "it hangs while memory is mapped");
		return false;
	}
	if (vdpa_binding_device(binding) != dev || !vdpa_swap_standin(binding))
		return false;
	vqs = calloc(binding->nr_vqs, sizeof(*vqs));
	configs = calloc(binding->nr_vqs, sizeof(*configs));
	states = calloc(binding->nr_vqs, sizeof(*states));
	if (vqs == NULL || configs == NULL || states == NULL) {
		free(vqs);
		free(configs);
		free(states);
		return false;
	}
	frame->left_in = dev;
	frame->vqs = binding->plan;
	frame->configs = binding->configs;
	frame->states = binding->states;
	binding->plan = vqs;
	binding->configs = configs;
	binding->states = states;
	pthread_mutex_lock(&priv->lock);
	priv->stuck = true;
	pthread_mutex_unlock(&priv->lock);
	vdpa_work_leave(&binding->work);
	vdpa_work_queue(&binding->work);
	return true;
}
