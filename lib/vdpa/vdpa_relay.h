/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_RELAY_H
#define VDPA_RELAY_H

/**
 * @file
 * The relay of one device: shadow virtqueues (lib/relay) put to work. Each relayed queue is a path
 * of a datapath worker that polls both rings; the shadow rings lie in one range of memory which is
 * added to the device's domain, above the guest's. All functions run on the op thread.
 */

#include "vdpa_private.h"
#include "vring.h"

struct vdpa_relay;

/** Room for the shadow rings of nr_vqs queues of up to vq_size entries. @return NULL: no memory */
struct vdpa_relay *
vdpa_relay_create(struct vdpa_device_priv *priv, uint64_t features, uint16_t vq_size);
/** No queue runs any more. NULL is legal. */
void vdpa_relay_free(struct vdpa_relay *relay);
/** It serves another device from now on. No queue runs. */
void vdpa_relay_take(struct vdpa_relay *relay, struct vdpa_device_priv *priv);
bool vdpa_relay_fits(const struct vdpa_relay *relay, uint64_t features, uint16_t vq_size);
/**
 * The guest's memory with the shadow rings in it, for the device. Kept until another domain is
 * asked for.
 * @return 0; -ENOSPC: no room beside the guest's memory within the device's reach; what
 *	vdpa_domain_create() gave
 */
int
vdpa_relay_domain(struct vdpa_relay *relay, struct vdpa_domain *guest, struct vdpa_domain **out);

/**
 * What a queue needs and takes time to get: memory, descriptors. Before the device is stopped.
 * @return 0; -ENOMEM
 */
int vdpa_relay_vq_reserve(struct vdpa_relay *relay, uint16_t index, struct vdpa_fd *call);
/**
 * Make a queue ready: config becomes what the device gets. The queue runs after vdpa_relay_run().
 * @param call
 *	Of the guest, NULL: none.
 * @return 0; -EBUSY: buffers are in flight; -EINVAL, -EFAULT: the ring (vdpa_error_text())
 */
int vdpa_relay_vq_prepare(
	struct vdpa_relay *relay, struct vdpa_vq_config *config, struct vdpa_fd *call);
/** The device runs these, which are ready: relay. 0, or a negative errno: none of them. */
int vdpa_relay_run(struct vdpa_relay *relay, const struct vdpa_vq_config *vqs, uint16_t nr);
/** Workers let go of all queues, before each is ended. @return -ETIMEDOUT: a worker hangs */
int vdpa_relay_halt(struct vdpa_relay *relay);
/** The device has stopped the queue: hand back the rest. @return -ETIMEDOUT: its worker hangs */
int vdpa_relay_vq_end(struct vdpa_relay *relay, uint16_t index, struct vdpa_vq_state *state);
int vdpa_relay_vq_set_call(struct vdpa_relay *relay, uint16_t index, struct vdpa_fd *call);
/** Interrupt the guest. */
void vdpa_relay_vq_signal(struct vdpa_relay *relay, uint16_t index);
/**
 * Each running queue is between two bursts once: a burst that began before the call has ended when
 * it returns. @return 0; -ETIMEDOUT a worker hangs
 */
int vdpa_relay_settle(struct vdpa_relay *relay);
/**
 * All running queues use what vdpa_relay_domain() gave last. The former domain stays until it
 * returns.
 */
int vdpa_relay_update_memory(struct vdpa_relay *relay);
/** Add to what is known: relayed, lag, lag_max. Any thread. */
void vdpa_relay_counters(const struct vdpa_relay *relay, struct vdpa_device_status *status);

#endif /* VDPA_RELAY_H */
