/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdlib.h>

#include "vring_inflight.h"
#include "vring_walk.h"

#define VERSION 1

struct split_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* of the same batch */
	uint64_t counter;
};

struct split_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct split_desc desc[];
};

/* Entries of a buffer follow each other by next; inflight to counter are its first one's. */
struct packed_desc {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

/* What is not old is of a batch that is about to be published. */
struct packed_used {
	uint16_t idx;
	uint16_t old_idx;
	uint8_t wrap_counter;
	uint8_t old_wrap_counter;
	uint8_t padding[2];
} __attribute__((aligned(8)));

struct packed_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	struct packed_used used;
	uint8_t padding[8];
	struct packed_desc desc[];
};

uint64_t
vring_inflight_bytes(uint16_t size, uint64_t features)
{
	uint64_t bytes = vring_feature(features, VIRTIO_F_RING_PACKED)
		? sizeof(struct packed_region) + size * sizeof(struct packed_desc)
		: sizeof(struct split_region) + size * sizeof(struct split_desc);

	return (bytes + 63) & ~UINT64_C(63);
}

/* What another process sees of these must not change its order. */
static void
store_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

struct taken {
	uint64_t counter;
	uint16_t head;
};

static int
by_counter(const void *a, const void *b)
{
	const struct taken *left = a, *right = b;

	return (left->counter > right->counter) - (left->counter < right->counter);
}

/* A device died between publishing a batch and noting so: its entries are done. */
static void
split_end_batch(struct split_region *region, uint16_t size, uint16_t used_index)
{
	uint16_t nr = used_index - region->used_idx, head = region->last_batch_head;

	for (uint16_t i = 0; i < nr && i < size && head < size; i++) {
		region->desc[head].inflight = 0;
		head = region->desc[head].next;
	}
	store_barrier();
	region->used_idx = used_index;
}

static int
split_begin(struct vring_inflight *notes, struct vring_config *ring, struct taken *taken)
{
	struct split_region *region = notes->region;
	uint16_t size = notes->size, nr = 0, used;
	int rc = vring_split_used_index(ring, &used);

	if (rc != 0)
		return rc;
	if (region->version != VERSION) {
		memset(region, 0, vring_inflight_bytes(size, 0));
		region->desc_num = size;
		region->used_idx = used;
		store_barrier();
		region->version = VERSION;
	}
	if (region->used_idx != used)
		split_end_batch(region, size, used);
	for (uint16_t i = 0; i < size; i++) {
		if (region->desc[i].inflight != 1)
			continue;
		taken[nr++] = (struct taken){region->desc[i].counter, i};
		notes->slots[i] = 1;
	}
	ring->state = (struct vring_state){used + nr, used};
	return nr;
}

/* The device may die between any two stores, and half a position is another one. */
static void
packed_settle(struct packed_region *region, uint16_t idx, uint8_t wrap)
{
	struct packed_used used = {idx, idx, wrap, wrap, {0}};

	__atomic_store(&region->used, &used, __ATOMIC_RELEASE);
}

static void
packed_create(struct packed_region *region, uint16_t size, struct vring_state state)
{
	memset(region, 0, vring_inflight_bytes(size, 1ull << VIRTIO_F_RING_PACKED));
	region->desc_num = size;
	for (uint16_t i = 0; i < size; i++)
		region->desc[i].next = i + 1;
	packed_settle(region, state.used & 0x7fff, (state.used & VRING_PACKED_WRAP) != 0);
	store_barrier();
	region->version = VERSION;
}

/* A batch that was published is done; one that was not is taken back. */
static void
packed_end_batch(struct packed_region *region, uint16_t size, const struct vring_packed_desc *ring)
{
	struct packed_used used = region->used;
	uint16_t at = used.old_idx, entry;

	/* a driver may have made the slot available anew since */
	if ((used.idx != at || used.wrap_counter != used.old_wrap_counter) && at < size &&
		!vring_is_avail(
			vring_load16_acquire(&ring[at].flags), used.old_wrap_counter != 0)) {
		region->old_free_head = region->free_head;
		store_barrier();
		packed_settle(region, used.idx, used.wrap_counter);
	} else {
		region->free_head = region->old_free_head;
		packed_settle(region, at, used.old_wrap_counter);
	}
	entry = region->free_head;
	for (uint16_t i = 0; i < size && entry < size; i++) {
		region->desc[entry].inflight = 0;
		entry = region->desc[entry].next;
	}
}

