/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>

#include <jansson.h>

#include "perf.h"

/* Digits that are worth showing. */
static int
digits(double value)
{
	if (value >= 1000)
		return 0;
	return value >= 10 ? 1 : 3;
}

static void
print_machine(FILE *out)
{
	struct perf_machine m;

	perf_machine(&m);
	fprintf(out, "%s, %ld CPUs, DPDK %s, Linux %s, %s\n", m.cpu, m.nr_cpus, m.dpdk, m.kernel,
		m.date);
}

void
perf_print_table(const struct perf_result *result, FILE *out)
{
	print_machine(out);
	for (unsigned int r = 0; r < result->nr_rows; r++) {
		const struct perf_row *row = &result->rows[r];

		fprintf(out, "\n%s\n", row->label);
		for (unsigned int i = 0; i < row->nr_metrics; i++) {
			const struct perf_metric *m = &row->metrics[i];
			double median = perf_median(m);

			fprintf(out, "  %-28s %12.*f %-14s", m->name, digits(median), median,
				m->unit);
			if (m->nr_samples > 1)
				fprintf(out, " (%.*f to %.*f)", digits(median), perf_least(m),
					digits(median), perf_most(m));
			fprintf(out, "\n");
		}
	}
	fflush(out);
}

static json_t *
machine_json(void)
{
	struct perf_machine m;

	perf_machine(&m);
	return json_pack("{ss sI ss ss ss sf}", "cpu", m.cpu, "cpus", (json_int_t)m.nr_cpus, "dpdk",
		m.dpdk, "kernel", m.kernel, "date", m.date, "tsc_hz", perf_tsc_hz());
}

static json_t *
metric_json(const struct perf_metric *m)
{
	json_t *samples = json_array();

	for (unsigned int i = 0; i < m->nr_samples; i++)
		json_array_append_new(samples, json_real(m->samples[i]));
	return json_pack("{ss ss sf sf sf so}", "name", m->name, "unit", m->unit, "median",
		perf_median(m), "least", perf_least(m), "most", perf_most(m), "samples", samples);
}

static json_t *
rows_json(const struct perf_result *result)
{
	json_t *rows = json_array();

	for (unsigned int r = 0; r < result->nr_rows; r++) {
		const struct perf_row *row = &result->rows[r];
		json_t *metrics = json_array();

		for (unsigned int i = 0; i < row->nr_metrics; i++)
			json_array_append_new(metrics, metric_json(&row->metrics[i]));
		json_array_append_new(
			rows, json_pack("{ss so}", "label", row->label, "metrics", metrics));
	}
	return rows;
}

static json_t *
options_json(const struct perf_option *options, const struct perf_common *common)
{
	json_t *top = json_pack("{sI sI si si}", "repeats", (json_int_t)common->repeats, "ms",
		(json_int_t)common->ms, "cpu-device", common->cpu_device, "cpu-driver",
		common->cpu_driver);
	char word[32];

	for (; options->name != NULL; options++)
		json_object_set_new(top, options->name,
			options->choices != NULL
				? json_string(perf_word(options, options->name, word))
				: json_integer((json_int_t)options->value));
	return top;
}

int
perf_print_json(const struct perf_result *result, const struct perf_option *options,
	const struct perf_common *common, FILE *out)
{
	json_t *top = json_pack("{ss so so so}", "command", result->command, "machine",
		machine_json(), "options", options_json(options, common), "rows",
		rows_json(result));
	int rc = 0;

	if (top == NULL)
		return -ENOMEM;
	if (json_dumpf(top, out, JSON_INDENT(1)) != 0 || fputc('\n', out) == EOF ||
		fflush(out) != 0)
		rc = -EIO;
	json_decref(top);
	return rc;
}
