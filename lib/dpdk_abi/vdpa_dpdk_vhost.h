/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef VDPA_DPDK_VHOST_H
#define VDPA_DPDK_VHOST_H

/**
 * @file
 * The driver side of librte_vhost's vDPA support, which distributions leave out (vdpa_driver.h).
 * For the vhost bus driver alone: nothing else may know librte_vhost. DPDK's own header is used
 * where there is one, as vdpa_dpdk_abi.h explains.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_vdpa.h>
#include <rte_vhost.h>

#include "vdpa_dpdk_abi.h"

#ifdef __has_include
#if __has_include(<vdpa_driver.h>) && !defined(VDPA_DPDK_ABI_OWN)
#define VDPA_DPDK_VHOST_FROM_DPDK
#endif
#endif

#ifdef VDPA_DPDK_VHOST_FROM_DPDK

#include <vdpa_driver.h>

#else

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What librte_vhost calls on a vDPA device. vid is a connection, qid and vring a ring's index. All
 * return 0 or a negative value, which librte_vhost mostly ignores.
 */
struct rte_vdpa_dev_ops {
	int (*get_queue_num)(struct rte_vdpa_device *dev, uint32_t *queue_num);
	int (*get_features)(struct rte_vdpa_device *dev, uint64_t *features);
	int (*get_protocol_features)(struct rte_vdpa_device *dev, uint64_t *protocol_features);
	int (*dev_conf)(int vid);
	int (*dev_close)(int vid);
	int (*dev_cleanup)(int vid);
	int (*set_vring_state)(int vid, int vring, int state);
	int (*set_features)(int vid);
	int (*migration_done)(int vid);
	int (*get_vfio_group_fd)(int vid);
	int (*get_vfio_device_fd)(int vid);
	int (*get_notify_area)(int vid, int qid, uint64_t *offset, uint64_t *size);
	int (*get_stats_names)(struct rte_vdpa_device *dev, struct rte_vdpa_stat_name *stats_names,
		unsigned int size);
	int (*get_stats)(struct rte_vdpa_device *dev, int qid, struct rte_vdpa_stat *stats,
		unsigned int n);
	int (*reset_stats)(struct rte_vdpa_device *dev, int qid);
	int (*get_config)(int vid, uint8_t *config, uint32_t size);
	int (*set_config)(int vid, uint8_t *config, uint32_t offset, uint32_t size,
		uint32_t flags);
	int (*get_dev_type)(struct rte_vdpa_device *dev, uint32_t *type);
};

/** librte_vhost's record of a vDPA device; it allocates and frees it. */
struct rte_vdpa_device {
	RTE_TAILQ_ENTRY(rte_vdpa_device) next;
	struct rte_device *device;
	struct rte_vdpa_dev_ops *ops;
	uint32_t type;
};

/**
 * Makes a record for a device. NULL with rte_errno set on failure. The name must be free: the
 * return value does not tell when it is not.
 */
struct rte_vdpa_device *rte_vdpa_register_device(struct rte_device *rte_dev,
	struct rte_vdpa_dev_ops *ops);

/** Frees it, also below a connection that still uses it: the caller must know that none does. */
int rte_vdpa_unregister_device(struct rte_vdpa_device *dev);

/** Maps (or unmaps) a ring's doorbell into the front end. qid may be UINT16_MAX: all rings. */
int rte_vhost_host_notifier_ctrl(int vid, uint16_t qid, bool enable);

#ifdef __cplusplus
}
#endif

#endif /* VDPA_DPDK_VHOST_FROM_DPDK */
#endif /* VDPA_DPDK_VHOST_H */
