/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <endian.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <rte_common.h>

#include "vring_inflight.h"

/*
 * A device dies at any instruction; the next one finds in its notes what is to be done again, and
 * the driver gets every buffer back once. The processor's single steps show each state of memory
 * that there is on the way; where they are not to be had (other processors, sanitizers), the states
 * between the calls have to do.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HAS_STEPS 1
#else
#define HAS_STEPS 0
#endif

#define NR_IDS     4u /* buffers that the driver has; an odd one has two descriptors */
#define BUF_BYTES  64u
#define NR_POSTED  10u
#define STATES_MAX 8192u
#define BURST      3u
#define NR_AHEAD   3u /* posted after a recovery */

#define F_PACKED   (UINT64_C(1) << VIRTIO_F_RING_PACKED)

struct driver {
	uint16_t avail, used; /* split: index; packed: slot */
	bool avail_wrap, used_wrap;
	bool out[NR_IDS];
	unsigned int nr_posted;
};

/* All that outlives a device. */
struct world {
	_Alignas(64) uint8_t desc[256];
	_Alignas(64) uint8_t avail[64];
	_Alignas(64) uint8_t used[128];
	_Alignas(64) uint8_t notes[512];
	_Alignas(64) uint8_t data[NR_IDS * BUF_BYTES];
	struct driver driver;
};

static struct {
	struct world *now, *last, *states;
	unsigned int nr_states;
	bool watched; /* states are kept */
	uint16_t size;
	uint64_t features;
	uint64_t seed;
} t;

static uint32_t
dice(uint32_t sides)
{
	t.seed = t.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(t.seed >> 33) % sides;
}

static bool
is_packed(void)
{
	return (t.features & F_PACKED) != 0;
}

/* ---- states of the world ---- */

static void
look(void)
{
	if (!t.watched || memcmp(t.now, t.last, sizeof(*t.now)) == 0)
		return;
	memcpy(t.last, t.now, sizeof(*t.now));
	if (t.nr_states < STATES_MAX)
		memcpy(&t.states[t.nr_states], t.now, sizeof(*t.now));
	t.nr_states++;
}

#if HAS_STEPS
static void
stepped(int signal)
{
	(void)signal;
	look();
}

#define TRAP_FLAG 0x100

static inline void
step(bool on)
{
	uint64_t flags;

	/* beyond the red zone */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tpop %0\n\tlea 128(%%rsp), %%rsp"
			 : "=r"(flags)
			 :
			 : "memory", "cc");
	flags = on ? flags | TRAP_FLAG : flags & ~(uint64_t)TRAP_FLAG;
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %0\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
			 :
			 : "r"(flags)
			 : "memory", "cc");
}
#else
static inline void
step(bool on)
{
	(void)on;
}
#endif

/* What a device does from here on is seen. */
static void
watch(bool on)
{
	if (!t.watched)
		return;
	look();
	step(on);
	look();
}

/* ---- the driver ---- */

static uint16_t
slots_of(unsigned int id)
{
	return 1 + (id & 1);
}

static uint64_t
iova_of(unsigned int id, uint16_t part)
{
	return (uintptr_t)t.now->data + id * BUF_BYTES + part * BUF_BYTES / 2;
}

static void
split_put(unsigned int id)
{
	struct driver *driver = &t.now->driver;
	struct vring_desc *desc = (struct vring_desc *)t.now->desc;
	struct vring_avail *avail = (struct vring_avail *)t.now->avail;

	for (uint16_t part = 0; part < slots_of(id); part++)
		desc[2 * id + part] = (struct vring_desc){
			.addr = htole64(iova_of(id, part)),
			.len = htole32(BUF_BYTES / 2),
			.flags = htole16(part + 1 < slots_of(id) ? VRING_DESC_F_NEXT : 0),
			.next = htole16(2 * id + part + 1),
		};
	avail->ring[driver->avail % t.size] = htole16(2 * id);
	avail->idx = htole16(++driver->avail);
}

static void
forward(uint16_t *at, bool *wrap, uint16_t slots)
{
	*at += slots;
	if (*at >= t.size) {
		*at -= t.size;
		*wrap = !*wrap;
	}
}

static void
packed_put(unsigned int id)
{
	struct driver *driver = &t.now->driver;
	struct vring_packed_desc *desc = (struct vring_packed_desc *)t.now->desc;

	for (uint16_t part = 0; part < slots_of(id); part++) {
		uint16_t flags = (driver->avail_wrap ? 1u << VRING_PACKED_DESC_F_AVAIL
						     : 1u << VRING_PACKED_DESC_F_USED) |
			(part + 1 < slots_of(id) ? VRING_DESC_F_NEXT : 0);

		desc[driver->avail] = (struct vring_packed_desc){
			.addr = htole64(iova_of(id, part)),
			.len = htole32(BUF_BYTES / 2),
			.id = htole16(id),
			.flags = htole16(flags),
		};
		forward(&driver->avail, &driver->avail_wrap, 1);
	}
}

