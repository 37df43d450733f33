/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vdpa_private.h"

int
vdpa_fd_dup(int fd, bool nonblock, struct vdpa_fd **out)
{
	struct vdpa_fd *copy;
	struct stat st;
	int flags;

	*out = NULL;
	if (fd < 0)
		return 0;
	copy = malloc(sizeof(*copy));
	if (copy == NULL)
		return -ENOMEM;
	copy->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy->fd < 0 || fstat(copy->fd, &st) != 0) {
		int rc = -errno;

		if (copy->fd >= 0)
			close(copy->fd);
		free(copy);
		return vdpa_error_set(rc, "descriptor %d: %s", fd, strerror(-rc));
	}
	copy->is_socket = S_ISSOCK(st.st_mode);
	atomic_init(&copy->refs, 1);
	if (nonblock && !copy->is_socket) {
		flags = fcntl(copy->fd, F_GETFL);
		if (flags >= 0 && (flags & O_NONBLOCK) == 0)
			fcntl(copy->fd, F_SETFL, flags | O_NONBLOCK);
	}
	*out = copy;
	return 0;
}

struct vdpa_fd *
vdpa_fd_get(struct vdpa_fd *fd)
{
	if (fd != NULL)
		atomic_fetch_add_explicit(&fd->refs, 1, memory_order_relaxed);
	return fd;
}

void
vdpa_fd_put(struct vdpa_fd *fd)
{
	if (fd != NULL && atomic_fetch_sub_explicit(&fd->refs, 1, memory_order_acq_rel) == 1) {
		close(fd->fd);
		free(fd);
	}
}

int
vdpa_call_set(struct vdpa_call *call, const struct vdpa_fd *fd)
{
	int number = atomic_load_explicit(&call->fd, memory_order_relaxed);
	int from = fd != NULL ? fd->fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = 0;

	if (from < 0)
		return -errno;
	if (number < 0) {
		number = fcntl(from, F_DUPFD_CLOEXEC, 0);
		rc = number < 0 ? -errno : 0;
	} else if (syscall(SYS_dup3, from, number, O_CLOEXEC) < 0) {
		/* not dup3(): a write beside it is meant, and no race on the descriptor */
		rc = -errno;
	}
	if (rc == 0) {
		atomic_store_explicit(
			&call->is_socket, fd != NULL && fd->is_socket, memory_order_relaxed);
		atomic_store_explicit(&call->fd, number, memory_order_release);
	}
	if (fd == NULL)
		close(from);
	return rc;
}

void
vdpa_call_write(struct vdpa_call *call)
{
	int fd = atomic_load_explicit(&call->fd, memory_order_acquire);
	uint64_t one = 1;
	ssize_t rc;

	if (fd < 0)
		return;
	/* a full socket or counter means that the driver has an interrupt waiting */
	if (atomic_load_explicit(&call->is_socket, memory_order_relaxed))
		rc = send(fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		rc = write(fd, &one, sizeof(one));
	(void)rc;
}

void
vdpa_call_close(struct vdpa_call *call)
{
	int fd = atomic_exchange_explicit(&call->fd, -1, memory_order_relaxed);

	if (fd >= 0)
		close(fd);
}
