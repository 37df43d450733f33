/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef FUZZ_H
#define FUZZ_H

/**
 * @file
 * What the fuzz targets share: an input that is read as a script, and the memory of the side that
 * is not trusted. What must not happen ends the program; out of bounds is the sanitizers' business,
 * so each region is an allocation of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vring.h"

#define FUZZ_BIT(feature) (UINT64_C(1) << (feature))

/** What must hold whatever the input. */
#define fuzz_assert(condition)           \
	do {                             \
		if (!(condition))        \
			__builtin_trap(); \
	} while (0)

/** The input; zeros behind its end. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline bool
fuzz_more(const struct fuzz_input *in)
{
	return in->size > 0;
}

static inline uint64_t
fuzz_take(struct fuzz_input *in, unsigned int nr_bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < nr_bytes && in->size > 0; i++, in->size--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

/* ---- memory ---- */

#define FUZZ_RING_IOVA   UINT64_C(0x10000)
#define FUZZ_RING_BYTES  0x6000
#define FUZZ_DRIVER      0x2000 /**< offsets of the areas in the first region */
#define FUZZ_DEVICE      0x4000
#define FUZZ_DATA_IOVA   UINT64_C(0x40000)
#define FUZZ_DATA_BYTES  0x4000
#define FUZZ_NEXT_BYTES  0x1000 /**< behind it without a gap, elsewhere in this process */
#define FUZZ_READ_IOVA   UINT64_C(0xfffffffffffff000) /**< the last page, read only */
#define FUZZ_NR_REGIONS  4
#define FUZZ_SIZE_MAX    256 /**< slots of a ring */

struct fuzz_memory {
	struct vring_region regions[FUZZ_NR_REGIONS];
	struct vring_mem mem;
};

/** Zeroed. */
void fuzz_memory_init(struct fuzz_memory *m);
void fuzz_memory_fini(struct fuzz_memory *m);
/** Size, features, where to start, areas in the first region, mostly aligned. */
void fuzz_config(
	struct fuzz_input *in, struct fuzz_memory *m, bool packed, struct vring_config *config);
/** The untrusted side writes: some bytes anywhere, or a descriptor, an index, a used entry. */
void fuzz_scribble(struct fuzz_input *in, struct fuzz_memory *m, const struct vring_config *config);

/** Read and write all of a piece; its address must be in memory of these permissions. */
void fuzz_touch(const struct fuzz_memory *m, uint64_t iova, uint8_t *va, uint32_t len, bool write);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_H */
