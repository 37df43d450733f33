/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_net beside its datapath: keys, configuration space, faults, devices by EAL. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE (F(F_VERSION_1) | F(NET_F_MAC))
#define RX   0
#define TX   1

static void
bad_keys_are_refused_with_key_value_and_what_is_allowed(void **state)
{
	static const struct {
		const char *args;
		const char *names[3];
	} cases[] = {
		{"backend=tap", {"backend=tap", "loopback", "peer"}},
		{"backend=", {"backend", "backend=VALUE"}},
		{"backend", {"backend", "backend=VALUE"}},
		{"backend=peer", {"backend=peer", "peer=NAME"}},
		{"peer=x", {"peer=x", "backend=peer"}},
		{"backend=null,peer=x", {"peer=x", "backend=peer"}},
		{"backend=peer,peer=v", {"peer=v", "another device"}},
		{"backend=loopback,backend=null", {"backend", "2 times"}},
		{"mac=1", {"mac=1", "02:00:00:00:00:01"}},
		{"mac=01:00:00:00:00:01", {"mac=01:00:00:00:00:01", "unicast"}},
		{"mac=00:00:00:00:00:00", {"mac=00:00:00:00:00:00", "zero"}},
		{"mac=02:00:00:00:00:01:02", {"mac=02:00:00:00:00:01:02"}},
		{"mtu=67", {"mtu=67", "68", "65535"}},
		{"mtu=65536", {"mtu=65536", "68", "65535"}},
		{"mtu=-1500", {"mtu=-1500", "68"}},
		{"mtu=1500x", {"mtu=1500x", "68"}},
		{"max_vqp=0", {"max_vqp=0", "1", "128"}},
		{"max_vqp=129", {"max_vqp=129", "1 to 128"}},
		{"max_vqp=4294967297", {"max_vqp=4294967297", "1 to 128"}},
		{"device_features=xyz", {"device_features=xyz", "hexadecimal"}},
		{"device_features=0x800", {"device_features=0x800", "0x800", "not offered"}},
		{"device_features=0x8",
			{"device_features=0x8", "not offered"}}, /* MTU without mtu */
		{"device_features=11111111111111111111111111", {"device_features"}},
		{"delay_us=1000001", {"delay_us=1000001", "0 to 1000000"}},
		{"fault_from=0", {"fault_from=0", "1 to 1000000"}},
		{"hang_op=everything", {"hang_op=everything", "set_active_queues"}},
		{"fail_op=fence", {"fail_op=fence", "vq_stop"}},
		{"workers=0",
			{"workers=0", "unknown key"}}, /* the daemon's business, not a device's */
		{"queues=2", {"queues=2", "unknown key", "max_vqp"}},
		{"mac=02:00:00:00:00:01,,mtu", {"mtu"}},
		{"=1", {"=1"}},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (net_device_try_add("v", cases[i].args) != -EINVAL)
			fail_msg("%s was taken", cases[i].args);
		for (int k = 0; k < 3 && cases[i].names[k] != NULL; k++)
			if (strstr(vdpa_error_text(), cases[i].names[k]) == NULL)
				fail_msg("%s: '%s' does not say '%s'", cases[i].args,
					vdpa_error_text(), cases[i].names[k]);
		assert_null(vdpa_device_find("v"));
	}
	assert_int_equal(net_device_try_add("", ""), -ENAMETOOLONG);
	assert_int_equal(
		net_device_try_add(
			"a-name-of-more-than-sixty-three-bytes-is-too-long-for-librte_vhost", ""),
		-ENAMETOOLONG);
	net_device_add("v", "");
	assert_int_equal(net_device_try_add("v", ""), -EEXIST);
	device_del("v");
}

static uint64_t
offered(const char *args, struct vdpa_device_status *status)
{
	struct vdpa_device *dev;

	net_device_add("v", args);
	dev = vdpa_device_find("v");
	vdpa_device_status_get(dev, status);
	device_del("v");
	return status->features_offered;
}

