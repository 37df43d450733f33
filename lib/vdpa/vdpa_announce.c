/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <linux/if_ether.h>

#include "vdpa_pass.h"

/*
 * Where a guest is now has to be told to the network, so that frames for it come here: by the
 * device, when the front end asks for that; by the guest itself, where its control virtqueue passes
 * here.
 */

int
vdpa_session_announce(struct vdpa_session *session, const uint8_t mac[ETH_ALEN])
{
	static const uint8_t zero[ETH_ALEN];
	struct vdpa_device_priv *priv = session->binding->priv;

	if (!priv->contract.can_announce)
		return vdpa_error_set(-ENOTSUP, "%s: does not announce", session->binding->name);
	if ((mac[0] & 1) != 0 || memcmp(mac, zero, sizeof(zero)) == 0)
		return vdpa_error_set(
			-EINVAL, "%s: not the MAC address of a guest", session->binding->name);
	pthread_mutex_lock(&priv->lock);
	memcpy(session->announce_mac, mac, sizeof(session->announce_mac));
	session->announce = true;
	vdpa_work_queue(&session->binding->work);
	pthread_mutex_unlock(&priv->lock);
	return 0;
}

void
vdpa_pass_announce(struct vdpa_binding *binding)
{
	struct vdpa_session *session = binding->run.session;
	struct vdpa_device_priv *priv = binding->priv;
	uint8_t mac[ETH_ALEN];
	bool wanted;
	int rc;

	if (session == NULL)
		return;
	pthread_mutex_lock(&priv->lock);
	wanted = session->announce;
	session->announce = false;
	memcpy(mac, session->announce_mac, sizeof(mac));
	pthread_mutex_unlock(&priv->lock);
	if (!wanted)
		return;
	rc = VDPA_OP(priv, "announce", OP_MS, priv->dev->ops->announce(priv->dev, mac));
	if (rc != 0 && rc != -ETIMEDOUT)
		VDPA_LOG(WARNING, "%s: not announced: %s", priv->dev->name, strerror(-rc));
}

/* True: that is new. */
static bool
ask_guest(struct vdpa_device_priv *priv, bool ask)
{
	bool former;

	pthread_mutex_lock(&priv->lock);
	former = priv->announce;
	priv->announce = ask;
	pthread_mutex_unlock(&priv->lock);
	return former != ask;
}

void
vdpa_pass_arrived(struct vdpa_binding *binding, const struct vdpa_plan *plan, bool fresh)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_type *type = priv->type;
	bool first = !plan->session->arrived;
	bool able = type->config_announce != NULL && plan->ctrl_vq >= 0 &&
		binding->run.vqs[plan->ctrl_vq].ready &&
		(plan->features & type->features_announce) == type->features_announce;

	plan->session->arrived = true;
	/* a driver that begins anew is where it is; a stop and a start are no arrival either */
	if ((fresh || first) && ask_guest(priv, !fresh && able))
		vdpa_config_changed(priv->dev);
}

void
vdpa_announce_acknowledged(struct vdpa_device_priv *priv)
{
	ask_guest(priv, false);
	vdpa_device_config_load(priv);
}

void
vdpa_announce_overlay(struct vdpa_device_priv *priv, void *space)
{
	if (priv->announce)
		priv->type->config_announce(space);
}
