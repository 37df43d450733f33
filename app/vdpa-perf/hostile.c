/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "bad_ring.h"
#include "hostile.h"
#include "perf.h"

#define RING_SIZE   32
#define SLOT_BYTES  (2u << 20) /* of a receive buffer: a bad ring needs 64 MiB of memory */
#define FRAME_BYTES 100
#define WAIT_US     30000000
#define PAUSE_US    20 /* between two looks: the processor is another's meanwhile */
#define RACE        "changes while it is read"

struct hostile {
	char device[32];
	struct perf_guest guest;
	pthread_t thread;
	bool began;
	atomic_bool end;
	_Atomic(const char *) why; /* what is waited for */
	atomic_bool stopped;       /* the queue, for that */
	const char *harmless;      /* an attack after which the queue went on */
	bool failed;               /* that, or no restart */
	uint64_t nr_attacks;
	unsigned int next; /* case, each twice */
};

struct hostiles {
	unsigned int nr;
	struct hostile all[];
};

static void
kick(const struct perf_guest_queue *q)
{
	uint64_t one = 1;

	if (write(q->kick_fd, &one, sizeof(one)) < 0)
		fprintf(stderr, "a kick is lost: %s\n", strerror(errno));
}

static bool
is_packed(const struct hostile *h)
{
	return (h->guest.config.features & PERF_BIT(VIRTIO_F_RING_PACKED)) != 0;
}

static struct bad_ring_place
place_of(const struct hostile *h, const struct perf_guest_queue *q)
{
	const struct perf_memory *m = &h->guest.memory;
	/* the upper half of the last receive buffer: no frame is so long */
	uint64_t good = h->guest.rx[0].q.slots_iova + RING_SIZE * (uint64_t)SLOT_BYTES -
		SLOT_BYTES / 2;

	return (struct bad_ring_place){
		.packed = is_packed(h),
		.size = RING_SIZE,
		.to_driver = q == &h->guest.rx[0],
		.desc = perf_memory_ptr(m, q->q.desc_iova),
		.driver = perf_memory_ptr(m, q->q.driver_iova),
		.start_iova = m->region.iova,
		.end_iova = m->region.iova + m->region.size,
		.good_iova = good,
		.good = perf_memory_ptr(m, good),
	};
}

/* A listener: one at a time. */
static void
heard(enum vdpa_event_type type, const char *device, const char *text, void *arg)
{
	struct hostiles *all = arg;

	for (unsigned int i = 0; i < all->nr && type == VDPA_EVENT_VQ_FAILED; i++) {
		struct hostile *h = &all->all[i];
		const char *why = atomic_load(&h->why);

		if (strcmp(device, h->device) == 0 && why != NULL && strstr(text, why) != NULL)
			atomic_store(&h->stopped, true);
	}
}

static bool
wait_stopped(struct hostile *h)
{
	uint64_t until = perf_now_us() + WAIT_US;

	while (!atomic_load(&h->stopped)) {
		if (perf_now_us() > until)
			return false;
		usleep(PAUSE_US);
	}
	return true;
}

static bool
break_ring(struct hostile *h, const struct bad_ring_case *c, bool receive)
{
	struct perf_guest_queue *q = receive ? &h->guest.rx[0] : &h->guest.tx[0];
	const struct bad_ring_place place = place_of(h, q);

	atomic_store(&h->why, bad_ring_why(c));
	bad_ring_offer(c, &place);
	kick(q);
	if (receive)
		perf_guest_send(&h->guest, 0, 1);
	return wait_stopped(h);
}

/* Make the first descriptor of a split ring available again, or the next one of a packed ring. */
static uint64_t *
race_offer(struct hostile *h, const struct bad_ring_place *place, uint32_t n)
{
	struct vring_packed_desc *packed = place->desc;
	struct vring_desc *split = place->desc;
	struct vring_avail *avail = place->driver;
	uint16_t bit = n / RING_SIZE % 2 == 0 ? VRING_PACKED_DESC_F_AVAIL
					      : VRING_PACKED_DESC_F_USED;

	if (place->packed) {
		packed += n % RING_SIZE;
		packed->addr = place->good_iova;
		packed->len = FRAME_BYTES;
		__atomic_store_n(&packed->flags, 1 << bit, __ATOMIC_RELEASE);
	} else {
		split->len = FRAME_BYTES;
		__atomic_store_n(&avail->idx, (uint16_t)(n + 1), __ATOMIC_RELEASE);
	}
	kick(&h->guest.tx[0]);
	return place->packed ? (uint64_t *)&packed->addr : (uint64_t *)&split->addr;
}

static bool
race_is_back(const struct hostile *h, const struct bad_ring_place *place, uint32_t n)
{
	const struct perf_queue *q = &h->guest.tx[0].q;
	const struct vring_packed_desc *packed = place->desc;
	const struct vring_used *used = perf_memory_ptr(&h->guest.memory, q->device_iova);
	uint16_t both = 1 << VRING_PACKED_DESC_F_AVAIL | 1 << VRING_PACKED_DESC_F_USED, flags;

	if (!place->packed)
		return __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == (uint16_t)(n + 1);
	flags = __atomic_load_n(&packed[n % RING_SIZE].flags, __ATOMIC_ACQUIRE) & both;
	return flags == (n / RING_SIZE % 2 == 0 ? both : 0);
}

