/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "card_guest.h"
#include "vdpa_private.h"

/*
 * The class over the test card, which reaches memory only where it was mapped and counts every
 * access elsewhere, every overlap of ops and every op in a wrong state.
 */

#define BIT(feature) (UINT64_C(1) << (feature))
#define FEATURES_PLAIN \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC))
#define FEATURES_CTRL                                                        \
	(FEATURES_PLAIN | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ) | \
		BIT(VIRTIO_NET_F_CTRL_MAC_ADDR))

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

static void
frames_pass(const struct card_conf *conf, uint64_t features)
{
	struct vdpa_vq_state states[4];
	struct card *card;
	struct guest guest;

	setup_started(&card, &guest, conf, features);
	assert_int_equal(guest_exchange(&guest, 0, 1000, 30000), 0);
	assert_int_equal(guest_exchange(&guest, 1, 1000, 30000), 0);
	assert_int_equal(card_frames(card), 2000);
	assert_int_equal(vdpa_session_stop(guest.session, states, 4, 0), 0);
	assert_int_equal(states[1].avail, states[1].used);
	/* it goes on where it stopped, with nothing said about positions */
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 1000, 30000), 0);
	assert_int_equal(card_frames(card), 3000);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	teardown(card, &guest);
}

static void
test_frames_pass_split(void **state)
{
	(void)state;
	frames_pass(&(struct card_conf){.name = "c0", .nr_pairs = 2}, FEATURES_PLAIN);
}

static void
test_frames_pass_split_event_index(void **state)
{
	(void)state;
	frames_pass(&(struct card_conf){.name = "c0", .nr_pairs = 2},
		FEATURES_PLAIN | BIT(VIRTIO_RING_F_EVENT_IDX));
}

static void
test_frames_pass_packed(void **state)
{
	(void)state;
	frames_pass(&(struct card_conf){.name = "c0", .nr_pairs = 2},
		FEATURES_PLAIN | BIT(VIRTIO_F_RING_PACKED));
}

static void
test_frames_pass_packed_event_index(void **state)
{
	(void)state;
	frames_pass(&(struct card_conf){.name = "c0", .nr_pairs = 2},
		FEATURES_PLAIN | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX));
}

static void
test_frames_pass_whole_map_tables(void **state)
{
	(void)state;
	frames_pass(
		&(struct card_conf){.name = "c0", .nr_pairs = 2, .set_map = true}, FEATURES_PLAIN);
}

static void
test_frames_pass_without_late_queues(void **state)
{
	(void)state;
	frames_pass(&(struct card_conf){.name = "c0", .nr_pairs = 2, .caps_off = VDPA_CAP_LATE_VQ},
		FEATURES_PLAIN);
}

static void
test_frames_pass_without_get_state_split(void **state)
{
	(void)state;
	frames_pass(
		&(struct card_conf){.name = "c0", .nr_pairs = 2, .caps_off = VDPA_CAP_GET_STATE},
		FEATURES_PLAIN);
}

/* A device that takes no start index is refused by name where the driver is at another. */
static void
test_no_start_index_is_refused(void **state)
{
	const struct card_conf conf = {.name = "c0",
		.nr_pairs = 1,
		.caps_off = VDPA_CAP_SET_STATE,
		.relay = VDPA_RELAY_OFF};
	struct vdpa_vq_state states[2];
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_int_equal(states[1].avail, 10);
	guest_set(&guest);
	assert_non_null(strstr(status_of(card).last_error, "takes no start index"));
	assert_int_equal(status_of(card).running, false);
	/* the driver's reset makes it good again */
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	teardown(card, &guest);
}

