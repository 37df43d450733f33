/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net's datapath: loopback and null, through the class and its workers, seen from a driver. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE (F(F_VERSION_1) | F(NET_F_MAC))
#define RX   0
#define TX   1

/* Send frames of these sizes, in all shapes, through a loopback; none may be lost or changed. */
static void
pump(struct net_guest *g, uint16_t pair, const uint32_t *sizes, unsigned int nr_sizes,
	unsigned int nr_frames)
{
	static uint8_t sent[66000], got[66000];
	unsigned int out = 0, in = 0;
	uint64_t until = net_now_us() + 20000000;

	while (in < nr_frames && net_now_us() < until) {
		struct virtio_net_hdr_v1 hdr;
		int len;

		while (out < nr_frames && out - in < 200) {
			uint32_t size = sizes[out % nr_sizes];

			net_frame_fill(sent, size, out);
			if (!net_guest_send(g, pair, out / nr_sizes % NET_SHAPES, NULL, sent, size))
				break;
			out++;
		}
		net_guest_fill(g, pair, UINT16_MAX);
		/* a frame is back before its buffer is: there may be no room for another yet */
		if (in == out) {
			net_sleep_ms(1);
			continue;
		}
		len = net_guest_wait(g, pair, &hdr, got, sizeof(got), 30000);
		for (; len >= 0; len = net_guest_receive(g, pair, &hdr, got, sizeof(got))) {
			uint32_t size = sizes[in % nr_sizes];

			net_frame_fill(sent, size, in);
			assert_int_equal(len, size);
			assert_memory_equal(got, sent, size);
			assert_int_equal(hdr.flags, 0);
			assert_int_equal(hdr.gso_type, 0);
			in++;
		}
	}
	assert_int_equal(in, nr_frames);
	for (int i = 0; i < 30000 && g->pairs[pair].tx.nr_free < g->config.ring_size; i++) {
		net_guest_reap(g, pair);
		net_sleep_ms(1);
	}
	assert_int_equal(g->pairs[pair].tx.nr_free, g->config.ring_size);
}

static uint64_t
sum_sizes(const uint32_t *sizes, unsigned int nr_sizes, unsigned int nr_frames)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < nr_frames; i++)
		sum += sizes[i % nr_sizes];
	return sum;
}

static void
assert_drops(struct vdpa_device *dev, uint16_t index, uint64_t drops)
{
	uint64_t sum = 0;

	for (int i = 0; dev->ops->vq_stat_names[i] != NULL; i++)
		if (strncmp(dev->ops->vq_stat_names[i], "drop_", 5) == 0)
			sum += device_stat(dev, index, dev->ops->vq_stat_names[i]);
	assert_int_equal(sum, drops);
}

static const uint32_t all_sizes[] = {
	64, 60, 65, 76, 127, 128, 129, 512, 1514, 2048, 4097, 9000, 14};

static void
loopback_returns_every_frame_unchanged_in_every_ring_format(void **state)
{
	static const uint64_t formats[] = {
		0,
		F(RING_F_EVENT_IDX),
		F(RING_F_INDIRECT_DESC) | F(RING_F_EVENT_IDX),
		F(F_IN_ORDER),
		F(F_RING_PACKED),
		F(F_RING_PACKED) | F(RING_F_EVENT_IDX),
		F(F_RING_PACKED) | F(RING_F_INDIRECT_DESC) | F(F_IN_ORDER),
		F(F_RING_PACKED) | F(RING_F_INDIRECT_DESC) | F(F_IN_ORDER) | F(RING_F_EVENT_IDX),
	};
	const unsigned int nr_frames = 2600;

	(void)state;
	for (unsigned int i = 0; i < 2 * sizeof(formats) / sizeof(formats[0]); i++) {
		bool mergeable = i % 2 != 0;
		struct net_guest_config config = {
			.device = "lo",
			.features = BASE | formats[i / 2] | (mergeable ? F(NET_F_MRG_RXBUF) : 0),
			.ring_size = 64,
			.rx_bytes = mergeable ? 700 : 9100,
		};
		struct net_guest g;
		struct vdpa_device *dev;

		net_device_add("lo", "");
		net_guest_open(&g, &config);
		dev = g.dev;
		pump(&g, 0, all_sizes, 13, nr_frames);
		assert_int_equal(net_guest_stop(&g), 0);
		net_stat_wait(dev, TX, "packets", nr_frames);
		net_stat_wait(dev, RX, "packets", nr_frames);
		assert_int_equal(
			device_stat(dev, TX, "bytes"), sum_sizes(all_sizes, 13, nr_frames));
		assert_int_equal(
			device_stat(dev, RX, "bytes"), sum_sizes(all_sizes, 13, nr_frames));
		assert_drops(dev, TX, 0);
		assert_drops(dev, RX, 0);
		net_guest_close(&g);
		device_del("lo");
	}
}

