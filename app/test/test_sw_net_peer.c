/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net's backend peer: two devices joined frame for frame. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_STATUS))
#define RX   0
#define TX   1

static void
add_pair(const char *more)
{
	char args[200];

	snprintf(args, sizeof(args), "backend=peer,peer=b%s", more);
	net_device_add("a", args);
	snprintf(args, sizeof(args), "backend=peer,peer=a%s", more);
	net_device_add("b", args);
}

static void
open_guest(struct net_guest *g, const char *device, uint64_t features)
{
	struct net_guest_config config = {.device = device, .features = BASE | features};

	net_guest_open(g, &config);
}

/* One frame each way. */
static void
exchange(struct net_guest *a, struct net_guest *b, uint32_t len, uint32_t seed)
{
	static uint8_t frame[9000], got[9000];

	for (int way = 0; way < 2; way++) {
		struct net_guest *from = way == 0 ? a : b, *to = way == 0 ? b : a;

		net_frame_fill(frame, len, seed + way);
		net_guest_fill(to, 0, UINT16_MAX);
		assert_true(net_guest_send(from, 0, seed % NET_SHAPES, NULL, frame, len));
		assert_int_equal(net_guest_wait(to, 0, NULL, got, sizeof(got), 30000), len);
		assert_memory_equal(got, frame, len);
	}
}

static void
frames_of_one_end_arrive_at_the_other_whatever_each_agreed(void **state)
{
	static const uint64_t formats[] = {
		0,
		F(NET_F_MRG_RXBUF) | F(RING_F_EVENT_IDX),
		F(F_RING_PACKED) | F(RING_F_INDIRECT_DESC),
		F(F_RING_PACKED) | F(F_IN_ORDER) | F(NET_F_MRG_RXBUF),
	};

	(void)state;
	for (unsigned int i = 0; i < 16; i++) {
		struct net_guest a, b;

		add_pair("");
		open_guest(&a, "a", formats[i / 4]);
		open_guest(&b, "b", formats[i % 4]);
		for (uint32_t k = 0; k < 100; k++)
			exchange(&a, &b, 60 + k * 89, k);
		net_stat_wait(a.dev, TX, "packets", 100);
		net_stat_wait(b.dev, RX, "packets", 100);
		net_stat_wait(b.dev, TX, "packets", 100);
		net_stat_wait(a.dev, RX, "packets", 100);
		net_guest_close(&a);
		net_guest_close(&b);
		device_del("a");
		device_del("b");
	}
}

static void
a_legacy_and_a_modern_driver_understand_each_other(void **state)
{
	struct net_guest_config legacy = {.device = "b", .features = 0};
	struct net_guest a, b;

	(void)state;
	add_pair("");
	open_guest(&a, "a", F(NET_F_MRG_RXBUF));
	net_guest_open(&b, &legacy);
	assert_int_equal(b.hdr_bytes, 10);
	for (uint32_t k = 0; k < 100; k++)
		exchange(&a, &b, 60 + k * 89, k);
	net_guest_close(&a);
	net_guest_close(&b);
	device_del("a");
	device_del("b");
}

static void
checksums_are_completed_only_for_the_end_that_needs_it(void **state)
{
	struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					 .csum_start = 34,
					 .csum_offset = 16},
				 got_hdr;
	uint8_t frame[100] = {0}, got[100];
	struct net_guest a, b;

	(void)state;
	add_pair("");
	open_guest(&a, "a", F(NET_F_CSUM) | F(NET_F_GUEST_CSUM));
	open_guest(&b, "b", F(NET_F_CSUM));
	net_guest_fill(&a, 0, 8);
	net_guest_fill(&b, 0, 8);
	net_frame_fill(frame, sizeof(frame), 1);
	assert_true(net_guest_send(&a, 0, NET_WHOLE, &hdr, frame, sizeof(frame)));
	assert_int_equal(net_guest_wait(&b, 0, &got_hdr, got, sizeof(got), 30000), 100);
	assert_int_equal(got_hdr.flags, 0);
	assert_true(memcmp(got, frame, sizeof(frame)) != 0);
	assert_true(net_guest_send(&b, 0, NET_WHOLE, &hdr, frame, sizeof(frame)));
	assert_int_equal(net_guest_wait(&a, 0, &got_hdr, got, sizeof(got), 30000), 100);
	assert_int_equal(got_hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_memory_equal(got, frame, sizeof(frame));
	net_guest_close(&a);
	net_guest_close(&b);
	device_del("a");
	device_del("b");
}

