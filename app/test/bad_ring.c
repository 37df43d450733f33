/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <stddef.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include <rte_common.h>

#include "bad_ring.h"

#define D_NEXT  VRING_DESC_F_NEXT
#define D_WRITE VRING_DESC_F_WRITE
#define D_TABLE VRING_DESC_F_INDIRECT

/* Addresses relative to something of the guest's; all others are as they stand. */
#define NEAR(n)   ((UINT64_C(n) << 60) + (UINT64_C(1) << 59))
#define START     NEAR(1)
#define OUTSIDE   NEAR(2)
#define GOOD      NEAR(3)
#define TABLE     NEAR(4)
#define TABLE_AT  0x10000 /* from good */
#define TABLE_MAX 2048
#define RING      (UINT16_MAX - 1) /* as head, next or ahead: the queue's size */
#define NR_DESCS  3

/* The first descriptors of a ring, or of a table. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct bad_ring_case {
	const char *name, *why;
	struct desc d[NR_DESCS], t[NR_DESCS];
	uint16_t head, ahead; /* ahead: more buffers than there are */
	uint16_t nr_table;    /* a table of so many, each of all memory but a bit; 0: t */
	uint32_t table_len;   /* of each of those */
	bool split;           /* only there */
	bool endless;         /* all descriptors of the ring make a chain */
	bool as_is;           /* WRITE does not follow the queue's direction */
};

static const struct bad_ring_case cases[] = {
	/* indexes */
	{"index runs away", "runs away", .d = {{GOOD, 16}}, .ahead = RING, .split = true},
	{"index runs away far", "runs away", .d = {{GOOD, 16}}, .ahead = 0x7fff, .split = true},
	{"index runs away half a round", "runs away", .d = {{GOOD, 16}}, .ahead = 0x8000,
		.split = true},
	{"index goes back", "runs away", .d = {{GOOD, 16}}, .ahead = 0xfffe, .split = true},
	{"head out of range", "head out of range", .d = {{GOOD, 16}}, .head = RING, .split = true},
	{"head of all bits", "head out of range", .d = {{GOOD, 16}}, .head = UINT16_MAX,
		.split = true},
	{"next out of range", "next descriptor", .d = {{GOOD, 16, D_NEXT, RING}}, .split = true},
	{"next of all bits", "next descriptor", .d = {{GOOD, 16, D_NEXT, UINT16_MAX}},
		.split = true},
	{"next of a table out of range", "next descriptor", .d = {{TABLE, 16, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT, 1}}, .split = true},
	{"next of a table of all bits", "next descriptor", .d = {{TABLE, 32, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT, UINT16_MAX}}, .split = true},
	/* loops */
	{"loop of one", "loops", .d = {{GOOD, 16, D_NEXT, 0}}, .split = true},
	{"loop of two", "loops", .d = {{GOOD, 16, D_NEXT, 1}, {GOOD, 16, D_NEXT, 0}},
		.split = true},
	{"loop of nothing", "loops", .d = {{0, 0, D_NEXT, 1}, {0, 0, D_NEXT, 0}}, .split = true},
	{"loop in a table", "loops", .d = {{TABLE, 32, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT, 1}, {GOOD, 16, D_NEXT, 0}}, .split = true},
	{"loop of nothing in a table", "loops", .d = {{TABLE, 32, D_TABLE}},
		.t = {{0, 0, D_NEXT, 1}, {0, 0, D_NEXT, 0}}, .split = true},
	{"chain without an end", "loops", .d = {{GOOD, 16}}, .endless = true},
	{"chain of nothing without an end", "loops", .d = {{0, 0}}, .endless = true},
	/* tables */
	{"table in a table", "in an indirect table", .d = {{TABLE, 16, D_TABLE}},
		.t = {{GOOD, 16, D_TABLE}}},
	{"table in a table, at its end", "in an indirect table", .d = {{TABLE, 32, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT, 1}, {TABLE, 16, D_TABLE}}},
	{"table that is in itself", "in an indirect table", .d = {{TABLE, 16, D_TABLE}},
		.t = {{TABLE, 16, D_TABLE}}},
	{"table and next", "chain around it", .d = {{TABLE, 16, D_TABLE | D_NEXT, 1}, {GOOD, 16}},
		.t = {{GOOD, 16}}},
	{"table of 15 bytes", "no multiple", .d = {{TABLE, 15, D_TABLE}}},
	{"table of 17 bytes", "no multiple", .d = {{TABLE, 17, D_TABLE}}, .t = {{GOOD, 16}}},
	{"table of all bits", "no multiple", .d = {{TABLE, UINT32_MAX, D_TABLE}}},
	{"table of nearly 4 GiB", "table outside", .d = {{TABLE, 0xfffffff0, D_TABLE}},
		.t = {{GOOD, 16}}},
	{"empty table", "no multiple", .d = {{TABLE, 0, D_TABLE}}},
	{"table outside", "table outside", .d = {{OUTSIDE, 16, D_TABLE}}},
	{"table over the end", "table outside", .d = {{OUTSIDE - 16, 32, D_TABLE}}},
	{"table before the beginning", "table outside", .d = {{START - 1, 16, D_TABLE}}},
	{"table wraps", "table outside", .d = {{UINT64_MAX - 15, 32, D_TABLE}}},
	{"table's entry outside", "outside the peer", .d = {{TABLE, 32, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT, 1}, {OUTSIDE, 1}}},
	{"table's entry wraps", "pass the end", .d = {{TABLE, 16, D_TABLE}},
		.t = {{UINT64_MAX, 2}}},
	{"table of too many", "too many segments", .d = {{TABLE, 16 * TABLE_MAX, D_TABLE}},
		.nr_table = TABLE_MAX, .table_len = 1},
	/* addresses and lengths */
	{"outside", "outside the peer", .d = {{OUTSIDE, 16}}},
	{"address 0", "outside the peer", .d = {{0, 16}}},
	{"over the end", "outside the peer", .d = {{OUTSIDE - 8, 16}}},
	{"before the beginning", "outside the peer", .d = {{START - 1, 16}}},
	{"second before the beginning", "outside the peer",
		.d = {{GOOD, 16, D_NEXT, 1}, {START - 1, 1}}},
	{"third over the end", "outside the peer",
		.d = {{GOOD, 16, D_NEXT, 1}, {GOOD, 512, D_NEXT, 2}, {OUTSIDE - 511, 512}}},
	{"address wraps", "pass the end", .d = {{UINT64_MAX - 7, 16}}},
	{"address and length wrap into memory", "pass the end", .d = {{UINT64_MAX, UINT32_MAX}}},
	{"length of all bits", "outside the peer", .d = {{GOOD, UINT32_MAX}}},
	{"more than 4 GiB in all", "length of a descriptor chain overflows",
		.d = {{TABLE, 16 * 128, D_TABLE}}, .nr_table = 128, .table_len = 0x3ffffe0},
	{"readable after writable", "after device-writable",
		.d = {{GOOD, 16, D_NEXT | D_WRITE, 1}, {GOOD, 16}}, .as_is = true},
	{"readable after writable in a table", "after device-writable", .d = {{TABLE, 32, D_TABLE}},
		.t = {{GOOD, 16, D_NEXT | D_WRITE, 1}, {GOOD, 16}}, .as_is = true,
		.split = true}, /* where a queue is only read, WRITE in a packed one's is let be */
};

