/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>

#include "vdpa_relay_private.h"

/*
 * Notes for the guest's ring of what is under way: in shadow rings, which die with this process, or
 * with the device. A device that completes in order needs none: all is offered again.
 */

int
vdpa_relay_vq_notes(struct vdpa_relay_vq *vq, void *region)
{
	struct vring_config guest = vq->config;
	enum vring_error error = VRING_ERR_NONE;
	uint16_t *heads;
	int nr;

	if (region == NULL || vq->in_order)
		return 0;
	heads = calloc(vq->size, sizeof(*heads));
	if (heads == NULL)
		return -ENOMEM;
	nr = vring_inflight_begin(&vq->notes, region, &guest, heads);
	if (nr >= 0)
		vdpa_relay_side_init(&vq->guest, vq->packed, guest.state);
	vq->guest.told = vq->guest.used;
	for (int i = 0; i < nr && error == VRING_ERR_NONE; i++)
		error = vq->packed ? vdpa_relay_packed_again(vq, heads[i])
				   : vdpa_relay_split_again(vq, heads[i]);
	free(heads);
	if (error != VRING_ERR_NONE)
		vdpa_relay_break(vq, error, false);
	return nr < 0 ? nr : error != VRING_ERR_NONE ? -EINVAL : 0;
}

void
vdpa_relay_split_note_taken(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr)
{
	const struct vring_avail *ring = vq->shadow.areas.driver;

	for (uint32_t i = 0; i < nr; i++)
		vring_inflight_take(&vq->notes, NULL, 0, 1,
			vring_load16(&ring->ring[(uint16_t)(first + i) & (vq->size - 1)]));
}

void
vdpa_relay_split_note_given(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr)
{
	const struct vring_used *ring = vq->guest.areas.device;

	for (uint32_t i = 0; i < nr; i++)
		vring_inflight_give(&vq->notes,
			(uint16_t)vring_desc_addr(
				&ring->ring[(uint16_t)(first + i) & (vq->size - 1)]));
}

void
vdpa_relay_packed_note_taken(
	struct vdpa_relay_vq *vq, uint16_t first, uint16_t first_flags, uint32_t nr)
{
	struct vring_packed_desc *ring = vq->shadow.areas.desc;

	/* as they will be, but for being available */
	vring_store16(&ring[first].flags, first_flags ^ (VRING_PACKED_AVAIL | VRING_PACKED_USED));
	for (uint32_t i = 0; i < nr; i++) {
		uint16_t slots = 1, last = first;
		struct vring_desc_copy desc;

		for (;; slots++) {
			desc = vring_desc_packed(
				vring_desc_addr(&ring[last]), vring_desc_tail(&ring[last]));
			if ((desc.flags & VRING_DESC_F_NEXT) == 0 || slots == vq->size)
				break;
			last = last + 1 == vq->size ? 0 : last + 1;
		}
		/* the device reaches the shadow ring, too */
		if (desc.next_or_id < vq->size)
			vring_inflight_take(&vq->notes, ring, first, slots, desc.next_or_id);
		first = last + 1 == vq->size ? 0 : last + 1;
	}
}

void
vdpa_relay_packed_note_given(struct vdpa_relay_vq *vq, uint16_t first, uint32_t nr)
{
	const struct vring_packed_desc *ring = vq->guest.areas.desc;
	bool unused = false;

	for (uint32_t i = 0; i < nr; i++)
		vring_forward(&first, &unused,
			vring_inflight_give(&vq->notes, vring_load16(&ring[first].id)), vq->size);
}
