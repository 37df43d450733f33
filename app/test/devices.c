/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "devices.h"

int
device_try_add(const char *mgmtdev, const char *name, const char *args)
{
	struct vdpa_mgmtdev *found = vdpa_mgmtdev_find(mgmtdev);

	assert_non_null(found);
	return found->dev_add(found, name, args);
}

void
device_add(const char *mgmtdev, const char *name, const char *args)
{
	int rc = device_try_add(mgmtdev, name, args);

	if (rc != 0)
		fail_msg("%s,%s: %d %s", name, args, rc, vdpa_error_text());
}

void
device_del(const char *name)
{
	struct vdpa_device *dev = vdpa_device_find(name);

	assert_non_null(dev);
	assert_int_equal(dev->mgmtdev->dev_del(dev->mgmtdev, dev, false), 0);
}

static int
take_name(struct vdpa_device *dev, void *arg)
{
	snprintf(arg, VDPA_NAME_MAX, "%s", dev->name);
	return 1;
}

int
devices_remove(void)
{
	char name[VDPA_NAME_MAX];
	int rc = 0;

	while (rc == 0 && vdpa_device_foreach(take_name, name) != 0) {
		struct vdpa_device *dev = vdpa_device_find(name);

		rc = dev->mgmtdev->dev_del(dev->mgmtdev, dev, true);
	}
	return rc;
}

uint64_t
device_stat(struct vdpa_device *dev, uint16_t index, const char *name)
{
	uint64_t values[VDPA_VQ_STATS_MAX];
	int nr = vdpa_device_vq_stats(dev, index, values);

	for (int i = 0; i < nr; i++)
		if (strcmp(dev->ops->vq_stat_names[i], name) == 0)
			return values[i];
	fail_msg("no counter %s", name);
	return 0;
}
