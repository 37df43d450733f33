/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>

#include "vring.h"
#include "vring_layout.h"

const char *
vring_error_text(enum vring_error error)
{
	static const char *const texts[] = {
#define VRING_ERROR_TEXT(name, text) text,
		VRING_ERRORS(VRING_ERROR_TEXT)
#undef VRING_ERROR_TEXT
	};

	return (unsigned int)error < VRING_ERR_MAX ? texts[error] : "unknown error";
}

const char *
vring_error_name(enum vring_error error)
{
	static const char *const names[] = {
#define VRING_ERROR_NAME(name, text) #name,
		VRING_ERRORS(VRING_ERROR_NAME)
#undef VRING_ERROR_NAME
	};

	return (unsigned int)error < VRING_ERR_MAX ? names[error] : "UNKNOWN";
}

uint64_t
vring_desc_bytes(uint16_t size, uint64_t features)
{
	(void)features;
	return (uint64_t)size * VRING_DESC_BYTES;
}

/* Without event index the field behind a split ring is not touched and need not be there. */
uint64_t
vring_driver_bytes(uint16_t size, uint64_t features)
{
	if (vring_feature(features, VIRTIO_F_RING_PACKED))
		return sizeof(struct vring_packed_desc_event);
	return offsetof(struct vring_avail, ring) + size * sizeof(__virtio16) +
		(vring_feature(features, VIRTIO_RING_F_EVENT_IDX) ? sizeof(__virtio16) : 0);
}

uint64_t
vring_device_bytes(uint16_t size, uint64_t features)
{
	if (vring_feature(features, VIRTIO_F_RING_PACKED))
		return sizeof(struct vring_packed_desc_event);
	return offsetof(struct vring_used, ring) + size * sizeof(struct vring_used_elem) +
		(vring_feature(features, VIRTIO_RING_F_EVENT_IDX) ? sizeof(__virtio16) : 0);
}

static void *
area_map(const struct vring_mem *mem, uint64_t iova, uint64_t bytes, uint32_t perm)
{
	uint64_t len = bytes;
	void *va = vring_mem_ptr(mem, iova, &len, perm);

	return len == bytes ? va : NULL;
}

int
vring_areas_map(const struct vring_config *c, const struct vring_mem *mem,
	struct vring_areas *areas, bool perm_device_view)
{
	bool packed = vring_feature(c->features, VIRTIO_F_RING_PACKED);
	uint32_t read = perm_device_view ? VRING_PERM_READ : 0;
	uint32_t write = perm_device_view ? VRING_PERM_WRITE : 0;
	struct vring_areas a;

	a.desc = area_map(mem, c->desc_iova, vring_desc_bytes(c->size, c->features),
		packed ? read | write : read);
	a.driver = area_map(mem, c->driver_iova, vring_driver_bytes(c->size, c->features), read);
	a.device = area_map(mem, c->device_iova, vring_device_bytes(c->size, c->features), write);
	if (a.desc == NULL || a.driver == NULL || a.device == NULL)
		return -EFAULT;
	/* An iova that is aligned says nothing of the pointer where a table maps it oddly. */
	if ((uintptr_t)a.desc % VRING_DESC_BYTES != 0 ||
		(uintptr_t)a.driver % (packed ? 4 : 2) != 0 || (uintptr_t)a.device % 4 != 0)
		return -EFAULT;
	*areas = a;
	return 0;
}

uint32_t
vring_state_distance(const struct vring_config *c)
{
	uint32_t avail = c->state.avail & 0x7fff, used = c->state.used & 0x7fff;

	if (!vring_feature(c->features, VIRTIO_F_RING_PACKED))
		return (uint16_t)(c->state.avail - c->state.used);
	if (avail >= c->size || used >= c->size)
		return UINT32_MAX;
	if ((c->state.avail ^ c->state.used) & VRING_PACKED_WRAP)
		avail += c->size;
	return avail >= used ? avail - used : UINT32_MAX;
}

static bool
size_ok(uint16_t size, bool packed)
{
	return size >= 1 && size <= VRING_SIZE_MAX && (packed || (size & (size - 1)) == 0);
}

int
vring_config_check(const struct vring_config *c, struct vring_areas *areas, bool perm_device_view,
	enum vring_error *error)
{
	bool packed = vring_feature(c->features, VIRTIO_F_RING_PACKED);

	if (!size_ok(c->size, packed)) {
		*error = VRING_ERR_BAD_SIZE;
		return -EINVAL;
	}
	if (c->max_segs > VRING_SEGS_MAX) {
		*error = VRING_ERR_BAD_LIMIT;
		return -EINVAL;
	}
	if (vring_state_distance(c) > c->size) {
		*error = VRING_ERR_BAD_STATE;
		return -EINVAL;
	}
	if (vring_mem_check(c->mem) < 0) {
		*error = VRING_ERR_BAD_MEM;
		return -EINVAL;
	}
	if (c->desc_iova % 16 != 0 || c->driver_iova % (packed ? 4 : 2) != 0 ||
		c->device_iova % 4 != 0) {
		*error = VRING_ERR_AREA_UNALIGNED;
		return -EINVAL;
	}
	if (vring_areas_map(c, c->mem, areas, perm_device_view) < 0) {
		*error = VRING_ERR_AREA_UNMAPPED;
		return -EFAULT;
	}
	*error = VRING_ERR_NONE;
	return 0;
}

int
vring_split_used_index(const struct vring_config *config, uint16_t *used)
{
	const struct vring_used *ring;

	if (!size_ok(config->size, false) || config->device_iova % 4 != 0 ||
		vring_mem_check(config->mem) < 0)
		return -EINVAL;
	ring = area_map(config->mem, config->device_iova,
		vring_device_bytes(
			config->size, config->features & ~(1ULL << VIRTIO_F_RING_PACKED)),
		VRING_PERM_WRITE);
	if (ring == NULL || (uintptr_t)ring % 4 != 0)
		return -EFAULT;
	*used = vring_load16_acquire(&ring->idx);
	return 0;
}
