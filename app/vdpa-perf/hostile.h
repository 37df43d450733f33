/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_HOSTILE_H
#define PERF_HOSTILE_H

/**
 * @file
 * Drivers, each in a thread of its own and with a device of its own, that break a ring, wait until
 * the device stopped that queue for it, reset the device, and do the next bad thing, as fast as
 * they can: all cases of bad_ring.h in turn, on a transmit and a receive queue, and a descriptor
 * that changes while it is read.
 */

#include "guest.h"

#define HOSTILES_MAX 16

struct hostiles;

/**
 * Add so many devices and attach a driver to each.
 * @return NULL with a line on stderr
 */
struct hostiles *hostiles_open(unsigned int nr, bool packed);
/** NULL: nothing. */
void hostiles_close(struct hostiles *h);
/** Begin, or go on. @return 0 or negative errno with a line on stderr */
int hostiles_begin(struct hostiles *h);
/** Rest. @return false, with a line on stderr: a queue did not stop, or a device not start again */
bool hostiles_end(struct hostiles *h);
/** How often a queue was stopped for what a driver did, all in all. Not between begin and end. */
uint64_t hostiles_attacks(const struct hostiles *h);

#endif /* PERF_HOSTILE_H */
