/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"

/* ---- words that complete: keys and values of what management devices take ---- */

struct search {
	size_t left; /* words before the wanted one */
	char *out;
	size_t size;
	bool values;
	bool found;
};

static bool
take_word(struct search *search, const char *word, size_t len)
{
	if (search->left-- > 0)
		return false;
	snprintf(search->out, search->size, "%.*s", (int)len, word);
	search->found = true;
	return true;
}

/* "up|down": words to choose from; anything else is not known beforehand. */
static bool
take_values(struct search *search, const char *value, size_t len)
{
	const char *end = value + len;

	if (memchr(value, '|', len) == NULL)
		return false;
	while (value < end) {
		const char *bar = memchr(value, '|', end - value);
		size_t part = (bar != NULL ? bar : end) - value;

		if (take_word(search, value, part))
			return true;
		value += part + 1;
	}
	return false;
}

/* "key=a|b,key=MAC" */
static int
search_keys(struct vdpa_mgmtdev *mgmtdev, void *arg)
{
	const char *at = mgmtdev->set_keys != NULL ? mgmtdev->set_keys : "";
	struct search *search = arg;

	while (*at != '\0' && !search->found) {
		size_t len = strcspn(at, ","), key = strcspn(at, "=");

		if (!search->values)
			take_word(search, at, key);
		else if (key < len)
			take_values(search, at + key + 1, len - key - 1);
		at += len;
		at += *at == ',';
	}
	return search->found;
}

static const char *
word(size_t i, bool values)
{
	static char text[64]; /* the prompt has one thread */
	struct search search = {.left = i, .out = text, .size = sizeof(text), .values = values};

	vdpa_mgmtdev_foreach(search_keys, &search);
	return search.found ? text : NULL;
}

const char *
vdpad_set_key_word(size_t i)
{
	return word(i, false);
}

const char *
vdpad_set_value_word(size_t i)
{
	return word(i, true);
}

/* ---- commands ---- */

/* A word that becomes half of key=value,key=value. */
static int
append(char *args, size_t size, const char *text, char after)
{
	size_t used = strlen(args);

	if (text[strcspn(text, ",=")] != '\0')
		return vdpa_error_set(-EINVAL, "%s: must not contain ',' or '='", text);
	if ((size_t)snprintf(args + used, size - used, "%s%c", text, after) >= size - used)
		return vdpa_error_set(-EINVAL, "more than %zu bytes of keys and values", size - 1);
	return 0;
}

void
vdpad_change(const struct cmdline *cl, struct vdpa_device *dev, const char *key, const char *value,
	const char *rest)
{
	char args[1024] = "", words[1024], *save = NULL, *next;
	int rc = append(args, sizeof(args), key, '=');

	if (rc == 0)
		rc = append(args, sizeof(args), value, ',');
	snprintf(words, sizeof(words), "%s", rest);
	for (next = strtok_r(words, " \t", &save); next != NULL && rc == 0;
		next = strtok_r(NULL, " \t", &save)) {
		const char *second = strtok_r(NULL, " \t", &save);

		rc = append(args, sizeof(args), next, '=');
		if (rc == 0 && second == NULL)
			rc = vdpa_error_set(-EINVAL, "%s: expected a value behind it", next);
		if (rc == 0)
			rc = append(args, sizeof(args), second, ',');
	}
	if (rc == 0) {
		args[strlen(args) - 1] = '\0';
		rc = vdpa_device_set(dev, args);
	}
	if (rc != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s: %s\n", dev->name, args);
}

void
vdpad_capture(const struct cmdline *cl, struct vdpa_device *dev, const char *words)
{
	size_t bytes = strcspn(words, " \t");
	char file[512];

	if (bytes >= sizeof(file)) {
		cmdline_printf(
			cl, "error: a file's name has at most %zu bytes here\n", sizeof(file) - 1);
		return;
	}
	memcpy(file, words, bytes);
	file[bytes] = '\0';
	vdpad_change(cl, dev, "capture", file, words + bytes);
}
