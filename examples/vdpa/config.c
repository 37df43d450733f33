/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <rte_common.h>

#include "daemon.h"

/* Where in the file we are, for messages. */
struct place {
	const char *path;
	size_t index;
	const char *name; /* the device's, once it is known */
	const char *part; /* "" or "bind: " */
};

static int __rte_format_printf(2, 3) complain(const struct place *place, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", place->path);
	if (place->name != NULL)
		fprintf(stderr, "device %s: %s", place->name, place->part);
	else
		fprintf(stderr, "devices[%zu]: ", place->index);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return -EINVAL;
}

/* The text of a value as key=value has it; NULL: this kind of value has none. */
static const char *
value_text(const json_t *value, char *buffer, size_t size)
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "on" : "off";
	if (!json_is_integer(value))
		return NULL;
	snprintf(buffer, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	return buffer;
}

static int
append(const struct place *place, char **args, const char *key, const json_t *value)
{
	char buffer[32], *longer;
	const char *text = value_text(value, buffer, sizeof(buffer));

	if (text == NULL)
		return complain(place, "%s: expected a string, a whole number, true or false", key);
	if (strpbrk(key, ",=") != NULL)
		return complain(place, "%s: not a key: it has a comma or an equals sign", key);
	/* The class splits arguments there. */
	if (strchr(text, ',') != NULL)
		return complain(place, "%s=%s: a value with a comma is not possible", key, text);
	if (strcmp(key, "mode") == 0 && !json_is_string(value))
		return complain(
			place, "%s=%s: expected an octal string such as \"0660\"", key, text);
	if (asprintf(&longer, "%s%s%s=%s", *args, (*args)[0] != '\0' ? "," : "", key, text) < 0)
		return complain(place, "out of memory");
	free(*args);
	*args = longer;
	return 0;
}

/* Join all members of an object but those named in `not`. */
static int
join(const struct place *place, json_t *object, const char *const * not, char **args)
{
	const char *key;
	json_t *value;
	int i, rc;

	*args = strdup("");
	if (*args == NULL)
		return complain(place, "out of memory");
	json_object_foreach(object, key, value)
	{
		for (i = 0; not [i] != NULL && strcmp(key, not [i]) != 0; i++)
			;
		if (not [i] != NULL)
			continue;
		rc = append(place, args, key, value);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
get_string(const struct place *place, json_t *object, const char *key, const char **text)
{
	json_t *value = json_object_get(object, key);

	if (value == NULL)
		return complain(place, "%s: is missing", key);
	if (!json_is_string(value) || json_string_length(value) == 0)
		return complain(place, "%s: expected a string that is not empty", key);
	*text = json_string_value(value);
	return 0;
}

static int
load_bind(struct place *place, json_t *bind, struct vdpad_device_config *device)
{
	static const char *const not [] = {"driver", "standin", NULL};
	int rc;

	if (!json_is_object(bind))
		return complain(place,
			"bind: expected an object such as "
			"{\"driver\": \"vhost\", \"path\": \"/run/v0.sock\"}");
	place->part = "bind: ";
	rc = get_string(place, bind, "driver", &device->driver);
	device->path = json_string_value(json_object_get(bind, "path"));
	if (rc == 0 && json_object_get(bind, "standin") != NULL)
		rc = get_string(place, bind, "standin", &device->standin);
	return rc != 0 ? rc : join(place, bind, not, &device->bind_args);
}

static int
load_device(struct place *place, json_t *object, struct vdpad_device_config *device)
{
	static const char *const not [] = {"name", "mgmtdev", "bind", NULL};
	json_t *bind;
	int rc;

	if (!json_is_object(object))
		return complain(place, "expected an object");
	rc = get_string(place, object, "name", &device->name);
	if (rc != 0)
		return rc;
	place->name = device->name;
	rc = get_string(place, object, "mgmtdev", &device->mgmtdev);
	if (rc == 0)
		rc = join(place, object, not, &device->args);
	bind = json_object_get(object, "bind");
	if (rc == 0 && bind != NULL)
		rc = load_bind(place, bind, device);
	return rc;
}

static int
check_top(const char *path, json_t *top)
{
	const char *key;
	json_t *value;

	if (!json_is_object(top)) {
		fprintf(stderr, "%s: expected {\"devices\": [...]}\n", path);
		return -EINVAL;
	}
	json_object_foreach(top, key, value)
	{
		if (strcmp(key, "devices") != 0) {
			fprintf(stderr, "%s: %s: unknown key, expected devices\n", path, key);
			return -EINVAL;
		}
	}
	if (!json_is_array(json_object_get(top, "devices"))) {
		fprintf(stderr, "%s: devices: expected an array\n", path);
		return -EINVAL;
	}
	return 0;
}

static int
check_names(const char *path, const struct vdpad_config *config)
{
	size_t i, j;

	for (i = 0; i < config->nr_devices; i++)
		for (j = 0; j < i; j++)
			if (strcmp(config->devices[i].name, config->devices[j].name) == 0) {
				fprintf(stderr,
					"%s: devices[%zu]: name=%s: devices[%zu] has it already\n",
					path, i, config->devices[i].name, j);
				return -EINVAL;
			}
	return 0;
}

static int
check_standins(const char *path, const struct vdpad_config *config)
{
	const struct vdpad_device_config *device = config->devices, *other;
	const struct vdpad_device_config *end = config->devices + config->nr_devices;

	for (; device < end; device++) {
		if (device->standin == NULL)
			continue;
		for (other = config->devices;
			other < end && strcmp(other->name, device->standin) != 0; other++)
			;
		if (other == end || other == device || other->driver != NULL) {
			fprintf(stderr, "%s: device %s: bind: standin=%s: %s\n", path, device->name,
				device->standin,
				other == end              ? "there is no such device"
					: other == device ? "a device cannot stand in for itself"
							  : "it has a front end of its own");
			return -EINVAL;
		}
	}
	return 0;
}

static int
load_devices(const char *path, struct vdpad_config *config)
{
	json_t *array = json_object_get(config->json, "devices"), *object;
	size_t i;
	int rc;

	config->devices = calloc(json_array_size(array) + 1, sizeof(*config->devices));
	if (config->devices == NULL) {
		fprintf(stderr, "%s: out of memory\n", path);
		return -ENOMEM;
	}
	json_array_foreach(array, i, object)
	{
		struct place place = {.path = path, .index = i, .part = ""};

		config->nr_devices++;
		rc = load_device(&place, object, &config->devices[i]);
		if (rc != 0)
			return rc;
	}
	rc = check_names(path, config);
	return rc != 0 ? rc : check_standins(path, config);
}

int
vdpad_config_load(const char *path, struct vdpad_config *config)
{
	json_error_t error;
	int rc;

	memset(config, 0, sizeof(*config));
	config->json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (config->json == NULL && error.line <= 0) {
		fprintf(stderr, "%s: %s\n", path, error.text);
		return -EINVAL;
	}
	if (config->json == NULL) {
		fprintf(stderr, "%s: line %d, column %d: %s\n", path, error.line, error.column,
			error.text);
		return -EINVAL;
	}
	rc = check_top(path, config->json);
	if (rc == 0)
		rc = load_devices(path, config);
	if (rc != 0)
		vdpad_config_free(config);
	return rc;
}

void
vdpad_config_free(struct vdpad_config *config)
{
	size_t i;

	for (i = 0; i < config->nr_devices; i++) {
		free(config->devices[i].args);
		free(config->devices[i].bind_args);
	}
	free(config->devices);
	json_decref(config->json);
	memset(config, 0, sizeof(*config));
}
