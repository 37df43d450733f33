/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * The checking program against a back end that cheats: net_ring hands every frame back as it is,
 * and a receive callback does to one of them what must be noticed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>

#include "frames/frames.h"

#define VICTIM 100
/* argv is not const, and nobody writes to it */
#define ARG(text) ((char *)(uintptr_t)(text))

enum cheat {
	HONEST,
	DROP,
	SWAP,
	FLIP_BODY,
	FLIP_HEADER,
	CUT,
	REPEAT,
	DELAY,
	MISROUTE,
	SWALLOW_ALL,
};

static enum cheat cheat;
static uint64_t nr_seen[2];
static struct rte_mbuf *held;
static unsigned int held_for;

static uint16_t
remove_at(struct rte_mbuf **frames, uint16_t nr, uint16_t at)
{
	memmove(&frames[at], &frames[at + 1], (nr - at - 1) * sizeof(*frames));
	return nr - 1;
}

static uint16_t
insert_at(struct rte_mbuf **frames, uint16_t nr, uint16_t at, struct rte_mbuf *frame)
{
	memmove(&frames[at + 1], &frames[at], (nr - at) * sizeof(*frames));
	frames[at] = frame;
	return nr + 1;
}

static uint16_t
spoil(struct rte_mbuf **frames, uint16_t nr, uint16_t at)
{
	struct rte_mbuf *victim = frames[at];

	switch (cheat) {
	case DROP:
		rte_pktmbuf_free(victim);
		return remove_at(frames, nr, at);
	case SWAP:
		assert_true(at + 1 < nr);
		frames[at] = frames[at + 1];
		frames[at + 1] = victim;
		return nr;
	case FLIP_BODY:
		*rte_pktmbuf_mtod_offset(victim, uint8_t *, 57) ^= 1;
		return nr;
	case FLIP_HEADER:
		*rte_pktmbuf_mtod_offset(victim, uint8_t *, 3) ^= 0x80;
		return nr;
	case CUT:
		rte_pktmbuf_trim(victim, 1);
		return nr;
	case REPEAT:
		rte_mbuf_refcnt_update(victim, 1);
		return insert_at(frames, nr, at, victim);
	case DELAY:
	case MISROUTE:
		held = victim;
		held_for = 3;
		return remove_at(frames, nr, at);
	default:
		return nr;
	}
}

static uint16_t
on_receive(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t nr, uint16_t nr_max,
	void *arg)
{
	uint16_t had = nr;

	(void)port;
	(void)arg;
	if (cheat == SWALLOW_ALL) {
		rte_pktmbuf_free_bulk(frames, nr);
		return 0;
	}
	if (held != NULL && cheat == MISROUTE && queue == 1 && nr > 0) {
		rte_pktmbuf_free(frames[0]);
		frames[0] = held;
		held = NULL;
		return nr;
	}
	if (held != NULL && cheat == DELAY && nr < nr_max && held_for-- == 0) {
		nr = insert_at(frames, nr, 0, held);
		held = NULL;
		return nr;
	}
	if (queue == 0 && nr_seen[0] <= VICTIM && VICTIM < nr_seen[0] + nr)
		nr = spoil(frames, nr, VICTIM - nr_seen[0]);
	nr_seen[queue] += had;
	return nr;
}

struct outcome {
	struct frames_count count[2];
	char why[2][256];
	double seconds;
};

static void
drive(struct frames_flow *flows, const struct frames_port *port,
	const struct frames_options *options)
{
	bool sending = true, live = true;
	uint16_t i;

	while (live) {
		live = false;
		for (i = 0; i < options->nr_queues; i++) {
			if (flows[i].end_cycles != 0)
				continue;
			frames_flow_step(&flows[i], port, options, sending);
			if (frames_flow_failed(&flows[i]))
				sending = false;
			if (!frames_flow_ended(&flows[i], options, sending,
				    sending ? options->timeout_s : 0.2))
				live = true;
		}
	}
}

