/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef SW_NET_PATH_H
#define SW_NET_PATH_H

/**
 * @file
 * Steps of a burst, for paths that have other ends than two virtqueues. All on the worker.
 */

#include "sw_net.h"

#define SW_NET_BURST   32
#define SW_NET_RX_PEEK 64 /* receive buffers looked at in a burst, and most of a frame */
#define SW_NET_NR_SEGS (VRING_SEGS_DEFAULT + SW_NET_RX_PEEK)

/* A burst of chains of one queue. On the stack: it is hot, and no two polls need it at once. */
struct sw_net_burst {
	struct vring_chain chains[SW_NET_RX_PEEK];
	struct vring_seg segs[SW_NET_NR_SEGS];
};

/* Runs, carries traffic, and is neither broken nor fenced; NULL: false. */
bool sw_net_vq_usable(const struct sw_net_vq *vq);
/* As sw_net_arm(), for a receive buffer alone. */
bool sw_net_arm_rx(struct sw_net_flow *flow);
/* End the asking for kicks that either began. */
void sw_net_disarm(struct sw_net_flow *flow);
/* All that the driver can give, or as many as a frame may take: waiting for more is no use. */
bool sw_net_rx_is_full(const struct sw_net_vq *rx, const struct sw_net_burst *in, uint16_t nr);
/* Give nr buffers back: consume, push, publish, report. */
void sw_net_complete_tx(struct sw_net_vq *tx, const struct vring_chain *out, uint16_t nr);
void sw_net_complete_rx(struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr);
/* The end of every poll: signal if it is time for that. @return nr */
unsigned int sw_net_finish_burst(struct sw_net_flow *flow, unsigned int nr);
/* A poll of a flow whose frames nobody receives: take them and count them. */
unsigned int sw_net_discard(struct sw_net_flow *flow, enum sw_net_stat why);

#endif /* SW_NET_PATH_H */
