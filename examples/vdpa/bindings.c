/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_devargs.h>

#include "daemon.h"

/* What was made for one binding, whatever device serves it now. */
struct entry {
	struct vdpa_binding *binding;
	struct vdpa_bus_driver *driver; /* bound by it, or NULL */
	char *path;                     /* the socket, or NULL */
	bool listens;                   /* on it: the file is ours */
	bool hung;
};

static struct entry *entries;
static size_t nr_entries;

static const char *
entry_name(const struct entry *entry)
{
	return vdpa_binding_device(entry->binding)->name;
}

static struct entry *
entry_find(const char *name)
{
	size_t i;

	for (i = 0; i < nr_entries; i++)
		if (strcmp(entry_name(&entries[i]), name) == 0)
			return &entries[i];
	return NULL;
}

static struct entry *
entry_get(struct vdpa_device *dev)
{
	struct entry *entry = entry_find(dev->name);
	struct vdpa_binding *binding = vdpa_device_binding(dev);

	if (entry != NULL || binding == NULL)
		return entry;
	entry = reallocarray(entries, nr_entries + 1, sizeof(*entries));
	if (entry == NULL)
		return NULL;
	entries = entry;
	entry = &entries[nr_entries++];
	*entry = (struct entry){.binding = binding};
	return entry;
}

/* ---- what there is ---- */

struct list {
	struct vdpa_device **devices;
	size_t nr;
};

static int
list_add(struct vdpa_device *dev, void *arg)
{
	struct list *list = arg;
	struct vdpa_device **longer = reallocarray(list->devices, list->nr + 1, sizeof(*longer));

	if (longer == NULL)
		return -ENOMEM;
	list->devices = longer;
	longer[list->nr++] = dev;
	return 0;
}

struct vdpa_device **
vdpad_devices(size_t *nr_devices)
{
	struct list list = {0};

	if (vdpa_device_foreach(list_add, &list) != 0) {
		free(list.devices);
		list = (struct list){0};
	}
	*nr_devices = list.nr;
	return list.devices;
}

int
vdpad_eal_devices_check(void)
{
	struct rte_devargs *devargs;
	const char *why = vdpa_error_text();

	/* EAL goes on when a device of its list cannot be made; we do not. */
	RTE_EAL_DEVARGS_FOREACH("vdev", devargs)
	{
		if (strncmp(devargs->name, "vdpa_", 5) != 0 ||
			vdpa_device_find(devargs->name) != NULL)
			continue;
		return vdpa_error_set(-ENODEV, "--vdev %s: was not made: %s", devargs->name,
			why[0] != '\0' ? why : "no driver has a name that this begins with");
	}
	return 0;
}

/* ---- bind ---- */

static int
bind_device(struct vdpa_device *dev, const char *driver_name, const char *args, const char *path)
{
	struct vdpa_bus_driver *driver = vdpa_bus_driver_find(driver_name);
	struct entry *entry;
	int rc;

	if (driver == NULL)
		return vdpa_error_set(
			-EINVAL, "driver=%s: no such bus driver, expected vhost", driver_name);
	entry = entry_get(dev);
	if (entry == NULL)
		return vdpa_error_set(-ENOMEM, "out of memory");
	if (entry->driver != NULL)
		return vdpa_error_set(-EBUSY, "%s: is bound already, to %s", dev->name,
			entry->path != NULL ? entry->path : entry->driver->name);
	rc = driver->bind(dev, args);
	if (rc != 0)
		return rc;
	entry->driver = driver;
	entry->path = path != NULL ? strdup(path) : NULL;
	entry->listens = strstr(args, ",client=on") == NULL && strncmp(args, "client=on", 9) != 0;
	VDPAD_LOG(INFO, "%s: bound to %s", dev->name, path != NULL ? path : driver->name);
	return 0;
}

int
vdpad_bind_socket(struct vdpa_device *dev, const char *path, bool client)
{
	char *args;
	int rc;

	if (strchr(path, ',') != NULL)
		return vdpa_error_set(
			-EINVAL, "path=%s: a socket's path cannot have a comma", path);
	if (asprintf(&args, "path=%s,client=%s", path, client ? "on" : "off") < 0)
		return vdpa_error_set(-ENOMEM, "out of memory");
	rc = bind_device(dev, "vhost", args, path);
	free(args);
	return rc;
}

int
vdpad_iface_apply(const char *prefix, bool client)
{
	struct vdpa_device_status status;
	struct vdpa_device **devices;
	unsigned int number = 0;
	size_t nr_devices, i;
	char *path;
	int rc = 0;

	devices = vdpad_devices(&nr_devices);
	for (i = 0; i < nr_devices && rc == 0; i++) {
		vdpa_device_status_get(devices[i], &status);
		if (status.bound[0] != '\0')
			continue;
		if (asprintf(&path, "%s%u", prefix, number++) < 0) {
			rc = vdpa_error_set(-ENOMEM, "out of memory");
			break;
		}
		rc = vdpad_bind_socket(devices[i], path, client);
		free(path);
	}
	free(devices);
	if (nr_devices == 0)
		rc = vdpa_error_set(-ENODEV,
			"--iface %s: there is no device: give EAL one, such as "
			"--vdev vdpa_sw_net0,backend=loopback",
			prefix);
	return rc;
}

/* ---- configuration ---- */

