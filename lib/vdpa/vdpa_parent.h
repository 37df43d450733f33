/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_PARENT_H
#define VDPA_PARENT_H

/**
 * @file
 * The vDPA device class, as a parent driver sees it.
 *
 * A parent driver (the kernel's vDPA calls it so too) knows one kind of card, or one program that
 * behaves like a card, and nothing of who uses it:
 *
 *      consumer (VM, ethdev, kernel)          bus driver          drivers/vdpa_bus/NAME
 *   ---------------------------------  wanted state | status  --------------------------
 *      binding, session, domain, op queue     device class        lib/vdpa
 *   ---------------------------------    vdpa_device_ops      --------------------------
 *      start, stop, config, map               parent              drivers/vdpa/NAME
 *
 * The class keeps every setting and hands the parent whole transactions. It checks arguments, state
 * and capabilities before any op runs, so that a parent holds no checks of its own. A complete
 * life:
 *
 *      vdpa_device_register -> get_info
 *        [ map... ] -> start -> { vq_start, vq_stop, cvq, config_write, update_memory }* -> stop ->
 *        [ unmap... ] (any number of times; reset in between where the parent reported a failure)
 *      vdpa_device_unregister
 *
 * Threads: ops of one device never overlap; they run on a thread of the class's op pool and may
 * block up to their deadline (1 s for cvq, 10 s for reset, 2 s for the others; 200 ms for stop
 * while a consumer waits for its answer; none passes while the machine stands still). Exceptions,
 * each said at the op: kick, vq_stats and fence. An op past its deadline fails the device: it is
 * fenced (or, without the op fence, abandoned) and shown as failed. If the op returns after all,
 * reset is called once, and the device can then be removed. The functions of this header
 * that a parent calls say which thread may.
 *
 * Errors: every function returns 0 or a negative errno. No op may fail unheard: the class logs the
 * failure, shows it with the device (see vdpa_device_status) and tells the consumer
 * (DEVICE_NEEDS_RESET).
 *
 * Virtqueues are numbered as the virtio device numbers them (net: 2n receives, 2n + 1 transmits,
 * the control virtqueue last); addresses are IOVAs: the addresses that the consumer's rings name.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct vdpa_device;
struct vdpa_domain;
struct vring_mem;
struct vring_range;

/**
 * What a device can do beyond what its ops say; a bit is never a repetition of "the op exists".
 * X-macro: enumerator, bit, short name for people.
 */
#define VDPA_CAPS(X)                                                                          \
	X(VDPA_CAP_GET_STATE, 0, "get-state") /* stop and vq_stop fill true indices */        \
	X(VDPA_CAP_SET_STATE, 1,                                                              \
		"set-state") /* start takes any index; without it only 0 (packed: wrap 1) */  \
	X(VDPA_CAP_IN_ORDER, 2, "in-order") /* completes in order whatever was negotiated */  \
	X(VDPA_CAP_LATE_VQ, 3, "late-vq")   /* queues start and stop while others run */      \
	X(VDPA_CAP_CTRL_VQ, 4,                                                                \
		"ctrl-vq") /* serves the control virtqueue itself; excludes the op cvq */     \
	X(VDPA_CAP_HOST_VA, 5, "host-va") /* software: reaches memory by vdpa_domain_mem() */ \
	X(VDPA_CAP_MAP_PERSIST, 6, "map-persist") /* maps survive a reset */                  \
	X(VDPA_CAP_DIRTY, 7,                                                                  \
		"dirty-log") /* reports what it writes, between dirty_start and dirty_stop */ \
	X(VDPA_CAP_INFLIGHT, 8, "inflight") /* notes what it took: vdpa_vq_config.inflight */

#define VDPA_CAP_ENUM(name, bit, text) name = 1 << (bit),
enum vdpa_cap {
	VDPA_CAPS(VDPA_CAP_ENUM)
};
#undef VDPA_CAP_ENUM

