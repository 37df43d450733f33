/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_private.h"
#include "vdpa_relay.h"

void
vdpa_device_set_bound(struct vdpa_device *dev, const char *text)
{
	vdpa_moves_hold();
	pthread_mutex_lock(&dev->priv->lock);
	snprintf(dev->priv->bound, sizeof(dev->priv->bound), "%s", text != NULL ? text : "");
	pthread_mutex_unlock(&dev->priv->lock);
	vdpa_moves_release();
}

const char *
vdpa_phase_name(enum vdpa_phase phase)
{
	static const char *const names[] = {
#define PHASE_NAME(name, text) [name] = text,
		VDPA_PHASES(PHASE_NAME)
#undef PHASE_NAME
	};

	return names[phase];
}

const char *
vdpa_mode_name(enum vdpa_mode mode)
{
	static const char *const names[] = {
#define MODE_NAME(name, text) [name] = text,
		VDPA_MODES(MODE_NAME)
#undef MODE_NAME
	};

	return (unsigned int)mode < RTE_DIM(names) ? names[mode] : NULL;
}

const char *
vdpa_relay_name(enum vdpa_relay_policy relay)
{
	static const char *const names[] = {
#define RELAY_NAME(name, text) [name] = text,
		VDPA_RELAYS(RELAY_NAME)
#undef RELAY_NAME
	};

	return (unsigned int)relay < RTE_DIM(names) ? names[relay] : NULL;
}

const char *
vdpa_health_name(enum vdpa_health health)
{
	static const char *const names[] = {
#define HEALTH_NAME(name, text) [name] = text,
		VDPA_HEALTHS(HEALTH_NAME)
#undef HEALTH_NAME
	};

	return (unsigned int)health < RTE_DIM(names) ? names[health] : NULL;
}

void
vdpa_device_status_get(struct vdpa_device *dev, struct vdpa_device_status *status)
{
	struct vdpa_device_priv *priv;
	const struct vdpa_session *session;

	vdpa_moves_hold();
	priv = dev->priv;
	memset(status, 0, sizeof(*status));
	snprintf(status->name, sizeof(status->name), "%s", dev->name);
	if (dev->mgmtdev != NULL)
		snprintf(status->mgmtdev, sizeof(status->mgmtdev), "%s", dev->mgmtdev->name);
	status->virtio_id = priv->info.virtio_id;
	status->nr_vqs = priv->contract.nr_vqs;
	status->nr_pairs = priv->contract.nr_pairs;
	status->features_offered = priv->contract.features;
	status->caps = priv->info.caps;

	pthread_mutex_lock(&priv->lock);
	if (priv->binding != NULL)
		memcpy(status->standin, priv->binding->standin, sizeof(status->standin));
	memcpy(status->bound, priv->bound, sizeof(status->bound));
	memcpy(status->last_error, priv->last_error, sizeof(status->last_error));
	status->health = priv->health;
	status->sessions = priv->sessions;
	status->starts = priv->starts;
	status->swaps = priv->swaps;
	status->failures = priv->failures;
	session = priv->binding != NULL ? priv->binding->session : NULL;
	if (session != NULL) {
		status->attached = true;
		memcpy(status->peer, session->peer, sizeof(status->peer));
		status->features_agreed = session->features;
	}
	status->relay = priv->relay;
	status->log = priv->log;
	status->dirty_pages = priv->dirty_pages;
	status->dirty_tables = priv->dirty_tables;
	for (int i = 0; i < VDPA_NR_PHASES; i++)
		vdpa_times_stat(&priv->phases[i], &status->phases[i]);
	status->relayed = priv->relayed;
	status->lag_max = priv->lag_max;
	if (priv->binding != NULL && priv->binding->relay != NULL)
		vdpa_relay_counters(priv->binding->relay, status);
	if (priv->binding != NULL && priv->binding->run.session != NULL) {
		status->running = true;
		status->mode = priv->mode;
		snprintf(status->mode_why, sizeof(status->mode_why), "%s", priv->mode_why);
		status->nr_vqs_running = priv->binding->run.nr_vqs;
		status->nr_active_pairs = priv->binding->run.nr_active_pairs;
	}
	if (priv->type->config_status != NULL)
		priv->type->config_status(priv->contract.features, priv->config, status);
	pthread_mutex_unlock(&priv->lock);
	vdpa_moves_release();
}

int
vdpa_device_vq_stats(struct vdpa_device *dev, uint16_t index, uint64_t values[VDPA_VQ_STATS_MAX])
{
	uint16_t nr_vqs;
	int nr = 0, rc;

	if (dev->ops->vq_stats == NULL)
		return -ENOTSUP;
	vdpa_moves_hold();
	nr_vqs = dev->priv->info.nr_vqs_max;
	vdpa_moves_release();
	if (index >= nr_vqs)
		return -EINVAL;
	rc = dev->ops->vq_stats(dev, index, values);
	if (rc != 0)
		return rc;
	while (dev->ops->vq_stat_names[nr] != NULL)
		nr++;
	return nr;
}
