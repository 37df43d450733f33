/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "vhost_bus.h"
#include "vhost_message.h"

/*
 * Memory that a front end gives and takes region by region (CONFIGURE_MEM_SLOTS). librte_vhost does
 * not know these messages, or does not tell a vDPA device of them, and nothing but SET_MEM_TABLE
 * fills its table. So on such a connection the table is ours, and with it what comes of it: where
 * rings lie, and whether they are ready. librte_vhost keeps the rest of a ring, and takes none for
 * ready; only block devices can do without that (vdpa_vhost_session_is_forgotten()).
 */

#define FD_NOT_TOLD (-2) /* librte_vhost's, of a ring */

bool
vdpa_vhost_slots_offered(const struct vhost_conn *conn, struct vhost_message *msg)
{
	return conn->own && vdpa_vhost_session_is_forgotten(conn) &&
		vdpa_vhost_message_fds(msg) != NULL;
}

static void
close_all(struct vhost_mem *memory)
{
	uint32_t i;

	for (i = 0; i < memory->nr_regions; i++)
		close(memory->regions[i].fd);
	memory->nr_regions = 0;
}

void
vdpa_vhost_slots_forget(struct vhost_conn *conn)
{
	if (conn->slots)
		close_all(&conn->memory);
	conn->slots = false;
}

/* Neither wraps around. */
static bool
overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a - b < b_bytes || b - a < a_bytes;
}

/* NULL, or why not; so are the results below. */
static const char *
add(struct vhost_mem *memory, const struct vhost_message_region *region, int fd)
{
	uint32_t i;

	if (memory->nr_regions == VHOST_SLOTS_MAX)
		return "no slot is left";
	if (vdpa_vhost_memory_mappable(fd, region->fd_offset, region->size_bytes) < 0)
		return "the region cannot be mapped";
	if (region->iova + region->size_bytes - 1 < region->iova ||
		region->user + region->size_bytes - 1 < region->user)
		return "the region passes the end of the address space";
	for (i = 0; i < memory->nr_regions; i++) {
		const struct vhost_region *other = &memory->regions[i];

		if (overlap(region->iova, region->size_bytes, other->iova, other->size_bytes) ||
			overlap(region->user, region->size_bytes, other->host, other->size_bytes))
			return "the region overlaps another";
	}
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return "no descriptor is left";
	memory->regions[memory->nr_regions++] = (struct vhost_region){
		.iova = region->iova,
		.size_bytes = region->size_bytes,
		.host = region->user,
		.fd = fd,
		.fd_offset = region->fd_offset,
	};
	return NULL;
}

static const char *
add_one(struct vhost_mem *memory, struct vhost_message *msg)
{
	const struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);

	if (msg->size_bytes < sizeof(msg->payload.slot))
		return "the message is cut short";
	if (fds == NULL || fds->nr != 1)
		return "it wants one descriptor";
	return add(memory, &msg->payload.slot.region, fds->fds[0]);
}

static const char *
remove_one(struct vhost_mem *memory, const struct vhost_message *msg)
{
	const struct vhost_message_region *region = &msg->payload.slot.region;
	uint32_t i;

	if (msg->size_bytes < sizeof(msg->payload.slot))
		return "the message is cut short";
	for (i = 0; i < memory->nr_regions; i++) {
		struct vhost_region *slot = &memory->regions[i];

		if (slot->iova != region->iova || slot->size_bytes != region->size_bytes ||
			slot->host != region->user)
			continue;
		close(slot->fd);
		*slot = memory->regions[--memory->nr_regions];
		return NULL;
	}
	return "there is no such region";
}

/* Front ends use this one, too, for what they have at the start. */
static const char *
replace_all(struct vhost_mem *memory, struct vhost_message *msg)
{
	const char *why = vdpa_vhost_message_memory_refused(msg);
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	struct vhost_mem table = {0};
	uint32_t i;

	for (i = 0; why == NULL && i < msg->payload.memory.nr_regions; i++)
		why = add(&table, &msg->payload.memory.regions[i], fds->fds[i]);
	if (why != NULL) {
		close_all(&table);
		return why;
	}
	close_all(memory);
	*memory = table;
	return NULL;
}