/**
 * Position of a virtqueue. Split: free-running indices. Packed: bits 0 to 14 the offset, bit 15 the
 * wrap counter (virtio 1.2, 2.8.1), a fresh ring being 0x8000.
 */
struct vdpa_vq_state {
	uint16_t avail; /**< next entry that the device takes from the driver */
	uint16_t used;  /**< next entry that the device gives back */
};

/** One virtqueue as the device is to run it. */
struct vdpa_vq_config {
	uint16_t index; /**< below the device's nr_vqs_max */
	uint16_t size;  /**< entries; within vq_size_min and vq_size_max; split: a power of two */
	uint64_t desc_iova;         /**< descriptor area (virtio 1.2, 2.6 to 2.8) */
	uint64_t driver_iova;       /**< driver area: available ring, or driver event suppression */
	uint64_t device_iova;       /**< device area: used ring, or device event suppression */
	struct vdpa_vq_state state; /**< where to start */
	/**
	 * Written (8 bytes) to interrupt the driver; always valid. The class's: the number stays
	 * the same while the queue runs, what is behind it may change. Software calls
	 * vdpa_vq_signal() instead.
	 */
	int call_fd;
	/**
	 * Becomes readable when the driver kicks; -1: the driver never kicks, poll. The class's,
	 * valid until stop or vq_stop returns. It must not be read: wait for it edge-triggered (a
	 * hostile front end could drain it and block the reader).
	 */
	int kick_fd;
	/**
	 * Where a device that completes out of order notes what it took (vring_inflight.h), so that
	 * the next one does it again; NULL: nowhere, or the relay does. With notes the queue starts
	 * where they and the used index in memory say, not at state. At least
	 * vring_inflight_bytes() of its size and features. Valid as kick_fd.
	 */
	void *inflight;
};

/** All that a start commits. Valid during the op; the domain until stop returns. */
struct vdpa_start {
	/** agreed with the device (ACCESS_PLATFORM included), not what the guest saw */
	uint64_t features;
	struct vdpa_domain *domain; /**< the consumer's memory */
	const struct vdpa_vq_config *vqs;
	uint16_t nr_vqs;          /**< entries of vqs; indices need not be contiguous */
	uint16_t nr_active_pairs; /**< net: pairs that carry traffic (virtio 1.2, 5.1.6.5.6) */
	/** a driver begins, after a reset; false: one goes on, and keeps what it chose */
	bool fresh;
};

/**
 * When a device is relayed by shadow virtqueues of the framework. X-macro: enumerator, text.
 * Auto: while a log is wanted that the device cannot write, or no start index is possible.
 */
#define VDPA_RELAYS(X)                 \
	X(VDPA_RELAY_AUTO, "auto")     \
	X(VDPA_RELAY_ALWAYS, "always") \
	X(VDPA_RELAY_OFF, "off") /* never: what needs it is refused */
#define VDPA_RELAY_ENUM(name, text) name,
enum vdpa_relay_policy {
	VDPA_RELAYS(VDPA_RELAY_ENUM)
};
#undef VDPA_RELAY_ENUM

/**
 * What a device is. Filled once by get_info; numbers do not change while the device is registered.
 */
struct vdpa_info {
	uint16_t virtio_id; /**< VIRTIO_ID_NET or VIRTIO_ID_BLOCK */
	/** queues that the device itself serves (its own control virtqueue included) */
	uint16_t nr_vqs_max;
	uint16_t vq_size_min, vq_size_max; /**< entries */
	uint32_t vendor_id;                /**< PCI vendor id of the card, 0 for software */
	/** alignment of ring areas that the device needs beyond virtio's; 0: none */
	uint32_t vq_align_bytes;
	uint32_t
		config_size_bytes; /**< bytes of device-specific configuration space, at most 256 */
	uint32_t op_deadline_ms;   /**< longest time an op may take; 0: the class's defaults */
	uint64_t features;         /**< virtio feature bits offered */
	uint64_t caps;             /**< enum vdpa_cap */
	uint64_t iova_first,
		iova_last; /**< addresses the device can reach, both inclusive; 0 and 0: all */
	int numa_node;     /**< -1: any */
	enum vdpa_relay_policy relay; /**< to begin with: the key relay= of every parent */
};

