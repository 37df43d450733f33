/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef BAD_RING_H
#define BAD_RING_H

/**
 * @file
 * Rings that break the rules, for any device: what lies in the descriptors, and the text with which
 * the device has to stop the queue. Written raw into the guest's memory, without its driver.
 */

#include <stdbool.h>
#include <stdint.h>

/** Where a case is written to; no buffer of the queue is with the device. */
struct bad_ring_place {
	bool packed;
	uint16_t size;
	uint16_t at;         /**< split: nothing; packed: the next slot, in the first round */
	bool to_driver;      /**< a queue of buffers that the device writes to */
	void *desc, *driver; /**< the queue's areas; driver: split only */
	uint64_t start_iova, end_iova; /**< the guest's memory, without holes */
	uint64_t good_iova;  /**< 1 MiB that nobody uses; tables are there too */
	void *good;
};

struct bad_ring_case;

/** Case number i for this ring format, or NULL behind the last. */
const struct bad_ring_case *bad_ring_case(unsigned int i, bool packed);
const char *bad_ring_name(const struct bad_ring_case *c);
/** A part of the reason that is reported. */
const char *bad_ring_why(const struct bad_ring_case *c);
/** Make it available; the caller kicks. */
void bad_ring_offer(const struct bad_ring_case *c, const struct bad_ring_place *place);

#endif /* BAD_RING_H */
