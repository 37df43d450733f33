/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <stddef.h>
#include <string.h>

#include "vdpa_relay_private.h"

static struct vring_packed_desc *
slot_of(const struct relay_side *side, uint16_t slot)
{
	return (struct vring_packed_desc *)side->areas.desc + slot;
}

void
vdpa_relay_packed_init(struct vdpa_relay_vq *vq, struct vring_state state)
{
	bool wrap = (state.avail & VRING_PACKED_WRAP) != 0;
	uint16_t at = state.avail & 0x7fff;

	/* slots not yet passed in this round look used by the last one */
	for (uint16_t i = 0; i < vq->size; i++)
		slot_of(&vq->shadow, i)->flags = htole16(vring_used_flags(wrap ? i < at : i >= at));
	memset(vq->shadow.areas.driver, 0, sizeof(struct vring_packed_desc_event));
	memset(vq->shadow.areas.device, 0, sizeof(struct vring_packed_desc_event));
}

/* The descriptor at a slot of the guest or an entry of the notes; at: where the next one is. */
static struct vring_desc_copy
next_desc(const struct vdpa_relay_vq *vq, uint16_t *at, bool noted)
{
	const struct vring_packed_desc *from = slot_of(&vq->guest, *at);

	if (noted)
		return vring_inflight_desc(&vq->notes, at);
	*at = *at + 1 == vq->size ? 0 : *at + 1;
	return vring_desc_packed(vring_desc_addr(from), vring_desc_tail(from));
}

/*
 * A chain to the shadow's position, from the guest's or as it was noted. The first flags are kept
 * back by the caller.
 */
static __attribute__((noinline)) enum vring_error
mirror_chain(struct vdpa_relay_vq *vq, uint16_t from, bool noted, uint16_t first_flags,
	uint16_t *id, uint16_t *slots, uint16_t *kept_flags)
{
	struct relay_buffer buffer = {.first_slot = vq->shadow.avail};
	uint16_t to = vq->shadow.avail, flags = first_flags;
	bool to_wrap = vq->shadow.avail_wrap;

	for (uint16_t i = 0; i < vq->size - vq->slots_in_flight; i++) {
		struct vring_packed_desc *target = slot_of(&vq->shadow, to);
		struct vring_desc_copy desc = next_desc(vq, &from, noted);
		enum vring_error error;

		if (i > 0 || noted)
			flags = desc.flags;
		desc.flags = flags;
		error = vdpa_relay_take_desc(vq, &buffer, &desc);
		if (error != VRING_ERR_NONE)
			return error;
		flags = (flags & ~(VRING_PACKED_AVAIL | VRING_PACKED_USED)) |
			vring_avail_flags(to_wrap);
		target->addr = htole64(desc.addr);
		target->len = htole32(desc.len);
		target->id = htole16(desc.next_or_id);
		if (i == 0)
			*kept_flags = flags;
		else
			vring_store16(&target->flags, flags);
		vring_forward(&to, &to_wrap, 1, vq->size);
		if ((desc.flags & VRING_DESC_F_NEXT) != 0)
			continue;
		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0 && i > 0)
			return VRING_ERR_INDIRECT_NEXT;
		/* the id of a chain is that of its last descriptor (virtio 1.2, 2.8.6) */
		*id = desc.next_or_id;
		*slots = i + 1;
		if (*id >= vq->size || vq->held[*id] != RELAY_FREE)
			return VRING_ERR_HEAD;
		buffer.slots = i + 1;
		vq->buffers[*id] = buffer;
		vq->held[*id] = RELAY_LONG;
		return VRING_ERR_NONE;
	}
	return VRING_ERR_LOOP;
}

/* The first descriptor of a burst is made visible last, and with it all others. */
struct burst {
	struct vring_packed_desc *first; /* NULL: none yet */
	uint16_t first_flags;
};

/* The peer looks at none of a burst before it has seen the first, so no other needs an order. */
static inline void
burst_put(struct burst *burst, struct vring_packed_desc *to, uint64_t tail)
{
	if (VRING_LIKELY(burst->first != NULL)) {
		__atomic_store_n((uint64_t *)to + 1, htole64(tail), __ATOMIC_RELAXED);
		return;
	}
	burst->first = to;
	burst->first_flags = (uint16_t)(tail >> 48);
	to->len = htole32((uint32_t)tail);
	to->id = htole16((uint16_t)(tail >> 32));
}

