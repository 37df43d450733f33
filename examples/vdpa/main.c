/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>

#include "daemon.h"

/* 0, or a negative errno that was told. */
static int
set_up(const struct vdpad_options *options, const struct vdpad_config *config)
{
	int rc = vdpad_eal_devices_check();

	if (rc != 0) {
		fprintf(stderr, "%s\n", vdpa_error_text());
		return rc;
	}
	rc = vdpa_workers_configure(options->workers, options->idle);
	if (rc != 0) {
		fprintf(stderr, "--workers %s: %s\n",
			options->workers != NULL ? options->workers : "(default)",
			vdpa_error_text());
		return rc;
	}
	rc = config->json != NULL ? vdpad_config_apply(config, options->config) : 0;
	if (rc != 0)
		return rc;
	rc = options->iface != NULL ? vdpad_iface_apply(options->iface, options->client) : 0;
	if (rc != 0)
		fprintf(stderr, "%s\n", vdpa_error_text());
	return rc;
}

static void
serve(bool interactive)
{
	struct pollfd fds[] = {
		{.fd = vdpad_stop_fd(), .events = POLLIN},
		{.fd = STDIN_FILENO, .events = POLLIN},
	};

	while (!vdpad_stopping()) {
		if (poll(fds, interactive ? 2 : 1, -1) < 0 && errno != EINTR)
			break;
		if (interactive && fds[1].revents != 0 && !vdpad_prompt_read())
			break;
	}
}

static int
run(const struct vdpad_options *options, const struct vdpad_config *config)
{
	int rc = set_up(options, config), nr_hung;

	if (rc == 0 && options->interactive)
		rc = vdpad_prompt_open(options->client);
	if (rc == 0 && !vdpad_stopping()) {
		VDPAD_LOG(NOTICE, "ready, %zu devices bound", vdpad_nr_bindings());
		serve(options->interactive);
		VDPAD_LOG(NOTICE, "stopping");
	}
	nr_hung = vdpad_bindings_close();
	vdpad_prompt_close();
	if (nr_hung > 0) {
		fflush(NULL);
		/* exit() would run destructors below the thread that hangs. */
		_exit(rc == 0 ? VDPAD_EXIT_FENCED : VDPAD_EXIT_FAILED);
	}
	return rc == 0 ? VDPAD_EXIT_OK : VDPAD_EXIT_FAILED;
}

int
main(int argc, char **argv)
{
	struct vdpad_options options;
	struct vdpad_config config = {0};
	int rc;

	rc = vdpad_options_parse(argc, argv, &options);
	if (rc != 0)
		return rc > 0 ? VDPAD_EXIT_OK : VDPAD_EXIT_USAGE;
	if (options.config != NULL && vdpad_config_load(options.config, &config) != 0)
		return VDPAD_EXIT_FAILED;
	rc = vdpad_signals_start();
	if (rc != 0) {
		fprintf(stderr, "signals: %s\n", strerror(-rc));
		return VDPAD_EXIT_FAILED;
	}
	vdpad_events_start(argc, argv);
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL does not start: %s\n", rte_strerror(rte_errno));
		vdpad_config_free(&config);
		return VDPAD_EXIT_FAILED;
	}
	rc = run(&options, &config);
	vdpad_config_free(&config);
	rte_eal_cleanup();
	return rc;
}
