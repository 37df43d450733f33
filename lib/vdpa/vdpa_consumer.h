/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_CONSUMER_H
#define VDPA_CONSUMER_H

/**
 * @file
 * The vDPA device class, as consumers see it: bus drivers, and programs that list, bind and watch
 * devices.
 *
 *   binding   a consumer's place of attachment, made by a bus driver, and the contract with it:
 *             features offered, configuration space, number of queues. It points to one device.
 *   session   one attachment from connect to disconnect. The bus driver writes into it what the
 *             consumer wants (a level, not an edge); the class computes the difference to what runs
 *             and makes it so, on its op pool.
 *
 *      vdpa_binding_create
 *        { vdpa_session_open -> vdpa_session_set* -> [ vdpa_session_stop -> vdpa_session_set* ]* ->
 *        vdpa_session_close }*
 *      vdpa_binding_destroy
 *
 * Threads: any, unless a function says otherwise; calls for one session come from one thread at a
 * time. Only vdpa_session_stop() waits for a device, and only to its deadline. Errors are negative
 * errno; vdpa_error_text() has the sentence for people.
 */

#include <sys/types.h>

#include "vdpa_parent.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct vdpa_binding;
struct vdpa_session;

/**
 * What the class promises to a consumer of a binding. Changes only when the binding, without a
 * consumer, gets another device (vdpa_binding_ops.moved).
 */
struct vdpa_contract {
	/** offered (ACCESS_PLATFORM and RING_RESET stay between class and device) */
	uint64_t features;
	uint16_t virtio_id;
	uint16_t nr_vqs;   /**< the control virtqueue included, whoever serves it */
	uint16_t nr_pairs; /**< net: queue pairs; block: 0 */
	uint16_t vq_size_max;
	uint32_t config_size_bytes;
	/** what is written can be logged (VHOST_F_LOG_ALL), by the device or the relay */
	bool can_log;
	bool can_announce; /**< net: vdpa_session_announce() */
	/** the device notes what it took, where vdpa_wanted says (inflight_fd) */
	bool notes;
};

/**
 * From the binding's op queue; must not block for long and must not call back into
 * vdpa_session_stop().
 */
struct vdpa_binding_ops {
	/** Configuration space changed: interrupt the driver. */
	void (*config_changed)(struct vdpa_binding *binding, void *arg);
	/**
	 * The session's device, or some of its queues, stopped for an error: DEVICE_NEEDS_RESET
	 * (virtio 1.2, 2.1.2).
	 */
	void (*needs_reset)(struct vdpa_binding *binding, void *arg, int error);
	/**
	 * The binding stands for another device from now on: its consumer was moved, or this one
	 * has taken the place of a device that a consumer was moved to. The contract of a binding
	 * with a consumer has not changed; that of the other one may have: read it again. May be
	 * NULL.
	 */
	void (*moved)(struct vdpa_binding *binding, void *arg, struct vdpa_device *dev);
};

/** One virtqueue as the consumer wants it. */
struct vdpa_wanted_vq {
	bool ready; /**< all below is known and the driver enabled it */
	uint16_t size;
	uint64_t desc_iova, driver_iova, device_iova;
	/**
	 * Position that the consumer set, and a number that changes each time it does. 0: never,
	 * begin at the start.
	 */
	struct vdpa_vq_state base;
	uint32_t base_seq;
	/**
	 * Descriptors of the consumer (-1: none), duplicated by vdpa_session_set() when the number
	 * beside changed, so that they may be closed after it returns. Kick: never read. Call:
	 * eventfd or stream socket; O_NONBLOCK is set on it.
	 */
	int kick_fd, call_fd;
	uint32_t kick_seq, call_seq;
};

