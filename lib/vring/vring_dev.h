/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/**
 * @file
 * The device side of a virtqueue: take buffers that a driver made available, give them back used.
 *
 * A burst of a device that reads from one queue and writes to another:
 *
 *	n = vring_dev_peek(tx, tx_chains, 32, tx_segs, NR_SEGS);   chains are checked, nothing moves
 *	m = vring_dev_peek(rx, rx_chains, n, rx_segs, NR_SEGS);
 *	... copy k frames from tx_chains[].segs to rx_chains[].segs, set rx_chains[].done.len ...
 *	vring_dev_consume(tx, tx_chains, k);                       now they are the device's
 *	vring_dev_consume(rx, rx_chains, k);
 *	vring_dev_push_chains(rx, rx_chains, k);                   used entries are written
 *	vring_dev_push_chains(tx, tx_chains, k);
 *	vring_dev_flush(rx);                                       the driver sees them
 *	vring_dev_flush(tx);
 *	if (vring_dev_signal_needed(rx))
 *		... write the call eventfd ...
 *
 * What was peeked and not consumed stays on the ring and is peeked again. Chains that were consumed
 * may be kept as long as wanted and used in any order; only struct vring_done of a chain is needed
 * for that (if IN_ORDER was agreed, in order).
 *
 * A driver is not trusted. The first thing that is wrong *breaks* the queue: the call returns what
 * was good before it, vring_dev_error() has the reason, and from then on nothing is peeked and
 * nothing of the ring is written, until a new init. Every descriptor is copied out of the ring once
 * and only the copy is checked and used, so a driver that changes it meanwhile gains nothing.
 *
 * What is accepted and what is not, where virtio leaves a choice:
 * - a descriptor of length 0 is legal: it gives no segment and its address is not looked at. (The
 *   specification does not forbid it, Linux vhost skips it, QEMU refuses it.) A chain may thus have
 *   no segment at all.
 * - a buffer that is contiguous in iova over two regions is legal and gives two segments.
 * - split: direct descriptors may be followed by one indirect descriptor at the end (2.7.5.3.2);
 *   packed: an indirect descriptor stands alone (2.8.19). The WRITE flag of a descriptor that
 *   points to an indirect table is ignored. An indirect table may cross regions and may be at any
 *   address (no alignment is asked for). Flags other than WRITE in a packed indirect table are
 *   ignored, except INDIRECT, which is refused as in split; WRITE is too if the queue is read_only.
 * - the driver's available ring may not run further ahead than the ring size minus what the device
 *   has not given back.
 */

#ifndef VRING_DEV_H
#define VRING_DEV_H

#include "vring.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** One piece of a buffer, contiguous here. */
struct vring_seg {
	uint8_t *va;   /**< checked for len bytes with the permission of its direction */
	uint64_t iova; /**< the driver's address of it, for dirty marking */
	uint32_t len;  /**< bytes, never 0 */
	uint32_t reserved;
};

/** What is needed to give a buffer back. */
struct vring_done {
	uint16_t id;    /**< split: head descriptor; packed: buffer id. As read; do not change */
	uint16_t slots; /**< ring slots: split always 1 (of the available ring). Do not change */
	uint32_t len;   /**< bytes written to the buffer from its start; 0 after peek */
};

/** A buffer: a chain of descriptors, direct or indirect, checked. */
struct vring_chain {
	struct vring_done done;
	const struct vring_seg *segs; /**< in the caller's array: readable first, then writable */
	uint16_t nr_segs;             /**< all of them; may be 0 */
	uint16_t nr_readable;         /**< how many of them the device may read */
	uint32_t readable_bytes;
	uint32_t writable_bytes;
	uint32_t reserved;
};

/** Last region that a lookup hit; private. */
struct vring_hit {
	uint64_t iova;
	uint64_t size;
	uint8_t *va;
	uint32_t perm;
};

/**
 * A queue as the device sees it. Allocated by the caller (no init allocates), all fields private;
 * the structure is public to be embedded. Copying it copies the queue.
 */
