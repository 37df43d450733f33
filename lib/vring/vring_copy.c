/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_copy.h"

static uint32_t
smallest(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Bytes up to the end of the current segment. */
static uint32_t
cursor_here(const struct vring_cursor *c)
{
	return c->seg->len - c->offset;
}

static void
cursor_move(struct vring_cursor *c, uint32_t bytes)
{
	c->offset += bytes;
	if (c->offset == c->seg->len) {
		c->seg++;
		c->nr_segs--;
		c->offset = 0;
	}
}

uint32_t
vring_copy_cursor(struct vring_cursor *dst, struct vring_cursor *src, uint32_t len)
{
	uint32_t left = len;

	while (left > 0 && dst->nr_segs > 0 && src->nr_segs > 0) {
		uint32_t n = smallest(left, smallest(cursor_here(dst), cursor_here(src)));

		vring_copy(dst->seg->va + dst->offset, src->seg->va + src->offset, n);
		cursor_move(dst, n);
		cursor_move(src, n);
		left -= n;
	}
	return len - left;
}

uint32_t
vring_copy_from(void *dst, struct vring_cursor *src, uint32_t len)
{
	uint32_t done = 0;

	while (done < len && src->nr_segs > 0) {
		uint32_t n = smallest(len - done, cursor_here(src));

		vring_copy((uint8_t *)dst + done, src->seg->va + src->offset, n);
		cursor_move(src, n);
		done += n;
	}
	return done;
}

uint32_t
vring_copy_to(struct vring_cursor *dst, const void *src, uint32_t len)
{
	uint32_t done = 0;

	while (done < len && dst->nr_segs > 0) {
		uint32_t n = smallest(len - done, cursor_here(dst));

		vring_copy(dst->seg->va + dst->offset, (const uint8_t *)src + done, n);
		cursor_move(dst, n);
		done += n;
	}
	return done;
}

uint32_t
vring_skip(struct vring_cursor *cursor, uint32_t len)
{
	uint32_t done = 0;

	while (done < len && cursor->nr_segs > 0) {
		uint32_t n = smallest(len - done, cursor_here(cursor));

		cursor_move(cursor, n);
		done += n;
	}
	return done;
}
