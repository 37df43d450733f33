/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

/* sw_blk's requests, through the class and its workers, seen from a driver. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "blk_guest.h"
#include "sw_blk.h"

#define BASE                                                                          \
	(F(F_VERSION_1) | F(BLK_F_FLUSH) | F(BLK_F_DISCARD) | F(BLK_F_WRITE_ZEROES) | \
		F(BLK_F_CONFIG_WCE) | F(BLK_F_BLK_SIZE) | F(BLK_F_SEG_MAX))
#define ALL      (BASE | F(RING_F_INDIRECT_DESC) | F(RING_F_EVENT_IDX))
#define DISK_MIB 8
#define SECTORS  (DISK_MIB * 2048)

/* Backends that keep data, each with the ring formats. */
struct variant {
	const char *args;
	uint64_t features;
};

static const struct variant variants[] = {
	{"backend=malloc,size=8M", BASE},
	{"backend=malloc,size=8M", ALL},
	{"backend=malloc,size=8M", ALL | F(F_RING_PACKED)},
	{"backend=malloc,size=8M", ALL | F(F_IN_ORDER)},
	{"backend=malloc,size=8M,log=off,relay=always", ALL},
	{"backend=file,size=8M", BASE},
	{"backend=file,size=8M", ALL | F(F_RING_PACKED)},
	{"backend=file,size=8M,direct=on,blk_size=4096", ALL},
	{"backend=file,size=8M,relay=always", ALL},
	{"backend=file,size=8M,write_cache=off", ALL},
};

static void
open_variant(struct blk_guest *g, const struct variant *variant)
{
	const struct blk_guest_config config = {.device = "b0", .features = variant->features};

	blk_device_add("b0", variant->args);
	blk_guest_open(g, &config);
}

static void
close_variant(struct blk_guest *g)
{
	blk_guest_close(g);
	device_del("b0");
}

static void
pattern(uint8_t *data, uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = seed >> 24;
	}
}

static uint8_t out[BLK_DATA_MAX], back[BLK_DATA_MAX];

static void
what_was_written_is_read_in_every_shape(void **state)
{
	static const uint32_t lengths[] = {4096, 8192, 65536, 1 << 20};
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		open_variant(&g, &variants[v]);
		for (unsigned int i = 0; i < BLK_SHAPES * 4; i++) {
			uint32_t len = lengths[i / BLK_SHAPES];
			uint64_t sector = i * 8;

			pattern(out, len, i);
			memset(back, 0, len);
			assert_int_equal(blk_guest_do(&g, 0, i % BLK_SHAPES, VIRTIO_BLK_T_OUT,
						 sector, out, len),
				VIRTIO_BLK_S_OK);
			assert_int_equal(blk_guest_do(&g, 0, (i + 1) % BLK_SHAPES, VIRTIO_BLK_T_IN,
						 sector, back, len),
				VIRTIO_BLK_S_OK);
			assert_memory_equal(back, out, len);
		}
		assert_int_equal(blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(device_stat(g.dev, 0, "writes"), BLK_SHAPES * 4);
		assert_int_equal(device_stat(g.dev, 0, "flushes"), 1);
		close_variant(&g);
	}
}

static void
discard_and_write_zeroes_leave_zeros_and_their_neighbours(void **state)
{
	struct virtio_blk_discard_write_zeroes ranges[2] = {
		{.sector = 16, .num_sectors = 16}, {.sector = 64, .num_sectors = 1}};
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		open_variant(&g, &variants[v]);
		for (uint32_t flags = 0; flags < 3; flags++) {
			uint32_t type = flags < 2 ? VIRTIO_BLK_T_WRITE_ZEROES
						  : VIRTIO_BLK_T_DISCARD;

			ranges[0].flags = ranges[1].flags = flags % 2;
			pattern(out, 65536, flags);
			assert_int_equal(
				blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_OUT, 0, out, 65536), 0);
			assert_int_equal(
				blk_guest_do(&g, 0, flags, type, 0, ranges, sizeof(ranges)), 0);
			memset(out + 16 * 512, 0, 16 * 512);
			memset(out + 64 * 512, 0, 512);
			assert_int_equal(
				blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_IN, 0, back, 65536), 0);
			assert_memory_equal(back, out, 65536);
		}
		close_variant(&g);
	}
}