/* One buffer that was in flight. @return its slots; 0: there cannot be such a one */
static uint16_t
packed_find(struct vring_inflight *notes, uint16_t head)
{
	const struct packed_region *region = notes->region;
	uint16_t last = region->desc[head].last, nr = region->desc[head].num, id;

	if (last >= notes->size || nr == 0 || nr > notes->size)
		return 0;
	id = region->desc[last].id;
	if (id >= notes->size || notes->slots[id] != 0)
		return 0;
	notes->entries[id] = head;
	notes->slots[id] = nr;
	return nr;
}

/* The slots of what is in flight: used flags that a dead device left there say nothing. */
static void
packed_clean(struct vring_packed_desc *ring, uint16_t size, uint16_t at, bool wrap, uint32_t nr)
{
	for (; nr > 0; nr--) {
		if (vring_is_used(vring_load16(&ring[at].flags), wrap))
			vring_store16(&ring[at].flags, vring_avail_flags(wrap));
		vring_forward(&at, &wrap, 1, size);
	}
}

static int
packed_begin(struct vring_inflight *notes, struct vring_config *ring, struct taken *taken)
{
	struct packed_region *region = notes->region;
	uint16_t size = notes->size, nr = 0, at;
	struct vring_areas areas;
	uint32_t slots = 0;
	bool wrap;

	if (vring_areas_map(ring, ring->mem, &areas, true) != 0)
		return -EFAULT;
	if (region->version != VERSION)
		packed_create(region, size, ring->state);
	packed_end_batch(region, size, areas.desc);
	at = region->used.idx;
	wrap = region->used.wrap_counter != 0;
	if (at >= size)
		return -EBADMSG;
	for (uint16_t i = 0; i < size; i++) {
		uint16_t found;

		if (region->desc[i].inflight != 1)
			continue;
		found = packed_find(notes, i);
		slots += found;
		if (found == 0 || slots > size)
			return -EBADMSG;
		taken[nr++] = (struct taken){region->desc[i].counter, i};
	}
	packed_clean(areas.desc, size, at, wrap, slots);
	ring->state.used = ring->state.avail = vring_position(at, wrap);
	vring_forward(&at, &wrap, slots, size);
	ring->state.avail = vring_position(at, wrap);
	return nr;
}

int
vring_inflight_begin(
	struct vring_inflight *notes, void *region, struct vring_config *ring, uint16_t *heads)
{
	uint16_t size = ring->size;
	struct taken *taken;
	int nr;

	*notes = (struct vring_inflight){
		.size = size,
		.packed = vring_feature(ring->features, VIRTIO_F_RING_PACKED),
		.region = region,
		.batch = calloc(size, 3 * sizeof(*notes->batch)),
	};
	taken = calloc(size, sizeof(*taken));
	if (size == 0 || vring_mem_check(ring->mem) != 0)
		nr = -EINVAL;
	else if (taken == NULL || notes->batch == NULL)
		nr = -ENOMEM;
	else {
		notes->entries = notes->batch + size;
		notes->slots = notes->entries + size;
		nr = notes->packed ? packed_begin(notes, ring, taken)
				   : split_begin(notes, ring, taken);
	}
	if (nr > 0)
		qsort(taken, nr, sizeof(*taken), by_counter);
	for (int i = 0; i < nr; i++)
		heads[i] = taken[i].head;
	notes->counter = nr > 0 ? taken[nr - 1].counter + 1 : 0;
	free(taken);
	if (nr < 0)
		vring_inflight_end(notes);
	return nr;
}

void
vring_inflight_end(struct vring_inflight *notes)
{
	free(notes->batch);
	*notes = (struct vring_inflight){0};
}

static void
packed_take(struct vring_inflight *notes, const struct vring_packed_desc *ring, uint16_t slot,
	uint16_t slots, uint16_t id)
{
	struct packed_region *region = notes->region;
	uint16_t head = region->old_free_head, at = head, last = head;

	for (uint16_t i = 0; i < slots; i++) {
		const struct vring_packed_desc *from = &ring[slot];
		struct packed_desc *to = &region->desc[at];
		uint64_t tail = vring_desc_tail(from);

		/* somebody else has written there: these notes are of no use */
		if (at >= notes->size) {
			notes->region = NULL;
			return;
		}
		to->addr = vring_desc_addr(from);
		to->len = (uint32_t)tail;
		to->id = (uint16_t)(tail >> 32);
		to->flags = (uint16_t)(tail >> 48);
		last = at;
		at = to->next;
		slot = slot + 1 == notes->size ? 0 : slot + 1;
	}
	region->desc[head].last = last;
	region->desc[head].num = slots;
	region->desc[head].counter = notes->counter++;
	store_barrier();
	region->desc[head].inflight = 1;
	region->free_head = at;
	store_barrier();
	region->old_free_head = at;
	notes->entries[id] = head;
	notes->slots[id] = slots;
}