/** What the consumer wants now: a level, not an edge. */
struct vdpa_wanted {
	uint64_t features;                /**< agreed with the consumer */
	bool driver_ok;                   /**< false: nothing runs */
	const struct vdpa_wanted_vq *vqs; /**< index is the virtqueue's */
	uint16_t nr_vqs;
	/**
	 * The consumer's memory, and a number that changes with it. With fd >= 0 the class maps the
	 * file itself (va is ignored, fd duplicated); with -1 it uses va, which must stay mapped
	 * until the session is closed or the memory replaced and vdpa_session_sync() returned.
	 */
	const struct vdpa_range *regions;
	uint32_t nr_regions;
	uint32_t regions_seq;
	/**
	 * Log what is written to the consumer's memory: one bit for each 4 KiB page from address 0.
	 * The promise begins when the session is told: once logging engages, everything that was
	 * written before is marked too. log_va is a shared mapping of the consumer, of which the
	 * class makes a view of its own when log_seq changes; NULL: none. The consumer can say of
	 * which file and offset it is: if the class has just these in view, at the same size, it is
	 * no other log, and nothing is marked anew. log_ino 0: not known.
	 */
	bool log;
	void *log_va;
	uint64_t log_size_bytes;
	dev_t log_dev;
	ino_t log_ino;
	uint64_t log_offset;
	uint32_t log_seq;
	/**
	 * Where the device notes what it took (vring_inflight.h): regions of queues one after the
	 * other, each for inflight_vq_size entries, from inflight_offset of a file that the class
	 * maps itself when inflight_seq changes. -1: none.
	 */
	int inflight_fd;
	uint64_t inflight_offset, inflight_bytes;
	uint16_t inflight_vqs, inflight_vq_size;
	uint32_t inflight_seq;
};

/**
 * @name Bindings
 * Management thread.
 * @{
 */
/**
 * @param name
 *	Unique among bindings; a bus driver's default binding is named like its device.
 * @return NULL with vdpa_error_text(): the name is taken, or no memory.
 */
struct vdpa_binding *vdpa_binding_create(
	const char *name, struct vdpa_device *dev, const struct vdpa_binding_ops *ops, void *arg);
/** @return 0; -EBUSY: a session is open, or an op hangs. */
int vdpa_binding_destroy(struct vdpa_binding *binding);
const char *vdpa_binding_name(const struct vdpa_binding *binding);
void vdpa_binding_contract(const struct vdpa_binding *binding, struct vdpa_contract *contract);
/**
 * Read configuration space from the class's copy. Never blocks; beyond its end the bytes are zero.
 */
void vdpa_binding_config_read(
	struct vdpa_binding *binding, uint32_t offset, void *data, uint32_t len_bytes);
/**
 * Queue a write of configuration space. Any thread; data is copied.
 * @return 0; -ENOTSUP the device takes none; -EINVAL outside; -ENOMEM; -EBUSY too many wait, the
 *	driver writes faster than the device takes them: drop it.
 */
int vdpa_binding_config_write(
	struct vdpa_binding *binding, uint32_t offset, const void *data, uint32_t len_bytes);
/** @} */

/**
 * @name Live swap
 * A running consumer moves from its device to another one, of any parent. The contract is compared
 * first; what takes long is done while the former device serves; then it is stopped, and the other
 * goes on where it stood. If that one does not start, the former goes on: the consumer sees a
 * pause.
 * The other device's binding gets the former device, so that it can be deleted, or swapped back.
 * @{
 */
/** What came of a swap. */
struct vdpa_swap_report {
	uint64_t prepare_us; /**< while the former device served */
	uint64_t pause_us;   /**< the datapath stood still; 0: none ran */
	uint64_t stop_us, start_us; /**< its parts */
	unsigned int rounds;        /**< in which memory was mapped */
	bool went_back;             /**< the other device did not start: the former serves */
	bool forced; /**< the former device hung: queues go on where memory says they stood */
	char missing[1024]; /**< what the device lacks, a line for each; "": nothing */
};
/** The binding of a device, NULL: none. Management thread. */
struct vdpa_binding *vdpa_device_binding(const struct vdpa_device *dev);
/** The device that a binding stands for now. Management thread. */
struct vdpa_device *vdpa_binding_device(const struct vdpa_binding *binding);
/**
 * Move the binding, with its consumer if there is one, to this device, and wait for it. Management
 * thread; not from a callback.
 * @param report
 *	Filled on success and error. May be NULL.
 * @return 0. -ENOTSUP: the device lacks part of the contract: report->missing says what, nothing
 *	was touched. -EBUSY: it is bound, attached, or part of another swap (vdpa_error_text() names
 *	whose): try later. -EINVAL: it serves this binding. -EIO: it is failed. -EAGAIN: the
 *	consumer changed its memory three times while it was mapped, nothing was touched: try again.
 *	-ENODEV: it has no bus driver's binding. -ECANCELED: the binding goes away. Anything else:
 *	what the device said when it was prepared or started; the former one serves.
 */
