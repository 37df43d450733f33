/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <stdlib.h>
#include <string.h>

#include "perf.h"

struct perf_row *
perf_row(struct perf_result *result, const char *label)
{
	struct perf_row *row;

	if (result->nr_rows < PERF_ROWS_MAX)
		result->nr_rows++;
	row = &result->rows[result->nr_rows - 1];
	memset(row, 0, sizeof(*row));
	snprintf(row->label, sizeof(row->label), "%s", label);
	return row;
}

void
perf_sample(struct perf_row *row, const char *name, const char *unit, double sample)
{
	unsigned int i;

	for (i = 0; i < row->nr_metrics; i++)
		if (strcmp(row->metrics[i].name, name) == 0)
			break;
	if (i == PERF_METRICS_MAX || row->metrics[i].nr_samples == PERF_SAMPLES_MAX)
		return;
	if (i == row->nr_metrics) {
		row->metrics[i].name = name;
		row->metrics[i].unit = unit;
		row->nr_metrics++;
	}
	row->metrics[i].samples[row->metrics[i].nr_samples++] = sample;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Between two samples in a straight line. */
double
perf_percentile(double *samples, size_t nr, double percent)
{
	double at;
	size_t below;

	if (nr == 0)
		return 0;
	qsort(samples, nr, sizeof(*samples), compare);
	at = percent / 100 * (double)(nr - 1);
	below = (size_t)at;
	if (below + 1 >= nr)
		return samples[nr - 1];
	return samples[below] + (samples[below + 1] - samples[below]) * (at - (double)below);
}

static double
metric_percentile(const struct perf_metric *metric, double percent)
{
	struct perf_metric copy = *metric;

	return perf_percentile(copy.samples, copy.nr_samples, percent);
}

double
perf_median(const struct perf_metric *metric)
{
	return metric_percentile(metric, 50);
}

double
perf_least(const struct perf_metric *metric)
{
	return metric_percentile(metric, 0);
}

double
perf_most(const struct perf_metric *metric)
{
	return metric_percentile(metric, 100);
}
