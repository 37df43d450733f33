/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_pass.h"

#define QUIET_MS 2500u /* outlasts the deadline of an op that runs */

/* Who waits for a swap. Taken last. */
static pthread_mutex_t wait_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;

/* ---- asking for a swap ---- */

/* Nobody may use the device from now on but the swap. */
static int
reserve_held(struct vdpa_binding *binding, struct vdpa_device *dev, struct vdpa_swap *swap)
{
	struct vdpa_device_priv *to = dev->priv;
	int rc = 0;

	if (to == NULL)
		return vdpa_error_set(-ENODEV, "%s goes away", dev->name);
	snprintf(swap->to, sizeof(swap->to), "%s", dev->name);
	pthread_mutex_lock(&to->lock);
	swap->other = to->binding;
	if (to->binding == binding)
		rc = vdpa_error_set(-EINVAL, "%s serves %s already", dev->name, binding->name);
	else if (to->binding == NULL)
		rc = vdpa_error_set(-ENODEV, "%s: no bus driver offers it", dev->name);
	else if (to->hung || to->stuck)
		rc = vdpa_error_set(-EIO, "%s hangs", dev->name);
	else if (to->reserved != NULL)
		rc = vdpa_error_set(
			-EBUSY, "%s is about to serve %s", dev->name, to->reserved->name);
	else if (to->binding->swap != NULL)
		rc = vdpa_error_set(-EBUSY, "%s is about to move to %s", to->binding->name,
			to->binding->swap->to);
	else if (to->binding->session != NULL)
		rc = vdpa_error_set(
			-EBUSY, "%s: %s is attached", dev->name, to->binding->session->peer);
	else if (to->bound[0] != '\0')
		rc = vdpa_error_set(-EBUSY, "%s is bound to %s", dev->name, to->bound);
	else
		to->reserved = binding;
	pthread_mutex_unlock(&to->lock);
	return rc;
}

static int
reserve(struct vdpa_binding *binding, struct vdpa_device *dev, struct vdpa_swap *swap)
{
	int rc;

	vdpa_moves_hold();
	rc = reserve_held(binding, dev, swap);
	vdpa_moves_release();
	return rc;
}

static void
unreserve(struct vdpa_binding *other)
{
	pthread_mutex_lock(&other->priv->lock);
	other->priv->reserved = NULL;
	pthread_mutex_unlock(&other->priv->lock);
}

static int
enter(struct vdpa_binding *binding, struct vdpa_swap *swap)
{
	struct vdpa_device_priv *priv = binding->priv, *to = swap->other->priv;
	struct vdpa_offer offer;
	int rc;

	vdpa_contract_offer(to, &offer);
	pthread_mutex_lock(&priv->lock);
	snprintf(swap->from, sizeof(swap->from), "%s", priv->dev->name);
	if (binding->swap != NULL)
		rc = vdpa_error_set(
			-EBUSY, "%s is about to move to %s", binding->name, binding->swap->to);
	else if (priv->reserved != NULL)
		rc = vdpa_error_set(
			-EBUSY, "%s is about to serve %s", priv->dev->name, priv->reserved->name);
	else if (priv->binding != binding || vdpa_stopping())
		rc = vdpa_error_set(-ECANCELED, "%s goes away", binding->name);
	else
		rc = vdpa_contract_compare(
			binding, to, &offer, swap->report.missing, sizeof(swap->report.missing));
	if (rc == 0)
		binding->swap = swap;
	pthread_mutex_unlock(&priv->lock);
	return rc;
}

/* The other device is reserved. wait_ms: for its pass that runs. */
static int
ask(struct vdpa_binding *binding, struct vdpa_swap *swap, uint32_t wait_ms)
{
	int rc;

	/* a pass of the other binding that began before it was reserved */
	rc = vdpa_work_wait(&swap->other->work, wait_ms);
	if (rc != 0)
		rc = vdpa_error_set(-EBUSY, "%s: an operation of the device takes long", swap->to);
	vdpa_moves_hold();
	if (rc == 0)
		rc = enter(binding, swap);
	if (rc != 0)
		unreserve(swap->other);
	vdpa_moves_release();
	if (rc == 0)
		vdpa_work_queue(&swap->other->work);
	return rc;
}

