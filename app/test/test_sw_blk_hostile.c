/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * sw_blk, bad requests and rings that mean harm. Guests' memory lies between pages that kill who
 * touches them.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>

#include "bad_ring.h"
#include "blk_guest.h"
#include "sw_blk.h"

#define BASE                                                                          \
	(F(F_VERSION_1) | F(BLK_F_FLUSH) | F(BLK_F_DISCARD) | F(BLK_F_WRITE_ZEROES) | \
		F(RING_F_INDIRECT_DESC))
#define DISK_BYTES (1 << 20)
#define SECTORS    (DISK_BYTES / 512)
#define CANARY     0xc5
#define ANSWER_MS  30000
#define AREA_BYTES 65536 /* of a request; all of it is looked at */
#define HEADER_AT  256
#define DATA_AT    4096
#define STATUS_AT  60000
#define PIECES_MAX 6
#define NO_STATUS  CANARY

static const char *const disks[] = {
	"backend=malloc,size=1M,num_queues=2", "backend=file,size=1M,num_queues=2"};
static const uint64_t formats[] = {BASE, BASE | F(F_RING_PACKED)};

/* ---- requests ---- */

enum piece {
	END,
	HDR,    /* of the header, from where the last such piece ended */
	DATA,   /* the same of the data */
	STATUS, /* the same of the status */
};

struct part {
	enum piece piece;
	uint32_t len;
};

#define RANGE(at, nr, bits)                                          \
	{                                                            \
		.sector = (at), .num_sectors = (nr), .flags = (bits) \
	}
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUP VIRTIO_BLK_S_UNSUPP
#define IN    VIRTIO_BLK_T_IN
#define OUT   VIRTIO_BLK_T_OUT
#define FLUSH VIRTIO_BLK_T_FLUSH
#define ID    VIRTIO_BLK_T_GET_ID
#define DISC  VIRTIO_BLK_T_DISCARD
#define ZERO  VIRTIO_BLK_T_WRITE_ZEROES

