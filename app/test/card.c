/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "card.h"
#include "vring.h"
#include "vring_dev.h"

#define BIT(feature) (UINT64_C(1) << (feature))
#define CARD_FEATURES                                                                           \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_NET_F_MAC) |      \
		BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MQ) | \
		BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |                         \
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_RING_F_EVENT_IDX) |                \
		BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_F_RING_PACKED))
#define MAPS_MAX       32
#define VQS_MAX        16
#define OPS_MAX        32
#define BURST          8
#define SEGS           (BURST * 300)
#define DOORBELL_BYTES 4096
#define PATIENCE_MS    20000

struct card_vq {
	bool runs;
	struct vring_dev ring;
	int call_fd;
	struct vring_range areas[3];
	uint32_t rung; /* doorbell as last seen */
	uint8_t *inflight;
	bool work;
};

struct card_op {
	const char *name;
	unsigned int calls, delay_ms;
	enum card_fault fault;
};

struct card {
	struct vdpa_device dev;
	struct card_conf conf;
	struct vdpa_device_ops ops;
	struct virtio_net_config config;
	pthread_t thread;
	pthread_mutex_t lock; /* all below but the doorbells: the engine holds it for a burst */
	void (*step)(struct card *card, const char *op, bool after, void *arg);
	void *step_arg;
	pthread_cond_t released;
	atomic_bool quit;
	atomic_uint fences; /* asked for, not seen yet */
	bool started, fresh, hanging, let_go, logging;
	bool fenced; /* until it is reset */
	unsigned int in_op;
	struct vring_region maps[MAPS_MAX];
	struct vring_mem mem;
	struct card_vq vqs[VQS_MAX];
	uint64_t features; /* of the start, for vq_start */
	uint16_t nr_active_pairs;
	struct card_op op[OPS_MAX];
	unsigned int violations;
	uint64_t frames;
	int doorbell_fd;
	_Atomic(uint32_t) *doorbells;
	struct vring_chain tx[BURST], rx[BURST];
	struct vring_seg tx_segs[SEGS], rx_segs[SEGS];
};

static struct card *
card_of(struct vdpa_device *dev)
{
	return (struct card *)dev;
}

static struct card_op *
find_op(struct card *card, const char *name)
{
	unsigned int i;

	for (i = 0; card->op[i].name != NULL && strcmp(card->op[i].name, name) != 0; i++)
		;
	card->op[i].name = name;
	return &card->op[i];
}

/* A fence is seen by whoever has the lock next. */
static void
take_fences(struct card *card)
{
	unsigned int nr = atomic_exchange(&card->fences, 0);

	if (nr == 0)
		return;
	find_op(card, "fence")->calls += nr;
	card->fenced = true;
	for (uint16_t i = 0; i < VQS_MAX; i++)
		card->vqs[i].runs = false;
}

static void
step(struct card *card, const char *op, bool after)
{
	void (*fn)(struct card *, const char *, bool, void *);
	void *arg;

	pthread_mutex_lock(&card->lock);
	fn = card->step;
	arg = card->step_arg;
	pthread_mutex_unlock(&card->lock);
	if (fn != NULL)
		fn(card, op, after, arg);
}

/* Every op begins here: count it, see that ops do not overlap, go wrong as told. */
static int
op_enter(struct card *card, const char *name)
{
	struct card_op *op;
	enum card_fault fault;

	step(card, name, false);
	pthread_mutex_lock(&card->lock);
	take_fences(card);
	op = find_op(card, name);
	op->calls++;
	fault = op->fault;
	if (fault != CARD_DELAY)
		op->fault = CARD_OK;
	if (card->in_op++ != 0)
		card->violations++;
	if (fault == CARD_HANG) {
		card->hanging = true;
		while (!card->let_go)
			pthread_cond_wait(&card->released, &card->lock);
		card->hanging = false;
	}
	if (fault == CARD_DELAY) {
		unsigned int delay_ms = op->delay_ms;

		pthread_mutex_unlock(&card->lock);
		/* not in one: a program that is stopped meanwhile shall have it before it */
		for (unsigned int ms = 0; ms < delay_ms; ms++)
			usleep(1000);
		pthread_mutex_lock(&card->lock);
	}
	return fault == CARD_FAIL ? -EIO : 0;
}

