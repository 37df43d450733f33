/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vdpa_mapping.h"
#include "vring.h"

struct vdpa_domain {
	atomic_uint refs;
	struct vdpa_domain *next, **pprev; /* under lock */
	/* under lock; NULL: nobody, or it knows that memory is lost */
	struct vdpa_device_priv *owner;
	uint32_t nr;
	struct vdpa_mapping **mappings;
	struct vdpa_range *ranges;
	struct vring_region *regions;
	struct vring_mem mem;
};

/* Taken before the locks of devices, after those of watches. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vdpa_domain *domains;

void
vdpa_domain_lost(void *arg __rte_unused)
{
	pthread_mutex_lock(&lock);
	for (struct vdpa_domain *d = domains; d != NULL; d = d->next) {
		bool lost = false;

		for (uint32_t i = 0; i < d->nr; i++)
			lost |= atomic_load(&d->mappings[i]->lost);
		if (!lost || d->owner == NULL)
			continue;
		vdpa_priv_failed(d->owner, -EFAULT, "the front end cut the file of its memory");
		d->owner = NULL;
	}
	pthread_mutex_unlock(&lock);
}

static int
check_range(const struct vdpa_range *range, const struct vdpa_device *owner)
{
	uint64_t last = range->iova + range->size_bytes - 1;

	if (range->size_bytes == 0)
		return vdpa_error_set(-EINVAL, "memory region 0x%" PRIx64 " is empty", range->iova);
	if (last < range->iova)
		return vdpa_error_set(-EINVAL,
			"memory region 0x%" PRIx64 " of 0x%" PRIx64
			" bytes passes the end of the address space",
			range->iova, range->size_bytes);
	if (range->size_bytes > SIZE_MAX / 2 ||
		(range->fd >= 0 && range->fd_offset > INT64_MAX - range->size_bytes))
		return vdpa_error_set(-EINVAL,
			"memory region 0x%" PRIx64 " of 0x%" PRIx64
			" bytes passes the end of its file",
			range->iova, range->size_bytes);
	if (range->fd < 0 && range->va == NULL)
		return vdpa_error_set(-EINVAL,
			"memory region 0x%" PRIx64 " has neither a file nor an address",
			range->iova);
	if (owner != NULL && owner->priv != NULL &&
		(range->iova < owner->priv->info.iova_first || last > owner->priv->info.iova_last))
		return vdpa_error_set(-EINVAL,
			"memory region 0x%" PRIx64 " to 0x%" PRIx64
			" is outside what %s reaches (0x%" PRIx64 " to 0x%" PRIx64 ")",
			range->iova, last, owner->name, owner->priv->info.iova_first,
			owner->priv->info.iova_last);
	return 0;
}

static int
compare_iova(const void *a, const void *b)
{
	uint64_t iova_a = ((const struct vdpa_range *)a)->iova;
	uint64_t iova_b = ((const struct vdpa_range *)b)->iova;

	return (iova_a > iova_b) - (iova_a < iova_b);
}

/* domain->ranges: sort and check. */
static int
check_table(struct vdpa_domain *domain, const struct vdpa_device *owner)
{
	struct vdpa_range *ranges = domain->ranges;
	int rc;

	for (uint32_t i = 0; i < domain->nr; i++) {
		rc = check_range(&ranges[i], owner);
		if (rc != 0)
			return rc;
	}
	qsort(ranges, domain->nr, sizeof(*ranges), compare_iova);
	for (uint32_t i = 1; i < domain->nr; i++)
		if (ranges[i].iova - ranges[i - 1].iova < ranges[i - 1].size_bytes)
			return vdpa_error_set(-EINVAL,
				"memory regions 0x%" PRIx64 " and 0x%" PRIx64 " overlap",
				ranges[i - 1].iova, ranges[i].iova);
	return 0;
}

