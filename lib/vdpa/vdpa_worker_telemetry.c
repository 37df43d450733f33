/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_telemetry.h>

#include "vdpa_dpdk_release.h"
#include "vdpa_private.h"

static int
worker_list(
	const char *cmd __rte_unused, const char *params __rte_unused, struct rte_tel_data *data)
{
	struct vdpa_worker_status status;

	rte_tel_data_start_array(data, RTE_TEL_INT_VAL);
	for (int i = 0; vdpa_worker_status_get(i, &status) == 0; i++)
		if (rte_tel_data_add_array_int(data, i) != 0)
			break;
	return 0;
}

static int
worker_info(const char *cmd __rte_unused, const char *params, struct rte_tel_data *data)
{
	struct vdpa_worker_status status;
	char *end = NULL;
	unsigned long worker = params != NULL ? strtoul(params, &end, 10) : 0;

	if (params == NULL || end == params || *end != '\0' || worker > UINT32_MAX ||
		vdpa_worker_status_get(worker, &status) != 0)
		return -EINVAL;
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_int(data, "cpu", status.cpu);
	rte_tel_data_add_dict_int(data, "running", status.running);
	rte_tel_data_add_dict_int(data, "sleeping", status.sleeping);
	rte_tel_data_add_dict_int(data, "paths", status.nr_paths);
	rte_tel_data_add_dict_int(data, "busy_permille", status.busy_permille);
	vdpa_dpdk_tel_uint(data, "cycles", rte_rdtsc());
	vdpa_dpdk_tel_uint(data, "busy_cycles", status.busy_cycles);
	vdpa_dpdk_tel_uint(data, "loops", status.loops);
	vdpa_dpdk_tel_uint(data, "busy_loops", status.busy_loops);
	return 0;
}

RTE_INIT(vdpa_worker_telemetry)
{
	rte_telemetry_register_cmd(
		"/vdpa/worker/list", worker_list, "Datapath workers. No parameters");
	rte_telemetry_register_cmd("/vdpa/worker/info", worker_info,
		"CPU, paths and load of a datapath worker. Parameter: its number");
}
