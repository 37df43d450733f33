/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_drv_format.h"

static void
desc_write(struct vring_desc *d, const struct vring_buf *buf, uint16_t flags, uint16_t next)
{
	d->addr = htole64(buf->iova);
	d->len = htole32(buf->len);
	d->flags = htole16(flags);
	d->next = htole16(next);
}

static void
table_write(const struct vring_drv_chain *c)
{
	struct vring_desc *d = c->table->va;
	uint16_t i;

	for (i = 0; i < c->nr_table; i++) {
		uint16_t flags = i < c->nr_out ? 0 : VRING_DESC_F_WRITE;

		if (i + 1 < c->nr_table)
			flags |= VRING_DESC_F_NEXT;
		desc_write(&d[i], &c->bufs[i], flags, i + 1 < c->nr_table ? i + 1 : 0);
	}
}

/* Write the ring's descriptors from the free list on; returns the one behind the last. */
static uint16_t
ring_write(struct vring_drv *q, const struct vring_drv_chain *c)
{
	struct vring_desc *ring = q->desc;
	uint16_t at = q->free_head, i;

	if (c->table != NULL) {
		struct vring_buf table = {c->table->iova, (uint32_t)c->nr_table * VRING_DESC_BYTES};

		table_write(c);
		desc_write(&ring[at], &table, VRING_DESC_F_INDIRECT, 0);
		return q->next[at];
	}
	for (i = 0; i < c->nr; i++) {
		uint16_t flags = i < c->nr_out ? 0 : VRING_DESC_F_WRITE;

		if (i + 1 < c->nr)
			flags |= VRING_DESC_F_NEXT;
		desc_write(&ring[at], &c->bufs[i], flags, i + 1 < c->nr ? q->next[at] : 0);
		at = q->next[at];
	}
	return at;
}

void
vring_split_drv_add(
	struct vring_drv *q, const struct vring_drv_chain *c, void *cookie, uint32_t writable)
{
	struct vring_avail *avail = q->driver;
	uint16_t head = q->free_head;

	q->free_head = ring_write(q, c);
	q->nr_free -= c->nr;
	q->buffers[head] = (struct vring_drv_buffer){cookie, writable, c->nr};
	if (q->in_order)
		q->order[(q->order_first + q->in_flight) % q->size] = head;
	vring_store16(&avail->ring[q->avail & (q->size - 1)], head);
	q->avail++;
}

void
vring_split_drv_publish(struct vring_drv *q)
{
	struct vring_avail *avail = q->driver;

	vring_store16_release(&avail->idx, q->avail);
}

/* Descriptors of a head go back to the free list. In order, they follow each other anyway. */
static void
desc_free(struct vring_drv *q, uint16_t head)
{
	uint16_t last = head, slots = q->buffers[head].slots, i;

	q->nr_free += slots;
	if (q->in_order)
		return;
	for (i = 1; i < slots; i++)
		last = q->next[last];
	q->next[last] = q->free_head;
	q->free_head = head;
}

/* One entry of the used ring is one buffer. */
static uint16_t
get_any_order(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr)
{
	const struct vring_used *ring = q->device;
	uint16_t i;

	for (i = 0; i < nr; i++) {
		const struct vring_used_elem *e = &ring->ring[q->used & (q->size - 1)];
		uint32_t id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
		uint32_t len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));

		if (!vring_drv_id_ok(q, id))
			break;
		desc_free(q, (uint16_t)id);
		vring_drv_complete(q, (uint16_t)id, len, &done[i]);
		q->used++;
	}
	return i;
}

/* One entry is that buffer and all older ones; it stands where the first of them has its place. */
static bool
batch_read(struct vring_drv *q, uint16_t nr_used)
{
	const struct vring_used *ring = q->device;
	const struct vring_used_elem *e = &ring->ring[q->used & (q->size - 1)];
	uint32_t id = le32toh(__atomic_load_n(&e->id, __ATOMIC_RELAXED));
	uint32_t count;

	q->batch_len = le32toh(__atomic_load_n(&e->len, __ATOMIC_RELAXED));
	if (!vring_drv_id_ok(q, id))
		return false;
	count = vring_drv_order_count(q, (uint16_t)id);
	if (count == 0 || count > nr_used) {
		vring_drv_break(q, VRING_ERR_USED_ORDER);
		return false;
	}
	q->batch_id = (uint16_t)id;
	q->batch_left = count;
	return true;
}

static uint16_t
get_in_order(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr, uint16_t nr_used)
{
	uint16_t i, id;

	for (i = 0; i < nr; i++) {
		if (q->batch_left == 0 && !batch_read(q, nr_used - i))
			break;
		id = vring_drv_order_oldest(q);
		desc_free(q, id);
		vring_drv_complete(
			q, id, --q->batch_left ? VRING_DRV_SKIPPED : q->batch_len, &done[i]);
		q->used++;
	}
	return i;
}

uint16_t
vring_split_drv_get(struct vring_drv *q, struct vring_drv_done *done, uint16_t nr)
{
	const struct vring_used *ring = q->device;
	uint16_t nr_used = (uint16_t)(vring_load16_acquire(&ring->idx) - q->used);

	if (nr_used > q->in_flight - q->unpublished) {
		vring_drv_break(q, VRING_ERR_INDEX);
		return 0;
	}
	if (nr > nr_used)
		nr = nr_used;
	return q->in_order ? get_in_order(q, done, nr, nr_used) : get_any_order(q, done, nr);
}
