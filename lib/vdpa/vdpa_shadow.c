/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <sys/mman.h>

#include <rte_common.h>

#include "vdpa_shadow.h"

#define SHADOW_ALIGN (UINT64_C(2) << 20)
/* On x86 writes to these addresses are interrupts and never reach an IOMMU's tables. */
#define MSI_FIRST UINT64_C(0xfee00000)
#define MSI_LAST  UINT64_C(0xfeefffff)

int
vdpa_shadow_init(struct vdpa_shadow *shadow, uint64_t slot_bytes, uint16_t nr_slots)
{
	void *mem;

	*shadow = (struct vdpa_shadow){
		.slot_bytes = slot_bytes, .size_bytes = slot_bytes * nr_slots};
	mem = mmap(NULL, shadow->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	if (mem == MAP_FAILED)
		return -errno;
	shadow->mem = mem;
	return 0;
}

void
vdpa_shadow_fini(struct vdpa_shadow *shadow)
{
	vdpa_domain_put(shadow->domain);
	vdpa_domain_put(shadow->guest);
	if (shadow->mem != NULL)
		munmap(shadow->mem, shadow->size_bytes);
}

void
vdpa_shadow_touch(struct vdpa_shadow *shadow, uint16_t slot)
{
	uint8_t *mem = vdpa_shadow_va(shadow, slot);

	for (uint64_t at = 0; at < shadow->slot_bytes; at += 1 << VDPA_PAGE_SHIFT)
		mem[at] = 0;
}

static bool
overlaps(uint64_t first, uint64_t last, uint64_t other_first, uint64_t other_last)
{
	return first <= other_last && other_first <= last;
}

static bool
is_free(uint64_t iova, uint64_t size_bytes, const struct vdpa_range *ranges, uint32_t nr)
{
	uint64_t last = iova + size_bytes - 1;

	if (overlaps(iova, last, MSI_FIRST, MSI_LAST))
		return false;
	for (uint32_t i = 0; i < nr; i++)
		if (overlaps(iova, last, ranges[i].iova, ranges[i].iova + ranges[i].size_bytes - 1))
			return false;
	return true;
}

/* From the top of what the device reaches downwards: hot-plugged memory comes from below. */
static int
place(struct vdpa_shadow *shadow, const struct vdpa_info *info, const struct vdpa_range *ranges,
	uint32_t nr)
{
	/* the last page of the address space is left alone, for sums */
	uint64_t last = RTE_MIN(info->iova_last, UINT64_MAX - SHADOW_ALIGN);
	uint64_t first, iova;

	if (shadow->iova != 0 && is_free(shadow->iova, shadow->size_bytes, ranges, nr))
		return 0;
	/* address 0 stands for none */
	first = RTE_MAX(RTE_ALIGN_CEIL(info->iova_first, SHADOW_ALIGN), SHADOW_ALIGN);
	iova = RTE_ALIGN_FLOOR(last - shadow->size_bytes + 1, SHADOW_ALIGN);
	for (; last >= shadow->size_bytes && iova >= first; iova -= SHADOW_ALIGN)
		if (is_free(iova, shadow->size_bytes, ranges, nr)) {
			shadow->iova = iova;
			return 0;
		}
	return vdpa_error_set(-ENOSPC, "no room for shadow rings beside the guest's memory");
}

int
vdpa_shadow_domain(
	struct vdpa_shadow *shadow, struct vdpa_domain *guest, struct vdpa_device_priv *priv)
{
	const struct vdpa_range *ranges;
	struct vdpa_domain *domain;
	struct vdpa_range range;
	uint32_t nr;
	int rc;

	if (shadow->guest == guest && shadow->domain != NULL)
		return 0;
	ranges = vdpa_domain_ranges(guest, &nr);
	rc = place(shadow, &priv->info, ranges, nr);
	if (rc != 0)
		return rc;
	range = (struct vdpa_range){
		.iova = shadow->iova,
		.size_bytes = shadow->size_bytes,
		.va = shadow->mem,
		.fd = -1,
	};
	rc = vdpa_domain_extend(&domain, guest, &range, shadow->domain, priv->dev);
	if (rc != 0)
		return rc;
	vdpa_domain_put(shadow->domain);
	vdpa_domain_put(shadow->guest);
	shadow->domain = domain;
	shadow->guest = vdpa_domain_get(guest);
	return 0;
}
