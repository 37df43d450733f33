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
#define SHARE_MAX      8 /* workers on one CPU */
#define NUMA_ANY       (-1)

struct vdpa_workers vdpa_workers = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .idle = VDPA_WORKER_ADAPTIVE};

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

/* "2-3,8" to workers on each CPU. */
static int
parse_cpulist(const char *list, uint8_t nr_on[CPU_SETSIZE])
{
	const char *text = list;
	int first, last;

	memset(nr_on, 0, CPU_SETSIZE);
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
			if (nr_on[first] == SHARE_MAX)
				return vdpa_error_set(-EINVAL,
					"workers=%s: CPU %d is named more than %d times", list,
					first, SHARE_MAX);
			nr_on[first]++;
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
check_cpus(const char *list, const uint8_t nr_on[CPU_SETSIZE])
{
	cpu_set_t saved, one;
	int rc = 0;

	if (sched_getaffinity(0, sizeof(saved), &saved) != 0)
		return vdpa_error_set(-errno, "the CPUs of this thread cannot be read");
	for (int cpu = 0; cpu < CPU_SETSIZE && rc == 0; cpu++) {
		if (nr_on[cpu] == 0)
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
	for (unsigned int i = 0; i < vdpa_workers.nr; i++)
		if (vdpa_workers.all[i].nr_paths != 0 || atomic_load(&vdpa_workers.all[i].running))
			return true;
	return false;
}

static void
pool_free(void)
{
	for (unsigned int i = 0; i < vdpa_workers.nr; i++)
		pthread_mutex_destroy(&vdpa_workers.all[i].post_lock);
	free(vdpa_workers.all);
	vdpa_workers.all = NULL;
	vdpa_workers.nr = 0;
}

/* nr_on NULL: one worker on the main lcore's. */
static int
pool_create(const uint8_t *nr_on)
{
	unsigned int nr = 0, nr_left = 1;
	int cpu = -1;

	for (int i = 0; nr_on != NULL && i < CPU_SETSIZE; i++)
		nr += nr_on[i];
	nr = RTE_MAX(nr, 1u);
	vdpa_workers.all = aligned_alloc(
		_Alignof(struct vdpa_worker), nr * sizeof(*vdpa_workers.all));
	if (vdpa_workers.all == NULL)
		return -ENOMEM;
	memset(vdpa_workers.all, 0, nr * sizeof(*vdpa_workers.all));
	if (nr_on != NULL)
		nr_left = 0;
	for (vdpa_workers.nr = 0; vdpa_workers.nr < nr; vdpa_workers.nr++, nr_left--) {
		struct vdpa_worker *w = &vdpa_workers.all[vdpa_workers.nr];

		while (nr_left == 0)
			nr_left = nr_on[++cpu];
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
	uint8_t nr_on[CPU_SETSIZE];
	int rc = 0;

	if (cpulist != NULL) {
		rc = parse_cpulist(cpulist, nr_on);
		if (rc == 0)
			rc = check_cpus(cpulist, nr_on);
		if (rc != 0)
			return rc;
	}
	/* it may still look at workers that have just ended */
	vdpa_work_wait(&vdpa_balance_work, VDPA_BALANCE_MS);
	pthread_mutex_lock(&vdpa_workers.lock);
	if (pool_in_use()) {
		rc = vdpa_error_set(-EBUSY, "datapath workers run already");
	} else {
		pool_free();
		vdpa_workers.idle = idle;
		rc = pool_create(cpulist != NULL ? nr_on : NULL);
	}
	pthread_mutex_unlock(&vdpa_workers.lock);
	return rc;
}

/* ---- threads; vdpa_workers.lock is held ---- */

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

	rc = vdpa_worker_open(w, vdpa_workers.idle);
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
	snprintf(name, sizeof(name), "vdpa-w%u", vdpa_worker_number(w) & 0xffff);
	pthread_setname_np(w->thread, name);
	atomic_store(&w->running, true);
	w->busy_then = atomic_load(&w->busy_cycles);
	vdpa_work_every(&vdpa_balance_work, VDPA_BALANCE_MS);
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
		VDPA_LOG(ERR, "datapath worker %u hangs and is left alone", vdpa_worker_number(w));
		return;
	}
	pthread_join(w->thread, NULL);
	vdpa_worker_close(w);
	w->busy_permille = 0;
	for (unsigned int i = 0; i < vdpa_workers.nr; i++)
		if (atomic_load(&vdpa_workers.all[i].running))
			return;
	vdpa_work_every(&vdpa_balance_work, 0);
}

void
vdpa_worker_put(struct vdpa_worker *w, uint32_t nr_paths)
{
	pthread_mutex_lock(&vdpa_workers.lock);
	w->nr_paths -= nr_paths;
	if (w->nr_paths == 0 && vdpa_workers.nr_keepers == 0)
		worker_stop(w);
	pthread_mutex_unlock(&vdpa_workers.lock);
}

void
vdpa_workers_keep(void)
{
	pthread_mutex_lock(&vdpa_workers.lock);
	vdpa_workers.nr_keepers++;
	pthread_mutex_unlock(&vdpa_workers.lock);
}

void
vdpa_workers_release(void)
{
	pthread_mutex_lock(&vdpa_workers.lock);
	if (--vdpa_workers.nr_keepers == 0)
		for (unsigned int i = 0; i < vdpa_workers.nr; i++)
			if (vdpa_workers.all[i].nr_paths == 0)
				worker_stop(&vdpa_workers.all[i]);
	pthread_mutex_unlock(&vdpa_workers.lock);
}

/* For comparing: the load in steps of 1/8, so that little of it does not decide. */
static uint64_t
load(const struct vdpa_worker *w)
{
	return ((uint64_t)w->busy_permille / 125 << 32) + w->nr_paths;
}

static struct vdpa_worker *
worker_choose(int numa_node)
{
	struct vdpa_worker *best = NULL;

	for (unsigned int i = 0; i < vdpa_workers.nr; i++) {
		struct vdpa_worker *w = &vdpa_workers.all[i];
		bool near = numa_node >= 0 && w->numa_node == numa_node;
		bool best_near = best != NULL && numa_node >= 0 && best->numa_node == numa_node;

		if (best == NULL || (near && !best_near) ||
			(near == best_near && load(w) < load(best)))
			best = w;
	}
	return best;
}

int
vdpa_worker_get(struct vdpa_worker **worker, int numa_node, uint32_t nr_paths)
{
	int rc = 0;

	pthread_mutex_lock(&vdpa_workers.lock);
	if (vdpa_workers.nr == 0)
		rc = pool_create(NULL);
	if (rc == 0) {
		if (*worker == NULL)
			*worker = worker_choose(numa_node);
		if (!atomic_load(&(*worker)->running))
			rc = worker_start(*worker);
	}
	if (rc == 0)
		(*worker)->nr_paths += nr_paths;
	pthread_mutex_unlock(&vdpa_workers.lock);
	return rc;
}

int
vdpa_worker_status_get(unsigned int worker, struct vdpa_worker_status *status)
{
	int rc = -ENOENT;

	pthread_mutex_lock(&vdpa_workers.lock);
	if (worker < vdpa_workers.nr) {
		struct vdpa_worker *w = &vdpa_workers.all[worker];

		*status = (struct vdpa_worker_status){
			.cpu = w->cpu,
			.idle = vdpa_workers.idle,
			.running = atomic_load(&w->running),
			.sleeping = atomic_load_explicit(&w->sleeping, memory_order_relaxed),
			.nr_paths = w->nr_paths,
			.busy_permille = w->busy_permille,
			.busy_cycles = atomic_load_explicit(&w->busy_cycles, memory_order_relaxed),
			.loops = atomic_load_explicit(&w->loops, memory_order_relaxed),
			.busy_loops = atomic_load_explicit(&w->busy_loops, memory_order_relaxed),
		};
		rc = 0;
	}
	pthread_mutex_unlock(&vdpa_workers.lock);
	return rc;
}

void
vdpa_workers_stop(void)
{
	vdpa_work_every(&vdpa_balance_work, 0);
	vdpa_work_wait(&vdpa_balance_work, VDPA_BALANCE_MS);
	pthread_mutex_lock(&vdpa_workers.lock);
	for (unsigned int i = 0; i < vdpa_workers.nr; i++)
		worker_stop(&vdpa_workers.all[i]);
	if (!pool_in_use())
		pool_free();
	pthread_mutex_unlock(&vdpa_workers.lock);
}

RTE_FINI(vdpa_workers_fini)
{
	vdpa_workers_stop();
}
