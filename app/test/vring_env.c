/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <sys/mman.h>

#include "vring_env.h"

#define PAGE       4096ULL
#define HUGE_INDEX 5

/* Sizes are whole pages, so both ends stand against a guard page. */
static uint8_t *
map_guarded(uint64_t size)
{
	uint8_t *p = mmap(NULL, size + 2 * PAGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE, size, PROT_READ | PROT_WRITE), 0);
	return p + PAGE;
}

static void
env_map(struct vring_env *e)
{
	static const struct vring_region layout[ENV_NR_REGIONS] = {
		{RING_IOVA, RING_SIZE, NULL, VRING_PERM_RW},
		{DATA_IOVA, DATA_SIZE, NULL, VRING_PERM_RW},
		{MORE_IOVA, MORE_SIZE, NULL, VRING_PERM_RW},
		{ROM_IOVA, ROM_SIZE, NULL, VRING_PERM_READ},
		{SINK_IOVA, SINK_SIZE, NULL, VRING_PERM_WRITE},
		{HUGE_IOVA, HUGE_SIZE, NULL, VRING_PERM_RW},
		{TOP_IOVA, TOP_SIZE, NULL, VRING_PERM_RW},
	};
	uint32_t i;

	memcpy(e->regions, layout, sizeof(layout));
	for (i = 0; i < ENV_NR_REGIONS; i++)
		e->regions[i].va = map_guarded(layout[i].size);
	e->mem.regions = e->regions;
	e->mem.nr_regions = ENV_NR_REGIONS;
}

struct vring_env *
env_new_at(uint16_t size, uint64_t features, uint16_t max_segs, struct vring_state state)
{
	struct vring_env *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	env_map(e);
	e->packed = (features & F_PACKED) != 0;
	e->size = size;
	/* The areas end against the region's end, the descriptors begin at its beginning. */
	e->config.size = size;
	e->config.max_segs = max_segs;
	e->config.features = features;
	e->config.desc_iova = RING_IOVA;
	e->config.device_iova = RING_IOVA +
		((RING_SIZE - vring_device_bytes(size, features)) & ~3ULL);
	e->config.driver_iova = (e->config.device_iova - vring_driver_bytes(size, features)) &
		~3ULL;
	e->config.mem = &e->mem;
	e->config.state = state;
	e->avail = e->packed ? state.avail & 0x7fff : state.avail;
	e->wrap = state.avail >> 15;
	if (!e->packed)
		env_avail(e)->idx = htole16(state.avail);
	assert_int_equal(vring_dev_init(&e->dev, &e->config), 0);
	return e;
}

struct vring_env *
env_new(uint16_t size, uint64_t features, uint16_t max_segs)
{
	return env_new_at(size, features, max_segs,
		features & F_PACKED ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START);
}

void
env_free(struct vring_env *e)
{
	uint32_t i;

	for (i = 0; i < ENV_NR_REGIONS; i++)
		munmap(e->regions[i].va - PAGE, e->regions[i].size + 2 * PAGE);
	free(e->copy);
	free(e);
}

void *
env_ptr(const struct vring_env *e, uint64_t iova)
{
	uint32_t i;

	for (i = 0; i < ENV_NR_REGIONS; i++)
		if (iova - e->regions[i].iova < e->regions[i].size)
			return e->regions[i].va + (iova - e->regions[i].iova);
	fail_msg("test uses an address that is not the guest's");
	return NULL;
}

struct vring_desc *
env_split_desc(const struct vring_env *e, uint16_t i)
{
	return (struct vring_desc *)env_ptr(e, e->config.desc_iova) + i;
}

struct vring_packed_desc *
env_packed_desc(const struct vring_env *e, uint16_t i)
{
	return (struct vring_packed_desc *)env_ptr(e, e->config.desc_iova) + i;
}

struct vring_avail *
env_avail(const struct vring_env *e)
{
	return env_ptr(e, e->config.driver_iova);
}

struct vring_used *
env_used(const struct vring_env *e)
{
	return env_ptr(e, e->config.device_iova);
}

uint32_t *
env_driver_event(const struct vring_env *e)
{
	return env_ptr(e, e->config.driver_iova);
}

uint32_t *
env_device_event(const struct vring_env *e)
{
	return env_ptr(e, e->config.device_iova);
}

void
env_table(const struct vring_env *e, uint64_t iova, const struct env_desc *d, uint16_t nr)
{
	uint16_t i;

	for (i = 0; i < nr; i++) {
		struct vring_desc s = {htole64(d[i].addr), htole32(d[i].len), htole16(d[i].flags),
			htole16(d[i].next == D_AUTO ? i + 1 : d[i].next)};
		struct vring_packed_desc p = {
			htole64(d[i].addr), htole32(d[i].len), 0xabcd, htole16(d[i].flags)};
		const uint8_t *from = e->packed ? (const uint8_t *)&p : (const uint8_t *)&s;
		uint64_t at;

		for (at = 0; at < 16; at++)
			*(uint8_t *)env_ptr(e, iova + i * 16ULL + at) = from[at];
	}
}

static uint16_t
put_split(struct vring_env *e, const struct env_desc *d, uint16_t nr)
{
	struct vring_avail *avail = env_avail(e);
	uint16_t head = e->desc, i;

	for (i = 0; i < nr; i++) {
		struct vring_desc *s = env_split_desc(e, e->desc);

		e->desc = (e->desc + 1) % e->size;
		s->addr = htole64(d[i].addr);
		s->len = htole32(d[i].len);
		s->flags = htole16(d[i].flags);
		s->next = htole16(d[i].next == D_AUTO ? e->desc : d[i].next);
	}
	avail->ring[e->avail % e->size] = htole16(head);
	e->avail++;
	__atomic_store_n(&avail->idx, htole16(e->avail), __ATOMIC_RELEASE);
	return head;
}

