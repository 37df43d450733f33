/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_PRIVATE_H
#define VDPA_PRIVATE_H

/**
 * @file
 * Objects of the class and what its files promise one another.
 *
 *   vdpa_device.c     registry, checks at registration, status, bus drivers
 *   vdpa_binding.c    a consumer's place of attachment, its configuration space
 *   vdpa_contract.c   what is promised there
 *   vdpa_session.c    what a consumer wants
 *   vdpa_reconcile.c  the pass that makes it so (op pool threads), with vdpa_pass_*.c
 *   vdpa_swap.c       a consumer moves to another device: who may, what is missing
 *   vdpa_relay.c      shadow virtqueues at work     vdpa_shadow.c    where they lie
 *   vdpa_log.c        which pages were written      vdpa_times.c     how long things took
 *   vdpa_ops.c        op pool, deadlines, control thread
 *   vdpa_watch.c      kicks heard by the control thread
 *   vdpa_call.c       descriptors of a consumer
 *   vdpa_domain.c     memory          vdpa_sigbus.c   memory that its owner took away
 *   vdpa_worker.c     datapath workers (vdpa_worker.h)
 *   vdpa_type.c       what a virtio device type means (net, block); feature names
 *   vdpa_cvq.c        net control virtqueue served by the class
 *   vdpa_announce.c   where a guest is now, told to the network
 *   vdpa_args.c       key=value parsing, error text
 *
 * Lock order: registry, moves, binding, op pool. None is held during an op, a callback of a bus
 * driver, or on the datapath. A live swap exchanges the devices of two bindings: struct
 * vdpa_device_priv stays with its binding and gets another device.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include <rte_log.h>

#include "vdpa_consumer.h"
#include "vdpa_domain.h"
#include "vdpa_inflight.h"
#include "vdpa_log.h"
#include "vdpa_times.h"

#define BIT(feature) (UINT64_C(1) << (feature))
#define F_RING_RESET 40 /* newer than some kernel headers */

extern int vdpa_logtype;
#define VDPA_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, vdpa_logtype, "vdpa: " fmt "\n", ##__VA_ARGS__)

/* ---- device types (vdpa_type.c) ---- */
struct vdpa_type {
	uint16_t virtio_id;
	const char *name;
	const char *const *feature_names; /* of the type's own bits, 64 */
	/*
	 * used->idx in memory tells where a split queue starts, and where it stopped if buffers
	 * are used in order
	 */
	bool index_in_memory;
	/*
	 * Queues of a device that the class serves a control queue for included; nr_data: queues of
	 * the device itself.
	 */
	uint16_t (*nr_pairs)(uint16_t nr_data);
	/* Index of the control queue under these agreed features, or -1. */
	int (*ctrl_vq)(uint64_t features, uint16_t nr_pairs);
	/*
	 * Features which make no sense without another, dropped when the other is missing (virtio
	 * 1.2, 5.1.3.1).
	 */
	uint64_t (*features_consistent)(uint64_t features);
	/*
	 * What stays of them where the class serves the control queue, for a device that takes
	 * commands (op cvq) or numbers of pairs (op set_active_queues). NULL: ctrl_vq is -1
	 */
	uint64_t (*features_served)(uint64_t features, bool commands, bool pairs);
	/* A driver that agreed to these is asked in its configuration space where it is now. */
	uint64_t features_announce;
	void (*config_announce)(uint8_t *config); /* NULL: never */
	/* What an operator sees of the configuration space. NULL: nothing */
	void (*config_status)(
		uint64_t features, const uint8_t *config, struct vdpa_device_status *status);
	/* Configuration space of a device that has more than was promised. NULL: as it is */
	void (*config_limit)(const struct vdpa_contract *contract, uint8_t *config);
	/*
	 * In what the configuration space `other` breaks the promise `own`, to a driver that was
	 * offered these features: a sentence, NULL: in nothing. i counts up from 0 while there may
	 * be more; mac_set: the driver gave it another address.
	 */
	const char *(*config_breaks)(uint64_t features, const uint8_t *own, const uint8_t *other,
		bool mac_set, unsigned int i, char *text, size_t size);
};
#define VDPA_CONFIG_CHECKS 8 /* i is below */
const struct vdpa_type *vdpa_type_find(uint16_t virtio_id);

