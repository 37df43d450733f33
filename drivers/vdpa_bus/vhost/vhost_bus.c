/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <rte_common.h>
#include <rte_errno.h>
#include <rte_string_fns.h>

#include "vhost_bus.h"

RTE_LOG_REGISTER_DEFAULT(vdpa_vhost_logtype, NOTICE);

#define LEAVE_TIMEOUT_MS 2000 /* for the event thread to see the end of a connection */

static struct vhost_binding *bindings;
static pthread_mutex_t bindings_lock = PTHREAD_MUTEX_INITIALIZER;

struct vhost_binding *
vdpa_vhost_binding_of(const struct rte_vdpa_device *vdpa)
{
	return (struct vhost_binding *)((char *)vdpa->device -
		offsetof(struct vhost_binding, rte_dev));
}

struct vdpa_contract
vdpa_vhost_binding_contract(struct vhost_binding *binding)
{
	struct vdpa_contract contract;

	pthread_mutex_lock(&binding->lock);
	contract = binding->contract;
	pthread_mutex_unlock(&binding->lock);
	return contract;
}

int
vdpa_vhost_binding_foreach(int (*fn)(struct vhost_binding *binding, void *arg), void *arg)
{
	struct vhost_binding *binding;
	int ret = 0;

	pthread_mutex_lock(&bindings_lock);
	for (binding = bindings; binding != NULL && ret == 0; binding = binding->next)
		ret = fn(binding, arg);
	pthread_mutex_unlock(&bindings_lock);
	return ret;
}

static struct vhost_binding *
binding_find(const struct vdpa_device *dev)
{
	struct vhost_binding *binding;

	pthread_mutex_lock(&bindings_lock);
	for (binding = bindings; binding != NULL; binding = binding->next)
		if (binding->dev == dev)
			break;
	pthread_mutex_unlock(&bindings_lock);
	return binding;
}

static struct vhost_binding *
orphan_find(const char *name)
{
	struct vhost_binding *binding;

	pthread_mutex_lock(&bindings_lock);
	for (binding = bindings; binding != NULL; binding = binding->next)
		if (binding->dev == NULL && strcmp(binding->name, name) == 0)
			break;
	pthread_mutex_unlock(&bindings_lock);
	return binding;
}

static void
list_add(struct vhost_binding *binding)
{
	pthread_mutex_lock(&bindings_lock);
	binding->next = bindings;
	bindings = binding;
	pthread_mutex_unlock(&bindings_lock);
}

static void
list_del(struct vhost_binding *binding)
{
	struct vhost_binding **link;

	pthread_mutex_lock(&bindings_lock);
	for (link = &bindings; *link != NULL; link = &(*link)->next) {
		if (*link != binding)
			continue;
		*link = binding->next;
		break;
	}
	pthread_mutex_unlock(&bindings_lock);
}

/* ---- callbacks of the class, its op queue ---- */

static void
config_changed(struct vdpa_binding *unused, void *arg)
{
	RTE_SET_USED(unused);
	vdpa_vhost_channel_config_changed(arg);
}

static void
needs_reset(struct vdpa_binding *unused, void *arg, int error)
{
	struct vhost_binding *binding = arg;

	RTE_SET_USED(unused);
	VHOST_LOG_LIMITED(
		ERR, "%s: needs a reset by its driver: %s", binding->name, strerror(-error));
}

/* librte_vhost's entry, its name and its connection stay. */
static void
moved(struct vdpa_binding *class_binding, void *arg, struct vdpa_device *dev)
{
	struct vhost_binding *binding = arg;

	pthread_mutex_lock(&binding->lock);
	binding->dev = dev;
	vdpa_binding_contract(class_binding, &binding->contract);
	pthread_mutex_unlock(&binding->lock);
}

static const struct vdpa_binding_ops binding_ops = {
	.config_changed = config_changed,
	.needs_reset = needs_reset,
	.moved = moved,
};

/* ---- devices ---- */