struct vdpa_swap *
vdpa_swap_in(struct vdpa_binding *binding, enum vdpa_swap_phase phase)
{
	struct vdpa_swap *swap;

	pthread_mutex_lock(&binding->priv->lock);
	swap = binding->swap;
	if (swap != NULL && swap->phase != phase)
		swap = NULL;
	pthread_mutex_unlock(&binding->priv->lock);
	return swap;
}

bool
vdpa_swap_is_asked(struct vdpa_binding *binding)
{
	bool asked;

	pthread_mutex_lock(&binding->priv->lock);
	asked = binding->swap != NULL;
	pthread_mutex_unlock(&binding->priv->lock);
	return asked;
}

void
vdpa_swap_set_phase(struct vdpa_binding *binding, enum vdpa_swap_phase phase)
{
	pthread_mutex_lock(&binding->priv->lock);
	if (binding->swap != NULL)
		binding->swap->phase = phase;
	pthread_mutex_unlock(&binding->priv->lock);
}

static void
describe(struct vdpa_swap *swap, int rc, const char *why)
{
	if (rc == 0)
		return;
	if (swap->why[0] == '\0' && why != NULL)
		snprintf(swap->why, sizeof(swap->why), "%s", why);
	if (swap->why[0] == '\0')
		snprintf(swap->why, sizeof(swap->why), "%s: %s", swap->to, strerror(-rc));
}

static void
tell(struct vdpa_binding *binding, const struct vdpa_swap *swap, int rc)
{
	const struct vdpa_swap_report *report = &swap->report;

	if (rc == 0)
		vdpa_device_event(binding->priv, VDPA_EVENT_SWAPPED,
			"serves in place of %s%s, pause %" PRIu64 " us (stop %" PRIu64
			", start %" PRIu64 ")",
			swap->from, report->forced ? ", which hung" : "", report->pause_us,
			report->stop_us, report->start_us);
	else
		VDPA_LOG(WARNING, "%s: stays with %s: %s", binding->name, swap->from, swap->why);
}

void
vdpa_swap_end(struct vdpa_binding *binding, int rc, const char *why)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_swap *swap;
	bool waited;

	pthread_mutex_lock(&priv->lock);
	swap = binding->swap;
	binding->swap = NULL;
	pthread_mutex_unlock(&priv->lock);
	if (swap == NULL)
		return;
	if (rc != 0 && swap->standin) {
		atomic_store(&binding->unserved, true);
		vdpa_work_queue(&binding->work);
	}
	describe(swap, rc, why);
	tell(binding, swap, rc);
	unreserve(swap->other);
	/* what it has mapped, or the device that it has now, is let go */
	vdpa_work_queue(&swap->other->work);
	vdpa_domain_put(swap->prepared);
	pthread_mutex_lock(&wait_lock);
	waited = swap->waited;
	swap->rc = rc;
	swap->done = true;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&wait_lock);
	if (!waited)
		free(swap);
}

int
vdpa_binding_swap(
	struct vdpa_binding *binding, struct vdpa_device *dev, struct vdpa_swap_report *report)
{
	struct vdpa_swap *swap = calloc(1, sizeof(*swap));
	int rc;

	if (swap == NULL)
		return vdpa_error_set(-ENOMEM, "%s: no memory", binding->name);
	swap->waited = true;
	rc = reserve(binding, dev, swap);
	if (rc == 0)
		rc = ask(binding, swap, QUIET_MS);
	if (rc == 0) {
		pthread_mutex_lock(&wait_lock);
		while (!swap->done)
			pthread_cond_wait(&ended, &wait_lock);
		pthread_mutex_unlock(&wait_lock);
		rc = swap->rc;
		if (rc != 0)
			vdpa_error_set(rc, "%s", swap->why);
	}
	if (report != NULL)
		*report = swap->report;
	free(swap);
	return rc;
}

