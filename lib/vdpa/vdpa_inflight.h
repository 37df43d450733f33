/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_INFLIGHT_H
#define VDPA_INFLIGHT_H

/**
 * @file
 * The memory of a consumer in which a device notes what it took from its queues.
 */

#include "vdpa_consumer.h"

struct vdpa_inflight;

/**
 * Map what is wanted. 0; -EINVAL too short for what it is to hold, or no size; what mmap gave. No
 * descriptor: success and NULL.
 */
int vdpa_inflight_create(struct vdpa_inflight **out, const struct vdpa_wanted *wanted);
/** Counted; the last put unmaps. NULL is allowed. */
struct vdpa_inflight *vdpa_inflight_get(struct vdpa_inflight *inflight);
void vdpa_inflight_put(struct vdpa_inflight *inflight);
/** Region of a queue; NULL: it has none, or one for another size. */
void *vdpa_inflight_region(
	const struct vdpa_inflight *inflight, uint16_t index, uint16_t size, uint64_t features);

#endif /* VDPA_INFLIGHT_H */
