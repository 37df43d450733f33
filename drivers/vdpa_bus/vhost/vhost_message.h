/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VHOST_MESSAGE_H
#define VHOST_MESSAGE_H

/**
 * @file
 * A message of a front end, as librte_vhost shows it to its hooks. librte_vhost keeps its own
 * declarations private; request, flags, size and payload are the protocol's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vhost_bus.h"

/* Messages that we look at; librte_vhost keeps its list private. */
enum vhost_request {
	VHOST_MSG_GET_FEATURES = 1,
	VHOST_MSG_SET_FEATURES = 2,
	VHOST_MSG_SET_OWNER = 3,
	VHOST_MSG_RESET_OWNER = 4,
	VHOST_MSG_SET_MEM_TABLE = 5,
	VHOST_MSG_SET_LOG_BASE = 6,
	VHOST_MSG_SET_LOG_FD = 7,
	VHOST_MSG_SET_VRING_NUM = 8,
	VHOST_MSG_SET_VRING_ADDR = 9,
	VHOST_MSG_SET_VRING_BASE = 10,
	VHOST_MSG_GET_VRING_BASE = 11,
	VHOST_MSG_SET_VRING_KICK = 12,
	VHOST_MSG_SET_VRING_CALL = 13,
	VHOST_MSG_SET_VRING_ERR = 14,
	VHOST_MSG_GET_PROTOCOL_FEATURES = 15,
	VHOST_MSG_SET_PROTOCOL_FEATURES = 16,
	VHOST_MSG_GET_QUEUE_NUM = 17,
	VHOST_MSG_SET_VRING_ENABLE = 18,
	VHOST_MSG_SEND_RARP = 19,
	VHOST_MSG_SET_BACKEND_REQ_FD = 21,
	VHOST_MSG_GET_CONFIG = 24,
	VHOST_MSG_SET_CONFIG = 25,
	VHOST_MSG_GET_INFLIGHT_FD = 31,
	VHOST_MSG_SET_INFLIGHT_FD = 32,
	VHOST_MSG_GET_MAX_MEM_SLOTS = 36,
	VHOST_MSG_ADD_MEM_REG = 37,
	VHOST_MSG_REM_MEM_REG = 38,
	VHOST_MSG_SET_STATUS = 39,
	VHOST_MSG_GET_STATUS = 40,
};

struct vhost_message_region {
	uint64_t iova, size_bytes, user, fd_offset;
} __attribute__((packed));

struct vhost_message {
	uint32_t request;
	uint32_t flags;
	uint32_t size_bytes;
	union {
		uint64_t u64;
		struct {
			uint32_t index;
			uint32_t num;
		} vring;
		struct {
			uint32_t nr_regions;
			uint32_t padding;
			struct vhost_message_region regions[VHOST_REGIONS_MAX];
		} memory;
		struct {
			uint64_t padding;
			struct vhost_message_region region;
		} slot;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} ring;
		struct {
			uint32_t offset;
			uint32_t size_bytes;
		} config;
		struct {
			uint64_t mmap_size, mmap_offset;
			uint16_t nr_vqs, vq_size;
		} inflight;
		struct {
			uint64_t mmap_size, mmap_offset;
		} log;
	} payload;
} __attribute__((packed));
#define VHOST_MESSAGE_NEED_REPLY (1u << 3)
#define VHOST_MESSAGE_FDS_MAX    8

struct vhost_message_fds {
	int fds[VHOST_MESSAGE_FDS_MAX];
	int nr;
} __attribute__((packed));

/* NULL if what lies there cannot be it: a point release that changed its layout. */
struct vhost_message_fds *vdpa_vhost_message_fds(struct vhost_message *msg);
/* Of a message that librte_vhost does not get to see. */
void vdpa_vhost_message_close_fds(struct vhost_message *msg);
/* Ends the connection. With NEED_REPLY set librte_vhost would acknowledge instead, and go on. */
enum rte_vhost_msg_result vdpa_vhost_message_end(struct vhost_message *msg);
enum rte_vhost_msg_result vdpa_vhost_message_reply(struct vhost_message *msg, uint64_t value);
/*
 * false: it belongs to a feature or protocol feature that we do not offer, or (slots: memory slots)
 * that was not agreed; librte_vhost checks nothing of that.
 */
bool vdpa_vhost_message_expected(
	uint32_t request, const struct vdpa_contract *contract, bool slots);
/* ---- the inflight region (vhost_inflight.c), connection locked ---- */
#define VHOST_PROTOCOL_F_INFLIGHT (UINT64_C(1) << 12)
/* May this connection have one? msg: any. */
bool vdpa_vhost_inflight_offered(const struct vhost_conn *conn, struct vhost_message *msg);
enum rte_vhost_msg_result
vdpa_vhost_inflight_get(struct vhost_conn *conn, struct vhost_message *msg);
enum rte_vhost_msg_result
vdpa_vhost_inflight_set(struct vhost_conn *conn, struct vhost_message *msg);
void vdpa_vhost_inflight_forget(struct vhost_conn *conn);
/* ---- memory slots (vhost_slots.c), connection locked ---- */
#define VHOST_PROTOCOL_F_CONFIGURE_MEM_SLOTS (UINT64_C(1) << 15)
/* May this connection have them? msg: any. */
bool vdpa_vhost_slots_offered(const struct vhost_conn *conn, struct vhost_message *msg);
/* Those of a connection that has them: its memory and where its rings lie. */
enum rte_vhost_msg_result
vdpa_vhost_slots_message(struct vhost_conn *conn, struct vhost_message *msg);
/* A message about a ring, after librte_vhost: is the ring ready now? */
void vdpa_vhost_slots_ring(struct vhost_conn *conn, const struct vhost_message *msg);
/* After the commit of any message: wait until a running device has the memory that it gave. */
void vdpa_vhost_slots_wait(struct vhost_conn *conn);

/* The ring that a message is about, or UINT16_MAX. */
uint16_t vdpa_vhost_message_ring(const struct vhost_message *msg);
/* The memory that this SET_LOG_BASE names; ino 0: it cannot be told. */
struct vhost_log_file vdpa_vhost_message_log_file(struct vhost_message *msg);
/* Why librte_vhost would refuse this SET_MEM_TABLE; NULL: it will do. */
const char *vdpa_vhost_message_memory_refused(struct vhost_message *msg);

#endif /* VHOST_MESSAGE_H */
