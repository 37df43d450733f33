/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "card_guest.h"
#include "vdpa_worker.h"

/* Live swap and stand-in, over two test cards. */

static unsigned int
nr_keepers(void)
{
	unsigned int nr;

	pthread_mutex_lock(&vdpa_workers.lock);
	nr = vdpa_workers.nr_keepers;
	pthread_mutex_unlock(&vdpa_workers.lock);
	return nr;
}

#define PLAIN (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC))

static const uint64_t formats[] = {
	PLAIN,
	PLAIN | BIT(VIRTIO_RING_F_EVENT_IDX),
	PLAIN | BIT(VIRTIO_F_RING_PACKED),
	PLAIN | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX),
};

static struct vdpa_device *moved_to;

static void
moved(struct vdpa_binding *binding, void *arg, struct vdpa_device *dev)
{
	(void)binding;
	(void)arg;
	moved_to = dev;
}

static const struct vdpa_binding_ops spare_ops = {.moved = moved};

/* A guest at the first card, the second one free. */
struct pair {
	struct card *cards[2];
	struct guest guest;
	struct vdpa_binding *spare;
};

static void
open_pair(struct pair *pair, const struct card_conf *first, const struct card_conf *second,
	uint64_t features)
{
	moved_to = NULL;
	setup(&pair->cards[0], &pair->guest, first, features);
	pair->cards[1] = card_create(second);
	assert_non_null(pair->cards[1]);
	pair->spare = vdpa_binding_create("spare", card_device(pair->cards[1]), &spare_ops, NULL);
	assert_non_null(pair->spare);
	assert_int_equal(guest_start(&pair->guest), 0);
}

