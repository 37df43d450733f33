/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>

#include "sw_net.h"

const char sw_net_keys[] =
	"backend=loopback|null|peer|port,peer=NAME,port=ETHDEV,tso=on|off,mac=MAC,mtu=68-65535,"
	"max_vqp=1-128,order=in|random,lie_len=0-1000000000,"
	"hang_after=0-1000000000," VDPA_EMULATED_KEYS;

static const char *const backends[] = {
	[SW_NET_LOOPBACK] = "loopback",
	[SW_NET_NULL] = "null",
	[SW_NET_PEER] = "peer",
	[SW_NET_PORT] = "port",
	NULL,
};

static const char *const orders[] = {"in", "random", NULL};

enum key {
	KEY_BACKEND,
	KEY_PEER,
	KEY_PORT,
	KEY_TSO,
	KEY_MAC,
	KEY_MTU,
	KEY_MAX_VQP,
	KEY_ORDER,
	KEY_LIE_LEN,
	KEY_HANG_AFTER
};

static const char *const keys[] = {
	[KEY_BACKEND] = "backend",
	[KEY_PEER] = "peer",
	[KEY_PORT] = "port",
	[KEY_TSO] = "tso",
	[KEY_MAC] = "mac",
	[KEY_MTU] = "mtu",
	[KEY_MAX_VQP] = "max_vqp",
	[KEY_ORDER] = "order",
	[KEY_LIE_LEN] = "lie_len",
	[KEY_HANG_AFTER] = "hang_after",
	NULL,
};

/* CTRL_VLAN is not there: nothing would be done for it. GUEST_ANNOUNCE is the class's. */
uint64_t
sw_net_features(uint16_t nr_pairs, bool tso)
{
	uint64_t features = SW_NET_BIT(VIRTIO_NET_F_CSUM) | SW_NET_BIT(VIRTIO_NET_F_GUEST_CSUM) |
		SW_NET_BIT(VIRTIO_NET_F_MTU) | SW_NET_BIT(VIRTIO_NET_F_MAC) |
		SW_NET_BIT(VIRTIO_NET_F_MRG_RXBUF) | SW_NET_BIT(VIRTIO_NET_F_STATUS) |
		VDPA_EMULATED_RING_FEATURES;

	if (tso)
		features |= SW_NET_BIT(VIRTIO_NET_F_HOST_TSO4) |
			SW_NET_BIT(VIRTIO_NET_F_HOST_TSO6) | SW_NET_BIT(VIRTIO_NET_F_HOST_ECN) |
			SW_NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | SW_NET_BIT(VIRTIO_NET_F_GUEST_TSO6) |
			SW_NET_BIT(VIRTIO_NET_F_GUEST_ECN);
	if (nr_pairs > 1)
		features |= SW_NET_BIT(VIRTIO_NET_F_MQ);
	if (nr_pairs <= SW_NET_PAIRS_MAX_CTRL)
		features |= SW_NET_BIT(VIRTIO_NET_F_CTRL_VQ) | SW_NET_BIT(VIRTIO_NET_F_CTRL_RX) |
			SW_NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			SW_NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);
	return features;
}

struct parse {
	struct sw_net_args *args;
	bool mac_given;
};

static int
parse_key(unsigned int key, const char *name, const char *value, void *arg)
{
	struct parse *parse = arg;
	struct sw_net_args *args = parse->args;
	unsigned int which = 0;
	uint32_t number = 0;
	int rc;

	switch ((enum key)key) {
	case KEY_BACKEND:
		rc = vdpa_arg_choice(name, value, backends, &which);
		args->backend = which;
		return rc;
	case KEY_PEER:
		return vdpa_arg_text(name, value, args->peer, sizeof(args->peer));
	case KEY_PORT:
		return vdpa_arg_text(name, value, args->port, sizeof(args->port));
	case KEY_TSO:
		return vdpa_arg_bool(name, value, &args->tso);
	case KEY_MAC:
		parse->mac_given = true;
		return vdpa_arg_mac(name, value, args->mac);
	case KEY_MTU:
		rc = vdpa_arg_uint32(name, value, ETH_MIN_MTU, ETH_MAX_MTU, &number);
		args->mtu = number;
		return rc;
	case KEY_MAX_VQP:
		rc = vdpa_arg_uint32(name, value, 1, SW_NET_PAIRS_MAX, &number);
		args->nr_pairs = number;
		return rc;
	case KEY_ORDER:
		rc = vdpa_arg_choice(name, value, orders, &which);
		args->random_order = which != 0;
		return rc;
	case KEY_LIE_LEN:
		return vdpa_arg_uint32(name, value, 0, SW_NET_FAULT_MAX, &args->lie_bytes);
	case KEY_HANG_AFTER:
		return vdpa_arg_uint32(name, value, 0, SW_NET_FAULT_MAX, &args->hang_after);
	}
	return -EINVAL;
}

/* Locally administered; the same for the same name on this host, so that a restart keeps it. */
static void
default_mac(const char *name, uint8_t mac[ETH_ALEN])
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	char host[64] = "";

	gethostname(host, sizeof(host) - 1);
	for (const char *p = host; *p != '\0'; p++)
		hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	for (const char *p = name; *p != '\0'; p++)
		hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = hash >> (8 * i);
	mac[0] = (mac[0] & 0xfc) | 0x02;
}

static int
check_backend(const char *name, const struct sw_net_args *args)
{
	bool given = args->peer[0] != '\0';

	if (args->backend == SW_NET_PEER && !given)
		return vdpa_error_set(-EINVAL, "backend=peer: expected peer=NAME beside it");
	if (args->backend != SW_NET_PEER && given)
		return vdpa_error_set(
			-EINVAL, "peer=%s: expected backend=peer beside it", args->peer);
	if (args->backend == SW_NET_PORT && args->port[0] == '\0')
		return vdpa_error_set(-EINVAL, "backend=port: expected port=ETHDEV beside it");
	if (args->backend != SW_NET_PORT && args->port[0] != '\0')
		return vdpa_error_set(
			-EINVAL, "port=%s: expected backend=port beside it", args->port);
	if (args->tso && args->backend != SW_NET_PEER && args->backend != SW_NET_PORT)
		return vdpa_error_set(
			-EINVAL, "tso=on: expected backend=peer or backend=port beside it");
	if (given && strcmp(args->peer, name) == 0)
		return vdpa_error_set(
			-EINVAL, "peer=%s: expected another device than itself", args->peer);
	return 0;
}

int
sw_net_args_parse(const char *name, const char *text, struct sw_net_args *args)
{
	struct parse parse = {.args = args};
	uint64_t features;
	int rc;

	memset(args, 0, sizeof(*args));
	args->nr_pairs = 1;
	args->hang_after = SW_NET_HANG_NEVER;
	rc = vdpa_emulated_parse(text, keys, &args->common, parse_key, &parse);
	if (rc == 0)
		rc = check_backend(name, args);
	if (rc != 0)
		return rc;
	if (!parse.mac_given)
		default_mac(name, args->mac);
	features = sw_net_features(args->nr_pairs, args->tso);
	/* an ethdev has one of its own */
	if (args->mtu == 0 && args->backend != SW_NET_PORT)
		features &= ~SW_NET_BIT(VIRTIO_NET_F_MTU);
	if (args->random_order)
		features &= ~SW_NET_BIT(VIRTIO_F_IN_ORDER);
	return vdpa_emulated_features(&args->common, features, &args->features);
}
