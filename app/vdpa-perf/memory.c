/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/virtio_config.h>

#include "memory.h"
#include "perf.h"

#define PAGE  UINT64_C(4096)
#define BATCH 64

int
perf_memory_init(struct perf_memory *m, uint64_t size_bytes)
{
	void *va = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	memset(m, 0, sizeof(*m));
	if (va == MAP_FAILED)
		return -errno;
	m->region = (struct vring_region){PERF_IOVA, size_bytes, va, VRING_PERM_RW};
	m->mem = (struct vring_mem){&m->region, 1};
	return 0;
}

void
perf_memory_end(struct perf_memory *m)
{
	if (m->region.va != NULL)
		munmap(m->region.va, m->region.size);
	memset(m, 0, sizeof(*m));
}

static uint64_t
pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) & ~(PAGE - 1);
}

uint64_t
perf_memory_take(struct perf_memory *m, uint64_t bytes)
{
	uint64_t at = m->used_bytes;

	if (pages(bytes) > m->region.size - at)
		return 0;
	m->used_bytes = at + pages(bytes);
	return m->region.iova + at;
}

uint64_t
perf_queue_bytes(uint16_t size, uint64_t features, uint32_t slot_bytes)
{
	return pages(vring_desc_bytes(size, features)) + pages(vring_driver_bytes(size, features)) +
		pages(vring_device_bytes(size, features)) + pages((uint64_t)size * slot_bytes);
}

struct vring_config
perf_queue_config(const struct perf_queue *q, const struct perf_memory *m, uint64_t features)
{
	struct vring_config config = {
		.size = q->size,
		.features = features,
		.desc_iova = q->desc_iova,
		.driver_iova = q->driver_iova,
		.device_iova = q->device_iova,
		.mem = &m->mem,
		.state = VRING_STATE_SPLIT_START,
	};

	if ((features & PERF_BIT(VIRTIO_F_RING_PACKED)) != 0)
		config.state = VRING_STATE_PACKED_START;
	return config;
}

int
perf_queue_init(struct perf_queue *q, struct perf_memory *m, uint16_t size, uint64_t features,
	uint32_t slot_bytes)
{
	memset(&q->ring, 0, sizeof(q->ring));
	q->size = size;
	q->slot_bytes = slot_bytes;
	q->desc_iova = perf_memory_take(m, vring_desc_bytes(size, features));
	q->driver_iova = perf_memory_take(m, vring_driver_bytes(size, features));
	q->device_iova = perf_memory_take(m, vring_device_bytes(size, features));
	q->slots_iova = perf_memory_take(m, (uint64_t)size * slot_bytes);
	if (q->slots_iova == 0)
		return -ENOMEM;
	q->slots = perf_memory_ptr(m, q->slots_iova);
	return perf_queue_reset(q, m, features);
}

int
perf_queue_reset(struct perf_queue *q, const struct perf_memory *m, uint64_t features)
{
	struct vring_config config = perf_queue_config(q, m, features);

	vring_drv_fini(&q->ring);
	memset(perf_memory_ptr(m, q->desc_iova), 0, vring_desc_bytes(q->size, features));
	memset(perf_memory_ptr(m, q->driver_iova), 0, vring_driver_bytes(q->size, features));
	memset(perf_memory_ptr(m, q->device_iova), 0, vring_device_bytes(q->size, features));
	for (q->nr_free = 0; q->nr_free < q->size; q->nr_free++)
		q->free_slots[q->nr_free] = q->size - 1 - q->nr_free;
	return vring_drv_init(&q->ring, &config);
}

void
perf_queue_end(struct perf_queue *q)
{
	vring_drv_fini(&q->ring);
}

uint16_t
perf_queue_give(struct perf_queue *q, uint16_t nr, uint32_t len, bool writable)
{
	uint16_t done = 0;

	for (; done < nr && q->nr_free > 0; done++) {
		uint16_t slot = q->free_slots[q->nr_free - 1];
		struct vring_buf buf = {q->slots_iova + (uint64_t)slot * q->slot_bytes, len};

		if (vring_drv_add(&q->ring, &buf, !writable, writable, (void *)(uintptr_t)slot,
			    NULL) != 0)
			break;
		q->nr_free--;
	}
	vring_drv_publish(&q->ring);
	return done;
}

uint16_t
perf_queue_take(struct perf_queue *q, uint16_t nr, uint32_t len, uint64_t *nr_wrong)
{
	struct vring_drv_done done[BATCH];

	nr = vring_drv_get(&q->ring, done, nr < BATCH ? nr : BATCH);
	for (uint16_t i = 0; i < nr; i++) {
		*nr_wrong += done[i].len != len;
		q->free_slots[q->nr_free++] = (uint16_t)(uintptr_t)done[i].cookie;
	}
	return nr;
}
