/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <stddef.h>
#include <string.h>

#include "vdpa_relay_private.h"
#include "vring_copy.h"

/* The two event fields lie behind the rings (virtio 1.2, 2.7.6 and 2.7.8). */
static uint16_t *
used_event(const struct vdpa_relay_vq *vq, const struct relay_side *side)
{
	return (uint16_t *)side->areas.driver + 2 + vq->size;
}

static uint16_t *
avail_event(const struct vdpa_relay_vq *vq, const struct relay_side *side)
{
	return (uint16_t *)((struct vring_used *)side->areas.device)->ring + 4 * vq->size;
}

void
vdpa_relay_split_init(struct vdpa_relay_vq *vq, struct vring_state state)
{
	struct vring_avail *avail = vq->shadow.areas.driver;
	struct vring_used *used = vq->shadow.areas.device;

	avail->flags = 0;
	used->flags = 0;
	avail->idx = htole16(state.avail);
	used->idx = htole16(state.used);
	*used_event(vq, &vq->shadow) = 0;
	*avail_event(vq, &vq->shadow) = 0;
}

/* Copy a chain, slot by slot. */
static __attribute__((noinline)) enum vring_error
mirror_chain(struct vdpa_relay_vq *vq, uint16_t head)
{
	const uint64_t *from = vq->guest.areas.desc;
	uint64_t *to = vq->shadow.areas.desc;
	struct relay_buffer *buffer = &vq->buffers[head];
	uint16_t slot = head;

	buffer->writable_bytes = 0;
	buffer->table_nr = 0;
	buffer->nr_segs = 0;
	buffer->walk = false;
	buffer->slots = 1;
	for (uint32_t i = 0; i < vq->size; i++) {
		uint64_t addr = vring_desc_addr(from + 2 * slot),
			 tail = vring_desc_tail(from + 2 * slot);
		struct vring_desc_copy desc = vring_desc_split(addr, tail);
		enum vring_error error = vdpa_relay_take_desc(vq, buffer, &desc);

		if (error != VRING_ERR_NONE)
			return error;
		to[2 * slot] = htole64(addr);
		to[2 * slot + 1] = htole64(tail);
		if ((desc.flags & VRING_DESC_F_NEXT) == 0)
			return VRING_ERR_NONE;
		if (desc.next_or_id >= vq->size)
			return VRING_ERR_NEXT;
		slot = desc.next_or_id;
	}
	return VRING_ERR_LOOP;
}

/* Ask for the descriptors of a burst. */
static void
prefetch_heads(const struct vdpa_relay_vq *vq, uint32_t nr)
{
	const struct vring_avail *from = vq->guest.areas.driver;
	const uint64_t *desc = vq->guest.areas.desc;
	uint16_t mask = vq->size - 1;

	for (uint32_t i = 0; i < nr; i++) {
		uint16_t head = vring_load16(&from->ring[(vq->guest.avail + i) & mask]);

		vring_prefetch_read(desc + 2 * (head & mask));
	}
}

static inline __attribute__((always_inline)) uint32_t
pass_on(struct vdpa_relay_vq *vq, uint32_t nr, const bool in_order)
{
	const uint16_t *from = ((const struct vring_avail *)vq->guest.areas.driver)->ring;
	uint16_t *to = ((struct vring_avail *)vq->shadow.areas.driver)->ring;
	const uint64_t *from_desc = vq->guest.areas.desc;
	uint64_t *to_desc = vq->shadow.areas.desc;
	uint16_t size = vq->size, mask = size - 1;
	uint16_t from_at = vq->guest.avail, to_at = vq->shadow.avail;
	struct relay_near near = vq->near;
	uint8_t *held = vq->held;
	struct relay_simple *simple = vq->simple;
	uint32_t done;

	for (done = 0; done < nr; done++, from_at++, to_at++) {
		uint16_t head = vring_load16(&from[from_at & mask]);
		enum vring_error error = VRING_ERR_HEAD;
		uint64_t addr, tail;

		if (VRING_UNLIKELY(head >= size || held[head] != RELAY_FREE)) {
			vdpa_relay_break(vq, error, false);
			break;
		}
		addr = vring_desc_addr(from_desc + 2 * head);
		tail = vring_desc_tail(from_desc + 2 * head);
		if (VRING_LIKELY(relay_take_simple(
			    &near, addr, (uint32_t)tail, (uint16_t)(tail >> 32), &simple[head]))) {
			held[head] = RELAY_SIMPLE;
			to_desc[2 * head] = htole64(addr);
			to_desc[2 * head + 1] = htole64(tail);
		} else {
			error = mirror_chain(vq, head);
			if (error != VRING_ERR_NONE) {
				vdpa_relay_break(vq, error, false);
				break;
			}
			held[head] = RELAY_LONG;
			near = vq->near;
		}
		if (in_order)
			relay_order_add(vq, head);
		to[to_at & mask] = htole16(head);
	}
	return done;
}

