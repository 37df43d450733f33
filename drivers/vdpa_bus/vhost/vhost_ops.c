/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <string.h>

#include <rte_common.h>
#include <rte_string_fns.h>

#include "vhost_bus.h"
#include "vhost_message.h"

/*
 * Which call does what (vid: a connection). Nothing here waits for a device.
 *
 *   answered from a copy    get_features, get_protocol_features, get_queue_num, get_dev_type (under
 *                           librte_vhost's mutex, on every message), get_config
 *   noted                   set_features; set_vring_state before the first dev_conf
 *   queued                  dev_conf, set_config, set_vring_state afterwards
 *   not waited for          dev_close, dev_cleanup when the front end has gone
 *
 * The stop at GET_VRING_BASE is the hook's (vhost_hooks.c).
 */

static uint64_t
offered(struct vhost_binding *binding, bool own_socket)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(binding);

	return vdpa_vhost_offered(&contract, own_socket);
}

/*
 * Asked by stock programs too, so what their sockets may offer; on ours the hook answers instead.
 */
static int
get_features(struct rte_vdpa_device *vdpa, uint64_t *features)
{
	*features = offered(vdpa_vhost_binding_of(vdpa), false) | VHOST_F_PROTOCOL_FEATURES;
	return 0;
}

static int
get_protocol_features(struct rte_vdpa_device *vdpa, uint64_t *features)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(vdpa_vhost_binding_of(vdpa));

	*features = vdpa_vhost_protocol_features(&contract);
	return 0;
}

/*
 * On our sockets the hook answers the front end. librte_vhost asks too, from 24.11 on, to check
 * each ring's index, and loses the descriptor of a message that it refuses: so there it may be any.
 */
static int
get_queue_num(struct rte_vdpa_device *vdpa, uint32_t *nr)
{
	struct vhost_binding *binding = vdpa_vhost_binding_of(vdpa);
	struct vdpa_contract contract = vdpa_vhost_binding_contract(binding);

	if (binding->socket.path[0] != '\0') {
		*nr = VHOST_QUEUE_NUM_MAX;
		return 0;
	}
	*nr = vdpa_vhost_queue_num(&contract, vdpa_vhost_offered(&contract, true));
	return 0;
}

static int
get_dev_type(struct rte_vdpa_device *vdpa, uint32_t *type)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(vdpa_vhost_binding_of(vdpa));

	*type = vdpa_vhost_vdpa_type(&contract);
	return 0;
}

/* The first call with a vid: where a stock program's connection becomes known. */
static int
set_features(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);
	uint64_t features;

	if (conn == NULL)
		conn = vdpa_vhost_conn_create(vid, false);
	if (conn == NULL) {
		VHOST_LOG_LIMITED(ERR, "connection %d is not served: no memory", vid);
		return -ENOMEM;
	}
	pthread_mutex_lock(&conn->lock);
	if (!conn->own && vdpa_vhost_session_attach(conn) == 0 &&
		rte_vhost_get_negotiated_features(vid, &features) == 0) {
		features &= ~VHOST_F_PROTOCOL_FEATURES;
		conn->changed |= features != conn->features;
		conn->features = features;
		pthread_mutex_lock(&conn->binding->lock);
		memcpy(conn->binding->stock_path, conn->path, sizeof(conn->path));
		pthread_mutex_unlock(&conn->binding->lock);
	}
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return 0;
}

/*
 * librte_vhost takes a ring for not ready while its descriptor is replaced, and tells so before and
 * after: that is one change of a descriptor, not a stop and a start.
 */
static int
set_vring_state(int vid, int index, int state)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);
	struct vhost_vq *vq;

	if (conn == NULL)
		return -ENODEV;
	pthread_mutex_lock(&conn->lock);
	/* 22.11 makes rings of any index: one that the contract has not is not served. */
	if (index < 0 || index >= conn->nr_vqs)
		goto out;
	vq = &conn->vqs[index];
	vq->exchange = state == 0 && vq->ready && conn->request_vq == index &&
		(conn->request == VHOST_MSG_SET_VRING_KICK ||
			conn->request == VHOST_MSG_SET_VRING_CALL);
	if (vq->exchange)
		goto out;
	vq->ready = state != 0;
	vq->dirty = true;
	conn->changed = true;
	if (!vdpa_vhost_session_is_forgotten(conn))
		goto out; /* dev_conf follows in the same message */
	if (vq->ready && !conn->tells_status)
		vdpa_vhost_session_configure(conn);
	vdpa_vhost_session_commit(conn);
out:
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return 0;
}

/*
 * Does its work and returns an error, always: librte_vhost must not take the device for configured.
 * Once it does, 24.11 and 25.11 kill the process at a change of memory or a SET_VRING_KICK, and
 * 22.11 translates rings without its locks. So it is called after every message; only what a hook
 * or an op noted is done then.
 */