static void
a_legacy_driver_has_a_header_of_ten_bytes(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = F(F_ANY_LAYOUT)};
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	assert_int_equal(g.hdr_bytes, 10);
	pump(&g, 0, all_sizes, 13, 500);
	net_guest_close(&g);
	config.features |= F(NET_F_MRG_RXBUF);
	config.rx_bytes = 300;
	net_guest_open(&g, &config);
	assert_int_equal(g.hdr_bytes, 12);
	pump(&g, 0, all_sizes, 13, 500);
	net_guest_close(&g);
	device_del("lo");
}

static void
pairs_do_not_mix(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE, .nr_pairs = 4};
	uint8_t frame[64], got[64];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "max_vqp=4");
	net_guest_open(&g, &config);
	for (uint16_t pair = 0; pair < 4; pair++) {
		net_guest_fill(&g, pair, 32);
		for (int i = 0; i < 20; i++) {
			net_frame_fill(frame, sizeof(frame), pair * 100 + i);
			assert_true(
				net_guest_send(&g, pair, NET_WHOLE, NULL, frame, sizeof(frame)));
		}
	}
	for (uint16_t pair = 0; pair < 4; pair++) {
		for (int i = 0; i < 20; i++) {
			net_frame_fill(frame, sizeof(frame), pair * 100 + i);
			assert_int_equal(
				net_guest_wait(&g, pair, NULL, got, sizeof(got), 30000), 64);
			assert_memory_equal(got, frame, sizeof(frame));
		}
		assert_int_equal(net_guest_receive(&g, pair, NULL, got, sizeof(got)), -1);
	}
	net_guest_close(&g);
	device_del("lo");
}

static void
without_receive_buffers_frames_wait_and_a_kick_moves_them(void **state)
{
	static const uint64_t formats[] = {
		0, F(RING_F_EVENT_IDX), F(F_RING_PACKED), F(F_RING_PACKED) | F(RING_F_EVENT_IDX)};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct net_guest_config config = {.device = "lo", .features = BASE | formats[i]};
		uint8_t frame[100], got[100];
		struct net_guest g;

		net_device_add("lo", "");
		net_guest_open(&g, &config);
		for (int k = 0; k < 10; k++) {
			net_frame_fill(frame, sizeof(frame), k);
			assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		}
		/* long enough for the worker to fall asleep */
		net_sleep_ms(30);
		net_stat_wait(g.dev, RX, "rx_waits", 1);
		assert_int_equal(net_guest_reap(&g, 0), 0);
		net_stat_wait(g.dev, TX, "packets", 0);
		assert_int_equal(net_guest_fill(&g, 0, 3), 3);
		net_stat_wait(g.dev, TX, "packets", 3);
		net_sleep_ms(30);
		net_stat_wait(g.dev, TX, "packets", 3);
		net_guest_fill(&g, 0, 20);
		for (int k = 0; k < 10; k++) {
			net_frame_fill(frame, sizeof(frame), k);
			assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 100);
			assert_memory_equal(got, frame, sizeof(frame));
		}
		assert_drops(g.dev, TX, 0);
		/* and the flow hears of transmit kicks again */
		net_sleep_ms(30);
		assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 100);
		net_guest_close(&g);
		device_del("lo");
	}
}

