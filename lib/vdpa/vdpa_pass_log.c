/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"

#define SYNC_MS 50

/* ---- direct, logging, relayed ---- */

static bool
can_start_anywhere(const struct vdpa_device_priv *priv)
{
	return (priv->info.caps & VDPA_CAP_SET_STATE) != 0;
}

bool
vdpa_pass_index_is_position(const struct vdpa_device_priv *priv, uint64_t features)
{
	bool in_order = (priv->info.caps & VDPA_CAP_IN_ORDER) != 0 ||
		(features & BIT(VIRTIO_F_IN_ORDER)) != 0;

	return priv->type->index_in_memory && in_order && !vdpa_pass_packed(features);
}

bool
vdpa_pass_position_is_known(const struct vdpa_device_priv *priv, uint64_t features)
{
	return (priv->info.caps & VDPA_CAP_GET_STATE) != 0 ||
		vdpa_pass_index_is_position(priv, features);
}

static void
set_mode(struct vdpa_plan *plan, enum vdpa_mode mode, const char *why)
{
	plan->mode = mode;
	plan->mode_why = why;
}

void
vdpa_pass_choose_mode(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	const struct vdpa_device_priv *priv = binding->priv;
	bool logs = (priv->info.caps & VDPA_CAP_DIRTY) != 0 && !binding->run.log_broken;

	if (plan->relay == VDPA_RELAY_ALWAYS)
		set_mode(plan, VDPA_MODE_RELAYED, "relay=always");
	else if (plan->relay == VDPA_RELAY_AUTO &&
		!vdpa_pass_position_is_known(priv, plan->features))
		set_mode(plan, VDPA_MODE_RELAYED, "no ring position");
	else if (plan->log && !logs && plan->relay == VDPA_RELAY_AUTO)
		set_mode(plan, VDPA_MODE_RELAYED, "log wanted");
	else if (binding->run.session != NULL && binding->run.session == plan->session &&
		binding->run.mode == VDPA_MODE_RELAYED && !can_start_anywhere(priv) &&
		plan->relay == VDPA_RELAY_AUTO)
		set_mode(plan, VDPA_MODE_RELAYED, "no start index");
	else if (plan->log)
		set_mode(plan, VDPA_MODE_LOGGING, "log wanted");
	else
		set_mode(plan, VDPA_MODE_DIRECT, "");
}

void
vdpa_pass_choose_start_mode(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	const struct vdpa_device_priv *priv = binding->priv;
	uint16_t fresh = vdpa_pass_packed(plan->features) ? PACKED_FRESH : 0;
	struct vdpa_vq_state state;
	bool elsewhere = false;

	vdpa_pass_choose_mode(binding, plan);
	if (plan->mode == VDPA_MODE_RELAYED || can_start_anywhere(priv) ||
		plan->relay != VDPA_RELAY_AUTO)
		return;
	/* a relayed queue may be anywhere: ask for the position as if it were one */
	plan->mode = VDPA_MODE_RELAYED;
	for (uint16_t i = 0; i < vdpa_pass_nr_device_vqs(priv); i++)
		if (binding->plan[i].ready && !binding->plan[i].failed && i != plan->ctrl_vq &&
			vdpa_pass_start_state(binding, plan, i, &state) == 0 &&
			state.avail != fresh)
			elsewhere = true;
	if (elsewhere)
		set_mode(plan, VDPA_MODE_RELAYED, "no start index");
	else
		vdpa_pass_choose_mode(binding, plan);
}

bool
vdpa_pass_may_relay(const struct vdpa_device_priv *priv, const struct vdpa_plan *plan)
{
	if (plan->relay != VDPA_RELAY_AUTO)
		return plan->relay == VDPA_RELAY_ALWAYS;
	return !can_start_anywhere(priv) || !vdpa_pass_position_is_known(priv, plan->features) ||
		(plan->log && (priv->info.caps & VDPA_CAP_DIRTY) == 0);
}

uint16_t
vdpa_pass_largest_vq(const struct vdpa_binding *binding)
{
	uint16_t size = 0;

	for (uint16_t i = 0; i < binding->priv->contract.nr_vqs; i++)
		if (binding->plan[i].ready)
			size = RTE_MAX(size, binding->plan[i].size);
	return size;
}

