/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stddef.h>

#include <linux/virtio_ring.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_pass.h"

static bool
in_domain(const struct vdpa_domain *whole, const struct vdpa_domain *part, uint32_t index)
{
	uint32_t nr = 0;

	if (whole != NULL)
		vdpa_domain_ranges(whole, &nr);
	for (uint32_t i = 0; i < nr; i++)
		if (vdpa_range_same(part, index, whole, i))
			return true;
	return false;
}

static int
map_differences(
	struct vdpa_device_priv *priv, const struct vdpa_domain *from, const struct vdpa_domain *to)
{
	const struct vdpa_device_ops *ops = priv->dev->ops;
	const struct vdpa_range *ranges;
	uint32_t nr = 0;
	int rc = 0;

	ranges = from != NULL ? vdpa_domain_ranges(from, &nr) : NULL;
	for (uint32_t i = 0; i < nr && rc == 0; i++)
		if (!in_domain(to, from, i))
			rc = VDPA_OP(priv, "unmap", OP_MS,
				ops->unmap(priv->dev, ranges[i].iova, ranges[i].size_bytes));
	nr = 0;
	ranges = to != NULL ? vdpa_domain_ranges(to, &nr) : NULL;
	for (uint32_t i = 0; i < nr && rc == 0; i++) {
		if (in_domain(from, to, i))
			continue;
		rc = VDPA_OP(priv, "map", OP_MS, ops->map(priv->dev, &ranges[i]));
		/* what was mapped before it must not stay behind the domain's back */
		for (uint32_t k = i; rc != 0 && rc != -ETIMEDOUT && k-- > 0;)
			if (!in_domain(from, to, k))
				VDPA_OP(priv, "unmap", OP_MS,
					ops->unmap(
						priv->dev, ranges[k].iova, ranges[k].size_bytes));
	}
	return rc;
}

void
vdpa_pass_take_domain(struct vdpa_binding *binding, struct vdpa_domain *domain)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_domain *former;

	pthread_mutex_lock(&priv->lock);
	former = binding->run.domain;
	binding->run.domain = domain != NULL ? vdpa_domain_get(domain) : NULL;
	priv->domain = binding->run.domain;
	pthread_mutex_unlock(&priv->lock);
	vdpa_domain_put(former);
}

void
vdpa_pass_take_inflight(struct vdpa_binding *binding, struct vdpa_inflight *inflight)
{
	struct vdpa_inflight *former = binding->run.inflight;

	binding->run.inflight = vdpa_inflight_get(inflight);
	vdpa_inflight_put(former);
}

/* To the state after registration; what the device had mapped is gone, unless it keeps that. */
int
vdpa_pass_device_reset(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = VDPA_OP(priv, "reset", RESET_MS, priv->dev->ops->reset(priv->dev));

	binding->run.device_logs = false;
	if (rc == -ETIMEDOUT)
		return rc;
	vdpa_pass_take_inflight(binding, NULL);
	if ((priv->info.caps & VDPA_CAP_MAP_PERSIST) == 0)
		vdpa_pass_take_domain(binding, NULL);
	return rc;
}

/*
 * Make the device reach another memory. A HOST_VA device is told by start, or by update_memory
 * while it runs.
 */
int
vdpa_pass_set_domain(struct vdpa_binding *binding, struct vdpa_domain *domain)
{
	struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_device_ops *ops = priv->dev->ops;
	int rc = 0;

	if (binding->run.domain == domain)
		return 0;
	if (ops->set_map != NULL) {
		uint32_t nr = 0;
		const struct vdpa_range *ranges = domain != NULL ? vdpa_domain_ranges(domain, &nr)
								 : NULL;

		rc = VDPA_OP(priv, "set_map", OP_MS, ops->set_map(priv->dev, ranges, nr));
	} else if (ops->map != NULL) {
		rc = map_differences(priv, binding->run.domain, domain);
	} else if (binding->run.session != NULL) {
		rc = VDPA_OP(priv, "update_memory", OP_MS, ops->update_memory(priv->dev, domain));
	}
	if (rc == 0)
		vdpa_pass_take_domain(binding, domain);
	return rc;
}

/* Where a split ring stands whose buffers are used in order. */
int
vdpa_pass_used_index(
	const struct vdpa_domain *domain, uint64_t device_iova, struct vdpa_vq_state *state)
{
	uint16_t used;
	int rc;

	rc = vdpa_domain_read(
		domain, device_iova + offsetof(struct vring_used, idx), &used, sizeof(used));
	if (rc == 0) {
		state->used = rte_le_to_cpu_16(used);
		state->avail = state->used;
	}
	return rc;
}
