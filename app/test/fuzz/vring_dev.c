/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* The device side of a ring, against a driver that writes what it likes. */

#include "fuzz.h"
#include "vring_dev.h"

#define CHAINS 32
#define SEGS   (VRING_SEGS_DEFAULT + 64)

struct run {
	struct fuzz_memory memory;
	struct vring_config config;
	struct vring_dev q;
	struct vring_chain chains[CHAINS];
	struct vring_seg segs[SEGS];
	struct vring_done held[FUZZ_SIZE_MAX]; /* consumed and not pushed */
	uint32_t nr_held, slots_held;
};

static void
check_chains(const struct run *run, uint16_t nr)
{
	uint32_t max_segs = run->config.max_segs != 0 ? run->config.max_segs : VRING_SEGS_DEFAULT;

	for (uint16_t c = 0; c < nr; c++) {
		const struct vring_chain *chain = &run->chains[c];
		uint64_t bytes[2] = {0, 0};

		fuzz_assert(chain->nr_segs <= max_segs && chain->nr_readable <= chain->nr_segs);
		fuzz_assert(chain->done.slots >= 1 && chain->done.slots <= run->config.size);
		fuzz_assert(chain->segs >= run->segs &&
			chain->segs + chain->nr_segs <= run->segs + SEGS);
		for (uint16_t s = 0; s < chain->nr_segs; s++) {
			const struct vring_seg *seg = &chain->segs[s];
			bool write = s >= chain->nr_readable;

			/* what lies in the ring itself is looked at, but left alone */
			if (write && seg->iova < FUZZ_RING_IOVA + FUZZ_RING_BYTES)
				write = false;
			fuzz_touch(&run->memory, seg->iova, seg->va, seg->len, write);
			bytes[s >= chain->nr_readable] += seg->len;
		}
		fuzz_assert(bytes[0] == chain->readable_bytes && bytes[1] == chain->writable_bytes);
	}
}

static void
hold(struct run *run, uint16_t nr)
{
	for (uint16_t c = 0; c < nr; c++) {
		fuzz_assert(run->nr_held < FUZZ_SIZE_MAX);
		run->held[run->nr_held++] = run->chains[c].done;
		run->slots_held += run->chains[c].done.slots;
	}
	fuzz_assert(run->slots_held <= run->config.size);
}

static void
take(struct run *run, uint8_t arg)
{
	uint16_t nr = vring_dev_peek(&run->q, run->chains, 1 + arg % CHAINS, run->segs, SEGS);

	check_chains(run, nr);
	nr = (arg & 0x80) != 0 ? nr / 2 : nr;
	vring_dev_consume(&run->q, run->chains, nr);
	if ((arg & 0x40) != 0 && vring_dev_unpop(&run->q, run->chains, nr) == 0)
		return;
	hold(run, nr);
}

/* In order of consumption, or the last one first. */
static void
give(struct run *run, uint8_t arg)
{
	bool in_order = (run->config.features & FUZZ_BIT(VIRTIO_F_IN_ORDER)) != 0;
	uint32_t at = in_order || (arg & 1) != 0 ? 0 : run->nr_held - 1;
	struct vring_done done;

	if (run->nr_held == 0)
		return;
	done = run->held[at];
	done.len = arg;
	if (vring_dev_push(&run->q, &done, 1) != 0) {
		fuzz_assert(vring_dev_error(&run->q) != VRING_ERR_NONE);
		return;
	}
	run->nr_held--;
	run->slots_held -= done.slots;
	memmove(&run->held[at], &run->held[at + 1], (run->nr_held - at) * sizeof(done));
}

static void
check_written(const struct run *run, uint32_t nr_slots)
{
	struct vring_range ranges[VRING_DEV_WRITTEN_MAX];
	uint32_t nr = vring_dev_written(&run->q, nr_slots % (run->config.size + 1), ranges);

	fuzz_assert(nr <= VRING_DEV_WRITTEN_MAX);
	for (uint32_t i = 0; i < nr; i++)
		fuzz_assert(ranges[i].iova >= FUZZ_RING_IOVA &&
			ranges[i].iova + ranges[i].len <= FUZZ_RING_IOVA + FUZZ_RING_BYTES);
}

static void
step(struct run *run, struct fuzz_input *in)
{
	uint8_t what = fuzz_take(in, 1), arg;

	if (what < 0x80) {
		fuzz_scribble(in, &run->memory, &run->config);
		return;
	}
	arg = fuzz_take(in, 1);
	switch (what % 8) {
	case 0:
	case 1:
		take(run, arg);
		return;
	case 2:
		give(run, arg);
		return;
	case 3:
		vring_dev_flush(&run->q);
		vring_dev_signal_needed(&run->q);
		return;
	case 4:
		vring_dev_arm(&run->q);
		vring_dev_pending(&run->q);
		vring_dev_disarm(&run->q);
		return;
	case 5:
		check_written(run, arg);
		return;
	case 6:
		fuzz_assert(vring_dev_set_mem(&run->q, &run->memory.mem) == 0);
		return;
	case 7:
		/* right only without anything pushed out of order: as at a stop */
		if ((arg & 0x80) != 0 &&
			(run->config.features & FUZZ_BIT(VIRTIO_F_IN_ORDER)) != 0) {
			vring_dev_rewind(&run->q);
			run->nr_held = run->slots_held = 0;
		}
		return;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	static struct run run;

	memset(&run, 0, sizeof(run));
	fuzz_memory_init(&run.memory);
	fuzz_config(&in, &run.memory, FUZZ_PACKED, &run.config);
	if (vring_dev_init(&run.q, &run.config) == 0)
		while (fuzz_more(&in))
			step(&run, &in);
	fuzz_memory_fini(&run.memory);
	return 0;
}
