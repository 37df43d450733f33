/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "perf.h"

#define OPT_HELP   PERF_OPTIONS_MAX
#define OPT_JSON   (PERF_OPTIONS_MAX + 1)
#define OPT_PLOT   (PERF_OPTIONS_MAX + 2)
#define OPT_COMMON (PERF_OPTIONS_MAX + 3)

/* Numbers that all subcommands have. */
static struct perf_option numbers[] = {
	{"repeats", "samples of each figure; the table shows their median", NULL, 1,
		PERF_SAMPLES_MAX, 5},
	{"ms", "how long a sample takes", NULL, 1, 60000, 200},
	{"cpu-device", "CPU of the device (default: the last that may be used)", NULL, 0, 4095, 0},
	{"cpu-driver", "CPU of what drives it (default: the first)", NULL, 0, 4095, 0},
	{NULL},
};

static const struct perf_option *
option_find(const struct perf_option *options, const char *name)
{
	while (strcmp(options->name, name) != 0)
		options++;
	return options;
}

uint64_t
perf_value(const struct perf_option *options, const char *name)
{
	return option_find(options, name)->value;
}

/* The word at a place of a list "a,b,c"; false: the list ends before. */
static bool
word_at(const char *choices, uint64_t place, char buf[32])
{
	for (; place > 0; place--) {
		choices = strchr(choices, ',');
		if (choices == NULL)
			return false;
		choices++;
	}
	snprintf(buf, 32, "%.*s", (int)strcspn(choices, ","), choices);
	return true;
}

const char *
perf_word(const struct perf_option *options, const char *name, char buf[32])
{
	const struct perf_option *option = option_find(options, name);

	word_at(option->choices, option->value, buf);
	return buf;
}

static void
option_print(const struct perf_option *option, FILE *out)
{
	char left[80], word[32];

	snprintf(left, sizeof(left), "--%s %s", option->name,
		option->choices != NULL ? option->choices : "N");
	if (option->choices != NULL && word_at(option->choices, option->value, word))
		fprintf(out, "  %-30s %s (default %s)\n", left, option->help, word);
	else if (strstr(option->help, "default") != NULL)
		fprintf(out, "  %-30s %s\n", left, option->help);
	else
		fprintf(out, "  %-30s %s (default %" PRIu64 ")\n", left, option->help,
			option->value);
}

void
perf_options_print(const struct perf_option *options, FILE *out)
{
	for (; options->name != NULL; options++)
		option_print(options, out);
}

void
perf_common_print(FILE *out)
{
	perf_options_print(numbers, out);
	fprintf(out, "  %-30s %s\n", "--json", "the result as JSON in place of the table");
	fprintf(out, "  %-30s %s\n", "--plot FILE", "bars of the medians as SVG, too");
	fprintf(out, "  %-30s %s\n", "--help", "this text");
}

static int
parse_choice(struct perf_option *option, const char *text)
{
	char word[32];

	for (uint64_t i = 0; word_at(option->choices, i, word); i++) {
		if (strcmp(word, text) == 0) {
			option->value = i;
			return 0;
		}
	}
	fprintf(stderr, "--%s %s: must be one of %s\n", option->name, text, option->choices);
	return -EINVAL;
}

static int
parse_option(struct perf_option *option, const char *text)
{
	uint64_t value;
	char *end;

	if (option->choices != NULL)
		return parse_choice(option, text);
	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < option->min ||
		value > option->max) {
		fprintf(stderr, "--%s %s: must be a number from %" PRIu64 " to %" PRIu64 "\n",
			option->name, text, option->min, option->max);
		return -EINVAL;
	}
	option->value = value;
	return 0;
}

static unsigned int
add_long(struct option *to, struct perf_option *options, int first)
{
	unsigned int nr = 0;

	for (; options[nr].name != NULL; nr++)
		to[nr] = (struct option){
			options[nr].name, required_argument, NULL, first + (int)nr};
	return nr;
}

static int
parse_one(int opt, struct perf_option *options, struct perf_common *common)
{
	switch (opt) {
	case '?':
		return -EINVAL;
	case OPT_HELP:
		return 1;
	case OPT_JSON:
		common->json = true;
		return 0;
	case OPT_PLOT:
		common->plot = optarg;
		return 0;
	}
	return parse_option(
		opt < PERF_OPTIONS_MAX ? &options[opt] : &numbers[opt - OPT_COMMON], optarg);
}

int
perf_options_parse(int argc, char **argv, struct perf_option *options, struct perf_common *common)
{
	struct option longs[PERF_OPTIONS_MAX + 8] = {
		{"help", no_argument, NULL, OPT_HELP},
		{"json", no_argument, NULL, OPT_JSON},
		{"plot", required_argument, NULL, OPT_PLOT},
	};
	unsigned int nr = 3;
	int opt, first, last;

	perf_cpus(&first, &last);
	numbers[2].value = last;
	numbers[3].value = first;
	memset(common, 0, sizeof(*common));
	nr += add_long(&longs[nr], numbers, OPT_COMMON);
	add_long(&longs[nr], options, 0);
	optind = 1;
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = parse_one(opt, options, common);

		if (rc != 0)
			return rc;
	}
	if (optind < argc) {
		fprintf(stderr, "%s: no such argument; --help lists the options\n", argv[optind]);
		return -EINVAL;
	}
	common->repeats = numbers[0].value;
	common->ms = numbers[1].value;
	common->cpu_device = numbers[2].value;
	common->cpu_driver = numbers[3].value;
	return 0;
}
