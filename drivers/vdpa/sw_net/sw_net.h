/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_NET_H
#define SW_NET_H

/**
 * @file
 * sw_net, the emulated virtio-net device: what its files share.
 *
 *	sw_net_vdpa.c	ops of the device
 *	sw_net_vq.c	its queues: begin, end, what is done to one while it runs
 *	sw_net_mgmt.c	how devices come and go: management device, vdev driver
 *	sw_net_args.c	keys and what they offer
 *	sw_net_set.c	what an operator changes while it is there
 *	sw_net_link.c	who is the peer of whom, which queues make a path
 *	sw_net_path.c	the datapath: one burst of a transmit queue
 *	sw_net_port*.c	an ethdev as the other end
 *	sw_net_fault.c	keys order, lie_len, hang_after
 *	sw_net_frame.c	a frame that is not of the common shape
 *	sw_net_gso.c	frames in mbufs: cut by DPDK's library, kept until there is room, received
 *	sw_net_mbuf.c	a frame as mbuf, and what its flags say in a virtio-net header
 *	sw_net_announce.c	where a guest is, told to its peer
 *	sw_net_capture.c	frames into a file for wireshark
 *
 * A flow is the path of one transmit queue to the receive queue that takes its frames: of the same
 * device (loopback), of the other end of the link (peer), or of nobody (null, or the peer is down).
 * It is with a worker while its transmit queue runs. A receive queue is in the flow of its source
 * while both run; else nobody touches it.
 *
 * Locks: sw_net_link.lock covers which queues run and in which flow they are, for both ends. It is
 * taken by ops and never on a worker. What a worker uses changes only by vdpa_path_run() while the
 * flow is with a worker.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/if_ether.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_branch_prediction.h>
#include <rte_log.h>

#include "vdpa_emulated.h"
#include "vring_copy.h"

#define SW_NET_BIT(feature)   (UINT64_C(1) << (feature))

#define SW_NET_PAIRS_MAX      128 /* 256 virtqueues, none left for a control virtqueue */
#define SW_NET_PAIRS_MAX_CTRL 127

#define SW_NET_FAULT_MAX      1000000000 /* of lie_len and hang_after */
#define SW_NET_HANG_NEVER     UINT32_MAX

extern int sw_net_logtype;
#define SW_NET_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, sw_net_logtype, "sw_net: " fmt "\n", ##__VA_ARGS__)

/*
 * Counters of a queue. A transmit queue counts all frames taken from it, and those of them that
 * nobody received by reason; a receive queue counts frames put into it.
 */
#define SW_NET_STATS(X)                                                              \
	X(PACKETS, "packets")                                                        \
	X(BYTES, "bytes") /* without the virtio-net header */                        \
	X(INTERRUPTS, "interrupts")                                                  \
	X(RX_WAITS, "rx_waits")             /* frames waited for receive buffers */  \
	X(CSUM_DONE, "csum_done")           /* checksums completed here */           \
	X(GSO_CUT, "gso_cut")               /* frames segmented here */              \
	X(DROP_HEADER, "drop_header")       /* shorter than both headers */          \
	X(DROP_GSO, "drop_gso")             /* segmentation that was not agreed */   \
	X(DROP_CSUM, "drop_csum")           /* checksum offsets outside the frame */ \
	X(DROP_TOO_BIG, "drop_too_big")     /* for the receive buffers, or 64 KiB */ \
	X(DROP_RX_OFF, "drop_rx_off")       /* receive queue off or broken */        \
	X(DROP_PEER_DOWN, "drop_peer_down") /* peer missing or stopped */            \
	X(DROP_LINK_DOWN, "drop_link_down") /* taken down, or the ethdev's */         \
	X(DROP_PORT, "drop_port")           /* not taken by the ethdev */            \
	X(DROP_NULL, "drop_null")           /* backend=null */                       \
	X(CAPTURED, "captured")             /* copied for a capture */               \
	X(CAPTURE_DROPPED, "capture_dropped") /* its file was too slow */

enum sw_net_stat {
#define SW_NET_STAT_ENUM(name, text) SW_NET_##name,
	SW_NET_STATS(SW_NET_STAT_ENUM)
#undef SW_NET_STAT_ENUM
	SW_NET_NR_STATS
};

enum sw_net_backend {
	SW_NET_LOOPBACK,
	SW_NET_NULL,
	SW_NET_PEER,
	SW_NET_PORT
};

/* What the keys of a device say. */
struct sw_net_args {
	enum sw_net_backend backend;
	char peer[VDPA_NAME_MAX]; /* "" unless backend=peer */
	char port[VDPA_NAME_MAX]; /* ethdev, "" unless backend=port */
	bool tso;
	uint8_t mac[ETH_ALEN];
	uint16_t mtu; /* 0: not offered */
	uint16_t nr_pairs;
	uint64_t features; /* offered */
	bool random_order;
	uint32_t lie_bytes;  /* added to each used length */
	uint32_t hang_after; /* frames of a queue; SW_NET_HANG_NEVER */
	struct vdpa_emulated_args common;
};