static int
op_leave(struct card *card, int rc)
{
	card->in_op--;
	pthread_mutex_unlock(&card->lock);
	step(card, NULL, true);
	return rc;
}

static void
check_ring(struct card *card, uint16_t index)
{
	struct card_vq *vq = &card->vqs[index];
	enum vring_error error = vring_dev_error(&vq->ring);

	if (error == VRING_ERR_NONE || !vq->runs)
		return;
	if (error == VRING_ERR_ADDR_UNMAPPED || error == VRING_ERR_AREA_UNMAPPED ||
		error == VRING_ERR_INDIRECT_UNMAPPED)
		card->violations++;
	vq->runs = false;
	vdpa_vq_failed(&card->dev, index, -EBADMSG, vring_error_text(error));
}

static void
interrupt(struct card_vq *vq)
{
	uint64_t one = 1;
	ssize_t rc;

	vring_dev_flush(&vq->ring);
	if (vring_dev_signal_needed(&vq->ring)) {
		rc = write(vq->call_fd, &one, sizeof(one));
		(void)rc;
	}
}

void
card_lie(struct card *card, uint16_t index)
{
	struct vring_chain lie = {.done = {.id = 0x4000, .slots = 1}};
	struct card_vq *vq = &card->vqs[index];
	uint64_t one = 1;
	ssize_t rc;

	pthread_mutex_lock(&card->lock);
	vq->ring.in_flight++; /* or lib/vring will not write it */
	vring_dev_push_chains(&vq->ring, &lie, 1);
	vring_dev_flush(&vq->ring);
	vq->runs = false; /* or the card's own look at the ring blames the driver */
	rc = write(vq->call_fd, &one, sizeof(one));
	(void)rc;
	pthread_mutex_unlock(&card->lock);
}

/* A frame through the chains' segments, whatever their sizes. */
static uint32_t
copy_frame(const struct vring_chain *from, struct vring_chain *to)
{
	uint32_t copied = 0, from_at = 0, to_at = 0;
	uint16_t f = 0, t = to->nr_readable;

	while (f < from->nr_readable && t < to->nr_segs) {
		uint32_t len = from->segs[f].len - from_at;

		if (len > to->segs[t].len - to_at)
			len = to->segs[t].len - to_at;
		memcpy(to->segs[t].va + to_at, from->segs[f].va + from_at, len);
		copied += len;
		from_at += len;
		to_at += len;
		if (from_at == from->segs[f].len) {
			f++;
			from_at = 0;
		}
		if (to_at == to->segs[t].len) {
			t++;
			to_at = 0;
		}
	}
	return copied;
}

/* What a burst wrote: the buffers, and rings whole, as a simple card would. */
static void
report_written(struct card *card, struct card_vq *rx, struct card_vq *tx, uint16_t nr)
{
	struct vring_range written[BURST + 6];
	uint32_t at = 0;

	if (!card->logging)
		return;
	for (uint16_t i = 0; i < nr; i++)
		written[at++] = (struct vring_range){
			card->rx[i].segs[0].iova, card->rx[i].done.len};
	for (unsigned int i = 0; i < 3; i++) {
		written[at++] = rx->areas[i];
		written[at++] = tx->areas[i];
	}
	vdpa_dirty(&card->dev, written, at);
}

static bool
loop_pair(struct card *card, uint16_t pair)
{
	struct card_vq *rx = &card->vqs[2 * pair], *tx = &card->vqs[2 * pair + 1];
	const struct virtio_net_hdr_mrg_rxbuf header = {.num_buffers = 1};
	uint16_t nr, nr_rx;

	if (!rx->runs || !tx->runs || pair >= card->nr_active_pairs || (!rx->work && !tx->work))
		return false;
	nr = vring_dev_peek(&tx->ring, card->tx, BURST, card->tx_segs, SEGS);
	nr_rx = vring_dev_peek(&rx->ring, card->rx, nr, card->rx_segs, SEGS);
	nr = nr < nr_rx ? nr : nr_rx;
	for (uint16_t i = 0; i < nr; i++) {
		card->rx[i].done.len = copy_frame(&card->tx[i], &card->rx[i]);
		if (card->rx[i].nr_segs > 0 && card->rx[i].segs[0].len >= sizeof(header))
			memcpy(card->rx[i].segs[0].va, &header, sizeof(header));
	}
	if (nr > 0) {
		vring_dev_consume(&tx->ring, card->tx, nr);
		vring_dev_consume(&rx->ring, card->rx, nr);
		vring_dev_push_chains(&rx->ring, card->rx, nr);
		vring_dev_push_chains(&tx->ring, card->tx, nr);
		report_written(card, rx, tx, nr);
		interrupt(rx);
		interrupt(tx);
		card->frames += nr;
	} else {
		/* one side alone is no work: its next kick is asked for */
		bool rx_more = vring_dev_arm(&rx->ring), tx_more = vring_dev_arm(&tx->ring);

		rx->work = rx_more && tx_more;
		tx->work = rx->work;
	}
	check_ring(card, 2 * pair);
	check_ring(card, 2 * pair + 1);
	return nr > 0;
}

