/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_common.h>

#include "card_guest.h"
#include "vdpa_private.h"

/* The relay and the dirty log through the class, over the test card. */

#define F_IN_ORDER 35
#define PLAIN      (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC))
#define LOG_BYTES  (((GUEST_IOVA_HOTPLUG + GUEST_REGION_BYTES) >> 12) / 8 + 8)

static const uint64_t formats[] = {
	PLAIN,
	PLAIN | BIT(VIRTIO_RING_F_EVENT_IDX),
	PLAIN | BIT(VIRTIO_F_RING_PACKED),
	PLAIN | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX),
};

static void
set_log(struct guest *guest, void *log)
{
	guest->wanted.log = log != NULL;
	guest->wanted.log_va = log;
	guest->wanted.log_size_bytes = LOG_BYTES;
	guest->wanted.log_seq++;
}

static uint8_t *
new_log(void)
{
	void *log = mmap(
		NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(log != MAP_FAILED);
	return log;
}

static bool
logged(const uint8_t *log, uint64_t iova)
{
	const uint8_t *byte = &log[(iova >> 12) / 8];

	return (__atomic_load_n(byte, __ATOMIC_RELAXED) >> ((iova >> 12) % 8) & 1) != 0;
}

static unsigned int
nr_logged(const uint8_t *log)
{
	unsigned int nr = 0;

	for (size_t i = 0; i < LOG_BYTES; i++)
		nr += __builtin_popcount(__atomic_load_n(&log[i], __ATOMIC_RELAXED));
	return nr;
}

static void
clear_log(uint8_t *log)
{
	for (size_t i = 0; i < LOG_BYTES; i++)
		__atomic_store_n(&log[i], 0, __ATOMIC_RELAXED);
}

static void
test_frames_pass_relayed(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 2, .relay = VDPA_RELAY_ALWAYS};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct vdpa_vq_state states[4];
		struct card *card;
		struct guest guest;

		setup_started(&card, &guest, &conf, formats[i]);
		assert_int_equal(status_of(card).mode, VDPA_MODE_RELAYED);
		assert_int_equal(guest_exchange(&guest, 0, 1000, 30000), 0);
		assert_int_equal(guest_exchange(&guest, 1, 1000, 30000), 0);
		assert_int_equal(card_frames(card), 2000);
		/* a looped frame is two entries, and each goes there and back, before it counts */
		for (int k = 0; k < 30000 && status_of(card).relayed < 8000; k++)
			usleep(1000);
		assert_in_range(status_of(card).relayed, 8000, 8000 + 4 * GUEST_RING);
		assert_int_equal(vdpa_session_stop(guest.session, states, 4, 0), 0);
		assert_int_equal(states[0].avail, states[0].used);
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(guest_exchange(&guest, 0, 1000, 30000), 0);
		teardown(card, &guest);
	}
}

/*
 * Direct to relayed and back 200 times under traffic: every frame once and in order, nothing
 * outside the map.
 */
static void
switch_over(const struct card_conf *conf, uint64_t features)
{
	struct card *card;
	struct guest guest;
	uint64_t relayed;

	setup_started(&card, &guest, conf, features);
	for (int i = 0; i < 200; i++) {
		unsigned int sent = guest_send(&guest, 0, 40);

		assert_int_equal(vdpa_device_relay_set(card_device(card),
					 i % 2 == 0 ? VDPA_RELAY_ALWAYS : VDPA_RELAY_AUTO),
			0);
		sent += guest_send(&guest, 0, 10);
		assert_int_equal(guest_exchange(&guest, 0, 0, 30000), 0);
		assert_true(sent > 0);
	}
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).mode, VDPA_MODE_DIRECT);
	/* direct again: the relay handles nothing */
	relayed = status_of(card).relayed;
	assert_int_equal(guest_exchange(&guest, 0, 500, 30000), 0);
	assert_int_equal(status_of(card).relayed, relayed);
	assert_in_range(status_of(card).phases[VDPA_PHASE_PAUSE].nr, 2, 200);
	assert_int_equal(guest.bad, 0);
	assert_int_equal(card_calls(card, "reset"), 0);
	teardown(card, &guest);
}

