/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>

#include <jansson.h>

#include <rte_cycles.h>

#include "frames.h"

static double
seconds(const struct frames_flow *flow)
{
	uint64_t from = flow->start_cycles;
	uint64_t to = flow->last_rx_cycles > from ? flow->last_rx_cycles : flow->end_cycles;

	return (double)(to - from) / rte_get_timer_hz();
}

static double
per_second(double amount, const struct frames_flow *flow)
{
	double s = seconds(flow);

	return s > 0 ? amount / s : 0;
}

static uint64_t
add_up(const struct frames_flow *flows, uint16_t nr_flows, uint64_t *sent)
{
	uint64_t received = 0;
	uint16_t i;

	*sent = 0;
	for (i = 0; i < nr_flows; i++) {
		received += flows[i].count.received;
		*sent += flows[i].count.sent;
	}
	return received;
}

void
frames_progress(const struct frames_flow *flows, uint16_t nr_flows)
{
	uint64_t sent, received = add_up(flows, nr_flows, &sent);

	fprintf(stderr, "progress: %" PRIu64 " frames sent, %" PRIu64 " back\n", sent, received);
}

static const struct frames_flow *
first_failed(const struct frames_flow *flows, uint16_t nr_flows)
{
	uint16_t i;

	for (i = 0; i < nr_flows; i++)
		if (frames_flow_failed(&flows[i]))
			return &flows[i];
	return NULL;
}

static json_t *
flow_json(const struct frames_flow *flow)
{
	const struct frames_count *c = &flow->count;

	return json_pack("{si sI sI sI sI sI sI sI sI sf sf sf sf ss}", "queue", (int)flow->queue,
		"sent", (json_int_t)c->sent, "received", (json_int_t)c->received, "received_bytes",
		(json_int_t)c->received_bytes, "lost", (json_int_t)c->lost, "changed",
		(json_int_t)c->changed, "reordered", (json_int_t)c->reordered, "repeated",
		(json_int_t)c->repeated, "misrouted", (json_int_t)c->misrouted, "seconds",
		seconds(flow), "frames_per_second", per_second(c->received, flow), "median_us",
		frames_latency_us(&flow->latency, 50), "p99_us",
		frames_latency_us(&flow->latency, 99), "why", flow->why);
}

static void
print_json(const struct frames_flow *flows, const struct frames_options *options,
	const struct frames_port *port, bool ok, const char *why)
{
	json_t *queues = json_array(), *top;
	uint64_t sent, received = add_up(flows, options->nr_queues, &sent);
	uint16_t i;

	for (i = 0; i < options->nr_queues; i++)
		json_array_append_new(queues, flow_json(&flows[i]));
	top = json_pack("{sb ss sI sI sI si sb so}", "ok", (int)ok, "why", why, "seed",
		(json_int_t)options->seed, "sent", (json_int_t)sent, "received",
		(json_int_t)received, "inflight", (int)port->inflight, "mergeable",
		(int)port->mergeable, "queues", queues);
	if (top == NULL || json_dumpf(top, stdout, JSON_COMPACT) != 0)
		fprintf(stderr, "the result cannot be written: out of memory, or stdout is gone\n");
	json_decref(top);
	printf("\n");
}

static void
print_table(const struct frames_flow *flows, const struct frames_options *options)
{
	const struct frames_count *c;
	uint16_t i;

	printf("%5s %12s %12s %10s %8s %6s %8s %10s %9s %10s\n", "queue", "sent", "back",
		"Mframes/s", "Gbit/s", "lost", "changed", "reordered", "repeated", "misrouted");
	for (i = 0; i < options->nr_queues; i++) {
		c = &flows[i].count;
		printf("%5u %12" PRIu64 " %12" PRIu64 " %10.3f %8.3f %6" PRIu64 " %8" PRIu64
		       " %10" PRIu64 " %9" PRIu64 " %10" PRIu64 "\n",
			i, c->sent, c->received, per_second(c->received, &flows[i]) / 1e6,
			per_second(c->received_bytes * 8.0, &flows[i]) / 1e9, c->lost, c->changed,
			c->reordered, c->repeated, c->misrouted);
	}
	for (i = 0; i < options->nr_queues && options->latency; i++)
		printf("queue %u: there and back %.1f us (median), %.1f us (99 %%)\n", i,
			frames_latency_us(&flows[i].latency, 50),
			frames_latency_us(&flows[i].latency, 99));
}

int
frames_report(const struct frames_flow *flows, const struct frames_options *options,
	const struct frames_port *port, bool interrupted)
{
	const struct frames_flow *bad = first_failed(flows, options->nr_queues);
	/* A run without an end is meant to be ended by a signal. */
	bool cut_short = interrupted && options->nr_frames > 0;
	bool ok = bad == NULL && !cut_short;
	char why[sizeof(bad->why) + 32] = "";

	if (bad != NULL)
		snprintf(why, sizeof(why), "queue %u: %s", bad->queue, bad->why);
	else if (cut_short)
		snprintf(why, sizeof(why), "interrupted before the last frame");

	if (options->json) {
		print_json(flows, options, port, ok, why);
	} else {
		print_table(flows, options);
		printf("%s (seed %" PRIu64 ", %u in flight)\n",
			ok ? "OK: none lost, changed or reordered" : why, options->seed,
			port->inflight);
	}
	fflush(stdout);
	return ok ? 0 : 1;
}
