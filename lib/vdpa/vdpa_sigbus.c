/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_common.h>

#include "vdpa_mapping.h"

/*
 * The handler takes no lock and calls nothing but system calls. EAL replaces the action for a
 * moment whenever its heap grows with huge pages; a fault in that moment is lost to it.
 */

#define GUARDS_MAX 16384 /* librte_vhost: 1024 connections of 8 regions, twice */

/* A slot is free while start is 0; then the rest is written, start last. */
struct guard {
	_Atomic(uintptr_t) start;
	size_t size_bytes;
	void (*hit)(void *arg);
	void *arg;
	atomic_bool was_hit;
	atomic_uint users; /* handlers that look at it */
};

static struct guard guards[GUARDS_MAX];
static atomic_uint nr_slots; /* slots from here on were never used */

/* guards come and go; installation */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;
static struct sigaction former;

/* ---- in signal context ---- */

bool
vdpa_map_zero(void *start, size_t size_bytes)
{
	/* by number: sanitizers take the library's call for a write that races with readers */
	long rc = syscall(SYS_mmap, start, size_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	return rc != -1;
}

/* @return a guard was responsible and memory is there now */
static bool
guard_fault(struct guard *guard, uintptr_t addr)
{
	bool mapped = false;
	uintptr_t start;

	atomic_fetch_add(&guard->users, 1);
	start = atomic_load(&guard->start);
	if (start != 0 && addr >= start && addr - start < guard->size_bytes) {
		mapped = vdpa_map_zero((void *)start, guard->size_bytes);
		if (!atomic_exchange(&guard->was_hit, true) && guard->hit != NULL)
			guard->hit(guard->arg);
	}
	atomic_fetch_sub(&guard->users, 1);
	return mapped;
}

static bool
guarded_fault(uintptr_t addr)
{
	unsigned int nr = atomic_load(&nr_slots);
	bool mapped = false;

	for (unsigned int i = 0; i < nr; i++)
		if (atomic_load_explicit(&guards[i].start, memory_order_relaxed) != 0 &&
			guard_fault(&guards[i], addr))
			mapped = true;
	return mapped;
}

/* One line of /proc/self/maps, as it comes: "START-END PERMS ...". */
struct maps_line {
	uintptr_t range[2];
	unsigned int field, pos; /* 0: START, 1: END, 2: PERMS, 3: the rest */
	bool shared;
};

static void
maps_char(struct maps_line *line, char c)
{
	if (line->field < 2 && c != '-' && c != ' ') {
		unsigned int digit = c <= '9' ? c - '0' : c - 'a' + 10;

		line->range[line->field] = line->range[line->field] << 4 | digit;
	} else if (line->field < 2 || (line->field == 2 && c == ' ')) {
		line->field++;
		line->pos = 0;
	} else if (line->field == 2) {
		if (line->pos++ == 3)
			line->shared = c == 's';
	}
}

/* Find the shared mapping around an address. */
static bool
find_shared(uintptr_t addr, struct maps_line *line)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	bool found = false;
	char text[1024];
	ssize_t nr;

	if (fd < 0)
		return false;
	memset(line, 0, sizeof(*line));
	while (!found && (nr = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < nr && !found; i++) {
			if (text[i] != '\n') {
				maps_char(line, text[i]);
				continue;
			}
			found = addr >= line->range[0] && addr < line->range[1];
			if (!found)
				memset(line, 0, sizeof(*line));
		}
	}
	close(fd);
	return found && line->shared;
}

/* Nobody guards it and nobody else handles it, but memory that others can shrink it may be. */
static bool
unknown_fault(uintptr_t addr)
{
	static const size_t sizes[] = {4096, 65536, 2u << 20, 1u << 30};
	struct maps_line line;

	if (!find_shared(addr, &line))
		return false;
	/* huge pages can only be replaced whole */
	for (size_t i = 0; i < RTE_DIM(sizes); i++) {
		uintptr_t start = RTE_ALIGN_FLOOR(addr, sizes[i]);

		if (start < line.range[0] || line.range[1] - start < sizes[i])
			break;
		if (vdpa_map_zero((void *)start, sizes[i]))
			return true;
	}
	return false;
}

static void
pass_on(int number, siginfo_t *info, void *context)
{
	if ((former.sa_flags & SA_SIGINFO) != 0) {
		former.sa_sigaction(number, info, context);
	} else if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN) {
		former.sa_handler(number);
	} else if (former.sa_handler == SIG_DFL || info->si_code > 0) {
		/* ends the process when this handler returns, as if it had never been here */
		signal(number, SIG_DFL);
		raise(number);
	}
}

static bool
has_former(void)
{
	return (former.sa_flags & SA_SIGINFO) != 0 ||
		(former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN);
}

static void
handle(int number, siginfo_t *info, void *context)
{
	uintptr_t addr = (uintptr_t)info->si_addr;
	int error = errno;

	if (info->si_code != BUS_ADRERR ||
		(!guarded_fault(addr) && (has_former() || !unknown_fault(addr))))
		pass_on(number, info, context);
	errno = error;
}

/* ---- anybody ---- */

static int
install_locked(void)
{
	struct sigaction action = {.sa_sigaction = handle};

	if (installed)
		return 0;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigemptyset(&action.sa_mask);
	/* first, so that no fault meets a former one that is not known */
	if (sigaction(SIGBUS, NULL, &former) != 0 || sigaction(SIGBUS, &action, NULL) != 0)
		return -errno;
	installed = true;
	return 0;
}

static struct guard *
guard_find_locked(uintptr_t start)
{
	unsigned int nr = atomic_load(&nr_slots);

	for (unsigned int i = 0; i < nr; i++)
		if (atomic_load(&guards[i].start) == start)
			return &guards[i];
	return NULL;
}

int
vdpa_sigbus_guard(void *va, size_t size_bytes, void (*hit)(void *arg), void *arg)
{
	size_t page = sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t)va;
	struct guard *guard = NULL;
	int rc;

	if (start == 0 || start % page != 0 || size_bytes == 0 || start + size_bytes < start)
		return -EINVAL;
	pthread_mutex_lock(&lock);
	rc = install_locked();
	if (rc == 0 && guard_find_locked(start) != NULL)
		rc = -EINVAL;
	if (rc == 0) {
		guard = guard_find_locked(0);
		if (guard == NULL && atomic_load(&nr_slots) < GUARDS_MAX)
			guard = &guards[atomic_fetch_add(&nr_slots, 1)];
		if (guard == NULL)
			rc = -ENOSPC;
	}
	if (rc == 0) {
		guard->size_bytes = RTE_ALIGN_CEIL(size_bytes, page);
		guard->hit = hit;
		guard->arg = arg;
		atomic_store(&guard->was_hit, false);
		atomic_store(&guard->start, start);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

void
vdpa_sigbus_unguard(void *va)
{
	struct guard *guard;

	if (va == NULL)
		return;
	pthread_mutex_lock(&lock);
	guard = guard_find_locked((uintptr_t)va);
	if (guard != NULL) {
		atomic_store(&guard->start, 0);
		/* a handler that saw it is short; the mapping must outlive it */
		while (atomic_load(&guard->users) != 0)
			sched_yield();
	}
	pthread_mutex_unlock(&lock);
}

RTE_FINI(vdpa_sigbus_fini)
{
	struct sigaction action;

	if (installed && sigaction(SIGBUS, NULL, &action) == 0 &&
		(action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == handle)
		sigaction(SIGBUS, &former, NULL);
}