/*
 * The address of a buffer goes out of the memory and comes back, until the device meets it there.
 * Nobody receives: it has to be asked to look again.
 */
static bool
race(struct hostile *h)
{
	const struct bad_ring_place place = place_of(h, &h->guest.tx[0]);
	uint64_t until = perf_now_us() + WAIT_US;

	atomic_store(&h->why, "outside the peer");
	memset(place.good, 0, FRAME_BYTES);
	for (uint32_t n = 0;; n++) {
		uint64_t *addr = race_offer(h, &place, n);

		for (uint32_t i = 0; !race_is_back(h, &place, n); i++) {
			__atomic_store_n(addr, i % 2 == 0 ? place.end_iova : place.good_iova,
				__ATOMIC_RELAXED);
			if (atomic_load(&h->stopped))
				return true;
			if (i % 64 == 0) {
				kick(&h->guest.tx[0]);
				usleep(1);
			}
			if (perf_now_us() > until)
				return false;
		}
	}
}

static bool
attack(struct hostile *h)
{
	const struct bad_ring_case *c = bad_ring_case(h->next / 2, is_packed(h));
	bool done;

	h->harmless = c != NULL ? bad_ring_name(c) : RACE;
	atomic_store(&h->stopped, false);
	done = c != NULL ? break_ring(h, c, h->next % 2 != 0) : race(h);
	atomic_store(&h->why, NULL);
	h->next = c != NULL ? h->next + 1 : 0;
	if (done)
		h->harmless = NULL;
	return done;
}

static void *
run(void *arg)
{
	struct hostile *h = arg;

	do {
		h->failed = !attack(h) || perf_guest_restart(&h->guest) != 0;
		h->nr_attacks += !h->failed;
	} while (!h->failed && !atomic_load(&h->end));
	return NULL;
}

static int
open_one(struct hostile *h, unsigned int number, bool packed)
{
	const struct perf_guest_config config = {
		.device = h->device,
		.features = perf_guest_features(packed, true, false) |
			PERF_BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.nr_pairs = 1,
		.ring_size = RING_SIZE,
		.frame_bytes = FRAME_BYTES,
		.rx_bytes = SLOT_BYTES,
	};
	int rc;

	snprintf(h->device, sizeof(h->device), "perf_bad%u", number);
	rc = perf_device_add("sw_net", h->device, "backend=loopback");
	if (rc == 0)
		rc = perf_guest_open(&h->guest, &config);
	return rc != 0 ? rc : perf_guest_restart(&h->guest);
}

struct hostiles *
hostiles_open(unsigned int nr, bool packed)
{
	struct hostiles *all = calloc(1, sizeof(*all) + nr * sizeof(all->all[0]));

	if (all == NULL) {
		fprintf(stderr, "no memory for %u drivers\n", nr);
		return NULL;
	}
	for (; all->nr < nr; all->nr++) {
		if (open_one(&all->all[all->nr], all->nr, packed) != 0) {
			all->nr++;
			hostiles_close(all);
			return NULL;
		}
	}
	vdpa_event_listen(heard, all);
	return all;
}

void
hostiles_close(struct hostiles *all)
{
	if (all == NULL)
		return;
	vdpa_event_listen(NULL, NULL);
	for (unsigned int i = 0; i < all->nr; i++) {
		perf_guest_close(&all->all[i].guest);
		perf_device_del(all->all[i].device);
	}
	free(all);
}

int
hostiles_begin(struct hostiles *all)
{
	int rc = 0;

	for (unsigned int i = 0; i < all->nr && rc == 0; i++) {
		struct hostile *h = &all->all[i];

		atomic_store(&h->end, false);
		rc = -pthread_create(&h->thread, NULL, run, h);
		h->began = rc == 0;
	}
	if (rc == 0)
		return 0;
	fprintf(stderr, "no thread for a hostile driver: %s\n", strerror(-rc));
	hostiles_end(all);
	return rc;
}

bool
hostiles_end(struct hostiles *all)
{
	bool done = true;

	for (unsigned int i = 0; i < all->nr; i++)
		atomic_store(&all->all[i].end, true);
	for (unsigned int i = 0; i < all->nr; i++) {
		struct hostile *h = &all->all[i];

		if (h->began)
			pthread_join(h->thread, NULL);
		h->began = false;
		if (h->harmless != NULL)
			fprintf(stderr, "%s: %s: the queue did not stop\n", h->device, h->harmless);
		done = done && !h->failed;
	}
	return done;
}

uint64_t
hostiles_attacks(const struct hostiles *all)
{
	uint64_t nr = 0;

	for (unsigned int i = 0; i < all->nr; i++)
		nr += all->all[i].nr_attacks;
	return nr;
}
