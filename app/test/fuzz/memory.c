/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include "fuzz.h"

void
fuzz_memory_init(struct fuzz_memory *m)
{
	static const struct vring_region regions[FUZZ_NR_REGIONS] = {
		{.iova = FUZZ_RING_IOVA, .size = FUZZ_RING_BYTES, .perm = VRING_PERM_RW},
		{.iova = FUZZ_DATA_IOVA, .size = FUZZ_DATA_BYTES, .perm = VRING_PERM_RW},
		{.iova = FUZZ_DATA_IOVA + FUZZ_DATA_BYTES,
			.size = FUZZ_NEXT_BYTES,
			.perm = VRING_PERM_RW},
		{.iova = FUZZ_READ_IOVA, .size = 0x1000 - 1, .perm = VRING_PERM_READ},
	};

	memcpy(m->regions, regions, sizeof(regions));
	for (int i = 0; i < FUZZ_NR_REGIONS; i++) {
		m->regions[i].va = calloc(1, m->regions[i].size);
		if (m->regions[i].va == NULL)
			exit(1);
	}
	m->mem = (struct vring_mem){m->regions, FUZZ_NR_REGIONS};
	fuzz_assert(vring_mem_check(&m->mem) == 0);
}

void
fuzz_memory_fini(struct fuzz_memory *m)
{
	for (int i = 0; i < FUZZ_NR_REGIONS; i++)
		free(m->regions[i].va);
}

void
fuzz_config(struct fuzz_input *in, struct fuzz_memory *m, bool packed, struct vring_config *config)
{
	static const unsigned int bits[] = {
		VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_F_IN_ORDER};
	uint8_t flags = fuzz_take(in, 1);
	uint16_t position = fuzz_take(in, 2);

	*config = (struct vring_config){
		.size = packed ? 1 + fuzz_take(in, 1) : UINT64_C(1) << fuzz_take(in, 1) % 9,
		.features = packed ? FUZZ_BIT(VIRTIO_F_RING_PACKED) : 0,
		.max_segs = (flags & 8) != 0 ? 1 + flags / 16 : 0,
		.read_only = (flags & 16) != 0,
		.desc_iova = FUZZ_RING_IOVA,
		.driver_iova = FUZZ_RING_IOVA + FUZZ_DRIVER,
		.device_iova = FUZZ_RING_IOVA + FUZZ_DEVICE,
		.mem = &m->mem,
	};
	for (int i = 0; i < 3; i++)
		if ((flags >> i & 1) != 0)
			config->features |= FUZZ_BIT(bits[i]);
	if (packed)
		position = (position & 0x8000) | (position & 0x7fff) % config->size;
	config->state = (struct vring_state){position, position};
}

static uint8_t *
anywhere(struct fuzz_input *in, struct fuzz_memory *m, size_t *left)
{
	const struct vring_region *region = &m->regions[fuzz_take(in, 1) % FUZZ_NR_REGIONS];
	size_t at = fuzz_take(in, 2) % region->size;

	*left = region->size - at;
	return (uint8_t *)region->va + at;
}

static uint64_t
address(struct fuzz_input *in)
{
	static const uint64_t bases[] = {FUZZ_DATA_IOVA, FUZZ_DATA_IOVA + FUZZ_DATA_BYTES,
		FUZZ_READ_IOVA, FUZZ_RING_IOVA, 0, UINT64_MAX};
	uint8_t base = fuzz_take(in, 1);

	if (base == 0xff)
		return fuzz_take(in, 8);
	return bases[base % (sizeof(bases) / sizeof(bases[0]))] + (int16_t)fuzz_take(in, 2);
}

/* A descriptor of the ring, or of an indirect table at the begin of the data. */
static void
put_desc(struct fuzz_input *in, struct fuzz_memory *m, const struct vring_config *config)
{
	uint8_t where = fuzz_take(in, 1);
	uint64_t addr = address(in);
	uint32_t len = fuzz_take(in, 2);
	uint16_t flags = fuzz_take(in, 1), other = fuzz_take(in, 1), table = where & 0x80;
	uint8_t *at = (uint8_t *)m->regions[table ? 1 : 0].va;
	uint8_t desc[16];
	uint16_t id = other;

	if (len == 0xffff)
		len = fuzz_take(in, 4);
	if ((flags & VRING_DESC_F_INDIRECT) != 0 && (flags & 0x80) == 0)
		len = (len % 9) * 16;
	flags = (flags & 7) | (flags & 8) << 4 | (uint16_t)(flags & 16) << 11;
	memcpy(desc, &addr, 8);
	memcpy(desc + 8, &len, 4);
	/* split: flags, next; packed: id, flags */
	memcpy(desc + ((config->features & FUZZ_BIT(VIRTIO_F_RING_PACKED)) != 0 ? 14 : 12), &flags,
		2);
	memcpy(desc + ((config->features & FUZZ_BIT(VIRTIO_F_RING_PACKED)) != 0 ? 12 : 14), &id, 2);
	memcpy(at + (where & 0x7f) * 16 % ((table ? 16 : config->size) * 16), desc, sizeof(desc));
}

/* Split: the next entry of the available or the used ring, and the index behind it. */
static void
put_entry(
	struct fuzz_input *in, struct fuzz_memory *m, const struct vring_config *config, bool used)
{
	uint8_t *ring = (uint8_t *)m->regions[0].va + (used ? FUZZ_DEVICE : FUZZ_DRIVER);
	uint32_t id = fuzz_take(in, 1), len = fuzz_take(in, 2);
	uint16_t index;

	memcpy(&index, ring + 2, sizeof(index));
	if (used) {
		memcpy(ring + 4 + index % config->size * 8, &id, sizeof(id));
		memcpy(ring + 8 + index % config->size * 8, &len, sizeof(len));
	} else {
		memcpy(ring + 4 + index % config->size * 2, &id, sizeof(uint16_t));
	}
	index++;
	memcpy(ring + 2, &index, sizeof(index));
}

void
fuzz_scribble(struct fuzz_input *in, struct fuzz_memory *m, const struct vring_config *config)
{
	uint8_t what = fuzz_take(in, 1), *to;
	size_t left, nr;

	switch (what % 4) {
	case 0:
		put_desc(in, m, config);
		return;
	case 1:
		put_entry(in, m, config, (what & 0x80) != 0);
		return;
	case 2: /* the head of an area: flags and index, or an event */
		to = (uint8_t *)m->regions[0].va + ((what & 0x80) != 0 ? FUZZ_DEVICE : FUZZ_DRIVER);
		for (int i = 0; i < 4; i++)
			to[i] = fuzz_take(in, 1);
		return;
	}
	to = anywhere(in, m, &left);
	nr = what >> 4;
	for (size_t i = 0; i < nr && i < left; i++)
		to[i] = fuzz_take(in, 1);
}

void
fuzz_touch(const struct fuzz_memory *m, uint64_t iova, uint8_t *va, uint32_t len, bool write)
{
	uint64_t have = len;
	void *at = vring_mem_ptr(&m->mem, iova, &have, write ? VRING_PERM_WRITE : VRING_PERM_READ);
	static volatile uint8_t sink;

	fuzz_assert(at == va && have == len && len != 0);
	if (write)
		memset(va, 0x5a, len);
	else
		for (uint32_t i = 0; i < len; i++)
			sink = va[i];
	(void)sink;
}
