/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <string.h>

#include <rte_branch_prediction.h>

#include "sw_net_gso.h"

#define BURST                  SW_NET_BURST
#define RX_PEEK                SW_NET_RX_PEEK
#define NR_SEGS                SW_NET_NR_SEGS
#define CHUNK                  8 /* frames published at once while the backlog is small */
#define PREFETCH_FROM          (2 * RTE_CACHE_LINE_SIZE)
#define PREFETCH_MAX           2048 /* bytes of a frame; the processor follows by itself then */
#define MAX_UNSIGNALLED_BURSTS 4

void
sw_net_vq_fail(struct sw_net_vq *vq, const char *why)
{
	vring_dev_break(&vq->ring, VRING_ERR_CALLER);
	if (vq->failed)
		return;
	vq->failed = true;
	if (why == NULL)
		why = vring_error_text(vring_dev_error(&vq->ring));
	vdpa_vq_failed(&vq->dev->vdpa, vq->index, -EBADMSG, why);
}

static void
signal_queue(struct sw_net_vq *vq)
{
	if (!vring_dev_signal_needed(&vq->ring))
		return;
	sw_net_count(vq, SW_NET_INTERRUPTS, 1);
	vdpa_vq_signal(&vq->dev->vdpa, vq->index);
}

void
sw_net_settle(struct sw_net_flow *flow)
{
	if (flow->unsignalled_bursts == 0)
		return;
	flow->unsignalled_bursts = 0;
	if (flow->rx != NULL)
		signal_queue(flow->rx);
	if (flow->tx != NULL)
		signal_queue(flow->tx);
}

/*
 * The decision about an interrupt needs a full fence, so it waits for the poll that finds nothing
 * more to do (polls follow each other as long as one found something), but not for ever.
 */
static inline unsigned int
finish_burst(struct sw_net_flow *flow, unsigned int nr)
{
	if (nr == 0 || flow->unsignalled_bursts >= MAX_UNSIGNALLED_BURSTS)
		sw_net_settle(flow);
	if (nr != 0)
		flow->unsignalled_bursts++;
	return nr;
}

static inline bool
usable(const struct sw_net_vq *vq)
{
	return vq != NULL && vq->active && !vq->failed &&
		!atomic_load_explicit(&vq->dev->fenced, memory_order_relaxed);
}

static inline bool
is_logging(const struct sw_net_vq *vq)
{
	return atomic_load_explicit(&vq->dev->logging, memory_order_relaxed);
}

/* What asking for kicks, and no longer asking, wrote to the rings. */
static void
report_asked(struct sw_net_flow *flow)
{
	if (usable(flow->tx) && unlikely(is_logging(flow->tx)))
		vdpa_dirty_chains(&flow->tx->dev->vdpa, &flow->tx->ring, NULL, 0);
	if (usable(flow->rx) && unlikely(is_logging(flow->rx)))
		vdpa_dirty_chains(&flow->rx->dev->vdpa, &flow->rx->ring, NULL, 0);
}

static void
disarm(struct sw_net_flow *flow)
{
	flow->armed = false;
	if (usable(flow->tx))
		vring_dev_disarm(&flow->tx->ring);
	if (usable(flow->rx))
		vring_dev_disarm(&flow->rx->ring);
	report_asked(flow);
}

static inline void
give_back(struct sw_net_vq *vq, const struct vring_chain *chains, uint16_t nr, bool batch)
{
	vring_dev_consume(&vq->ring, chains, nr);
	if (batch)
		vring_dev_push_batch(&vq->ring, chains, nr);
	else
		vring_dev_push_chains(&vq->ring, chains, nr);
	vring_dev_flush(&vq->ring);
}

/* By a device that is faulty, or reports what it writes. */
static void
give_back_noted(struct sw_net_vq *vq, const struct vring_chain *chains, uint16_t nr, bool batch)
{
	struct vring_chain told[RX_PEEK];

	if (vq->faulty) {
		memcpy(told, chains, nr * sizeof(*chains));
		sw_net_fault_chains(vq, told, nr);
		chains = told;
		batch = false;
	}
	give_back(vq, chains, nr, batch);
	if (is_logging(vq))
		vdpa_dirty_chains(&vq->dev->vdpa, &vq->ring, chains, nr);
}

static inline void
complete(struct sw_net_vq *vq, const struct vring_chain *chains, uint16_t nr, bool batch)
{
	/* one branch for both */
	if (unlikely(vq->faulty | is_logging(vq)))
		give_back_noted(vq, chains, nr, batch);
	else
		give_back(vq, chains, nr, batch);
}

/* Give nr transmit buffers back. */
static inline void
complete_tx(struct sw_net_vq *tx, const struct vring_chain *out, uint16_t nr)
{
	complete(tx, out, nr, tx->in_order);
}

