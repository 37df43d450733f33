/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Prefetch and copy for devices that move buffers by CPU. Pure functions.
 *
 * Distributions build for old CPUs (DPDK's pkg-config file appends its own -march), so nothing here
 * depends on the compiler's target: prefetch for writing is an instruction that older CPUs take as
 * a no-op, long copies go to the C library, which picks by the CPU it runs on.
 */

#ifndef VRING_COPY_H
#define VRING_COPY_H

#include <string.h>

#include "vring_dev.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** Prefetch a line that will be written. */
static inline void
vring_prefetch_write(const void *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1, 3);
#endif
}

/** Prefetch a line that will be read. */
static inline void
vring_prefetch_read(const void *p)
{
	__builtin_prefetch(p, 0, 3);
}

/**
 * Copy a frame. Fast for 16 to 128 bytes, the C library's beyond. Where the two overlap (a guest
 * may give one buffer for sending and receiving) the result is of no use, and no harm is done.
 */
static inline void
vring_copy(void *dst, const void *src, size_t len)
{
	uint8_t *d = (uint8_t *)dst;
	const uint8_t *s = (const uint8_t *)src;
	size_t i;

	if (len < 16 || len > 128) {
		memmove(d, s, len);
		return;
	}
	for (i = 0; i + 16 < len; i += 16)
		memcpy(d + i, s + i, 16);
	memcpy(d + len - 16, s + len - 16, 16);
}

/** A place in a list of segments. */
struct vring_cursor {
	const struct vring_seg *seg;
	uint16_t nr_segs; /**< left, the current one included */
	uint32_t offset;  /**< in the current one */
};

/** The readable part of a chain, from its start. */
static inline struct vring_cursor
vring_cursor_readable(const struct vring_chain *chain)
{
	struct vring_cursor c = {chain->segs, chain->nr_readable, 0};

	return c;
}

/** The writable part of a chain, from its start. */
static inline struct vring_cursor
vring_cursor_writable(const struct vring_chain *chain)
{
	struct vring_cursor c = {chain->segs + chain->nr_readable,
		(uint16_t)(chain->nr_segs - chain->nr_readable), 0};

	return c;
}

/**
 * Copy between two lists of segments and move both cursors on.
 *
 * @return bytes copied: @p len, or less where one of the lists ended
 */
uint32_t vring_copy_cursor(struct vring_cursor *dst, struct vring_cursor *src, uint32_t len);

/** Copy out of a list of segments. @return bytes copied, fewer than @p len where the list ended */
uint32_t vring_copy_from(void *dst, struct vring_cursor *src, uint32_t len);

/** Copy into a list of segments. @return bytes copied, fewer than @p len where the list ended */
uint32_t vring_copy_to(struct vring_cursor *dst, const void *src, uint32_t len);

/** Move a cursor on. @return bytes skipped, fewer than @p len where the list ended */
uint32_t vring_skip(struct vring_cursor *cursor, uint32_t len);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_COPY_H */