static void
hear_doorbells(struct card *card)
{
	for (uint16_t i = 0; i < 2 * card->conf.nr_pairs; i++) {
		uint32_t rung = atomic_load(&card->doorbells[i]);

		if (rung != card->vqs[i].rung)
			card->vqs[i].work = true;
		card->vqs[i].rung = rung;
	}
}

static bool
loop_all(struct card *card)
{
	bool busy = false;

	pthread_mutex_lock(&card->lock);
	take_fences(card);
	if (!card->hanging) {
		hear_doorbells(card);
		for (uint16_t pair = 0; pair < card->conf.nr_pairs; pair++)
			busy |= loop_pair(card, pair);
	}
	pthread_mutex_unlock(&card->lock);
	return busy;
}

static void *
engine(void *arg)
{
	struct card *card = arg;

	while (!atomic_load(&card->quit))
		if (!loop_all(card))
			usleep(50);
	return NULL;
}

void
card_work(struct card *card)
{
	/* it does not rely on doorbells, which ring when the control thread has time */
	for (uint16_t i = 0; i < 2 * card->conf.nr_pairs; i++)
		atomic_fetch_add(&card->doorbells[i], 1);
	while (loop_all(card))
		;
}

void
card_on_step(struct card *card,
	void (*fn)(struct card *card, const char *op, bool after, void *arg), void *arg)
{
	pthread_mutex_lock(&card->lock);
	card->step_arg = arg;
	card->step = fn;
	pthread_mutex_unlock(&card->lock);
}

static int
card_get_info(struct vdpa_device *dev, struct vdpa_info *info)
{
	struct card *card = card_of(dev);

	*info = (struct vdpa_info){
		.virtio_id = VIRTIO_ID_NET,
		.nr_vqs_max = 2 * card->conf.nr_pairs,
		.vq_size_min = 1,
		.vq_size_max = card->conf.vq_size_max != 0 ? card->conf.vq_size_max : 1024,
		.vendor_id = 0x1af4,
		.config_size_bytes = sizeof(card->config),
		.features = card->conf.features != 0 ? card->conf.features : CARD_FEATURES,
		.caps = (VDPA_CAP_GET_STATE | VDPA_CAP_SET_STATE | VDPA_CAP_IN_ORDER |
				VDPA_CAP_LATE_VQ) &
			~card->conf.caps_off,
		.iova_last = (UINT64_C(1) << 48) - 1,
		.numa_node = -1,
		.relay = card->conf.relay,
		.op_deadline_ms = card->conf.hangs ? 0 : PATIENCE_MS,
	};
	if (card->conf.logs)
		info->caps |= VDPA_CAP_DIRTY;
	return 0;
}

static int
ring_start(struct card *card, uint64_t features, const struct vdpa_vq_config *vq)
{
	struct vring_config config = {
		.size = vq->size,
		.features = features,
		.desc_iova = vq->desc_iova,
		.driver_iova = vq->driver_iova,
		.device_iova = vq->device_iova,
		.mem = &card->mem,
		.state = {.avail = vq->state.avail, .used = vq->state.used},
	};
	struct card_vq *to = &card->vqs[vq->index];
	int rc;

	if (to->runs)
		card->violations++;
	rc = vring_dev_init(&to->ring, &config);
	if (rc != 0) {
		if (vring_dev_error(&to->ring) == VRING_ERR_AREA_UNMAPPED)
			card->violations++;
		return rc;
	}
	to->call_fd = vq->call_fd;
	to->areas[0] = (struct vring_range){vq->desc_iova, vring_desc_bytes(vq->size, features)};
	to->areas[1] = (struct vring_range){
		vq->driver_iova, vring_driver_bytes(vq->size, features)};
	to->areas[2] = (struct vring_range){
		vq->device_iova, vring_device_bytes(vq->size, features)};
	to->inflight = vq->inflight;
	to->work = true;
	to->runs = true;
	return 0;
}