static inline void
complete_rx(struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr)
{
	complete(rx, in, nr, false);
}

/* Bytes of frames among chains whose headers may be cut off. */
static inline uint32_t
frame_bytes(const struct sw_net_vq *tx, const struct vring_chain *out)
{
	return out->readable_bytes > tx->hdr_bytes ? out->readable_bytes - tx->hdr_bytes : 0;
}

/* Nobody receives: take the frames and count them. */
static unsigned int
discard(struct sw_net_flow *flow, enum sw_net_stat why)
{
	struct sw_net_vq *tx = flow->tx;
	struct sw_net_burst out;
	uint64_t bytes = 0;
	uint16_t nr;

	nr = vring_dev_peek(&tx->ring, out.chains, BURST, out.segs, NR_SEGS);
	if (unlikely(vring_dev_error(&tx->ring) != VRING_ERR_NONE)) {
		sw_net_vq_fail(tx, NULL);
		return finish_burst(flow, 0);
	}
	nr = sw_net_pass(flow, nr);
	for (uint16_t i = 0; i < nr; i++)
		bytes += frame_bytes(tx, &out.chains[i]);
	if (nr != 0) {
		if (unlikely(flow->capturing))
			sw_net_capture_sent(tx, out.chains, nr);
		complete_tx(tx, out.chains, nr);
		sw_net_count(tx, SW_NET_PACKETS, nr);
		sw_net_count(tx, SW_NET_BYTES, bytes);
		sw_net_count(tx, why, nr);
	}
	return finish_burst(flow, nr);
}

/*
 * A frame of the common shape: one segment, or the header alone in a first one, to one segment, no
 * offload. false: it is another shape.
 */
static inline bool
forward_simple(const struct sw_net_vq *tx, const struct sw_net_vq *rx,
	const struct vring_chain *out, struct vring_chain *in)
{
	const struct vring_seg *from = out->segs, *to = in->segs;
	uint32_t tx_hdr = tx->hdr_bytes, rx_hdr = rx->hdr_bytes;
	uint32_t len = out->readable_bytes - tx_hdr;
	uint16_t flags_and_gso;
	const uint8_t *frame;

	if (unlikely(out->nr_readable != out->nr_segs || in->nr_segs != 1 ||
		    in->writable_bytes < rx_hdr + (uint64_t)len || len > SW_NET_FRAME_MAX ||
		    len < SW_NET_FRAME_MIN))
		return false;
	if (out->nr_segs == 1)
		frame = from->va + tx_hdr;
	else if (out->nr_segs == 2 && from->len == tx_hdr)
		frame = from[1].va;
	else
		return false;
	/* other flags than NEEDS_CSUM are ignored; what offloads do not use is not looked at */
	memcpy(&flags_and_gso, from->va, sizeof(flags_and_gso));
	if (unlikely((flags_and_gso & tx->offload_mask) != 0))
		return false;
	memcpy(to->va, &rx->plain_header, sizeof(uint64_t));
	if (rx_hdr == sizeof(struct virtio_net_hdr_v1))
		memcpy(to->va + 8, (const uint8_t *)&rx->plain_header + 8, sizeof(uint32_t));
	else
		memset(to->va + 8, 0, sizeof(uint16_t));
	vring_copy(to->va + rx_hdr, frame, len);
	in->done.len = rx_hdr + len;
	return true;
}

/*
 * A long frame is not in a cache near by: ask for what the copy after this one reads and writes.
 * The first two lines of both were asked for when they were peeked.
 */
static inline void
prefetch_long(const struct vring_chain *out, const struct vring_chain *in)
{
	const struct vring_seg *from = &out->segs[out->nr_segs - 1], *to = in->segs;
	uint32_t len = RTE_MIN(from->len, PREFETCH_MAX);

	for (uint32_t at = PREFETCH_FROM; at < len; at += RTE_CACHE_LINE_SIZE)
		vring_prefetch_read(from->va + at);
	len = RTE_MIN(to->len, len);
	for (uint32_t at = PREFETCH_FROM; at < len; at += RTE_CACHE_LINE_SIZE)
		vring_prefetch_write(to->va + at);
}

/* What a burst moved. */
struct moved {
	uint64_t tx_bytes, rx_bytes;
	uint16_t nr_tx, nr_rx, nr_frames;
};

/*
 * Move frames out[moved->nr_tx] to out[end - 1] into the buffers from in[moved->nr_rx] on.
 * @return 0, or the negative sw_net_frame_result that stopped it
 */
