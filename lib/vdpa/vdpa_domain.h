/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_DOMAIN_H
#define VDPA_DOMAIN_H

/**
 * @file
 * A domain: a consumer's memory, mapped once. A domain is an immutable table; a changed memory is a
 * new domain that takes over the mappings of the former one where a region stands for the same
 * bytes (file, offset, IOVA, size). Counted by references: a session's wanted state holds one, the
 * running device another. Any thread.
 */

#include "vdpa_parent.h"

/**
 * Map a table of regions.
 * @param former
 *	Whose mappings are taken over where equal, or NULL.
 * @param owner
 *	Told (vdpa_device_failed) when its memory proves to be gone (SIGBUS); may be NULL.
 * @return 0; -EINVAL (vdpa_error_text(): overlap, overflow, empty, beyond iova_first/last of
 *	the owner's device, not a mappable file); -ENOMEM; -EMFILE; what mmap gave.
 */
int vdpa_domain_create(struct vdpa_domain **out, const struct vdpa_range *regions,
	uint32_t nr_regions, struct vdpa_domain *former, struct vdpa_device *owner);
/**
 * The same memory and one range more; all mappings of domain are taken over, and the range's from
 * former (NULL: none).
 * @return as vdpa_domain_create()
 */
int vdpa_domain_extend(struct vdpa_domain **out, const struct vdpa_domain *domain,
	const struct vdpa_range *range, const struct vdpa_domain *former,
	struct vdpa_device *owner);
/** Whom to tell that memory is lost, from now on. */
void vdpa_domain_own(struct vdpa_domain *domain, struct vdpa_device_priv *owner);
bool vdpa_domain_is_fenced(const struct vdpa_domain *domain);
/**
 * The same memory, mapped anew where the domain was fenced.
 * @return as vdpa_domain_create()
 */
int vdpa_domain_renew(
	struct vdpa_domain **out, const struct vdpa_domain *domain, struct vdpa_device *owner);
struct vdpa_domain *vdpa_domain_get(struct vdpa_domain *domain);
/** The last one unmaps. NULL is legal. */
void vdpa_domain_put(struct vdpa_domain *domain);
/** Ranges with the addresses of our own mapping, sorted by IOVA. */
const struct vdpa_range *vdpa_domain_ranges(const struct vdpa_domain *domain, uint32_t *nr_ranges);
/**
 * Is it the same mapping, taken over? The same bytes mapped anew are not: a device may hold the
 * address of the former one.
 */
bool vdpa_range_same(const struct vdpa_domain *a, uint32_t index_a, const struct vdpa_domain *b,
	uint32_t index_b);
/**
 * Replace our mapping by anonymous zero pages, at once and for ever: a datapath that hangs writes
 * nowhere from now on. Memory given by address (fd -1) is left alone. Mappings taken over from or
 * by another domain are replaced too.
 */
void vdpa_domain_fence(struct vdpa_domain *domain);
/**
 * Read from the consumer's memory through a fresh view, also after a fence (for used->idx).
 * @return 0; -EFAULT.
 */
int
vdpa_domain_read(const struct vdpa_domain *domain, uint64_t iova, void *data, uint32_t len_bytes);

#endif /* VDPA_DOMAIN_H */
