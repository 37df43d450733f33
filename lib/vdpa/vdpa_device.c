/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <rte_common.h>

#include "vdpa_private.h"
#include "vdpa_relay.h"

RTE_LOG_REGISTER(vdpa_logtype, lib.vdpa, NOTICE);

/* Taken before any device's lock. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vdpa_device_priv *devices, **devices_tail = &devices;
static struct vdpa_bus_driver *bus_drivers;
/*
 * Which device stands behind which struct vdpa_device_priv. glibc lets readers in while a writer
 * waits, so that one may hold it twice; a writer's turn comes as nobody waits under it.
 */
static pthread_rwlock_t moves = PTHREAD_RWLOCK_INITIALIZER;

void
vdpa_moves_hold(void)
{
	pthread_rwlock_rdlock(&moves);
}

void
vdpa_moves_release(void)
{
	pthread_rwlock_unlock(&moves);
}

static int
refuse(const struct vdpa_device *dev, const char *why)
{
	return vdpa_error_set(-EINVAL, "%s: %s", dev->name, why);
}

static int
check_ops(const struct vdpa_device *dev, const struct vdpa_device_ops *ops)
{
	if (ops->get_info == NULL || ops->start == NULL || ops->stop == NULL || ops->reset == NULL)
		return refuse(dev, "one of the ops get_info, start, stop, reset is missing");
	if ((ops->vq_start == NULL) != (ops->vq_stop == NULL))
		return refuse(dev, "vq_start and vq_stop go together");
	if ((ops->map == NULL) != (ops->unmap == NULL))
		return refuse(dev, "map and unmap go together");
	if ((ops->vq_stats == NULL) != (ops->vq_stat_names == NULL))
		return refuse(dev, "vq_stats and vq_stat_names go together");
	if (ops->vq_stat_names != NULL) {
		unsigned int nr = 0;

		while (ops->vq_stat_names[nr] != NULL)
			nr++;
		if (nr > VDPA_VQ_STATS_MAX)
			return refuse(dev, "more than VDPA_VQ_STATS_MAX statistics");
	}
	return 0;
}

static int
check_caps(const struct vdpa_device *dev, const struct vdpa_device_ops *ops, uint64_t caps)
{
	bool host_va = (caps & VDPA_CAP_HOST_VA) != 0;

	if (host_va + (ops->map != NULL) + (ops->set_map != NULL) != 1)
		return refuse(
			dev, "exactly one of HOST_VA, map with unmap, and set_map must be there");
	if (ops->update_memory != NULL && !host_va)
		return refuse(dev, "update_memory is for HOST_VA");
	if (ops->kick == NULL && !host_va)
		return refuse(dev, "a device that is not HOST_VA needs the op kick");
	if ((ops->vq_start != NULL) != ((caps & VDPA_CAP_LATE_VQ) != 0))
		return refuse(dev, "LATE_VQ and the ops vq_start and vq_stop go together");
	if ((caps & VDPA_CAP_DIRTY) != 0 && (ops->dirty_start == NULL || ops->dirty_stop == NULL))
		return refuse(dev, "DIRTY needs the ops dirty_start and dirty_stop");
	if (ops->cvq != NULL && (caps & VDPA_CAP_CTRL_VQ) != 0)
		return refuse(dev, "CTRL_VQ excludes the op cvq");
	return 0;
}

static int
check_info(const struct vdpa_device *dev, const struct vdpa_device_ops *ops,
	const struct vdpa_info *info)
{
	if (vdpa_type_find(info->virtio_id) == NULL)
		return refuse(dev, "unknown virtio device type");
	if (info->nr_vqs_max == 0 || info->nr_vqs_max > 256)
		return refuse(dev, "nr_vqs_max must be 1 to 256");
	if (info->vq_size_min > info->vq_size_max || info->vq_size_max == 0 ||
		info->vq_size_max > 32768)
		return refuse(dev, "vq_size_min and vq_size_max contradict each other");
	if (info->config_size_bytes > 256)
		return refuse(dev, "config_size_bytes must be at most 256");
	if (info->config_size_bytes != 0 && ops->config_read == NULL)
		return refuse(dev, "configuration space without config_read");
	if (info->iova_first > info->iova_last)
		return refuse(dev, "iova_first is above iova_last");
	return check_caps(dev, ops, info->caps);
}

