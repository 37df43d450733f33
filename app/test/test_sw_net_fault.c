/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net's keys order, lie_len and hang_after, as a driver sees them. */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE        (F(F_VERSION_1) | F(NET_F_MAC))
#define RX          0
#define TX          1
#define FRAME_BYTES 100
#define BURST       16 /* frames sent before the device may look */

static const uint64_t formats[] = {
	0,
	F(RING_F_EVENT_IDX),
	F(F_RING_PACKED),
	F(F_RING_PACKED) | F(RING_F_EVENT_IDX) | F(NET_F_MRG_RXBUF),
	F(NET_F_MRG_RXBUF),
};
#define NR_FORMATS (sizeof(formats) / sizeof(formats[0]))

static void
make_frame(uint8_t *frame, uint32_t bytes, uint8_t number)
{
	for (uint32_t i = 0; i < bytes; i++)
		frame[i] = (uint8_t)(number + 7 * i);
}

static void
open_guest(struct net_guest *g, const char *args, uint64_t features, uint32_t rx_bytes)
{
	struct net_guest_config config = {
		.device = "bad", .features = BASE | features, .rx_bytes = rx_bytes};

	net_device_add("bad", args);
	net_guest_open(g, &config);
}

static void
close_guest(struct net_guest *g)
{
	net_guest_close(g);
	device_del("bad");
}

/* Frames that tell by their first byte which they are. */
static void
send_burst(struct net_guest *g, uint32_t bytes, uint8_t first, unsigned int nr)
{
	uint8_t frame[2000];

	for (unsigned int i = 0; i < nr; i++) {
		make_frame(frame, bytes, first + i);
		assert_true(net_guest_send(g, 0, NET_WHOLE, NULL, frame, bytes));
	}
}

/* ---- keys ---- */

static void
keys_are_checked_and_named(void **state)
{
	static const char *const bad[] = {"order=out", "order=", "lie_len=-1", "lie_len=x",
		"lie_len=1000000001", "hang_after=-1", "hang_after=1000000001", "hang_after="};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char key[16] = "";

		memcpy(key, bad[i], strcspn(bad[i], "="));
		assert_int_equal(net_device_try_add("bad", bad[i]), -EINVAL);
		assert_non_null(strstr(vdpa_error_text(), key));
	}
}

static void
only_random_order_takes_in_order_from_the_offer(void **state)
{
	struct sw_net_args args;

	(void)state;
	assert_int_equal(sw_net_args_parse("bad", "", &args), 0);
	assert_true((args.features & F(F_IN_ORDER)) != 0);
	assert_int_equal(args.lie_bytes, 0);
	assert_int_equal(args.hang_after, SW_NET_HANG_NEVER);
	assert_int_equal(sw_net_args_parse("bad", "order=in", &args), 0);
	assert_true((args.features & F(F_IN_ORDER)) != 0);
	assert_int_equal(sw_net_args_parse("bad", "order=random,lie_len=5,hang_after=0", &args), 0);
	assert_int_equal(args.features & F(F_IN_ORDER), 0);
	assert_int_equal(args.lie_bytes, 5);
	assert_int_equal(args.hang_after, 0);
	/* not even when asked for by name */
	assert_int_equal(
		sw_net_args_parse("bad", "order=random,device_features=0x900000000", &args),
		-EINVAL);
}

/* ---- order ---- */

/* Take what comes until nr frames are there. @return those that came behind a later one */
static unsigned int
take_once_each(struct net_guest *g, uint32_t bytes, unsigned int nr)
{
	unsigned int reordered = 0;
	uint8_t got[2000], want[2000];
	bool seen[BURST] = {false};
	int highest = -1;

	for (unsigned int i = 0; i < nr; i++) {
		int number;

		assert_int_equal(net_guest_wait(g, 0, NULL, got, sizeof(got), 30000), bytes);
		number = got[0];
		assert_in_range(number, 0, nr - 1);
		make_frame(want, bytes, number);
		assert_memory_equal(got, want, bytes);
		assert_false(seen[number]);
		seen[number] = true;
		reordered += number < highest;
		highest = number > highest ? number : highest;
	}
	return reordered;
}