static void
the_link_is_up_while_the_other_end_runs(void **state)
{
	uint8_t frame[64] = {0};
	struct net_guest a, b;
	unsigned int changes;

	(void)state;
	net_device_add("a", "backend=peer,peer=b");
	open_guest(&a, "a", 0);
	net_link_wait(&a, false);
	/* nobody there: frames are completed and counted */
	assert_true(net_guest_send(&a, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(a.dev, TX, "drop_peer_down", 1);
	net_device_add("b", "backend=peer,peer=a");
	net_link_wait(&a, false);
	changes = __atomic_load_n(&a.config_changes, __ATOMIC_RELAXED);
	open_guest(&b, "b", 0);
	net_link_wait(&a, true);
	net_link_wait(&b, true);
	assert_true(__atomic_load_n(&a.config_changes, __ATOMIC_RELAXED) > changes);
	exchange(&a, &b, 200, 1);

	assert_int_equal(net_guest_stop(&b), 0);
	net_link_wait(&a, false);
	assert_true(net_guest_send(&a, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(a.dev, TX, "drop_peer_down", 2);
	b.base_seq++;
	assert_int_equal(net_guest_start(&b, 1), 0);
	net_link_wait(&a, true);
	exchange(&a, &b, 200, 2);

	net_guest_close(&b);
	device_del("b");
	net_link_wait(&a, false);
	assert_true(net_guest_send(&a, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(a.dev, TX, "drop_peer_down", 3);
	/* and it may come back */
	net_device_add("b", "backend=peer,peer=a");
	open_guest(&b, "b", F(F_RING_PACKED));
	net_link_wait(&a, true);
	exchange(&a, &b, 200, 3);
	net_guest_close(&a);
	net_link_wait(&b, false);
	device_del("a");
	net_guest_close(&b);
	device_del("b");
}

static void
frames_wait_for_a_running_receiver_without_buffers(void **state)
{
	uint8_t frame[100], got[100];
	struct net_guest a, b;

	(void)state;
	add_pair("");
	open_guest(&a, "a", 0);
	open_guest(&b, "b", F(RING_F_EVENT_IDX));
	for (int i = 0; i < 60; i++) {
		net_frame_fill(frame, sizeof(frame), i);
		assert_true(net_guest_send(&a, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	}
	net_sleep_ms(30);
	net_stat_wait(a.dev, TX, "packets", 0);
	for (int i = 0; i < 60; i++) {
		net_guest_fill(&b, 0, 1);
		assert_int_equal(net_guest_wait(&b, 0, NULL, got, sizeof(got), 30000), 100);
		net_frame_fill(frame, sizeof(frame), i);
		assert_memory_equal(got, frame, sizeof(frame));
	}
	net_stat_wait(a.dev, TX, "packets", 60);
	assert_int_equal(
		device_stat(a.dev, TX, "drop_rx_off") + device_stat(a.dev, TX, "drop_peer_down"),
		0);
	net_guest_close(&a);
	net_guest_close(&b);
	device_del("a");
	device_del("b");
}

static void
ends_with_different_numbers_of_pairs_share_what_both_have(void **state)
{
	struct net_guest_config config_a = {.device = "a", .features = BASE, .nr_pairs = 3};
	struct net_guest_config config_b = {
		.device = "b", .features = BASE, .nr_pairs = 2, .nr_ready = 1};
	uint8_t frame[64], got[64];
	struct net_guest a, b;

	(void)state;
	net_device_add("a", "backend=peer,peer=b,max_vqp=3");
	net_device_add("b", "backend=peer,peer=a,max_vqp=2");
	net_guest_open(&a, &config_a);
	net_guest_open(&b, &config_b);
	exchange(&a, &b, 100, 1);
	/* a pair that the other has not started, and one that it does not have */
	assert_true(net_guest_send(&a, 1, NET_WHOLE, NULL, frame, sizeof(frame)));
	assert_true(net_guest_send(&a, 2, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(a.dev, 3, "drop_rx_off", 1);
	net_stat_wait(a.dev, 5, "drop_rx_off", 1);
	assert_int_equal(net_guest_start(&b, 2), 0);
	net_guest_fill(&b, 1, 4);
	net_frame_fill(frame, sizeof(frame), 7);
	assert_true(net_guest_send(&a, 1, NET_WHOLE, NULL, frame, sizeof(frame)));
	assert_int_equal(net_guest_wait(&b, 1, NULL, got, sizeof(got), 30000), 64);
	assert_memory_equal(got, frame, sizeof(frame));
	assert_int_equal(net_guest_start(&b, 1), 0);
	assert_true(net_guest_send(&a, 1, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(a.dev, 3, "drop_rx_off", 2);
	net_guest_close(&a);
	net_guest_close(&b);
	device_del("a");
	device_del("b");
}

static void
refused(const char *name, const char *args, int error, const char *names)
{
	assert_int_equal(net_device_try_add(name, args), error);
	if (strstr(vdpa_error_text(), names) == NULL)
		fail_msg("%s,%s: '%s' does not name %s", name, args, vdpa_error_text(), names);
	/* b is there before in some cases */
	if (strcmp(name, "b") != 0)
		assert_null(vdpa_device_find(name));
}

static void
a_third_device_and_a_device_itself_are_refused(void **state)
{
	(void)state;
	refused("a", "backend=peer,peer=a", -EINVAL, "peer=a");
	net_device_add("a", "backend=peer,peer=b");
	refused("c", "backend=peer,peer=a", -EBUSY, "peer=a");
	refused("c", "backend=peer,peer=b", -EBUSY, "peer=b");
	refused("b", "backend=peer,peer=c", -EBUSY, "a");
	refused("b", "backend=loopback", -EBUSY, "peer=a");
	net_device_add("b", "backend=peer,peer=a");
	refused("c", "backend=peer,peer=b", -EBUSY, "peer=b");
	refused("b", "backend=peer,peer=a", -EEXIST, "b");
	device_del("a");
	/* b waits for a, and for nobody else */
	refused("a", "backend=peer,peer=c", -EBUSY, "b");
	device_del("b");
	net_device_add("l", "");
	refused("a", "backend=peer,peer=l", -EBUSY, "peer=l");
	device_del("l");
	/* nothing of all this is left */
	net_device_add("a", "backend=peer,peer=c");
	net_device_add("b", "");
	device_del("a");
	device_del("b");
}

struct receiver {
	pthread_t thread;
	struct net_guest *guest;
	unsigned int nr_frames, nr_bad;
	unsigned int last;
	bool stop;
};

static void *
receive(void *arg)
{
	struct receiver *r = arg;
	uint8_t frame[1000], want[1000];

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint32_t seed;
		int len;

		net_guest_fill(r->guest, 0, UINT16_MAX);
		len = net_guest_wait(r->guest, 0, NULL, frame, sizeof(frame), 1);
		if (len < 0)
			continue;
		memcpy(&seed, frame, sizeof(seed));
		net_frame_fill(want, sizeof(want), seed);
		memcpy(want, &seed, sizeof(seed));
		r->nr_bad += len != 1000 || memcmp(frame, want, len) != 0 || seed <= r->last;
		r->last = seed;
		r->nr_frames++;
	}
	return NULL;
}

static void
an_end_may_come_and_go_under_load(void **state)
{
	struct receiver r = {0};
	struct net_guest a, b;
	uint8_t frame[1000];
	uint32_t seed = 0;
	uint64_t sent = 0, arrived = 0;

	(void)state;
	net_device_add("a", "backend=peer,peer=b");
	open_guest(&a, "a", 0);
	for (int round = 0; round < 12; round++) {
		net_device_add("b", "backend=peer,peer=a");
		open_guest(&b, "b", round % 2 ? F(F_RING_PACKED) : F(NET_F_MRG_RXBUF));
		r = (struct receiver){.guest = &b, .last = 0};
		assert_int_equal(pthread_create(&r.thread, NULL, receive, &r), 0);
		for (int i = 0; i < 30000; i++) {
			seed++;
			net_frame_fill(frame, sizeof(frame), seed);
			memcpy(frame, &seed, sizeof(seed));
			for (int k = 0; !net_guest_send(
				     &a, 0, seed % NET_SHAPES, NULL, frame, sizeof(frame));
				k++) {
				assert_true(k < 30000);
				net_sleep_ms(1);
			}
			sent++;
			/* the receiver disappears with frames under way */
			if (i != 2500)
				continue;
			__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
			pthread_join(r.thread, NULL);
			assert_int_equal(r.nr_bad, 0);
			assert_true(r.nr_frames > 1500);
			if (round % 3 == 0)
				assert_int_equal(net_guest_stop(&b), 0);
			vdpa_session_close(b.session);
			/* its last word; then the device goes */
			net_link_wait(&a, false);
			arrived += device_stat(b.dev, RX, "packets");
			net_guest_end(&b);
			device_del("b");
		}
	}
	net_stat_wait(a.dev, TX, "packets", sent);
	/* each frame went to the other end, or found that it was down */
	assert_int_equal(device_stat(a.dev, TX, "drop_peer_down") + arrived, sent);
	net_stat_wait(a.dev, TX, "drop_rx_off", 0);
	net_guest_close(&a);
	device_del("a");
}

static void
a_guest_is_announced_to_the_other_end(void **state)
{
	static const uint64_t formats[] = {0, F(NET_F_MRG_RXBUF), F(F_RING_PACKED)};
	/* a RARP request of 02:00:00:00:00:07 for itself, RFC 903 */
	static const uint8_t wanted[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7,
		0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 2, 0, 0, 0, 0, 7};
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7}, group[6] = {3, 0, 0, 0, 0, 7}, zero[6];
	uint8_t got[9000];

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct net_guest a, b;

		add_pair("");
		open_guest(&a, "a", 0);
		/* the other end runs nobody yet */
		assert_int_equal(vdpa_session_announce(a.session, mac), 0);
		assert_int_equal(vdpa_session_sync(a.session, 30000), 0);
		open_guest(&b, "b", formats[i]);
		net_link_wait(&a, true);
		exchange(&a, &b, 200, i);
		net_guest_fill(&b, 0, UINT16_MAX);
		for (unsigned int k = 0; k < 3; k++) {
			assert_int_equal(vdpa_session_announce(a.session, mac), 0);
			assert_int_equal(net_guest_wait(&b, 0, NULL, got, sizeof(got), 30000), 60);
			assert_memory_equal(got, wanted, sizeof(wanted));
		}
		net_stat_wait(b.dev, RX, "packets", 4);
		assert_int_equal(vdpa_session_announce(a.session, group), -EINVAL);
		assert_int_equal(vdpa_session_announce(a.session, zero), -EINVAL);
		/* it hears nothing of its own */
		exchange(&a, &b, 300, i);
		net_guest_close(&a);
		net_guest_close(&b);
		device_del("a");
		device_del("b");
	}
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_of_one_end_arrive_at_the_other_whatever_each_agreed),
		TEST(a_legacy_and_a_modern_driver_understand_each_other),
		TEST(checksums_are_completed_only_for_the_end_that_needs_it),
		TEST(the_link_is_up_while_the_other_end_runs),
		TEST(frames_wait_for_a_running_receiver_without_buffers),
		TEST(ends_with_different_numbers_of_pairs_share_what_both_have),
		TEST(a_guest_is_announced_to_the_other_end),
		TEST(a_third_device_and_a_device_itself_are_refused),
		TEST(an_end_may_come_and_go_under_load),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
