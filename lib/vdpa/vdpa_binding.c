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

#define DESTROY_MS        2500u /* outlasts the deadline of an op that runs */
#define CONFIG_WRITES_MAX 64    /* that wait; a driver that writes faster is told so */

static void
free_arrays(struct vdpa_binding *binding)
{
	free(binding->run.vqs);
	free(binding->plan);
	free(binding->configs);
	free(binding->states);
	free(binding->doorbells);
}

static void
binding_free(struct vdpa_binding *binding)
{
	if (binding == NULL)
		return;
	vdpa_cvq_free(binding->cvq);
	vdpa_relay_free(binding->relay);
	free_arrays(binding);
	free(binding);
}

static int
effect_set_pairs(void *arg, uint16_t nr_pairs)
{
	struct vdpa_binding *binding = arg;
	struct vdpa_device_priv *priv = binding->priv;
	int rc;

	if (vdpa_pass_is_hung(priv))
		return -ETIMEDOUT;
	rc = VDPA_OP(priv, "cvq", CVQ_MS, priv->dev->ops->set_active_queues(priv->dev, nr_pairs));

	if (rc == 0) {
		pthread_mutex_lock(&binding->priv->lock);
		binding->run.nr_active_pairs = nr_pairs;
		pthread_mutex_unlock(&binding->priv->lock);
	}
	return rc;
}

static int
effect_command(void *arg, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	struct vdpa_device_priv *priv = ((struct vdpa_binding *)arg)->priv;
	int rc;

	if (priv->dev->ops->cvq == NULL)
		return -ENOTSUP;
	if (vdpa_pass_is_hung(priv))
		return -ETIMEDOUT;
	rc = VDPA_OP(
		priv, "cvq", CVQ_MS, priv->dev->ops->cvq(priv->dev, cls, cmd, data, len_bytes));
	/* a MAC address set this way is read in configuration space */
	if (rc == 0)
		rc = VDPA_OP(priv, "config_read", OP_MS, vdpa_device_config_load(priv));
	return rc;
}

static void
effect_announce_ack(void *arg)
{
	vdpa_announce_acknowledged(((struct vdpa_binding *)arg)->priv);
}

int
vdpa_binding_reserve(struct vdpa_binding *binding, uint16_t nr_vqs)
{
	struct vdpa_binding more = {0};

	if (nr_vqs <= binding->nr_vqs)
		return 0;
	more.run.vqs = calloc(nr_vqs, sizeof(*more.run.vqs));
	more.plan = calloc(nr_vqs, sizeof(*more.plan));
	more.configs = calloc(nr_vqs, sizeof(*more.configs));
	more.states = calloc(nr_vqs, sizeof(*more.states));
	more.doorbells = calloc(nr_vqs, sizeof(*more.doorbells));
	if (more.run.vqs == NULL || more.plan == NULL || more.configs == NULL ||
		more.states == NULL || more.doorbells == NULL) {
		free_arrays(&more);
		return -ENOMEM;
	}
	for (uint16_t i = 0; i < nr_vqs; i++)
		more.doorbells[i] = (struct vdpa_doorbell){.dev = binding->priv->dev, .index = i};
	free_arrays(binding);
	binding->run.vqs = more.run.vqs;
	binding->plan = more.plan;
	binding->configs = more.configs;
	binding->states = more.states;
	binding->doorbells = more.doorbells;
	binding->nr_vqs = nr_vqs;
	return 0;
}

static int
binding_alloc(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv = binding->priv;
	int rc = vdpa_binding_reserve(binding, priv->contract.nr_vqs);

	return rc == 0 && priv->class_cvq ? vdpa_binding_cvq_create(binding) : rc;
}

int
vdpa_binding_cvq_create(struct vdpa_binding *binding)
{
	struct vdpa_cvq_effects effects = {
		.set_pairs = effect_set_pairs,
		.command = effect_command,
		.announce_ack = effect_announce_ack,
		.arg = binding,
	};

	binding->cvq = vdpa_cvq_create(&effects, binding->priv->contract.nr_pairs);
	return binding->cvq != NULL ? 0 : -ENOMEM;
}

struct vdpa_binding *
vdpa_binding_create(
	const char *name, struct vdpa_device *dev, const struct vdpa_binding_ops *ops, void *arg)
{
	struct vdpa_device_priv *priv;
	struct vdpa_binding *binding = calloc(1, sizeof(*binding));
	bool taken;

	if (binding == NULL) {
		vdpa_error_set(-ENOMEM, "%s: no memory", name);
		return NULL;
	}
	vdpa_moves_hold();
	priv = dev->priv;
	vdpa_moves_release();
	binding->priv = priv;
	binding->ops = ops;
	binding->arg = arg;
	binding->work.fn = vdpa_reconcile;
	binding->writes_tail = &binding->writes;
	snprintf(binding->name, sizeof(binding->name), "%s", name);
	if (binding_alloc(binding) != 0) {
		binding_free(binding);
		vdpa_error_set(-ENOMEM, "%s: no memory", name);
		return NULL;
	}
	pthread_mutex_lock(&priv->lock);
	taken = priv->binding != NULL;
	if (!taken)
		priv->binding = binding;
	pthread_mutex_unlock(&priv->lock);
	if (taken) {
		binding_free(binding);
		vdpa_error_set(-EEXIST, "%s: device %s has a binding", name, dev->name);
		return NULL;
	}
	return binding;
}

