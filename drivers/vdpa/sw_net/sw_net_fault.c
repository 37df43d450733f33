/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <string.h>

#include <rte_common.h>

#include "sw_net_path.h"

/* ---- hang_after, delay_us ---- */

/* Frames that a queue may still complete. */
static uint64_t
frames_left(const struct sw_net_vq *vq)
{
	uint64_t limit = vq->dev->args.hang_after, done = vq->stats[SW_NET_PACKETS];

	if (limit == SW_NET_HANG_NEVER)
		return UINT64_MAX;
	return done < limit ? limit - done : 0;
}

static uint64_t
flow_frames_left(const struct sw_net_flow *flow)
{
	uint64_t left = UINT64_MAX;

	if (flow->tx != NULL)
		left = frames_left(flow->tx);
	return flow->rx != NULL ? RTE_MIN(left, frames_left(flow->rx)) : left;
}

void
sw_net_fault_gate(struct sw_net_flow *flow)
{
	flow->gated = flow->delay.cycles != 0 || flow_frames_left(flow) != UINT64_MAX;
}

bool
sw_net_fault_hangs(const struct sw_net_flow *flow)
{
	return flow_frames_left(flow) == 0;
}

uint16_t
sw_net_fault_pass(struct sw_net_flow *flow, uint16_t nr)
{
	nr = RTE_MIN(nr, flow_frames_left(flow));
	return vdpa_delay_pass(&flow->delay, nr);
}

/* ---- order, lie_len ---- */

/* Below nr; the same numbers in each run. */
static uint16_t
random_below(struct sw_net_vq *vq, uint16_t nr)
{
	vq->fault_random = vq->fault_random * 1664525 + 1013904223;
	return (vq->fault_random >> 16) % nr;
}

/*
 * The buffers of one frame follow each other in the used ring (virtio 1.2, 5.1.6.4). All but its
 * last one are full. @return where each piece that may be moved begins; starts[their number]: nr
 */
static uint16_t
find_pieces(const struct sw_net_vq *vq, const struct vring_chain *chains, uint16_t nr,
	uint16_t starts[SW_NET_RX_PEEK + 1])
{
	bool alone = vq->index % 2 == 1 || !vq->mergeable;
	uint16_t nr_pieces = 0;

	for (uint16_t i = 0; i < nr; i++)
		if (i == 0 || alone || chains[i - 1].done.len < chains[i - 1].writable_bytes)
			starts[nr_pieces++] = i;
	starts[nr_pieces] = nr;
	return nr_pieces;
}

static void
shuffle(struct sw_net_vq *vq, struct vring_chain *chains, uint16_t nr)
{
	uint16_t starts[SW_NET_RX_PEEK + 1], order[SW_NET_RX_PEEK], at = 0;
	uint16_t nr_pieces = find_pieces(vq, chains, nr, starts);
	struct vring_chain before[SW_NET_RX_PEEK];

	memcpy(before, chains, nr * sizeof(*chains));
	for (uint16_t i = 0; i < nr_pieces; i++) {
		uint16_t other = random_below(vq, i + 1);

		order[i] = i;
		order[i] = order[other];
		order[other] = i;
	}
	for (uint16_t i = 0; i < nr_pieces; i++)
		for (uint16_t from = starts[order[i]]; from < starts[order[i] + 1]; from++)
			chains[at++] = before[from];
}

void
sw_net_fault_chains(struct sw_net_vq *vq, struct vring_chain *chains, uint16_t nr)
{
	if (vq->dev->args.random_order)
		shuffle(vq, chains, nr);
	for (uint16_t i = 0; i < nr; i++)
		chains[i].done.len += vq->dev->args.lie_bytes;
}