enum vring_error
vdpa_relay_split_again(struct vdpa_relay_vq *vq, uint16_t head)
{
	struct vring_avail *to = vq->shadow.areas.driver;
	enum vring_error error = mirror_chain(vq, head);

	if (error != VRING_ERR_NONE)
		return error;
	vq->held[head] = RELAY_LONG;
	vq->slots_in_flight++;
	vq->in_flight++;
	to->ring[vq->shadow.avail++ & (vq->size - 1)] = htole16(head);
	vring_store16_release(&to->idx, vq->shadow.avail);
	return VRING_ERR_NONE;
}

uint32_t
vdpa_relay_split_avail(struct vdpa_relay_vq *vq, uint32_t burst)
{
	const struct vring_avail *from = vq->guest.areas.driver;
	struct vring_avail *to = vq->shadow.areas.driver;
	uint32_t nr, done;

	nr = (uint16_t)(vring_load16_acquire(&from->idx) - vq->guest.avail);
	if (nr > vq->size - vq->in_flight) {
		vdpa_relay_break(vq, VRING_ERR_INDEX, false);
		return 0;
	}
	nr = nr < burst ? nr : burst;
	prefetch_heads(vq, nr);
	done = vq->in_order ? pass_on(vq, nr, true) : pass_on(vq, nr, false);
	if (done == 0)
		return 0;
	if (relay_notes(vq))
		vdpa_relay_split_note_taken(vq, vq->shadow.avail, done);
	vq->in_flight += done;
	vq->slots_in_flight += done;
	vq->guest.avail += done;
	vq->shadow.avail += done;
	vring_store16_release(&to->idx, vq->shadow.avail);
	return done;
}

bool
vdpa_relay_split_kick(struct vdpa_relay_vq *vq)
{
	struct relay_side *side = &vq->shadow;
	const struct vring_used *used = side->areas.device;
	uint16_t from = side->told;

	side->told = side->avail;
	if (from == side->avail)
		return false;
	vring_fence();
	if (vq->event_idx)
		return vring_event_passed(vring_load16(avail_event(vq, side)), side->avail, from);
	return (vring_load16(&used->flags) & VRING_USED_F_NO_NOTIFY) == 0;
}

/* Entries first, then count and event field: all that was written to the guest's used ring. */
static void
report_ring(const struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr,
	struct vdpa_relay_written *written)
{
	uint64_t ring = vq->config.device_iova + offsetof(struct vring_used, ring);
	uint32_t at = first & (vq->size - 1), before_end = vq->size - at;
	uint32_t nr_first = nr < before_end ? nr : before_end;

	relay_report(written, vq->config.device_iova, offsetof(struct vring_used, ring));
	relay_report(written, ring + at * 8ull, nr_first * 8ull);
	if (nr > nr_first)
		relay_report(written, ring, (nr - nr_first) * 8ull);
	relay_report(written, ring + vq->size * 8ull, sizeof(uint16_t));
}

#define RING_REPORTS 4

/* Simple buffers from here on, up to nr. @return how many there were */
static inline __attribute__((always_inline)) uint32_t
hand_back(struct vdpa_relay_vq *vq, uint32_t done, uint32_t nr, struct vdpa_relay_written *written,
	const bool in_order, const bool log)
{
	const struct vring_used_elem *from =
		((const struct vring_used *)vq->shadow.areas.device)->ring;
	struct vring_used_elem *to = ((struct vring_used *)vq->guest.areas.device)->ring;
	uint16_t mask = vq->size - 1, from_at = vq->shadow.used + done,
		 to_at = vq->guest.used + done;
	uint32_t first = done;

	for (; done < nr; done++, from_at++, to_at++) {
		/* a used element: id, length; read as one */
		uint64_t entry = vring_desc_addr(&from[from_at & mask]);
		uint32_t id = (uint32_t)entry, len_bytes = (uint32_t)(entry >> 32);

		if (!relay_use_simple(vq, id, &len_bytes, written, in_order, log))
			break;
		to[to_at & mask] = (struct vring_used_elem){htole32(id), htole32(len_bytes)};
	}
	vq->in_flight -= done - first;
	vq->slots_in_flight -= done - first;
	return done - first;
}

static uint32_t
hand_back_simple(
	struct vdpa_relay_vq *vq, uint32_t done, uint32_t nr, struct vdpa_relay_written *written)
{
	if (vq->in_order)
		return written != NULL ? hand_back(vq, done, nr, written, true, true)
				       : hand_back(vq, done, nr, NULL, true, false);
	return written != NULL ? hand_back(vq, done, nr, written, false, true)
			       : hand_back(vq, done, nr, NULL, false, false);
}