static void
keys_decide_what_is_offered(void **state)
{
	struct vdpa_device_status one, two;
	uint64_t features;

	(void)state;
	features = offered("mac=02:00:00:00:00:05", &one);
	assert_int_equal(one.nr_pairs, 1);
	assert_int_equal(one.mac[5], 5);
	assert_int_equal(one.mtu, 0);
	assert_int_equal(features & (F(NET_F_MTU) | F(NET_F_MQ)), 0);
	assert_true((features & F(NET_F_CTRL_VQ)) != 0);
	/* segmentation is not offered: nobody would do it */
	assert_int_equal(
		features & (F(NET_F_HOST_TSO4) | F(NET_F_HOST_TSO6) | F(NET_F_GUEST_TSO4)), 0);
	assert_true((features & F(NET_F_GUEST_ANNOUNCE)) != 0);

	features = offered("mtu=9000,max_vqp=127", &one);
	assert_int_equal(one.mtu, 9000);
	assert_int_equal(one.nr_pairs, 127);
	assert_int_equal(one.nr_vqs, 255);
	assert_int_equal(features & (F(NET_F_MTU) | F(NET_F_MQ) | F(NET_F_CTRL_VQ)),
		F(NET_F_MTU) | F(NET_F_MQ) | F(NET_F_CTRL_VQ));
	features = offered("max_vqp=128", &one);
	assert_int_equal(one.nr_pairs, 128);
	assert_int_equal(one.nr_vqs, 256);
	assert_int_equal(features & (F(NET_F_CTRL_VQ) | F(NET_F_GUEST_ANNOUNCE)), 0);

	features = offered("device_features=0x100000020", &one);
	assert_int_equal(features, F(F_VERSION_1) | F(NET_F_MAC));

	/* a MAC address of its own, unicast, local, the same after a restart */
	offered("", &one);
	offered("", &two);
	assert_memory_equal(one.mac, two.mac, 6);
	assert_int_equal(one.mac[0] & 3, 2);
	net_device_add("w", "");
	vdpa_device_status_get(vdpa_device_find("w"), &two);
	assert_true(memcmp(one.mac, two.mac, 6) != 0);
	device_del("w");
}

