/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>

#include "sw_net_port.h"

#define WATCH_MS 100 /* links and MTUs are looked at */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sw_net_port *ports;
static bool listening; /* list lock */

/* An ethdev was removed from under its driver. Set on DPDK's interrupt thread, without a lock. */
static atomic_bool removed[RTE_MAX_ETHPORTS];

/* This thread makes or ends use of an ethdev itself: it needs no event for that. */
static _Thread_local bool busy;

/* ---- the ethdev comes and goes; the link lock is held ---- */

static void
carry(struct sw_net_port *port)
{
	bool carrying = sw_net_port_is_there(port) && port->link_up && !port->dev->link_down;

	atomic_store(&port->carrying, carrying);
}

void
sw_net_port_settle(struct sw_net_dev *dev)
{
	carry(dev->port);
}

void
sw_net_port_set_mtu(struct sw_net_dev *dev)
{
	int rc;

	if (!sw_net_port_is_there(dev->port))
		return; /* when it comes */
	rc = rte_eth_dev_set_mtu(dev->port->id, dev->args.mtu);
	if (rc != 0)
		SW_NET_LOG(ERR, "%s: port %s does not take MTU %u now: %s", dev->name,
			dev->args.port, dev->args.mtu, strerror(-rc));
}

static int
own(struct sw_net_port *port)
{
	struct rte_eth_dev_owner other = {0};
	int rc = rte_eth_dev_owner_set(port->id, &port->owner);

	if (rc == 0)
		return 0;
	if (rte_eth_dev_owner_get(port->id, &other) == 0 && other.id != RTE_ETH_DEV_NO_OWNER)
		return vdpa_error_set(
			-EBUSY, "port=%s: it belongs to %s", port->dev->args.port, other.name);
	return vdpa_error_set(
		rc, "port=%s: cannot be taken: %s", port->dev->args.port, strerror(-rc));
}

static int
attach(struct sw_net_port *port)
{
	struct sw_net_dev *dev = port->dev;
	int rc;

	if (rte_eth_dev_get_port_by_name(dev->args.port, &port->id) != 0) {
		port->id = RTE_MAX_ETHPORTS;
		return vdpa_error_set(-ENODEV,
			"port=%s: no ethdev of this name in the process (it must be made before "
			"the device)",
			dev->args.port);
	}
	rc = own(port);
	if (rc == 0) {
		busy = true;
		rc = sw_net_port_start(port);
		busy = false;
		if (rc != 0)
			rte_eth_dev_owner_unset(port->id, port->owner.id);
	}
	if (rc != 0) {
		port->id = RTE_MAX_ETHPORTS;
		return rc;
	}
	atomic_store(&removed[port->id], false);
	for (uint16_t i = 0; i < dev->args.nr_pairs; i++) {
		port->tx[i].queue = i % port->nr_queues;
		port->tx[i].shared = port->nr_queues < dev->args.nr_pairs;
	}
	port->link_up = sw_net_port_read(port, &port->mtu);
	port->is_read = false;
	carry(port);
	return sw_net_port_spread(dev);
}

/* No worker touches it any more when this returns 0. */
static int
leave(struct sw_net_port *port)
{
	atomic_store(&port->carrying, false);
	port->link_up = false;
	port->is_read = false;
	return sw_net_port_leave(port->dev, true);
}

static void
detach(struct sw_net_port *port, bool for_good)
{
	uint16_t id = port->id;

	if (!sw_net_port_is_there(port))
		return;
	if (leave(port) != 0) {
		SW_NET_LOG(ERR, "%s: a datapath worker hangs and keeps port %s", port->dev->name,
			port->dev->args.port);
		return;
	}
	busy = true;
	rte_eth_dev_owner_unset(id, port->owner.id);
	sw_net_port_stop(port, for_good);
	busy = false;
	port->id = RTE_MAX_ETHPORTS;
}

/* Its driver frees it now: all that is left to do is not to use it. */
static void
lose(struct sw_net_port *port)
{
	if (!sw_net_port_is_there(port) || leave(port) != 0)
		return;
	port->id = RTE_MAX_ETHPORTS;
	sw_net_port_free_pools(port);
}

