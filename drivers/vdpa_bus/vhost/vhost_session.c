/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vhost_bus.h"
#include "vhost_message.h"

#define LOG_ALL (UINT64_C(1) << VHOST_F_LOG_ALL)

int
vdpa_vhost_session_attach(struct vhost_conn *conn)
{
	struct vhost_binding *binding = conn->binding;
	const char *why = "the device is going away";
	bool welcome;

	if (conn->session != NULL || conn->idle)
		return 0;
	if (conn->closing)
		return -ESHUTDOWN;
	pthread_mutex_lock(&binding->lock);
	welcome = !binding->leaving && binding->binding != NULL && binding->attached == NULL;
	if (welcome)
		binding->attached = conn;
	else if (binding->attached != NULL)
		why = "another front end is attached";
	pthread_mutex_unlock(&binding->lock);
	if (welcome) {
		conn->session = vdpa_session_open(binding->binding, conn->peer);
		if (conn->session != NULL)
			return 0;
		why = vdpa_error_text();
		pthread_mutex_lock(&binding->lock);
		binding->attached = NULL;
		pthread_mutex_unlock(&binding->lock);
	}
	/*
	 * librte_vhost reconnects a client at once and for ever: let it stay, without a datapath.
	 */
	if (conn->own && binding->socket.client) {
		conn->idle = true;
		VHOST_LOG_LIMITED(ERR, "%s: %s is not served: %s", binding->name, conn->peer, why);
		return 0;
	}
	vdpa_vhost_session_fail(conn, why);
	return -EBUSY;
}

void
vdpa_vhost_session_all_dirty(struct vhost_conn *conn)
{
	uint16_t i;

	for (i = 0; i < conn->nr_vqs; i++)
		conn->vqs[i].dirty = true;
	conn->changed = true;
}

bool
vdpa_vhost_session_is_forgotten(const struct vhost_conn *conn)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(conn->binding);

	return vdpa_vhost_vdpa_type(&contract) == RTE_VHOST_VDPA_DEVICE_TYPE_BLK;
}

void
vdpa_vhost_session_configure(struct vhost_conn *conn)
{
	if (conn->configured || conn->closing || conn->session == NULL)
		return;
	conn->configured = true;
	vdpa_vhost_session_all_dirty(conn);
}

void
vdpa_vhost_session_settle(struct vhost_conn *conn)
{
	uint16_t i;

	for (i = 0; i < conn->nr_vqs; i++) {
		if (!conn->vqs[i].exchange)
			continue;
		conn->vqs[i] = (struct vhost_vq){.dirty = true};
		conn->changed = true;
	}
}

void
vdpa_vhost_session_forget(struct vhost_conn *conn)
{
	uint16_t i;

	conn->configured = false;
	conn->changed = false;
	conn->memory_pending = false;
	conn->features = 0;
	conn->status = 0;
	conn->tells_status = false;
	vdpa_vhost_memory_unguard(&conn->memory);
	vdpa_vhost_slots_forget(conn);
	memset(&conn->memory, 0, sizeof(conn->memory));
	conn->regions_seq++;
	vdpa_vhost_session_log_forget(conn);
	vdpa_vhost_inflight_forget(conn);
	for (i = 0; i < conn->nr_vqs; i++) {
		conn->vqs[i] = (struct vhost_vq){0};
		conn->wanted[i] = (struct vdpa_wanted_vq){
			.kick_fd = -1,
			.call_fd = -1,
			.kick_seq = conn->wanted[i].kick_seq + 1,
			.call_seq = conn->wanted[i].call_seq + 1,
		};
	}
}

void
vdpa_vhost_session_detach(struct vhost_conn *conn)
{
	struct vhost_binding *binding = conn->binding;

	vdpa_vhost_session_forget(conn);
	if (conn->session == NULL)
		return;
	vdpa_vhost_channel_set(binding, -1);
	vdpa_session_close(conn->session);
	conn->session = NULL;
	pthread_mutex_lock(&binding->lock);
	binding->attached = NULL;
	pthread_mutex_unlock(&binding->lock);
}

/*
 * A front end completes its guest's buffers itself, on the same used ring, as soon as the
 * connection is down: never before the datapath is quiet.
 */
void
vdpa_vhost_session_fail(struct vhost_conn *conn, const char *why)
{
	if (conn->closing)
		return;
	conn->closing = true;
	VHOST_LOG_LIMITED(ERR, "%s: %s is disconnected: %s", conn->binding->name, conn->peer, why);
	if (conn->session != NULL && conn->configured)
		vdpa_session_stop(conn->session, NULL, 0, 0);
	conn->configured = false;
	/*
	 * Seen by the event thread as the end of the connection. Without a descriptor: at the next
	 * message.
	 */
	if (conn->fd >= 0 && !conn->gone)
		shutdown(conn->fd, SHUT_RDWR);
}

