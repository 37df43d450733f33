/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa_pass.h"

/* Configuration space: what the driver wrote, and what the device changed. */

/* Read configuration space anew. */
static int
load_config(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = VDPA_OP(priv, "config_read", OP_MS, vdpa_device_config_load(priv));

	if (rc != 0 && rc != -ETIMEDOUT)
		vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "config_read: %s", strerror(-rc));
	return rc;
}

/* The next write that waits. Here, not in memory of its own: an op that hangs may keep it. */
static bool
next_write(struct vdpa_binding *binding, struct vdpa_config_write *to)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_config_write *write;

	pthread_mutex_lock(&priv->lock);
	write = binding->writes;
	if (write != NULL) {
		binding->writes = write->next;
		if (binding->writes == NULL)
			binding->writes_tail = &binding->writes;
	}
	pthread_mutex_unlock(&priv->lock);
	if (write == NULL)
		return false;
	*to = *write;
	free(write);
	return true;
}

static int
write_config(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_config_write write;
	int rc = 0;

	while (rc != -ETIMEDOUT && next_write(binding, &write)) {
		rc = VDPA_OP(priv, "config_write", OP_MS,
			priv->dev->ops->config_write(
				priv->dev, write.offset, write.data, write.len_bytes));
		if (rc == -ETIMEDOUT)
			return rc;
		if (rc != 0)
			VDPA_LOG(WARNING, "%s: write of configuration space: %s", priv->dev->name,
				strerror(-rc));
		rc = load_config(binding);
	}
	return rc;
}

static int
take_config(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (!atomic_exchange(&priv->config_changed, false))
		return 0;
	rc = load_config(binding);
	if (rc == 0 && binding->ops->config_changed != NULL)
		binding->ops->config_changed(binding, binding->arg);
	return rc;
}

int
vdpa_pass_config(struct vdpa_binding *binding)
{
	int rc = write_config(binding);

	return rc == -ETIMEDOUT ? rc : take_config(binding);
}
