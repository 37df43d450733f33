/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net's key tso: frames that are to be segmented, passed whole or cut for who did not agree. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE    (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_STATUS))
#define SENDS   (F(NET_F_CSUM) | F(NET_F_HOST_TSO4) | F(NET_F_HOST_TSO6) | F(NET_F_HOST_ECN))
#define GUEST4  (F(NET_F_GUEST_CSUM) | F(NET_F_GUEST_TSO4))
#define TAKES   (GUEST4 | F(NET_F_GUEST_TSO6) | F(NET_F_GUEST_ECN))
#define RX      0
#define TX      1
#define WINDOW  0xbeef
#define SEQ     0xfffff000 /* wraps within a frame */
#define ID      0xfff0
#define FIN     0x01
#define PSH     0x08
#define ACK     0x10
#define CWR     0x80
#define CE_FLOW 0x12345

/* A frame to be segmented, and where its parts are. */
struct gso {
	bool ipv6, vlan, options;
	uint32_t payload;
	uint16_t mss;
	uint16_t l3, l4, data; /* offsets */
	struct virtio_net_hdr_v1 hdr;
	uint8_t bytes[66000];
};

static struct gso gso;

static uint8_t
pattern(uint32_t at)
{
	return (at * 2654435761u) >> 23;
}

static uint16_t
sum_of(const uint8_t *l3, bool ipv6, uint32_t len, const uint8_t *l4)
{
	uint64_t sum = 6 + len; /* TCP */
	uint32_t i;

	for (i = 0; i < (ipv6 ? 32u : 8u); i += 2)
		sum += l3[(ipv6 ? 8 : 12) + i] << 8 | l3[(ipv6 ? 8 : 12) + i + 1];
	for (i = 0; i < len; i++)
		sum += i % 2 != 0 ? l4[i] : l4[i] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum of the pseudo header alone, as a driver leaves it. */
static uint16_t
pseudo_sum_of(const uint8_t *l3, bool ipv6, uint32_t len)
{
	static const uint8_t nothing[66000];

	return sum_of(l3, ipv6, len, nothing);
}

static void
make_ip(struct gso *g)
{
	uint32_t l4_bytes = g->data - g->l4 + g->payload;
	struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)&g->bytes[g->l3];
	struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)&g->bytes[g->l3];

	memset(ip4, 0, g->l4 - g->l3);
	if (g->ipv6) {
		ip6->vtc_flow = rte_cpu_to_be_32(0x60000000 | CE_FLOW);
		ip6->payload_len = rte_cpu_to_be_16(l4_bytes);
		ip6->proto = IPPROTO_TCP;
		ip6->hop_limits = 63;
	} else {
		ip4->version_ihl = 0x45;
		ip4->total_length = rte_cpu_to_be_16(g->l4 - g->l3 + l4_bytes);
		ip4->packet_id = rte_cpu_to_be_16(ID);
		ip4->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
		ip4->time_to_live = 63;
		ip4->next_proto_id = IPPROTO_TCP;
		ip4->hdr_checksum = 0x1234; /* to be written here */
	}
	for (int i = 0; i < (g->ipv6 ? 32 : 8); i++)
		g->bytes[g->l3 + (g->ipv6 ? 8 : 12) + i] = 0x20 + i;
}

static void
make(struct gso *g, uint32_t payload, uint16_t mss, uint8_t flags)
{
	uint16_t type = g->ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4;
	struct rte_tcp_hdr *tcp;
	uint16_t sum;

	g->payload = payload;
	g->mss = mss;
	g->l3 = 14 + (g->vlan ? 4 : 0);
	g->l4 = g->l3 + (g->ipv6 ? 40 : 20);
	g->data = g->l4 + 20 + (g->options ? 12 : 0);
	memset(g->bytes, 0x02, 12);
	if (g->vlan) {
		memcpy(&g->bytes[12], "\x81\x00\x60\x2a", 4);
		type = g->ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4;
	}
	g->bytes[g->l3 - 2] = type >> 8;
	g->bytes[g->l3 - 1] = type & 0xff;
	make_ip(g);
	tcp = (struct rte_tcp_hdr *)&g->bytes[g->l4];
	memset(tcp, 1, g->data - g->l4); /* options: NOP */
	*tcp = (struct rte_tcp_hdr){
		.src_port = rte_cpu_to_be_16(1000),
		.dst_port = rte_cpu_to_be_16(2000),
		.sent_seq = rte_cpu_to_be_32(SEQ),
		.data_off = (g->data - g->l4) / 4 << 4,
		.tcp_flags = flags,
		.rx_win = rte_cpu_to_be_16(WINDOW),
	};
	sum = pseudo_sum_of(&g->bytes[g->l3], g->ipv6, g->data - g->l4 + payload);
	tcp->cksum = rte_cpu_to_be_16(sum);
	for (uint32_t i = 0; i < payload; i++)
		g->bytes[g->data + i] = pattern(i);
	g->hdr = (struct virtio_net_hdr_v1){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = g->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = g->data,
		.gso_size = mss,
		.csum_start = g->l4,
		.csum_offset = 16,
	};
}

