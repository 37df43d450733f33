/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_pass.h"
#include "vdpa_relay.h"
#include "vring.h"

#define STOP_MS 200u

void
vdpa_session_free(struct vdpa_session *session)
{
	if (session == NULL)
		return;
	for (uint16_t i = 0; i < session->nr_vqs; i++) {
		vdpa_fd_put(session->vqs[i].kick);
		vdpa_fd_put(session->vqs[i].call);
	}
	vdpa_domain_put(session->domain);
	vdpa_log_put(session->log_view);
	vdpa_inflight_put(session->inflight);
	free(session->vqs);
	free(session);
}

struct vdpa_session *
vdpa_session_open(struct vdpa_binding *binding, const char *peer)
{
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_session *session = calloc(1, sizeof(*session)), *other;
	struct vdpa_binding *reserved;
	bool opened = false;

	if (session == NULL) {
		vdpa_error_set(-ENOMEM, "%s: no memory", binding->name);
		return NULL;
	}
	session->binding = binding;
	snprintf(session->peer, sizeof(session->peer), "%s", peer);
	pthread_mutex_lock(&priv->lock);
	other = binding->session;
	reserved = priv->reserved;
	if (other != NULL) {
		vdpa_error_set(-EBUSY, "%s: %s is attached already", binding->name, other->peer);
	} else if (reserved != NULL) {
		vdpa_error_set(
			-EBUSY, "%s: %s is about to move here", binding->name, reserved->name);
	} else if (priv->hung) {
		vdpa_error_set(-EIO, "%s: the device hangs", binding->name);
	} else {
		session->vqs = calloc(priv->contract.nr_vqs, sizeof(*session->vqs));
		opened = session->vqs != NULL;
		if (!opened)
			vdpa_error_set(-ENOMEM, "%s: no memory", binding->name);
	}
	if (opened) {
		session->nr_vqs = priv->contract.nr_vqs;
		binding->session = session;
		priv->last_error[0] = '\0';
		priv->sessions++;
	}
	pthread_mutex_unlock(&priv->lock);
	if (!opened) {
		vdpa_session_free(session);
		return NULL;
	}
	vdpa_device_event(priv, VDPA_EVENT_ATTACHED, "attached: %s", peer);
	return session;
}

static int
check_vq(const struct vdpa_session *session, uint64_t features, const struct vdpa_wanted_vq *vq,
	uint16_t index)
{
	const struct vdpa_device_priv *priv = session->binding->priv;
	bool packed = (features & BIT(VIRTIO_F_RING_PACKED)) != 0;

	if (!vq->ready)
		return 0;
	if (vq->size == 0 || vq->size < priv->info.vq_size_min ||
		vq->size > priv->info.vq_size_max || (!packed && (vq->size & (vq->size - 1)) != 0))
		return vdpa_error_set(-EINVAL,
			"%s: virtqueue %u of %u entries, the device takes %u to %u%s",
			session->binding->name, index, vq->size, priv->info.vq_size_min,
			priv->info.vq_size_max, packed ? "" : ", powers of two");
	return 0;
}

static int
check_wanted(const struct vdpa_session *session, const struct vdpa_wanted *wanted)
{
	const struct vdpa_contract *contract = &session->binding->priv->contract;
	uint64_t unknown = wanted->features & ~contract->features;
	int rc = 0;

	if (wanted->log && !contract->can_log)
		return vdpa_error_set(-EINVAL, "%s: the device cannot be logged and is not relayed",
			session->binding->name);
	if (unknown != 0)
		return vdpa_error_set(-EINVAL, "%s: features 0x%" PRIx64 " were not offered",
			session->binding->name, unknown);
	if (wanted->nr_vqs > contract->nr_vqs)
		return vdpa_error_set(-EINVAL, "%s: %u virtqueues, the device has %u",
			session->binding->name, wanted->nr_vqs, contract->nr_vqs);
	for (uint16_t i = 0; i < wanted->nr_vqs && rc == 0; i++)
		rc = check_vq(session, wanted->features, &wanted->vqs[i], i);
	return rc;
}

/* Descriptors of queue i that changed, duplicated; NULL and not set: keep. */
struct new_fds {
	struct vdpa_fd *kick, *call;
	bool set_kick, set_call;
};

static int
dup_fds(const struct vdpa_session *session, const struct vdpa_wanted *wanted, struct new_fds *fds)
{
	int rc = 0;

	for (uint16_t i = 0; i < wanted->nr_vqs && rc == 0; i++) {
		const struct vdpa_wanted_vq *vq = &wanted->vqs[i];

		fds[i].set_kick = vq->kick_seq != session->vqs[i].kick_seq;
		fds[i].set_call = vq->call_seq != session->vqs[i].call_seq;
		if (fds[i].set_kick)
			rc = vdpa_fd_dup(vq->kick_fd, false, &fds[i].kick);
		if (fds[i].set_call && rc == 0)
			rc = vdpa_fd_dup(vq->call_fd, true, &fds[i].call);
	}
	return rc;
}