static uint16_t
put_packed(struct vring_env *e, const struct env_desc *d, uint16_t nr)
{
	struct vring_packed_desc *first = env_packed_desc(e, e->avail);
	uint16_t id = e->id++ % e->size, first_flags = 0, i;

	for (i = 0; i < nr; i++) {
		struct vring_packed_desc *p = env_packed_desc(e, e->avail);
		uint16_t flags = d[i].flags |
			(e->wrap ? 1u << VRING_PACKED_DESC_F_AVAIL
				 : 1u << VRING_PACKED_DESC_F_USED);

		p->addr = htole64(d[i].addr);
		p->len = htole32(d[i].len);
		p->id = htole16(i + 1 == nr ? id : 0xdead);
		if (i == 0)
			first_flags = flags;
		else
			p->flags = htole16(flags);
		if (++e->avail == e->size) {
			e->avail = 0;
			e->wrap = !e->wrap;
		}
	}
	__atomic_store_n(&first->flags, htole16(first_flags), __ATOMIC_RELEASE);
	return id;
}

uint16_t
env_put(struct vring_env *e, const struct env_desc *d, uint16_t nr)
{
	return e->packed ? put_packed(e, d, nr) : put_split(e, d, nr);
}

uint16_t
env_put_good(struct vring_env *e, uint16_t n, uint16_t flags)
{
	struct env_desc d = {DATA_IOVA + n * 64ULL, 64, flags, 0};

	return env_put(e, &d, 1);
}

uint16_t
env_peek(struct vring_env *e, uint16_t nr)
{
	assert_true(nr <= ENV_NR_CHAINS);
	return vring_dev_peek(&e->dev, e->chains, nr, e->segs, ENV_NR_SEGS);
}

/* Ends only where all of it would be gigabytes. */
static void
touch_seg(const struct vring_seg *s, bool write)
{
	volatile uint8_t *p = s->va;
	uint32_t step = s->len > (1u << 22) ? s->len - 1 : 1;
	uint64_t i;

	for (i = 0; i < s->len; i += step) {
		uint8_t v = write ? 0x5a : p[i];

		if (write)
			p[i] = v;
	}
}

void
env_touch(struct vring_env *e, const struct vring_chain *chains, uint16_t nr)
{
	uint16_t i, j;

	for (i = 0; i < nr; i++) {
		uint64_t readable = 0, writable = 0;

		for (j = 0; j < chains[i].nr_segs; j++) {
			const struct vring_seg *s = &chains[i].segs[j];
			bool write = j >= chains[i].nr_readable;

			assert_true(s->len > 0);
			assert_ptr_equal(s->va, env_ptr(e, s->iova));
			*(write ? &writable : &readable) += s->len;
			touch_seg(s, write);
		}
		assert_int_equal(readable, chains[i].readable_bytes);
		assert_int_equal(writable, chains[i].writable_bytes);
		assert_int_equal(chains[i].done.len, 0);
	}
}

static uint64_t
copied_size(const struct vring_env *e, uint32_t i)
{
	return i == HUGE_INDEX ? 0 : e->regions[i].size;
}

void
env_snapshot(struct vring_env *e)
{
	uint64_t total = 0, at = 0;
	uint32_t i;

	for (i = 0; i < ENV_NR_REGIONS; i++)
		total += copied_size(e, i);
	free(e->copy);
	e->copy = malloc(total);
	assert_non_null(e->copy);
	for (i = 0; i < ENV_NR_REGIONS; at += copied_size(e, i), i++)
		memcpy(e->copy + at, e->regions[i].va, copied_size(e, i));
}

void
env_assert_untouched(const struct vring_env *e)
{
	uint64_t at = 0;
	uint32_t i;

	assert_non_null(e->copy);
	for (i = 0; i < ENV_NR_REGIONS; at += copied_size(e, i), i++)
		assert_memory_equal(e->copy + at, e->regions[i].va, copied_size(e, i));
}

void
env_assert_broken(struct vring_env *e, enum vring_error error)
{
	struct vring_done done = {0, 1, 64};
	struct vring_chain chain = {.done = {0, 1, 64}};
	struct vring_state before = vring_dev_state(&e->dev), after;

	assert_string_equal(vring_error_name(vring_dev_error(&e->dev)), vring_error_name(error));
	env_snapshot(e);
	assert_int_equal(env_peek(e, 32), 0);
	assert_int_equal(vring_dev_push(&e->dev, &done, 1), -EIO);
	assert_int_equal(vring_dev_push_chains(&e->dev, &chain, 1), -EIO);
	assert_int_equal(vring_dev_unpop(&e->dev, &chain, 1), -EIO);
	vring_dev_flush(&e->dev);
	assert_false(vring_dev_signal_needed(&e->dev));
	assert_false(vring_dev_arm(&e->dev));
	vring_dev_disarm(&e->dev);
	assert_false(vring_dev_pending(&e->dev));
	assert_int_equal(vring_dev_rewind(&e->dev), 0);
	env_assert_untouched(e);
	after = vring_dev_state(&e->dev);
	assert_int_equal(before.avail, after.avail);
	assert_int_equal(before.used, after.used);
	vring_dev_break(&e->dev, VRING_ERR_CALLER);
	assert_int_equal(vring_dev_error(&e->dev), error);
}

uint32_t
env_random(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*seed = x;
	return (uint32_t)(x >> 16);
}
