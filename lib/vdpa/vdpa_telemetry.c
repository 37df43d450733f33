/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <rte_common.h>
#include <rte_telemetry.h>

#include "vdpa_dpdk_release.h"
#include "vdpa_private.h"

static void
add_time(struct rte_tel_data *d, const char *name, const struct vdpa_time_stat *t)
{
	struct rte_tel_data *part = rte_tel_data_alloc();

	if (part == NULL)
		return;
	rte_tel_data_start_dict(part);
	vdpa_dpdk_tel_uint(part, "count", t->nr);
	vdpa_dpdk_tel_uint(part, "last_ns", t->last_ns);
	vdpa_dpdk_tel_uint(part, "min_ns", t->min_ns);
	vdpa_dpdk_tel_uint(part, "median_ns", t->median_ns);
	vdpa_dpdk_tel_uint(part, "p99_ns", t->p99_ns);
	vdpa_dpdk_tel_uint(part, "max_ns", t->max_ns);
	rte_tel_data_add_dict_container(d, name, part, 0);
}

struct wanted {
	const char *name;
	struct rte_tel_data *data;
};

static int
relay_info_of(struct vdpa_device *dev, void *arg)
{
	const struct wanted *wanted = arg;
	struct rte_tel_data *d = wanted->data;
	struct vdpa_device_status status;

	if (strcmp(dev->name, wanted->name) != 0)
		return 0;
	vdpa_device_status_get(dev, &status);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(
		d, "mode", status.running ? vdpa_mode_name(status.mode) : "stopped");
	rte_tel_data_add_dict_string(d, "why", status.running ? status.mode_why : "");
	rte_tel_data_add_dict_string(d, "relay", vdpa_relay_name(status.relay));
	vdpa_dpdk_tel_uint(d, "entries", status.relayed);
	vdpa_dpdk_tel_uint(d, "behind", status.lag);
	vdpa_dpdk_tel_uint(d, "behind_max", status.lag_max);
	vdpa_dpdk_tel_uint(d, "log", status.log);
	vdpa_dpdk_tel_uint(d, "pages", status.dirty_pages);
	vdpa_dpdk_tel_uint(d, "tables", status.dirty_tables);
	for (int i = 0; i < VDPA_NR_PHASES; i++)
		add_time(d, vdpa_phase_name(i), &status.phases[i]);
	return 1;
}

static int
relay_info(const char *cmd __rte_unused, const char *params, struct rte_tel_data *d)
{
	struct wanted wanted = {params, d};

	if (params == NULL || vdpa_device_foreach(relay_info_of, &wanted) != 1)
		return -EINVAL;
	return 0;
}

static int
add_name(struct vdpa_device *dev, void *d)
{
	return rte_tel_data_add_array_string(d, dev->name);
}

static int
relay_list(const char *cmd __rte_unused, const char *params __rte_unused, struct rte_tel_data *d)
{
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	vdpa_device_foreach(add_name, d);
	return 0;
}

RTE_INIT(vdpa_telemetry_init)
{
	rte_telemetry_register_cmd(
		"/vdpa/relay/list", relay_list, "Names of the devices. Takes no parameters");
	rte_telemetry_register_cmd("/vdpa/relay/info", relay_info,
		"Relay, log and switches of a device. Parameters: its name");
}