static void
close_pair(struct pair *pair)
{
	assert_int_equal(pair->guest.bad, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(card_violations(pair->cards[i]), 0);
	assert_int_equal(guest_destroy(&pair->guest), 0);
	if (pair->spare != NULL)
		assert_int_equal(vdpa_binding_destroy(pair->spare), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(card_destroy(pair->cards[i], false), 0);
}

static int
swap_to(struct pair *pair, int card, struct vdpa_swap_report *report)
{
	return vdpa_binding_swap(pair->guest.binding, card_device(pair->cards[card]), report);
}

static void
wait_released(struct pair *pair, int card)
{
	for (int i = 0; i < 30000 && status_of(pair->cards[card]).running; i++)
		usleep(1000);
	for (int i = 0; i < 30000 && card_maps(pair->cards[card]) != 0; i++)
		usleep(1000);
	assert_int_equal(card_maps(pair->cards[card]), 0);
}

/* There and back under traffic; every frame once and in order, on each of them. */
static void
swaps(const struct card_conf *first, const struct card_conf *second, uint64_t features)
{
	struct vdpa_swap_report report;
	struct pair pair;

	open_pair(&pair, first, second, features);
	for (int i = 0; i < 50; i++) {
		int to = 1 - i % 2, from = i % 2;
		uint64_t frames = card_frames(pair.cards[to]);
		unsigned int sent = guest_send(&pair.guest, 0, 40);

		assert_true(sent > 0);
		assert_int_equal(swap_to(&pair, to, &report), 0);
		assert_string_equal(report.missing, "");
		assert_int_equal(report.rounds, 1);
		assert_false(report.went_back);
		assert_true(report.pause_us >= report.stop_us);
		assert_true(moved_to == card_device(pair.cards[from]));
		assert_true(vdpa_binding_device(pair.guest.binding) == card_device(pair.cards[to]));
		guest_send(&pair.guest, 0, 10);
		assert_int_equal(guest_exchange(&pair.guest, 0, 20, 30000), 0);
		assert_true(card_frames(pair.cards[to]) >= frames + 20);
		assert_true(status_of(pair.cards[to]).running);
		assert_false(status_of(pair.cards[from]).running);
		wait_released(&pair, from);
	}
	assert_int_equal(status_of(pair.cards[1]).swaps, 25);
	close_pair(&pair);
}

static void
test_there_and_back_under_traffic(void **state)
{
	const struct card_conf plain = {.name = "c0", .nr_pairs = 1};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		swaps(&plain, &(struct card_conf){.name = "c1", .nr_pairs = 1}, formats[i]);
		/* no start index: relayed wherever it takes over */
		swaps(&plain,
			&(struct card_conf){
				.name = "c1", .nr_pairs = 1, .caps_off = VDPA_CAP_SET_STATE},
			formats[i]);
		/* the other knows no position of packed rings: always relayed */
		swaps(&plain,
			&(struct card_conf){.name = "c1",
				.nr_pairs = 2,
				.set_map = true,
				.caps_off = VDPA_CAP_GET_STATE | VDPA_CAP_LATE_VQ,
				.relay = VDPA_RELAY_ALWAYS},
			formats[i]);
	}
}

static void
test_swap_then_delete_the_former(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_int_equal(swap_to(&pair, 1, NULL), 0);
	assert_int_equal(vdpa_binding_destroy(pair.spare), 0);
	assert_int_equal(card_destroy(pair.cards[0], false), 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_null(vdpa_device_find("c0"));
	assert_true(vdpa_device_find("c1") == card_device(pair.cards[1]));
	teardown(pair.cards[1], &pair.guest);
}

/* A consumer of few queues leaves a device of many behind: its next one may use all of them. */
static void
test_former_device_has_more_queues(void **state)
{
	const struct card_conf small = {.name = "c0", .nr_pairs = 1};
	const struct card_conf large = {.name = "c1", .nr_pairs = 4};
	const struct card_conf last = {.name = "c2", .nr_pairs = 1};
	struct guest next;
	struct card *third;
	struct pair pair;

	(void)state;
	open_pair(&pair, &small, &large, PLAIN);
	third = card_create(&last);
	assert_non_null(third);
	assert_int_equal(guest_create(&next, card_device(third), PLAIN, large.nr_pairs), 0);
	assert_int_equal(swap_to(&pair, 1, NULL), 0);
	assert_int_equal(vdpa_binding_swap(pair.guest.binding, card_device(third), NULL), 0);
	assert_true(vdpa_binding_device(next.binding) == card_device(pair.cards[1]));
	assert_int_equal(guest_start(&next), 0);
	for (uint16_t i = 0; i < large.nr_pairs; i++)
		assert_int_equal(guest_exchange(&next, i, 50, 5000), 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 50, 5000), 0);
	assert_int_equal(guest_destroy(&next), 0);
	close_pair(&pair);
	assert_int_equal(card_destroy(third, false), 0);
}

static void
refused(const struct card_conf *second, uint64_t features, const char *item)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 2};
	struct vdpa_swap_report report;
	struct pair pair;

	open_pair(&pair, &first, second, features);
	assert_int_equal(guest_exchange(&pair.guest, 0, 10, 30000), 0);
	assert_int_equal(swap_to(&pair, 1, &report), -ENOTSUP);
	if (strstr(report.missing, item) == NULL)
		fail_msg("'%s' is not in '%s'", item, report.missing);
	assert_int_equal(card_calls(pair.cards[1], "map"), 0);
	assert_int_equal(card_calls(pair.cards[0], "stop"), 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 10, 30000), 0);
	close_pair(&pair);
}

static void
test_what_is_missing_is_listed(void **state)
{
	const uint64_t some = PLAIN | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_NET_F_STATUS);

	(void)state;
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 1}, PLAIN, "it has 3 virtqueues");
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 2, .features = some}, formats[2],
		"it does not offer RING_PACKED, which the consumer uses\n");
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 2, .features = some}, PLAIN,
		"it does not offer RING_PACKED, which the consumer was offered\n");
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 2, .mac_last = 7}, PLAIN,
		"its MAC address is 02:00:00:00:0c:07, the consumer knows 02:00:00:00:0c:ad\n");
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 2, .relay = VDPA_RELAY_OFF}, PLAIN,
		"cannot be logged");
	refused(&(struct card_conf){.name = "c1", .nr_pairs = 2, .vq_size_max = 512}, PLAIN,
		"at most 512 entries, the consumer was offered 1024");
}