/* What is asked, how it lies in memory, and the answer. */
static const struct request_case {
	const char *name;
	uint32_t type;
	uint64_t sector;
	struct part out[PIECES_MAX], in[PIECES_MAX];
	uint8_t status;
	struct virtio_blk_discard_write_zeroes ranges[2];
} requests[] = {
	/* the header */
	{"no header", IN, 0, {{END}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	{"header of 1 byte", IN, 0, {{HDR, 1}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	{"header of 8 bytes", OUT, 0, {{HDR, 8}}, {{STATUS, 1}}, IOERR},
	{"header of 15 bytes", IN, 0, {{HDR, 15}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	{"header of 15 bytes in pieces", FLUSH, 0, {{HDR, 7}, {HDR, 8}}, {{STATUS, 1}}, IOERR},
	{"unknown type in 8 bytes", 2, 0, {{HDR, 8}}, {{STATUS, 1}}, IOERR},
	{"header writable", IN, 0, {{END}}, {{HDR, 16}, {DATA, 512}, {STATUS, 1}}, IOERR},
	{"header half writable", IN, 0, {{HDR, 8}}, {{HDR, 8}, {DATA, 512}, {STATUS, 1}}, IOERR},
	/* the status */
	{"read, no status", IN, 0, {{HDR, 16}}, {{END}}, NO_STATUS},
	{"write, no status", OUT, 0, {{HDR, 16}, {DATA, 512}}, {{END}}, NO_STATUS},
	{"flush, no status", FLUSH, 0, {{HDR, 16}}, {{END}}, NO_STATUS},
	{"discard, no status", DISC, 0, {{HDR, 16}, {DATA, 16}}, {{END}}, NO_STATUS,
		{RANGE(0, 8, 0)}},
	{"status readable", OUT, 0, {{HDR, 16}, {DATA, 512}, {STATUS, 1}}, {{END}}, NO_STATUS},
	{"status of no bytes", OUT, 0, {{HDR, 16}, {DATA, 512}}, {{STATUS, 0}}, NO_STATUS},
	/* direction */
	{"read into readable data", IN, 0, {{HDR, 16}, {DATA, 512}}, {{STATUS, 1}}, IOERR},
	{"write from writable data", OUT, 0, {{HDR, 16}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	{"read, data both ways", IN, 0, {{HDR, 16}, {DATA, 512}}, {{DATA, 512}, {STATUS, 1}},
		IOERR},
	{"write, data both ways", OUT, 0, {{HDR, 16}, {DATA, 512}}, {{DATA, 512}, {STATUS, 1}},
		IOERR},
	{"get id into readable data", ID, 0, {{HDR, 16}, {DATA, 20}}, {{STATUS, 1}}, IOERR},
	{"discard, ranges writable", DISC, 0, {{HDR, 16}}, {{DATA, 16}, {STATUS, 1}}, IOERR},
	{"flush with data to write", FLUSH, 0, {{HDR, 16}, {DATA, 512}}, {{STATUS, 1}}, IOERR},
	{"flush with data to read", FLUSH, 0, {{HDR, 16}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	/* sizes */
	{"read of nothing", IN, 0, {{HDR, 16}}, {{STATUS, 1}}, IOERR},
	{"write of nothing", OUT, 0, {{HDR, 16}}, {{STATUS, 1}}, IOERR},
	{"read of empty pieces", IN, 0, {{HDR, 16}}, {{DATA, 0}, {DATA, 0}, {STATUS, 1}}, IOERR},
	{"get id of nothing", ID, 0, {{HDR, 16}}, {{STATUS, 1}}, IOERR},
	{"read of 1 byte", IN, 0, {{HDR, 16}}, {{DATA, 1}, {STATUS, 1}}, IOERR},
	{"read of 511 bytes", IN, 0, {{HDR, 16}}, {{DATA, 511}, {STATUS, 1}}, IOERR},
	{"read of 513 bytes in pieces", IN, 0, {{HDR, 16}}, {{DATA, 512}, {DATA, 1}, {STATUS, 1}},
		IOERR},
	{"write of 511 bytes", OUT, 0, {{HDR, 16}, {DATA, 511}}, {{STATUS, 1}}, IOERR},
	{"write of 4097 bytes", OUT, 0, {{HDR, 16}, {DATA, 4097}}, {{STATUS, 1}}, IOERR},
	/* sectors */
	{"read at the end", IN, SECTORS, {{HDR, 16}}, {{DATA, 512}, {STATUS, 1}}, IOERR},
	{"read over the end", IN, SECTORS - 1, {{HDR, 16}}, {{DATA, 1024}, {STATUS, 1}}, IOERR},
	{"write over the end", OUT, SECTORS - 7, {{HDR, 16}, {DATA, 4096}}, {{STATUS, 1}}, IOERR},
	{"write, bytes wrap to 0", OUT, UINT64_C(1) << 55, {{HDR, 16}, {DATA, 512}}, {{STATUS, 1}},
		IOERR},
	{"read, bytes wrap to 512", IN, (UINT64_C(1) << 55) + 1, {{HDR, 16}},
		{{DATA, 512}, {STATUS, 1}}, IOERR},
	{"write, sectors wrap", OUT, UINT64_MAX, {{HDR, 16}, {DATA, 1024}}, {{STATUS, 1}}, IOERR},
	{"read at a negative offset", IN, UINT64_C(1) << 54, {{HDR, 16}},
		{{DATA, 512}, {STATUS, 1}}, IOERR},
	/* types */
	{"type 2", 2, 0, {{HDR, 16}, {DATA, 512}}, {{STATUS, 1}}, UNSUP},
	{"type 3", 3, 0, {{HDR, 16}}, {{DATA, 512}, {STATUS, 1}}, UNSUP},
	{"secure erase", 14, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, UNSUP, {RANGE(0, 8, 0)}},
	{"zone append", 15, 0, {{HDR, 16}, {DATA, 512}}, {{DATA, 8}, {STATUS, 1}}, UNSUP},
	{"write with the barrier bit", 0x80000001, 0, {{HDR, 16}, {DATA, 512}}, {{STATUS, 1}},
		UNSUP},
	{"type of all bits", UINT32_MAX, 0, {{HDR, 16}}, {{DATA, 512}, {STATUS, 1}}, UNSUP},
	/* ranges */
	{"discard without a range", DISC, 0, {{HDR, 16}}, {{STATUS, 1}}, IOERR},
	{"zeroes without a range", ZERO, 0, {{HDR, 16}}, {{STATUS, 1}}, IOERR},
	{"range of 15 bytes", DISC, 0, {{HDR, 16}, {DATA, 15}}, {{STATUS, 1}}, IOERR,
		{RANGE(0, 8, 0)}},
	{"one range and a byte", ZERO, 0, {{HDR, 16}, {DATA, 17}}, {{STATUS, 1}}, IOERR,
		{RANGE(0, 8, 0)}},
	{"one range more than allowed", DISC, 0, {{HDR, 16}, {DATA, 16 * (SW_BLK_RANGES_MAX + 1)}},
		{{STATUS, 1}}, IOERR, {RANGE(0, 8, 0)}},
	{"range past the end", DISC, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, IOERR,
		{RANGE(SECTORS - 1, 2, 0)}},
	{"second range past the end", ZERO, 0, {{HDR, 16}, {DATA, 32}}, {{STATUS, 1}}, IOERR,
		{RANGE(0, 8, 0), RANGE(SECTORS, 1, 0)}},
	{"range wraps", ZERO, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, IOERR,
		{RANGE(UINT64_MAX, 2, 0)}},
	{"range's bytes wrap", DISC, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, IOERR,
		{RANGE(UINT64_C(1) << 55, 8, 0)}},
	{"range of 2 TiB", ZERO, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, IOERR,
		{RANGE(0, UINT32_MAX, 0)}},
	{"discard with unmap", DISC, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, UNSUP,
		{RANGE(0, 8, 1)}},
	{"discard with an unknown flag", DISC, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, UNSUP,
		{RANGE(0, 8, 2)}},
	{"zeroes with unknown flags", ZERO, 0, {{HDR, 16}, {DATA, 16}}, {{STATUS, 1}}, UNSUP,
		{RANGE(0, 8, 0xfffffffe)}},
	{"second range with a flag", ZERO, 0, {{HDR, 16}, {DATA, 32}}, {{STATUS, 1}}, UNSUP,
		{RANGE(0, 8, 0), RANGE(16, 8, 0x80000000)}},
};

static uint8_t disk_data[DISK_BYTES], disk_now[DISK_BYTES], area[AREA_BYTES], now[AREA_BYTES];

/* Both queues work: a whole disk is written by one and read by the other. */
static void
disk_fill(struct blk_guest *g)
{
	for (uint32_t i = 0; i < DISK_BYTES; i++)
		disk_data[i] = (uint8_t)(i * 31 + (i >> 9) * 7 + 1);
	assert_int_equal(
		blk_guest_do(g, 1, BLK_PLAIN, VIRTIO_BLK_T_OUT, 0, disk_data, DISK_BYTES), 0);
}

static void
disk_is_as_before(struct blk_guest *g, uint16_t vq, const char *name)
{
	assert_int_equal(
		blk_guest_do(g, vq, BLK_PLAIN, VIRTIO_BLK_T_IN, 0, disk_now, DISK_BYTES), 0);
	if (memcmp(disk_now, disk_data, DISK_BYTES) != 0)
		fail_msg("%s: the disk has changed", name);
}

static uint16_t
lay_out(const struct part *parts, uint64_t at, uint32_t used[], struct vring_buf *bufs)
{
	static const uint32_t offsets[] = {
		[HDR] = HEADER_AT, [DATA] = DATA_AT, [STATUS] = STATUS_AT};
	uint16_t nr = 0;

	for (; nr < PIECES_MAX && parts[nr].piece != END; nr++) {
		enum piece piece = parts[nr].piece;

		bufs[nr] = (struct vring_buf){at + offsets[piece] + used[piece], parts[nr].len};
		used[piece] += parts[nr].len;
	}
	return nr;
}

/* A request, and whether anything but its status was written to. */
static void
ask(struct blk_guest *g, const struct request_case *c, bool indirect)
{
	const struct virtio_blk_outhdr header = {.type = c->type, .sector = c->sector};
	uint64_t at = g->vqs[0].request_iova;
	struct vring_buf bufs[2 * PIECES_MAX];
	uint32_t used[STATUS + 1] = {0};
	uint16_t nr_out, nr_in;
	uint8_t status;

	memset(area, CANARY, sizeof(area));
	memcpy(area + HEADER_AT, &header, sizeof(header));
	memset(area + DATA_AT, 0, 16 * (SW_BLK_RANGES_MAX + 1));
	memcpy(area + DATA_AT, c->ranges, sizeof(c->ranges));
	blk_guest_fill(g, at, area, sizeof(area));
	nr_out = lay_out(c->out, at, used, bufs);
	nr_in = lay_out(c->in, at, used, bufs + nr_out);
	blk_guest_add(g, 0, bufs, nr_out, nr_in, g, indirect);
	if (blk_guest_wait(g, 0, NULL, ANSWER_MS) < 0)
		fail_msg("%s: no answer", c->name);
	blk_guest_read(g, at, now, sizeof(now));
	status = now[STATUS_AT];
	now[STATUS_AT] = CANARY;
	if (status != c->status)
		fail_msg("%s: status %u, not %u", c->name, status, c->status);
	for (uint32_t i = 0; i < sizeof(now); i++)
		if (now[i] != area[i])
			fail_msg("%s: byte %u was written to", c->name, i);
}

static void
bad_requests_get_their_status_and_change_nothing(void **state)
{
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < 4; v++) {
		const struct blk_guest_config config = {
			.device = "bad", .features = formats[v % 2], .nr_vqs = 2};
		struct vdpa_device_status status;
		uint64_t nr_missing = 0;

		blk_device_add("bad", disks[v / 2]);
		blk_guest_open(&g, &config);
		disk_fill(&g);
		for (unsigned int i = 0; i < 2 * RTE_DIM(requests); i++) {
			ask(&g, &requests[i / 2], i % 2 != 0);
			disk_is_as_before(&g, i % 4 / 2, requests[i / 2].name);
			nr_missing += requests[i / 2].status == NO_STATUS;
		}
		assert_int_equal(device_stat(g.dev, 0, "no_status"), nr_missing);
		assert_int_equal(
			device_stat(g.dev, 0, "io_errors") + device_stat(g.dev, 0, "unsupported"),
			2 * RTE_DIM(requests));
		vdpa_device_status_get(g.dev, &status);
		assert_int_equal(status.failures, 0);
		blk_guest_close(&g);
		device_del("bad");
	}
}

/* ---- rings ---- */

#define GOOD (BLK_GUEST_IOVA + BLK_REGION_BYTES + 0x1000000)

/* Nothing lawful was offered on this queue yet. */
static void
offer(struct blk_guest *g, const struct bad_ring_case *c)
{
	static const uint64_t one = 1;
	struct blk_queue *q = &g->vqs[0];
	const struct bad_ring_place place = {
		.packed = (g->config.features & F(F_RING_PACKED)) != 0,
		.size = BLK_RING,
		.desc = blk_guest_ptr(g, q->desc_iova),
		.driver = blk_guest_ptr(g, q->driver_iova),
		.start_iova = BLK_GUEST_IOVA,
		.end_iova = BLK_GUEST_IOVA + 2 * BLK_REGION_BYTES,
		.good_iova = GOOD,
		.good = blk_guest_ptr(g, GOOD),
	};

	bad_ring_offer(c, &place);
	assert_int_equal(write(q->kick_fd, &one, sizeof(one)), sizeof(one));
}

static void
the_queue_stops_and_says_why(struct blk_guest *g, const struct bad_ring_case *c)
{
	struct vdpa_device_status status;

	for (unsigned int i = 0; i < ANSWER_MS; i++) {
		vdpa_device_status_get(g->dev, &status);
		if (status.failures != 0)
			break;
		usleep(1000);
	}
	if (status.failures != 1 || strstr(status.last_error, bad_ring_why(c)) == NULL)
		fail_msg("%s: %u failures, \"%s\"", bad_ring_name(c), (unsigned int)status.failures,
			status.last_error);
}

static void
used_nothing(const struct blk_guest *g, const struct bad_ring_case *c)
{
	const struct vring_used *used = blk_guest_ptr(g, g->vqs[0].device_iova);
	const struct vring_packed_desc *desc = blk_guest_ptr(g, g->vqs[0].desc_iova);
	bool packed = (g->config.features & F(F_RING_PACKED)) != 0;

	if (packed ? (desc->flags & 1 << VRING_PACKED_DESC_F_USED) != 0 : used->idx != 0)
		fail_msg("%s: something was given back", bad_ring_name(c));
}

static void
a_bad_ring_stops_its_queue_and_no_other(void **state)
{
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < 4; v++) {
		const struct blk_guest_config config = {
			.device = "bad", .features = formats[v % 2], .nr_vqs = 2};
		const struct bad_ring_case *c;

		for (unsigned int i = 0; (c = bad_ring_case(i, v % 2 != 0)) != NULL; i++) {
			blk_device_add("bad", disks[v / 2]);
			blk_guest_open(&g, &config);
			disk_fill(&g);
			offer(&g, c);
			the_queue_stops_and_says_why(&g, c);
			disk_is_as_before(&g, 1, bad_ring_name(c));
			used_nothing(&g, c);
			blk_guest_close(&g);
			device_del("bad");
		}
	}
}

#define TEST(fn) cmocka_unit_test_teardown(fn, blk_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bad_requests_get_their_status_and_change_nothing),
		TEST(a_bad_ring_stops_its_queue_and_no_other),
	};

	/* named, so that the linker takes the whole driver; what broke is not of interest */
	rte_log_set_level(sw_blk_logtype, RTE_LOG_INFO);
	rte_log_set_level_pattern("lib.vdpa", RTE_LOG_CRIT);
	return cmocka_run_group_tests(tests, blk_disk_create, blk_disk_remove);
}
