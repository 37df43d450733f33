/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_GUEST_H
#define PERF_GUEST_H

/**
 * @file
 * A virtio-net driver in this process, attached to a device of the class by a session, as a bus
 * driver would attach a front end. One thread.
 *
 * It polls: interrupts are off. What it sends is frames of one size with an empty header; what it
 * receives must be of that size, and where frames are numbered the next one, byte for byte.
 */

#include "memory.h"
#include "vdpa_consumer.h"

#define PERF_PAIRS_MAX 64

struct perf_guest_config {
	const char *device;
	uint64_t features;
	uint16_t nr_pairs;
	uint16_t ring_size;
	uint32_t frame_bytes;
	uint32_t rx_bytes;	/**< of a receive buffer; 0: as a frame needs */
	uint64_t spare_bytes;	/**< memory beside what it uses; costs address space only */
	bool numbered;		/**< one pair: frames have numbers, what comes back is compared */
};

struct perf_guest_queue {
	struct perf_queue q;
	int kick_fd, call_fd;
};

/** What a driver in this process has of the class; cleared before perf_attach(). */
struct perf_attachment {
	struct vdpa_binding *binding;
	struct vdpa_session *session;
};

struct perf_guest {
	struct perf_guest_config config;
	struct perf_memory memory;
	struct perf_attachment attachment;
	struct vdpa_wanted wanted; /* of the session; vqs and regions are below */
	struct vdpa_wanted_vq vqs[2 * PERF_PAIRS_MAX];
	struct vdpa_range regions[2];
	int spare_fd;
	struct perf_guest_queue rx[PERF_PAIRS_MAX], tx[PERF_PAIRS_MAX];
	uint32_t hdr_bytes;
	uint64_t nr_sent, nr_received; /* numbered: frames */
	uint64_t nr_wrong; /**< frames of another size or content, sent buffers as if written */
};

/** Features of a virtio 1 driver with these rings. */
uint64_t perf_guest_features(bool packed, bool mergeable, bool in_order);
/** Make a device. @return 0 or negative errno, with a line on stderr */
int perf_device_add(const char *mgmtdev, const char *name, const char *args);
void perf_device_del(const char *name);

/** A ring with its notifications. @return 0 or negative errno; close it in any case */
int perf_guest_queue_open(struct perf_guest_queue *q, struct perf_memory *memory,
	uint16_t ring_size, uint64_t features, uint32_t slot_bytes);
void perf_guest_queue_close(struct perf_guest_queue *q);
void perf_guest_kick(struct perf_guest_queue *q);
/** What a session is told of them. */
struct vdpa_wanted_vq perf_guest_wanted_vq(const struct perf_guest_queue *q);
struct vdpa_range perf_guest_range(const struct perf_memory *memory);
/** Open a session and wait until it is as wanted. @return 0 or negative errno; detach anyway */
int perf_attach(
	struct perf_attachment *a, const char *device, const struct vdpa_wanted *wanted);
void perf_detach(struct perf_attachment *a, const char *device);

/**
 * Attach, give all receive buffers, wait until the device runs.
 * @return 0, or negative errno with a line on stderr; perf_guest_close() in any case
 */
int perf_guest_open(struct perf_guest *g, const struct perf_guest_config *config);
void perf_guest_close(struct perf_guest *g);
/**
 * Reset the device and begin anew, without receive buffers, whatever became of the rings. Waits
 * until the device runs.
 * @return 0, or negative errno with a line on stderr
 */
int perf_guest_restart(struct perf_guest *g);
/**
 * Have all that is written logged, or no more. Waits until it is so.
 * @return 0, or negative errno with a line on stderr
 */
int perf_guest_log(struct perf_guest *g, bool on);
/** Send up to nr frames at once. @return how many */
uint16_t perf_guest_send(struct perf_guest *g, uint16_t pair, uint16_t nr);
/** Take up to nr frames and give their buffers again; take back what was sent. @return frames */
uint16_t perf_guest_receive(struct perf_guest *g, uint16_t pair, uint16_t nr);
/** Did a ring break? */
bool perf_guest_broken(const struct perf_guest *g);

#endif /* PERF_GUEST_H */
