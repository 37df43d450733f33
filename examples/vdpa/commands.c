/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmdline_parse_string.h>

#include "commands.h"
#include "daemon.h"

static bool connects;

/* What a line is parsed into. */
struct words {
	cmdline_fixed_string_t verb;
	cmdline_fixed_string_t first;
	cmdline_fixed_string_t second;
	cmdline_fixed_string_t third;
	cmdline_fixed_string_t to;
	cmdline_multi_string_t rest;
};

/* ---- a word that is one of a changing list: taken as it is, completed from the list ---- */

struct token_word {
	struct cmdline_token_hdr hdr;
	/* The word of this number, NULL beyond the last; valid until the next call. */
	const char *(*word)(size_t i);
	const char *help;
};

static int
word_parse(cmdline_parse_token_hdr_t *token, const char *text, void *result, unsigned int size)
{
	unsigned int len = 0;

	(void)token;
	while (!cmdline_isendoftoken(text[len]))
		len++;
	if (len == 0 || len >= STR_TOKEN_SIZE)
		return -1;
	if (result == NULL)
		return len;
	if (len >= size)
		return -1;
	memcpy(result, text, len);
	((char *)result)[len] = '\0';
	return len;
}

static int
word_count(cmdline_parse_token_hdr_t *token)
{
	const struct token_word *self = (const struct token_word *)token;
	int nr = 0;

	while (self->word(nr) != NULL)
		nr++;
	return nr;
}

static int
word_get(cmdline_parse_token_hdr_t *token, int i, char *out, unsigned int size)
{
	const struct token_word *self = (const struct token_word *)token;
	const char *word = self->word(i);

	if (word == NULL)
		return -1;
	return snprintf(out, size, "%s", word) < (int)size ? 0 : -1;
}

static int
word_help(cmdline_parse_token_hdr_t *token, char *out, unsigned int size)
{
	snprintf(out, size, "%s", ((const struct token_word *)token)->help);
	return 0;
}

static struct cmdline_token_ops word_ops = {
	.parse = word_parse,
	.complete_get_nb = word_count,
	.complete_get_elt = word_get,
	.get_help = word_help,
};

static const char *
device_word(size_t i)
{
	struct vdpa_device **devices;
	const char *name;
	size_t nr_devices;

	devices = vdpad_devices(&nr_devices);
	name = i < nr_devices ? devices[i]->name : NULL; /* lives as long as the device */
	free(devices);
	return name;
}

static const char *
relay_word(size_t i)
{
	return vdpa_relay_name(i);
}

#define WORD(field, from, what)                                                                   \
	{                                                                                         \
		.hdr = {.ops = &word_ops, .offset = offsetof(struct words, field)}, .word = from, \
		.help = what                                                                      \
	}

static struct token_word device_first = WORD(first, device_word, "name of a device");
static struct token_word device_second = WORD(second, device_word, "name of a device");
static const char *
standin_word(size_t i)
{
	return i == 0 ? "off" : device_word(i - 1);
}

static struct token_word relay_second = WORD(second, relay_word, "auto, always or off");
static struct token_word bound_first = WORD(
	first, vdpad_binding_word, "name of a device, or a socket's path");

static struct token_word queue_third = WORD(third, vdpad_queue_word, "queue, as rx0 or 4");
static struct token_word worker_rest = WORD(rest, vdpad_worker_word, "number of a worker");
static struct token_word key_second = WORD(second, vdpad_set_key_word, "what to change");
static struct token_word value_third = WORD(third, vdpad_set_value_word, "its new value");

static cmdline_parse_token_string_t help_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "help");
static cmdline_parse_token_string_t list_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "list");
static cmdline_parse_token_string_t create_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "create");
static cmdline_parse_token_string_t delete_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "delete");
static cmdline_parse_token_string_t stats_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "stats");
static cmdline_parse_token_string_t relay_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "relay");
static cmdline_parse_token_string_t set_verb = TOKEN_STRING_INITIALIZER(struct words, verb, "set");
static cmdline_parse_token_string_t capture_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "capture");
static cmdline_parse_token_string_t words_rest = TOKEN_STRING_INITIALIZER(
	struct words, rest, TOKEN_STRING_MULTI);
static cmdline_parse_token_string_t worker_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "worker");
static cmdline_parse_token_string_t move_first = TOKEN_STRING_INITIALIZER(
	struct words, first, "move");
static struct token_word device_third = WORD(third, device_word, "name of a device");
static struct token_word standin_third = WORD(third, standin_word, "name of a device, or off");
static cmdline_parse_token_string_t swap_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "swap");
static cmdline_parse_token_string_t standin_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "standin");
static cmdline_parse_token_string_t to_word = TOKEN_STRING_INITIALIZER(struct words, to, "to");
static cmdline_parse_token_string_t quit_verb = TOKEN_STRING_INITIALIZER(
	struct words, verb, "quit");
