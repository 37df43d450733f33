/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vhost_bus.h"

#define MB UINT64_C(0x100000)

/*
 * As QEMU's two regions around the PCI hole, of one file: librte_vhost maps each from offset 0. Addresses are never
 * followed here.
 */
static struct rte_vhost_memory *
make_table(uint32_t nr)
{
	static const struct rte_vhost_mem_region regions[] = {
		{ .guest_phys_addr = 0, .host_user_addr = 0x10000000, .size = 64 * MB,
		  .mmap_addr = (void *)0x10000000, .mmap_size = 64 * MB, .fd = 11 },
		{ .guest_phys_addr = UINT64_C(1) << 32, .host_user_addr = 0x20000000 + 64 * MB, .size = 32 * MB,
		  .mmap_addr = (void *)0x20000000, .mmap_size = 96 * MB, .fd = 12 },
	};
	struct rte_vhost_memory *table = calloc(1, sizeof(*table) + 16 * sizeof(table->regions[0]));

	assert_non_null(table);
	table->nregions = nr;
	memcpy(table->regions, regions, sizeof(regions));
	return table;
}

static void
test_regions_carry_file_and_offset(void **state)
{
	struct rte_vhost_memory *table = make_table(2);
	struct vdpa_range ranges[VHOST_REGIONS_MAX];
	struct vhost_mem memory;

	(void)state;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), 0);
	vdpa_vhost_memory_ranges(&memory, ranges);
	assert_int_equal(memory.nr_regions, 2);
	assert_int_equal(ranges[0].fd, 11);
	assert_int_equal(ranges[0].fd_offset, 0);
	assert_int_equal(ranges[1].iova, UINT64_C(1) << 32);
	assert_int_equal(ranges[1].size_bytes, 32 * MB);
	assert_int_equal(ranges[1].fd, 12);
	assert_int_equal(ranges[1].fd_offset, 64 * MB);
	assert_ptr_equal(ranges[1].va, (void *)(0x20000000 + 64 * MB));
	free(table);
}

static void
test_host_addresses_become_guest_physical_ones(void **state)
{
	static const struct {
		uint64_t host, iova;
		int ret;
	} cases[] = {
		{ 0x10000000, 0, 0 },
		{ 0x10000000 + 64 * MB - 1, 64 * MB - 1, 0 },
		{ 0x10000000 + 64 * MB, 0, -EFAULT },
		{ 0x10000000 - 1, 0, -EFAULT },
		{ 0x20000000, 0, -EFAULT },		/* mapped, but before the region */
		{ 0x20000000 + 64 * MB, UINT64_C(1) << 32, 0 },
		{ 0x20000000 + 96 * MB - 16, (UINT64_C(1) << 32) + 32 * MB - 16, 0 },
		{ 0x20000000 + 96 * MB, 0, -EFAULT },
		{ 0, 0, -EFAULT },
		{ UINT64_MAX, 0, -EFAULT },
	};
	struct rte_vhost_memory *table = make_table(2);
	struct vhost_mem memory;
	unsigned int i;

	(void)state;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t iova = 0;

		assert_int_equal(vdpa_vhost_memory_iova(&memory, (void *)(uintptr_t)cases[i].host, &iova),
				 cases[i].ret);
		assert_int_equal(iova, cases[i].iova);
	}
	free(table);
}

static void
test_region_outside_its_mapping_is_refused(void **state)
{
	struct rte_vhost_memory *table = make_table(2);
	struct vhost_mem memory;

	(void)state;
	table->regions[1].size = 32 * MB + 1;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), -EINVAL);
	table->regions[1].size = 32 * MB;
	table->regions[1].host_user_addr = 0x20000000 - 1;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), -EINVAL);
	table->regions[1].host_user_addr = 0x20000000 + 97 * MB;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), -EINVAL);
	free(table);
}

static void
test_more_than_eight_regions_are_refused(void **state)
{
	struct rte_vhost_memory *table = make_table(VHOST_REGIONS_MAX + 1);
	struct vhost_mem memory;

	(void)state;
	assert_int_equal(vdpa_vhost_memory_take(&memory, table), -E2BIG);
	free(table);
}

static void
test_same_table_is_told_from_a_changed_one(void **state)
{
	struct rte_vhost_memory *table = make_table(2);
	struct vhost_mem a, b;

	(void)state;
	vdpa_vhost_memory_take(&a, table);
	vdpa_vhost_memory_take(&b, table);
	assert_true(vdpa_vhost_memory_same(&a, &b));
	table->nregions = 1;
	vdpa_vhost_memory_take(&b, table);
	assert_false(vdpa_vhost_memory_same(&a, &b));
	table->nregions = 2;
	table->regions[1].guest_phys_addr += MB;
	vdpa_vhost_memory_take(&b, table);
	assert_false(vdpa_vhost_memory_same(&a, &b));
	table->regions[1].guest_phys_addr -= MB;
	table->regions[0].fd = 13;
	vdpa_vhost_memory_take(&b, table);
	assert_false(vdpa_vhost_memory_same(&a, &b));
	free(table);
}

