/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <rte_cycles.h>

#include "probe.h"
#include "vdpa_parent.h"

#define PATHS_MAX 64 /* more are not measured */

typedef unsigned int (*poll_fn)(struct vdpa_path *path);

/* One path; counters are written by its worker. */
static struct path_probe {
	struct vdpa_path *path;
	poll_fn poll;
	uint64_t busy_cycles, busy_polls, entries, polls;
} probes[PATHS_MAX];

static struct path_probe *
probe_find(const struct vdpa_path *path)
{
	for (int i = 0; i < PATHS_MAX; i++)
		if (__atomic_load_n(&probes[i].path, __ATOMIC_ACQUIRE) == path)
			return &probes[i];
	return NULL;
}

static void
count(uint64_t *counter, uint64_t nr)
{
	__atomic_store_n(counter, *counter + nr, __ATOMIC_RELAXED);
}

static unsigned int
probe_poll(struct vdpa_path *path)
{
	struct path_probe *probe = probe_find(path);
	uint64_t from = rte_rdtsc();
	unsigned int nr = probe->poll(path);

	if (nr != 0) {
		count(&probe->busy_cycles, rte_rdtsc() - from);
		count(&probe->busy_polls, 1);
		count(&probe->entries, nr);
	}
	count(&probe->polls, 1);
	return nr;
}

static void
probe_place(struct vdpa_path *path)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct path_probe *probe;

	pthread_mutex_lock(&lock);
	probe = probe_find(path);
	if (probe == NULL)
		probe = probe_find(NULL);
	if (probe != NULL && path->poll != probe_poll) {
		probe->poll = path->poll;
		__atomic_store_n(&probe->path, path, __ATOMIC_RELEASE);
		path->poll = probe_poll;
	}
	pthread_mutex_unlock(&lock);
}

int
vdpa_path_add(struct vdpa_path *path, int numa_node)
{
	int (*next)(struct vdpa_path * path, int numa_node);

	*(void **)&next = dlsym(RTLD_NEXT, "vdpa_path_add");
	if (next == NULL)
		return -ENOSYS;
	probe_place(path);
	return next(path, numa_node);
}

void
perf_probe_read(struct perf_probe *sums)
{
	memset(sums, 0, sizeof(*sums));
	for (int i = 0; i < PATHS_MAX; i++) {
		sums->busy_cycles += __atomic_load_n(&probes[i].busy_cycles, __ATOMIC_RELAXED);
		sums->busy_polls += __atomic_load_n(&probes[i].busy_polls, __ATOMIC_RELAXED);
		sums->entries += __atomic_load_n(&probes[i].entries, __ATOMIC_RELAXED);
		sums->polls += __atomic_load_n(&probes[i].polls, __ATOMIC_RELAXED);
	}
}
