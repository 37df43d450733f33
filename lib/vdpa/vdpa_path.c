/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "vdpa_worker.h"

#define NUMA_ANY       (-1)
#define BY_HAND_ROUNDS 1000 /* of a millisecond, while other paths come and go */

/*
 * Held for reading while paths are given to their workers, taken back or run, for writing while
 * some are moved: in between, a path's worker is what the path says. A mover waits only for workers
 * that have just answered, and for readers not at all.
 */
static pthread_rwlock_t move_lock = PTHREAD_RWLOCK_INITIALIZER;

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
		vdpa_group_leave(path);
	vdpa_worker_put(w, nr);
}

static int
del_locked(struct vdpa_path *const *paths, uint16_t nr)
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

static int
choose_workers(struct vdpa_path *const *paths, uint16_t nr, int numa_node)
{
	int rc = 0;

	for (uint16_t i = 0; i < nr && rc == 0; i++)
		rc = vdpa_group_join(paths[i], numa_node);
	return rc;
}

static int
add_locked(struct vdpa_path *const *paths, uint16_t nr, int numa_node)
{
	uint16_t from = 0, nr_batch;
	struct vdpa_path *batch;
	int rc, error;

	for (uint16_t i = 0; i < nr; i++)
		paths[i]->worker = NULL;
	rc = choose_workers(paths, nr, numa_node);
	begin_batches(paths, nr);
	while ((batch = next_batch(paths, nr, &from, &nr_batch)) != NULL) {
		error = rc;
		if (rc == 0)
			error = vdpa_worker_post(batch->worker, VDPA_WORKER_ADD, batch, NULL, NULL);
		if (error == 0)
			continue;
		if (rc == 0)
			vdpa_error_set(error, "datapath worker %u does not answer",
				vdpa_worker_number(batch->worker));
		rc = error;
		forget_batch(batch, nr_batch);
	}
	if (rc != 0)
		del_locked(paths, nr);
	return rc;
}

static int
run_locked(struct vdpa_path *const *paths, uint16_t nr, void (*fn)(void *path))
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
vdpa_paths_add(struct vdpa_path *const *paths, uint16_t nr, int numa_node)
{
	int rc;

	if (vdpa_worker_is_self())
		return -EDEADLK;
	pthread_rwlock_rdlock(&move_lock);
	rc = add_locked(paths, nr, numa_node);
	pthread_rwlock_unlock(&move_lock);
	return rc;
}

int
vdpa_paths_del(struct vdpa_path *const *paths, uint16_t nr)
{
	int rc;

	if (vdpa_worker_is_self())
		return -EDEADLK;
	pthread_rwlock_rdlock(&move_lock);
	rc = del_locked(paths, nr);
	pthread_rwlock_unlock(&move_lock);
	return rc;
}

int
vdpa_paths_run(struct vdpa_path *const *paths, uint16_t nr, void (*fn)(void *path))
{
	int rc;

	if (vdpa_worker_is_self())
		return -EDEADLK;
	pthread_rwlock_rdlock(&move_lock);
	rc = run_locked(paths, nr, fn);
	pthread_rwlock_unlock(&move_lock);
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
	int rc = -EINVAL;

	if (fn == NULL)
		return -EINVAL;
	if (vdpa_worker_is_self())
		return -EDEADLK;
	pthread_rwlock_rdlock(&move_lock);
	if (path->worker != NULL)
		rc = vdpa_worker_post(path->worker, VDPA_WORKER_RUN, path, fn, arg);
	pthread_rwlock_unlock(&move_lock);
	if (rc == -ESHUTDOWN) {
		fn(arg); /* nobody polls any more */
		rc = 0;
	}
	return rc;
}

/* ---- moves ---- */