static void
burst_publish(const struct burst *burst)
{
	vring_store16_release(&burst->first->flags, burst->first_flags);
}

/* Slots before one of the two rings begins anew: positions and wrap counters go straight on. */
static uint32_t
straight(const struct vdpa_relay_vq *vq, uint16_t guest, uint16_t shadow, uint32_t nr)
{
	uint32_t room = vq->size - (guest > shadow ? guest : shadow);

	return nr < room ? nr : room;
}

/* Simple buffers, up to nr. @return how many there were */
static inline __attribute__((always_inline)) uint32_t
pass_on(struct vdpa_relay_vq *vq, uint32_t nr, struct burst *burst, const bool in_order)
{
	const struct vring_packed_desc *from = slot_of(&vq->guest, vq->guest.avail);
	struct vring_packed_desc *to = slot_of(&vq->shadow, vq->shadow.avail);
	uint16_t to_flags = vring_avail_flags(vq->shadow.avail_wrap), size = vq->size;
	bool wrap = vq->guest.avail_wrap;
	struct relay_near near = vq->near;
	uint8_t *held = vq->held;
	uint32_t done;

	for (done = 0; done < nr; done++, from++, to++) {
		uint16_t flags = vring_load16_acquire(&from->flags), id;
		uint64_t addr, tail;

		if (!vring_is_avail(flags, wrap))
			break;
		addr = vring_desc_addr(from);
		tail = vring_desc_tail(from) & UINT64_C(0xffffffffffff);
		id = (uint16_t)(tail >> 32);
		if (VRING_UNLIKELY(id >= size || held[id] != RELAY_FREE ||
			    !relay_take_simple(
				    &near, addr, (uint32_t)tail, flags, &vq->simple[id])))
			break;
		held[id] = RELAY_SIMPLE;
		if (in_order)
			relay_order_add(vq, id);
		flags = (flags & ~(VRING_PACKED_AVAIL | VRING_PACKED_USED)) | to_flags;
		to->addr = htole64(addr);
		burst_put(burst, to, tail | (uint64_t)flags << 48);
	}
	return done;
}

static void
passed_on(struct vdpa_relay_vq *vq, uint32_t nr, uint32_t slots)
{
	vq->in_flight += nr;
	vq->slots_in_flight += slots;
	vq->shadow.untold += slots;
	vring_forward(&vq->guest.avail, &vq->guest.avail_wrap, slots, vq->size);
	vring_forward(&vq->shadow.avail, &vq->shadow.avail_wrap, slots, vq->size);
}

/* Any buffer. False: there is none, or it is broken */
static bool
pass_on_any(struct vdpa_relay_vq *vq, struct burst *burst)
{
	struct vring_packed_desc *to = slot_of(&vq->shadow, vq->shadow.avail);
	uint16_t flags = vring_load16_acquire(&slot_of(&vq->guest, vq->guest.avail)->flags);
	uint16_t id = 0, slots = 0, kept_flags = 0;
	enum vring_error error;

	if (!vring_is_avail(flags, vq->guest.avail_wrap))
		return false;
	error = mirror_chain(vq, vq->guest.avail, false, flags, &id, &slots, &kept_flags);
	if (error != VRING_ERR_NONE) {
		vdpa_relay_break(vq, error, false);
		return false;
	}
	if (burst->first == NULL)
		*burst = (struct burst){to, kept_flags};
	else
		vring_store16(&to->flags, kept_flags);
	if (vq->in_order)
		relay_order_add(vq, id);
	passed_on(vq, 1, slots);
	return true;
}

enum vring_error
vdpa_relay_packed_again(struct vdpa_relay_vq *vq, uint16_t entry)
{
	struct vring_packed_desc *first = slot_of(&vq->shadow, vq->shadow.avail);
	uint16_t id, slots, flags;
	enum vring_error error = mirror_chain(vq, entry, true, 0, &id, &slots, &flags);

	if (error != VRING_ERR_NONE)
		return error;
	/* it is in flight with as many slots as were noted then */
	if (vq->notes.slots[id] != slots)
		return VRING_ERR_HEAD;
	vq->in_flight++;
	vq->slots_in_flight += slots;
	vq->shadow.untold += slots;
	vring_forward(&vq->shadow.avail, &vq->shadow.avail_wrap, slots, vq->size);
	vring_store16_release(&first->flags, flags);
	return VRING_ERR_NONE;
}

