/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_TIMES_H
#define VDPA_TIMES_H

/**
 * @file
 * How long things took, without keeping each of them: a histogram whose buckets are an eighth of
 * their octave, from 64 ns to a minute.
 */

#include <stdint.h>

#define VDPA_TIMES_FIRST   6 /* 2^6 ns */
#define VDPA_TIMES_OCTAVES 30
#define VDPA_TIMES_BUCKETS (8 * VDPA_TIMES_OCTAVES)

struct vdpa_times {
	uint64_t nr, last_ns, min_ns, max_ns;
	uint32_t buckets[VDPA_TIMES_BUCKETS];
};

struct vdpa_time_stat;

/** CLOCK_MONOTONIC. */
uint64_t vdpa_now_ns(void);
void vdpa_times_add(struct vdpa_times *times, uint64_t ns);
void vdpa_times_stat(const struct vdpa_times *times, struct vdpa_time_stat *stat);

#endif /* VDPA_TIMES_H */
