/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <time.h>

#include <rte_common.h>

#include "vdpa_consumer.h"
#include "vdpa_times.h"

uint64_t
vdpa_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

static struct timespec
after_ns(uint64_t ns)
{
	ns += vdpa_now_ns();
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

void
vdpa_patience_begin(struct vdpa_patience *patience, uint32_t ms)
{
	uint64_t ns = ms * UINT64_C(1000000);

	patience->tick_end = after_ns(ns % VDPA_TICK_NS);
	patience->nr_ticks = ns / VDPA_TICK_NS;
}

bool
vdpa_patience_next(struct vdpa_patience *patience)
{
	if (patience->nr_ticks == 0)
		return false;
	patience->nr_ticks--;
	patience->tick_end = after_ns(VDPA_TICK_NS);
	return true;
}

int
vdpa_patience_wait(struct vdpa_patience *patience, pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	int rc = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &patience->tick_end);

	return rc == ETIMEDOUT && !vdpa_patience_next(patience) ? -ETIMEDOUT : 0;
}

/* The octave, and the three bits below its leading one. */
static unsigned int
bucket_of(uint64_t ns)
{
	unsigned int octave;

	if (ns < UINT64_C(1) << VDPA_TIMES_FIRST)
		return 0;
	octave = 63 - __builtin_clzll(ns);
	if (octave >= VDPA_TIMES_FIRST + VDPA_TIMES_OCTAVES)
		return VDPA_TIMES_BUCKETS - 1;
	return (octave - VDPA_TIMES_FIRST) * 8 + (ns >> (octave - 3) & 7);
}

static uint64_t
bucket_end(unsigned int bucket)
{
	return (UINT64_C(9) + bucket % 8) << (bucket / 8 + VDPA_TIMES_FIRST - 3);
}

void
vdpa_times_add(struct vdpa_times *times, uint64_t ns)
{
	times->min_ns = times->nr == 0 ? ns : RTE_MIN(times->min_ns, ns);
	times->max_ns = RTE_MAX(times->max_ns, ns);
	times->last_ns = ns;
	times->nr++;
	times->buckets[bucket_of(ns)]++;
}

/* The smallest bound that so many of a thousand do not pass. */
static uint64_t
quantile(const struct vdpa_times *times, unsigned int permille)
{
	uint64_t wanted = (times->nr * permille + 999) / 1000, seen = 0;

	for (unsigned int i = 0; i < VDPA_TIMES_BUCKETS; i++) {
		seen += times->buckets[i];
		if (seen >= wanted)
			return RTE_MIN(RTE_MAX(bucket_end(i), times->min_ns), times->max_ns);
	}
	return times->max_ns;
}

void
vdpa_times_stat(const struct vdpa_times *times, struct vdpa_time_stat *stat)
{
	*stat = (struct vdpa_time_stat){
		.nr = times->nr,
		.last_ns = times->last_ns,
		.min_ns = times->min_ns,
		.median_ns = quantile(times, 500),
		.p99_ns = quantile(times, 990),
		.max_ns = times->max_ns,
	};
}