static void
take_vq(struct vdpa_session_vq *vq, const struct vdpa_wanted_vq *wanted, struct new_fds *fds)
{
	vq->ready = wanted->ready;
	vq->size = wanted->size;
	vq->desc_iova = wanted->desc_iova;
	vq->driver_iova = wanted->driver_iova;
	vq->device_iova = wanted->device_iova;
	vq->base = wanted->base;
	if (vq->base_seq != wanted->base_seq) {
		vq->base_seq = wanted->base_seq;
		vq->failed = false;
	}
	vq->kick_seq = wanted->kick_seq;
	vq->call_seq = wanted->call_seq;
	/* what was replaced stays in fds and is put there */
	if (fds->set_kick)
		RTE_SWAP(vq->kick, fds->kick);
	if (fds->set_call)
		RTE_SWAP(vq->call, fds->call);
}

/*
 * Whose mappings can be taken over: also those of a consumer that went and came back, while the
 * device has them.
 */
static struct vdpa_domain *
mapped_domain(struct vdpa_session *session)
{
	struct vdpa_device_priv *priv = session->binding->priv;
	struct vdpa_domain *domain;

	pthread_mutex_lock(&priv->lock);
	domain = session->domain != NULL ? session->domain : priv->domain;
	if (domain != NULL)
		vdpa_domain_get(domain);
	pthread_mutex_unlock(&priv->lock);
	return domain;
}

static int
session_set(struct vdpa_session *session, const struct vdpa_wanted *wanted)
{
	struct vdpa_device_priv *priv = session->binding->priv;
	struct vdpa_domain *domain = NULL, *former;
	struct vdpa_inflight *inflight = NULL;
	struct vdpa_log *log_view = NULL;
	struct new_fds fds[VDPA_VQS_MAX];
	bool other_log;
	int rc;

	rc = check_wanted(session, wanted);
	if (rc != 0)
		return rc;
	memset(fds, 0, wanted->nr_vqs * sizeof(fds[0]));
	rc = dup_fds(session, wanted, fds);
	if (rc == 0 && wanted->regions_seq != session->regions_seq) {
		former = mapped_domain(session);
		rc = vdpa_domain_create(
			&domain, wanted->regions, wanted->nr_regions, former, priv->dev);
		vdpa_domain_put(former);
	}
	other_log = wanted->log_seq != session->log_seq &&
		!vdpa_log_serves(session->log_view, wanted);
	if (rc == 0 && other_log && wanted->log_va != NULL)
		rc = vdpa_log_create(&log_view, wanted);
	if (rc == 0 && wanted->inflight_seq != session->inflight_seq)
		rc = vdpa_inflight_create(&inflight, wanted);
	if (rc == 0) {
		pthread_mutex_lock(&priv->lock);
		session->log = wanted->log;
		if (other_log)
			RTE_SWAP(session->log_view, log_view);
		session->log_seq = wanted->log_seq;
		if (wanted->inflight_seq != session->inflight_seq) {
			RTE_SWAP(session->inflight, inflight);
			session->inflight_seq = wanted->inflight_seq;
		}
		session->features = wanted->features;
		session->driver_ok = wanted->driver_ok;
		if (domain != NULL) {
			RTE_SWAP(session->domain, domain);
			session->regions_seq = wanted->regions_seq;
		}
		for (uint16_t i = 0; i < wanted->nr_vqs; i++)
			take_vq(&session->vqs[i], &wanted->vqs[i], &fds[i]);
		for (uint16_t i = wanted->nr_vqs; i < priv->contract.nr_vqs; i++)
			session->vqs[i].ready = false;
		session->seq++;
		pthread_mutex_unlock(&priv->lock);
	}
	vdpa_domain_put(domain);
	vdpa_log_put(log_view);
	vdpa_inflight_put(inflight);
	for (uint16_t i = 0; i < wanted->nr_vqs; i++) {
		vdpa_fd_put(fds[i].kick);
		vdpa_fd_put(fds[i].call);
	}
	return rc != 0 ? rc : vdpa_work_queue(&session->binding->work);
}

int
vdpa_session_set(struct vdpa_session *session, const struct vdpa_wanted *wanted)
{
	int rc;

	vdpa_moves_hold();
	rc = session_set(session, wanted);
	vdpa_moves_release();
	return rc;
}

