/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhost_message.h"

struct vhost_message_fds *
vdpa_vhost_message_fds(struct vhost_message *msg)
{
	struct vhost_message_fds *fds = (void *)((uint8_t *)msg + VDPA_VHOST_MESSAGE_FDS_OFFSET);
	int i;

	if (fds->nr < 0 || fds->nr > VHOST_MESSAGE_FDS_MAX)
		return NULL;
	for (i = fds->nr; i < VHOST_MESSAGE_FDS_MAX; i++)
		if (fds->fds[i] != -1)
			return NULL;
	return fds;
}

void
vdpa_vhost_message_close_fds(struct vhost_message *msg)
{
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	int i;

	for (i = 0; fds != NULL && i < fds->nr; i++)
		if (fds->fds[i] >= 0)
			close(fds->fds[i]);
	if (fds != NULL)
		fds->nr = 0;
}

enum rte_vhost_msg_result
vdpa_vhost_message_end(struct vhost_message *msg)
{
	vdpa_vhost_message_close_fds(msg);
	msg->flags &= ~VHOST_MESSAGE_NEED_REPLY;
	return RTE_VHOST_MSG_RESULT_ERR;
}

enum rte_vhost_msg_result
vdpa_vhost_message_reply(struct vhost_message *msg, uint64_t value)
{
	vdpa_vhost_message_close_fds(msg);
	msg->payload.u64 = value;
	msg->size_bytes = sizeof(value);
	return RTE_VHOST_MSG_RESULT_REPLY;
}

bool
vdpa_vhost_message_expected(uint32_t request, const struct vdpa_contract *contract, bool slots)
{
	switch (request) {
	case VHOST_MSG_GET_FEATURES:
	case VHOST_MSG_SET_FEATURES:
	case VHOST_MSG_SET_OWNER:
	case VHOST_MSG_RESET_OWNER:
	case VHOST_MSG_SET_MEM_TABLE:
	case VHOST_MSG_SET_LOG_BASE:
	case VHOST_MSG_SET_LOG_FD:
	case VHOST_MSG_SET_VRING_NUM:
	case VHOST_MSG_SET_VRING_ADDR:
	case VHOST_MSG_SET_VRING_BASE:
	case VHOST_MSG_GET_VRING_BASE:
	case VHOST_MSG_SET_VRING_KICK:
	case VHOST_MSG_SET_VRING_CALL:
	case VHOST_MSG_SET_VRING_ERR:
	case VHOST_MSG_GET_PROTOCOL_FEATURES:
	case VHOST_MSG_SET_PROTOCOL_FEATURES:
	case VHOST_MSG_GET_QUEUE_NUM:
	case VHOST_MSG_SET_VRING_ENABLE:
	case VHOST_MSG_SET_BACKEND_REQ_FD:
	case VHOST_MSG_GET_CONFIG:
	case VHOST_MSG_SET_CONFIG:
	case VHOST_MSG_SET_STATUS:
	case VHOST_MSG_GET_STATUS:
		return true;
	case VHOST_MSG_SEND_RARP:
		return contract->can_announce;
	case VHOST_MSG_GET_INFLIGHT_FD:
	case VHOST_MSG_SET_INFLIGHT_FD:
		return contract->notes;
	case VHOST_MSG_GET_MAX_MEM_SLOTS:
	case VHOST_MSG_ADD_MEM_REG:
	case VHOST_MSG_REM_MEM_REG:
		return slots;
	default:
		return false;
	}
}

uint16_t
vdpa_vhost_message_ring(const struct vhost_message *msg)
{
	switch (msg->request) {
	case VHOST_MSG_SET_VRING_KICK:
	case VHOST_MSG_SET_VRING_CALL:
	case VHOST_MSG_SET_VRING_ERR:
		return msg->payload.u64 & 0xff;
	case VHOST_MSG_SET_VRING_NUM:
	case VHOST_MSG_SET_VRING_ADDR:
	case VHOST_MSG_SET_VRING_BASE:
	case VHOST_MSG_GET_VRING_BASE:
	case VHOST_MSG_SET_VRING_ENABLE:
		return RTE_MIN(msg->payload.vring.index, (uint32_t)UINT16_MAX);
	default:
		return UINT16_MAX;
	}
}

struct vhost_log_file
vdpa_vhost_message_log_file(struct vhost_message *msg)
{
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	struct stat st;

	/* A device may give each mapping memory of its own. */
	if (fds == NULL || fds->nr != 1 || fstat(fds->fds[0], &st) < 0 || !S_ISREG(st.st_mode))
		return (struct vhost_log_file){0};
	return (struct vhost_log_file){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.offset = msg->payload.log.mmap_offset,
	};
}

const char *
vdpa_vhost_message_memory_refused(struct vhost_message *msg)
{
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	uint32_t i;

	if (msg->payload.memory.nr_regions > VHOST_REGIONS_MAX)
		return "its memory has more than 8 regions";
	if (msg->size_bytes <
		8 + msg->payload.memory.nr_regions * sizeof(msg->payload.memory.regions[0]))
		return "its memory table is cut short";
	if (fds == NULL)
		return NULL;
	if ((uint32_t)fds->nr != msg->payload.memory.nr_regions)
		return "its memory is not shared: regions have no descriptor";
	for (i = 0; i < msg->payload.memory.nr_regions; i++)
		if (vdpa_vhost_memory_mappable(fds->fds[i],
			    msg->payload.memory.regions[i].fd_offset,
			    msg->payload.memory.regions[i].size_bytes) < 0)
			return "its memory cannot be mapped";
	return NULL;
}
