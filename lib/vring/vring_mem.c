/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>

#include "vring.h"
#include "vring_layout.h"

int
vring_mem_check(const struct vring_mem *mem)
{
	uint64_t end = 0;
	uint32_t i;

	if (mem == NULL || (mem->regions == NULL && mem->nr_regions != 0))
		return -EINVAL;
	for (i = 0; i < mem->nr_regions; i++) {
		const struct vring_region *r = &mem->regions[i];

		if (r->va == NULL || r->size == 0 || r->iova + (r->size - 1) < r->iova)
			return -EINVAL;
		if (i > 0 && r->iova <= end)
			return -EINVAL;
		end = r->iova + (r->size - 1);
	}
	return 0;
}

const struct vring_region *
vring_mem_find(const struct vring_mem *mem, uint64_t iova)
{
	uint32_t low = 0, high = mem->nr_regions;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct vring_region *r = &mem->regions[mid];

		if (iova < r->iova)
			high = mid;
		else if (iova - r->iova >= r->size)
			low = mid + 1;
		else
			return r;
	}
	return NULL;
}

/* Does the region after r continue it without a gap in iova? */
static const struct vring_region *
mem_next(const struct vring_mem *mem, const struct vring_region *r)
{
	const struct vring_region *next = r + 1;

	if (next == mem->regions + mem->nr_regions || next->iova - r->iova != r->size)
		return NULL;
	return next;
}

void *
vring_mem_ptr(const struct vring_mem *mem, uint64_t iova, uint64_t *len_bytes, uint32_t perm)
{
	const struct vring_region *r = vring_mem_find(mem, iova);
	uint64_t wanted = *len_bytes, have;
	const uint8_t *end;
	uint8_t *va;

	*len_bytes = 0;
	if (r == NULL || (r->perm & perm) != perm)
		return NULL;
	va = r->va + (iova - r->iova);
	have = r->size - (iova - r->iova);
	while (have < wanted) {
		end = r->va + r->size;
		r = mem_next(mem, r);
		if (r == NULL || r->va != end || (r->perm & perm) != perm)
			break;
		have += r->size;
	}
	*len_bytes = have < wanted ? have : wanted;
	return va;
}

bool
vring_mem_covers(const struct vring_mem *mem, uint64_t iova, uint64_t len, uint32_t perm)
{
	const struct vring_region *r = vring_mem_find(mem, iova);
	uint64_t have;

	if (r == NULL)
		return false;
	have = r->size - (iova - r->iova);
	while ((r->perm & perm) == perm) {
		if (len <= have)
			return true;
		r = mem_next(mem, r);
		if (r == NULL)
			return false;
		have += r->size;
	}
	return false;
}