static inline int
forward_chunk(struct sw_net_vq *tx, struct sw_net_vq *rx, const struct vring_chain *out,
	uint16_t end, struct vring_chain *in, uint16_t nr_in, struct moved *moved)
{
	for (; moved->nr_tx < end; moved->nr_tx++) {
		const struct vring_chain *frame = &out[moved->nr_tx];
		struct vring_chain *to = &in[moved->nr_rx];
		uint16_t nr_left = nr_in - moved->nr_rx;
		int used = 1;

		if (frame->readable_bytes > PREFETCH_FROM && moved->nr_tx + 1 < end &&
			nr_left > 1 && frame[1].nr_segs != 0 && to[1].nr_segs != 0)
			prefetch_long(&frame[1], &to[1]);
		if (unlikely(nr_left == 0 || !forward_simple(tx, rx, frame, to))) {
			used = sw_net_frame(tx, rx, frame, to, nr_left);
			if (used < 0)
				return used;
		}
		moved->tx_bytes += frame_bytes(tx, frame);
		if (likely(used != SW_NET_FRAME_DROPPED)) {
			moved->rx_bytes += frame_bytes(tx, frame);
			moved->nr_frames++;
			moved->nr_rx += used;
		}
	}
	return 0;
}

static void
count_moved(struct sw_net_vq *tx, struct sw_net_vq *rx, const struct moved *moved)
{
	sw_net_count(tx, SW_NET_PACKETS, moved->nr_tx);
	sw_net_count(tx, SW_NET_BYTES, moved->tx_bytes);
	sw_net_count(rx, SW_NET_PACKETS, moved->nr_frames);
	sw_net_count(rx, SW_NET_BYTES, moved->rx_bytes);
}

/* All that the driver can give, or as many as a frame may take: waiting for more is no use. */
static bool
is_full(const struct sw_net_vq *rx, const struct sw_net_burst *in, uint16_t nr)
{
	uint32_t slots = 0, segs = 0;

	for (uint16_t i = 0; i < nr; i++) {
		slots += in->chains[i].done.slots;
		segs += in->chains[i].nr_segs;
	}
	return nr == RX_PEEK || slots >= rx->ring.size || segs + VRING_SEGS_DEFAULT > NR_SEGS;
}

/* Nothing could be moved. @return frames given back nevertheless */
static uint16_t
forward_stuck(struct sw_net_flow *flow, const struct sw_net_burst *out,
	const struct sw_net_burst *in, uint16_t nr_in)
{
	struct sw_net_vq *tx = flow->tx, *rx = flow->rx;

	if (nr_in != 0 && is_full(rx, in, nr_in)) {
		sw_net_count(tx, SW_NET_PACKETS, 1);
		sw_net_count(tx, SW_NET_BYTES, frame_bytes(tx, &out->chains[0]));
		sw_net_count(tx, SW_NET_DROP_TOO_BIG, 1);
		complete_tx(tx, out->chains, 1);
		return 1;
	}
	if (!flow->blocked)
		sw_net_count(rx, SW_NET_RX_WAITS, 1);
	flow->blocked = true;
	return 0;
}

/*
 * Move frames out[0] to out[nr_out - 1]. At first as many receive buffers as frames are looked at:
 * only where frames take more than one each are more of them needed.
 * @return 0, or the negative sw_net_frame_result that stopped it; *nr_in: buffers peeked last
 */
static int
forward_all(struct sw_net_flow *flow, const struct sw_net_burst *out, uint16_t nr_out,
	struct sw_net_burst *in, uint16_t *nr_in, struct moved *moved)
{
	struct sw_net_vq *tx = flow->tx, *rx = flow->rx;
	/* a driver that waits for us gets its frames early; a long backlog is published at once */
	bool backlog = nr_out == BURST && vring_dev_backlog(&tx->ring, out->chains, nr_out);
	uint16_t chunk = backlog ? BURST : CHUNK;
	bool more = rx->mergeable;

	while (moved->nr_tx < nr_out) {
		uint16_t tx_at = moved->nr_tx, rx_at = moved->nr_rx;
		uint16_t end = RTE_MIN(tx_at + chunk, nr_out);
		int stop = forward_chunk(tx, rx, out->chains, end, in->chains, *nr_in, moved);

		if (unlikely(flow->capturing)) {
			sw_net_capture_sent(tx, out->chains + tx_at, moved->nr_tx - tx_at);
			sw_net_capture_received(rx, in->chains + rx_at, moved->nr_rx - rx_at);
		}
		complete_rx(rx, in->chains + rx_at, moved->nr_rx - rx_at);
		if (likely(stop == 0))
			continue;
		if (stop != SW_NET_FRAME_WAIT || !more)
			return stop;
		more = false;
		moved->nr_rx = 0;
		*nr_in = vring_dev_peek(&rx->ring, in->chains, RX_PEEK, in->segs, NR_SEGS);
		if (vring_dev_error(&rx->ring) != VRING_ERR_NONE)
			return stop;
	}
	return 0;
}

