/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <pthread.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "card_guest.h"
#include "vdpa_private.h"

/*
 * The order of steps of a switch-over. Every op of the cards stops before it begins and after it
 * has ended until the scheduler lets it go on, and the cards work only when they are told to: so
 * one event can be put into every place of every transition, with frames moving in between.
 */

#define BIT(feature) (UINT64_C(1) << (feature))
#define PLAIN        (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC))
#define LOG_BYTES    (((GUEST_IOVA_HOTPLUG + GUEST_REGION_BYTES) >> 12) / 8 + 8)
#define PAGE         4096u
#define WAIT_MS      20000

#define EVENTS(X)                                                 \
	X(RELAYED)                                                \
	X(DIRECT)                                                 \
	X(LOG_ON)                                                 \
	X(LOG_OFF)                                                \
	X(LOG_REPLACED)                                           \
	X(MEMORY)                                                 \
	X(STOP)                                                   \
	X(SWAP)                                                   \
	X(FAILED) /* the device says so; another one stands in */ \
	X(OP_FAILS)                                               \
	X(HANGS) /* and the consumer asks for a stop, with no patience */
#define EVENT_ENUM(name) name,
enum event {
	EVENTS(EVENT_ENUM) NR_EVENTS
};
#define NR_TRANSITIONS   OP_FAILS
#define EVENT_NAME(name) #name,
static const char *const event_names[] = {EVENTS(EVENT_NAME)};

struct variant {
	uint64_t features;
	uint64_t caps_off;
	bool logs;
};
static const struct variant variants[] = {
	{.features = PLAIN | BIT(VIRTIO_RING_F_EVENT_IDX)},
	{.features = PLAIN | BIT(VIRTIO_F_RING_PACKED)},
	{.features = PLAIN, .caps_off = VDPA_CAP_SET_STATE | VDPA_CAP_LATE_VQ, .logs = true},
};

/* ---- the scheduler ---- */

struct world {
	const struct variant *variant;
	struct card *cards[2];
	struct guest guest;
	struct vdpa_binding *spare;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stepping;           /* ops stop at each step */
	bool paused;             /* one does */
	bool after;              /* it has ended */
	char op[32];             /* its name */
	struct card *in;         /* whose */
	unsigned int turn, gone; /* counts what was let go on, and what went */
	unsigned int steps;      /* so far */
	pthread_t threads[2];    /* of events that wait */
	unsigned int nr_threads;
	bool hung;
	uint8_t *log, *copy; /* what a migration would have sent */
	bool promised;
};

static void
step(struct card *card, const char *op, bool after, void *arg)
{
	struct world *world = arg;
	unsigned int turn;

	pthread_mutex_lock(&world->lock);
	/* one at a time: the other binding's pass waits for its turn */
	while (world->stepping && world->paused)
		pthread_cond_wait(&world->changed, &world->lock);
	if (world->stepping) {
		world->paused = true;
		world->after = after;
		world->in = card;
		if (!after)
			snprintf(world->op, sizeof(world->op), "%s", op);
		turn = world->turn;
		pthread_cond_broadcast(&world->changed);
		while (world->stepping && world->turn == turn)
			pthread_cond_wait(&world->changed, &world->lock);
		world->paused = false;
		world->gone = world->turn;
		pthread_cond_broadcast(&world->changed);
	}
	pthread_mutex_unlock(&world->lock);
}

