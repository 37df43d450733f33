/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost_bus.h"

/*
 * The back-end request channel carries one message of ours: configuration space changed. It is sent
 * here and not by librte_vhost's function, which writes blocking: a front end that leaves its
 * channel unread would hold the caller, and the event thread, which must wait for the caller before
 * the connection goes. The front end has the other end of the same socket and could undo any
 * timeout set on it; MSG_DONTWAIT it cannot.
 */
struct channel_message {
	uint32_t request;
	uint32_t flags;
	uint32_t size_bytes;
};
#define CHANNEL_CONFIG_CHANGE 2
#define CHANNEL_VERSION       1

void
vdpa_vhost_channel_set(struct vhost_binding *binding, int fd)
{
	int former;

	pthread_mutex_lock(&binding->lock);
	former = binding->channel_fd;
	binding->channel_fd = fd;
	pthread_mutex_unlock(&binding->lock);
	if (former >= 0)
		close(former);
}

void
vdpa_vhost_channel_config_changed(struct vhost_binding *binding)
{
	static const struct channel_message message = {
		.request = CHANNEL_CONFIG_CHANGE,
		.flags = CHANNEL_VERSION,
	};
	ssize_t sent = sizeof(message);
	int error = 0;

	pthread_mutex_lock(&binding->lock);
	if (binding->channel_fd >= 0) {
		sent = send(binding->channel_fd, &message, sizeof(message),
			MSG_DONTWAIT | MSG_NOSIGNAL);
		error = errno;
	}
	pthread_mutex_unlock(&binding->lock);
	if (sent != sizeof(message) && error != EPIPE && error != ECONNRESET)
		VHOST_LOG_LIMITED(WARNING,
			"%s: front end not told of a change of configuration space: %s",
			binding->name, strerror(error));
}