static void
memory_changes(const struct card_conf *conf)
{
	struct card *card;
	struct guest guest;
	unsigned int starts;

	setup_started(&card, &guest, conf, FEATURES_PLAIN);
	starts = card_calls(card, "start");
	for (int i = 0; i < 20; i++) {
		unsigned int sent = guest_send(&guest, 0, 20);

		guest_hotplug(&guest, i % 2 == 0);
		assert_int_equal(guest_set(&guest), 0);
		assert_int_equal(card_maps(card), i % 2 == 0 ? 2 : 1);
		assert_int_equal(guest_exchange(&guest, 0, 20 - sent, 30000), 0);
	}
	/* mapped while it runs: no stop */
	assert_int_equal(card_calls(card, "start"), starts);
	teardown(card, &guest);
}

static void
test_memory_changes_under_traffic(void **state)
{
	(void)state;
	memory_changes(&(struct card_conf){.name = "c0", .nr_pairs = 1});
	memory_changes(&(struct card_conf){.name = "c0", .nr_pairs = 1, .set_map = true});
}

static void
queues_come_and_go(const struct card_conf *conf)
{
	struct card *card;
	struct guest guest;

	setup(&card, &guest, conf, FEATURES_PLAIN);
	guest.vqs[2].ready = false;
	guest.vqs[3].ready = false;
	assert_int_equal(guest_start(&guest), 0);
	assert_int_equal(status_of(card).nr_vqs_running, 2);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	guest.vqs[2].ready = true;
	guest.vqs[3].ready = true;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).nr_vqs_running, 4);
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	guest.vqs[0].ready = false;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).nr_vqs_running, 3);
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	guest.vqs[0].ready = true;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
}

static void
test_queues_come_and_go(void **state)
{
	struct card_conf conf = {.name = "c0", .nr_pairs = 2};

	(void)state;
	queues_come_and_go(&conf);
	conf.caps_off = VDPA_CAP_LATE_VQ;
	queues_come_and_go(&conf);
}

/*
 * 200 new call descriptors under traffic: one start, no interrupt lost, what was closed is not
 * written.
 */
static void
test_call_descriptor_changes_under_traffic(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct card *card;
	struct guest guest;
	uint64_t count;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	for (int i = 0; i < 200; i++) {
		guest_send(&guest, 0, 3);
		close(guest.call[0]);
		guest.call[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		guest.vqs[0].call_fd = guest.call[0];
		guest.vqs[0].call_seq++;
		assert_int_equal(guest_set(&guest), 0);
		/* the new one is signalled at the exchange, so that nothing falls between */
		assert_int_equal(read(guest.call[0], &count, sizeof(count)), sizeof(count));
		assert_int_equal(guest_exchange(&guest, 0, 0, 30000), 0);
	}
	assert_int_equal(card_calls(card, "start"), 1);
	assert_int_equal(card_calls(card, "vq_start"), 0);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	teardown(card, &guest);
}

static void
test_control_queue_is_served(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 2};
	const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};
	uint16_t pairs = 2;
	struct card *card;
	struct guest guest;
	uint8_t read_back[6];

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_CTRL);
	assert_int_equal(status_of(card).nr_active_pairs, 1);
	assert_int_equal(guest_command(&guest, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
				 &pairs, 2),
		0);
	assert_int_equal(status_of(card).nr_active_pairs, 2);
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	assert_int_equal(
		guest_command(&guest, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
		0);
	vdpa_binding_config_read(guest.binding, 0, read_back, sizeof(read_back));
	assert_memory_equal(read_back, mac, 6);
	/* a device that refuses, and a number that no driver may ask for */
	card_fault(card, "cvq", CARD_FAIL, 0);
	assert_int_equal(
		guest_command(&guest, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
		1);
	pairs = 3;
	assert_int_equal(guest_command(&guest, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
				 &pairs, 2),
		1);
	assert_int_equal(status_of(card).nr_active_pairs, 2);
	/* memory hot-plug restarts nothing and loses no setting */
	guest_hotplug(&guest, true);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	assert_int_equal(
		guest_command(&guest, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
		0);
	teardown(card, &guest);
}

static void
test_configuration_changes_are_told(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	uint8_t bytes[64];
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	vdpa_config_changed(card_device(card));
	for (int i = 0; i < 30000 && __atomic_load_n(&guest.config_changes, __ATOMIC_SEQ_CST) == 0;
		i++)
		usleep(1000);
	assert_int_equal(guest.config_changes, 1);
	bytes[0] = 0x42;
	assert_int_equal(vdpa_binding_config_write(guest.binding, 5, bytes, 1), 0);
	assert_int_equal(guest_set(&guest), 0);
	memset(bytes, 0xff, sizeof(bytes));
	vdpa_binding_config_read(guest.binding, 0, bytes, sizeof(bytes));
	assert_int_equal(bytes[5], 0x42);
	/* beyond its end it is zero, never what was in the buffer */
	assert_int_equal(bytes[63], 0);
	assert_int_equal(vdpa_binding_config_write(guest.binding, 250, bytes, 20), -EINVAL);
	teardown(card, &guest);
}

static void
test_bad_wishes_change_nothing(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	guest.wanted.features |= BIT(VIRTIO_NET_F_GUEST_UFO);
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.wanted.features = FEATURES_PLAIN;
	guest.vqs[0].size = 63;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.vqs[0].size = 2048;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.vqs[0].size = GUEST_RING;
	guest.wanted.nr_vqs = 200;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.wanted.nr_vqs = 2;
	guest.wanted.regions_seq++;
	guest.wanted.nr_regions = 2;
	guest.regions[1].iova = GUEST_IOVA + 4096;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.regions[1].iova = UINT64_C(1) << 48;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), -EINVAL);
	guest.wanted.nr_regions = 1;
	guest.wanted.regions_seq--;
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	assert_null(vdpa_session_open(guest.binding, "second"));
	assert_non_null(strstr(vdpa_error_text(), "attached already"));
	teardown(card, &guest);
}

