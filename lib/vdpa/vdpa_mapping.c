/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <rte_common.h>

#include "vdpa_mapping.h"

/*
 * What tells the control thread, from signal context, that memory is lost; there while a mapping
 * is guarded.
 */
static struct {
	pthread_mutex_t lock;
	uint32_t users;
	int fd;
} alarm_bell = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

/* ---- memory that its owner took away ---- */

/* In signal context. */
static void
mapping_hit(void *arg)
{
	struct vdpa_mapping *mapping = arg;
	uint64_t one = 1;
	ssize_t rc;

	atomic_store(&mapping->lost, true);
	rc = write(alarm_bell.fd, &one, sizeof(one));
	(void)rc; /* a full counter has rung as well */
}

static int
bell_get(void)
{
	int rc = 0;

	pthread_mutex_lock(&alarm_bell.lock);
	if (alarm_bell.users == 0) {
		alarm_bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = alarm_bell.fd < 0 ? -errno
				       : vdpa_watch_add(alarm_bell.fd, vdpa_domain_lost, NULL);
		if (rc != 0 && alarm_bell.fd >= 0)
			close(alarm_bell.fd);
	}
	if (rc == 0)
		alarm_bell.users++;
	pthread_mutex_unlock(&alarm_bell.lock);
	return rc;
}

static void
bell_put(void)
{
	pthread_mutex_lock(&alarm_bell.lock);
	if (--alarm_bell.users == 0) {
		vdpa_watch_del(alarm_bell.fd);
		close(alarm_bell.fd);
		alarm_bell.fd = -1;
	}
	pthread_mutex_unlock(&alarm_bell.lock);
}

/* ---- mappings ---- */

static void
mapping_free(struct vdpa_mapping *mapping)
{
	if (mapping == NULL)
		return;
	if (mapping->guarded) {
		vdpa_sigbus_unguard(mapping->base);
		bell_put();
	}
	if (mapping->base != NULL)
		munmap(mapping->base, mapping->size_bytes);
	if (mapping->range.fd >= 0)
		close(mapping->range.fd);
	free(mapping);
}

/* Can the file's owner make it shorter than the mapping? */
static bool
is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

static int
mapping_guard(struct vdpa_mapping *mapping)
{
	int rc;

	if (is_sealed(mapping->range.fd))
		return 0;
	rc = bell_get();
	if (rc != 0)
		return rc;
	rc = vdpa_sigbus_guard(mapping->base, mapping->size_bytes, mapping_hit, mapping);
	if (rc != 0)
		bell_put();
	mapping->guarded = rc == 0;
	return rc;
}

/* Pages of a file can only be mapped whole, huge ones too. */
static int
page_bytes(int fd, uint64_t *bytes)
{
	struct statfs fs;

	*bytes = sysconf(_SC_PAGESIZE);
	if (fstatfs(fd, &fs) != 0)
		return -errno;
	if (fs.f_type == HUGETLBFS_MAGIC)
		*bytes = fs.f_bsize;
	return 0;
}

static int
mapping_map(struct vdpa_mapping *mapping)
{
	struct vdpa_range *range = &mapping->range;
	uint64_t page, skipped;
	void *base;
	int rc;

	rc = page_bytes(range->fd, &page);
	if (rc != 0)
		return rc;
	skipped = range->fd_offset % page;
	mapping->size_bytes = RTE_ALIGN_MUL_CEIL(skipped + range->size_bytes, page);
	base = mmap(NULL, mapping->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, range->fd,
		range->fd_offset - skipped);
	if (base == MAP_FAILED)
		return errno == ENODEV ? -EINVAL : -errno;
	madvise(base, mapping->size_bytes, MADV_DONTDUMP);
	mapping->base = base;
	range->va = (uint8_t *)base + skipped;
	return mapping_guard(mapping);
}

static int
mapping_open(struct vdpa_mapping *mapping)
{
	struct vdpa_range *range = &mapping->range;
	uint64_t end = range->fd_offset + range->size_bytes;
	struct stat st;
	int fd = range->fd;

	range->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (range->fd < 0 || fstat(range->fd, &st) != 0)
		return vdpa_error_set(-errno, "memory region 0x%" PRIx64 ": descriptor %d: %s",
			range->iova, fd, strerror(errno));
	if (S_ISREG(st.st_mode) && end > (uint64_t)st.st_size)
		return vdpa_error_set(-EINVAL,
			"memory region 0x%" PRIx64 " ends at byte %" PRIu64
			" of a file of %" PRIu64,
			range->iova, end, (uint64_t)st.st_size);
	mapping->is_file = S_ISREG(st.st_mode);
	mapping->dev = st.st_dev;
	mapping->ino = st.st_ino;
	return 0;
}