static struct vdpa_mapping *
take_over(const struct vdpa_domain *former, const struct vdpa_range *range)
{
	for (uint32_t i = 0; former != NULL && i < former->nr; i++)
		if (vdpa_mapping_serves(former->mappings[i], range))
			return vdpa_mapping_get(former->mappings[i]);
	return NULL;
}

static int
map_table(struct vdpa_domain *domain, const struct vdpa_domain *const formers[2])
{
	for (uint32_t i = 0; i < domain->nr; i++) {
		struct vdpa_range *range = &domain->ranges[i];
		struct vdpa_mapping *mapping = take_over(formers[0], range);

		if (mapping == NULL)
			mapping = take_over(formers[1], range);
		if (mapping == NULL) {
			int rc = vdpa_mapping_create(range, &mapping);

			if (rc != 0)
				return rc;
		}
		domain->mappings[i] = mapping;
		*range = mapping->range;
		domain->regions[i] = (struct vring_region){
			.iova = range->iova,
			.size = range->size_bytes,
			.va = range->va,
			.perm = VRING_PERM_RW,
		};
	}
	domain->mem = (struct vring_mem){domain->regions, domain->nr};
	return 0;
}

static void
domain_free(struct vdpa_domain *domain)
{
	pthread_mutex_lock(&lock);
	if (domain->pprev != NULL) {
		*domain->pprev = domain->next;
		if (domain->next != NULL)
			domain->next->pprev = domain->pprev;
	}
	pthread_mutex_unlock(&lock);
	for (uint32_t i = 0; domain->mappings != NULL && i < domain->nr; i++)
		vdpa_mapping_put(domain->mappings[i]);
	free(domain->mappings);
	free(domain->ranges);
	free(domain->regions);
	free(domain);
}

static int
domain_fill(struct vdpa_domain *domain, const struct vdpa_range *regions,
	const struct vdpa_domain *const formers[2], struct vdpa_device *owner)
{
	int rc;

	domain->mappings = calloc(domain->nr, sizeof(*domain->mappings));
	domain->ranges = calloc(domain->nr, sizeof(*domain->ranges));
	domain->regions = calloc(domain->nr, sizeof(*domain->regions));
	if (domain->mappings == NULL || domain->ranges == NULL || domain->regions == NULL)
		return vdpa_error_set(-ENOMEM, "no memory for %u regions", domain->nr);
	memcpy(domain->ranges, regions, domain->nr * sizeof(*regions));
	rc = check_table(domain, owner);
	if (rc != 0)
		return rc;
	return map_table(domain, formers);
}

static int
domain_create(struct vdpa_domain **out, const struct vdpa_range *regions, uint32_t nr_regions,
	const struct vdpa_domain *const formers[2], struct vdpa_device *owner)
{
	struct vdpa_domain *domain;
	int rc;

	*out = NULL;
	if (nr_regions == 0)
		return vdpa_error_set(-EINVAL, "no memory region");
	domain = calloc(1, sizeof(*domain));
	if (domain == NULL)
		return vdpa_error_set(-ENOMEM, "no memory for a domain");
	atomic_init(&domain->refs, 1);
	domain->nr = nr_regions;
	domain->owner = owner != NULL ? owner->priv : NULL;
	rc = domain_fill(domain, regions, formers, owner);
	if (rc != 0) {
		domain_free(domain);
		return rc;
	}
	pthread_mutex_lock(&lock);
	domain->next = domains;
	domain->pprev = &domains;
	if (domains != NULL)
		domains->pprev = &domain->next;
	domains = domain;
	pthread_mutex_unlock(&lock);
	*out = domain;
	return 0;
}

int
vdpa_domain_create(struct vdpa_domain **out, const struct vdpa_range *regions, uint32_t nr_regions,
	struct vdpa_domain *former, struct vdpa_device *owner)
{
	return domain_create(out, regions, nr_regions,
		(const struct vdpa_domain *const[2]){former, NULL}, owner);
}