int vdpa_binding_swap(struct vdpa_binding *binding, struct vdpa_device *dev,
	struct vdpa_swap_report *report);
/**
 * Whom the binding moves to when its device fails or hangs. The stand-in is looked for by name at
 * that moment; if it cannot serve, the device is shown as failed as it would be without. Any
 * thread.
 * @param standin
 *	NULL or "": none.
 * @return 0; -EINVAL: the name is too long, or the device's own.
 */
int vdpa_binding_standin_set(struct vdpa_binding *binding, const char *standin);
/** @} */

/**
 * @name Sessions
 * @{
 */
/**
 * Begin an attachment. Never blocks.
 * @param peer
 *	Who it is, for people: "unix:/run/vm7.sock"; copied.
 * @return NULL with vdpa_error_text(): the binding has an open session, or the device is
 *	failed or going away.
 */
struct vdpa_session *vdpa_session_open(struct vdpa_binding *binding, const char *peer);
/**
 * State what the consumer wants; everything is copied, one reconcile is queued. Never blocks.
 * A ring outside the memory is found when it starts: that queue fails (needs_reset).
 * @return 0; -EINVAL features not offered, ring number or size out of range, a log that was not
 *	promised, regions that overlap or exceed what the device reaches: nothing changed, close
 *	the attachment; -ENOMEM, -EMFILE, or what mapping gave: the same.
 */
int vdpa_session_set(struct vdpa_session *session, const struct vdpa_wanted *wanted);
/**
 * Stop all queues and wait for it, at most deadline_ms (0: the class's). Afterwards driver_ok is
 * false until the next set.
 * @param states
 *	Filled with the position of each queue below nr_vqs; of a queue that never ran, what the
 *	consumer set.
 * @return 0: the datapath is quiet, states are the truth. -ETIMEDOUT: the device was fenced
 *	(nothing is written to the consumer's memory any more) and states hold used->idx from
 *	memory, right for split network rings: answer with them. -ENODATA: fenced, and there is no
 *	index to give: close the attachment.
 */
int vdpa_session_stop(struct vdpa_session *session, struct vdpa_vq_state *states, uint16_t nr_vqs,
	uint32_t deadline_ms);
/**
 * Wait until what was set last is running, refused, or replaced. For tests and for memory given by
 * address.
 * @return 0; -ETIMEDOUT: not in time, or the device hangs; else why it was refused, until the
 *	driver resets the device: -ENOTSUP what needs the relay with relay=off, or what the device
 *	said.
 */
int vdpa_session_sync(struct vdpa_session *session, uint32_t deadline_ms);
/**
 * Have the device tell the network where the guest of this address is (vhost-user SEND_RARP): at
 * once, or as soon as its datapath runs. Never blocks.
 * @return 0; -ENOTSUP not with this device; -EINVAL a group address or zero.
 */
int vdpa_session_announce(struct vdpa_session *session, const uint8_t mac[6]);
/**
 * End the attachment: its datapath is stopped, then the session freed, by the op pool. Never
 * blocks; session is gone.
 */
void vdpa_session_close(struct vdpa_session *session);
/** @} */

/**
 * @name Bus drivers
 * @{
 */
struct vdpa_bus_driver {
	const char *name; /**< "vhost" */
	/** what bind takes, for messages: "path=PATH,client=on|off,mode=OCTAL,group=NAME" */
	const char *keys;
	/**
	 * A device appeared: make its default binding. Management thread. An error refuses the
	 * device.
	 */
	int (*device_added)(struct vdpa_device *dev);
	/** It is about to go. @return 0; -EBUSY (not with force) while a consumer is attached. */
	int (*device_removed)(struct vdpa_device *dev, bool force);
	/**
	 * Open a way for consumers to this device. Management thread. vdpa_error_text() on error.
	 */
	int (*bind)(struct vdpa_device *dev, const char *args);
	/** Close it and wait until its consumer is gone. Management thread. -ENOENT: not bound. */
	int (*unbind)(struct vdpa_device *dev);
	struct vdpa_bus_driver *next; /**< the class's */
};

