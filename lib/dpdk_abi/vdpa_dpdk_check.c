/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <stdio.h>

#include <rte_log.h>
#include <rte_version.h>

#include "vdpa_dpdk_abi.h"

RTE_LOG_REGISTER_DEFAULT(vdpa_dpdk_abi_logtype, NOTICE);

int
vdpa_dpdk_check(unsigned int year, unsigned int month)
{
	unsigned int run_year, run_month;

	if (sscanf(rte_version(), "DPDK %2u.%2u", &run_year, &run_month) == 2 && run_year == year &&
		run_month == month)
		return 0;
	rte_log(RTE_LOG_ERR, vdpa_dpdk_abi_logtype,
		"VDPA: built for DPDK %02u.%02u, running with %s: nothing is registered\n", year,
		month, rte_version());
	return -ENOTSUP;
}
