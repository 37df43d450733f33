/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frames.h"

enum {
	OPT_FRAMES = 256,
	OPT_QUEUES,
	OPT_SIZES,
	OPT_SEGMENTS,
	OPT_INFLIGHT,
	OPT_BURST,
	OPT_LATENCY,
	OPT_SEED,
	OPT_TIMEOUT,
	OPT_RING,
	OPT_BUFFER,
	OPT_PORT,
	OPT_PROGRESS,
	OPT_JSON,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"frames", required_argument, NULL, OPT_FRAMES},
	{"queues", required_argument, NULL, OPT_QUEUES},
	{"sizes", required_argument, NULL, OPT_SIZES},
	{"segments", required_argument, NULL, OPT_SEGMENTS},
	{"inflight", required_argument, NULL, OPT_INFLIGHT},
	{"burst", required_argument, NULL, OPT_BURST},
	{"latency", required_argument, NULL, OPT_LATENCY},
	{"seed", required_argument, NULL, OPT_SEED},
	{"timeout-s", required_argument, NULL, OPT_TIMEOUT},
	{"ring-size", required_argument, NULL, OPT_RING},
	{"buffer-bytes", required_argument, NULL, OPT_BUFFER},
	{"port", required_argument, NULL, OPT_PORT},
	{"progress", no_argument, NULL, OPT_PROGRESS},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

/* clang-format off */
static const char usage_text[] =
"Usage: vdpa-frames [EAL options] -- [options]\n"
"\n"
"Sends numbered frames of known content to an ethdev whose far end loops each queue back to\n"
"itself, and checks that none is lost, changed or reordered within a queue.\n"
"\n"
"  --frames N        frames a queue pair; 0: until a signal comes (default 200000)\n"
"  --queues N        queue pairs, 1 to 128 (default 1)\n"
"  --sizes LIST      bytes a frame, without checksum: numbers and ranges from 60 to 9600, such as\n"
"                    64-9000 or 64,1518,9000 (default 64-1518)\n"
"  --segments N      cut frames into 1 to N mbufs, N up to 16 (default 1)\n"
"  --inflight N      frames under way on a queue (default: what the receive ring holds for sure)\n"
"  --burst N         frames handed to the driver at once, 1 to 128 (default 32)\n"
"  --latency GAP_US  time each frame there and back, one at a time with a pause between\n"
"  --seed N          what content, sizes and cuts are derived from (default: the time)\n"
"  --timeout-s N     give up when nothing has arrived for so long (default 10)\n"
"  --ring-size N     descriptors a ring, as in the device's queue_size (default 256)\n"
"  --buffer-bytes N  room of a receive buffer (default: 2048 with mergeable buffers, else enough\n"
"                    for the longest frame)\n"
"  --port NAME       the port, where EAL has more than one\n"
"  --progress        a line a second on stderr\n"
"  --json            the result as JSON on stdout in place of the table\n"
"  --help            this text\n"
"\n"
"Exit code: 0 all frames came back right, 1 they did not (the first mismatch is told) or the run\n"
"was interrupted before its last frame, 2 it could not run.\n"
"\n"
"Example, no hugepages and two lcores on one core:\n"
"  vdpa-frames --no-huge -m 256 --no-pci --lcores '0@0,1@0' \\\n"
"      --vdev net_virtio_user0,path=/run/v0.sock,queues=4,queue_size=256 \\\n"
"      -- --queues 4 --sizes 64-9000 --segments 4\n";
/* clang-format on */

void
frames_usage(FILE *out)
{
	fputs(usage_text, out);
}

static int
parse_number(const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || *value < low ||
		*value > high) {
		fprintf(stderr, "--%s %s: must be a number from %" PRIu64 " to %" PRIu64 "\n", name,
			text, low, high);
		return -EINVAL;
	}
	return 0;
}

static int
parse_range(char *text, struct frames_range *range)
{
	char *dash = strchr(text, '-');
	uint64_t low, high;
	int ret;

	if (dash != NULL)
		*dash = '\0';
	ret = parse_number("sizes", text, FRAMES_LENGTH_MIN, FRAMES_LENGTH_MAX, &low);
	if (ret != 0)
		return ret;
	high = low;
	if (dash != NULL) {
		ret = parse_number("sizes", dash + 1, low, FRAMES_LENGTH_MAX, &high);
		if (ret != 0)
			return ret;
	}
	range->low_bytes = low;
	range->high_bytes = high;
	return 0;
}