struct vring_dev {
	/* set by init */
	void *desc;
	void *driver;
	void *device;
	const struct vring_mem *mem;
	uint16_t size;
	uint16_t max_segs;
	bool packed;
	bool event_idx;
	bool indirect;
	bool in_order;
	bool read_only;
	/* moves with bursts */
	uint8_t error;     /* enum vring_error */
	bool signal_first; /* event index: nothing is known of what was signalled before */
	bool held_valid;   /* packed: a flags field is kept back until flush */
	uint16_t held_slot;
	uint16_t held_flags;
	uint16_t avail; /* split: free-running; packed: slot */
	uint16_t used;
	uint16_t avail_seen;   /* split: available index as last read */
	uint16_t used_flushed; /* as in struct vring_state, as last published */
	bool avail_wrap;       /* packed */
	bool used_wrap;
	uint32_t in_flight;   /* slots consumed and not pushed */
	uint32_t unsignalled; /* slots flushed since the last vring_dev_signal_needed() */
	uint32_t unflushed;   /* slots pushed since the last flush */
	struct vring_hit hit;
	uint64_t features;
	uint64_t desc_iova;
	uint64_t driver_iova;
	uint64_t device_iova;
};

/**
 * Make a queue. Reads and writes nothing of the ring.
 *
 * state.avail may be ahead of state.used: those buffers count as consumed by a former user of the
 * ring and can be pushed (by their done) or given back by vring_dev_rewind().
 *
 * @param q filled in; on failure broken, with vring_dev_error() as the reason
 * @param config copied, except the memory table
 * @return 0; -EINVAL: size, limit, alignment, state or table (VRING_ERR_BAD_*, AREA_UNALIGNED);
 *   -EFAULT: an area is not mapped, not contiguous or lacks a permission (AREA_UNMAPPED)
 */
int vring_dev_init(struct vring_dev *q, const struct vring_config *config);

/**
 * Take over a changed memory table, between two bursts.
 *
 * Segments peeked earlier keep pointing into the old memory; the caller keeps that mapped until
 * those chains are pushed.
 *
 * @return 0; -EINVAL: not a valid table; -EFAULT: a ring area is not in it. On failure the queue
 *   keeps the old table, and the caller, if it must give that up, ends the queue
 */
int vring_dev_set_mem(struct vring_dev *q, const struct vring_mem *mem);

/** Why the queue is broken; VRING_ERR_NONE while it is not. */
static inline enum vring_error
vring_dev_error(const struct vring_dev *q)
{
	return (enum vring_error)q->error;
}

/**
 * Break the queue from outside, e.g. for a chain of a shape that the device type does not allow.
 * The first reason stays.
 */
void vring_dev_break(struct vring_dev *q, enum vring_error error);

/**
 * Look at the next available buffers without taking them.
 *
 * When fewer than @p nr come back, the driver's index (packed: flags) has been read during this
 * call, so waiting for more means waiting for the driver.
 * The first bytes of each buffer are prefetched (for writing where it is writable).
 *
 * @param q the queue
 * @param[out] chains room for @p nr
 * @param nr how many at most
 * @param[out] segs room for @p nr_segs, for the segments of all chains; must stay as long as chains
 * @param nr_segs at least max_segs of the configuration; the burst ends before a chain that does
 *   not fit into what is left of it. (With less, a legal chain may stop the queue.)
 * @return chains filled in. 0: none available, or the queue is broken
 */
uint16_t vring_dev_peek(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs);

/**
 * Take the first @p nr of the chains that the last peek returned.
 *
 * @param q the queue
 * @param chains the array of that peek, from its beginning; or the rest of it, for taking a burst
 *   in pieces
 * @param nr not more than what was peeked and not yet consumed
 */
void vring_dev_consume(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr);

/** vring_dev_peek() and vring_dev_consume() of all of it. */
uint16_t vring_dev_pop(struct vring_dev *q, struct vring_chain *chains, uint16_t nr,
	struct vring_seg *segs, uint16_t nr_segs);

/**
 * Undo the consume of the last @p nr chains: they are available again and will be peeked again.
 *
 * @param q the queue
 * @param chains the *last consumed* ones; none of them pushed, nor anything consumed after them
 * @param nr how many
 * @return 0; -EINVAL: more than are in flight, nothing done; -EIO: broken
 */
int vring_dev_unpop(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr);

/**
 * How many of the chains, from the first one, hold @p len bytes together (mergeable receive
 * buffers). Pure; nothing moves, so buffers that do not suffice simply stay peeked.
 *
 * @return their number, at least 1; 0: all of them together are too small
 */