/** A piece of a consumer's memory. */
struct vdpa_range {
	uint64_t iova;
	uint64_t size_bytes;
	void *va;           /**< where it is mapped in this process */
	int fd;             /**< the file behind it, or -1 */
	uint64_t fd_offset; /**< offset of iova in that file */
};

/**
 * The ops of a parent. Const, shared by all its devices. The table is checked at registration.
 * What it means when an op is missing:
 *
 * - get_info, start, stop, reset: -EINVAL at registration
 * - fence: a device past a deadline is abandoned, its memory stays pinned
 * - vq_start, vq_stop: both or none; needs VDPA_CAP_LATE_VQ. Without: changed queues restart the
 *   device
 * - vq_set_call: the class replaces the file behind call_fd
 * - kick: the device watches kick_fd itself (VDPA_CAP_HOST_VA); else required, the class watches
 * - vq_stats: no statistics
 * - vq_group: a queue is in a group of its own, of which the parent's paths are not part
 * - set_active_queues: all queues that run are active; MQ with CTRL_VQ is not offered by the class
 * - announce: front ends are told that they have to do that themselves
 * - cvq: CTRL_VQ offered only with set_active_queues or VDPA_CAP_CTRL_VQ
 * - config_read: config_size_bytes must be 0
 * - config_write: writes by the consumer are refused (-ENOTSUP)
 * - map, unmap: both or none; excludes set_map and VDPA_CAP_HOST_VA, exactly one of the three
 * - update_memory: HOST_VA only: the class stops and starts the device around a change of memory
 * - dirty_start, dirty_stop: go with VDPA_CAP_DIRTY; without: the device is relayed while a log is
 *   wanted
 */
struct vdpa_device_ops {
	/** Describe the device. Called once, on the thread that registers. */
	int (*get_info)(struct vdpa_device *dev, struct vdpa_info *info);
	/**
	 * Commit features, memory and queues and begin. All or nothing: after an error nothing runs
	 * and no memory is touched. Every queue may have work waiting: look at it without being
	 * kicked.
	 */
	int (*start)(struct vdpa_device *dev, const struct vdpa_start *start);
	/**
	 * End all queues. Quiescent when it returns, whatever it returns: no memory is touched and
	 * no descriptor used afterwards. Fills states[i] of the queue that has index i, for i below
	 * nr_vqs, where VDPA_CAP_GET_STATE is set. They are believed, of a queue or device that was
	 * reported as failed, too: what serves next goes on there, and what it gives back twice or
	 * never nobody notices. Who does not know a position any more returns an error: then none
	 * is taken from here. The used index in memory says where queues stand that are split and
	 * used in order (net); the others stop until the driver resets the device.
	 */
	int (*stop)(struct vdpa_device *dev, struct vdpa_vq_state *states, uint16_t nr_vqs);
	/**
	 * To the state after registration; called after a failed start or stop, and before
	 * unregistering a failed device.
	 */
	int (*reset)(struct vdpa_device *dev);
	/**
	 * No memory access soon after it (software: at the next quiescent point; the class has
	 * replaced the memory by then). Called on any thread, possibly while another op hangs; must
	 * not block or wait.
	 */
	int (*fence)(struct vdpa_device *dev);

