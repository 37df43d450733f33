/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_kvargs.h>

#include "vdpa_parent.h"

static _Thread_local char error_text[512];

const char *
vdpa_error_text(void)
{
	return error_text;
}

int
vdpa_error_set(int error, const char *format, ...)
{
	char text[sizeof(error_text)];
	va_list ap;

	/* the arguments may contain the former text */
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	memcpy(error_text, text, sizeof(text));
	return error;
}

/* A whole number in the given base and nothing else; strtoull alone takes blanks and signs. */
static bool
parse_number(const char *text, int base, uint64_t *out)
{
	char *end;

	if (!isxdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*out = strtoull(text, &end, base);
	return errno == 0 && *end == '\0';
}

int
vdpa_arg_uint(const char *key, const char *value, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t number;

	if (!parse_number(value, 10, &number) || number < min || number > max)
		return vdpa_error_set(-EINVAL,
			"%s=%s: expected a number from %" PRIu64 " to %" PRIu64, key, value, min,
			max);
	*out = number;
	return 0;
}

int
vdpa_arg_hex(const char *key, const char *value, uint64_t allowed, uint64_t *out)
{
	uint64_t mask;

	if (!parse_number(value, 16, &mask))
		return vdpa_error_set(-EINVAL,
			"%s=%s: expected a hexadecimal mask within 0x%" PRIx64, key, value,
			allowed);
	if ((mask & ~allowed) != 0)
		return vdpa_error_set(-EINVAL,
			"%s=%s: bits 0x%" PRIx64 " are not offered, allowed: 0x%" PRIx64, key,
			value, mask & ~allowed, allowed);
	*out = mask;
	return 0;
}

int
vdpa_arg_bool(const char *key, const char *value, bool *out)
{
	static const char *const choices[] = {"off", "on", NULL};
	unsigned int choice;
	int rc = vdpa_arg_choice(key, value, choices, &choice);

	if (rc == 0)
		*out = choice == 1;
	return rc;
}

int
vdpa_arg_mac(const char *key, const char *value, uint8_t mac[6])
{
	uint8_t bytes[6];
	int end = -1;

	if (sscanf(value,
		    "%2" SCNx8 ":%2" SCNx8 ":%2" SCNx8 ":%2" SCNx8 ":%2" SCNx8 ":%2" SCNx8 "%n",
		    &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5], &end) != 6 ||
		end != 17 || value[end] != '\0')
		return vdpa_error_set(-EINVAL,
			"%s=%s: expected a MAC address like 02:00:00:00:00:01", key, value);
	if ((bytes[0] & 1) != 0 ||
		(bytes[0] | bytes[1] | bytes[2] | bytes[3] | bytes[4] | bytes[5]) == 0)
		return vdpa_error_set(-EINVAL,
			"%s=%s: expected a unicast MAC address, not a group or zero", key, value);
	memcpy(mac, bytes, sizeof(bytes));
	return 0;
}

/* "a, b, c" of a list, for messages. */
static const char *
join(const char *const *words, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0; words[i] != NULL && used < size; i++)
		used += snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", words[i]);
	return text;
}

int
vdpa_arg_choice(const char *key, const char *value, const char *const *choices, unsigned int *out)
{
	char allowed[256];

	for (unsigned int i = 0; choices[i] != NULL; i++) {
		if (strcmp(choices[i], value) == 0) {
			*out = i;
			return 0;
		}
	}
	return vdpa_error_set(-EINVAL, "%s=%s: expected one of %s", key, value,
		join(choices, allowed, sizeof(allowed)));
}

int
vdpa_args_parse(const char *args, const char *const *keys,
	int (*fn)(const char *key, const char *value, void *arg), void *arg)
{
	struct rte_kvargs *list;
	char allowed[384];
	int rc = 0;

	if (args == NULL || args[0] == '\0')
		return 0;
	join(keys, allowed, sizeof(allowed));
	list = rte_kvargs_parse(args, NULL);
	if (list == NULL)
		return vdpa_error_set(
			-EINVAL, "'%s': expected KEY=VALUE,KEY=VALUE with keys %s", args, allowed);
	for (unsigned int i = 0; i < list->count && rc == 0; i++) {
		const char *key = list->pairs[i].key;
		const char *value = list->pairs[i].value;
		unsigned int k;

		for (k = 0; keys[k] != NULL && strcmp(keys[k], key) != 0; k++)
			;
		if (keys[k] == NULL)
			rc = vdpa_error_set(-EINVAL, "%s=%s: unknown key, expected one of %s", key,
				value != NULL ? value : "", allowed);
		else if (rte_kvargs_count(list, key) > 1)
			rc = vdpa_error_set(
				-EINVAL, "%s: given %u times", key, rte_kvargs_count(list, key));
		else if (value == NULL || value[0] == '\0')
			rc = vdpa_error_set(-EINVAL, "%s: expected %s=VALUE", key, key);
		else
			rc = fn(key, value, arg);
	}
	rte_kvargs_free(list);
	return rc;
}
