/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef VDPA_DPDK_ABI_H
#define VDPA_DPDK_ABI_H

/**
 * @file
 * The driver side of DPDK that a parent on the vdev bus needs: devices, drivers, buses, and how
 * to register.
 *
 * Distributions install DPDK without its driver-side headers (dev_driver.h, bus_driver.h,
 * bus_vdev_driver.h), but export the functions that they declare. Where those headers are
 * installed (a DPDK configured with enable_driver_sdk), or were named with the build option
 * dpdk_source, they are used. Elsewhere the declarations below stand in for them: only what is
 * needed, laid out as in every release of VDPA_DPDK_RELEASES. The test dpdk_abi compares sizes
 * and offsets with DPDK's own headers.
 *
 * For librte_vhost's side see vdpa_dpdk_vhost.h: only the vhost bus driver needs it.
 */

#include <stddef.h>
#include <stdint.h>

#include <rte_bus.h>
#include <rte_bus_vdev.h>
#include <rte_common.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_tailq.h>

#include "vdpa_dpdk_release.h"

#ifdef __has_include
#if __has_include(<bus_driver.h>) && __has_include(<bus_vdev_driver.h>) && \
	__has_include(<dev_driver.h>) && !defined(VDPA_DPDK_ABI_OWN)
#define VDPA_DPDK_ABI_FROM_DPDK
#endif
#endif

#ifdef VDPA_DPDK_ABI_FROM_DPDK

#include <bus_driver.h>
#include <bus_vdev_driver.h>
#include <dev_driver.h>

#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef VDPA_DPDK_ABI_FROM_DPDK

/** What the drivers of all buses have in common. */
struct rte_driver {
	RTE_TAILQ_ENTRY(rte_driver) next;
	const char *name;
	const char *alias;
};

/** What the devices of all buses have in common. */
struct rte_device {
	RTE_TAILQ_ENTRY(rte_device) next;
	const char *name;
	const char *bus_info;
	const struct rte_driver *driver;	/**< NULL: no driver has probed it */
	const struct rte_bus *bus;
	int numa_node;
	struct rte_devargs *devargs;
};

/** Which devices a bus takes when it scans. */
enum rte_bus_scan_mode {
	RTE_BUS_SCAN_UNDEFINED,
	RTE_BUS_SCAN_ALLOWLIST,
	RTE_BUS_SCAN_BLOCKLIST,
};

/** Settings of a bus. */
struct rte_bus_conf {
	enum rte_bus_scan_mode scan_mode;
};

/** A bus: read only for us. */
struct rte_bus {
	RTE_TAILQ_ENTRY(rte_bus) next;
	const char *name;
	int (*scan)(void);
	int (*probe)(void);
	struct rte_device *(*find_device)(const struct rte_device *start, rte_dev_cmp_t cmp,
		const void *data);
	int (*plug)(struct rte_device *dev);
	int (*unplug)(struct rte_device *dev);
	int (*parse)(const char *name, void *addr);
	int (*devargs_parse)(struct rte_devargs *da);
	int (*dma_map)(struct rte_device *dev, void *addr, uint64_t iova, size_t len);
	int (*dma_unmap)(struct rte_device *dev, void *addr, uint64_t iova, size_t len);
	struct rte_bus_conf conf;
	enum rte_iova_mode (*get_iommu_class)(void);
	rte_dev_iterate_t dev_iterate;
	int (*hot_unplug_handler)(struct rte_device *dev);
	int (*sigbus_handler)(const void *failure_addr);
	int (*cleanup)(void);
};

/** A device of the vdev bus. */
struct rte_vdev_device {
	RTE_TAILQ_ENTRY(rte_vdev_device) next;
	struct rte_device device;
};

/** A driver of the vdev bus. probe and remove return 0 or a negative errno. */
struct rte_vdev_driver {
	RTE_TAILQ_ENTRY(rte_vdev_driver) next;
	struct rte_driver driver;
	int (*probe)(struct rte_vdev_device *dev);
	int (*remove)(struct rte_vdev_device *dev);
	int (*dma_map)(struct rte_vdev_device *dev, void *addr, uint64_t iova, size_t len);
	int (*dma_unmap)(struct rte_vdev_device *dev, void *addr, uint64_t iova, size_t len);
	uint32_t drv_flags;
};

/** Takes a driver into the vdev bus. Exported by librte_bus_vdev, node INTERNAL. */
void rte_vdev_register(struct rte_vdev_driver *driver);

/** Takes it out again; its devices must be gone. */
void rte_vdev_unregister(struct rte_vdev_driver *driver);

#endif /* VDPA_DPDK_ABI_FROM_DPDK */

/**
 * Whether the running DPDK is of the release that a plug-in was built for.
 *
 * Structures may differ between releases, so nothing is registered when it is not. Any thread,
 * also before rte_eal_init().
 *
 * @param year
 *   RTE_VER_YEAR of the caller's build.
 * @param month
 *   RTE_VER_MONTH of the caller's build.
 * @return
 *   0, or -ENOTSUP: logged with both releases; the caller registers nothing.
 */
#pragma GCC visibility push(default)
int vdpa_dpdk_check(unsigned int year, unsigned int month);
#pragma GCC visibility pop

/** vdpa_dpdk_check() for the file that is compiled. */
#define VDPA_DPDK_CHECK() vdpa_dpdk_check(RTE_VER_YEAR, RTE_VER_MONTH)

/** Name of a vdev device. */
static inline const char *
vdpa_vdev_name(const struct rte_vdev_device *dev)
{
	return dev->device.name;
}

/** Arguments given with --vdev NAME,ARGUMENTS, "" if none. */
static inline const char *
vdpa_vdev_args(const struct rte_vdev_device *dev)
{
	return dev->device.devargs != NULL && dev->device.devargs->args != NULL ?
		dev->device.devargs->args : "";
}

/*
 * Strings that buildtools/pmdinfo.py finds by their names in an object file and turns into what
 * dpdk-pmdinfo.py prints. Their names are those that DPDK's own build looks for.
 */
#define VDPA_PMD_TAG(tag, n)		VDPA_PMD_TAG_(tag, n)
#define VDPA_PMD_TAG_(tag, n)		tag ## n
#define VDPA_PMD_NAME(nm) \
	static const char VDPA_PMD_TAG(this_pmd_name, __COUNTER__)[] \
		__attribute__((used)) = RTE_STR(nm)

/**
 * Tells dpdk-pmdinfo.py which arguments a driver takes.
 *
 * @param nm
 *   The driver's name, as given to VDPA_REGISTER_VDEV().
 * @param str
 *   A string literal: "key=<what> key=<what> ...".
 */
#define VDPA_PMD_PARAMS(nm, str) \
	static const char __ ## nm ## _param_string_export[] __attribute__((used)) = str

/**
 * Registers a vdev driver when the plug-in is loaded.
 *
 * DPDK's own macro is not used because it differs between releases.
 *
 * @param nm
 *   The driver's name, an identifier: --vdev NAME0, NAME1 and so on go to it.
 * @param drv
 *   A struct rte_vdev_driver with static storage; its name is set here.
 */
#define VDPA_REGISTER_VDEV(nm, drv) \
	RTE_INIT(vdpa_vdev_init_ ## nm) \
	{ \
		if (VDPA_DPDK_CHECK() < 0) \
			return; \
		(drv).driver.name = RTE_STR(nm); \
		rte_vdev_register(&(drv)); \
	} \
	VDPA_PMD_NAME(nm)

#ifdef __cplusplus
}
#endif

#endif /* VDPA_DPDK_ABI_H */
