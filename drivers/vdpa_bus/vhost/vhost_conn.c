/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vhost_bus.h"

/* librte_vhost's vid is an index below its RTE_MAX_VHOST_DEVICE. */
#define NR_CONNS 1024

static struct vhost_conn *conns[NR_CONNS];
static pthread_mutex_t conns_lock = PTHREAD_MUTEX_INITIALIZER;

static void
conn_free(struct vhost_conn *conn)
{
	pthread_mutex_destroy(&conn->lock);
	free(conn->wanted);
	free(conn->vqs);
	free(conn);
}

void
vdpa_vhost_conn_put(struct vhost_conn *conn)
{
	unsigned int refs;

	pthread_mutex_lock(&conns_lock);
	refs = --conn->refs;
	pthread_mutex_unlock(&conns_lock);
	if (refs == 0)
		conn_free(conn);
}

struct vhost_conn *
vdpa_vhost_conn_get(int vid)
{
	struct vhost_conn *conn = NULL;

	if (vid < 0 || vid >= NR_CONNS)
		return NULL;
	pthread_mutex_lock(&conns_lock);
	conn = conns[vid];
	if (conn != NULL)
		conn->refs++;
	pthread_mutex_unlock(&conns_lock);
	return conn;
}

/* With conns_lock held; the caller puts the table's reference afterwards. */
static bool
conn_take_out(struct vhost_conn *conn)
{
	if (conns[conn->vid] != conn)
		return false;
	conns[conn->vid] = NULL;
	return true;
}

void
vdpa_vhost_conn_forget(struct vhost_conn *conn)
{
	bool was_in;

	pthread_mutex_lock(&conns_lock);
	was_in = conn_take_out(conn);
	pthread_mutex_unlock(&conns_lock);
	if (was_in)
		vdpa_vhost_conn_put(conn);
}

struct vhost_conn *
vdpa_vhost_conn_of(const struct vhost_binding *binding)
{
	struct vhost_conn *conn = NULL;
	unsigned int i;

	pthread_mutex_lock(&conns_lock);
	for (i = 0; i < NR_CONNS && conn == NULL; i++)
		if (conns[i] != NULL && conns[i]->binding == binding && !conns[i]->gone)
			conn = conns[i];
	if (conn != NULL)
		conn->refs++;
	pthread_mutex_unlock(&conns_lock);
	return conn;
}

void
vdpa_vhost_conn_forget_own(const struct vhost_binding *binding)
{
	struct vhost_conn *conn;
	unsigned int i;

	for (i = 0; i < NR_CONNS; i++) {
		pthread_mutex_lock(&conns_lock);
		conn = conns[i];
		if (conn != NULL &&
			(conn->binding != binding || !conn->own || !conn_take_out(conn)))
			conn = NULL;
		pthread_mutex_unlock(&conns_lock);
		if (conn != NULL)
			vdpa_vhost_conn_put(conn);
	}
}

/*
 * Another connection has this descriptor already. A gone one's is closed, its number may be
 * anybody's.
 */
static bool
fd_taken(int fd, void *arg)
{
	bool taken = false;
	unsigned int i;

	RTE_SET_USED(arg);
	pthread_mutex_lock(&conns_lock);
	for (i = 0; i < NR_CONNS && !taken; i++)
		taken = conns[i] != NULL && !conns[i]->gone && conns[i]->fd == fd;
	pthread_mutex_unlock(&conns_lock);
	return taken;
}

static void
conn_identify(struct vhost_conn *conn)
{
	pid_t pid;

	if (rte_vhost_get_ifname(conn->vid, conn->path, sizeof(conn->path)) < 0)
		conn->path[0] = '\0';
	conn->fd = vdpa_vhost_peer_find(conn->path, fd_taken, NULL);
	pid = vdpa_vhost_peer_pid(conn->fd);
	if (pid != 0)
		snprintf(conn->peer, sizeof(conn->peer), "unix:%s (pid %d)", conn->path, (int)pid);
	else
		snprintf(conn->peer, sizeof(conn->peer), "unix:%s", conn->path);
}

struct vhost_conn *
vdpa_vhost_conn_create(int vid, bool own)
{
	struct rte_vdpa_device *vdpa = rte_vhost_get_vdpa_device(vid);
	struct vdpa_contract contract;
	struct vhost_conn *conn;

	if (vid < 0 || vid >= NR_CONNS || vdpa == NULL)
		return NULL;
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL)
		return NULL;
	pthread_mutex_init(&conn->lock, NULL);
	conn->vid = vid;
	conn->own = own;
	conn->refs = 2;
	conn->binding = vdpa_vhost_binding_of(vdpa);
	contract = vdpa_vhost_binding_contract(conn->binding);
	conn->nr_vqs = RTE_MIN(contract.nr_vqs, (uint16_t)VHOST_VQS_MAX);
	conn->vqs = calloc(conn->nr_vqs, sizeof(*conn->vqs));
	conn->wanted = calloc(conn->nr_vqs, sizeof(*conn->wanted));
	if (conn->vqs == NULL || conn->wanted == NULL || vdpa_vhost_hooks_register(vid) < 0) {
		conn_free(conn);
		return NULL;
	}
	conn->inflight.fd = -1;
	vdpa_vhost_session_forget(conn);
	conn_identify(conn);
	pthread_mutex_lock(&conns_lock);
	conns[vid] = conn;
	pthread_mutex_unlock(&conns_lock);
	return conn;
}

/*
 * Event thread, reconnect thread, or the caller of rte_vhost_driver_start(). A front end that was
 * killed and is back may come in before librte_vhost has seen the end of its former connection.
 */
int
vdpa_vhost_conn_new(int vid)
{
	struct rte_vdpa_device *vdpa = rte_vhost_get_vdpa_device(vid);
	struct vhost_conn *conn, *former;
	bool alive;

	if (vdpa == NULL)
		return -ENODEV;
	former = vdpa_vhost_conn_of(vdpa_vhost_binding_of(vdpa));
	if (former != NULL) {
		alive = !vdpa_vhost_peer_dead(former->fd);
		if (alive)
			VHOST_LOG_LIMITED(WARNING,
				"%s: a second front end was refused, %s is attached",
				former->binding->name, former->peer);
		vdpa_vhost_conn_put(former);
		if (alive)
			return -EBUSY;
	}
	conn = vdpa_vhost_conn_create(vid, true);
	if (conn == NULL) {
		VHOST_LOG_LIMITED(ERR, "%s: no memory for a connection", vdpa->device->name);
		return -ENOMEM;
	}
	if (conn->fd < 0)
		VHOST_LOG_LIMITED(WARNING,
			"%s: connection not found among the descriptors: "
			"a front end that stalls is not disconnected",
			conn->peer);
	vdpa_vhost_conn_put(conn);
	return 0;
}

/*
 * Before dev_cleanup of the same connection; librte_vhost has closed the descriptor (22.11) or does
 * soon.
 */
void
vdpa_vhost_conn_destroyed(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);

	if (conn == NULL)
		return;
	pthread_mutex_lock(&conns_lock);
	conn->gone = true;
	pthread_mutex_unlock(&conns_lock);
	vdpa_vhost_conn_put(conn);
}
