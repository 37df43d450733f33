/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "commands.h"

void
vdpad_swap(const struct cmdline *cl, struct vdpa_device *from, struct vdpa_device *to)
{
	struct vdpa_binding *binding = vdpa_device_binding(from);
	struct vdpa_swap_report report = {0};
	char *line, *save = NULL;
	int rc = binding != NULL
		? vdpa_binding_swap(binding, to, &report)
		: vdpa_error_set(-ENODEV, "%s: no bus driver offers it", from->name);

	for (line = strtok_r(report.missing, "\n", &save); line != NULL;
		line = strtok_r(NULL, "\n", &save))
		cmdline_printf(cl, "  %s: %s\n", to->name, line);
	if (report.rounds > 0)
		cmdline_printf(cl,
			"  prepared in %" PRIu64 " us, %u round%s; pause %" PRIu64
			" us: stop %" PRIu64 ", start %" PRIu64 "\n",
			report.prepare_us, report.rounds, report.rounds != 1 ? "s" : "",
			report.pause_us, report.stop_us, report.start_us);
	if (rc != 0)
		cmdline_printf(cl, "error: %s; %s serves\n", vdpa_error_text(), from->name);
	else
		cmdline_printf(cl, "%s: its front end moved to %s%s\n", from->name, to->name,
			report.forced ? " by force" : "");
}

void
vdpad_standin(const struct cmdline *cl, struct vdpa_device *dev, const char *standin)
{
	bool off = strcmp(standin, "off") == 0;

	if (!off && vdpa_device_find(standin) == NULL)
		cmdline_printf(
			cl, "error: %s: no such device; `list` shows those there are\n", standin);
	else if (vdpa_binding_standin_set(vdpa_device_binding(dev), off ? NULL : standin) != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s: stand-in %s\n", dev->name, standin);
}