/* Segment number nr of nr_all, as it arrived. */
static void
check_segment(const struct gso *g, const uint8_t *got, int len, unsigned int nr,
	unsigned int nr_all, const struct virtio_net_hdr_v1 *hdr, uint8_t flags)
{
	const struct rte_ipv4_hdr *ip4 = (const struct rte_ipv4_hdr *)&got[g->l3];
	const struct rte_ipv6_hdr *ip6 = (const struct rte_ipv6_hdr *)&got[g->l3];
	const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)&got[g->l4];
	uint32_t at = nr * g->mss, payload = RTE_MIN(g->mss, g->payload - at);
	uint32_t l4_bytes = g->data - g->l4 + payload;

	assert_int_equal(len, g->data + payload);
	assert_memory_equal(got, g->bytes, g->l3);
	if (g->ipv6) {
		assert_int_equal(rte_be_to_cpu_32(ip6->vtc_flow), 0x60000000 | CE_FLOW);
		assert_int_equal(rte_be_to_cpu_16(ip6->payload_len), l4_bytes);
		assert_memory_equal(&got[g->l3 + 6], &g->bytes[g->l3 + 6], 34);
	} else {
		assert_int_equal(rte_be_to_cpu_16(ip4->total_length), g->l4 - g->l3 + l4_bytes);
		assert_int_equal(rte_be_to_cpu_16(ip4->packet_id), (uint16_t)(ID + nr));
		assert_int_equal((uint16_t)~rte_raw_cksum(ip4, sizeof(*ip4)), 0);
	}
	assert_int_equal(rte_be_to_cpu_32(tcp->sent_seq), (uint32_t)(SEQ + at));
	flags &= nr + 1 < nr_all ? (uint8_t) ~(FIN | PSH) : 0xff;
	assert_int_equal(tcp->tcp_flags, flags & (nr != 0 ? ~CWR : 0xff));
	assert_int_equal(rte_be_to_cpu_16(tcp->rx_win), WINDOW);
	for (uint32_t i = 0; i < payload; i++)
		assert_int_equal(got[g->data + i], pattern(at + i));
	assert_int_equal(hdr->gso_type, VIRTIO_NET_HDR_GSO_NONE);
	if (hdr->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		assert_int_equal(hdr->csum_start, g->l4);
		assert_int_equal(hdr->csum_offset, 16);
		assert_int_equal(rte_be_to_cpu_16(tcp->cksum),
			pseudo_sum_of(&got[g->l3], g->ipv6, l4_bytes));
	} else {
		assert_int_equal(hdr->flags, 0);
		assert_int_equal(sum_of(&got[g->l3], g->ipv6, l4_bytes, &got[g->l4]), 0xffff);
	}
}

static void
open_pair(struct net_guest *a, struct net_guest *b, uint64_t features_a, uint64_t features_b)
{
	struct net_guest_config config = {
		.features = BASE | features_a, .device = "a", .tx_bytes = 66560, .rx_bytes = 2048};

	net_device_add("a", "backend=peer,peer=b,tso=on");
	net_device_add("b", "backend=peer,peer=a,tso=on");
	net_guest_open(a, &config);
	config.device = "b";
	config.features = BASE | features_b;
	/* a driver without mergeable buffers has room for whole frames only */
	if ((features_b & F(NET_F_MRG_RXBUF)) == 0)
		config.rx_bytes = 66560;
	net_guest_open(b, &config);
	net_link_wait(a, true);
}

static void
close_pair(struct net_guest *a, struct net_guest *b)
{
	net_guest_close(a);
	net_guest_close(b);
	device_del("a");
	device_del("b");
}

/* Send it as one frame, and take segments for it. */
static void
send_and_check(struct net_guest *a, struct net_guest *b, const struct gso *g, uint8_t flags)
{
	unsigned int nr = (g->payload + g->mss - 1) / g->mss;
	static uint8_t got[66000];

	net_guest_fill(b, 0, UINT16_MAX);
	assert_true(net_guest_send(a, 0, nr % NET_SHAPES, &g->hdr, g->bytes, g->data + g->payload));
	for (unsigned int i = 0; i < nr; i++) {
		struct virtio_net_hdr_v1 hdr;
		int len = net_guest_wait(b, 0, &hdr, got, sizeof(got), 30000);

		check_segment(g, got, len, i, nr, &hdr, flags);
		/* a driver gives buffers back as it goes */
		net_guest_fill(b, 0, UINT16_MAX);
	}
	assert_int_equal(net_guest_receive(b, 0, NULL, got, sizeof(got)), -1);
	while (net_guest_reap(a, 0) == 0)
		net_sleep_ms(1);
}