static void
priv_free(struct vdpa_device_priv *priv)
{
	if (priv == NULL)
		return;
	for (uint16_t i = 0; priv->calls != NULL && i < VDPA_VQS_MAX; i++)
		vdpa_call_close(&priv->calls[i]);
	free(priv->calls);
	free(priv->vq_failed);
	pthread_cond_destroy(&priv->changed);
	pthread_mutex_destroy(&priv->lock);
	free(priv);
}

static int
priv_create(struct vdpa_device *dev, struct vdpa_device_priv **out)
{
	struct vdpa_device_priv *priv = calloc(1, sizeof(*priv));
	pthread_condattr_t attr;
	int rc;

	*out = priv;
	if (priv == NULL)
		return -ENOMEM;
	priv->dev = dev;
	pthread_mutex_init(&priv->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&priv->changed, &attr);
	pthread_condattr_destroy(&attr);
	priv->info.numa_node = -1;
	rc = dev->ops->get_info(dev, &priv->info);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: get_info: %s", dev->name, strerror(-rc));
	if (priv->info.iova_first == 0 && priv->info.iova_last == 0)
		priv->info.iova_last = UINT64_MAX;
	rc = check_info(dev, dev->ops, &priv->info);
	if (rc != 0)
		return rc;
	priv->type = vdpa_type_find(priv->info.virtio_id);
	priv->relay = priv->info.relay;
	priv->mode_why = "";
	vdpa_contract_make(priv);
	priv->calls = calloc(VDPA_VQS_MAX, sizeof(*priv->calls));
	priv->vq_failed = calloc(VDPA_VQS_MAX, sizeof(*priv->vq_failed));
	if (priv->calls == NULL || priv->vq_failed == NULL)
		return -ENOMEM;
	for (uint16_t i = 0; i < VDPA_VQS_MAX; i++)
		atomic_init(&priv->calls[i].fd, -1);
	return vdpa_device_config_load(priv);
}

static void
registry_remove(struct vdpa_device_priv *priv)
{
	struct vdpa_device_priv **at;

	pthread_mutex_lock(&registry_lock);
	for (at = &devices; *at != NULL && *at != priv; at = &(*at)->next)
		;
	if (*at != NULL) {
		*at = priv->next;
		if (*at == NULL)
			devices_tail = at;
	}
	pthread_mutex_unlock(&registry_lock);
}

int
vdpa_device_register(struct vdpa_device *dev)
{
	struct vdpa_device_priv *priv = NULL;
	struct vdpa_bus_driver *driver;
	int rc;

	if (dev->name == NULL || dev->name[0] == '\0' || dev->ops == NULL)
		return vdpa_error_set(-EINVAL, "a device needs a name and ops");
	if (strlen(dev->name) >= VDPA_NAME_MAX)
		return vdpa_error_set(
			-ENAMETOOLONG, "%s: longer than %u bytes", dev->name, VDPA_NAME_MAX - 1);
	rc = check_ops(dev, dev->ops);
	if (rc != 0)
		return rc;
	if (vdpa_device_find(dev->name) != NULL)
		return vdpa_error_set(-EEXIST, "%s: a device of this name exists", dev->name);
	rc = priv_create(dev, &priv);
	if (rc != 0) {
		priv_free(priv);
		return rc;
	}
	dev->priv = priv;
	pthread_mutex_lock(&registry_lock);
	*devices_tail = priv;
	devices_tail = &priv->next;
	pthread_mutex_unlock(&registry_lock);
	for (driver = bus_drivers; driver != NULL && rc == 0; driver = driver->next)
		rc = driver->device_added(dev);
	if (rc != 0)
		vdpa_device_unregister(dev, true);
	else
		VDPA_LOG(INFO, "%s: registered, %s, %u virtqueues", dev->name, priv->type->name,
			priv->contract.nr_vqs);
	return rc;
}

