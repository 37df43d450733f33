/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_lcore.h>

#include "vdpa_worker.h"

#define NUMA_NODES_MAX 64
#define NUMA_ANY       (-1)

/*
 * Which workers there are, which of them run, and how many paths each has. Never held while a
 * path's worker is waited for: a worker that hangs holds up its own paths and nobody else.
 */
static struct {
	pthread_mutex_t lock;
	struct vdpa_worker *workers;
	unsigned int nr_workers;
	unsigned int nr_keepers; /* workers without paths go on */
	enum vdpa_worker_idle idle;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .idle = VDPA_WORKER_ADAPTIVE};

/* ---- configuration ---- */

static int
cpu_numa_node(int cpu)
{
	char path[80];

	for (int node = 0; node < NUMA_NODES_MAX; node++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
		if (access(path, F_OK) == 0)
			return node;
	}
	return NUMA_ANY;
}

static bool
parse_cpu(const char **text, int *cpu)
{
	char *end;
	long value;

	if (!isdigit((unsigned char)**text))
		return false;
	value = strtol(*text, &end, 10);
	if (value >= CPU_SETSIZE)
		return false;
	*text = end;
	*cpu = value;
	return true;
}

/* "2-3,8" */
static int
parse_cpulist(const char *list, cpu_set_t *cpus)
{
	const char *text = list;
	int first, last;

	CPU_ZERO(cpus);
	for (;;) {
		if (!parse_cpu(&text, &first))
			break;
		last = first;
		if (*text == '-') {
			text++;
			if (!parse_cpu(&text, &last) || last < first)
				break;
		}
		for (; first <= last; first++) {
			if (CPU_ISSET(first, cpus))
				return vdpa_error_set(
					-EINVAL, "workers=%s: CPU %d is named twice", list, first);
			CPU_SET(first, cpus);
		}
		if (*text == '\0')
			return 0;
		if (*text++ != ',')
			break;
	}
	return vdpa_error_set(-EINVAL,
		"workers=%s: expected a list of CPUs like 2-3,8, each below %d", list, CPU_SETSIZE);
}

/* May this process run there? The only way to know (offline, cgroup) is to try. */
static int
check_cpus(const char *list, const cpu_set_t *cpus)
{
	cpu_set_t saved, one;
	int rc = 0;

	if (sched_getaffinity(0, sizeof(saved), &saved) != 0)
		return vdpa_error_set(-errno, "the CPUs of this thread cannot be read");
	for (int cpu = 0; cpu < CPU_SETSIZE && rc == 0; cpu++) {
		if (!CPU_ISSET(cpu, cpus))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) != 0)
			rc = vdpa_error_set(-EINVAL,
				"workers=%s: CPU %d does not exist, is offline or not "
				"allowed to this process",
				list, cpu);
	}
	sched_setaffinity(0, sizeof(saved), &saved);
	return rc;
}

static bool
pool_in_use(void)
{
	for (unsigned int i = 0; i < pool.nr_workers; i++)
		if (pool.workers[i].nr_paths != 0 || atomic_load(&pool.workers[i].running))
			return true;
	return false;
}

static void
pool_free(void)
{
	for (unsigned int i = 0; i < pool.nr_workers; i++)
		pthread_mutex_destroy(&pool.workers[i].post_lock);
	free(pool.workers);
	pool.workers = NULL;
	pool.nr_workers = 0;
}

