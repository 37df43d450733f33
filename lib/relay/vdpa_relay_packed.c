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

/*
 * A chain from the guest's position to the shadow's. The first flags are kept back by the caller.
 */
static __attribute__((noinline)) enum vring_error
mirror_chain(struct vdpa_relay_vq *vq, uint16_t first_flags, uint16_t *id, uint16_t *slots,
	uint16_t *kept_flags)
{
	struct relay_buffer buffer = {.first_slot = vq->shadow.avail};
	uint16_t from = vq->guest.avail, to = vq->shadow.avail, flags = first_flags;
	bool to_wrap = vq->shadow.avail_wrap, unused;

	for (uint16_t i = 0; i < vq->size - vq->slots_in_flight; i++) {
		struct vring_packed_desc *target = slot_of(&vq->shadow, to);
		uint64_t addr = vring_desc_addr(slot_of(&vq->guest, from));
		uint64_t tail = vring_desc_tail(slot_of(&vq->guest, from));
		struct vring_desc_copy desc = vring_desc_packed(addr, tail);
		enum vring_error error;

		if (i > 0)
			flags = desc.flags;
		desc.flags = flags;
		error = vdpa_relay_take_desc(vq, &buffer, &desc);
		if (error != VRING_ERR_NONE)
			return error;
		flags = (flags & ~(VRING_PACKED_AVAIL | VRING_PACKED_USED)) |
			vring_avail_flags(to_wrap);
		target->addr = htole64(addr);
		target->len = htole32(desc.len);
		target->id = htole16(desc.next_or_id);
		if (i == 0)
			*kept_flags = flags;
		else
			vring_store16(&target->flags, flags);
		unused = false;
		vring_forward(&from, &unused, 1, vq->size);
		vring_forward(&to, &to_wrap, 1, vq->size);
		if ((desc.flags & VRING_DESC_F_NEXT) != 0)
			continue;
		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0 && i > 0)
			return VRING_ERR_INDIRECT_NEXT;
		/* the id of a chain is that of its last descriptor (virtio 1.2, 2.8.6) */
		*id = desc.next_or_id;
		*slots = i + 1;
		if (*id >= vq->size || relay_is_in_flight(vq, *id))
			return VRING_ERR_HEAD;
		buffer.slots = i + 1;
		vq->buffers[*id] = buffer;
		relay_toggle_in_flight(vq, *id);
		return VRING_ERR_NONE;
	}
	return VRING_ERR_LOOP;
}

static inline enum vring_error
mirror(struct vdpa_relay_vq *vq, uint16_t first_flags, uint16_t *id, uint16_t *slots,
	uint16_t *kept_flags)
{
	const struct vring_packed_desc *from = slot_of(&vq->guest, vq->guest.avail);
	struct vring_packed_desc *to = slot_of(&vq->shadow, vq->shadow.avail);
	struct vring_desc_copy desc = vring_desc_packed(
		vring_desc_addr(from), vring_desc_tail(from));

	desc.flags = first_flags;
	*id = desc.next_or_id;
	if (VRING_UNLIKELY(*id >= vq->size || relay_is_in_flight(vq, *id) ||
		    !relay_take_simple(vq, &vq->buffers[*id], &desc)))
		return mirror_chain(vq, first_flags, id, slots, kept_flags);
	vq->buffers[*id].slots = 1;
	vq->buffers[*id].first_slot = vq->shadow.avail;
	relay_toggle_in_flight(vq, *id);
	to->addr = htole64(desc.addr);
	to->len = htole32(desc.len);
	to->id = htole16(*id);
	*slots = 1;
	*kept_flags = (first_flags & ~(VRING_PACKED_AVAIL | VRING_PACKED_USED)) |
		vring_avail_flags(vq->shadow.avail_wrap);
	return VRING_ERR_NONE;
}