uint16_t vring_chains_for(const struct vring_chain *chains, uint16_t nr, uint64_t len);

/**
 * Write used entries. The driver does not see them before vring_dev_flush().
 *
 * done[].len is clamped to nothing here: the caller reports what it wrote.
 *
 * @param q the queue
 * @param done in the order in which they are given back; with IN_ORDER the order of consumption
 * @param nr how many
 * @return 0; -EINVAL: more than are in flight, nothing written; -EIO: broken, nothing written
 */
int vring_dev_push(struct vring_dev *q, const struct vring_done *done, uint16_t nr);

/** vring_dev_push() of the done member of each chain. */
int vring_dev_push_chains(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr);

/**
 * Write one used entry for a whole batch (IN_ORDER only; virtio 1.2, 2.7.9 and 2.8.8): the driver
 * takes all buffers before the last one as used completely. So it is for buffers without writable
 * part, or filled to the end.
 *
 * @param q the queue
 * @param chains in the order of consumption; the last one's done is what is written
 * @param nr how many; 0 does nothing
 * @return 0; -ENOTSUP: IN_ORDER not agreed, use vring_dev_push_chains(); -EINVAL, -EIO as there
 */
int vring_dev_push_batch(struct vring_dev *q, const struct vring_chain *chains, uint16_t nr);

/**
 * Publish everything that was pushed: one index store (split) or the first entry's flags (packed),
 * with release order after the entries and after all that was written to the buffers.
 * Nothing on a broken queue.
 */
void vring_dev_flush(struct vring_dev *q);

/**
 * Does the driver want an interrupt for what was flushed since the last call?
 *
 * Contains the full fence between publishing and reading the driver's wish (2.7.7.2, 2.8.21.3.1)
 * and is therefore the dearest call of a burst; it may be left out while bursts follow each other
 * closely and made once after the last of them: it then judges all of them together.
 *
 * @return true: signal now. False also if nothing was flushed or the queue is broken. With
 *   EVENT_IDX the first flush after init is always signalled, because a former user of the ring may
 *   have left something unsignalled
 */
bool vring_dev_signal_needed(struct vring_dev *q);

/**
 * Ask the driver for a notification (kick) with its next available buffer, then look again.
 *
 * @return true: buffers are available that this queue has not consumed. The driver may not kick for
 *   these: poll instead of sleeping (arming again later is fine). False also if broken
 */
bool vring_dev_arm(struct vring_dev *q);

/**
 * Tell the driver that no notification is needed, for as long as this queue is polled. A hint: a
 * kick may still come.
 */
void vring_dev_disarm(struct vring_dev *q);

/**
 * Is more available behind the first @p nr chains of the last peek? A hint, cheap enough for each
 * burst: split tells what the index said when it was last read; packed reads one descriptor's
 * flags. False on a broken queue.
 */
bool vring_dev_backlog(const struct vring_dev *q, const struct vring_chain *chains, uint16_t nr);

/** Is a buffer available that was not consumed? Reads the ring's index or flags. */
bool vring_dev_pending(struct vring_dev *q);

/** Ranges that vring_dev_written() may fill. */
#define VRING_DEV_WRITTEN_MAX 5

/**
 * What the device side wrote to the ring itself, for dirty marking: the last used entries, the
 * index, and what asks the driver for notifications. Pure.
 *
 * @param q the queue
 * @param nr_slots slots (split: entries) pushed last; 0 gives what vring_dev_arm() writes
 * @param[out] ranges room for VRING_DEV_WRITTEN_MAX
 * @return how many
 */
uint32_t
vring_dev_written(const struct vring_dev *q, uint32_t nr_slots, struct vring_range *ranges);

/** Where the queue stands: consumed and flushed. What is pushed and not flushed does not count. */
struct vring_state vring_dev_state(const struct vring_dev *q);

/**
 * Drop all buffers in flight: the available position goes back to the used one, so that the next
 * user of the ring gets them again. For stopping. Flushes first.
 *
 * Only right if every buffer so far was pushed in the order of consumption, agreed or not: after
 * out-of-order completion the ring no longer has what was not completed (packed: it is overwritten;
 * split: the wrong entries would come again).
 *
 * @return slots given back (split: buffers); 0 on a broken queue, which keeps its state
 */
uint32_t vring_dev_rewind(struct vring_dev *q);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* VRING_DEV_H */
