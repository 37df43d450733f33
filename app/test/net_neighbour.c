/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "net_guest.h"
#include "net_neighbour.h"
#include "sw_net.h"

#define BURST     32
#define FRAME     500
#define ANSWER_MS 30000

static struct {
	struct net_guest guest;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint_least64_t nr_frames, nr_bad;
} neighbour;

bool
net_hostile_begin(void)
{
#ifdef __SANITIZE_THREAD__
	fprintf(stderr, "the guests here race on purpose\n");
	return false;
#endif
	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	rte_log_set_level_pattern("lib.vdpa", RTE_LOG_CRIT);
	return true;
}

static void *
run(void *arg)
{
	struct net_guest *g = &neighbour.guest;
	uint8_t frame[FRAME], got[FRAME];
	uint32_t sent = 0, received = 0;

	(void)arg;
	while (!atomic_load(&neighbour.stop)) {
		net_guest_fill(g, 0, 64);
		for (unsigned int i = 0; i < BURST; i++, sent++) {
			memset(frame, (int)sent, sizeof(frame));
			memcpy(frame, &sent, sizeof(sent));
			while (!net_guest_send(g, 0, NET_WHOLE, NULL, frame, sizeof(frame)))
				net_sleep_ms(1); /* back on its way to us */
		}
		for (; received != sent; received++) {
			memset(frame, (int)received, sizeof(frame));
			memcpy(frame, &received, sizeof(received));
			if (net_guest_wait(g, 0, NULL, got, sizeof(got), ANSWER_MS) != FRAME ||
				memcmp(frame, got, sizeof(got)) != 0) {
				atomic_fetch_add(&neighbour.nr_bad, 1);
				return NULL;
			}
			atomic_fetch_add(&neighbour.nr_frames, 1);
		}
	}
	return NULL;
}

void
net_neighbour_start(void)
{
	const struct net_guest_config config = {.device = "ok", .features = F(F_VERSION_1)};

	net_device_add("ok", "");
	net_guest_open(&neighbour.guest, &config);
	atomic_store(&neighbour.stop, false);
	atomic_store(&neighbour.nr_frames, 0);
	atomic_store(&neighbour.nr_bad, 0);
	assert_int_equal(pthread_create(&neighbour.thread, NULL, run, NULL), 0);
}

uint64_t
net_neighbour_frames(void)
{
	return atomic_load(&neighbour.nr_frames);
}

void
net_neighbour_goes_on(void)
{
	uint64_t until = net_neighbour_frames() + 2 * BURST;

	for (int i = 0; i < ANSWER_MS && net_neighbour_frames() < until; i++) {
		assert_int_equal(atomic_load(&neighbour.nr_bad), 0);
		net_sleep_ms(1);
	}
	assert_true(net_neighbour_frames() >= until);
}

uint64_t
net_neighbour_stop(void)
{
	atomic_store(&neighbour.stop, true);
	pthread_join(neighbour.thread, NULL);
	assert_int_equal(atomic_load(&neighbour.nr_bad), 0);
	net_guest_close(&neighbour.guest);
	device_del("ok");
	return net_neighbour_frames();
}
