/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef GUEST_H
#define GUEST_H

/**
 * @file
 * A consumer in process, for tests of the class and of parents: memory in memfds, a network
 * driver's rings in it, and a session that states what it wants. One thread uses it at a time.
 */

#include "vdpa_consumer.h"
#include "vring.h"
#include "vring_drv.h"

#define GUEST_PAIRS_MAX    4
#define GUEST_VQS_MAX      (2 * GUEST_PAIRS_MAX + 1)
#define GUEST_RING         64
#define GUEST_BUF_BYTES    2048
#define GUEST_REGION_BYTES (4u << 20)
#define GUEST_IOVA \
	UINT64_C(0x100000) /* of the first region; the second is the same size, 1 GiB on */
#define GUEST_IOVA_HOTPLUG (GUEST_IOVA + (UINT64_C(1) << 30))

struct guest {
	struct vdpa_binding *binding;
	struct vdpa_session *session;
	struct vdpa_wanted wanted;
	struct vdpa_wanted_vq vqs[GUEST_VQS_MAX];
	struct vdpa_range regions[2];
	struct vring_region mem_regions[2];
	struct vring_mem mem;
	struct vring_drv drv[GUEST_VQS_MAX];
	int kick[GUEST_VQS_MAX], call[GUEST_VQS_MAX];
	uint16_t nr_pairs;
	int ctrl_vq;             /**< index, -1: none */
	uint32_t sent, received; /**< frames, over all pairs */
	uint32_t next_rx[GUEST_PAIRS_MAX], next_tx[GUEST_PAIRS_MAX];
	uint32_t bad;                        /**< frames that came back changed or out of order */
	unsigned int config_changes, resets; /**< told by the binding */
	char slots[GUEST_PAIRS_MAX][2][GUEST_RING]; /**< tx, rx: buffer in use */
};

/** A binding of this device, memory and rings; no session yet. 0 or a negative errno. */
int
guest_create(struct guest *guest, struct vdpa_device *dev, uint64_t features, uint16_t nr_pairs);
/** Close the session if one is open, and all else. */
int guest_destroy(struct guest *guest);
/** Only the binding; what vdpa_binding_destroy() said. */
int guest_destroy_binding(struct guest *guest);
/**
 * Open a session and set what is wanted: all queues ready, driver_ok. Fresh rings, as after a
 * driver's reset.
 */
int guest_start(struct guest *guest);
/**
 * Tell the class what is wanted now and wait until it runs (or was refused: what the session says).
 */
int guest_set(struct guest *guest);
/** Rings anew at index 0, as a driver does after a reset. The datapath must be stopped. */
int guest_reset_rings(struct guest *guest);
/** Add the second region to the memory, or take it away. Then guest_set(). */
void guest_hotplug(struct guest *guest, bool plugged);
/** Give the device receive buffers and send up to nr frames on a pair. @return frames sent */
unsigned int guest_send(struct guest *guest, uint16_t pair, unsigned int nr);
/** Take back what is there on a pair, check it. */
void guest_poll(struct guest *guest, uint16_t pair);
/** Wait until each frame sent on a pair has been given back. @return 0; -ETIMEDOUT */
int guest_sent(struct guest *guest, uint16_t pair, unsigned int timeout_ms);
/**
 * Send nr frames on a pair and wait until all are back. @return 0; -ETIMEDOUT; -EILSEQ something
 * changed
 */
int guest_exchange(struct guest *guest, uint16_t pair, unsigned int nr, unsigned int timeout_ms);
/** A control command; @return the answer (0 OK, 1 ERR) or -ETIMEDOUT. */
int
guest_command(struct guest *guest, uint8_t cls, uint8_t cmd, const void *data, uint32_t len_bytes);
/** Address in this process of something in the first region. */
void *guest_va(struct guest *guest, uint64_t iova);
/** Only the device writes there: receive buffers, used rings. */
bool guest_page_is_devices(struct guest *guest, uint64_t iova);
void guest_kick(struct guest *guest, uint16_t index);

#endif /* GUEST_H */