/* used->idx of a split ring whose device was fenced, where completion is in order. */
static int
index_from_memory(struct vdpa_session *session, uint16_t index, struct vdpa_vq_state *state)
{
	const struct vdpa_session_vq *vq = &session->vqs[index];
	uint16_t used;

	if (!session->binding->priv->type->index_in_memory ||
		(session->features & BIT(VIRTIO_F_RING_PACKED)) != 0)
		return -ENODATA;
	if (vdpa_domain_read(session->domain, vq->device_iova + offsetof(struct vring_used, idx),
		    &used, sizeof(used)) != 0)
		return -ENODATA;
	state->avail = rte_le_to_cpu_16(used);
	state->used = state->avail;
	return 0;
}

static int
collect_states(
	struct vdpa_session *session, bool fenced, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	const struct vdpa_binding *binding = session->binding;
	int rc = 0;

	for (uint16_t i = 0; i < RTE_MIN(nr_vqs, binding->priv->contract.nr_vqs); i++) {
		const struct vdpa_session_vq *vq = &session->vqs[i];

		if (fenced && binding->run.session == session && binding->run.vqs[i].ready) {
			if (index_from_memory(session, i, &states[i]) != 0)
				rc = -ENODATA;
		} else if (vq->base_seq != vq->base_applied || !vq->state_valid) {
			states[i] = vq->base;
		} else {
			states[i] = vq->state;
		}
	}
	return rc;
}

/* The device was fenced in whatever it did: what it wrote since the log was wanted nobody knows. */
static void
log_fenced(struct vdpa_session *session)
{
	if (session->log && session->log_view != NULL && session->domain != NULL) {
		vdpa_log_mark_all(session->log_view, session->domain);
		session->binding->priv->dirty_tables++;
	}
}

int
vdpa_session_stop(struct vdpa_session *session, struct vdpa_vq_state *states, uint16_t nr_vqs,
	uint32_t deadline_ms)
{
	struct vdpa_binding *binding = session->binding;
	struct vdpa_device_priv *priv = binding->priv;
	struct vdpa_patience patience;
	bool late = false;
	uint32_t seq;
	int rc;

	pthread_mutex_lock(&priv->lock);
	vdpa_patience_begin(&patience,
		deadline_ms != 0 ? deadline_ms : RTE_MAX(STOP_MS, priv->info.op_deadline_ms));
	session->driver_ok = false;
	seq = ++session->seq;
	vdpa_work_queue(&binding->work);
	while ((int32_t)(session->seq_done - seq) < 0 && !priv->hung && !late)
		late = vdpa_patience_wait(&patience, &priv->changed, &priv->lock) != 0;
	if (late) {
		pthread_mutex_unlock(&priv->lock);
		vdpa_priv_fence(priv, "stop");
		pthread_mutex_lock(&priv->lock);
	}
	/* by whoever came first: it does not block */
	while (priv->fencing)
		pthread_cond_wait(&priv->changed, &priv->lock);
	rc = collect_states(session, priv->hung, states, nr_vqs);
	if (priv->hung)
		log_fenced(session);
	if (rc == 0 && priv->hung)
		rc = vdpa_error_set(
			-ETIMEDOUT, "%s: the device hangs and was fenced", binding->name);
	pthread_mutex_unlock(&priv->lock);
	return rc;
}

int
vdpa_session_sync(struct vdpa_session *session, uint32_t deadline_ms)
{
	struct vdpa_device_priv *priv = session->binding->priv;
	struct vdpa_patience patience;
	bool late = false;
	uint32_t seq;
	int rc;

	vdpa_patience_begin(&patience, deadline_ms);
	pthread_mutex_lock(&priv->lock);
	seq = session->seq;
	while ((int32_t)(session->seq_done - seq) < 0 && !priv->hung && !late)
		late = vdpa_patience_wait(&patience, &priv->changed, &priv->lock) != 0;
	rc = late || priv->hung ? -ETIMEDOUT : session->result;
	pthread_mutex_unlock(&priv->lock);
	return rc;
}

void
vdpa_session_close(struct vdpa_session *session)
{
	struct vdpa_binding *binding = session->binding;
	struct vdpa_device_priv *priv = binding->priv;
	char peer[sizeof(session->peer)];

	memcpy(peer, session->peer, sizeof(peer));
	pthread_mutex_lock(&priv->lock);
	binding->session = NULL;
	session->next_closed = binding->closed;
	binding->closed = session;
	vdpa_work_queue(&binding->work);
	pthread_mutex_unlock(&priv->lock);
	vdpa_device_event(priv, VDPA_EVENT_DETACHED, "detached: %s", peer);
}