	/** Start one more queue of a running device. */
	int (*vq_start)(struct vdpa_device *dev, const struct vdpa_vq_config *vq);
	/** Stop one queue; rules as for stop. */
	int (*vq_stop)(struct vdpa_device *dev, uint16_t index, struct vdpa_vq_state *state);
	/**
	 * Interrupt by call_fd from now on; the former one is closed after it returns. For
	 * interrupts routed by the kernel.
	 */
	int (*vq_set_call)(struct vdpa_device *dev, uint16_t index, int call_fd);
	/**
	 * Ring the doorbell of a running queue. Any thread, must not block; rung once by the class
	 * after each start, so that a kick which came earlier is not lost.
	 */
	void (*kick)(struct vdpa_device *dev, uint16_t index);
	/**
	 * Fill one value for each name in vq_stat_names. Any thread, must not block. Monotonic
	 * until unregistered.
	 */
	int (*vq_stats)(struct vdpa_device *dev, uint16_t index, uint64_t *values);
	/**
	 * The group (vdpa_path.group) of the path that works on a queue; the relay's part of the
	 * queue joins it, so that both sit on one worker. Any thread, at any time; must not block.
	 */
	const void *(*vq_group)(struct vdpa_device *dev, uint16_t index);
	const char *const *
		/** NULL-terminated, at most VDPA_VQ_STATS_MAX; NULL with vq_stats NULL */
		vq_stat_names;

	/** net: from now on pairs 0 to nr_pairs - 1 carry traffic. Only while running. */
	int (*set_active_queues)(struct vdpa_device *dev, uint16_t nr_pairs);
	/**
	 * net: tell the network that the guest of this address is here now (a RARP frame, as after
	 * live migration), out of the port to which it is connected. Only while running.
	 * @return 0, also where there is no network; -EAGAIN no room for it now: the front end asks
	 *	several times.
	 */
	int (*announce)(struct vdpa_device *dev, const uint8_t mac[6]);
	/**
	 * net: a control command (virtio 1.2, 5.1.6.5) other than VQ_PAIRS_SET and ANNOUNCE_ACK,
	 * its length and contents already checked. -ENOTSUP and any other error is answered with
	 * VIRTIO_NET_ERR. Also called after start to restore what the driver had set, in the order
	 * of the classes.
	 */
	int (*cvq)(struct vdpa_device *dev, uint8_t cls, uint8_t cmd, const void *data,
		size_t len_bytes);
	/**
	 * Copy device-specific configuration space, little-endian; the range lies within
	 * config_size_bytes.
	 */
	int (*config_read)(
		struct vdpa_device *dev, uint32_t offset, void *data, uint32_t len_bytes);
	/** The consumer writes configuration space; the range lies within config_size_bytes. */
	int (*config_write)(
		struct vdpa_device *dev, uint32_t offset, const void *data, uint32_t len_bytes);

	/**
	 * Make a range reachable. Legal at any time between register and unregister, also while
	 * running.
	 */
	int (*map)(struct vdpa_device *dev, const struct vdpa_range *range);
	/** Undo exactly one map. No access to it after it returns. */
	int (*unmap)(struct vdpa_device *dev, uint64_t iova, uint64_t size_bytes);
	/** Replace the whole table; ranges in both keep being reachable throughout. */
	int (*set_map)(
		struct vdpa_device *dev, const struct vdpa_range *ranges, uint32_t nr_ranges);
	/**
	 * VDPA_CAP_HOST_VA: the memory of a running device changed; use vdpa_domain_mem() of this
	 * domain from now on. Nothing of the former domain is used after it returns. After an error
	 * the class stops the device.
	 */
	int (*update_memory)(struct vdpa_device *dev, struct vdpa_domain *domain);

	/**
	 * Report everything that is written to the consumer's memory from now on by vdpa_dirty(),
	 * buffers and rings. Legal while running and while stopped; what was written before it
	 * returns need not be reported. Ended by dirty_stop and by reset, not by stop.
	 */
	int (*dirty_start)(struct vdpa_device *dev);
	int (*dirty_stop)(struct vdpa_device *dev);
};

#define VDPA_VQ_STATS_MAX 24 /**< counters a queue */
#define VDPA_NAME_MAX \
	64 /**< bytes of a device's name, its NUL included (librte_vhost compares no more) */

