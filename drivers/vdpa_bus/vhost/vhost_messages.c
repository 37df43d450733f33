/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>
#include <rte_telemetry.h>

#include "vhost_bus.h"

/*
 * How long each kind of message held the event thread, and with it all other front ends: from the
 * hook before librte_vhost handles it to the last that we hear of it. The hooks add, telemetry
 * reads: relaxed atomics.
 */
#define NR_REQUESTS 64

static const char *const names[NR_REQUESTS] = {
	[1] = "GET_FEATURES",
	[2] = "SET_FEATURES",
	[3] = "SET_OWNER",
	[4] = "RESET_OWNER",
	[5] = "SET_MEM_TABLE",
	[6] = "SET_LOG_BASE",
	[7] = "SET_LOG_FD",
	[8] = "SET_VRING_NUM",
	[9] = "SET_VRING_ADDR",
	[10] = "SET_VRING_BASE",
	[11] = "GET_VRING_BASE",
	[12] = "SET_VRING_KICK",
	[13] = "SET_VRING_CALL",
	[14] = "SET_VRING_ERR",
	[15] = "GET_PROTOCOL_FEATURES",
	[16] = "SET_PROTOCOL_FEATURES",
	[17] = "GET_QUEUE_NUM",
	[18] = "SET_VRING_ENABLE",
	[19] = "SEND_RARP",
	[20] = "NET_SET_MTU",
	[21] = "SET_BACKEND_REQ_FD",
	[22] = "IOTLB_MSG",
	[24] = "GET_CONFIG",
	[25] = "SET_CONFIG",
	[28] = "POSTCOPY_ADVISE",
	[29] = "POSTCOPY_LISTEN",
	[30] = "POSTCOPY_END",
	[31] = "GET_INFLIGHT_FD",
	[32] = "SET_INFLIGHT_FD",
	[36] = "GET_MAX_MEM_SLOTS",
	[37] = "ADD_MEM_REG",
	[38] = "REM_MEM_REG",
	[39] = "SET_STATUS",
	[40] = "GET_STATUS",
};

static struct {
	atomic_uint_fast64_t nr;
	atomic_uint_fast64_t max_us;
} messages[NR_REQUESTS];

uint64_t
vdpa_vhost_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

void
vdpa_vhost_messages_note(uint32_t request, uint64_t began_ns, bool again)
{
	uint64_t us = (vdpa_vhost_now_ns() - began_ns) / 1000;
	uint64_t max;

	if (request >= NR_REQUESTS)
		request = 0;
	if (!again)
		atomic_fetch_add_explicit(&messages[request].nr, 1, memory_order_relaxed);
	max = atomic_load_explicit(&messages[request].max_us, memory_order_relaxed);
	while (us > max &&
		!atomic_compare_exchange_weak_explicit(&messages[request].max_us, &max, us,
			memory_order_relaxed, memory_order_relaxed))
		;
}

static int
clamp(uint64_t value)
{
	return RTE_MIN(value, (uint64_t)INT_MAX);
}

static int
messages_show(const char *cmd, const char *params, struct rte_tel_data *data)
{
	char other[16];
	unsigned int i;

	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(data);
	for (i = 0; i < NR_REQUESTS; i++) {
		uint64_t nr = atomic_load_explicit(&messages[i].nr, memory_order_relaxed);
		struct rte_tel_data *one;

		if (nr == 0)
			continue;
		one = rte_tel_data_alloc();
		if (one == NULL)
			return -ENOMEM;
		rte_tel_data_start_dict(one);
		rte_tel_data_add_dict_int(one, "count", clamp(nr));
		rte_tel_data_add_dict_int(one, "max_us",
			clamp(atomic_load_explicit(&messages[i].max_us, memory_order_relaxed)));
		snprintf(other, sizeof(other), i == 0 ? "other" : "%u", i);
		rte_tel_data_add_dict_container(data, names[i] != NULL ? names[i] : other, one, 0);
	}
	return 0;
}

RTE_INIT(vhost_messages_init)
{
	int ret = rte_telemetry_register_cmd("/vdpa/vhost/messages", messages_show,
		"Front-end messages: number, longest time (us) on the event thread. No parameters");

	if (ret < 0)
		VHOST_LOG(WARNING, "no telemetry of messages: %s", strerror(-ret));
}

bool
vdpa_vhost_log_allowed(struct vhost_log_limit *limit, unsigned int *dropped)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t now_ns = vdpa_vhost_now_ns();
	bool allowed;

	*dropped = 0;
	pthread_mutex_lock(&lock);
	if (limit->began_ns == 0 || now_ns - limit->began_ns > UINT64_C(10000000000)) {
		*dropped = limit->dropped;
		*limit = (struct vhost_log_limit){.began_ns = now_ns};
	}
	allowed = limit->nr < VHOST_LOG_BURST;
	if (allowed)
		limit->nr++;
	else
		limit->dropped++;
	pthread_mutex_unlock(&lock);
	return allowed;
}
