/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include <rte_common.h>

#include "vdpa_relay.h"
#include "vdpa_relay_vq.h"
#include "vdpa_shadow.h"

#define BURST       64
#define VQS_MAX     256
#define WRITTEN_MAX (VDPA_RELAY_WRITTEN_MIN + 4 * BURST)

struct relay_queue {
	struct vdpa_path path; /* first */
	struct vdpa_relay *relay;
	struct vdpa_relay_vq *vq;
	uint16_t index;
	bool runs, failed, asked;
	int shadow_kick, shadow_call;
	struct vdpa_call guest_call;
	struct vdpa_fd *guest_fd;  /* that it stands for; NULL: none, or nobody hears */
	_Atomic(uint64_t) entries; /* one writer: the worker; as what follows */
	_Atomic(uint32_t) lag, lag_max;
	uint32_t nr_full;
	struct vring_range written[WRITTEN_MAX];
	int rc; /* of set_mem */
};

struct vdpa_relay {
	struct vdpa_device_priv *priv;
	uint64_t features;
	uint16_t nr_vqs, vq_size;
	struct vdpa_shadow shadow;
	struct vdpa_domain *used; /* shadow.guest, by the queues that run */
	struct relay_queue **queues;
	_Atomic(uint64_t) entries_ended;
};

static void
queue_free(struct relay_queue *queue)
{
	if (queue == NULL)
		return;
	vdpa_relay_vq_free(queue->vq);
	if (queue->shadow_kick >= 0)
		close(queue->shadow_kick);
	if (queue->shadow_call >= 0)
		close(queue->shadow_call);
	vdpa_call_close(&queue->guest_call);
	vdpa_fd_put(queue->guest_fd);
	free(queue);
}

void
vdpa_relay_free(struct vdpa_relay *relay)
{
	if (relay == NULL)
		return;
	for (uint16_t i = 0; relay->queues != NULL && i < relay->nr_vqs; i++)
		queue_free(relay->queues[i]);
	free(relay->queues);
	vdpa_domain_put(relay->used);
	vdpa_shadow_fini(&relay->shadow);
	free(relay);
}

struct vdpa_relay *
vdpa_relay_create(struct vdpa_device_priv *priv, uint64_t features, uint16_t vq_size)
{
	struct vdpa_relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return NULL;
	relay->priv = priv;
	relay->features = features;
	relay->nr_vqs = priv->contract.nr_vqs;
	relay->vq_size = vq_size;
	relay->queues = calloc(relay->nr_vqs, sizeof(*relay->queues));
	if (relay->queues == NULL ||
		vdpa_shadow_init(&relay->shadow, vdpa_relay_shadow_bytes(vq_size, features),
			relay->nr_vqs) != 0) {
		vdpa_relay_free(relay);
		return NULL;
	}
	return relay;
}

void
vdpa_relay_take(struct vdpa_relay *relay, struct vdpa_device_priv *priv)
{
	relay->priv = priv;
	if (relay->shadow.domain != NULL)
		vdpa_domain_own(relay->shadow.domain, priv);
}

bool
vdpa_relay_fits(const struct vdpa_relay *relay, uint64_t features, uint16_t vq_size)
{
	return relay->features == features && relay->vq_size >= vq_size;
}

int
vdpa_relay_domain(struct vdpa_relay *relay, struct vdpa_domain *guest, struct vdpa_domain **out)
{
	int rc = vdpa_shadow_domain(&relay->shadow, guest, relay->priv);

	*out = relay->shadow.domain;
	return rc;
}

static void
kick_device(struct relay_queue *queue)
{
	struct vdpa_device *dev = queue->relay->priv->dev;
	uint64_t one = 1;
	ssize_t rc;

	if (dev->ops->kick != NULL) {
		dev->ops->kick(dev, queue->index);
		return;
	}
	rc = write(queue->shadow_kick, &one, sizeof(one));
	(void)rc;
}

