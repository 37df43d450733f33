/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include "vdpa_private.h"

static struct vdpa_mgmtdev *mgmtdevs;

void
vdpa_mgmtdev_register(struct vdpa_mgmtdev *mgmtdev)
{
	struct vdpa_mgmtdev **at = &mgmtdevs;

	while (*at != NULL)
		at = &(*at)->next;
	*at = mgmtdev;
}

struct vdpa_mgmtdev *
vdpa_mgmtdev_find(const char *name)
{
	struct vdpa_mgmtdev *mgmtdev = mgmtdevs;

	while (mgmtdev != NULL && strcmp(mgmtdev->name, name) != 0)
		mgmtdev = mgmtdev->next;
	return mgmtdev;
}

int
vdpa_mgmtdev_foreach(int (*fn)(struct vdpa_mgmtdev *mgmtdev, void *arg), void *arg)
{
	int rc = 0;

	for (struct vdpa_mgmtdev *mgmtdev = mgmtdevs; mgmtdev != NULL && rc == 0;
		mgmtdev = mgmtdev->next)
		rc = fn(mgmtdev, arg);
	return rc;
}

int
vdpa_device_set(struct vdpa_device *dev, const char *args)
{
	const struct vdpa_mgmtdev *mgmtdev = dev->mgmtdev;

	if (mgmtdev == NULL || mgmtdev->dev_set == NULL)
		return vdpa_error_set(-ENOTSUP, "%s: a device of %s cannot be changed", dev->name,
			mgmtdev != NULL ? mgmtdev->name : "this kind");
	if (args == NULL || args[0] == '\0')
		return vdpa_error_set(
			-EINVAL, "%s: expected one of %s", dev->name, mgmtdev->set_keys);
	return mgmtdev->dev_set(mgmtdev, dev, args);
}
