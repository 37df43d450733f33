/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_TIMES_H
#define VDPA_TIMES_H

/**
 * @file
 * How long things took, without keeping each of them: a histogram whose buckets are an eighth of
 * their octave, from 64 ns to a minute. And how long to wait for another thread.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

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

#define VDPA_TICK_NS UINT64_C(25000000)

/**
 * A wait for another thread is made of ticks, and each counts as one however long it took: on a
 * machine that stood still, or has no processor free, who waits is kept back as well as who is
 * waited for, and a deadline by the clock would pass with nothing done.
 */
struct vdpa_patience {
	struct timespec tick_end; /* CLOCK_MONOTONIC */
	uint32_t nr_ticks;        /* more, after this one */
};

void vdpa_patience_begin(struct vdpa_patience *patience, uint32_t ms);
/** This tick is over: begin the next. false: none is left. */
bool vdpa_patience_next(struct vdpa_patience *patience);
/** pthread_cond_wait(). 0: look at what is waited for; -ETIMEDOUT: all ticks are over */
int vdpa_patience_wait(
	struct vdpa_patience *patience, pthread_cond_t *cond, pthread_mutex_t *mutex);

#endif /* VDPA_TIMES_H */
