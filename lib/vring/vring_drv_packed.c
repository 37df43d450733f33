/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_drv_format.h"

static void
desc_write(struct vring_packed_desc *d, const struct vring_buf *buf, uint16_t id)
{
	d->addr = htole64(buf->iova);
	d->len = htole32(buf->len);
	d->id = htole16(id);
}

static void
table_write(const struct vring_drv_chain *c)
{
	struct vring_packed_desc *d = c->table->va;
	uint16_t i;

	for (i = 0; i < c->nr_table; i++) {
		desc_write(&d[i], &c->bufs[i], 0);
		d[i].flags = htole16(i < c->nr_out ? 0 : VRING_DESC_F_WRITE);
	}
}

/* The flags make a descriptor available; the first ones since the last publish are kept back. */
static void
flags_write(struct vring_drv *q, uint16_t flags)
{
	struct vring_packed_desc *ring = q->desc;

	flags |= vring_avail_flags(q->avail_wrap);
	if (!q->held_valid) {
		q->held_valid = true;
		q->held_slot = q->avail;
		q->held_flags = flags;
	} else {
		vring_store16(&ring[q->avail].flags, flags);
	}
	vring_forward(&q->avail, &q->avail_wrap, 1, q->size);
}

static void
ring_write(struct vring_drv *q, const struct vring_drv_chain *c, uint16_t id)
{
	struct vring_packed_desc *ring = q->desc;
	uint16_t i;

	if (c->table != NULL) {
		struct vring_buf table = {c->table->iova, (uint32_t)c->nr_table * VRING_DESC_BYTES};

		table_write(c);
		desc_write(&ring[q->avail], &table, id);
		flags_write(q, VRING_DESC_F_INDIRECT);
		return;
	}
	for (i = 0; i < c->nr; i++) {
		uint16_t flags = i < c->nr_out ? 0 : VRING_DESC_F_WRITE;

		if (i + 1 < c->nr)
			flags |= VRING_DESC_F_NEXT;
		desc_write(&ring[q->avail], &c->bufs[i], id);
		flags_write(q, flags);
	}
}

void
vring_packed_drv_add(
	struct vring_drv *q, const struct vring_drv_chain *c, void *cookie, uint32_t writable)
{
	uint16_t id = q->free_head;

	q->free_head = q->next[id];
	q->nr_free -= c->nr;
	q->buffers[id] = (struct vring_drv_buffer){cookie, writable, c->nr};
	if (q->in_order)
		q->order[(q->order_first + q->in_flight) % q->size] = id;
	ring_write(q, c, id);
}

void
vring_packed_drv_publish(struct vring_drv *q)
{
	struct vring_packed_desc *ring = q->desc;

	vring_store16_release(&ring[q->held_slot].flags, q->held_flags);
	q->held_valid = false;
}

static void
id_free(struct vring_drv *q, uint16_t id)
{
	uint16_t slots = q->buffers[id].slots;

	q->nr_free += slots;
	vring_forward(&q->used, &q->used_wrap, slots, q->size);
	q->next[id] = q->free_head;
	q->free_head = id;
}

/* Read the used descriptor at the used position, if there is one; length 0 if nothing written. */
static bool
used_read(struct vring_drv *q, uint16_t *id, uint32_t *len)
{
	const struct vring_packed_desc *d = (const struct vring_packed_desc *)q->desc + q->used;
	uint16_t flags = vring_load16_acquire(&d->flags);

	if (!vring_is_used(flags, q->used_wrap))
		return false;
	if (q->in_flight == q->unpublished) {
		vring_drv_break(q, VRING_ERR_USED_NOT_IN_FLIGHT);
		return false;
	}
	*id = vring_load16(&d->id);
	*len = flags & VRING_DESC_F_WRITE ? le32toh(__atomic_load_n(&d->len, __ATOMIC_RELAXED)) : 0;
	return vring_drv_id_ok(q, *id);
}

/* One used descriptor is that buffer and all older ones. */
static bool
batch_read(struct vring_drv *q)
{
	uint16_t id;

	if (!used_read(q, &id, &q->batch_len))
		return false;
	q->batch_left = vring_drv_order_count(q, id);
	if (q->batch_left == 0) {
		vring_drv_break(q, VRING_ERR_USED_ORDER);
		return false;
	}
	q->batch_id = id;
	return true;
}

uint16_t
vring_packed_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr)
{
	uint64_t len;
	uint16_t i, id;

	for (i = 0; i < nr; i++) {
		if (q->in_order) {
			if (q->batch_left == 0 && !batch_read(q))
				break;
			id = vring_drv_order_oldest(q);
			len = --q->batch_left ? VRING_DRV_SKIPPED : q->batch_len;
		} else {
			uint32_t reported;

			if (!used_read(q, &id, &reported))
				break;
			len = reported;
		}
		id_free(q, id);
		vring_drv_complete(q, id, len, &done[i]);
	}
	return i;
}
