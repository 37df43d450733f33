/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#ifndef PERF_H
#define PERF_H

/**
 * @file
 * vdpa-perf, the benchmark program: what its files share.
 *
 * A subcommand is one file with one struct perf_command, named in the table of main.c. It says its
 * options, measures, and puts what it found into a struct perf_result; options that all have, the
 * table, JSON and the plot are done here.
 *
 *	main.c		table of subcommands
 *	options.c	options of a subcommand and those that all have
 *	result.c	what was measured; medians and percentiles
 *	output.c	as a table and as JSON
 *	plot.c		as bars in SVG
 *	machine.c	what it was measured on; time stamp counter
 *	memory.c	memory and driver-side rings in this process
 *	guest.c		a virtio-net driver in this process, on a device of the class
 *	loop.c		a worker measured; frames through a device that returns them
 *	hostile.c	a driver that breaks its rings, again and again
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PERF_BIT(feature)   (UINT64_C(1) << (feature))

#define PERF_EXIT_WRONG     1 /* measured, and what came was not right */
#define PERF_EXIT_NOT_RUN   2

#define PERF_OPTIONS_MAX    16
#define PERF_ROWS_MAX       64
#define PERF_METRICS_MAX    16
#define PERF_SAMPLES_MAX    64

/* ---- options.c ---- */

/** An option of a subcommand: a number, or (choices) the place of a word in a list. */
struct perf_option {
	const char *name;	/**< without dashes; NULL ends a list */
	const char *help;	/**< one line */
	const char *choices;	/**< "split,packed"; NULL: a number from min to max */
	uint64_t min, max;
	uint64_t value;		/**< what stands here first is the default */
};

/** Options that every subcommand has. */
struct perf_common {
	uint64_t repeats;	/**< samples of each figure, 1 to PERF_SAMPLES_MAX */
	uint64_t ms;		/**< how long a sample takes */
	int cpu_device;		/**< CPU of the device's worker */
	int cpu_driver;		/**< CPU of the thread that drives it */
	bool json;
	const char *plot;	/**< file, or NULL */
};

/** Value of an option by name; the name must be one of the list's. */
uint64_t perf_value(const struct perf_option *options, const char *name);
/** The word that an option with choices has; a copy in buf. */
const char *perf_word(const struct perf_option *options, const char *name, char buf[32]);
/** Print one line for each option. */
void perf_options_print(const struct perf_option *options, FILE *out);
void perf_common_print(FILE *out);
/**
 * Parse what stands behind the subcommand's name; argv[0] is the name.
 * @return 0; 1: --help was given; -EINVAL with a line on stderr
 */
int perf_options_parse(
	int argc, char **argv, struct perf_option *options, struct perf_common *common);

/* ---- result.c ---- */

struct perf_metric {
	const char *name, *unit;	/**< not copied */
	double samples[PERF_SAMPLES_MAX];
	unsigned int nr_samples;
};

struct perf_row {
	char label[64];
	struct perf_metric metrics[PERF_METRICS_MAX];
	unsigned int nr_metrics;
};

/** What a subcommand found: rows (cases) of metrics, each with its samples. */
struct perf_result {
	const char *command;
	struct perf_row rows[PERF_ROWS_MAX];
	unsigned int nr_rows;
};

/** Begin a row. The last one is taken again if there is no room. */
struct perf_row *perf_row(struct perf_result *result, const char *label);
/** Add a sample to a row's metric of this name, which is made if it is new. */
void perf_sample(struct perf_row *row, const char *name, const char *unit, double sample);
/** The value below which `percent` of the samples lie, 0 without any. Sorts the samples. */
double perf_percentile(double *samples, size_t nr, double percent);
double perf_median(const struct perf_metric *metric);
double perf_least(const struct perf_metric *metric);
double perf_most(const struct perf_metric *metric);

/* ---- output.c, plot.c ---- */

void perf_print_table(const struct perf_result *result, FILE *out);
/** @return 0 or negative errno */
int perf_print_json(const struct perf_result *result, const struct perf_option *options,
	const struct perf_common *common, FILE *out);
/** Bars of each metric's median in a file of its own. @return 0 or negative errno */
int perf_plot(const struct perf_result *result, const char *path);

/* ---- machine.c ---- */

struct perf_machine {
	char cpu[96];
	long nr_cpus;
	const char *dpdk;
	char kernel[96];
	char date[32]; /**< UTC */
};

void perf_machine(struct perf_machine *machine);
/** Cycles of the time stamp counter in a second, measured once. */
double perf_tsc_hz(void);
uint64_t perf_now_us(void);
/** Run this thread on one CPU. @return 0 or negative errno */
int perf_pin(int cpu);
/** CPUs that this program may use: the first, the last. */
void perf_cpus(int *first, int *last);

/* ---- subcommands ---- */

struct perf_command {
	const char *name;
	const char *help;	/**< one line */
	struct perf_option *options;
	/** Measure. @return 0, PERF_EXIT_WRONG or PERF_EXIT_NOT_RUN with a line on stderr. */
	int (*fn)(const struct perf_option *options, const struct perf_common *common,
		struct perf_result *result);
};

extern struct perf_command perf_blk;
extern struct perf_command perf_loopback;
extern struct perf_command perf_neighbour;
extern struct perf_command perf_relay;
extern struct perf_command perf_ring;
extern struct perf_command perf_scale;

#endif /* PERF_H */
