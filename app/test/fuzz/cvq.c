/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* The control virtqueue of a network device that the class serves. */

#include <linux/virtio_net.h>

#include "fuzz.h"
#include "vdpa_private.h"

#define MAX_PAIRS 8
#define FEATURES                                                                               \
	(FUZZ_BIT(VIRTIO_NET_F_CTRL_VQ) | FUZZ_BIT(VIRTIO_NET_F_CTRL_RX) |                     \
		FUZZ_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | FUZZ_BIT(VIRTIO_NET_F_CTRL_VLAN) |      \
		FUZZ_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | FUZZ_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | \
		FUZZ_BIT(VIRTIO_NET_F_MQ) | FUZZ_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |       \
		FUZZ_BIT(VIRTIO_NET_F_GUEST_CSUM) | FUZZ_BIT(VIRTIO_NET_F_GUEST_TSO4))

/* What the device may be asked for: checked values only. */
static int
set_pairs(void *arg, uint16_t nr_pairs)
{
	fuzz_assert(nr_pairs >= 1 && nr_pairs <= MAX_PAIRS);
	return *(int *)arg;
}

static int
command(void *arg, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	static volatile uint8_t sink;

	fuzz_assert(cls != VIRTIO_NET_CTRL_MQ && cls <= VIRTIO_NET_CTRL_GUEST_OFFLOADS);
	for (size_t i = 0; i < len_bytes; i++)
		sink = ((const uint8_t *)data)[i];
	(void)sink;
	if (cls == VIRTIO_NET_CTRL_VLAN)
		fuzz_assert(len_bytes == 2 && ((const uint8_t *)data)[1] < 16);
	if (cls == VIRTIO_NET_CTRL_MAC && cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET)
		fuzz_assert(len_bytes == 6 && (*(const uint8_t *)data & 1) == 0);
	return *(int *)arg;
}

static void
announce_ack(void *arg)
{
	(void)arg;
}

/* A command where the driver would put it: readable at the begin of the data, the answer behind. */
static void
put_command(struct fuzz_input *in, struct fuzz_memory *m)
{
	uint8_t *to = (uint8_t *)m->regions[1].va + 0x400, nr = fuzz_take(in, 1);

	for (unsigned int i = 0; i < nr; i++)
		to[i] = fuzz_take(in, 1);
}

static void
run_queue(struct fuzz_input *in, struct fuzz_memory *m, const struct vring_config *config,
	struct vdpa_cvq *cvq, int *rc)
{
	while (fuzz_more(in)) {
		uint8_t what = fuzz_take(in, 1);

		if (what < 0xa0) {
			fuzz_scribble(in, m, config);
		} else if (what < 0xd0) {
			put_command(in, m);
		} else {
			*rc = (what & 1) != 0 ? -95 : 0;
			if (vdpa_cvq_serve(cvq) < 0)
				return;
			if ((what & 2) != 0)
				vdpa_cvq_restore(cvq);
		}
		fuzz_assert(
			vdpa_cvq_active_pairs(cvq) >= 1 && vdpa_cvq_active_pairs(cvq) <= MAX_PAIRS);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int rc = 0;
	const struct vdpa_cvq_effects effects = {set_pairs, command, announce_ack, &rc};
	struct vdpa_range ranges[FUZZ_NR_REGIONS];
	struct vdpa_domain *domain = NULL;
	struct vring_config config;
	struct fuzz_memory memory;
	struct vdpa_vq_state state;
	struct vdpa_vq_config vq;
	struct vdpa_call call = {.fd = -1}; /* nobody hears */
	struct vdpa_cvq *cvq;
	uint32_t nr = 0;

	fuzz_memory_init(&memory);
	for (uint32_t i = 0; i + 1 < FUZZ_NR_REGIONS; i++)
		ranges[nr++] = (struct vdpa_range){.iova = memory.regions[i].iova,
			.size_bytes = memory.regions[i].size,
			.va = memory.regions[i].va,
			.fd = -1};
	fuzz_config(&in, &memory, fuzz_take(&in, 1) % 2 != 0, &config);
	vq = (struct vdpa_vq_config){.index = 2 * MAX_PAIRS,
		.size = config.size,
		.desc_iova = config.desc_iova,
		.driver_iova = config.driver_iova,
		.device_iova = config.device_iova,
		.state = {config.state.avail, config.state.used},
		.kick_fd = -1};
	cvq = vdpa_cvq_create(&effects, MAX_PAIRS);
	if (cvq != NULL && vdpa_domain_create(&domain, ranges, nr, NULL, NULL) == 0) {
		vdpa_cvq_reset(cvq, FEATURES | FUZZ_BIT(VIRTIO_F_VERSION_1) | config.features);
		if (vdpa_cvq_start(cvq, &vq, &call, domain) == 0) {
			run_queue(&in, &memory, &config, cvq, &rc);
			vdpa_cvq_stop(cvq, &state);
		}
	}
	vdpa_cvq_free(cvq);
	vdpa_domain_put(domain);
	fuzz_memory_fini(&memory);
	return 0;
}