/* Any buffer, or a batch. @return how many buffers; 0: no room to report, or broken */
static uint32_t
hand_back_any(
	struct vdpa_relay_vq *vq, uint32_t done, uint32_t nr, struct vdpa_relay_written *written)
{
	const struct vring_used *from = vq->shadow.areas.device;
	struct vring_used *to = vq->guest.areas.device;
	const struct relay_batch *batch = &vq->batch;
	uint16_t mask = vq->size - 1;
	uint64_t entry = vring_desc_addr(&from->ring[(uint16_t)(vq->shadow.used + done) & mask]);

	if (batch->left == 0 &&
		!vdpa_relay_batch_begin(vq, (uint32_t)entry, (uint32_t)(entry >> 32), 0))
		return 0;
	if (batch->nr > nr - done) {
		vdpa_relay_break(vq, VRING_ERR_USED_ORDER, true);
		return 0;
	}
	if (!vdpa_relay_batch_complete(vq, written))
		return 0;
	to->ring[(uint16_t)(vq->guest.used + done) & mask] = (struct vring_used_elem){
		htole32(batch->id), htole32(batch->len_bytes)};
	return batch->nr;
}

uint32_t
vdpa_relay_split_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written)
{
	const struct vring_used *from = vq->shadow.areas.device;
	struct vring_used *to = vq->guest.areas.device;
	const struct relay_batch *batch = &vq->batch;
	uint32_t nr, some, done = 0;

	nr = (uint16_t)(vring_load16_acquire(&from->idx) - vq->shadow.used);
	if (nr > vq->in_flight + (batch->left > 0 ? batch->nr - batch->left : 0)) {
		vdpa_relay_break(vq, VRING_ERR_INDEX, true);
		return 0;
	}
	burst = burst < nr ? burst : nr;
	if (written != NULL)
		written->nr_max -= RING_REPORTS;
	do {
		if (batch->left == 0)
			done += hand_back_simple(vq, done, burst, written);
		some = done < burst ? hand_back_any(vq, done, nr, written) : 0;
		done += some;
	} while (some != 0);
	if (written != NULL)
		written->nr_max += RING_REPORTS;
	if (done == 0)
		return 0;
	if (written != NULL)
		report_ring(vq, vq->guest.used, done, written);
	if (relay_notes(vq))
		vdpa_relay_split_note_given(vq, vq->guest.used, done);
	vq->shadow.used += done;
	vq->guest.used += done;
	vring_store16_release(&to->idx, vq->guest.used);
	if (relay_notes(vq))
		vring_inflight_given(&vq->notes, vq->guest.used);
	return done;
}

bool
vdpa_relay_split_signal(struct vdpa_relay_vq *vq)
{
	struct relay_side *side = &vq->guest;
	const struct vring_avail *avail = side->areas.driver;
	uint16_t from = side->told;

	side->told = side->used;
	if (from == side->used)
		return false;
	vring_fence();
	if (vq->event_idx)
		return vring_event_passed(vring_load16(used_event(vq, side)), side->used, from);
	return (vring_load16(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
}

void
vdpa_relay_split_ask(struct vdpa_relay_vq *vq, bool ask)
{
	struct vring_used *guest_used = vq->guest.areas.device;
	struct vring_avail *shadow_avail = vq->shadow.areas.driver;

	if (!vq->event_idx) {
		vring_store16(&guest_used->flags, ask ? 0 : VRING_USED_F_NO_NOTIFY);
		vring_store16(&shadow_avail->flags, ask ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
	} else if (ask) {
		vring_store16(avail_event(vq, &vq->guest), vq->guest.avail);
		vring_store16(used_event(vq, &vq->shadow), vq->shadow.used);
	}
}

bool
vdpa_relay_split_pending(struct vdpa_relay_vq *vq)
{
	const struct vring_avail *avail = vq->guest.areas.driver;
	const struct vring_used *used = vq->shadow.areas.device;

	return vring_load16_acquire(&avail->idx) != vq->guest.avail ||
		vring_load16_acquire(&used->idx) != vq->shadow.used;
}

uint32_t
vdpa_relay_split_behind(const struct vdpa_relay_vq *vq)
{
	const struct vring_avail *avail = vq->guest.areas.driver;
	const struct vring_used *used = vq->shadow.areas.device;

	return (uint16_t)(vring_load16(&avail->idx) - vq->guest.avail) +
		(uint16_t)(vring_load16(&used->idx) - vq->shadow.used);
}