/* cpus NULL: one worker on the main lcore's. */
static int
pool_create(const cpu_set_t *cpus)
{
	unsigned int nr = cpus != NULL ? CPU_COUNT(cpus) : 1;
	size_t size = nr * sizeof(*pool.workers);
	int cpu = -1;

	pool.workers = aligned_alloc(_Alignof(struct vdpa_worker), size);
	if (pool.workers == NULL)
		return -ENOMEM;
	memset(pool.workers, 0, size);
	for (pool.nr_workers = 0; pool.nr_workers < nr; pool.nr_workers++) {
		struct vdpa_worker *w = &pool.workers[pool.nr_workers];

		if (cpus != NULL) {
			do
				cpu++;
			while (!CPU_ISSET(cpu, cpus));
		}
		w->cpu = cpu;
		w->numa_node = cpu < 0 ? NUMA_ANY : cpu_numa_node(cpu);
		w->epfd = w->wake_fd = -1;
		pthread_mutex_init(&w->post_lock, NULL);
	}
	return 0;
}

int
vdpa_workers_configure(const char *cpulist, enum vdpa_worker_idle idle)
{
	cpu_set_t cpus;
	int rc = 0;

	if (cpulist != NULL) {
		rc = parse_cpulist(cpulist, &cpus);
		if (rc == 0)
			rc = check_cpus(cpulist, &cpus);
		if (rc != 0)
			return rc;
	}
	pthread_mutex_lock(&pool.lock);
	if (pool_in_use()) {
		rc = vdpa_error_set(-EBUSY, "datapath workers run already");
	} else {
		pool_free();
		pool.idle = idle;
		rc = pool_create(cpulist != NULL ? &cpus : NULL);
	}
	pthread_mutex_unlock(&pool.lock);
	return rc;
}

/* ---- threads; pool.lock is held ---- */

/* A front end that goes away must not raise SIGPIPE here; faults must reach their handlers. */
static void
worker_signals(sigset_t *set)
{
	static const int faults[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};

	sigfillset(set);
	for (size_t i = 0; i < RTE_DIM(faults); i++)
		sigdelset(set, faults[i]);
}

static void
worker_cpus(const struct vdpa_worker *w, cpu_set_t *cpus)
{
	CPU_ZERO(cpus);
	if (w->cpu >= 0)
		CPU_SET(w->cpu, cpus);
	else
		*cpus = rte_lcore_cpuset(rte_get_main_lcore());
	if (CPU_COUNT(cpus) == 0) /* before EAL's init */
		sched_getaffinity(0, sizeof(*cpus), cpus);
}

static int
worker_start(struct vdpa_worker *w)
{
	sigset_t blocked, saved;
	pthread_attr_t attr;
	cpu_set_t cpus;
	char name[16];
	int rc;

	rc = vdpa_worker_open(w, pool.idle);
	if (rc != 0)
		goto fail;
	worker_cpus(w, &cpus);
	worker_signals(&blocked);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	pthread_sigmask(SIG_SETMASK, &blocked, &saved);
	rc = -pthread_create(&w->thread, &attr, vdpa_worker_main, w);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		goto fail;
	snprintf(name, sizeof(name), "vdpa-w%u", (unsigned int)(w - pool.workers) & 0xffff);
	pthread_setname_np(w->thread, name);
	atomic_store(&w->running, true);
	return 0;
fail:
	vdpa_worker_close(w);
	return vdpa_error_set(rc, "a datapath worker cannot be started: %s", strerror(-rc));
}

static void
worker_stop(struct vdpa_worker *w)
{
	if (!atomic_load(&w->running))
		return;
	if (vdpa_worker_post(w, VDPA_WORKER_STOP, NULL, NULL, NULL) != 0) {
		VDPA_LOG(ERR, "datapath worker %u hangs and is left alone",
			(unsigned int)(w - pool.workers));
		return;
	}
	pthread_join(w->thread, NULL);
	vdpa_worker_close(w);
}

/* The last path of the worker has gone, unless another one has come. */
static void
worker_put(struct vdpa_worker *w, uint32_t nr_paths)
{
	pthread_mutex_lock(&pool.lock);
	w->nr_paths -= nr_paths;
	if (w->nr_paths == 0 && pool.nr_keepers == 0)
		worker_stop(w);
	pthread_mutex_unlock(&pool.lock);
}

void
vdpa_workers_keep(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.nr_keepers++;
	pthread_mutex_unlock(&pool.lock);
}