struct vdpa_binding *
vdpa_device_binding(const struct vdpa_device *dev)
{
	struct vdpa_binding *binding = NULL;

	vdpa_moves_hold();
	if (dev->priv != NULL) {
		pthread_mutex_lock(&dev->priv->lock);
		binding = dev->priv->binding;
		pthread_mutex_unlock(&dev->priv->lock);
	}
	vdpa_moves_release();
	return binding;
}

struct vdpa_device *
vdpa_binding_device(const struct vdpa_binding *binding)
{
	struct vdpa_device *dev;

	vdpa_moves_hold();
	dev = binding->priv->dev;
	vdpa_moves_release();
	return dev;
}

/* ---- stand-in ---- */

bool
vdpa_swap_holds_locked(const struct vdpa_binding *binding)
{
	return binding->swap != NULL && binding->swap->standin &&
		binding->swap->phase != VDPA_SWAP_MOVED;
}

int
vdpa_binding_standin_set(struct vdpa_binding *binding, const char *standin)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = 0;

	if (standin == NULL)
		standin = "";
	if (strlen(standin) >= sizeof(binding->standin))
		return vdpa_error_set(-EINVAL, "standin=%s: longer than %zu bytes", standin,
			sizeof(binding->standin) - 1);
	vdpa_moves_hold();
	pthread_mutex_lock(&priv->lock);
	if (strcmp(standin, priv->dev->name) == 0)
		rc = vdpa_error_set(
			-EINVAL, "standin=%s: a device cannot stand in for itself", standin);
	else
		snprintf(binding->standin, sizeof(binding->standin), "%s", standin);
	pthread_mutex_unlock(&priv->lock);
	vdpa_moves_release();
	return rc;
}

struct standin {
	struct vdpa_binding *binding;
	struct vdpa_swap *swap;
	const char *name;
	int rc;
};

/* While the registry is held nobody can free it, and afterwards it is reserved. */
static int
reserve_standin(struct vdpa_device *dev, void *arg)
{
	struct standin *standin = arg;

	if (strcmp(dev->name, standin->name) != 0)
		return 0;
	standin->rc = reserve(standin->binding, dev, standin->swap);
	return 1;
}

static int
ask_standin(struct vdpa_binding *binding, const char *name, struct vdpa_swap *swap)
{
	struct standin standin = {.binding = binding, .swap = swap, .name = name};

	if (vdpa_device_foreach(reserve_standin, &standin) == 0)
		return vdpa_error_set(-ENODEV, "there is no device %s", name);
	return standin.rc != 0 ? standin.rc : ask(binding, swap, 0);
}

bool
vdpa_swap_standin(struct vdpa_binding *binding)
{
	char name[sizeof(binding->standin)];
	struct vdpa_swap *swap;
	int rc;

	pthread_mutex_lock(&binding->priv->lock);
	memcpy(name, binding->standin, sizeof(name));
	pthread_mutex_unlock(&binding->priv->lock);
	if (vdpa_swap_is_asked(binding))
		return true;
	if (name[0] == '\0' || vdpa_stopping())
		return false;
	swap = calloc(1, sizeof(*swap));
	if (swap == NULL)
		return false;
	swap->standin = true;
	rc = ask_standin(binding, name, swap);
	if (rc != 0) {
		VDPA_LOG(ERR, "%s: the stand-in cannot take over: %s%s%s", binding->name,
			vdpa_error_text(), swap->report.missing[0] != '\0' ? ": " : "",
			swap->report.missing);
		free(swap);
	}
	return rc == 0;
}
