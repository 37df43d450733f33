/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_RELAY_VQ_H
#define VDPA_RELAY_VQ_H

/**
 * @file
 * A shadow virtqueue: one queue of a guest, relayed to a device that sees a ring of ours and never
 * the guest's.
 *
 *      guest's ring                       relay                        shadow ring
 *   descriptor area    --- copied once, checked, kept ------------>  descriptor area     device
 *   available          --- heads, one to one --------------------->  available           reads
 *   used               <-- entries, checked against what is in flight  used               writes
 *   buffers            <================ the device reaches them itself ==================
 *
 * Both rings have the same size and format. Descriptor slots (split) and buffer ids (packed) are
 * the guest's, one to one: nothing is allocated, searched or translated. Buffers are not touched;
 * indirect tables are passed by address. The device's ring positions are the guest's, so a switch
 * between direct and relayed changes ring addresses and nothing else; a device that takes no start
 * index begins at 0 and the positions differ by a constant.
 *
 * What the device writes is reported for dirty marking: of each completed buffer the first `len`
 * bytes of its writable segments, as the device says, clamped to the buffer; then what the relay
 * itself writes to the guest's ring. The segments are those that were copied when the buffer was
 * made available, up to VDPA_RELAY_SEGS a buffer; a longer or indirect chain is walked again at
 * completion, bounded and checked.
 *
 * Functions over memory: no threads, no descriptors, no allocation after init. A queue belongs to
 * one thread at a time. Neither side is trusted: what is wrong breaks the queue with a reason (enum
 * vring_error), and from then on it writes to neither ring.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vring.h"

/**
 * Ranges that one call may need at least: the longest buffer, and what the relay writes to the
 * guest's ring itself.
 */
#define VDPA_RELAY_WRITTEN_MIN (VRING_SEGS_DEFAULT + 8)

/** Writable segments of a buffer that are kept inline. */
#define VDPA_RELAY_SEGS 4

/**
 * Where a burst leaves what was written, NULL where nobody asks. Reported before the guest sees the
 * entries.
 */
struct vdpa_relay_written {
	struct vring_range *ranges;
	uint32_t nr;
	/** a burst ends early rather than overflow it; at least VDPA_RELAY_WRITTEN_MIN */
	uint32_t nr_max;
};

struct vdpa_relay_vq;

/** Bytes of memory for the shadow ring of this size and format; whole pages. */
uint64_t vdpa_relay_shadow_bytes(uint16_t size, uint64_t features);

/** Allocate. @return NULL: no memory */
struct vdpa_relay_vq *vdpa_relay_vq_create(uint16_t size, uint64_t features);
void vdpa_relay_vq_free(struct vdpa_relay_vq *vq);

/**
 * Begin to relay.
 * @param guest
 *	The guest's ring, its memory, where it stands. Nothing is in flight: avail equals used.
 * @param shadow, shadow_iova
 *	vdpa_relay_shadow_bytes() of memory, and its address for the device. What matters of a
 *	former ring in it is overwritten.
 * @param device_state
 *	Where the device starts: the guest's position, or the start of a ring.
 * @param device
 *	Filled in: ring addresses and state for the device (its mem member is not used).
 * @return 0; -EINVAL, -EFAULT as vring_dev_init(), with vdpa_relay_vq_error() as the reason.
 */
int vdpa_relay_vq_init(struct vdpa_relay_vq *vq, const struct vring_config *guest, void *shadow,
	uint64_t shadow_iova, struct vring_state device_state, struct vring_config *device);

/**
 * Note what is under way, for the guest's next device (vring_inflight.h). Right after init. What a
 * former one had is passed on first, and the guest's ring stands where vring_inflight_begin() says.
 * @param region
 *	As there. NULL: nothing is noted.
 * @return 0; negative errno as vring_inflight_begin(); -EINVAL: a buffer is broken
 *	(vdpa_relay_vq_error())
 */
int vdpa_relay_vq_notes(struct vdpa_relay_vq *vq, void *region);

/** Take over a changed memory table, as vring_dev_set_mem(). */
int vdpa_relay_vq_set_mem(struct vdpa_relay_vq *vq, const struct vring_mem *mem);

/** Pass on up to burst buffers that the guest made available. @return their number */
uint32_t vdpa_relay_vq_avail(struct vdpa_relay_vq *vq, uint32_t burst);
/** Does the device want to be kicked for what was passed on since the last call? */
bool vdpa_relay_vq_kick_needed(struct vdpa_relay_vq *vq);
/**
 * Hand back up to burst buffers that the device used. @return their number (in-order batches:
 * buffers, not entries)
 */
uint32_t
vdpa_relay_vq_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written);
/** Does the guest want an interrupt for what was handed back since the last call? */
bool vdpa_relay_vq_signal_needed(struct vdpa_relay_vq *vq);

/** Ask both sides for notifications and look again. @return true: there is work */
bool vdpa_relay_vq_arm(struct vdpa_relay_vq *vq);
/**
 * Report where asking, and no longer asking, writes to the guest's ring: after each of them, and
 * after vdpa_relay_vq_stop().
 */
void vdpa_relay_vq_asked(const struct vdpa_relay_vq *vq, struct vdpa_relay_written *written);
/** No notification is needed while it is polled. */
void vdpa_relay_vq_disarm(struct vdpa_relay_vq *vq);

/**
 * The device has stopped and vdpa_relay_vq_used() found nothing more: forget what the device did
 * not complete, so that the next user of the guest's ring finds it available again (right where
 * completion is in order; see vdpa_relay_vq_in_flight()).
 * @return where the guest's ring stands: avail equals used
 */
struct vring_state vdpa_relay_vq_stop(struct vdpa_relay_vq *vq);

/**
 * How far it is behind: entries that the guest made available or the device used, and that were not
 * passed on. Packed: of the guest's chains the slots.
 */
uint32_t vdpa_relay_vq_behind(const struct vdpa_relay_vq *vq);
/** Buffers that the device has and has not used. */
uint32_t vdpa_relay_vq_in_flight(const struct vdpa_relay_vq *vq);
/** VRING_ERR_NONE while all is well. */
enum vring_error vdpa_relay_vq_error(const struct vdpa_relay_vq *vq);
/** Was it the device that broke the rules, and not the guest? */
bool vdpa_relay_vq_device_broke(const struct vdpa_relay_vq *vq);

#endif /* VDPA_RELAY_VQ_H */
