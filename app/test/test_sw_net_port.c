/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net's backend port, on net_ring: what is sent to it comes back from it. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_net.h>

#include "net_guest.h"
#include "sw_net_port.h"

#define BASE   (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_STATUS) | F(NET_F_CSUM))
#define RX     0
#define TX     1
#define RING   "net_ring0"
#define PORT   "backend=port,port=" RING
#define ROUNDS 10

static void
plug(void)
{
	assert_int_equal(rte_eal_hotplug_add("vdev", RING, ""), 0);
}

/* As who unplugs a device should: users are told before it goes. */
static void
unplug(void)
{
	rte_dev_event_callback_process(RING, RTE_DEV_EVENT_REMOVE);
	assert_int_equal(rte_eal_hotplug_remove("vdev", RING), 0);
}

static uint16_t
port_id(void)
{
	uint16_t id = RTE_MAX_ETHPORTS;

	assert_int_equal(rte_eth_dev_get_port_by_name(RING, &id), 0);
	return id;
}

static void
fill_frame(uint8_t *frame, uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++)
		frame[i] = (seed + i) * 2654435761u >> 24;
	memset(frame, 2, 12);
	frame[12] = 0x88; /* nobody's type */
	frame[13] = 0xb5;
}

static struct rte_mempool *pool;

static struct rte_mbuf *
frame_of(const uint8_t *bytes, uint32_t len)
{
	struct vring_seg seg = {.va = (uint8_t *)(uintptr_t)bytes, .len = len};
	struct rte_mbuf *m = sw_net_mbuf_copy(pool, (struct vring_cursor){&seg, 1, 0}, len);

	assert_non_null(m);
	return m;
}

static void
open_guest(struct net_guest *g, uint64_t features, uint16_t nr_pairs)
{
	struct net_guest_config config = {
		.device = "a", .features = BASE | features, .nr_pairs = nr_pairs};

	net_guest_open(g, &config);
	net_link_wait(g, true);
}

static void
frames_come_back_to(struct net_guest *g, uint16_t pair, uint16_t to, unsigned int nr)
{
	static uint8_t frame[1518], got[9000];

	for (unsigned int i = 0; i < nr; i++) {
		uint32_t len = 60 + i * 83 % 1455;
		struct virtio_net_hdr_v1 hdr;

		fill_frame(frame, len, i);
		net_guest_fill(g, to, UINT16_MAX);
		assert_true(net_guest_send(g, pair, i % NET_SHAPES, NULL, frame, len));
		assert_int_equal(net_guest_wait(g, to, &hdr, got, sizeof(got), 30000), len);
		assert_memory_equal(got, frame, len);
		assert_int_equal(hdr.flags, 0);
		assert_int_equal(hdr.gso_type, 0);
		net_guest_reap(g, pair);
	}
}

static void
frames_come_back(struct net_guest *g, uint16_t pair, unsigned int nr)
{
	frames_come_back_to(g, pair, 0, nr);
}

static void
frames_go_to_the_ethdev_and_come_from_it(void **state)
{
	static const uint64_t formats[] = {0, F(NET_F_MRG_RXBUF), F(F_RING_PACKED),
		F(F_RING_PACKED) | F(NET_F_MRG_RXBUF) | F(F_IN_ORDER)};
	struct net_guest g;

	(void)state;
	for (int i = 0; i < 4; i++) {
		net_device_add("a", PORT);
		open_guest(&g, formats[i], 1);
		frames_come_back(&g, 0, 200);
		net_stat_wait(g.dev, TX, "packets", 200);
		net_stat_wait(g.dev, RX, "packets", 200);
		net_guest_close(&g);
		device_del("a");
	}
}

/* What is announced leaves by the ethdev, and this one brings it back. */
static void
announcement_goes_to_the_ethdev(void **state)
{
	static const uint8_t mac[ETH_ALEN] = {2, 0, 0, 0, 0, 9};
	uint8_t got[9000];
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT);
	open_guest(&g, 0, 1);
	net_guest_fill(&g, 0, UINT16_MAX);
	assert_int_equal(g.dev->ops->announce(g.dev, mac), 0);
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), ETH_ZLEN);
	for (int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(got[i], 0xff);
	assert_memory_equal(got + ETH_ALEN, mac, ETH_ALEN);
	assert_int_equal(got[12] << 8 | got[13], 0x8035);
	frames_come_back(&g, 0, 20);
	net_guest_close(&g);
	device_del("a");
}

