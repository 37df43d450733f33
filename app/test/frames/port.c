/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_lcore.h>

#include "frames.h"

/* A VLAN tag and the longest virtio-net header: net_virtio counts both in a buffer's room. */
#define DRIVER_EXTRA_BYTES (4 + 20)
#define POOL_CACHE         64

static int
find_port(const struct frames_options *options, uint16_t *id)
{
	uint16_t nr = rte_eth_dev_count_avail();

	if (options->port_name != NULL) {
		if (rte_eth_dev_get_port_by_name(options->port_name, id) == 0)
			return 0;
		fprintf(stderr, "--port %s: EAL has no such port\n", options->port_name);
		return -ENODEV;
	}
	if (nr != 1) {
		fprintf(stderr, "EAL has %u ports: give one by --vdev, or say which by --port\n",
			nr);
		return -ENODEV;
	}
	*id = rte_eth_find_next(0);
	return 0;
}

static uint16_t
buffer_room(const struct frames_options *options, const struct frames_port *port)
{
	if (options->buffer_bytes != 0)
		return options->buffer_bytes;
	return port->mergeable ? 2048 : frames_longest_bytes(options) + DRIVER_EXTRA_BYTES;
}

/* So many frames that the receive ring has buffers for all of them, even the longest. */
static uint32_t
safe_inflight(const struct frames_options *options, uint16_t buffer_bytes)
{
	uint32_t longest = frames_longest_bytes(options) + DRIVER_EXTRA_BYTES;
	uint32_t nr_buffers = (longest + buffer_bytes - 1) / buffer_bytes;

	return RTE_MAX(options->ring_size / nr_buffers / 2, 1U);
}

static struct rte_mempool *
make_pool(const char *name, unsigned int nr, uint16_t room)
{
	struct rte_mempool *pool;

	pool = rte_pktmbuf_pool_create(name, nr, POOL_CACHE, 0, room, rte_socket_id());
	if (pool == NULL)
		fprintf(stderr,
			"no memory for %u buffers of %u bytes (%s): give EAL more by -m, "
			"or use fewer queues or shorter frames\n",
			nr, room, rte_strerror(rte_errno));
	return pool;
}

static int
make_pools(const struct frames_options *options, struct frames_port *port)
{
	unsigned int cached = POOL_CACHE * 2 * rte_lcore_count();
	unsigned int nr_rx, nr_tx;

	nr_rx = options->nr_queues * (options->ring_size + options->burst) + cached;
	/* The driver frees sent ones late: a whole ring may be in its hands. */
	nr_tx = options->nr_queues * (options->ring_size + options->burst) *
			options->nr_segments_max +
		cached;
	port->rx_pool = make_pool("frames_rx", nr_rx, port->buffer_bytes + RTE_PKTMBUF_HEADROOM);
	if (port->rx_pool == NULL)
		return -ENOMEM;
	port->tx_pool = make_pool(
		"frames_tx", nr_tx, frames_longest_bytes(options) + RTE_PKTMBUF_HEADROOM);
	return port->tx_pool == NULL ? -ENOMEM : 0;
}

static int
configure(const struct frames_options *options, struct frames_port *port,
	const struct rte_eth_dev_info *info)
{
	uint16_t mtu = RTE_MAX(
		frames_longest_bytes(options) - RTE_ETHER_HDR_LEN, RTE_ETHER_MIN_MTU);
	struct rte_eth_conf conf = {.rxmode = {.mtu = mtu}};
	int ret;

	if (options->nr_queues > RTE_MIN(info->max_rx_queues, info->max_tx_queues)) {
		fprintf(stderr,
			"--queues %u: the port has %u queue pairs (queues= of --vdev, "
			"max_vqp= of the device)\n",
			options->nr_queues, RTE_MIN(info->max_rx_queues, info->max_tx_queues));
		return -EINVAL;
	}
	if (mtu > info->max_mtu) {
		fprintf(stderr, "--sizes: %u bytes need an MTU of %u, the port has at most %u\n",
			frames_longest_bytes(options), mtu, info->max_mtu);
		return -EINVAL;
	}
	if (port->mergeable)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
	if (options->nr_segments_max > 1)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	ret = rte_eth_dev_configure(port->id, options->nr_queues, options->nr_queues, &conf);
	if (ret != 0)
		fprintf(stderr, "the port cannot be configured: %s\n", rte_strerror(-ret));
	return ret;
}

static int
setup_queues(const struct frames_options *options, struct frames_port *port,
	const struct rte_eth_dev_info *info)
{
	struct rte_eth_txconf txconf = info->default_txconf;
	uint16_t queue;
	int ret = 0;

	if (options->nr_segments_max > 1)
		txconf.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	for (queue = 0; queue < options->nr_queues && ret == 0; queue++) {
		ret = rte_eth_rx_queue_setup(
			port->id, queue, options->ring_size, rte_socket_id(), NULL, port->rx_pool);
		if (ret == 0)
			ret = rte_eth_tx_queue_setup(
				port->id, queue, options->ring_size, rte_socket_id(), &txconf);
		if (ret != 0)
			fprintf(stderr, "queue %u cannot be set up: %s\n", queue,
				rte_strerror(-ret));
	}
	return ret;
}

int
frames_port_open(const struct frames_options *options, struct frames_port *port)
{
	struct rte_eth_dev_info info;
	int ret;

	memset(port, 0, sizeof(*port));
	port->id = RTE_MAX_ETHPORTS;
	ret = find_port(options, &port->id);
	if (ret != 0)
		return ret;
	ret = rte_eth_dev_info_get(port->id, &info);
	if (ret != 0) {
		fprintf(stderr, "the port tells nothing: %s\n", rte_strerror(-ret));
		return ret;
	}
	port->mergeable = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
	port->buffer_bytes = buffer_room(options, port);
	port->inflight = options->inflight != 0 ? options->inflight
						: safe_inflight(options, port->buffer_bytes);
	ret = configure(options, port, &info);
	if (ret == 0)
		ret = make_pools(options, port);
	if (ret == 0)
		ret = setup_queues(options, port, &info);
	if (ret != 0)
		return ret;
	ret = rte_eth_dev_start(port->id);
	if (ret != 0)
		fprintf(stderr, "the port does not start: %s\n", rte_strerror(-ret));
	return ret;
}

void
frames_port_close(struct frames_port *port)
{
	if (rte_eth_dev_is_valid_port(port->id)) {
		rte_eth_dev_stop(port->id);
		rte_eth_dev_close(port->id);
	}
	rte_mempool_free(port->rx_pool);
	rte_mempool_free(port->tx_pool);
}