struct vdpa_device_priv;

/**
 * A device: the first member of the parent's own structure, which the parent owns until unregister
 * returned 0.
 */
struct vdpa_device {
	const char *name; /**< unique; valid while registered */
	const struct vdpa_device_ops *ops;
	const struct vdpa_mgmtdev *mgmtdev; /**< whose dev_add made it */
	struct vdpa_device_priv *priv;      /**< the class's */
};

/**
 * Make a device known: get_info is called, the table is checked, bus drivers are told. Management
 * thread.
 * @return 0; -EINVAL the ops, capabilities or info contradict each other (vdpa_error_text()
 *	says what); -EEXIST the name is taken; -ENAMETOOLONG; -ENOMEM; what get_info returned. After
 *	an error the device is not known.
 */
int vdpa_device_register(struct vdpa_device *dev);

/**
 * Undo vdpa_device_register(). Management thread; waits for ops that run.
 * @param force
 *	Stop (or fence) and disconnect a consumer instead of refusing.
 * @return 0: the parent may free it; -EBUSY: a consumer is attached (not with force), or an op
 *	hangs and holds the device for ever (vdpa_error_text() names it): keep the memory.
 */
int vdpa_device_unregister(struct vdpa_device *dev, bool force);

/**
 * @name Reports of a parent
 * Any thread, datapath workers included; they only queue, and are heard after
 * vdpa_device_register() until unregister.
 * @{
 */
/** Configuration space changed: the class reads it anew and interrupts the driver. */
void vdpa_config_changed(struct vdpa_device *dev);
/**
 * The device is broken (error: negative errno, why: static text): it is stopped, shown as failed,
 * NEEDS_RESET.
 */
void vdpa_device_failed(struct vdpa_device *dev, int error, const char *why);
/**
 * One queue is broken. It is stopped, the others go on, NEEDS_RESET is shown: with the error
 * -EBADMSG, which says that the driver broke it, always. With any other error it is the device that
 * is at fault: a stand-in takes over the whole device, if its consumer has one that can (the device
 * is then stopped and reset, as by vdpa_device_failed()), and the driver hears nothing.
 */
void vdpa_vq_failed(struct vdpa_device *dev, uint16_t index, int error, const char *why);
/** @} */

/**
 * Interrupt the driver of a running queue (the decision by event index or flags is the caller's).
 * Worker thread.
 */
void vdpa_vq_signal(struct vdpa_device *dev, uint16_t index);

/**
 * Report what was written to the consumer's memory, once a burst, after the writes and before they
 * are published or stop returns. Any thread; nothing is done while nobody asks.
 */
void vdpa_dirty(struct vdpa_device *dev, const struct vring_range *written, uint32_t nr);

/**
 * @name Memory
 * @{
 */
/**
 * The table of a domain, sorted by IOVA, for lib/vring. Immutable; valid until stop or
 * update_memory returns.
 */
const struct vring_mem *vdpa_domain_mem(const struct vdpa_domain *domain);
/** @} */

/**
 * @name Software datapaths
 * A path is the unit of work of a datapath worker (a pinned thread of the framework). Every
 * virtqueue belongs to one path, a path to one worker. A path's tables change only by
 * vdpa_path_run(), on its worker, between two bursts.
 * @{
 */
struct vdpa_worker;

