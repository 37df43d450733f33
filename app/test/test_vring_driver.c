/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* lib/vring, driver side: what it writes, what it takes back, and devices that break the rules. */

#include "vring_env.h"

#define NR(a) (sizeof(a) / sizeof((a)[0]))

/* A driver and a device made of raw stores. */
struct fixture {
	struct vring_env *e;
	struct vring_drv q;
	uint16_t used; /* of the raw device: split index, packed slot */
	bool wrap;
};

static struct fixture
fixture_new(uint16_t size, uint64_t features)
{
	struct fixture f = {.e = env_new(size, features, 0), .wrap = true};

	assert_int_equal(vring_drv_init(&f.q, &f.e->config), 0);
	return f;
}

static void
fixture_free(struct fixture *f)
{
	vring_drv_fini(&f->q);
	env_free(f->e);
}

/* A buffer of 10 bytes to read and in_bytes to write, one piece each; cookie is its number. */
static int
add(struct fixture *f, uint32_t in_bytes, uintptr_t number)
{
	const struct vring_buf b[] = {{DATA_IOVA, 10}, {DATA_IOVA + 64, in_bytes}};

	return vring_drv_add(&f->q, b, 1, in_bytes ? 1 : 0, (void *)number, NULL);
}

/* Give a buffer of so many slots back. */
static void
raw_used(struct fixture *f, uint32_t id, uint32_t len, uint16_t slots)
{
	struct vring_used *u = env_used(f->e);
	struct vring_packed_desc *p = env_packed_desc(f->e, f->used);

	if (!f->e->packed) {
		u->ring[f->used % f->e->size].id = htole32(id);
		u->ring[f->used % f->e->size].len = htole32(len);
		f->used++;
		u->idx = htole16(f->used);
		return;
	}
	p->id = htole16(id);
	p->len = htole32(len);
	p->flags = htole16((f->wrap ? 0x8080 : 0) | (len ? VRING_DESC_F_WRITE : 0));
	f->used += slots;
	if (f->used >= f->e->size) {
		f->used -= f->e->size;
		f->wrap = !f->wrap;
	}
}

static uint64_t
format(void **state)
{
	return *(const uint64_t *)*state;
}

static void
assert_drv_broken(struct fixture *f, enum vring_error error)
{
	struct vring_drv_done done[4];

	assert_string_equal(vring_error_name(vring_drv_error(&f->q)), vring_error_name(error));
	env_snapshot(f->e);
	assert_int_equal(vring_drv_get(&f->q, done, 4), 0);
	assert_int_equal(add(f, 0, 99), -EIO);
	vring_drv_publish(&f->q);
	assert_false(vring_drv_kick_needed(&f->q));
	assert_false(vring_drv_arm(&f->q));
	vring_drv_disarm(&f->q);
	env_assert_untouched(f->e);
}

static void
add_refuses_what_does_not_fit(void **state)
{
	struct fixture f = fixture_new(4, format(state));
	struct vring_buf b[6] = {{DATA_IOVA, 0xffffffff}, {DATA_IOVA, 1}, {DATA_IOVA, 0xffffffff},
		{DATA_IOVA, 8}, {DATA_IOVA, 8}, {DATA_IOVA, 8}};
	struct vring_table t = {env_ptr(f.e, DATA_IOVA), DATA_IOVA, 2};

	assert_int_equal(vring_drv_add(&f.q, b, 0, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b + 1, 2, 3, NULL, NULL), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b, 65535, 1, NULL, NULL), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b, 2, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b, 0, 2, NULL, NULL), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b, 1, 1, NULL, &t), -ENOTSUP);
	assert_int_equal(vring_drv_nr_free(&f.q), 4);
	assert_int_equal(vring_drv_add(&f.q, b + 2, 1, 2, NULL, NULL), 0);
	assert_int_equal(vring_drv_add(&f.q, b + 3, 1, 1, NULL, NULL), -ENOSPC);
	assert_int_equal(vring_drv_add(&f.q, b + 3, 1, 0, NULL, NULL), 0);
	assert_int_equal(vring_drv_add(&f.q, b + 3, 1, 0, NULL, NULL), -ENOSPC);
	fixture_free(&f);

	f = fixture_new(4, format(state) | F_INDIRECT);
	t.va = env_ptr(f.e, DATA_IOVA);
	assert_int_equal(vring_drv_add(&f.q, b + 2, 2, 1, NULL, &t), -EINVAL);
	t.nr = 6;
	assert_int_equal(vring_drv_add(&f.q, b + 1, 2, 3, NULL, &t), -EINVAL);
	assert_int_equal(vring_drv_add(&f.q, b + 2, 1, 3, NULL, &t), 0);
	assert_int_equal(vring_drv_nr_free(&f.q), 3);
	fixture_free(&f);
}