void
vdpa_workers_release(void)
{
	pthread_mutex_lock(&pool.lock);
	if (--pool.nr_keepers == 0)
		for (unsigned int i = 0; i < pool.nr_workers; i++)
			if (pool.workers[i].nr_paths == 0)
				worker_stop(&pool.workers[i]);
	pthread_mutex_unlock(&pool.lock);
}

/* The least loaded worker, of the wanted NUMA node if there is one. */
static struct vdpa_worker *
worker_choose(int numa_node)
{
	struct vdpa_worker *best = NULL;

	for (unsigned int i = 0; i < pool.nr_workers; i++) {
		struct vdpa_worker *w = &pool.workers[i];
		bool near = numa_node >= 0 && w->numa_node == numa_node;
		bool best_near = best != NULL && numa_node >= 0 && best->numa_node == numa_node;

		if (best == NULL || (near && !best_near) ||
			(near == best_near && w->nr_paths < best->nr_paths))
			best = w;
	}
	return best;
}

static int
worker_get(int numa_node, struct vdpa_worker **out)
{
	struct vdpa_worker *w = NULL;
	int rc = 0;

	pthread_mutex_lock(&pool.lock);
	if (pool.nr_workers == 0)
		rc = pool_create(NULL);
	if (rc == 0) {
		w = worker_choose(numa_node);
		if (!atomic_load(&w->running))
			rc = worker_start(w);
	}
	if (rc == 0)
		w->nr_paths++;
	pthread_mutex_unlock(&pool.lock);
	*out = w;
	return rc;
}

/* ---- paths ---- */

/* Chain those that the worker of the next one has, it first. NULL: none is left. */
static struct vdpa_path *
next_batch(struct vdpa_path *const *paths, uint16_t nr, uint16_t *from, uint16_t *nr_batch)
{
	struct vdpa_path *first, *last;

	while (*from < nr && !paths[*from]->in_batch)
		(*from)++;
	if (*from == nr)
		return NULL;
	first = last = paths[*from];
	first->in_batch = false;
	*nr_batch = 1;
	for (uint16_t i = *from + 1; i < nr; i++) {
		if (!paths[i]->in_batch || paths[i]->worker != first->worker)
			continue;
		last->batch = paths[i];
		last = paths[i];
		last->in_batch = false;
		(*nr_batch)++;
	}
	last->batch = NULL;
	return first;
}

static void
begin_batches(struct vdpa_path *const *paths, uint16_t nr)
{
	for (uint16_t i = 0; i < nr; i++)
		paths[i]->in_batch = paths[i]->worker != NULL;
}

/* They are with no worker any more. */
static void
forget_batch(struct vdpa_path *path, uint16_t nr)
{
	struct vdpa_worker *w = path->worker;

	for (; path != NULL; path = path->batch)
		path->worker = NULL;
	worker_put(w, nr);
}

static int
choose_workers(struct vdpa_path *const *paths, uint16_t nr, int numa_node)
{
	int rc = 0;

	for (uint16_t i = 0; i < nr && rc == 0; i++)
		rc = worker_get(numa_node, &paths[i]->worker);
	return rc;
}

int
vdpa_paths_add(struct vdpa_path *const *paths, uint16_t nr, int numa_node)
{
	uint16_t from = 0, nr_batch, nr_refused = 0;
	struct vdpa_path *batch;
	int rc;

	for (uint16_t i = 0; i < nr; i++)
		paths[i]->worker = NULL;
	rc = choose_workers(paths, nr, numa_node);
	begin_batches(paths, nr);
	while ((batch = next_batch(paths, nr, &from, &nr_batch)) != NULL) {
		int refused = rc;

		if (rc == 0)
			refused = vdpa_worker_post(
				batch->worker, VDPA_WORKER_ADD, batch, NULL, NULL);
		if (refused >= 0) {
			nr_refused += refused;
			continue;
		}
		if (rc == 0)
			vdpa_error_set(refused, "datapath worker %u does not answer",
				(unsigned int)(batch->worker - pool.workers));
		rc = refused;
		forget_batch(batch, nr_batch);
	}
	if (nr_refused > 0)
		VDPA_LOG(NOTICE,
			"kick descriptors of %u queues cannot be watched: these are polled when "
			"idle",
			nr_refused);
	if (rc != 0)
		vdpa_paths_del(paths, nr);
	return rc;
}