static void
test_busy_devices(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct vdpa_session *session;
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	assert_int_equal(swap_to(&pair, 0, NULL), -EINVAL);
	vdpa_device_set_bound(card_device(pair.cards[1]), "vhost:/run/other.sock (server)");
	assert_int_equal(swap_to(&pair, 1, NULL), -EBUSY);
	assert_non_null(strstr(vdpa_error_text(), "/run/other.sock"));
	vdpa_device_set_bound(card_device(pair.cards[1]), NULL);
	session = vdpa_session_open(pair.spare, "another guest");
	assert_non_null(session);
	assert_int_equal(swap_to(&pair, 1, NULL), -EBUSY);
	assert_non_null(strstr(vdpa_error_text(), "another guest"));
	vdpa_session_close(session);
	assert_int_equal(swap_to(&pair, 1, NULL), 0);
	close_pair(&pair);
}

/* Nobody attached: the next session runs on the other device. */
static void
test_swap_without_a_consumer(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct vdpa_swap_report report;
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	vdpa_session_close(pair.guest.session);
	wait_released(&pair, 0);
	assert_int_equal(swap_to(&pair, 1, &report), 0);
	assert_int_equal(report.pause_us, 0);
	assert_int_equal(guest_reset_rings(&pair.guest), 0);
	assert_int_equal(guest_start(&pair.guest), 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_in_range(card_frames(pair.cards[1]), 100, 100);
	close_pair(&pair);
}

/* What the other device ran for who has just left is stopped and freed before it serves. */
static void
test_swap_to_who_was_just_left(void **state)
{
	const struct card_conf confs[] = {
		{.name = "c0", .nr_pairs = 3}, {.name = "c1", .nr_pairs = 1}};
	struct guest guests[2];
	struct card *cards[2];
	unsigned int maps;

	(void)state;
	for (int i = 0; i < 2; i++) {
		setup_started(&cards[i], &guests[i], &confs[i], PLAIN);
		assert_int_equal(guest_exchange(&guests[i], 0, 100, 30000), 0);
	}
	/* a pass of the other one is under way, the next one stops it */
	maps = card_calls(cards[0], "map");
	card_fault(cards[0], "map", CARD_DELAY, 300);
	guest_hotplug(&guests[0], true);
	assert_int_equal(vdpa_session_set(guests[0].session, &guests[0].wanted), 0);
	for (int i = 0; i < 30000 && card_calls(cards[0], "map") == maps; i++)
		usleep(1000);
	vdpa_session_close(guests[0].session);
	guests[0].session = NULL;
	assert_int_equal(vdpa_binding_swap(guests[1].binding, card_device(cards[0]), NULL), 0);
	assert_int_equal(guest_exchange(&guests[1], 0, 100, 30000), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(card_violations(cards[i]), 0);
		assert_int_equal(guest_destroy(&guests[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(card_destroy(cards[i], false), 0);
}

/* The other device fails or hangs in an op: the former serves, the guest sees a pause. */
static void
goes_back(const char *op, enum card_fault fault, int error, uint64_t features)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1, .hangs = true};
	struct vdpa_swap_report report;
	struct pair pair;

	open_pair(&pair, &first, &second, features);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	card_fault(pair.cards[1], op, fault, 0);
	guest_send(&pair.guest, 0, 20);
	assert_int_equal(swap_to(&pair, 1, &report), error);
	assert_int_equal(report.went_back, strcmp(op, "start") == 0);
	assert_true(vdpa_binding_device(pair.guest.binding) == card_device(pair.cards[0]));
	guest_send(&pair.guest, 0, 10);
	assert_int_equal(guest_exchange(&pair.guest, 0, 0, 30000), 0);
	assert_int_equal(pair.guest.resets, 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	card_release(pair.cards[1]);
	wait_released(&pair, 1);
	/* it has come back: it can be tried again */
	for (int i = 0; i < 30000 && swap_to(&pair, 1, NULL) != 0; i++)
		usleep(1000);
	assert_true(vdpa_binding_device(pair.guest.binding) == card_device(pair.cards[1]));
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_int_equal(status_of(pair.cards[1]).health, VDPA_HEALTH_OK);
	close_pair(&pair);
}

static void
test_other_device_fails_or_hangs(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i += 2) {
		goes_back("map", CARD_FAIL, -EIO, formats[i]);
		goes_back("start", CARD_FAIL, -EIO, formats[i]);
		goes_back("map", CARD_HANG, -ETIMEDOUT, formats[i]);
		goes_back("start", CARD_HANG, -ETIMEDOUT, formats[i]);
	}
}

/* The device hangs while it is asked to stop: the other goes on where memory says. */
static void
test_former_device_hangs_in_a_swap(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1, .hangs = true};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct vdpa_swap_report report;
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	card_fault(pair.cards[0], "stop", CARD_HANG, 0);
	assert_int_equal(swap_to(&pair, 1, &report), 0);
	assert_true(report.forced);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_int_equal(pair.guest.resets, 0);
	assert_int_equal(status_of(pair.cards[0]).health, VDPA_HEALTH_FAILED);
	/* it is in the way of nobody, and goes when it has come back */
	assert_int_equal(vdpa_binding_destroy(pair.spare), -EBUSY);
	card_release(pair.cards[0]);
	for (int i = 0; i < 30000 && swap_to(&pair, 0, NULL) != 0; i++)
		usleep(1000);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	close_pair(&pair);
}

/* The consumer changes its memory while it is mapped: once is made up for, three times are not. */
struct plugging {
	struct pair *pair;
	unsigned int times;
};

static unsigned int
map_calls(struct card *card)
{
	return card_calls(card, "map") + card_calls(card, "unmap");
}

static void *
plug(void *arg)
{
	struct plugging *plugging = arg;

	for (unsigned int i = 0; i < plugging->times; i++) {
		while (map_calls(plugging->pair->cards[1]) <= i)
			usleep(1000);
		guest_hotplug(&plugging->pair->guest, i % 2 == 0);
		assert_int_equal(vdpa_session_set(plugging->pair->guest.session,
					 &plugging->pair->guest.wanted),
			0);
		/* seen by the pass before the device has mapped it */
		assert_int_equal(vdpa_session_sync(plugging->pair->guest.session, 30000), 0);
	}
	return NULL;
}

static void
memory_changes(unsigned int times, int result)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct vdpa_swap_report report;
	struct plugging plugging = {.times = times};
	struct pair pair;
	pthread_t thread;

	open_pair(&pair, &first, &second, PLAIN);
	plugging.pair = &pair;
	card_fault(pair.cards[1], "map", CARD_DELAY, 300);
	card_fault(pair.cards[1], "unmap", CARD_DELAY, 300);
	assert_int_equal(pthread_create(&thread, NULL, plug, &plugging), 0);
	assert_int_equal(swap_to(&pair, 1, &report), result);
	card_fault(pair.cards[1], "map", CARD_OK, 0);
	card_fault(pair.cards[1], "unmap", CARD_OK, 0);
	pthread_join(thread, NULL);
	assert_int_equal(report.rounds, result == 0 ? times + 1 : 3);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	wait_released(&pair, result == 0 ? 0 : 1);
	close_pair(&pair);
}

static void
test_memory_changes_meanwhile(void **state)
{
	(void)state;
	memory_changes(1, 0);
	memory_changes(3, -EAGAIN);
}

enum ending {
	FAILS, /* it says so */
	HANGS,
	VQ_FAILS, /* it says so of a queue */
	LIES,     /* the relay finds out what it gave back */
};

/* A device that fails or hangs with a stand-in: the guest sees a pause and nothing else. */
static void
stands_in(enum ending ending, uint64_t features)
{
	const struct card_conf first = {.name = "c0",
		.nr_pairs = 1,
		.hangs = ending == HANGS,
		.relay = ending == LIES ? VDPA_RELAY_ALWAYS : VDPA_RELAY_AUTO};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	bool packed = (features & BIT(VIRTIO_F_RING_PACKED)) != 0;
	struct pair pair;

	open_pair(&pair, &first, &second, features);
	assert_int_equal(vdpa_binding_standin_set(pair.guest.binding, "c0"), -EINVAL);
	assert_int_equal(vdpa_binding_standin_set(pair.guest.binding, "c1"), 0);
	assert_string_equal(status_of(pair.cards[0]).standin, "c1");
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	/* what it gives back after a lie is not believed, and sent again */
	if (ending == LIES)
		assert_int_equal(guest_sent(&pair.guest, 0, 30000), 0);
	else
		guest_send(&pair.guest, 0, 20);
	if (ending == HANGS) {
		card_fault(pair.cards[0], "stop", CARD_HANG, 0);
		assert_int_equal(
			vdpa_device_relay_set(card_device(pair.cards[0]), VDPA_RELAY_ALWAYS), 0);
	} else if (ending == FAILS) {
		vdpa_device_failed(card_device(pair.cards[0]), -EIO, "it is broken");
	} else if (ending == VQ_FAILS) {
		vdpa_vq_failed(card_device(pair.cards[0]), 1, -EIO, "its engine is broken");
	} else {
		card_lie(pair.cards[0], 1);
	}
	for (int i = 0; i < 30000 && status_of(pair.cards[1]).swaps == 0; i++)
		usleep(1000);
	assert_int_equal(status_of(pair.cards[1]).swaps, 1);
	assert_int_equal(status_of(pair.cards[0]).health, VDPA_HEALTH_FAILED);
	if (ending == HANGS && packed) {
		/* nobody knows where the ring stood: the driver has to reset the device */
		assert_int_equal(pair.guest.resets, 1);
		assert_int_equal(guest_reset_rings(&pair.guest), 0);
		assert_int_equal(guest_set(&pair.guest), 0);
	} else {
		assert_int_equal(pair.guest.resets, 0);
		assert_int_equal(guest_exchange(&pair.guest, 0, 0, 30000), 0);
	}
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	card_release(pair.cards[0]);
	/* the binding of the former device is free only when it has come back */
	for (int i = 0; i < 30000 && vdpa_binding_destroy(pair.spare) != 0; i++)
		usleep(1000);
	pair.spare = NULL;
	close_pair(&pair);
}

static void
test_stand_in_for_a_device_that_fails(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		stands_in(FAILS, formats[i]);
}

static void
test_stand_in_for_a_device_whose_queue_fails(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		stands_in(VQ_FAILS, formats[i]);
		/* nobody looks at a packed ring where no buffer is at the device */
		if ((formats[i] & BIT(VIRTIO_F_RING_PACKED)) == 0)
			stands_in(LIES, formats[i]);
	}
}

