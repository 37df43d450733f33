/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_eal.h>

#include "vdpa_emulated.h"
#include "vdpa_private.h"

/* ---- keys ---- */

static const char *const relays[] = {
#define RELAY_NAME(name, text) [name] = text,
	VDPA_RELAYS(RELAY_NAME)
#undef RELAY_NAME
		NULL,
};

static const char *const states[] = {
	[VDPA_EMULATED_STATE_ON] = "on",
	[VDPA_EMULATED_STATE_GET] = "get",
	[VDPA_EMULATED_STATE_OFF] = "off",
	NULL,
};

static const char *const fault_ops[] = {
#define FAULT_OP_NAME(name, text) [VDPA_FAULT_##name] = text,
	VDPA_FAULT_OPS(FAULT_OP_NAME)
#undef FAULT_OP_NAME
		NULL,
};

enum key {
	KEY_FEATURES,
	KEY_RELAY,
	KEY_STATE,
	KEY_LOG,
	KEY_HANG_OP,
	KEY_FAIL_OP,
	KEY_FAULT_FROM,
	KEY_DELAY_US,
	NR_KEYS
};

static const char *const common_keys[NR_KEYS] = {
	[KEY_FEATURES] = "device_features",
	[KEY_RELAY] = "relay",
	[KEY_STATE] = "state",
	[KEY_LOG] = "log",
	[KEY_HANG_OP] = "hang_op",
	[KEY_FAIL_OP] = "fail_op",
	[KEY_FAULT_FROM] = "fault_from",
	[KEY_DELAY_US] = "delay_us",
};

#define KEYS_MAX 64

struct parse {
	const char *keys[KEYS_MAX + 1];
	unsigned int nr_own;
	struct vdpa_emulated_args *args;
	int (*fn)(unsigned int key, const char *name, const char *value, void *arg);
	void *arg;
};

int
vdpa_arg_uint32(const char *key, const char *value, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t number;
	int rc = vdpa_arg_uint(key, value, min, max, &number);

	if (rc == 0)
		*out = number;
	return rc;
}

int
vdpa_arg_text(const char *key, const char *value, char *out, size_t size_bytes)
{
	if (strlen(value) >= size_bytes)
		return vdpa_error_set(
			-EINVAL, "%s=%s: expected at most %zu bytes", key, value, size_bytes - 1);
	memcpy(out, value, strlen(value) + 1);
	return 0;
}

static int
parse_common(unsigned int key, const char *name, const char *value, struct vdpa_emulated_args *args)
{
	unsigned int which = 0;
	int rc;

	switch ((enum key)key) {
	case KEY_FEATURES:
		return vdpa_arg_text(name, value, args->feature_mask, sizeof(args->feature_mask));
	case KEY_RELAY:
		rc = vdpa_arg_choice(name, value, relays, &which);
		args->relay = which;
		return rc;
	case KEY_STATE:
		rc = vdpa_arg_choice(name, value, states, &which);
		args->state = which;
		return rc;
	case KEY_LOG:
		return vdpa_arg_bool(name, value, &args->log);
	case KEY_HANG_OP:
		rc = vdpa_arg_choice(name, value, fault_ops, &which);
		args->hang_op = which;
		return rc;
	case KEY_FAIL_OP:
		rc = vdpa_arg_choice(name, value, fault_ops, &which);
		args->fail_op = which;
		return rc;
	case KEY_FAULT_FROM:
		return vdpa_arg_uint32(name, value, 1, 1000000, &args->fault_from);
	case KEY_DELAY_US:
		return vdpa_arg_uint32(name, value, 0, 1000000, &args->delay_us);
	case NR_KEYS:
		break;
	}
	return -EINVAL;
}

static int
parse_key(const char *name, const char *value, void *arg)
{
	const struct parse *parse = arg;
	unsigned int key = 0;

	while (strcmp(parse->keys[key], name) != 0)
		key++;
	if (key < parse->nr_own)
		return parse->fn(key, name, value, parse->arg);
	return parse_common(key - parse->nr_own, name, value, parse->args);
}

int
vdpa_emulated_parse(const char *text, const char *const *keys, struct vdpa_emulated_args *args,
	int (*fn)(unsigned int key, const char *name, const char *value, void *arg), void *arg)
{
	struct parse parse = {.args = args, .fn = fn, .arg = arg};

	*args = (struct vdpa_emulated_args){.log = true, .fault_from = 1};
	while (keys[parse.nr_own] != NULL && parse.nr_own < KEYS_MAX - NR_KEYS) {
		parse.keys[parse.nr_own] = keys[parse.nr_own];
		parse.nr_own++;
	}
	memcpy(&parse.keys[parse.nr_own], common_keys, sizeof(common_keys));
	return vdpa_args_parse(text, parse.keys, parse_key, &parse);
}