static void
get_id_gives_the_serial(void **state)
{
	static const struct variant named = {"backend=null,size=1M,serial=disk-7", ALL};
	char id[64];
	struct blk_guest g;

	(void)state;
	open_variant(&g, &named);
	for (enum blk_shape shape = BLK_PLAIN; shape < BLK_CROSSING; shape++) {
		memset(id, 'x', sizeof(id));
		assert_int_equal(blk_guest_do(&g, 0, shape, VIRTIO_BLK_T_GET_ID, 0, id, 20), 0);
		assert_string_equal(id, "disk-7");
		assert_int_equal(id[19], 0);
		assert_int_equal(id[20], 'x');
	}
	close_variant(&g);
}

static void
unknown_requests_are_unsupported(void **state)
{
	static const struct variant plain = {"backend=malloc,size=1M", F(F_VERSION_1)};
	static const uint32_t types[] = {2, 3, 5, 10, VIRTIO_BLK_T_DISCARD,
		VIRTIO_BLK_T_WRITE_ZEROES, 14, 15, 0x80000000, UINT32_MAX};
	struct virtio_blk_discard_write_zeroes range = {.sector = 0, .num_sectors = 8};
	struct blk_guest g;

	(void)state;
	open_variant(&g, &plain);
	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(blk_guest_do(&g, 0, BLK_PLAIN, types[i], 0, &range, sizeof(range)),
			VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(device_stat(g.dev, 0, "unsupported"), 10);
	close_variant(&g);
}

static void
a_read_only_disk_refuses_to_be_changed(void **state)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = 0, .num_sectors = 8};
	static const struct variant read_only = {
		"backend=malloc,size=1M,readonly=on", F(F_VERSION_1) | F(BLK_F_RO)};
	struct blk_guest g;

	(void)state;
	open_variant(&g, &read_only);
	pattern(out, 512, 1);
	assert_int_equal(
		blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_OUT, 0, out, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_IN, 0, back, 512), 0);
	memset(out, 0, 512);
	assert_memory_equal(back, out, 512);
	assert_int_equal(
		blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_DISCARD, 0, &range, sizeof(range)),
		VIRTIO_BLK_S_UNSUPP);
	close_variant(&g);
}

static void
the_end_of_the_disk_is_the_end(void **state)
{
	static const uint64_t bad[] = {SECTORS - 7, SECTORS, SECTORS + 1, UINT64_C(1) << 55,
		UINT64_MAX / 512, UINT64_MAX - 7, UINT64_MAX};
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		open_variant(&g, &variants[v]);
		for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			assert_int_equal(
				blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_OUT, bad[i], out, 4096),
				VIRTIO_BLK_S_IOERR);
			assert_int_equal(
				blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_IN, bad[i], back, 4096),
				VIRTIO_BLK_S_IOERR);
		}
		assert_int_equal(
			blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_OUT, SECTORS - 8, out, 4096),
			0);
		close_variant(&g);
	}
}

static void
memory_may_move_and_queues_stop_under_a_running_disk(void **state)
{
	struct blk_guest g;

	(void)state;
	for (unsigned int v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		open_variant(&g, &variants[v]);
		for (uint32_t i = 0; i < 3; i++) {
			pattern(out, 8192, i);
			assert_int_equal(blk_guest_do(&g, 0, BLK_CROSSING, VIRTIO_BLK_T_OUT, i * 16,
						 out, 8192),
				0);
			blk_guest_remap(&g);
			if (i == 1) {
				blk_guest_stop(&g);
				blk_guest_start(&g);
			}
			assert_int_equal(blk_guest_do(&g, 0, BLK_CROSSING, VIRTIO_BLK_T_IN, i * 16,
						 back, 8192),
				0);
			assert_memory_equal(back, out, 8192);
		}
		close_variant(&g);
	}
}

