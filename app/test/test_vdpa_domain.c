/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/virtio_ids.h>

#include "fds.h"
#include "vdpa_private.h"
#include "vring.h"

#define PAGE      4096
#define FILE_SIZE (64 * PAGE)
#define IOVA_LAST UINT64_C(0xffffffffff)

/* A file of shared memory, with a view of its own: the consumer's. */
struct file {
	int fd;
	uint8_t *view;
};

static struct file
file_open(unsigned int seals)
{
	struct file file;

	file.fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(file.fd >= 0);
	assert_int_equal(ftruncate(file.fd, FILE_SIZE), 0);
	if (seals != 0)
		assert_int_equal(fcntl(file.fd, F_ADD_SEALS, seals), 0);
	file.view = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
	assert_true(file.view != MAP_FAILED);
	for (unsigned int i = 0; i < FILE_SIZE; i++)
		file.view[i] = i * 2654435761u >> 24;
	return file;
}

static void
file_close(struct file *file)
{
	munmap(file->view, FILE_SIZE);
	if (file->fd >= 0)
		close(file->fd);
}

static struct vdpa_range
range_of(const struct file *file, uint64_t iova, uint64_t offset, uint64_t size_bytes)
{
	return (struct vdpa_range){
		.iova = iova,
		.size_bytes = size_bytes,
		.fd = file->fd,
		.fd_offset = offset,
	};
}

static uint8_t *
ptr(const struct vdpa_domain *domain, uint64_t iova, uint64_t size_bytes)
{
	uint64_t len = size_bytes;
	uint8_t *va = vring_mem_ptr(vdpa_domain_mem(domain), iova, &len, VRING_PERM_RW);

	assert_true(va == NULL || len == size_bytes);
	return va;
}

static bool
is_mapped(void *va)
{
	return msync((void *)((uintptr_t)va & ~(uintptr_t)(PAGE - 1)), PAGE, MS_ASYNC) == 0;
}

/* ---- a device to own memory ---- */

static int
dev_get_info(struct vdpa_device *dev, struct vdpa_info *info)
{
	(void)dev;
	info->virtio_id = VIRTIO_ID_NET;
	info->nr_vqs_max = 2;
	info->vq_size_min = 1;
	info->vq_size_max = 256;
	info->caps = VDPA_CAP_HOST_VA;
	info->iova_first = PAGE;
	info->iova_last = IOVA_LAST;
	return 0;
}

static int
dev_start(struct vdpa_device *dev, const struct vdpa_start *start)
{
	(void)dev;
	(void)start;
	return 0;
}

static int
dev_stop(struct vdpa_device *dev, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	(void)dev;
	(void)states;
	(void)nr_vqs;
	return 0;
}

static int
dev_reset(struct vdpa_device *dev)
{
	(void)dev;
	return 0;
}

static const struct vdpa_device_ops dev_ops = {
	.get_info = dev_get_info,
	.start = dev_start,
	.stop = dev_stop,
	.reset = dev_reset,
};

static struct vdpa_device device = {.name = "memory_test", .ops = &dev_ops};
static struct vdpa_device neighbour = {.name = "neighbour", .ops = &dev_ops};

static int
device_setup(void **state)
{
	(void)state;
	return vdpa_device_register(&device) != 0 || vdpa_device_register(&neighbour) != 0;
}

static int
device_teardown(void **state)
{
	(void)state;
	return vdpa_device_unregister(&device, false) != 0 ||
		vdpa_device_unregister(&neighbour, false) != 0;
}

/* ---- ---- */

