/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* The driver side of a ring, against a device that writes what it likes. */

#include <errno.h>

#include "fuzz.h"
#include "vring_drv.h"

#define BURST 16

struct buffer {
	bool in_flight;
	uint32_t writable_bytes;
};

struct run {
	struct fuzz_memory memory;
	struct vring_config config;
	struct vring_drv q;
	struct buffer buffers[FUZZ_SIZE_MAX];
	uint32_t nr_in_flight;
};

static void
add(struct run *run, uint8_t arg)
{
	struct vring_table table = {
		.va = run->memory.regions[1].va, .iova = FUZZ_DATA_IOVA, .nr = 8};
	uint16_t nr_out = arg % 4, nr_in = arg / 4 % 4;
	struct vring_buf bufs[6];
	unsigned int free_one = 0;
	int rc;

	for (int i = 0; i < 6; i++)
		bufs[i] = (struct vring_buf){FUZZ_DATA_IOVA + 0x1000 + i * 64, 1 + (arg & 0x3f)};
	while (free_one < FUZZ_SIZE_MAX && run->buffers[free_one].in_flight)
		free_one++;
	if (free_one == FUZZ_SIZE_MAX)
		return;
	rc = vring_drv_add(&run->q, bufs, nr_out, nr_in, &run->buffers[free_one],
		(arg & 0x80) != 0 ? &table : NULL);
	if (rc != 0) {
		fuzz_assert(rc == -ENOSPC || rc == -EINVAL || rc == -ENOTSUP || rc == -EIO);
		return;
	}
	run->buffers[free_one] = (struct buffer){true, nr_in * bufs[0].len};
	run->nr_in_flight++;
	fuzz_assert(run->nr_in_flight <= run->config.size);
}

static void
come_back(struct run *run, void *cookie)
{
	struct buffer *buffer = cookie;

	fuzz_assert(buffer >= run->buffers && buffer < run->buffers + FUZZ_SIZE_MAX);
	fuzz_assert(buffer->in_flight);
	buffer->in_flight = false;
	run->nr_in_flight--;
}

static void
get(struct run *run, uint8_t arg)
{
	struct vring_drv_done done[BURST];
	uint16_t nr = vring_drv_get(&run->q, done, 1 + arg % BURST);

	fuzz_assert(nr <= 1 + arg % BURST);
	for (uint16_t i = 0; i < nr; i++) {
		come_back(run, done[i].cookie);
		fuzz_assert(done[i].id < run->config.size);
		fuzz_assert(done[i].len <= ((struct buffer *)done[i].cookie)->writable_bytes);
	}
}

static void
step(struct run *run, struct fuzz_input *in)
{
	uint8_t what = fuzz_take(in, 1), arg;

	if (what < 0x60) {
		fuzz_scribble(in, &run->memory, &run->config);
		return;
	}
	arg = fuzz_take(in, 1);
	switch (what % 4) {
	case 0:
		add(run, arg);
		return;
	case 1:
		vring_drv_publish(&run->q);
		vring_drv_kick_needed(&run->q);
		return;
	case 2:
		get(run, arg);
		return;
	case 3:
		vring_drv_arm(&run->q);
		vring_drv_disarm(&run->q);
		return;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	static struct run run;
	void *cookie;

	memset(&run, 0, sizeof(run));
	fuzz_memory_init(&run.memory);
	fuzz_config(&in, &run.memory, FUZZ_PACKED, &run.config);
	if (vring_drv_init(&run.q, &run.config) == 0) {
		while (fuzz_more(&in))
			step(&run, &in);
		/* all that is left comes back, also from a broken ring */
		while (vring_drv_detach(&run.q, &cookie) == 0)
			come_back(&run, cookie);
		fuzz_assert(run.nr_in_flight == 0);
	}
	vring_drv_fini(&run.q);
	fuzz_memory_fini(&run.memory);
	return 0;
}