static void
ring_stop(struct card *card, uint16_t index, struct vdpa_vq_state *state)
{
	struct vring_state at;

	card->vqs[index].runs = false;
	at = vring_dev_state(&card->vqs[index].ring);
	*state = (struct vdpa_vq_state){.avail = at.avail, .used = at.used};
}

static void
forget_notes(struct card *card)
{
	for (uint16_t i = 0; i < VQS_MAX; i++)
		card->vqs[i].inflight = NULL;
}

static void
stop_all(struct card *card, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	struct vdpa_vq_state unused;

	for (uint16_t i = 0; i < 2 * card->conf.nr_pairs; i++)
		if (card->vqs[i].runs)
			ring_stop(card, i, i < nr_vqs ? &states[i] : &unused);
	card->started = false;
}

static int
card_start(struct vdpa_device *dev, const struct vdpa_start *start)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "start");

	if (card->started)
		card->violations++;
	if (rc == 0 && (start->features & BIT(VIRTIO_F_ACCESS_PLATFORM)) == 0 &&
		(CARD_FEATURES & BIT(VIRTIO_F_ACCESS_PLATFORM)) != 0 && card->conf.features == 0)
		rc = -EINVAL;
	card->features = start->features;
	card->fresh = start->fresh;
	for (uint16_t i = 0; i < start->nr_vqs && rc == 0; i++)
		rc = ring_start(card, start->features, &start->vqs[i]);
	card->nr_active_pairs = start->nr_active_pairs;
	card->started = true;
	if (rc != 0)
		stop_all(card, NULL, 0);
	return op_leave(card, rc);
}

static int
card_stop(struct vdpa_device *dev, struct vdpa_vq_state *states, uint16_t nr_vqs)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "stop");

	if (!card->started)
		card->violations++;
	stop_all(card, states, nr_vqs);
	take_fences(card);
	if (rc == 0 && !card->fenced)
		forget_notes(card);
	return op_leave(card, rc);
}

static int
card_reset(struct vdpa_device *dev)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "reset");

	stop_all(card, NULL, 0);
	/* a card that hung may write notes until here */
	for (uint16_t i = 0; i < VQS_MAX; i++)
		if (card->vqs[i].inflight != NULL)
			card->vqs[i].inflight[0] = 1;
	forget_notes(card);
	card->fenced = false;
	card->logging = false;
	card->mem.nr_regions = 0;
	return op_leave(card, rc);
}

static int
card_fence(struct vdpa_device *dev)
{
	struct card *card = card_of(dev);

	for (unsigned int ms = 0; ms < card->conf.fence_ms; ms++)
		usleep(1000);
	/* without the lock, under which the card calls upwards */
	atomic_fetch_add(&card->fences, 1);
	return 0;
}

static int
card_vq_start(struct vdpa_device *dev, const struct vdpa_vq_config *vq)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "vq_start");

	if (!card->started)
		card->violations++;
	if (rc == 0)
		rc = ring_start(card, card->features, vq);
	return op_leave(card, rc);
}

static int
card_vq_stop(struct vdpa_device *dev, uint16_t index, struct vdpa_vq_state *state)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "vq_stop");

	ring_stop(card, index, state);
	return op_leave(card, rc);
}

static void
card_kick(struct vdpa_device *dev, uint16_t index)
{
	atomic_fetch_add(&card_of(dev)->doorbells[index], 1);
}

static int
card_set_active_queues(struct vdpa_device *dev, uint16_t nr_pairs)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "set_active_queues");

	if (rc == 0) {
		card->nr_active_pairs = nr_pairs;
		for (uint16_t i = 0; i < 2 * nr_pairs; i++)
			card->vqs[i].work = true;
	}
	return op_leave(card, rc);
}

