/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * sw_net and guests whose rings break the rules: the queue stops, the device says which and why,
 * the other queue and another device on the same worker go on. Memory lies between pages that kill
 * who touches them.
 */

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>

#include "bad_ring.h"
#include "net_guest.h"
#include "net_neighbour.h"
#include "sw_net.h"

#define BASE      (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_MRG_RXBUF) | F(RING_F_INDIRECT_DESC))
#define END_IOVA  (NET_GUEST_IOVA + NET_GUEST_BYTES)
#define GOOD_IOVA (NET_GUEST_IOVA + 0x1000000)
#define BEFORE    5 /* lawful frames */
#define ANSWER_MS 30000

static const uint64_t formats[] = {BASE, BASE | F(F_RING_PACKED)};
static uint8_t frame[100], got[66000];

static void
kick(const struct net_queue *q)
{
	const uint64_t one = 1;

	assert_int_equal(write(q->kick_fd, &one, sizeof(one)), sizeof(one));
}

static bool
is_packed(const struct net_guest *g)
{
	return (g->config.features & F(F_RING_PACKED)) != 0;
}

static void
open_bad(struct net_guest *g, uint64_t features, bool shared)
{
	const struct net_guest_config config = {
		.device = "bad", .features = features, .shared = shared};

	net_device_add("bad", "");
	net_guest_open(g, &config);
}

static void
close_bad(struct net_guest *g)
{
	net_guest_close(g);
	device_del("bad");
}