uint32_t
vdpa_relay_packed_avail(struct vdpa_relay_vq *vq, uint32_t burst)
{
	struct burst out = {NULL, 0};
	uint16_t first = vq->shadow.avail;
	uint32_t done = 0;

	while (done < burst && vq->slots_in_flight < vq->size) {
		uint32_t room = vq->size - vq->slots_in_flight, left = burst - done, nr;

		room = straight(vq, vq->guest.avail, vq->shadow.avail, left < room ? left : room);
		nr = vq->in_order ? pass_on(vq, room, &out, true) : pass_on(vq, room, &out, false);
		passed_on(vq, nr, nr);
		done += nr;
		if (nr == room)
			continue;
		if (!pass_on_any(vq, &out))
			break;
		done++;
	}
	if (done > 0 && relay_notes(vq))
		vdpa_relay_packed_note_taken(vq, first, out.first_flags, done);
	if (done > 0)
		burst_publish(&out);
	return done;
}

bool
vdpa_relay_packed_kick(struct vdpa_relay_vq *vq)
{
	struct relay_side *side = &vq->shadow;
	uint32_t nr = side->untold;

	side->untold = 0;
	if (nr == 0)
		return false;
	vring_fence();
	return vring_event_wanted(side->areas.device, vq->event_idx,
		vring_position(side->avail, side->avail_wrap), nr, vq->size);
}

#define RING_REPORTS 2

/* Simple buffers, up to nr. @return how many there were */
static inline __attribute__((always_inline)) uint32_t
hand_back(struct vdpa_relay_vq *vq, uint32_t nr, struct burst *burst,
	struct vdpa_relay_written *written, const bool in_order, const bool log)
{
	const struct vring_packed_desc *from = slot_of(&vq->shadow, vq->shadow.used);
	struct vring_packed_desc *to = slot_of(&vq->guest, vq->guest.used);
	uint16_t to_flags = vring_used_flags(vq->guest.used_wrap);
	bool wrap = vq->shadow.used_wrap;
	uint32_t done;

	for (done = 0; done < nr; done++, from++, to++) {
		uint16_t flags = vring_load16_acquire(&from->flags), id;
		uint32_t len_bytes;
		uint64_t tail;

		if (!vring_is_used(flags, wrap))
			break;
		tail = vring_desc_tail(from);
		len_bytes = (uint32_t)tail;
		id = (uint16_t)(tail >> 32);
		if (!relay_use_simple(vq, id, &len_bytes, written, in_order, log))
			break;
		flags = to_flags | (flags & VRING_DESC_F_WRITE);
		burst_put(burst, to, (uint64_t)flags << 48 | (uint64_t)id << 32 | len_bytes);
	}
	vq->in_flight -= done;
	vq->slots_in_flight -= done;
	return done;
}

static uint32_t
hand_back_simple(struct vdpa_relay_vq *vq, uint32_t nr, struct burst *burst,
	struct vdpa_relay_written *written)
{
	if (vq->in_order)
		return written != NULL ? hand_back(vq, nr, burst, written, true, true)
				       : hand_back(vq, nr, burst, NULL, true, false);
	return written != NULL ? hand_back(vq, nr, burst, written, false, true)
			       : hand_back(vq, nr, burst, NULL, false, false);
}

/* The slots were written to. */
static void
handed_back(struct vdpa_relay_vq *vq, uint32_t nr_written, uint32_t slots,
	struct vdpa_relay_written *written)
{
	struct relay_side *guest = &vq->guest, *shadow = &vq->shadow;

	if (written != NULL)
		relay_report(
			written, vq->config.desc_iova + guest->used * 16ull, nr_written * 16ull);
	guest->untold += slots;
	vring_forward(&guest->used, &guest->used_wrap, slots, vq->size);
	vring_forward(&shadow->used, &shadow->used_wrap, slots, vq->size);
}

/* Any buffer, or a batch. @return how many buffers; 0: none, no room to report, or broken */
static uint32_t
hand_back_any(struct vdpa_relay_vq *vq, struct burst *burst, struct vdpa_relay_written *written)
{
	const struct vring_packed_desc *from = slot_of(&vq->shadow, vq->shadow.used);
	struct vring_packed_desc *to = slot_of(&vq->guest, vq->guest.used);
	uint16_t flags = vring_load16_acquire(&from->flags);
	const struct relay_batch *batch = &vq->batch;
	uint64_t tail;

	if (batch->left == 0) {
		if (vq->in_flight == 0 || !vring_is_used(flags, vq->shadow.used_wrap))
			return 0;
		tail = vring_desc_tail(from);
		if (!vdpa_relay_batch_begin(
			    vq, (uint16_t)(tail >> 32), (uint32_t)tail, flags & VRING_DESC_F_WRITE))
			return 0;
	}
	if (!vdpa_relay_batch_complete(vq, written))
		return 0;
	flags = vring_used_flags(vq->guest.used_wrap) | batch->flags;
	burst_put(burst, to, (uint64_t)flags << 48 | (uint64_t)batch->id << 32 | batch->len_bytes);
	handed_back(vq, 1, batch->slots, written);
	return batch->nr;
}

