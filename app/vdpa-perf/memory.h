/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_MEMORY_H
#define PERF_MEMORY_H

/**
 * @file
 * Memory of a driver in this process, and driver-side rings with buffers of one size in it.
 */

#include "vring_drv.h"

#define PERF_IOVA UINT64_C(0x40000000)

/** One region. Handed out from its start, never taken back but as a whole. */
struct perf_memory {
	struct vring_region region;
	struct vring_mem mem;
	uint64_t used_bytes;
};

/** A driver-side ring; buffer n is at slots_iova + n * slot_bytes. */
struct perf_queue {
	struct vring_drv ring;
	uint16_t size;
	uint64_t desc_iova, driver_iova, device_iova;
	uint64_t slots_iova;
	uint8_t *slots;
	uint32_t slot_bytes;
	uint16_t free_slots[VRING_SIZE_MAX];
	uint16_t nr_free;
};

/** @return 0 or negative errno; perf_memory_end() frees it */
int perf_memory_init(struct perf_memory *m, uint64_t size_bytes);
void perf_memory_end(struct perf_memory *m);
/** Cleared, on a page of its own. @return its address, 0: there is no room */
uint64_t perf_memory_take(struct perf_memory *m, uint64_t bytes);
static inline void *
perf_memory_ptr(const struct perf_memory *m, uint64_t iova)
{
	return m->region.va + (iova - m->region.iova);
}

/** Bytes of memory that a queue takes. */
uint64_t perf_queue_bytes(uint16_t size, uint64_t features, uint32_t slot_bytes);
/** @return 0 or negative errno; perf_queue_end() in any case */
int perf_queue_init(struct perf_queue *q, struct perf_memory *m, uint16_t size, uint64_t features,
	uint32_t slot_bytes);
void perf_queue_end(struct perf_queue *q);
/** As after perf_queue_init(), whatever became of its areas. @return 0 or negative errno */
int perf_queue_reset(struct perf_queue *q, const struct perf_memory *m, uint64_t features);
/** What a device side or a session of the same ring is made from. */
struct vring_config perf_queue_config(
	const struct perf_queue *q, const struct perf_memory *m, uint64_t features);

/** Give up to nr buffers of len bytes, for the device to write or read. @return how many */
uint16_t perf_queue_give(struct perf_queue *q, uint16_t nr, uint32_t len, bool writable);
/** Take back up to nr buffers; those of another length than len are counted. @return how many */
uint16_t perf_queue_take(struct perf_queue *q, uint16_t nr, uint32_t len, uint64_t *nr_wrong);

#endif /* PERF_MEMORY_H */