/* A bus driver that binds it is told; what it was told does not change while it is bound. */
static void
test_relay_off_and_the_promise_of_a_log(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct vdpa_contract contract;
	struct card *card = card_create(&conf);
	struct guest guest;
	uint8_t *log = new_log();

	(void)state;
	assert_non_null(card);
	assert_int_equal(vdpa_device_relay_set(card_device(card), VDPA_RELAY_OFF), 0);
	assert_int_equal(guest_create(&guest, card_device(card), PLAIN, 1), 0);
	vdpa_binding_contract(guest.binding, &contract);
	assert_false(contract.can_log);
	set_log(&guest, log);
	assert_int_not_equal(guest_start(&guest), 0);
	assert_int_equal(guest_destroy(&guest), 0);

	assert_int_equal(vdpa_device_relay_set(card_device(card), VDPA_RELAY_AUTO), 0);
	assert_int_equal(guest_create(&guest, card_device(card), PLAIN, 1), 0);
	vdpa_binding_contract(guest.binding, &contract);
	assert_true(contract.can_log);
	assert_int_equal(vdpa_device_relay_set(card_device(card), VDPA_RELAY_OFF), -EBUSY);
	set_log(&guest, log);
	assert_int_equal(guest_start(&guest), 0);
	assert_int_equal(status_of(card).mode, VDPA_MODE_RELAYED);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

static void
test_switch_over_under_traffic(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		switch_over(&(struct card_conf){.name = "c0", .nr_pairs = 1}, formats[i]);
	switch_over(&(struct card_conf){.name = "c0", .nr_pairs = 1, .set_map = true}, formats[0]);
	switch_over(&(struct card_conf){.name = "c0", .nr_pairs = 1, .caps_off = VDPA_CAP_LATE_VQ},
		formats[2]);
}

/*
 * A card that takes no start index: relayed wherever the driver is not at the beginning, until it
 * resets.
 */
static void
test_no_start_index_is_relayed(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .caps_off = VDPA_CAP_SET_STATE};
	struct vdpa_vq_state states[2];

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct card *card;
		struct guest guest;

		setup_started(&card, &guest, &conf, formats[i]);
		assert_int_equal(status_of(card).mode, VDPA_MODE_DIRECT);
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(status_of(card).mode, VDPA_MODE_RELAYED);
		assert_string_equal(status_of(card).mode_why, "no start index");
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
		assert_int_equal(guest_reset_rings(&guest), 0);
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(status_of(card).mode, VDPA_MODE_DIRECT);
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		teardown(card, &guest);
	}
}

/*
 * A consumer that comes back says where its rings stand: however the relay starts the device, the
 * driver goes on, and keeps what it chose.
 */
static void
test_no_start_index_is_no_fresh_driver(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .caps_off = VDPA_CAP_SET_STATE};
	const uint8_t mac[6] = {0x02, 0, 0, 0, 0x77, 0x01};
	struct vdpa_vq_state states[3];
	uint8_t shown[6];

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct card *card;
		struct guest guest;

		setup_started(&card, &guest, &conf,
			formats[i] | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR));
		assert_true(card_is_fresh(card));
		assert_int_equal(guest_command(&guest, VIRTIO_NET_CTRL_MAC,
					 VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(mac)),
			VIRTIO_NET_OK);
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		assert_int_equal(vdpa_session_stop(guest.session, states, 3, 0), 0);
		for (unsigned int k = 0; k < 3; k++) {
			guest.vqs[k].base = states[k];
			guest.vqs[k].base_seq++;
		}
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(status_of(card).mode, VDPA_MODE_RELAYED);
		assert_false(card_is_fresh(card));
		vdpa_binding_config_read(guest.binding, 0, shown, sizeof(shown));
		assert_memory_equal(shown, mac, sizeof(mac));
		assert_int_equal(card_calls(card, "cvq"), 2);
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		assert_int_equal(vdpa_session_stop(guest.session, states, 3, 0), 0);
		assert_int_equal(guest_reset_rings(&guest), 0);
		assert_int_equal(guest_set(&guest), 0);
		assert_true(card_is_fresh(card));
		teardown(card, &guest);
	}
}

/* Stopped and started again, always in this mode. */
static void
position_decides(const struct card_conf *conf, uint64_t features, bool known)
{
	struct vdpa_vq_state states[2];
	struct card *card;
	struct guest guest;

	setup(&card, &guest, conf, features);
	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(round == 0 ? guest_start(&guest) : guest_set(&guest), 0);
		assert_int_equal(
			status_of(card).mode, known ? VDPA_MODE_DIRECT : VDPA_MODE_RELAYED);
		assert_string_equal(status_of(card).mode_why, known ? "" : "no ring position");
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
		assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
		assert_int_equal(states[1].avail, states[1].used);
	}
	teardown(card, &guest);
}