static unsigned int
reordered_in_rounds(const char *args, uint64_t features, uint32_t bytes, uint32_t rx_bytes)
{
	unsigned int reordered = 0;
	struct net_guest g;

	open_guest(&g, args, features, rx_bytes);
	for (int round = 0; round < 20; round++) {
		/* stopped, so that it finds all of them at once */
		assert_int_equal(net_guest_stop(&g), 0);
		assert_int_equal(g.states[TX].avail, g.states[TX].used);
		assert_int_equal(g.states[RX].avail, g.states[RX].used);
		g.base_seq++;
		send_burst(&g, bytes, 0, BURST);
		net_guest_fill(&g, 0, 64);
		assert_int_equal(net_guest_start(&g, 1), 0);
		reordered += take_once_each(&g, bytes, BURST);
	}
	net_stat_wait(g.dev, RX, "packets", 20 * BURST);
	close_guest(&g);
	return reordered;
}

static void
random_order_gives_each_buffer_back_once_with_its_frame(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NR_FORMATS; i++) {
		/* mergeable: three buffers a frame, that stay together */
		bool mergeable = (formats[i] & F(NET_F_MRG_RXBUF)) != 0;
		uint32_t bytes = mergeable ? 1100 : FRAME_BYTES;
		uint32_t rx_bytes = mergeable ? 400 : 0;

		assert_true(reordered_in_rounds("order=random", formats[i], bytes, rx_bytes) > 0);
		assert_int_equal(reordered_in_rounds("", formats[i], bytes, rx_bytes), 0);
	}
}

/* ---- lie_len ---- */

/* Used lengths as the device wrote them, before the driver clamps: whether they were too long. */
static void
take_lengths(struct net_queue *q, unsigned int nr, uint32_t len, bool clamped)
{
	struct vring_drv_done done;

	for (unsigned int i = 0; i < nr; i++) {
		for (int wait = 0; vring_drv_get(&q->ring, &done, 1) == 0; wait++) {
			assert_in_range(wait, 0, 30000);
			net_sleep_ms(1);
		}
		assert_int_equal(done.len, len);
		assert_int_equal((done.flags & VRING_DONE_CLAMPED) != 0, clamped);
	}
}

static void
lengths_are_too_long_and_a_driver_clamps_them(void **state)
{
	const uint32_t room = 9216, written = FRAME_BYTES + 12;

	(void)state;
	for (unsigned int i = 0; i < NR_FORMATS; i++) {
		uint64_t in_order = i % 2 != 0 ? F(F_IN_ORDER) : 0;
		struct net_guest g;

		open_guest(&g, "lie_len=1000", formats[i] | in_order, 0);
		send_burst(&g, FRAME_BYTES, 0, BURST);
		net_guest_fill(&g, 0, 64);
		/* within the buffer nobody can tell; there is no room in a sent one */
		take_lengths(&g.pairs[0].rx, BURST, written + 1000, false);
		take_lengths(&g.pairs[0].tx, BURST, 0, true);
		close_guest(&g);

		open_guest(&g, "lie_len=1000000000", formats[i] | in_order, 0);
		send_burst(&g, FRAME_BYTES, 0, BURST);
		net_guest_fill(&g, 0, 64);
		take_lengths(&g.pairs[0].rx, BURST, room, true);
		take_lengths(&g.pairs[0].tx, BURST, 0, true);
		close_guest(&g);
	}
}

static void
a_relayed_driver_sees_no_length_beyond_its_buffer(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2 * NR_FORMATS; i++) {
		bool in_order = i >= NR_FORMATS;
		struct net_guest g;

		open_guest(&g,
			in_order ? "lie_len=1000000000,relay=always"
				 : "lie_len=1000000000,relay=always,order=random",
			formats[i % NR_FORMATS] | (in_order ? F(F_IN_ORDER) : 0), 0);
		send_burst(&g, FRAME_BYTES, 0, BURST);
		net_guest_fill(&g, 0, 64);
		take_lengths(&g.pairs[0].rx, BURST, 9216, false);
		take_lengths(&g.pairs[0].tx, BURST, 0, false);
		close_guest(&g);
	}
}

/* ---- hang_after ---- */