int
vdpa_binding_destroy(struct vdpa_binding *binding)
{
	struct vdpa_device_priv *priv;
	struct vdpa_config_write *write;
	uint32_t wait_ms;
	bool busy;

	if (binding == NULL)
		return 0;
	priv = binding->priv;
	pthread_mutex_lock(&priv->lock);
	if (priv->reserved != NULL || binding->swap != NULL || priv->stuck) {
		vdpa_error_set(-EBUSY, "%s: %s", binding->name,
			priv->stuck ? "an operation of the device hangs" : "is part of a swap");
		pthread_mutex_unlock(&priv->lock);
		return -EBUSY;
	}
	busy = binding->session != NULL;
	wait_ms = priv->hung ? 0 : RTE_MAX(DESTROY_MS, priv->info.op_deadline_ms + 500);
	if (busy)
		vdpa_error_set(-EBUSY, "%s: %s is attached", binding->name, binding->session->peer);
	else
		priv->binding = NULL; /* reports find it no more */
	pthread_mutex_unlock(&priv->lock);
	if (busy)
		return -EBUSY;
	/* the pass of a session that was just closed, or of a report */
	if (vdpa_work_wait(&binding->work, wait_ms) != 0) {
		pthread_mutex_lock(&priv->lock);
		priv->binding = binding;
		pthread_mutex_unlock(&priv->lock);
		return vdpa_error_set(
			-EBUSY, "%s: an operation of the device hangs", binding->name);
	}
	while ((write = binding->writes) != NULL) {
		binding->writes = write->next;
		free(write);
	}
	binding_free(binding);
	return 0;
}

const char *
vdpa_binding_name(const struct vdpa_binding *binding)
{
	return binding->name;
}

void
vdpa_binding_contract(const struct vdpa_binding *binding, struct vdpa_contract *contract)
{
	vdpa_moves_hold();
	*contract = binding->priv->contract;
	vdpa_moves_release();
}

void
vdpa_binding_config_read(
	struct vdpa_binding *binding, uint32_t offset, void *data, uint32_t len_bytes)
{
	struct vdpa_device_priv *priv = binding->priv;
	uint8_t config[sizeof(priv->config)];
	uint32_t size;

	memset(data, 0, len_bytes);
	pthread_mutex_lock(&priv->lock);
	size = RTE_MIN(priv->info.config_size_bytes, priv->contract.config_size_bytes);
	memcpy(config, priv->config, sizeof(config));
	if (priv->type->config_limit != NULL)
		priv->type->config_limit(&priv->contract, config);
	pthread_mutex_unlock(&priv->lock);
	if (offset < size)
		memcpy(data, config + offset, RTE_MIN(len_bytes, size - offset));
}

int
vdpa_binding_config_write(
	struct vdpa_binding *binding, uint32_t offset, const void *data, uint32_t len_bytes)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_config_write *write, *other;
	unsigned int nr = 0;
	uint32_t size_bytes;
	bool writable;

	vdpa_moves_hold();
	writable = priv->dev->ops->config_write != NULL;
	size_bytes = priv->contract.config_size_bytes;
	vdpa_moves_release();
	if (!writable)
		return vdpa_error_set(
			-ENOTSUP, "%s: configuration space is read-only", binding->name);
	if (len_bytes == 0 || offset >= size_bytes || len_bytes > size_bytes - offset)
		return vdpa_error_set(-EINVAL,
			"%s: write of %u bytes at %u is outside configuration space", binding->name,
			len_bytes, offset);
	write = malloc(sizeof(*write));
	if (write == NULL)
		return -ENOMEM;
	*write = (struct vdpa_config_write){.offset = offset, .len_bytes = len_bytes};
	memcpy(write->data, data, len_bytes);
	pthread_mutex_lock(&priv->lock);
	for (other = binding->writes; other != NULL; other = other->next)
		nr++;
	if (nr < CONFIG_WRITES_MAX) {
		*binding->writes_tail = write;
		binding->writes_tail = &write->next;
		write = NULL;
	}
	pthread_mutex_unlock(&priv->lock);
	if (write != NULL) {
		free(write);
		return vdpa_error_set(
			-EBUSY, "%s: too many writes of configuration space wait", binding->name);
	}
	return vdpa_work_queue(&binding->work);
}