/* A packed ring does not show where it stands, and this device does not tell: always relayed. */
static void
test_no_ring_position_is_relayed(void **state)
{
	const struct card_conf conf = {
		.name = "c0", .nr_pairs = 1, .logs = true, .caps_off = VDPA_CAP_GET_STATE};

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		position_decides(&conf, formats[i], (formats[i] & BIT(VIRTIO_F_RING_PACKED)) == 0);
}

/* The used index is a position where buffers are used in order: by promise, or as agreed. */
static void
test_no_ring_position_out_of_order(void **state)
{
	const struct card_conf conf = {.name = "c0",
		.nr_pairs = 1,
		.logs = true,
		.features = PLAIN | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_RING_PACKED) |
			BIT(F_IN_ORDER),
		.caps_off = VDPA_CAP_GET_STATE | VDPA_CAP_IN_ORDER};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		bool packed = (formats[i] & BIT(VIRTIO_F_RING_PACKED)) != 0;

		position_decides(&conf, formats[i], false);
		position_decides(&conf, formats[i] | BIT(F_IN_ORDER), !packed);
	}
}

/* What would have to be relayed and must not be is refused by name. */
static void
test_no_ring_position_is_refused_without_the_relay(void **state)
{
	const struct card_conf conf = {.name = "c0",
		.nr_pairs = 1,
		.relay = VDPA_RELAY_OFF,
		.caps_off = VDPA_CAP_GET_STATE | VDPA_CAP_IN_ORDER};
	struct card *card;
	struct guest guest;

	(void)state;
	setup(&card, &guest, &conf, PLAIN);
	assert_int_equal(guest_start(&guest), -ENOTSUP);
	assert_false(status_of(card).running);
	assert_non_null(strstr(status_of(card).last_error, "no ring position"));
	assert_int_equal(guest.resets, 1);
	assert_int_equal(card_calls(card, "start"), 0);
	teardown(card, &guest);
}

/* One receive buffer's page, and rings. What was marked earlier may come late, once: try again. */
static void
one_frame_is_logged(struct guest *guest, uint8_t *log, bool packed)
{
	const struct vdpa_wanted_vq *vqs = guest->vqs;
	uint64_t rx = packed ? vqs[0].desc_iova : vqs[0].device_iova;
	uint64_t tx = packed ? vqs[1].desc_iova : vqs[1].device_iova;
	unsigned int nr = 0;

	for (int i = 0; i < 20 && (nr < 3 || nr > 3 + 6); i++) {
		clear_log(log);
		assert_int_equal(guest_exchange(guest, 0, 1, 30000), 0);
		for (int k = 0; k < 30000; k++) {
			nr = nr_logged(log);
			if (nr >= 3 && logged(log, rx) && logged(log, tx))
				break;
			usleep(1000);
		}
	}
	assert_true(logged(log, rx));
	assert_true(logged(log, tx));
	assert_in_range(nr, 3, 3 + 6);
}

/*
 * The whole table once when logging engages; then just what is written: here one receive buffer's
 * page, and rings.
 */
static void
log_is_exact(const struct card_conf *conf, uint64_t features, enum vdpa_mode mode)
{
	struct vdpa_vq_state states[2];
	uint8_t *log = new_log(), *second = new_log();
	struct card *card;
	struct guest guest;

	setup_started(&card, &guest, conf, features);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	set_log(&guest, log);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).mode, mode);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);
	one_frame_is_logged(&guest, log, (features & BIT(VIRTIO_F_RING_PACKED)) != 0);
	/* the log is replaced in running: all once more, and the first is left alone */
	set_log(&guest, second);
	assert_int_equal(guest_set(&guest), 0);
	clear_log(log);
	assert_int_equal(nr_logged(second), GUEST_REGION_BYTES / 4096);
	clear_log(second);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_int_equal(nr_logged(log), 0);
	/*
	 * what came last is in it when the stop is answered: the 64 buffers are 32 pages, all used
	 * by now
	 */
	assert_in_range(nr_logged(second), 32, 32 + 8);
	/* cancelled: direct again */
	set_log(&guest, NULL);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).mode, VDPA_MODE_DIRECT);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
	munmap(second, LOG_BYTES);
}