static void
a_device_hangs_after_its_frames_and_stops_when_told(void **state)
{
	static const char *const args[] = {
		"hang_after=5", "hang_after=5,relay=always", "hang_after=5,delay_us=100"};

	(void)state;
	for (unsigned int i = 0; i < 3 * NR_FORMATS; i++) {
		struct net_guest_config config = {.device = "well", .features = BASE};
		uint8_t got[2000];
		struct net_guest g, well;

		open_guest(&g, args[i / NR_FORMATS], formats[i % NR_FORMATS], 0);
		net_device_add("well", "");
		net_guest_open(&well, &config);
		send_burst(&g, FRAME_BYTES, 0, BURST);
		net_guest_fill(&g, 0, 64);
		for (int k = 0; k < 5; k++)
			assert_int_equal(
				net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), FRAME_BYTES);
		/* kicked again, it does nothing; its neighbour works */
		send_burst(&g, FRAME_BYTES, 0, 4);
		for (int round = 0; round < 20; round++) {
			send_burst(&well, FRAME_BYTES, 0, 4);
			net_guest_fill(&well, 0, 64);
			for (int k = 0; k < 4; k++)
				assert_int_equal(
					net_guest_wait(&well, 0, NULL, got, sizeof(got), 30000),
					FRAME_BYTES);
		}
		assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
		net_stat_wait(g.dev, TX, "packets", 5);
		assert_int_equal(net_guest_stop(&g), 0);
		assert_int_equal(g.states[TX].avail, g.states[TX].used);
		assert_int_equal(g.states[RX].avail, g.states[RX].used);
		/* it stays as it is until it is made anew */
		g.base_seq++;
		assert_int_equal(net_guest_start(&g, 1), 0);
		assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 20), -1);
		net_stat_wait(g.dev, TX, "packets", 5);
		net_guest_close(&well);
		device_del("well");
		close_guest(&g);
	}
}

static void
frames_for_a_hung_peer_wait(void **state)
{
	struct net_guest_config left = {.device = "left", .features = BASE};
	struct net_guest_config right = {.device = "right", .features = BASE};
	struct net_guest l, r;
	uint8_t got[2000];

	(void)state;
	net_device_add("left", "backend=peer,peer=right");
	net_device_add("right", "backend=peer,peer=left,hang_after=3");
	net_guest_open(&l, &left);
	net_guest_open(&r, &right);
	net_guest_fill(&l, 0, 64);
	net_guest_fill(&r, 0, 64);
	send_burst(&l, FRAME_BYTES, 0, 10);
	for (int k = 0; k < 3; k++)
		assert_int_equal(net_guest_wait(&r, 0, NULL, got, sizeof(got), 30000), FRAME_BYTES);
	net_sleep_ms(20);
	net_stat_wait(l.dev, TX, "packets", 3);
	net_stat_wait(r.dev, RX, "packets", 3);
	/* and what it sends is another queue's */
	send_burst(&r, FRAME_BYTES, 0, 10);
	net_stat_wait(l.dev, RX, "packets", 3);
	net_guest_close(&l);
	net_guest_close(&r);
	device_del("left");
	device_del("right");
}

/* Processor time of this process. */
static uint64_t
processor_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * UINT64_C(1000000) + used.tv_nsec / 1000;
}

static void
a_worker_sleeps_beside_a_hung_device(void **state)
{
	struct net_guest g;
	uint64_t before;

	(void)state;
	open_guest(&g, "hang_after=0", 0, 0);
	net_guest_fill(&g, 0, 64);
	send_burst(&g, FRAME_BYTES, 0, BURST);
	net_sleep_ms(100);
	before = processor_us();
	net_sleep_ms(400);
	assert_in_range(processor_us() - before, 0, 200000);
	net_stat_wait(g.dev, TX, "packets", 0);
	close_guest(&g);
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keys_are_checked_and_named),
		TEST(only_random_order_takes_in_order_from_the_offer),
		TEST(random_order_gives_each_buffer_back_once_with_its_frame),
		TEST(lengths_are_too_long_and_a_driver_clamps_them),
		TEST(a_relayed_driver_sees_no_length_beyond_its_buffer),
		TEST(a_device_hangs_after_its_frames_and_stops_when_told),
		TEST(frames_for_a_hung_peer_wait),
		TEST(a_worker_sleeps_beside_a_hung_device),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
