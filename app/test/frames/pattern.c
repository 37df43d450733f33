/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>

#include "frames.h"

#define POOL_BYTES 65536
#define TAG_MAGIC  0x76644672
/* IEEE 802 local experimental: no stack answers it. */
#define ETHER_TYPE 0x88b5

/* Follows the Ethernet header; big endian. */
struct frames_tag {
	uint32_t magic;
	uint16_t queue;
	uint16_t length_bytes;
	uint64_t number;
	uint32_t check;
} __attribute__((packed));

/* Every frame's body is a window of this, its place a hash of the frame's number. */
static uint8_t content[POOL_BYTES + FRAMES_LENGTH_MAX];

static uint64_t
mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
	value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
	return value ^ (value >> 31);
}

void
frames_pattern_init(const struct frames_options *options)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < sizeof(content); i += sizeof(word)) {
		word = mix(options->seed ^ (i << 20));
		memcpy(&content[i], &word, RTE_MIN(sizeof(word), sizeof(content) - i));
	}
}

/* All that is to be known about one frame. */
struct plan {
	uint64_t hash;
	uint16_t length_bytes;
	const uint8_t *body;
	uint8_t header[FRAMES_HEADER_BYTES];
};

static void
plan_frame(const struct frames_options *options, uint16_t queue, uint64_t number, struct plan *plan)
{
	static const uint8_t addresses[12] = {
		0x02, 'v', 'd', 'p', 'a', 0x02, 0x02, 'v', 'd', 'p', 'a', 0x01};
	uint64_t hash = mix(mix(options->seed ^ ((uint64_t)queue << 48)) ^ number);
	const struct frames_range *range = &options->ranges[(hash >> 56) % options->nr_ranges];
	struct frames_tag tag;
	uint16_t type = rte_cpu_to_be_16(ETHER_TYPE);

	plan->hash = hash;
	plan->length_bytes = range->low_bytes +
		((hash >> 32) & 0xffffff) % (range->high_bytes - range->low_bytes + 1);
	plan->body = &content[hash % POOL_BYTES];
	tag.magic = rte_cpu_to_be_32(TAG_MAGIC);
	tag.queue = rte_cpu_to_be_16(queue);
	tag.length_bytes = rte_cpu_to_be_16(plan->length_bytes);
	tag.number = rte_cpu_to_be_64(number);
	tag.check = rte_cpu_to_be_32((uint32_t)mix(hash));
	RTE_BUILD_BUG_ON(sizeof(addresses) + sizeof(type) + sizeof(tag) != FRAMES_HEADER_BYTES);
	memcpy(plan->header, addresses, sizeof(addresses));
	memcpy(&plan->header[12], &type, sizeof(type));
	memcpy(&plan->header[14], &tag, sizeof(tag));
}

/* How many bytes of the `left` ones the next of `nr_left` segments takes: at least one each. */
static uint16_t
cut(uint64_t hash, uint16_t segment, uint16_t left, uint16_t nr_left)
{
	if (nr_left == 1)
		return left;
	return 1 + mix(hash + segment) % (left - nr_left + 1);
}

static struct rte_mbuf *
build_chain(struct rte_mempool *pool, const struct plan *plan, uint16_t nr_segments)
{
	uint16_t left = plan->length_bytes - FRAMES_HEADER_BYTES, part, i;
	struct rte_mbuf *segments[FRAMES_SEGMENTS_MAX];
	const uint8_t *from = plan->body;

	if (rte_pktmbuf_alloc_bulk(pool, segments, nr_segments) != 0)
		return NULL;
	memcpy(rte_pktmbuf_append(segments[0], FRAMES_HEADER_BYTES), plan->header,
		FRAMES_HEADER_BYTES);
	for (i = 0; i < nr_segments; i++) {
		part = cut(plan->hash, i, left, nr_segments - i);
		memcpy(rte_pktmbuf_append(segments[i], part), from, part);
		from += part;
		left -= part;
		if (i > 0)
			segments[i - 1]->next = segments[i];
	}
	segments[0]->nb_segs = nr_segments;
	segments[0]->pkt_len = plan->length_bytes;
	return segments[0];
}

