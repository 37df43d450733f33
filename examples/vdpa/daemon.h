/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef DAEMON_H
#define DAEMON_H

/**
 * @file
 * dpdk-vdpa, the daemon: makes devices, binds them to sockets, serves until told to stop.
 *
 *   main.c      start, wait, stop             options.c   command line
 *   config.c    the configuration file        bindings.c  devices and bindings that we made
 *   events.c    log lines for an operator     signals.c   the way to stop
 *   prompt.c    --interactive: input          commands.c  --interactive: what is understood
 *   swap.c      --interactive: live swap
 *   show.c      --interactive: answers         change.c    --interactive: settings of devices
 *
 * All of it runs on the main thread, which is the class's management thread, but for the listener
 * of events.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <rte_log.h>

#include "vdpa_consumer.h"

/** What main() returns. */
enum vdpad_exit {
	VDPAD_EXIT_OK = 0,
	VDPAD_EXIT_FAILED = 1,		/**< it did not start; nothing was left behind */
	VDPAD_EXIT_USAGE = 2,		/**< a wrong option */
	VDPAD_EXIT_FENCED = 3,		/**< it stopped, but a device hung and was fenced */
};

/** @name Command line (options.c)
 * @{
 */
struct vdpad_options {
	const char *config;		/**< NULL: none; so for the others */
	const char *iface;
	const char *workers;
	enum vdpa_worker_idle idle;
	bool client;
	bool interactive;
};

/**
 * Read all arguments: what stands after `--` are the daemon's own, what stands before are EAL's.
 *
 * @return 0: go on. 1: --help or --version was answered. -EINVAL: told on stderr.
 */
int vdpad_options_parse(int argc, char **argv, struct vdpad_options *options);
/** The word of --worker-idle. */
const char *vdpad_idle_name(enum vdpa_worker_idle idle);
/** @} */

/** @name Configuration file (config.c)
 * @{
 */
/** One device of it. All strings are the configuration's. */
struct vdpad_device_config {
	const char *name;
	const char *mgmtdev;
	char *args;			/**< "key=value,..." for dev_add */
	const char *driver;		/**< bus driver, NULL: not bound */
	char *bind_args;		/**< "key=value,..." for bind */
	const char *path;		/**< of the socket, NULL: this driver has none */
	const char *standin;		/**< who takes over when it fails, NULL: nobody */
};
struct vdpad_config {
	void *json;
	struct vdpad_device_config *devices;
	size_t nr_devices;
};

/** Read and check a file; nothing is made. @return 0, or a negative errno told on stderr. */
int vdpad_config_load(const char *path, struct vdpad_config *config);
void vdpad_config_free(struct vdpad_config *config);
/** @} */

/** @name Devices and bindings (bindings.c)
 * Errors are told by vdpa_error_text().
 * @{
 */
/** Whether every vDPA device that EAL was asked for is there. */
int vdpad_eal_devices_check(void);
/**
 * Make and bind what a configuration says. Errors are told on stderr; what was made until then is
 * undone by vdpad_bindings_close().
 */
int vdpad_config_apply(const struct vdpad_config *config, const char *path);
/** Bind each device that has no binding yet, in order of creation, to PREFIX0, PREFIX1, ... */
int vdpad_iface_apply(const char *prefix, bool client);
/** Bind a device to a vhost-user socket. */
int vdpad_bind_socket(struct vdpa_device *dev, const char *path, bool client);
/** Undo that; what is a device's name or a socket's path. -ENOENT: neither. */
int vdpad_unbind(const char *what);
/** Number of bindings made. */
size_t vdpad_nr_bindings(void);
/** Name of device (or, odd i, path of socket) i / 2 that is bound; NULL beyond the last. */
const char *vdpad_binding_word(size_t i);
/**
 * Stop and take back everything, all devices in parallel.
 * @return number of devices that hang; then nothing of theirs may be freed: leave by _exit().
 */
int vdpad_bindings_close(void);
/** The devices there are, in order; an array to free(), NULL: none, or no memory. */
struct vdpa_device **vdpad_devices(size_t *nr_devices);
/** @} */

/** @name Log (events.c)
 * @{
 */
extern int vdpad_logtype;
#define VDPAD_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, vdpad_logtype, "dpdk-vdpa: " fmt "\n", ##__VA_ARGS__)
/** Log what happens to devices; lower librte_vhost's own log unless the user set its level. */
void vdpad_events_start(int argc, char **argv);
/** @} */

/** @name Signals (signals.c)
 * @{
 */
/**
 * Take SIGINT, SIGTERM and SIGHUP: the first one makes the descriptor readable, the second ends the
 * process at once.
 */
int vdpad_signals_start(void);
/** Descriptor to wait for. */
int vdpad_stop_fd(void);
/** Ask for the stop without a signal. */
void vdpad_stop(void);
bool vdpad_stopping(void);
/** @} */

/** @name Prompt (prompt.c)
 * @{
 */
/** Prepare standard input: a terminal gets editing, history, completion; all else plain lines. */
int vdpad_prompt_open(bool client);
/** Take what standard input has. @return false: it has ended. */
bool vdpad_prompt_read(void);
void vdpad_prompt_close(void);
/** Give the terminal back as it was. Async-signal-safe. */
void vdpad_prompt_restore(void);
/** @} */

#endif /* DAEMON_H */
