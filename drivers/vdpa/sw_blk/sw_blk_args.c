/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_bitops.h>
#include <rte_common.h>

#include "sw_blk.h"

const char sw_blk_keys[] =
	"backend=null|malloc|file,path=PATH,size=BYTES[K|M|G|T],readonly=on|off,num_queues=1-256,"
	"blk_size=512-65536,physical_block_size=512-65536,seg_max=1-254,size_max=4096-1073741824,"
	"serial=TEXT,write_cache=on|off,direct=on|off,sqpoll=on|off,"
	"hang_after=0-1000000000," VDPA_EMULATED_KEYS;

static const char *const backends[] = {
	[SW_BLK_NULL] = "null",
	[SW_BLK_MALLOC] = "malloc",
	[SW_BLK_FILE] = "file",
	NULL,
};

enum key {
	KEY_BACKEND,
	KEY_PATH,
	KEY_SIZE,
	KEY_READONLY,
	KEY_NUM_QUEUES,
	KEY_BLK_SIZE,
	KEY_PHYSICAL,
	KEY_SEG_MAX,
	KEY_SIZE_MAX,
	KEY_SERIAL,
	KEY_WRITE_CACHE,
	KEY_DIRECT,
	KEY_SQPOLL,
	KEY_HANG_AFTER
};

static const char *const keys[] = {
	[KEY_BACKEND] = "backend",
	[KEY_PATH] = "path",
	[KEY_SIZE] = "size",
	[KEY_READONLY] = "readonly",
	[KEY_NUM_QUEUES] = "num_queues",
	[KEY_BLK_SIZE] = "blk_size",
	[KEY_PHYSICAL] = "physical_block_size",
	[KEY_SEG_MAX] = "seg_max",
	[KEY_SIZE_MAX] = "size_max",
	[KEY_SERIAL] = "serial",
	[KEY_WRITE_CACHE] = "write_cache",
	[KEY_DIRECT] = "direct",
	[KEY_SQPOLL] = "sqpoll",
	[KEY_HANG_AFTER] = "hang_after",
	NULL,
};

#define BIT(name) SW_BLK_BIT(VIRTIO_BLK_F_##name)

uint64_t
sw_blk_features(void)
{
	return BIT(SIZE_MAX) | BIT(SEG_MAX) | BIT(GEOMETRY) | BIT(RO) | BIT(BLK_SIZE) | BIT(FLUSH) |
		BIT(TOPOLOGY) | BIT(CONFIG_WCE) | BIT(MQ) | BIT(DISCARD) | BIT(WRITE_ZEROES) |
		VDPA_EMULATED_RING_FEATURES;
}

static uint64_t
offered(const struct sw_blk_args *args)
{
	uint64_t features = sw_blk_features();

	features &= ~(args->readonly ? BIT(DISCARD) | BIT(WRITE_ZEROES) : BIT(RO));
	if (args->size_max_bytes == 0)
		features &= ~BIT(SIZE_MAX);
	if (args->nr_vqs == 1)
		features &= ~BIT(MQ);
	/* io_uring completes as it likes */
	if (args->backend == SW_BLK_FILE)
		features &= ~SW_BLK_BIT(VIRTIO_F_IN_ORDER);
	return features;
}

int
sw_blk_arg_size(const char *key, const char *value, uint64_t *out)
{
	static const char units[] = "KMGT";
	unsigned int shift = 0;
	uint64_t number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (*end != '\0') {
		const char *unit = strchr(units, *end);

		shift = unit != NULL && end[1] == '\0' ? 10 * (unit - units + 1) : 64;
	}
	if (errno != 0 || value[0] < '0' || value[0] > '9' || shift == 64 || number == 0 ||
		number > SW_BLK_BYTES_MAX >> shift || (number << shift) % SW_BLK_SECTOR != 0)
		return vdpa_error_set(-EINVAL,
			"%s=%s: expected a multiple of 512 bytes, like 1048576, 64M or 2G, "
			"at most %" PRIu64,
			key, value, SW_BLK_BYTES_MAX);
	*out = number << shift;
	return 0;
}

static int
parse_block_size(const char *name, const char *value, uint32_t *out)
{
	int rc = vdpa_arg_uint32(name, value, SW_BLK_SECTOR, 65536, out);

	if (rc == 0 && !rte_is_power_of_2(*out))
		rc = vdpa_error_set(-EINVAL, "%s=%s: expected a power of two", name, value);
	return rc;
}