static void
wait_told(const struct pair *pair)
{
	for (int i = 0; i < 30000 && __atomic_load_n(&pair->guest.resets, __ATOMIC_SEQ_CST) == 0;
		i++)
		usleep(1000);
	assert_int_equal(pair->guest.resets, 1);
}

/* A ring that the driver broke is broken on the other device, too. */
static void
test_no_stand_in_for_what_the_driver_broke(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 2};
	const struct card_conf second = {.name = "c1", .nr_pairs = 2};
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	assert_int_equal(vdpa_binding_standin_set(pair.guest.binding, "c1"), 0);
	vdpa_vq_failed(card_device(pair.cards[0]), 1, -EBADMSG, "the driver broke it");
	wait_told(&pair);
	assert_int_equal(guest_exchange(&pair.guest, 1, 100, 30000), 0);
	assert_int_equal(card_calls(pair.cards[1], "map"), 0);
	assert_int_equal(status_of(pair.cards[0]).swaps, 0);
	assert_int_equal(status_of(pair.cards[0]).health, VDPA_HEALTH_DEGRADED);
	close_pair(&pair);
}

static void
test_stand_in_for_a_device_that_hangs(void **state)
{
	(void)state;
	stands_in(HANGS, formats[0]);
	stands_in(HANGS, formats[2]);
}

