/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_byteorder.h>

#include "card_guest.h"

/* The guest that has arrived from elsewhere is asked to announce itself (virtio 1.2, 5.1.6.5.4). */

#define BIT(feature) (UINT64_C(1) << (feature))
#define ABLE                                                                          \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | \
		BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ) |                    \
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))

static const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .features = ABLE};

static bool
is_asked(struct guest *guest)
{
	struct virtio_net_config config;

	vdpa_binding_config_read(guest->binding, 0, &config, sizeof(config));
	return (config.status & rte_cpu_to_le_16(VIRTIO_NET_S_ANNOUNCE)) != 0;
}

static void
wait_asked(struct guest *guest, bool asked)
{
	for (int i = 0; i < 30000 && is_asked(guest) != asked; i++)
		usleep(1000);
	assert_int_equal(is_asked(guest), asked);
}

static unsigned int
interrupts(struct guest *guest)
{
	return __atomic_load_n(&guest->config_changes, __ATOMIC_SEQ_CST);
}

/* The front end goes; another one has the guest, where it stopped. */
static void
arrive(struct guest *guest)
{
	struct vdpa_vq_state states[GUEST_VQS_MAX];

	assert_int_equal(vdpa_session_stop(guest->session, states, guest->wanted.nr_vqs, 0), 0);
	vdpa_session_close(guest->session);
	for (uint16_t i = 0; i < guest->wanted.nr_vqs; i++) {
		guest->vqs[i].base = states[i];
		guest->vqs[i].base_seq++;
	}
	assert_int_equal(guest_start(guest), 0);
}

static void
test_a_guest_that_arrives_is_asked_until_it_answers(void **state)
{
	struct vdpa_vq_state states[GUEST_VQS_MAX];
	struct card *card;
	struct guest guest;
	unsigned int before;

	(void)state;
	setup_started(&card, &guest, &conf, ABLE);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	assert_false(is_asked(&guest));
	for (unsigned int round = 0; round < 5; round++) {
		before = interrupts(&guest);
		arrive(&guest);
		wait_asked(&guest, true);
		for (int i = 0; i < 30000 && interrupts(&guest) == before; i++)
			usleep(1000);
		assert_true(interrupts(&guest) > before);
		assert_int_equal(guest_command(&guest, VIRTIO_NET_CTRL_ANNOUNCE,
					 VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
			0);
		assert_false(is_asked(&guest));
		assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	}
	/* a stop and a start where it is: nothing to tell */
	assert_int_equal(vdpa_session_stop(guest.session, states, guest.wanted.nr_vqs, 0), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	assert_false(is_asked(&guest));
	vdpa_session_close(guest.session);
	guest.session = NULL;
	teardown(card, &guest);
}

static void
test_a_driver_that_begins_anew_is_not_asked(void **state)
{
	struct vdpa_vq_state states[GUEST_VQS_MAX];
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, ABLE);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	arrive(&guest);
	wait_asked(&guest, true);
	/* it is reset before it answered */
	assert_int_equal(vdpa_session_stop(guest.session, states, guest.wanted.nr_vqs, 0), 0);
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_set(&guest), 0);
	wait_asked(&guest, false);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	teardown(card, &guest);
}

static void
test_a_guest_that_cannot_announce_is_not_asked(void **state)
{
	const uint64_t lacks[] = {BIT(VIRTIO_NET_F_GUEST_ANNOUNCE), BIT(VIRTIO_NET_F_STATUS),
		BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ)};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct card *card;
		struct guest guest;

		setup_started(&card, &guest, &conf, ABLE & ~lacks[i]);
		assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
		arrive(&guest);
		assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
		assert_false(is_asked(&guest));
		vdpa_session_close(guest.session);
		guest.session = NULL;
		teardown(card, &guest);
	}
}

static void
test_a_device_without_the_op_cannot_announce(void **state)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct vdpa_contract contract;
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, ABLE);
	vdpa_binding_contract(guest.binding, &contract);
	assert_false(contract.can_announce);
	assert_int_equal(vdpa_session_announce(guest.session, mac), -ENOTSUP);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	teardown(card, &guest);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_guest_that_arrives_is_asked_until_it_answers),
		cmocka_unit_test(test_a_driver_that_begins_anew_is_not_asked),
		cmocka_unit_test(test_a_guest_that_cannot_announce_is_not_asked),
		cmocka_unit_test(test_a_device_without_the_op_cannot_announce),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
