/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* The tutorial's parent, loaded as a plug-in beside libvdpa.so, and driven like any device. */

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net_guest.h"

static struct vdpa_mgmtdev *mgmtdev;

static void
add(const char *args)
{
	int rc = mgmtdev->dev_add(mgmtdev, "s0", args);

	if (rc != 0)
		fail_msg("%s: %d %s", args, rc, vdpa_error_text());
}

static void
del(void)
{
	assert_int_equal(mgmtdev->dev_del(mgmtdev, vdpa_device_find("s0"), false), 0);
}

static void
it_registers_with_what_it_was_given(void **state)
{
	struct vdpa_device_status status;

	(void)state;
	assert_int_equal(mgmtdev->dev_add(mgmtdev, "s0", "mac=1"), -EINVAL);
	assert_non_null(strstr(vdpa_error_text(), "mac=1"));
	assert_int_equal(mgmtdev->dev_add(mgmtdev, "s0", "speed=1"), -EINVAL);
	assert_null(vdpa_device_find("s0"));
	add("mac=02:00:00:00:00:09");
	vdpa_device_status_get(vdpa_device_find("s0"), &status);
	assert_string_equal(status.mgmtdev, "skeleton");
	assert_int_equal(status.mac[5], 9);
	assert_int_equal(status.nr_pairs, 1);
	assert_int_equal(mgmtdev->dev_add(mgmtdev, "s0", ""), -EEXIST);
	del();
}

static void
frames_come_back(void **state)
{
	struct net_guest_config config = {
		.device = "s0", .features = F(F_VERSION_1) | F(NET_F_MAC)};
	static uint8_t frame[1514], got[1514];
	struct net_guest g;

	(void)state;
	add("");
	net_guest_open(&g, &config);
	for (int k = 0; k < 300; k++) {
		uint32_t len = 60 + k * 4;

		memset(frame, k, len);
		net_guest_fill(&g, 0, 64);
		assert_true(net_guest_send(&g, 0, k % NET_SHAPES, NULL, frame, len));
		assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), len);
		assert_memory_equal(got, frame, len);
		if (k % 100 != 99)
			continue;
		/* positions survive a stop */
		assert_int_equal(net_guest_stop(&g), 0);
		g.base_seq++;
		assert_int_equal(net_guest_start(&g, 1), 0);
	}
	net_guest_close(&g);
	del();
}

static void
a_frame_waits_for_a_receive_buffer_and_a_bad_ring_ends_its_queue(void **state)
{
	struct net_guest_config config = {
		.device = "s0", .features = F(F_VERSION_1) | F(NET_F_MAC)};
	struct vring_buf bad = {0, 1000};
	uint8_t frame[60] = {0}, got[60];
	struct vdpa_device_status status;
	struct net_guest g;

	(void)state;
	add("");
	net_guest_open(&g, &config);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_sleep_ms(20);
	assert_int_equal(net_guest_reap(&g, 0), 0);
	net_guest_fill(&g, 0, 4);
	assert_int_equal(net_guest_wait(&g, 0, NULL, got, sizeof(got), 30000), 60);
	assert_int_equal(vring_drv_add(&g.pairs[0].tx.ring, &bad, 1, 0, NULL, NULL), 0);
	net_guest_kick(&g, &g.pairs[0].tx);
	for (int i = 0; i < 30000; i++) {
		vdpa_device_status_get(g.dev, &status);
		if (status.nr_vqs_running == 1)
			break;
		net_sleep_ms(1);
	}
	assert_int_equal(status.nr_vqs_running, 1);
	assert_int_equal(status.failures, 1);
	assert_non_null(strstr(status.last_error, "virtqueue 1"));
	assert_int_equal(__atomic_load_n(&g.resets, __ATOMIC_RELAXED), 1);
	net_guest_close(&g);
	del();
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(it_registers_with_what_it_was_given),
		TEST(frames_come_back),
		TEST(a_frame_waits_for_a_receive_buffer_and_a_bad_ring_ends_its_queue),
	};

	if (argc != 2 || dlopen(argv[1], RTLD_NOW) == NULL) {
		fprintf(stderr, "usage: %s PLUG-IN (%s)\n", argv[0], argc == 2 ? dlerror() : "");
		return 2;
	}
	mgmtdev = vdpa_mgmtdev_find("skeleton");
	if (mgmtdev == NULL) {
		fprintf(stderr, "%s registers no management device\n", argv[1]);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
