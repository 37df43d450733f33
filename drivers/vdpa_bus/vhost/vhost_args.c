/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhost_bus.h"

const char vdpa_vhost_keys[] = "path=PATH,client=on|off,mode=OCTAL,group=NAME";

static int
args_path(const char *value, struct vhost_args *args)
{
	size_t len = strlen(value);

	if (len == 0 || len >= sizeof(args->path))
		return vdpa_error_set(-EINVAL, "path=%s: must have 1 to %zu characters", value,
			sizeof(args->path) - 1);
	if (strncmp(value, "/dev/vduse/", strlen("/dev/vduse/")) == 0)
		return vdpa_error_set(
			-EINVAL, "path=%s: must be a socket, not a VDUSE device", value);
	memcpy(args->path, value, len + 1);
	return 0;
}

static int
args_mode(const char *value, struct vhost_args *args)
{
	unsigned long mode;
	char *end;

	mode = strtoul(value, &end, 8);
	if (*value < '0' || *value > '7' || *end != '\0' || mode > 0777)
		return vdpa_error_set(
			-EINVAL, "mode=%s: must be an octal number up to 0777", value);
	args->mode = mode;
	args->set_mode = true;
	return 0;
}

static int
args_group(const char *value, struct vhost_args *args)
{
	char buf[4096];
	struct group group, *found = NULL;
	unsigned long gid;
	char *end;

	if (getgrnam_r(value, &group, buf, sizeof(buf), &found) == 0 && found != NULL) {
		args->gid = group.gr_gid;
		args->set_group = true;
		return 0;
	}
	gid = strtoul(value, &end, 10);
	if (*value < '0' || *value > '9' || *end != '\0' || gid >= UINT32_MAX)
		return vdpa_error_set(-EINVAL, "group=%s: must be a group of this system", value);
	args->gid = gid;
	args->set_group = true;
	return 0;
}

static int
args_one(const char *key, const char *value, void *arg)
{
	struct vhost_args *args = arg;

	if (strcmp(key, "path") == 0)
		return args_path(value, args);
	if (strcmp(key, "client") == 0)
		return vdpa_arg_bool(key, value, &args->client);
	if (strcmp(key, "mode") == 0)
		return args_mode(value, args);
	return args_group(value, args);
}

int
vdpa_vhost_args_parse(const char *text, struct vhost_args *args)
{
	static const char *const keys[] = {"path", "client", "mode", "group", NULL};
	int ret;

	memset(args, 0, sizeof(*args));
	ret = vdpa_args_parse(text, keys, args_one, args);
	if (ret < 0)
		return ret;
	if (args->path[0] == '\0')
		return vdpa_error_set(-EINVAL, "path is missing: %s", vdpa_vhost_keys);
	if (args->client && (args->set_mode || args->set_group))
		return vdpa_error_set(-EINVAL,
			"%s: only for a socket that we make, not with client=on",
			args->set_mode ? "mode" : "group");
	/* A group is of no use without the right to write, which connect() needs. */
	if (args->set_group && !args->set_mode) {
		args->mode = 0660;
		args->set_mode = true;
	}
	return 0;
}