/* User Mode Linux says 0 for a fresh packed ring, which means its second round. */
static void
test_a_fresh_packed_ring_may_be_called_position_zero(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct vdpa_vq_state states[2];
	struct card *card;
	struct guest guest;

	(void)state;
	setup(&card, &guest, &conf, FEATURES_PLAIN | BIT(VIRTIO_F_RING_PACKED));
	guest.vqs[0].base = (struct vdpa_vq_state){0, 0};
	guest.vqs[1].base = (struct vdpa_vq_state){0, 0};
	assert_int_equal(guest_start(&guest), 0);
	/* exactly one round: now position 0 is the truth */
	assert_int_equal(guest_exchange(&guest, 0, GUEST_RING, 30000), 0);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_int_equal(states[1].avail, 0);
	guest.vqs[1].base = states[1];
	guest.vqs[1].base_seq++;
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	teardown(card, &guest);
}

/* A ring outside the memory stops that queue; the other pair goes on. */
static void
a_broken_ring_stops_one_queue(const struct card_conf *conf)
{
	struct card *card;
	struct guest guest;
	uint16_t *avail;

	setup_started(&card, &guest, conf, FEATURES_PLAIN);
	assert_int_equal(guest_exchange(&guest, 0, 10, 30000), 0);
	avail = guest_va(&guest, guest.vqs[1].driver_iova);
	avail[1] = 0x7000; /* the index runs away */
	guest_kick(&guest, 1);
	for (int i = 0; i < 30000 && __atomic_load_n(&guest.resets, __ATOMIC_SEQ_CST) == 0; i++)
		usleep(1000);
	assert_int_equal(guest.resets, 1);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_DEGRADED);
	assert_non_null(strstr(status_of(card).last_error, "virtqueue 1"));
	assert_int_equal(guest_exchange(&guest, 1, 100, 30000), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(status_of(card).nr_vqs_running, 3);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_DEGRADED);
	teardown(card, &guest);
}

static void
test_a_broken_ring_stops_one_queue(void **state)
{
	struct card_conf conf = {.name = "c0", .nr_pairs = 2};

	(void)state;
	a_broken_ring_stops_one_queue(&conf);
	/* the others are restarted without it */
	conf.caps_off = VDPA_CAP_LATE_VQ;
	a_broken_ring_stops_one_queue(&conf);
}