/** From a constructor. Devices already registered are added by the caller of this. */
void vdpa_bus_driver_register(struct vdpa_bus_driver *driver);
/** @return NULL if there is none of that name. */
struct vdpa_bus_driver *vdpa_bus_driver_find(const char *name);
/** Say how a device is bound now ("vhost:/run/v0.sock (server)"), NULL: not; for people. Copied. */
void vdpa_device_set_bound(struct vdpa_device *dev, const char *text);
/** @} */

/**
 * @name Memory that its owner can take away
 * A front end that shrinks its shared memory (a file without F_SEAL_SHRINK) makes every access
 * beyond the new end a SIGBUS. Guarded mappings get zero pages instead, and their owner hears of
 * it. The class guards its own mappings; a bus driver guards those that a library below it made
 * (librte_vhost reads rings too). An address in no guarded mapping goes to the handler that was
 * installed before; where there was none, it gets one zero page if it lies in a shared file
 * mapping.
 * @{
 */
/**
 * Any thread. The handler is installed at the first call. hit runs in signal context, at most once
 * a guard: it may only store to memory and write to an eventfd. @return 0; -ENOSPC too many guards;
 * -EINVAL.
 */
int vdpa_sigbus_guard(void *va, size_t size_bytes, void (*hit)(void *arg), void *arg);
/** Before the mapping goes. Nothing happens if it is not guarded. */
void vdpa_sigbus_unguard(void *va);
/** @} */

/**
 * @name Programs
 * @{
 */
/** Health of a device. X-macro: enumerator, text. */
#define VDPA_HEALTHS(X)                                                                 \
	X(VDPA_HEALTH_OK, "ok")                                                         \
	X(VDPA_HEALTH_DEGRADED, "degraded") /* some queues were stopped for an error */ \
	X(VDPA_HEALTH_FAILED, "failed")
#define VDPA_HEALTH_ENUM(name, text) name,
enum vdpa_health {
	VDPA_HEALTHS(VDPA_HEALTH_ENUM)
};
#undef VDPA_HEALTH_ENUM

/** How the datapath runs. X-macro: enumerator, text. */
#define VDPA_MODES(X)                                                                 \
	X(VDPA_MODE_DIRECT, "direct")   /* the device on the consumer's rings */      \
	X(VDPA_MODE_LOGGING, "logging") /* the same, and it reports what it writes */ \
	X(VDPA_MODE_RELAYED, "relayed") /* the device on shadow rings */
#define VDPA_MODE_ENUM(name, text) name,
enum vdpa_mode {
	VDPA_MODES(VDPA_MODE_ENUM)
};
#undef VDPA_MODE_ENUM

/**
 * Parts of a switch between direct and relayed, in their order. From STOP to START the datapath
 * stands still, which together is the PAUSE. X-macro: enumerator, text (a key of telemetry, which
 * takes letters, digits and _ alone).
 */
#define VDPA_PHASES(X)                                                                    \
	X(VDPA_PHASE_STOP, "stop")       /* the device stops, drained */                  \
	X(VDPA_PHASE_HARVEST, "harvest") /* what it had published is handed on */         \
	X(VDPA_PHASE_POINT, "repoint")   /* rings, positions, call descriptors */         \
	X(VDPA_PHASE_START, "start")     /* the device starts, and its relay */           \
	X(VDPA_PHASE_PAUSE, "pause")                                                      \
	X(VDPA_PHASE_MARK, "mark") /* of a whole table, by any gap: the datapath runs */
#define VDPA_PHASE_ENUM(name, text) name,
enum vdpa_phase {
	VDPA_PHASES(VDPA_PHASE_ENUM) VDPA_NR_PHASES
};
#undef VDPA_PHASE_ENUM
const char *vdpa_phase_name(enum vdpa_phase phase);