static void
test_log_is_exact(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		log_is_exact(&(struct card_conf){.name = "c0", .nr_pairs = 1}, formats[i],
			VDPA_MODE_RELAYED);
		log_is_exact(&(struct card_conf){.name = "c0", .nr_pairs = 1, .logs = true},
			formats[i], VDPA_MODE_LOGGING);
	}
}

/* Another mapping of the same memory, as librte_vhost makes one at each SET_LOG_BASE. */
static uint8_t *
name_log(struct guest *guest, int fd, ino_t ino)
{
	uint8_t *log = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(log != MAP_FAILED);
	set_log(guest, log);
	guest->wanted.log_ino = ino;
	return log;
}

static void
log_is_named_again(const struct card_conf *conf, uint64_t features)
{
	bool packed = (features & BIT(VIRTIO_F_RING_PACKED)) != 0;
	static const ino_t others[] = {2, 0, 0};
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct card *card;
	struct guest guest;
	uint8_t *log, *former;

	assert_true(fd >= 0 && ftruncate(fd, LOG_BYTES) == 0);
	setup_started(&card, &guest, conf, features);
	log = name_log(&guest, fd, 1);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);
	for (int i = 0; i < 10; i++) {
		former = log;
		log = name_log(&guest, fd, 1);
		munmap(former, LOG_BYTES);
		assert_int_equal(guest_set(&guest), 0);
		one_frame_is_logged(&guest, log, packed);
	}
	assert_int_equal(status_of(card).dirty_tables, 1);
	/* another offset, another size, another file, and files that nobody knows */
	guest.wanted.log_offset = 4096;
	guest.wanted.log_seq++;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).dirty_tables, 2);
	guest.wanted.log_size_bytes -= 8;
	guest.wanted.log_seq++;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).dirty_tables, 3);
	for (unsigned int i = 0; i < RTE_DIM(others); i++) {
		guest.wanted.log_ino = others[i];
		guest.wanted.log_seq++;
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(status_of(card).dirty_tables, 4 + i);
	}
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
	close(fd);
}

static void
test_a_log_that_is_named_again_goes_on(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i += 3) {
		log_is_named_again(&(struct card_conf){.name = "c0", .nr_pairs = 1}, formats[i]);
		log_is_named_again(
			&(struct card_conf){.name = "c0", .nr_pairs = 1, .logs = true}, formats[i]);
	}
}

/* A stop that comes before logging engaged marks all; so does a start under a log. */
static void
test_promise_of_the_log(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct vdpa_vq_state states[2];
	uint8_t *log = new_log();
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	card_fault(card, "stop", CARD_DELAY, 30);
	set_log(&guest, log);
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);
	card_fault(card, "stop", CARD_OK, 0);
	memset(log, 0, LOG_BYTES);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).mode, VDPA_MODE_RELAYED);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

/* A device that hangs on the way to the relay was writing until it was fenced. */
static void
test_promise_of_a_device_that_hangs(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .hangs = true};
	struct vdpa_vq_state states[2];
	uint8_t *log = new_log();
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, PLAIN);
	card_fault(card, "stop", CARD_HANG, 0);
	set_log(&guest, log);
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), -ETIMEDOUT);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	card_release(card);
	while (guest_destroy_binding(&guest) == -EBUSY)
		usleep(1000);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

/* The framework does what the device fails to do. */
static void
test_a_log_that_fails_is_replaced_by_the_relay(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .logs = true};
	struct vdpa_device_status status;
	uint8_t *log = new_log();
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	card_fault(card, "dirty_start", CARD_FAIL, 0);
	set_log(&guest, log);
	assert_int_equal(guest_set(&guest), 0);
	for (int i = 0; i < 30000 && status_of(card).mode != VDPA_MODE_RELAYED; i++)
		usleep(1000);
	status = status_of(card);
	assert_int_equal(status.mode, VDPA_MODE_RELAYED);
	assert_int_equal(status.health, VDPA_HEALTH_OK);
	assert_string_equal(status.last_error, "dirty_start: Input/output error");
	/* the table is marked last, and whoever stops waits for that */
	assert_int_equal(vdpa_session_stop(guest.session, NULL, 0, 0), 0);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

