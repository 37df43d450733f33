/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* lib/vring: memory tables, configuration, event arithmetic, copies. */

#include "vring_copy.h"
#include "vring_env.h"

#define NR(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t bytes[4096];

static void
mem_check_accepts_only_sorted_tables(void **state)
{
	struct vring_region good[] = {
		{0, 16, bytes, VRING_PERM_RW},
		{16, 16, bytes, VRING_PERM_RW},
		{UINT64_MAX, 1, bytes, VRING_PERM_RW},
	};
	struct {
		const char *why;
		struct vring_region r[2];
	} bad[] = {
		{"no pointer", {{0, 16, NULL, 3}, {64, 16, bytes, 3}}},
		{"no size", {{0, 16, bytes, 3}, {64, 0, bytes, 3}}},
		{"past the end", {{0, 16, bytes, 3}, {UINT64_MAX, 2, bytes, 3}}},
		{"overlap", {{0, 17, bytes, 3}, {16, 16, bytes, 3}}},
		{"same", {{0, 16, bytes, 3}, {0, 16, bytes, 3}}},
		{"order", {{64, 16, bytes, 3}, {0, 16, bytes, 3}}},
		{"after the last address", {{UINT64_MAX, 1, bytes, 3}, {0, 16, bytes, 3}}},
	};
	struct vring_mem mem = {good, NR(good)};
	size_t i;

	(void)state;
	assert_int_equal(vring_mem_check(&mem), 0);
	assert_int_equal(vring_mem_check(NULL), -EINVAL);
	mem = (struct vring_mem){NULL, 1};
	assert_int_equal(vring_mem_check(&mem), -EINVAL);
	mem = (struct vring_mem){NULL, 0};
	assert_int_equal(vring_mem_check(&mem), 0);
	for (i = 0; i < NR(bad); i++) {
		mem = (struct vring_mem){bad[i].r, 2};
		if (vring_mem_check(&mem) != -EINVAL)
			fail_msg("accepted: %s", bad[i].why);
	}
}

