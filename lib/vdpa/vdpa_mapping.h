/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_MAPPING_H
#define VDPA_MAPPING_H

/**
 * @file
 * A view of a region of a consumer's memory, between vdpa_mapping.c and vdpa_domain.c. Shared by
 * the domains in which the region is the same, counted by references. Any thread.
 */

#include <sys/types.h>

#include "vdpa_private.h"

struct vdpa_mapping {
	struct vdpa_range range; /* va: where it is here; fd: our own, or -1 */
	atomic_uint refs;
	atomic_bool fenced;
	atomic_bool lost; /* its owner cut the file: there are zero pages now */
	bool is_file, guarded;
	dev_t dev;
	ino_t ino;
	void *base; /* whole pages, around va; NULL: not ours */
	size_t size_bytes;
};

/* 0, or negative errno with vdpa_error_text(). */
int vdpa_mapping_create(const struct vdpa_range *range, struct vdpa_mapping **out);
struct vdpa_mapping *vdpa_mapping_get(struct vdpa_mapping *mapping);
void vdpa_mapping_put(struct vdpa_mapping *mapping); /* NULL is legal */
/* Does it stand for the range's bytes, and can it be used in its place? */
bool vdpa_mapping_serves(const struct vdpa_mapping *mapping, const struct vdpa_range *range);
void vdpa_mapping_fence(struct vdpa_mapping *mapping);
/* Read from the file itself; offset and length lie within the range. 0, or -EFAULT. */
int vdpa_mapping_read(
	const struct vdpa_mapping *mapping, uint64_t offset, void *data, size_t len_bytes);

/* vdpa_sigbus.c: put zero pages in its place, under whoever uses it. In signal context too. */
bool vdpa_map_zero(void *start, size_t size_bytes);
/* vdpa_domain.c: some mapping is lost. On the control thread. */
void vdpa_domain_lost(void *arg);

#endif /* VDPA_MAPPING_H */