/** Embedded in the parent's own structure. Callbacks run on the owning worker only. */
struct vdpa_path {
	/** Do one burst. Never blocks. @return entries completed; 0: nothing to do now */
	unsigned int (*poll)(struct vdpa_path *path);
	/**
	 * Ask the drivers for kicks. @return true: work came in between, keep polling. The next
	 * poll ends the asking. Not called where workers poll only (vdpa_workers_configure).
	 */
	bool (*arm)(struct vdpa_path *path);
	/**
	 * The last call, when the path is taken back: the last signals, the last look at the rings.
	 * NULL: nothing to do.
	 */
	void (*end)(struct vdpa_path *path);
	/**
	 * Descriptors that wake the path once armed, -1: none; watched edge-triggered, never read.
	 * Change or close them only within vdpa_path_run(), or after vdpa_path_del(). A path
	 * without any (or with one that cannot be watched: a plain file) is polled once a
	 * millisecond when idle.
	 */
	int wake_fds[2];
	/**
	 * Paths of one group sit on one worker and are moved together. Any address that is the
	 * caller's, NULL: alone. See vdpa_device_ops.vq_group.
	 */
	const void *group;
	/**
	 * poll's word: what the path waits for will wake it, and may need this CPU. It is armed at
	 * the first poll that finds nothing then, where others look for more for a while.
	 */
	bool waits;

	struct vdpa_worker *worker; /**< the class's, as all that follows */
	struct vdpa_path_group *owner;
	struct vdpa_path *group_next, **group_pprev;
	struct vdpa_path *next, *prev;
	struct vdpa_path *batch; /**< the next one of the same command */
	int armed_fds[2];
	uint64_t idle_since;
	uint64_t busy;
	uint8_t state;
	bool timed, in_batch, watched;
};

/**
 * Give a path to a worker (its group's, else the least loaded; numa_node -1: any). Op or management
 * thread. wake_fds are watched from here. The class moves paths between workers as load asks for
 * it: callbacks never run on two at once, and one sees what the former wrote.
 * @return 0; -ENOMEM, or what starting the first worker gave.
 */
int vdpa_path_add(struct vdpa_path *path, int numa_node);
/**
 * Take it back. @return 0: the worker has let go; -ETIMEDOUT: it has not within a second (it hangs
 * in a poll): leave the memory alone. A path that was never added: 0.
 */
int vdpa_path_del(struct vdpa_path *path);
/**
 * Run fn(arg) once on the owning worker between two bursts and wait for it. Any thread but a
 * worker. Afterwards the path is polled and its wake_fds are watched anew.
 * @return 0; -ETIMEDOUT after a second: it was withdrawn, or may still
 *   run (a worker hangs): arg must stay valid;
 *	-EINVAL not added; -EDEADLK called on a worker.
 */
int vdpa_path_run(struct vdpa_path *path, void (*fn)(void *arg), void *arg);

/**
 * Many paths at once, with one message to each worker that has some of them: what a switch between
 * device and relay costs does not grow with the number of queues. Threads and errors are those of
 * the functions above; a path takes part in one such call at a time.
 */
/** All, or after an error none. */
int vdpa_paths_add(struct vdpa_path *const *paths, uint16_t nr, int numa_node);
/** @return -ETIMEDOUT: those of a worker that hangs are still with it; the others are taken back */
int vdpa_paths_del(struct vdpa_path *const *paths, uint16_t nr);
/**
 * fn(path) for each, on its worker. fn NULL: each worker is between two bursts once, nothing more.
 * Paths that were not added are left out. @return the first error; the other workers did it
 */
int vdpa_paths_run(struct vdpa_path *const *paths, uint16_t nr, void (*fn)(void *path));
/** @} */

/**
 * @name Background work
 * What a parent does beside its ops (follow a link, say), on a thread of the class's op pool. It
 * may block; ops of the device may run at the same time. A bus driver's work is the same.
 * @{
 */
/** Queued at most once and never on two threads. Embedded in the owner's structure. */
struct vdpa_work {
	void (*fn)(struct vdpa_work *work); /**< set before it is queued; the rest zeroed */
	struct vdpa_work *next;             /**< the class's, as all that follows */
	bool queued, running, again;
	uint32_t period_ms;
	uint64_t next_ns;
	struct vdpa_work *next_periodic;
};

/** Have fn called soon; once more if it runs already. Any thread. 0, or negative errno: no thread
 * could be started and none is there. */