/* Each op fails once: the result is reported, and a driver's reset makes the device good again. */
static void
an_op_fails(const char *op, bool set_map)
{
	struct card_conf conf = {.name = "c0", .nr_pairs = 2, .set_map = set_map};
	struct vdpa_vq_state states[4];
	struct card *card;
	struct guest guest;

	setup(&card, &guest, &conf, FEATURES_PLAIN);
	if (strcmp(op, "vq_start") == 0)
		guest.vqs[2].ready = false;
	card_fault(card, op, CARD_FAIL, 0);
	guest_start(&guest);
	if (strcmp(op, "vq_start") == 0 || strcmp(op, "vq_stop") == 0) {
		guest.vqs[2].ready = !guest.vqs[2].ready;
		guest_set(&guest);
	}
	if (strcmp(op, "unmap") == 0) {
		guest_hotplug(&guest, true);
		guest_set(&guest);
		guest_hotplug(&guest, false);
		guest_set(&guest);
	}
	assert_int_equal(vdpa_session_stop(guest.session, states, 4, 30000), 0);
	if (card_calls(card, op) == 0)
		fail_msg("%s was not called", op);
	if (strcmp(op, "vq_stop") != 0 && status_of(card).failures == 0)
		fail_msg("%s failed unheard", op);
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 50, 30000), 0);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_OK);
	teardown(card, &guest);
}

static void
test_each_op_failing_once_is_reported(void **state)
{
	static const char *const ops[] = {"start", "stop", "map", "unmap", "vq_start", "vq_stop"};

	(void)state;
	for (unsigned int i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		an_op_fails(ops[i], false);
	an_op_fails("set_map", true);
}

struct still {
	const char *op;
	int begun[2]; /* pipe */
};

/* The whole process stands still as an op begins. */
static void
stand_still(struct card *card, const char *op, bool after, void *arg)
{
	struct still *still = arg;

	(void)card;
	if (after || strcmp(op, still->op) != 0 || write(still->begun[1], "", 1) != 1)
		return;
	still->op = "";
	kill(getpid(), SIGSTOP);
}

/* Another process, which ends that after a while. @return its id */
static pid_t
go_on_later(const struct still *still, unsigned int ms)
{
	pid_t pid = fork();
	char byte;

	if (pid != 0)
		return pid;
	if (read(still->begun[0], &byte, 1) == 1)
		usleep(ms * 1000);
	kill(getppid(), SIGCONT);
	_exit(0);
}

/* The deadline of an op passes while the machine stands still: no device hangs. */
static void
stands_still_in(const char *op, unsigned int ms)
{
	const struct card_conf conf = {.name = "c", .nr_pairs = 1, .hangs = true};
	struct still still = {.op = op};
	struct vdpa_vq_state states[2];
	struct card *card;
	struct guest guest;
	pid_t pid;

	assert_int_equal(pipe(still.begun), 0);
	setup(&card, &guest, &conf, FEATURES_PLAIN);
	if (strcmp(op, "stop") == 0)
		assert_int_equal(guest_start(&guest), 0);
	/* it takes its time afterwards, too */
	card_fault(card, op, CARD_DELAY, 5);
	pid = go_on_later(&still, ms);
	assert_true(pid > 0);
	card_on_step(card, stand_still, &still);
	if (strcmp(op, "stop") != 0)
		assert_int_equal(guest_start(&guest), 0);
	else
		assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_string_equal(still.op, "");
	card_on_step(card, NULL, NULL);
	assert_int_equal(card_calls(card, "fence"), 0);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_OK);
	card_fault(card, op, CARD_OK, 0);
	teardown(card, &guest);
	close(still.begun[0]);
	close(still.begun[1]);
}

static void
test_a_machine_that_stands_still_fences_nothing(void **state)
{
	(void)state;
	stands_still_in("stop", 500);
	stands_still_in("start", 2500);
	stands_still_in("map", 2500);
}

