/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * Private to lib/vring: what rings look like in memory, and how it is read and written.
 *
 * Everything that a peer may change meanwhile is read by one load into a local and never again.
 */

#ifndef VRING_LAYOUT_H
#define VRING_LAYOUT_H

#include <endian.h>
#include <string.h>

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vring.h"

#ifndef VIRTIO_F_IN_ORDER
#define VIRTIO_F_IN_ORDER 35
#endif

#define VRING_LIKELY(x)    __builtin_expect(!!(x), 1)
#define VRING_UNLIKELY(x)  __builtin_expect(!!(x), 0)

#define VRING_DESC_BYTES   16
#define VRING_LINE_BYTES   64 /* of a cache; only speed depends on it */

#define VRING_PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define VRING_PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)
#define VRING_PACKED_WRAP  (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

/** A descriptor of either format, copied out of a ring or table. */
struct vring_desc_copy {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next_or_id; /* split: next; packed: buffer id */
};

static inline bool
vring_feature(uint64_t features, unsigned int bit)
{
	return (features >> bit) & 1;
}

static inline uint16_t
vring_load16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

static inline uint16_t
vring_load16_acquire(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline void
vring_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELAXED);
}

static inline void
vring_store16_release(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE);
}

/** Between publishing and reading the peer's wish: no store may pass a later load. */
static inline void
vring_fence(void)
{
/* The sanitizer does not model fences. It need not: data is ordered by acquire and release. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#pragma GCC diagnostic pop
#endif
}

/** Second half of a descriptor: length and two 16-bit fields, whose order the format says. */
static inline uint64_t
vring_desc_tail(const void *desc)
{
	return le64toh(__atomic_load_n((const uint64_t *)desc + 1, __ATOMIC_RELAXED));
}

static inline uint64_t
vring_desc_addr(const void *desc)
{
	return le64toh(__atomic_load_n((const uint64_t *)desc, __ATOMIC_RELAXED));
}

static inline struct vring_desc_copy
vring_desc_split(uint64_t addr, uint64_t tail)
{
	struct vring_desc_copy d = {
		addr, (uint32_t)tail, (uint16_t)(tail >> 32), (uint16_t)(tail >> 48)};

	return d;
}

static inline struct vring_desc_copy
vring_desc_packed(uint64_t addr, uint64_t tail)
{
	struct vring_desc_copy d = {
		addr, (uint32_t)tail, (uint16_t)(tail >> 48), (uint16_t)(tail >> 32)};

	return d;
}

static inline uint8_t
vring_load8(const uint8_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/** Flags of an available descriptor at this wrap counter. */
static inline uint16_t
vring_avail_flags(bool wrap)
{
	return wrap ? VRING_PACKED_AVAIL : VRING_PACKED_USED;
}

static inline bool
vring_is_avail(uint16_t flags, bool wrap)
{
	return (flags & (VRING_PACKED_AVAIL | VRING_PACKED_USED)) == vring_avail_flags(wrap);
}

/** Flags of a used descriptor at this wrap counter. */
static inline uint16_t
vring_used_flags(bool wrap)
{
	return wrap ? VRING_PACKED_AVAIL | VRING_PACKED_USED : 0;
}

static inline bool
vring_is_used(uint16_t flags, bool wrap)
{
	return (flags & (VRING_PACKED_AVAIL | VRING_PACKED_USED)) == vring_used_flags(wrap);
}

/** Move a packed position forward; @p nr at most @p size. */
static inline void
vring_forward(uint16_t *slot, bool *wrap, uint32_t nr, uint16_t size)
{
	uint32_t at = *slot + nr;

	if (at >= size) {
		at -= size;
		*wrap = !*wrap;
	}
	*slot = (uint16_t)at;
}

/** Move a packed position back; @p nr at most @p size. */
static inline void
vring_back(uint16_t *slot, bool *wrap, uint32_t nr, uint16_t size)
{
	if (nr > *slot) {
		*slot = (uint16_t)(*slot + size - nr);
		*wrap = !*wrap;
	} else {
		*slot = (uint16_t)(*slot - nr);
	}
}

static inline uint16_t
vring_position(uint16_t slot, bool wrap)
{
	return slot | (wrap ? VRING_PACKED_WRAP : 0);
}

/** Write an event suppression structure (virtio 1.2, 2.8.14) in one store. */
static inline void
vring_event_write(void *area, uint16_t off_wrap, uint16_t flags)
{
	__atomic_store_n(
		(uint32_t *)area, htole32(off_wrap | (uint32_t)flags << 16), __ATOMIC_RELAXED);
}

/**
 * Does the peer's event suppression structure ask for an event for the last @p nr_slots up to
 * @p position? What it does not ask for understandably is answered with yes.
 */
static inline bool
vring_event_wanted(
	const void *area, bool event_idx, uint16_t position, uint32_t nr_slots, uint16_t size)
{
	uint32_t event = le32toh(__atomic_load_n((const uint32_t *)area, __ATOMIC_RELAXED));
	uint16_t flags = (event >> 16) & 3;

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !event_idx)
		return true;
	return vring_event_passed_packed((uint16_t)event, position, nr_slots, size);
}

/** The areas of a queue, checked and translated. */
struct vring_areas {
	void *desc, *driver, *device;
};

/**
 * Check what both sides have in common.
 *
 * @param config from the caller
 * @param[out] areas pointers
 * @param perm_device_view false for a driver, which reaches its own memory whatever the device may
 * @param[out] error reason on failure
 * @return 0, -EINVAL or -EFAULT
 */
int vring_config_check(const struct vring_config *config, struct vring_areas *areas,
	bool perm_device_view, enum vring_error *error);

/** Translate the areas in another table. @return 0 or -EFAULT */
int vring_areas_map(const struct vring_config *config, const struct vring_mem *mem,
	struct vring_areas *areas, bool perm_device_view);

/** Slots between two positions of one queue; more than size if the state is not possible. */
uint32_t vring_state_distance(const struct vring_config *config);

/** The region that holds an address, or NULL. */
const struct vring_region *vring_mem_find(const struct vring_mem *mem, uint64_t iova);

/** Is all of a range mapped with a permission? @p len not 0. */
bool vring_mem_covers(const struct vring_mem *mem, uint64_t iova, uint64_t len, uint32_t perm);

struct vring_inflight;

/**
 * Packed: the next descriptor of a buffer that a former device took (vring_inflight.h).
 *
 * @param[in,out] at what vring_inflight_begin() gave, to begin with
 * @return an empty one without a valid id where the notes were changed meanwhile
 */
struct vring_desc_copy vring_inflight_desc(const struct vring_inflight *notes, uint16_t *at);

#endif /* VRING_LAYOUT_H */
