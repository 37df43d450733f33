/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef VDPA_DPDK_RELEASE_H
#define VDPA_DPDK_RELEASE_H

/**
 * @file
 * The DPDK releases whose driver side is known, and everything in which they differ for us. This
 * is the only file that asks for a release. A release is known when the structures declared in
 * vdpa_dpdk_abi.h and vdpa_dpdk_vhost.h have been compared with its own headers.
 */

/** Known releases, separated by blanks: the build asks here and refuses others by name. */
#define VDPA_DPDK_RELEASES "22.11 24.11 25.11"

#ifndef VDPA_DPDK_RELEASES_ONLY

#include <rte_version.h>

#define VDPA_DPDK_IS(year, month) (RTE_VER_YEAR == (year) && RTE_VER_MONTH == (month))

#if !VDPA_DPDK_IS(22, 11) && !VDPA_DPDK_IS(24, 11) && !VDPA_DPDK_IS(25, 11)
#error "DPDK release not known, see VDPA_DPDK_RELEASES in vdpa_dpdk_release.h"
#endif

/*
 * librte_vhost 22.11 has other names: of the function that tells a front end that the config
 * space changed, and of two vhost-user protocol features (bits 5 and 10).
 */
#if VDPA_DPDK_IS(22, 11)
#define vdpa_vhost_config_change			rte_vhost_slave_config_change
#define VDPA_VHOST_PROTOCOL_F_BACKEND_REQ		VHOST_USER_PROTOCOL_F_SLAVE_REQ
#define VDPA_VHOST_PROTOCOL_F_BACKEND_SEND_FD		VHOST_USER_PROTOCOL_F_SLAVE_SEND_FD
#else
#define vdpa_vhost_config_change			rte_vhost_backend_config_change
#define VDPA_VHOST_PROTOCOL_F_BACKEND_REQ		VHOST_USER_PROTOCOL_F_BACKEND_REQ
#define VDPA_VHOST_PROTOCOL_F_BACKEND_SEND_FD		VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD
#endif

/*
 * What a message hook of librte_vhost is handed: the message, and at this offset its eight
 * descriptors and their number, packed. Whoever uses it checks what is there.
 */
#if VDPA_DPDK_IS(25, 11)
#define VDPA_VHOST_MESSAGE_FDS_OFFSET			1084
#else
#define VDPA_VHOST_MESSAGE_FDS_OFFSET			644
#endif

/*
 * Makes a block of a pcapng file of an mbuf. 22.11 takes the time, later releases a comment in its
 * place.
 */
#if VDPA_DPDK_IS(22, 11)
#define vdpa_pcapng_copy(port_id, queue, m, mp, length, direction) \
	rte_pcapng_copy(port_id, queue, m, mp, length, rte_get_tsc_cycles(), direction)
#else
#define vdpa_pcapng_copy(port_id, queue, m, mp, length, direction) \
	rte_pcapng_copy(port_id, queue, m, mp, length, direction, NULL)
#endif

/* Telemetry: a number without sign has another name from 23.03 on. */
#if VDPA_DPDK_IS(22, 11)
#define vdpa_dpdk_tel_uint		rte_tel_data_add_dict_u64
#else
#define vdpa_dpdk_tel_uint		rte_tel_data_add_dict_uint
#endif

#endif /* VDPA_DPDK_RELEASES_ONLY */
#endif /* VDPA_DPDK_RELEASE_H */
