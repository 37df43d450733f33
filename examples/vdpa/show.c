/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <inttypes.h>
#include <stdlib.h>

#include <linux/virtio_ids.h>

#include "commands.h"
#include "daemon.h"

static void
show_features(const struct cmdline *cl, const struct vdpa_device_status *status)
{
	const char *name;
	unsigned int bit;

	cmdline_printf(cl, "  features   ");
	if (!status->attached || status->features_agreed == 0) {
		cmdline_printf(cl, "none agreed\n");
		return;
	}
	for (bit = 0; bit < 64; bit++) {
		if ((status->features_agreed & (UINT64_C(1) << bit)) == 0)
			continue;
		name = vdpa_feature_name(status->virtio_id, bit);
		if (name != NULL)
			cmdline_printf(cl, "%s ", name);
		else
			cmdline_printf(cl, "bit-%u ", bit);
	}
	cmdline_printf(cl, "(0x%" PRIx64 ")\n", status->features_agreed);
}

static const char *
state_name(const struct vdpa_device_status *status)
{
	if (status->running)
		return "running";
	return status->attached ? "connected" : "idle";
}

static void
show_mode(const struct cmdline *cl, const struct vdpa_device_status *status)
{
	const struct vdpa_time_stat *pauses = &status->phases[VDPA_PHASE_PAUSE];

	cmdline_printf(cl, "  mode       %s%s%s; relay %s, %" PRIu64 " entries relayed",
		status->running ? vdpa_mode_name(status->mode) : "stopped",
		status->running && status->mode_why[0] != '\0' ? ": " : "",
		status->running ? status->mode_why : "", vdpa_relay_name(status->relay),
		status->relayed);
	cmdline_printf(cl, "; log %s, %" PRIu64 " pages and %" PRIu64 " tables marked",
		status->log ? "on" : "off", status->dirty_pages, status->dirty_tables);
	cmdline_printf(cl, "; %" PRIu64 " switches", pauses->nr);
	if (pauses->nr > 0)
		cmdline_printf(cl, ", pause %" PRIu64 " us, at most %" PRIu64 " us",
			pauses->last_ns / 1000, pauses->max_ns / 1000);
	cmdline_printf(cl, "\n");
}

static void
show_net(const struct cmdline *cl, const struct vdpa_device_status *status)
{
	const uint8_t *mac = status->mac;

	cmdline_printf(cl, "  link       %s, mac %02x:%02x:%02x:%02x:%02x:%02x",
		status->link_down ? "down" : "up", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	if (status->mtu != 0)
		cmdline_printf(cl, ", mtu %u", status->mtu);
	cmdline_printf(cl, "\n");
}

static void
show_device(const struct cmdline *cl, const struct vdpa_device_status *status)
{
	const char *type = vdpa_type_name(status->virtio_id);

	cmdline_printf(cl, "%s\n", status->name);
	cmdline_printf(cl, "  parent     %s, %s, %u virtqueues",
		status->mgmtdev[0] != '\0' ? status->mgmtdev : "unknown",
		type != NULL ? type : "unknown", status->nr_vqs);
	if (status->nr_pairs > 0)
		cmdline_printf(cl, ", %u queue pairs", status->nr_pairs);
	cmdline_printf(cl, "\n  front end  %s, %s\n",
		status->bound[0] != '\0' ? status->bound : "not bound",
		status->attached ? "connected" : "not connected");
	if (status->attached)
		cmdline_printf(cl, "  peer       %s\n", status->peer);
	if (status->standin[0] != '\0')
		cmdline_printf(cl, "  stand-in   %s\n", status->standin);
	show_features(cl, status);
	cmdline_printf(cl, "  state      %s, %u virtqueues running, health %s\n",
		state_name(status), status->nr_vqs_running, vdpa_health_name(status->health));
	show_mode(cl, status);
	if (status->virtio_id == VIRTIO_ID_NET)
		show_net(cl, status);
	cmdline_printf(cl, "  last error %s\n",
		status->last_error[0] != '\0' ? status->last_error : "none");
}

void
vdpad_show_list(const struct cmdline *cl)
{
	struct vdpa_device_status status;
	struct vdpa_device **devices;
	size_t nr_devices, i;

	devices = vdpad_devices(&nr_devices);
	for (i = 0; i < nr_devices; i++) {
		vdpa_device_status_get(devices[i], &status);
		show_device(cl, &status);
	}
	if (nr_devices == 0)
		cmdline_printf(cl, "no devices\n");
	free(devices);
}

/* Queues of a net device have names that people know; others have numbers. */
static void
show_queue_name(const struct cmdline *cl, const struct vdpa_device_status *status, uint16_t index)
{
	if (index < 2 * status->nr_pairs)
		cmdline_printf(cl, "  %s%u", index % 2 == 0 ? "rx" : "tx", index / 2);
	else
		cmdline_printf(cl, "  vq%u", index);
}

static void
show_phases(const struct cmdline *cl, const struct vdpa_device_status *status)
{
	cmdline_printf(cl,
		"  relay entries %" PRIu64 " behind %u at-most %u pages %" PRIu64 " tables %" PRIu64
		"\n",
		status->relayed, status->lag, status->lag_max, status->dirty_pages,
		status->dirty_tables);
	for (int i = 0; i < VDPA_NR_PHASES; i++) {
		const struct vdpa_time_stat *t = &status->phases[i];

		if (t->nr > 0)
			cmdline_printf(cl,
				"  %s-us count %" PRIu64
				" last %.1f min %.1f median %.1f p99 %.1f max %.1f\n",
				vdpa_phase_name(i), t->nr, t->last_ns / 1e3, t->min_ns / 1e3,
				t->median_ns / 1e3, t->p99_ns / 1e3, t->max_ns / 1e3);
	}
}

static void
show_device_stats(const struct cmdline *cl, struct vdpa_device *dev)
{
	const char *const *names = dev->ops->vq_stat_names;
	uint64_t values[VDPA_VQ_STATS_MAX];
	struct vdpa_device_status status;
	uint16_t index;
	int nr, i;

	vdpa_device_status_get(dev, &status);
	cmdline_printf(cl, "%s\n", status.name);
	show_phases(cl, &status);
	if (names == NULL) {
		cmdline_printf(cl, "  no statistics\n");
		return;
	}
	for (index = 0; index < status.nr_vqs; index++) {
		nr = vdpa_device_vq_stats(dev, index, values);
		if (nr < 0)
			continue; /* the control virtqueue is the class's */
		show_queue_name(cl, &status, index);
		for (i = 0; i < nr; i++)
			cmdline_printf(cl, " %s %" PRIu64, names[i], values[i]);
		cmdline_printf(cl, "\n");
	}
}

void
vdpad_show_stats(const struct cmdline *cl, struct vdpa_device *dev)
{
	struct vdpa_device **devices;
	size_t nr_devices, i;

	if (dev != NULL) {
		show_device_stats(cl, dev);
		return;
	}
	devices = vdpad_devices(&nr_devices);
	for (i = 0; i < nr_devices; i++)
		show_device_stats(cl, devices[i]);
	if (nr_devices == 0)
		cmdline_printf(cl, "no devices\n");
	free(devices);
}