static int
dev_conf(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);

	if (conn == NULL)
		return -ENODEV;
	pthread_mutex_lock(&conn->lock);
	vdpa_vhost_session_configure(conn);
	vdpa_vhost_session_settle(conn);
	vdpa_vhost_session_commit(conn);
	if (conn->request != 0)
		vdpa_vhost_messages_note(conn->request, conn->request_began_ns, true);
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return -EAGAIN;
}

/* Comes at GET_VRING_BASE after the hook has stopped the device, and before dev_cleanup. */
static int
dev_close(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);

	if (conn == NULL)
		return -ENODEV;
	pthread_mutex_lock(&conn->lock);
	conn->configured = false;
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return 0;
}

/*
 * The connection ends, or the front end sent RESET_OWNER: one of our sockets tells them apart by
 * destroy_connection.
 */
static int
dev_cleanup(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);
	bool last;

	if (conn == NULL)
		return -ENODEV;
	pthread_mutex_lock(&conn->lock);
	vdpa_vhost_session_detach(conn);
	last = conn->gone || !conn->own;
	pthread_mutex_unlock(&conn->lock);
	if (last)
		vdpa_vhost_conn_forget(conn);
	vdpa_vhost_conn_put(conn);
	return 0;
}

/* Never an error: a front end would take what happens to be in its buffer. */
static int
get_config(int vid, uint8_t *config, uint32_t size_bytes)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);

	size_bytes = RTE_MIN(size_bytes, (uint32_t)VHOST_CONFIG_MAX);
	memset(config, 0, size_bytes);
	if (conn == NULL)
		return 0;
	pthread_mutex_lock(&conn->lock);
	if (conn->session != NULL)
		vdpa_binding_config_read(
			conn->binding->binding, conn->config_offset, config, size_bytes);
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return 0;
}

static int
set_config(int vid, uint8_t *config, uint32_t offset, uint32_t size_bytes, uint32_t flags)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);
	int ret = -ENODEV;

	RTE_SET_USED(flags); /* a driver's write, or a migration's: the same for a device */
	if (conn == NULL)
		return ret;
	pthread_mutex_lock(&conn->lock);
	if (conn->session != NULL && size_bytes <= VHOST_CONFIG_MAX)
		ret = vdpa_binding_config_write(conn->binding->binding, offset, config, size_bytes);
	if (ret < 0)
		VHOST_LOG_LIMITED(WARNING,
			"%s: %u bytes written to configuration space at %u are not taken: %s",
			conn->binding->name, size_bytes, offset, strerror(-ret));
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return ret;
}

/* While the binding is locked its device stays. */
static const char *const *
stat_names_locked(const struct vhost_binding *binding)
{
	const struct vdpa_device *dev = binding->dev;

	return dev != NULL ? dev->ops->vq_stat_names : NULL;
}

static int
get_stats_names(struct rte_vdpa_device *vdpa, struct rte_vdpa_stat_name *out, unsigned int size)
{
	struct vhost_binding *binding = vdpa_vhost_binding_of(vdpa);
	const char *const *names;
	unsigned int i;

	pthread_mutex_lock(&binding->lock);
	names = stat_names_locked(binding);
	for (i = 0; names != NULL && names[i] != NULL; i++)
		if (out != NULL && i < size)
			strlcpy(out[i].name, names[i], sizeof(out[i].name));
	pthread_mutex_unlock(&binding->lock);
	return i;
}

static int
get_stats(struct rte_vdpa_device *vdpa, int index, struct rte_vdpa_stat *stats, unsigned int size)
{
	struct vhost_binding *binding = vdpa_vhost_binding_of(vdpa);
	uint64_t values[VDPA_VQ_STATS_MAX];
	int i, nr = -EINVAL;

	pthread_mutex_lock(&binding->lock);
	if (binding->dev != NULL && index >= 0 && index <= UINT16_MAX)
		nr = vdpa_device_vq_stats(binding->dev, index, values);
	pthread_mutex_unlock(&binding->lock);
	for (i = 0; i < nr && (unsigned int)i < size; i++)
		stats[i] = (struct rte_vdpa_stat){.id = i, .value = values[i]};
	return nr;
}

struct rte_vdpa_dev_ops vdpa_vhost_ops = {
	.get_queue_num = get_queue_num,
	.get_features = get_features,
	.get_protocol_features = get_protocol_features,
	.get_dev_type = get_dev_type,
	.dev_conf = dev_conf,
	.dev_close = dev_close,
	.dev_cleanup = dev_cleanup,
	.set_vring_state = set_vring_state,
	.set_features = set_features,
	.get_config = get_config,
	.set_config = set_config,
	.get_stats_names = get_stats_names,
	.get_stats = get_stats,
};
