/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_ids.h>

#include <cmocka.h>

#include "vhost_bus.h"

#define BIT(n)            (UINT64_C(1) << (n))
#define BITS(first, last) ((BIT((last) - (first)) * 2 - 1) << (first))

/*
 * Bits by number (virtio 1.2, 6 and 5.1.3, 5.2.3), written down a second time on purpose: a row
 * that is changed by mistake must not change its own test.
 */
static const uint64_t transport_any = BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(32) | BIT(34) |
	BIT(35);
static const uint64_t transport_own = BIT(36);
static const uint64_t net_any = BITS(0, 1) | BITS(7, 15) | BIT(17) | BIT(18) | BIT(22);
static const uint64_t net_own = BITS(2, 3) | BIT(5) | BIT(16) | BITS(19, 21) | BIT(23) |
	BITS(52, 57) | BITS(59, 61) | BIT(63);
static const uint64_t block_any = BITS(1, 2) | BITS(4, 6) | BITS(9, 16);

static void
each_bit(uint16_t virtio_id, bool own_socket, uint64_t passed)
{
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		uint64_t alone = vdpa_vhost_features(BIT(bit), virtio_id, own_socket);
		const char *why = vdpa_vhost_feature_masked(bit, virtio_id, own_socket);

		if (alone != (passed & BIT(bit)) || (why == NULL) != (alone != 0))
			fail_msg("bit %u of device type %u on %s socket: %s", bit, virtio_id,
				own_socket ? "our" : "a stock", alone != 0 ? "passed" : "masked");
		if (why != NULL && strlen(why) < 10)
			fail_msg("bit %u is masked without a reason", bit);
	}
	assert_int_equal(vdpa_vhost_features(UINT64_MAX, virtio_id, own_socket), passed);
	assert_int_equal(vdpa_vhost_features(0, virtio_id, own_socket), 0);
}

static void
test_each_net_feature_is_passed_or_masked(void **state)
{
	(void)state;
	each_bit(VIRTIO_ID_NET, true, transport_any | transport_own | net_any | net_own);
	each_bit(VIRTIO_ID_NET, false, transport_any | net_any);
}

static void
test_each_block_feature_is_passed_or_masked(void **state)
{
	(void)state;
	each_bit(VIRTIO_ID_BLOCK, true, transport_any | transport_own | block_any);
	each_bit(VIRTIO_ID_BLOCK, false, transport_any | block_any);
}

static void
test_bits_between_class_and_device_are_never_passed(void **state)
{
	/*
	 * PROTOCOL_FEATURES, ACCESS_PLATFORM, SR_IOV, NOTIFICATION_DATA, its like, RING_RESET,
	 * ADMIN_VQ
	 */
	const uint64_t never = BIT(30) | BIT(33) | BITS(37, 41);

	(void)state;
	assert_int_equal(vdpa_vhost_features(never, VIRTIO_ID_NET, true), 0);
	assert_int_equal(vdpa_vhost_features(never, VIRTIO_ID_BLOCK, false), 0);
}

static void
test_unknown_device_type_gets_transport_features_only(void **state)
{
	(void)state;
	assert_int_equal(
		vdpa_vhost_features(UINT64_MAX, 0x2a, true), transport_any | transport_own);
}

/*
 * On a stock socket librte_vhost passes its own list: what we say beyond it would be a lie in this
 * table.
 */
static void
test_stock_net_features_are_in_librte_vhosts_list(void **state)
{
	char path[64];
	uint64_t known = 0;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/vdpa-test-features-%d", (int)getpid());
	assert_int_equal(rte_vhost_driver_register(path, 0), 0);
	assert_int_equal(rte_vhost_driver_get_features(path, &known), 0);
	assert_int_equal(rte_vhost_driver_unregister(path), 0);
	assert_int_equal(vdpa_vhost_features(UINT64_MAX, VIRTIO_ID_NET, false) & ~known, 0);
}

static void
test_protocol_features_are_those_of_the_border(void **state)
{
	struct vdpa_contract contract = {.virtio_id = VIRTIO_ID_NET};
	/* MQ, LOG_SHMFD, REPLY_ACK, BACKEND_REQ, CONFIG, STATUS */
	uint64_t always = BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(9) | BIT(16);

	(void)state;
	assert_int_equal(vdpa_vhost_protocol_features(&contract), always);
	contract.can_announce = true; /* RARP */
	assert_int_equal(vdpa_vhost_protocol_features(&contract), always | BIT(2));
}

/* What a device says of bit 26 does not count: whether the class can log for it does. */
static void
test_log_all_is_offered_where_the_class_can_log(void **state)
{
	struct vdpa_contract contract = {
		.virtio_id = VIRTIO_ID_NET, .features = BIT(32), .can_log = true};

	(void)state;
	assert_int_equal(vdpa_vhost_offered(&contract, true), BIT(32) | BIT(26));
	assert_int_equal(vdpa_vhost_offered(&contract, false), BIT(32) | BIT(26));
	contract.features |= BIT(26);
	contract.can_log = false;
	assert_int_equal(vdpa_vhost_offered(&contract, true), BIT(32));
	assert_int_equal(vdpa_vhost_offered(&contract, false), BIT(32));
}

static uint32_t
queue_num(uint16_t virtio_id, uint16_t nr_pairs, uint16_t nr_vqs, uint64_t features)
{
	const struct vdpa_contract contract = {
		.virtio_id = virtio_id,
		.nr_pairs = nr_pairs,
		.nr_vqs = nr_vqs,
	};

	return vdpa_vhost_queue_num(&contract, features);
}

static void
test_queue_num_suffices_for_readers_of_pairs_and_of_rings(void **state)
{
	const uint64_t ctrl_vq = BIT(17);

	(void)state;
	assert_int_equal(queue_num(VIRTIO_ID_NET, 1, 2, 0), 2);
	assert_int_equal(queue_num(VIRTIO_ID_NET, 1, 3, ctrl_vq), 3);
	assert_int_equal(queue_num(VIRTIO_ID_NET, 4, 9, ctrl_vq), 9);
	assert_int_equal(queue_num(VIRTIO_ID_NET, 63, 127, ctrl_vq), 127);
	assert_int_equal(queue_num(VIRTIO_ID_NET, 127, 255, ctrl_vq), 128);
	assert_int_equal(queue_num(VIRTIO_ID_NET, 128, 256, 0), 128);
	assert_int_equal(queue_num(VIRTIO_ID_BLOCK, 0, 4, 0), 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_net_feature_is_passed_or_masked),
		cmocka_unit_test(test_each_block_feature_is_passed_or_masked),
		cmocka_unit_test(test_bits_between_class_and_device_are_never_passed),
		cmocka_unit_test(test_unknown_device_type_gets_transport_features_only),
		cmocka_unit_test(test_stock_net_features_are_in_librte_vhosts_list),
		cmocka_unit_test(test_protocol_features_are_those_of_the_border),
		cmocka_unit_test(test_log_all_is_offered_where_the_class_can_log),
		cmocka_unit_test(test_queue_num_suffices_for_readers_of_pairs_and_of_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