static void
frames_pass_whole_where_the_receiver_agreed(void **state)
{
	static const uint64_t formats[] = {F(NET_F_MRG_RXBUF), 0,
		F(F_RING_PACKED) | F(NET_F_MRG_RXBUF) | F(F_IN_ORDER), F(F_RING_PACKED)};
	static uint8_t got[66000];
	struct net_guest a, b;

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct virtio_net_hdr_v1 hdr;

		open_pair(&a, &b, SENDS | formats[i / 2], TAKES | formats[i / 2]);
		gso = (struct gso){.ipv6 = i % 2 != 0, .vlan = i > 4, .options = true};
		make(&gso, 65000, 1448, ACK | PSH | CWR);
		gso.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		net_guest_fill(&b, 0, UINT16_MAX);
		assert_true(net_guest_send(
			&a, 0, i % NET_SHAPES, &gso.hdr, gso.bytes, gso.data + gso.payload));
		assert_int_equal(net_guest_wait(&b, 0, &hdr, got, sizeof(got), 30000),
			gso.data + gso.payload);
		assert_memory_equal(got, gso.bytes, gso.data + gso.payload);
		gso.hdr.num_buffers = hdr.num_buffers;
		assert_memory_equal(&hdr, &gso.hdr, sizeof(hdr));
		net_stat_wait(a.dev, TX, "gso_cut", 0);
		close_pair(&a, &b);
	}
}

static void
frames_are_cut_where_the_receiver_did_not_agree(void **state)
{
	static const uint64_t takes[] = {0, F(NET_F_GUEST_CSUM),
		F(NET_F_GUEST_CSUM) | F(NET_F_MRG_RXBUF), F(NET_F_MRG_RXBUF) | F(F_RING_PACKED)};
	struct net_guest a, b;

	(void)state;
	for (int i = 0; i < 32; i++) {
		open_pair(&a, &b, SENDS, takes[i / 8]);
		gso = (struct gso){
			.ipv6 = (i & 1) != 0, .vlan = (i & 2) != 0, .options = (i & 4) != 0};
		make(&gso, 65000, 1448, ACK | PSH | FIN | CWR);
		send_and_check(&a, &b, &gso, ACK | PSH | FIN | CWR);
		make(&gso, 3000, 1000, ACK);
		send_and_check(&a, &b, &gso, ACK);
		/* one segment, whole and short; as many as there may be */
		make(&gso, 1000, 1000, ACK | PSH);
		send_and_check(&a, &b, &gso, ACK | PSH);
		make(&gso, 1, 1000, ACK | PSH);
		send_and_check(&a, &b, &gso, ACK | PSH);
		make(&gso, 512 * 100, 100, ACK);
		send_and_check(&a, &b, &gso, ACK);
		net_stat_wait(a.dev, TX, "gso_cut", 5);
		net_stat_wait(a.dev, TX, "packets", 5);
		net_stat_wait(b.dev, RX, "packets", 45 + 3 + 1 + 1 + 512);
		close_pair(&a, &b);
	}
}

static void
ecn_is_cut_for_a_receiver_that_knows_segmentation_alone(void **state)
{
	struct net_guest a, b;

	(void)state;
	open_pair(&a, &b, SENDS, TAKES & ~F(NET_F_GUEST_ECN));
	gso = (struct gso){.ipv6 = false};
	make(&gso, 5000, 1448, ACK | CWR);
	gso.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	send_and_check(&a, &b, &gso, ACK | CWR);
	close_pair(&a, &b);
}