static void
split_chain_is_written_as_specified(void **state)
{
	struct fixture f = fixture_new(8, F_INDIRECT);
	const struct vring_buf b[] = {{0x1111111122222222, 5}, {DATA_IOVA, 6}, {ROM_IOVA, 7}};
	struct vring_table t = {env_ptr(f.e, DATA_IOVA), DATA_IOVA, 3};
	const struct vring_desc *d;
	int i;

	(void)state;
	assert_int_equal(vring_drv_add(&f.q, b, 1, 2, NULL, NULL), 0);
	assert_int_equal(vring_drv_add(&f.q, b, 1, 2, NULL, &t), 0);
	assert_int_equal(env_avail(f.e)->idx, 0);
	vring_drv_publish(&f.q);
	assert_int_equal(env_avail(f.e)->idx, htole16(2));
	assert_int_equal(env_avail(f.e)->ring[0], 0);
	assert_int_equal(env_avail(f.e)->ring[1], htole16(3));
	for (i = 0; i < 2; i++) {
		static const uint16_t flags[] = {D_NEXT, D_NEXT | D_WRITE, D_WRITE};
		int j;

		/* The ring's chain and the table are the same at these places. */
		d = i == 0 ? env_split_desc(f.e, 0) : t.va;
		for (j = 0; j < 3; j++) {
			assert_int_equal(d[j].addr, htole64(b[j].iova));
			assert_int_equal(d[j].len, htole32(b[j].len));
			assert_int_equal(d[j].flags, htole16(flags[j]));
			if (j < 2)
				assert_int_equal(d[j].next, htole16(j + 1));
		}
	}
	d = env_split_desc(f.e, 3);
	assert_int_equal(d->addr, htole64(DATA_IOVA));
	assert_int_equal(d->len, htole32(48));
	assert_int_equal(d->flags, htole16(D_INDIRECT));
	fixture_free(&f);
}

static void
packed_chain_is_written_as_specified(void **state)
{
	struct fixture f = fixture_new(3, F_PACKED | F_INDIRECT);
	const struct vring_buf b[] = {{DATA_IOVA + 8, 5}, {DATA_IOVA, 6}};
	struct vring_table t = {env_ptr(f.e, DATA_IOVA), DATA_IOVA, 3};
	struct vring_drv_done done[3];
	const struct vring_packed_desc *d = env_packed_desc(f.e, 0);
	uint16_t id;

	(void)state;
	assert_int_equal(vring_drv_add(&f.q, b, 1, 1, NULL, NULL), 0);
	assert_int_equal(d[0].flags, 0); /* kept back, so that nobody looks at the rest */
	assert_int_equal(vring_drv_add(&f.q, b, 2, 0, NULL, &t), 0);
	assert_int_equal(d[0].flags, 0);
	vring_drv_publish(&f.q);
	assert_int_equal(le16toh(d[0].flags), 0x80 | D_NEXT);
	assert_int_equal(le16toh(d[1].flags), 0x80 | D_WRITE);
	assert_int_equal(le16toh(d[2].flags), 0x80 | D_INDIRECT);
	assert_int_equal(d[1].addr, htole64(DATA_IOVA));
	assert_int_equal(d[1].len, htole32(6));
	assert_int_equal(d[2].addr, htole64(DATA_IOVA));
	assert_int_equal(d[2].len, htole32(32));
	id = le16toh(d[1].id);
	assert_true(id != le16toh(d[2].id) && id < 3);
	/* The next round has the other wrap counter. */
	raw_used(&f, id, 3, 2);
	raw_used(&f, le16toh(d[2].id), 0, 1);
	assert_int_equal(vring_drv_get(&f.q, done, 3), 2);
	assert_int_equal(vring_drv_add(&f.q, b, 0, 1, NULL, NULL), 0);
	vring_drv_publish(&f.q);
	assert_int_equal(le16toh(d[0].flags), 0x8000 | D_WRITE);
	fixture_free(&f);
}