/* One of those that the device does not have. */
static void
post(void)
{
	struct driver *driver = &t.now->driver;
	unsigned int id = dice(NR_IDS);

	while (driver->out[id])
		id = (id + 1) % NR_IDS;
	if (is_packed())
		packed_put(id);
	else
		split_put(id);
	driver->out[id] = true;
	driver->nr_posted++;
}

static bool
split_get(unsigned int *id)
{
	struct driver *driver = &t.now->driver;
	const struct vring_used *used = (const struct vring_used *)t.now->used;

	if (le16toh(used->idx) == driver->used)
		return false;
	*id = le32toh(used->ring[driver->used++ % t.size].id);
	assert_int_equal(*id % 2, 0);
	*id /= 2;
	return true;
}

static bool
packed_get(unsigned int *id)
{
	struct driver *driver = &t.now->driver;
	const struct vring_packed_desc *desc = (const struct vring_packed_desc *)t.now->desc +
		driver->used;
	uint16_t flags = le16toh(desc->flags);
	bool avail = (flags >> VRING_PACKED_DESC_F_AVAIL & 1) != 0;
	bool used = (flags >> VRING_PACKED_DESC_F_USED & 1) != 0;

	if (avail != used || used != driver->used_wrap)
		return false;
	*id = le16toh(desc->id);
	assert_in_range(*id, 0, NR_IDS - 1);
	forward(&driver->used, &driver->used_wrap, slots_of(*id));
	return true;
}

static unsigned int
nr_out(void)
{
	unsigned int nr = 0;

	for (unsigned int id = 0; id < NR_IDS; id++)
		nr += t.now->driver.out[id];
	return nr;
}

/* Nothing comes back that is not out. */
static void
collect(void)
{
	unsigned int id;

	while (is_packed() ? packed_get(&id) : split_get(&id)) {
		assert_in_range(id, 0, NR_IDS - 1);
		assert_true(t.now->driver.out[id]);
		t.now->driver.out[id] = false;
	}
}

/* ---- the device ---- */

struct device {
	struct vring_region region;
	struct vring_mem mem;
	struct vring_inflight notes;
	struct vring_dev ring;
	struct vring_chain pending[NR_IDS];
	unsigned int nr_pending;
	uint16_t heads[16];
	int nr_again;
};

/* Whole, and what the driver wrote. */
static void
check(const struct vring_chain *chain)
{
	unsigned int id = is_packed() ? chain->done.id : chain->done.id / 2;

	assert_in_range(id, 0, NR_IDS - 1);
	assert_true(t.now->driver.out[id]);
	assert_int_equal(chain->readable_bytes, slots_of(id) * BUF_BYTES / 2);
	assert_int_equal(chain->segs[0].iova, iova_of(id, 0));
}

static void
take(struct device *d)
{
	struct vring_seg segs[NR_IDS * 4];
	struct vring_chain *chains = &d->pending[d->nr_pending];
	uint16_t nr;

	watch(true);
	nr = vring_dev_peek(
		&d->ring, chains, RTE_MIN(BURST, NR_IDS - d->nr_pending), segs, RTE_DIM(segs));
	look();
	vring_inflight_take_chains(&d->notes, &d->ring, chains, nr);
	look();
	vring_dev_consume(&d->ring, chains, nr);
	watch(false);
	for (uint16_t i = 0; i < nr; i++)
		check(&chains[i]);
	d->nr_pending += nr;
}

/* Some of them, in any order, as one batch. */
static void
give(struct device *d, unsigned int until)
{
	unsigned int nr = 1 + dice(d->nr_pending);
	struct vring_chain done[NR_IDS];

	for (unsigned int i = 0; i < nr; i++) {
		unsigned int which = dice(d->nr_pending);

		done[i] = d->pending[which];
		d->pending[which] = d->pending[--d->nr_pending];
	}
	watch(true);
	for (unsigned int i = 0; i < nr; i++) {
		vring_inflight_give(&d->notes, done[i].done.id);
		look();
	}
	vring_dev_push_chains(&d->ring, done, nr);
	look();
	vring_dev_flush(&d->ring);
	watch(false);
	/* the driver is quick, and may have filled the ring again before that is noted */
	if (dice(2) == 0) {
		collect();
		while (t.now->driver.nr_posted < until && nr_out() < NR_IDS)
			post();
	}
	watch(true);
	vring_inflight_given(&d->notes, vring_dev_state(&d->ring).used);
	watch(false);
	assert_int_equal(vring_dev_error(&d->ring), VRING_ERR_NONE);
}

