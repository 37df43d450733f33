/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <string.h>

#include "perf.h"

static struct perf_command *const commands[] = {
	&perf_blk,
	&perf_loopback,
	&perf_neighbour,
	&perf_relay,
	&perf_ring,
	&perf_scale,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *out)
{
	fprintf(out,
		"Usage: vdpa-perf SUBCOMMAND [options]\n\n"
		"Measures the framework on this machine. Subcommands:\n\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->help);
	fprintf(out, "\n`vdpa-perf SUBCOMMAND --help` lists the options of one. All have:\n\n");
	perf_common_print(out);
	fprintf(out,
		"\nExit code: 0 measured, 1 measured and what came was not right, 2 it could not "
		"run.\n");
}

static void
command_usage(const struct perf_command *command)
{
	printf("Usage: vdpa-perf %s [options]\n\n%s.\n\n", command->name, command->help);
	perf_options_print(command->options, stdout);
	perf_common_print(stdout);
}

static struct perf_command *
command_find(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

/* A failure to write is one to measure: who reads the figures would go without. */
static int
show(const struct perf_command *command, const struct perf_common *common,
	const struct perf_result *result)
{
	int rc = 0;

	if (common->json)
		rc = perf_print_json(result, command->options, common, stdout);
	else
		perf_print_table(result, stdout);
	if (rc == 0 && common->plot != NULL)
		rc = perf_plot(result, common->plot);
	if (rc != 0)
		fprintf(stderr, "the result cannot be written: %s\n", strerror(-rc));
	return rc;
}

int
main(int argc, char **argv)
{
	static struct perf_result result;
	struct perf_command *command;
	struct perf_common common;
	int rc;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		usage(stdout);
		return 0;
	}
	command = argc > 1 ? command_find(argv[1]) : NULL;
	if (command == NULL) {
		if (argc > 1)
			fprintf(stderr, "%s: no such subcommand\n", argv[1]);
		usage(stderr);
		return PERF_EXIT_NOT_RUN;
	}
	rc = perf_options_parse(argc - 1, argv + 1, command->options, &common);
	if (rc < 0)
		return PERF_EXIT_NOT_RUN;
	if (rc > 0) {
		command_usage(command);
		return 0;
	}
	result.command = command->name;
	rc = command->fn(command->options, &common, &result);
	if (rc != PERF_EXIT_NOT_RUN && show(command, &common, &result) != 0)
		rc = PERF_EXIT_NOT_RUN;
	return rc;
}
