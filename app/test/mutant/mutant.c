/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "vdpa_pass.h"
#include "vring.h"

/*
 * libvdpa with dirty marking broken on purpose, in the way that VDPA_MUTATION names: proof that the
 * tests of live migration see it. The linker's --wrap puts these functions in front of the class's
 * own, whose objects are the very ones of libvdpa.
 */

#define MAX_VQS 256

/* As the linker names them. */
void __real_vdpa_pass_choose_mode(struct vdpa_binding *binding, struct vdpa_plan *plan);
void __wrap_vdpa_pass_choose_mode(struct vdpa_binding *binding, struct vdpa_plan *plan);
int __real_vdpa_pass_make_config(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, struct vdpa_vq_config *config);
int __wrap_vdpa_pass_make_config(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, struct vdpa_vq_config *config);
void __real_vdpa_pass_log_stopped(struct vdpa_binding *binding, const struct vdpa_plan *plan);
void __wrap_vdpa_pass_log_stopped(struct vdpa_binding *binding, const struct vdpa_plan *plan);
void __real_vdpa_log_mark_all(struct vdpa_log *log, const struct vdpa_domain *domain);
void __wrap_vdpa_log_mark_all(struct vdpa_log *log, const struct vdpa_domain *domain);
uint64_t __real_vdpa_dirty_sync(struct vdpa_dirty *dirty, struct vdpa_log *log);
uint64_t __wrap_vdpa_dirty_sync(struct vdpa_dirty *dirty, struct vdpa_log *log);
void __real_vdpa_dirty_mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t len_bytes);
void __wrap_vdpa_dirty_mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t len_bytes);

/* What can be broken. */
static enum mutation {
	NONE,
	LATE,            /* engages 20 ms late, and marks nothing for that */
	AFTER_STOP,      /* engages after the stop */
	NO_RING,         /* the used ring's marks are missing */
	SHORT_BUFFER,    /* each buffer's last page is missing */
	ONE_MARK_ALL,    /* a log that replaces another is not marked */
	NO_EVENT,        /* event fields are not marked */
	NO_SYNC_AT_STOP, /* a stop does not hand over what was marked */
	NR_MUTATIONS
} mutation;

static const char *const names[NR_MUTATIONS] = {
	"none",
	"late",
	"after-stop",
	"no-ring",
	"short-buffer",
	"one-mark-all",
	"no-event",
	"no-sync-at-stop",
};

static struct ring {
	uint64_t used, used_end, event, event_end;
} rings[MAX_VQS];

static atomic_bool stopped; /* and not started again */

static __attribute__((constructor)) void
choose_mutation(void)
{
	const char *wanted = getenv("VDPA_MUTATION");

	for (unsigned int i = 0; wanted != NULL && i < NR_MUTATIONS; i++)
		if (strcmp(wanted, names[i]) == 0)
			mutation = i;
}

void
__wrap_vdpa_pass_choose_mode(struct vdpa_binding *binding, struct vdpa_plan *plan)
{
	const struct timespec delay = {.tv_nsec = 20000000};
	bool engages = plan->log && plan->log_view != NULL && binding->run.session != NULL &&
		binding->run.log == NULL;

	if (engages && mutation == LATE)
		nanosleep(&delay, NULL);
	if (engages && mutation == AFTER_STOP)
		plan->log = false;
	__real_vdpa_pass_choose_mode(binding, plan);
}

int
__wrap_vdpa_pass_make_config(struct vdpa_binding *binding, const struct vdpa_plan *plan,
	uint16_t index, struct vdpa_vq_config *config)
{
	const struct vdpa_session_vq *vq = &binding->plan[index];
	struct ring *ring = &rings[index % MAX_VQS];

	atomic_store(&stopped, false);
	if (vdpa_pass_packed(plan->features)) {
		ring->used = vq->desc_iova;
		ring->used_end = ring->used + 16ull * vq->size;
		ring->event = vq->device_iova;
		ring->event_end = ring->event + 4;
	} else {
		ring->used = vq->device_iova;
		ring->used_end = ring->used + 4 + 8ull * vq->size;
		ring->event = ring->used_end;
		ring->event_end = ring->event + 2;
	}
	return __real_vdpa_pass_make_config(binding, plan, index, config);
}

void
__wrap_vdpa_pass_log_stopped(struct vdpa_binding *binding, const struct vdpa_plan *plan)
{
	atomic_store(&stopped, !plan->driver_ok);
	__real_vdpa_pass_log_stopped(binding, plan);
}

void
__wrap_vdpa_log_mark_all(struct vdpa_log *log, const struct vdpa_domain *domain)
{
	static bool done;

	if (mutation == LATE || mutation == AFTER_STOP || (mutation == ONE_MARK_ALL && done))
		return;
	done = true;
	__real_vdpa_log_mark_all(log, domain);
}

uint64_t
__wrap_vdpa_dirty_sync(struct vdpa_dirty *dirty, struct vdpa_log *log)
{
	return mutation == NO_SYNC_AT_STOP && atomic_load(&stopped)
		? 0
		: __real_vdpa_dirty_sync(dirty, log);
}

/* Does it touch a ring's entries or event field? hole: what of it is to be left out. */
static bool
in_ring(uint64_t iova, uint64_t end, struct vring_range *hole)
{
	for (unsigned int i = 0; i < MAX_VQS; i++) {
		const struct ring *ring = &rings[i];
		uint64_t first = mutation == NO_RING ? ring->used : ring->event;
		uint64_t last = mutation == NO_RING ? ring->used_end : ring->event_end;

		if ((iova >= ring->used_end || end <= ring->used) &&
			(iova >= ring->event_end || end <= ring->event))
			continue;
		*hole = (struct vring_range){first, last - first};
		return true;
	}
	return false;
}

static void
mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t end)
{
	if (iova < end)
		__real_vdpa_dirty_mark(dirty, iova, end - iova);
}

void
__wrap_vdpa_dirty_mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t len_bytes)
{
	uint64_t end = iova + len_bytes;
	struct vring_range hole;
	bool ring = in_ring(iova, end, &hole);

	if (mutation == SHORT_BUFFER && !ring && len_bytes > 0) {
		mark(dirty, iova, RTE_ALIGN_FLOOR(end - 1, UINT64_C(1) << VDPA_PAGE_SHIFT));
	} else if (ring && (mutation == NO_RING || mutation == NO_EVENT)) {
		mark(dirty, iova, RTE_MIN(end, hole.iova));
		mark(dirty, RTE_MAX(iova, hole.iova + hole.len), end);
	} else {
		mark(dirty, iova, end);
	}
}