static void
begin(struct device *d)
{
	struct vring_config config = {
		.size = t.size,
		.max_segs = 4,
		.features = t.features,
		.desc_iova = (uintptr_t)t.now->desc,
		.driver_iova = (uintptr_t)t.now->avail,
		.device_iova = (uintptr_t)t.now->used,
		.mem = &d->mem,
		.state = is_packed() ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START,
	};
	struct vring_seg segs[4];

	*d = (struct device){
		.region = {(uintptr_t)t.now, sizeof(*t.now), (uint8_t *)t.now, VRING_PERM_RW},
		.mem = {&d->region, 1},
	};
	assert_true(vring_inflight_bytes(t.size, t.features) <= sizeof(t.now->notes));
	watch(true);
	d->nr_again = vring_inflight_begin(&d->notes, t.now->notes, &config, d->heads);
	watch(false);
	assert_in_range(d->nr_again, 0, NR_IDS);
	assert_int_equal(vring_dev_init(&d->ring, &config), 0);
	for (int i = 0; i < d->nr_again; i++) {
		struct vring_chain *chain = &d->pending[d->nr_pending++];

		watch(true);
		assert_true(vring_dev_again(
			&d->ring, &d->notes, d->heads[i], chain, segs, RTE_DIM(segs)));
		watch(false);
		check(chain);
	}
}

/* All that there is, and what the driver posts meanwhile. */
static void
serve(struct device *d, unsigned int until)
{
	do {
		if (t.now->driver.nr_posted < until && nr_out() < NR_IDS && dice(2) == 0)
			post();
		if (d->nr_pending < NR_IDS && dice(2) == 0)
			take(d);
		if (d->nr_pending != 0 && dice(2) == 0)
			give(d, until);
		if (dice(2) == 0)
			collect();
	} while (t.now->driver.nr_posted < until || d->nr_pending != 0 ||
		vring_dev_pending(&d->ring));
	collect();
	assert_int_equal(nr_out(), 0);
}

/* ---- lives and deaths ---- */

static void
live(unsigned int until)
{
	struct device *d = malloc(sizeof(*d));

	assert_non_null(d);
	begin(d);
	serve(d, until);
	vring_inflight_end(&d->notes);
	free(d);
}

/* The states of memory through which the life of a device goes. */
static unsigned int
live_watched(unsigned int until, struct world *states)
{
	t.states = states;
	t.nr_states = 0;
	t.watched = true;
	live(until);
	t.watched = false;
	assert_in_range(t.nr_states, 1, STATES_MAX);
	return t.nr_states;
}

static void
birth(uint16_t size, uint64_t features)
{
	t.size = size;
	t.features = features;
	memset(t.now, 0, sizeof(*t.now));
	memset(t.last, 0xff, sizeof(*t.last));
	t.now->driver.avail_wrap = t.now->driver.used_wrap = true;
}

static void
dies_anywhere(uint16_t size, uint64_t features, uint64_t seed)
{
	struct world *first = malloc(STATES_MAX * sizeof(*first));
	struct world *second = malloc(STATES_MAX * sizeof(*second));
	unsigned int nr, nr_second = 0;

	assert_non_null(first);
	assert_non_null(second);
	t.seed = seed;
	birth(size, features);
	nr = live_watched(NR_POSTED, first);
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int nr_states;

		memcpy(t.now, &first[i], sizeof(*t.now));
		if (i % 8 != seed % 8) {
			live(t.now->driver.nr_posted + NR_AHEAD);
			continue;
		}
		/* the one that recovers dies, too */
		nr_states = live_watched(t.now->driver.nr_posted + NR_AHEAD, second);
		for (unsigned int k = 0; k < nr_states; k++) {
			memcpy(t.now, &second[k], sizeof(*t.now));
			live(t.now->driver.nr_posted + NR_AHEAD);
		}
		nr_second += nr_states;
	}
	print_message(
		"%u entries: died in %u and again in %u states of memory\n", size, nr, nr_second);
	free(first);
	free(second);
}

static void
test_split_dies_anywhere(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++)
		dies_anywhere(8, UINT64_C(1) << VIRTIO_F_VERSION_1, seed);
}

static void
test_packed_dies_anywhere(void **state)
{
	static const uint16_t sizes[] = {6, 7, 8, 13};

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(sizes); i++)
		for (uint64_t seed = 1; seed < 4; seed++)
			dies_anywhere(sizes[i], UINT64_C(1) << VIRTIO_F_VERSION_1 | F_PACKED, seed);
}

static int
setup(void **state)
{
	(void)state;
	t.now = mmap(NULL, 2 * sizeof(*t.now), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	t.last = t.now + 1;
#if HAS_STEPS
	signal(SIGTRAP, stepped);
#endif
	return t.now == MAP_FAILED;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_dies_anywhere),
		cmocka_unit_test(test_packed_dies_anywhere),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