static int
parse_sizes(const char *text, struct frames_options *options)
{
	char *copy, *rest, *item;
	int ret = 0;

	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	options->nr_ranges = 0;
	for (item = strtok_r(copy, ",", &rest); item != NULL && ret == 0;
		item = strtok_r(NULL, ",", &rest)) {
		if (options->nr_ranges == FRAMES_RANGES_MAX) {
			fprintf(stderr, "--sizes %s: at most %d sizes or ranges\n", text,
				FRAMES_RANGES_MAX);
			ret = -EINVAL;
			break;
		}
		ret = parse_range(item, &options->ranges[options->nr_ranges++]);
	}
	if (ret == 0 && options->nr_ranges == 0) {
		fprintf(stderr, "--sizes %s: must be numbers or ranges, such as 64-9000\n", text);
		ret = -EINVAL;
	}
	free(copy);
	return ret;
}

static void
options_default(struct frames_options *options)
{
	*options = (struct frames_options){
		.nr_frames = 200000,
		.seed = (uint64_t)time(NULL),
		.ranges = {{64, 1518}},
		.nr_ranges = 1,
		.nr_queues = 1,
		.nr_segments_max = 1,
		.burst = 32,
		.ring_size = 256,
		.timeout_s = 10,
	};
}

static int
parse_one(int opt, const char *name, const char *text, struct frames_options *options)
{
	uint64_t value = 0;
	int ret;

	switch (opt) {
	case OPT_FRAMES:
		return parse_number(name, text, 0, UINT64_MAX / 2, &options->nr_frames);
	case OPT_SEED:
		return parse_number(name, text, 0, UINT64_MAX, &options->seed);
	case OPT_SIZES:
		return parse_sizes(text, options);
	case OPT_QUEUES:
		ret = parse_number(name, text, 1, FRAMES_QUEUES_MAX, &value);
		options->nr_queues = value;
		return ret;
	case OPT_SEGMENTS:
		ret = parse_number(name, text, 1, FRAMES_SEGMENTS_MAX, &value);
		options->nr_segments_max = value;
		return ret;
	case OPT_INFLIGHT:
		ret = parse_number(name, text, 1, FRAMES_WINDOW / 2, &value);
		options->inflight = value;
		return ret;
	case OPT_BURST:
		ret = parse_number(name, text, 1, FRAMES_BURST_MAX, &value);
		options->burst = value;
		return ret;
	case OPT_LATENCY:
		ret = parse_number(name, text, 0, 1000000, &value);
		options->gap_us = value;
		options->latency = true;
		return ret;
	case OPT_TIMEOUT:
		ret = parse_number(name, text, 1, 86400, &value);
		options->timeout_s = value;
		return ret;
	case OPT_RING:
		ret = parse_number(name, text, 2, 32768, &value);
		options->ring_size = value;
		return ret;
	case OPT_BUFFER:
		ret = parse_number(name, text, 64, 16384, &value);
		options->buffer_bytes = value;
		return ret;
	case OPT_PORT:
		options->port_name = text;
		return 0;
	case OPT_PROGRESS:
		options->progress = true;
		return 0;
	case OPT_JSON:
		options->json = true;
		return 0;
	case OPT_HELP:
		return 1;
	}
	return -EINVAL;
}

int
frames_options_parse(int argc, char **argv, struct frames_options *options)
{
	int opt, index = 0, ret;

	options_default(options);
	optind = 1;
	while ((opt = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		if (opt == '?')
			return -EINVAL;
		ret = parse_one(opt, long_options[index].name, optarg, options);
		if (ret != 0)
			return ret;
	}
	if (optind < argc) {
		fprintf(stderr, "%s: no such argument; --help lists the options\n", argv[optind]);
		return -EINVAL;
	}
	if (options->latency)
		options->inflight = options->burst = 1;
	return 0;
}

uint16_t
frames_longest_bytes(const struct frames_options *options)
{
	uint16_t i, longest = 0;

	for (i = 0; i < options->nr_ranges; i++)
		longest = RTE_MAX(longest, options->ranges[i].high_bytes);
	return longest;
}
