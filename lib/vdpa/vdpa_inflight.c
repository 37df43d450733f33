/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vdpa_inflight.h"
#include "vring_inflight.h"

struct vdpa_inflight {
	uint8_t *map;
	size_t map_bytes;
	uint16_t nr_vqs, vq_size;
	atomic_uint refs;
};

/* Signal context: zero pages stand for what was taken away, and notes in them are of no use. */
static void
lost(void *arg)
{
	(void)arg;
}

static bool
is_sound(const struct vdpa_wanted *wanted)
{
	uint64_t page_mask = sysconf(_SC_PAGESIZE) - 1, bytes = wanted->inflight_bytes;
	struct stat st;

	if (wanted->inflight_vqs == 0 || wanted->inflight_vq_size == 0 ||
		(wanted->inflight_offset & page_mask) != 0 ||
		bytes < wanted->inflight_vqs *
				vring_inflight_bytes(wanted->inflight_vq_size, wanted->features))
		return false;
	return fstat(wanted->inflight_fd, &st) == 0 && S_ISREG(st.st_mode) &&
		bytes <= (uint64_t)st.st_size &&
		wanted->inflight_offset <= (uint64_t)st.st_size - bytes;
}

int
vdpa_inflight_create(struct vdpa_inflight **out, const struct vdpa_wanted *wanted)
{
	struct vdpa_inflight *inflight;
	int rc;

	*out = NULL;
	if (wanted->inflight_fd < 0)
		return 0;
	if (!is_sound(wanted))
		return vdpa_error_set(-EINVAL, "memory for notes of %u queues of %u is too short",
			wanted->inflight_vqs, wanted->inflight_vq_size);
	inflight = calloc(1, sizeof(*inflight));
	if (inflight == NULL)
		return -ENOMEM;
	atomic_init(&inflight->refs, 1);
	inflight->nr_vqs = wanted->inflight_vqs;
	inflight->vq_size = wanted->inflight_vq_size;
	inflight->map_bytes = wanted->inflight_bytes;
	inflight->map = mmap(NULL, inflight->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		wanted->inflight_fd, wanted->inflight_offset);
	if (inflight->map == MAP_FAILED) {
		rc = -errno;
		free(inflight);
		return vdpa_error_set(rc, "memory for notes: %s", strerror(-rc));
	}
	rc = vdpa_sigbus_guard(inflight->map, inflight->map_bytes, lost, NULL);
	if (rc != 0) {
		vdpa_inflight_put(inflight);
		return rc;
	}
	*out = inflight;
	return 0;
}

struct vdpa_inflight *
vdpa_inflight_get(struct vdpa_inflight *inflight)
{
	if (inflight != NULL)
		atomic_fetch_add(&inflight->refs, 1);
	return inflight;
}

void
vdpa_inflight_put(struct vdpa_inflight *inflight)
{
	if (inflight == NULL || atomic_fetch_sub(&inflight->refs, 1) != 1)
		return;
	vdpa_sigbus_unguard(inflight->map);
	munmap(inflight->map, inflight->map_bytes);
	free(inflight);
}

void *
vdpa_inflight_region(
	const struct vdpa_inflight *inflight, uint16_t index, uint16_t size, uint64_t features)
{
	uint64_t bytes = vring_inflight_bytes(size, features);

	/* other features may have been agreed on since */
	if (inflight == NULL || index >= inflight->nr_vqs || size != inflight->vq_size ||
		(index + 1) * bytes > inflight->map_bytes)
		return NULL;
	return inflight->map + index * bytes;
}
