/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_NET_PORT_H
#define SW_NET_PORT_H

/**
 * @file
 * Backend port: a device whose other end is an ethdev of this process.
 *
 *	sw_net_port.c		when an ethdev is taken, given back, gone, here again
 *	sw_net_port_queues.c	which receive queue reads which of its queues
 *	sw_net_port_ethdev.c	how it is set up, its receive filter
 *	sw_net_port_path.c	frames from and to it
 *
 * Each virtqueue is a flow of its own. A transmit queue n sends to ethdev queue n, modulo their
 * number. The receive queues that carry traffic share out all ethdev queues among themselves, so
 * no ethdev queue is without a reader. Where fewer ethdev queues than transmit queues are there, a
 * queue is sent to under a lock that nobody waits for.
 *
 * Locks: the link lock covers the state; a list lock (before it) finds a port for an event.
 */

#include <rte_ethdev.h>
#include <rte_spinlock.h>

#include "sw_net_gso.h"

#define SW_NET_MACS_MAX 64 /* of a filter, unicast and multicast each */

struct sw_net_macs {
	struct rte_ether_addr addresses[SW_NET_MACS_MAX];
	uint16_t nr;
	bool overflow; /* there are more */
};

/* A transmit queue's end at the ethdev. Worker. */
struct sw_net_port_tx {
	uint16_t queue;
	bool shared;        /* with other workers */
	uint64_t stuck_tsc; /* 0: the ethdev takes frames */
};

/* A receive queue's. */
struct sw_net_port_rx {
	/* worker; queues is written by others while nr_queues is 0 */
	uint16_t queues[SW_NET_PAIRS_MAX];
	uint16_t nr_queues, next;
	int wake_fd; /* of all queues; -1: none */
	/* link lock: what the worker is to take over */
	uint16_t new_nr_queues;
	int new_wake_fd;
	int epoll_fd;
};

struct sw_net_port {
	struct vdpa_work work; /* first */
	struct sw_net_dev *dev;
	struct sw_net_port *next; /* list lock */
	atomic_bool carrying;     /* an ethdev is there, with its link up and not pulled */
	/* link lock; the worker reads what is set before carrying */
	uint16_t id;              /* RTE_MAX_ETHPORTS: none */
	struct rte_eth_dev_owner owner;
	char device[VDPA_NAME_MAX]; /* rte_device of the ethdev */
	bool link_up;
	uint16_t mtu;
	uint32_t room_bytes; /* longest frame that fits its receive buffers */
	uint16_t nr_queues;
	uint64_t tx_offloads;
	uint16_t nr_segs_max;
	bool is_read;     /* by some receive queue */
	bool has_fds;     /* of its receive interrupts */
	bool fd_is_queue; /* its interrupt descriptor is readable while frames wait */
	bool mode_known;  /* the driver has said what it wants to receive */
	struct sw_net_macs unicast, multicast, applied;
	struct rte_mempool *pool;
	struct sw_net_cutter *cutter; /* with tso */
	rte_spinlock_t tx_locks[SW_NET_PAIRS_MAX];
	struct sw_net_port_tx *tx; /* args.nr_pairs */
	struct sw_net_port_rx *rx;
};

static inline bool
sw_net_port_is_there(const struct sw_net_port *port)
{
	return port->id != RTE_MAX_ETHPORTS;
}

/* ---- sw_net_port.c ---- */
/* Take the ethdev that args.port names. 0; -ENODEV, -EBUSY, ... with vdpa_error_text(). */
int sw_net_port_open(struct sw_net_dev *dev);
/* Follow it from now on: after registration. */
void sw_net_port_watch(struct sw_net_dev *dev);
/* Stop it and give it back; half made is all right. */
void sw_net_port_close(struct sw_net_dev *dev);
/* The link lock is held, as in all that follows. A link or an MTU may have changed. */
void sw_net_port_settle(struct sw_net_dev *dev);
/* The MTU that is wanted is another one. */
void sw_net_port_set_mtu(struct sw_net_dev *dev);
/*
 * Send a frame (an announcement) out of the ethdev, whether a driver runs the device or not.
 * @return 0; -ENETDOWN: no ethdev, or its link is down; -ENOMEM; -EAGAIN: its queue is full;
 *	-ETIMEDOUT: a worker hangs
 */
int sw_net_port_send(struct sw_net_dev *dev, const void *frame, uint16_t len_bytes);

/* ---- sw_net_port_queues.c ---- */
/* Drop what came while nobody read: before queues start, or answers to their frames go, too. */
void sw_net_port_throw_away(struct sw_net_dev *dev);
/* Share out the ethdev's queues among the receive queues that run. 0, -ETIMEDOUT. */
int sw_net_port_spread(struct sw_net_dev *dev);
/* Take them from all receive queues; drop: and all frames that queues hold. 0, -ETIMEDOUT. */
int sw_net_port_leave(struct sw_net_dev *dev, bool drop);

/* ---- sw_net_port_ethdev.c ---- */
/* Configure and start port->id. 0, or negative errno with vdpa_error_text(). */
int sw_net_port_start(struct sw_net_port *port);
/* Stop it, and close it if it goes for good. */
void sw_net_port_stop(struct sw_net_port *port, bool for_good);
void sw_net_port_free_pools(struct sw_net_port *port);
/* Whether its link is up, and its MTU. */
bool sw_net_port_read(const struct sw_net_port *port, uint16_t *mtu);
/* Let it receive what the driver wants, or more. */
void sw_net_port_filter(struct sw_net_port *port);
/* As before the driver has said anything: all is received. */
void sw_net_port_reset_filter(struct sw_net_port *port);
/* Control command MAC_TABLE_SET. */
void sw_net_port_mac_table(struct sw_net_port *port, const void *data, size_t len_bytes);

/* ---- sw_net_port_path.c ---- */
/* What of a virtqueue's flow is not as of others. 0, -ENOMEM. */
int sw_net_port_flow_init(struct sw_net_flow *flow, struct sw_net_vq *vq);

#endif /* SW_NET_PORT_H */
