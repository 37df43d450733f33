/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_SHADOW_H
#define VDPA_SHADOW_H

/**
 * @file
 * Memory of shadow rings: one range with a slot for each queue, and its place among the guest's
 * memory. All functions run on the op thread.
 */

#include "vdpa_private.h"

struct vdpa_shadow {
	uint8_t *mem;
	uint64_t slot_bytes, size_bytes;
	uint64_t iova;              /* of mem, 0: has none yet */
	struct vdpa_domain *guest;  /* that it was placed in */
	struct vdpa_domain *domain; /* both together, for the device */
};

/** 0, or what mmap() gave; then vdpa_shadow_fini() has nothing to do, and may be called. */
int vdpa_shadow_init(struct vdpa_shadow *shadow, uint64_t slot_bytes, uint16_t nr_slots);
/** Of a zeroed one, too. */
void vdpa_shadow_fini(struct vdpa_shadow *shadow);
/** A page is there once it was written to: zero them, before it has to be quick. */
void vdpa_shadow_touch(struct vdpa_shadow *shadow, uint16_t slot);
/**
 * Be in this memory: shadow->domain is the guest's with the rings, where the device reaches them.
 * @return 0; -ENOSPC: no room beside the guest's memory; what vdpa_domain_create() gave. Then all
 *	is as before.
 */
int vdpa_shadow_domain(
	struct vdpa_shadow *shadow, struct vdpa_domain *guest, struct vdpa_device_priv *priv);

static inline void *
vdpa_shadow_va(const struct vdpa_shadow *shadow, uint16_t slot)
{
	return shadow->mem + slot * shadow->slot_bytes;
}

static inline uint64_t
vdpa_shadow_iova(const struct vdpa_shadow *shadow, uint16_t slot)
{
	return shadow->iova + slot * shadow->slot_bytes;
}

#endif /* VDPA_SHADOW_H */
