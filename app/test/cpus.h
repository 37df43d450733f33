/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef CPUS_H
#define CPUS_H

/**
 * @file
 * CPUs that a test may use.
 */

#include <sched.h>

/** The lowest one. */
static inline int
first_cpu(void)
{
	cpu_set_t set;
	int cpu = 0;

	sched_getaffinity(0, sizeof(set), &set);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

#endif /* CPUS_H */
