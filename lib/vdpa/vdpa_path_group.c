/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "vdpa_worker.h"

#define BUCKETS 4096

/* Lock order: that of moves (vdpa_path.c), this one, vdpa_workers.lock. */
static struct {
	pthread_mutex_t lock;
	struct vdpa_path_group *buckets[BUCKETS];
} groups = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct vdpa_path_group **
bucket(const void *key)
{
	return &groups.buckets[((uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15)) >> 52];
}

static struct vdpa_path_group *
find_locked(const void *key)
{
	struct vdpa_path_group *group = *bucket(key);

	while (group != NULL && group->key != key)
		group = group->next;
	return group;
}

struct vdpa_path_group *
vdpa_group_hold(const void *key)
{
	struct vdpa_path_group *group;

	pthread_mutex_lock(&groups.lock);
	group = find_locked(key);
	if (group != NULL)
		group->refs++;
	pthread_mutex_unlock(&groups.lock);
	return group;
}

static struct vdpa_path_group *
get_locked(const void *key, int numa_node)
{
	struct vdpa_path_group *group = find_locked(key), **head = bucket(key);

	if (group == NULL) {
		group = calloc(1, sizeof(*group));
		if (group == NULL)
			return NULL;
		group->key = key;
		group->numa_node = numa_node;
		group->next = *head;
		group->pprev = head;
		if (*head != NULL)
			(*head)->pprev = &group->next;
		*head = group;
	}
	group->refs++;
	return group;
}

static void
put_locked(struct vdpa_path_group *group)
{
	if (--group->refs > 0)
		return;
	*group->pprev = group->next;
	if (group->next != NULL)
		group->next->pprev = group->pprev;
	free(group);
}

void
vdpa_group_put(struct vdpa_path_group *group)
{
	pthread_mutex_lock(&groups.lock);
	put_locked(group);
	pthread_mutex_unlock(&groups.lock);
}

int
vdpa_group_join(struct vdpa_path *path, int numa_node)
{
	const void *key = path->group != NULL ? path->group : path;
	struct vdpa_path_group *group;
	int rc = -ENOMEM;

	path->busy = 0;
	pthread_mutex_lock(&groups.lock);
	group = get_locked(key, numa_node);
	if (group != NULL) {
		path->worker = group->worker;
		rc = vdpa_worker_get(&path->worker, numa_node, 1);
	}
	if (rc == 0) {
		group->worker = path->worker;
		path->owner = group;
		path->group_next = group->paths;
		path->group_pprev = &group->paths;
		if (group->paths != NULL)
			group->paths->group_pprev = &path->group_next;
		group->paths = path;
	} else {
		path->worker = NULL;
		if (group != NULL)
			put_locked(group);
	}
	pthread_mutex_unlock(&groups.lock);
	return rc;
}

void
vdpa_group_leave(struct vdpa_path *path)
{
	struct vdpa_path_group *group = path->owner;

	pthread_mutex_lock(&groups.lock);
	*path->group_pprev = path->group_next;
	if (path->group_next != NULL)
		path->group_next->group_pprev = path->group_pprev;
	if (group->paths == NULL)
		group->worker = NULL;
	path->owner = NULL;
	path->worker = NULL;
	put_locked(group);
	pthread_mutex_unlock(&groups.lock);
}

struct vdpa_worker *
vdpa_group_on(const struct vdpa_path_group *group)
{
	struct vdpa_worker *worker;

	pthread_mutex_lock(&groups.lock);
	worker = group->worker;
	pthread_mutex_unlock(&groups.lock);
	return worker;
}

void
vdpa_group_put_on(struct vdpa_path_group *group, struct vdpa_worker *worker)
{
	pthread_mutex_lock(&groups.lock);
	for (struct vdpa_path *path = group->paths; path != NULL; path = path->group_next)
		path->worker = worker;
	group->worker = worker;
	pthread_mutex_unlock(&groups.lock);
}

void
vdpa_group_hold_by_hand(struct vdpa_path_group *group)
{
	pthread_mutex_lock(&groups.lock);
	group->by_hand = true;
	pthread_mutex_unlock(&groups.lock);
}

static void
count_locked(struct vdpa_path_group *group)
{
	uint64_t now = 0;

	for (struct vdpa_path *path = group->paths; path != NULL; path = path->group_next)
		now += __atomic_load_n(&path->busy, __ATOMIC_RELAXED);
	group->busy = now > group->busy_then ? now - group->busy_then : 0; /* a path has gone */
	group->busy_then = now;
}

/* What the samples of a worker's groups come to is what the worker did: samples may be few. */
static void
scale_locked(struct vdpa_path_group *group, uint64_t sum, uint64_t busy)
{
	if (sum > 0)
		group->busy = (double)group->busy / sum * busy;
}

struct vdpa_path_group *
vdpa_groups_count(struct vdpa_worker *of,
	bool (*choose)(const struct vdpa_path_group *group, void *arg), void *arg)
{
	struct vdpa_path_group *group, *best = NULL;
	uint64_t sum = 0;

	pthread_mutex_lock(&groups.lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (group = groups.buckets[i]; group != NULL; group = group->next) {
			count_locked(group);
			sum += group->worker == of ? group->busy : 0;
		}
	for (size_t i = 0; i < BUCKETS; i++)
		for (group = groups.buckets[i]; group != NULL; group = group->next) {
			if (group->worker != of)
				continue;
			scale_locked(group, sum, of->busy);
			if (choose(group, arg))
				best = group;
		}
	if (best != NULL)
		best->refs++;
	pthread_mutex_unlock(&groups.lock);
	return best;
}

int
vdpa_group_worker(const void *key)
{
	struct vdpa_path_group *group;
	int number = -ENOENT;

	pthread_mutex_lock(&groups.lock);
	group = find_locked(key);
	if (group != NULL && group->worker != NULL)
		number = vdpa_worker_number(group->worker);
	pthread_mutex_unlock(&groups.lock);
	return number;
}