static int
card_cvq(struct vdpa_device *dev, uint8_t cls, uint8_t cmd, const void *data, size_t len_bytes)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "cvq");

	if (rc == 0 && cls == VIRTIO_NET_CTRL_MAC && cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
		len_bytes == 6)
		memcpy(card->config.mac, data, len_bytes);
	return op_leave(card, rc);
}

static int
card_config_read(struct vdpa_device *dev, uint32_t offset, void *data, uint32_t len_bytes)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "config_read");

	memcpy(data, (const uint8_t *)&card->config + offset, len_bytes);
	return op_leave(card, rc);
}

static int
card_config_write(struct vdpa_device *dev, uint32_t offset, const void *data, uint32_t len_bytes)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "config_write");

	if (rc == 0)
		memcpy((uint8_t *)&card->config + offset, data, len_bytes);
	return op_leave(card, rc);
}

static void
mem_changed(struct card *card)
{
	for (uint16_t i = 0; i < 2 * card->conf.nr_pairs; i++) {
		struct card_vq *vq = &card->vqs[i];

		if (vq->runs && vring_dev_set_mem(&vq->ring, &card->mem) != 0) {
			vring_dev_break(&vq->ring, VRING_ERR_AREA_UNMAPPED);
			check_ring(card, i);
		}
	}
}

static void
map_one(struct card *card, const struct vdpa_range *range)
{
	uint32_t at = card->mem.nr_regions;

	while (at > 0 && card->maps[at - 1].iova > range->iova) {
		card->maps[at] = card->maps[at - 1];
		at--;
	}
	card->maps[at] = (struct vring_region){
		.iova = range->iova,
		.size = range->size_bytes,
		.va = range->va,
		.perm = VRING_PERM_RW,
	};
	card->mem.nr_regions++;
}

static int
card_map(struct vdpa_device *dev, const struct vdpa_range *range)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "map");

	if (rc == 0) {
		map_one(card, range);
		mem_changed(card);
	}
	return op_leave(card, rc);
}

static int
card_unmap(struct vdpa_device *dev, uint64_t iova, uint64_t size_bytes)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "unmap");
	uint32_t at = 0;

	while (at < card->mem.nr_regions && card->maps[at].iova != iova)
		at++;
	if (at == card->mem.nr_regions || card->maps[at].size != size_bytes) {
		card->violations++;
		rc = -EINVAL;
	}
	if (rc == 0) {
		card->mem.nr_regions--;
		memmove(&card->maps[at], &card->maps[at + 1],
			(card->mem.nr_regions - at) * sizeof(card->maps[0]));
		mem_changed(card);
	}
	return op_leave(card, rc);
}

static int
card_set_map(struct vdpa_device *dev, const struct vdpa_range *ranges, uint32_t nr_ranges)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "set_map");

	if (rc == 0) {
		card->mem.nr_regions = 0;
		for (uint32_t i = 0; i < nr_ranges; i++)
			map_one(card, &ranges[i]);
		mem_changed(card);
	}
	return op_leave(card, rc);
}

static int
card_dirty_start(struct vdpa_device *dev)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "dirty_start");

	if (card->logging)
		card->violations++;
	card->logging = rc == 0;
	return op_leave(card, rc);
}

static int
card_dirty_stop(struct vdpa_device *dev)
{
	struct card *card = card_of(dev);
	int rc = op_enter(card, "dirty_stop");

	if (!card->logging)
		card->violations++;
	card->logging = false;
	return op_leave(card, rc);
}

static const struct vdpa_device_ops card_ops = {
	.get_info = card_get_info,
	.start = card_start,
	.stop = card_stop,
	.reset = card_reset,
	.fence = card_fence,
	.vq_start = card_vq_start,
	.vq_stop = card_vq_stop,
	.kick = card_kick,
	.set_active_queues = card_set_active_queues,
	.cvq = card_cvq,
	.config_read = card_config_read,
	.config_write = card_config_write,
	.map = card_map,
	.unmap = card_unmap,
};

static void
card_free(struct card *card)
{
	if (card->doorbells != NULL)
		munmap((void *)card->doorbells, DOORBELL_BYTES);
	if (card->doorbell_fd >= 0)
		close(card->doorbell_fd);
	pthread_cond_destroy(&card->released);
	pthread_mutex_destroy(&card->lock);
	free(card);
}