static void
a_mergeable_frame_waits_until_all_its_buffers_are_there(void **state)
{
	struct net_guest_config config = {
		.device = "lo",
		.features = BASE | F(NET_F_MRG_RXBUF) | F(RING_F_EVENT_IDX),
		.rx_bytes = 1000,
	};
	static uint8_t frame[5000], got[5000];
	struct virtio_net_hdr_v1 hdr;
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_frame_fill(frame, sizeof(frame), 1);
	assert_true(net_guest_send(&g, 0, NET_SCATTERED, NULL, frame, sizeof(frame)));
	net_guest_fill(&g, 0, 5);
	net_sleep_ms(20);
	assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
	net_guest_fill(&g, 0, 1);
	assert_int_equal(net_guest_wait(&g, 0, &hdr, got, sizeof(got), 30000), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
	assert_int_equal(hdr.num_buffers, 6);
	net_guest_close(&g);
	device_del("lo");
}

static void
a_frame_that_no_buffer_can_hold_is_dropped_and_counted(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE, .rx_bytes = 1000};
	static uint8_t frame[9000], got[9000];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 10);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, 989)); /* with header 1001 */
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, 988));
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 988);
	net_stat_wait(g.dev, TX, "drop_too_big", 1);
	net_stat_wait(g.dev, TX, "packets", 2);
	net_stat_wait(g.dev, RX, "packets", 1);
	net_guest_close(&g);

	/* mergeable: all buffers of the ring together are too small */
	config.features |= F(NET_F_MRG_RXBUF);
	config.ring_size = 8;
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 8);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, 8000));
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, 7988));
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 7988);
	net_stat_wait(g.dev, TX, "drop_too_big", 2);
	net_guest_close(&g);
	device_del("lo");
}

static void
a_frame_beyond_64_kib_is_dropped_and_one_of_64_kib_passes(void **state)
{
	struct net_guest_config config = {
		.device = "lo",
		.features = BASE | F(NET_F_MRG_RXBUF),
		.ring_size = 128,
		.rx_bytes = 2000,
		.tx_bytes = 70000,
	};
	static uint8_t frame[70000], got[70000];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 100);
	net_frame_fill(frame, sizeof(frame), 5);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, SW_NET_FRAME_MAX + 1));
	assert_true(net_guest_send(&g, 0, NET_SCATTERED, NULL, frame, SW_NET_FRAME_MAX));
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), SW_NET_FRAME_MAX);
	assert_memory_equal(got, frame, SW_NET_FRAME_MAX);
	net_stat_wait(g.dev, TX, "drop_too_big", 1);
	net_guest_close(&g);
	device_del("lo");
}

static void
null_takes_every_frame_and_counts_it(void **state)
{
	struct net_guest_config config = {.device = "nul", .features = BASE, .nr_pairs = 2};
	uint8_t frame[200] = {0};
	struct net_guest g;

	(void)state;
	net_device_add("nul", "backend=null,max_vqp=2");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 1, 10);
	for (int i = 0; i < 500; i++)
		while (!net_guest_send(&g, 1, i % NET_SHAPES, NULL, frame, sizeof(frame)))
			net_sleep_ms(1);
	net_stat_wait(g.dev, 3, "packets", 500);
	net_stat_wait(g.dev, 3, "bytes", 500 * 200);
	net_stat_wait(g.dev, 3, "drop_null", 500);
	assert_drops(g.dev, 3, 500);
	net_stat_wait(g.dev, 2, "packets", 0);
	assert_int_equal(net_guest_receive(&g, 1, NULL, frame, sizeof(frame)), -1);
	net_guest_close(&g);
	device_del("nul");
}

