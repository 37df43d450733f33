/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost_bus.h"

static int
new_device(int vid)
{
	RTE_SET_USED(vid);
	return 0;
}

static void
destroy_device(int vid)
{
	RTE_SET_USED(vid);
}

static const struct rte_vhost_device_ops socket_ops = {
	.new_device = new_device,
	.destroy_device = destroy_device,
	.new_connection = vdpa_vhost_conn_new,
	.destroy_connection = vdpa_vhost_conn_destroyed,
};

static int
unix_socket(const char *path, struct sockaddr_un *un)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strnlen(path, sizeof(un->sun_path) - 1));
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Is there anybody behind a socket file? 0: nobody. */
static int
socket_alive(const char *path)
{
	struct sockaddr_un un;
	int fd, ret = 0;

	fd = unix_socket(path, &un);
	if (fd < 0)
		return vdpa_error_set(-errno, "no socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		ret = vdpa_error_set(-EADDRINUSE, "path=%s: process %d listens there", path,
			(int)vdpa_vhost_peer_pid(fd));
	else if (errno == EAGAIN)
		ret = vdpa_error_set(-EADDRINUSE, "path=%s: a busy process listens there", path);
	else if (errno != ECONNREFUSED && errno != ENOENT)
		ret = vdpa_error_set(-EADDRINUSE, "path=%s: %s", path, strerror(errno));
	close(fd);
	return ret;
}

int
vdpa_vhost_socket_clear(const char *path)
{
	struct sockaddr_un un;
	struct stat st;
	int fd, ret;

	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return vdpa_error_set(
				-EEXIST, "path=%s: a file that is no socket is there", path);
		ret = socket_alive(path);
		if (ret < 0)
			return ret;
		if (unlink(path) < 0 && errno != ENOENT)
			return vdpa_error_set(-errno, "path=%s: cannot remove the stale socket: %s",
				path, strerror(errno));
		VHOST_LOG(NOTICE, "%s: removed a socket that nobody listened on", path);
	}
	/*
	 * librte_vhost does not say why it cannot bind, and closes a descriptor twice then: try
	 * first.
	 */
	fd = unix_socket(path, &un);
	if (fd < 0)
		return vdpa_error_set(-errno, "no socket: %s", strerror(errno));
	ret = bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ? -errno : 0;
	close(fd);
	if (ret < 0)
		return vdpa_error_set(
			ret, "path=%s: cannot make a socket there: %s", path, strerror(-ret));
	unlink(path);
	return 0;
}

/*
 * Group first: only then may its members come in. By descriptor, so that nobody can put another
 * file there.
 */
static int
socket_permit(const struct vhost_args *args)
{
	char proc[32];
	struct stat st;
	int fd, ret = 0;

	fd = open(args->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		ret = vdpa_error_set(-ENOENT, "path=%s: the socket is gone again", args->path);
		goto out;
	}
	if (args->set_group && fchownat(fd, "", -1, args->gid, AT_EMPTY_PATH) < 0) {
		ret = vdpa_error_set(-errno, "path=%s: cannot give it to group %u: %s", args->path,
			(unsigned int)args->gid, strerror(errno));
		goto out;
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (chmod(proc, args->mode) < 0)
		ret = vdpa_error_set(-errno, "path=%s: cannot set mode %04o: %s", args->path,
			(unsigned int)args->mode, strerror(errno));
out:
	if (fd >= 0)
		close(fd);
	return ret;
}

struct start {
	const char *path;
	int ret;
};

/*
 * The file mode mask belongs to a process, unless a thread leaves that company: nobody else is
 * disturbed.
 */
static void *
start_closed(void *arg)
{
	struct start *start = arg;
	mode_t mask;

	if (unshare(CLONE_FS) < 0) {
		start->ret = -errno;
		return NULL;
	}
	mask = umask(0777);
	start->ret = rte_vhost_driver_start(start->path) < 0 ? -EIO : 0;
	/* librte_vhost's own threads, if they were started here, inherit it. */
	umask(mask);
	return NULL;
}

static int
socket_start(const struct vhost_args *args)
{
	struct start start = {.path = args->path};
	pthread_t thread;
	int ret;

	if (!args->set_mode) {
		if (rte_vhost_driver_start(args->path) < 0)
			return vdpa_error_set(
				-EIO, "path=%s: librte_vhost cannot open it", args->path);
		return 0;
	}
	ret = -pthread_create(&thread, NULL, start_closed, &start);
	if (ret < 0)
		return vdpa_error_set(ret, "no thread: %s", strerror(-ret));
	pthread_join(thread, NULL);
	if (start.ret < 0)
		return vdpa_error_set(
			start.ret, "path=%s: librte_vhost cannot open it", args->path);
	return socket_permit(args);
}

static int
same_path(struct vhost_binding *binding, void *arg)
{
	if (strcmp(binding->socket.path, arg) != 0)
		return 0;
	return vdpa_error_set(
		-EADDRINUSE, "path=%s: device %s is bound there", (char *)arg, binding->name);
}

int
vdpa_vhost_socket_open(struct vhost_binding *binding, const struct vhost_args *args)
{
	const char *path = args->path;
	uint64_t protocol_features;
	int ret;

	ret = vdpa_vhost_binding_foreach(same_path, (void *)(uintptr_t)path);
	if (ret == 0 && !args->client)
		ret = vdpa_vhost_socket_clear(path);
	if (ret < 0)
		return ret;
	if (rte_vhost_driver_register(path, args->client ? RTE_VHOST_USER_CLIENT : 0) < 0)
		return vdpa_error_set(-EIO, "path=%s: librte_vhost does not take it", path);
	binding->socket = *args;
	/* Before a device is attached these are librte_vhost's own. */
	if (rte_vhost_driver_get_protocol_features(path, &protocol_features) < 0 ||
		rte_vhost_driver_set_protocol_features(path,
			protocol_features | UINT64_C(1) << VHOST_USER_PROTOCOL_F_CONFIG) < 0 ||
		rte_vhost_driver_callback_register(path, &socket_ops) < 0 ||
		rte_vhost_driver_attach_vdpa_device(path, binding->vdpa) < 0 ||
		rte_vhost_driver_get_features(path, &binding->socket_known) < 0)
		ret = vdpa_error_set(-EIO, "path=%s: librte_vhost does not take the device", path);
	else
		ret = socket_start(args);
	if (ret < 0)
		vdpa_vhost_socket_close(binding);
	return ret;
}

void
vdpa_vhost_socket_close(struct vhost_binding *binding)
{
	if (binding->socket.path[0] == '\0')
		return;
	/*
	 * Runs dev_close and dev_cleanup of its connections on this thread, but not
	 * destroy_connection.
	 */
	rte_vhost_driver_unregister(binding->socket.path);
	vdpa_vhost_conn_forget_own(binding);
	memset(&binding->socket, 0, sizeof(binding->socket));
}