static void
used_buffers_come_with_cookie_and_length(void **state)
{
	struct fixture f = fixture_new(8, format(state));
	struct vring_drv_done done[8];
	uint16_t ids[3], i, n;

	for (i = 0; i < 3; i++)
		assert_int_equal(add(&f, 100, i), 0);
	assert_int_equal(vring_drv_get(&f.q, done, 8), 0);
	vring_drv_publish(&f.q);
	for (i = 0; i < 3; i++)
		ids[i] = f.e->packed ? le16toh(env_packed_desc(f.e, i * 2)->id)
				     : le16toh(env_avail(f.e)->ring[i]);
	/* Any order; a length is bounded by what could be written; without WRITE it is 0. */
	raw_used(&f, ids[2], 100, 2);
	raw_used(&f, ids[0], 101, 2);
	raw_used(&f, ids[1], 0, 2);
	n = vring_drv_get(&f.q, done, 2);
	n += vring_drv_get(&f.q, done + n, 8);
	assert_int_equal(n, 3);
	assert_ptr_equal(done[0].cookie, (void *)2);
	assert_int_equal(done[0].len, 100);
	assert_int_equal(done[0].flags, 0);
	assert_ptr_equal(done[1].cookie, (void *)0);
	assert_int_equal(done[1].len, 100);
	assert_int_equal(done[1].flags, VRING_DONE_CLAMPED);
	assert_ptr_equal(done[2].cookie, (void *)1);
	assert_int_equal(done[2].len, 0);
	assert_int_equal(vring_drv_nr_free(&f.q), 8);
	assert_int_equal(vring_drv_error(&f.q), VRING_ERR_NONE);
	fixture_free(&f);
}

static void
packed_length_counts_only_with_the_write_flag(void **state)
{
	struct fixture f = fixture_new(4, F_PACKED);
	struct vring_drv_done done;

	(void)state;
	add(&f, 100, 7);
	vring_drv_publish(&f.q);
	raw_used(&f, le16toh(env_packed_desc(f.e, 1)->id), 0, 2);
	env_packed_desc(f.e, 0)->len = htole32(55);
	assert_int_equal(vring_drv_get(&f.q, &done, 1), 1);
	assert_int_equal(done.len, 0);
	fixture_free(&f);
}

static void
in_order_batch_returns_the_skipped_ones_first(void **state)
{
	struct fixture f = fixture_new(8, format(state) | F_IN_ORDER);
	struct vring_drv_done done[4];
	uint16_t last, i, n = 0, round;

	for (round = 0; round < 9; round++) {
		uint16_t at = f.q.avail;

		for (i = 0; i < 4; i++)
			assert_int_equal(add(&f, 20 + i, i), 0);
		vring_drv_publish(&f.q);
		last = f.e->packed ? le16toh(env_packed_desc(f.e, (at + 4) % 8)->id)
				   : le16toh(env_avail(f.e)->ring[(uint16_t)(at + 2) % 8]);
		/* The third stands for three; the entry is where the first one's would be. */
		raw_used(&f, last, 9, 6);
		if (!f.e->packed) {
			f.used += 2;
			env_used(f.e)->idx = htole16(f.used);
		}
		/* Taken in pieces, whatever the caller's array holds. */
		assert_int_equal(vring_drv_get(&f.q, done, 1), 1);
		assert_true(vring_drv_arm(&f.q));
		n = 1 + vring_drv_get(&f.q, done + 1, 3);
		assert_int_equal(n, 3);
		for (i = 0; i < 3; i++) {
			assert_ptr_equal(done[i].cookie, (void *)(uintptr_t)i);
			assert_int_equal(done[i].len, i < 2 ? 20 + i : 9);
			assert_int_equal(done[i].flags, i < 2 ? VRING_DONE_SKIPPED : 0);
		}
		assert_false(vring_drv_arm(&f.q));
		last = f.q.order[f.q.order_first];
		raw_used(&f, last, 23, 2);
		assert_int_equal(vring_drv_get(&f.q, done, 4), 1);
		assert_ptr_equal(done[0].cookie, (void *)3);
		assert_int_equal(done[0].flags, 0);
	}
	assert_int_equal(vring_drv_error(&f.q), VRING_ERR_NONE);
	fixture_free(&f);
}

static void
buffers_in_flight_are_detached(void **state)
{
	struct fixture f = fixture_new(16, format(state));
	void *cookie;
	uint32_t seen = 0;
	uintptr_t i;

	for (i = 0; i < 8; i++)
		assert_int_equal(add(&f, 4, i), 0);
	for (i = 0; i < 8; i++) {
		assert_int_equal(vring_drv_detach(&f.q, &cookie), 0);
		seen |= 1u << (uintptr_t)cookie;
	}
	assert_int_equal(seen, 0xff);
	assert_int_equal(vring_drv_detach(&f.q, &cookie), -ENOENT);
	fixture_free(&f);
	vring_drv_fini(&f.q);
}

