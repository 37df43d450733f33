/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_CTRL_H
#define VDPA_CTRL_H

/**
 * @file
 * Net control commands (virtio 1.2, 5.1.6.5) and the settings they leave, between vdpa_ctrl.c and
 * the ring in vdpa_cvq.c. Op thread.
 *
 * What is accepted where virtio leaves it open: on/off bytes are 0 or 1; a MAC address is unicast
 * and not zero. A MAC table of more than VDPA_CTRL_MACS_MAX addresses is answered with OK and
 * filtered less instead (as QEMU does): the device gets an empty table, and promiscuous (unicast)
 * or all-multicast mode for as long as that table stands.
 */

#include "vdpa_private.h"
#include "vring_copy.h"

#define VDPA_CTRL_MACS_MAX 64
#define VDPA_CTRL_VLANS    4096

struct vdpa_ctrl_macs {
	uint32_t nr; /* at most VDPA_CTRL_MACS_MAX */
	bool overflow;
	uint8_t addrs[VDPA_CTRL_MACS_MAX][6];
};

/* What the driver has set; what it has not is not restored. */
struct vdpa_ctrl {
	const struct vdpa_cvq_effects *effects;
	uint16_t max_pairs;
	atomic_bool mac_set; /* before configuration space shows it; read by any thread */
	/* what follows is cleared by a reset */
	uint64_t features;
	uint16_t pairs;
	uint8_t rx[6];  /* by command of class RX */
	uint8_t rx_set; /* bit by command */
	bool table_set, offloads_set;
	struct vdpa_ctrl_macs unicast, multicast;
	uint8_t mac[6];
	uint64_t offloads;
	uint8_t vlans[VDPA_CTRL_VLANS / 8];
};

void vdpa_ctrl_reset(struct vdpa_ctrl *ctrl, uint64_t features);
/*
 * Check and do one command, read once from the readable part of a chain. len_bytes: what it has.
 * 0: done; -EINVAL: malformed; -ENOTSUP: unknown, or not agreed; else what the effect gave.
 */
int vdpa_ctrl_do(struct vdpa_ctrl *ctrl, struct vring_cursor *cursor, uint32_t len_bytes);
/* Play the settings to the effects, in the order of the classes; all of them. The first error. */
int vdpa_ctrl_restore(struct vdpa_ctrl *ctrl);

#endif /* VDPA_CTRL_H */