int
vdpa_emulated_features(const struct vdpa_emulated_args *args, uint64_t has, uint64_t *features)
{
	*features = has;
	if (args->feature_mask[0] == '\0')
		return 0;
	return vdpa_arg_hex(common_keys[KEY_FEATURES], args->feature_mask, has, features);
}

/* ---- ops ---- */

void
vdpa_emulated_info(const struct vdpa_emulated_args *args, struct vdpa_info *info)
{
	info->vq_size_min = 1;
	info->vq_size_max = VRING_SIZE_MAX;
	info->caps = VDPA_CAP_LATE_VQ | VDPA_CAP_HOST_VA;
	if (args->state != VDPA_EMULATED_STATE_OFF)
		info->caps |= VDPA_CAP_GET_STATE;
	if (args->state == VDPA_EMULATED_STATE_ON)
		info->caps |= VDPA_CAP_SET_STATE;
	if (args->log)
		info->caps |= VDPA_CAP_DIRTY;
	info->relay = args->relay;
	info->numa_node = -1;
}

int
vdpa_emulated_fault(struct vdpa_emulated_args *args, enum vdpa_fault_op op)
{
	if ((args->hang_op != op && args->fail_op != op) || ++args->nr_calls < args->fault_from)
		return 0;
	while (args->hang_op == op)
		pause();
	return args->fail_op == op ? -EIO : 0;
}

/* ---- vdev ---- */

static const char workers_key[] = "workers=";

/* Take "workers=LIST" out of text, in place. */
static char *
cut_workers(char *text)
{
	size_t key_len = sizeof(workers_key) - 1;
	char *at = text, *end, *list;

	while (strncmp(at, workers_key, key_len) != 0) {
		at = strchr(at, ',');
		if (at == NULL)
			return NULL;
		at++;
	}
	end = at + strcspn(at, ",");
	list = strndup(at + key_len, end - at - key_len);
	if (*end == ',')
		memmove(at, end + 1, strlen(end + 1) + 1);
	else
		at[at > text ? -1 : 0] = '\0';
	return list;
}

static int
workers_configure(char *list)
{
	/* devargs leave no comma */
	for (char *p = list; *p != '\0'; p++)
		if (*p == ':')
			*p = ',';
	return vdpa_workers_configure(list, VDPA_WORKER_ADAPTIVE);
}

int
vdpa_emulated_probe(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *text)
{
	char *args = strdup(text), *workers = args != NULL ? cut_workers(args) : NULL;
	int rc = 0;

	if (args == NULL)
		rc = vdpa_error_set(-ENOMEM, "out of memory");
	else if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		rc = vdpa_error_set(-ENOTSUP, "only the primary process runs vDPA devices");
	if (rc == 0 && workers != NULL)
		rc = workers_configure(workers);
	if (rc == 0)
		rc = mgmtdev->dev_add(mgmtdev, name, args);
	if (rc != 0)
		VDPA_LOG(ERR, "%s: %s", name, vdpa_error_text());
	free(workers);
	free(args);
	return rc;
}

int
vdpa_emulated_remove(const struct vdpa_mgmtdev *mgmtdev, const char *name)
{
	struct vdpa_device *dev = vdpa_device_find(name);
	int rc;

	if (dev == NULL || dev->mgmtdev != mgmtdev)
		return 0;
	rc = mgmtdev->dev_del(mgmtdev, dev, true);
	if (rc != 0)
		VDPA_LOG(ERR, "%s: %s", name, vdpa_error_text());
	return rc;
}

/* ---- what is written ---- */

#define WRITTEN_MAX 64

struct report {
	struct vring_range ranges[WRITTEN_MAX + VRING_DEV_WRITTEN_MAX];
	uint32_t nr;
};

static void
report_add(struct vdpa_device *dev, struct report *report, uint64_t iova, uint32_t len)
{
	if (report->nr == WRITTEN_MAX) {
		vdpa_dirty(dev, report->ranges, report->nr);
		report->nr = 0;
	}
	report->ranges[report->nr++] = (struct vring_range){iova, len};
}

/* After the flush: a page that is reported first may be copied before it is written. */
void
vdpa_dirty_chains(struct vdpa_device *dev, const struct vring_dev *ring,
	const struct vring_chain *chains, uint16_t nr)
{
	struct report report = {.nr = 0};
	uint32_t nr_slots = 0;

	for (uint16_t i = 0; i < nr; i++) {
		const struct vring_chain *chain = &chains[i];
		uint32_t left = chain->done.len;

		nr_slots += chain->done.slots;
		for (uint16_t s = chain->nr_readable; s < chain->nr_segs && left != 0; s++) {
			uint32_t len = RTE_MIN(left, chain->segs[s].len);

			report_add(dev, &report, chain->segs[s].iova, len);
			left -= len;
		}
	}
	report.nr += vring_dev_written(ring, nr_slots, &report.ranges[report.nr]);
	vdpa_dirty(dev, report.ranges, report.nr);
}
