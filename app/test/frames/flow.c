/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <string.h>

#include <rte_cycles.h>

#include "frames.h"

void
frames_flow_init(struct frames_flow *flow, uint16_t queue)
{
	memset(flow, 0, sizeof(*flow));
	flow->queue = queue;
	flow->start_cycles = rte_get_timer_cycles();
	flow->last_rx_cycles = flow->start_cycles;
}

static bool
missing_take(struct frames_flow *flow, uint64_t number)
{
	uint64_t *word = &flow->missing[number % FRAMES_WINDOW / 64];
	uint64_t bit = 1ULL << (number % 64);
	bool was = (*word & bit) != 0;

	*word &= ~bit;
	flow->nr_missing -= was;
	return was;
}

static void
missing_put(struct frames_flow *flow, uint64_t number)
{
	/* What stood in this place is FRAMES_WINDOW frames old: it will not come any more. */
	if (missing_take(flow, number))
		flow->count.lost++;
	flow->missing[number % FRAMES_WINDOW / 64] |= 1ULL << (number % 64);
	flow->nr_missing++;
}

static void
mismatch(struct frames_flow *flow, const char *why)
{
	if (flow->why[0] == '\0')
		snprintf(flow->why, sizeof(flow->why), "%s", why);
}

/* A frame with this number, below `next`, has come. False: it had come before. */
static bool
arrived(struct frames_flow *flow, uint64_t number)
{
	char why[sizeof(flow->why)];

	if (number == flow->expected) {
		flow->expected++;
		return true;
	}
	if (number > flow->expected) {
		snprintf(why, sizeof(why),
			"frame %" PRIu64 " came where %" PRIu64 " was due: the "
			"%" PRIu64 " between were lost or overtaken",
			number, flow->expected, number - flow->expected);
		mismatch(flow, why);
		while (flow->expected < number)
			missing_put(flow, flow->expected++);
		flow->expected++;
		return true;
	}
	if (number + FRAMES_WINDOW >= flow->expected && missing_take(flow, number)) {
		flow->count.reordered++;
		return true;
	}
	snprintf(why, sizeof(why), "frame %" PRIu64 " came a second time", number);
	mismatch(flow, why);
	flow->count.repeated++;
	return false;
}

static void
receive(struct frames_flow *flow, const struct frames_options *options,
	const struct rte_mbuf *frame)
{
	char why[sizeof(flow->why)];
	uint64_t number;

	switch (frames_check(options, frame, flow->queue, &number, why, sizeof(why))) {
	case FRAMES_RIGHT:
		if (number >= flow->next) {
			snprintf(why, sizeof(why),
				"frame %" PRIu64 " came before it was sent: "
				"another run's frame",
				number);
			mismatch(flow, why);
			flow->count.changed++;
		} else if (arrived(flow, number)) {
			flow->count.received++;
			flow->count.received_bytes += frame->pkt_len;
		}
		break;
	case FRAMES_CHANGED:
		mismatch(flow, why);
		flow->count.changed++;
		if (number >= flow->expected && number < flow->next)
			arrived(flow, number);
		break;
	case FRAMES_MISROUTED:
		mismatch(flow, why);
		flow->count.misrouted++;
		break;
	}
}

static uint16_t
receive_burst(struct frames_flow *flow, const struct frames_port *port,
	const struct frames_options *options)
{
	struct rte_mbuf *frames[FRAMES_BURST_MAX];
	uint16_t nr, i;

	nr = rte_eth_rx_burst(port->id, flow->queue, frames, options->burst);
	if (options->latency && nr > 0)
		frames_latency_back(&flow->latency);
	for (i = 0; i < nr; i++) {
		if (i + 1 < nr)
			rte_prefetch0(rte_pktmbuf_mtod(frames[i + 1], void *));
		receive(flow, options, frames[i]);
		rte_pktmbuf_free(frames[i]);
	}
	if (nr > 0)
		flow->last_rx_cycles = rte_get_timer_cycles();
	return nr;
}

static void
build_burst(struct frames_flow *flow, const struct frames_port *port,
	const struct frames_options *options)
{
	struct rte_mbuf *frame;

	if (options->latency && !frames_latency_due(flow, options))
		return;
	while (flow->nr_pending < options->burst && flow->next - flow->expected < port->inflight &&
		(options->nr_frames == 0 || flow->next < options->nr_frames)) {
		frame = frames_build(options, port->tx_pool, flow->queue, flow->next);
		if (frame == NULL)
			return;
		flow->pending[flow->nr_pending++] = frame;
		flow->next++;
	}
}

static uint16_t
send_pending(struct frames_flow *flow, const struct frames_port *port)
{
	uint16_t nr;

	if (flow->nr_pending == 0)
		return 0;
	frames_latency_sent(&flow->latency);
	nr = rte_eth_tx_burst(port->id, flow->queue, flow->pending, flow->nr_pending);
	flow->nr_pending -= nr;
	flow->count.sent += nr;
	memmove(flow->pending, &flow->pending[nr], flow->nr_pending * sizeof(flow->pending[0]));
	return nr;
}

/* What was built and not taken by the driver was never sent: forget it. */
static void
drop_pending(struct frames_flow *flow)
{
	rte_pktmbuf_free_bulk(flow->pending, flow->nr_pending);
	flow->next -= flow->nr_pending;
	flow->nr_pending = 0;
}

unsigned int
frames_flow_step(struct frames_flow *flow, const struct frames_port *port,
	const struct frames_options *options, bool sending)
{
	unsigned int nr = receive_burst(flow, port, options);

	if (sending)
		build_burst(flow, port, options);
	else if (flow->nr_pending > 0)
		drop_pending(flow);
	return nr + send_pending(flow, port);
}

/* The flow ends here: nothing comes any more. */
static void
close_books(struct frames_flow *flow, double timeout_s)
{
	char why[sizeof(flow->why)];

	if (flow->expected < flow->next) {
		snprintf(why, sizeof(why),
			"nothing came for %.0f s: %" PRIu64 " not back from frame %" PRIu64
			" on, %u not taken by the driver",
			timeout_s, flow->next - flow->expected, flow->expected, flow->nr_pending);
		mismatch(flow, why);
	}
	drop_pending(flow);
	flow->count.lost += flow->next - flow->expected + flow->nr_missing;
	flow->end_cycles = rte_get_timer_cycles();
}

bool
frames_flow_ended(struct frames_flow *flow, const struct frames_options *options, bool sending,
	double timeout_s)
{
	bool all_sent = !sending || (options->nr_frames > 0 && flow->next == options->nr_frames);
	uint64_t quiet_cycles;

	if (flow->end_cycles != 0)
		return true;
	quiet_cycles = rte_get_timer_cycles() - flow->last_rx_cycles;
	if ((all_sent && flow->expected == flow->next && flow->nr_missing == 0) ||
		quiet_cycles > timeout_s * rte_get_timer_hz()) {
		close_books(flow, timeout_s);
		return true;
	}
	return false;
}

bool
frames_flow_failed(const struct frames_flow *flow)
{
	return flow->why[0] != '\0';
}