/*
 * An op that hangs: the consumer has its answer by the deadline, the neighbour goes on, nothing is
 * freed under the op.
 */
static void
an_op_hangs(const char *op, bool no_fence)
{
	const struct card_conf conf = {
		.name = "hang", .nr_pairs = 2, .no_fence = no_fence, .hangs = true};
	struct vdpa_vq_state states[4];
	struct card *card, *other;
	struct guest guest, neighbour;
	uint64_t begin;
	int rc;

	setup(&card, &guest, &conf, FEATURES_PLAIN);
	setup(&other, &neighbour, &(struct card_conf){.name = "good", .nr_pairs = 1},
		FEATURES_PLAIN);
	assert_int_equal(guest_start(&neighbour), 0);
	card_fault(card, op, CARD_HANG, 0);
	guest.session = vdpa_session_open(guest.binding, "guest");
	assert_non_null(guest.session);
	guest.wanted.driver_ok = true;
	assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), 0);
	/* what it hangs in before it is asked to stop has begun */
	for (int i = 0; i < 30000 && !status_of(card).running && card_calls(card, op) == 0; i++)
		usleep(1000);
	assert_int_equal(guest_exchange(&neighbour, 0, 200, 30000), 0);
	begin = now_ms();
	rc = vdpa_session_stop(guest.session, states, 4, 0);
	assert_in_range(now_ms() - begin, 0, 15000);
	assert_int_equal(rc, -ETIMEDOUT);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_FAILED);
	assert_int_equal(card_calls(card, "fence"), !no_fence);
	assert_int_equal(guest_exchange(&neighbour, 0, 200, 30000), 0);
	/* it cannot be freed while the op is in it */
	assert_int_equal(card_destroy(card, true), -EBUSY);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	assert_null(vdpa_session_open(guest.binding, "again"));
	assert_int_equal(guest_destroy_binding(&guest), -EBUSY);
	/* the op returns after all: the device stays failed, and can be removed */
	card_release(card);
	for (rc = -EBUSY; rc == -EBUSY && now_ms() - begin < 60000; usleep(1000))
		rc = guest_destroy_binding(&guest);
	assert_int_equal(rc, 0);
	assert_int_equal(card_calls(card, "reset"), 1);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_FAILED);
	teardown(card, &guest);
	teardown(other, &neighbour);
}

static void
test_a_hanging_op_is_fenced(void **state)
{
	(void)state;
	an_op_hangs("stop", false);
}

static void
test_a_hanging_start_is_abandoned_without_fence(void **state)
{
	(void)state;
	an_op_hangs("start", true);
}

static void
test_a_hanging_map_is_fenced(void **state)
{
	(void)state;
	an_op_hangs("map", false);
}

static void *
fence(void *card)
{
	vdpa_device_fence(card_device(card), "test");
	return NULL;
}

/* Whoever stops it is not answered while another thread is about to fence it. */
static void
test_a_stop_is_answered_after_the_fence(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1, .fence_ms = 200};
	struct vdpa_vq_state states[2];
	pthread_t thread;
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	assert_int_equal(pthread_create(&thread, NULL, fence, card), 0);
	for (int i = 0; i < 30000 && status_of(card).health != VDPA_HEALTH_FAILED; i++)
		usleep(1000);
	assert_int_equal(vdpa_session_stop(guest.session, states, 2, 0), -ETIMEDOUT);
	assert_int_equal(card_calls(card, "fence"), 1);
	pthread_join(thread, NULL);
	vdpa_session_close(guest.session);
	guest.session = NULL;
	for (int i = 0; i < 30000 && guest_destroy_binding(&guest) == -EBUSY; i++)
		usleep(1000);
	teardown(card, &guest);
}

