/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_version.h>

#include "perf.h"

#define CALIBRATE_US 20000

static void
cpu_model(char *text, size_t size)
{
	FILE *in = fopen("/proc/cpuinfo", "r");
	char line[256];

	snprintf(text, size, "unknown processor");
	if (in == NULL)
		return;
	while (fgets(line, sizeof(line), in) != NULL) {
		const char *value = strstr(line, ": ");

		if (strncmp(line, "model name", 10) != 0 || value == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(text, size, "%s", value + 2);
		break;
	}
	fclose(in);
}

void
perf_machine(struct perf_machine *machine)
{
	const char *version = rte_version();
	time_t now = time(NULL);
	struct utsname name;
	struct tm utc;

	cpu_model(machine->cpu, sizeof(machine->cpu));
	machine->nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	machine->dpdk = strncmp(version, "DPDK ", 5) == 0 ? version + 5 : version;
	uname(&name);
	snprintf(machine->kernel, sizeof(machine->kernel), "%s", name.release);
	gmtime_r(&now, &utc);
	strftime(machine->date, sizeof(machine->date), "%Y-%m-%d %H:%M:%S", &utc);
}

uint64_t
perf_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

double
perf_tsc_hz(void)
{
	static double hz;
	uint64_t from_us, us, from;

	if (hz != 0)
		return hz;
	from_us = perf_now_us();
	from = rte_rdtsc();
	do
		us = perf_now_us() - from_us;
	while (us < CALIBRATE_US);
	hz = (double)(rte_rdtsc() - from) * 1e6 / (double)us;
	return hz;
}

int
perf_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : -errno;
}

void
perf_cpus(int *first, int *last)
{
	cpu_set_t set;

	*first = *last = 0;
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return;
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		*first = cpu;
		if (*last == 0)
			*last = cpu;
	}
}
