/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/*
 * A plug-in for tests: --vdev test_rings0 makes two ethdevs of net_ring, net_ring_near and
 * net_ring_far; what one sends the other one receives. (A --vdev net_ring0 sends into the rings
 * that it receives from, and a ring has one reader.) The first is for a device of this process, the
 * second for a secondary process, which neither configures nor starts an ethdev: that is done here,
 * and the pool that testpmd asks for is made.
 */

#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "vdpa_dpdk_abi.h"

#define PAIRS     2
#define RING_SIZE 1024
#define POOL      "mb_pool_0"

static int
make_rings(const char *end, struct rte_ring **rings)
{
	char name[RTE_RING_NAMESIZE];

	for (unsigned int i = 0; i < PAIRS; i++) {
		snprintf(name, sizeof(name), "to_%s%u", end, i);
		rings[i] = rte_ring_create(
			name, RING_SIZE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (rings[i] == NULL)
			return -rte_errno;
	}
	return 0;
}

static int
start(uint16_t port)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		POOL, 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	struct rte_eth_conf conf = {0};
	int rc = pool == NULL ? -rte_errno : rte_eth_dev_configure(port, PAIRS, PAIRS, &conf);

	for (uint16_t i = 0; i < PAIRS && rc == 0; i++) {
		rc = rte_eth_rx_queue_setup(port, i, RING_SIZE, SOCKET_ID_ANY, NULL, pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port, i, RING_SIZE, SOCKET_ID_ANY, NULL);
	}
	return rc == 0 ? rte_eth_dev_start(port) : rc;
}

static int
rings_probe(struct rte_vdev_device *vdev)
{
	struct rte_ring *to_near[PAIRS], *to_far[PAIRS];
	int rc = make_rings("near", to_near), far;

	(void)vdev;
	if (rc == 0)
		rc = make_rings("far", to_far);
	if (rc != 0)
		return rc;
	if (rte_eth_from_rings("near", to_near, PAIRS, to_far, PAIRS, 0) < 0)
		return -EIO;
	far = rte_eth_from_rings("far", to_far, PAIRS, to_near, PAIRS, 0);
	return far < 0 ? -EIO : start(far);
}

static int
rings_remove(struct rte_vdev_device *vdev)
{
	(void)vdev;
	return 0;
}

static struct rte_vdev_driver rings_vdev = {
	.probe = rings_probe,
	.remove = rings_remove,
};

VDPA_REGISTER_VDEV(test_rings, rings_vdev);