static void
set_stepping(struct world *world, bool on)
{
	pthread_mutex_lock(&world->lock);
	world->stepping = on;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static bool
works(struct world *world)
{
	return vdpa_work_wait(&world->guest.binding->work, 0) != 0 ||
		vdpa_work_wait(&world->spare->work, 0) != 0;
}

/* Until an op stops at its next step. false: nothing goes on any more. */
static bool
next_step(struct world *world)
{
	const struct timespec pause = {.tv_nsec = 50000};
	bool paused = false;

	for (unsigned int idle = 0; idle < 4 && !paused;) {
		pthread_mutex_lock(&world->lock);
		paused = world->paused;
		pthread_mutex_unlock(&world->lock);
		if (!paused) {
			idle = works(world) ? 0 : idle + 1;
			nanosleep(&pause, NULL);
		}
	}
	world->steps += paused;
	return paused;
}

static void
let_go(struct world *world)
{
	pthread_mutex_lock(&world->lock);
	world->turn++;
	pthread_cond_broadcast(&world->changed);
	while (world->gone != world->turn)
		pthread_cond_wait(&world->changed, &world->lock);
	pthread_mutex_unlock(&world->lock);
}

/* ---- the migration: pages whose bit is set are taken away, and copied ---- */

static void
sync_log(struct world *world)
{
	for (size_t i = 0; world->promised && i < GUEST_REGION_BYTES / PAGE; i++) {
		uint64_t page = (GUEST_IOVA >> 12) + i;
		uint8_t bit = 1u << (page % 8);

		if ((__atomic_fetch_and(&world->log[page / 8], (uint8_t)~bit, __ATOMIC_SEQ_CST) &
			    bit) != 0)
			memcpy(world->copy + i * PAGE,
				guest_va(&world->guest, GUEST_IOVA + i * PAGE), PAGE);
	}
}

static void
promise(struct world *world, bool on)
{
	struct vdpa_wanted *wanted = &world->guest.wanted;

	if (on) {
		world->log = mmap(
			NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_true(world->log != MAP_FAILED);
		memcpy(world->copy, guest_va(&world->guest, GUEST_IOVA), GUEST_REGION_BYTES);
	}
	world->promised = on;
	wanted->log = on;
	wanted->log_va = on ? world->log : NULL;
	wanted->log_size_bytes = LOG_BYTES;
	wanted->log_seq++;
}

/* The datapath is stopped: what only the device writes is there, to the byte. */
static void
check_copy(struct world *world)
{
	sync_log(world);
	for (uint64_t iova = GUEST_IOVA; iova < GUEST_IOVA + GUEST_REGION_BYTES; iova += PAGE) {
		if (!guest_page_is_devices(&world->guest, iova))
			continue;
		if (memcmp(world->copy + (iova - GUEST_IOVA), guest_va(&world->guest, iova),
			    PAGE) != 0)
			fail_msg("page 0x%" PRIx64 " was not logged", iova);
	}
}

/* ---- events ---- */

static struct vdpa_device *
current(struct world *world)
{
	return vdpa_binding_device(world->guest.binding);
}

static struct card *
other(struct world *world)
{
	return world->cards[current(world) == card_device(world->cards[0]) ? 1 : 0];
}

static void *
do_swap(void *arg)
{
	struct world *world = arg;

	vdpa_binding_swap(world->guest.binding, card_device(other(world)), NULL);
	return NULL;
}

static void *
do_stop(void *arg)
{
	struct world *world = arg;
	struct vdpa_vq_state states[2];

	vdpa_session_stop(world->guest.session, states, 2, WAIT_MS);
	return NULL;
}

static void
in_thread(struct world *world, void *(*fn)(void *))
{
	struct timespec pause = {.tv_nsec = 500000};

	assert_int_equal(pthread_create(&world->threads[world->nr_threads++], NULL, fn, world), 0);
	nanosleep(&pause, NULL);
}

static void
hang(struct world *world)
{
	struct vdpa_vq_state states[2];

	world->hung = true;
	vdpa_session_stop(world->guest.session, states, 2, 1);
}

static void
happen(struct world *world, enum event event)
{
	struct guest *guest = &world->guest;

	switch (event) {
	case RELAYED:
	case DIRECT:
		vdpa_device_relay_set(
			current(world), event == RELAYED ? VDPA_RELAY_ALWAYS : VDPA_RELAY_AUTO);
		return;
	case LOG_ON:
	case LOG_OFF:
	case LOG_REPLACED:
		promise(world, event != LOG_OFF);
		break;
	case MEMORY:
		guest_hotplug(guest, guest->wanted.nr_regions == 1);
		break;
	case STOP:
		in_thread(world, do_stop);
		return;
	case SWAP:
		in_thread(world, do_swap);
		return;
	case FAILED:
		vdpa_device_failed(current(world), -EIO, "it is broken");
		return;
	case OP_FAILS:
		/* of one that reads configuration there is nothing to see */
		if (!world->after)
			card_fault(world->in, world->op, CARD_FAIL, 0);
		return;
	case HANGS:
		hang(world);
		return;
	case NR_EVENTS:
		return;
	}
	assert_int_equal(vdpa_session_set(guest->session, &guest->wanted), 0);
}

static void
frames_move(struct world *world)
{
	guest_send(&world->guest, 0, 3);
	for (int i = 0; i < 3; i++) {
		card_work(world->cards[0]);
		card_work(world->cards[1]);
		guest_poll(&world->guest, 0);
	}
	sync_log(world);
}

/* ---- one interleaving ---- */

static const struct vdpa_binding_ops no_ops;

static void
begin(struct world *world, const struct variant *variant)
{
	const struct card_conf confs[2] = {
		{.name = "c0",
			.nr_pairs = 1,
			.manual = true,
			.caps_off = variant->caps_off,
			.logs = variant->logs},
		{.name = "c1", .nr_pairs = 1, .manual = true},
	};

	memset(world, 0, sizeof(*world));
	world->variant = variant;
	world->copy = malloc(GUEST_REGION_BYTES);
	assert_non_null(world->copy);
	pthread_mutex_init(&world->lock, NULL);
	pthread_cond_init(&world->changed, NULL);
	setup(&world->cards[0], &world->guest, &confs[0], variant->features);
	world->cards[1] = card_create(&confs[1]);
	assert_non_null(world->cards[1]);
	world->spare = vdpa_binding_create("spare", card_device(world->cards[1]), &no_ops, NULL);
	assert_non_null(world->spare);
	assert_int_equal(vdpa_binding_standin_set(world->guest.binding, "c1"), 0);
	assert_int_equal(guest_start(&world->guest), 0);
	for (int i = 0; i < 2; i++)
		card_on_step(world->cards[i], step, world);
	for (int i = 0; i < 2; i++)
		frames_move(world);
}

static int
all_back(struct world *world, unsigned int nr)
{
	struct guest *guest = &world->guest;
	const struct timespec pause = {.tv_nsec = 20000};

	for (unsigned int i = 0; i < WAIT_MS * 20; i++) {
		/* receive buffers go back also when nothing is left to be sent */
		nr -= guest_send(guest, 0, nr);
		card_work(world->cards[0]);
		card_work(world->cards[1]);
		guest_poll(guest, 0);
		if (nr == 0 && guest->received == guest->sent)
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

/* A driver that is told so resets the device. One that hangs is attached to anew. */
static void
recover(struct world *world)
{
	struct guest *guest = &world->guest;

	if (world->hung) {
		vdpa_session_close(guest->session);
		for (int i = 0; i < WAIT_MS; i++) {
			guest->session = vdpa_session_open(guest->binding, "guest");
			if (guest->session != NULL)
				break;
			usleep(1000);
		}
		assert_non_null(guest->session);
	}
	if (__atomic_exchange_n(&guest->resets, 0, __ATOMIC_SEQ_CST) > 0 || world->hung) {
		vdpa_session_stop(guest->session, NULL, 0, WAIT_MS);
		assert_int_equal(guest_reset_rings(guest), 0);
	}
	if (world->hung) {
		guest->wanted.regions_seq++;
		promise(world, world->promised);
		for (int i = 0; i < 2; i++) {
			guest->vqs[i].kick_seq++;
			guest->vqs[i].call_seq++;
		}
		world->hung = false;
	}
}

static void
check_end(struct world *world)
{
	struct guest *guest = &world->guest;
	struct vdpa_vq_state states[2];
	struct vdpa_device_status status;
	int rc;

	/* a stand-in may take over in between; a start may tell that a reset is needed */
	for (int i = 0; i < 3; i++) {
		recover(world);
		rc = guest_set(guest);
	}
	assert_int_equal(rc, 0);
	rc = all_back(world, 50);
	vdpa_device_status_get(current(world), &status);
	if (rc != 0)
		fail_msg("%u of %u frames back; %s is %s %s, %s, %u queues, resets %u, error %s",
			guest->received, guest->sent, status.name,
			status.running ? "running" : "stopped", vdpa_mode_name(status.mode),
			vdpa_health_name(status.health), status.nr_vqs_running, guest->resets,
			status.last_error);
	assert_int_equal(guest->bad, 0);
	assert_true(status.running);
	assert_int_equal(status.log, world->promised);
	if (status.relay == VDPA_RELAY_ALWAYS)
		assert_int_equal(status.mode, VDPA_MODE_RELAYED);
	else if (!status.log && (status.caps & VDPA_CAP_SET_STATE) != 0)
		assert_int_equal(status.mode, VDPA_MODE_DIRECT);
	sync_log(world);
	assert_int_equal(all_back(world, 20), 0);
	assert_int_equal(vdpa_session_stop(guest->session, states, 2, WAIT_MS), 0);
	if (world->promised)
		check_copy(world);
}

static void
end(struct world *world)
{
	assert_int_equal(guest_destroy(&world->guest), 0);
	assert_int_equal(vdpa_binding_destroy(world->spare), 0);
	for (int i = 0; i < 2; i++) {
		card_on_step(world->cards[i], NULL, NULL);
		assert_int_equal(card_violations(world->cards[i]), 0);
		assert_int_equal(card_destroy(world->cards[i], false), 0);
	}
	free(world->copy);
}

/*
 * One transition, and one event at this step of it (0: none, to count the steps). @return the
 * steps there were.
 */
static unsigned int
run(const struct variant *variant, enum event transition, unsigned int at, enum event event)
{
	static struct world world;

	begin(&world, variant);
	/* what a transition changes is not there beforehand */
	if (transition == DIRECT)
		happen(&world, RELAYED);
	if (transition == LOG_OFF || transition == LOG_REPLACED)
		happen(&world, LOG_ON);
	assert_int_equal(guest_set(&world.guest), 0);
	frames_move(&world);
	set_stepping(&world, true);
	happen(&world, transition);
	while (next_step(&world)) {
		frames_move(&world);
		if (world.steps == at) {
			happen(&world, event);
			frames_move(&world);
		}
		let_go(&world);
	}
	set_stepping(&world, false);
	for (unsigned int i = 0; i < world.nr_threads; i++)
		pthread_join(world.threads[i], NULL);
	check_end(&world);
	end(&world);
	return world.steps;
}

static unsigned int nr_interleavings;

static void
interleave(const struct variant *variant, enum event transition)
{
	unsigned int steps = run(variant, transition, 0, NR_EVENTS);

	for (unsigned int at = 1; at <= steps; at++)
		for (enum event event = 0; event < NR_EVENTS; event++) {
			if (getenv("VDPA_TEST_VERBOSE") != NULL)
				fprintf(stderr, "%td: %s, at step %u of %u: %s\n",
					variant - variants, event_names[transition], at, steps,
					event_names[event]);
			run(variant, transition, at, event);
			nr_interleavings++;
		}
}

static void
test_every_event_at_every_step(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < sizeof(variants) / sizeof(variants[0]); v++)
		for (enum event transition = 0; transition < NR_TRANSITIONS; transition++)
			interleave(&variants[v], transition);
	print_message("%u interleavings\n", nr_interleavings);
	assert_true(nr_interleavings > 500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_event_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
