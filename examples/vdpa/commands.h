/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdbool.h>

#include <cmdline.h>
#include <cmdline_parse.h>

#include "vdpa_consumer.h"

/** The commands of --interactive. client: `create` connects in place of listening. */
cmdline_parse_ctx_t *vdpad_commands(bool client);

/** Answer `set`: one key and value, and perhaps more of them in rest. */
void vdpad_change(const struct cmdline *cl, struct vdpa_device *dev, const char *key,
	const char *value, const char *rest);
/** Answer `capture`: words are a file, or "off", and perhaps more keys and values. */
void vdpad_capture(const struct cmdline *cl, struct vdpa_device *dev, const char *words);
/** Answer `swap` and `standin` (swap.c). */
void vdpad_swap(const struct cmdline *cl, struct vdpa_device *from, struct vdpa_device *to);
void vdpad_standin(const struct cmdline *cl, struct vdpa_device *dev, const char *standin);
/** Key or value number i that `set` takes; NULL beyond the last. Valid until the next call. */
const char *vdpad_set_key_word(size_t i);
const char *vdpad_set_value_word(size_t i);

/** Answer `worker`. */
void vdpad_show_workers(const struct cmdline *cl);
/** Answer `worker move`. */
void vdpad_move(const struct cmdline *cl, struct vdpa_device *dev, const char *queue,
	const char *worker);
/** Worker or queue number i that `worker move` takes; NULL beyond the last. Until the next call. */
const char *vdpad_worker_word(size_t i);
const char *vdpad_queue_word(size_t i);

/** Answer `list`. */
void vdpad_show_list(const struct cmdline *cl);
/** Answer `stats`. */
void vdpad_show_stats(const struct cmdline *cl, struct vdpa_device *dev);

#endif /* COMMANDS_H */