/*
 * The thread in a device that hangs comes back at last, when the consumer has gone: what the device
 * may have written is there until it was reset, and nothing of the pass is left.
 */
static void
test_what_a_device_that_hangs_has_is_kept(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1, .hangs = true};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1};
	struct pair pair;
	int fd = memfd_create("notes", MFD_CLOEXEC);

	(void)state;
	open_pair(&pair, &first, &second, PLAIN);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	pair.guest.wanted.inflight_fd = fd;
	pair.guest.wanted.inflight_bytes = 1 << 20;
	pair.guest.wanted.inflight_vqs = 2;
	pair.guest.wanted.inflight_vq_size = GUEST_RING;
	pair.guest.wanted.inflight_seq++;
	assert_int_equal(guest_set(&pair.guest), 0);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	assert_int_equal(vdpa_binding_standin_set(pair.guest.binding, "c1"), 0);
	card_fault(pair.cards[0], "stop", CARD_HANG, 0);
	assert_int_equal(vdpa_device_relay_set(card_device(pair.cards[0]), VDPA_RELAY_ALWAYS), 0);
	for (int i = 0; i < 30000 && status_of(pair.cards[1]).swaps == 0; i++)
		usleep(1000);
	assert_int_equal(guest_exchange(&pair.guest, 0, 100, 30000), 0);
	/* another file, so that nobody but the device that hangs has the first */
	pair.guest.wanted.inflight_fd = -1;
	pair.guest.wanted.inflight_seq++;
	assert_int_equal(guest_set(&pair.guest), 0);
	close(fd);
	card_release(pair.cards[0]);
	for (int i = 0; i < 30000 && vdpa_binding_destroy(pair.spare) != 0; i++)
		usleep(1000);
	pair.spare = NULL;
	assert_int_equal(card_calls(pair.cards[0], "reset"), 1);
	close_pair(&pair);
	for (int i = 0; i < 30000 && nr_keepers() != 0; i++)
		usleep(1000);
	assert_int_equal(nr_keepers(), 0);
}