static void
a_mac_address_set_by_the_driver_lasts_until_its_reset(void **state)
{
	static const uint8_t mac[6] = {2, 9, 9, 9, 9, 9}, former[6] = {2, 0, 0, 0, 0, 5};
	struct net_guest_config config = {.device = "v", .features = BASE};
	struct virtio_net_config space;
	const struct vdpa_device_ops *ops;
	uint8_t on = 1, table[8] = {0};
	struct net_guest g;

	(void)state;
	net_device_add("v", "mac=02:00:00:00:00:05");
	net_guest_open(&g, &config);
	ops = g.dev->ops;
	assert_int_equal(
		ops->cvq(g.dev, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), 0);
	assert_int_equal(
		ops->cvq(g.dev, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 8), 0);
	assert_int_equal(
		ops->cvq(g.dev, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1), 0);
	assert_int_equal(
		ops->cvq(g.dev, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1), 0);
	assert_int_equal(
		ops->cvq(g.dev, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1), -ENOTSUP);
	assert_int_equal(ops->cvq(g.dev, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, table, 2),
		-ENOTSUP);
	assert_int_equal(ops->config_read(g.dev, 0, &space, sizeof(space)), 0);
	assert_memory_equal(space.mac, mac, 6);
	assert_int_equal(space.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(space.max_virtqueue_pairs, 1);
	net_guest_close(&g);
	net_guest_open(&g, &config);
	assert_int_equal(ops->config_read(g.dev, 0, &space, sizeof(space)), 0);
	assert_memory_equal(space.mac, former, 6);
	net_guest_close(&g);
	device_del("v");
}

/* ---- faults ---- */

static void
fail_op_makes_an_op_fail_and_leaves_nothing_running(void **state)
{
	struct net_guest_config config = {.device = "v", .features = BASE};
	struct vdpa_device_status status;
	struct net_guest g;
	uint8_t frame[64] = {0};

	(void)state;
	net_device_add("v", "fail_op=start");
	assert_int_equal(net_guest_try_open(&g, &config), -EIO);
	vdpa_device_status_get(g.dev, &status);
	assert_false(status.running);
	assert_int_equal(status.health, VDPA_HEALTH_FAILED);
	net_guest_close(&g);
	device_del("v");

	net_device_add("v", "fail_op=stop,backend=null");
	net_guest_open(&g, &config);
	net_guest_stop(&g);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_sleep_ms(20);
	net_stat_wait(g.dev, TX, "packets", 0);
	net_guest_close(&g);
	device_del("v");

	assert_int_equal(net_device_try_add("v", "fail_op=config_read"), -EIO);
	assert_null(vdpa_device_find("v"));

	net_device_add("v", "fail_op=start,fault_from=2");
	net_guest_open(&g, &config);
	net_guest_close(&g);
	assert_int_equal(net_guest_try_open(&g, &config), -EIO);
	net_guest_close(&g);
	device_del("v");
}

static void
delay_us_holds_frames_and_no_worker(void **state)
{
	struct net_guest_config slow = {.device = "slow", .features = BASE};
	struct net_guest_config fast = {.device = "fast", .features = BASE};
	uint8_t frame[64] = {0}, got[64];
	struct net_guest s, f;
	unsigned int nr_fast = 0;
	uint64_t begin;

	(void)state;
	net_device_add("slow", "delay_us=1000000");
	net_device_add("fast", "");
	net_guest_open(&s, &slow);
	net_guest_open(&f, &fast);
	net_guest_fill(&s, 0, 20);
	for (int round = 0; round < 3; round++) {
		begin = net_now_us();
		for (int i = 0; i < 5; i++)
			assert_true(net_guest_send(&s, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		while (net_guest_receive(&s, 0, NULL, got, sizeof(got)) < 0) {
			net_guest_fill(&f, 0, 64);
			assert_true(net_guest_send(&f, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
			assert_int_equal(net_guest_wait(&f, 0, NULL, got, sizeof(got), 30000), 64);
			nr_fast++;
			assert_true(net_now_us() - begin < 30000000);
		}
		/* as EAL measures the clock it may be less than a second */
		assert_true(net_now_us() - begin >= 900000);
		for (int i = 1; i < 5; i++)
			assert_int_equal(net_guest_wait(&s, 0, NULL, got, sizeof(got), 30000), 64);
		net_guest_fill(&s, 0, 20);
	}
	/* held, it would serve one or two a round */
	assert_true(nr_fast > 3 * 4);
	net_guest_close(&s);
	net_guest_close(&f);
	device_del("slow");
	device_del("fast");
}

/* Last: the device stays for ever. */
static void
a_hanging_stop_is_fenced_and_a_neighbour_goes_on(void **state)
{
	struct net_guest_config config = {.device = "hang", .features = BASE};
	struct net_guest_config other = {.device = "ok", .features = BASE};
	uint8_t frame[64] = {0}, got[64];
	struct vdpa_device_status status;
	struct net_guest g, n;
	uint64_t packets;

	(void)state;
#ifdef __SANITIZE_THREAD__
	config.shared = true; /* used->idx is then read by pread() */
#endif
	net_device_add("hang", "hang_op=stop,backend=null");
	net_device_add("ok", "");
	net_guest_open(&g, &config);
	net_guest_open(&n, &other);
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(g.dev, TX, "packets", 1);
	/* by the class's own deadline, before that of an op */
	assert_int_equal(
		vdpa_session_stop(g.session, g.states, 2 * g.config.nr_pairs, 0), -ETIMEDOUT);
	/* used->idx, read from memory */
	assert_int_equal(g.states[TX].used, 1);
	vdpa_device_status_get(g.dev, &status);
	assert_int_equal(status.health, VDPA_HEALTH_FAILED);
	/* memory by address stays what it was, but the worker looks at no ring of it any more */
	packets = device_stat(g.dev, TX, "packets");
	assert_true(net_guest_send(&g, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_guest_fill(&n, 0, 64);
	for (int i = 0; i < 50; i++) {
		assert_true(net_guest_send(&n, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
		assert_int_equal(net_guest_wait(&n, 0, NULL, got, sizeof(got), 30000), 64);
	}
	net_stat_wait(g.dev, TX, "packets", packets);
	assert_int_equal(net_guest_reap(&g, 0), 0);
	/* it may not be freed: the op is inside */
	assert_int_equal(g.dev->mgmtdev->dev_del(g.dev->mgmtdev, g.dev, true), -EBUSY);
	vring_drv_fini(&g.pairs[0].rx.ring);
	vring_drv_fini(&g.pairs[0].tx.ring);
	net_guest_close(&n);
	device_del("ok");
}

/* ---- vdev ---- */

static void
a_vdev_is_a_device_of_its_name(void **state)
{
	struct net_guest_config config = {.device = "vdpa_sw_net0", .features = BASE};
	struct vdpa_device_status status;
	struct net_guest g;

	(void)state;
	assert_int_equal(rte_eal_hotplug_add("vdev", "vdpa_sw_net0",
				 "backend=null,mac=02:00:00:00:00:07,max_vqp=3,workers=0"),
		0);
	assert_non_null(vdpa_device_find("vdpa_sw_net0"));
	net_guest_open(&g, &config);
	vdpa_device_status_get(g.dev, &status);
	assert_string_equal(status.mgmtdev, "sw_net");
	assert_int_equal(status.nr_pairs, 3);
	assert_int_equal(status.mac[5], 7);
	net_guest_close(&g);
	assert_int_equal(rte_eal_hotplug_remove("vdev", "vdpa_sw_net0"), 0);
	assert_null(vdpa_device_find("vdpa_sw_net0"));

	/* bad devargs, and a list of workers that no machine has */
	assert_true(rte_eal_hotplug_add("vdev", "vdpa_sw_net1", "backend=tap") < 0);
	assert_non_null(strstr(vdpa_error_text(), "backend=tap"));
	assert_true(rte_eal_hotplug_add("vdev", "vdpa_sw_net1", "workers=0:1023") < 0);
	assert_non_null(strstr(vdpa_error_text(), "workers=0,1023"));
	assert_null(vdpa_device_find("vdpa_sw_net1"));

	/* deleted by management first: nothing is left to be done */
	assert_int_equal(rte_eal_hotplug_add("vdev", "vdpa_sw_net2", ""), 0);
	device_del("vdpa_sw_net2");
	assert_int_equal(rte_eal_hotplug_remove("vdev", "vdpa_sw_net2"), 0);
}

static void
devices_come_and_go_without_leaving_descriptors(void **state)
{
	struct net_guest_config config = {.device = "v", .features = BASE, .nr_pairs = 4};
	struct net_guest g;
	int first = -1, last = -1;

	(void)state;
	for (int i = 0; i < 40; i++) {
		net_device_add("v", "max_vqp=4");
		net_guest_open(&g, &config);
		net_guest_close(&g);
		device_del("v");
		last = dup(0);
		close(last);
		if (i == 4)
			first = last;
	}
	assert_int_equal(last, first);
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	char line[] = "test_sw_net_control --no-huge -m 64 --no-pci --no-telemetry --no-shconf "
		      "--file-prefix vdpa_sw_net_test -l 0";
	char *argv[16];
	int argc = 0;
	const struct CMUnitTest tests[] = {
		TEST(bad_keys_are_refused_with_key_value_and_what_is_allowed),
		TEST(keys_decide_what_is_offered),
		TEST(a_mac_address_set_by_the_driver_lasts_until_its_reset),
		TEST(fail_op_makes_an_op_fail_and_leaves_nothing_running),
		TEST(delay_us_holds_frames_and_no_worker),
		TEST(a_vdev_is_a_device_of_its_name),
		TEST(devices_come_and_go_without_leaving_descriptors),
		cmocka_unit_test(a_hanging_stop_is_fenced_and_a_neighbour_goes_on),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	for (char *rest, *word = strtok_r(line, " ", &rest); word != NULL;
		word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL does not start here: %s\n", rte_strerror(rte_errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
