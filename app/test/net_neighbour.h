/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef NET_NEIGHBOUR_H
#define NET_NEIGHBOUR_H

/**
 * @file
 * A good guest on a device "ok", in a thread of its own: it sends all the time, as fast as its
 * frames come back, and compares them. What others do on the same worker must not show.
 */

#include <stdbool.h>
#include <stdint.h>

/**
 * Before tests with bad guests: what breaks is not logged. false: they cannot run (exit code 77),
 * as their guests race on purpose.
 */
bool net_hostile_begin(void);
/** Add the device and begin. One at a time. */
void net_neighbour_start(void);
/** Frames that came back so far, whole and in order. */
uint64_t net_neighbour_frames(void);
/** Wait until some more have come back. */
void net_neighbour_goes_on(void);
/** End it: none was lost or changed. @return all frames */
uint64_t net_neighbour_stop(void);

#endif /* NET_NEIGHBOUR_H */