/* ---- net control virtqueue (vdpa_cvq.c) ---- */
struct vdpa_cvq; /* settings made by the driver, and the ring while it runs */
/* How commands take effect: called on the op thread, 0 or negative errno. */
struct vdpa_cvq_effects {
	int (*set_pairs)(void *arg, uint16_t nr_pairs);
	int (*command)(void *arg, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes);
	void (*announce_ack)(void *arg);
	void *arg;
};
/* nr_pairs: at most; features: what was agreed with the consumer. */
struct vdpa_cvq *vdpa_cvq_create(const struct vdpa_cvq_effects *effects, uint16_t nr_pairs);
void vdpa_cvq_free(struct vdpa_cvq *cvq);
void vdpa_cvq_reset(
	struct vdpa_cvq *cvq, uint64_t features); /* a driver's reset: defaults, 1 pair active */
void vdpa_cvq_set_features(
	struct vdpa_cvq *cvq, uint64_t features); /* before start, where no reset came before it */
struct vdpa_call;
int vdpa_cvq_start(struct vdpa_cvq *cvq, const struct vdpa_vq_config *vq, struct vdpa_call *call,
	struct vdpa_domain *domain); /* call outlives the run */
void vdpa_cvq_stop(struct vdpa_cvq *cvq, struct vdpa_vq_state *state);
int vdpa_cvq_update_memory(struct vdpa_cvq *cvq, struct vdpa_domain *domain);
/*
 * Serve what is available; answers each command; signals by the call. 0: nothing is left, the
 * next command kicks; 1: enough for one call (64 commands, 200 ms), call again; -EBADMSG: the ring
 * is broken (vdpa_error_text()).
 */
int vdpa_cvq_serve(struct vdpa_cvq *cvq);
void vdpa_cvq_set_dirty(
	struct vdpa_cvq *cvq, struct vdpa_dirty *dirty); /* mark what is written; NULL: no more */
int
vdpa_cvq_restore(struct vdpa_cvq *cvq); /* play the settings to a device that was started anew */
uint16_t vdpa_cvq_active_pairs(const struct vdpa_cvq *cvq);
bool vdpa_cvq_sets_mac(const struct vdpa_cvq *cvq); /* the driver gave the device an address */

/* ---- datapath workers (vdpa_worker.c); paths: vdpa_parent.h ---- */
/*
 * Stop and join all workers, with or without paths; a worker that hangs is left alone after a
 * second. Runs by itself when the library is unloaded; a worker also stops with its last path.
 */
void vdpa_workers_stop(void);
/*
 * Between the two no worker ends for want of paths: what is stopped is started again. Each waits
 * for no more than the end of an idle worker.
 */
void vdpa_workers_keep(void);
void vdpa_workers_release(void);
/* The key of the paths that work on a queue of a device. */
const void *vdpa_vq_group(struct vdpa_device *dev, uint16_t index);

/* ---- op pool (vdpa_ops.c) ---- */
/*
 * Brackets of every op of a device. After the deadline the device is failed and fenced by
 * vdpa_device_fence() on the control thread; vdpa_op_end then returns -ETIMEDOUT and the caller
 * touches the device no more.
 */
struct vdpa_pass_frame;
struct vdpa_op {
	struct vdpa_device *dev;
	const char *name;
	uint64_t deadline_ns;
	unsigned int grace_ticks; /* after it, counted as they are had (vdpa_times.h) */
	struct vdpa_op *next, **pprev;
	struct vdpa_pass_frame *frame; /* of the thread that is in it; NULL: no pass */
	bool expired, fencing;
	bool left; /* its pass goes on without it: vdpa_op_end() does not return */
};
/*
 * A pass on its thread. When a device hangs in an op and another one takes over, the binding goes
 * on with another pass; the thread that hangs comes back here at last, and frees what it had.
 */
struct vdpa_pass_frame {
	jmp_buf out;
	struct vdpa_binding *binding;
	struct vdpa_device *left_in; /* whose op it was */
	struct vdpa_plan *plan;
	/* given up by the binding: an op may still read and write them */
	struct vdpa_session_vq *vqs;
	struct vdpa_vq_config *configs;
	struct vdpa_vq_state *states;
};
/*
 * The op of this frame's thread hangs in a device: let the binding go on with another one, if there
 * is one. On the control thread. true: the frame's thread is on its own from now on.
 */