static void
check(struct relay_queue *queue)
{
	enum vring_error error = vdpa_relay_vq_error(queue->vq);

	if (error == VRING_ERR_NONE || queue->failed)
		return;
	queue->failed = true;
	vdpa_vq_failed(queue->relay->priv->dev, queue->index,
		vdpa_relay_vq_device_broke(queue->vq) ? -EIO : -EBADMSG, vring_error_text(error));
}

static uint32_t
hand_back(struct relay_queue *queue)
{
	struct vdpa_device_priv *priv = queue->relay->priv;
	struct vdpa_relay_written written = {.ranges = queue->written, .nr_max = WRITTEN_MAX};
	bool log = atomic_load_explicit(&priv->dirty, memory_order_relaxed) != NULL;
	uint32_t nr;

	nr = vdpa_relay_vq_used(queue->vq, BURST, log ? &written : NULL);
	if (written.nr > 0)
		vdpa_dirty(priv->dev, written.ranges, written.nr);
	if (nr > 0 && vdpa_relay_vq_signal_needed(queue->vq))
		vdpa_call_write(&queue->guest_call);
	return nr;
}

static void
report_asked(struct relay_queue *queue)
{
	struct vdpa_relay_written written = {.ranges = queue->written, .nr_max = WRITTEN_MAX};

	vdpa_relay_vq_asked(queue->vq, &written);
	vdpa_dirty(queue->relay->priv->dev, written.ranges, written.nr);
}

#define LAG_EVERY 16

/* Where bursts were full more may wait: looked at now and then. */
static void
note_lag(struct relay_queue *queue, bool full)
{
	uint32_t lag = 0;

	if (full && queue->nr_full++ % LAG_EVERY != 0)
		return;
	if (full)
		lag = vdpa_relay_vq_behind(queue->vq);
	if (lag == atomic_load_explicit(&queue->lag, memory_order_relaxed))
		return;
	atomic_store_explicit(&queue->lag, lag, memory_order_relaxed);
	if (lag > atomic_load_explicit(&queue->lag_max, memory_order_relaxed))
		atomic_store_explicit(&queue->lag_max, lag, memory_order_relaxed);
}

static unsigned int
relay_poll(struct vdpa_path *path)
{
	struct relay_queue *queue = (struct relay_queue *)path;
	uint32_t nr_avail, nr_used;

	nr_avail = vdpa_relay_vq_avail(queue->vq, BURST);
	if (queue->asked)
		report_asked(queue);
	queue->asked = false;
	if (nr_avail > 0 && vdpa_relay_vq_kick_needed(queue->vq))
		kick_device(queue);
	nr_used = hand_back(queue);
	if (nr_avail + nr_used > 0)
		atomic_store_explicit(&queue->entries,
			atomic_load_explicit(&queue->entries, memory_order_relaxed) + nr_avail +
				nr_used,
			memory_order_relaxed);
	else
		check(queue);
	note_lag(queue, nr_avail == BURST || nr_used >= BURST);
	return nr_avail + nr_used;
}

static bool
relay_arm(struct vdpa_path *path)
{
	struct relay_queue *queue = (struct relay_queue *)path;
	bool more = vdpa_relay_vq_arm(queue->vq);

	queue->asked = true;
	report_asked(queue);
	return more;
}

static int
queue_create(struct vdpa_relay *relay, uint16_t index)
{
	struct relay_queue *queue = calloc(1, sizeof(*queue));

	if (queue == NULL)
		return -ENOMEM;
	queue->relay = relay;
	queue->index = index;
	queue->path.poll = relay_poll;
	queue->path.arm = relay_arm;
	atomic_init(&queue->guest_call.fd, -1);
	queue->shadow_kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->shadow_call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->vq = vdpa_relay_vq_create(relay->vq_size, relay->features);
	if (queue->shadow_kick < 0 || queue->shadow_call < 0 || queue->vq == NULL) {
		queue_free(queue);
		return -ENOMEM;
	}
	/* whoever reads the counters looks at the table meanwhile */
	pthread_mutex_lock(&relay->priv->lock);
	relay->queues[index] = queue;
	pthread_mutex_unlock(&relay->priv->lock);
	return 0;
}