static cmdline_parse_token_string_t socket_first = TOKEN_STRING_INITIALIZER(
	struct words, first, NULL);

/* ---- commands ---- */

static int
find_set_keys(struct vdpa_mgmtdev *mgmtdev, void *arg)
{
	*(const char **)arg = mgmtdev->set_keys;
	return mgmtdev->set_keys != NULL;
}

static const char *
set_keys(void)
{
	const char *keys = NULL;

	vdpa_mgmtdev_foreach(find_set_keys, &keys);
	return keys != NULL ? keys : "nothing can be";
}

static void
do_help(void *parsed, struct cmdline *cl, void *arg)
{
	(void)parsed;
	(void)arg;
	cmdline_printf(cl,
		"help                      this text\n"
		"list                      devices: front end, features, state, mode, error\n"
		"create <socket> <device>  %s\n"
		"delete <device|socket>    undo that; a front end loses its connection\n"
		"stats [device]            frames, bytes and drops of each queue\n"
		"relay <device> <when>     put it on shadow rings: auto, always or off\n"
		"set <device> <key> <value> [<key> <value>...]\n"
		"                          change it: %s\n"
		"capture <device> <file> [snaplen <bytes>]\n"
		"capture <device> off      its frames into a pcapng file, until off\n"
		"worker                    datapath workers: CPU, paths, how busy, state\n"
		"worker move <device> <queue> <worker>\n"
		"                          have another worker work on a queue (rx0, 1)\n"
		"swap <device> to <device> move the front end to another device, under traffic\n"
		"standin <device> to <device>|off\n"
		"                          who takes over when it fails\n"
		"quit                      stop all devices and leave\n",
		connects ? "connect a device to a socket that its front end listens on"
			 : "let front ends connect to a device at a socket",
		set_keys());
}

static void
do_list(void *parsed, struct cmdline *cl, void *arg)
{
	(void)parsed;
	(void)arg;
	vdpad_show_list(cl);
}

static struct vdpa_device *
find_device(struct cmdline *cl, const char *name)
{
	struct vdpa_device *dev = vdpa_device_find(name);

	if (dev == NULL)
		cmdline_printf(
			cl, "error: %s: no such device; `list` shows those there are\n", name);
	return dev;
}

static void
do_create(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->second);

	(void)arg;
	if (dev == NULL)
		return;
	if (vdpad_bind_socket(dev, words->first, connects) != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s is bound to %s\n", words->second, words->first);
}

static void
do_delete(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;

	(void)arg;
	if (vdpad_unbind(words->first) != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s is not bound any more\n", words->first);
}

static void
do_stats(void *parsed, struct cmdline *cl, void *arg)
{
	(void)parsed;
	(void)arg;
	vdpad_show_stats(cl, NULL);
}

static void
do_stats_device(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);

	(void)arg;
	if (dev != NULL)
		vdpad_show_stats(cl, dev);
}

static int
relay_policy(const char *text, enum vdpa_relay_policy *relay)
{
	for (unsigned int i = 0; vdpa_relay_name(i) != NULL; i++)
		if (strcmp(text, vdpa_relay_name(i)) == 0) {
			*relay = i;
			return 0;
		}
	return -EINVAL;
}

static void
do_relay(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);
	enum vdpa_relay_policy relay;

	(void)arg;
	if (dev == NULL)
		return;
	if (relay_policy(words->second, &relay) != 0)
		cmdline_printf(cl, "error: relay %s: auto, always or off\n", words->second);
	else if (vdpa_device_relay_set(dev, relay) != 0)
		cmdline_printf(cl, "error: %s\n", vdpa_error_text());
	else
		cmdline_printf(cl, "%s: relay %s\n", words->first, words->second);
}

static void
do_set(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);

	(void)arg;
	if (dev != NULL)
		vdpad_change(cl, dev, words->second, words->third, "");
}

static void
do_set_more(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);

	(void)arg;
	if (dev != NULL)
		vdpad_change(cl, dev, words->second, words->third, words->rest);
}

static void
do_capture(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);

	(void)arg;
	if (dev != NULL)
		vdpad_capture(cl, dev, words->rest);
}

static void
do_worker(void *parsed, struct cmdline *cl, void *arg)
{
	(void)parsed;
	(void)arg;
	vdpad_show_workers(cl);
}

static void
do_worker_move(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->second);

	(void)arg;
	if (dev != NULL)
		vdpad_move(cl, dev, words->third, words->rest);
}