#define NR_GROWTHS 300

struct growing {
	struct vdpa_device *dev;
	atomic_bool over;
	int rc;
};

static void *
grow(void *arg)
{
	struct growing *growing = arg;
	const struct vdpa_mgmtdev *mgmtdev = growing->dev->mgmtdev;
	char size[32];

	for (unsigned int i = 0; i < NR_GROWTHS && growing->rc == 0; i++) {
		snprintf(size, sizeof(size), "size=%uM", 9 + i);
		growing->rc = mgmtdev->dev_set(mgmtdev, growing->dev, size);
	}
	atomic_store(&growing->over, true);
	return NULL;
}

/* Both have the workers do something with all queues, on two threads. */
static void
a_disk_may_grow_while_a_log_of_it_begins(void **state)
{
	const struct blk_guest_config config = {.device = "b0", .features = BASE, .nr_vqs = 4};
	struct growing growing = {0};
	pthread_t thread;
	struct blk_guest g;

	(void)state;
	blk_device_add("b0", "backend=malloc,size=8M,num_queues=4");
	blk_guest_open(&g, &config);
	growing.dev = g.dev;
	assert_int_equal(pthread_create(&thread, NULL, grow, &growing), 0);
	/* as the class calls them; it calls no other op that has workers do something now */
	while (!atomic_load(&growing.over)) {
		assert_int_equal(g.dev->ops->dirty_start(g.dev), 0);
		assert_int_equal(g.dev->ops->dirty_stop(g.dev), 0);
	}
	pthread_join(thread, NULL);
	assert_int_equal(growing.rc, 0);
	for (uint16_t vq = 0; vq < 4; vq++) {
		pattern(out, 4096, vq);
		assert_int_equal(blk_guest_do(&g, vq, BLK_PLAIN, VIRTIO_BLK_T_OUT, SECTORS + vq * 8,
					 out, 4096),
			0);
		assert_int_equal(blk_guest_do(&g, vq, BLK_PLAIN, VIRTIO_BLK_T_IN, SECTORS + vq * 8,
					 back, 4096),
			0);
		assert_memory_equal(back, out, 4096);
	}
	close_variant(&g);
}

/* One state after another in which a device may have died. */
struct death {
	uint16_t used_in_ring, used_in_region, batch; /* batch: last_batch_head */
	uint16_t flight[3];                           /* heads in flight, in order; 99: none */
};

/* Requests 0 to 2 were taken by a device that died; each writes its own sector. */
static void
leave_requests(struct blk_guest *g, const struct death *death, uint8_t *region)
{
	uint64_t at = g->vqs[0].request_iova;
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_OUT};
	struct vring_used *used = blk_guest_ptr(g, g->vqs[0].device_iova);
	uint16_t head = 0;

	for (uint64_t i = 0; i < 3; i++) {
		struct vring_buf bufs[3] = {{at + i * 64, sizeof(header)},
			{at + 4096 + i * 512, 512}, {at + i * 64 + 32, 1}};
		uint8_t data[512];

		header.sector = i;
		memset(data, 'a' + i, sizeof(data));
		blk_guest_fill(g, bufs[0].iova, &header, sizeof(header));
		blk_guest_fill(g, bufs[1].iova, data, sizeof(data));
		blk_guest_fill(g, bufs[2].iova, "\xff", 1);
		blk_guest_add(g, 0, bufs, 2, 1, (void *)(i + 1), false);
	}
	for (uint16_t i = 0; i < death->used_in_ring; i++)
		used->ring[i] = (struct vring_used_elem){.id = 3 * (2 - i), .len = 1};
	used->idx = death->used_in_ring;
	memcpy(region + 8, (uint16_t[]){1, BLK_RING, death->batch, death->used_in_region}, 8);
	for (uint64_t i = 0; i < 3; i++) {
		head = death->flight[i];
		if (head == 99)
			continue;
		region[16 + head * 16] = 1;
		memcpy(region + 16 + head * 16 + 8, &i, sizeof(i));
	}
}

