/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* main() of a fuzz target that is built without libFuzzer: runs each file of a corpus once. */

#include <dirent.h>
#include <stdio.h>

#include "fuzz.h"

#define INPUT_MAX 65536

static int
replay(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX), *exact;
	FILE *file = fopen(path, "rb");
	size_t size = 0;

	if (data != NULL && file != NULL)
		size = fread(data, 1, INPUT_MAX, file);
	exact = malloc(size != 0 ? size : 1); /* what is read behind its end is found */
	if (data == NULL || file == NULL || exact == NULL) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return 1;
	}
	fclose(file);
	memcpy(exact, data, size);
	free(data);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned int nr = 0;
	struct dirent *entry;
	char path[4096];
	DIR *dir;

	if (argc != 2 || (dir = opendir(argv[1])) == NULL) {
		fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		if (replay(path) != 0)
			return 1;
		nr++;
	}
	closedir(dir);
	printf("%u inputs\n", nr);
	return nr > 0 ? 0 : 1;
}