static void
tell(struct sw_net_port *port, const char *what)
{
	SW_NET_LOG(NOTICE, "%s: port %s %s", port->dev->name, port->dev->args.port, what);
	if (port->dev->listening)
		vdpa_config_changed(&port->dev->vdpa);
}

/* Link and MTU as they are now. An MTU that its buffers have no room for makes it start anew. */
static void
follow(struct sw_net_port *port)
{
	uint16_t mtu = port->mtu;
	bool up = sw_net_port_read(port, &mtu);

	if (mtu + RTE_ETHER_HDR_LEN + 2u * RTE_VLAN_HLEN > port->room_bytes) {
		detach(port, false);
		if (attach(port) != 0)
			SW_NET_LOG(ERR, "%s: %s", port->dev->name, vdpa_error_text());
		tell(port, "has a longer MTU");
		return;
	}
	if (mtu != port->mtu) {
		port->mtu = mtu;
		tell(port, "has another MTU");
	}
	if (up != port->link_up) {
		port->link_up = up;
		carry(port);
		tell(port, up ? "has its link up" : "has its link down");
	}
}

static void
watch(struct vdpa_work *work)
{
	struct sw_net_port *port = (struct sw_net_port *)work;
	uint16_t id;

	pthread_mutex_lock(&port->dev->link->lock);
	if (sw_net_port_is_there(port) && atomic_load(&removed[port->id])) {
		detach(port, true);
		tell(port, "was removed");
	} else if (sw_net_port_is_there(port)) {
		follow(port);
	} else if (rte_eth_dev_get_port_by_name(port->dev->args.port, &id) == 0) {
		if (attach(port) == 0)
			tell(port, "is there again");
		else
			SW_NET_LOG(ERR, "%s: %s", port->dev->name, vdpa_error_text());
	}
	pthread_mutex_unlock(&port->dev->link->lock);
}

/* ---- events ---- */

static int
on_ethdev_removed(uint16_t id, enum rte_eth_event_type event __rte_unused, void *arg __rte_unused,
	void *ret __rte_unused)
{
	atomic_store(&removed[id], true);
	return 0;
}

/* Its driver is at the end of freeing it. */
static int
on_ethdev_destroyed(uint16_t id, enum rte_eth_event_type event __rte_unused, void *arg __rte_unused,
	void *ret __rte_unused)
{
	if (busy)
		return 0;
	pthread_mutex_lock(&list_lock);
	for (struct sw_net_port *port = ports; port != NULL; port = port->next) {
		pthread_mutex_lock(&port->dev->link->lock);
		if (port->id == id) {
			lose(port);
			tell(port, "was removed");
		}
		pthread_mutex_unlock(&port->dev->link->lock);
	}
	pthread_mutex_unlock(&list_lock);
	return 0;
}

/* A device is about to be removed: whoever says so waits until it is let go. */
static void
on_device_event(const char *device, enum rte_dev_event_type event, void *arg __rte_unused)
{
	if (event != RTE_DEV_EVENT_REMOVE)
		return;
	pthread_mutex_lock(&list_lock);
	for (struct sw_net_port *port = ports; port != NULL; port = port->next) {
		pthread_mutex_lock(&port->dev->link->lock);
		if (sw_net_port_is_there(port) && strcmp(port->device, device) == 0) {
			detach(port, true);
			tell(port, "is removed");
		}
		pthread_mutex_unlock(&port->dev->link->lock);
	}
	pthread_mutex_unlock(&list_lock);
}

/* Once; the list lock is held. */
static int
hear_events(void)
{
	int rc;

	if (listening)
		return 0;
	rc = rte_eth_dev_callback_register(
		RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RMV, on_ethdev_removed, NULL);
	if (rc == 0)
		rc = rte_eth_dev_callback_register(
			RTE_ETH_ALL, RTE_ETH_EVENT_DESTROY, on_ethdev_destroyed, NULL);
	if (rc == 0)
		rc = rte_dev_event_callback_register(NULL, on_device_event, NULL);
	if (rc != 0)
		return vdpa_error_set(rc, "events of ethdevs cannot be heard: %s", strerror(-rc));
	listening = true;
	return 0;
}

/* ---- a device's life ---- */

