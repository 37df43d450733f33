/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* Paths that move between workers, by hand and by load. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>

#include "cpus.h"
#include "net_guest.h"
#include "sw_net.h"
#include "vdpa_worker.h"

#define RX 0
#define TX 1

/* A path whose memory would tell of two workers at once, or of one that misses what another did. */
struct path {
	struct vdpa_path path; /* first */
	atomic_uint work;      /* polls that will find something */
	atomic_uint done;
	atomic_bool hold, held; /* poll hangs */
	atomic_flag inside;
	atomic_bool two_at_once;
	unsigned int plain; /* not atomic: counts as done does */
	uint64_t spin_cycles;
	struct path *next_open;
};

/* Those of the test that runs: one that fails must not leave them to workers and later tests. */
static struct path *open_paths;

static unsigned int
path_poll(struct vdpa_path *path)
{
	struct path *p = (struct path *)path;
	uint64_t until = rte_rdtsc() + p->spin_cycles;

	if (atomic_flag_test_and_set(&p->inside))
		atomic_store(&p->two_at_once, true);
	while (atomic_load(&p->hold)) {
		atomic_store(&p->held, true);
		sched_yield();
	}
	if (atomic_load(&p->work) == 0) {
		atomic_flag_clear(&p->inside);
		return 0;
	}
	while (rte_rdtsc() < until)
		;
	atomic_fetch_sub(&p->work, 1);
	p->plain++;
	atomic_fetch_add(&p->done, 1);
	atomic_flag_clear(&p->inside);
	return 1;
}

static bool
path_arm(struct vdpa_path *path)
{
	return atomic_load(&((struct path *)path)->work) != 0;
}

static void
path_init(struct path *p, const void *group)
{
	memset(p, 0, sizeof(*p));
	p->path.poll = path_poll;
	p->path.arm = path_arm;
	p->path.group = group;
	p->path.wake_fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->path.wake_fds[1] = -1;
	assert_true(p->path.wake_fds[0] >= 0);
	p->next_open = open_paths;
	open_paths = p;
}

static int
close_paths(void **state)
{
	int rc = 0;

	(void)state;
	for (; open_paths != NULL; open_paths = open_paths->next_open) {
		atomic_store(&open_paths->hold, false);
		if (vdpa_path_del(&open_paths->path) != 0)
			rc = -1;
		close(open_paths->path.wake_fds[0]);
	}
	return rc;
}

static void
path_fini(struct path *p)
{
	struct path **at = &open_paths;

	while (*at != p)
		at = &(*at)->next_open;
	*at = p->next_open;
	assert_int_equal(vdpa_path_del(&p->path), 0);
	assert_false(atomic_load(&p->two_at_once));
	assert_int_equal(p->plain, atomic_load(&p->done));
	close(p->path.wake_fds[0]);
}

static void
give(struct path *p, unsigned int work)
{
	uint64_t one = 1;

	atomic_fetch_add(&p->work, work);
	assert_int_equal(write(p->path.wake_fds[0], &one, sizeof(one)), sizeof(one));
}