struct rte_mbuf *
frames_build(const struct frames_options *options, struct rte_mempool *pool, uint16_t queue,
	uint64_t number)
{
	struct plan plan;

	plan_frame(options, queue, number, &plan);
	return build_chain(pool, &plan, 1 + (plan.hash >> 24) % options->nr_segments_max);
}

/* Compares without a copy; on a mismatch `at` says where the first wrong byte is. */
static bool
same(const struct rte_mbuf *frame, const struct plan *plan, uint32_t *at)
{
	const uint8_t *is;
	uint32_t offset = 0, i;
	uint8_t should;
	uint16_t in_header;

	for (; frame != NULL; offset += frame->data_len, frame = frame->next) {
		is = rte_pktmbuf_mtod(frame, const uint8_t *);
		in_header = offset < FRAMES_HEADER_BYTES
			? RTE_MIN(FRAMES_HEADER_BYTES - offset, frame->data_len)
			: 0;
		if ((in_header == 0 || memcmp(is, &plan->header[offset], in_header) == 0) &&
			(in_header == frame->data_len ||
				memcmp(is + in_header,
					&plan->body[offset + in_header - FRAMES_HEADER_BYTES],
					frame->data_len - in_header) == 0))
			continue;
		for (i = 0; i < frame->data_len; i++) {
			should = offset + i < FRAMES_HEADER_BYTES
				? plan->header[offset + i]
				: plan->body[offset + i - FRAMES_HEADER_BYTES];
			if (is[i] != should)
				break;
		}
		*at = offset + i;
		return false;
	}
	return true;
}

static uint32_t
sum_of_segments(const struct rte_mbuf *frame)
{
	uint32_t bytes = 0;

	for (; frame != NULL; frame = frame->next)
		bytes += frame->data_len;
	return bytes;
}

enum frames_verdict
frames_check(const struct frames_options *options, const struct rte_mbuf *frame, uint16_t queue,
	uint64_t *number, char *why, size_t size)
{
	uint8_t copy[FRAMES_HEADER_BYTES];
	const uint8_t *header;
	struct frames_tag tag;
	struct plan plan;
	uint16_t tag_queue;
	uint32_t at;

	*number = UINT64_MAX;
	if (sum_of_segments(frame) != frame->pkt_len || frame->pkt_len < FRAMES_HEADER_BYTES) {
		snprintf(why, size,
			"a frame of %u bytes came, shorter than any that was sent, "
			"or its segments hold %u",
			frame->pkt_len, sum_of_segments(frame));
		return FRAMES_CHANGED;
	}
	header = rte_pktmbuf_read(frame, 0, FRAMES_HEADER_BYTES, copy);
	memcpy(&tag, header + RTE_ETHER_HDR_LEN, sizeof(tag));
	tag_queue = rte_be_to_cpu_16(tag.queue);
	if (tag.magic != rte_cpu_to_be_32(TAG_MAGIC) || tag_queue >= options->nr_queues) {
		snprintf(why, size,
			"a frame of %u bytes came that is none of ours: its header was "
			"changed, or somebody else sent it",
			frame->pkt_len);
		return FRAMES_CHANGED;
	}
	*number = rte_be_to_cpu_64(tag.number);
	plan_frame(options, tag_queue, *number, &plan);
	if (frame->pkt_len != plan.length_bytes) {
		snprintf(why, size, "frame %" PRIu64 " came with %u bytes, was sent with %u",
			*number, frame->pkt_len, plan.length_bytes);
		return FRAMES_CHANGED;
	}
	if (!same(frame, &plan, &at)) {
		snprintf(why, size, "frame %" PRIu64 " of %u bytes was changed, first at byte %u",
			*number, plan.length_bytes, at);
		return FRAMES_CHANGED;
	}
	if (tag_queue != queue) {
		snprintf(why, size, "frame %" PRIu64 " of queue %u came on queue %u", *number,
			tag_queue, queue);
		return FRAMES_MISROUTED;
	}
	return FRAMES_RIGHT;
}
