/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "daemon.h"

RTE_LOG_REGISTER(vdpad_logtype, vdpa.daemon, INFO);

/* A front end can cause events at will: a device may log so many in a row, then one each second. */
#define BURST      10
#define NR_BUCKETS 256

struct bucket {
	time_t filled_s;
	unsigned int nr_tokens;
	uint64_t nr_left_out;
};

static struct bucket buckets[NR_BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct bucket *
bucket_of(const char *device, enum vdpa_event_type type)
{
	uint32_t hash = 2166136261u + type;

	for (; *device != '\0'; device++)
		hash = (hash ^ (uint8_t)*device) * 16777619u;
	return &buckets[hash % NR_BUCKETS];
}

/* False: leave this line out. left_out: how many were since the last one that was not. */
static bool
allowed(const char *device, enum vdpa_event_type type, uint64_t *left_out)
{
	struct bucket *bucket = bucket_of(device, type);
	struct timespec now;
	uint64_t nr_new;
	bool yes;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	pthread_mutex_lock(&lock);
	nr_new = now.tv_sec - bucket->filled_s;
	bucket->nr_tokens = RTE_MIN(bucket->nr_tokens + nr_new, (uint64_t)BURST);
	bucket->filled_s = now.tv_sec;
	yes = bucket->nr_tokens > 0;
	if (yes) {
		bucket->nr_tokens--;
		*left_out = bucket->nr_left_out;
		bucket->nr_left_out = 0;
	} else {
		bucket->nr_left_out++;
	}
	pthread_mutex_unlock(&lock);
	return yes;
}

static uint32_t
level_of(enum vdpa_event_type type)
{
	switch (type) {
	case VDPA_EVENT_ATTACHED:
	case VDPA_EVENT_DETACHED:
	case VDPA_EVENT_MODE:
	case VDPA_EVENT_SWAPPED:
		return RTE_LOG_INFO;
	case VDPA_EVENT_VQ_FAILED:
		return RTE_LOG_WARNING;
	case VDPA_EVENT_DEVICE_FAILED:
		return RTE_LOG_ERR;
	case VDPA_EVENT_STARTED:
	case VDPA_EVENT_STOPPED:
		break;
	}
	return RTE_LOG_DEBUG;
}

static void
on_event(enum vdpa_event_type type, const char *device, const char *text, void *arg)
{
	uint32_t level = level_of(type);
	uint64_t left_out = 0;

	RTE_SET_USED(arg);
	if (!rte_log_can_log(vdpad_logtype, level) || !allowed(device, type, &left_out))
		return;
	if (left_out > 0)
		rte_log(level, vdpad_logtype,
			"dpdk-vdpa: %s: %" PRIu64 " lines like the next were left out\n", device,
			left_out);
	rte_log(level, vdpad_logtype, "dpdk-vdpa: %s: %s\n", device, text);
}

static bool
vhost_log_wanted(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strstr(argv[i], "vhost") != NULL &&
			(strstr(argv[i], "log-level") != NULL ||
				strcmp(argv[i - 1], "--log-level") == 0))
			return true;
	return false;
}

void
vdpad_events_start(int argc, char **argv)
{
	/* Its error lines come with every message: our dev_conf fails by design. */
	if (!vhost_log_wanted(argc, argv))
		rte_log_set_level_pattern("lib.vhost.*", RTE_LOG_CRIT);
	vdpa_event_listen(on_event, NULL);
}
