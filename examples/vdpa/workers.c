/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "daemon.h"

static const char *
state(const struct vdpa_worker_status *status)
{
	if (!status->running)
		return "not started";
	return status->sleeping ? "sleeping" : "polling";
}

void
vdpad_show_workers(const struct cmdline *cl)
{
	struct vdpa_worker_status status;

	for (unsigned int i = 0; vdpa_worker_status_get(i, &status) == 0; i++) {
		cmdline_printf(cl, "worker %u  cpu ", i);
		if (status.cpu >= 0)
			cmdline_printf(cl, "%d", status.cpu);
		else
			cmdline_printf(cl, "any of the main lcore's");
		cmdline_printf(cl, ", %u paths, busy %u.%u %%, %s (%s)\n", status.nr_paths,
			status.busy_permille / 10, status.busy_permille % 10, state(&status),
			vdpad_idle_name(status.idle));
	}
	if (vdpa_worker_status_get(0, &status) != 0)
		cmdline_printf(cl, "no workers: no device has run yet\n");
}

/* "rx0", "tx1", "vq4", "4" */
static int
parse_queue(const char *text, uint16_t *index)
{
	static const struct {
		const char *prefix;
		unsigned int times, plus;
	} kinds[] = {{"rx", 2, 0}, {"tx", 2, 1}, {"vq", 1, 0}, {"", 1, 0}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i].prefix);
		uint64_t number;

		if (strncmp(text, kinds[i].prefix, len) != 0)
			continue;
		if (vdpa_arg_uint("queue", text + len, 0, UINT16_MAX / 2, &number) != 0)
			break;
		*index = number * kinds[i].times + kinds[i].plus;
		return 0;
	}
	return vdpa_error_set(-EINVAL,
		"queue=%s: expected rx or tx and a pair, as rx0, or the number of a virtqueue",
		text);
}

void
vdpad_move(const struct cmdline *cl, struct vdpa_device *dev, const char *queue, const char *worker)
{
	uint64_t number = 0;
	uint16_t index = 0;
	int rc = parse_queue(queue, &index);

	if (rc == 0)
		rc = vdpa_arg_uint("worker", worker, 0, UINT32_MAX, &number);
	if (rc == 0)
		rc = vdpa_vq_move(dev, index, number);
	if (rc != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s: %s is with worker %" PRIu64 "\n", dev->name, queue, number);
}

const char *
vdpad_worker_word(size_t i)
{
	static char text[24]; /* the prompt has one thread */
	struct vdpa_worker_status status;

	if (vdpa_worker_status_get(i, &status) != 0)
		return NULL;
	snprintf(text, sizeof(text), "%zu", i);
	return text;
}

const char *
vdpad_queue_word(size_t i)
{
	static char text[24];
	struct vdpa_device_status status;
	struct vdpa_device **devices;
	size_t nr_devices, nr = 0;

	devices = vdpad_devices(&nr_devices);
	for (size_t d = 0; d < nr_devices; d++) {
		vdpa_device_status_get(devices[d], &status);
		nr = 2u * status.nr_pairs > nr ? 2u * status.nr_pairs : nr;
	}
	free(devices);
	if (i >= nr)
		return NULL;
	snprintf(text, sizeof(text), "%s%zu", i % 2 == 0 ? "rx" : "tx", i / 2);
	return text;
}
