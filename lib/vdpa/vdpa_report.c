/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vdpa_private.h"
#include "vring.h"

static struct {
	pthread_mutex_t lock;
	void (*fn)(enum vdpa_event_type type, const char *device, const char *text, void *arg);
	void *arg;
} listener = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
vdpa_event_listen(
	void (*fn)(enum vdpa_event_type type, const char *device, const char *text, void *arg),
	void *arg)
{
	pthread_mutex_lock(&listener.lock);
	listener.fn = fn;
	listener.arg = arg;
	pthread_mutex_unlock(&listener.lock);
}

void
vdpa_device_event(struct vdpa_device_priv *priv, enum vdpa_event_type type, const char *format, ...)
{
	bool failure = type == VDPA_EVENT_VQ_FAILED || type == VDPA_EVENT_DEVICE_FAILED;
	char text[sizeof(priv->last_error)], name[VDPA_NAME_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	pthread_mutex_lock(&priv->lock);
	snprintf(name, sizeof(name), "%s", priv->dev->name);
	if (failure) {
		memcpy(priv->last_error, text, sizeof(text));
		priv->failures++;
	}
	pthread_mutex_unlock(&priv->lock);
	pthread_mutex_lock(&listener.lock);
	if (listener.fn != NULL)
		listener.fn(type, name, text, listener.arg);
	else if (failure)
		VDPA_LOG(ERR, "%s: %s", name, text);
	else
		VDPA_LOG(INFO, "%s: %s", name, text);
	pthread_mutex_unlock(&listener.lock);
}

void
vdpa_priv_report(struct vdpa_device_priv *priv)
{
	struct vdpa_binding *binding;

	pthread_mutex_lock(&priv->lock);
	binding = priv->binding;
	if (binding != NULL)
		vdpa_work_queue(&binding->work);
	pthread_mutex_unlock(&priv->lock);
}

void
vdpa_config_changed(struct vdpa_device *dev)
{
	vdpa_moves_hold();
	if (dev->priv != NULL) {
		atomic_store(&dev->priv->config_changed, true);
		vdpa_priv_report(dev->priv);
	}
	vdpa_moves_release();
}

void
vdpa_priv_failed(struct vdpa_device_priv *priv, int error, const char *why)
{
	atomic_store(&priv->failed_why, why);
	atomic_store(&priv->failed, error != 0 ? error : -EIO);
	vdpa_priv_report(priv);
}

void
vdpa_device_failed(struct vdpa_device *dev, int error, const char *why)
{
	vdpa_moves_hold();
	if (dev->priv != NULL)
		vdpa_priv_failed(dev->priv, error, why);
	vdpa_moves_release();
}

void
vdpa_vq_failed(struct vdpa_device *dev, uint16_t index, int error, const char *why)
{
	struct vdpa_device_priv *priv;

	vdpa_moves_hold();
	priv = dev->priv;
	if (priv != NULL && index < priv->contract.nr_vqs) {
		atomic_store(&priv->vq_failed_why, why);
		atomic_store(&priv->vq_failed[index], error != 0 ? error : -EIO);
		vdpa_priv_report(priv);
	}
	vdpa_moves_release();
}

void
vdpa_dirty(struct vdpa_device *dev, const struct vring_range *written, uint32_t nr)
{
	struct vdpa_dirty *dirty = atomic_load_explicit(&dev->priv->dirty, memory_order_acquire);

	if (dirty == NULL)
		return;
	/*
	 * What was written has to be there before its bit is looked at: a bit found set may be
	 * taken away this moment, and the page be read by who took it.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t i = 0; i < nr; i++)
		vdpa_dirty_mark(dirty, written[i].iova, written[i].len);
}

void
vdpa_vq_signal(struct vdpa_device *dev, uint16_t index)
{
	vdpa_call_write(&dev->priv->calls[index]);
}

void
vdpa_priv_fence(struct vdpa_device_priv *priv, const char *op)
{
	struct vdpa_device *dev;
	struct vdpa_domain *domain;
	bool first;

	/* the device stays until its fence has returned, which does not block */
	vdpa_moves_hold();
	pthread_mutex_lock(&priv->lock);
	dev = priv->dev;
	first = !priv->hung;
	priv->hung = true;
	priv->fencing |= first;
	priv->health = VDPA_HEALTH_FAILED;
	domain = priv->domain != NULL ? vdpa_domain_get(priv->domain) : NULL;
	pthread_mutex_unlock(&priv->lock);

	if (domain != NULL && (priv->info.caps & VDPA_CAP_HOST_VA) != 0)
		vdpa_domain_fence(domain);
	vdpa_domain_put(domain);
	if (first) {
		bool fenced = dev->ops->fence != NULL && dev->ops->fence(dev) == 0;

		vdpa_device_event(priv, VDPA_EVENT_DEVICE_FAILED, "%s did not return in time: %s",
			op, fenced ? "fenced" : "abandoned");
	}
	pthread_mutex_lock(&priv->lock);
	if (first)
		priv->fencing = false;
	pthread_cond_broadcast(&priv->changed);
	pthread_mutex_unlock(&priv->lock);
	vdpa_moves_release();
}

void
vdpa_device_fence(struct vdpa_device *dev, const char *op)
{
	vdpa_moves_hold();
	vdpa_priv_fence(dev->priv, op);
	vdpa_moves_release();
}