static const char *
place_ring(struct vhost_conn *conn, const struct vhost_message *msg)
{
	struct vhost_vq *vq;

	if (msg->size_bytes < sizeof(msg->payload.ring))
		return "the message is cut short";
	if (msg->payload.ring.index >= conn->nr_vqs)
		return "the device has no such ring";
	vq = &conn->vqs[msg->payload.ring.index];
	vq->placed = true;
	vq->desc = msg->payload.ring.desc;
	vq->avail = msg->payload.ring.avail;
	vq->used = msg->payload.ring.used;
	return NULL;
}

enum rte_vhost_msg_result
vdpa_vhost_slots_message(struct vhost_conn *conn, struct vhost_message *msg)
{
	const char *why;

	switch (msg->request) {
	case VHOST_MSG_GET_MAX_MEM_SLOTS:
		return vdpa_vhost_message_reply(msg, VHOST_SLOTS_MAX);
	case VHOST_MSG_ADD_MEM_REG:
		why = add_one(&conn->memory, msg);
		break;
	case VHOST_MSG_REM_MEM_REG:
		why = remove_one(&conn->memory, msg);
		break;
	case VHOST_MSG_SET_MEM_TABLE:
		why = replace_all(&conn->memory, msg);
		break;
	case VHOST_MSG_SET_VRING_ADDR:
		why = place_ring(conn, msg);
		break;
	default:
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	}
	vdpa_vhost_message_close_fds(msg);
	if (why != NULL) {
		VHOST_LOG_LIMITED(ERR, "%s: message %u of %s is refused: %s", conn->binding->name,
			msg->request, conn->peer, why);
		return RTE_VHOST_MSG_RESULT_ERR;
	}
	if (msg->request != VHOST_MSG_SET_VRING_ADDR) {
		conn->regions_seq++;
		vdpa_vhost_session_all_dirty(conn);
	}
	return RTE_VHOST_MSG_RESULT_OK;
}

void
vdpa_vhost_slots_find_ring(const struct vhost_vq *vq, struct rte_vhost_vring *ring)
{
	ring->desc = (void *)(uintptr_t)vq->desc;
	ring->avail = (void *)(uintptr_t)vq->avail;
	ring->used = (void *)(uintptr_t)vq->used;
}

void
vdpa_vhost_slots_ring(struct vhost_conn *conn, const struct vhost_message *msg)
{
	struct rte_vhost_vring ring;
	struct vhost_vq *vq;
	uint64_t features;
	bool ready;

	if (conn->request_vq >= conn->nr_vqs)
		return;
	vq = &conn->vqs[conn->request_vq];
	if (conn->request == VHOST_MSG_SET_VRING_ENABLE)
		vq->enabled = msg->payload.vring.num != 0;
	else if (conn->request == VHOST_MSG_GET_VRING_BASE)
		vq->placed = false;
	else if (conn->request == VHOST_MSG_SET_VRING_KICK &&
		rte_vhost_get_negotiated_features(conn->vid, &features) == 0 &&
		(features & VHOST_F_PROTOCOL_FEATURES) == 0)
		vq->enabled = true;
	ready = vq->placed && vq->enabled &&
		rte_vhost_get_vhost_vring(conn->vid, conn->request_vq, &ring) == 0 &&
		ring.kickfd != FD_NOT_TOLD && ring.callfd != FD_NOT_TOLD;
	if (ready == vq->ready)
		return;
	vq->ready = ready;
	vq->dirty = true;
	conn->changed = true;
	if (ready && !conn->tells_status)
		vdpa_vhost_session_configure(conn);
}

/* Acknowledged, it may be used at once; a running device takes it up later than it is told. */
void
vdpa_vhost_slots_wait(struct vhost_conn *conn)
{
	if (conn->session != NULL && conn->configured &&
		(conn->request == VHOST_MSG_ADD_MEM_REG ||
			conn->request == VHOST_MSG_SET_MEM_TABLE))
		vdpa_session_sync(conn->session, VHOST_TIMEOUT_MS);
}

bool
vdpa_vhost_slots_torn(const struct vhost_conn *conn)
{
	struct rte_vhost_vring ring = {0};
	struct vdpa_wanted_vq where;
	uint16_t i;

	if (!conn->slots)
		return false;
	if (conn->memory.nr_regions == 0)
		return true;
	for (i = 0; i < conn->nr_vqs; i++) {
		if (!conn->wanted[i].ready || !conn->vqs[i].ready)
			continue;
		vdpa_vhost_slots_find_ring(&conn->vqs[i], &ring);
		if (vdpa_vhost_ring_take(&where, &ring, &conn->memory) < 0)
			return true;
	}
	return false;
}