void
vdpa_pass_relay_drop(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_relay *relay = binding->relay;
	struct vdpa_device_status known = {0};

	if (relay == NULL)
		return;
	vdpa_relay_counters(relay, &known);
	pthread_mutex_lock(&priv->lock);
	priv->relayed += known.relayed;
	priv->lag_max = RTE_MAX(priv->lag_max, known.lag_max);
	binding->relay = NULL;
	pthread_mutex_unlock(&priv->lock);
	vdpa_relay_free(relay);
}

int
vdpa_pass_relay_make(struct vdpa_binding *binding, uint64_t features, uint16_t vq_size)
{
	struct vdpa_relay *relay;

	if (binding->relay != NULL)
		return 0;
	relay = vdpa_relay_create(binding->priv, features, vq_size);
	if (relay == NULL)
		return vdpa_error_set(-ENOMEM, "no memory for shadow rings");
	/* whoever reads the counters looks at it meanwhile */
	pthread_mutex_lock(&binding->priv->lock);
	binding->relay = relay;
	pthread_mutex_unlock(&binding->priv->lock);
	return 0;
}

static int
reserve_queues(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	for (uint16_t i = 0; i < binding->priv->contract.nr_vqs; i++) {
		const struct vdpa_session_vq *vq = &binding->plan[i];
		int rc;

		if (!vq->ready || vq->failed || i == plan->ctrl_vq)
			continue;
		rc = vdpa_relay_vq_reserve(binding->relay, i, vq->call);
		if (rc != 0)
			return vdpa_error_set(rc, "the shadow ring of virtqueue %u", i);
	}
	return 0;
}

int
vdpa_pass_choose_domain(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	bool relayed = plan->mode == VDPA_MODE_RELAYED;
	uint16_t vq_size = vdpa_pass_largest_vq(binding);
	int rc = 0;

	plan->device_domain = plan->domain;
	if (binding->relay != NULL && !vdpa_relay_fits(binding->relay, plan->features, vq_size)) {
		/* its queues may run: they stop first */
		if (binding->run.session != NULL && vdpa_pass_device_stop(binding) != 0)
			return -ETIMEDOUT;
		vdpa_pass_relay_drop(binding);
	}
	if (relayed)
		rc = vdpa_pass_relay_make(binding, plan->features, vq_size);
	if (relayed && rc == 0)
		rc = reserve_queues(binding, plan);
	if (rc != 0 || binding->relay == NULL)
		return rc;
	return vdpa_relay_domain(binding->relay, plan->domain, &plan->device_domain);
}

/* ---- the log ---- */

void
vdpa_pass_log_sync(struct vdpa_binding *binding)
{
	uint64_t pages = 0;

	if (binding->run.log == NULL)
		return;
	for (struct vdpa_dirty *dirty = binding->run.dirty; dirty != NULL; dirty = dirty->retired)
		pages += vdpa_dirty_sync(dirty, binding->run.log);
	if (pages == 0)
		return;
	pthread_mutex_lock(&binding->priv->lock);
	binding->priv->dirty_pages += pages;
	pthread_mutex_unlock(&binding->priv->lock);
}

static void
take_log(struct vdpa_binding *binding, struct vdpa_log *log)
{
	vdpa_log_put(binding->run.log);
	binding->run.log = vdpa_log_get(log);
	pthread_mutex_lock(&binding->priv->lock);
	binding->priv->log = log != NULL;
	pthread_mutex_unlock(&binding->priv->lock);
}

/* A bitmap for this memory; workers may hold the former one until the datapath stops next. */
static int
take_dirty(struct vdpa_binding *binding, struct vdpa_domain *domain)
{
	struct vdpa_dirty *dirty;

	if (binding->run.dirty != NULL && binding->run.dirty_domain == domain)
		return 0;
	dirty = vdpa_dirty_create(domain);
	if (dirty == NULL)
		return -ENOMEM;
	dirty->retired = binding->run.dirty;
	binding->run.dirty = dirty;
	vdpa_domain_put(binding->run.dirty_domain);
	binding->run.dirty_domain = vdpa_domain_get(domain);
	atomic_store_explicit(&binding->priv->dirty, dirty, memory_order_release);
	return 0;
}

/* Nothing runs: nobody holds one. */
static void
free_dirty(struct vdpa_dirty **from)
{
	while (*from != NULL) {
		struct vdpa_dirty *dirty = *from;

		*from = dirty->retired;
		vdpa_dirty_free(dirty);
	}
}

/*
 * A device that fails to log is relayed by the next pass, which marks all that was written until
 * then; one that fails to stop it reports what nobody takes.
 */
