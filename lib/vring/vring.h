/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * What the two sides of a virtqueue share: memory, configuration, state and errors.
 *
 * lib/vring holds the split and packed ring formats (virtio 1.2, sections 2.6 to 2.8) as functions
 * over memory: no threads, no devices, no file descriptors, no EAL. It is the one place where
 * numbers written by a peer (a guest, a device) are read once, checked and copied; whoever uses it
 * gets pointers and lengths that are safe to use for as long as the memory table is.
 *
 *          driver (guest)                                       device
 *     vring_drv_add .. publish     descriptor area         vring_dev_peek .. consume
 *                              --> driver area     -->
 *     vring_drv_get            <-- device area     <--     vring_dev_push .. flush
 *
 * Header vring_dev.h has the device side, vring_drv.h the driver side.
 *
 * Addresses: "iova" is the address that the driver wrote into the ring (guest physical, virtual or
 * IO virtual: the caller knows which); "va" is a pointer of this process.
 *
 * Threads: a queue object belongs to one thread at a time and has no lock. The only memory that
 * is shared is the ring itself, and the fences for that are inside. A struct vring_mem is never
 * written after it was made, so any number of queues and threads may use it.
 *
 * Byte order: all ring fields are little endian. A legacy driver (no VIRTIO_F_VERSION_1) uses the
 * CPU's own order, which is the same thing on a little endian machine and unsupported elsewhere.
 */

#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** Largest queue of either format, in ring slots (virtio 1.2, 2.7 and 2.8.10.1). */
#define VRING_SIZE_MAX 32768

/** Bits of struct vring_region::perm: what the *device* may do with the memory. */
#define VRING_PERM_READ  (1u << 0)
#define VRING_PERM_WRITE (1u << 1)
#define VRING_PERM_RW    (VRING_PERM_READ | VRING_PERM_WRITE)

/** A piece of the peer's address space that is mapped here. */
struct vring_region {
	uint64_t iova; /**< first address */
	uint64_t size; /**< bytes, not 0; iova + size does not pass 2^64 */
	uint8_t *va;   /**< where iova is mapped */
	uint32_t perm; /**< VRING_PERM_* */
};

/**
 * The peer's address space: regions sorted by iova without overlap.
 *
 * Immutable while any queue points to it: a change is a new table, taken over between two bursts
 * by vring_dev_set_mem(). The caller owns it and the mappings behind it.
 */
struct vring_mem {
	const struct vring_region *regions;
	uint32_t nr_regions;
};

/** A piece of the peer's address space, as in reports of what was written. */
struct vring_range {
	uint64_t iova;
	uint64_t len; /**< bytes */
};

/**
 * Check that a table is what struct vring_mem promises.
 *
 * @return 0, or -EINVAL: null pointers, a region of no size, one that passes 2^64, regions out of
 *   order or overlapping. Such a table must not be given to a queue.
 */
int vring_mem_check(const struct vring_mem *mem);

/**
 * Find the pointer of an address.
 *
 * @param mem the table
 * @param iova first address
 * @param[in,out] len_bytes in: bytes wanted, not 0; out: bytes from the pointer on that are mapped
 *   with @p perm and contiguous here (at most the bytes wanted). Regions that follow each other
 *   both in iova and in va count as contiguous. Set to 0 on failure.
 * @param perm VRING_PERM_* bits that all of the memory must have
 * @return the pointer, or NULL: the first byte is not mapped, or not with these permissions
 */
void *vring_mem_ptr(const struct vring_mem *mem, uint64_t iova, uint64_t *len_bytes, uint32_t perm);

/**
 * Every reason for which a queue is refused or stopped, with a text for people.
 *
 * The first group is returned by init only. The second comes from the ring at run time.
 */
#define VRING_ERRORS(X)                                                                    \
	X(NONE, "no error")                                                                \
	X(BAD_SIZE, "queue size not allowed for this ring format")                         \
	X(BAD_STATE, "start index outside what the queue size allows")                     \
	X(BAD_LIMIT, "segment limit not allowed")                                          \
	X(BAD_MEM, "memory table empty, unsorted or overlapping")                          \
	X(AREA_UNALIGNED, "ring area not aligned")                                         \
	X(AREA_UNMAPPED, "ring area outside the peer's memory or not contiguous")          \
	X(NO_MEMORY, "out of memory")                                                      \
	X(INDEX, "index runs away: more buffers than the ring holds")                      \
	X(HEAD, "descriptor head out of range")                                            \
	X(NEXT, "next descriptor out of range")                                            \
	X(LOOP, "descriptor chain loops")                                                  \
	X(TOO_MANY_SEGS, "too many segments in a descriptor chain")                        \
	X(TOTAL_LENGTH, "total length of a descriptor chain overflows")                    \
	X(ADDR_WRAP, "address and length pass the end of the address space")               \
	X(ADDR_UNMAPPED, "buffer outside the peer's memory")                               \
	X(PERMISSION, "buffer in memory without the permission it needs")                  \
	X(ORDER, "device-readable after device-writable descriptor")                       \
	X(INDIRECT_OFF, "indirect descriptor without the feature")                         \
	X(INDIRECT_NESTED, "indirect descriptor in an indirect table")                     \
	X(INDIRECT_NEXT, "indirect descriptor with a chain around it that is not allowed") \
	X(INDIRECT_LENGTH, "indirect table empty or no multiple of a descriptor")          \
	X(INDIRECT_UNMAPPED, "indirect table outside the peer's readable memory")          \
	X(USED_ID, "used buffer id out of range")                                          \
	X(USED_NOT_IN_FLIGHT, "used buffer id not in flight")                              \
	X(USED_ORDER, "used buffers out of order with in-order agreed")                    \
	X(CALLER, "stopped by the user of the queue")

