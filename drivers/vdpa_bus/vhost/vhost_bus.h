/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VHOST_BUS_H
#define VHOST_BUS_H

/**
 * @file The vhost bus driver: the one adapter between librte_vhost and the device class. No other
 * file of the project may know librte_vhost.
 *
 *   vhost_bus.c       bus driver: default bindings, bind, unbind
 *   vhost_args.c      arguments of bind
 *   vhost_socket.c    sockets that we open
 *   vhost_ops.c       struct rte_vdpa_dev_ops
 *   vhost_hooks.c     every message, before and after librte_vhost
 *   vhost_message.c   what a message is
 *   vhost_conn.c      connections by vid
 *   vhost_session.c   what a connection wants, start, stop, failure
 *   vhost_memory.c    memory tables, addresses
 *   vhost_features.c  who may see which feature
 *   vhost_peer.c      a connection's descriptor
 *   vhost_channel.c   config change messages
 *   vhost_inflight.c  where a device notes what it took
 *   vhost_slots.c     memory tables that come region by region
 *   vhost_messages.c  time that messages hold the event thread
 *
 * Threads. librte_vhost has one event thread for all sockets of a process; hooks and ops run on it,
 * and on the caller of rte_vhost_driver_unregister() and (new connections) on its reconnect thread.
 * A connection is used by one of them at a time, but unbind stops its session beforehand: therefore
 * its lock. Nothing but vdpa_session_stop(), and vdpa_session_sync() for memory slots, waits there.
 *
 * Lock order: connection, binding, table of connections, list of bindings. The class is called with
 * at most the connection's lock held; its callbacks take the binding's at most.
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include <rte_log.h>

#include "vdpa_consumer.h"
#include "vdpa_dpdk_vhost.h"

extern int vdpa_vhost_logtype;
#define VHOST_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, vdpa_vhost_logtype, "VDPA_VHOST: " fmt "\n", ##__VA_ARGS__)

/*
 * Lines that a front end can cause: at most VHOST_LOG_BURST every ten seconds at each place, the
 * rest counted.
 */