/* A note goes after the answer. */
static void
wait_nothing_noted(const uint8_t *region)
{
	unsigned int nr = 1;

	for (int i = 0; i < 30000 && nr != 0; i++) {
		nr = 0;
		for (unsigned int k = 0; k < BLK_RING; k++)
			nr += __atomic_load_n(&region[16 + k * 16], __ATOMIC_RELAXED) != 0;
		if (nr != 0)
			usleep(1000);
	}
	assert_int_equal(nr, 0);
}

static void
what_a_dead_device_took_is_done_again_and_no_more(void **state)
{
	/* requests have the heads 0, 3 and 6 */
	static const struct death deaths[] = {
		{0, 0, 0, {0, 3, 6}},  /* none was done */
		{0, 0, 0, {0, 3, 99}}, /* two were taken */
		{1, 1, 6, {0, 3, 99}}, /* the last was done first */
		{1, 0, 6, {0, 3, 6}},  /* the same, and it died before it noted so */
		{3, 3, 0, {99, 99, 99}},
	};
	static const struct variant disks[] = {{"backend=file,size=8M", F(F_VERSION_1)},
		{"backend=malloc,size=8M", F(F_VERSION_1)}};

	(void)state;
	for (unsigned int i = 0; i < 2 * sizeof(deaths) / sizeof(deaths[0]); i++) {
		const struct death *death = &deaths[i / 2];
		struct blk_guest_config config = {
			.device = "b0", .features = disks[i % 2].features, .waits = true};
		bool answered[3] = {false};
		struct blk_guest g;
		void *cookie;

		blk_device_add("b0", disks[i % 2].args);
		blk_guest_open(&g, &config);
		leave_requests(&g, death, blk_guest_inflight(&g));
		blk_guest_start(&g);
		for (unsigned int k = 0; k < 3; k++) {
			assert_int_equal(blk_guest_wait(&g, 0, &cookie, 30000), 1);
			assert_false(answered[(uintptr_t)cookie - 1]);
			answered[(uintptr_t)cookie - 1] = true;
		}
		assert_int_equal(blk_guest_wait(&g, 0, NULL, 50), -1);
		assert_int_equal(device_stat(g.dev, 0, "writes"), 3 - death->used_in_ring);
		wait_nothing_noted(blk_guest_inflight(&g));
		assert_int_equal(blk_guest_do(&g, 0, BLK_PLAIN, VIRTIO_BLK_T_IN, 0, back, 1024), 0);
		for (unsigned int k = 0; k < 2; k++)
			assert_int_equal(
				back[k * 512], death->used_in_ring == 3 ? 0 : 'a' + (int)k);
		close_variant(&g);
	}
}

/* Writes that are there when the device starts: it takes them in one burst. */
#define WRITES      8
#define PIECES_MAX  120 /* with header and status no more than the ring has */
#define TABLE_BYTES 4096

struct burst {
	const char *args;
	uint32_t len, step; /* of each write, and from one to the next, in bytes */
	uint16_t pieces;
	unsigned int joined;
};

static void
put_write(struct blk_guest *g, const struct burst *burst, uint64_t n)
{
	struct blk_queue *q = &g->vqs[0];
	uint64_t at = q->request_iova + n * 64, data_at = q->request_iova + 4096 * (1 + n);
	struct virtio_blk_outhdr header = {
		.type = VIRTIO_BLK_T_OUT, .sector = n * burst->step / 512};
	struct vring_table table = {.iova = q->table_iova + n * TABLE_BYTES, .nr = PIECES_MAX + 2};
	uint32_t piece = burst->len / burst->pieces;
	struct vring_buf bufs[PIECES_MAX + 2] = {{at, sizeof(header)}};
	uint16_t nr = 1;

	table.va = blk_guest_ptr(g, table.iova);
	blk_guest_fill(g, at, &header, sizeof(header));
	blk_guest_fill(g, at + 32, "\xff", 1);
	blk_guest_fill(g, data_at, out + 4096 * n, burst->len);
	for (; nr <= burst->pieces; nr++)
		bufs[nr] = (struct vring_buf){data_at + (nr - 1) * piece, piece};
	bufs[nr] = (struct vring_buf){at + 32, 1};
	assert_int_equal(vring_drv_add(&q->ring, bufs, nr, 1, (void *)(n + 1), &table), 0);
	vring_drv_publish(&q->ring);
}