static int
set_device_log(struct vdpa_binding *binding, const struct vdpa_plan *plan, bool on)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	rc = on ? VDPA_OP(priv, "dirty_start", OP_MS, priv->dev->ops->dirty_start(priv->dev))
		: VDPA_OP(priv, "dirty_stop", OP_MS, priv->dev->ops->dirty_stop(priv->dev));
	binding->run.device_logs = on && rc == 0;
	if (rc == 0 || rc == -ETIMEDOUT)
		return rc;
	vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "%s: %s",
		on ? "dirty_start" : "dirty_stop", strerror(-rc));
	if (on && plan->relay == VDPA_RELAY_AUTO) {
		binding->run.log_broken = true;
		take_log(binding, NULL);
		vdpa_work_queue(&binding->work);
	}
	return on ? rc : 0;
}

/* Off: what workers still mark is of no interest. */
static int
disengage(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = 0;

	if (binding->run.log == NULL && !binding->run.device_logs &&
		atomic_load_explicit(&priv->dirty, memory_order_relaxed) == NULL)
		return 0;
	vdpa_work_every(&binding->work, 0);
	take_log(binding, NULL);
	atomic_store_explicit(&priv->dirty, NULL, memory_order_release);
	vdpa_domain_put(binding->run.dirty_domain);
	binding->run.dirty_domain = NULL;
	if (binding->cvq != NULL)
		vdpa_cvq_set_dirty(binding->cvq, NULL);
	if (binding->run.device_logs)
		rc = set_device_log(binding, NULL, false);
	return rc;
}

void
vdpa_pass_log_gap(struct vdpa_binding *binding)
{
	take_log(binding, NULL);
}

int
vdpa_pass_log_adjust(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool gap = binding->run.log != plan->log_view || binding->run.dirty_domain != plan->domain;
	bool device_logs = plan->mode == VDPA_MODE_LOGGING;
	int rc;

	if (!plan->log || plan->log_view == NULL)
		return disengage(binding);
	rc = take_dirty(binding, plan->domain);
	if (rc != 0)
		return rc;
	if (binding->run.device_logs != device_logs) {
		rc = set_device_log(binding, plan, device_logs);
		if (rc != 0)
			return binding->run.log_broken && rc != -ETIMEDOUT ? 0 : rc;
		gap = true;
	}
	if (binding->cvq != NULL)
		vdpa_cvq_set_dirty(binding->cvq, binding->run.dirty);
	if (!gap)
		return 0;
	/* a burst that began without reporting may end after the table is marked */
	if (binding->run.mode == VDPA_MODE_RELAYED && binding->run.session != NULL &&
		vdpa_relay_settle(binding->relay) == -ETIMEDOUT) {
		vdpa_device_fence(priv->dev, "relay");
		return -ETIMEDOUT;
	}
	/* the promise began with the consumer's word: what was written since is not known */
	take_log(binding, plan->log_view);
	binding->run.mark_all = true;
	vdpa_work_every(&binding->work, SYNC_MS);
	return 0;
}

void
vdpa_pass_log_stopped(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	if (plan->session != NULL && plan->log && plan->log_view != NULL) {
		/* a stop that comes before logging engaged, or to another log, engages it here */
		if (binding->run.log == plan->log_view && binding->run.dirty_domain == plan->domain)
			vdpa_pass_log_sync(binding);
		else
			binding->run.mark_all = true;
	}
	if (binding->run.dirty != NULL)
		free_dirty(atomic_load(&binding->priv->dirty) == NULL
				? &binding->run.dirty
				: &binding->run.dirty->retired);
}

void
vdpa_pass_log_mark(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	struct vdpa_device_priv *priv = binding->priv;
	bool wanted = plan->session != NULL && plan->log && plan->log_view != NULL;

	if (wanted && plan->domain != NULL && binding->run.mark_all) {
		uint64_t begin_ns = vdpa_now_ns();

		vdpa_log_mark_all(plan->log_view, plan->domain);
		pthread_mutex_lock(&priv->lock);
		priv->dirty_tables++;
		vdpa_times_add(&priv->phases[VDPA_PHASE_MARK], vdpa_now_ns() - begin_ns);
		pthread_mutex_unlock(&priv->lock);
	}
	binding->run.mark_all = false;
}

void
vdpa_pass_log_off(struct vdpa_binding *binding)
{
	disengage(binding);
	free_dirty(&binding->run.dirty);
	binding->run.log_broken = false;
}