static int
parse_key(unsigned int key, const char *name, const char *value, void *arg)
{
	struct sw_blk_args *args = arg;
	unsigned int which = 0;
	uint32_t number = 0;
	int rc;

	switch ((enum key)key) {
	case KEY_BACKEND:
		rc = vdpa_arg_choice(name, value, backends, &which);
		args->backend = which;
		return rc;
	case KEY_PATH:
		return vdpa_arg_text(name, value, args->path, sizeof(args->path));
	case KEY_SIZE:
		return sw_blk_arg_size(name, value, &args->size_bytes);
	case KEY_READONLY:
		return vdpa_arg_bool(name, value, &args->readonly);
	case KEY_NUM_QUEUES:
		rc = vdpa_arg_uint32(name, value, 1, SW_BLK_VQS_MAX, &number);
		args->nr_vqs = number;
		return rc;
	case KEY_BLK_SIZE:
		return parse_block_size(name, value, &args->blk_size_bytes);
	case KEY_PHYSICAL:
		return parse_block_size(name, value, &args->physical_bytes);
	case KEY_SEG_MAX:
		return vdpa_arg_uint32(name, value, 1, 254, &args->seg_max);
	case KEY_SIZE_MAX:
		return vdpa_arg_uint32(name, value, 4096, 1u << 30, &args->size_max_bytes);
	case KEY_SERIAL:
		return vdpa_arg_text(name, value, args->serial, sizeof(args->serial));
	case KEY_WRITE_CACHE:
		return vdpa_arg_bool(name, value, &args->write_cache);
	case KEY_DIRECT:
		return vdpa_arg_bool(name, value, &args->direct);
	case KEY_SQPOLL:
		return vdpa_arg_bool(name, value, &args->sqpoll);
	case KEY_HANG_AFTER:
		return vdpa_arg_uint32(name, value, 0, 1000000000, &args->hang_after);
	}
	return -EINVAL;
}

static int
check(const struct sw_blk_args *args)
{
	bool file = args->backend == SW_BLK_FILE;

	if (file && args->path[0] == '\0')
		return vdpa_error_set(-EINVAL, "backend=file: expected path=PATH beside it");
	if (!file && args->path[0] != '\0')
		return vdpa_error_set(
			-EINVAL, "path=%s: expected backend=file beside it", args->path);
	if (!file && (args->direct || args->sqpoll))
		return vdpa_error_set(-EINVAL, "%s=on: expected backend=file beside it",
			args->direct ? "direct" : "sqpoll");
	if (!file && args->size_bytes == 0)
		return vdpa_error_set(-EINVAL, "backend=%s: expected size=BYTES beside it",
			backends[args->backend]);
	if (args->physical_bytes != 0 && args->physical_bytes < args->blk_size_bytes)
		return vdpa_error_set(-EINVAL,
			"physical_block_size=%" PRIu32 ": expected at least blk_size=%" PRIu32,
			args->physical_bytes, args->blk_size_bytes);
	if (args->size_bytes % args->blk_size_bytes != 0)
		return vdpa_error_set(-EINVAL,
			"size=%" PRIu64 ": expected a multiple of blk_size=%" PRIu32,
			args->size_bytes, args->blk_size_bytes);
	return 0;
}

int
sw_blk_args_parse(const char *name, const char *text, struct sw_blk_args *args)
{
	int rc;

	*args = (struct sw_blk_args){
		.nr_vqs = 1,
		.blk_size_bytes = SW_BLK_SECTOR,
		.seg_max = 126, /* a ring of 128 holds it with header and status */
		.write_cache = true,
		.hang_after = SW_BLK_HANG_NEVER,
	};
	rc = vdpa_emulated_parse(text, keys, &args->common, parse_key, args);
	if (rc == 0)
		rc = check(args);
	if (rc != 0)
		return rc;
	if (args->physical_bytes == 0)
		args->physical_bytes = RTE_MAX(args->blk_size_bytes, UINT32_C(4096));
	if (args->serial[0] == '\0')
		snprintf(args->serial, sizeof(args->serial), "%.*s", SW_BLK_ID_BYTES, name);
	return vdpa_emulated_features(&args->common, offered(args), &args->features);
}