static void
binding_free(struct vhost_binding *binding)
{
	if (binding->vdpa != NULL)
		rte_vdpa_unregister_device(binding->vdpa);
	if (binding->binding != NULL)
		vdpa_binding_destroy(binding->binding);
	pthread_mutex_destroy(&binding->lock);
	free(binding);
}

static struct vhost_binding *
binding_new(const char *name)
{
	struct vhost_binding *binding = calloc(1, sizeof(*binding));

	if (binding == NULL)
		return NULL;
	pthread_mutex_init(&binding->lock, NULL);
	strlcpy(binding->name, name, sizeof(binding->name));
	binding->rte_dev.name = binding->name;
	binding->rte_dev.numa_node = -1;
	binding->channel_fd = -1;
	return binding;
}

/* A device of the same name is back: its entry in librte_vhost was kept. */
static int
orphan_adopt(struct vhost_binding *binding, struct vdpa_device *dev)
{
	struct vdpa_contract contract;

	binding->binding = vdpa_binding_create(dev->name, dev, &binding_ops, binding);
	if (binding->binding == NULL)
		return -EEXIST;
	vdpa_binding_contract(binding->binding, &contract);
	if (contract.virtio_id != binding->contract.virtio_id) {
		vdpa_binding_destroy(binding->binding);
		binding->binding = NULL;
		return vdpa_error_set(-EEXIST,
			"%s: a program's socket still stands for a device of this "
			"name and another type",
			dev->name);
	}
	pthread_mutex_lock(&binding->lock);
	binding->contract = contract;
	binding->dev = dev;
	binding->leaving = false;
	pthread_mutex_unlock(&binding->lock);
	return 0;
}

static int
device_added(struct vdpa_device *dev)
{
	struct vhost_binding *binding = orphan_find(dev->name);
	int ret;

	if (binding != NULL)
		return orphan_adopt(binding, dev);
	binding = binding_new(dev->name);
	if (binding == NULL)
		return vdpa_error_set(-ENOMEM, "%s: no memory", dev->name);
	binding->dev = dev;
	binding->binding = vdpa_binding_create(dev->name, dev, &binding_ops, binding);
	if (binding->binding == NULL) {
		ret = -EEXIST; /* vdpa_error_text() is the class's */
		goto err;
	}
	vdpa_binding_contract(binding->binding, &binding->contract);
	binding->vdpa = rte_vdpa_register_device(&binding->rte_dev, &vdpa_vhost_ops);
	if (binding->vdpa == NULL) {
		ret = vdpa_error_set(
			-EEXIST, "%s: librte_vhost has a vDPA device of this name", dev->name);
		goto err;
	}
	list_add(binding);
	return 0;
err:
	binding_free(binding);
	return ret;
}

/*
 * Bring the datapath of a connection to rest and take nothing more from it. For a stock program's
 * socket, which is not ours to close, also end the connection.
 */
static void
conn_quiesce(struct vhost_conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	if (!conn->closing && conn->session != NULL && conn->configured)
		vdpa_session_stop(conn->session, NULL, 0, 0);
	conn->closing = true;
	conn->configured = false;
	if (!conn->own && conn->fd >= 0 && !conn->gone)
		shutdown(conn->fd, SHUT_RDWR);
	pthread_mutex_unlock(&conn->lock);
}

static int
socket_unbind(struct vhost_binding *binding)
{
	struct vhost_conn *conn;

	if (binding->socket.path[0] == '\0')
		return vdpa_error_set(-ENOENT, "%s: is not bound", binding->name);
	conn = vdpa_vhost_conn_of(binding);
	if (conn != NULL) {
		if (conn->own)
			conn_quiesce(conn);
		vdpa_vhost_conn_put(conn);
	}
	vdpa_vhost_socket_close(binding);
	vdpa_device_set_bound(binding->dev, NULL);
	return 0;
}

