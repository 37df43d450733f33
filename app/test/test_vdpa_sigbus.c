/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "vdpa_private.h"

#define SIZE (16 * PAGE)
#define PAGE 4096

/*
 * The action of a signal belongs to the process: each test is a process of its own. It returns 0,
 * or the line of what did not hold.
 */
#define CHECK(condition)                 \
	do {                             \
		if (!(condition))        \
			return __LINE__; \
	} while (0)

static void
expect(int (*fn)(void), int signal_number)
{
	int status, line[2];
	pid_t pid;

	assert_int_equal(pipe(line), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int failed;

		alarm(60);
		signal(SIGBUS, SIG_DFL);
		failed = fn();
		_exit(write(line[1], &failed, sizeof(failed)) != sizeof(failed) || failed != 0);
	}
	close(line[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (signal_number != 0) {
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signal_number);
	} else {
		int failed = -1;

		if (read(line[0], &failed, sizeof(failed)) == sizeof(failed) && failed != 0)
			fail_msg("line %d does not hold", failed);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	close(line[0]);
}

static volatile uint8_t *
map_file(int *fd, int flags)
{
	void *va;

	*fd = memfd_create("test", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, SIZE) != 0)
		return NULL;
	va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, *fd, 0);
	if (va == MAP_FAILED)
		return NULL;
	memset(va, 0xaa, SIZE);
	return va;
}

static void
count_hit(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
	errno = EIO;
}

/* ---- ---- */

