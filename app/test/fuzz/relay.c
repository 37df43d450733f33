/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* A relayed queue between a guest and a device that both write what they like. */

#include "fuzz.h"
#include "vdpa_relay_vq.h"

#define SHADOW_IOVA UINT64_C(0x100000)
#define WRITTEN_MAX (VDPA_RELAY_WRITTEN_MIN + 64)

struct run {
	struct fuzz_memory memory, shadow; /* shadow: the first region is the shadow ring */
	struct vring_config guest, device;
	struct vdpa_relay_vq *vq;
	struct vring_range written[WRITTEN_MAX];
};

/*
 * As many as there is room for. Where they lie is not checked: of a chain that is walked again at
 * completion the other side may have changed the addresses, and vdpa_dirty_mark() leaves out what
 * is not in its table.
 */
static void
check_written(const struct vdpa_relay_written *written)
{
	fuzz_assert(written->nr <= written->nr_max);
	for (uint32_t i = 0; i < written->nr; i++)
		fuzz_assert(written->ranges[i].len != 0);
}

static void
hand_back(struct run *run, uint8_t arg)
{
	struct vdpa_relay_written written = {.ranges = run->written, .nr_max = WRITTEN_MAX};

	vdpa_relay_vq_used(run->vq, 1 + arg % 64, (arg & 0x80) != 0 ? &written : NULL);
	check_written(&written);
	vdpa_relay_vq_signal_needed(run->vq);
}

static void
ask(struct run *run)
{
	struct vdpa_relay_written written = {.ranges = run->written, .nr_max = WRITTEN_MAX};

	vdpa_relay_vq_arm(run->vq);
	vdpa_relay_vq_asked(run->vq, &written);
	check_written(&written);
	vdpa_relay_vq_disarm(run->vq);
}

static void
step(struct run *run, struct fuzz_input *in)
{
	uint8_t what = fuzz_take(in, 1), arg;

	if (what < 0x50) {
		fuzz_scribble(in, &run->memory, &run->guest);
		return;
	}
	if (what < 0xa0) {
		fuzz_scribble(in, &run->shadow, &run->guest);
		return;
	}
	arg = fuzz_take(in, 1);
	switch (what % 4) {
	case 0:
		vdpa_relay_vq_avail(run->vq, 1 + arg % 64);
		vdpa_relay_vq_kick_needed(run->vq);
		break;
	case 1:
		hand_back(run, arg);
		break;
	case 2:
		ask(run);
		break;
	case 3:
		fuzz_assert(vdpa_relay_vq_set_mem(run->vq, &run->memory.mem) == 0);
		break;
	}
	fuzz_assert(vdpa_relay_vq_in_flight(run->vq) <= run->guest.size);
}

/* The areas of the shadow ring to where fuzz_scribble() looks for them. */
static bool
shadow_fits(const struct run *run)
{
	return vdpa_relay_shadow_bytes(run->guest.size, run->guest.features) <= FUZZ_RING_BYTES;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	static struct run run;
	struct vring_state at;

	memset(&run, 0, sizeof(run));
	fuzz_memory_init(&run.memory);
	fuzz_memory_init(&run.shadow);
	fuzz_config(&in, &run.memory, FUZZ_PACKED, &run.guest);
	run.vq = vdpa_relay_vq_create(run.guest.size, run.guest.features);
	if (run.vq != NULL && shadow_fits(&run) &&
		vdpa_relay_vq_init(run.vq, &run.guest, run.shadow.regions[0].va, SHADOW_IOVA,
			run.guest.state, &run.device) == 0) {
		while (fuzz_more(&in))
			step(&run, &in);
		at = vdpa_relay_vq_stop(run.vq);
		fuzz_assert(at.avail == at.used);
	}
	vdpa_relay_vq_free(run.vq);
	fuzz_memory_fini(&run.shadow);
	fuzz_memory_fini(&run.memory);
	return 0;
}