int
vdpa_mapping_create(const struct vdpa_range *range, struct vdpa_mapping **out)
{
	struct vdpa_mapping *mapping = calloc(1, sizeof(*mapping));
	int rc = 0;

	*out = NULL;
	if (mapping == NULL)
		return -ENOMEM;
	atomic_init(&mapping->refs, 1);
	mapping->range = *range;
	if (range->fd >= 0) {
		rc = mapping_open(mapping);
		if (rc == 0) {
			rc = mapping_map(mapping);
			if (rc != 0)
				vdpa_error_set(rc,
					"memory region 0x%" PRIx64 " of %" PRIu64
					" bytes cannot be mapped: %s",
					range->iova, range->size_bytes, strerror(-rc));
		}
	}
	if (rc != 0) {
		mapping_free(mapping);
		return rc;
	}
	*out = mapping;
	return 0;
}

/* The same bytes at the same address, whatever view of them it is. */
static bool
is_same(const struct vdpa_mapping *mapping, const struct vdpa_range *range, dev_t dev, ino_t ino)
{
	const struct vdpa_range *own = &mapping->range;

	if (own->iova != range->iova || own->size_bytes != range->size_bytes ||
		(own->fd < 0) != (range->fd < 0))
		return false;
	if (own->fd < 0)
		return own->va == range->va;
	return own->fd_offset == range->fd_offset && mapping->dev == dev && mapping->ino == ino;
}

struct vdpa_mapping *
vdpa_mapping_get(struct vdpa_mapping *mapping)
{
	atomic_fetch_add_explicit(&mapping->refs, 1, memory_order_relaxed);
	return mapping;
}

void
vdpa_mapping_put(struct vdpa_mapping *mapping)
{
	if (mapping != NULL &&
		atomic_fetch_sub_explicit(&mapping->refs, 1, memory_order_acq_rel) == 1)
		mapping_free(mapping);
}

bool
vdpa_mapping_serves(const struct vdpa_mapping *mapping, const struct vdpa_range *range)
{
	struct stat st = {0};

	if (range->fd >= 0 && fstat(range->fd, &st) != 0)
		return false;
	return is_same(mapping, range, st.st_dev, st.st_ino) && !atomic_load(&mapping->fenced) &&
		!atomic_load(&mapping->lost);
}

void
vdpa_mapping_fence(struct vdpa_mapping *mapping)
{
	if (mapping->base == NULL || atomic_exchange(&mapping->fenced, true))
		return;
	if (!vdpa_map_zero(mapping->base, mapping->size_bytes))
		VDPA_LOG(ERR, "memory region 0x%" PRIx64 " cannot be fenced: %s",
			mapping->range.iova, strerror(errno));
}

/* A file of which pread() knows nothing: a device. */
static int
read_view(const struct vdpa_mapping *mapping, uint64_t offset, void *data, size_t len_bytes)
{
	uint64_t page, skipped;
	uint8_t *view;

	if (page_bytes(mapping->range.fd, &page) != 0)
		return -EFAULT;
	skipped = offset % page;
	view = mmap(NULL, RTE_ALIGN_MUL_CEIL(skipped + len_bytes, page), PROT_READ, MAP_SHARED,
		mapping->range.fd, offset - skipped);
	if (view == MAP_FAILED)
		return -EFAULT;
	memcpy(data, view + skipped, len_bytes);
	munmap(view, RTE_ALIGN_MUL_CEIL(skipped + len_bytes, page));
	return 0;
}

int
vdpa_mapping_read(const struct vdpa_mapping *mapping, uint64_t offset, void *data, size_t len_bytes)
{
	const struct vdpa_range *range = &mapping->range;

	if (range->fd < 0) {
		memcpy(data, (const uint8_t *)range->va + offset, len_bytes);
		return 0;
	}
	offset += range->fd_offset;
	if (!mapping->is_file)
		return read_view(mapping, offset, data, len_bytes);
	return pread(range->fd, data, len_bytes, offset) == (ssize_t)len_bytes ? 0 : -EFAULT;
}
