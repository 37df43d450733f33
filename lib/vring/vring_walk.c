/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include "vring_walk.h"

/* Make the queue's last hit the region of this address. */
static bool
walk_hit(struct vring_dev *q, uint64_t addr)
{
	const struct vring_region *r;

	if (addr - q->hit.iova < q->hit.size)
		return true;
	r = vring_mem_find(q->mem, addr);
	if (r == NULL)
		return false;
	q->hit = (struct vring_hit){r->iova, r->size, r->va, r->perm};
	return true;
}

/* One segment for each region that the buffer touches. */
static enum vring_error
walk_segments(struct vring_walk *w, uint64_t addr, uint32_t len, uint32_t perm)
{
	struct vring_dev *q = w->q;

	while (len > 0) {
		struct vring_seg *seg = &w->segs[w->nr_segs];
		uint64_t left;

		if (!walk_hit(q, addr))
			return VRING_ERR_ADDR_UNMAPPED;
		if ((q->hit.perm & perm) == 0)
			return VRING_ERR_PERMISSION;
		if (w->nr_segs == w->nr_segs_max) {
			w->no_room = w->nr_segs_max < q->max_segs;
			return VRING_ERR_TOO_MANY_SEGS;
		}
		left = q->hit.size - (addr - q->hit.iova);
		seg->va = q->hit.va + (addr - q->hit.iova);
		seg->iova = addr;
		seg->len = len < left ? len : (uint32_t)left;
		addr += seg->len;
		len -= seg->len;
		w->nr_segs++;
	}
	return VRING_ERR_NONE;
}

enum vring_error
vring_walk_add(struct vring_walk *w, const struct vring_desc_copy *d)
{
	bool write = (d->flags & VRING_DESC_F_WRITE) != 0;
	uint64_t *total = write ? &w->writable_bytes : &w->readable_bytes;
	enum vring_error error;

	/* Empty descriptors give no segment, so only this bounds a chain of them. */
	if (++w->nr_descs > w->q->max_segs)
		return VRING_ERR_TOO_MANY_SEGS;
	if (d->len == 0)
		return VRING_ERR_NONE;
	if (d->addr + (d->len - 1) < d->addr)
		return VRING_ERR_ADDR_WRAP;
	if (!write && w->writable_bytes != 0)
		return VRING_ERR_ORDER;
	*total += d->len;
	if (*total > UINT32_MAX)
		return VRING_ERR_TOTAL_LENGTH;
	error = walk_segments(w, d->addr, d->len, write ? VRING_PERM_WRITE : VRING_PERM_READ);
	if (error == VRING_ERR_NONE && !write)
		w->nr_readable = w->nr_segs;
	return error;
}

/* An indirect table; hit is where its entry was found last, apart from the queue's. */
struct walk_table {
	const struct vring_mem *mem;
	struct vring_hit hit;
	uint64_t iova;
};

/* Copy an entry that is not aligned or in two regions. All of the table is mapped. */
static void
table_read_slow(struct walk_table *t, uint64_t iova, uint64_t raw[2])
{
	uint8_t *to = (uint8_t *)raw;
	uint32_t i;

	for (i = 0; i < VRING_DESC_BYTES; i++, iova++) {
		if (iova - t->hit.iova >= t->hit.size) {
			const struct vring_region *r = vring_mem_find(t->mem, iova);

			t->hit = (struct vring_hit){r->iova, r->size, r->va, r->perm};
		}
		to[i] = vring_load8(t->hit.va + (iova - t->hit.iova));
	}
	raw[0] = le64toh(raw[0]);
	raw[1] = le64toh(raw[1]);
}

static void
table_read(struct walk_table *t, uint32_t index, uint64_t raw[2])
{
	uint64_t iova = t->iova + (uint64_t)index * VRING_DESC_BYTES;
	uint64_t offset = iova - t->hit.iova;
	bool whole = offset < t->hit.size && t->hit.size - offset >= VRING_DESC_BYTES;

	if (VRING_LIKELY(whole && ((uintptr_t)t->hit.va + offset) % sizeof(uint64_t) == 0)) {
		raw[0] = vring_desc_addr(t->hit.va + offset);
		raw[1] = vring_desc_tail(t->hit.va + offset);
	} else {
		table_read_slow(t, iova, raw);
	}
}

static enum vring_error
table_walk_split(struct vring_walk *w, struct walk_table *t, uint32_t nr)
{
	uint32_t index = 0, count = 0;

	for (;;) {
		struct vring_desc_copy d;
		enum vring_error error;
		uint64_t raw[2];

		if (++count > nr)
			return VRING_ERR_LOOP;
		table_read(t, index, raw);
		d = vring_desc_split(raw[0], raw[1]);
		if (d.flags & VRING_DESC_F_INDIRECT)
			return VRING_ERR_INDIRECT_NESTED;
		error = vring_walk_add(w, &d);
		if (error != VRING_ERR_NONE || !(d.flags & VRING_DESC_F_NEXT))
			return error;
		index = d.next_or_id;
		if (index >= nr)
			return VRING_ERR_NEXT;
	}
}

static enum vring_error
table_walk_packed(struct vring_walk *w, struct walk_table *t, uint32_t nr)
{
	uint32_t index;

	for (index = 0; index < nr; index++) {
		struct vring_desc_copy d;
		enum vring_error error;
		uint64_t raw[2];

		table_read(t, index, raw);
		d = vring_desc_packed(raw[0], raw[1]);
		if (d.flags & VRING_DESC_F_INDIRECT)
			return VRING_ERR_INDIRECT_NESTED;
		if (w->q->read_only)
			d.flags &= (uint16_t)~VRING_DESC_F_WRITE;
		error = vring_walk_add(w, &d);
		if (error != VRING_ERR_NONE)
			return error;
	}
	return VRING_ERR_NONE;
}

enum vring_error
vring_walk_table(struct vring_walk *w, const struct vring_desc_copy *d)
{
	struct walk_table t = {.mem = w->q->mem, .hit = w->q->hit, .iova = d->addr};
	uint32_t nr = d->len / VRING_DESC_BYTES;

	if (d->len == 0 || d->len % VRING_DESC_BYTES != 0)
		return VRING_ERR_INDIRECT_LENGTH;
	if (!vring_mem_covers(t.mem, d->addr, d->len, VRING_PERM_READ))
		return VRING_ERR_INDIRECT_UNMAPPED;
	return w->q->packed ? table_walk_packed(w, &t, nr) : table_walk_split(w, &t, nr);
}
