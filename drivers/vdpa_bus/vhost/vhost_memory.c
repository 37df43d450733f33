/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <rte_common.h>

#include "vhost_bus.h"

int
vdpa_vhost_memory_mappable(int fd, uint64_t offset, uint64_t size_bytes)
{
	struct stat st;
	void *map;

	if (size_bytes == 0 || size_bytes > INT64_MAX || offset > INT64_MAX - size_bytes)
		return -EINVAL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_blksize <= 0)
		return -EBADF;
	if (offset + size_bytes > (uint64_t)st.st_size)
		return -ENXIO;
	/* As librte_vhost does it: from offset 0, in pages of the file. */
	size_bytes = RTE_ALIGN_MUL_CEIL(offset + size_bytes, (uint64_t)st.st_blksize);
	map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	munmap(map, size_bytes);
	return 0;
}

int
vdpa_vhost_memory_take(struct vhost_mem *memory, const struct rte_vhost_memory *table)
{
	uint32_t i;

	memset(memory, 0, sizeof(*memory));
	if (table->nregions > VHOST_REGIONS_MAX)
		return -E2BIG;
	for (i = 0; i < table->nregions; i++) {
		const struct rte_vhost_mem_region *from = &table->regions[i];
		struct vhost_region *to = &memory->regions[i];
		uint64_t map = (uintptr_t)from->mmap_addr;

		if (from->host_user_addr < map || from->host_user_addr - map > from->mmap_size ||
				from->size > from->mmap_size - (from->host_user_addr - map))
			return -EINVAL;
		to->iova = from->guest_phys_addr;
		to->size_bytes = from->size;
		to->host = from->host_user_addr;
		to->map = from->mmap_addr;
		to->map_size_bytes = from->mmap_size;
		to->fd = from->fd;
		to->fd_offset = from->host_user_addr - map;
	}
	memory->nr_regions = table->nregions;
	return 0;
}

bool
vdpa_vhost_memory_same(const struct vhost_mem *a, const struct vhost_mem *b)
{
	uint32_t i;

	if (a->nr_regions != b->nr_regions)
		return false;
	for (i = 0; i < a->nr_regions; i++) {
		const struct vhost_region *x = &a->regions[i], *y = &b->regions[i];

		/* A number may name another file by now, but then librte_vhost mapped anew. */
		if (x->iova != y->iova || x->size_bytes != y->size_bytes || x->host != y->host ||
				x->map != y->map || x->map_size_bytes != y->map_size_bytes ||
				x->fd != y->fd)
			return false;
	}
	return true;
}

int
vdpa_vhost_memory_iova(const struct vhost_mem *memory, const void *host, uint64_t *iova)
{
	uint64_t address = (uintptr_t)host;
	uint32_t i;

	for (i = 0; i < memory->nr_regions; i++) {
		const struct vhost_region *region = &memory->regions[i];

		if (address < region->host || address - region->host >= region->size_bytes)
			continue;
		*iova = region->iova + (address - region->host);
		return 0;
	}
	return -EFAULT;
}

void
vdpa_vhost_memory_ranges(const struct vhost_mem *memory, struct vdpa_range *ranges)
{
	uint32_t i;

	for (i = 0; i < memory->nr_regions; i++) {
		const struct vhost_region *region = &memory->regions[i];

		ranges[i] = (struct vdpa_range){
			.iova = region->iova,
			.size_bytes = region->size_bytes,
			.va = (void *)(uintptr_t)region->host,
			.fd = region->fd,
			.fd_offset = region->fd_offset,
		};
	}
}

int
vdpa_vhost_ring_take(struct vdpa_wanted_vq *vq, const struct rte_vhost_vring *ring,
		     const struct vhost_mem *memory)
{
	vq->size = ring->size;
	/* librte_vhost: -1 there is none, -2 not told yet. */
	vq->kick_fd = ring->kickfd >= 0 ? ring->kickfd : -1;
	vq->call_fd = ring->callfd >= 0 ? ring->callfd : -1;
	/* The unions of a packed ring lie at the same places. */
	if (vdpa_vhost_memory_iova(memory, ring->desc, &vq->desc_iova) < 0 ||
			vdpa_vhost_memory_iova(memory, ring->avail, &vq->driver_iova) < 0 ||
			vdpa_vhost_memory_iova(memory, ring->used, &vq->device_iova) < 0)
		return -EFAULT;
	return 0;
}

/* Signal context. */
static void
memory_hit(void *arg)
{
	atomic_bool *lost = arg;

	atomic_store_explicit(lost, true, memory_order_relaxed);
}

void
vdpa_vhost_memory_guard(struct vhost_mem *memory, atomic_bool *lost)
{
	uint32_t i;

	for (i = 0; i < memory->nr_regions; i++) {
		struct vhost_region *region = &memory->regions[i];
		int seals = fcntl(region->fd, F_GET_SEALS);

		if (region->guarded || (seals >= 0 && (seals & F_SEAL_SHRINK) != 0))
			continue;
		if (vdpa_sigbus_guard(region->map, region->map_size_bytes, memory_hit, lost) == 0)
			region->guarded = true;
		else
			VHOST_LOG_LIMITED(WARNING, "no guard left for memory at 0x%" PRIx64
				": a front end that shrinks it is not told apart", region->iova);
	}
}

void
vdpa_vhost_memory_unguard(struct vhost_mem *memory)
{
	uint32_t i;

	for (i = 0; i < memory->nr_regions; i++) {
		if (memory->regions[i].guarded)
			vdpa_sigbus_unguard(memory->regions[i].map);
		memory->regions[i].guarded = false;
	}
}