/* Each is answered once. */
static void
run_burst(struct blk_guest *g, const struct burst *burst, uint8_t *statuses)
{
	void *cookie;

	pattern(out, burst->len + 4096 * WRITES, burst->step);
	memset(statuses, BLK_PENDING, WRITES);
	for (uint64_t n = 0; n < WRITES; n++)
		put_write(g, burst, n);
	blk_guest_start(g);
	for (unsigned int i = 0; i < WRITES; i++) {
		uint64_t n;

		assert_int_equal(blk_guest_wait(g, 0, &cookie, 30000), 1);
		n = (uintptr_t)cookie - 1;
		assert_int_equal(statuses[n], BLK_PENDING);
		blk_guest_read(g, g->vqs[0].request_iova + n * 64 + 32, &statuses[n], 1);
	}
	assert_int_equal(blk_guest_wait(g, 0, NULL, 50), -1);
	assert_int_equal(device_stat(g->dev, 0, "joined"), burst->joined);
}

static void
expect_written(struct blk_guest *g, const struct burst *burst, uint64_t n)
{
	assert_int_equal(blk_guest_do(g, 0, BLK_PLAIN, VIRTIO_BLK_T_IN, n * burst->step / 512, back,
				 burst->len),
		VIRTIO_BLK_S_OK);
	assert_memory_equal(back, out + 4096 * n, burst->len);
}

static void
writes_that_follow_each_other_are_done_together(void **state)
{
	static const struct burst bursts[] = {
		{"backend=file,size=8M", 4096, 4096, 1, WRITES - 1},
		{"backend=file,size=8M", 65536, 65536, 8, WRITES - 1},
		{"backend=file,size=8M", 61440, 61440, 120, WRITES / 2},   /* 320 segments */
		{"backend=file,size=8M", 1 << 20, 1 << 20, 1, WRITES - 2}, /* 4 MiB */
		{"backend=file,size=8M", 4096, 8192, 1, 0},
		{"backend=file,size=8M,write_cache=off", 4096, 4096, 1, 0},
		{"backend=file,size=8M,direct=on,blk_size=4096", 4096, 4096, 1, 0},
	};
	const struct blk_guest_config config = {.device = "b0", .features = ALL, .waits = true};
	uint8_t statuses[WRITES];
	struct blk_guest g;

	(void)state;
	for (unsigned int i = 0; i < sizeof(bursts) / sizeof(bursts[0]); i++) {
		blk_device_add("b0", bursts[i].args);
		blk_guest_open(&g, &config);
		run_burst(&g, &bursts[i], statuses);
		for (uint64_t n = 0; n < WRITES; n++) {
			assert_int_equal(statuses[n], VIRTIO_BLK_S_OK);
			expect_written(&g, &bursts[i], n);
		}
		close_variant(&g);
	}
}