static void
init_with_buffers_in_flight_is_refused(void **state)
{
	struct fixture f = fixture_new(4, format(state));
	struct vring_config c = f.e->config;
	struct vring_drv q;

	c.state.avail = f.e->packed ? 0x8001 : 1;
	assert_int_equal(vring_drv_init(&q, &c), -EINVAL);
	assert_int_equal(vring_drv_error(&q), VRING_ERR_BAD_STATE);
	vring_drv_fini(&q);
	fixture_free(&f);
}

static void
state_counts_what_is_published(void **state)
{
	struct fixture f = fixture_new(8, format(state));
	uint16_t zero = f.e->packed ? 0x8000 : 0, step = f.e->packed ? 2 : 1;

	add(&f, 8, 0);
	assert_int_equal(vring_drv_state(&f.q).avail, zero);
	vring_drv_publish(&f.q);
	add(&f, 8, 1);
	assert_int_equal(vring_drv_state(&f.q).avail, zero + step);
	assert_int_equal(vring_drv_state(&f.q).used, zero);
	fixture_free(&f);
}

/* --- devices that break the rules: each after two lawful completions of five --- */

struct bad_device {
	const char *name;
	uint64_t features;
	enum vring_error error;
	void (*make)(struct fixture *f, const uint16_t *ids);
	uint16_t good;
};

static void
id_is_the_size(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	raw_used(f, f->e->size, 0, 2);
}

static void
id_is_65535(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	raw_used(f, 65535, 0, 2);
}

static void
id_is_beyond_16_bits(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, 0x10000u + ids[2], 0, 2);
}

static void
id_came_back_before(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, ids[0], 0, 2);
}

static void
id_comes_twice(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, ids[2], 0, 2);
	raw_used(f, ids[2], 0, 2);
}

static void
id_is_inside_a_chain(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, ids[3] + 1u, 0, 2);
}

static void
id_was_never_used(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	raw_used(f, f->e->size - 1, 0, 2);
}

static void
index_one_too_far(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	env_used(f->e)->idx = htole16(f->used + 4);
}

static void
index_goes_back(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	env_used(f->e)->idx = htole16(f->used - 1);
}

static void
index_is_half_a_round_away(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	env_used(f->e)->idx = htole16(f->used + 0x8000);
}

static void
unpublished_counts_as_not_there(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	assert_int_equal(add(f, 8, 50), 0);
	env_used(f->e)->idx = htole16(f->used + 4);
}

static void
batch_is_longer_than_the_index(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, ids[4], 0, 2);
}

static void
batch_ends_with_an_old_id(struct fixture *f, const uint16_t *ids)
{
	raw_used(f, ids[1], 0, 2);
}

static void
batch_ends_with_an_unpublished_id(struct fixture *f, const uint16_t *ids)
{
	(void)ids;
	assert_int_equal(add(f, 8, 50), 0);
	raw_used(f, f->q.order[(f->q.order_first + 3) % f->e->size], 0, 2);
}

static void
everything_and_one_more(struct fixture *f, const uint16_t *ids)
{
	int i;

	for (i = 2; i < 5; i++)
		raw_used(f, ids[i], 0, 2);
	raw_used(f, ids[0], 0, 2);
}

static void
unpublished_id_comes_back(struct fixture *f, const uint16_t *ids)
{
	int i;

	assert_int_equal(add(f, 8, 50), 0);
	for (i = 2; i < 5; i++)
		raw_used(f, ids[i], 0, 2);
	raw_used(f, le16toh(env_packed_desc(f->e, 11)->id), 0, 2);
}

