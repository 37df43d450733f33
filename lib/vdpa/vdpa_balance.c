/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <rte_common.h>
#include <rte_cycles.h>

#include "vdpa_worker.h"

/*
 * Load goes from the busiest worker to the idlest one when their shares have been this far apart
 * for so many periods in succession; then all is measured anew.
 */
#define GAP_PERCENT 25
#define PERIODS     2

static struct {
	pthread_mutex_t lock; /* outermost */
	struct vdpa_worker *from, *to;
	unsigned int periods;
} balance = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct choice {
	struct vdpa_worker *from, *to;
	uint64_t period, gap, left; /* cycles: between them now, after the best move so far */
};

/* Count what each worker did since the last time. */
static void
count_workers(struct choice *choice)
{
	uint64_t now = rte_rdtsc();

	choice->period = now - vdpa_workers.counted_at;
	vdpa_workers.counted_at = now;
	for (unsigned int i = 0; i < vdpa_workers.nr; i++) {
		struct vdpa_worker *w = &vdpa_workers.all[i];
		uint64_t busy = atomic_load_explicit(&w->busy_cycles, memory_order_relaxed);

		w->busy = RTE_MIN(busy - w->busy_then, choice->period);
		w->busy_permille = w->busy / (choice->period / 1000 + 1);
		w->busy_then = busy;
		if (choice->from == NULL || w->busy > choice->from->busy)
			choice->from = w;
		if (choice->to == NULL || w->busy < choice->to->busy)
			choice->to = w;
	}
	if (choice->from == NULL || choice->from == choice->to ||
		choice->from->cpu == choice->to->cpu)
		choice->from = choice->to = NULL;
	else
		choice->gap = choice->left = choice->from->busy - choice->to->busy;
}

/* The group that leaves the two closest to each other; it has to be worth it. */
static bool
choose(const struct vdpa_path_group *group, void *arg)
{
	struct choice *choice = arg;
	uint64_t moved = 2 * group->busy, left;

	if (group->by_hand || moved == 0)
		return false;
	if (group->numa_node >= 0 && group->numa_node == choice->from->numa_node &&
		group->numa_node != choice->to->numa_node)
		return false;
	left = moved > choice->gap ? moved - choice->gap : choice->gap - moved;
	if (left >= choice->left || left > choice->gap / 4 * 3)
		return false;
	choice->left = left;
	return true;
}

static bool
balance_locked(void)
{
	struct vdpa_path_group *group;
	struct choice choice = {0};
	bool moved = false, same;

	pthread_mutex_lock(&vdpa_workers.lock);
	count_workers(&choice);
	pthread_mutex_unlock(&vdpa_workers.lock);
	if (choice.from == NULL)
		return false;
	group = vdpa_groups_count(choice.from, choose, &choice);
	same = choice.from == balance.from && choice.to == balance.to;
	balance.from = choice.from;
	balance.to = choice.to;
	balance.periods = same ? balance.periods + 1 : 1;
	if (choice.gap < choice.period / 100 * GAP_PERCENT)
		balance.periods = 0;
	if (group != NULL && balance.periods >= PERIODS) {
		moved = vdpa_group_move(group, choice.to) == 0;
		balance.periods = 0;
	}
	if (group != NULL)
		vdpa_group_put(group);
	return moved;
}

bool
vdpa_balance(void)
{
	bool moved;

	pthread_mutex_lock(&balance.lock);
	moved = balance_locked();
	pthread_mutex_unlock(&balance.lock);
	return moved;
}

static void
balance_run(struct vdpa_work *work __rte_unused)
{
	vdpa_balance();
}

struct vdpa_work vdpa_balance_work = {.fn = balance_run};