enum vring_error {
#define VRING_ERROR_ENUM(name, text) VRING_ERR_##name,
	VRING_ERRORS(VRING_ERROR_ENUM)
#undef VRING_ERROR_ENUM
	VRING_ERR_MAX /**< their number */
};

/** Text of a reason; never NULL, static. */
const char *vring_error_text(enum vring_error error);

/** Name of a reason as in the enumeration, without prefix ("ADDR_UNMAPPED"); never NULL, static. */
const char *vring_error_name(enum vring_error error);

/**
 * Where a queue stands.
 *
 * Split: free-running 16-bit counts of entries of the available and of the used ring. Packed: bits
 * 0 to 14 are the slot, bit 15 is the wrap counter (1 in a fresh queue).
 */
struct vring_state {
	uint16_t avail; /**< next buffer that the device takes */
	uint16_t used;  /**< next buffer that the device gives back */
};

/** State of a queue that was never used. */
#define VRING_STATE_SPLIT_START  ((struct vring_state){0, 0})
#define VRING_STATE_PACKED_START ((struct vring_state){1u << 15, 1u << 15})

/**
 * What a queue is made from, for both sides.
 *
 * Alignment of the areas (virtio 1.2, 2.7 and 2.8.10): descriptor area 16 bytes; driver area 2
 * (split) or 4 (packed); device area 4. Each must be mapped without a gap and at contiguous
 * pointers.
 */
struct vring_config {
	/**
	 * Ring slots. Split: a power of two from 1 to 32768; packed: any number from 1 to 32768.
	 */
	uint16_t size;
	/**
	 * Device side: segments that one chain may have, 1 to VRING_SEGS_MAX, 0 for
	 * VRING_SEGS_DEFAULT. A guest buffer in two regions is two segments. A longer chain stops
	 * the queue (VRING_ERR_TOO_MANY_SEGS).
	 */
	uint16_t max_segs;
	/**
	 * Agreed features. Those that matter here: VIRTIO_F_RING_PACKED, VIRTIO_RING_F_EVENT_IDX,
	 * VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_F_IN_ORDER. Others are ignored.
	 */
	uint64_t features;
	/**
	 * Device side: the device writes to no buffer of this queue (net transmit). WRITE flags in
	 * packed indirect tables are then ignored: DPDK's net_virtio leaves them set there by
	 * mistake.
	 */
	bool read_only;
	uint64_t desc_iova;          /**< descriptor area */
	uint64_t driver_iova;        /**< driver area: available ring, driver event suppression */
	uint64_t device_iova;        /**< device area: used ring, device event suppression */
	const struct vring_mem *mem; /**< outlives the queue, or is replaced before it goes */
	struct vring_state state;    /**< where to start */
};

/** Limits of struct vring_config::max_segs. */
#define VRING_SEGS_DEFAULT 256
#define VRING_SEGS_MAX     32768

/**
 * Read the used index of a split ring from memory.
 *
 * A network device completes in order, so this is also where a split network ring continues after
 * its former device is gone. Call it once that device can write no more.
 *
 * @param config size, device_iova and mem are used
 * @param[out] used the index
 * @return 0; -EFAULT: device area not mapped; -EINVAL: unaligned, or bad size. @p used untouched.
 */
int vring_split_used_index(const struct vring_config *config, uint16_t *used);

/** Bytes of the three areas of a ring, by size and features; for whoever allocates a ring. */
uint64_t vring_desc_bytes(uint16_t size, uint64_t features);
uint64_t vring_driver_bytes(uint16_t size, uint64_t features);
uint64_t vring_device_bytes(uint16_t size, uint64_t features);

/**
 * Event index test (virtio 1.2, 2.7.10): is @p event one of the entries from @p old_index up to
 * and without @p new_index? All are free-running counts.
 */
static inline bool
vring_event_passed(uint16_t event, uint16_t new_index, uint16_t old_index)
{
	return (uint16_t)(new_index - event - 1) < (uint16_t)(new_index - old_index);
}

/**
 * The same for a packed ring, where positions are slots with a wrap counter.
 *
 * @param event slot and wrap counter as in the event suppression structure
 * @param position slot and wrap counter after the last entry written
 * @param nr_slots entries written since the last test; more than @p size gives true
 * @param size slots of the ring
 */
static inline bool
vring_event_passed_packed(uint16_t event, uint16_t position, uint32_t nr_slots, uint16_t size)
{
	uint16_t slot = position & 0x7fff;
	uint16_t event_slot = event & 0x7fff;

	if (nr_slots > size)
		return true;
	if ((event ^ position) & 0x8000)
		event_slot -= size;
	return vring_event_passed(event_slot, slot, (uint16_t)(slot - nr_slots));
}

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_H */
