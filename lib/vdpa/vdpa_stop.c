/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <rte_common.h>

#include "vdpa_private.h"

#define STOP_ALL_MS      1200 /* the stop deadline + 1 s */
#define STOP_ALL_DEVICES 1024

static atomic_bool stopping;

bool
vdpa_stopping(void)
{
	return atomic_load(&stopping);
}

static int
kick_pass(struct vdpa_device *dev, void *arg __rte_unused)
{
	vdpa_priv_report(dev->priv);
	return 0;
}

struct stop_all {
	struct vdpa_device *devices[STOP_ALL_DEVICES];
	unsigned int nr_devices;
	struct vdpa_patience patience;
	void (*hung)(const char *device, void *arg);
	void *arg;
	int nr_hung;
};

/* The pass that was queued stops what runs; one that is under way may be starting it. */
static int
wait_stopped(struct vdpa_device *dev, void *arg)
{
	struct vdpa_device_priv *priv;
	struct stop_all *all = arg;
	struct vdpa_binding *binding;
	bool hung;

	vdpa_moves_hold();
	priv = dev->priv;
	pthread_mutex_lock(&priv->lock);
	binding = priv->binding;
	hung = priv->hung;
	pthread_mutex_unlock(&priv->lock);
	vdpa_moves_release();
	if (binding != NULL && !hung && vdpa_work_wait_for(&binding->work, &all->patience) != 0) {
		vdpa_device_fence(dev, "stop");
		hung = true;
	}
	if (hung) {
		all->nr_hung++;
		if (all->hung != NULL)
			all->hung(dev->name, all->arg);
	}
	return 0;
}

static int
collect(struct vdpa_device *dev, void *arg)
{
	struct stop_all *all = arg;

	if (all->nr_devices == RTE_DIM(all->devices))
		return wait_stopped(dev, all);
	all->devices[all->nr_devices++] = dev;
	return 0;
}

int
vdpa_stop_all(uint32_t deadline_ms, void (*hung)(const char *device, void *arg), void *arg)
{
	struct stop_all all = {.hung = hung, .arg = arg};

	if (deadline_ms == 0)
		deadline_ms = STOP_ALL_MS;
	vdpa_patience_begin(&all.patience, deadline_ms);
	atomic_store(&stopping, true);
	vdpa_device_foreach(kick_pass, NULL);
	/* a pass that ends may need the registry */
	vdpa_device_foreach(collect, &all);
	for (unsigned int i = 0; i < all.nr_devices; i++)
		wait_stopped(all.devices[i], &all);
	return all.nr_hung;
}
