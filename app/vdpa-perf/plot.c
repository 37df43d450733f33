/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <string.h>

#include "perf.h"

#define LEFT      220 /* labels end here */
#define BAR_MOST  400
#define BAR_HIGH  16
#define LINE_HIGH 22
#define WIDTH     (LEFT + BAR_MOST + 120)

/* Text whose <, > and & are told as SVG wants it. */
static void
put_text(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '&')
			fputs("&amp;", out);
		else
			fputc(*text, out);
	}
}

static const struct perf_metric *
metric_find(const struct perf_row *row, const char *name)
{
	for (unsigned int i = 0; i < row->nr_metrics; i++)
		if (strcmp(row->metrics[i].name, name) == 0)
			return &row->metrics[i];
	return NULL;
}

static double
highest(const struct perf_result *result, const char *name)
{
	double most = 0;

	for (unsigned int r = 0; r < result->nr_rows; r++) {
		const struct perf_metric *m = metric_find(&result->rows[r], name);

		if (m != NULL && perf_median(m) > most)
			most = perf_median(m);
	}
	return most;
}

static void
put_bar(FILE *out, const char *label, const struct perf_metric *m, double most, int y)
{
	double value = perf_median(m);
	int width = most > 0 && value > 0 ? (int)(value / most * BAR_MOST) : 0;

	fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 8, y + 12);
	put_text(out, label);
	fprintf(out, "</text>\n<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", LEFT, y,
		width, BAR_HIGH);
	fprintf(out, "<text x=\"%d\" y=\"%d\">%.4g</text>\n", LEFT + width + 6, y + 12, value);
}

/* All rows' bars of one metric. @return where the next may begin */
static int
put_metric(FILE *out, const struct perf_result *result, const struct perf_metric *like, int y)
{
	double most = highest(result, like->name);

	fprintf(out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">", LEFT, y + 12);
	put_text(out, like->name);
	fprintf(out, " (");
	put_text(out, like->unit);
	fprintf(out, ")</text>\n");
	y += LINE_HIGH;
	for (unsigned int r = 0; r < result->nr_rows; r++) {
		const struct perf_metric *m = metric_find(&result->rows[r], like->name);

		if (m == NULL)
			continue;
		put_bar(out, result->rows[r].label, m, most, y);
		y += LINE_HIGH;
	}
	return y + LINE_HIGH / 2;
}

/* Is this row the first that has the metric? */
static bool
is_first(const struct perf_result *result, unsigned int row, const char *name)
{
	for (unsigned int r = 0; r < row; r++)
		if (metric_find(&result->rows[r], name) != NULL)
			return false;
	return true;
}

int
perf_plot(const struct perf_result *result, const char *path)
{
	unsigned int nr_lines = 1;
	FILE *out = fopen(path, "w");
	int y = LINE_HIGH / 2;

	if (out == NULL)
		return -errno;
	for (unsigned int r = 0; r < result->nr_rows; r++)
		nr_lines += 3 * result->rows[r].nr_metrics;
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n<style>rect{fill:#4477aa}</style>\n",
		WIDTH, nr_lines * LINE_HIGH);
	for (unsigned int r = 0; r < result->nr_rows; r++)
		for (unsigned int i = 0; i < result->rows[r].nr_metrics; i++)
			if (is_first(result, r, result->rows[r].metrics[i].name))
				y = put_metric(out, result, &result->rows[r].metrics[i], y);
	fputs("</svg>\n", out);
	return fclose(out) == 0 ? 0 : -errno;
}