/* Front ends that go while ops are slow: nothing is left, nothing started for nobody. */
static void
test_sessions_come_and_go_while_ops_are_slow(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct card *card;
	struct guest guest;

	(void)state;
	setup(&card, &guest, &conf, FEATURES_PLAIN);
	card_fault(card, "start", CARD_DELAY, 20);
	card_fault(card, "stop", CARD_DELAY, 10);
	guest.wanted.driver_ok = true;
	for (int i = 0; i < 20; i++) {
		guest.session = vdpa_session_open(guest.binding, "guest");
		assert_non_null(guest.session);
		assert_int_equal(vdpa_session_set(guest.session, &guest.wanted), 0);
		usleep(i * 2000);
		vdpa_session_close(guest.session);
	}
	guest.session = NULL;
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_start(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	assert_int_equal(card_calls(card, "start"), card_calls(card, "stop") + 1);
	teardown(card, &guest);
}

static void
test_a_failed_device_recovers_by_a_reset(void **state)
{
	const struct card_conf conf = {.name = "c0", .nr_pairs = 1};
	struct card *card;
	struct guest guest;

	(void)state;
	setup_started(&card, &guest, &conf, FEATURES_PLAIN);
	vdpa_device_failed(card_device(card), -EIO, "the card is on fire");
	for (int i = 0; i < 30000 && __atomic_load_n(&guest.resets, __ATOMIC_SEQ_CST) == 0; i++)
		usleep(1000);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_FAILED);
	assert_string_equal(status_of(card).last_error, "the card is on fire");
	assert_false(status_of(card).running);
	assert_int_equal(guest_set(&guest), -EIO);
	assert_int_equal(card_maps(card), 0);
	assert_int_equal(guest_reset_rings(&guest), 0);
	assert_int_equal(guest_set(&guest), 0);
	assert_int_equal(guest_exchange(&guest, 0, 100, 30000), 0);
	assert_int_equal(status_of(card).health, VDPA_HEALTH_OK);
	teardown(card, &guest);
}

static int
no_info(struct vdpa_device *dev, struct vdpa_info *info)
{
	(void)dev;
	*info = (struct vdpa_info){.virtio_id = 1, .nr_vqs_max = 2, .vq_size_max = 256};
	return 0;
}

static int
no_op(struct vdpa_device *dev)
{
	(void)dev;
	return 0;
}

static int
no_start(struct vdpa_device *dev, const struct vdpa_start *start)
{
	(void)dev;
	(void)start;
	return 0;
}

static int
no_stop(struct vdpa_device *dev, struct vdpa_vq_state *states, uint16_t nr)
{
	(void)dev;
	(void)states;
	(void)nr;
	return 0;
}

static int
no_map(struct vdpa_device *dev, const struct vdpa_range *range)
{
	(void)dev;
	(void)range;
	return 0;
}

static void
no_kick(struct vdpa_device *dev, uint16_t index)
{
	(void)dev;
	(void)index;
}

static void
refused(const char *name, const struct vdpa_device_ops *ops, int error, const char *text)
{
	struct vdpa_device dev = {.name = name, .ops = ops};

	assert_int_equal(vdpa_device_register(&dev), error);
	if (strstr(vdpa_error_text(), text) == NULL)
		fail_msg("'%s' does not say '%s'", vdpa_error_text(), text);
	if (name != NULL)
		assert_null(vdpa_device_find(name));
}

static void
test_inconsistent_devices_are_refused(void **state)
{
	struct vdpa_device_ops ops = {
		.get_info = no_info, .start = no_start, .stop = no_stop, .kick = no_kick};
	char long_name[VDPA_NAME_MAX + 1];

	(void)state;
	refused(NULL, &ops, -EINVAL, "a name and ops");
	refused("x", &ops, -EINVAL, "get_info, start, stop, reset");
	ops.reset = no_op;
	refused("x", &ops, -EINVAL, "exactly one of HOST_VA");
	ops.map = no_map;
	refused("x", &ops, -EINVAL, "map and unmap go together");
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	refused(long_name, &ops, -ENAMETOOLONG, "longer than");
}