#define wait_for(condition)                                          \
	do {                                                         \
		uint64_t until_ = net_now_us() + 30000000;           \
		while (!(condition)) {                               \
			if (net_now_us() > until_)                   \
				fail_msg("in vain: %s", #condition); \
			net_sleep_ms(1);                             \
		}                                                    \
	} while (0)

/* Two workers, on two CPUs where there are two. @return there are */
static bool
two_workers(enum vdpa_worker_idle idle)
{
	int cpu = first_cpu(), second = cpu + 1;
	cpu_set_t set;
	char list[32];

	sched_getaffinity(0, sizeof(set), &set);
	while (second < CPU_SETSIZE && !CPU_ISSET(second, &set))
		second++;
	if (second == CPU_SETSIZE)
		second = cpu;
	snprintf(list, sizeof(list), "%d,%d", cpu, second);
	assert_int_equal(vdpa_workers_configure(list, idle), 0);
	return second != cpu;
}

static void
move(struct path *p, unsigned int to)
{
	struct vdpa_path_group *group = vdpa_group_hold(p->path.group);
	uint64_t until = net_now_us() + 30000000;
	int rc;

	assert_non_null(group);
	/* a worker that has no turn looks as if it hung */
	do
		rc = vdpa_group_move(group, &vdpa_workers.all[to]);
	while (rc == -EBUSY || (rc == -ETIMEDOUT && net_now_us() < until));
	assert_int_equal(rc, 0);
	vdpa_group_put(group);
}

static unsigned int
worker_of(const struct path *p)
{
	return vdpa_group_worker(p->path.group);
}

static uint32_t
nr_paths(unsigned int worker)
{
	struct vdpa_worker_status status;

	assert_int_equal(vdpa_worker_status_get(worker, &status), 0);
	return status.nr_paths;
}

/* ---- ---- */

static void
group_sits_on_one_worker_and_moves_together(void **state)
{
	static struct path a[3], b;
	char group_a, group_b;

	(void)state;
	two_workers(VDPA_WORKER_ADAPTIVE);
	for (int i = 0; i < 3; i++) {
		path_init(&a[i], &group_a);
		assert_int_equal(vdpa_path_add(&a[i].path, -1), 0);
		assert_int_equal(worker_of(&a[i]), worker_of(&a[0]));
	}
	path_init(&b, &group_b);
	assert_int_equal(vdpa_path_add(&b.path, -1), 0);
	assert_int_not_equal(worker_of(&b), worker_of(&a[0]));
	move(&a[0], worker_of(&b));
	for (int i = 0; i < 3; i++)
		assert_int_equal(worker_of(&a[i]), worker_of(&b));
	assert_int_equal(nr_paths(worker_of(&b)), 4);
	assert_int_equal(nr_paths(!worker_of(&b)), 0);
	for (int i = 0; i < 3; i++)
		give(&a[i], 5);
	for (int i = 0; i < 3; i++)
		wait_for(atomic_load(&a[i].done) == 5);
	for (int i = 0; i < 3; i++)
		path_fini(&a[i]);
	path_fini(&b);
	assert_null(vdpa_group_hold(&group_a));
}

/* Kicks come at any moment of a move, and nobody repeats them. */
static void
no_kick_is_lost_by_200_moves(void **state)
{
	static struct path p, other;
	char group, group_other;
	unsigned int given = 0;

	(void)state;
	two_workers(VDPA_WORKER_SLEEP);
	path_init(&p, &group);
	path_init(&other, &group_other);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	assert_int_equal(vdpa_path_add(&other.path, -1), 0);
	for (unsigned int i = 0; i < 200; i++) {
		unsigned int work = i % 7;

		give(&p, work);
		given += work;
		move(&p, i % 2);
		assert_int_equal(worker_of(&p), i % 2);
		if (i % 3 == 0)
			wait_for(atomic_load(&p.done) == given);
	}
	wait_for(atomic_load(&p.done) == given);
	path_fini(&p);
	path_fini(&other);
}

struct mover {
	struct path *p;
	atomic_bool stop;
	atomic_uint moves;
};

static void *
move_to_and_fro(void *arg)
{
	struct mover *mover = arg;

	while (!atomic_load(&mover->stop))
		move(mover->p, atomic_fetch_add(&mover->moves, 1) % 2);
	return NULL;
}

static void
count(void *arg)
{
	++*(unsigned int *)arg;
}

/* A command always runs where the path is: its counter would miss some else. */
static void
commands_find_a_path_that_moves(void **state)
{
	static struct path p;
	struct mover mover = {.p = &p};
	unsigned int nr = 0, given = 0, late = 0;
	pthread_t thread;
	char group;
	int rc = 0;

	(void)state;
	two_workers(VDPA_WORKER_ADAPTIVE);
	path_init(&p, &group);
	atomic_store(&p.work, UINT32_MAX);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	assert_int_equal(pthread_create(&thread, NULL, move_to_and_fro, &mover), 0);
	while (rc == 0 && (given < 500 || atomic_load(&mover.moves) < 10)) {
		rc = vdpa_path_run(&p.path, count, &nr);
		if (rc == -ETIMEDOUT) { /* it had no turn: as if it hung */
			late++;
			rc = 0;
			continue;
		}
		/* commands without a break keep a move waiting */
		if (++given % 16 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	atomic_store(&mover.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(rc, 0);
	assert_in_range(nr, given, given + late);
	path_fini(&p);
}

static void
worker_that_hangs_gets_nothing_and_loses_nothing(void **state)
{
	struct vdpa_path_group *group;
	char group_p, group_hung;
	static struct path p, hung;

	(void)state;
	two_workers(VDPA_WORKER_ADAPTIVE);
	path_init(&p, &group_p);
	path_init(&hung, &group_hung);
	assert_int_equal(vdpa_path_add(&p.path, -1), 0);
	assert_int_equal(vdpa_path_add(&hung.path, -1), 0);
	atomic_store(&hung.hold, true);
	give(&hung, 0);
	wait_for(atomic_load(&hung.held));
	group = vdpa_group_hold(&group_p);
	assert_int_equal(vdpa_group_move(group, hung.path.worker), -ETIMEDOUT);
	vdpa_group_put(group);
	give(&p, 3);
	wait_for(atomic_load(&p.done) == 3);
	group = vdpa_group_hold(&group_hung);
	assert_int_equal(vdpa_group_move(group, p.path.worker), -ETIMEDOUT);
	vdpa_group_put(group);
	atomic_store(&hung.hold, false);
	give(&hung, 3);
	wait_for(atomic_load(&hung.done) == 3);
	path_fini(&p);
	path_fini(&hung);
}

/* ---- load ---- */

#define BUSY_CYCLES 50000

static void
loads_init(struct path *paths, unsigned int nr, const char *groups)
{
	for (unsigned int i = 0; i < nr; i++) {
		path_init(&paths[i], &groups[i]);
		paths[i].spin_cycles = BUSY_CYCLES;
		assert_int_equal(vdpa_path_add(&paths[i].path, -1), 0);
	}
}

static void
busy_paths_leave_a_worker_for_an_idle_one(void **state)
{
	struct vdpa_worker_status status;
	static struct path paths[3];
	char groups[3];

	(void)state;
	if (!two_workers(VDPA_WORKER_ADAPTIVE)) {
		print_message("skipped: this process may use one CPU only\n");
		skip();
	}
	loads_init(paths, 3, groups);
	for (int i = 0; i < 3; i++)
		move(&paths[i], 0);
	atomic_store(&paths[0].work, UINT32_MAX);
	give(&paths[0], 0);
	atomic_store(&paths[1].work, UINT32_MAX);
	give(&paths[1], 0);
	wait_for(worker_of(&paths[0]) != worker_of(&paths[1]));
	/* and there they stay: it would be no better elsewhere */
	for (int i = 0; i < 5; i++) {
		assert_false(vdpa_balance());
		net_sleep_ms(50);
	}
	assert_int_equal(worker_of(&paths[2]), 0); /* it does nothing, so it is left alone */
	/* a worker that had no turn between two measures shows none */
	for (int i = 0; i < 600; i++) {
		assert_int_equal(vdpa_worker_status_get(0, &status), 0);
		if (status.busy_permille > 0)
			break;
		vdpa_balance();
		net_sleep_ms(50);
	}
	assert_true(status.busy_permille > 0);
	for (int i = 0; i < 3; i++)
		path_fini(&paths[i]);
}

static void
single_busy_path_and_one_placed_by_hand_stay(void **state)
{
	static struct path paths[2];
	char groups[2];

	(void)state;
	if (!two_workers(VDPA_WORKER_ADAPTIVE)) {
		print_message("skipped: this process may use one CPU only\n");
		skip();
	}
	loads_init(paths, 2, groups);
	move(&paths[0], 0);
	move(&paths[1], 0);
	atomic_store(&paths[0].work, UINT32_MAX);
	give(&paths[0], 0);
	for (int i = 0; i < 5; i++) {
		assert_false(vdpa_balance());
		net_sleep_ms(50);
	}
	for (int i = 0; i < 2; i++) {
		struct vdpa_path_group *group = vdpa_group_hold(&groups[i]);

		vdpa_group_hold_by_hand(group);
		vdpa_group_put(group);
	}
	atomic_store(&paths[1].work, UINT32_MAX);
	give(&paths[1], 0);
	for (int i = 0; i < 5; i++) {
		net_sleep_ms(50);
		assert_false(vdpa_balance());
		assert_int_equal(worker_of(&paths[0]), 0);
		assert_int_equal(worker_of(&paths[1]), 0);
	}
	for (int i = 0; i < 2; i++)
		path_fini(&paths[i]);
}

static uint64_t
loops(unsigned int worker)
{
	struct vdpa_worker_status status;

	assert_int_equal(vdpa_worker_status_get(worker, &status), 0);
	return status.loops;
}

/*
 * Two that never sleep, and this thread. Who has no work gives way at once: else it would do rounds
 * for a whole time slice, a hundred thousand, before the one with work has its turn.
 */
static void
two_polling_workers_share_a_cpu(void **state)
{
	static struct path paths[2];
	char groups[2], list[32];
	cpu_set_t saved, one;
	uint64_t before;

	(void)state;
	sched_getaffinity(0, sizeof(saved), &saved);
	CPU_ZERO(&one);
	CPU_SET(first_cpu(), &one);
	snprintf(list, sizeof(list), "%d,%d", first_cpu(), first_cpu());
	assert_int_equal(vdpa_workers_configure(list, VDPA_WORKER_POLL), 0);
	sched_setaffinity(0, sizeof(one), &one);
	for (int i = 0; i < 2; i++) {
		path_init(&paths[i], &groups[i]);
		assert_int_equal(vdpa_path_add(&paths[i].path, -1), 0);
	}
	assert_int_not_equal(worker_of(&paths[0]), worker_of(&paths[1]));
	before = loops(0) + loops(1);
	for (unsigned int i = 1; i <= 200; i++) {
		struct path *p = &paths[i % 2];
		unsigned int done = atomic_load(&p->done);

		atomic_store(&p->work, 1);
		while (atomic_load(&p->done) == done)
			sched_yield();
	}
	assert_true(loops(0) + loops(1) - before < 200 * 5000);
	sched_setaffinity(0, sizeof(saved), &saved);
	for (int i = 0; i < 2; i++)
		path_fini(&paths[i]);
}

/* ---- devices ---- */

static void
frames_stay_in_order(
	struct net_guest *from, struct net_guest *to, struct vdpa_device *dev, uint16_t index)
{
	uint32_t sent = 0, received = 0, number;
	uint8_t frame[100] = {0}, got[100];
	int rc;

	for (unsigned int round = 0; round < 200 || received < sent; round++) {
		uint64_t until = net_now_us() + 30000000;

		net_guest_fill(to, 0, UINT16_MAX);
		net_guest_reap(from, 0);
		for (int i = 0; i < 24 && round < 200; i++) {
			memcpy(frame + 20, &sent, sizeof(sent));
			if (!net_guest_send(from, 0, NET_WHOLE, NULL, frame, sizeof(frame)))
				break;
			sent++;
		}
		while (round < 200 && (rc = vdpa_vq_move(dev, index, round % 2)) != 0) {
			assert_int_equal(rc, -ETIMEDOUT); /* it had no turn: as if it hung */
			assert_true(net_now_us() < until);
		}
		assert_true(net_now_us() < until);
		while (net_guest_receive(to, 0, NULL, got, sizeof(got)) >= 0) {
			memcpy(&number, got + 20, sizeof(number));
			assert_int_equal(number, received);
			received++;
		}
	}
	assert_true(sent > 400);
	net_stat_wait(from->dev, TX, "packets", sent);
	net_stat_wait(to->dev, RX, "packets", sent);
}

static const uint64_t formats[] = {
	F(F_VERSION_1) | F(RING_F_EVENT_IDX),
	F(F_VERSION_1) | F(F_RING_PACKED),
};

static void
looped_frames_stay_in_order_while_their_queue_moves(void **state)
{
	static const char *const args[] = {"backend=loopback", "backend=loopback,relay=always"};

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct net_guest_config config = {.device = "a", .features = formats[i / 2]};
		struct net_guest g;

		two_workers(VDPA_WORKER_ADAPTIVE);
		net_device_add("a", args[i % 2]);
		net_guest_open(&g, &config);
		/* device and relay, both queues: one group */
		assert_int_equal(vdpa_vq_worker(g.dev, RX), vdpa_vq_worker(g.dev, TX));
		frames_stay_in_order(&g, &g, g.dev, i % 2);
		net_guest_close(&g);
		device_del("a");
	}
}

static void
frames_between_peers_stay_in_order_while_their_queue_moves(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct net_guest_config config = {.device = "a", .features = formats[i / 2]};
		struct net_guest a, b;

		two_workers(VDPA_WORKER_ADAPTIVE);
		net_device_add(
			"a", i % 2 ? "backend=peer,peer=b,relay=always" : "backend=peer,peer=b");
		net_device_add(
			"b", i % 2 ? "backend=peer,peer=a,relay=always" : "backend=peer,peer=a");
		net_guest_open(&a, &config);
		config.device = "b";
		net_guest_open(&b, &config);
		assert_int_equal(vdpa_vq_worker(a.dev, TX), vdpa_vq_worker(b.dev, RX));
		assert_int_equal(vdpa_vq_worker(b.dev, TX), vdpa_vq_worker(a.dev, RX));
		frames_stay_in_order(&a, &b, i / 2 ? a.dev : b.dev, i / 2 ? TX : RX);
		net_guest_close(&a);
		net_guest_close(&b);
		device_del("a");
		device_del("b");
	}
}

static void
wrong_moves_are_refused_with_a_sentence(void **state)
{
	struct net_guest_config config = {.device = "a", .features = formats[0]};
	struct net_guest g;

	(void)state;
	two_workers(VDPA_WORKER_ADAPTIVE);
	net_device_add("a", "backend=loopback");
	assert_int_equal(vdpa_vq_move(vdpa_device_find("a"), 0, 0), -ENOENT);
	assert_non_null(strstr(vdpa_error_text(), "no worker works on virtqueue 0"));
	net_guest_open(&g, &config);
	assert_int_equal(vdpa_vq_move(g.dev, 2, 0), -ENOENT); /* of the class: no worker's */
	assert_int_equal(vdpa_vq_move(g.dev, 3, 0), -EINVAL);
	assert_non_null(strstr(vdpa_error_text(), "has no virtqueue 3"));
	assert_int_equal(vdpa_vq_move(g.dev, 0, 2), -EINVAL);
	assert_non_null(strstr(vdpa_error_text(), "no worker 2"));
	assert_int_equal(vdpa_vq_move(g.dev, 0, 1), 0);
	assert_int_equal(vdpa_vq_worker(g.dev, 1), 1);
	net_guest_close(&g);
	assert_int_equal(vdpa_vq_worker(vdpa_device_find("a"), 0), -ENOENT);
	device_del("a");
}

#define PATHS(name)   cmocka_unit_test_teardown(name, close_paths)
#define DEVICES(name) cmocka_unit_test_teardown(name, net_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		PATHS(group_sits_on_one_worker_and_moves_together),
		PATHS(no_kick_is_lost_by_200_moves),
		PATHS(commands_find_a_path_that_moves),
		PATHS(worker_that_hangs_gets_nothing_and_loses_nothing),
		PATHS(busy_paths_leave_a_worker_for_an_idle_one),
		PATHS(single_busy_path_and_one_placed_by_hand_stay),
		PATHS(two_polling_workers_share_a_cpu),
		DEVICES(looped_frames_stay_in_order_while_their_queue_moves),
		DEVICES(frames_between_peers_stay_in_order_while_their_queue_moves),
		DEVICES(wrong_moves_are_refused_with_a_sentence),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_net_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