int
vdpa_paths_del(struct vdpa_path *const *paths, uint16_t nr)
{
	uint16_t from = 0, nr_batch;
	struct vdpa_path *batch;
	int rc = 0;

	begin_batches(paths, nr);
	while ((batch = next_batch(paths, nr, &from, &nr_batch)) != NULL) {
		int error = vdpa_worker_post(batch->worker, VDPA_WORKER_DEL, batch, NULL, NULL);

		if (error == -ESHUTDOWN) /* nobody polls any more */
			for (struct vdpa_path *path = batch; path != NULL; path = path->batch)
				if (path->end != NULL)
					path->end(path);
		if (error < 0 && error != -ESHUTDOWN)
			rc = error;
		else
			forget_batch(batch, nr_batch);
	}
	return rc;
}

int
vdpa_paths_run(struct vdpa_path *const *paths, uint16_t nr, void (*fn)(void *path))
{
	enum vdpa_worker_cmd cmd = fn != NULL ? VDPA_WORKER_EACH : VDPA_WORKER_QUIET;
	uint16_t from = 0, nr_batch;
	struct vdpa_path *batch;
	int rc = 0;

	begin_batches(paths, nr);
	while ((batch = next_batch(paths, nr, &from, &nr_batch)) != NULL) {
		int error = vdpa_worker_post(batch->worker, cmd, batch, fn, NULL);

		if (error == -ESHUTDOWN && fn != NULL)
			for (struct vdpa_path *path = batch; path != NULL; path = path->batch)
				fn(path);
		if (error < 0 && error != -ESHUTDOWN && rc == 0)
			rc = error;
	}
	return rc;
}

int
vdpa_path_add(struct vdpa_path *path, int numa_node)
{
	return vdpa_paths_add(&path, 1, numa_node);
}

int
vdpa_path_del(struct vdpa_path *path)
{
	return vdpa_paths_del(&path, 1);
}

int
vdpa_path_run(struct vdpa_path *path, void (*fn)(void *arg), void *arg)
{
	int rc;

	if (path->worker == NULL || fn == NULL)
		return -EINVAL;
	rc = vdpa_worker_post(path->worker, VDPA_WORKER_RUN, path, fn, arg);
	if (rc == -ESHUTDOWN) {
		fn(arg); /* nobody polls any more */
		rc = 0;
	}
	return rc;
}

int
vdpa_worker_counters(unsigned int index, struct vdpa_worker_counters *counters)
{
	int rc = -ENOENT;

	pthread_mutex_lock(&pool.lock);
	if (index < pool.nr_workers) {
		struct vdpa_worker *w = &pool.workers[index];

		counters->loops = atomic_load_explicit(&w->loops, memory_order_relaxed);
		counters->busy_loops = atomic_load_explicit(&w->busy_loops, memory_order_relaxed);
		counters->nr_paths = w->nr_paths;
		rc = 0;
	}
	pthread_mutex_unlock(&pool.lock);
	return rc;
}

void
vdpa_workers_stop(void)
{
	pthread_mutex_lock(&pool.lock);
	for (unsigned int i = 0; i < pool.nr_workers; i++)
		worker_stop(&pool.workers[i]);
	if (!pool_in_use())
		pool_free();
	pthread_mutex_unlock(&pool.lock);
}

RTE_FINI(vdpa_workers_fini)
{
	vdpa_workers_stop();
}