static int
many_info(struct vdpa_device *dev, struct vdpa_info *info)
{
	(void)dev;
	*info = (struct vdpa_info){
		.virtio_id = 1,
		.nr_vqs_max = 256,
		.vq_size_min = 1,
		.vq_size_max = 256,
		.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MQ) |
			BIT(VIRTIO_NET_F_CTRL_VQ),
		.caps = VDPA_CAP_HOST_VA,
	};
	return 0;
}

static int
no_pairs(struct vdpa_device *dev, uint16_t nr_pairs)
{
	(void)dev;
	(void)nr_pairs;
	return 0;
}

/* 128 pairs of the device, and the class's control queue. */
static void
test_as_many_queues_as_there_may_be(void **state)
{
	const struct vdpa_device_ops ops = {.get_info = many_info,
		.start = no_start,
		.stop = no_stop,
		.reset = no_op,
		.set_active_queues = no_pairs};
	static struct vdpa_wanted_vq vqs[257];
	const struct vdpa_binding_ops binding_ops = {0};
	struct vdpa_wanted wanted = {.vqs = vqs, .nr_vqs = 257};
	struct vdpa_device dev = {.name = "many", .ops = &ops};
	struct vdpa_contract contract;
	struct vdpa_binding *binding;
	struct vdpa_session *session;

	(void)state;
	for (int i = 0; i < 257; i++)
		vqs[i] = (struct vdpa_wanted_vq){
			.kick_fd = -1, .call_fd = -1, .kick_seq = 1, .call_seq = 1};
	assert_int_equal(vdpa_device_register(&dev), 0);
	binding = vdpa_binding_create("many", &dev, &binding_ops, NULL);
	assert_non_null(binding);
	vdpa_binding_contract(binding, &contract);
	assert_int_equal(contract.nr_vqs, 257);
	session = vdpa_session_open(binding, "test");
	assert_non_null(session);
	assert_int_equal(vdpa_session_set(session, &wanted), 0);
	assert_int_equal(vdpa_session_sync(session, 30000), 0);
	vdpa_session_close(session);
	assert_int_equal(vdpa_binding_destroy(binding), 0);
	assert_int_equal(vdpa_device_unregister(&dev, false), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inconsistent_devices_are_refused),
		cmocka_unit_test(test_as_many_queues_as_there_may_be),
		cmocka_unit_test(test_frames_pass_split),
		cmocka_unit_test(test_frames_pass_split_event_index),
		cmocka_unit_test(test_frames_pass_packed),
		cmocka_unit_test(test_frames_pass_packed_event_index),
		cmocka_unit_test(test_frames_pass_whole_map_tables),
		cmocka_unit_test(test_frames_pass_without_late_queues),
		cmocka_unit_test(test_frames_pass_without_get_state_split),
		cmocka_unit_test(test_no_start_index_is_refused),
		cmocka_unit_test(test_memory_changes_under_traffic),
		cmocka_unit_test(test_queues_come_and_go),
		cmocka_unit_test(test_call_descriptor_changes_under_traffic),
		cmocka_unit_test(test_control_queue_is_served),
		cmocka_unit_test(test_configuration_changes_are_told),
		cmocka_unit_test(test_bad_wishes_change_nothing),
		cmocka_unit_test(test_a_fresh_packed_ring_may_be_called_position_zero),
		cmocka_unit_test(test_a_broken_ring_stops_one_queue),
		cmocka_unit_test(test_each_op_failing_once_is_reported),
		cmocka_unit_test(test_a_machine_that_stands_still_fences_nothing),
		cmocka_unit_test(test_a_hanging_op_is_fenced),
		cmocka_unit_test(test_a_hanging_start_is_abandoned_without_fence),
		cmocka_unit_test(test_a_hanging_map_is_fenced),
		cmocka_unit_test(test_a_stop_is_answered_after_the_fence),
		cmocka_unit_test(test_sessions_come_and_go_while_ops_are_slow),
		cmocka_unit_test(test_a_failed_device_recovers_by_a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
