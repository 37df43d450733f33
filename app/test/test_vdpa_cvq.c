/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "vdpa_private.h"
#include "vring_dev.h"
#include "vring_drv.h"

#define BIT(feature) (UINT64_C(1) << (feature))
#define IOVA         UINT64_C(0x7f0000)
#define MEM_SIZE     (256 << 10)
#define DATA         0x8000 /* offset of buffers */
#define SIZE         256    /* of the ring */
#define MAX_PAIRS    8
#define MACS_MAX     64

#define CTRL_FEATURES                                                                              \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | \
		BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |                    \
		BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_MQ) |                          \
		BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_CSUM) |                   \
		BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))

/* What took effect on the device. */
struct effect {
	uint8_t cls, cmd;
	size_t len;
	uint8_t data[2 * (4 + 6 * MACS_MAX) + 1];
};

static struct {
	_Alignas(4096) uint8_t mem[MEM_SIZE];
	uint64_t features;
	struct vdpa_domain *domain;
	struct vdpa_cvq *cvq;
	struct vring_drv drv;
	struct vdpa_vq_config vq;
	struct vdpa_call call;
	bool indirect;

	struct effect effects[8192];
	unsigned int nr_effects, acks;
	uint16_t pairs;
	int rc, fail_cls, fail_cmd; /* -1: all */
	unsigned int delay_ms;
	uint8_t *scribble;
} t;

static int
do_effect(uint8_t cls, uint8_t cmd)
{
	struct timespec ts = {0, t.delay_ms * 1000000L};

	if (t.delay_ms != 0)
		nanosleep(&ts, NULL);
	if (t.scribble != NULL)
		memset(t.scribble, 0xee, 16);
	return (t.fail_cls < 0 || (t.fail_cls == cls && t.fail_cmd == cmd)) ? t.rc : 0;
}

static int
effect_command(void *arg, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	struct effect *effect = &t.effects[t.nr_effects++];

	assert_ptr_equal(arg, &t);
	assert_true(len_bytes < sizeof(effect->data));
	*effect = (struct effect){.cls = cls, .cmd = cmd, .len = len_bytes};
	memcpy(effect->data, data, len_bytes);
	return do_effect(cls, cmd);
}

static int
effect_pairs(void *arg, uint16_t nr_pairs)
{
	int rc = do_effect(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET);

	assert_ptr_equal(arg, &t);
	if (rc == 0)
		t.pairs = nr_pairs;
	return rc;
}

static void
effect_ack(void *arg)
{
	assert_ptr_equal(arg, &t);
	t.acks++;
}

static struct vdpa_domain *
domain_of(uint8_t *va)
{
	struct vdpa_range region = {.iova = IOVA, .size_bytes = MEM_SIZE, .va = va, .fd = -1};
	struct vdpa_domain *domain;

	assert_int_equal(vdpa_domain_create(&domain, &region, 1, NULL, NULL), 0);
	return domain;
}