uint32_t
vdpa_relay_packed_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written)
{
	struct burst out = {NULL, 0};
	uint16_t first = vq->guest.used;
	uint32_t nr, done = 0;

	if (written != NULL)
		written->nr_max -= RING_REPORTS;
	while (done < burst) {
		if (vq->batch.left == 0 && vq->in_flight > 0) {
			nr = burst - done < vq->in_flight ? burst - done : vq->in_flight;
			nr = hand_back_simple(vq, straight(vq, vq->guest.used, vq->shadow.used, nr),
				&out, written);
			if (nr > 0)
				handed_back(vq, nr, nr, written);
			done += nr;
		}
		nr = done < burst ? hand_back_any(vq, &out, written) : 0;
		if (nr == 0)
			break;
		done += nr;
	}
	if (written != NULL)
		written->nr_max += RING_REPORTS;
	if (done == 0)
		return 0;
	if (written != NULL)
		relay_report(written, vq->config.device_iova, 4);
	if (relay_notes(vq))
		vdpa_relay_packed_note_given(vq, first, done);
	burst_publish(&out);
	if (relay_notes(vq))
		vring_inflight_given(&vq->notes, 0);
	return done;
}

bool
vdpa_relay_packed_signal(struct vdpa_relay_vq *vq)
{
	struct relay_side *side = &vq->guest;
	uint32_t nr = side->untold;

	side->untold = 0;
	if (nr == 0)
		return false;
	vring_fence();
	return vring_event_wanted(side->areas.driver, vq->event_idx,
		vring_position(side->used, side->used_wrap), nr, vq->size);
}

void
vdpa_relay_packed_ask(struct vdpa_relay_vq *vq, bool ask)
{
	uint16_t how = !ask     ? VRING_PACKED_EVENT_FLAG_DISABLE
		: vq->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
				: VRING_PACKED_EVENT_FLAG_ENABLE;

	vring_event_write(
		vq->guest.areas.device, vring_position(vq->guest.avail, vq->guest.avail_wrap), how);
	vring_event_write(vq->shadow.areas.driver,
		vring_position(vq->shadow.used, vq->shadow.used_wrap), how);
}

bool
vdpa_relay_packed_pending(struct vdpa_relay_vq *vq)
{
	const struct relay_side *guest = &vq->guest, *shadow = &vq->shadow;

	return vring_is_avail(vring_load16_acquire(&slot_of(guest, guest->avail)->flags),
		       guest->avail_wrap) ||
		(vq->in_flight > 0 && vq->batch.left == 0 &&
			vring_is_used(vring_load16_acquire(&slot_of(shadow, shadow->used)->flags),
				shadow->used_wrap));
}

uint32_t
vdpa_relay_packed_behind(const struct vdpa_relay_vq *vq)
{
	uint16_t avail = vq->guest.avail, used = vq->shadow.used;
	bool avail_wrap = vq->guest.avail_wrap, used_wrap = vq->shadow.used_wrap;
	uint32_t nr_avail = 0, nr_used = 0;

	while (nr_avail < vq->size - vq->slots_in_flight &&
		vring_is_avail(vring_load16(&slot_of(&vq->guest, avail)->flags), avail_wrap)) {
		vring_forward(&avail, &avail_wrap, 1, vq->size);
		nr_avail++;
	}
	while (nr_used < vq->in_flight &&
		vring_is_used(
			vring_load16_acquire(&slot_of(&vq->shadow, used)->flags), used_wrap)) {
		uint16_t id = vring_load16(&slot_of(&vq->shadow, used)->id);

		if (id >= vq->size || vq->held[id] == RELAY_FREE)
			break;
		vring_forward(&used, &used_wrap, relay_slots(vq, id), vq->size);
		nr_used++;
	}
	return nr_avail + nr_used;
}
