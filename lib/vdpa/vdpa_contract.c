/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

#include <rte_common.h>

#include "vdpa_pass.h"

/* What a consumer is promised, and whether another device can keep it. */

/*
 * What stays between class and device: the consumer's transport has no way to carry or to mean it.
 */
#define DEVICE_ONLY_FEATURES (BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(F_RING_RESET))

/* ---- the promise ---- */

bool
vdpa_can_log(const struct vdpa_info *info, enum vdpa_relay_policy relay)
{
	return (info->caps & VDPA_CAP_DIRTY) != 0 || relay != VDPA_RELAY_OFF;
}

void
vdpa_contract_make(struct vdpa_device_priv *priv)
{
	const struct vdpa_info *info = &priv->info;
	const struct vdpa_device_ops *ops = priv->dev->ops;
	bool own_cvq = (info->caps & VDPA_CAP_CTRL_VQ) != 0;
	uint64_t features = info->features & ~DEVICE_ONLY_FEATURES;
	struct vdpa_contract *contract = &priv->contract;

	priv->class_cvq = false;
	contract->virtio_id = info->virtio_id;
	contract->nr_pairs = priv->type->nr_pairs(info->nr_vqs_max - (own_cvq ? 1 : 0));
	if (!own_cvq && priv->type->ctrl_vq(features, contract->nr_pairs) >= 0) {
		features = priv->type->features_served(
			features, ops->cvq != NULL, ops->set_active_queues != NULL);
		priv->class_cvq = priv->type->ctrl_vq(features, contract->nr_pairs) >= 0;
	}
	contract->features = priv->type->features_consistent(features);
	contract->nr_vqs = info->nr_vqs_max + (priv->class_cvq ? 1 : 0);
	contract->vq_size_max = info->vq_size_max;
	contract->config_size_bytes = info->config_size_bytes;
	contract->can_log = vdpa_can_log(info, priv->relay);
	contract->can_announce = ops->announce != NULL;
	contract->notes = (info->caps & VDPA_CAP_INFLIGHT) != 0;
}

/* ---- what a device lacks of a promise ---- */

struct missing {
	char *text;
	size_t size, used;
};

static void __attribute__((format(printf, 2, 3)))
note(struct missing *missing, const char *format, ...)
{
	va_list ap;
	int nr;

	va_start(ap, format);
	nr = vsnprintf(missing->text + missing->used, missing->size - missing->used, format, ap);
	va_end(ap);
	if (nr > 0)
		missing->used = RTE_MIN(missing->used + nr, missing->size - 1);
	if (missing->used + 1 < missing->size) {
		missing->text[missing->used++] = '\n';
		missing->text[missing->used] = '\0';
	}
}

static void
compare_features(struct missing *missing, const struct vdpa_binding *binding,
	const struct vdpa_device_priv *to)
{
	uint64_t lacks = binding->priv->contract.features & ~to->contract.features;
	uint64_t agreed = binding->session != NULL ? binding->session->features : 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		const char *name = vdpa_feature_name(to->info.virtio_id, bit);

		if ((lacks & BIT(bit)) != 0)
			note(missing, "it does not offer %s%s, which the consumer %s",
				name != NULL ? name : "feature ",
				name != NULL ? "" : (char[]){'0' + bit / 10, '0' + bit % 10, '\0'},
				(agreed & BIT(bit)) != 0 ? "uses" : "was offered");
	}
}

static void
compare_queues(struct missing *missing, const struct vdpa_binding *binding,
	const struct vdpa_device_priv *to)
{
	const struct vdpa_contract *has = &binding->priv->contract, *wants = &to->contract;

	if (wants->nr_vqs < has->nr_vqs)
		note(missing, "it has %u virtqueues, the consumer was offered %u", wants->nr_vqs,
			has->nr_vqs);
	if (wants->vq_size_max < has->vq_size_max)
		note(missing, "its virtqueues have at most %u entries, the consumer was offered %u",
			wants->vq_size_max, has->vq_size_max);
	for (uint16_t i = 0; binding->session != NULL && i < has->nr_vqs; i++) {
		const struct vdpa_session_vq *vq = &binding->session->vqs[i];

		if (vq->ready && vq->size < to->info.vq_size_min)
			note(missing, "virtqueue %u has %u entries, it takes no fewer than %u", i,
				vq->size, to->info.vq_size_min);
	}
	if (to->type->ctrl_vq(has->features & wants->features, has->nr_pairs) >= 0 &&
		(!binding->priv->class_cvq || !to->class_cvq))
		note(missing,
			"a control virtqueue that a device serves itself cannot be handed over");
}