static struct sw_net_port *
port_alloc(struct sw_net_dev *dev)
{
	struct sw_net_port *port = calloc(1, sizeof(*port));

	if (port == NULL)
		return NULL;
	port->work.fn = watch;
	port->dev = dev;
	port->id = RTE_MAX_ETHPORTS;
	port->tx = calloc(dev->args.nr_pairs, sizeof(*port->tx));
	port->rx = calloc(dev->args.nr_pairs, sizeof(*port->rx));
	for (uint16_t i = 0; i < dev->args.nr_pairs && port->rx != NULL; i++)
		port->rx[i].wake_fd = port->rx[i].epoll_fd = -1;
	snprintf(port->owner.name, sizeof(port->owner.name), "vDPA device %.40s", dev->name);
	return port;
}

int
sw_net_port_open(struct sw_net_dev *dev)
{
	struct sw_net_port *port = port_alloc(dev);
	int rc;

	dev->port = port;
	if (port == NULL || port->tx == NULL || port->rx == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", dev->name);
	rc = rte_eth_dev_owner_new(&port->owner.id);
	if (rc != 0)
		return vdpa_error_set(rc, "%s: no owner of an ethdev can be made", dev->name);
	pthread_mutex_lock(&list_lock);
	rc = hear_events();
	if (rc == 0) {
		port->next = ports;
		ports = port;
		pthread_mutex_lock(&dev->link->lock);
		rc = attach(port);
		pthread_mutex_unlock(&dev->link->lock);
	}
	pthread_mutex_unlock(&list_lock);
	return rc;
}

void
sw_net_port_watch(struct sw_net_dev *dev)
{
	vdpa_work_every(&dev->port->work, WATCH_MS);
}

void
sw_net_port_close(struct sw_net_dev *dev)
{
	struct sw_net_port *port = dev->port, **at = &ports;

	if (port == NULL)
		return;
	vdpa_work_every(&port->work, 0);
	pthread_mutex_lock(&list_lock);
	while (*at != NULL && *at != port)
		at = &(*at)->next;
	if (*at != NULL)
		*at = port->next;
	pthread_mutex_unlock(&list_lock);
	if (vdpa_work_wait(&port->work, 5000) != 0) {
		SW_NET_LOG(ERR, "%s: port %s hangs, its memory is kept", dev->name, dev->args.port);
		return;
	}
	if (dev->link != NULL) {
		pthread_mutex_lock(&dev->link->lock);
		detach(port, false);
		pthread_mutex_unlock(&dev->link->lock);
	}
	for (uint16_t i = 0; i < dev->args.nr_pairs && port->rx != NULL; i++)
		if (port->rx[i].epoll_fd >= 0)
			close(port->rx[i].epoll_fd);
	free(port->rx);
	free(port->tx);
	free(port);
	dev->port = NULL;
}

struct one_frame {
	struct sw_net_port *port;
	struct rte_mbuf *m;
	bool sent;
};

/* On the worker of the first transmit queue, or while there is none. */
static void
send_one(void *arg)
{
	struct one_frame *one = arg;
	rte_spinlock_t *lock = &one->port->tx_locks[0];

	rte_spinlock_lock(lock);
	one->sent = rte_eth_tx_burst(one->port->id, 0, &one->m, 1) == 1;
	rte_spinlock_unlock(lock);
}

int
sw_net_port_send(struct sw_net_dev *dev, const void *frame, uint16_t len_bytes)
{
	struct sw_net_port *port = dev->port;
	struct sw_net_flow *flow = sw_net_tx(dev, 0)->flow;
	struct rte_mbuf *m;
	struct vring_seg seg = {.va = (uint8_t *)(uintptr_t)frame, .len = len_bytes};
	struct one_frame one = {.port = port};
	int rc;

	if (!atomic_load(&port->carrying))
		return -ENETDOWN;
	m = sw_net_mbuf_copy(port->pool, (struct vring_cursor){&seg, 1, 0}, len_bytes);
	if (m == NULL)
		return -ENOMEM;
	one.m = m;
	if (flow != NULL) {
		rc = vdpa_path_run(&flow->path, send_one, &one);
		if (rc != 0)
			return rc; /* it may still be sent */
	} else {
		send_one(&one);
	}
	if (one.sent)
		return 0;
	rte_pktmbuf_free(m);
	return -EAGAIN;
}