static unsigned int
forward(struct sw_net_flow *flow)
{
	struct sw_net_vq *tx = flow->tx, *rx = flow->rx;
	struct moved moved = {0};
	struct sw_net_burst out, in;
	uint16_t nr_out, nr_in;
	int stop;

	if (unlikely(sw_net_is_holding(flow->held)))
		return sw_net_held_deliver(flow, tx);
	nr_out = vring_dev_peek(&tx->ring, out.chains, BURST, out.segs, NR_SEGS);
	if (unlikely(vring_dev_error(&tx->ring) != VRING_ERR_NONE)) {
		sw_net_vq_fail(tx, NULL);
		return finish_burst(flow, 0);
	}
	nr_out = sw_net_pass(flow, nr_out);
	if (nr_out == 0) {
		flow->blocked = false;
		return finish_burst(flow, 0);
	}
	nr_in = vring_dev_peek(&rx->ring, in.chains, nr_out, in.segs, NR_SEGS);
	if (unlikely(vring_dev_error(&rx->ring) != VRING_ERR_NONE)) {
		sw_net_vq_fail(rx, NULL);
		return finish_burst(flow, 0);
	}
	stop = forward_all(flow, &out, nr_out, &in, &nr_in, &moved);
	complete_tx(tx, out.chains, moved.nr_tx);
	count_moved(tx, rx, &moved);
	if (likely(moved.nr_tx != 0 || stop != SW_NET_FRAME_WAIT))
		flow->blocked = false;
	else
		moved.nr_tx = forward_stuck(flow, &out, &in, nr_in);
	if (unlikely(stop == SW_NET_FRAME_BAD_TX))
		sw_net_vq_fail(tx, "device-writable segment in a transmit buffer");
	else if (unlikely(stop == SW_NET_FRAME_BAD_RX))
		sw_net_vq_fail(rx, "device-readable segment in a receive buffer");
	else if (unlikely(vring_dev_error(&rx->ring) != VRING_ERR_NONE))
		sw_net_vq_fail(rx, NULL);
	else if (unlikely(stop == SW_NET_FRAME_CUT))
		sw_net_cut_take(flow, &out.chains[moved.nr_tx++]);
	return finish_burst(flow, moved.nr_tx);
}

unsigned int
sw_net_poll(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;

	if (unlikely(flow->armed))
		disarm(flow);
	if (unlikely(!usable(flow->tx)))
		return 0;
	if (likely(usable(flow->rx)))
		return forward(flow);
	return discard(flow, flow->rx != NULL ? SW_NET_DROP_RX_OFF : flow->no_rx);
}

/*
 * true: keep polling. A frame that fills more buffers than the driver has given so far keeps the
 * flow polling, too: a kick cannot be asked for the second next buffer.
 */
bool
sw_net_arm(struct vdpa_path *path)
{
	struct sw_net_flow *flow = (struct sw_net_flow *)path;
	bool more;

	if (!usable(flow->tx) || (flow->gated && sw_net_fault_hangs(flow)))
		return false;
	flow->armed = true;
	more = vring_dev_arm(&flow->tx->ring);
	if (!more && flow->blocked && usable(flow->rx)) {
		/* the next thing to wait for is a receive buffer, not another frame */
		vring_dev_disarm(&flow->tx->ring);
		more = vring_dev_arm(&flow->rx->ring);
	}
	report_asked(flow);
	return more;
}

/* ---- for the paths of other files ---- */

bool
sw_net_vq_usable(const struct sw_net_vq *vq)
{
	return usable(vq);
}

void
sw_net_disarm(struct sw_net_flow *flow)
{
	disarm(flow);
}

bool
sw_net_arm_rx(struct sw_net_flow *flow)
{
	bool more;

	flow->armed = true;
	more = vring_dev_arm(&flow->rx->ring);
	report_asked(flow);
	return more;
}

bool
sw_net_rx_is_full(const struct sw_net_vq *rx, const struct sw_net_burst *in, uint16_t nr)
{
	return is_full(rx, in, nr);
}

void
sw_net_complete_tx(struct sw_net_vq *tx, const struct vring_chain *out, uint16_t nr)
{
	complete_tx(tx, out, nr);
}

void
sw_net_complete_rx(struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr)
{
	complete_rx(rx, in, nr);
}

unsigned int
sw_net_finish_burst(struct sw_net_flow *flow, unsigned int nr)
{
	return finish_burst(flow, nr);
}

unsigned int
sw_net_discard(struct sw_net_flow *flow, enum sw_net_stat why)
{
	return discard(flow, why);
}
