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
	"backend=loopback|null|peer,peer=NAME,mac=MAC,mtu=68-65535,max_vqp=1-128,"
	"device_features=HEX,relay=auto|always|off,state=on|get|off,log=on|off,"
	"hang_op=OP,fail_op=OP,delay_us=0-1000000";

static const char *const backends[] = {
	[SW_NET_LOOPBACK] = "loopback",
	[SW_NET_NULL] = "null",
	[SW_NET_PEER] = "peer",
	NULL,
};

static const char *const relays[] = {
#define RELAY_NAME(name, text) [name] = text,
	VDPA_RELAYS(RELAY_NAME)
#undef RELAY_NAME
		NULL,
};

static const char *const states[] = {
	[SW_NET_STATE_ON] = "on",
	[SW_NET_STATE_GET] = "get",
	[SW_NET_STATE_OFF] = "off",
	NULL,
};

static const char *const fault_ops[] = {
#define FAULT_OP_NAME(name, text) [SW_NET_OP_##name] = text,
	SW_NET_FAULT_OPS(FAULT_OP_NAME)
#undef FAULT_OP_NAME
		NULL,
};

#define KEYS(X)                        \
	X(BACKEND, "backend")          \
	X(PEER, "peer")                \
	X(MAC, "mac")                  \
	X(MTU, "mtu")                  \
	X(MAX_VQP, "max_vqp")          \
	X(FEATURES, "device_features") \
	X(RELAY, "relay")              \
	X(STATE, "state")              \
	X(LOG, "log")                  \
	X(HANG_OP, "hang_op")          \
	X(FAIL_OP, "fail_op")          \
	X(DELAY_US, "delay_us")        \
	X(WORKERS, "workers") /* last: vdev only */

enum key {
#define KEY_ENUM(name, text) KEY_##name,
	KEYS(KEY_ENUM)
#undef KEY_ENUM
};

static const char *const keys[] = {
#define KEY_NAME(name, text) text,
	KEYS(KEY_NAME)
#undef KEY_NAME
		NULL,
};

/*
 * GUEST_ANNOUNCE, CTRL_VLAN and segmentation are not there: nothing would be done for them.
 * ACCESS_PLATFORM: every address is translated by the domain's table.
 */
uint64_t
sw_net_features(uint16_t nr_pairs)
{
	uint64_t features = SW_NET_BIT(VIRTIO_NET_F_CSUM) | SW_NET_BIT(VIRTIO_NET_F_GUEST_CSUM) |
		SW_NET_BIT(VIRTIO_NET_F_MTU) | SW_NET_BIT(VIRTIO_NET_F_MAC) |
		SW_NET_BIT(VIRTIO_NET_F_MRG_RXBUF) | SW_NET_BIT(VIRTIO_NET_F_STATUS) |
		SW_NET_BIT(VIRTIO_F_ANY_LAYOUT) | SW_NET_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		SW_NET_BIT(VIRTIO_RING_F_EVENT_IDX) | SW_NET_BIT(VIRTIO_F_VERSION_1) |
		SW_NET_BIT(VIRTIO_F_ACCESS_PLATFORM) | SW_NET_BIT(VIRTIO_F_RING_PACKED) |
		SW_NET_BIT(VIRTIO_F_IN_ORDER);

	if (nr_pairs > 1)
		features |= SW_NET_BIT(VIRTIO_NET_F_MQ);
	if (nr_pairs <= SW_NET_PAIRS_MAX_CTRL)
		features |= SW_NET_BIT(VIRTIO_NET_F_CTRL_VQ) | SW_NET_BIT(VIRTIO_NET_F_CTRL_RX) |
			SW_NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
	return features;
}

struct parse {
	struct sw_net_args *args;
	const char *mask; /* checked when the number of pairs is known */
	char mask_text[24];
	bool mac_given;
};

static int
parse_name(const char *key, const char *value, char *out, size_t size)
{
	if (strlen(value) >= size)
		return vdpa_error_set(
			-EINVAL, "%s=%s: expected at most %zu bytes", key, value, size - 1);
	memcpy(out, value, strlen(value) + 1);
	return 0;
}

static int
parse_fault(const char *key, const char *value, enum sw_net_op *op)
{
	unsigned int choice;
	int rc = vdpa_arg_choice(key, value, fault_ops, &choice);

	if (rc == 0)
		*op = choice;
	return rc;
}

static int
parse_number(const char *key, const char *value, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t number;
	int rc = vdpa_arg_uint(key, value, min, max, &number);

	if (rc == 0)
		*out = number;
	return rc;
}

static int
parse_key(const char *key, const char *value, void *arg)
{
	struct parse *parse = arg;
	struct sw_net_args *args = parse->args;
	unsigned int which = 0;
	uint32_t number = 0;
	int rc;

	while (strcmp(keys[which], key) != 0)
		which++;
	switch ((enum key)which) {
	case KEY_BACKEND:
		rc = vdpa_arg_choice(key, value, backends, &which);
		args->backend = which;
		return rc;
	case KEY_PEER:
		return parse_name(key, value, args->peer, sizeof(args->peer));
	case KEY_MAC:
		parse->mac_given = true;
		return vdpa_arg_mac(key, value, args->mac);
	case KEY_MTU:
		rc = parse_number(key, value, ETH_MIN_MTU, ETH_MAX_MTU, &number);
		args->mtu = number;
		return rc;
	case KEY_MAX_VQP:
		rc = parse_number(key, value, 1, SW_NET_PAIRS_MAX, &number);
		args->nr_pairs = number;
		return rc;
	case KEY_FEATURES:
		parse->mask = parse->mask_text;
		return parse_name(key, value, parse->mask_text, sizeof(parse->mask_text));
	case KEY_RELAY:
		rc = vdpa_arg_choice(key, value, relays, &which);
		args->relay = which;
		return rc;
	case KEY_STATE:
		rc = vdpa_arg_choice(key, value, states, &which);
		args->state = which;
		return rc;
	case KEY_LOG:
		return vdpa_arg_bool(key, value, &args->log);
	case KEY_HANG_OP:
		return parse_fault(key, value, &args->hang_op);
	case KEY_FAIL_OP:
		return parse_fault(key, value, &args->fail_op);
	case KEY_DELAY_US:
		return parse_number(key, value, 0, 1000000, &args->delay_us);
	case KEY_WORKERS:
		return parse_name(key, value, args->workers, sizeof(args->workers));
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
	if (given && strcmp(args->peer, name) == 0)
		return vdpa_error_set(
			-EINVAL, "peer=%s: expected another device than itself", args->peer);
	return 0;
}

int
sw_net_args_parse(const char *name, const char *text, bool vdev, struct sw_net_args *args)
{
	const char *known[RTE_DIM(keys)];
	struct parse parse = {.args = args};
	int rc;

	memset(args, 0, sizeof(*args));
	args->nr_pairs = 1;
	args->log = true;
	memcpy(known, keys, sizeof(known));
	if (!vdev)
		known[KEY_WORKERS] = NULL;
	rc = vdpa_args_parse(text, known, parse_key, &parse);
	if (rc == 0)
		rc = check_backend(name, args);
	if (rc != 0)
		return rc;
	if (!parse.mac_given)
		default_mac(name, args->mac);
	args->features = sw_net_features(args->nr_pairs);
	if (args->mtu == 0)
		args->features &= ~SW_NET_BIT(VIRTIO_NET_F_MTU);
	if (parse.mask != NULL)
		rc = vdpa_arg_hex("device_features", parse.mask, args->features, &args->features);
	return rc;
}