static void
run(enum cheat how, const char *const *arguments, struct outcome *outcome)
{
	static struct frames_flow flows[2];
	const struct rte_eth_rxtx_callback *callbacks[2];
	static unsigned int nr_runs;
	char *argv[16] = {ARG("vdpa-frames")}, name[32];
	struct frames_options options;
	struct frames_port port;
	int argc = 1, i;
	uint64_t start;

	while (arguments[argc - 1] != NULL) {
		argv[argc] = ARG(arguments[argc - 1]);
		argc++;
	}
	assert_int_equal(frames_options_parse(argc, argv, &options), 0);
	frames_pattern_init(&options);
	snprintf(name, sizeof(name), "net_ring%u", nr_runs++);
	assert_int_equal(rte_eal_hotplug_add("vdev", name, ""), 0);
	assert_int_equal(frames_port_open(&options, &port), 0);
	cheat = how;
	memset(nr_seen, 0, sizeof(nr_seen));
	for (i = 0; i < options.nr_queues; i++) {
		callbacks[i] = rte_eth_add_rx_callback(port.id, i, on_receive, NULL);
		assert_non_null(callbacks[i]);
		frames_flow_init(&flows[i], i);
	}
	start = rte_get_timer_cycles();
	drive(flows, &port, &options);
	outcome->seconds = (double)(rte_get_timer_cycles() - start) / rte_get_timer_hz();
	for (i = 0; i < options.nr_queues; i++) {
		outcome->count[i] = flows[i].count;
		memcpy(outcome->why[i], flows[i].why, sizeof(outcome->why[i]));
		assert_int_equal(rte_eth_remove_rx_callback(port.id, i, callbacks[i]), 0);
	}
	assert_null(held);
	frames_port_close(&port);
	assert_int_equal(rte_eal_hotplug_remove("vdev", name), 0);
}

#define RUN(how, outcome, ...) run(how, (const char *const[]){__VA_ARGS__, NULL}, outcome)
#define USUAL                  "--frames", "5000", "--sizes", "64-1518", "--seed", "7"

static void
assert_clean(const struct outcome *outcome, unsigned int queue, uint64_t nr)
{
	const struct frames_count *c = &outcome->count[queue];

	assert_string_equal(outcome->why[queue], "");
	assert_int_equal(c->sent, nr);
	assert_int_equal(c->received, nr);
	assert_int_equal(c->lost + c->changed + c->reordered + c->repeated + c->misrouted, 0);
}

static void
honest_back_end_passes_with_every_size_and_cut(void **state)
{
	struct outcome o;

	(void)state;
	RUN(HONEST, &o, USUAL);
	assert_clean(&o, 0, 5000);
	RUN(HONEST, &o, "--frames", "20000", "--sizes", "60-9600", "--segments", "16", "--queues",
		"2", "--burst", "7");
	assert_clean(&o, 0, 20000);
	assert_clean(&o, 1, 20000);
	RUN(HONEST, &o, "--frames", "1000", "--sizes", "60,61,9600,100-101", "--inflight", "1");
	assert_clean(&o, 0, 1000);
}

static void
dropped_frame_is_told_as_lost(void **state)
{
	struct outcome o;

	(void)state;
	RUN(DROP, &o, USUAL);
	assert_int_equal(o.count[0].lost, 1);
	assert_int_equal(o.count[0].reordered, 0);
	assert_non_null(strstr(o.why[0], "frame 101 came where 100 was due"));
}

static void
dropped_last_frame_is_told_after_the_timeout(void **state)
{
	struct outcome o;

	(void)state;
	RUN(DROP, &o, "--frames", "101", "--timeout-s", "1");
	assert_int_equal(o.count[0].lost, 1);
	assert_int_equal(o.count[0].received, 100);
	assert_non_null(strstr(o.why[0], "1 not back from frame 100 on"));
	/* the upper bound leaves room for a machine that does other things too */
	assert_true(o.seconds >= 1 && o.seconds < 9);
}

static void
swapped_and_late_frames_are_told_as_reordered(void **state)
{
	struct outcome o;

	(void)state;
	RUN(SWAP, &o, USUAL);
	assert_int_equal(o.count[0].reordered, 1);
	assert_int_equal(o.count[0].lost, 0);
	assert_int_equal(o.count[0].received, o.count[0].sent);
	RUN(DELAY, &o, USUAL);
	assert_int_equal(o.count[0].reordered, 1);
	assert_int_equal(o.count[0].lost, 0);
}

static void
changed_byte_is_told_with_its_place(void **state)
{
	struct outcome o;

	(void)state;
	RUN(FLIP_BODY, &o, USUAL);
	assert_int_equal(o.count[0].changed, 1);
	assert_int_equal(o.count[0].lost, 0);
	assert_non_null(strstr(o.why[0], "frame 100 of"));
	assert_non_null(strstr(o.why[0], "first at byte 57"));
	RUN(FLIP_HEADER, &o, USUAL);
	assert_int_equal(o.count[0].changed, 1);
	assert_non_null(strstr(o.why[0], "first at byte 3"));
}