int
vdpa_domain_extend(struct vdpa_domain **out, const struct vdpa_domain *domain,
	const struct vdpa_range *range, const struct vdpa_domain *former, struct vdpa_device *owner)
{
	struct vdpa_range *ranges = malloc((domain->nr + 1) * sizeof(*ranges));
	int rc;

	*out = NULL;
	if (ranges == NULL)
		return vdpa_error_set(-ENOMEM, "no memory for %u regions", domain->nr + 1);
	memcpy(ranges, domain->ranges, domain->nr * sizeof(*ranges));
	ranges[domain->nr] = *range;
	rc = domain_create(out, ranges, domain->nr + 1,
		(const struct vdpa_domain *const[2]){domain, former}, owner);
	free(ranges);
	return rc;
}

void
vdpa_domain_own(struct vdpa_domain *domain, struct vdpa_device_priv *owner)
{
	pthread_mutex_lock(&lock);
	domain->owner = owner;
	pthread_mutex_unlock(&lock);
}

bool
vdpa_domain_is_fenced(const struct vdpa_domain *domain)
{
	for (uint32_t i = 0; i < domain->nr; i++)
		if (atomic_load(&domain->mappings[i]->fenced))
			return true;
	return false;
}

int
vdpa_domain_renew(
	struct vdpa_domain **out, const struct vdpa_domain *domain, struct vdpa_device *owner)
{
	struct vdpa_range *ranges = malloc(domain->nr * sizeof(*ranges));
	int rc;

	*out = NULL;
	if (ranges == NULL)
		return vdpa_error_set(-ENOMEM, "no memory for %u regions", domain->nr);
	for (uint32_t i = 0; i < domain->nr; i++)
		ranges[i] = domain->mappings[i]->range;
	/* a mapping that is fenced is not taken over */
	rc = domain_create(
		out, ranges, domain->nr, (const struct vdpa_domain *const[2]){domain, NULL}, owner);
	free(ranges);
	return rc;
}

struct vdpa_domain *
vdpa_domain_get(struct vdpa_domain *domain)
{
	atomic_fetch_add_explicit(&domain->refs, 1, memory_order_relaxed);
	return domain;
}

void
vdpa_domain_put(struct vdpa_domain *domain)
{
	if (domain != NULL &&
		atomic_fetch_sub_explicit(&domain->refs, 1, memory_order_acq_rel) == 1)
		domain_free(domain);
}

const struct vring_mem *
vdpa_domain_mem(const struct vdpa_domain *domain)
{
	return &domain->mem;
}

const struct vdpa_range *
vdpa_domain_ranges(const struct vdpa_domain *domain, uint32_t *nr_ranges)
{
	*nr_ranges = domain->nr;
	return domain->ranges;
}

bool
vdpa_range_same(const struct vdpa_domain *a, uint32_t index_a, const struct vdpa_domain *b,
	uint32_t index_b)
{
	return a->mappings[index_a] == b->mappings[index_b];
}

void
vdpa_domain_fence(struct vdpa_domain *domain)
{
	for (uint32_t i = 0; i < domain->nr; i++)
		vdpa_mapping_fence(domain->mappings[i]);
}

int
vdpa_domain_read(const struct vdpa_domain *domain, uint64_t iova, void *data, uint32_t len_bytes)
{
	uint8_t *to = data;
	int rc = 0;

	/* sorted: a piece in each region, while they follow each other */
	for (uint32_t i = 0; i < domain->nr && len_bytes != 0 && rc == 0; i++) {
		const struct vdpa_range *range = &domain->ranges[i];
		uint64_t offset = iova - range->iova;
		uint32_t part;

		if (iova < range->iova || offset >= range->size_bytes)
			continue;
		part = RTE_MIN((uint64_t)len_bytes, range->size_bytes - offset);
		rc = vdpa_mapping_read(domain->mappings[i], offset, to, part);
		to += part;
		iova += part;
		len_bytes -= part;
	}
	return len_bytes != 0 ? -EFAULT : rc;
}