/* ---- headers ---- */

static void
headers_of_offloads_that_were_not_agreed_do_no_harm(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE};
	struct virtio_net_hdr_v1 hdr = {.flags = 0xff,
		.csum_start = 60000,
		.csum_offset = 60000,
		.hdr_len = 0xffff,
		.gso_size = 0xffff,
		.num_buffers = 999};
	uint8_t frame[100], got[200];
	struct virtio_net_hdr_v1 got_hdr;
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 20);
	net_frame_fill(frame, sizeof(frame), 1);
	/* flags nobody agreed to are ignored, and nothing of the header goes on */
	for (int shape = 0; shape < NET_SHAPES; shape++) {
		assert_true(net_guest_send(&g, 0, shape, &hdr, frame, sizeof(frame)));
		assert_int_equal(net_guest_wait(&g, 0, &got_hdr, got, sizeof(got), 30000), 100);
		assert_memory_equal(got, frame, sizeof(frame));
		assert_int_equal(got_hdr.flags | got_hdr.csum_start | got_hdr.csum_offset, 0);
		assert_int_equal(got_hdr.hdr_len | got_hdr.gso_size, 0);
		assert_int_equal(got_hdr.num_buffers, 1);
	}
	for (unsigned int gso = 1; gso < 256; gso++) {
		hdr.gso_type = gso;
		while (!net_guest_send(&g, 0, gso % NET_SHAPES, &hdr, frame, sizeof(frame)))
			net_sleep_ms(1);
	}
	net_stat_wait(g.dev, TX, "drop_gso", 255);
	/* frames without room for an Ethernet header */
	for (uint32_t len = 0; len < SW_NET_FRAME_MIN; len++)
		assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, len));
	net_stat_wait(g.dev, TX, "drop_header", SW_NET_FRAME_MIN);
	assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
	net_stat_wait(g.dev, RX, "packets", NET_SHAPES);
	net_stat_wait(g.dev, TX, "packets", NET_SHAPES + 255 + SW_NET_FRAME_MIN);
	net_guest_close(&g);
	device_del("lo");
}

/* RFC 1071, the plain way: bytes in network order. */
static uint16_t
reference_checksum(const uint8_t *data, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum += i % 2 == 0 ? data[i] << 8 : data[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static void
an_unfinished_checksum_is_completed_for_a_receiver_that_did_not_agree(void **state)
{
	struct net_guest_config config = {
		.device = "lo",
		.features = BASE | F(NET_F_CSUM) | F(NET_F_MRG_RXBUF),
		.rx_bytes = 301, /* odd, so that pieces begin at odd bytes */
	};
	uint8_t frame[1514], got[1514];
	struct net_guest g;
	unsigned int nr = 0;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	for (uint32_t len = 60; len <= 1514; len += 53) {
		for (uint32_t start = 14; start < 60; start += 5) {
			struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				.csum_start = start,
				.csum_offset = nr % 2 ? 16 : 6};
			uint32_t at = start + hdr.csum_offset;
			uint16_t want;

			if (at + 2 > len)
				continue;
			net_frame_fill(frame, len, nr);
			net_guest_fill(&g, 0, 64);
			assert_true(net_guest_send(&g, 0, nr % NET_SHAPES, &hdr, frame, len));
			assert_int_equal(net_guest_wait(&g, 0, &hdr, got, sizeof(got), 30000), len);
			assert_int_equal(hdr.flags, 0);
			assert_int_equal(hdr.csum_start | hdr.csum_offset, 0);
			want = reference_checksum(frame + start, len - start);
			if (want == 0)
				want = 0xffff;
			frame[at] = want >> 8;
			frame[at + 1] = want;
			assert_memory_equal(got, frame, len);
			nr++;
		}
	}
	net_stat_wait(g.dev, TX, "csum_done", nr);
	assert_true(nr > 200);
	net_guest_close(&g);
	device_del("lo");
}

static void
a_checksum_of_zero_is_written_as_all_ones(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE | F(NET_F_CSUM)};
	struct virtio_net_hdr_v1 hdr = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	uint8_t frame[60] = {0}, got[60];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 4);
	frame[34] = 0xff; /* sums up to 0xffff */
	frame[35] = 0xff;
	assert_true(net_guest_send(&g, 0, NET_WHOLE, &hdr, frame, sizeof(frame)));
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 60);
	assert_int_equal(got[40], 0xff);
	assert_int_equal(got[41], 0xff);
	net_guest_close(&g);
	device_del("lo");
}