/* Into a queue of the ethdev, past the device. */
static void
put_into_queue(uint16_t queue, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *m = frame_of(frame, len);

	assert_int_equal(rte_eth_tx_burst(port_id(), queue, &m, 1), 1);
}

static void
the_pairs_that_run_share_out_all_queues(void **state)
{
	static uint8_t frame[60], got[9000];
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT ",max_vqp=3");
	open_guest(&g, F(NET_F_MRG_RXBUF), 3);
	for (uint16_t pair = 0; pair < 3; pair++)
		frames_come_back_to(&g, pair, pair, 50);
	for (uint16_t nr_ready = 3; nr_ready > 0; nr_ready--) {
		assert_int_equal(net_guest_start(&g, nr_ready), 0);
		for (uint16_t queue = 0; queue < 3; queue++) {
			uint16_t pair = queue % nr_ready;

			fill_frame(frame, sizeof(frame), queue);
			net_guest_fill(&g, pair, UINT16_MAX);
			put_into_queue(queue, frame, sizeof(frame));
			assert_int_equal(
				net_guest_wait(&g, pair, NULL, got, sizeof(got), 30000), 60);
			assert_memory_equal(got, frame, 60);
		}
	}
	net_guest_close(&g);
	device_del("a");
}

static void
expect_frame(struct net_guest *g, uint16_t pair, uint32_t seed)
{
	static uint8_t frame[60], got[9000];

	fill_frame(frame, sizeof(frame), seed);
	assert_int_equal(net_guest_wait(g, pair, NULL, got, sizeof(got), 30000), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
}

/* So many frames that no receive buffer is there for: some are held, the others wait in queue 0. */
static void
let_frames_wait(struct net_guest *g, unsigned int nr)
{
	uint64_t nr_waits = device_stat(g->dev, RX, "rx_waits");
	static uint8_t frame[60];

	for (unsigned int i = 0; i < nr; i++) {
		fill_frame(frame, sizeof(frame), i);
		put_into_queue(0, frame, sizeof(frame));
	}
	net_stat_wait(g->dev, RX, "rx_waits", nr_waits + 1);
}

static void
expect_frames_that_waited(struct net_guest *g, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		net_guest_fill(g, 0, 1);
		expect_frame(g, 0, i);
	}
}

/* They wait for a buffer of the first pair, here and in the ethdev, while another pair comes. */
static void
frames_that_wait_outlast_a_change_of_pairs(void **state)
{
	struct net_guest_config config = {
		.device = "a", .features = BASE, .nr_pairs = 2, .nr_ready = 1};
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT ",max_vqp=2");
	net_guest_open(&g, &config);
	net_link_wait(&g, true);
	for (int change = 0; change < 4; change++) {
		let_frames_wait(&g, 50);
		if (change < 2)
			assert_int_equal(net_guest_start(&g, change == 0 ? 2 : 1), 0);
		else
			assert_int_equal(g.dev->ops->set_active_queues(g.dev, change - 1), 0);
		expect_frames_that_waited(&g, 50);
		if (change == 1)
			assert_int_equal(net_guest_start(&g, 2), 0);
	}
	net_guest_close(&g);
	device_del("a");
}

/* As long as its share is not known, whatever its former one was. */
static void
a_pair_that_starts_again_reads_no_other_ones_queue(void **state)
{
	struct vdpa_vq_state ignored;
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT ",max_vqp=2");
	open_guest(&g, 0, 2);
	/* the second pair ends with all queues of the ethdev */
	assert_int_equal(g.dev->ops->vq_stop(g.dev, 0, &ignored), 0);
	assert_int_equal(g.dev->ops->vq_stop(g.dev, 2, &ignored), 0);
	assert_int_equal(net_guest_stop(&g), 0);
	g.base_seq++;
	assert_int_equal(net_guest_start(&g, 1), 0);
	let_frames_wait(&g, 50);
	assert_int_equal(net_guest_start(&g, 2), 0);
	expect_frames_that_waited(&g, 50);
	net_guest_close(&g);
	device_del("a");
}