int
vdpa_device_unregister(struct vdpa_device *dev, bool force)
{
	struct vdpa_device_priv *priv;
	struct vdpa_bus_driver *driver;
	bool bound = false;

	vdpa_moves_hold();
	priv = dev->priv;
	if (priv != NULL) {
		pthread_mutex_lock(&priv->lock);
		bound = priv->reserved != NULL ||
			(priv->binding != NULL && priv->binding->swap != NULL);
		pthread_mutex_unlock(&priv->lock);
	}
	vdpa_moves_release();
	if (priv == NULL)
		return 0;
	if (bound)
		return vdpa_error_set(-EBUSY, "%s: is part of a swap", dev->name);
	for (driver = bus_drivers; driver != NULL; driver = driver->next) {
		int rc = driver->device_removed(dev, force);

		if (rc != 0)
			return rc;
	}
	vdpa_moves_hold();
	priv = dev->priv; /* a swap may have been asked for since */
	pthread_mutex_lock(&priv->lock);
	bound = priv->binding != NULL;
	if (bound)
		vdpa_error_set(-EBUSY, "%s: binding %s is in use", dev->name, priv->binding->name);
	pthread_mutex_unlock(&priv->lock);
	vdpa_moves_release();
	if (bound)
		return -EBUSY;
	registry_remove(priv);
	pthread_rwlock_wrlock(&moves);
	dev->priv = NULL;
	pthread_rwlock_unlock(&moves);
	priv_free(priv);
	return 0;
}

struct vdpa_device *
vdpa_device_find(const char *name)
{
	struct vdpa_device_priv *priv;
	struct vdpa_device *dev;

	pthread_mutex_lock(&registry_lock);
	for (priv = devices; priv != NULL && strcmp(priv->dev->name, name) != 0; priv = priv->next)
		;
	dev = priv != NULL ? priv->dev : NULL;
	pthread_mutex_unlock(&registry_lock);
	return dev;
}

int
vdpa_device_foreach(int (*fn)(struct vdpa_device *dev, void *arg), void *arg)
{
	struct vdpa_device_priv *priv;
	int rc = 0;

	pthread_mutex_lock(&registry_lock);
	for (priv = devices; priv != NULL && rc == 0; priv = priv->next)
		rc = fn(priv->dev, arg);
	pthread_mutex_unlock(&registry_lock);
	return rc;
}

int
vdpa_device_config_load(struct vdpa_device_priv *priv)
{
	uint32_t size = priv->info.config_size_bytes;
	uint8_t config[sizeof(priv->config)];
	int rc;

	if (size == 0)
		return 0;
	rc = priv->dev->ops->config_read(priv->dev, 0, config, size);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: config_read: %s", priv->dev->name, strerror(-rc));
	pthread_mutex_lock(&priv->lock);
	vdpa_announce_overlay(priv, config);
	memcpy(priv->config, config, size);
	pthread_mutex_unlock(&priv->lock);
	return 0;
}

int
vdpa_device_relay_set(struct vdpa_device *dev, enum vdpa_relay_policy relay)
{
	struct vdpa_device_priv *priv;
	bool promised;

	vdpa_moves_hold();
	priv = dev->priv;
	pthread_mutex_lock(&priv->lock);
	/* a bus driver has its contract and offers it to whoever comes */
	promised = priv->binding != NULL && priv->contract.can_log &&
		!vdpa_can_log(&priv->info, relay);
	if (!promised)
		priv->relay = relay;
	if (priv->binding == NULL)
		priv->contract.can_log = vdpa_can_log(&priv->info, relay);
	pthread_mutex_unlock(&priv->lock);
	if (!promised)
		vdpa_priv_report(priv);
	vdpa_moves_release();
	return promised
		? vdpa_error_set(-EBUSY,
			  "%s: its consumer was promised a log, which needs the relay", dev->name)
		: 0;
}

const void *
vdpa_vq_group(struct vdpa_device *dev, uint16_t index)
{
	const void *group;

	vdpa_moves_hold();
	if (dev->ops->vq_group != NULL && index < dev->priv->info.nr_vqs_max)
		group = dev->ops->vq_group(dev, index);
	else
		group = &dev->priv->calls[index];
	vdpa_moves_release();
	return group;
}

void
vdpa_bus_driver_register(struct vdpa_bus_driver *driver)
{
	struct vdpa_bus_driver **at = &bus_drivers;

	while (*at != NULL)
		at = &(*at)->next;
	*at = driver;
}