/* The kernel gets no data of it, as the device may not read that page. */
static void
a_write_without_data_fails_alone(void **state)
{
	static const struct burst burst = {"backend=file,size=8M", 4096, 4096, 1, WRITES - 1};
	static const uint64_t bad[][2] = {{2, 5}, {0, 1}, {7, 7}};
	const struct blk_guest_config config = {.device = "b0", .features = ALL, .waits = true};
	uint8_t statuses[WRITES];
	struct blk_guest g;

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		blk_device_add("b0", burst.args);
		blk_guest_open(&g, &config);
		for (unsigned int k = 0; k < 2; k++) {
			uint64_t at = g.vqs[0].request_iova + 4096 * (1 + bad[i][k]);

			assert_int_equal(mprotect(g.device_va[1] + (at - g.regions[1].iova), 4096,
						 PROT_NONE),
				0);
		}
		run_burst(&g, &burst, statuses);
		assert_int_equal(
			mprotect(g.device_va[1], BLK_REGION_BYTES, PROT_READ | PROT_WRITE), 0);
		for (uint64_t n = 0; n < WRITES; n++) {
			bool fails = n == bad[i][0] || n == bad[i][1];

			assert_int_equal(statuses[n], fails ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
			if (!fails)
				expect_written(&g, &burst, n);
		}
		close_variant(&g);
	}
}