static void
an_unfinished_checksum_passes_to_a_receiver_that_agreed(void **state)
{
	struct net_guest_config config = {
		.device = "lo",
		.features = BASE | F(NET_F_CSUM) | F(NET_F_GUEST_CSUM),
	};
	struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 16,
		.hdr_len = 54};
	uint8_t frame[100], got[100];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	net_guest_fill(&g, 0, 4);
	net_frame_fill(frame, sizeof(frame), 9);
	assert_true(net_guest_send(&g, 0, NET_SPLIT, &hdr, frame, sizeof(frame)));
	memset(&hdr, 0, sizeof(hdr));
	assert_int_equal(net_guest_wait(&g, 0, &hdr, got, sizeof(got), 30000), 100);
	assert_memory_equal(got, frame, sizeof(frame));
	assert_int_equal(hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(hdr.csum_start, 34);
	assert_int_equal(hdr.csum_offset, 16);
	net_stat_wait(g.dev, TX, "csum_done", 0);
	net_guest_close(&g);
	device_del("lo");
}

static void
checksum_offsets_outside_the_frame_are_dropped(void **state)
{
	static const uint16_t cases[][2] = {{99, 0}, {0, 99}, {98, 1}, {100, 0}, {0xffff, 0},
		{0, 0xffff}, {0xffff, 0xffff}, {0xfffe, 3}, {50, 49}};
	uint64_t features[] = {BASE | F(NET_F_CSUM), BASE | F(NET_F_CSUM) | F(NET_F_GUEST_CSUM)};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct net_guest_config config = {.device = "lo", .features = features[i]};
		uint8_t frame[100] = {0}, got[100];
		struct net_guest g;

		net_device_add("lo", "");
		net_guest_open(&g, &config);
		net_guest_fill(&g, 0, 20);
		for (unsigned int k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
			struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				.csum_start = cases[k][0],
				.csum_offset = cases[k][1]};

			assert_true(
				net_guest_send(&g, 0, k % NET_SHAPES, &hdr, frame, sizeof(frame)));
		}
		net_stat_wait(g.dev, TX, "drop_csum", sizeof(cases) / sizeof(cases[0]));
		assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
		net_guest_close(&g);
		device_del("lo");
	}
}

/* ---- bad rings ---- */

static void
wait_degraded(struct net_guest *g)
{
	struct vdpa_device_status status;

	for (int i = 0; i < 30000; i++) {
		vdpa_device_status_get(g->dev, &status);
		if (status.health == VDPA_HEALTH_DEGRADED && status.nr_vqs_running == 3)
			break;
		net_sleep_ms(1);
	}
	assert_int_equal(status.health, VDPA_HEALTH_DEGRADED);
	assert_int_equal(status.nr_vqs_running, 3);
	assert_true(__atomic_load_n(&g->resets, __ATOMIC_RELAXED) >= 1);
}