/*
 * Where the relay must not help, a device that fails to log stops: nothing is written unmarked.
 * Nobody is left with the marks of a log that never began.
 */
static void
test_a_log_that_fails_without_the_relay(void **state)
{
	const struct card_conf conf = {
		.name = "c0", .nr_pairs = 1, .logs = true, .relay = VDPA_RELAY_OFF};
	struct vdpa_device_priv *priv;
	uint8_t *log = new_log();
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	card_fault(card, "dirty_start", CARD_FAIL, 0);
	set_log(&guest, log);
	assert_int_equal(guest_set(&guest), -EIO);
	assert_false(status_of(card).running);
	assert_int_equal(guest.resets, 1);
	assert_int_equal(vdpa_session_stop(guest.session, NULL, 0, 0), 0);
	assert_int_equal(nr_logged(log), GUEST_REGION_BYTES / 4096);

	vdpa_session_close(guest.session);
	set_log(&guest, NULL);
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_start(&guest), 0);
	priv = card_device(card)->priv;
	assert_null(atomic_load(&priv->dirty));
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

static void
test_memory_changes_while_relayed(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .relay = VDPA_RELAY_ALWAYS};
	struct card *card;
	struct guest guest;
	uint8_t *log = new_log();

	(void)state;
	setup_started(&card, &guest, &conf, formats[1]);
	set_log(&guest, log);
	for (int i = 0; i < 20; i++) {
		unsigned int sent = guest_send(&guest, 0, 20);

		guest_hotplug(&guest, i % 2 == 0);
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(guest_exchange(&guest, 0, 20 - sent, 30000), 0);
	}
	assert_int_equal(card_calls(card, "start"), 1);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

static void
test_a_broken_ring_stops_one_relayed_queue(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 2, .relay = VDPA_RELAY_ALWAYS};
	struct card *card;
	struct guest guest;
	uint16_t *avail;

	(void)state;
	setup_started(&card, &guest, &conf, PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	avail = guest_va(&guest, guest.vqs[1].driver_iova);
	avail[1] = 0x7000;
	guest_kick(&guest, 1);
	for (int i = 0; i < 30000 && __atomic_load_n(&guest.resets, __ATOMIC_SEQ_CST) == 0; i++)
		usleep(1000);
	assert_int_equal(guest.resets, 1);
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).nr_vqs_running, 3);
	teardown(card, &guest);
}

/* A consumer may put its memory far apart: what lies between is not searched for marks. */
static void
test_log_of_memory_far_apart(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .logs = true};
	struct vdpa_vq_state states[2];
	struct card *card;
	struct guest guest;
	uint8_t *log = new_log();

	(void)state;
	setup(&card, &guest, &conf, PLAIN);
	guest.regions[1].iova = UINT64_C(1) << 47;
	guest_hotplug(&guest, true);
	set_log(&guest, log);
	assert_int_equal(guest_start(&guest), 0);
	assert_int_equal(status_of(card).mode, VDPA_MODE_LOGGING);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_true(status_of(card).dirty_pages > 0);
	teardown(card, &guest);
	munmap(log, LOG_BYTES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_pass_relayed),
		cmocka_unit_test(test_relay_off_and_the_promise_of_a_log),
		cmocka_unit_test(test_switch_over_under_traffic),
		cmocka_unit_test(test_no_start_index_is_relayed),
		cmocka_unit_test(test_no_start_index_is_no_fresh_driver),
		cmocka_unit_test(test_no_ring_position_is_relayed),
		cmocka_unit_test(test_no_ring_position_out_of_order),
		cmocka_unit_test(test_no_ring_position_is_refused_without_the_relay),
		cmocka_unit_test(test_log_is_exact),
		cmocka_unit_test(test_a_log_that_is_named_again_goes_on),
		cmocka_unit_test(test_promise_of_the_log),
		cmocka_unit_test(test_promise_of_a_device_that_hangs),
		cmocka_unit_test(test_a_log_that_fails_is_replaced_by_the_relay),
		cmocka_unit_test(test_a_log_that_fails_without_the_relay),
		cmocka_unit_test(test_memory_changes_while_relayed),
		cmocka_unit_test(test_log_of_memory_far_apart),
		cmocka_unit_test(test_a_broken_ring_stops_one_relayed_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