static int
set_guest_call(struct relay_queue *queue, struct vdpa_fd *call)
{
	int rc;

	if (call != NULL && call == queue->guest_fd)
		return 0;
	rc = vdpa_call_set(&queue->guest_call, call);
	if (rc == 0) {
		vdpa_fd_put(queue->guest_fd);
		queue->guest_fd = vdpa_fd_get(call);
	}
	return rc;
}

int
vdpa_relay_vq_reserve(struct vdpa_relay *relay, uint16_t index, struct vdpa_fd *call)
{
	int rc = 0;

	if (relay->queues[index] == NULL) {
		vdpa_shadow_touch(&relay->shadow, index);
		rc = queue_create(relay, index);
	}
	/* a table of descriptors that has to grow takes milliseconds: not in the pause */
	return rc != 0 ? rc : set_guest_call(relay->queues[index], call);
}

static void
use_guest(struct vdpa_relay *relay)
{
	if (relay->used == relay->shadow.guest)
		return;
	vdpa_domain_put(relay->used);
	relay->used = vdpa_domain_get(relay->shadow.guest);
}

int
vdpa_relay_vq_prepare(struct vdpa_relay *relay, struct vdpa_vq_config *config, struct vdpa_fd *call)
{
	struct vdpa_device_priv *priv = relay->priv;
	struct vring_config guest =
				    {
					    .size = config->size,
					    .features = relay->features,
					    .desc_iova = config->desc_iova,
					    .driver_iova = config->driver_iova,
					    .device_iova = config->device_iova,
					    .mem = vdpa_domain_mem(relay->shadow.guest),
					    .state = {config->state.avail, config->state.used},
				    },
			    device;
	struct vring_state start = guest.state;
	struct relay_queue *queue;
	struct vdpa_fd to_relay = {.fd = -1};
	int rc;

	if (config->state.avail != config->state.used)
		return vdpa_error_set(-EBUSY, "virtqueue %u has buffers in flight", config->index);
	rc = vdpa_relay_vq_reserve(relay, config->index, call);
	if (rc != 0)
		return rc;
	queue = relay->queues[config->index];
	if ((priv->info.caps & VDPA_CAP_SET_STATE) == 0)
		start = (relay->features & (UINT64_C(1) << VIRTIO_F_RING_PACKED)) != 0
			? VRING_STATE_PACKED_START
			: VRING_STATE_SPLIT_START;
	rc = vdpa_relay_vq_init(queue->vq, &guest, vdpa_shadow_va(&relay->shadow, config->index),
		vdpa_shadow_iova(&relay->shadow, config->index), start, &device);
	if (rc != 0)
		return vdpa_error_set(rc, "virtqueue %u: %s", config->index,
			vring_error_text(vdpa_relay_vq_error(queue->vq)));
	rc = vdpa_relay_vq_notes(queue->vq, config->inflight);
	config->inflight = NULL;
	if (rc != 0)
		return vdpa_error_set(rc, "virtqueue %u: what a former device took cannot be done",
			config->index);
	queue->failed = false;
	to_relay.fd = queue->shadow_call;
	rc = vdpa_call_set(&priv->calls[config->index], &to_relay);
	if (rc != 0)
		return rc;
	queue->path.wake_fds[0] = config->kick_fd;
	queue->path.wake_fds[1] = queue->shadow_call;
	config->desc_iova = device.desc_iova;
	config->driver_iova = device.driver_iova;
	config->device_iova = device.device_iova;
	config->state = (struct vdpa_vq_state){device.state.avail, device.state.used};
	config->call_fd = atomic_load_explicit(
		&priv->calls[config->index].fd, memory_order_relaxed);
	config->kick_fd = queue->shadow_kick;
	return 0;
}