static void
a_disk_that_ends_fails_what_is_beyond(void **state)
{
	/* two times four together; the file ends within the third and does not grow */
	static const struct burst burst = {NULL, 1 << 20, 1 << 20, 1, WRITES - 2};
	const struct blk_guest_config config = {.device = "b0", .features = ALL, .waits = true};
	const off_t end = (5 << 20) / 2;
	int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t statuses[WRITES];
	struct blk_guest g;
	struct stat st;
	char args[64];

	(void)state;
	snprintf(args, sizeof(args), "backend=file,size=8M,path=/proc/self/fd/%d", fd);
	device_add("sw_blk", "b0", args);
	assert_int_equal(ftruncate(fd, end), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	blk_guest_open(&g, &config);
	run_burst(&g, &burst, statuses);
	for (uint64_t n = 0; n < WRITES; n++)
		assert_int_equal(statuses[n], n < 2 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	assert_int_equal(device_stat(g.dev, 0, "io_errors"), WRITES - 2);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, end);
	for (uint64_t n = 0; n < 2; n++)
		expect_written(&g, &burst, n);
	close_variant(&g);
	close(fd);
}

/* What a worker sees of a queue between two bursts. */
struct look {
	struct sw_blk_vq *vq;
	bool busy, waits;
};

static void
look_at(void *arg)
{
	struct look *look = arg;

	look->busy = atomic_load(&look->vq->nr_busy) != 0;
	look->waits = look->vq->path.waits;
}

static void
look_once(struct look *look)
{
	assert_int_equal(vdpa_path_run(&look->vq->path, look_at, look), 0);
	assert_int_equal(look->waits, look->busy);
}

static void
a_queue_waits_while_the_kernel_has_its_requests(void **state)
{
	static const struct variant disk = {"backend=file,size=8M", ALL};
	static struct look look; /* a worker that hangs may still write to it */
	const time_t until = time(NULL) + 60;
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
	struct vring_buf bufs[2];
	struct blk_guest g;

	(void)state;
	open_variant(&g, &disk);
	look.vq = &sw_blk_of(g.dev)->vqs[0];
	bufs[0] = (struct vring_buf){g.vqs[0].request_iova, sizeof(header)};
	bufs[1] = (struct vring_buf){g.vqs[0].request_iova + 32, 1};
	blk_guest_fill(&g, bufs[0].iova, &header, sizeof(header));
	look_once(&look);
	assert_false(look.waits);
	do {
		/* the kernel's thread does a flush: it is seen under way sooner or later */
		blk_guest_add(&g, 0, bufs, 1, 1, &g, false);
		look_once(&look);
		assert_int_equal(blk_guest_wait(&g, 0, NULL, 30000), 1);
		assert_true(time(NULL) < until);
	} while (!look.waits);
	look_once(&look);
	assert_false(look.waits);
	close_variant(&g);
}

static void
configuration_space_tells_the_disk(void **state)
{
	static const struct variant wide = {
		"backend=null,size=1G,blk_size=4096,num_queues=3,seg_max=30,size_max=65536", ALL};
	struct virtio_blk_config c;
	struct blk_guest g;
	uint8_t mode = 0;

	(void)state;
	open_variant(&g, &wide);
	vdpa_binding_config_read(g.binding, 0, &c, sizeof(c));
	assert_int_equal(c.capacity, 2097152);
	assert_int_equal(c.size_max, 65536);
	assert_int_equal(c.seg_max, 30);
	assert_int_equal(c.blk_size, 4096);
	assert_int_equal(c.num_queues, 3);
	assert_int_equal(c.physical_block_exp, 0);
	assert_int_equal(c.geometry.cylinders, 2080);
	assert_int_equal(c.max_discard_seg, SW_BLK_RANGES_MAX);
	assert_int_equal(c.wce, 1);
	assert_int_equal(vdpa_binding_config_write(g.binding, 32, &mode, 1), 0);
	assert_int_equal(vdpa_session_sync(g.session, 30000), 0);
	for (int i = 0; i < 3000 && c.wce != 0; i++) {
		usleep(10000);
		vdpa_binding_config_read(g.binding, 0, &c, sizeof(c));
	}
	assert_int_equal(c.wce, 0);
	close_variant(&g);
}

static void
bad_keys_are_refused_by_name(void **state)
{
	static const char *const bad[][2] = {
		{"", "size"},
		{"backend=null", "size"},
		{"backend=file", "path"},
		{"backend=file,path=/nonexistent/disk", "/nonexistent/disk"},
		{"backend=file,path=/dev/null", "regular file"},
		{"backend=malloc,size=1M,path=/tmp/x", "path"},
		{"backend=malloc,size=1000", "size"},
		{"backend=malloc,size=1X", "size"},
		{"backend=malloc,size=0", "size"},
		{"backend=malloc,size=16E", "size"},
		{"backend=malloc,size=-1", "size"},
		{"backend=malloc,size=1M,blk_size=1000", "blk_size"},
		{"backend=malloc,size=1M,blk_size=4096,physical_block_size=512", "physical"},
		{"backend=malloc,size=512,blk_size=4096", "blk_size"},
		{"backend=malloc,size=1M,direct=on", "direct"},
		{"backend=malloc,size=1M,num_queues=0", "num_queues"},
		{"backend=malloc,size=1M,num_queues=257", "num_queues"},
		{"backend=malloc,size=1M,serial=123456789012345678901", "serial"},
		{"backend=malloc,size=1M,mac=02:00:00:00:00:01", "mac"},
		{"backend=malloc,size=1M,device_features=8000000000000000", "device_features"},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(device_try_add("sw_blk", "b0", bad[i][0]) < 0);
		if (strstr(vdpa_error_text(), bad[i][1]) == NULL)
			fail_msg("%s: %s", bad[i][0], vdpa_error_text());
	}
}

#define TEST(fn) cmocka_unit_test_teardown(fn, blk_guest_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_written_is_read_in_every_shape),
		TEST(discard_and_write_zeroes_leave_zeros_and_their_neighbours),
		TEST(get_id_gives_the_serial),
		TEST(unknown_requests_are_unsupported),
		TEST(a_read_only_disk_refuses_to_be_changed),
		TEST(the_end_of_the_disk_is_the_end),
		TEST(memory_may_move_and_queues_stop_under_a_running_disk),
		TEST(a_disk_may_grow_while_a_log_of_it_begins),
		TEST(what_a_dead_device_took_is_done_again_and_no_more),
		TEST(writes_that_follow_each_other_are_done_together),
		TEST(a_write_without_data_fails_alone),
		TEST(a_disk_that_ends_fails_what_is_beyond),
		TEST(a_queue_waits_while_the_kernel_has_its_requests),
		TEST(configuration_space_tells_the_disk),
		TEST(bad_keys_are_refused_by_name),
	};

	/* named, so that the linker takes the whole driver */
	rte_log_set_level(sw_blk_logtype, RTE_LOG_INFO);
	return cmocka_run_group_tests(tests, blk_disk_create, blk_disk_remove);
}
