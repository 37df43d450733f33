/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef CARD_H
#define CARD_H

/**
 * @file
 * A network card for tests: a parent with a thread of its own that behaves as hardware does. It
 * reaches memory only at IOVAs that were mapped, hears only its doorbell page (in a memfd),
 * interrupts by writing to call descriptors, and loops frames from transmit to receive queues. Any
 * op can be made slow, fail once, or hang; what it tried to reach outside its map is counted.
 */

#include "vdpa_parent.h"

#define CARD_MAC                                   \
	{                                          \
		0x02, 0x00, 0x00, 0x00, 0x0c, 0xad \
	}

enum card_fault {
	CARD_OK,
	CARD_FAIL,
	CARD_HANG,
	CARD_DELAY
};

struct card_conf {
	const char *name;
	uint16_t nr_pairs;
	uint64_t features; /**< 0: all it knows */
	uint64_t caps_off; /**< capabilities taken away from it */
	bool set_map;      /**< takes whole tables instead of map and unmap */
	bool no_fence;
	unsigned int fence_ms; /**< how long that takes */
	bool hangs; /**< its ops have the class's deadlines; else time enough on a busy machine */
	bool logs;  /**< reports what it writes (VDPA_CAP_DIRTY) */
	enum vdpa_relay_policy relay;
	bool manual;          /**< works only in card_work() */
	uint8_t mac_last;     /**< last byte of its MAC address; 0: that of CARD_MAC */
	uint16_t vq_size_max; /**< 0: 1024 */
};

struct card;

/** Make it and register it. NULL: vdpa_error_text() says why. */
struct card *card_create(const struct card_conf *conf);
/** Unregister and free; what vdpa_device_unregister() said. */
int card_destroy(struct card *card, bool force);
struct vdpa_device *card_device(struct card *card);

/** Do what there is to do, on this thread (card_conf.manual). */
void card_work(struct card *card);
/** Called before each op, and after it (op NULL), on its thread; may wait. NULL: no more. */
void card_on_step(struct card *card,
	void (*fn)(struct card *card, const char *op, bool after, void *arg), void *arg);
/** The next call of an op (or, with CARD_DELAY, every call) goes wrong. ms: how long a delay is. */
void card_fault(struct card *card, const char *op, enum card_fault fault, unsigned int ms);
/** Give back a buffer of a queue that it never had, and serve the queue no more. */
void card_lie(struct card *card, uint16_t index);
/** Let all that hangs go on. */
void card_release(struct card *card);
/** Its last start was said to be a driver's first after a reset. */
bool card_is_fresh(struct card *card);
/** How often an op was called. */
unsigned int card_calls(struct card *card, const char *op);
/**
 * Accesses outside the map, doorbells of queues that do not run, ops that overlapped or were
 * illegal in that state.
 */
unsigned int card_violations(struct card *card);
/** Frames looped back. */
uint64_t card_frames(struct card *card);
/** Ranges mapped now. */
unsigned int card_maps(struct card *card);

#endif /* CARD_H */