static void
mem_ptr_finds_and_bounds(void **state)
{
	struct vring_region r[] = {
		{0x1000, 0x100, bytes, VRING_PERM_RW},
		{0x1100, 0x100, bytes + 0x100, VRING_PERM_RW},   /* goes on in iova and va */
		{0x1200, 0x100, bytes + 0x800, VRING_PERM_RW},   /* goes on in iova only */
		{0x1300, 0x100, bytes + 0x900, VRING_PERM_READ}, /* and in va, read only */
		{UINT64_MAX - 15, 16, bytes + 0xf00, VRING_PERM_RW},
	};
	struct vring_mem mem = {r, NR(r)};
	struct {
		uint64_t iova, wanted;
		uint32_t perm;
		uint8_t *va;
		uint64_t have;
	} c[] = {
		{0x1000, 1, VRING_PERM_RW, bytes, 1},
		{0x1000, 0x300, VRING_PERM_RW, bytes, 0x200},
		{0x10ff, 2, VRING_PERM_RW, bytes + 0xff, 2},
		{0x11ff, 2, VRING_PERM_RW, bytes + 0x1ff, 1},
		{0x1280, 0x1000, VRING_PERM_READ, bytes + 0x880, 0x180},
		{0x1280, 0x1000, VRING_PERM_WRITE, bytes + 0x880, 0x80},
		{0x1300, 1, VRING_PERM_WRITE, NULL, 0},
		{0x0fff, 1, VRING_PERM_READ, NULL, 0},
		{0x1400, 1, VRING_PERM_READ, NULL, 0},
		{0, 1, 0, NULL, 0},
		{UINT64_MAX, UINT64_MAX, VRING_PERM_RW, bytes + 0xf0f, 1},
		{UINT64_MAX - 15, 17, VRING_PERM_RW, bytes + 0xf00, 16},
		{UINT64_MAX - 16, 1, VRING_PERM_RW, NULL, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < NR(c); i++) {
		uint64_t len = c[i].wanted;

		assert_ptr_equal(vring_mem_ptr(&mem, c[i].iova, &len, c[i].perm), c[i].va);
		assert_int_equal(len, c[i].have);
	}
}

static void
mem_ptr_finds_each_of_many_regions(void **state)
{
	struct vring_region r[300];
	struct vring_mem mem = {r, NR(r)};
	uint32_t nr, i;

	(void)state;
	for (i = 0; i < NR(r); i++)
		r[i] = (struct vring_region){i * 32ULL + 8, 16, bytes + i * 8, VRING_PERM_RW};
	for (nr = 0; nr <= NR(r); nr += 7) {
		mem.nr_regions = nr;
		assert_int_equal(vring_mem_check(&mem), 0);
		for (i = 0; i < NR(r); i++) {
			uint64_t len = 1;
			void *want = i < nr ? bytes + i * 8 + 15 : NULL;

			assert_ptr_equal(vring_mem_ptr(&mem, i * 32ULL + 23, &len, 1), want);
			len = 1;
			assert_null(vring_mem_ptr(&mem, i * 32ULL + 24, &len, 1));
			len = 1;
			assert_null(vring_mem_ptr(&mem, i * 32ULL + 7, &len, 1));
		}
	}
}

static void
errors_have_names_and_texts(void **state)
{
	int i;

	(void)state;
	assert_string_equal(vring_error_name(VRING_ERR_LOOP), "LOOP");
	assert_string_equal(vring_error_text(VRING_ERR_LOOP), "descriptor chain loops");
	for (i = 0; i < VRING_ERR_MAX; i++)
		assert_true(strlen(vring_error_text(i)) > 5 && strlen(vring_error_name(i)) > 3);
	assert_string_equal(vring_error_name(VRING_ERR_MAX), "UNKNOWN");
	assert_string_equal(vring_error_text(-1), "unknown error");
}

/* The areas of a configuration in one region of a page each. */
static uint8_t area[4][4096] __attribute__((aligned(4096)));

static struct vring_config
good_config(const struct vring_mem *mem, uint64_t features)
{
	struct vring_config c = {
		.size = 16,
		.features = features,
		.desc_iova = 0x1000,
		.driver_iova = 0x2000,
		.device_iova = 0x3000,
		.mem = mem,
		.state = features & F_PACKED ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START,
	};

	return c;
}

static void
assert_refused(const struct vring_config *c, int ret, enum vring_error error)
{
	struct vring_dev dev;
	struct vring_drv drv;
	struct vring_seg seg;
	struct vring_chain chain;

	assert_int_equal(vring_dev_init(&dev, c), ret);
	assert_int_equal(vring_dev_error(&dev), error);
	assert_int_equal(vring_dev_peek(&dev, &chain, 1, &seg, 1), 0);
	assert_int_equal(vring_drv_init(&drv, c), ret);
	assert_int_equal(vring_drv_error(&drv), error);
	vring_drv_fini(&drv);
	vring_drv_fini(&drv);
}

static void
init_checks_size_limit_and_table(void **state)
{
	static const uint16_t split_bad[] = {0, 3, 5, 100, 32767, 32769, 49152, 65535};
	static const uint16_t packed_bad[] = {0, 32769, 65535};
	struct vring_region r = {0x1000, sizeof(area), area[0], VRING_PERM_RW};
	struct vring_region two[] = {r, r};
	struct vring_mem mem = {&r, 1}, unsorted = {two, 2};
	struct vring_config c;
	size_t i;

	(void)state;
	for (i = 0; i < NR(split_bad); i++) {
		c = good_config(&mem, 0);
		c.size = split_bad[i];
		assert_refused(&c, -EINVAL, VRING_ERR_BAD_SIZE);
	}
	for (i = 0; i < NR(packed_bad); i++) {
		c = good_config(&mem, F_PACKED);
		c.size = packed_bad[i];
		assert_refused(&c, -EINVAL, VRING_ERR_BAD_SIZE);
	}
	c = good_config(&mem, 0);
	c.max_segs = VRING_SEGS_MAX + 1;
	assert_refused(&c, -EINVAL, VRING_ERR_BAD_LIMIT);
	c = good_config(&unsorted, 0);
	assert_refused(&c, -EINVAL, VRING_ERR_BAD_MEM);
	c = good_config(NULL, 0);
	assert_refused(&c, -EINVAL, VRING_ERR_BAD_MEM);
}

static void
init_checks_alignment_and_mapping(void **state)
{
	struct vring_region r = {0x1000, 0x3000, area[0], VRING_PERM_RW};
	struct vring_region odd = {0x1000, 0x3000, area[0] + 1, VRING_PERM_RW};
	struct vring_mem mem = {&r, 1}, odd_mem = {&odd, 1};
	uint64_t f, step;

	(void)state;
	for (f = 0; f <= F_PACKED; f += F_PACKED) {
		struct vring_config c;

		for (step = 1; step < 16; step++) {
			c = good_config(&mem, f);
			c.desc_iova += step;
			assert_refused(&c, -EINVAL, VRING_ERR_AREA_UNALIGNED);
		}
		for (step = 1; step < 4; step++) {
			c = good_config(&mem, f);
			c.device_iova += step;
			assert_refused(&c, -EINVAL, VRING_ERR_AREA_UNALIGNED);
			c = good_config(&mem, f);
			c.driver_iova += step;
			if (f || step != 2)
				assert_refused(&c, -EINVAL, VRING_ERR_AREA_UNALIGNED);
		}
		c = good_config(&odd_mem, f);
		assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
		c = good_config(&mem, f);
		c.desc_iova = 0x4000 - 15 * 16;
		assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
		c = good_config(&mem, f);
		c.driver_iova = 0x4000;
		assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
		c = good_config(&mem, f);
		c.device_iova = 0xffc;
		assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
	}
}

static void
init_wants_each_area_whole(void **state)
{
	/* The descriptor area goes over two regions whose pointers go on, or do not. */
	struct vring_region r[] = {
		{0x1000, 0x80, area[0], VRING_PERM_RW},
		{0x1080, 0x2f80, area[0] + 0x80, VRING_PERM_RW},
	};
	struct vring_mem mem = {r, 2};
	struct vring_config c = good_config(&mem, 0);
	struct vring_dev dev;

	(void)state;
	assert_int_equal(vring_dev_init(&dev, &c), 0);
	r[1].va += 16;
	assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
}

static void
init_needs_permissions_of_each_area(void **state)
{
	struct vring_region r[] = {
		{0x1000, 0x1000, area[0], VRING_PERM_READ},
		{0x2000, 0x1000, area[1], VRING_PERM_READ},
		{0x3000, 0x1000, area[2], VRING_PERM_WRITE},
	};
	struct vring_mem mem = {r, 3};
	struct vring_config c = good_config(&mem, 0);
	struct vring_dev dev;
	int i;

	(void)state;
	assert_int_equal(vring_dev_init(&dev, &c), 0);
	for (i = 0; i < 3; i++) {
		r[i].perm ^= VRING_PERM_RW;
		assert_int_equal(vring_dev_init(&dev, &c), -EFAULT);
		assert_int_equal(vring_dev_error(&dev), VRING_ERR_AREA_UNMAPPED);
		r[i].perm ^= VRING_PERM_RW;
	}
	c = good_config(&mem, F_PACKED);
	assert_int_equal(vring_dev_init(&dev, &c), -EFAULT);
	r[0].perm = VRING_PERM_RW;
	assert_int_equal(vring_dev_init(&dev, &c), 0);
}

static void
init_event_field_is_needed_only_with_event_index(void **state)
{
	struct vring_region r[] = {
		{0x1000, 0x1000, area[0], VRING_PERM_RW},
		{0x2000, 4 + 16 * 2, area[1], VRING_PERM_RW},
		{0x3000, 4 + 16 * 8, area[2], VRING_PERM_RW},
	};
	struct vring_mem mem = {r, 3};
	struct vring_config c = good_config(&mem, 0);
	struct vring_dev dev;

	(void)state;
	assert_int_equal(vring_dev_init(&dev, &c), 0);
	c.features = F_EVENT;
	assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
	r[1].size += 2;
	assert_refused(&c, -EFAULT, VRING_ERR_AREA_UNMAPPED);
	r[2].size += 2;
	assert_int_equal(vring_dev_init(&dev, &c), 0);
}

static void
init_checks_start_state(void **state)
{
	struct vring_region r = {0x1000, sizeof(area), area[0], VRING_PERM_RW};
	struct vring_mem mem = {&r, 1};
	static const struct {
		uint64_t features;
		struct vring_state state;
		bool good;
	} c[] = {
		{0, {0, 0}, true},
		{0, {16, 0}, true},
		{0, {17, 0}, false},
		{0, {3, 65530}, true},
		{0, {65535, 0}, false},
		{0, {0, 1}, false},
		{F_PACKED, {0x8000, 0x8000}, true},
		{F_PACKED, {0x0000, 0x0000}, true},
		{F_PACKED, {0x0000, 0x8000}, true},
		{F_PACKED, {0x8000, 0x0000}, true},
		{F_PACKED, {0x8005, 0x8003}, true},
		{F_PACKED, {0x8003, 0x8005}, false},
		{F_PACKED, {0x0003, 0x8005}, true},
		{F_PACKED, {0x0006, 0x8005}, false},
		{F_PACKED, {0x8010, 0x8000}, false},
		{F_PACKED, {0x0000, 0x8010}, false},
		{F_PACKED, {0xffff, 0xffff}, false},
	};
	struct vring_dev dev;
	size_t i;

	(void)state;
	for (i = 0; i < NR(c); i++) {
		struct vring_config config = good_config(&mem, c[i].features);

		config.state = c[i].state;
		assert_int_equal(vring_dev_init(&dev, &config), c[i].good ? 0 : -EINVAL);
		assert_int_equal(
			vring_dev_error(&dev), c[i].good ? VRING_ERR_NONE : VRING_ERR_BAD_STATE);
		if (c[i].good) {
			assert_int_equal(vring_dev_state(&dev).avail, c[i].state.avail);
			assert_int_equal(vring_dev_state(&dev).used, c[i].state.used);
		}
	}
}

static void
split_used_index_is_read_from_memory(void **state)
{
	struct vring_region r = {0x1000, sizeof(area), area[0], VRING_PERM_RW};
	struct vring_mem mem = {&r, 1};
	struct vring_config c = good_config(&mem, 0);
	uint16_t used = 7;

	(void)state;
	((struct vring_used *)area[2])->idx = htole16(0xfedc);
	assert_int_equal(vring_split_used_index(&c, &used), 0);
	assert_int_equal(used, 0xfedc);
	c.device_iova += 2;
	assert_int_equal(vring_split_used_index(&c, &used), -EINVAL);
	c.device_iova = 0x5000;
	assert_int_equal(vring_split_used_index(&c, &used), -EFAULT);
	c = good_config(&mem, 0);
	c.size = 12;
	assert_int_equal(vring_split_used_index(&c, &used), -EINVAL);
	assert_int_equal(used, 0xfedc);
}

/* Reference: mark the entries written, look the event up. */
static void
event_split_is_right_at_every_index(void **state)
{
	static const uint32_t nrs[] = {0, 1, 2, 3, 32, 256, 32768};
	static uint8_t written[65536];
	uint32_t old, k, event;

	(void)state;
	for (k = 0; k < NR(nrs); k++) {
		uint32_t nr = nrs[k];

		for (old = 0; old < 65536; old++) {
			uint32_t at, first = old + 65536 - 3, last = old + 65536 + nr + 3;

			/* The neighbourhood of both ends, and the other side of the circle. */
			for (at = first; at<last; at += at - first> 8 && last - at > 16 ? 7 : 1) {
				bool want = at - (old + 65536) < nr;

				assert_int_equal(vring_event_passed(at, old + nr, old), want);
			}
			assert_int_equal(
				vring_event_passed(old + nr + 16384, old + nr, old), false);
			if (nr > 256)
				old += 630;
		}
		for (old = 1; old < 65536; old += 9361) {
			memset(written, 0, sizeof(written));
			for (event = 0; event < nr; event++)
				written[(uint16_t)(old + event)] = 1;
			for (event = 0; event < 65536; event++)
				assert_int_equal(
					vring_event_passed(event, old + nr, old), written[event]);
		}
	}
}

/* Reference: walk back over the entries written, wrap counter included. */
static bool
packed_reference(uint16_t event, uint16_t position, uint32_t nr, uint16_t size)
{
	uint16_t slot = position & 0x7fff, wrap = position & 0x8000;

	while (nr-- > 0) {
		if (slot == 0) {
			slot = size;
			wrap ^= 0x8000;
		}
		slot--;
		if (event == (slot | wrap))
			return true;
	}
	return false;
}

static void
event_packed_is_right_at_every_position(void **state)
{
	uint64_t seed = 4711;
	uint32_t size, nr, p, e;
	int i;

	(void)state;
	for (size = 1; size <= 9; size++)
		for (nr = 0; nr <= size; nr++)
			for (p = 0; p < 2 * size; p++)
				for (e = 0; e < 2 * size; e++) {
					uint16_t pos = p % size | (p / size) << 15;
					uint16_t event = e % size | (e / size) << 15;

					assert_int_equal(
						vring_event_passed_packed(event, pos, nr, size),
						packed_reference(event, pos, nr, size));
				}
	for (i = 0; i < 300000; i++) {
		uint16_t pos, event;

		size = i % 3 == 0 ? 32768 : env_random(&seed) % 1000 + 1;
		pos = env_random(&seed) % size | (env_random(&seed) & 0x8000);
		event = (pos & 0x7fff) + env_random(&seed) % 64;
		event = event % size | (env_random(&seed) & 0x8000);
		nr = env_random(&seed) % (size < 64 ? size + 1 : 64);
		assert_int_equal(vring_event_passed_packed(event, pos, nr, size),
			packed_reference(event, pos, nr, size));
	}
	assert_true(vring_event_passed_packed(0, 0, 10, 9));
}

static void
copy_handles_every_length(void **state)
{
	uint8_t from[600], to[600];
	size_t len, i;

	(void)state;
	for (i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7 + 3);
	for (len = 0; len <= 520; len++) {
		memset(to, 0xee, sizeof(to));
		vring_copy(to + 8, from + 5, len);
		assert_memory_equal(to + 8, from + 5, len);
		assert_int_equal(to[7], 0xee);
		assert_int_equal(to[8 + len], 0xee);
	}
}

static void
cursors_copy_across_segments(void **state)
{
	uint8_t from[1000], to[1000], flat[1000];
	struct vring_seg s[12], d[12];
	uint64_t seed = 99;
	int round;

	(void)state;
	for (round = 0; round < 2000; round++) {
		struct vring_chain sc = {.segs = s}, dc = {.segs = d};
		struct vring_cursor src, dst;
		uint32_t i, at, want, first;

		for (i = 0; i < sizeof(from); i++)
			from[i] = (uint8_t)env_random(&seed);
		for (i = at = 0; i < 12; i++, at += s[i - 1].len)
			s[i] = (struct vring_seg){from + at, 0, env_random(&seed) % 60 + 1, 0};
		sc.nr_segs = 12;
		sc.nr_readable = 6;
		sc.readable_bytes = s[6].va - from;
		for (i = at = 0; i < 12; i++, at += d[i - 1].len)
			d[i] = (struct vring_seg){to + at, 0, env_random(&seed) % 60 + 1, 0};
		dc.nr_segs = 12;
		dc.nr_readable = 4;
		dc.writable_bytes = d[11].va + d[11].len - d[4].va;
		memset(to, 0, sizeof(to));
		src = vring_cursor_readable(&sc);
		dst = vring_cursor_writable(&dc);
		want = sc.readable_bytes < dc.writable_bytes ? sc.readable_bytes
							     : dc.writable_bytes;
		first = env_random(&seed) % (want + 1);
		assert_int_equal(vring_copy_cursor(&dst, &src, first), first);
		assert_int_equal(vring_copy_cursor(&dst, &src, 5000), want - first);
		assert_memory_equal(d[4].va, from, want);
		assert_int_equal(d[4].va[want], 0);

		src = vring_cursor_readable(&sc);
		assert_int_equal(vring_skip(&src, first), first);
		assert_int_equal(vring_copy_from(flat, &src, 5000), sc.readable_bytes - first);
		assert_memory_equal(flat, from + first, sc.readable_bytes - first);
		dst = vring_cursor_writable(&dc);
		assert_int_equal(vring_copy_to(&dst, from, 1000), dc.writable_bytes);
		assert_memory_equal(d[4].va, from, dc.writable_bytes);
		assert_int_equal(vring_skip(&dst, 1), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mem_check_accepts_only_sorted_tables),
		cmocka_unit_test(mem_ptr_finds_and_bounds),
		cmocka_unit_test(mem_ptr_finds_each_of_many_regions),
		cmocka_unit_test(errors_have_names_and_texts),
		cmocka_unit_test(init_checks_size_limit_and_table),
		cmocka_unit_test(init_checks_alignment_and_mapping),
		cmocka_unit_test(init_wants_each_area_whole),
		cmocka_unit_test(init_needs_permissions_of_each_area),
		cmocka_unit_test(init_event_field_is_needed_only_with_event_index),
		cmocka_unit_test(init_checks_start_state),
		cmocka_unit_test(split_used_index_is_read_from_memory),
		cmocka_unit_test(event_split_is_right_at_every_index),
		cmocka_unit_test(event_packed_is_right_at_every_position),
		cmocka_unit_test(copy_handles_every_length),
		cmocka_unit_test(cursors_copy_across_segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