struct vdpa_bus_driver *
vdpa_bus_driver_find(const char *name)
{
	struct vdpa_bus_driver *driver = bus_drivers;

	while (driver != NULL && strcmp(driver->name, name) != 0)
		driver = driver->next;
	return driver;
}

static void
registry_exchange_locked(struct vdpa_device_priv *a, struct vdpa_device_priv *b)
{
	struct vdpa_device_priv **at_a = &devices, **at_b = &devices, *next;

	while (*at_a != a)
		at_a = &(*at_a)->next;
	while (*at_b != b)
		at_b = &(*at_b)->next;
	*at_a = b;
	*at_b = a;
	next = a->next;
	a->next = b->next;
	b->next = next;
	for (devices_tail = &devices; *devices_tail != NULL; devices_tail = &(*devices_tail)->next)
		;
}

/* All that is the device's and not its binding's. */
static void
priv_exchange_locked(struct vdpa_device_priv *a, struct vdpa_device_priv *b)
{
	uint8_t config[sizeof(a->config)];
	char error[sizeof(a->last_error)];
	bool changed = atomic_load(&a->config_changed);
	int failed = atomic_load(&a->failed);
	const char *why = atomic_load(&a->failed_why);

	RTE_SWAP(a->dev, b->dev);
	RTE_SWAP(a->info, b->info);
	RTE_SWAP(a->health, b->health);
	RTE_SWAP(a->hung, b->hung);
	RTE_SWAP(a->stuck, b->stuck);
	RTE_SWAP(a->relay, b->relay);
	RTE_SWAP(a->sessions, b->sessions);
	RTE_SWAP(a->starts, b->starts);
	RTE_SWAP(a->failures, b->failures);
	RTE_SWAP(a->swaps, b->swaps);
	RTE_SWAP(a->domain, b->domain);
	atomic_store(&a->config_changed, atomic_load(&b->config_changed));
	atomic_store(&b->config_changed, changed);
	atomic_store(&a->failed, atomic_load(&b->failed));
	atomic_store(&b->failed, failed);
	atomic_store(&a->failed_why, atomic_load(&b->failed_why));
	atomic_store(&b->failed_why, why);
	memcpy(config, a->config, sizeof(config));
	memcpy(a->config, b->config, sizeof(config));
	memcpy(b->config, config, sizeof(config));
	memcpy(error, a->last_error, sizeof(error));
	memcpy(a->last_error, b->last_error, sizeof(error));
	memcpy(b->last_error, error, sizeof(error));
	for (uint16_t i = 0; i < VDPA_VQS_MAX; i++) {
		atomic_store(&a->vq_failed[i], 0);
		atomic_store(&b->vq_failed[i], 0);
	}
	a->dev->priv = a;
	b->dev->priv = b;
}

void
vdpa_devices_exchange(struct vdpa_binding *binding, struct vdpa_binding *other)
{
	struct vdpa_device_priv *a = binding->priv, *b = other->priv;

	pthread_mutex_lock(&registry_lock);
	pthread_rwlock_wrlock(&moves);
	/* nobody else takes two of these */
	pthread_mutex_lock(&RTE_MIN(a, b)->lock);
	pthread_mutex_lock(&RTE_MAX(a, b)->lock);
	registry_exchange_locked(a, b);
	priv_exchange_locked(a, b);
	vdpa_contract_make(b);
	RTE_SWAP(binding->run.domain, other->run.domain);
	RTE_SWAP(binding->run.inflight, other->run.inflight);
	RTE_SWAP(binding->run.device_logs, other->run.device_logs);
	RTE_SWAP(binding->run.log_broken, other->run.log_broken);
	RTE_SWAP(binding->relay, other->relay);
	RTE_SWAP(binding->let_go, other->let_go);
	for (uint16_t i = 0; i < binding->nr_vqs; i++)
		binding->doorbells[i].dev = a->dev;
	for (uint16_t i = 0; i < other->nr_vqs; i++)
		other->doorbells[i].dev = b->dev;
	pthread_mutex_unlock(&b->lock);
	pthread_mutex_unlock(&a->lock);
	pthread_rwlock_unlock(&moves);
	pthread_mutex_unlock(&registry_lock);
}

RTE_FINI(vdpa_fini)
{
	vdpa_workers_stop();
	vdpa_ops_stop();
}