static void
a_broken_queue_stops_and_its_neighbour_goes_on(void **state)
{
	enum {
		TX_OUTSIDE,
		RX_OUTSIDE,
		TX_WRITABLE,
		RX_READABLE,
		NR_CASES
	};

	(void)state;
	for (int kind = 0; kind < 2 * NR_CASES; kind++) {
		struct net_guest_config config = {
			.device = "lo",
			.features = BASE | (kind >= NR_CASES ? F(F_RING_PACKED) : 0),
			.nr_pairs = 2,
		};
		struct vdpa_device_status status;
		struct vring_buf bad = {0, 1000};
		uint8_t frame[100] = {0};
		struct net_queue *q;
		struct net_guest g;
		bool rx;

		net_device_add("lo", "max_vqp=2");
		net_guest_open(&g, &config);
		pump(&g, 0, all_sizes, 13, 50);
		pump(&g, 1, all_sizes, 13, 50);
		rx = kind % NR_CASES == RX_OUTSIDE || kind % NR_CASES == RX_READABLE;
		q = rx ? &g.pairs[0].rx : &g.pairs[0].tx;
		if (kind % NR_CASES >= TX_WRITABLE)
			bad.iova = q->slots_iova;
		if (rx) {
			/* behind what is there already */
			while (q->nr_free > 1)
				assert_int_equal(net_guest_fill(&g, 0, 1), 1);
		}
		if (kind % NR_CASES == TX_WRITABLE || kind % NR_CASES == RX_OUTSIDE)
			assert_int_equal(vring_drv_add(&q->ring, &bad, 0, 1, NULL, NULL), 0);
		else
			assert_int_equal(vring_drv_add(&q->ring, &bad, 1, 0, NULL, NULL), 0);
		net_guest_kick(&g, q);
		for (int i = 0; rx && i < 64; i++) {
			if (!net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)))
				net_sleep_ms(1);
		}
		wait_degraded(&g);
		vdpa_device_status_get(g.dev, &status);
		assert_non_null(strstr(status.last_error, rx ? "virtqueue 0" : "virtqueue 1"));
		pump(&g, 1, all_sizes, 13, 200);
		if (rx) {
			/* its frames have nowhere to go */
			assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
			for (int i = 0; i < 30000 && device_stat(g.dev, TX, "drop_rx_off") == 0;
				i++)
				net_sleep_ms(1);
			assert_true(device_stat(g.dev, TX, "drop_rx_off") > 0);
		}
		net_guest_close(&g);
		device_del("lo");
	}
}

/* ---- while running ---- */