struct sw_net_cutter;
struct sw_net_dev;
struct sw_net_flow;
struct sw_net_held;
struct sw_net_capture;
struct sw_net_port;

/* A virtqueue. */
struct sw_net_vq {
	struct vring_dev ring;           /* worker */
	uint64_t stats[SW_NET_NR_STATS]; /* written by the worker, relaxed; read by anybody */
	struct sw_net_dev *dev;
	struct sw_net_flow *flow; /* link lock: the one it is in, NULL: none */
	uint16_t index;
	bool running; /* link lock */
	int kick_fd;
	/* set before it is in a flow, then the worker's */
	bool active;                                /* its pair carries traffic */
	bool failed;                                /* reported as broken: not touched any more */
	int memory_rc;                              /* what sw_net_vq_take_memory() came to */
	bool mergeable, csum, guest_csum, in_order; /* agreed */
	bool faulty;                                /* sw_net_fault_chains() */
	uint8_t gso;                                /* agreed, SW_NET_GSO_* */
	uint8_t hdr_bytes;
	uint32_t fault_random;
	uint16_t offload_mask;                 /* of flags and gso_type: what needs the long way */
	struct virtio_net_hdr_v1 plain_header; /* of a received frame without offloads */
};

/* The path of a pair's transmit queue; the worker's while with one. */
struct sw_net_flow {
	struct vdpa_path path; /* first */
	struct sw_net_vq *tx;  /* NULL: nothing to do */
	struct sw_net_vq *rx;  /* NULL: frames are counted as no_rx and dropped */
	enum sw_net_stat no_rx;
	bool running; /* link lock: with a worker */
	bool armed;
	bool capturing; /* one of its ends captures */
	bool blocked; /* frames wait for receive buffers */
	bool gated;   /* how many frames may go, sw_net_fault_pass() says */
	uint16_t unsignalled_bursts;
	/* link lock: what flow_connect() is to set */
	struct sw_net_vq *new_rx;
	enum sw_net_stat new_no_rx;
	struct vdpa_delay delay;
	/* made before they are needed, freed when it is with no worker (sw_net_gso.h) */
	struct sw_net_cutter *cutter;
	struct sw_net_held *held;
};

struct sw_net_link;

struct sw_net_dev {
	struct vdpa_device vdpa; /* first */
	char name[VDPA_NAME_MAX];
	struct sw_net_args args;
	struct sw_net_link *link;
	uint8_t side;   /* of the link */
	bool running;   /* link lock */
	bool listening; /* link lock: registered, hears of the other end */
	bool link_down; /* link lock: an operator wants it so */
	uint16_t mtu;   /* link lock: what a driver reads; args.mtu once none runs the device */
	atomic_bool fenced;
	atomic_bool logging; /* report what is written */
	/* written under the link lock, then sw_net_flows_capture() */
	_Atomic(struct sw_net_capture *) capture;
	uint8_t mac[ETH_ALEN]; /* link lock: now; args.mac after a driver's reset */
	bool promisc, allmulti; /* link lock */
	/* op thread */
	uint64_t features; /* agreed at the last start, as what follows */
	const struct vring_mem *mem;
	uint16_t nr_active_pairs;
	struct sw_net_vq *vqs;     /* 2 * args.nr_pairs */
	struct sw_net_flow *flows; /* args.nr_pairs; port: as many again, of the receive queues */
	struct sw_net_port *port;  /* NULL unless backend=port */
};

/* Two devices that name each other, or one alone. Counted by its ends. */
struct sw_net_link {
	pthread_mutex_t lock;
	char names[2][VDPA_NAME_MAX];
	struct sw_net_dev *ends[2]; /* list lock and lock; NULL: not there */
	uint8_t groups[2][SW_NET_PAIRS_MAX]; /* of paths: addresses, by sender and pair */
	struct sw_net_link *next, **pprev; /* list lock (sw_net_link.c) */
};

static inline struct sw_net_vq *
sw_net_rx(struct sw_net_dev *dev, uint16_t pair)
{
	return &dev->vqs[2 * pair];
}

static inline struct sw_net_vq *
sw_net_tx(struct sw_net_dev *dev, uint16_t pair)
{
	return &dev->vqs[2 * pair + 1];
}

/* Its flow is not that of another queue. */
static inline bool
sw_net_has_flow(const struct sw_net_vq *vq)
{
	return vq->index % 2 == 1 || vq->dev->port != NULL;
}