int vdpa_work_queue(struct vdpa_work *work);
/** Queue it again and again, 0: no more. Not exact. Ended before the work is freed. Any thread. */
void vdpa_work_every(struct vdpa_work *work, uint32_t period_ms);
/**
 * Wait until it is neither queued nor running. Not from its own fn, nor on a worker.
 * @return 0; -ETIMEDOUT: leave its memory alone.
 */
int vdpa_work_wait(struct vdpa_work *work, uint32_t timeout_ms);
/** @} */

/**
 * @name Management devices
 * A management device (the kernel's vdpa_mgmt_dev) makes and removes devices. Static, registered by
 * a constructor.
 * @{
 */
struct vdpa_mgmtdev {
	const char *name; /**< "sw_net" */
	/**
	 * All keys it takes, for messages and help: "backend=loopback|null|peer,peer=NAME,mac=..."
	 */
	const char *keys;
	uint64_t features; /**< features that its devices can offer */
	uint16_t virtio_id;
	uint16_t max_vqp; /**< queue pairs (net) or queues (block) at most */
	/**
	 * Make a device and register it. Management thread.
	 * @param args
	 *	"key=value,key=value" as in DPDK's devargs; "" for all defaults.
	 * @return 0; -EINVAL with vdpa_error_text() naming key, value and what is allowed;
	 *	-EEXIST; -ENOMEM. Half made: nothing.
	 */
	int (*dev_add)(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *args);
	/** Unregister and free. Management thread. @return what vdpa_device_unregister() said. */
	int (*dev_del)(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *dev, bool force);
	/** Keys of dev_set, written like keys: "link=up|down,mtu=..."; NULL without dev_set. */
	const char *set_keys;
	/**
	 * Change a device, running or not; NULL: its devices cannot be changed. All of args or
	 * nothing. Management thread, possibly while an op of the device runs: guard what both use.
	 * Report what changed in configuration space by vdpa_config_changed().
	 * @param args
	 *	As for dev_add, at least one key.
	 * @return 0; with vdpa_error_text() naming key, value and what is allowed: -EINVAL;
	 *	-ENOTSUP this device has not what the key changes; -EBUSY not now; others.
	 */
	int (*dev_set)(const struct vdpa_mgmtdev *mgmtdev, struct vdpa_device *dev,
		const char *args);
	struct vdpa_mgmtdev *next; /**< the class's */
};

/** From a constructor (RTE_INIT). */
void vdpa_mgmtdev_register(struct vdpa_mgmtdev *mgmtdev);
/** @} */

/**
 * @name Parsing of key=value arguments
 * Each returns 0 or -EINVAL, and on error sets vdpa_error_text() to a sentence that names key,
 * value and what is allowed.
 * @{
 */
int vdpa_arg_uint(const char *key, const char *value, uint64_t min, uint64_t max, uint64_t *out);
int vdpa_arg_hex(const char *key, const char *value, uint64_t allowed,
	uint64_t *out);                                               /**< a mask within allowed */
int vdpa_arg_bool(const char *key, const char *value, bool *out);     /**< on|off */
int vdpa_arg_mac(const char *key, const char *value, uint8_t mac[6]); /**< unicast */
/** One of a NULL-terminated list; out is its position. */
int
vdpa_arg_choice(const char *key, const char *value, const char *const *choices, unsigned int *out);
/**
 * Split "k=v,k=v" (a NULL or empty string has none) and call fn for each pair. Unknown keys (not in
 * the NULL-terminated list keys) and keys given twice are errors; fn's error ends it.
 */
int vdpa_args_parse(const char *args, const char *const *keys,
	int (*fn)(const char *key, const char *value, void *arg), void *arg);
/** @} */

/** What the last failing call of this thread was about: one sentence for people, never NULL. */
const char *vdpa_error_text(void);
/** Set that sentence and return error: `return vdpa_error_set(-EINVAL, "...", ...)`. */
int vdpa_error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif /* VDPA_PARENT_H */