/* The driver's side. */
static void
driver_start(void)
{
	bool packed = (t.features & BIT(VIRTIO_F_RING_PACKED)) != 0;
	struct vring_config config = {
		.size = SIZE,
		.features = t.features,
		.desc_iova = IOVA,
		.driver_iova = IOVA + 0x2000,
		.device_iova = IOVA + 0x4000,
		.mem = vdpa_domain_mem(t.domain),
		.state = packed ? VRING_STATE_PACKED_START : VRING_STATE_SPLIT_START,
	};

	memset(t.mem, 0, DATA);
	assert_int_equal(vring_drv_init(&t.drv, &config), 0);
	t.vq = (struct vdpa_vq_config){
		.index = 2 * MAX_PAIRS,
		.size = SIZE,
		.desc_iova = config.desc_iova,
		.driver_iova = config.driver_iova,
		.device_iova = config.device_iova,
		.state = {config.state.avail, config.state.used},
		.kick_fd = -1,
	};
	atomic_init(&t.call.fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void
begin(uint64_t ring_features)
{
	static const struct vdpa_cvq_effects effects = {
		effect_pairs,
		effect_command,
		effect_ack,
		&t,
	};

	memset(&t, 0, sizeof(t));
	t.features = CTRL_FEATURES | BIT(VIRTIO_F_VERSION_1) | ring_features;
	t.indirect = (ring_features & BIT(VIRTIO_RING_F_INDIRECT_DESC)) != 0;
	t.domain = domain_of(t.mem);
	driver_start();
	t.cvq = vdpa_cvq_create(&effects, MAX_PAIRS);
	assert_non_null(t.cvq);
	vdpa_cvq_reset(t.cvq, t.features);
	assert_int_equal(vdpa_cvq_start(t.cvq, &t.vq, &t.call, t.domain), 0);
}

static void
end(void)
{
	vdpa_cvq_free(t.cvq);
	vring_drv_fini(&t.drv);
	vdpa_domain_put(t.domain);
	vdpa_call_close(&t.call);
	t.cvq = NULL;
}

static int
setup(void **state)
{
	(void)state;
	begin(0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	end();
	return 0;
}

/* Make a chain available: out bytes at DATA, in pieces, then in bytes at DATA + 64K. */
static void
post(uint32_t out, uint32_t piece, uint32_t in)
{
	struct vring_table table = {t.mem + 0x6000, IOVA + 0x6000, 64};
	struct vring_buf bufs[64];
	uint16_t nr = 0, nr_out;

	for (uint32_t at = 0; at < out; at += piece)
		bufs[nr++] = (struct vring_buf){
			IOVA + DATA + at, piece < out - at ? piece : out - at};
	nr_out = nr;
	if (in != 0)
		bufs[nr++] = (struct vring_buf){IOVA + DATA + 0x10000, in};
	memset(t.mem + DATA + 0x10000, 0xaa, 16);
	assert_int_equal(
		vring_drv_add(&t.drv, bufs, nr_out, nr - nr_out, &t, t.indirect ? &table : NULL),
		0);
	vring_drv_publish(&t.drv);
}

static uint8_t
answer(uint32_t len)
{
	struct vring_drv_done done;

	assert_int_equal(vring_drv_get(&t.drv, &done, 1), 1);
	assert_int_equal(done.len, len);
	/* nothing behind it was written */
	assert_int_equal(t.mem[DATA + 0x10000 + len], 0xaa);
	return t.mem[DATA + 0x10000];
}

static void
put_command(uint8_t cls, uint8_t cmd, const void *data, uint32_t len)
{
	t.mem[DATA] = cls;
	t.mem[DATA + 1] = cmd;
	if (len != 0)
		memcpy(t.mem + DATA + 2, data, len);
}

/* As Linux: header, data and answer in buffers of their own. */
static uint8_t
command(uint8_t cls, uint8_t cmd, const void *data, uint32_t len)
{
	put_command(cls, cmd, data, len);
	post(2 + len, len <= 2 ? 2 : len / 20 + 2, 1);
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	return answer(1);
}

static const struct effect *
last(void)
{
	assert_true(t.nr_effects > 0);
	return &t.effects[t.nr_effects - 1];
}

static void
assert_effect(const struct effect *effect, uint8_t cls, uint8_t cmd, const void *data, size_t len)
{
	assert_int_equal(effect->cls, cls);
	assert_int_equal(effect->cmd, cmd);
	assert_int_equal(effect->len, len);
	assert_memory_equal(effect->data, data, len);
}

/* ---- commands ---- */

struct good {
	uint8_t cls, cmd;
	uint8_t feature;
	uint32_t len;
	uint8_t data[32];
};

static const struct good goods[] = {
	{0, 0, VIRTIO_NET_F_CTRL_RX, 1, {1}},
	{0, 1, VIRTIO_NET_F_CTRL_RX, 1, {1}},
	{0, 2, VIRTIO_NET_F_CTRL_RX_EXTRA, 1, {1}},
	{0, 3, VIRTIO_NET_F_CTRL_RX_EXTRA, 1, {0}},
	{0, 4, VIRTIO_NET_F_CTRL_RX_EXTRA, 1, {1}},
	{0, 5, VIRTIO_NET_F_CTRL_RX_EXTRA, 1, {1}},
	{1, 0, VIRTIO_NET_F_CTRL_RX, 8, {0}},
	{1, 0, VIRTIO_NET_F_CTRL_RX, 20, {1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 1, 0, 0, 0, 3, 6, 7, 8, 9}},
	{1, 1, VIRTIO_NET_F_CTRL_MAC_ADDR, 6, {0x52, 0x54, 0, 1, 2, 3}},
	{2, 0, VIRTIO_NET_F_CTRL_VLAN, 2, {0xff, 0x0f}},
	{2, 1, VIRTIO_NET_F_CTRL_VLAN, 2, {0xfe, 0x0f}},
	{5, 0, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 8, {0x82}},
};

#define NR_GOODS (sizeof(goods) / sizeof(goods[0]))

static void
all_commands(uint64_t ring_features)
{
	uint8_t pairs[2] = {MAX_PAIRS, 0};

	begin(ring_features);
	/* round the ring a few times */
	for (int round = 0; round < 30; round++) {
		for (size_t i = 0; i < NR_GOODS; i++) {
			const struct good *g = &goods[i];

			assert_int_equal(command(g->cls, g->cmd, g->data, g->len), VIRTIO_NET_OK);
			assert_effect(last(), g->cls, g->cmd, g->data, g->len);
		}
		t.pairs = 0;
		assert_int_equal(command(4, 0, pairs, 2), VIRTIO_NET_OK);
		assert_int_equal(t.pairs, MAX_PAIRS);
		assert_int_equal(command(3, 0, NULL, 0), VIRTIO_NET_OK);
		assert_int_equal(t.acks, round + 1);
		assert_int_equal(t.nr_effects, NR_GOODS * (round + 1));
	}
	end();
}

static void
commands_reach_the_device_on_every_kind_of_ring(void **state)
{
	(void)state;
	all_commands(0);
	all_commands(BIT(VIRTIO_RING_F_INDIRECT_DESC));
	all_commands(BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_IN_ORDER));
	all_commands(BIT(VIRTIO_F_RING_PACKED));
	all_commands(BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		BIT(VIRTIO_RING_F_EVENT_IDX));
}

static void
what_was_not_agreed_is_refused(void **state)
{
	uint8_t pairs[2] = {1, 0};

	(void)state;
	for (size_t i = 0; i < NR_GOODS; i++) {
		const struct good *g = &goods[i];

		vdpa_cvq_reset(t.cvq, t.features & ~BIT(g->feature));
		assert_int_equal(command(g->cls, g->cmd, g->data, g->len), VIRTIO_NET_ERR);
		vdpa_cvq_reset(t.cvq, t.features & ~BIT(VIRTIO_NET_F_CTRL_VQ));
		assert_int_equal(command(g->cls, g->cmd, g->data, g->len), VIRTIO_NET_ERR);
		vdpa_cvq_set_features(t.cvq, t.features);
	}
	vdpa_cvq_reset(t.cvq, t.features & ~BIT(VIRTIO_NET_F_MQ));
	assert_int_equal(command(4, 0, pairs, 2), VIRTIO_NET_ERR);
	vdpa_cvq_reset(t.cvq, t.features & ~BIT(VIRTIO_NET_F_GUEST_ANNOUNCE));
	assert_int_equal(command(3, 0, NULL, 0), VIRTIO_NET_ERR);
	assert_int_equal(t.nr_effects, 0);
	assert_int_equal(t.pairs, 0);
	assert_int_equal(t.acks, 0);
	vdpa_cvq_set_features(t.cvq, t.features);
	assert_int_equal(command(4, 0, pairs, 2), VIRTIO_NET_OK);
}

static void
wrong_lengths_are_refused(void **state)
{
	uint8_t data[64] = {1};

	(void)state;
	for (size_t i = 0; i < NR_GOODS; i++) {
		const struct good *g = &goods[i];

		memset(data, 0, sizeof(data));
		memcpy(data, g->data, g->len);
		assert_int_equal(command(g->cls, g->cmd, data, g->len - 1), VIRTIO_NET_ERR);
		assert_int_equal(command(g->cls, g->cmd, data, g->len + 1), VIRTIO_NET_ERR);
		assert_int_equal(command(g->cls, g->cmd, data, 0), VIRTIO_NET_ERR);
	}
	data[0] = 1;
	assert_int_equal(command(4, 0, data, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(4, 0, data, 3), VIRTIO_NET_ERR);
	assert_int_equal(command(3, 0, data, 1), VIRTIO_NET_ERR);
	assert_int_equal(t.nr_effects + t.acks + t.pairs, 0);
}

static void
unknown_commands_are_refused(void **state)
{
	uint8_t data[16] = {0};

	(void)state;
	for (unsigned int cls = 0; cls < 256; cls += cls < 8 ? 1 : 31)
		for (unsigned int cmd = 0; cmd < 256; cmd += cmd < 8 ? 1 : 31)
			if (cls > 5 || cmd > 5 || (cls != 0 && cmd > 1) || (cls > 2 && cmd > 0))
				assert_int_equal(command(cls, cmd, data, 2), VIRTIO_NET_ERR);
	assert_int_equal(t.nr_effects, 0);
}

static void
refuse(uint8_t cls, uint8_t cmd, uint32_t len, const char *data)
{
	assert_int_equal(command(cls, cmd, data, len), VIRTIO_NET_ERR);
}

static void
values_out_of_range_are_refused(void **state)
{
	(void)state;
	refuse(0, 0, 1, "\2");
	refuse(0, 5, 1, "\xff");
	refuse(1, 1, 6, "\1\0\0\0\0\1");
	refuse(1, 1, 6, "\xff\xff\xff\xff\xff\xff");
	refuse(1, 1, 6, "\0\0\0\0\0\0");
	refuse(2, 0, 2, "\0\x10");
	refuse(2, 1, 2, "\xff\xff");
	refuse(4, 0, 2, "\0\0");
	refuse(4, 0, 2, "\x9\0");
	refuse(4, 0, 2, "\1\x80");
	refuse(5, 0, 8, "\1\0\0\0\0\0\0\0"); /* CSUM is no guest offload */
	refuse(5, 0, 8, "\0\1\0\0\0\0\0\0"); /* GUEST_TSO6 is not agreed */
	refuse(5, 0, 8, "\x82\0\0\0\0\0\0\x80");
	assert_int_equal(t.nr_effects + t.pairs, 0);
}

static void
malformed_chains_are_answered_where_that_is_possible(void **state)
{
	(void)state;
	put_command(0, 0, "\1", 1);
	post(1, 64, 1); /* half a header */
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(answer(1), VIRTIO_NET_ERR);
	post(0, 64, 1); /* none */
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(answer(1), VIRTIO_NET_ERR);
	post(3, 64, 0); /* no room for the answer: not done */
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	answer(0);
	assert_int_equal(t.nr_effects, 0);
	post(3, 1, 5); /* in single bytes, with room for more: done */
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(answer(1), VIRTIO_NET_OK);
	assert_effect(last(), 0, 0, "\1", 1);
}

static void
failing_device_answers_and_nothing_is_kept(void **state)
{
	uint8_t pairs[2] = {4, 0};

	(void)state;
	t.fail_cls = -1;
	t.rc = -EIO;
	for (size_t i = 0; i < NR_GOODS; i++)
		refuse(goods[i].cls, goods[i].cmd, goods[i].len, (const char *)goods[i].data);
	refuse(4, 0, 2, (const char *)pairs);
	assert_int_equal(vdpa_cvq_active_pairs(t.cvq), 1);
	t.rc = 0;
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 0);
}

/* The driver changes its buffer while the command takes effect. */
static void
command_is_read_once(void **state)
{
	(void)state;
	t.scribble = t.mem + DATA;
	assert_int_equal(command(1, 1, "\x52\1\2\3\4\5", 6), VIRTIO_NET_OK);
	assert_int_equal(command(4, 0, "\3\0", 2), VIRTIO_NET_OK);
	assert_int_equal(vdpa_cvq_active_pairs(t.cvq), 3);
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 1);
	assert_effect(last(), 1, 1, "\x52\1\2\3\4\5", 6);
}

/* ---- MAC tables ---- */

static uint32_t
put_table(uint8_t *to, uint32_t nr_unicast, uint32_t nr_multicast)
{
	uint8_t *begin = to;

	for (int k = 0; k < 2; k++) {
		uint32_t nr = k == 0 ? nr_unicast : nr_multicast;

		memcpy(to, &nr, sizeof(nr));
		to += sizeof(nr);
		for (uint32_t i = 0; i < nr; i++, to += 6)
			memcpy(to, (uint8_t[]){2 + k, 0, 0, k, i >> 8, i}, 6);
	}
	return to - begin;
}

static uint8_t
set_table(uint32_t nr_unicast, uint32_t nr_multicast)
{
	static uint8_t data[0x10000];

	return command(1, 0, data, put_table(data, nr_unicast, nr_multicast));
}

static void
assert_table(const struct effect *effect, uint32_t nr_unicast, uint32_t nr_multicast)
{
	uint8_t data[sizeof(effect->data)];
	uint32_t len = put_table(data, nr_unicast, nr_multicast);

	assert_effect(effect, 1, 0, data, len);
}

static void
tables_that_contradict_their_length_are_refused(void **state)
{
	uint8_t data[64] = {0};

	(void)state;
	for (uint32_t nr = 1; nr < 5; nr++) {
		uint32_t len = put_table(data, 2, 2);

		data[0] = 2 + nr; /* takes from what follows, or is not there */
		refuse(1, 0, len, (char *)data);
		put_table(data, 2, 2);
		data[16] = 2 + nr;
		refuse(1, 0, len, (char *)data);
	}
	refuse(1, 0, 8, "\xff\xff\xff\xff\0\0\0\0");
	refuse(1, 0, 8, "\0\0\0\0\xff\xff\xff\xff");
	refuse(1, 0, 10, "\xab\xaa\xaa\xaa\0\0\0\0\0\0"); /* times 6 is 2 bytes, in 32 bits */
	refuse(1, 0, 7, "\0\0\0\0\0\0\0");
	refuse(1, 0, 4, "\0\0\0\0");
	assert_int_equal(t.nr_effects, 0);
}

static void
full_tables_are_taken_as_they_are(void **state)
{
	(void)state;
	assert_int_equal(set_table(MACS_MAX, MACS_MAX), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 1);
	assert_table(last(), MACS_MAX, MACS_MAX);
}

static void
tables_that_are_too_long_widen_the_filter(void **state)
{
	(void)state;
	assert_int_equal(command(0, 0, "\0", 1), VIRTIO_NET_OK);
	assert_int_equal(set_table(MACS_MAX + 1, 3), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 4);
	assert_effect(&t.effects[1], 0, 0, "\1", 1);
	assert_effect(&t.effects[2], 0, 1, "\0", 1);
	assert_table(&t.effects[3], 0, 3);
	/* the driver's wish is noted, the filter stays wide */
	assert_int_equal(command(0, 0, "\0", 1), VIRTIO_NET_OK);
	assert_effect(last(), 0, 0, "\1", 1);
	assert_int_equal(command(0, 1, "\1", 1), VIRTIO_NET_OK);
	/* both, and really long */
	t.nr_effects = 0;
	assert_int_equal(set_table(3000, 5000), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 3);
	assert_effect(&t.effects[0], 0, 0, "\1", 1);
	assert_effect(&t.effects[1], 0, 1, "\1", 1);
	assert_table(&t.effects[2], 0, 0);
	/* all-multicast alone, which the driver never set */
	vdpa_cvq_reset(t.cvq, t.features);
	t.nr_effects = 0;
	assert_int_equal(set_table(1, MACS_MAX + 1), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 3);
	assert_effect(&t.effects[0], 0, 0, "\0", 1);
	assert_effect(&t.effects[1], 0, 1, "\1", 1);
	assert_table(&t.effects[2], 1, 0);
	assert_int_equal(set_table(3000, 5000), VIRTIO_NET_OK);
	assert_int_equal(command(0, 1, "\1", 1), VIRTIO_NET_OK);
	/* a new device gets the same */
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 3);
	assert_effect(&t.effects[0], 0, 0, "\1", 1);
	assert_effect(&t.effects[1], 0, 1, "\1", 1);
	assert_table(&t.effects[2], 0, 0);
	/* a short one narrows it again, table first, to what the driver set */
	t.nr_effects = 0;
	assert_int_equal(set_table(2, 1), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 3);
	assert_table(&t.effects[0], 2, 1);
	assert_effect(&t.effects[1], 0, 0, "\0", 1);
	assert_effect(&t.effects[2], 0, 1, "\1", 1);
	t.nr_effects = 0;
	assert_int_equal(set_table(2, 2), VIRTIO_NET_OK);
	assert_int_equal(t.nr_effects, 1);
}

