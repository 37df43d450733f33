/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "sw_net_port.h"

/* On the worker, as the next two. */
static void
rx_take_queues(void *arg)
{
	struct sw_net_flow *flow = arg;
	struct sw_net_vq *rx = flow->rx;
	struct sw_net_port_rx *end = &rx->dev->port->rx[rx->index / 2];

	end->nr_queues = end->new_nr_queues;
	end->wake_fd = end->new_wake_fd;
	/* without a descriptor for frames it is polled, kicks or not */
	flow->path.wake_fds[0] = end->wake_fd;
	flow->path.wake_fds[1] = end->wake_fd >= 0 || end->nr_queues == 0 ? rx->kick_fd : -1;
}

static void
rx_leave_queues(void *arg)
{
	struct sw_net_flow *flow = arg;
	struct sw_net_vq *rx = flow->rx;
	struct sw_net_port_rx *end = &rx->dev->port->rx[rx->index / 2];

	end->nr_queues = 0;
	end->wake_fd = -1;
	/* what the ethdev has handed over is still for this queue */
	if (!rx->active)
		sw_net_held_drop(flow->held, rx, SW_NET_DROP_RX_OFF);
	flow->path.wake_fds[0] = -1;
	flow->path.wake_fds[1] = rx->kick_fd;
}

static void
drop_held(void *arg)
{
	struct sw_net_flow *flow = arg;

	sw_net_held_drop(flow->held, flow->tx != NULL ? flow->tx : flow->rx, SW_NET_DROP_LINK_DOWN);
}

/* A descriptor that becomes readable with a frame in any of the queues; -1: there is none. */
static int
make_wake_fd(const struct sw_net_port *port, struct sw_net_port_rx *end)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	if (end->epoll_fd >= 0)
		close(end->epoll_fd);
	end->epoll_fd = -1;
	if (end->new_nr_queues == 0 || !port->has_fds)
		return -1; /* no descriptor */
	end->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (uint16_t i = 0; i < end->new_nr_queues; i++) {
		int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(port->id, end->queues[i]);

		if (fd < 0 || epoll_ctl(end->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
			return -1; /* no descriptor */
	}
	return end->epoll_fd;
}

int
sw_net_port_leave(struct sw_net_dev *dev, bool drop)
{
	struct vdpa_path *rx[SW_NET_PAIRS_MAX] = {NULL}, *all[2 * SW_NET_PAIRS_MAX] = {NULL};
	uint16_t nr_rx = 0, nr = 0;
	int rc;

	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++) {
		if (dev->vqs[i].flow == NULL)
			continue;
		all[nr++] = &dev->vqs[i].flow->path;
		if (i % 2 == 0)
			rx[nr_rx++] = &dev->vqs[i].flow->path;
	}
	rc = vdpa_paths_run(rx, nr_rx, rx_leave_queues);
	return rc == 0 && drop ? vdpa_paths_run(all, nr, drop_held) : rc;
}

void
sw_net_port_throw_away(struct sw_net_dev *dev)
{
	const struct sw_net_port *port = dev->port;
	struct rte_mbuf *mbufs[SW_NET_BURST];
	unsigned int rounds = 0;
	uint16_t nr;

	if (port->is_read || !sw_net_port_is_there(port))
		return;
	for (uint16_t q = 0; q < port->nr_queues; q++)
		do {
			nr = rte_eth_rx_burst(port->id, q, mbufs, SW_NET_BURST);
			for (uint16_t i = 0; i < nr; i++)
				rte_pktmbuf_free(mbufs[i]);
		} while (nr != 0 && ++rounds < 1024);
}

int
sw_net_port_spread(struct sw_net_dev *dev)
{
	struct sw_net_port *port = dev->port;
	struct vdpa_path *paths[SW_NET_PAIRS_MAX] = {NULL};
	uint16_t readers[SW_NET_PAIRS_MAX], nr = 0;
	int rc = sw_net_port_leave(dev, false);

	for (uint16_t i = 0; i < dev->args.nr_pairs; i++) {
		port->rx[i].new_nr_queues = 0;
		if (sw_net_rx(dev, i)->flow != NULL && sw_net_rx(dev, i)->active)
			readers[nr++] = i;
	}
	if (rc != 0 || !sw_net_port_is_there(port))
		return rc;
	port->is_read = nr != 0;
	for (uint16_t q = 0; q < port->nr_queues && nr != 0; q++) {
		struct sw_net_port_rx *end = &port->rx[readers[q % nr]];

		end->queues[end->new_nr_queues++] = q;
	}
	for (uint16_t i = 0; i < nr; i++) {
		port->rx[readers[i]].new_wake_fd = make_wake_fd(port, &port->rx[readers[i]]);
		paths[i] = &sw_net_rx(dev, readers[i])->flow->path;
	}
	return vdpa_paths_run(paths, nr, rx_take_queues);
}
