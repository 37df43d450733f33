/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sw_net_port.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sw_net_link *links;

/* ---- who is the peer of whom ---- */

static int
link_new(const struct sw_net_dev *dev, struct sw_net_link **out)
{
	struct sw_net_link *link = calloc(1, sizeof(*link));

	*out = link;
	if (link == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", dev->name);
	pthread_mutex_init(&link->lock, NULL);
	snprintf(link->names[0], sizeof(link->names[0]), "%s", dev->name);
	snprintf(link->names[1], sizeof(link->names[1]), "%s", dev->args.peer);
	link->next = links;
	link->pprev = &links;
	if (links != NULL)
		links->pprev = &link->next;
	links = link;
	return 0;
}

/*
 * The side of a link that waits for dev. -ENOENT: this link has nothing to do with it; other
 * errors: it contradicts.
 */
static int
link_match(const struct sw_net_link *link, const struct sw_net_dev *dev)
{
	const char *peer = dev->args.peer;

	for (int side = 0; side < 2; side++) {
		const char *here = link->names[side], *there = link->names[!side];

		if (strcmp(here, dev->name) == 0 && link->ends[side] != NULL)
			return vdpa_error_set(
				-EEXIST, "%s: a device of this name exists", dev->name);
		if (strcmp(here, dev->name) == 0 && strcmp(there, peer) == 0)
			return side;
		if (strcmp(here, dev->name) == 0)
			return vdpa_error_set(-EBUSY,
				"%s: device %s has it as its peer, so it "
				"needs backend=peer,peer=%s",
				dev->name, there, there);
		if (peer[0] == '\0' || strcmp(here, peer) != 0 || strcmp(there, dev->name) == 0)
			continue;
		if (there[0] == '\0')
			return vdpa_error_set(-EBUSY,
				"peer=%s: expected a device with "
				"backend=peer,peer=%s",
				peer, dev->name);
		return vdpa_error_set(-EBUSY, "peer=%s: its peer is %s already", peer, there);
	}
	return -ENOENT;
}

int
sw_net_link_join(struct sw_net_dev *dev)
{
	struct sw_net_link *link;
	int side = -ENOENT, rc = 0;

	pthread_mutex_lock(&list_lock);
	for (link = links; link != NULL; link = link->next) {
		side = link_match(link, dev);
		if (side != -ENOENT)
			break;
	}
	if (side == -ENOENT) {
		side = 0;
		rc = link_new(dev, &link);
	} else if (side < 0) {
		rc = side;
	}
	if (rc == 0) {
		pthread_mutex_lock(&link->lock);
		link->ends[side] = dev;
		pthread_mutex_unlock(&link->lock);
		dev->link = link;
		dev->side = side;
	}
	pthread_mutex_unlock(&list_lock);
	return rc;
}

void
sw_net_link_leave(struct sw_net_dev *dev)
{
	struct sw_net_link *link = dev->link;
	bool empty;

	if (link == NULL)
		return;
	pthread_mutex_lock(&list_lock);
	pthread_mutex_lock(&link->lock);
	link->ends[dev->side] = NULL;
	empty = link->ends[!dev->side] == NULL;
	pthread_mutex_unlock(&link->lock);
	if (empty) {
		*link->pprev = link->next;
		if (link->next != NULL)
			link->next->pprev = link->pprev;
		pthread_mutex_destroy(&link->lock);
		free(link);
	}
	dev->link = NULL;
	pthread_mutex_unlock(&list_lock);
}

struct sw_net_dev *
sw_net_link_other(const struct sw_net_dev *dev)
{
	return dev->link->ends[!dev->side];
}

/* Either end of a cable can be pulled. */
static bool
is_pulled(const struct sw_net_dev *dev)
{
	const struct sw_net_dev *other = sw_net_link_other(dev);

	return dev->link_down || (other != NULL && other->link_down);
}

bool
sw_net_link_is_up(const struct sw_net_dev *dev)
{
	const struct sw_net_dev *other = sw_net_link_other(dev);

	if (is_pulled(dev) || (dev->port != NULL && !dev->port->link_up))
		return false;
	return dev->args.backend != SW_NET_PEER || (other != NULL && other->running);
}

/* Who receives the frames of src now, and what is counted where nobody does. */
static struct sw_net_dev *
destination(struct sw_net_dev *src, enum sw_net_stat *nobody)
{
	struct sw_net_dev *dst;

	if (is_pulled(src)) {
		*nobody = SW_NET_DROP_LINK_DOWN;
		return NULL;
	}
	switch (src->args.backend) {
	case SW_NET_LOOPBACK:
		*nobody = SW_NET_DROP_RX_OFF;
		return src;
	case SW_NET_PEER:
		dst = sw_net_link_other(src);
		if (dst != NULL && dst->running) {
			*nobody = SW_NET_DROP_RX_OFF;
			return dst;
		}
		*nobody = SW_NET_DROP_PEER_DOWN;
		return NULL;
	case SW_NET_PORT:
		*nobody = SW_NET_DROP_LINK_DOWN;
		return NULL;
	case SW_NET_NULL:
		break;
	}
	*nobody = SW_NET_DROP_NULL;
	return NULL;
}

struct sw_net_dev *
sw_net_source(struct sw_net_dev *dev)
{
	if (dev->args.backend == SW_NET_PEER)
		return sw_net_link_other(dev);
	return dev->args.backend == SW_NET_LOOPBACK ? dev : NULL;
}

/* ---- flows ---- */

const void *
sw_net_group(const struct sw_net_dev *dev, uint16_t index)
{
	bool receives = index % 2 == 0;
	int sender = dev->side;

	if (receives && dev->args.backend == SW_NET_PEER)
		sender = !sender;
	return &dev->link->groups[sender][index / 2];
}

static struct sw_net_flow *
flow_of(const struct sw_net_vq *vq)
{
	uint16_t pair = vq->index / 2;

	return &vq->dev->flows[vq->index % 2 == 1 ? pair : vq->dev->args.nr_pairs + pair];
}

/* The receive queue that a flow is to have. */
static struct sw_net_vq *
flow_wanted_rx(struct sw_net_flow *flow, enum sw_net_stat *no_rx)
{
	struct sw_net_dev *src = flow->tx->dev;
	struct sw_net_dev *dst = destination(src, no_rx);
	uint16_t pair = flow->tx->index / 2;
	struct sw_net_vq *rx;

	if (dst == NULL || pair >= dst->args.nr_pairs)
		return NULL;
	rx = sw_net_rx(dst, pair);
	return rx->running ? rx : NULL;
}

static bool
captures(const struct sw_net_vq *vq)
{
	return vq != NULL && atomic_load(&vq->dev->capture) != NULL;
}

/* On the worker. */
static void
flow_capture(void *arg)
{
	struct sw_net_flow *flow = arg;

	flow->capturing = captures(flow->tx) || captures(flow->rx);
}

/* On the worker, or with none. */
static void
flow_connect(void *arg)
{
	struct sw_net_flow *flow = arg;

	sw_net_settle(flow);
	flow->rx = flow->new_rx;
	flow->no_rx = flow->new_no_rx;
	flow->path.wake_fds[1] = flow->rx != NULL ? flow->rx->kick_fd : -1;
	/* the queue may have been armed by whoever had it before: poll() disarms */
	flow->armed = true;
	flow->blocked = false;
	flow_capture(flow);
	sw_net_fault_gate(flow);
}

/* With no worker. */
static void
flow_free(struct sw_net_flow *flow)
{
	free(flow->held);
	sw_net_cutter_free(flow->cutter);
	flow->held = NULL;
	flow->cutter = NULL;
}

/* The last signals and counts belong to the worker; they also are the last look at the rings. */
static void
flow_end(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;
	bool to_port = flow->tx != NULL && flow->tx->dev->port != NULL;

	sw_net_settle(flow);
	sw_net_held_drop(flow->held, flow->tx != NULL ? flow->tx : flow->rx,
		to_port ? SW_NET_DROP_PORT : SW_NET_DROP_RX_OFF);
	flow->tx = NULL;
}

int
sw_net_flows_connect(struct sw_net_dev *src)
{
	struct vdpa_path *paths[SW_NET_PAIRS_MAX] = {NULL};
	struct sw_net_vq *before[SW_NET_PAIRS_MAX];
	uint16_t nr = 0;
	int rc = 0;

	if (src->port != NULL) {
		sw_net_port_settle(src);
		return 0;
	}
	for (uint16_t i = 0; i < src->args.nr_pairs && rc == 0; i++) {
		struct sw_net_flow *flow = &src->flows[i];

		if (!flow->running)
			continue;
		flow->new_rx = flow_wanted_rx(flow, &flow->new_no_rx);
		before[nr] = flow->rx;
		if (flow->new_rx != flow->rx || flow->new_no_rx != flow->no_rx)
			paths[nr++] = &flow->path;
		rc = sw_net_cutter_prepare(flow);
	}
	if (rc == 0)
		rc = vdpa_paths_run(paths, nr, flow_connect);
	for (uint16_t i = 0; i < nr && rc == 0; i++) {
		struct sw_net_flow *flow = (struct sw_net_flow *)paths[i];

		if (before[i] != NULL)
			before[i]->flow = NULL;
		if (flow->rx != NULL)
			flow->rx->flow = flow;
	}
	return rc;
}

static int
flow_init(struct sw_net_flow *flow, struct sw_net_vq *vq)
{
	int rc = 0;

	memset(flow, 0, sizeof(*flow));
	flow->path.poll = sw_net_poll;
	flow->path.arm = sw_net_arm;
	flow->path.end = flow_end;
	flow->path.wake_fds[0] = vq->kick_fd;
	flow->path.group = sw_net_group(vq->dev, vq->index);
	vdpa_delay_init(&flow->delay, vq->dev->args.common.delay_us);
	if (vq->dev->port != NULL) {
		rc = sw_net_port_flow_init(flow, vq);
		flow_capture(flow);
		sw_net_fault_gate(flow);
		return rc;
	}
	flow->tx = vq;
	flow->new_rx = flow_wanted_rx(flow, &flow->new_no_rx);
	rc = sw_net_cutter_prepare(flow);
	flow_connect(flow);
	return rc;
}

int
sw_net_flows_start(struct sw_net_vq *const *vqs, uint16_t nr)
{
	struct vdpa_path *paths[2 * SW_NET_PAIRS_MAX] = {NULL};
	uint16_t nr_made = 0;
	int rc = 0;

	for (; nr_made < nr && rc == 0; nr_made++) {
		paths[nr_made] = &flow_of(vqs[nr_made])->path;
		rc = flow_init(flow_of(vqs[nr_made]), vqs[nr_made]);
	}
	if (rc == 0 && nr != 0 && vqs[0]->dev->port != NULL)
		sw_net_port_throw_away(vqs[0]->dev);
	if (rc == 0)
		rc = vdpa_paths_add(paths, nr, -1);
	for (uint16_t i = 0; i < nr_made; i++) {
		struct sw_net_flow *flow = flow_of(vqs[i]);

		if (rc != 0) {
			flow_free(flow);
			flow->tx = flow->rx = NULL;
			continue;
		}
		flow->running = true;
		vqs[i]->flow = flow;
		if (flow->rx != NULL)
			flow->rx->flow = flow;
	}
	if (rc == 0 && nr != 0 && vqs[0]->dev->port != NULL)
		rc = sw_net_port_spread(vqs[0]->dev);
	return rc;
}

int
sw_net_flows_stop(struct sw_net_vq *const *vqs, uint16_t nr)
{
	struct vdpa_path *paths[2 * SW_NET_PAIRS_MAX] = {NULL};
	uint16_t nr_paths = 0;
	int rc;

	for (uint16_t i = 0; i < nr; i++)
		if (flow_of(vqs[i])->running)
			paths[nr_paths++] = &flow_of(vqs[i])->path;
	rc = vdpa_paths_del(paths, nr_paths);
	if (rc != 0)
		return rc;
	for (uint16_t i = 0; i < nr; i++) {
		struct sw_net_flow *flow = flow_of(vqs[i]);

		if (!flow->running)
			continue;
		flow_free(flow);
		flow->running = false;
		vqs[i]->flow = NULL;
		if (flow->rx != NULL)
			flow->rx->flow = NULL;
		flow->rx = NULL;
	}
	if (nr_paths != 0 && vqs[0]->dev->port != NULL)
		rc = sw_net_port_spread(vqs[0]->dev);
	return rc;
}

/* fn NULL: between two bursts once. */
static int
flows_run(struct sw_net_dev *dev, void (*fn)(void *arg))
{
	struct vdpa_path *paths[2 * SW_NET_PAIRS_MAX] = {NULL};
	uint16_t nr = 0;

	for (uint16_t i = 0; i < 2 * dev->args.nr_pairs; i++)
		if (dev->vqs[i].running && dev->vqs[i].flow != NULL)
			paths[nr++] = &dev->vqs[i].flow->path;
	return vdpa_paths_run(paths, nr, fn);
}

int
sw_net_flows_quiet(struct sw_net_dev *dev)
{
	return flows_run(dev, NULL);
}

int
sw_net_flows_capture(struct sw_net_dev *dev)
{
	return flows_run(dev, flow_capture);
}

int
sw_net_vq_run(struct sw_net_vq *vq, void (*fn)(void *arg), void *arg)
{
	if (vq->flow == NULL) {
		fn(arg);
		return 0;
	}
	return vdpa_path_run(&vq->flow->path, fn, arg);
}