/* Frames there and back; no buffer is with the device then. */
static void
exchange(struct net_guest *g, uint16_t nr)
{
	uint16_t reaped = 0;

	assert_int_equal(net_guest_fill(g, 0, nr), nr);
	for (uint16_t i = 0; i < nr; i++)
		assert_true(net_guest_send(g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	for (uint16_t i = 0; i < nr; i++)
		assert_int_equal(
			net_guest_wait(g, 0, NULL, got, sizeof(got), ANSWER_MS), sizeof(frame));
	for (int i = 0; i < ANSWER_MS && g->pairs[0].tx.nr_free != g->config.ring_size; i++) {
		reaped += net_guest_reap(g, 0);
		if (reaped != nr)
			net_sleep_ms(1);
	}
	assert_int_equal(g->pairs[0].tx.nr_free, g->config.ring_size);
}

/* The device shows which queue it was, and why. */
static void
stops(struct net_guest *g, const struct net_queue *q, const char *name, const char *why)
{
	struct vdpa_device_status status;
	char queue[32];

	for (int i = 0; i < ANSWER_MS; i++) {
		vdpa_device_status_get(g->dev, &status);
		if (status.failures != 0)
			break;
		net_sleep_ms(1);
	}
	snprintf(queue, sizeof(queue), "virtqueue %u ", q->index);
	if (status.failures != 1 || strstr(status.last_error, why) == NULL ||
		strstr(status.last_error, queue) == NULL)
		fail_msg("%s: %u failures, \"%s\"", name, (unsigned int)status.failures,
			status.last_error);
	assert_int_equal(status.health, VDPA_HEALTH_DEGRADED);
}

/* How much the device gave back: split, the index; packed, whether the slot at hand was used. */
static uint16_t
used(struct net_guest *g, const struct net_queue *q, uint16_t at)
{
	const struct vring_used *split = net_guest_ptr(g, q->device_iova);
	const struct vring_packed_desc *desc = net_guest_ptr(g, q->desc_iova);

	if (!is_packed(g))
		return __atomic_load_n(&split->idx, __ATOMIC_ACQUIRE);
	return at +
		((__atomic_load_n(&desc[at].flags, __ATOMIC_ACQUIRE) &
			 1 << VRING_PACKED_DESC_F_USED) != 0);
}

static void
offer(struct net_guest *g, const struct net_queue *q, const struct bad_ring_case *c, uint16_t at)
{
	const struct bad_ring_place place = {
		.packed = is_packed(g),
		.size = g->config.ring_size,
		.at = at,
		.to_driver = q->index % 2 == 0,
		.desc = net_guest_ptr(g, q->desc_iova),
		.driver = net_guest_ptr(g, q->driver_iova),
		.start_iova = NET_GUEST_IOVA,
		.end_iova = END_IOVA,
		.good_iova = GOOD_IOVA,
		.good = net_guest_ptr(g, GOOD_IOVA),
	};

	bad_ring_offer(c, &place);
	kick(q);
}

/* Frames sent to a receive queue that is broken: they are given back and counted. */
static void
transmit_goes_on(struct net_guest *g)
{
	uint64_t dropped = device_stat(g->dev, 1, "drop_rx_off");

	for (int i = 0; i < BEFORE; i++)
		assert_true(net_guest_send(g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	/* a frame that found the queue stopping may be counted after the stop is shown */
	for (int i = 0; i < ANSWER_MS; i++) {
		if (device_stat(g->dev, 1, "drop_rx_off") >= dropped + BEFORE)
			return;
		net_sleep_ms(1);
	}
	fail_msg("%" PRIu64 " frames dropped", device_stat(g->dev, 1, "drop_rx_off") - dropped);
}

static void
bad_ring(const struct bad_ring_case *c, uint64_t features, bool receive, uint16_t at)
{
	struct net_queue *q;
	struct net_guest g;

	open_bad(&g, features, false);
	q = receive ? &g.pairs[0].rx : &g.pairs[0].tx;
	if (at != 0)
		exchange(&g, at);
	offer(&g, q, c, at);
	if (receive)
		assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	stops(&g, q, bad_ring_name(c), bad_ring_why(c));
	if (receive) {
		net_stat_wait(g.dev, 1, "packets", at + 1);
		transmit_goes_on(&g);
	}
	kick(q);
	net_neighbour_goes_on();
	if (used(&g, q, at) != at)
		fail_msg("%s: something was given back", bad_ring_name(c));
	net_stat_wait(g.dev, q->index, "packets", at);
	close_bad(&g);
}

/* Device, guest and ring are new each time: what broke is forgotten with its session. */
static void
bad_rings(uint64_t features)
{
	uint64_t start_us, calm_us, frames, calm, all;
	const struct bad_ring_case *c;
	unsigned int nr = 0, cases = 0;

	net_neighbour_start();
	net_neighbour_goes_on();
	start_us = net_now_us();
	frames = net_neighbour_frames();
	net_sleep_ms(200);
	calm_us = net_now_us() - start_us;
	calm = net_neighbour_frames() - frames;
	start_us = net_now_us();
	frames = net_neighbour_frames();
	for (; (c = bad_ring_case(cases, (features & F(F_RING_PACKED)) != 0)) != NULL; cases++)
		for (unsigned int i = 0; i < 4; i++, nr++)
			bad_ring(c, features, i % 2 != 0, i / 2 * BEFORE);
	frames = net_neighbour_frames() - frames;
	start_us = net_now_us() - start_us;
	all = net_neighbour_stop();
	print_message(
		"%u cases, %u queues broken; neighbour: %llu frames, none lost, %llu a second "
		"(%llu before)\n",
		cases, nr, (unsigned long long)all,
		(unsigned long long)(frames * 1000000 / start_us),
		(unsigned long long)(calm * 1000000 / calm_us));
	assert_true(nr >= 100);
	assert_true(frames >= UINT64_C(64) * nr);
}

static void
bad_split_rings_stop_their_queue_and_nothing_else(void **state)
{
	(void)state;
	bad_rings(formats[0]);
}

static void
bad_packed_rings_stop_their_queue_and_nothing_else(void **state)
{
	(void)state;
	bad_rings(formats[1]);
}

/* ---- descriptors that change while they are read ---- */

#define RACE_TABLES  (GOOD_IOVA + 0x80000) /* two descriptors for every fourth slot */
#define RACE_BUFFERS (GOOD_IOVA + 0x90000)
#define RACE_BYTES   112

/* A driver that never looks at what it gets back; between its lawful stores it glitches. */
struct racer {
	struct net_guest *guest;
	uint64_t seed;
	uint16_t next[2]; /* packed: slot and round of each queue */
	bool wrap[2];
	atomic_bool stop;
};

static uint32_t
race_number(struct racer *racer)
{
	racer->seed = racer->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(racer->seed >> 33);
}

static struct net_queue *
race_queue(struct racer *racer, unsigned int vq)
{
	return vq == 0 ? &racer->guest->pairs[0].rx : &racer->guest->pairs[0].tx;
}

static uint64_t
race_table(unsigned int vq, uint16_t slot)
{
	return RACE_TABLES + vq * 0x1000 + slot * 32;
}

/* What a slot lawfully holds. */
static struct vring_desc
race_desc(unsigned int vq, uint16_t slot)
{
	struct vring_desc d = {RACE_BUFFERS + vq * 0x10000 + slot * RACE_BYTES, RACE_BYTES,
		vq == 0 ? VRING_DESC_F_WRITE : 0, 0};

	if (slot % 4 == 0)
		d = (struct vring_desc){race_table(vq, slot), 32, VRING_DESC_F_INDIRECT, 0};
	return d;
}

static void
race_begin(struct racer *racer)
{
	struct net_guest *g = racer->guest;

	for (unsigned int vq = 0; vq < 2; vq++) {
		struct vring_desc *desc = net_guest_ptr(g, race_queue(racer, vq)->desc_iova);
		struct vring_avail *avail = net_guest_ptr(g, race_queue(racer, vq)->driver_iova);
		uint16_t write = vq == 0 ? VRING_DESC_F_WRITE : 0;

		racer->wrap[vq] = true;
		for (uint16_t i = 0; i < g->config.ring_size; i++) {
			uint64_t buffer = RACE_BUFFERS + vq * 0x10000 + i * RACE_BYTES;
			struct vring_desc *table = net_guest_ptr(g, race_table(vq, i));

			table[0] = (struct vring_desc){buffer, 12, write | VRING_DESC_F_NEXT, 1};
			if (is_packed(g)) /* id, flags */
				table[0].flags = 0, table[0].next = write;
			table[1] = (struct vring_desc){buffer + 12, RACE_BYTES - 12, write, 0};
			if (is_packed(g))
				table[1].flags = 0, table[1].next = write;
			if (is_packed(g))
				continue;
			desc[i] = race_desc(vq, i);
			avail->ring[i] = i;
		}
	}
}

/* Whatever was used is available again. */
static void
race_refill(struct racer *racer, unsigned int vq)
{
	struct net_guest *g = racer->guest;
	struct net_queue *q = race_queue(racer, vq);
	struct vring_packed_desc *packed = net_guest_ptr(g, q->desc_iova);
	struct vring_avail *avail = net_guest_ptr(g, q->driver_iova);
	uint16_t *next = &racer->next[vq], size = g->config.ring_size;

	if (!is_packed(g)) {
		__atomic_store_n(&avail->idx, used(g, q, 0) + size / 2, __ATOMIC_RELEASE);
		return;
	}
	for (uint16_t i = 0; i < size / 2; i++) {
		uint16_t flags = __atomic_load_n(&packed[*next].flags, __ATOMIC_ACQUIRE);
		struct vring_desc d = race_desc(vq, *next);
		bool is_avail = (flags & 1 << VRING_PACKED_DESC_F_AVAIL) != 0;
		bool is_used = (flags & 1 << VRING_PACKED_DESC_F_USED) != 0;

		if (is_avail == racer->wrap[vq] || is_used == racer->wrap[vq])
			return;
		packed[*next].addr = d.addr;
		packed[*next].len = d.len;
		packed[*next].id = *next;
		d.flags |= 1 << (racer->wrap[vq] ? VRING_PACKED_DESC_F_AVAIL
						 : VRING_PACKED_DESC_F_USED);
		__atomic_store_n(&packed[*next].flags, d.flags, __ATOMIC_RELEASE);
		if (++*next == size) {
			*next = 0;
			racer->wrap[vq] = !racer->wrap[vq];
		}
	}
}

/* One field is bad for a moment: of a descriptor in the ring, or in a table. */
static void
race_glitch(struct racer *racer, struct vring_desc *d, bool packed)
{
	static const uint64_t addrs[] = {
		END_IOVA - 8, END_IOVA, NET_GUEST_IOVA - 1, 0, UINT64_MAX - 7, RACE_TABLES};
	static const uint32_t lens[] = {0, 16, 33, 48, 9228, 0x4000000, UINT32_MAX};
	static const uint16_t bits[] = {
		VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_DESC_F_INDIRECT};
	uint32_t r = race_number(racer);
	uint16_t *flags = packed ? &d->next : &d->flags;
	uint64_t addr = d->addr;
	uint32_t len = d->len;
	uint16_t next = d->next, bit = bits[r / 4 % RTE_DIM(bits)];

	switch (r % 4) {
	case 0:
		__atomic_store_n(&d->addr, addrs[r / 4 % RTE_DIM(addrs)], __ATOMIC_RELAXED);
		__atomic_store_n(&d->addr, addr, __ATOMIC_RELEASE);
		break;
	case 1:
		__atomic_store_n(&d->len, lens[r / 4 % RTE_DIM(lens)], __ATOMIC_RELAXED);
		__atomic_store_n(&d->len, len, __ATOMIC_RELEASE);
		break;
	case 2:
		__atomic_fetch_xor(flags, bit, __ATOMIC_RELAXED);
		__atomic_fetch_xor(flags, bit, __ATOMIC_RELEASE);
		break;
	default:
		if (packed)
			break;
		__atomic_store_n(&d->next, r / 4, __ATOMIC_RELAXED);
		__atomic_store_n(&d->next, next, __ATOMIC_RELEASE);
		break;
	}
}

static void *
race(void *arg)
{
	struct racer *racer = arg;
	struct net_guest *g = racer->guest;

	while (!atomic_load_explicit(&racer->stop, memory_order_relaxed)) {
		uint32_t r = race_number(racer);
		unsigned int vq = r % 2;
		uint16_t slot = r / 2 % g->config.ring_size;
		struct vring_desc *desc = net_guest_ptr(g, race_queue(racer, vq)->desc_iova);
		struct vring_avail *avail = net_guest_ptr(g, race_queue(racer, vq)->driver_iova);

		race_refill(racer, 0);
		race_refill(racer, 1);
		if (r / 256 % 2 != 0)
			race_glitch(racer, &desc[slot], is_packed(g));
		else
			race_glitch(racer,
				net_guest_ptr(g, race_table(vq, slot) + r / 512 % 2 * 16),
				is_packed(g));
		if (is_packed(g) || r / 1024 % 16 != 0)
			continue;
		__atomic_store_n(&avail->ring[slot], r / 1024, __ATOMIC_RELAXED);
		__atomic_store_n(&avail->ring[slot], slot, __ATOMIC_RELEASE);
	}
	return NULL;
}

static bool
enough(const unsigned int broken[2], const uint64_t passed[2])
{
	return broken[0] > 20 && broken[1] > 20 && passed[0] > 1000 && passed[1] > 1000;
}

static void
descriptors_that_change_between_two_reads_harm_nobody(void **state)
{
	unsigned int broken[2] = {0};
	uint64_t passed[2] = {0};

	(void)state;
	net_neighbour_start();
	for (unsigned int i = 0; i < 120 || (i < 2000 && !enough(broken, passed)); i++) {
		struct racer racer = {.seed = i + 1};
		struct vdpa_device_status status;
		struct net_guest g;
		pthread_t thread;

		open_bad(&g, formats[i % 2], false);
		racer.guest = &g;
		race_begin(&racer);
		assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
		for (int k = 0; k < 20; k++) {
			kick(&g.pairs[0].rx);
			kick(&g.pairs[0].tx);
			net_sleep_ms(1);
			vdpa_device_status_get(g.dev, &status);
			if (status.failures == 2)
				break;
		}
		atomic_store(&racer.stop, true);
		pthread_join(thread, NULL);
		broken[i % 2] += status.failures;
		passed[i % 2] += device_stat(g.dev, 1, "packets");
		net_neighbour_goes_on();
		close_bad(&g);
	}
	print_message("broken: split %u, packed %u; frames before: %llu, %llu; neighbour: %llu\n",
		broken[0], broken[1], (unsigned long long)passed[0], (unsigned long long)passed[1],
		(unsigned long long)net_neighbour_stop());
	/* else nothing was raced for */
	assert_true(enough(broken, passed));
}

/* ---- memory that goes while the queues run ---- */

/* The device has looked at receive buffers and knows where they are. */
static void
give_far_buffers(struct net_guest *g, uint16_t nr)
{
	struct net_queue *q = &g->pairs[0].rx;

	for (uint16_t i = 0; i < nr; i++) {
		struct vring_buf buf = {GOOD_IOVA + i * 0x4000, 0x2000};

		assert_int_equal(vring_drv_add(&q->ring, &buf, 0, 1, NULL, NULL), 0);
	}
	net_guest_kick(g, q);
	for (int i = 0; i < BEFORE; i++)
		assert_true(net_guest_send(g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(g->dev, 0, "packets", BEFORE);
}

static void
receive_buffers_taken_away_stop_that_queue(void **state)
{
	(void)state;
	net_neighbour_start();
	for (unsigned int i = 0; i < 20; i++) {
		struct net_guest g;

		open_bad(&g, formats[i % 2], false);
		give_far_buffers(&g, 32);
		assert_int_equal(net_guest_shrink(&g, GOOD_IOVA - NET_GUEST_IOVA), 0);
		assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		stops(&g, &g.pairs[0].rx, "receive buffers gone", "outside the peer");
		net_stat_wait(g.dev, 0, "packets", BEFORE);
		transmit_goes_on(&g);
		net_neighbour_goes_on();
		close_bad(&g);
	}
	net_neighbour_stop();
}

static void
rings_taken_away_stop_the_device(void **state)
{
	(void)state;
	net_neighbour_start();
	for (unsigned int i = 0; i < 20; i++) {
		struct vdpa_device_status status;
		struct net_guest g;

		open_bad(&g, formats[i % 2], false);
		exchange(&g, BEFORE);
		/* of the transmit queue only, or of both */
		net_guest_shrink(&g, i % 4 < 2 ? g.pairs[0].tx.desc_iova - NET_GUEST_IOVA : 4096);
		kick(&g.pairs[0].rx);
		kick(&g.pairs[0].tx);
		net_neighbour_goes_on();
		vdpa_device_status_get(g.dev, &status);
		assert_int_not_equal(status.failures, 0);
		assert_string_not_equal(status.last_error, "");
		close_bad(&g);
	}
	net_neighbour_stop();
}

static void
a_file_cut_short_under_the_queues_stops_the_device(void **state)
{
	(void)state;
	net_neighbour_start();
	for (unsigned int i = 0; i < 20; i++) {
		struct vdpa_device_status status;
		struct net_guest g;

		open_bad(&g, formats[i % 2], true);
		exchange(&g, BEFORE);
		assert_int_equal(net_guest_fill(&g, 0, 32), 32);
		assert_int_equal(ftruncate(g.mem_fd, 0), 0);
		for (int k = 0; k < ANSWER_MS; k++) {
			kick(&g.pairs[0].rx);
			kick(&g.pairs[0].tx);
			vdpa_device_status_get(g.dev, &status);
			if (status.failures != 0)
				break;
			net_sleep_ms(1);
		}
		assert_int_not_equal(status.failures, 0);
		assert_string_not_equal(status.last_error, "");
		net_neighbour_goes_on();
		close_bad(&g);
	}
	net_neighbour_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bad_split_rings_stop_their_queue_and_nothing_else),
		TEST(bad_packed_rings_stop_their_queue_and_nothing_else),
		TEST(descriptors_that_change_between_two_reads_harm_nobody),
		TEST(receive_buffers_taken_away_stop_that_queue),
		TEST(rings_taken_away_stop_the_device),
		TEST(a_file_cut_short_under_the_queues_stops_the_device),
	};

	if (!net_hostile_begin())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