const struct bad_ring_case *
bad_ring_case(unsigned int i, bool packed)
{
	for (size_t k = 0; k < RTE_DIM(cases); k++)
		if ((!packed || !cases[k].split) && i-- == 0)
			return &cases[k];
	return NULL;
}

const char *
bad_ring_name(const struct bad_ring_case *c)
{
	return c->name;
}

const char *
bad_ring_why(const struct bad_ring_case *c)
{
	return c->why;
}

static uint64_t
address(const struct bad_ring_place *place, uint64_t addr)
{
	uint64_t middle = NEAR(0) + (addr & UINT64_C(0xf) << 60);

	switch (addr >> 60) {
	case START >> 60:
		return place->start_iova + (addr - middle);
	case OUTSIDE >> 60:
		return place->end_iova + (addr - middle);
	case GOOD >> 60:
		return place->good_iova + (addr - middle);
	case TABLE >> 60:
		return place->good_iova + TABLE_AT + (addr - middle);
	default:
		return addr;
	}
}

static uint16_t
number(const struct bad_ring_place *place, uint16_t n)
{
	return n == RING ? place->size : n;
}

/* In the queue's direction. */
static struct desc
resolve(const struct bad_ring_case *c, const struct bad_ring_place *place, struct desc d)
{
	d.addr = address(place, d.addr);
	d.next = number(place, d.next);
	if (place->to_driver && !c->as_is && (d.flags & D_TABLE) == 0)
		d.flags |= D_WRITE;
	return d;
}

static void
write_desc(const struct bad_ring_place *place, void *area, uint16_t i, struct desc d)
{
	if (place->packed)
		((struct vring_packed_desc *)area)[i] = (struct vring_packed_desc){
			d.addr, d.len, 0, d.flags};
	else
		((struct vring_desc *)area)[i] = (struct vring_desc){
			d.addr, d.len, d.flags, d.next};
}

static void
write_table(const struct bad_ring_case *c, const struct bad_ring_place *place)
{
	uint16_t nr = c->nr_table != 0 ? c->nr_table : NR_DESCS;

	for (uint16_t i = 0; i < nr; i++) {
		struct desc many = {START, c->table_len, i + 1 < nr ? D_NEXT : 0, i + 1};

		write_desc(place, (uint8_t *)place->good + TABLE_AT, i,
			resolve(c, place, c->nr_table != 0 ? many : c->t[i]));
	}
}

/* A descriptor of the ring itself; the first one of a packed ring is what the device looks at. */
static void
write_ring(const struct bad_ring_place *place, uint16_t i, struct desc d)
{
	uint16_t slot = (place->at + i) % place->size;
	struct vring_packed_desc *packed = (struct vring_packed_desc *)place->desc + slot;
	bool wrap = place->at + i < place->size;

	if (!place->packed) {
		write_desc(place, place->desc, i, d);
		return;
	}
	packed->addr = d.addr;
	packed->len = d.len;
	packed->id = 0;
	d.flags |= 1 << (wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);
	__atomic_store_n(&packed->flags, d.flags, __ATOMIC_RELEASE);
}

void
bad_ring_offer(const struct bad_ring_case *c, const struct bad_ring_place *place)
{
	struct vring_avail *avail = place->driver;
	uint16_t nr = 1;

	write_table(c, place);
	while (nr < NR_DESCS && (c->d[nr - 1].flags & D_NEXT) != 0)
		nr++;
	if (c->endless)
		nr = place->size;
	for (uint16_t i = nr; i-- > 0;) {
		struct desc d = c->d[i < NR_DESCS ? i : 0];

		if (c->endless) {
			d = c->d[0];
			d.flags |= D_NEXT;
			d.next = (i + 1) % nr;
		}
		write_ring(place, i, resolve(c, place, d));
	}
	if (place->packed)
		return;
	avail->ring[avail->idx % place->size] = number(place, c->head);
	__atomic_store_n(&avail->idx, avail->idx + 1 + number(place, c->ahead), __ATOMIC_RELEASE);
}
