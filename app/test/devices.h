/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef DEVICES_H
#define DEVICES_H

/**
 * @file
 * Devices of a test program, made and removed by their management device. Every step asserts
 * (cmocka) that it worked unless its return value says so.
 */

#include <stdint.h>

#include "vdpa_consumer.h"

/** As --vdev mgmtdev,args would; @return what the management device said */
int device_try_add(const char *mgmtdev, const char *name, const char *args);
void device_add(const char *mgmtdev, const char *name, const char *args);
void device_del(const char *name);
/** Remove all, of whatever kind. 0 or a negative errno. */
int devices_remove(void);
/** Counter of a queue by name. */
uint64_t device_stat(struct vdpa_device *dev, uint16_t index, const char *name);

#endif /* DEVICES_H */