static int
move_locked(struct vdpa_path_group *group, struct vdpa_worker *from, struct vdpa_worker *to)
{
	struct vdpa_path *first = group->paths;
	int rc;

	for (struct vdpa_path *path = first; path != NULL; path = path->group_next)
		path->batch = path->group_next;
	rc = vdpa_worker_post(from, VDPA_WORKER_OUT, first, NULL, NULL);
	if (rc != 0)
		return rc;
	rc = vdpa_worker_post(to, VDPA_WORKER_ADD, first, NULL, NULL);
	if (rc < 0) {
		if (vdpa_worker_post(from, VDPA_WORKER_ADD, first, NULL, NULL) < 0)
			VDPA_LOG(ERR, "datapath workers %u and %u hang: a queue stands still",
				vdpa_worker_number(from), vdpa_worker_number(to));
		return rc;
	}
	vdpa_group_put_on(group, to);
	return 0;
}

/* Paths stand still between two workers: both have to answer before that. */
static int
answers(struct vdpa_worker *w)
{
	return vdpa_worker_post(w, VDPA_WORKER_QUIET, NULL, NULL, NULL);
}

static int
move_answering(struct vdpa_path_group *group, struct vdpa_worker *to)
{
	struct vdpa_worker *from;
	uint32_t nr = 0;
	int rc;

	if (pthread_rwlock_trywrlock(&move_lock) != 0)
		return -EBUSY;
	from = group->worker;
	for (struct vdpa_path *path = group->paths; path != NULL; path = path->group_next)
		nr++;
	if (nr == 0 || from == to) {
		pthread_rwlock_unlock(&move_lock);
		return nr == 0 ? -ENOENT : 0;
	}
	rc = vdpa_worker_get(&to, NUMA_ANY, nr);
	if (rc == 0) {
		rc = move_locked(group, from, to);
		vdpa_worker_put(rc == 0 ? from : to, nr);
	}
	pthread_rwlock_unlock(&move_lock);
	return rc;
}

int
vdpa_group_move(struct vdpa_path_group *group, struct vdpa_worker *to)
{
	struct vdpa_worker *from = vdpa_group_on(group), *got = to;
	int rc;

	if (from == NULL)
		return -ENOENT;
	rc = vdpa_worker_get(&got, NUMA_ANY, 1); /* it goes on, or is started, for this */
	if (rc != 0)
		return rc;
	rc = answers(from);
	if (rc == 0)
		rc = answers(to);
	if (rc == 0)
		rc = move_answering(group, to);
	vdpa_worker_put(to, 1);
	return rc == -ESHUTDOWN ? -ENOENT : rc;
}

int
vdpa_vq_worker(struct vdpa_device *dev, uint16_t index)
{
	return vdpa_group_worker(vdpa_vq_group(dev, index));
}

static int
move_by_hand(struct vdpa_path_group *group, unsigned int worker)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int rc, rounds = 0;

	do {
		if (rounds > 0)
			nanosleep(&pause, NULL);
		rc = vdpa_group_move(group, &vdpa_workers.all[worker]);
	} while (rc == -EBUSY && ++rounds < BY_HAND_ROUNDS);
	if (rc == 0)
		vdpa_group_hold_by_hand(group);
	return rc;
}

int
vdpa_vq_move(struct vdpa_device *dev, uint16_t index, unsigned int worker)
{
	struct vdpa_worker_status status;
	struct vdpa_path_group *group;
	uint16_t nr_vqs;
	int rc;

	vdpa_moves_hold();
	nr_vqs = dev->priv->contract.nr_vqs;
	vdpa_moves_release();
	if (index >= nr_vqs)
		return vdpa_error_set(-EINVAL, "%s has no virtqueue %u", dev->name, index);
	if (vdpa_worker_status_get(worker, &status) != 0)
		return vdpa_error_set(-EINVAL, "there is no worker %u", worker);
	group = vdpa_group_hold(vdpa_vq_group(dev, index));
	rc = group != NULL ? move_by_hand(group, worker) : -ENOENT;
	if (group != NULL)
		vdpa_group_put(group);
	if (rc == -ENOENT)
		return vdpa_error_set(rc, "%s: no worker works on virtqueue %u", dev->name, index);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: virtqueue %u stays where it was: %s", dev->name,
			index, rc == -ETIMEDOUT ? "a worker hangs" : strerror(-rc));
	return 0;
}
