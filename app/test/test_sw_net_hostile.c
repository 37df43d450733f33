/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net and guests that mean harm. Their memory lies between pages that kill who touches them. */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net_guest.h"
#include "net_neighbour.h"
#include "sw_net.h"

#define BASE (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_CSUM) | F(RING_F_INDIRECT_DESC))

static uint64_t seed = 42;
static uint32_t mildness; /* one in so many numbers is out of order */

static uint32_t
random_number(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16) % below;
}

static uint64_t
random_iova(void)
{
	switch (random_number(3 * mildness)) {
	case 0:
		return seed;
	case 1:
		return NET_GUEST_IOVA - random_number(100);
	case 2:
		return NET_GUEST_IOVA + NET_GUEST_BYTES - random_number(3000);
	default:
		/* behind the rings, else a wild receive buffer spoils a lawful ring */
		return NET_GUEST_IOVA + 0x200000 + random_number(0x100000);
	}
}

static uint32_t
random_length(void)
{
	static const uint32_t lengths[] = {0, 1, 2, 9, 10, 11, 12, 16, 26, 60, 76, 128, 140, 141,
		512, 1526, 2048, 4096, 9228, 65535, 65561, 65562, 100000, 0x400000, 0x3000000};

	return random_number(8) == 0 ? (uint32_t)seed
				     : lengths[random_number(sizeof(lengths) / sizeof(lengths[0]))];
}

/* Descriptors of a split ring, and of tables: mostly such that a device goes on with them. */
static void
random_descs(struct net_guest *g, uint64_t iova, uint16_t nr, bool transmit)
{
	struct vring_desc *desc = net_guest_ptr(g, iova);

	for (uint16_t i = 0; i < nr; i++) {
		desc[i].addr = random_iova();
		desc[i].len = random_length();
		desc[i].next = random_number(mildness) == 0 ? (uint16_t)seed : random_number(nr);
		desc[i].flags = random_number(mildness) == 0 ? (uint16_t)seed : 0;
		if (random_number(mildness) < 8)
			desc[i].flags |= VRING_DESC_F_NEXT;
		if (random_number(mildness) != 0 && !transmit)
			desc[i].flags |= VRING_DESC_F_WRITE;
	}
}

static void
random_split(struct net_guest *g, struct net_queue *q)
{
	struct vring_avail *avail = net_guest_ptr(g, q->driver_iova);
	uint16_t size = g->config.ring_size;

	random_descs(g, q->desc_iova, size, q->index % 2 != 0);
	random_descs(g, q->tables_iova, size, q->index % 2 != 0);
	for (uint16_t i = 0; i < size; i++)
		avail->ring[i] = random_number(mildness) == 0 ? (uint16_t)seed
							      : random_number(size);
	__atomic_store_n(&avail->idx,
		avail->idx + random_number(random_number(mildness) == 0 ? 65536 : size / 4 + 1),
		__ATOMIC_RELEASE);
}

static void
random_packed(struct net_guest *g, struct net_queue *q)
{
	struct vring_packed_desc *desc = net_guest_ptr(g, q->desc_iova);

	random_descs(g, q->tables_iova, g->config.ring_size, q->index % 2 != 0);
	for (uint16_t i = 0; i < g->config.ring_size; i++) {
		desc[i].addr = random_iova();
		desc[i].len = random_length();
		desc[i].id = (uint16_t)random_number(65536);
		desc[i].flags = random_number(mildness) == 0 ? (uint16_t)seed : 0;
		desc[i].flags |= random_number(2) ? 1 << VRING_PACKED_DESC_F_AVAIL
						  : 1 << VRING_PACKED_DESC_F_USED;
		if (random_number(mildness) < 8)
			desc[i].flags |= VRING_DESC_F_NEXT;
		if (random_number(mildness) != 0 && q->index % 2 == 0)
			desc[i].flags |= VRING_DESC_F_WRITE;
	}
}

/* One ring or both are wild; the other one is as it should be. */
static void
randomize(struct net_guest *g, unsigned int round)
{
	static const uint64_t one = 1;
	static uint8_t frame[1000];

	for (unsigned int i = 0; i < 2; i++) {
		struct net_queue *q = i == 0 ? &g->pairs[0].rx : &g->pairs[0].tx;

		if (round % 3 == i) {
			if (i == 0)
				net_guest_fill(g, 0, 64);
			for (int k = 0; i == 1 && k < 8; k++)
				net_guest_send(g, 0, k % NET_SHAPES, NULL, frame, 60 + k * 100);
			continue;
		}
		if ((g->config.features & F(F_RING_PACKED)) != 0)
			random_packed(g, q);
		else
			random_split(g, q);
		assert_int_equal(write(q->kick_fd, &one, sizeof(one)), sizeof(one));
	}
}

