/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include <rte_common.h>

#include "vhost_bus.h"
#include "vhost_message.h"

/*
 * Every message passes here before and after librte_vhost handles it. Its descriptors are
 * librte_vhost's business; where a message is refused here they must be closed here.
 */

static uint64_t
offered(const struct vhost_conn *conn)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(conn->binding);

	return vdpa_vhost_offered(&contract, true);
}

/* On our sockets the agreed word is kept here; librte_vhost gets those bits of it that it knows. */
static enum rte_vhost_msg_result
pre_set_features(struct vhost_conn *conn, struct vhost_message *msg)
{
	uint64_t features = msg->payload.u64;
	uint64_t unknown = features & ~(offered(conn) | VHOST_F_PROTOCOL_FEATURES);
	uint64_t others = (features ^ conn->features) &
		~(VHOST_F_PROTOCOL_FEATURES | UINT64_C(1) << VHOST_F_LOG_ALL);
	char why[64];

	if (unknown != 0) {
		snprintf(
			why, sizeof(why), "it sets features 0x%" PRIx64 ", never offered", unknown);
		vdpa_vhost_session_fail(conn, why);
		return vdpa_vhost_message_end(msg);
	}
	/* else librte_vhost sees to it */
	if (conn->slots && conn->configured && others != 0) {
		vdpa_vhost_session_fail(conn, "it changes features of a running device");
		return vdpa_vhost_message_end(msg);
	}
	conn->features_pending = features & ~VHOST_F_PROTOCOL_FEATURES;
	msg->payload.u64 = features & conn->binding->socket_known;
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* Protocol features that librte_vhost does not hear of. */
static uint64_t
own_protocol_features(const struct vhost_conn *conn, struct vhost_message *msg)
{
	uint64_t features = 0;

	if (vdpa_vhost_inflight_offered(conn, msg))
		features |= VHOST_PROTOCOL_F_INFLIGHT;
	if (vdpa_vhost_slots_offered(conn, msg))
		features |= VHOST_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
	return features;
}

static enum rte_vhost_msg_result
pre_set_protocol_features(struct vhost_conn *conn, struct vhost_message *msg)
{
	uint64_t own = msg->payload.u64 & own_protocol_features(conn, msg);
	bool slots = (own & VHOST_PROTOCOL_F_CONFIGURE_MEM_SLOTS) != 0;

	if (slots != conn->slots && conn->memory.nr_regions != 0) {
		vdpa_vhost_session_fail(conn, "it gave memory before it agreed how to");
		return vdpa_vhost_message_end(msg);
	}
	conn->slots = slots;
	conn->notes_agreed = (own & VHOST_PROTOCOL_F_INFLIGHT) != 0;
	msg->payload.u64 &= ~own;
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static enum rte_vhost_msg_result
pre_set_mem_table(struct vhost_conn *conn, struct vhost_message *msg)
{
	const char *why = vdpa_vhost_message_memory_refused(msg);

	if (why != NULL) {
		vdpa_vhost_session_fail(conn, why);
		return vdpa_vhost_message_end(msg);
	}
	/* It may unmap: an address there must not be taken for a guarded one any more. */
	conn->memory_pending = true;
	vdpa_vhost_memory_unguard(&conn->memory);
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* A copy of the channel's descriptor; librte_vhost keeps the other. */
static void
pre_set_channel(struct vhost_conn *conn, struct vhost_message *msg)
{
	struct vhost_message_fds *fds = vdpa_vhost_message_fds(msg);
	struct stat st;

	if (fds == NULL) {
		VHOST_LOG_LIMITED(WARNING,
			"%s: this librte_vhost is not known, changes of configuration "
			"space are not told",
			conn->binding->name);
		return;
	}
	if (fds->nr == 1 && fstat(fds->fds[0], &st) == 0 && S_ISSOCK(st.st_mode))
		vdpa_vhost_channel_set(conn->binding, fcntl(fds->fds[0], F_DUPFD_CLOEXEC, 0));
}

/* The address lies in the first bytes of the payload. */
static void
pre_send_rarp(struct vhost_conn *conn, const struct vhost_message *msg)
{
	uint8_t mac[sizeof(msg->payload.u64)];

	if (conn->session == NULL || msg->size_bytes < sizeof(mac))
		return;
	memcpy(mac, &msg->payload, sizeof(mac));
	if (vdpa_session_announce(conn->session, mac) < 0)
		VHOST_LOG_LIMITED(WARNING, "%s: %s is not announced: %s", conn->binding->name,
			conn->peer, vdpa_error_text());
}

static enum rte_vhost_msg_result
pre_own(struct vhost_conn *conn, struct vhost_message *msg)
{
	struct vdpa_contract contract = vdpa_vhost_binding_contract(conn->binding);

	if (!vdpa_vhost_peer_reads(conn->fd)) {
		vdpa_vhost_session_fail(conn, "it does not read its replies");
		return vdpa_vhost_message_end(msg);
	}
	if (!vdpa_vhost_message_expected(msg->request, &contract, conn->slots)) {
		VHOST_LOG_LIMITED(ERR,
			"%s: %s sent message %u, which belongs to a feature that was never "
			"offered",
			conn->binding->name, conn->peer, msg->request);
		vdpa_vhost_message_close_fds(msg);
		return RTE_VHOST_MSG_RESULT_ERR;
	}
	if (vdpa_vhost_session_attach(conn) < 0)
		return vdpa_vhost_message_end(msg);
	switch (msg->request) {
	case VHOST_MSG_GET_FEATURES:
		return vdpa_vhost_message_reply(
			msg, vdpa_vhost_offered(&contract, true) | VHOST_F_PROTOCOL_FEATURES);
	case VHOST_MSG_SET_FEATURES:
		return pre_set_features(conn, msg);
	case VHOST_MSG_GET_PROTOCOL_FEATURES:
		return vdpa_vhost_message_reply(msg,
			vdpa_vhost_protocol_features(&contract) | own_protocol_features(conn, msg));
	case VHOST_MSG_SET_PROTOCOL_FEATURES:
		return pre_set_protocol_features(conn, msg);
	case VHOST_MSG_GET_INFLIGHT_FD:
		return vdpa_vhost_inflight_get(conn, msg);
	case VHOST_MSG_SET_INFLIGHT_FD:
		return vdpa_vhost_inflight_set(conn, msg);
	case VHOST_MSG_GET_QUEUE_NUM:
		return vdpa_vhost_message_reply(
			msg, vdpa_vhost_queue_num(&contract, vdpa_vhost_offered(&contract, true)));
	case VHOST_MSG_SET_BACKEND_REQ_FD:
		if (conn->session != NULL)
			pre_set_channel(conn, msg);
		break;
	default:
		break;
	}
	return conn->slots ? vdpa_vhost_slots_message(conn, msg) : RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static enum rte_vhost_msg_result
pre_locked(struct vhost_conn *conn, struct vhost_message *msg)
{
	enum rte_vhost_msg_result result;

	vdpa_vhost_session_settle(conn);
	if (!conn->closing && conn->memory_pending)
		vdpa_vhost_session_fail(conn, "its memory could not be mapped");
	if (conn->closing)
		return vdpa_vhost_message_end(msg);
	if (conn->own) {
		result = pre_own(conn, msg);
		if (result != RTE_VHOST_MSG_RESULT_NOT_HANDLED)
			return result;
	}
	switch (msg->request) {
	case VHOST_MSG_SET_MEM_TABLE:
		return pre_set_mem_table(conn, msg);
	case VHOST_MSG_GET_VRING_BASE:
		/* All rings at the first of these messages; librte_vhost then answers each. */
		return vdpa_vhost_session_stop(conn) < 0 ? vdpa_vhost_message_end(msg)
							 : RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	case VHOST_MSG_SET_LOG_BASE:
		/* It unmaps the former one. */
		vdpa_vhost_session_log_forget(conn);
		conn->log_file = vdpa_vhost_message_log_file(msg);
		break;
	case VHOST_MSG_SEND_RARP:
		pre_send_rarp(conn, msg);
		break;
	case VHOST_MSG_GET_CONFIG:
		conn->config_offset = msg->payload.config.offset;
		break;
	default:
		break;
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/*
 * A stock program's connection that went through RESET_OWNER is new again, its hooks are still
 * there.
 */
static struct vhost_conn *
conn_find(int vid)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);

	return conn != NULL ? conn : vdpa_vhost_conn_create(vid, false);
}

static enum rte_vhost_msg_result
pre(int vid, void *context)
{
	struct vhost_conn *conn = conn_find(vid);
	struct vhost_message *msg = context;
	enum rte_vhost_msg_result result;

	if (conn == NULL)
		return vdpa_vhost_message_end(msg);
	pthread_mutex_lock(&conn->lock);
	conn->request = msg->request;
	conn->request_vq = vdpa_vhost_message_ring(msg);
	conn->request_began_ns = vdpa_vhost_now_ns();
	result = pre_locked(conn, msg);
	/* The post hook does not run then. */
	if (result == RTE_VHOST_MSG_RESULT_ERR)
		vdpa_vhost_messages_note(conn->request, conn->request_began_ns, false);
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	return result;
}

/* Taken over without a stop, and before librte_vhost acknowledges it. */
static int
post_set_mem_table(struct vhost_conn *conn)
{
	conn->memory_pending = false;
	if (vdpa_vhost_session_memory(conn) < 0) {
		vdpa_vhost_session_fail(conn, "its memory table is not usable");
		return -EINVAL;
	}
	return vdpa_vhost_session_commit(conn);
}

static void
post_ring(struct vhost_conn *conn, const struct vhost_message *msg)
{
	struct vdpa_wanted_vq *wanted;
	struct vhost_vq *vq;

	if (conn->request_vq >= conn->nr_vqs)
		return;
	vq = &conn->vqs[conn->request_vq];
	wanted = &conn->wanted[conn->request_vq];
	switch (conn->request) {
	case VHOST_MSG_SET_VRING_BASE:
		/* Packed: 16 bits, nothing is in flight; as librte_vhost reads it. */
		wanted->base.avail = msg->payload.vring.num;
		wanted->base.used = wanted->base.avail;
		wanted->base_seq++;
		break;
	case VHOST_MSG_SET_VRING_KICK:
		wanted->kick_seq++;
		break;
	case VHOST_MSG_SET_VRING_CALL:
		wanted->call_seq++;
		break;
	case VHOST_MSG_SET_VRING_NUM:
	case VHOST_MSG_SET_VRING_ADDR:
		break;
	default:
		return;
	}
	vq->dirty = true;
	conn->changed = true;
}

static int
post_forgotten(struct vhost_conn *conn)
{
	if (conn->request == VHOST_MSG_SET_STATUS &&
		(conn->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0)
		vdpa_vhost_session_configure(conn);
	return vdpa_vhost_session_commit(conn);
}

static int
post_locked(struct vhost_conn *conn, const struct vhost_message *msg)
{
	int ret = 0;

	switch (conn->request) {
	case VHOST_MSG_SET_FEATURES:
		if (!conn->own)
			break; /* the op took them */
		conn->changed |= conn->features != conn->features_pending;
		conn->features = conn->features_pending;
		break;
	case VHOST_MSG_SET_MEM_TABLE:
		if (!conn->slots)
			ret = post_set_mem_table(conn);
		break;
	case VHOST_MSG_SET_LOG_BASE:
		/* Answered already: what is written meanwhile is marked with all the table. */
		vdpa_vhost_session_log(conn);
		ret = vdpa_vhost_session_commit(conn);
		break;
	case VHOST_MSG_SET_STATUS:
		conn->status = msg->payload.u64;
		break;
	case VHOST_MSG_SET_PROTOCOL_FEATURES:
		conn->tells_status = (msg->payload.u64 >> VHOST_USER_PROTOCOL_F_STATUS & 1) != 0;
		break;
	default:
		if (conn->slots)
			vdpa_vhost_slots_ring(conn, msg);
		post_ring(conn, msg);
		break;
	}
	if (ret == 0 && vdpa_vhost_session_is_forgotten(conn))
		ret = post_forgotten(conn);
	if (ret == 0 && conn->slots)
		vdpa_vhost_slots_wait(conn);
	if (atomic_load_explicit(&conn->memory_lost, memory_order_relaxed)) {
		vdpa_vhost_session_fail(conn, "it took its memory away");
		ret = -EFAULT;
	}
	return ret;
}

static enum rte_vhost_msg_result
post(int vid, void *context)
{
	struct vhost_conn *conn = vdpa_vhost_conn_get(vid);
	struct vhost_message *msg = context;
	int ret;

	if (conn == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	pthread_mutex_lock(&conn->lock);
	ret = conn->closing ? -ESHUTDOWN : post_locked(conn, msg);
	/* Nothing was noted before the message in which an op registered the hooks. */
	if (conn->request != 0)
		vdpa_vhost_messages_note(conn->request, conn->request_began_ns, false);
	pthread_mutex_unlock(&conn->lock);
	vdpa_vhost_conn_put(conn);
	if (ret == 0)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	msg->flags &= ~VHOST_MESSAGE_NEED_REPLY;
	return RTE_VHOST_MSG_RESULT_ERR;
}

int
vdpa_vhost_hooks_register(int vid)
{
	static const struct rte_vhost_user_extern_ops hooks = {
		.pre_msg_handle = pre,
		.post_msg_handle = post,
	};

	return rte_vhost_extern_callback_register(vid, &hooks, NULL) < 0 ? -EIO : 0;
}