/* What was sent on a pair before it is active comes back on that pair, not another. */
static void
a_pair_that_becomes_active_has_its_own_answers(void **state)
{
	static uint8_t frame[60], got[9000];
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT ",max_vqp=2");
	open_guest(&g, BASE, 2);
	for (unsigned int round = 0; round < 100; round++) {
		assert_int_equal(g.dev->ops->set_active_queues(g.dev, 1), 0);
		net_guest_fill(&g, 0, UINT16_MAX);
		net_guest_fill(&g, 1, UINT16_MAX);
		for (unsigned int i = 0; i < 4; i++) {
			fill_frame(frame, sizeof(frame), i);
			assert_true(net_guest_send(&g, 1, NET_WHOLE, NULL, frame, sizeof(frame)));
		}
		assert_int_equal(g.dev->ops->set_active_queues(g.dev, 2), 0);
		for (unsigned int i = 0; i < 4; i++)
			expect_frame(&g, 1, i);
		assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
		net_guest_reap(&g, 1);
	}
	net_guest_close(&g);
	device_del("a");
}

static void
what_came_before_the_guest_is_thrown_away(void **state)
{
	static uint8_t got[9000];
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT);
	open_guest(&g, 0, 1);
	/* no receive buffers: they wait, here and in the ring */
	let_frames_wait(&g, 50);
	assert_int_equal(net_guest_stop(&g), 0);
	assert_in_range(device_stat(g.dev, RX, "drop_rx_off"), 1, SW_NET_BURST);
	g.base_seq++;
	assert_int_equal(net_guest_start(&g, 1), 0);
	net_guest_fill(&g, 0, UINT16_MAX);
	frames_come_back(&g, 0, 10);
	assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
	net_guest_close(&g);
	device_del("a");
}

static void
refused(const char *name, const char *args, int error, const char *names)
{
	assert_int_equal(net_device_try_add(name, args), error);
	if (strstr(vdpa_error_text(), names) == NULL)
		fail_msg("%s: '%s' does not name %s", args, vdpa_error_text(), names);
	assert_null(vdpa_device_find(name));
}

static void
a_bad_ethdev_is_refused_by_name(void **state)
{
	struct rte_eth_dev_owner owner = {.name = "somebody"};

	(void)state;
	refused("a", "backend=port", -EINVAL, "port=ETHDEV");
	refused("a", "port=" RING, -EINVAL, "backend=port");
	refused("a", "backend=peer,peer=b,port=" RING, -EINVAL, "backend=port");
	refused("a", "backend=port,port=net_ring9", -ENODEV, "net_ring9");
	/* another device's */
	net_device_add("b", PORT);
	refused("a", PORT, -EBUSY, "vDPA device b");
	device_del("b");
	/* a stranger's */
	assert_int_equal(rte_eth_dev_owner_new(&owner.id), 0);
	assert_int_equal(rte_eth_dev_owner_set(port_id(), &owner), 0);
	refused("a", PORT, -EBUSY, "somebody");
	assert_int_equal(rte_eth_dev_owner_unset(port_id(), owner.id), 0);
	/* and of all that nothing is left */
	net_device_add("a", PORT);
	device_del("a");
}

static void
link_follows_the_ethdev(void **state)
{
	static uint8_t frame[100];
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT);
	open_guest(&g, 0, 1);
	frames_come_back(&g, 0, 5);
	for (int i = 1; i < 4; i++) {
		rte_eth_dev_set_link_down(port_id());
		net_link_wait(&g, false);
		assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		net_stat_wait(g.dev, TX, "drop_link_down", i);
		rte_eth_dev_set_link_up(port_id());
		net_link_wait(&g, true);
		frames_come_back(&g, 0, 5);
	}
	net_guest_close(&g);
	device_del("a");
}

struct sender {
	pthread_t thread;
	struct net_guest *guest;
	bool stop;
	uint64_t nr_received;
};