/* One that is missing, or lacks something, does not hide the failure. */
static void
test_stand_in_that_cannot(void **state)
{
	const struct card_conf first = {.name = "c0", .nr_pairs = 1};
	const struct card_conf second = {.name = "c1", .nr_pairs = 1, .mac_last = 9};
	static const char *const names[] = {"nobody", "c1"};
	struct pair pair;

	(void)state;
	for (int i = 0; i < 4; i++) {
		bool queue = i >= 2;

		open_pair(&pair, &first, &second, PLAIN);
		assert_int_equal(vdpa_binding_standin_set(pair.guest.binding, names[i % 2]), 0);
		if (queue)
			vdpa_vq_failed(card_device(pair.cards[0]), 1, -EIO, "it is broken");
		else
			vdpa_device_failed(card_device(pair.cards[0]), -EIO, "it is broken");
		wait_told(&pair);
		assert_int_equal(status_of(pair.cards[0]).health,
			queue ? VDPA_HEALTH_DEGRADED : VDPA_HEALTH_FAILED);
		close_pair(&pair);
	}
}

/* What the driver has set by the control virtqueue stands on the other device. */
static void
test_settings_of_the_driver_move(void **state)
{
	const uint64_t features = PLAIN | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) |
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
	const struct card_conf first = {.name = "c0", .nr_pairs = 2};
	const struct card_conf second = {.name = "c1", .nr_pairs = 2};
	const uint8_t mac[6] = {0x02, 0, 0, 0, 0x77, 0x01};
	const uint16_t pairs = 2;
	uint8_t shown[6];
	struct pair pair;

	(void)state;
	open_pair(&pair, &first, &second, features);
	assert_int_equal(guest_command(&pair.guest, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs)),
		VIRTIO_NET_OK);
	assert_int_equal(guest_command(&pair.guest, VIRTIO_NET_CTRL_MAC,
				 VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(mac)),
		VIRTIO_NET_OK);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(swap_to(&pair, 1 - i % 2, NULL), 0);
		assert_int_equal(guest_exchange(&pair.guest, 0, 50, 30000), 0);
		assert_int_equal(guest_exchange(&pair.guest, 1, 50, 30000), 0);
		vdpa_binding_config_read(pair.guest.binding, 0, shown, sizeof(shown));
		assert_memory_equal(shown, mac, sizeof(mac));
	}
	assert_int_equal(guest_command(&pair.guest, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &(uint16_t){1}, 2),
		VIRTIO_NET_OK);
	close_pair(&pair);
}

/* Everybody asks about two devices, and uses the free one, while they change places. */
struct audience {
	struct pair pair;
	unsigned int swaps;
	atomic_bool over;
	atomic_uint looks, sessions;
	atomic_int wrong; /* a line of what was not as expected */
};

static void
expect(struct audience *audience, bool right, int line)
{
	if (!right)
		audience->wrong = line;
}
#define EXPECT(audience, right) expect(audience, right, __LINE__)

