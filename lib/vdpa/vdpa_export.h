/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef VDPA_EXPORT_H
#define VDPA_EXPORT_H

/**
 * @file
 * Marks what libvdpa exports. Everything else is hidden. A marked function also stands in
 * lib/version.map.
 */

#define VDPA_EXPORT __attribute__((visibility("default")))

#endif /* VDPA_EXPORT_H */