static void
shortened_frame_is_told_as_changed(void **state)
{
	struct outcome o;

	(void)state;
	RUN(CUT, &o, "--frames", "5000", "--sizes", "100");
	assert_int_equal(o.count[0].changed, 1);
	assert_non_null(strstr(o.why[0], "frame 100 came with 99 bytes, was sent with 100"));
}

static void
repeated_frame_is_told(void **state)
{
	struct outcome o;

	(void)state;
	RUN(REPEAT, &o, USUAL);
	assert_int_equal(o.count[0].repeated, 1);
	assert_int_equal(o.count[0].received, o.count[0].sent);
	assert_non_null(strstr(o.why[0], "frame 100 came a second time"));
}

static void
frame_of_another_queue_is_told(void **state)
{
	struct outcome o;

	(void)state;
	RUN(MISROUTE, &o, USUAL, "--queues", "2");
	assert_int_equal(o.count[1].misrouted, 1);
	assert_int_equal(o.count[0].lost, 1);
	assert_int_equal(o.count[1].lost, 1);
	assert_non_null(strstr(o.why[1], "frame 100 of queue 0 came on queue 1"));
}

static void
silent_back_end_is_given_up(void **state)
{
	struct outcome o;

	(void)state;
	RUN(SWALLOW_ALL, &o, USUAL, "--timeout-s", "1");
	assert_int_equal(o.count[0].received, 0);
	assert_int_equal(o.count[0].lost, o.count[0].sent);
	assert_non_null(strstr(o.why[0], "nothing came for 1 s"));
	/* the upper bound leaves room for a machine that does other things too */
	assert_true(o.seconds >= 1 && o.seconds < 9);
}

static int
parse(const char *name, const char *value)
{
	char *argv[] = {ARG("vdpa-frames"), ARG(name), ARG(value), NULL};
	struct frames_options options;

	return frames_options_parse(value != NULL ? 3 : 2, argv, &options);
}

static void
bad_options_are_refused(void **state)
{
	static const char *const bad[][2] = {
		{"--sizes", "59"},
		{"--sizes", "9601"},
		{"--sizes", "100-64"},
		{"--sizes", ""},
		{"--sizes", "64,x"},
		{"--sizes", "64-"},
		{"--queues", "0"},
		{"--queues", "129"},
		{"--burst", "129"},
		{"--segments", "17"},
		{"--frames", "-1"},
		{"--frames", "1e6"},
		{"--inflight", "0"},
		{"--timeout-s", "0"},
		{"--colour", "red"},
		{"stray", NULL},
	};
	size_t i;

	(void)state;
	for (i = 0; i < RTE_DIM(bad); i++)
		assert_int_equal(parse(bad[i][0], bad[i][1]), -EINVAL);
	assert_int_equal(parse("--help", NULL), 1);
	assert_int_equal(parse("--sizes", "60-9600"), 0);
}

static int
start_eal(void **state)
{
	char prefix[32];
	char *argv[] = {ARG("test_frames"), ARG("--no-huge"), ARG("-m"), ARG("160"),
		ARG("--no-pci"), ARG("--no-telemetry"), ARG("-l"), ARG("0"), ARG("--file-prefix"),
		prefix};

	(void)state;
	snprintf(prefix, sizeof(prefix), "test_frames%d", (int)getpid());
	return rte_eal_init(RTE_DIM(argv), argv) < 0;
}

static int
end_eal(void **state)
{
	(void)state;
	return rte_eal_cleanup();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_options_are_refused),
		cmocka_unit_test(honest_back_end_passes_with_every_size_and_cut),
		cmocka_unit_test(dropped_frame_is_told_as_lost),
		cmocka_unit_test(dropped_last_frame_is_told_after_the_timeout),
		cmocka_unit_test(swapped_and_late_frames_are_told_as_reordered),
		cmocka_unit_test(changed_byte_is_told_with_its_place),
		cmocka_unit_test(shortened_frame_is_told_as_changed),
		cmocka_unit_test(repeated_frame_is_told),
		cmocka_unit_test(frame_of_another_queue_is_told),
		cmocka_unit_test(silent_back_end_is_given_up),
	};

	return cmocka_run_group_tests(tests, start_eal, end_eal);
}