static int
list_mgmtdev(struct vdpa_mgmtdev *mgmtdev, void *arg)
{
	char *names = arg;
	size_t used = strlen(names);

	snprintf(names + used, 256 - used, "%s%s", used > 0 ? ", " : "", mgmtdev->name);
	return 0;
}

static int
make_device(const struct vdpad_device_config *config)
{
	struct vdpa_mgmtdev *mgmtdev = vdpa_mgmtdev_find(config->mgmtdev);
	char names[256] = "";

	if (mgmtdev == NULL) {
		vdpa_mgmtdev_foreach(list_mgmtdev, names);
		return vdpa_error_set(
			-EINVAL, "mgmtdev=%s: expected one of %s", config->mgmtdev, names);
	}
	return mgmtdev->dev_add(mgmtdev, config->name, config->args);
}

int
vdpad_config_apply(const struct vdpad_config *config, const char *path)
{
	const struct vdpad_device_config *device;
	size_t i;
	int rc;

	for (i = 0; i < config->nr_devices; i++) {
		device = &config->devices[i];
		rc = make_device(device);
		if (rc != 0) {
			fprintf(stderr, "%s: device %s: %s\n", path, device->name,
				vdpa_error_text());
			return rc;
		}
	}
	for (i = 0; i < config->nr_devices; i++) {
		device = &config->devices[i];
		if (device->driver == NULL)
			continue;
		if (device->standin != NULL)
			vdpa_binding_standin_set(
				vdpa_device_binding(vdpa_device_find(device->name)),
				device->standin);
		rc = bind_device(vdpa_device_find(device->name), device->driver, device->bind_args,
			device->path);
		if (rc != 0) {
			fprintf(stderr, "%s: device %s: bind: %s\n", path, device->name,
				vdpa_error_text());
			return rc;
		}
	}
	return 0;
}

/* ---- undo ---- */

static int
unbind_entry(struct entry *entry)
{
	int rc = entry->driver->unbind(vdpa_binding_device(entry->binding));

	if (rc != 0)
		return rc;
	entry->driver = NULL;
	free(entry->path);
	entry->path = NULL;
	return 0;
}

int
vdpad_unbind(const char *what)
{
	size_t i;

	for (i = 0; i < nr_entries; i++)
		if (entries[i].driver != NULL &&
			(strcmp(entry_name(&entries[i]), what) == 0 ||
				(entries[i].path != NULL && strcmp(entries[i].path, what) == 0)))
			return unbind_entry(&entries[i]);
	return vdpa_error_set(
		-ENOENT, "%s: no device and no socket that is bound has this name", what);
}

size_t
vdpad_nr_bindings(void)
{
	size_t i, nr = 0;

	for (i = 0; i < nr_entries; i++)
		nr += entries[i].driver != NULL;
	return nr;
}

const char *
vdpad_binding_word(size_t word)
{
	size_t i, nr = 0;

	for (i = 0; i < nr_entries; i++) {
		if (entries[i].driver == NULL)
			continue;
		if (nr++ == word / 2)
			return word % 2 == 1 && entries[i].path != NULL ? entries[i].path
									: entry_name(&entries[i]);
	}
	return NULL;
}

static void
on_hung(const char *device, void *arg)
{
	struct entry *entry = entry_find(device);

	RTE_SET_USED(arg);
	VDPAD_LOG(ERR, "%s: hangs and was fenced: it touches no memory of its front end any more",
		device);
	if (entry != NULL)
		entry->hung = true;
}

static void
close_binding(struct entry *entry)
{
	if (entry->driver == NULL)
		return;
	if (!entry->hung) {
		if (unbind_entry(entry) != 0)
			VDPAD_LOG(ERR, "%s: %s", entry_name(entry), vdpa_error_text());
		return;
	}
	/* Whoever waits for a device that hangs, hangs. Its thread ends with the process. */
	if (entry->path != NULL && entry->listens)
		unlink(entry->path);
}

/* Those that EAL made, too: it would not tell whether they hang. @return how many do. */
static int
delete_devices(void)
{
	struct vdpa_device **devices;
	const struct entry *entry;
	size_t nr_devices, i;
	bool *hung;
	int nr_hung = 0, rc;

	devices = vdpad_devices(&nr_devices);
	hung = calloc(nr_devices + 1, sizeof(*hung));
	/* Beforehand: with its device a binding goes, and not always that of its entry. */
	for (i = 0; i < nr_devices && hung != NULL; i++) {
		entry = entry_find(devices[i]->name);
		hung[i] = entry != NULL && entry->hung;
	}
	/* Backwards, as destructors go. */
	for (i = hung != NULL ? nr_devices : 0; i > 0; i--) {
		if (devices[i - 1]->mgmtdev == NULL || hung[i - 1])
			continue;
		rc = devices[i - 1]->mgmtdev->dev_del(
			devices[i - 1]->mgmtdev, devices[i - 1], true);
		if (rc != 0)
			VDPAD_LOG(ERR, "%s", vdpa_error_text());
		nr_hung += rc == -EBUSY;
	}
	free(hung);
	free(devices);
	return nr_hung;
}

int
vdpad_bindings_close(void)
{
	int nr_hung = vdpa_stop_all(0, on_hung, NULL);
	size_t i;

	for (i = nr_entries; i > 0; i--)
		close_binding(&entries[i - 1]);
	nr_hung += delete_devices();
	if (nr_hung == 0) {
		free(entries);
		entries = NULL;
		nr_entries = 0;
	}
	return nr_hung;
}