static inline void
sw_net_count(struct sw_net_vq *vq, enum sw_net_stat stat, uint64_t nr)
{
	__atomic_store_n(&vq->stats[stat], vq->stats[stat] + nr, __ATOMIC_RELAXED);
}

/* What can be segmented: types of virtio_net_hdr as a set. */
#define SW_NET_GSO_TCP4 0x1
#define SW_NET_GSO_TCP6 0x2
#define SW_NET_GSO_ECN  0x4

/* What it takes to handle a gso_type; 0: none, or a type that is not known here. */
static inline uint8_t
sw_net_gso_bits(uint8_t gso_type)
{
	uint8_t ecn = (gso_type & VIRTIO_NET_HDR_GSO_ECN) != 0 ? SW_NET_GSO_ECN : 0;

	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return SW_NET_GSO_TCP4 | ecn;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return SW_NET_GSO_TCP6 | ecn;
	}
	return 0;
}

/* ---- sw_net_args.c ---- */
extern const char sw_net_keys[]; /* for people */
/* features that a device can have, keys or not */
uint64_t sw_net_features(uint16_t nr_pairs, bool tso);
/* 0; -EINVAL with vdpa_error_text(). */
int sw_net_args_parse(const char *name, const char *text, struct sw_net_args *args);

/* ---- sw_net_set.c ---- */
extern const char sw_net_set_keys[];
int
sw_net_dev_set(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *vdpa, const char *args);
/* A queue stopped, or args.mtu changed; the link lock is held. */
void sw_net_mtu_settle(struct sw_net_dev *dev);

/* ---- sw_net_announce.c ---- */
int sw_net_announce(struct vdpa_device *vdpa, const uint8_t mac[ETH_ALEN]);

/* ---- sw_net_capture.c ---- */
#define SW_NET_SNAPLEN_MIN     64
#define SW_NET_SNAPLEN_DEFAULT 9216
#define SW_NET_SNAPLEN_MAX     65280 /* an mbuf has 64 KiB */
/* Begin a file, and the thread that writes to it. 0; negative errno with vdpa_error_text(). */
int sw_net_capture_open(
	const char *device, const char *path, uint32_t snaplen, struct sw_net_capture **out);
/* What is captured is written, then all freed. What had ended it, 0: nothing; NULL is taken. */
int sw_net_capture_close(struct sw_net_capture *capture);
/* It is there and had no error. */
bool sw_net_capture_runs(const struct sw_net_capture *capture);
const char *sw_net_capture_path(const struct sw_net_capture *capture);
/*
 * On the worker, while the buffers are still the device's: frames sent by the driver, and (done.len
 * is set) put into its buffers. Nothing where the queue's device does not capture.
 */
void sw_net_capture_sent(struct sw_net_vq *tx, const struct vring_chain *out, uint16_t nr);
void sw_net_capture_received(struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr);

/* ---- sw_net_vdpa.c ---- */
extern const struct vdpa_device_ops sw_net_ops;

/* ---- sw_net_vq.c; the link lock is held, but for sw_net_kill() ---- */
/* Make a queue from its configuration and what the device was started with. */
int sw_net_vq_init(struct sw_net_dev *dev, const struct vdpa_vq_config *config);
void sw_net_vq_state(const struct sw_net_vq *vq, struct vdpa_vq_state *state);
/* Make queues and start their flows. After an error call sw_net_queues_end(). */
int sw_net_queues_begin(struct sw_net_dev *dev, const struct vdpa_vq_config *vqs, uint16_t nr_vqs);
/* End all flows and queues. 0; -ETIMEDOUT: a worker hangs and may still use them. */
int sw_net_queues_end(struct sw_net_dev *dev);
/* The other end's link state is whether we run. */
void sw_net_tell_peer(struct sw_net_dev *dev);
/* End whatever runs without touching a ring again. 0; -ETIMEDOUT: keep the memory. */
int sw_net_kill(struct sw_net_dev *dev);
/* For sw_net_vq_run(), arg is the queue: its pair becomes active or inactive; dev->mem is new. */
void sw_net_vq_toggle(void *vq);
void sw_net_vq_take_memory(void *vq);