void
vring_inflight_take(
	struct vring_inflight *notes, const void *desc, uint16_t slot, uint16_t slots, uint16_t id)
{
	struct split_region *region = notes->region;

	if (region == NULL)
		return;
	if (notes->packed) {
		packed_take(notes, desc, slot, slots, id);
	} else {
		region->desc[id].counter = notes->counter++;
		store_barrier();
		region->desc[id].inflight = 1;
		notes->slots[id] = 1;
	}
	store_barrier();
}

void
vring_inflight_take_chains(struct vring_inflight *notes, const struct vring_dev *q,
	const struct vring_chain *chains, uint16_t nr)
{
	uint16_t slot = q->avail;
	bool wrap = false;

	for (uint16_t i = 0; notes->region != NULL && i < nr; i++) {
		/* a driver's own ids are below that */
		if (chains[i].done.id < notes->size)
			vring_inflight_take(
				notes, q->desc, slot, chains[i].done.slots, chains[i].done.id);
		if (notes->packed)
			vring_forward(&slot, &wrap, chains[i].done.slots, notes->size);
	}
}

static void
packed_give(struct vring_inflight *notes, uint16_t id)
{
	struct packed_region *region = notes->region;
	uint16_t head = notes->entries[id], last = region->desc[head].last;
	uint16_t at = region->used.idx;
	bool wrap = region->used.wrap_counter != 0;

	if (last >= notes->size || at >= notes->size) {
		notes->region = NULL;
		return;
	}
	region->desc[last].next = region->free_head;
	region->free_head = head;
	vring_forward(&at, &wrap, notes->slots[id], notes->size);
	region->used.idx = at;
	region->used.wrap_counter = wrap;
}

uint16_t
vring_inflight_give(struct vring_inflight *notes, uint16_t id)
{
	struct split_region *region = notes->region;
	uint16_t slots;

	if (region == NULL || id >= notes->size || notes->slots[id] == 0)
		return 0;
	slots = notes->slots[id];
	if (notes->packed) {
		packed_give(notes, id);
	} else {
		region->desc[id].next = region->last_batch_head;
		region->last_batch_head = id;
	}
	notes->slots[id] = 0;
	notes->batch[notes->nr_batch++] = id;
	store_barrier();
	return slots;
}

void
vring_inflight_given(struct vring_inflight *notes, uint16_t used_index)
{
	struct packed_region *packed = notes->region;
	struct split_region *split = notes->region;

	store_barrier();
	for (uint16_t i = 0; notes->region != NULL && i < notes->nr_batch; i++) {
		uint16_t id = notes->batch[i];

		if (notes->packed)
			packed->desc[notes->entries[id]].inflight = 0;
		else
			split->desc[id].inflight = 0;
	}
	notes->nr_batch = 0;
	if (notes->region == NULL)
		return;
	store_barrier();
	if (notes->packed) {
		packed->old_free_head = packed->free_head;
		store_barrier();
		packed_settle(packed, packed->used.idx, packed->used.wrap_counter);
	} else {
		split->used_idx = used_index;
	}
}

struct vring_desc_copy
vring_inflight_desc(const struct vring_inflight *notes, uint16_t *at)
{
	const struct packed_region *region = notes->region;
	const struct packed_desc *from = &region->desc[*at];
	struct vring_desc_copy desc = {.next_or_id = UINT16_MAX};

	if (region == NULL || *at >= notes->size)
		return desc;
	desc = (struct vring_desc_copy){from->addr, from->len, from->flags, from->id};
	*at = from->next;
	return desc;
}

bool
vring_dev_again(struct vring_dev *q, const struct vring_inflight *notes, uint16_t head,
	struct vring_chain *chain, struct vring_seg *segs, uint16_t nr_segs)
{
	if (q->error)
		return false;
	if (q->packed)
		return vring_packed_again(q, notes, head, chain, segs, nr_segs);
	return vring_split_again(q, head, chain, segs, nr_segs);
}
