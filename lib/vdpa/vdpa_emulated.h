/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_EMULATED_H
#define VDPA_EMULATED_H

/**
 * @file
 * What emulated devices share: the keys by which one plays a card that lacks something or fails,
 * and what each of them does between its ops and lib/vring.
 */

#include <string.h>

#include <rte_cycles.h>

#include "vdpa_parent.h"
#include "vring_dev.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/** Ops that the keys hang_op and fail_op name. X-macro: enumerator, text. */
#define VDPA_FAULT_OPS(X)             \
	X(NONE, "none")               \
	X(START, "start")             \
	X(STOP, "stop")               \
	X(RESET, "reset")             \
	X(VQ_START, "vq_start")       \
	X(VQ_STOP, "vq_stop")         \
	X(PAIRS, "set_active_queues") \
	X(CVQ, "cvq")                 \
	X(MEMORY, "update_memory")    \
	X(CONFIG, "config_read")      \
	X(CONFIG_WRITE, "config_write") \
	X(DIRTY, "dirty_start")

enum vdpa_fault_op {
#define VDPA_FAULT_OP_ENUM(name, text) VDPA_FAULT_##name,
	VDPA_FAULT_OPS(VDPA_FAULT_OP_ENUM)
#undef VDPA_FAULT_OP_ENUM
};

/** Key state: what the device tells and takes of ring positions. */
enum vdpa_emulated_state {
	VDPA_EMULATED_STATE_ON,  /**< both */
	VDPA_EMULATED_STATE_GET, /**< it tells them, and starts at index 0 only */
	VDPA_EMULATED_STATE_OFF  /**< neither */
};

/** The common keys, for struct vdpa_mgmtdev::keys. */
#define VDPA_EMULATED_KEYS                                               \
	"device_features=HEX,relay=auto|always|off,state=on|get|off,log=on|off," \
	"hang_op=OP,fail_op=OP,fault_from=1-1000000,delay_us=0-1000000"
/** The same for VDPA_PMD_PARAMS(). */
#define VDPA_EMULATED_PMD_PARAMS                                    \
	"device_features=<hex> relay=<auto|always|off> state=<on|get|off> log=<on|off> " \
	"hang_op=<op> fail_op=<op> fault_from=<1-1000000> delay_us=<0-1000000> " \
	"workers=<cpulist, ':' for ','>"

/**
 * Features that lib/vring serves for any type of device. ACCESS_PLATFORM: every address is
 * translated by the domain's table. The names are of the two linux/virtio_*.h, no C++.
 */
#define VDPA_EMULATED_RING_FEATURES                                                            \
	(UINT64_C(1) << VIRTIO_F_ANY_LAYOUT | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |     \
		UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_F_VERSION_1 |   \
		UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM | UINT64_C(1) << VIRTIO_F_RING_PACKED | \
		UINT64_C(1) << VIRTIO_F_IN_ORDER)

/** What the common keys say. */
struct vdpa_emulated_args {
	enum vdpa_relay_policy relay;
	enum vdpa_emulated_state state;
	bool log; /**< it can report what it writes */
	enum vdpa_fault_op hang_op, fail_op;
	uint32_t fault_from;   /**< the first call of that op that hangs or fails */
	uint32_t nr_calls;     /**< of that op, up to now */
	uint32_t delay_us;
	char feature_mask[24]; /**< for vdpa_emulated_features() */
};

/**
 * vdpa_args_parse() with the common keys beside the device's own: fn gets only those of keys, with
 * its position there. args is filled with defaults first. Errors as there.
 */
int vdpa_emulated_parse(const char *text, const char *const *keys, struct vdpa_emulated_args *args,
	int (*fn)(unsigned int key, const char *name, const char *value, void *arg), void *arg);
/** The features that key device_features leaves of those a device has. 0; -EINVAL. */
int vdpa_emulated_features(
	const struct vdpa_emulated_args *args, uint64_t has, uint64_t *features);
/** A number of a key that takes one, as vdpa_arg_uint(). */
int vdpa_arg_uint32(
	const char *key, const char *value, uint64_t min, uint64_t max, uint32_t *out);
/** A text of a key, its NUL included in size_bytes. 0; -EINVAL. */
int vdpa_arg_text(const char *key, const char *value, char *out, size_t size_bytes);

/** Fill what the common keys and the nature of software say of a device: capabilities, sizes. */
void vdpa_emulated_info(const struct vdpa_emulated_args *args, struct vdpa_info *info);
/**
 * Keys hang_op, fail_op and fault_from, for the begin of an op. Ops that end something do so
 * nevertheless when they are to fail. @return 0, or -EIO: fail
 */
int vdpa_emulated_fault(struct vdpa_emulated_args *args, enum vdpa_fault_op op);

/**
 * Make a device from --vdev NAME,TEXT: its key workers is taken out, the rest goes to dev_add.
 * Failures are logged. 0 or a negative errno.
 */
int vdpa_emulated_probe(const struct vdpa_mgmtdev *mgmtdev, const char *name, const char *text);
/** Remove it, unless management has done so. */
int vdpa_emulated_remove(const struct vdpa_mgmtdev *mgmtdev, const char *name);

/**
 * Report what a burst wrote to the consumer's memory: buffers as far as done.len says, and the
 * ring. Worker; after vring_dev_flush() of these chains (0: after arming or disarming).
 */
void vdpa_dirty_chains(struct vdpa_device *dev, const struct vring_dev *ring,
	const struct vring_chain *chains, uint16_t nr);

/** Key delay_us: those seen together go together, when due. Zeroed but for cycles. */
struct vdpa_delay {
	uint64_t cycles; /**< 0: none */
	uint64_t due_tsc;
	uint16_t nr;
};

static inline void
vdpa_delay_init(struct vdpa_delay *delay, uint32_t delay_us)
{
	memset(delay, 0, sizeof(*delay));
	delay->cycles = rte_get_tsc_hz() / 1000000 * delay_us;
}

/** How many of nr that wait may go now. */
static inline uint16_t
vdpa_delay_pass(struct vdpa_delay *delay, uint16_t nr)
{
	uint64_t now;

	if (delay->cycles == 0 || nr == 0)
		return nr;
	now = rte_rdtsc();
	if (delay->nr == 0) {
		delay->nr = nr;
		delay->due_tsc = now + delay->cycles;
	}
	if (now < delay->due_tsc)
		return 0;
	nr = nr < delay->nr ? nr : delay->nr;
	delay->nr = 0;
	return nr;
}

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif /* VDPA_EMULATED_H */