/* ---- sw_net_link.c; the link lock is held from sw_net_flows_start() on ---- */
/* 0; -EBUSY: another device is the peer; -EEXIST; -ENOMEM; all with vdpa_error_text(). */
int sw_net_link_join(struct sw_net_dev *dev);
void sw_net_link_leave(struct sw_net_dev *dev);
/* Other end of the link that exists; the lock is held or dev alone in it. */
struct sw_net_dev *sw_net_link_other(const struct sw_net_dev *dev);
/* What a driver is to read of it; the lock is held. */
bool sw_net_link_is_up(const struct sw_net_dev *dev);
/* Whose frames the device receives: itself, its peer, or NULL. */
struct sw_net_dev *sw_net_source(struct sw_net_dev *dev);
/* The group of paths that queue index of dev is worked on in. Any thread. */
const void *sw_net_group(const struct sw_net_dev *dev, uint16_t index);
/* Give flows of running transmit queues to workers. 0 or negative errno, then none is with one. */
int sw_net_flows_start(struct sw_net_vq *const *vqs, uint16_t nr);
/* Take them back. 0; -ETIMEDOUT: a worker hangs. */
int sw_net_flows_stop(struct sw_net_vq *const *vqs, uint16_t nr);
/* Let the flows of the device that receives from src fit to what runs now. 0, -ETIMEDOUT. */
int sw_net_flows_connect(struct sw_net_dev *src);
/* No burst that touches a queue of dev and began before this call goes on. 0, -ETIMEDOUT. */
int sw_net_flows_quiet(struct sw_net_dev *dev);
/* dev->capture has changed. 0, or -ETIMEDOUT: the former one may still be used. */
int sw_net_flows_capture(struct sw_net_dev *dev);
/* Run fn(arg) where vq may be touched. 0, -ETIMEDOUT. */
int sw_net_vq_run(struct sw_net_vq *vq, void (*fn)(void *arg), void *arg);

/* ---- sw_net_path.c; on the worker ---- */
unsigned int sw_net_poll(struct vdpa_path *path);
bool sw_net_arm(struct vdpa_path *path);
/* Publish and signal what a burst left to do. */
void sw_net_settle(struct sw_net_flow *flow);
/* A queue is broken: stop using it and report it, once. why NULL: what the ring says. */
void sw_net_vq_fail(struct sw_net_vq *vq, const char *why);

/* ---- sw_net_fault.c; on the worker ---- */
/* What of the ends of a flow has changed: does anything hold frames up? */
void sw_net_fault_gate(struct sw_net_flow *flow);
/* How many of nr frames that wait may go now: keys delay_us and hang_after. */
uint16_t sw_net_fault_pass(struct sw_net_flow *flow, uint16_t nr);
/* An end of a flow that is gated completes nothing any more. */
bool sw_net_fault_hangs(const struct sw_net_flow *flow);
/* Put buffers that are about to be given back in another order, and lie about their lengths. */
void sw_net_fault_chains(struct sw_net_vq *vq, struct vring_chain *chains, uint16_t nr);

/* How many of nr frames that wait the flow may take now. */
static inline uint16_t
sw_net_pass(struct sw_net_flow *flow, uint16_t nr)
{
	return unlikely(flow->gated) ? sw_net_fault_pass(flow, nr) : nr;
}

/* ---- sw_net_frame.c; on the worker ---- */
#define SW_NET_FRAME_MIN ETH_HLEN
#define SW_NET_FRAME_MAX (65535 + ETH_HLEN + 4)

/* What became of a frame, where it is not a number of receive buffers filled. */
enum sw_net_frame_result {
	SW_NET_FRAME_DROPPED = 0,
	SW_NET_FRAME_WAIT = -1,   /* not enough receive buffers */
	SW_NET_FRAME_BAD_TX = -2, /* the sender's buffer has a part that the device writes */
	SW_NET_FRAME_BAD_RX = -3, /* the receiver's buffer has a part that the device reads */
	SW_NET_FRAME_CUT = -4,    /* to be segmented for this receiver: sw_net_cut_take() */
};

/*
 * One frame of any shape to the first of nr receive buffers: check its header, copy, complete its
 * checksum, set done.len. @return receive buffers filled, or a sw_net_frame_result
 */
int sw_net_frame(struct sw_net_vq *tx, const struct sw_net_vq *rx, const struct vring_chain *out,
	struct vring_chain *in, uint16_t nr);
/*
 * Its first half: hdr is what the frame (len bytes from *frame on) needs of whom it is given to,
 * checked. @return 1, or a sw_net_frame_result
 */
int sw_net_frame_check(struct sw_net_vq *tx, const struct vring_chain *out,
	struct virtio_net_hdr_v1 *hdr, struct vring_cursor *frame, uint32_t *len);
/* Its second half; what is done is counted at from. */
int sw_net_frame_put(struct sw_net_vq *from, const struct sw_net_vq *rx,
	const struct virtio_net_hdr_v1 *hdr, struct vring_cursor src, uint32_t len,
	struct vring_chain *in, uint16_t nr);
/*
 * Complete a checksum in place: what lies at start + offset is the sum of the pseudo header
 * (virtio 1.2, 5.1.6.2). 0 is written as 0xffff: UDP needs that, TCP takes it.
 */
void sw_net_complete_checksum(
	struct vring_cursor frame, uint32_t len, uint32_t start, uint32_t offset);

#endif /* SW_NET_H */
