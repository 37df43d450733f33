/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* What an operator changes of sw_net while it is there: link, MTU, MAC address. */

#include <errno.h>
#include <string.h>

#include "net_guest.h"
#include "sw_net.h"

#define BASE (F(F_VERSION_1) | F(NET_F_MAC) | F(NET_F_STATUS))
#define TX   1

static void
set(const char *name, const char *args)
{
	if (vdpa_device_set(vdpa_device_find(name), args) != 0)
		fail_msg("%s: %s", args, vdpa_error_text());
}

static void
open_guest(struct net_guest *g, const char *device)
{
	struct net_guest_config config = {.device = device, .features = BASE};

	net_guest_open(g, &config);
}

/* One frame from a guest to itself or another. */
static void
pass_frame(struct net_guest *from, struct net_guest *to, uint8_t seed)
{
	uint8_t frame[90], got[9000];

	memset(frame, seed, sizeof(frame));
	net_guest_fill(to, 0, UINT16_MAX);
	assert_true(net_guest_send(from, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	assert_int_equal(net_guest_wait(to, 0, NULL, got, sizeof(got), 30000), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
}

static void
lose_frame(struct net_guest *from)
{
	uint64_t lost = device_stat(from->dev, TX, "drop_link_down");
	uint8_t frame[90] = {0};

	assert_true(net_guest_send(from, 0, NET_WHOLE, NULL, frame, sizeof(frame)));
	net_stat_wait(from->dev, TX, "drop_link_down", lost + 1);
}

static void
config_of(const char *name, struct virtio_net_config *config)
{
	struct vdpa_device *dev = vdpa_device_find(name);

	assert_int_equal(dev->ops->config_read(dev, 0, config, sizeof(*config)), 0);
}

static void
a_wrong_change_names_key_and_value_and_changes_nothing(void **state)
{
	static const struct {
		const char *args;
		int error;
		const char *names[2];
	} cases[] = {
		{"", -EINVAL, {"v", "link=up|down"}},
		{"link=sideways", -EINVAL, {"link=sideways", "up, down"}},
		{"link", -EINVAL, {"link=VALUE"}},
		{"mtu=67", -EINVAL, {"mtu=67", "68 to 65535"}},
		{"mtu=65536", -EINVAL, {"mtu=65536", "68 to 65535"}},
		{"mac=01:00:00:00:00:01", -EINVAL, {"mac=01:00:00:00:00:01", "unicast"}},
		{"backend=null", -EINVAL, {"backend=null", "link, mtu, mac"}},
		{"snaplen=100", -EINVAL, {"snaplen=100", "capture=FILE"}},
		{"snaplen=63,capture=x", -EINVAL, {"snaplen=63", "64 to 65280"}},
		{"link=down,capture=off,snaplen=100", -EINVAL, {"capture=FILE"}},
		{"link=down,capture=off", -ENOENT, {"v", "not captured"}},
		{"link=down,link=up", -EINVAL, {"link", "2 times"}},
		{"link=down,mtu=9000", -ENOTSUP, {"mtu", "without mtu="}},
		{"link=down,mac=02:00:00:00:00:07,mtu=1", -EINVAL, {"mtu=1", "68"}},
	};
	struct virtio_net_config before, after;

	(void)state;
	net_device_add("v", "");
	config_of("v", &before);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (vdpa_device_set(vdpa_device_find("v"), cases[i].args) != cases[i].error)
			fail_msg("%s: %s", cases[i].args, vdpa_error_text());
		for (int k = 0; k < 2 && cases[i].names[k] != NULL; k++)
			if (strstr(vdpa_error_text(), cases[i].names[k]) == NULL)
				fail_msg("%s: '%s' does not say '%s'", cases[i].args,
					vdpa_error_text(), cases[i].names[k]);
	}
	config_of("v", &after);
	assert_memory_equal(&before, &after, sizeof(before));
	device_del("v");
	/* what is not offered cannot be changed */
	net_device_add("v", "device_features=0x100000000,mtu=1500");
	assert_int_equal(vdpa_device_set(vdpa_device_find("v"), "link=down"), -ENOTSUP);
	assert_int_equal(vdpa_device_set(vdpa_device_find("v"), "mtu=1400"), -ENOTSUP);
	assert_int_equal(vdpa_device_set(vdpa_device_find("v"), "mac=02:00:00:00:00:07"), -ENOTSUP);
	device_del("v");
}

static void
a_device_whose_maker_cannot_change_it_says_so(void **state)
{
	const struct vdpa_mgmtdev stubborn = {.name = "stubborn"};
	struct vdpa_device dev = {.name = "d"};

	(void)state;
	assert_int_equal(vdpa_device_set(&dev, "link=up"), -ENOTSUP);
	assert_non_null(strstr(vdpa_error_text(), "d: "));
	dev.mgmtdev = &stubborn;
	assert_int_equal(vdpa_device_set(&dev, "link=up"), -ENOTSUP);
	assert_non_null(strstr(vdpa_error_text(), "stubborn"));
}

static void
a_link_goes_down_and_up_under_a_driver(void **state)
{
	struct net_guest g;
	unsigned int changes;

	(void)state;
	net_device_add("v", "");
	open_guest(&g, "v");
	pass_frame(&g, &g, 1);
	changes = __atomic_load_n(&g.config_changes, __ATOMIC_RELAXED);
	for (unsigned int round = 0; round < 20; round++) {
		set("v", "link=down");
		net_link_wait(&g, false);
		lose_frame(&g);
		set("v", "link=up");
		net_link_wait(&g, true);
		pass_frame(&g, &g, round);
	}
	for (int i = 0;
		i < 30000 && __atomic_load_n(&g.config_changes, __ATOMIC_RELAXED) < changes + 40;
		i++)
		net_sleep_ms(1);
	assert_true(__atomic_load_n(&g.config_changes, __ATOMIC_RELAXED) >= changes + 40);
	/* a change that is none is not told */
	changes = __atomic_load_n(&g.config_changes, __ATOMIC_RELAXED);
	set("v", "link=up");
	net_sleep_ms(20);
	assert_int_equal(__atomic_load_n(&g.config_changes, __ATOMIC_RELAXED), changes);
	net_guest_close(&g);
	device_del("v");
}

static void
a_link_that_is_down_stays_down_for_whoever_comes(void **state)
{
	struct net_guest g;

	(void)state;
	net_device_add("v", "");
	set("v", "link=down");
	open_guest(&g, "v");
	net_link_wait(&g, false);
	lose_frame(&g);
	set("v", "link=up");
	net_link_wait(&g, true);
	pass_frame(&g, &g, 3);
	net_guest_close(&g);
	device_del("v");
}

static void
either_end_of_a_pair_pulls_the_cable(void **state)
{
	static const char *const names[] = {"a", "b"};
	struct net_guest a, b;

	(void)state;
	net_device_add("a", "backend=peer,peer=b");
	net_device_add("b", "backend=peer,peer=a");
	open_guest(&a, "a");
	open_guest(&b, "b");
	for (unsigned int i = 0; i < 2; i++) {
		pass_frame(&a, &b, i);
		pass_frame(&b, &a, i);
		set(names[i], "link=down");
		net_link_wait(&a, false);
		net_link_wait(&b, false);
		lose_frame(&a);
		lose_frame(&b);
		set(names[i], "link=up");
		net_link_wait(&a, true);
		net_link_wait(&b, true);
	}
	/* what one end wants does not undo what the other wants */
	set("a", "link=down");
	set("b", "link=down");
	set("a", "link=up");
	net_link_wait(&b, false);
	lose_frame(&a);
	set("b", "link=up");
	net_link_wait(&a, true);
	pass_frame(&a, &b, 9);
	net_guest_close(&a);
	net_guest_close(&b);
	device_del("a");
	device_del("b");
}

static void
a_new_mtu_is_for_the_next_driver(void **state)
{
	struct virtio_net_config config;
	struct net_guest g;

	(void)state;
	net_device_add("v", "mtu=9000");
	set("v", "mtu=4000");
	config_of("v", &config);
	assert_int_equal(config.mtu, 4000);
	open_guest(&g, "v");
	set("v", "mtu=1400");
	config_of("v", &config);
	assert_int_equal(config.mtu, 4000);
	pass_frame(&g, &g, 1);
	net_guest_close(&g);
	config_of("v", &config);
	assert_int_equal(config.mtu, 1400);
	device_del("v");
}

static void
a_mac_address_is_changed_while_no_driver_runs(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
	struct virtio_net_config config;
	struct net_guest g;

	(void)state;
	net_device_add("v", "mac=02:00:00:00:00:05");
	open_guest(&g, "v");
	assert_int_equal(vdpa_device_set(g.dev, "mac=02:00:00:00:00:09"), -EBUSY);
	assert_non_null(strstr(vdpa_error_text(), "mac"));
	config_of("v", &config);
	assert_int_equal(config.mac[5], 5);
	net_guest_close(&g);
	set("v", "mac=02:00:00:00:00:09");
	open_guest(&g, "v");
	config_of("v", &config);
	assert_memory_equal(config.mac, mac, 6);
	net_guest_close(&g);
	device_del("v");
}

#define TEST(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_wrong_change_names_key_and_value_and_changes_nothing),
		TEST(a_device_whose_maker_cannot_change_it_says_so),
		TEST(a_link_goes_down_and_up_under_a_driver),
		TEST(a_link_that_is_down_stays_down_for_whoever_comes),
		TEST(either_end_of_a_pair_pulls_the_cable),
		TEST(a_new_mtu_is_for_the_next_driver),
		TEST(a_mac_address_is_changed_while_no_driver_runs),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