bool vdpa_pass_leave(struct vdpa_pass_frame *frame, struct vdpa_device *dev);
/* NULL: this thread's pass is over. */
void vdpa_pass_frame_set(struct vdpa_pass_frame *frame);
/* The work's thread hangs and will not touch it again: the work can run on another thread. */
void vdpa_work_leave(struct vdpa_work *work);
void
vdpa_op_begin(struct vdpa_op *op, struct vdpa_device *dev, const char *name, uint32_t deadline_ms);
int vdpa_op_end(struct vdpa_op *op);
/* vdpa_work_wait(), with what is left of a wait for several. */
int vdpa_work_wait_for(struct vdpa_work *work, struct vdpa_patience *patience);
/* Where the control thread waits, for vdpa_watch.c; it runs from here on. Or a negative errno. */
int vdpa_control_epoll(void);
/*
 * Threads of the op pool and the control thread end; for the end of the library. Work that is stuck
 * stays.
 */
void vdpa_ops_stop(void);

/* ---- kicks heard by the control thread (vdpa_watch.c) ---- */
/* Watch a descriptor (edge-triggered, never read): fn runs on that thread and must only queue. */
int vdpa_watch_add(int fd, void (*fn)(void *arg), void *arg);
void vdpa_watch_del(int fd);       /* fn does not run after it returns */
void vdpa_watch_run(uint64_t id); /* the control thread heard it */

/* ---- descriptors of a consumer, and calls (vdpa_call.c) ---- */
struct vdpa_fd { /* counted; the last put closes */
	int fd;
	bool is_socket;
	atomic_uint refs;
};
/* Duplicate; fd -1 gives NULL and success. */
int vdpa_fd_dup(int fd, bool nonblock, struct vdpa_fd **out);
struct vdpa_fd *vdpa_fd_get(struct vdpa_fd *fd);
void vdpa_fd_put(struct vdpa_fd *fd);
/*
 * The descriptor by which a queue interrupts: its number stays while what is behind it is replaced,
 * so that whoever writes to it needs no lock. Read by workers, written by the op thread.
 */
struct vdpa_call {
	atomic_int fd; /* -1: never set */
	atomic_bool is_socket;
};
int vdpa_call_set(struct vdpa_call *call, const struct vdpa_fd *fd); /* NULL: nobody hears */
void vdpa_call_write(struct vdpa_call *call);
void vdpa_call_close(struct vdpa_call *call);

/* ---- devices (vdpa_device.c) ---- */
struct vdpa_device_priv {
	struct vdpa_device *dev;
	struct vdpa_device_priv *next;
	const struct vdpa_type *type;
	struct vdpa_info info;
	struct vdpa_contract contract; /* with a binding it changes only in an exchange */
	bool class_cvq;                /* the class serves the control virtqueue */
	struct vdpa_call *calls; /* nr_vqs of the contract */
	/* reports of the parent, consumed by the pass */
	atomic_bool config_changed;
	atomic_int failed; /* negative errno */
	_Atomic(const char *) failed_why;
	atomic_int *vq_failed;              /* nr_vqs */
	_Atomic(struct vdpa_dirty *) dirty; /* what workers mark; NULL: nobody asks */
	_Atomic(const char *) vq_failed_why;

	pthread_mutex_t lock; /* all below, and bindings and sessions of the device */
	pthread_cond_t changed;
	struct vdpa_binding *binding;
	struct vdpa_binding *reserved; /* this one is about to move to the device */
	bool stuck;                    /* a thread is in an op of it and does not come back */
	struct vdpa_domain *domain; /* of the running datapath, for fencing */
	enum vdpa_health health;
	bool hung;    /* an op passed its deadline: never call it again */
	bool fencing; /* it is about to be kept from the consumer's memory */
	bool config_valid;
	bool announce; /* the guest is asked to, in its configuration space */
	uint8_t config[256];
	char bound[160];
	char last_error[160];
	uint64_t sessions, starts, failures;
	enum vdpa_relay_policy relay;
	uint64_t swaps;
	enum vdpa_mode mode;
	const char *mode_why;
	bool log;
	uint64_t dirty_pages, dirty_tables;
	uint64_t relayed; /* by relays that are gone, as what follows */
	uint32_t lag_max;
	struct vdpa_times phases[VDPA_NR_PHASES];
};

/* Log, remember as last error, tell the listener. Lock not held. */
void vdpa_device_event(struct vdpa_device_priv *priv, enum vdpa_event_type type, const char *format,
	...) __attribute__((format(printf, 3, 4)));
/* Read configuration space into the copy. On the op thread, or at registration. */
int vdpa_device_config_load(struct vdpa_device_priv *priv);
/*
 * Past a deadline: failed for ever, kept from the consumer's memory. Any thread, any number of
 * times.
 */