/** How long something took since the device was registered; median and p99 within 13 %. */
struct vdpa_time_stat {
	uint64_t nr;
	uint64_t last_ns, min_ns, median_ns, p99_ns, max_ns;
};

/** What to show of a device. A copy. */
struct vdpa_device_status {
	char name[VDPA_NAME_MAX];
	char mgmtdev[VDPA_NAME_MAX];
	char bound[160];      /**< how, "" if not */
	char peer[160];       /**< who is attached, "" if nobody */
	char last_error[160]; /**< "" if none since the session began */
	enum vdpa_health health;
	bool attached; /**< a session is open */
	bool running;  /**< a datapath runs */
	uint16_t virtio_id;
	uint16_t nr_vqs, nr_pairs; /**< offered */
	uint16_t nr_vqs_running;
	uint16_t nr_active_pairs;
	uint64_t features_offered;
	uint64_t features_agreed; /**< 0 if nobody is attached */
	uint64_t caps;
	uint64_t sessions, starts, failures; /**< counted since the device was registered */
	enum vdpa_mode mode;                 /**< while it runs */
	/** why: "log wanted", "no start index", "no ring position", "relay=always", "" */
	char mode_why[64];
	enum vdpa_relay_policy relay;
	char standin[VDPA_NAME_MAX]; /**< who takes over when it fails, "": nobody */
	uint64_t swaps;              /**< consumers that moved to the device */
	bool log;              /**< a log is engaged */
	uint64_t relayed;      /**< ring entries relayed, both directions */
	uint64_t dirty_pages;  /**< pages put into logs, but for whole tables */
	uint64_t dirty_tables; /**< whole tables marked */
	uint32_t lag;          /**< ring entries that the relay is behind, over all queues */
	uint32_t lag_max;      /**< the most that one queue ever was */
	struct vdpa_time_stat phases[VDPA_NR_PHASES];
	uint8_t mac[6]; /**< net: the one in configuration space, if VIRTIO_NET_F_MAC is offered */
	uint16_t mtu;   /**< net, if VIRTIO_NET_F_MTU is offered, else 0 */
	bool link_down; /**< net: VIRTIO_NET_F_STATUS is offered and says so */
};

/**
 * Change when a device is relayed. Takes effect at once, under traffic. Management thread.
 * @return 0; -EBUSY off, while it is bound: its consumer was told that it can be logged, which
 *	needs the relay: unbind it first.
 */
int vdpa_device_relay_set(struct vdpa_device *dev, enum vdpa_relay_policy relay);
/**
 * Change a device as an operator wants it, under traffic: the dev_set of its management device (as
 * the kernel's `vdpa dev set`). The consumer is interrupted where it can see the change. Management
 * thread.
 * @param args
 *	"key=value,key=value"; the keys are those of dev->mgmtdev->set_keys. All or nothing.
 * @return 0; -EINVAL key or value; -ENOTSUP this device cannot be changed so; -EBUSY not now (a
 *	driver runs it, for instance); or what else the management device says, always with
 *	vdpa_error_text().
 */
int vdpa_device_set(struct vdpa_device *dev, const char *args);
const char *vdpa_relay_name(enum vdpa_relay_policy relay);
const char *vdpa_mode_name(enum vdpa_mode mode);

/** Management thread, which alone unregisters devices. @return NULL: there is none. */
struct vdpa_device *vdpa_device_find(const char *name);
/**
 * Calls fn for each device in order of registration until it returns non-zero; returns that. fn may
 * not unregister, find or register: the registry is locked. Any thread: no device goes meanwhile.
 */
int vdpa_device_foreach(int (*fn)(struct vdpa_device *dev, void *arg), void *arg);
/** The device stays registered: management thread, or from vdpa_device_foreach(). */
void vdpa_device_status_get(struct vdpa_device *dev, struct vdpa_device_status *status);
/**
 * As vdpa_device_status_get().
 * @return number of counters filled (names: dev->ops->vq_stat_names), or -ENOTSUP, -EINVAL no such
 * queue.
 */
int
vdpa_device_vq_stats(struct vdpa_device *dev, uint16_t index, uint64_t values[VDPA_VQ_STATS_MAX]);
struct vdpa_mgmtdev *vdpa_mgmtdev_find(const char *name);
int vdpa_mgmtdev_foreach(int (*fn)(struct vdpa_mgmtdev *mgmtdev, void *arg), void *arg);