uint32_t
vdpa_relay_packed_avail(struct vdpa_relay_vq *vq, uint32_t burst)
{
	uint16_t held_slot = vq->shadow.avail, held_flags = 0, kept_flags = 0, id = 0, slots = 0;
	uint32_t done = 0;

	while (done < burst && vq->slots_in_flight < vq->size) {
		uint16_t flags = vring_load16_acquire(&slot_of(&vq->guest, vq->guest.avail)->flags);
		enum vring_error error;

		if (!vring_is_avail(flags, vq->guest.avail_wrap))
			break;
		error = mirror(vq, flags, &id, &slots, &kept_flags);
		if (error != VRING_ERR_NONE) {
			vdpa_relay_break(vq, error, false);
			break;
		}
		/* the device sees the burst when the first flags are there */
		if (done == 0)
			held_flags = kept_flags;
		else
			vring_store16_release(
				&slot_of(&vq->shadow, vq->shadow.avail)->flags, kept_flags);
		if (vq->in_order)
			vdpa_relay_order_add(vq, id);
		vq->in_flight++;
		vq->slots_in_flight += slots;
		vq->shadow.untold += slots;
		vring_forward(&vq->guest.avail, &vq->guest.avail_wrap, slots, vq->size);
		vring_forward(&vq->shadow.avail, &vq->shadow.avail_wrap, slots, vq->size);
		done++;
	}
	if (done > 0)
		vring_store16_release(&slot_of(&vq->shadow, held_slot)->flags, held_flags);
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

#define EVENT_REPORTS 2

uint32_t
vdpa_relay_packed_used(struct vdpa_relay_vq *vq, uint32_t burst, struct vdpa_relay_written *written)
{
	struct relay_side *guest = &vq->guest, *shadow = &vq->shadow;
	const struct relay_batch *batch = &vq->batch;
	struct vring_packed_desc *held = slot_of(guest, guest->used);
	uint16_t held_flags = 0;
	uint32_t done = 0;

	if (written != NULL)
		written->nr_max -= EVENT_REPORTS;
	while (done < burst) {
		const struct vring_packed_desc *from = slot_of(shadow, shadow->used);
		struct vring_packed_desc *to = slot_of(guest, guest->used);
		uint16_t flags = vring_load16_acquire(&from->flags);
		struct relay_batch entry = {0};

		if (batch->left == 0) {
			if (vq->in_flight == 0 || !vring_is_used(flags, shadow->used_wrap))
				break;
			entry = (struct relay_batch){
				.nr = 1,
				.len_bytes = le32toh(__atomic_load_n(&from->len, __ATOMIC_RELAXED)),
				.id = vring_load16(&from->id),
				.flags = flags & VRING_DESC_F_WRITE,
			};
		}
		if (VRING_LIKELY(batch->left == 0 &&
			    relay_complete_simple(vq, entry.id, &entry.len_bytes, written))) {
			entry.slots = vq->buffers[entry.id].slots;
		} else {
			if (batch->left == 0 &&
				!vdpa_relay_batch_begin(vq, entry.id, entry.len_bytes, entry.flags))
				break;
			if (!vdpa_relay_batch_complete(vq, written))
				break;
			entry = *batch;
		}
		to->len = htole32(entry.len_bytes);
		to->id = htole16(entry.id);
		flags = vring_used_flags(guest->used_wrap) | entry.flags;
		/* the first of a burst becomes visible last */
		if (done == 0)
			held_flags = flags;
		else
			vring_store16_release(&to->flags, flags);
		if (written != NULL)
			relay_report(written, vq->config.desc_iova + guest->used * 16ull, 16);
		guest->untold += entry.slots;
		vring_forward(&guest->used, &guest->used_wrap, entry.slots, vq->size);
		vring_forward(&shadow->used, &shadow->used_wrap, entry.slots, vq->size);
		done += entry.nr;
	}
	if (written != NULL)
		written->nr_max += EVENT_REPORTS;
	if (done == 0)
		return 0;
	if (written != NULL)
		relay_report(written, vq->config.device_iova, 4);
	vring_store16_release(&held->flags, held_flags);
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

		if (id >= vq->size || !relay_is_in_flight(vq, id))
			break;
		vring_forward(&used, &used_wrap, vq->buffers[id].slots, vq->size);
		nr_used++;
	}
	return nr_avail + nr_used;
}