void vdpa_device_fence(struct vdpa_device *dev, const char *op);
/* Whatever device it has now. */
void vdpa_priv_fence(struct vdpa_device_priv *priv, const char *op);
void vdpa_priv_failed(struct vdpa_device_priv *priv, int error, const char *why);
/* A pass is to look at what was reported. Any thread. */
void vdpa_priv_report(struct vdpa_device_priv *priv);
/*
 * Held by calls of consumers and reports of parents, while they use the device behind a binding or
 * the other way round. Recursive. Never waited under.
 */
void vdpa_moves_hold(void);
void vdpa_moves_release(void);
/*
 * The bindings' devices change places; other, which nobody uses, promises what its new one has. On
 * the thread that runs ops of both; neither runs.
 */
void vdpa_devices_exchange(struct vdpa_binding *binding, struct vdpa_binding *other);
/* No datapath starts any more (vdpa_stop_all). */
bool vdpa_stopping(void);

/* ---- bindings and sessions (vdpa_binding.c, vdpa_session.c) ---- */
struct vdpa_session_vq { /* wanted; and what the class knows of the queue */
	bool ready;
	bool failed;      /* stopped for an error; until the consumer sets a position again */
	bool state_valid; /* state is the class's own */
	uint16_t size;
	uint64_t desc_iova, driver_iova, device_iova;
	struct vdpa_vq_state base, state;
	uint32_t base_seq, base_applied, base_failed;
	uint32_t kick_seq, call_seq;
	struct vdpa_fd *kick, *call;
};

struct vdpa_session {
	struct vdpa_binding *binding;
	struct vdpa_session *next_closed;
	char peer[160];
	uint64_t features;
	bool driver_ok;
	uint32_t regions_seq;
	struct vdpa_domain *domain;
	bool log;
	uint32_t log_seq;
	struct vdpa_log *log_view;
	uint32_t inflight_seq;
	struct vdpa_inflight *inflight;
	uint32_t seq, seq_done;      /* of sets and stops; what the last pass dealt with */
	bool arrived;                /* it was started once; the pass's */
	bool announce;               /* the device is to announce this address */
	uint8_t announce_mac[6];
	bool start_failed;           /* tried again only after a driver's reset */
	int result;                  /* of the last pass */
	uint16_t nr_vqs;             /* of the contract when it was opened */
	struct vdpa_session_vq *vqs;
};

struct vdpa_config_write {
	struct vdpa_config_write *next;
	uint32_t offset, len_bytes;
	uint8_t data[256];
};

/* What the device runs: read and written by the pass alone, but for the fields said otherwise. */
struct vdpa_running {
	struct vdpa_session *session; /* NULL: nothing runs. Written under lock */
	uint64_t features;
	struct vdpa_domain *domain; /* also of a stopped map/unmap device whose maps persist */
	enum vdpa_mode mode;
	struct vdpa_inflight *inflight;
	struct vdpa_log *log;             /* engaged: what is written goes here */
	struct vdpa_dirty *dirty;         /* with those that it replaced */
	struct vdpa_domain *dirty_domain; /* that dirty was made for */
	bool device_logs;                 /* dirty_start was called */
	bool log_broken;                  /* it failed: relayed until the consumer goes */
	bool mark_all;                    /* there was a gap: before the pass ends */
	uint16_t nr_active_pairs;
	uint16_t nr_vqs;             /* that run. Written under lock */
	struct vdpa_session_vq *vqs; /* ready: it runs; kick and call are held here */
};

struct vdpa_doorbell { /* for the watch of a kick descriptor */
	struct vdpa_device *dev;
	uint16_t index;
};

