/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhost_bus.h"

#define NR_NEAR 32

/*
 * librte_vhost gives no way to a connection's descriptor, and reads and writes it blocking: half a
 * message would hold the event thread for ever. So the descriptor is looked for among all of the
 * process: a stream socket whose own name (we are the server) or whose peer's (we are the client)
 * is the path.
 */
static bool
named(int fd, int (*name)(int, struct sockaddr *, socklen_t *), const char *path)
{
	struct sockaddr_un un = {0};
	socklen_t len = sizeof(un);

	if (name(fd, (struct sockaddr *)&un, &len) < 0 || un.sun_family != AF_UNIX)
		return false;
	return strncmp(un.sun_path, path, sizeof(un.sun_path)) == 0;
}

static bool
connected_at(int fd, const char *path)
{
	struct sockaddr_un un;
	socklen_t len = sizeof(un);

	if (named(fd, getpeername, path))
		return true;
	/* A listening socket has the name, but no peer. */
	return named(fd, getsockname, path) && getpeername(fd, (struct sockaddr *)&un, &len) == 0;
}

static void
set_timeouts(int fd)
{
	const struct timeval timeout = {.tv_usec = VHOST_TIMEOUT_MS * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		VHOST_LOG_LIMITED(WARNING, "no timeout on a connection: %s", strerror(errno));
}

struct search {
	const char *path;
	bool (*taken)(int fd, void *arg);
	void *arg;
	int found;
	bool several;
};

static void
look_at(struct search *search, int fd)
{
	if (!connected_at(fd, search->path) || search->taken(fd, search->arg))
		return;
	set_timeouts(fd);
	search->several |= search->found >= 0;
	search->found = fd;
}

/*
 * A new descriptor has the lowest number that was free: it is just below the one that is free now,
 * unless one was closed meanwhile. Spares the way through all that a thousand devices have.
 */
static void
look_near(struct search *search)
{
	int lowest_free = eventfd(0, EFD_CLOEXEC);

	if (lowest_free < 0)
		return;
	close(lowest_free);
	for (int fd = RTE_MAX(lowest_free - NR_NEAR, 0); fd < lowest_free; fd++)
		look_at(search, fd);
}

static void
look_everywhere(struct search *search)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
			look_at(search, strtol(entry->d_name, NULL, 10));
	closedir(dir);
}

int
vdpa_vhost_peer_find(const char *path, bool (*taken)(int fd, void *arg), void *arg)
{
	struct search search = {.path = path, .taken = taken, .arg = arg, .found = -1};

	look_near(&search);
	if (search.found < 0)
		look_everywhere(&search);
	return search.several ? -1 : search.found;
}

pid_t
vdpa_vhost_peer_pid(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return 0;
	return cred.pid;
}

bool
vdpa_vhost_peer_dead(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLRDHUP};

	return fd >= 0 && poll(&pfd, 1, 0) == 1;
}

bool
vdpa_vhost_peer_reads(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	/* A dead one is not writable in earnest, but writing to it does not block. */
	return fd < 0 || poll(&pfd, 1, 0) == 1;
}