static void
table_is_sorted_and_is_the_consumers_memory(void **state)
{
	struct file a = file_open(F_SEAL_SHRINK), b = file_open(F_SEAL_SHRINK);
	struct vdpa_range regions[] = {
		range_of(&b, 0x100000000, 8 * PAGE, 4 * PAGE),
		range_of(&a, 0x10000, 0, FILE_SIZE),
	};
	const struct vdpa_range *ranges;
	struct vdpa_domain *domain;
	uint32_t nr;

	(void)state;
	assert_int_equal(vdpa_domain_create(&domain, regions, 2, NULL, NULL), 0);
	assert_int_equal(vring_mem_check(vdpa_domain_mem(domain)), 0);
	ranges = vdpa_domain_ranges(domain, &nr);
	assert_int_equal(nr, 2);
	assert_int_equal(ranges[0].iova, 0x10000);
	assert_int_equal(ranges[1].iova, 0x100000000);
	assert_int_equal(ranges[1].fd_offset, 8 * PAGE);
	assert_ptr_equal(ranges[1].va, ptr(domain, 0x100000000, 1));
	assert_memory_equal(ptr(domain, 0x10000, FILE_SIZE), a.view, FILE_SIZE);
	assert_memory_equal(ptr(domain, 0x100000000, 4 * PAGE), b.view + 8 * PAGE, 4 * PAGE);
	*ptr(domain, 0x100000007, 1) = 0x55;
	assert_int_equal(b.view[8 * PAGE + 7], 0x55);
	assert_null(ptr(domain, 0x100000000 + 4 * PAGE, 1));
	assert_null(ptr(domain, 0xffff, 1));
	vdpa_domain_put(domain);
	file_close(&a);
	file_close(&b);
}