static void
test_ring_is_taken_with_addresses_size_and_descriptors(void **state)
{
	struct rte_vhost_memory *table = make_table(2);
	struct rte_vhost_vring ring = {
		.desc = (void *)(0x10000000 + 0x1000),
		.avail = (void *)(0x10000000 + 0x2000),
		.used = (void *)(0x20000000 + 64 * MB + 0x3000),
		.kickfd = 21,
		.callfd = 22,
		.size = 256,
	};
	struct vdpa_wanted_vq vq = { .kick_fd = -1, .call_fd = -1 };
	struct vhost_mem memory;

	(void)state;
	vdpa_vhost_memory_take(&memory, table);
	assert_int_equal(vdpa_vhost_ring_take(&vq, &ring, &memory), 0);
	assert_int_equal(vq.desc_iova, 0x1000);
	assert_int_equal(vq.driver_iova, 0x2000);
	assert_int_equal(vq.device_iova, (UINT64_C(1) << 32) + 0x3000);
	assert_int_equal(vq.size, 256);
	assert_int_equal(vq.kick_fd, 21);
	assert_int_equal(vq.call_fd, 22);
	free(table);
}

static void
test_ring_without_descriptors_or_addresses(void **state)
{
	struct rte_vhost_memory *table = make_table(2);
	struct rte_vhost_vring ring = {
		.desc = (void *)0x10000000,
		.avail = (void *)0x10000000,
		.used = NULL,
		.kickfd = -1,	/* the driver polls */
		.callfd = -2,	/* never told */
	};
	struct vdpa_wanted_vq vq = { .kick_fd = 3, .call_fd = 4 };
	struct vhost_mem memory;

	(void)state;
	vdpa_vhost_memory_take(&memory, table);
	assert_int_equal(vdpa_vhost_ring_take(&vq, &ring, &memory), -EFAULT);
	assert_int_equal(vq.kick_fd, -1);
	assert_int_equal(vq.call_fd, -1);
	ring.used = (void *)0x30000000;		/* nobody's */
	assert_int_equal(vdpa_vhost_ring_take(&vq, &ring, &memory), -EFAULT);
	free(table);
}

/* librte_vhost loses a descriptor that it cannot map. */
static void
test_what_cannot_be_mapped_is_known_beforehand(void **state)
{
	int fd = memfd_create("ram", MFD_CLOEXEC), read_only, pipes[2];
	char path[64];

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * MB), 0);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, 0, 2 * MB), 0);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, MB + 1, 17), 0);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, 0, 0), -EINVAL);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, UINT64_MAX - MB + 1, 2 * MB), -EINVAL);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, 0, UINT64_MAX), -EINVAL);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, MB, MB + 1), -ENXIO);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, UINT64_C(1) << 40, MB), -ENXIO);
	assert_int_equal(ftruncate(fd, INT64_C(1) << 60), 0);
	assert_int_equal(vdpa_vhost_memory_mappable(fd, 0, UINT64_C(1) << 60), -ENOMEM);
	assert_int_equal(vdpa_vhost_memory_mappable(-1, 0, MB), -EBADF);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(vdpa_vhost_memory_mappable(read_only, 0, MB), -EACCES);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(vdpa_vhost_memory_mappable(pipes[0], 0, MB), -EBADF);
	close(pipes[0]);
	close(pipes[1]);
	close(read_only);
	close(fd);
}

/* The guard is needed only where a front end could take memory away, and tells of it. */
static void
test_memory_taken_away_is_noticed(void **state)
{
	atomic_bool lost = false;
	struct vhost_mem memory = { .nr_regions = 1 };
	int fd = memfd_create("unsealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	volatile uint8_t *map;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MB), 0);
	map = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	map[MB - 1] = 7;
	memory.regions[0] = (struct vhost_region){ .map = (void *)(uintptr_t)map, .map_size_bytes = MB, .fd = fd };
	vdpa_vhost_memory_guard(&memory, &lost);
	assert_true(memory.regions[0].guarded);
	assert_false(lost);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(map[MB - 1], 0);
	assert_true(lost);
	vdpa_vhost_memory_unguard(&memory);
	assert_false(memory.regions[0].guarded);
	munmap((void *)(uintptr_t)map, MB);
	close(fd);
}

static void
test_sealed_memory_needs_no_guard(void **state)
{
	atomic_bool lost = false;
	struct vhost_mem memory = { .nr_regions = 1 };
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, MB), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	memory.regions[0] = (struct vhost_region){ .map = (void *)0x10000000, .map_size_bytes = MB, .fd = fd };
	vdpa_vhost_memory_guard(&memory, &lost);
	assert_false(memory.regions[0].guarded);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions_carry_file_and_offset),
		cmocka_unit_test(test_host_addresses_become_guest_physical_ones),
		cmocka_unit_test(test_region_outside_its_mapping_is_refused),
		cmocka_unit_test(test_more_than_eight_regions_are_refused),
		cmocka_unit_test(test_same_table_is_told_from_a_changed_one),
		cmocka_unit_test(test_ring_is_taken_with_addresses_size_and_descriptors),
		cmocka_unit_test(test_ring_without_descriptors_or_addresses),
		cmocka_unit_test(test_what_cannot_be_mapped_is_known_beforehand),
		cmocka_unit_test(test_memory_taken_away_is_noticed),
		cmocka_unit_test(test_sealed_memory_needs_no_guard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
