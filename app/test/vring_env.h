/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * A guest for tests of lib/vring: memory between guard pages, and a driver that writes what it is
 * told, lawful or not. An access outside the guest's memory ends the test program by a signal.
 */

#ifndef VRING_ENV_H
#define VRING_ENV_H

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vring.h"
#include "vring_dev.h"
#include "vring_drv.h"

#ifndef VIRTIO_F_IN_ORDER
#define VIRTIO_F_IN_ORDER 35
#endif

#define F_PACKED   (1ULL << VIRTIO_F_RING_PACKED)
#define F_EVENT    (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define F_INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define F_IN_ORDER (1ULL << VIRTIO_F_IN_ORDER)

#define D_NEXT     VRING_DESC_F_NEXT
#define D_WRITE    VRING_DESC_F_WRITE
#define D_INDIRECT VRING_DESC_F_INDIRECT

/** next of a descriptor: the one behind it. */
#define D_AUTO 0xfff0

/* The guest's regions. DATA, MORE and ROM follow each other in iova and not in va. */
#define RING_IOVA      0x10000ULL
#define RING_SIZE      0x120000ULL
#define DATA_IOVA      0x200000ULL
#define DATA_SIZE      0x100000ULL
#define MORE_IOVA      (DATA_IOVA + DATA_SIZE)
#define MORE_SIZE      0x40000ULL
#define ROM_IOVA       (MORE_IOVA + MORE_SIZE) /* the device may read only */
#define ROM_SIZE       0x10000ULL
#define SINK_IOVA      0x500000ULL /* the device may write only */
#define SINK_SIZE      0x10000ULL
#define HUGE_IOVA      0x100000000ULL /* never touched but at its ends */
#define HUGE_SIZE      0xc0000000ULL
#define TOP_SIZE       0x10000ULL
#define TOP_IOVA       (0ULL - TOP_SIZE) /* up to the last address there is */
#define NOWHERE_IOVA   0x900000ULL

#define ENV_NR_REGIONS 7
#define ENV_NR_CHAINS  512
#define ENV_NR_SEGS    2048

/** What a descriptor holds; the packed one's id is the environment's. */
struct env_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct vring_env {
	struct vring_region regions[ENV_NR_REGIONS];
	struct vring_mem mem;
	struct vring_config config;
	struct vring_dev dev;
	struct vring_chain chains[ENV_NR_CHAINS];
	struct vring_seg segs[ENV_NR_SEGS];
	bool packed;
	uint16_t size;
	/* the lawless driver */
	uint16_t avail; /* split: index; packed: slot */
	bool wrap;
	uint16_t desc; /* split: next descriptor to be used */
	uint16_t id;   /* packed: next buffer id */
	uint8_t *copy; /* of all memory but the huge region */
};

/** Map memory, make a ring and a device on it. Fails the test if that fails. */
struct vring_env *env_new(uint16_t size, uint64_t features, uint16_t max_segs);
/** The same from a start state. */
struct vring_env *
env_new_at(uint16_t size, uint64_t features, uint16_t max_segs, struct vring_state state);
void env_free(struct vring_env *e);

/** Pointer of an address, whatever the device may do there. */
void *env_ptr(const struct vring_env *e, uint64_t iova);

/** Write an indirect table at an address of guest memory, which may be in two regions. */
void env_table(const struct vring_env *e, uint64_t iova, const struct env_desc *d, uint16_t nr);

/** Write a chain into the ring and publish it. Returns the head (split) or buffer id (packed). */
uint16_t env_put(struct vring_env *e, const struct env_desc *d, uint16_t nr);

/** One lawful buffer of 64 bytes in DATA; n tells buffers apart. */
uint16_t env_put_good(struct vring_env *e, uint16_t n, uint16_t flags);

struct vring_desc *env_split_desc(const struct vring_env *e, uint16_t i);
struct vring_packed_desc *env_packed_desc(const struct vring_env *e, uint16_t i);
struct vring_avail *env_avail(const struct vring_env *e);
struct vring_used *env_used(const struct vring_env *e);
/** Event suppression structures: flags << 16 | offset and wrap counter. */
uint32_t *env_driver_event(const struct vring_env *e);
uint32_t *env_device_event(const struct vring_env *e);

/** Peek into the environment's arrays. */
uint16_t env_peek(struct vring_env *e, uint16_t nr);

/** Read each readable and write each writable segment (its ends, in huge memory). */
void env_touch(struct vring_env *e, const struct vring_chain *chains, uint16_t nr);

/** Remember memory; then: has nothing been written since? */
void env_snapshot(struct vring_env *e);
void env_assert_untouched(const struct vring_env *e);

/** The queue is broken for this reason, gives nothing, and no call writes to memory any more. */
void env_assert_broken(struct vring_env *e, enum vring_error error);

/** A random number; the sequence depends on the seed only. */
uint32_t env_random(uint64_t *seed);

#endif /* VRING_ENV_H */