static void
look(struct audience *audience, struct card *card)
{
	struct vdpa_device *dev = card_device(card);
	uint64_t values[VDPA_VQ_STATS_MAX];

	EXPECT(audience, strcmp(status_of(card).name, dev->name) == 0);
	EXPECT(audience, vdpa_device_vq_stats(dev, 0, values) == -ENOTSUP);
	EXPECT(audience, vdpa_vq_worker(dev, 0) == -ENOENT);
	EXPECT(audience, vdpa_vq_move(dev, 0, UINT_MAX) == -EINVAL);
	EXPECT(audience, vdpa_device_relay_set(dev, VDPA_RELAY_AUTO) == 0);
	EXPECT(audience, vdpa_device_binding(dev) != NULL);
	vdpa_device_set_bound(dev, NULL);
	vdpa_config_changed(dev);
	audience->looks++;
}

static void
use(struct audience *audience, struct vdpa_binding *binding)
{
	struct vdpa_session *session;
	struct vdpa_contract contract;
	uint8_t config[8];

	EXPECT(audience, vdpa_binding_device(binding) != NULL);
	vdpa_binding_contract(binding, &contract);
	EXPECT(audience, contract.nr_pairs == 2 || contract.nr_pairs == 3);
	vdpa_binding_config_read(binding, 0, config, sizeof(config));
	vdpa_binding_config_write(binding, contract.config_size_bytes, config, 1);
	session = vdpa_session_open(binding, "somebody else");
	if (session == NULL)
		return;
	audience->sessions++;
	EXPECT(audience, vdpa_session_announce(session, config) == -ENOTSUP);
	vdpa_session_close(session);
}

static void *
looker(void *arg)
{
	struct audience *audience = arg;

	while (!audience->over) {
		look(audience, audience->pair.cards[0]);
		look(audience, audience->pair.cards[1]);
		use(audience, audience->pair.spare);
		usleep(200);
	}
	return NULL;
}

static void *
swapper(void *arg)
{
	struct audience *audience = arg;

	for (unsigned int i = 0; i < audience->swaps; i++) {
		int rc;

		/* somebody else is attached to the other one for a moment */
		do {
			rc = swap_to(&audience->pair, 1 - i % 2, NULL);
		} while (rc == -EBUSY);
		EXPECT(audience, rc == 0);
	}
	audience->over = true;
	return NULL;
}

static void
test_looked_at_all_the_while(void **state)
{
	const uint64_t features = PLAIN | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) |
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
	const struct card_conf first = {.name = "c0", .nr_pairs = 2};
	const struct card_conf second = {.name = "c1", .nr_pairs = 3};
	struct audience audience = {.swaps = 100};
	uint8_t mac[6] = {0x02, 0, 0, 0, 0x77, 0};
	pthread_t threads[3];

	(void)state;
	open_pair(&audience.pair, &first, &second, features);
	assert_int_equal(pthread_create(&threads[0], NULL, swapper, &audience), 0);
	for (int i = 1; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, looker, &audience), 0);
	while (!audience.over) {
		mac[5]++;
		assert_int_equal(guest_command(&audience.pair.guest, VIRTIO_NET_CTRL_MAC,
					 VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(mac)),
			VIRTIO_NET_OK);
		assert_int_equal(guest_exchange(&audience.pair.guest, 0, 20, 30000), 0);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(audience.wrong, 0);
	assert_true(audience.looks > 0);
	close_pair(&audience.pair);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back_under_traffic),
		cmocka_unit_test(test_swap_then_delete_the_former),
		cmocka_unit_test(test_former_device_has_more_queues),
		cmocka_unit_test(test_what_is_missing_is_listed),
		cmocka_unit_test(test_busy_devices),
		cmocka_unit_test(test_swap_without_a_consumer),
		cmocka_unit_test(test_swap_to_who_was_just_left),
		cmocka_unit_test(test_other_device_fails_or_hangs),
		cmocka_unit_test(test_former_device_hangs_in_a_swap),
		cmocka_unit_test(test_memory_changes_meanwhile),
		cmocka_unit_test(test_stand_in_for_a_device_that_fails),
		cmocka_unit_test(test_stand_in_for_a_device_that_hangs),
		cmocka_unit_test(test_what_a_device_that_hangs_has_is_kept),
		cmocka_unit_test(test_stand_in_for_a_device_whose_queue_fails),
		cmocka_unit_test(test_no_stand_in_for_what_the_driver_broke),
		cmocka_unit_test(test_stand_in_that_cannot),
		cmocka_unit_test(test_settings_of_the_driver_move),
		cmocka_unit_test(test_looked_at_all_the_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
