/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include <rte_common.h>
#include <rte_version.h>

#include "daemon.h"
#include "vdpad_version.h"

enum {
	OPT_CONFIG = 256,
	OPT_IFACE,
	OPT_CLIENT,
	OPT_INTERACTIVE,
	OPT_WORKERS,
	OPT_IDLE,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"config", required_argument, NULL, OPT_CONFIG},
	{"iface", required_argument, NULL, OPT_IFACE},
	{"client", no_argument, NULL, OPT_CLIENT},
	{"interactive", no_argument, NULL, OPT_INTERACTIVE},
	{"workers", required_argument, NULL, OPT_WORKERS},
	{"worker-idle", required_argument, NULL, OPT_IDLE},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static const char *const idle_names[] = {
	[VDPA_WORKER_ADAPTIVE] = "adaptive",
	[VDPA_WORKER_POLL] = "poll",
	[VDPA_WORKER_SLEEP] = "sleep",
	NULL,
};

const char *
vdpad_idle_name(enum vdpa_worker_idle idle)
{
	return idle_names[idle];
}

static int
print_mgmtdev(struct vdpa_mgmtdev *mgmtdev, void *arg)
{
	fprintf(arg, "  %-10s %s\n", mgmtdev->name, mgmtdev->keys);
	return 0;
}

/* clang-format off */
static const char usage_before_keys[] =
"Usage: dpdk-vdpa [EAL options] -- [options]\n"
"\n"
"Serves vDPA devices to virtual machines, containers and virtio-user over vhost-user\n"
"sockets.\n"
"\n"
"  --config FILE      make and bind the devices that a JSON file describes\n"
"  --iface PREFIX     bind the devices of EAL's --vdev and -a, in their order, to the\n"
"                     sockets PREFIX0, PREFIX1, ...\n"
"  --client           connect to sockets that the front ends listen on (--iface and `create`)\n"
"  --interactive      commands from standard input, `help` lists them; end of input stops\n"
"  --workers CPULIST  a datapath thread on each of these CPUs, as 2-3,8 (default: one, on the\n"
"                     CPUs of EAL's main lcore); two share a CPU that is named twice\n"
"  --worker-idle WAY  how they wait for work: poll, sleep or adaptive (default adaptive)\n"
"  --version          versions of this program and of DPDK\n"
"  --help             this text; EAL's options are told by an EAL option: dpdk-vdpa -h\n"
"\n"
"Configuration file:\n"
"  { \"devices\": [\n"
"    { \"name\": \"v0\", \"mgmtdev\": \"sw_net\", \"backend\": \"loopback\", \"max_vqp\": 2,\n"
"      \"bind\": { \"driver\": \"vhost\", \"path\": \"/run/v0.sock\", \"client\": false,\n"
"                \"mode\": \"0660\", \"group\": \"kvm\" } } ] }\n"
"\n"
"Keys of each kind of device, here and in --vdev:\n";

static const char usage_after_keys[] =
"\n"
"SIGTERM, SIGINT and SIGHUP stop it: all devices at once, those that hang are fenced and\n"
"named. A second signal ends it without waiting.\n"
"\n"
"Exit code: 0 stopped; 1 could not start, nothing is left behind; 2 wrong option; 3 stopped,\n"
"but a device had to be fenced.\n"
"\n"
"Example, no hugepages:\n"
"  dpdk-vdpa --no-huge --no-pci --vdev vdpa_sw_net0,backend=loopback -- --iface /run/vdpa\n";
/* clang-format on */

static void
usage(FILE *out)
{
	fputs(usage_before_keys, out);
	vdpa_mgmtdev_foreach(print_mgmtdev, out);
	fputs(usage_after_keys, out);
}

static int
check(const struct vdpad_options *options)
{
	if (options->config == NULL && options->iface == NULL && !options->interactive) {
		fputs("nothing to serve: give --config, --iface or --interactive\n", stderr);
		return -EINVAL;
	}
	if (options->client && options->iface == NULL && !options->interactive) {
		fputs("--client: goes with --iface or --interactive; in a file: \"client\": true\n",
			stderr);
		return -EINVAL;
	}
	if (options->iface != NULL && options->iface[0] == '\0') {
		fputs("--iface: the prefix is empty, expected a path such as /run/vdpa\n", stderr);
		return -EINVAL;
	}
	return 0;
}

static int
parse_one(int opt, const char *value, struct vdpad_options *options)
{
	unsigned int choice;

	switch (opt) {
	case OPT_CONFIG:
		options->config = value;
		return 0;
	case OPT_IFACE:
		options->iface = value;
		return 0;
	case OPT_CLIENT:
		options->client = true;
		return 0;
	case OPT_INTERACTIVE:
		options->interactive = true;
		return 0;
	case OPT_WORKERS:
		options->workers = value;
		return 0;
	case OPT_IDLE:
		if (vdpa_arg_choice("--worker-idle", value, idle_names, &choice) != 0) {
			fprintf(stderr, "%s\n", vdpa_error_text());
			return -EINVAL;
		}
		options->idle = choice;
		return 0;
	case OPT_VERSION:
		printf("dpdk-vdpa %s (%s)\n", VDPAD_VERSION, rte_version());
		return 1;
	case OPT_HELP:
		usage(stdout);
		return 1;
	}
	return -EINVAL; /* getopt has told */
}

static int
parse_own(int argc, char **argv, struct vdpad_options *options)
{
	int opt, rc;

	optind = 1;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		rc = parse_one(opt, optarg, options);
		if (rc != 0)
			return rc;
	}
	if (optind < argc) {
		fprintf(stderr, "%s: not an option; --help lists them\n", argv[optind]);
		return -EINVAL;
	}
	return check(options);
}

int
vdpad_options_parse(int argc, char **argv, struct vdpad_options *options)
{
	char *own[argc + 1];
	int i, nr = 1;

	memset(options, 0, sizeof(*options));
	own[0] = argv[0];
	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		/* A person does not type the `--` for these. */
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0)
			own[nr++] = argv[i];
	for (i++; i < argc; i++)
		own[nr++] = argv[i];
	own[nr] = NULL;
	return parse_own(nr, own, options);
}