struct vdpa_binding {
	struct vdpa_device_priv *priv;
	char name[VDPA_NAME_MAX];
	const struct vdpa_binding_ops *ops;
	void *arg;
	struct vdpa_work work;
	struct vdpa_session *session; /* open one */
	struct vdpa_session *closed;  /* to be freed by the pass */
	struct vdpa_config_write *writes, **writes_tail;
	atomic_bool cvq_kicked;
	struct vdpa_cvq *cvq;
	struct vdpa_relay
		*relay; /* since it was first needed in this session. Written under lock */
	struct vdpa_running run;
	bool let_go; /* a device that hung has returned */
	atomic_bool unserved; /* the stand-in did not take over */
	bool position_lost; /* nobody knows where a queue stopped. The pass's */
	struct vdpa_swap *swap; /* asked for or under way. Written under lock */
	char standin[VDPA_NAME_MAX]; /* "": none. Under lock */
	/* of the pass: when which part of a switch was over */
	uint64_t begun_ns, over_ns[VDPA_PHASE_PAUSE];
	uint16_t nr_vqs; /* that these and run.vqs have room for: of the contract, or more */
	/* the pass's copy of what is wanted */
	struct vdpa_session_vq *plan;
	struct vdpa_vq_config *configs;
	struct vdpa_vq_state *states;
	struct vdpa_doorbell *doorbells;
};
void vdpa_session_free(struct vdpa_session *session);
/* 0, -ENOMEM */
int vdpa_binding_cvq_create(struct vdpa_binding *binding);
/* Room for so many queues; nothing of it runs, and no session is open. 0, -ENOMEM: as before. */
int vdpa_binding_reserve(struct vdpa_binding *binding, uint16_t nr_vqs);
#define VDPA_VQS_MAX 257 /* of a contract */

/* ---- contracts (vdpa_contract.c) ---- */
/* What the class promises to a consumer of the device. */
void vdpa_contract_make(struct vdpa_device_priv *priv);
bool vdpa_can_log(const struct vdpa_info *info, enum vdpa_relay_policy relay);
/* What may change of a device that is reserved. */
struct vdpa_offer {
	enum vdpa_relay_policy relay;
	uint8_t config[256];
};
void vdpa_contract_offer(struct vdpa_device_priv *to, struct vdpa_offer *offer);
/*
 * What another device, which is reserved and offers this, lacks of what the binding's consumer was
 * promised, a line for each. 0, or -ENOTSUP. Under the binding's lock, moves held.
 */
int vdpa_contract_compare(const struct vdpa_binding *binding, const struct vdpa_device_priv *to,
	const struct vdpa_offer *offer, char *missing, size_t size);

/* ---- live swap (vdpa_swap.c) ---- */
enum vdpa_swap_phase {
	VDPA_SWAP_PREPARE, /* the other binding's pass maps what the device needs */
	VDPA_SWAP_READY,   /* it has: the binding's own pass is to do it */
	VDPA_SWAP_MOVED,   /* the device is the new one, and is being started */
	VDPA_SWAP_BACK,  /* it did not start: the former one is */
};
struct vdpa_swap {
	struct vdpa_binding *other;  /* of the device that is moved to; reserved */
	enum vdpa_swap_phase phase;  /* under the binding's lock, as all up to report */
	struct vdpa_domain *prepared; /* that the device reaches */
	bool waited;                 /* by whom frees it; else the end does */
	bool done;
	int rc;
	bool ran;     /* a datapath was under way */
	bool standin; /* the former device failed: it is not started again */
	uint64_t begin_us, stopped_us;
	char from[VDPA_NAME_MAX], to[VDPA_NAME_MAX];
	char why[256];
	struct vdpa_swap_report report;
};
/*
 * The swap if it is in this phase, else NULL. In PREPARE it is the other binding's pass's, later
 * the binding's own pass's: nobody else reads or ends it.
 */
struct vdpa_swap *vdpa_swap_in(struct vdpa_binding *binding, enum vdpa_swap_phase phase);
bool vdpa_swap_is_asked(struct vdpa_binding *binding); /* in whatever phase */
void vdpa_swap_set_phase(struct vdpa_binding *binding, enum vdpa_swap_phase phase);
/* Over: the reservation ends, who waits is woken. why: for people, NULL: what rc means. */
void vdpa_swap_end(struct vdpa_binding *binding, int rc, const char *why);
/* The former device has failed, and the stand-in does not serve yet. Lock held. */
bool vdpa_swap_holds_locked(const struct vdpa_binding *binding);
/* Ask for the stand-in. false: there is none, or it cannot take over. */
bool vdpa_swap_standin(struct vdpa_binding *binding);

/* ---- announcements (vdpa_announce.c) ---- */
/* The driver has done what it was asked to. Op thread. */
void vdpa_announce_acknowledged(struct vdpa_device_priv *priv);
/* Add to configuration space what is asked of the driver. Lock held. */
void vdpa_announce_overlay(struct vdpa_device_priv *priv, void *space);

/* ---- the pass (vdpa_reconcile.c) ---- */
void vdpa_reconcile(struct vdpa_work *work);

#endif /* VDPA_PRIVATE_H */