static void
random_rings_harm_nobody_else(void **state)
{
	static const uint64_t formats[] = {0, F(NET_F_MRG_RXBUF), F(F_RING_PACKED),
		F(F_RING_PACKED) | F(NET_F_MRG_RXBUF) | F(F_IN_ORDER), F(RING_F_EVENT_IDX)};
	uint64_t broken = 0, passed = 0, others;

	(void)state;
	net_neighbour_start();
	for (unsigned int round = 0; round < 400; round++) {
		struct net_guest_config config = {
			.device = "bad", .features = BASE | formats[round % 5]};
		struct vdpa_device_status status;
		struct net_guest g;

		mildness = 10 << round % 7;
		net_device_add("bad", "");
		net_guest_open(&g, &config);
		for (int i = 0; i < 4; i++) {
			randomize(&g, round);
			net_sleep_ms(i == 3);
		}
		vdpa_device_status_get(g.dev, &status);
		broken += status.failures;
		passed += device_stat(g.dev, 0, "packets");
		net_guest_close(&g);
		device_del("bad");
	}
	others = net_neighbour_stop();
	print_message("%llu queues broken, %llu frames passed before, neighbour's frames: %llu\n",
		(unsigned long long)broken, (unsigned long long)passed, (unsigned long long)others);
	/* else the rings are not of the kind that is meant */
	assert_true(broken > 100);
	assert_true(passed > 10);
	assert_true(others > 1000);
}

struct racer {
	struct net_guest *guest;
	bool stop;
};

/* Headers, lengths and flags change all the time, under the device's hands. */
static void *
race(void *arg)
{
	struct racer *racer = arg;
	struct net_guest *g = racer->guest;
	struct net_queue *q = &g->pairs[0].tx;
	struct vring_desc *desc = net_guest_ptr(g, q->desc_iova);
	uint32_t at = 0;

	while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
		uint16_t slot = at % g->config.ring_size;
		uint8_t *hdr = net_guest_ptr(g, q->slots_iova + slot * q->slot_bytes);

		at = at * 1103515245 + 12345;
		__atomic_store_n(&hdr[0], at >> 24, __ATOMIC_RELAXED);
		__atomic_store_n(&hdr[1], (at >> 16) % 8 == 0, __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)&hdr[6 & ~3], at, __ATOMIC_RELAXED);
		__atomic_store_n(&desc[at % g->config.ring_size].len, 12 + (at >> 8) % 9000,
			__ATOMIC_RELAXED);
	}
	return NULL;
}

static void
a_ring_that_changes_while_it_is_read_harms_nobody(void **state)
{
	static const uint64_t formats[] = {F(NET_F_MRG_RXBUF), F(F_RING_PACKED)};
	static uint8_t frame[1000], got[66000];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct net_guest_config config = {.device = "bad", .features = BASE | formats[i]};
		struct vdpa_device_status status;
		struct racer racer = {0};
		uint64_t until = net_now_us() + 60000000;
		unsigned int nr = 0;
		struct net_guest g;
		pthread_t thread;
		int len;

		net_device_add("bad", "");
		net_guest_open(&g, &config);
		racer.guest = &g;
		assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
		for (int k = 0; k < 20000 || (nr < 2000 && net_now_us() < until); k++) {
			net_guest_fill(&g, 0, 64);
			net_guest_send(&g, 0, k % NET_INDIRECT, NULL, frame, sizeof(frame));
			while ((len = net_guest_receive(&g, 0, NULL, got, sizeof(got))) >= 0) {
				assert_true(len <= SW_NET_FRAME_MAX);
				nr++;
			}
		}
		__atomic_store_n(&racer.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		vdpa_device_status_get(g.dev, &status);
		print_message("%u frames came back, last error: %s\n", nr, status.last_error);
		assert_true(nr >= 2000);
		net_guest_close(&g);
		device_del("bad");
	}
}

static void
one_buffer_for_sending_and_receiving_is_the_guests_own_trouble(void **state)
{
	static const uint32_t sizes[] = {60, 100, 128, 500, 1514, 9000};
	struct net_guest_config config = {.device = "bad", .features = BASE};
	struct net_guest g;

	(void)state;
	net_device_add("bad", "");
	net_guest_open(&g, &config);
	for (unsigned int i = 0; i < 6 * 4; i++) {
		struct net_queue *rx = &g.pairs[0].rx, *tx = &g.pairs[0].tx;
		uint64_t to = tx->slots_iova + 1 + i % 4 * 17;
		struct vring_buf out[2] = {
			{tx->slots_iova, 20}, {tx->slots_iova + 20, sizes[i / 4]}};
		struct vring_buf in[2] = {{to, 13}, {to + 13, 9200}};
		struct vring_drv_done done;

		memset(net_guest_ptr(&g, tx->slots_iova), 0, 12);
		assert_int_equal(vring_drv_add(&rx->ring, in, 0, 2, NULL, NULL), 0);
		net_guest_kick(&g, rx);
		assert_int_equal(vring_drv_add(&tx->ring, out, 2, 0, NULL, NULL), 0);
		net_guest_kick(&g, tx);
		for (int k = 0; k < 30000 && vring_drv_get(&rx->ring, &done, 1) == 0; k++)
			net_sleep_ms(1);
		assert_int_equal(done.len, 20 + sizes[i / 4]);
		for (int k = 0; k < 30000 && vring_drv_get(&tx->ring, &done, 1) == 0; k++)
			net_sleep_ms(1);
	}
	net_guest_close(&g);
	device_del("bad");
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_rings_harm_nobody_else),
		TEST(a_ring_that_changes_while_it_is_read_harms_nobody),
		TEST(one_buffer_for_sending_and_receiving_is_the_guests_own_trouble),
	};

	if (!net_hostile_begin())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
