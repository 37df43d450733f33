/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef FDS_H
#define FDS_H

/**
 * @file
 * Descriptors of a test. For cmocka programs, after its headers.
 */

#include <dirent.h>

/** How many this process has open, and a few more: for comparing. */
static inline unsigned int
nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		nr++;
	closedir(dir);
	return nr;
}

#endif /* FDS_H */