static void
table_that_the_device_refuses_leaves_the_former(void **state)
{
	(void)state;
	assert_int_equal(set_table(2, 1), VIRTIO_NET_OK);
	t.fail_cls = 1;
	t.rc = -ENOSPC;
	assert_int_equal(set_table(5, 5), VIRTIO_NET_ERR);
	assert_int_equal(set_table(MACS_MAX + 1, 5), VIRTIO_NET_ERR);
	t.fail_cls = 0;
	t.fail_cmd = 1;
	assert_int_equal(set_table(1, MACS_MAX + 1), VIRTIO_NET_ERR);
	t.rc = 0;
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 1);
	assert_table(last(), 2, 1);
}

/* ---- settings over the life of the queue ---- */

static void
settings_are_restored_in_the_order_of_classes(void **state)
{
	static const uint8_t offloads[8] = {0x02};

	(void)state;
	assert_int_equal(command(5, 0, offloads, 8), VIRTIO_NET_OK);
	assert_int_equal(command(2, 0, "\5\0", 2), VIRTIO_NET_OK);
	assert_int_equal(command(2, 0, "\xff\x0f", 2), VIRTIO_NET_OK);
	assert_int_equal(command(2, 0, "\x4\0", 2), VIRTIO_NET_OK);
	assert_int_equal(command(2, 1, "\5\0", 2), VIRTIO_NET_OK);
	assert_int_equal(command(4, 0, "\3\0", 2), VIRTIO_NET_OK);
	assert_int_equal(command(1, 1, "\x52\1\2\3\4\5", 6), VIRTIO_NET_OK);
	assert_int_equal(set_table(1, 2), VIRTIO_NET_OK);
	assert_int_equal(command(0, 5, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(command(0, 1, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(command(0, 1, "\0", 1), VIRTIO_NET_OK);
	t.nr_effects = 0;
	t.pairs = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 7);
	assert_effect(&t.effects[0], 0, 1, "\0", 1);
	assert_effect(&t.effects[1], 0, 5, "\1", 1);
	assert_table(&t.effects[2], 1, 2);
	assert_effect(&t.effects[3], 1, 1, "\x52\1\2\3\4\5", 6);
	assert_effect(&t.effects[4], 2, 0, "\x4\0", 2);
	assert_effect(&t.effects[5], 2, 0, "\xff\x0f", 2);
	assert_effect(&t.effects[6], 5, 0, offloads, 8);
	/* start says how many pairs are active */
	assert_int_equal(t.pairs, 0);
	assert_int_equal(vdpa_cvq_active_pairs(t.cvq), 3);
	/* one that fails does not keep the others back */
	t.nr_effects = 0;
	t.fail_cls = 1;
	t.rc = -ENOTSUP;
	assert_int_equal(vdpa_cvq_restore(t.cvq), -ENOTSUP);
	assert_int_equal(t.nr_effects, 7);
}

static void
all_vlans_can_be_set(void **state)
{
	(void)state;
	for (unsigned int vlan = 0; vlan < 4096; vlan++)
		assert_int_equal(command(2, 0, (uint8_t[]){vlan, vlan >> 8}, 2), VIRTIO_NET_OK);
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 4096);
	assert_effect(&t.effects[0x123], 2, 0, "\x23\x01", 2);
}

static void
reset_forgets_everything(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_GOODS; i++)
		assert_int_equal(command(goods[i].cls, goods[i].cmd, goods[i].data, goods[i].len),
			VIRTIO_NET_OK);
	assert_int_equal(command(4, 0, "\3\0", 2), VIRTIO_NET_OK);
	vdpa_cvq_reset(t.cvq, t.features);
	assert_int_equal(vdpa_cvq_active_pairs(t.cvq), 1);
	t.nr_effects = 0;
	assert_int_equal(vdpa_cvq_restore(t.cvq), 0);
	assert_int_equal(t.nr_effects, 0);
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
}

static void
queue_goes_on_where_it_stopped(void **state)
{
	static const uint64_t rings[] = {0, BIT(VIRTIO_F_RING_PACKED)};

	(void)state;
	end();
	for (int i = 0; i < 2; i++) {
		begin(rings[i]);
		for (int round = 0; round < 200; round++) {
			struct vdpa_vq_state at;

			assert_int_equal(command(4, 0, "\2\0", 2), VIRTIO_NET_OK);
			vdpa_cvq_stop(t.cvq, &at);
			if (rings[i] == 0)
				assert_int_equal(at.used, round + 1);
			assert_int_equal(at.avail, at.used);
			t.vq.state = at;
			assert_int_equal(vdpa_cvq_start(t.cvq, &t.vq, &t.call, t.domain), 0);
		}
		assert_int_equal(vdpa_cvq_active_pairs(t.cvq), 2);
		if (i == 0)
			end();
	}
}

static void
queue_that_does_not_run_does_nothing(void **state)
{
	struct vdpa_vq_state at = {9, 9};

	(void)state;
	put_command(0, 0, "\1", 1);
	post(3, 3, 1);
	vdpa_cvq_stop(t.cvq, &at);
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(vdpa_cvq_update_memory(t.cvq, t.domain), 0);
	assert_int_equal(t.nr_effects, 0);
	vdpa_cvq_stop(t.cvq, &at);
	assert_int_equal(at.avail, 0);
	assert_int_equal(at.used, 0);
	vdpa_cvq_free(NULL);
}

static void
ring_outside_memory_is_refused(void **state)
{
	struct vdpa_vq_state at;

	(void)state;
	vdpa_cvq_stop(t.cvq, &at);
	t.vq.device_iova = IOVA + MEM_SIZE - 4;
	assert_int_equal(vdpa_cvq_start(t.cvq, &t.vq, &t.call, t.domain), -EFAULT);
	assert_non_null(strstr(vdpa_error_text(), "control virtqueue"));
	t.vq.device_iova = IOVA + 0x4001;
	assert_int_equal(vdpa_cvq_start(t.cvq, &t.vq, &t.call, t.domain), -EINVAL);
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
}

static void
memory_is_exchanged_while_it_runs(void **state)
{
	static _Alignas(4096) uint8_t other[MEM_SIZE];
	struct vdpa_range small = {.iova = IOVA, .size_bytes = 4096, .va = other, .fd = -1};
	struct vdpa_domain *next;

	(void)state;
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
	/* one without the ring: the former one stays */
	assert_int_equal(vdpa_domain_create(&next, &small, 1, NULL, NULL), 0);
	assert_int_equal(vdpa_cvq_update_memory(t.cvq, next), -EFAULT);
	vdpa_domain_put(next);
	assert_int_equal(command(0, 0, "\0", 1), VIRTIO_NET_OK);
	/* the same content elsewhere */
	next = domain_of(other);
	put_command(0, 1, "\1", 1);
	post(3, 3, 1);
	memcpy(other, t.mem, sizeof(other));
	assert_int_equal(vdpa_cvq_update_memory(t.cvq, next), 0);
	vdpa_domain_put(next);
	memset(t.mem, 0, sizeof(t.mem));
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_effect(last(), 0, 1, "\1", 1);
	assert_int_equal(other[DATA + 0x10000], VIRTIO_NET_OK);
}

/* ---- notifications and bounds ---- */

static uint64_t
calls(void)
{
	uint64_t value = 0;

	return read(t.call.fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

static void
driver_is_interrupted_when_it_wants(void **state)
{
	struct vdpa_fd *fd;
	int sockets[2];
	uint64_t value;

	(void)state;
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(calls(), 1);
	vring_drv_disarm(&t.drv);
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(calls(), 0);
	vring_drv_arm(&t.drv);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(vdpa_fd_dup(sockets[0], true, &fd), 0);
	assert_int_equal(vdpa_call_set(&t.call, fd), 0);
	vdpa_fd_put(fd);
	close(sockets[0]);
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(read(sockets[1], &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 1);
	/* nobody reads: it fills up and blocks nobody */
	for (int i = 0; i < 2000; i++)
		assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
	close(sockets[1]);
	assert_int_equal(command(0, 0, "\1", 1), VIRTIO_NET_OK);
}

static void
next_command_is_kicked_for(void **state)
{
	(void)state;
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	for (int i = 0; i < 5; i++) {
		put_command(0, 0, "\1", 1);
		post(3, 3, 1);
		assert_true(vring_drv_kick_needed(&t.drv));
		assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
		answer(1);
	}
}

static void
post_many(unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct vring_buf bufs[2] = {
			{IOVA + DATA, 3},
			{IOVA + DATA + 0x10000, 1},
		};

		assert_int_equal(vring_drv_add(&t.drv, bufs, 1, 1, &t, NULL), 0);
	}
	vring_drv_publish(&t.drv);
}

static void
one_call_does_a_bounded_number(void **state)
{
	(void)state;
	put_command(0, 0, "\1", 1);
	post_many(100);
	assert_int_equal(vdpa_cvq_serve(t.cvq), 1);
	assert_int_equal(t.nr_effects, 64);
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(t.nr_effects, 100);
}

static void
one_call_takes_a_bounded_time(void **state)
{
	(void)state;
	put_command(0, 0, "\1", 1);
	post_many(20);
	t.delay_ms = 60;
	assert_int_equal(vdpa_cvq_serve(t.cvq), 1);
	assert_in_range(t.nr_effects, 1, 4);
	t.delay_ms = 0;
	assert_int_equal(vdpa_cvq_serve(t.cvq), 0);
	assert_int_equal(t.nr_effects, 20);
}

/* ---- hostile rings ---- */

static void
assert_broken(void)
{
	vdpa_error_set(0, "none");
	assert_int_equal(vdpa_cvq_serve(t.cvq), -EBADMSG);
	assert_non_null(strstr(vdpa_error_text(), "control virtqueue: "));
	assert_int_equal(vdpa_cvq_serve(t.cvq), -EBADMSG);
}

static void
index_that_runs_away_breaks_the_queue(void **state)
{
	struct vring_avail *avail = (struct vring_avail *)(t.mem + 0x2000);

	(void)state;
	avail->idx = SIZE + 1;
	assert_broken();
	assert_int_equal(t.nr_effects, 0);
}

static void
buffer_outside_memory_breaks_the_queue_after_what_was_good(void **state)
{
	struct vring_desc *desc = (struct vring_desc *)t.mem;
	struct vring_drv_done done;

	(void)state;
	put_command(0, 0, "\1", 1);
	post_many(2);
	desc[3].addr = IOVA + MEM_SIZE; /* the second answer */
	assert_broken();
	assert_int_equal(t.nr_effects, 1);
	assert_int_equal(vring_drv_get(&t.drv, &done, 1), 1);
	assert_int_equal(done.len, 1);
	assert_int_equal(calls(), 1);
}

static void
command_of_too_many_pieces_breaks_the_queue(void **state)
{
	struct vring_buf bufs[66];

	(void)state;
	for (int i = 0; i < 66; i++)
		bufs[i] = (struct vring_buf){IOVA + DATA, 1};
	assert_int_equal(vring_drv_add(&t.drv, bufs, 65, 1, &t, NULL), 0);
	vring_drv_publish(&t.drv);
	assert_broken();
	assert_int_equal(t.nr_effects, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_reach_the_device_on_every_kind_of_ring),
		TEST(what_was_not_agreed_is_refused),
		TEST(wrong_lengths_are_refused),
		TEST(unknown_commands_are_refused),
		TEST(values_out_of_range_are_refused),
		TEST(malformed_chains_are_answered_where_that_is_possible),
		TEST(failing_device_answers_and_nothing_is_kept),
		TEST(command_is_read_once),
		TEST(tables_that_contradict_their_length_are_refused),
		TEST(full_tables_are_taken_as_they_are),
		TEST(tables_that_are_too_long_widen_the_filter),
		TEST(table_that_the_device_refuses_leaves_the_former),
		TEST(settings_are_restored_in_the_order_of_classes),
		TEST(all_vlans_can_be_set),
		TEST(reset_forgets_everything),
		TEST(queue_goes_on_where_it_stopped),
		TEST(queue_that_does_not_run_does_nothing),
		TEST(ring_outside_memory_is_refused),
		TEST(memory_is_exchanged_while_it_runs),
		TEST(driver_is_interrupted_when_it_wants),
		TEST(next_command_is_kicked_for),
		TEST(one_call_does_a_bounded_number),
		TEST(one_call_takes_a_bounded_time),
		TEST(index_that_runs_away_breaks_the_queue),
		TEST(buffer_outside_memory_breaks_the_queue_after_what_was_good),
		TEST(command_of_too_many_pieces_breaks_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