/**
 * Name of a virtio feature bit ("VIRTIO_F_VERSION_1" without the prefix: "VERSION_1"), or NULL if
 * unknown.
 */
const char *vdpa_feature_name(uint16_t virtio_id, unsigned int bit);
/** "net", "block", or NULL. */
const char *vdpa_type_name(uint16_t virtio_id);
const char *vdpa_health_name(enum vdpa_health health);

/** How datapath workers wait when idle. */
enum vdpa_worker_idle {
	VDPA_WORKER_ADAPTIVE, /**< they look for more for 50 microseconds, then sleep */
	VDPA_WORKER_POLL,     /**< they look for more, for ever */
	VDPA_WORKER_SLEEP     /**< as adaptive, for 3 microseconds: what a sleep costs */
};
/**
 * One worker for each CPU of cpulist ("2-3,8"; NULL: one, on the main lcore's CPU set). A CPU that
 * is named twice has two, which share it. Before the first device starts.
 * @return 0; -EINVAL with vdpa_error_text(); -EBUSY workers run already.
 */
int vdpa_workers_configure(const char *cpulist, enum vdpa_worker_idle idle);

/** A datapath worker. */
struct vdpa_worker_status {
	int cpu; /**< -1: any of the main lcore's CPU set */
	enum vdpa_worker_idle idle;
	bool running;             /**< has a thread: a worker without paths has none */
	bool sleeping;            /**< waits for a kick */
	uint32_t nr_paths;
	uint32_t busy_permille;   /**< share of the last second in rounds that found work */
	uint64_t busy_cycles;     /**< all in all, of the TSC */
	uint64_t loops, busy_loops; /**< rounds over active paths, and those that found work */
};
/** @return 0; -ENOENT: there are fewer workers. Any thread. */
int vdpa_worker_status_get(unsigned int worker, struct vdpa_worker_status *status);
/**
 * The worker that works on a queue. Management thread.
 * @return its number; -ENOENT: none does (the queue does not run, or hardware works on it).
 */
int vdpa_vq_worker(struct vdpa_device *dev, uint16_t index);
/**
 * Have a queue, and all that is worked on with it (the other queue of a looped pair, the relay's
 * part), worked on by another worker from now on; nothing is lost. It stays there whatever the load
 * until it stops. Management thread; waits for both workers.
 * @return 0; -EINVAL no such queue or worker; -ENOENT no worker works on it; -ETIMEDOUT a worker
 *	hangs, -EBUSY other paths came and went for a second: the queue stays where it was, try
 *	again. vdpa_error_text() says it.
 */
int vdpa_vq_move(struct vdpa_device *dev, uint16_t index, unsigned int worker);

/** An event that an operator cares about. */
enum vdpa_event_type {
	VDPA_EVENT_ATTACHED,
	VDPA_EVENT_DETACHED, /**< session opened, closed */
	VDPA_EVENT_STARTED,
	VDPA_EVENT_STOPPED, /**< datapath */
	VDPA_EVENT_MODE,    /* direct, relayed: the datapath was switched */
	VDPA_EVENT_SWAPPED, /**< the consumer moved to another device */
	VDPA_EVENT_VQ_FAILED,
	VDPA_EVENT_DEVICE_FAILED,
};
/**
 * Hear of events, one listener. Called on threads of the op pool and on the caller's of open and
 * close, locks held: only note or log. text is one sentence that names the device.
 */
void vdpa_event_listen(
	void (*fn)(enum vdpa_event_type type, const char *device, const char *text, void *arg),
	void *arg);

/**
 * Stop the datapaths of all devices in parallel and wait at most deadline_ms (0: the stop deadline
 * + 1 s); what hangs is fenced and reported to hung (may be NULL). Nothing starts afterwards. For
 * the end of a program, before its sockets close.
 * @return number of devices that hang.
 */
int vdpa_stop_all(uint32_t deadline_ms, void (*hung)(const char *device, void *arg), void *arg);
/** @} */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif /* VDPA_CONSUMER_H */
