/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef NET_GUEST_H
#define NET_GUEST_H

/**
 * @file
 * A guest with a virtio-net driver inside the test program: memory, rings and buffers by address,
 * attached to a device by a session as a bus driver would. One thread. Every step asserts (cmocka)
 * that it worked unless its return value says so.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "devices.h"
#include "vdpa_consumer.h"
#include "vring_drv.h"

#define F(name) (UINT64_C(1) << VIRTIO_##name)
#define NET_GUEST_IOVA UINT64_C(0x40000000)
#define NET_GUEST_PAIRS_MAX 4
#define NET_GUEST_BYTES UINT64_C(0x4000000)

/** How a frame lies in its buffer. */
enum net_shape {
	NET_WHOLE,	/**< header and frame in one segment */
	NET_SPLIT,	/**< header, frame */
	NET_SCATTERED,	/**< five segments, the header itself in two of them */
	NET_INDIRECT,	/**< NET_SCATTERED in a table; NET_WHOLE without the feature */
	NET_SHAPES
};

struct net_guest_config {
	const char *device;
	uint64_t features;
	uint16_t nr_pairs;		/**< 0: 1 */
	uint16_t nr_ready;		/**< pairs started; 0: all */
	uint16_t ring_size;		/**< 0: 64 */
	uint32_t rx_bytes;		/**< of a receive buffer; 0: 9216 */
	uint32_t tx_bytes;		/**< of a transmit buffer; 0: 9216 */
	bool shared;			/**< memory in a file, for net_guest_remap() */
};

struct net_queue {
	struct vring_drv ring;
	uint16_t index;
	int kick_fd, call_fd;
	uint64_t desc_iova, driver_iova, device_iova;
	uint64_t slots_iova, tables_iova;	/**< buffers; indirect tables */
	uint32_t slot_bytes;
	uint16_t free_slots[256];
	uint16_t nr_free;
};

struct net_pair {
	struct net_queue rx, tx;
};

struct net_guest {
	struct net_guest_config config;
	struct vdpa_device *dev;
	struct vdpa_binding *binding;
	struct vdpa_session *session;
	struct vring_region region;
	struct vring_mem mem;
	int mem_fd;
	uint8_t *guarded;		/**< the memory with the pages around it */
	uint8_t *former_va;		/**< before net_guest_remap(): the driver's */
	uint32_t regions_seq;
	uint64_t used_bytes;
	uint32_t base_seq;
	struct vdpa_vq_state states[2 * NET_GUEST_PAIRS_MAX];
	uint16_t nr_ready;
	uint32_t hdr_bytes;
	struct net_pair pairs[NET_GUEST_PAIRS_MAX];
	unsigned int config_changes, resets;	/**< from the op pool */
};

/** Make rings, fill them with nothing, attach and wait until the device runs. */
void net_guest_open(struct net_guest *g, const struct net_guest_config *config);
/** The same without waiting: what vdpa_session_sync() said. */
int net_guest_try_open(struct net_guest *g, const struct net_guest_config *config);
void net_guest_close(struct net_guest *g);
/** The rest of it, after vdpa_session_close(). */
void net_guest_end(struct net_guest *g);
/** Teardown of each test: what it left open, and all devices. */
int net_guest_teardown(void **state);
/** Stop all queues and remember where. @return as vdpa_session_stop() */
int net_guest_stop(struct net_guest *g);
/** State again what is wanted: more pairs, or a start after a stop. */
int net_guest_start(struct net_guest *g, uint16_t nr_ready);
/** Move the memory to another address of this process (config.shared). */
void net_guest_remap(struct net_guest *g);
/**
 * Take away all memory from size_bytes (whole pages) on, without a stop. Who touches it ends the
 * program. @return what vdpa_session_sync() said
 */
int net_guest_shrink(struct net_guest *g, uint64_t size_bytes);

void *net_guest_ptr(const struct net_guest *g, uint64_t iova);

/** Give up to nr receive buffers. @return how many were given */
uint16_t net_guest_fill(struct net_guest *g, uint16_t pair, uint16_t nr);
/** Send a frame; hdr NULL: zeros. false: no buffer free. */
bool net_guest_send(struct net_guest *g, uint16_t pair, enum net_shape shape,
		    const struct virtio_net_hdr_v1 *hdr, const void *frame, uint32_t len);
void net_guest_kick(struct net_guest *g, struct net_queue *q);
/** Take back sent buffers. @return how many */
uint16_t net_guest_reap(struct net_guest *g, uint16_t pair);
/** The next frame if there is one. @return its bytes, or -1; hdr may be NULL */
int net_guest_receive(struct net_guest *g, uint16_t pair, struct virtio_net_hdr_v1 *hdr,
		      void *frame, uint32_t size);
/** The same, waiting up to timeout_ms. */
int net_guest_wait(struct net_guest *g, uint16_t pair, struct virtio_net_hdr_v1 *hdr, void *frame,
		   uint32_t size, uint32_t timeout_ms);

/** Wait until this counter of a queue is value. */
void net_stat_wait(struct vdpa_device *dev, uint16_t index, const char *name, uint64_t value);
/** Status in configuration space as the class shows it; waits for it to become up or not. */
void net_link_wait(struct net_guest *g, bool up);

/** A sw_net. */
void net_device_add(const char *name, const char *args);
/** @return as device_try_add() */
int net_device_try_add(const char *name, const char *args);

/** rte_eal_init() for a test, with this --vdev argument or NULL; ends the program if it fails. */
void net_eal_start(const char *vdev);

/** Bytes of a frame that no other seed gives. */
void net_frame_fill(uint8_t *frame, uint32_t len, uint32_t seed);

void net_sleep_ms(uint32_t ms);
uint64_t net_now_us(void);

#endif /* NET_GUEST_H */