static int
zero_pages(void)
{
	volatile uint8_t *a, *b;
	atomic_int hits = 0, other_hits = 0;
	int fd, other_fd;

	CHECK((a = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK((b = map_file(&other_fd, MAP_SHARED)) != NULL);
	CHECK(vdpa_sigbus_guard((void *)a, SIZE - 1, count_hit, &hits) == 0);
	CHECK(vdpa_sigbus_guard((void *)b, SIZE, count_hit, &other_hits) == 0);
	CHECK(ftruncate(fd, 2 * PAGE) == 0);
	CHECK(a[PAGE] == 0xaa && hits == 0);
	errno = 77;
	CHECK(a[SIZE - 1] == 0 && hits == 1);
	CHECK(errno == 77);
	/* the whole region, also what was left of the file */
	for (int i = 0; i < SIZE; i += PAGE)
		CHECK(a[i] == 0);
	a[3 * PAGE] = 5;
	CHECK(a[3 * PAGE] == 5 && hits == 1);
	for (int i = 0; i < SIZE; i += PAGE)
		CHECK(b[i] == 0xaa);
	CHECK(other_hits == 0);
	/* again, as for a second thread that came too late: served, not told */
	CHECK(mmap((void *)a, SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == (void *)a);
	CHECK(a[5 * PAGE] == 0 && hits == 1);
	vdpa_sigbus_unguard((void *)a);
	vdpa_sigbus_unguard((void *)a);
	vdpa_sigbus_unguard(NULL);
	/* a new mapping at the same place is guarded anew */
	CHECK(ftruncate(fd, SIZE) == 0);
	CHECK(mmap((void *)a, SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == (void *)a);
	CHECK(vdpa_sigbus_guard((void *)a, SIZE, count_hit, &hits) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(a[0] == 0 && hits == 2);
	return 0;
}

static void
guarded_memory_becomes_zero_and_its_owner_hears_once(void **state)
{
	(void)state;
	expect(zero_pages, 0);
}

struct reader {
	volatile uint8_t *va;
	atomic_bool stop, runs;
	uint64_t sum;
};

static void *
read_all(void *arg)
{
	struct reader *reader = arg;

	while (!atomic_load(&reader->stop)) {
		for (int i = 0; i < SIZE; i += 64)
			reader->sum += reader->va[i];
		atomic_store(&reader->runs, true);
	}
	return NULL;
}

static int
under_readers(void)
{
	struct reader readers[2];
	pthread_t threads[2];
	atomic_int hits = 0;
	volatile uint8_t *va;
	int fd;

	CHECK((va = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK(vdpa_sigbus_guard((void *)va, SIZE, count_hit, &hits) == 0);
	for (int i = 0; i < 2; i++) {
		readers[i] = (struct reader){.va = va};
		CHECK(pthread_create(&threads[i], NULL, read_all, &readers[i]) == 0);
	}
	for (int i = 0; i < 2; i++)
		while (!atomic_load(&readers[i].runs))
			sched_yield();
	CHECK(ftruncate(fd, PAGE) == 0);
	for (int i = 0; i < 2; i++)
		atomic_store(&readers[i].runs, false);
	for (int i = 0; i < 2; i++)
		while (!atomic_load(&readers[i].runs))
			sched_yield();
	for (int i = 0; i < 2; i++) {
		atomic_store(&readers[i].stop, true);
		CHECK(pthread_join(threads[i], NULL) == 0);
	}
	CHECK(hits == 1);
	return 0;
}

static void
running_readers_survive_truncation(void **state)
{
	(void)state;
	expect(under_readers, 0);
}

static void *
map_and_lose(void *arg)
{
	atomic_int *failures = arg;

	for (int i = 0; i < 300; i++) {
		atomic_int hits = 0;
		volatile uint8_t *va;
		int fd;

		va = map_file(&fd, MAP_SHARED);
		if (va == NULL || vdpa_sigbus_guard((void *)va, SIZE, count_hit, &hits) != 0 ||
			ftruncate(fd, 0) != 0 || va[i % 16 * PAGE] != 0)
			atomic_fetch_add(failures, 1);
		vdpa_sigbus_unguard((void *)va);
		if (atomic_load(&hits) != 1)
			atomic_fetch_add(failures, 1);
		munmap((void *)va, SIZE);
		close(fd);
	}
	return NULL;
}

static int
many_threads(void)
{
	atomic_int failures = 0;
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, map_and_lose, &failures) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(failures == 0);
	return 0;
}

static void
guards_of_many_threads_do_not_mix(void **state)
{
	(void)state;
	expect(many_threads, 0);
}

struct slow {
	volatile uint8_t *va;
	atomic_bool begun, ended;
};

static void
slow_hit(void *arg)
{
	struct slow *slow = arg;
	struct timespec ts = {0, 50000000};

	atomic_store(&slow->begun, true);
	nanosleep(&ts, NULL);
	atomic_store(&slow->ended, true);
}

static void *
read_one(void *arg)
{
	struct slow *slow = arg;

	return (void *)(uintptr_t)slow->va[0];
}

static int
handler_runs(void)
{
	struct slow slow = {0};
	pthread_t thread;
	int fd;

	CHECK((slow.va = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK(vdpa_sigbus_guard((void *)slow.va, SIZE, slow_hit, &slow) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(pthread_create(&thread, NULL, read_one, &slow) == 0);
	while (!atomic_load(&slow.begun))
		sched_yield();
	vdpa_sigbus_unguard((void *)slow.va);
	CHECK(atomic_load(&slow.ended));
	CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}

static void
unguard_waits_for_a_handler_that_runs(void **state)
{
	(void)state;
	expect(handler_runs, 0);
}

/* ---- not guarded ---- */

static int
install(void)
{
	static uint8_t pages[2][PAGE] __attribute__((aligned(PAGE)));
	int rc = vdpa_sigbus_guard(pages[0], PAGE, NULL, NULL);

	return rc != 0 ? rc : vdpa_sigbus_guard(pages[1], PAGE, NULL, NULL);
}

static int
unknown_shared(void)
{
	volatile uint8_t *va;
	int fd;

	CHECK(install() == 0);
	CHECK((va = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK(ftruncate(fd, PAGE) == 0);
	CHECK(va[2 * PAGE + 17] == 0);
	va[2 * PAGE] = 9;
	CHECK(va[3 * PAGE] == 0 && va[2 * PAGE] == 9);
	CHECK(va[0] == 0xaa);
	return 0;
}

static void
unknown_shared_mapping_gets_one_zero_page(void **state)
{
	(void)state;
	expect(unknown_shared, 0);
}

static int
unknown_private(void)
{
	volatile uint8_t *va;
	int fd;

	CHECK(install() == 0);
	CHECK((fd = memfd_create("test", MFD_CLOEXEC)) >= 0);
	CHECK(ftruncate(fd, SIZE) == 0);
	va = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(va != MAP_FAILED);
	CHECK(ftruncate(fd, 0) == 0);
	return va[0] + 1;
}

static void
unknown_private_mapping_ends_the_process(void **state)
{
	(void)state;
	expect(unknown_private, SIGBUS);
}

static int
sent_by_somebody(void)
{
	CHECK(install() == 0);
	CHECK(kill(getpid(), SIGBUS) == 0);
	return __LINE__;
}

/* Such a signal has the sender where a fault has the address. */
static int
sent_with_an_address(void)
{
	uintptr_t addr = (uintptr_t)getuid() << 32 | getpid();

	CHECK(vdpa_sigbus_guard((void *)(addr & ~(uintptr_t)(PAGE - 1)), PAGE, NULL, NULL) == 0 ||
		addr < PAGE);
	CHECK(kill(getpid(), SIGBUS) == 0);
	return __LINE__;
}

static void
signal_sent_by_somebody_ends_the_process(void **state)
{
	(void)state;
	expect(sent_by_somebody, SIGBUS);
	expect(sent_with_an_address, SIGBUS);
}

static int
ignored(void)
{
	volatile uint8_t *va;
	int fd;

	CHECK(signal(SIGBUS, SIG_IGN) != SIG_ERR);
	CHECK(install() == 0);
	CHECK(kill(getpid(), SIGBUS) == 0);
	CHECK((va = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(va[0] == 0);
	return 0;
}

static void
program_that_ignores_the_signal_still_does(void **state)
{
	(void)state;
	expect(ignored, 0);
}

static sigjmp_buf jump;
static int former_calls;
static void *former_addr;

static void
former_siginfo(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	former_calls++;
	former_addr = info->si_addr;
	siglongjmp(jump, 1);
}

static void
former_plain(int number)
{
	(void)number;
	former_calls++;
	siglongjmp(jump, 1);
}

static int
former_is_asked(void)
{
	atomic_int hits = 0;
	volatile uint8_t *unknown, *guarded;
	int fd, guarded_fd;

	CHECK((unknown = map_file(&fd, MAP_SHARED)) != NULL);
	CHECK((guarded = map_file(&guarded_fd, MAP_SHARED)) != NULL);
	CHECK(vdpa_sigbus_guard((void *)guarded, SIZE, count_hit, &hits) == 0);
	CHECK(ftruncate(fd, 0) == 0 && ftruncate(guarded_fd, 0) == 0);
	CHECK(guarded[0] == 0 && hits == 1 && former_calls == 0);
	if (sigsetjmp(jump, 1) == 0)
		return unknown[5 * PAGE] + 1;
	CHECK(former_calls == 1);
	CHECK(former_addr == NULL || former_addr == (void *)(unknown + 5 * PAGE));
	return 0;
}

static int
former_with_siginfo(void)
{
	struct sigaction action = {.sa_sigaction = former_siginfo, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(SIGBUS, &action, NULL) == 0);
	CHECK(former_is_asked() == 0);
	CHECK(former_addr != NULL);
	return 0;
}

static int
former_without_siginfo(void)
{
	CHECK(signal(SIGBUS, former_plain) != SIG_ERR);
	return former_is_asked();
}

static void
handler_installed_before_gets_unknown_faults(void **state)
{
	(void)state;
	expect(former_with_siginfo, 0);
	expect(former_without_siginfo, 0);
}

/* ---- arguments ---- */

static int
arguments(void)
{
	static uint8_t page[2 * PAGE] __attribute__((aligned(PAGE)));

	CHECK(vdpa_sigbus_guard(NULL, PAGE, NULL, NULL) == -EINVAL);
	CHECK(vdpa_sigbus_guard(page, 0, NULL, NULL) == -EINVAL);
	CHECK(vdpa_sigbus_guard(page + 1, PAGE, NULL, NULL) == -EINVAL);
	CHECK(vdpa_sigbus_guard(page, SIZE_MAX, NULL, NULL) == -EINVAL);
	CHECK(vdpa_sigbus_guard(page, PAGE, NULL, NULL) == 0);
	CHECK(vdpa_sigbus_guard(page, PAGE, NULL, NULL) == -EINVAL);
	vdpa_sigbus_unguard(page);
	CHECK(vdpa_sigbus_guard(page, PAGE, NULL, NULL) == 0);
	return 0;
}

static void
bad_arguments_are_refused(void **state)
{
	(void)state;
	expect(arguments, 0);
}

static int
table_full(void)
{
	uint8_t *page = (uint8_t *)(uintptr_t)0x100000000;
	unsigned int nr = 0;
	atomic_int hits = 0;
	volatile uint8_t *va;
	int fd, rc;

	CHECK((va = map_file(&fd, MAP_SHARED)) != NULL);
	/* addresses only: nothing is mapped there */
	while ((rc = vdpa_sigbus_guard(page + (uint64_t)nr * PAGE, PAGE, NULL, NULL)) == 0)
		CHECK(nr++ < 100000);
	CHECK(rc == -ENOSPC);
	CHECK(nr >= 2 * 8 * 1000);
	vdpa_sigbus_unguard(page + (uint64_t)(nr / 2) * PAGE);
	CHECK(vdpa_sigbus_guard((void *)va, SIZE, count_hit, &hits) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(va[0] == 0 && hits == 1);
	return 0;
}

static void
table_is_bounded_and_slots_are_used_again(void **state)
{
	(void)state;
	expect(table_full, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guarded_memory_becomes_zero_and_its_owner_hears_once),
		cmocka_unit_test(running_readers_survive_truncation),
		cmocka_unit_test(guards_of_many_threads_do_not_mix),
		cmocka_unit_test(unguard_waits_for_a_handler_that_runs),
		cmocka_unit_test(unknown_shared_mapping_gets_one_zero_page),
		cmocka_unit_test(unknown_private_mapping_ends_the_process),
		cmocka_unit_test(signal_sent_by_somebody_ends_the_process),
		cmocka_unit_test(program_that_ignores_the_signal_still_does),
		cmocka_unit_test(handler_installed_before_gets_unknown_faults),
		cmocka_unit_test(bad_arguments_are_refused),
		cmocka_unit_test(table_is_bounded_and_slots_are_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