static void
do_swap(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *from = find_device(cl, words->first);
	struct vdpa_device *to = from != NULL ? find_device(cl, words->third) : NULL;

	(void)arg;
	if (to != NULL)
		vdpad_swap(cl, from, to);
}

static void
do_standin(void *parsed, struct cmdline *cl, void *arg)
{
	const struct words *words = parsed;
	struct vdpa_device *dev = find_device(cl, words->first);

	(void)arg;
	if (dev != NULL)
		vdpad_standin(cl, dev, words->third);
}

static void
do_quit(void *parsed, struct cmdline *cl, void *arg)
{
	(void)parsed;
	(void)cl;
	(void)arg;
	vdpad_stop();
}

#define TOKEN(token) ((void *)&(token))

static cmdline_parse_inst_t help_inst = {
	.f = do_help, .help_str = "help: commands", .tokens = {TOKEN(help_verb), NULL}};
static cmdline_parse_inst_t list_inst = {
	.f = do_list, .help_str = "list: devices", .tokens = {TOKEN(list_verb), NULL}};
static cmdline_parse_inst_t create_inst = {.f = do_create,
	.help_str = "create <socket> <device>",
	.tokens = {TOKEN(create_verb), TOKEN(socket_first), TOKEN(device_second), NULL}};
static cmdline_parse_inst_t delete_inst = {.f = do_delete,
	.help_str = "delete <device|socket>",
	.tokens = {TOKEN(delete_verb), TOKEN(bound_first), NULL}};
static cmdline_parse_inst_t stats_inst = {
	.f = do_stats, .help_str = "stats: all devices", .tokens = {TOKEN(stats_verb), NULL}};
static cmdline_parse_inst_t stats_device_inst = {.f = do_stats_device,
	.help_str = "stats <device>",
	.tokens = {TOKEN(stats_verb), TOKEN(device_first), NULL}};
static cmdline_parse_inst_t relay_inst = {.f = do_relay,
	.help_str = "relay <device> auto|always|off",
	.tokens = {TOKEN(relay_verb), TOKEN(device_first), TOKEN(relay_second), NULL}};
static cmdline_parse_inst_t set_inst = {.f = do_set,
	.help_str = "set <device> <key> <value>",
	.tokens = {
		TOKEN(set_verb), TOKEN(device_first), TOKEN(key_second), TOKEN(value_third), NULL}};
static cmdline_parse_inst_t set_more_inst = {.f = do_set_more,
	.help_str = "set <device> <key> <value> <key> <value>...",
	.tokens = {TOKEN(set_verb), TOKEN(device_first), TOKEN(key_second), TOKEN(value_third),
		TOKEN(words_rest), NULL}};
static cmdline_parse_inst_t capture_inst = {.f = do_capture,
	.help_str = "capture <device> <file> [snaplen <bytes>], capture <device> off",
	.tokens = {TOKEN(capture_verb), TOKEN(device_first), TOKEN(words_rest), NULL}};
static cmdline_parse_inst_t worker_inst = {.f = do_worker,
	.help_str = "worker: datapath workers",
	.tokens = {TOKEN(worker_verb), NULL}};
static cmdline_parse_inst_t worker_move_inst = {.f = do_worker_move,
	.help_str = "worker move <device> <queue> <worker>",
	.tokens = {TOKEN(worker_verb), TOKEN(move_first), TOKEN(device_second), TOKEN(queue_third),
		TOKEN(worker_rest), NULL}};
static cmdline_parse_inst_t swap_inst = {.f = do_swap,
	.help_str = "swap <device> to <device>",
	.tokens = {
		TOKEN(swap_verb), TOKEN(device_first), TOKEN(to_word), TOKEN(device_third), NULL}};
static cmdline_parse_inst_t standin_inst = {.f = do_standin,
	.help_str = "standin <device> to <device>|off",
	.tokens = {TOKEN(standin_verb), TOKEN(device_first), TOKEN(to_word), TOKEN(standin_third),
		NULL}};
static cmdline_parse_inst_t quit_inst = {
	.f = do_quit, .help_str = "quit: stop and leave", .tokens = {TOKEN(quit_verb), NULL}};

static cmdline_parse_ctx_t commands[] = {&help_inst, &list_inst, &create_inst, &delete_inst,
	&stats_inst, &stats_device_inst, &relay_inst, &set_inst, &set_more_inst, &capture_inst,
	&worker_inst, &worker_move_inst, &swap_inst, &standin_inst, &quit_inst, NULL};

cmdline_parse_ctx_t *
vdpad_commands(bool client)
{
	connects = client;
	return commands;
}