static void
compare_config(struct missing *missing, const struct vdpa_binding *binding,
	const struct vdpa_device_priv *to, const struct vdpa_offer *offer)
{
	const struct vdpa_device_priv *priv = binding->priv;
	bool mac_set = binding->cvq != NULL && binding->session != NULL &&
		vdpa_cvq_sets_mac(binding->cvq);
	char text[160];

	if (to->info.config_size_bytes < priv->contract.config_size_bytes)
		note(missing, "its configuration space has %u bytes, the consumer was offered %u",
			to->info.config_size_bytes, priv->contract.config_size_bytes);
	for (unsigned int i = 0; i < VDPA_CONFIG_CHECKS; i++) {
		const char *why = priv->type->config_breaks(priv->contract.features, priv->config,
			offer->config, mac_set, i, text, sizeof(text));

		if (why != NULL)
			note(missing, "%s", why);
	}
}

static void
compare_state(struct missing *missing, const struct vdpa_binding *binding,
	const struct vdpa_device_priv *to, const struct vdpa_offer *offer)
{
	const struct vdpa_device_priv *priv = binding->priv;
	const struct vdpa_session *session = binding->session;
	const struct vdpa_range *ranges;
	uint32_t nr = 0;

	if (priv->contract.can_log && !vdpa_can_log(&to->info, offer->relay))
		note(missing, "what it writes cannot be logged (relay=off)");
	if (priv->contract.can_announce && !to->contract.can_announce)
		note(missing, "it cannot announce a guest that has arrived");
	if ((to->info.caps & VDPA_CAP_SET_STATE) == 0 && offer->relay == VDPA_RELAY_OFF)
		note(missing, "it takes no start index and is never relayed (relay=off)");
	if (binding->run.session != NULL && binding->run.mode != VDPA_MODE_RELAYED && !priv->hung &&
		!vdpa_pass_position_is_known(priv, binding->run.features))
		note(missing, "%s does not tell where its queues stand", priv->dev->name);
	ranges = session != NULL && session->domain != NULL
		? vdpa_domain_ranges(session->domain, &nr)
		: NULL;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t last = ranges[i].iova + ranges[i].size_bytes - 1;

		if (ranges[i].iova < to->info.iova_first || last > to->info.iova_last)
			note(missing,
				"memory 0x%" PRIx64 " to 0x%" PRIx64
				" is outside what it reaches (0x%" PRIx64 " to 0x%" PRIx64 ")",
				ranges[i].iova, last, to->info.iova_first, to->info.iova_last);
	}
}

void
vdpa_contract_offer(struct vdpa_device_priv *to, struct vdpa_offer *offer)
{
	pthread_mutex_lock(&to->lock);
	offer->relay = to->relay;
	memcpy(offer->config, to->config, sizeof(offer->config));
	pthread_mutex_unlock(&to->lock);
}

int
vdpa_contract_compare(const struct vdpa_binding *binding, const struct vdpa_device_priv *to,
	const struct vdpa_offer *offer, char *text, size_t size)
{
	struct missing missing = {.text = text, .size = size};

	if (to->info.virtio_id != binding->priv->contract.virtio_id) {
		note(&missing, "it is a %s device, the consumer was offered a %s device",
			vdpa_type_name(to->info.virtio_id),
			vdpa_type_name(binding->priv->contract.virtio_id));
	} else {
		compare_features(&missing, binding, to);
		compare_queues(&missing, binding, to);
		compare_config(&missing, binding, to, offer);
		compare_state(&missing, binding, to, offer);
	}
	if (missing.used == 0)
		return 0;
	return vdpa_error_set(
		-ENOTSUP, "%s lacks part of what %s was promised", to->dev->name, binding->name);
}
