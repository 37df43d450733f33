/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_common.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

/**
 * @file
 * vdpa-frames: sends numbered frames of known content through an ethdev whose far end loops them
 * back, and checks that none is lost, changed or reordered within a queue.
 *
 * One `frames_flow` is one queue pair; one lcore owns it for the whole run, so nothing in it is
 * locked. What a frame must look like follows from (seed, queue, number) alone: no frame that was
 * sent is kept to compare with.
 */

#define FRAMES_QUEUES_MAX 128
#define FRAMES_BURST_MAX 128
#define FRAMES_RANGES_MAX 32
#define FRAMES_SEGMENTS_MAX 16
/* Ethernet header, then struct frames_tag of pattern.c. */
#define FRAMES_HEADER_BYTES 34
#define FRAMES_LENGTH_MIN 60
#define FRAMES_LENGTH_MAX 9600
/* Numbers so far behind the expected one are no longer remembered as missing. A power of two. */
#define FRAMES_WINDOW 65536

/** Lengths that frames take, both ends included. */
struct frames_range {
	uint16_t low_bytes;
	uint16_t high_bytes;
};

/** What the command line asks for. Written before the lcores start, read-only then. */
struct frames_options {
	uint64_t nr_frames;		/**< a queue; 0: until a signal comes */
	uint64_t seed;
	struct frames_range ranges[FRAMES_RANGES_MAX];
	uint16_t nr_ranges;
	uint16_t nr_queues;
	uint16_t nr_segments_max;
	uint16_t burst;
	uint16_t ring_size;
	uint16_t buffer_bytes;		/**< room of a receive mbuf; 0: chosen by the port */
	uint32_t inflight;		/**< frames a queue; 0: chosen by the port */
	uint32_t timeout_s;
	const char *port_name;		/**< NULL: the only port there is */
	bool latency;			/**< time each frame there and back, one at a time */
	uint32_t gap_us;		/**< between a frame's return and the next one */
	bool progress;
	bool json;
};

/* Times of frames there and back, by tenths of a microsecond; longer ones stand in the last. */
#define FRAMES_LATENCY_BUCKETS 100000
struct frames_latency {
	uint64_t sent_cycles;		/**< 0: none is under way */
	uint64_t nr;
	uint32_t tenths[FRAMES_LATENCY_BUCKETS];
};

/** Where the frames go. Filled by frames_port_open(). */
struct frames_port {
	uint16_t id;
	bool mergeable;			/**< a frame may come back in several buffers */
	uint32_t inflight;
	uint16_t buffer_bytes;
	struct rte_mempool *rx_pool;
	struct rte_mempool *tx_pool;
};

/** What became of the frames of one queue. Written by the lcore that owns the flow. */
struct frames_count {
	uint64_t sent;
	uint64_t received;		/**< right ones, late ones included */
	uint64_t received_bytes;
	uint64_t changed;
	uint64_t reordered;
	uint64_t repeated;
	uint64_t misrouted;
	uint64_t lost;			/**< known when the flow has ended */
};

struct frames_flow {
	uint16_t queue;
	uint16_t nr_pending;
	uint64_t next;			/**< number of the next frame to build */
	uint64_t expected;		/**< number of the next frame to arrive */
	uint64_t start_cycles;
	uint64_t last_rx_cycles;
	uint64_t end_cycles;		/**< 0 while it runs */
	struct frames_count count;
	struct rte_mbuf *pending[FRAMES_BURST_MAX];
	uint64_t missing[FRAMES_WINDOW / 64];	/**< skipped numbers, each may still come late */
	uint32_t nr_missing;
	struct frames_latency latency;
	char why[256];			/**< the first mismatch in words; empty: none */
} __attribute__((aligned(RTE_CACHE_LINE_SIZE)));

/** The verdict about one frame. */
enum frames_verdict {
	FRAMES_RIGHT,			/**< whole, and its number is in *number */
	FRAMES_CHANGED,
	FRAMES_MISROUTED,		/**< whole, but of another queue */
};

/* options.c */

/**
 * Read the program's own options (what follows `--`).
 *
 * @return 0; 1 when --help was asked for; -EINVAL after a message on stderr that names the option.
 */
int frames_options_parse(int argc, char **argv, struct frames_options *options);
void frames_usage(FILE *out);
uint16_t frames_longest_bytes(const struct frames_options *options);

/* pattern.c */

/** Make the content that all frames are cut from. Must come before any other call here. */
void frames_pattern_init(const struct frames_options *options);

/**
 * Build frame `number` of `queue` in mbufs of `pool`.
 *
 * @return the frame, or NULL when the pool is empty (try again when frames have been sent).
 */
struct rte_mbuf *frames_build(const struct frames_options *options, struct rte_mempool *pool,
			      uint16_t queue, uint64_t number);

/**
 * Compare a frame that arrived on `queue` with what was sent under its number.
 *
 * @param number  which frame it is; UINT64_MAX: that cannot be told
 * @param why     words about what is wrong, of size `size`; untouched with FRAMES_RIGHT
 */
enum frames_verdict frames_check(const struct frames_options *options, const struct rte_mbuf *frame,
				 uint16_t queue, uint64_t *number, char *why, size_t size);

/* port.c */

/**
 * Configure and start the port: queues, MTU for the longest frame, buffers, frames in flight.
 *
 * @return 0, or a negative errno after a message on stderr that says what to change.
 */
int frames_port_open(const struct frames_options *options, struct frames_port *port);
/** Stop and close; takes a port that was opened in part. */
void frames_port_close(struct frames_port *port);

/* flow.c */

void frames_flow_init(struct frames_flow *flow, uint16_t queue);

/**
 * Receive and check a burst, then build and send one. To be called by the owning lcore only.
 *
 * @param sending  false: send no new frame, only take back what is under way
 * @return frames moved; 0: nothing to do just now
 */
unsigned int frames_flow_step(struct frames_flow *flow, const struct frames_port *port,
			      const struct frames_options *options, bool sending);

/**
 * Whether the flow has ended: all is back, or nothing came for `timeout_s`.
 * The first call that says true counts what is missing as lost and stops the clock.
 */
bool frames_flow_ended(struct frames_flow *flow, const struct frames_options *options,
		       bool sending, double timeout_s);
bool frames_flow_failed(const struct frames_flow *flow);

/* latency.c */

/** May the next frame be built now? */
bool frames_latency_due(const struct frames_flow *flow, const struct frames_options *options);
/** Microseconds that `percent` of the frames took at most; 0: none was timed. */
double frames_latency_us(const struct frames_latency *latency, double percent);
void frames_latency_sent(struct frames_latency *latency);
void frames_latency_back(struct frames_latency *latency);

/* report.c */

void frames_progress(const struct frames_flow *flows, uint16_t nr_flows);

/** Print the result as a table or as JSON; returns the exit code, 0 or 1. */
int frames_report(const struct frames_flow *flows, const struct frames_options *options,
		  const struct frames_port *port, bool interrupted);

#endif /* FRAMES_H */
