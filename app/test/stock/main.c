/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * A vDPA program as others write them, for tests: it knows librte_vhost and nothing of ours, and
 * finds devices by their names. Distributions package none (dpdk-vdpa is an example of DPDK).
 *
 *   vdpa-stock [EAL options] -- NAME=PATH...
 *
 * Each device NAME is attached to a vhost-user socket PATH. SIGUSR1 unplugs the first device (a
 * vdev) below its socket, SIGUSR2 plugs it in again. SIGTERM and SIGINT end it with exit code 0.
 */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_vdpa.h>
#include <rte_vhost.h>

#define SOCKETS_MAX 16

struct stock_socket {
	char name[64];
	char path[108];
};

static int
new_device(int vid)
{
	printf("connection %d starts\n", vid);
	return 0;
}

static void
destroy_device(int vid)
{
	printf("connection %d ends\n", vid);
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = new_device,
	.destroy_device = destroy_device,
};

static int
socket_open(const struct stock_socket *s)
{
	struct rte_vdpa_device *device = rte_vdpa_find_device_by_name(s->name);
	uint64_t features = 0;
	uint32_t nr = 0;

	if (device == NULL) {
		printf("%s: no such vDPA device\n", s->name);
		return -1;
	}
	rte_vdpa_get_features(device, &features);
	rte_vdpa_get_queue_num(device, &nr);
	printf("%s: features 0x%llx, %u queues\n", s->name, (unsigned long long)features, nr);
	if (rte_vhost_driver_register(s->path, 0) < 0 ||
		rte_vhost_driver_callback_register(s->path, &device_ops) < 0 ||
		rte_vhost_driver_attach_vdpa_device(s->path, device) < 0 ||
		rte_vhost_driver_start(s->path) < 0) {
		printf("%s: cannot be opened\n", s->path);
		return -1;
	}
	return 0;
}

static void
show_stats(const struct stock_socket *s)
{
	struct rte_vdpa_device *device = rte_vdpa_find_device_by_name(s->name);
	struct rte_vdpa_stat_name names[32];
	struct rte_vdpa_stat stats[32];
	int i, nr, got;

	if (device == NULL)
		return;
	nr = rte_vdpa_get_stats_names(device, names, 32);
	got = nr > 0 ? rte_vdpa_get_stats(device, 0, stats, 32) : 0;
	for (i = 0; i < got && i < nr; i++)
		printf("%s: queue 0 %s %llu\n", s->name, names[stats[i].id].name,
			(unsigned long long)stats[i].value);
}

static int
parse(int argc, char **argv, struct stock_socket *sockets)
{
	int i, nr = 0;

	for (i = 1; i < argc && nr < SOCKETS_MAX; i++, nr++)
		if (sscanf(argv[i], "%63[^=]=%107s", sockets[nr].name, sockets[nr].path) != 2)
			return -1;
	return nr;
}

int
main(int argc, char **argv)
{
	struct stock_socket sockets[SOCKETS_MAX] = {0};
	int parsed, nr, i, number;
	sigset_t set;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	parsed = rte_eal_init(argc, argv);
	if (parsed < 0)
		return 1;
	nr = parse(argc - parsed, argv + parsed, sockets);
	if (nr <= 0) {
		printf("usage: vdpa-stock [EAL options] -- NAME=PATH...\n");
		return 2;
	}
	for (i = 0; i < nr; i++)
		if (socket_open(&sockets[i]) < 0)
			return 1;
	printf("ready\n");
	while (sigwait(&set, &number) == 0 && number != SIGTERM && number != SIGINT) {
		if (number == SIGUSR1)
			printf("unplugged: %d\n", rte_eal_hotplug_remove("vdev", sockets[0].name));
		else
			printf("plugged again: %d\n",
				rte_eal_hotplug_add("vdev", sockets[0].name, "max_vqp=2"));
	}
	for (i = 0; i < nr; i++) {
		show_stats(&sockets[i]);
		rte_vhost_driver_unregister(sockets[i].path);
	}
	return rte_eal_cleanup() < 0 ? 1 : 0;
}