#define VHOST_LOG_BURST 10
struct vhost_log_limit {
	uint64_t began_ns;
	unsigned int nr;
	unsigned int dropped;
};
bool vdpa_vhost_log_allowed(struct vhost_log_limit *limit, unsigned int *dropped);
#define VHOST_LOG_LIMITED(level, fmt, ...) \
	do { \
		static struct vhost_log_limit limit_; \
		unsigned int dropped_; \
		if (!vdpa_vhost_log_allowed(&limit_, &dropped_)) \
			break; \
		if (dropped_ != 0) \
			VHOST_LOG(level, "%u lines like the next were left out", dropped_); \
		VHOST_LOG(level, fmt, ##__VA_ARGS__); \
	} while (0)

#define VHOST_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)
#define VHOST_VQS_MAX 256	/* rings of a connection that librte_vhost knows */
#define VHOST_REGIONS_MAX 8	/* regions of a memory table that it takes */
#define VHOST_SLOTS_MAX	 32	/* regions of a front end that gives them one by one */
#define VHOST_CONFIG_MAX 256	/* bytes of configuration space that the protocol carries */
#define VHOST_TIMEOUT_MS 200	/* that half a message, or new memory, may hold the event thread */

/* ---- arguments (vhost_args.c) ---- */
struct vhost_args {
	char path[VHOST_PATH_MAX];
	bool client;
	bool set_mode, set_group;
	mode_t mode;
	gid_t gid;
};
/* 0; -EINVAL with vdpa_error_text(). */
int vdpa_vhost_args_parse(const char *text, struct vhost_args *args);
extern const char vdpa_vhost_keys[];

/* ---- features (vhost_features.c) ---- */
/*
 * What of the offered features a front end may see on a socket of our own, or on one that a stock
 * program opened.
 */
uint64_t vdpa_vhost_features(uint64_t offered, uint16_t virtio_id, bool own_socket);
/* All that a socket offers: the contract's, and logging where the class can log. */
uint64_t vdpa_vhost_offered(const struct vdpa_contract *contract, bool own_socket);
/* Why a bit is not passed, for people; NULL: it is. */
const char *vdpa_vhost_feature_masked(unsigned int bit, uint16_t virtio_id, bool own_socket);
#define VHOST_F_PROTOCOL_FEATURES (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES)
/* Protocol features: those of every socket, and those that librte_vhost passes on our own only. */
uint64_t vdpa_vhost_protocol_features(const struct vdpa_contract *contract);
/* Which of librte_vhost's kinds of vDPA devices it is (get_dev_type). */
uint32_t vdpa_vhost_vdpa_type(const struct vdpa_contract *contract);
/* What GET_QUEUE_NUM answers; at most VHOST_QUEUE_NUM_MAX. */
#define VHOST_QUEUE_NUM_MAX (VHOST_VQS_MAX / 2)
uint32_t vdpa_vhost_queue_num(const struct vdpa_contract *contract, uint64_t offered);

/* ---- memory (vhost_memory.c) ---- */
struct vhost_region {
	uint64_t iova, size_bytes;
	uint64_t host;			/* where librte_vhost has it; slots: the front end */
	void *map;			/* librte_vhost's mapping, from offset 0 of the file */
	uint64_t map_size_bytes;
	int fd;				/* librte_vhost's; slots: ours */
	uint64_t fd_offset;
	bool guarded;
};
struct vhost_mem {
	struct vhost_region regions[VHOST_SLOTS_MAX];
	uint32_t nr_regions;
};
/*
 * Would librte_vhost map this part of a file? Where it fails to, it loses the descriptor. 0;
 * -EINVAL no size, or it wraps around; -EBADF nothing to map; -ENXIO beyond its end; what mmap
 * gave.
 */
int vdpa_vhost_memory_mappable(int fd, uint64_t offset, uint64_t size_bytes);
/* 0; -E2BIG; -EINVAL: a region lies outside its own mapping. */
int vdpa_vhost_memory_take(struct vhost_mem *memory, const struct rte_vhost_memory *table);
bool vdpa_vhost_memory_same(const struct vhost_mem *a, const struct vhost_mem *b);
/* 0; -EFAULT: no region has it. */
int vdpa_vhost_memory_iova(const struct vhost_mem *memory, const void *host, uint64_t *iova);
void vdpa_vhost_memory_ranges(const struct vhost_mem *memory, struct vdpa_range *ranges);
/*
 * Fill addresses, size and descriptors from librte_vhost's view of a ring. 0; -EFAULT: an address
 * is missing or lies in no region, the ring is not to be used.
 */
int vdpa_vhost_ring_take(struct vdpa_wanted_vq *vq, const struct rte_vhost_vring *ring,
			 const struct vhost_mem *memory);
/*
 * Replace zero pages for what a front end takes away below librte_vhost's mappings; lost is set
 * then.
 */
void vdpa_vhost_memory_guard(struct vhost_mem *memory, atomic_bool *lost);
void vdpa_vhost_memory_unguard(struct vhost_mem *memory);

/* ---- bindings (vhost_bus.c) ---- */
struct vhost_conn;

struct vhost_binding {
	struct vhost_binding *next;
	char name[VDPA_NAME_MAX];
	struct vdpa_binding *binding;	/* NULL with dev */
	struct rte_device rte_dev;	/* private: librte_vhost uses nothing but its name */
	struct rte_vdpa_device *vdpa;
	/*
	 * The socket that we opened; path[0] is 0 if none. Management thread; hooks read client and
	 * known.
	 */
	struct vhost_args socket;
	uint64_t socket_known;		/* features that librte_vhost passes on it */

	pthread_mutex_t lock;		/* what follows */
	/* NULL: gone below a stock program's socket; the entry stays for librte_vhost. */
	_Atomic(struct vdpa_device *) dev; /* read by the list's lock, too */
	struct vdpa_contract contract;
	bool leaving;			/* no new attachments */
	struct vhost_conn *attached;	/* whose session is open */
	int channel_fd;			/* back-end request channel of that connection, or -1 */
	char stock_path[VHOST_PATH_MAX]; /* a stock program's socket that used it, "" if none did */
};
struct vhost_binding *vdpa_vhost_binding_of(const struct rte_vdpa_device *vdpa);
/* A copy: while nobody is attached, a live swap may change it. */
struct vdpa_contract vdpa_vhost_binding_contract(struct vhost_binding *binding);
/* Calls fn for each until it returns non-zero; the list is locked. */
int vdpa_vhost_binding_foreach(int (*fn)(struct vhost_binding *binding, void *arg), void *arg);

/* ---- sockets (vhost_socket.c), management thread ---- */
/* 0; -EADDRINUSE and others with vdpa_error_text(). */
int vdpa_vhost_socket_open(struct vhost_binding *binding, const struct vhost_args *args);
void vdpa_vhost_socket_close(struct vhost_binding *binding);
/*
 * Make room for a socket file: a stale one is removed. 0; -EADDRINUSE, -EEXIST, ... with
 * vdpa_error_text().
 */
int vdpa_vhost_socket_clear(const char *path);

/* ---- ops (vhost_ops.c) ---- */
extern struct rte_vdpa_dev_ops vdpa_vhost_ops;

/* ---- connections (vhost_conn.c) ---- */
struct vhost_vq {
	bool ready;			/* librte_vhost says so */
	bool dirty;			/* librte_vhost's view changed since it was taken */
	bool exchange;			/* not ready only while a descriptor is replaced */
	bool placed, enabled;		/* with slots librte_vhost does not say what is ready */
	uint64_t desc, avail, used;	/* once placed: where the front end has them */
};
struct vhost_inflight {
	int fd;				/* of the region, -1: none */
	uint64_t offset, size_bytes;
	uint16_t nr_vqs, vq_size;
	uint32_t seq;
};
struct vhost_log_file {
	dev_t dev;
	ino_t ino;
	uint64_t offset;
};
struct vhost_conn {
	int vid;
	struct vhost_binding *binding;
	bool own;			/* on a socket that we opened */
	char path[VHOST_PATH_MAX];
	char peer[160];
	int fd;				/* librte_vhost's, of the connection; -1: not found */
	unsigned int refs;		/* the table's lock */
	bool gone;			/* destroy_connection came; dev_cleanup is the last op */

	pthread_mutex_t lock;		/* all below */
	struct vdpa_session *session;
	bool closing;			/* failed or unbound: nothing more is taken from it */
	bool idle;			/* not attached; closed, it would come back at once */
	bool configured;		/* between the first dev_conf and the stop */
	bool changed;			/* something wanted differs from what the class was told */
	bool memory_pending;		/* SET_MEM_TABLE was begun and did not succeed yet */
	atomic_bool memory_lost;	/* set in signal context */
	uint8_t status;			/* last SET_STATUS */
	bool notes_agreed;		/* it agreed to have an inflight region */
	bool tells_status;		/* it agreed to protocol feature STATUS */
	bool slots;			/* it agreed to give its memory region by region */
	uint64_t features, features_pending;	/* agreed, vhost-user's own bits left out */
	void *log;			/* librte_vhost's mapping of the log; guarded */
	uint64_t log_size_bytes;
	struct vhost_log_file log_file;
	uint32_t log_seq;
	struct vhost_inflight inflight;
	uint32_t config_offset;		/* of the GET_CONFIG being served */
	uint32_t request;		/* message being handled, 0: none */
	uint16_t request_vq;
	uint64_t request_began_ns;
	struct vhost_mem memory;
	uint32_t regions_seq;
	uint16_t nr_vqs;
	struct vhost_vq *vqs;
	struct vdpa_wanted_vq *wanted;
};
/* NULL: no memory, or a vid beyond the table. The caller has a reference. */
struct vhost_conn *vdpa_vhost_conn_create(int vid, bool own);
struct vhost_conn *vdpa_vhost_conn_get(int vid);
void vdpa_vhost_conn_put(struct vhost_conn *conn);
/* Take it out of the table; freed with the last reference. */
void vdpa_vhost_conn_forget(struct vhost_conn *conn);
/* A connection of this binding that has not gone, with a reference, or NULL. */
struct vhost_conn *vdpa_vhost_conn_of(const struct vhost_binding *binding);
/*
 * The sockets that we opened for it are closed: librte_vhost has none of their connections any
 * more.
 */
void vdpa_vhost_conn_forget_own(const struct vhost_binding *binding);
/* new_connection and destroy_connection of our sockets. */
int vdpa_vhost_conn_new(int vid);
void vdpa_vhost_conn_destroyed(int vid);

/* ---- a connection's descriptor (vhost_peer.c) ---- */
/*
 * Find the descriptors connected at path that no connection has yet and set their timeouts.
 * @return the descriptor if there is just one, else -1
 */
int vdpa_vhost_peer_find(const char *path, bool (*taken)(int fd, void *arg), void *arg);
pid_t vdpa_vhost_peer_pid(int fd);	/* 0: unknown */
bool vdpa_vhost_peer_dead(int fd);	/* the other end is closed */
bool vdpa_vhost_peer_reads(int fd);	/* false: it leaves replies lying; a reply would block */

/* ---- wanted state (vhost_session.c), connection locked ---- */
/*
 * Open its session unless it has one. 0; -EBUSY or what else the class says: closing (or idle)
 * afterwards.
 */
int vdpa_vhost_session_attach(struct vhost_conn *conn);
/*
 * librte_vhost calls dev_conf for network devices whenever something may have changed; a block
 * device's it forgets but for one message, and all this is for the hooks and ops to do.
 */
bool vdpa_vhost_session_is_forgotten(const struct vhost_conn *conn);
/* The device is to run: with its driver ready, or (not told of that) its first ring. */
void vdpa_vhost_session_configure(struct vhost_conn *conn);
/* Tell the class what changed, if it runs. On error the connection is closing. */
int vdpa_vhost_session_commit(struct vhost_conn *conn);
/* GET_VRING_BASE: stop, and give the positions to librte_vhost. 0; -ENODATA: closing. */
int vdpa_vhost_session_stop(struct vhost_conn *conn);
/* The front end has gone, or starts over. */
void vdpa_vhost_session_detach(struct vhost_conn *conn);
/* Stop the datapath, then end the connection. */
void vdpa_vhost_session_fail(struct vhost_conn *conn, const char *why);
/* SET_LOG_BASE: librte_vhost has mapped a log; it is about to unmap it. */
void vdpa_vhost_session_log(struct vhost_conn *conn);
void vdpa_vhost_session_log_forget(struct vhost_conn *conn);
/* Take over librte_vhost's memory table. */
int vdpa_vhost_session_memory(struct vhost_conn *conn);
void vdpa_vhost_session_all_dirty(struct vhost_conn *conn);
/*
 * The message before, or this one as far as librte_vhost is concerned, is through: what is not
 * ready now is not.
 */
void vdpa_vhost_session_settle(struct vhost_conn *conn);
/* Back to the state of a new connection; sequence numbers go on. */
void vdpa_vhost_session_forget(struct vhost_conn *conn);

/* ---- memory slots (vhost_slots.c), connection locked ---- */
void vdpa_vhost_slots_forget(struct vhost_conn *conn);
void vdpa_vhost_slots_find_ring(const struct vhost_vq *vq, struct rte_vhost_vring *ring);
/*
 * Memory that running rings lie in was removed: to be given again in the next messages, as a front
 * end that moves a region does it. The class keeps the former table until then.
 */
bool vdpa_vhost_slots_torn(const struct vhost_conn *conn);

/* ---- hooks (vhost_hooks.c) ---- */
int vdpa_vhost_hooks_register(int vid);

/* ---- back-end request channel (vhost_channel.c) ---- */
/* Takes fd over; -1: none. */
void vdpa_vhost_channel_set(struct vhost_binding *binding, int fd);
/* Any thread, never blocks. */
void vdpa_vhost_channel_config_changed(struct vhost_binding *binding);

/* ---- statistics of messages (vhost_messages.c) ---- */
uint64_t vdpa_vhost_now_ns(void);
/*
 * Message request has held the event thread since began_ns; again: the same message, measured a
 * second time.
 */
void vdpa_vhost_messages_note(uint32_t request, uint64_t began_ns, bool again);

#endif /* VHOST_BUS_H */