int
vdpa_vhost_session_memory(struct vhost_conn *conn)
{
	struct rte_vhost_memory *table;
	struct vhost_mem memory;
	int ret;

	if (rte_vhost_get_mem_table(conn->vid, &table) < 0)
		return -ENOMEM;
	ret = vdpa_vhost_memory_take(&memory, table);
	free(table);
	if (ret < 0)
		return ret;
	if (!vdpa_vhost_memory_same(&memory, &conn->memory)) {
		vdpa_vhost_memory_unguard(&conn->memory);
		conn->memory = memory;
		conn->regions_seq++;
	}
	vdpa_vhost_memory_guard(&conn->memory, &conn->memory_lost);
	vdpa_vhost_session_all_dirty(conn);
	return 0;
}

/* Signal context. The class guards its own view and keeps the promise as far as there is a log. */
static void
log_hit(void *arg)
{
	RTE_SET_USED(arg);
}

void
vdpa_vhost_session_log_forget(struct vhost_conn *conn)
{
	if (conn->log == NULL)
		return;
	vdpa_sigbus_unguard(conn->log);
	conn->log = NULL;
	conn->log_size_bytes = 0;
	conn->log_seq++;
	conn->changed = true;
}

void
vdpa_vhost_session_log(struct vhost_conn *conn)
{
	uint64_t base, size_bytes;

	if (rte_vhost_get_log_base(conn->vid, &base, &size_bytes) < 0 || base == 0 ||
		size_bytes == 0)
		return;
	conn->log = (void *)(uintptr_t)base;
	conn->log_size_bytes = size_bytes;
	conn->log_seq++;
	conn->changed = true;
	/* librte_vhost marks pages, too: the used ring, at a stop */
	vdpa_sigbus_guard(conn->log, size_bytes, log_hit, NULL);
}

static void
take_ring(struct vhost_conn *conn, uint16_t index)
{
	struct vdpa_wanted_vq *wanted = &conn->wanted[index];
	struct vhost_vq *vq = &conn->vqs[index];
	struct rte_vhost_vring ring = {.kickfd = -1, .callfd = -1};

	vq->dirty = false;
	wanted->ready = vq->ready;
	if (rte_vhost_get_vhost_vring(conn->vid, index, &ring) < 0)
		wanted->ready = false;
	if (conn->slots)
		vdpa_vhost_slots_find_ring(vq, &ring);
	if (vdpa_vhost_ring_take(wanted, &ring, &conn->memory) < 0)
		wanted->ready = false;
}

int
vdpa_vhost_session_commit(struct vhost_conn *conn)
{
	struct vdpa_range ranges[VHOST_SLOTS_MAX];
	struct vdpa_wanted wanted;
	uint16_t i;
	int ret;

	if (conn->closing || conn->session == NULL || !conn->configured || !conn->changed ||
		vdpa_vhost_slots_torn(conn))
		return 0;
	for (i = 0; i < conn->nr_vqs; i++)
		if (conn->vqs[i].dirty)
			take_ring(conn, i);
	vdpa_vhost_memory_ranges(&conn->memory, ranges);
	wanted = (struct vdpa_wanted){
		.features = conn->features & ~LOG_ALL,
		.log = (conn->features & LOG_ALL) != 0,
		.log_va = conn->log,
		.log_size_bytes = conn->log_size_bytes,
		.log_dev = conn->log_file.dev,
		.log_ino = conn->log_file.ino,
		.log_offset = conn->log_file.offset,
		.log_seq = conn->log_seq,
		.inflight_fd = conn->inflight.fd,
		.inflight_offset = conn->inflight.offset,
		.inflight_bytes = conn->inflight.size_bytes,
		.inflight_vqs = conn->inflight.nr_vqs,
		.inflight_vq_size = conn->inflight.vq_size,
		.inflight_seq = conn->inflight.seq,
		.driver_ok = true,
		.vqs = conn->wanted,
		.nr_vqs = conn->nr_vqs,
		.regions = ranges,
		.nr_regions = conn->memory.nr_regions,
		.regions_seq = conn->regions_seq,
	};
	ret = vdpa_session_set(conn->session, &wanted);
	if (ret < 0) {
		vdpa_vhost_session_fail(conn, vdpa_error_text());
		return ret;
	}
	conn->changed = false;
	return 0;
}

int
vdpa_vhost_session_stop(struct vhost_conn *conn)
{
	struct vdpa_vq_state states[VHOST_VQS_MAX];
	uint16_t i;
	int ret;

	if (conn->session == NULL || !conn->configured)
		return 0;
	memset(states, 0, sizeof(states));
	ret = vdpa_session_stop(conn->session, states, conn->nr_vqs, 0);
	conn->configured = false;
	if (ret < 0 && ret != -ETIMEDOUT) {
		vdpa_vhost_session_fail(
			conn, "the device was stopped by force and left no ring position");
		return -ENODATA;
	}
	if (ret == -ETIMEDOUT)
		VHOST_LOG_LIMITED(ERR,
			"%s: the device did not stop in time, ring positions are taken "
			"from memory",
			conn->binding->name);
	/*
	 * For all: librte_vhost answers one message a ring. It refuses rings that it never heard
	 * of.
	 */
	for (i = 0; i < conn->nr_vqs; i++)
		rte_vhost_set_vring_base(conn->vid, i, states[i].avail, states[i].used);
	return 0;
}