static void
regions_need_no_alignment(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range region = range_of(&file, 0x12345, 3 * PAGE + 100, 2 * PAGE + 17);
	struct vdpa_domain *domain;

	(void)state;
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	assert_memory_equal(
		ptr(domain, 0x12345, 2 * PAGE + 17), file.view + 3 * PAGE + 100, 2 * PAGE + 17);
	vdpa_domain_put(domain);
	/* begins late in its page: one page more than its size */
	region = range_of(&file, 0, 4 * PAGE - 1, PAGE);
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	assert_memory_equal(ptr(domain, 0, PAGE), file.view + 4 * PAGE - 1, PAGE);
	vdpa_domain_put(domain);
	/* up to the file's last byte, which ends no page */
	assert_int_equal(ftruncate(file.fd, 5 * PAGE + 1), 0);
	region = range_of(&file, 0, 5 * PAGE, 1);
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
end_of_the_address_space_can_be_used(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range region = range_of(&file, UINT64_MAX - PAGE + 1, PAGE, PAGE);
	struct vdpa_domain *domain;
	uint8_t byte;

	(void)state;
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	assert_int_equal(vdpa_domain_read(domain, UINT64_MAX, &byte, 1), 0);
	assert_int_equal(byte, file.view[2 * PAGE - 1]);
	assert_int_equal(vdpa_domain_read(domain, UINT64_MAX, &byte, 2), -EFAULT);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
refuse(const struct vdpa_range *regions, uint32_t nr, struct vdpa_device *owner, int error,
	const char *word)
{
	struct vdpa_domain *domain = (struct vdpa_domain *)1;
	unsigned int fds = nr_fds();

	vdpa_error_set(0, "none");
	assert_int_equal(vdpa_domain_create(&domain, regions, nr, NULL, owner), error);
	assert_null(domain);
	if (strstr(vdpa_error_text(), word) == NULL)
		fail_msg("'%s' is not in: %s", word, vdpa_error_text());
	assert_int_equal(nr_fds(), fds);
}

static void
impossible_tables_are_refused(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range r[2];
	struct vdpa_domain *domain;

	(void)state;
	refuse(NULL, 0, NULL, -EINVAL, "no memory region");
	r[0] = range_of(&file, 0x1000, 0, 2 * PAGE);
	r[1] = range_of(&file, 0x2fff, 4 * PAGE, PAGE);
	refuse(r, 2, NULL, -EINVAL, "overlap");
	r[1].iova = 0x1000;
	refuse(r, 2, NULL, -EINVAL, "overlap");
	r[1].iova = 0x1001;
	refuse(r, 2, NULL, -EINVAL, "overlap");
	r[1].iova = 0x3000;
	assert_int_equal(vdpa_domain_create(&domain, r, 2, NULL, NULL), 0);
	vdpa_domain_put(domain);
	r[1].size_bytes = 0;
	refuse(r, 2, NULL, -EINVAL, "0x3000 is empty");
	r[0] = range_of(&file, UINT64_MAX - PAGE + 2, 0, PAGE);
	refuse(r, 1, NULL, -EINVAL, "end of the address space");
	r[0] = range_of(&file, 0, 0, UINT64_MAX);
	refuse(r, 1, NULL, -EINVAL, "end of its file");
	r[0] = range_of(&file, 0, UINT64_MAX - 10, 20);
	refuse(r, 1, NULL, -EINVAL, "end of its file");
	r[0] = range_of(&file, 0, INT64_MAX - 10, 20);
	refuse(r, 1, NULL, -EINVAL, "end of its file");
	r[0] = range_of(&file, 0, PAGE, FILE_SIZE);
	refuse(r, 1, NULL, -EINVAL, "of a file of 262144");
	r[0] = range_of(&file, 0, 1, FILE_SIZE);
	refuse(r, 1, NULL, -EINVAL, "of a file of 262144");
	r[0] = (struct vdpa_range){.size_bytes = PAGE, .fd = -1};
	refuse(r, 1, NULL, -EINVAL, "neither a file nor an address");
	file_close(&file);
}

static void
files_that_cannot_be_mapped_are_refused(void **state)
{
	struct file file = file_open(0), other = file_open(0);
	struct vdpa_range r[2];
	int fd = eventfd(0, EFD_CLOEXEC);
	char path[64];

	(void)state;
	/* the first one can: it must be gone afterwards */
	r[0] = range_of(&file, 0, 0, PAGE);
	r[1] = range_of(&other, PAGE, 0, PAGE);
	r[1].fd = fd;
	refuse(r, 2, NULL, -EINVAL, "cannot be mapped");
	close(fd);
	r[1].fd = 987654; /* what is free now will be that of the first region */
	refuse(r, 2, NULL, -EBADF, "descriptor");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", other.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	r[1].fd = fd;
	refuse(r, 2, NULL, -EACCES, "cannot be mapped");
	close(fd);
	file_close(&file);
	file_close(&other);
}

static void
no_descriptor_left_is_an_error(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range region = range_of(&file, 0, 0, PAGE);
	struct rlimit limit, none;
	struct vdpa_domain *domain;
	int rc;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rc = vdpa_domain_create(&domain, &region, 1, NULL, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rc, -EMFILE);
	file_close(&file);
}

static void
what_the_device_cannot_reach_is_refused_by_name(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range r = range_of(&file, 0, 0, PAGE);
	struct vdpa_domain *domain;

	(void)state;
	refuse(&r, 1, &device, -EINVAL, "memory_test");
	r.iova = PAGE - 1;
	refuse(&r, 1, &device, -EINVAL, "memory_test");
	r.iova = IOVA_LAST - PAGE + 2;
	refuse(&r, 1, &device, -EINVAL, "memory_test");
	r.iova = IOVA_LAST - PAGE + 1;
	assert_int_equal(vdpa_domain_create(&domain, &r, 1, NULL, &device), 0);
	vdpa_domain_put(domain);
	r.iova = PAGE;
	assert_int_equal(vdpa_domain_create(&domain, &r, 1, NULL, &device), 0);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
last_reference_unmaps_and_closes(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range r[] = {range_of(&file, 0, 0, PAGE), range_of(&file, PAGE, PAGE, PAGE)};
	struct vdpa_domain *domain;
	const struct vdpa_range *ranges;
	unsigned int fds;
	uint8_t *va;
	uint32_t nr;

	(void)state;
	/* the control thread, which stays */
	assert_int_equal(vdpa_domain_create(&domain, r, 2, NULL, NULL), 0);
	vdpa_domain_put(domain);
	fds = nr_fds();
	assert_int_equal(vdpa_domain_create(&domain, r, 2, NULL, NULL), 0);
	close(file.fd);
	file.fd = -1;
	va = ptr(domain, 0, 1);
	assert_int_equal(va[5], file.view[5]);
	ranges = vdpa_domain_ranges(domain, &nr);
	assert_int_equal(fcntl(ranges[0].fd, F_GETFD), FD_CLOEXEC);
	assert_ptr_equal(vdpa_domain_get(domain), domain);
	vdpa_domain_put(domain);
	assert_true(is_mapped(va));
	vdpa_domain_put(domain);
	assert_false(is_mapped(va));
	assert_int_equal(nr_fds(), fds - 1);
	vdpa_domain_put(NULL);
	file_close(&file);
}

static void
equal_regions_are_taken_over(void **state)
{
	struct file a = file_open(0), b = file_open(0);
	int again = dup(a.fd);
	struct vdpa_range former_regions[] = {
		range_of(&a, 0x100000, 0, 4 * PAGE),
		range_of(&a, 0x200000, 4 * PAGE, 4 * PAGE),
		range_of(&a, 0x300000, 8 * PAGE, 4 * PAGE),
		range_of(&a, 0x400000, 12 * PAGE, 4 * PAGE),
		range_of(&a, 0x500000, 16 * PAGE, 4 * PAGE),
	};
	struct vdpa_range regions[] = {
		range_of(&a, 0x000000, 20 * PAGE, 4 * PAGE), /* new */
		range_of(&a, 0x100000, 0, 4 * PAGE),         /* equal, by another descriptor */
		range_of(&a, 0x200000, 5 * PAGE, 4 * PAGE),  /* another offset */
		range_of(&b, 0x300000, 8 * PAGE, 4 * PAGE),  /* another file */
		range_of(&a, 0x400000, 12 * PAGE, 3 * PAGE), /* another size */
		range_of(&a, 0x510000, 16 * PAGE, 4 * PAGE), /* another address */
	};
	struct vdpa_domain *former, *domain;
	uint8_t *va[5];

	(void)state;
	regions[1].fd = again;
	assert_int_equal(vdpa_domain_create(&former, former_regions, 5, NULL, NULL), 0);
	for (int i = 0; i < 5; i++)
		va[i] = ptr(former, former_regions[i].iova, PAGE);
	assert_int_equal(vdpa_domain_create(&domain, regions, 6, former, NULL), 0);
	assert_ptr_equal(ptr(domain, 0x100000, PAGE), va[0]);
	assert_ptr_not_equal(ptr(domain, 0x200000, PAGE), va[1]);
	assert_ptr_not_equal(ptr(domain, 0x300000, PAGE), va[2]);
	assert_ptr_not_equal(ptr(domain, 0x400000, PAGE), va[3]);
	assert_ptr_not_equal(ptr(domain, 0x510000, PAGE), va[4]);
	for (uint32_t i = 0; i < 6; i++)
		for (uint32_t k = 0; k < 5; k++)
			assert_int_equal(vdpa_range_same(domain, i, former, k), i == 1 && k == 0);
	vdpa_domain_put(former);
	assert_true(is_mapped(va[0]));
	for (int i = 1; i < 5; i++)
		assert_false(is_mapped(va[i]));
	assert_memory_equal(ptr(domain, 0x100000, 4 * PAGE), a.view, 4 * PAGE);
	assert_memory_equal(ptr(domain, 0x300000, 4 * PAGE), b.view + 8 * PAGE, 4 * PAGE);
	vdpa_domain_put(domain);
	close(again);
	file_close(&a);
	file_close(&b);
}

static void
same_bytes_mapped_anew_are_not_the_same_range(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range region = range_of(&file, 0x1000, PAGE, PAGE);
	struct vdpa_domain *a, *b;

	(void)state;
	assert_int_equal(vdpa_domain_create(&a, &region, 1, NULL, NULL), 0);
	assert_int_equal(vdpa_domain_create(&b, &region, 1, NULL, NULL), 0);
	assert_ptr_not_equal(ptr(a, 0x1000, 1), ptr(b, 0x1000, 1));
	assert_true(vdpa_range_same(a, 0, a, 0));
	assert_false(vdpa_range_same(a, 0, b, 0));
	vdpa_domain_put(a);
	vdpa_domain_put(b);
	file_close(&file);
}

/* ---- fence ---- */

static void
fence_keeps_writes_from_the_consumer(void **state)
{
	struct file file = file_open(F_SEAL_SHRINK);
	struct vdpa_range region = range_of(&file, 0x1000, 0, 8 * PAGE);
	struct vdpa_domain *former, *domain, *fresh;
	uint16_t value;
	uint8_t *va;

	(void)state;
	assert_int_equal(vdpa_domain_create(&former, &region, 1, NULL, NULL), 0);
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, former, NULL), 0);
	va = ptr(former, 0x1000, 8 * PAGE);
	file.view[10] = 0x34;
	file.view[11] = 0x12;
	vdpa_domain_fence(domain);
	assert_int_equal(va[10], 0);
	memset(va, 0xff, 8 * PAGE);
	assert_int_equal(file.view[10], 0x34);
	assert_int_equal(file.view[12], (uint8_t)(12 * 2654435761u >> 24));
	file.view[10] = 0x35;
	assert_int_equal(vdpa_domain_read(domain, 0x100a, &value, 2), 0);
	assert_int_equal(value, 0x1235);
	/* once: what the hanging datapath wrote since then stays */
	vdpa_domain_fence(former);
	assert_int_equal(va[10], 0xff);
	/* and nobody uses that mapping again */
	assert_int_equal(vdpa_domain_create(&fresh, &region, 1, domain, NULL), 0);
	assert_ptr_not_equal(ptr(fresh, 0x1000, 1), va);
	assert_int_equal(*ptr(fresh, 0x100a, 1), 0x35);
	vdpa_domain_put(fresh);
	vdpa_domain_put(former);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
memory_given_by_address_is_the_callers(void **state)
{
	static uint8_t memory[3 * PAGE] __attribute__((aligned(PAGE)));
	struct vdpa_range region = {
		.iova = 0x5000,
		.size_bytes = 2 * PAGE,
		.va = memory,
		.fd = -1,
	};
	struct vdpa_domain *a, *b;
	uint8_t bytes[4];

	(void)state;
	memory[PAGE] = 0x77;
	assert_int_equal(vdpa_domain_create(&a, &region, 1, NULL, NULL), 0);
	assert_int_equal(vdpa_domain_create(&b, &region, 1, a, NULL), 0);
	assert_ptr_equal(ptr(a, 0x5000, 2 * PAGE), memory);
	assert_ptr_equal(ptr(b, 0x5000, 2 * PAGE), memory);
	assert_true(vdpa_range_same(a, 0, b, 0));
	vdpa_domain_fence(a);
	assert_int_equal(memory[PAGE], 0x77);
	assert_int_equal(vdpa_domain_read(a, 0x5000 + PAGE - 2, bytes, 4), 0);
	assert_int_equal(bytes[2], 0x77);
	vdpa_domain_put(a);
	region.va = memory + PAGE;
	assert_int_equal(vdpa_domain_create(&a, &region, 1, b, NULL), 0);
	assert_ptr_equal(ptr(a, 0x5000, 1), memory + PAGE);
	assert_false(vdpa_range_same(a, 0, b, 0));
	vdpa_domain_put(a);
	vdpa_domain_put(b);
	assert_true(is_mapped(memory));
}

static void
reading_takes_pieces_from_regions_that_touch(void **state)
{
	struct file a = file_open(0), b = file_open(0);
	struct vdpa_range r[] = {
		range_of(&a, 0x1000, PAGE + 3, 100),
		range_of(&b, 0x1064, 7, 100),
		range_of(&b, 0x1200, 0, 100),
	};
	struct vdpa_domain *domain;
	uint8_t bytes[300];

	(void)state;
	assert_int_equal(vdpa_domain_create(&domain, r, 3, NULL, NULL), 0);
	assert_int_equal(vdpa_domain_read(domain, 0x1032, bytes, 150), 0);
	assert_memory_equal(bytes, a.view + PAGE + 3 + 50, 50);
	assert_memory_equal(bytes + 50, b.view + 7, 100);
	assert_int_equal(vdpa_domain_read(domain, 0x1032, bytes, 151), -EFAULT);
	assert_int_equal(vdpa_domain_read(domain, 0xfff, bytes, 2), -EFAULT);
	assert_int_equal(vdpa_domain_read(domain, 0x1200 + 99, bytes, 2), -EFAULT);
	assert_int_equal(vdpa_domain_read(domain, 0x5000, bytes, 1), -EFAULT);
	vdpa_domain_put(domain);
	file_close(&a);
	file_close(&b);
}

/* ---- memory that is taken away ---- */

/* The class's action for SIGBUS; cmocka has its own during a test. */
static struct sigaction handler;

static void
wait_failed(void)
{
	struct timespec ms = {0, 1000000};

	for (int i = 0; i < 30000 && atomic_load(&device.priv->failed) == 0; i++)
		nanosleep(&ms, NULL);
	assert_int_equal(atomic_load(&device.priv->failed), -EFAULT);
}

static void
cut_memory_fails_its_owner_only(void **state)
{
	struct file file = file_open(0), other = file_open(0);
	struct vdpa_range r[] = {
		range_of(&file, 0x10000, 0, FILE_SIZE),
		range_of(&other, 0x100000, 0, FILE_SIZE),
	};
	struct vdpa_domain *domain, *next, *theirs;
	struct timespec ms20 = {0, 20000000};
	uint8_t *va, byte;

	(void)state;
	sigaction(SIGBUS, &handler, NULL);
	assert_int_equal(vdpa_domain_create(&theirs, &r[1], 1, NULL, &neighbour), 0);
	assert_int_equal(vdpa_domain_create(&domain, r, 2, NULL, &device), 0);
	va = ptr(domain, 0x10000, 1);
	assert_int_equal(va[PAGE], file.view[PAGE]);
	assert_int_equal(atomic_load(&device.priv->failed), 0);
	assert_int_equal(ftruncate(file.fd, PAGE), 0);
	assert_int_equal(va[2 * PAGE], 0);
	wait_failed();
	assert_int_equal(va[0], 0);
	va[3 * PAGE] = 1;
	assert_memory_equal(ptr(domain, 0x100000, FILE_SIZE), other.view, FILE_SIZE);
	assert_int_equal(vdpa_domain_read(domain, 0x10000 + 2 * PAGE, &byte, 1), -EFAULT);
	assert_int_equal(atomic_load(&neighbour.priv->failed), 0);
	/* told once */
	atomic_store(&device.priv->failed, 0);
	assert_int_equal(ftruncate(other.fd, 0), 0);
	assert_int_equal(*ptr(domain, 0x100000, 1), 0);
	nanosleep(&ms20, NULL);
	assert_int_equal(atomic_load(&device.priv->failed), 0);
	/* it grew again, but that view is lost */
	assert_int_equal(ftruncate(file.fd, FILE_SIZE), 0);
	file.view[2 * PAGE] = 0x42;
	assert_int_equal(vdpa_domain_create(&next, r, 1, domain, &device), 0);
	assert_ptr_not_equal(ptr(next, 0x10000, 1), va);
	assert_false(vdpa_range_same(next, 0, domain, 0));
	assert_false(vdpa_range_same(domain, 0, next, 0));
	assert_int_equal(ptr(next, 0x10000, FILE_SIZE)[2 * PAGE], 0x42);
	assert_int_equal(atomic_load(&device.priv->failed), 0);
	vdpa_domain_put(domain);
	vdpa_domain_put(next);
	vdpa_domain_put(theirs);
	file_close(&file);
	file_close(&other);
}

static void
cut_memory_without_owner_is_survived(void **state)
{
	struct file file = file_open(0);
	struct vdpa_range region = range_of(&file, 0, 0, FILE_SIZE);
	struct vdpa_domain *domain;

	(void)state;
	sigaction(SIGBUS, &handler, NULL);
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	assert_int_equal(ftruncate(file.fd, 0), 0);
	assert_int_equal(*ptr(domain, 0, 1), 0);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
sealed_memory_needs_no_guard(void **state)
{
	struct file file = file_open(F_SEAL_SHRINK);
	struct vdpa_range region = range_of(&file, 0, 0, FILE_SIZE);
	struct vdpa_domain *domain;
	unsigned int fds = nr_fds();
	uint8_t *va;

	(void)state;
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	va = ptr(domain, 0, 1);
	/* the mapping's; none to tell of a loss */
	assert_int_equal(nr_fds(), fds + 1);
	/* and its place is free to be guarded */
	assert_int_equal(vdpa_sigbus_guard(va, FILE_SIZE, NULL, NULL), 0);
	vdpa_sigbus_unguard(va);
	vdpa_domain_put(domain);
	file_close(&file);
}

static void
huge_pages_are_mapped_whole(void **state)
{
	const uint64_t huge = 2 << 20;
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB);
	struct vdpa_range region = {
		.iova = 0x1000,
		.size_bytes = PAGE,
		.fd = fd,
		.fd_offset = huge + 3 * PAGE,
	};
	struct vdpa_domain *domain;
	uint8_t *view = MAP_FAILED;

	(void)state;
	if (fd < 0 || ftruncate(fd, 2 * huge) != 0 ||
		(view = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) ==
			MAP_FAILED) {
		print_message("skipped: no huge pages here\n");
		if (fd >= 0)
			close(fd);
		skip();
	}
	memset(view, 0x11, 2 * huge);
	view[huge + 3 * PAGE] = 0x22;
	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	assert_int_equal(*ptr(domain, 0x1000, 1), 0x22);
	vdpa_domain_fence(domain);
	assert_int_equal(*ptr(domain, 0x1000, 1), 0);
	vdpa_domain_put(domain);
	munmap(view, 2 * huge);
	close(fd);
}

/* ---- many threads ---- */

struct user {
	struct vdpa_range regions[3];
	struct vdpa_domain *first;
	int rc;
};

static void *
use_domains(void *arg)
{
	struct user *user = arg;
	struct vdpa_domain *former = vdpa_domain_get(user->first), *domain;

	for (uint32_t i = 0; i < 300 && user->rc == 0; i++) {
		user->rc = vdpa_domain_create(&domain, user->regions, 1 + i % 3, former, &device);
		vdpa_domain_put(former);
		former = user->rc == 0 ? domain : NULL;
	}
	vdpa_domain_put(former);
	return NULL;
}

static void
domains_of_many_threads_share_mappings(void **state)
{
	struct file file = file_open(0);
	struct user users[4];
	pthread_t threads[4];
	struct vdpa_domain *first;
	unsigned int fds;
	uint8_t *va;

	(void)state;
	for (int k = 0; k < 4; k++)
		for (int i = 0; i < 3; i++)
			users[k].regions[i] = range_of(
				&file, (i + 1) * 0x10000, i * 16 * PAGE, 16 * PAGE);
	assert_int_equal(vdpa_domain_create(&first, users[0].regions, 3, NULL, &device), 0);
	va = ptr(first, 0x10000, 1);
	fds = nr_fds();
	for (int k = 0; k < 4; k++) {
		users[k].first = first;
		users[k].rc = 0;
		assert_int_equal(pthread_create(&threads[k], NULL, use_domains, &users[k]), 0);
	}
	for (int k = 0; k < 4; k++) {
		pthread_join(threads[k], NULL);
		assert_int_equal(users[k].rc, 0);
	}
	assert_int_equal(nr_fds(), fds);
	assert_true(is_mapped(va));
	vdpa_domain_put(first);
	assert_false(is_mapped(va));
	file_close(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, device_setup, device_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(table_is_sorted_and_is_the_consumers_memory),
		TEST(regions_need_no_alignment),
		TEST(end_of_the_address_space_can_be_used),
		TEST(impossible_tables_are_refused),
		TEST(files_that_cannot_be_mapped_are_refused),
		TEST(no_descriptor_left_is_an_error),
		TEST(what_the_device_cannot_reach_is_refused_by_name),
		TEST(last_reference_unmaps_and_closes),
		TEST(equal_regions_are_taken_over),
		TEST(same_bytes_mapped_anew_are_not_the_same_range),
		TEST(fence_keeps_writes_from_the_consumer),
		TEST(memory_given_by_address_is_the_callers),
		TEST(reading_takes_pieces_from_regions_that_touch),
		TEST(cut_memory_fails_its_owner_only),
		TEST(cut_memory_without_owner_is_survived),
		TEST(sealed_memory_needs_no_guard),
		TEST(huge_pages_are_mapped_whole),
		TEST(domains_of_many_threads_share_mappings),
	};

	static uint8_t page[PAGE] __attribute__((aligned(PAGE)));

	/* sanitizers handle SIGBUS too */
	signal(SIGBUS, SIG_DFL);
	if (vdpa_sigbus_guard(page, PAGE, NULL, NULL) != 0)
		return 1;
	sigaction(SIGBUS, NULL, &handler);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