static const struct bad_device bad_devices[] = {
	{"id is the size", 0, VRING_ERR_USED_ID, id_is_the_size, 0},
	{"id is 65535", 0, VRING_ERR_USED_ID, id_is_65535, 0},
	{"id is beyond 16 bits", 0, VRING_ERR_USED_ID, id_is_beyond_16_bits, 0},
	{"id came back before", 0, VRING_ERR_USED_NOT_IN_FLIGHT, id_came_back_before, 0},
	{"id comes twice", 0, VRING_ERR_USED_NOT_IN_FLIGHT, id_comes_twice, 1},
	{"id is inside a chain", 0, VRING_ERR_USED_NOT_IN_FLIGHT, id_is_inside_a_chain, 0},
	{"id was never used", 0, VRING_ERR_USED_NOT_IN_FLIGHT, id_was_never_used, 0},
	{"index one too far", 0, VRING_ERR_INDEX, index_one_too_far, 0},
	{"index goes back", 0, VRING_ERR_INDEX, index_goes_back, 0},
	{"index is half a round away", 0, VRING_ERR_INDEX, index_is_half_a_round_away, 0},
	{"unpublished does not count", 0, VRING_ERR_INDEX, unpublished_counts_as_not_there, 0},
	{"in order: id is the size", F_IN_ORDER, VRING_ERR_USED_ID, id_is_the_size, 0},
	{"in order: id came back before", F_IN_ORDER, VRING_ERR_USED_NOT_IN_FLIGHT,
		batch_ends_with_an_old_id, 0},
	{"in order: batch longer than the index", F_IN_ORDER, VRING_ERR_USED_ORDER,
		batch_is_longer_than_the_index, 0},
	{"in order: unpublished id", F_IN_ORDER, VRING_ERR_USED_ORDER,
		batch_ends_with_an_unpublished_id, 0},
	{"id is the size", F_PACKED, VRING_ERR_USED_ID, id_is_the_size, 0},
	{"id is 65535", F_PACKED, VRING_ERR_USED_ID, id_is_65535, 0},
	{"id came back before", F_PACKED, VRING_ERR_USED_NOT_IN_FLIGHT, id_came_back_before, 0},
	{"id comes twice", F_PACKED, VRING_ERR_USED_NOT_IN_FLIGHT, id_comes_twice, 1},
	{"id was never used", F_PACKED, VRING_ERR_USED_NOT_IN_FLIGHT, id_was_never_used, 0},
	{"everything and one more", F_PACKED, VRING_ERR_USED_NOT_IN_FLIGHT, everything_and_one_more,
		3},
	{"unpublished id", F_PACKED, VRING_ERR_USED_NOT_IN_FLIGHT, unpublished_id_comes_back, 3},
	{"in order: id is 65535", F_PACKED | F_IN_ORDER, VRING_ERR_USED_ID, id_is_65535, 0},
	{"in order: id came back before", F_PACKED | F_IN_ORDER, VRING_ERR_USED_NOT_IN_FLIGHT,
		batch_ends_with_an_old_id, 0},
	{"in order: unpublished id", F_PACKED | F_IN_ORDER, VRING_ERR_USED_ORDER,
		batch_ends_with_an_unpublished_id, 0},
};

static void
bad_device(void **state)
{
	const struct bad_device *c = *state;
	struct fixture f = fixture_new(16, c->features);
	struct vring_drv_done done[16];
	uint16_t ids[5], i;

	for (i = 0; i < 5; i++)
		assert_int_equal(add(&f, 100, i), 0);
	vring_drv_publish(&f.q);
	for (i = 0; i < 5; i++)
		ids[i] = f.e->packed ? le16toh(env_packed_desc(f.e, i * 2)->id)
				     : le16toh(env_avail(f.e)->ring[i]);
	raw_used(&f, ids[0], 1, 2);
	raw_used(&f, ids[1], 1, 2);
	assert_int_equal(vring_drv_get(&f.q, done, 16), 2);
	c->make(&f, ids);
	assert_int_equal(vring_drv_get(&f.q, done, 16), c->good);
	assert_drv_broken(&f, c->error);
	fixture_free(&f);
}

static uint64_t split_format, packed_format = F_PACKED;

#define BOTH(f)                                              \
	{#f ", split", f, NULL, NULL, &split_format},        \
	{                                                    \
#f ", packed", f, NULL, NULL, &packed_format \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(add_refuses_what_does_not_fit),
		cmocka_unit_test(split_chain_is_written_as_specified),
		cmocka_unit_test(packed_chain_is_written_as_specified),
		BOTH(used_buffers_come_with_cookie_and_length),
		cmocka_unit_test(packed_length_counts_only_with_the_write_flag),
		BOTH(in_order_batch_returns_the_skipped_ones_first),
		BOTH(buffers_in_flight_are_detached),
		BOTH(init_with_buffers_in_flight_is_refused),
		BOTH(state_counts_what_is_published),
	};
	struct CMUnitTest bad[NR(bad_devices)];
	size_t i;

	for (i = 0; i < NR(bad); i++)
		bad[i] = (struct CMUnitTest){bad_devices[i].name, bad_device, NULL, NULL,
			(void *)(uintptr_t)&bad_devices[i]};
	return cmocka_run_group_tests(tests, NULL, NULL) + cmocka_run_group_tests(bad, NULL, NULL);
}