static void
other_frames_wait_behind_segments_without_buffers(void **state)
{
	static uint8_t got[66000];
	uint8_t small[100] = {0};
	struct net_guest a, b;

	(void)state;
	open_pair(&a, &b, SENDS, F(NET_F_MRG_RXBUF));
	gso = (struct gso){.ipv6 = true};
	make(&gso, 20000, 1000, ACK);
	assert_true(net_guest_send(&a, 0, NET_WHOLE, &gso.hdr, gso.bytes, gso.data + 20000));
	assert_true(net_guest_send(&a, 0, NET_WHOLE, NULL, small, sizeof(small)));
	for (unsigned int i = 0; i < 20; i++) {
		struct virtio_net_hdr_v1 hdr;
		int len;

		net_guest_fill(&b, 0, 1);
		len = net_guest_wait(&b, 0, &hdr, got, sizeof(got), 30000);
		check_segment(&gso, got, len, i, 20, &hdr, ACK);
		assert_int_equal(net_guest_receive(&b, 0, NULL, got, sizeof(got)), -1);
	}
	net_guest_fill(&b, 0, 1);
	assert_int_equal(net_guest_wait(&b, 0, NULL, got, sizeof(got), 30000), sizeof(small));
	/* what is held when the sender goes is given up */
	assert_true(net_guest_send(&a, 0, NET_WHOLE, &gso.hdr, gso.bytes, gso.data + 20000));
	net_stat_wait(a.dev, TX, "gso_cut", 2);
	close_pair(&a, &b);
}

static void
what_cannot_be_cut_is_dropped_and_counted(void **state)
{
	static uint8_t got[66000];
	struct virtio_net_hdr_v1 hdr;
	struct net_guest a, b;
	unsigned int nr = 0;

	(void)state;
	open_pair(&a, &b, SENDS, F(NET_F_GUEST_CSUM));
	net_guest_fill(&b, 0, 16);
	for (int i = 0; i < 13; i++) {
		gso = (struct gso){.ipv6 = i % 2 != 0};
		make(&gso, 5000, 1000, ACK);
		switch (i) {
		case 0:
			gso.hdr.gso_size = 0;
			break;
		case 1:
			gso.hdr.gso_size = 9;
			break; /* 556 segments */
		case 2:
			gso.hdr.flags = 0;
			break;
		case 3:
			gso.hdr.gso_type = VIRTIO_NET_HDR_GSO_UDP;
			break;
		case 4:
			gso.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
			break;
		case 5:
			gso.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
			break;
		case 6:
			gso.hdr.csum_start += 2;
			break;
		case 7:
			gso.hdr.csum_offset = 6;
			break;
		case 8:
			gso.bytes[gso.l3 + 9] = IPPROTO_UDP;
			break;
		case 9:
			gso.bytes[gso.l3 + 6] = IPPROTO_FRAGMENT;
			break;
		case 10:
			gso.bytes[gso.l3 + 6] = 0x20;
			break; /* more fragments */
		case 11:
			gso.bytes[gso.l4 + 12] = 0x10;
			break; /* a header of 4 bytes */
		case 12:
			gso.bytes[12] = 0;
			break; /* no IP */
		}
		assert_true(net_guest_send(
			&a, 0, NET_WHOLE, &gso.hdr, gso.bytes, gso.data + gso.payload));
		net_stat_wait(a.dev, TX, "drop_gso", ++nr);
	}
	/* and it goes on */
	gso = (struct gso){.vlan = true};
	make(&gso, 1000, 1000, ACK);
	assert_true(net_guest_send(&a, 0, NET_WHOLE, &gso.hdr, gso.bytes, gso.data + 1000));
	assert_int_equal(net_guest_wait(&b, 0, &hdr, got, sizeof(got), 30000), gso.data + 1000);
	check_segment(&gso, got, gso.data + 1000, 0, 1, &hdr, ACK);
	close_pair(&a, &b);
}

static void
segmentation_is_offered_with_tso_only(void **state)
{
	const uint64_t mask = SENDS | TAKES;
	const uint64_t csum = F(NET_F_CSUM) | F(NET_F_GUEST_CSUM);
	struct sw_net_args args;

	(void)state;
	assert_int_equal(sw_net_args_parse("a", "backend=peer,peer=b", &args), 0);
	assert_int_equal(args.features & mask, csum);
	assert_int_equal(sw_net_args_parse("a", "backend=peer,peer=b,tso=on", &args), 0);
	assert_int_equal(args.features & mask, mask);
	assert_int_equal(sw_net_args_parse("a", "tso=on", &args), -EINVAL);
	assert_non_null(strstr(vdpa_error_text(), "tso=on"));
	assert_int_equal(sw_net_args_parse("a", "backend=null,tso=on", &args), -EINVAL);
	assert_int_equal(sw_net_args_parse("a", "backend=peer,peer=b,tso=1", &args), -EINVAL);
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_pass_whole_where_the_receiver_agreed),
		TEST(frames_are_cut_where_the_receiver_did_not_agree),
		TEST(ecn_is_cut_for_a_receiver_that_knows_segmentation_alone),
		TEST(other_frames_wait_behind_segments_without_buffers),
		TEST(what_cannot_be_cut_is_dropped_and_counted),
		TEST(segmentation_is_offered_with_tso_only),
	};
	int rc;

	net_eal_start(NULL);
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rte_eal_cleanup();
	return rc;
}