static void *
send_all_the_time(void *arg)
{
	static uint8_t frame[200], got[9000];
	struct sender *s = arg;

	fill_frame(frame, sizeof(frame), 3);
	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		net_guest_fill(s->guest, 0, UINT16_MAX);
		net_guest_reap(s->guest, 0);
		net_guest_send(s->guest, 0, NET_WHOLE, NULL, frame, sizeof(frame));
		while (net_guest_receive(s->guest, 0, NULL, got, sizeof(got)) >= 0)
			__atomic_fetch_add(&s->nr_received, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void
wait_for_frames(struct sender *s)
{
	uint64_t before = __atomic_load_n(&s->nr_received, __ATOMIC_RELAXED);

	for (int i = 0; __atomic_load_n(&s->nr_received, __ATOMIC_RELAXED) < before + 100; i++) {
		assert_true(i < 30000);
		net_sleep_ms(1);
	}
}

static void
the_ethdev_is_unplugged_and_plugged_again_in_traffic(void **state)
{
	struct net_guest g;
	struct sender s = {.guest = &g};

	(void)state;
	net_device_add("a", PORT);
	open_guest(&g, F(RING_F_EVENT_IDX), 1);
	assert_int_equal(pthread_create(&s.thread, NULL, send_all_the_time, &s), 0);
	for (int i = 0; i < ROUNDS; i++) {
		wait_for_frames(&s);
		unplug();
		net_link_wait(&g, false);
		assert_int_equal(rte_eth_dev_get_port_by_name(RING, &(uint16_t){0}), -ENODEV);
		plug();
		net_link_wait(&g, true);
	}
	wait_for_frames(&s);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(s.thread, NULL);
	assert_int_equal(g.resets, 0);
	net_guest_close(&g);
	device_del("a");
}

static void
an_ethdev_that_goes_without_a_word_is_link_down(void **state)
{
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT);
	open_guest(&g, 0, 1);
	/* what it handed over goes with it */
	let_frames_wait(&g, 1);
	/* between two polls of an idle device */
	net_sleep_ms(20);
	assert_int_equal(rte_eal_hotplug_remove("vdev", RING), 0);
	net_link_wait(&g, false);
	net_stat_wait(g.dev, RX, "drop_link_down", 1);
	plug();
	net_link_wait(&g, true);
	frames_come_back(&g, 0, 5);
	net_guest_close(&g);
	device_del("a");
}

static void
a_frame_is_sent_by_hand(void **state)
{
	struct net_guest_config config = {.device = "a", .features = BASE};
	static uint8_t frame[60], got[9000];
	struct sw_net_dev *dev;
	struct net_guest g;

	(void)state;
	net_device_add("a", PORT);
	dev = (struct sw_net_dev *)vdpa_device_find("a");
	net_guest_open(&g, &config);
	net_link_wait(&g, true);
	net_guest_fill(&g, 0, 4);
	fill_frame(frame, sizeof(frame), 9);
	pthread_mutex_lock(&dev->link->lock);
	assert_int_equal(sw_net_port_send(dev, frame, sizeof(frame)), 0);
	pthread_mutex_unlock(&dev->link->lock);
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
	net_guest_close(&g);
	device_del("a");
}

/* ---- headers ---- */

static const uint8_t udp4[] = {2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0,
	64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 12, 0, 0, 'd', 'a', 't', 'a'};

static void
what_an_ethdev_says_becomes_a_header(void **state)
{
	struct virtio_net_hdr_v1 hdr, nothing = {0};
	struct rte_mbuf *m = frame_of(udp4, sizeof(udp4));
	uint16_t sum;

	(void)state;
	sw_net_mbuf_mark_received(&m);
	sw_net_mbuf_header(m, &hdr);
	assert_memory_equal(&hdr, &nothing, sizeof(hdr));
	/* as its sender marked it, or known to be wrong: the guest looks for itself */
	m->ol_flags = RTE_MBUF_F_TX_UDP_CKSUM | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_RX_L4_CKSUM_BAD;
	sw_net_mbuf_mark_received(&m);
	sw_net_mbuf_header(m, &hdr);
	assert_memory_equal(&hdr, &nothing, sizeof(hdr));
	m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	sw_net_mbuf_mark_received(&m);
	sw_net_mbuf_header(m, &hdr);
	assert_int_equal(hdr.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE;
	sw_net_mbuf_mark_received(&m);
	sw_net_mbuf_header(m, &hdr);
	assert_int_equal(hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(hdr.csum_start, 34);
	assert_int_equal(hdr.csum_offset, 6);
	memcpy(&sum, rte_pktmbuf_mtod_offset(m, uint8_t *, 40), sizeof(sum));
	/* 10.0 + 0.1 + 10.0 + 0.2 + UDP + 12 bytes */
	assert_int_equal(rte_be_to_cpu_16(sum), 0x0a00 + 1 + 0x0a00 + 2 + 17 + 12);
	/* a tag that the ethdev took out is put back */
	m->ol_flags = RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_VLAN;
	m->vlan_tci = 0x602a;
	sw_net_mbuf_mark_received(&m);
	assert_int_equal(m->pkt_len, sizeof(udp4) + 4);
	assert_memory_equal(
		rte_pktmbuf_mtod_offset(m, uint8_t *, 12), "\x81\x00\x60\x2a\x08\x00", 6);
	rte_pktmbuf_free(m);
}

static void
what_a_header_asks_for_is_marked_if_it_is_so(void **state)
{
	struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					 .csum_start = 34,
					 .csum_offset = 6},
				 got;
	struct rte_mbuf *m = frame_of(udp4, sizeof(udp4));

	(void)state;
	assert_true(sw_net_mbuf_mark(m, &hdr));
	assert_true((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM);
	assert_true((m->ol_flags & RTE_MBUF_F_TX_IPV4) != 0);
	assert_int_equal(m->l2_len, 14);
	assert_int_equal(m->l3_len, 20);
	sw_net_mbuf_header(m, &got);
	assert_memory_equal(&got, &hdr, sizeof(hdr));
	sw_net_mbuf_pseudo_sum(m, 12);
	sw_net_mbuf_complete(m, 34, 6);
	assert_int_equal(m->ol_flags, 0);
	assert_int_equal(
		rte_ipv4_udptcp_cksum_verify(rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, 14),
			rte_pktmbuf_mtod_offset(m, void *, 34)),
		0);
	hdr.csum_offset = 16; /* TCP's */
	assert_false(sw_net_mbuf_mark(m, &hdr));
	hdr.csum_offset = 6;
	hdr.csum_start = 35;
	assert_false(sw_net_mbuf_mark(m, &hdr));
	hdr.csum_start = 34;
	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = 100;
	assert_false(sw_net_mbuf_mark(m, &hdr));
	assert_int_equal(m->ol_flags, 0);
	rte_pktmbuf_free(m);
	/* headers that are cut off */
	for (uint32_t len = 14; len < 42; len++) {
		m = frame_of(udp4, len);
		hdr.gso_type = 0;
		assert_false(sw_net_mbuf_mark(m, &hdr));
		rte_pktmbuf_free(m);
	}
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_go_to_the_ethdev_and_come_from_it),
		TEST(announcement_goes_to_the_ethdev),
		TEST(the_pairs_that_run_share_out_all_queues),
		TEST(frames_that_wait_outlast_a_change_of_pairs),
		TEST(a_pair_that_starts_again_reads_no_other_ones_queue),
		TEST(a_pair_that_becomes_active_has_its_own_answers),
		TEST(what_came_before_the_guest_is_thrown_away),
		TEST(a_bad_ethdev_is_refused_by_name),
		TEST(link_follows_the_ethdev),
		TEST(the_ethdev_is_unplugged_and_plugged_again_in_traffic),
		TEST(an_ethdev_that_goes_without_a_word_is_link_down),
		TEST(a_frame_is_sent_by_hand),
		TEST(what_an_ethdev_says_becomes_a_header),
		TEST(what_a_header_asks_for_is_marked_if_it_is_so),
	};

#ifdef __SANITIZE_THREAD__
	fprintf(stderr, "an ethdev's ring is of DPDK's own build: how it hands over is not seen\n");
	return 77;
#endif
	net_eal_start(RING);
	pool = sw_net_pool_create("test", 127, RTE_PKTMBUF_HEADROOM + SW_NET_MBUF_BYTES);
	if (pool == NULL)
		return 1;
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
