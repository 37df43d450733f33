/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <stdlib.h>

#include "vring_inflight.h"
#include "vring_layout.h"

#define VERSION 1

struct inflight_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* of the same batch */
	uint64_t counter;
};

struct inflight_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_desc desc[];
};

uint64_t
vring_inflight_bytes(uint16_t size)
{
	uint64_t bytes = sizeof(struct inflight_region) + size * sizeof(struct inflight_desc);

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
end_batch(struct inflight_region *region, uint16_t size, uint16_t used_index)
{
	uint16_t nr = used_index - region->used_idx, head = region->last_batch_head;

	for (uint16_t i = 0; i < nr && i < size && head < size; i++) {
		region->desc[head].inflight = 0;
		head = region->desc[head].next;
	}
	store_barrier();
	region->used_idx = used_index;
}

uint16_t
vring_inflight_begin(struct vring_inflight *notes, void *memory, uint16_t size, uint16_t used_index,
	uint16_t *heads)
{
	struct inflight_region *region = memory;
	struct taken *taken = calloc(size, sizeof(*taken));
	uint16_t nr = 0;

	*notes = (struct vring_inflight){.size = size};
	if (taken == NULL)
		return 0;
	notes->region = region;
	if (region->version != VERSION) {
		memset(region, 0, vring_inflight_bytes(size));
		region->desc_num = size;
		region->used_idx = used_index;
		store_barrier();
		region->version = VERSION;
	}
	if (region->used_idx != used_index)
		end_batch(region, size, used_index);
	for (uint16_t i = 0; i < size; i++)
		if (region->desc[i].inflight == 1)
			taken[nr++] = (struct taken){region->desc[i].counter, i};
	qsort(taken, nr, sizeof(*taken), by_counter);
	for (uint16_t i = 0; i < nr; i++)
		heads[i] = taken[i].head;
	notes->counter = nr != 0 ? taken[nr - 1].counter + 1 : 0;
	free(taken);
	return nr;
}

void
vring_inflight_take(struct vring_inflight *notes, const struct vring_chain *chains, uint16_t nr)
{
	struct inflight_region *region = notes->region;

	for (uint16_t i = 0; region != NULL && i < nr; i++) {
		struct inflight_desc *desc = &region->desc[chains[i].done.id];

		desc->counter = notes->counter++;
		store_barrier();
		desc->inflight = 1;
	}
	store_barrier();
}

void
vring_inflight_give(struct vring_inflight *notes, const struct vring_chain *chains, uint16_t nr)
{
	struct inflight_region *region = notes->region;

	for (uint16_t i = 0; region != NULL && i < nr; i++) {
		region->desc[chains[i].done.id].next = region->last_batch_head;
		region->last_batch_head = chains[i].done.id;
	}
	store_barrier();
}

void
vring_inflight_given(struct vring_inflight *notes, const struct vring_chain *chains, uint16_t nr,
	uint16_t used_index)
{
	struct inflight_region *region = notes->region;

	if (region == NULL)
		return;
	store_barrier();
	for (uint16_t i = 0; i < nr; i++)
		region->desc[chains[i].done.id].inflight = 0;
	store_barrier();
	region->used_idx = used_index;
}
