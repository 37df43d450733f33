/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vhost_bus.h"
#include "vhost_message.h"
#include "vring_inflight.h"

/*
 * The region in which a device notes what it took. The front end keeps it over a lost connection
 * and gives it to whom it finds next. librte_vhost does not hear of this protocol feature: it would
 * move the rings' positions by what it finds there.
 */

bool
vdpa_vhost_inflight_offered(const struct vhost_conn *conn, struct vhost_message *msg)
{
	return conn->own && vdpa_vhost_binding_contract(conn->binding).notes &&
		vdpa_vhost_message_fds(msg) != NULL;
}

static void
take(struct vhost_conn *conn, int fd, const struct vhost_message *msg)
{
	struct vhost_inflight *inflight = &conn->inflight;

	if (inflight->fd >= 0)
		close(inflight->fd);
	inflight->fd = fd;
	inflight->offset = msg->payload.inflight.mmap_offset;
	inflight->size_bytes = msg->payload.inflight.mmap_size;
	inflight->nr_vqs = msg->payload.inflight.nr_vqs;
	inflight->vq_size = msg->payload.inflight.vq_size;
	inflight->seq++;
	conn->changed = true;
}

void
vdpa_vhost_inflight_forget(struct vhost_conn *conn)
{
	if (conn->inflight.fd >= 0)
		close(conn->inflight.fd);
	conn->inflight.fd = -1;
	conn->inflight.seq++;
}

/* A descriptor, or a negative errno. */
static int
create(uint64_t size_bytes)
{
	int fd = memfd_create("vdpa-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd >= 0 && ftruncate(fd, size_bytes) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
		return fd;
	rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

enum rte_vhost_msg_result
vdpa_vhost_inflight_get(struct vhost_conn *conn, struct vhost_message *msg)
{
	uint16_t nr_vqs = msg->payload.inflight.nr_vqs, vq_size = msg->payload.inflight.vq_size;
	struct vhost_message_fds *fds;
	int fd;

	vdpa_vhost_message_close_fds(msg);
	fds = vdpa_vhost_message_fds(msg);
	if (fds == NULL || nr_vqs == 0 || nr_vqs > VHOST_VQS_MAX || vq_size == 0 ||
		vq_size > VRING_SIZE_MAX) {
		vdpa_vhost_session_fail(conn, "it asks for no sound inflight region");
		return vdpa_vhost_message_end(msg);
	}
	msg->payload.inflight.mmap_offset = 0;
	msg->payload.inflight.mmap_size = nr_vqs * vring_inflight_bytes(vq_size, conn->features);
	fd = create(msg->payload.inflight.mmap_size);
	if (fd < 0) {
		vdpa_vhost_session_fail(conn, "no memory for an inflight region");
		return vdpa_vhost_message_end(msg);
	}
	/* kept, for it must be open when the reply goes out */
	take(conn, fd, msg);
	fds->fds[0] = fd;
	fds->nr = 1;
	return RTE_VHOST_MSG_RESULT_REPLY;
}

enum rte_vhost_msg_result
vdpa_vhost_inflight_set(struct vhost_conn *conn, struct vhost_message *msg)
{
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	int fd = fds != NULL && fds->nr == 1 ? fcntl(fds->fds[0], F_DUPFD_CLOEXEC, 0) : -1;

	vdpa_vhost_message_close_fds(msg);
	if (fd < 0) {
		vdpa_vhost_session_fail(conn, "its inflight region has no descriptor");
		return vdpa_vhost_message_end(msg);
	}
	take(conn, fd, msg);
	return RTE_VHOST_MSG_RESULT_OK;
}