static int
doorbells_create(struct card *card)
{
	void *page;

	card->doorbell_fd = memfd_create("doorbells", MFD_CLOEXEC);
	if (card->doorbell_fd < 0 || ftruncate(card->doorbell_fd, DOORBELL_BYTES) != 0)
		return -errno;
	page = mmap(NULL, DOORBELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, card->doorbell_fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	card->doorbells = page;
	return 0;
}

struct card *
card_create(const struct card_conf *conf)
{
	struct card *card = calloc(1, sizeof(*card));
	const uint8_t mac[6] = CARD_MAC;

	if (card == NULL)
		return NULL;
	card->conf = *conf;
	card->ops = card_ops;
	card->mem.regions = card->maps;
	pthread_mutex_init(&card->lock, NULL);
	pthread_cond_init(&card->released, NULL);
	if (conf->set_map) {
		card->ops.map = NULL;
		card->ops.unmap = NULL;
		card->ops.set_map = card_set_map;
	}
	if ((conf->caps_off & VDPA_CAP_LATE_VQ) != 0) {
		card->ops.vq_start = NULL;
		card->ops.vq_stop = NULL;
	}
	if (conf->logs) {
		card->ops.dirty_start = card_dirty_start;
		card->ops.dirty_stop = card_dirty_stop;
	}
	if (conf->no_fence)
		card->ops.fence = NULL;
	memcpy(card->config.mac, mac, sizeof(mac));
	if (conf->mac_last != 0)
		card->config.mac[5] = conf->mac_last;
	card->config.status = VIRTIO_NET_S_LINK_UP;
	card->config.max_virtqueue_pairs = conf->nr_pairs;
	card->dev.name = card->conf.name;
	card->dev.ops = &card->ops;
	if (doorbells_create(card) != 0 || vdpa_device_register(&card->dev) != 0) {
		card_free(card);
		return NULL;
	}
	if (!conf->manual && pthread_create(&card->thread, NULL, engine, card) != 0) {
		vdpa_device_unregister(&card->dev, true);
		card_free(card);
		return NULL;
	}
	return card;
}

int
card_destroy(struct card *card, bool force)
{
	int rc = vdpa_device_unregister(&card->dev, force);

	if (rc != 0)
		return rc;
	atomic_store(&card->quit, true);
	if (!card->conf.manual)
		pthread_join(card->thread, NULL);
	card_free(card);
	return 0;
}

struct vdpa_device *
card_device(struct card *card)
{
	return &card->dev;
}

void
card_fault(struct card *card, const char *op, enum card_fault fault, unsigned int ms)
{
	pthread_mutex_lock(&card->lock);
	find_op(card, op)->fault = fault;
	find_op(card, op)->delay_ms = ms;
	card->let_go = false;
	pthread_mutex_unlock(&card->lock);
}

void
card_release(struct card *card)
{
	pthread_mutex_lock(&card->lock);
	card->let_go = true;
	pthread_cond_broadcast(&card->released);
	pthread_mutex_unlock(&card->lock);
}

unsigned int
card_calls(struct card *card, const char *op)
{
	unsigned int calls;

	pthread_mutex_lock(&card->lock);
	take_fences(card);
	calls = find_op(card, op)->calls;
	pthread_mutex_unlock(&card->lock);
	return calls;
}

unsigned int
card_violations(struct card *card)
{
	unsigned int violations;

	pthread_mutex_lock(&card->lock);
	violations = card->violations;
	pthread_mutex_unlock(&card->lock);
	return violations;
}

bool
card_is_fresh(struct card *card)
{
	bool fresh;

	pthread_mutex_lock(&card->lock);
	fresh = card->fresh;
	pthread_mutex_unlock(&card->lock);
	return fresh;
}

uint64_t
card_frames(struct card *card)
{
	uint64_t frames;

	pthread_mutex_lock(&card->lock);
	frames = card->frames;
	pthread_mutex_unlock(&card->lock);
	return frames;
}

unsigned int
card_maps(struct card *card)
{
	unsigned int maps;

	pthread_mutex_lock(&card->lock);
	maps = card->mem.nr_regions;
	pthread_mutex_unlock(&card->lock);
	return maps;
}
