/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>

#include <linux/virtio_net.h>

#include <rte_common.h>

#include "vdpa_ctrl.h"
#include "vring_dev.h"

#define SEGS_MAX 64 /* of one command; Linux uses 4 */
/* One call does so much at most; together with the deadline of the op around it. */
#define COMMANDS_MAX 64
#define CALL_NS_MAX  UINT64_C(200000000)

struct vdpa_cvq {
	struct vdpa_cvq_effects effects;
	struct vdpa_ctrl ctrl;
	struct vdpa_domain *domain; /* NULL: it does not run */
	struct vring_dev ring;
	struct vdpa_call *call; /* while it runs */
	struct vdpa_dirty *dirty;
	struct vring_range areas[3]; /* of the ring, for marking: small, so always whole */
	struct vring_seg segs[SEGS_MAX];
};

struct vdpa_cvq *
vdpa_cvq_create(const struct vdpa_cvq_effects *effects, uint16_t nr_pairs)
{
	struct vdpa_cvq *cvq = calloc(1, sizeof(*cvq));

	if (cvq == NULL)
		return NULL;
	cvq->effects = *effects;
	cvq->ctrl.effects = &cvq->effects;
	cvq->ctrl.max_pairs = nr_pairs;
	vdpa_ctrl_reset(&cvq->ctrl, 0);
	return cvq;
}

void
vdpa_cvq_free(struct vdpa_cvq *cvq)
{
	if (cvq == NULL)
		return;
	vdpa_domain_put(cvq->domain);
	free(cvq);
}

void
vdpa_cvq_reset(struct vdpa_cvq *cvq, uint64_t features)
{
	vdpa_ctrl_reset(&cvq->ctrl, features);
}

void
vdpa_cvq_set_features(struct vdpa_cvq *cvq, uint64_t features)
{
	cvq->ctrl.features = features;
}

uint16_t
vdpa_cvq_active_pairs(const struct vdpa_cvq *cvq)
{
	return cvq->ctrl.pairs;
}

bool
vdpa_cvq_sets_mac(const struct vdpa_cvq *cvq)
{
	return cvq->ctrl.mac_set;
}

int
vdpa_cvq_restore(struct vdpa_cvq *cvq)
{
	return vdpa_ctrl_restore(&cvq->ctrl);
}

int
vdpa_cvq_start(struct vdpa_cvq *cvq, const struct vdpa_vq_config *vq, struct vdpa_call *call,
	struct vdpa_domain *domain)
{
	const struct vring_config config = {
		.size = vq->size,
		.max_segs = SEGS_MAX,
		.features = cvq->ctrl.features,
		.desc_iova = vq->desc_iova,
		.driver_iova = vq->driver_iova,
		.device_iova = vq->device_iova,
		.mem = vdpa_domain_mem(domain),
		.state = {vq->state.avail, vq->state.used},
	};
	int rc = vring_dev_init(&cvq->ring, &config);

	if (rc != 0)
		return vdpa_error_set(
			rc, "control virtqueue: %s", vring_error_text(vring_dev_error(&cvq->ring)));
	cvq->areas[0] = (struct vring_range){
		vq->desc_iova, vring_desc_bytes(vq->size, cvq->ctrl.features)};
	cvq->areas[1] = (struct vring_range){
		vq->driver_iova, vring_driver_bytes(vq->size, cvq->ctrl.features)};
	cvq->areas[2] = (struct vring_range){
		vq->device_iova, vring_device_bytes(vq->size, cvq->ctrl.features)};
	cvq->call = call;
	cvq->domain = vdpa_domain_get(domain);
	return 0;
}

void
vdpa_cvq_stop(struct vdpa_cvq *cvq, struct vdpa_vq_state *state)
{
	struct vring_state at = {0, 0};

	if (cvq->domain != NULL)
		at = vring_dev_state(&cvq->ring);
	/* a command that the device never answered is taken again */
	*state = (struct vdpa_vq_state){at.used, at.used};
	vdpa_domain_put(cvq->domain);
	cvq->domain = NULL;
	cvq->call = NULL;
}

int
vdpa_cvq_update_memory(struct vdpa_cvq *cvq, struct vdpa_domain *domain)
{
	int rc;

	if (cvq->domain == NULL)
		return 0;
	rc = vring_dev_set_mem(&cvq->ring, vdpa_domain_mem(domain));
	if (rc != 0)
		return vdpa_error_set(rc, "control virtqueue: not in the new memory");
	vdpa_domain_get(domain);
	vdpa_domain_put(cvq->domain);
	cvq->domain = domain;
	return 0;
}

/* A command without room for the answer is not done. */
static void
serve_one(struct vdpa_cvq *cvq, struct vring_chain *chain)
{
	struct vring_cursor readable = vring_cursor_readable(chain);
	struct vring_cursor writable = vring_cursor_writable(chain);
	uint8_t answer = VIRTIO_NET_OK;

	if (chain->writable_bytes == 0)
		return;
	if (vdpa_ctrl_do(&cvq->ctrl, &readable, chain->readable_bytes) != 0)
		answer = VIRTIO_NET_ERR;
	chain->done.len = vring_copy_to(&writable, &answer, sizeof(answer));
}

static void
mark_written(struct vdpa_cvq *cvq, const struct vring_chain *chain)
{
	for (uint16_t i = chain->nr_readable; cvq->dirty != NULL && i < chain->nr_segs; i++)
		vdpa_dirty_mark(cvq->dirty, chain->segs[i].iova, chain->segs[i].len);
}

static void
mark_areas(struct vdpa_cvq *cvq)
{
	for (unsigned int i = 0; cvq->dirty != NULL && i < RTE_DIM(cvq->areas); i++)
		vdpa_dirty_mark(cvq->dirty, cvq->areas[i].iova, cvq->areas[i].len);
}

int
vdpa_cvq_serve(struct vdpa_cvq *cvq)
{
	uint64_t until_ns = vdpa_now_ns() + CALL_NS_MAX;
	struct vring_chain chain;
	unsigned int nr = 0;

	if (cvq->domain == NULL)
		return 0;
	vring_dev_disarm(&cvq->ring);
	while (nr < COMMANDS_MAX && vdpa_now_ns() < until_ns) {
		if (vring_dev_pop(&cvq->ring, &chain, 1, cvq->segs, SEGS_MAX) == 0) {
			if (vring_dev_error(&cvq->ring) != VRING_ERR_NONE ||
				!vring_dev_arm(&cvq->ring))
				break;
			continue;
		}
		serve_one(cvq, &chain);
		mark_written(cvq, &chain);
		vring_dev_push_chains(&cvq->ring, &chain, 1);
		vring_dev_flush(&cvq->ring);
		if (vring_dev_signal_needed(&cvq->ring))
			vdpa_call_write(cvq->call);
		nr++;
	}
	if (vring_dev_error(&cvq->ring) != VRING_ERR_NONE)
		return vdpa_error_set(-EBADMSG, "control virtqueue: %s",
			vring_error_text(vring_dev_error(&cvq->ring)));
	mark_areas(cvq);
	return nr == COMMANDS_MAX || vdpa_now_ns() >= until_ns;
}

void
vdpa_cvq_set_dirty(struct vdpa_cvq *cvq, struct vdpa_dirty *dirty)
{
	cvq->dirty = dirty;
}