static void
a_stop_and_a_start_lose_and_repeat_nothing(void **state)
{
	static const uint64_t formats[] = {F(NET_F_MRG_RXBUF), F(F_RING_PACKED), F(F_IN_ORDER)};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct net_guest_config config = {.device = "lo", .features = BASE | formats[i]};
		uint8_t frame[64], got[64];
		struct net_guest g;
		unsigned int out = 0, in = 0;

		net_device_add("lo", "");
		net_guest_open(&g, &config);
		for (int round = 0; round < 40; round++) {
			for (int k = 0; k < 25; k++, out++) {
				net_frame_fill(frame, sizeof(frame), out);
				assert_true(net_guest_send(
					&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
			}
			net_guest_fill(&g, 0, round % 3 == 0 ? 10 : 64);
			assert_int_equal(net_guest_stop(&g), 0);
			assert_int_equal(g.states[TX].avail, g.states[TX].used);
			g.base_seq++;
			net_guest_fill(&g, 0, 64);
			assert_int_equal(net_guest_start(&g, 1), 0);
			for (; in < out; in++) {
				assert_int_equal(
					net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 64);
				net_frame_fill(frame, sizeof(frame), in);
				assert_memory_equal(got, frame, sizeof(frame));
			}
			assert_int_equal(net_guest_receive(&g, 0, NULL, got, sizeof(got)), -1);
		}
		net_stat_wait(g.dev, TX, "packets", out);
		net_guest_close(&g);
		device_del("lo");
	}
}

static void
a_pair_starts_and_stops_while_another_runs(void **state)
{
	struct net_guest_config config = {
		.device = "lo", .features = BASE, .nr_pairs = 2, .nr_ready = 1};
	struct vdpa_device_status status;
	struct net_guest g;

	(void)state;
	net_device_add("lo", "max_vqp=2");
	net_guest_open(&g, &config);
	pump(&g, 0, all_sizes, 13, 100);
	assert_int_equal(net_guest_start(&g, 2), 0);
	pump(&g, 1, all_sizes, 13, 100);
	pump(&g, 0, all_sizes, 13, 100);
	assert_int_equal(net_guest_start(&g, 1), 0);
	pump(&g, 0, all_sizes, 13, 100);
	assert_int_equal(net_guest_start(&g, 2), 0);
	pump(&g, 1, all_sizes, 13, 100);
	vdpa_device_status_get(g.dev, &status);
	assert_int_equal(status.starts, 1);
	net_guest_close(&g);
	device_del("lo");
}

static void
inactive_pairs_are_left_alone(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE, .nr_pairs = 2};
	uint8_t frame[64], got[64];
	struct net_guest g;

	(void)state;
	net_device_add("lo", "max_vqp=2");
	net_guest_open(&g, &config);
	pump(&g, 1, all_sizes, 13, 100);
	/* as the class does for a driver's command; nothing else calls ops now */
	assert_int_equal(g.dev->ops->set_active_queues(g.dev, 1), 0);
	net_frame_fill(frame, sizeof(frame), 3);
	net_guest_fill(&g, 1, 64);
	assert_true(net_guest_send(&g, 1, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_sleep_ms(20);
	assert_int_equal(net_guest_reap(&g, 1), 0);
	pump(&g, 0, all_sizes, 13, 100);
	assert_int_equal(g.dev->ops->set_active_queues(g.dev, 2), 0);
	assert_int_equal(net_guest_wait(&g, 1, NULL, got, sizeof(got), 30000), 64);
	assert_memory_equal(got, frame, sizeof(frame));
	assert_drops(g.dev, 3, 0);
	net_guest_close(&g);
	device_del("lo");
}

static void
memory_may_move_under_a_running_device(void **state)
{
	struct net_guest_config config = {.device = "lo", .features = BASE, .shared = true};
	struct vdpa_device_status status;
	struct net_guest g;

	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("ThreadSanitizer does not know that two addresses are one memory\n");
	skip();
#endif
	net_device_add("lo", "");
	net_guest_open(&g, &config);
	pump(&g, 0, all_sizes, 13, 300);
	net_guest_remap(&g);
	pump(&g, 0, all_sizes, 13, 300);
	vdpa_device_status_get(g.dev, &status);
	assert_int_equal(status.starts, 1);
	net_guest_close(&g);
	device_del("lo");
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(loopback_returns_every_frame_unchanged_in_every_ring_format),
		TEST(a_legacy_driver_has_a_header_of_ten_bytes),
		TEST(pairs_do_not_mix),
		TEST(without_receive_buffers_frames_wait_and_a_kick_moves_them),
		TEST(a_mergeable_frame_waits_until_all_its_buffers_are_there),
		TEST(a_frame_that_no_buffer_can_hold_is_dropped_and_counted),
		TEST(a_frame_beyond_64_kib_is_dropped_and_one_of_64_kib_passes),
		TEST(null_takes_every_frame_and_counts_it),
		TEST(headers_of_offloads_that_were_not_agreed_do_no_harm),
		TEST(an_unfinished_checksum_is_completed_for_a_receiver_that_did_not_agree),
		TEST(a_checksum_of_zero_is_written_as_all_ones),
		TEST(an_unfinished_checksum_passes_to_a_receiver_that_agreed),
		TEST(checksum_offsets_outside_the_frame_are_dropped),
		TEST(a_broken_queue_stops_and_its_neighbour_goes_on),
		TEST(a_stop_and_a_start_lose_and_repeat_nothing),
		TEST(a_pair_starts_and_stops_while_another_runs),
		TEST(inactive_pairs_are_left_alone),
		TEST(memory_may_move_under_a_running_device),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