int
vdpa_relay_run(struct vdpa_relay *relay, const struct vdpa_vq_config *vqs, uint16_t nr)
{
	struct vdpa_path *paths[VQS_MAX] = {NULL};
	int rc;

	for (uint16_t i = 0; i < nr; i++) {
		paths[i] = &relay->queues[vqs[i].index]->path;
		paths[i]->group = vdpa_vq_group(relay->priv->dev, vqs[i].index);
	}
	rc = vdpa_paths_add(paths, nr, relay->priv->info.numa_node);
	for (uint16_t i = 0; i < nr; i++)
		relay->queues[vqs[i].index]->runs = rc == 0;
	use_guest(relay);
	return rc;
}

static uint16_t
running(struct vdpa_relay *relay, struct vdpa_path **paths)
{
	uint16_t nr = 0;

	for (uint16_t i = 0; i < relay->nr_vqs; i++)
		if (relay->queues[i] != NULL && relay->queues[i]->runs)
			paths[nr++] = &relay->queues[i]->path;
	return nr;
}

int
vdpa_relay_halt(struct vdpa_relay *relay)
{
	struct vdpa_path *paths[VQS_MAX] = {NULL};
	uint16_t nr = running(relay, paths);
	int rc = vdpa_paths_del(paths, nr);

	for (uint16_t i = 0; i < nr && rc == 0; i++)
		((struct relay_queue *)paths[i])->runs = false;
	return rc;
}

int
vdpa_relay_vq_end(struct vdpa_relay *relay, uint16_t index, struct vdpa_vq_state *state)
{
	struct relay_queue *queue = relay->queues[index];
	struct vring_state at;
	int rc;

	if (queue->runs) {
		rc = vdpa_path_del(&queue->path);
		if (rc != 0)
			return rc;
	}
	queue->runs = false;
	/* what the device published before it stopped, and no more */
	while (hand_back(queue) > 0)
		;
	at = vdpa_relay_vq_stop(queue->vq);
	report_asked(queue);
	*state = (struct vdpa_vq_state){at.avail, at.used};
	atomic_store(&queue->lag, 0);
	atomic_fetch_add(&relay->entries_ended, atomic_exchange(&queue->entries, 0));
	return 0;
}

int
vdpa_relay_vq_set_call(struct vdpa_relay *relay, uint16_t index, struct vdpa_fd *call)
{
	return set_guest_call(relay->queues[index], call);
}

void
vdpa_relay_vq_signal(struct vdpa_relay *relay, uint16_t index)
{
	vdpa_call_write(&relay->queues[index]->guest_call);
}

static void
take_mem(void *path)
{
	struct relay_queue *queue = path;

	queue->rc = vdpa_relay_vq_set_mem(queue->vq, vdpa_domain_mem(queue->relay->shadow.guest));
}

int
vdpa_relay_update_memory(struct vdpa_relay *relay)
{
	struct vdpa_path *paths[VQS_MAX] = {NULL};
	uint16_t nr = running(relay, paths);
	int rc = vdpa_paths_run(paths, nr, take_mem);

	for (uint16_t i = 0; i < nr && rc == 0; i++)
		rc = ((struct relay_queue *)paths[i])->rc;
	if (rc == 0)
		use_guest(relay);
	return rc;
}

int
vdpa_relay_settle(struct vdpa_relay *relay)
{
	struct vdpa_path *paths[VQS_MAX] = {NULL};

	return vdpa_paths_run(paths, running(relay, paths), NULL);
}

void
vdpa_relay_counters(const struct vdpa_relay *relay, struct vdpa_device_status *status)
{
	status->relayed += atomic_load(&relay->entries_ended);
	for (uint16_t i = 0; i < relay->nr_vqs; i++) {
		const struct relay_queue *queue = relay->queues[i];

		if (queue == NULL)
			continue;
		status->relayed += atomic_load_explicit(&queue->entries, memory_order_relaxed);
		status->lag += atomic_load_explicit(&queue->lag, memory_order_relaxed);
		status->lag_max = RTE_MAX(status->lag_max,
			atomic_load_explicit(&queue->lag_max, memory_order_relaxed));
	}
}