/* -EBUSY: a stock program's connection does not go. */
static int
wait_gone(struct vhost_binding *binding)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t until_ns = vdpa_vhost_now_ns() + LEAVE_TIMEOUT_MS * UINT64_C(1000000);
	struct vhost_conn *conn;

	while ((conn = vdpa_vhost_conn_of(binding)) != NULL) {
		conn_quiesce(conn);
		vdpa_vhost_conn_put(conn);
		if (vdpa_vhost_now_ns() > until_ns)
			return -EBUSY;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static bool
stock_holds(const struct vhost_binding *binding)
{
	return binding->stock_path[0] != '\0' &&
		rte_vhost_driver_get_vdpa_device(binding->stock_path) == binding->vdpa;
}

static int
device_leave(struct vhost_binding *binding)
{
	int ret;

	socket_unbind(binding);
	ret = wait_gone(binding);
	if (ret < 0)
		return vdpa_error_set(ret, "%s: a program's front end at %s cannot be disconnected",
			binding->name, binding->stock_path);
	ret = vdpa_binding_destroy(binding->binding);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&binding->lock);
	binding->binding = NULL;
	binding->dev = NULL;
	/* Whoever attaches to it from now on agrees on nothing and gets no datapath. */
	binding->contract.features = 0;
	pthread_mutex_unlock(&binding->lock);
	return 0;
}

static int
device_removed(struct vdpa_device *dev, bool force)
{
	struct vhost_binding *binding = binding_find(dev);
	struct vhost_conn *conn;
	int ret = 0;

	if (binding == NULL)
		return 0;
	pthread_mutex_lock(&binding->lock);
	binding->leaving = true;
	conn = binding->attached;
	if (conn != NULL && !force)
		ret = vdpa_error_set(-EBUSY, "%s: %s is attached", binding->name, conn->peer);
	pthread_mutex_unlock(&binding->lock);
	if (ret == 0)
		ret = device_leave(binding);
	if (ret < 0) {
		pthread_mutex_lock(&binding->lock);
		binding->leaving = false;
		pthread_mutex_unlock(&binding->lock);
		return ret;
	}
	/*
	 * A stock program's socket points to the entry for as long as it is registered, and nobody
	 * tells when that ends.
	 */
	if (stock_holds(binding)) {
		VHOST_LOG(NOTICE, "%s: gone, but a program's socket %s stands for it",
			binding->name, binding->stock_path);
		return 0;
	}
	list_del(binding);
	binding_free(binding);
	return 0;
}

static int
bind_socket(struct vdpa_device *dev, const char *text)
{
	struct vhost_binding *binding = binding_find(dev);
	struct vhost_args args;
	char bound[160];
	int ret;

	if (binding == NULL)
		return vdpa_error_set(-ENODEV, "%s: no such device", dev->name);
	ret = vdpa_vhost_args_parse(text, &args);
	if (ret < 0)
		return ret;
	if (binding->socket.path[0] != '\0')
		return vdpa_error_set(
			-EBUSY, "%s: is bound to %s", dev->name, binding->socket.path);
	ret = vdpa_vhost_socket_open(binding, &args);
	if (ret < 0)
		return ret;
	snprintf(bound, sizeof(bound), "vhost:%s (%s)", args.path,
		args.client ? "client" : "server");
	vdpa_device_set_bound(dev, bound);
	return 0;
}

static int
unbind_socket(struct vdpa_device *dev)
{
	struct vhost_binding *binding = binding_find(dev);

	if (binding == NULL)
		return vdpa_error_set(-ENOENT, "%s: no such device", dev->name);
	return socket_unbind(binding);
}

static struct vdpa_bus_driver vhost_driver = {
	.name = "vhost",
	.keys = vdpa_vhost_keys,
	.device_added = device_added,
	.device_removed = device_removed,
	.bind = bind_socket,
	.unbind = unbind_socket,
};

static int
add_present(struct vdpa_device *dev, void *arg)
{
	RTE_SET_USED(arg);
	if (device_added(dev) < 0)
		VHOST_LOG(ERR, "%s: not offered: %s", dev->name, vdpa_error_text());
	return 0;
}

RTE_INIT(vhost_bus_init)
{
	if (VDPA_DPDK_CHECK() < 0)
		return;
	vdpa_bus_driver_register(&vhost_driver);
	/* A program may load the plug-in after it made devices. */
	vdpa_device_foreach(add_present, NULL);
}
