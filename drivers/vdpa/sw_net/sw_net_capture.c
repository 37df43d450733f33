/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pcapng.h>
#include <rte_ring.h>

#include "sw_net.h"
#include "vdpa_dpdk_release.h"
#include "vring_copy.h"

/*
 * Frames go to a file without a worker touching it: it copies them into mbufs of a bounded pool and
 * puts these on a ring; a thread makes blocks of a pcapng file of them.
 *
 * librte_pcapng makes the blocks. It knows interfaces as ethdevs only, and refuses to write frames
 * of others; so the block that describes our interface is made here, and the interface and time of
 * each frame are put in where the format has them.
 */

#define POOL_BYTES  (8u << 20) /* of frames that wait for the thread */
#define BATCH       16
#define IDLE_US     200
#define TAIL_BYTES  64 /* what librte_pcapng puts behind a frame, and more */
#define PORT_ID     0  /* nobody asks for it */
#define NS_A_SECOND UINT64_C(1000000000)
#define COMMENT_MAX 128

/* Beside a frame that waits. */
struct note {
	uint64_t tsc;
	uint32_t queue;
	enum rte_pcapng_direction direction;
};

/* draft-ietf-opsawg-pcapng, 4.2 and 4.3: what an interface and a frame begin with */
struct interface_block {
	uint32_t type, len_bytes;
	uint16_t link_type, reserved;
	uint32_t snaplen;
	uint16_t name_code, name_bytes;
	char name[RTE_ALIGN_CEIL(VDPA_NAME_MAX, 4)];
};

struct frame_block {
	uint32_t type, len_bytes, interface, time_high, time_low;
};

struct sw_net_capture {
	char device[VDPA_NAME_MAX];
	char *path;
	uint32_t snaplen;
	struct rte_mempool *frames, *blocks;
	struct rte_ring *ring;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	atomic_int error; /* negative errno that ended it */
	rte_pcapng_t *file;
	int fd;    /* file's */
	off_t end; /* of what is whole in it */
	uint64_t base_tsc, base_ns;
};

/* ---- on workers ---- */

static struct rte_mbuf *
frame_begin(struct sw_net_vq *vq, struct sw_net_capture *capture, uint32_t len,
	enum rte_pcapng_direction direction)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(capture->frames);
	struct note *note;

	if (m == NULL) {
		sw_net_count(vq, SW_NET_CAPTURE_DROPPED, 1);
		return NULL;
	}
	note = rte_mbuf_to_priv(m);
	note->tsc = rte_rdtsc();
	note->queue = vq->index / 2;
	note->direction = direction;
	m->pkt_len = len; /* before it was cut */
	return m;
}

static void
frame_add(const struct sw_net_capture *capture, struct rte_mbuf *m, struct vring_cursor *at,
	uint32_t len)
{
	len = RTE_MIN(len, capture->snaplen - m->data_len);
	m->data_len += vring_copy_from(rte_pktmbuf_mtod_offset(m, void *, m->data_len), at, len);
}

static void
frame_end(struct sw_net_vq *vq, struct sw_net_capture *capture, struct rte_mbuf *m)
{
	/* the ring has room for the whole pool */
	if (rte_ring_mp_enqueue(capture->ring, m) == 0) {
		sw_net_count(vq, SW_NET_CAPTURED, 1);
		return;
	}
	rte_pktmbuf_free(m);
	sw_net_count(vq, SW_NET_CAPTURE_DROPPED, 1);
}

static struct sw_net_capture *
capture_of(const struct sw_net_vq *vq)
{
	struct sw_net_capture *capture = atomic_load_explicit(
		&vq->dev->capture, memory_order_acquire);

	if (capture == NULL || atomic_load_explicit(&capture->error, memory_order_relaxed) != 0)
		return NULL;
	return capture;
}

void
sw_net_capture_sent(struct sw_net_vq *tx, const struct vring_chain *out, uint16_t nr)
{
	struct sw_net_capture *capture = capture_of(tx);

	for (uint16_t i = 0; capture != NULL && i < nr; i++) {
		struct vring_cursor at = vring_cursor_readable(&out[i]);
		struct rte_mbuf *m;
		uint32_t len;

		if (out[i].readable_bytes <= tx->hdr_bytes)
			continue;
		len = out[i].readable_bytes - tx->hdr_bytes;
		m = frame_begin(tx, capture, len, RTE_PCAPNG_DIRECTION_OUT);
		if (m == NULL)
			continue;
		vring_skip(&at, tx->hdr_bytes);
		frame_add(capture, m, &at, len);
		frame_end(tx, capture, m);
	}
}

/* Buffers of the frame that begins here. A driver that changes it meanwhile spoils its own. */
static uint16_t
nr_buffers(const struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr)
{
	struct vring_cursor at = vring_cursor_writable(in);
	struct virtio_net_hdr_v1 hdr = {0};

	if (!rx->mergeable || vring_copy_from(&hdr, &at, sizeof(hdr)) != sizeof(hdr))
		return 1;
	return RTE_MAX(1, RTE_MIN(rte_le_to_cpu_16(hdr.num_buffers), nr));
}

static void
capture_received(struct sw_net_vq *rx, struct sw_net_capture *capture, const struct vring_chain *in,
	uint16_t nr)
{
	uint32_t len = 0, skip = rx->hdr_bytes;
	struct rte_mbuf *m;

	for (uint16_t i = 0; i < nr; i++)
		len += in[i].done.len;
	if (len <= skip)
		return;
	m = frame_begin(rx, capture, len - skip, RTE_PCAPNG_DIRECTION_IN);
	if (m == NULL)
		return;
	for (uint16_t i = 0; i < nr; i++) {
		struct vring_cursor at = vring_cursor_writable(&in[i]);
		uint32_t skipped = vring_skip(&at, RTE_MIN(skip, in[i].done.len));

		frame_add(capture, m, &at, in[i].done.len - skipped);
		skip -= skipped;
	}
	frame_end(rx, capture, m);
}

void
sw_net_capture_received(struct sw_net_vq *rx, const struct vring_chain *in, uint16_t nr)
{
	struct sw_net_capture *capture = capture_of(rx);
	uint16_t used;

	for (uint16_t i = 0; capture != NULL && i < nr; i += used) {
		used = nr_buffers(rx, &in[i], nr - i);
		capture_received(rx, capture, &in[i], used);
	}
}

/* ---- the thread ---- */

static uint64_t
time_ns(const struct sw_net_capture *capture, uint64_t tsc)
{
	uint64_t hz = rte_get_tsc_hz(), passed = tsc - capture->base_tsc;

	return capture->base_ns + passed / hz * NS_A_SECOND + passed % hz * NS_A_SECOND / hz;
}

/* NULL: no memory. */
static struct rte_mbuf *
make_block(const struct sw_net_capture *capture, const struct rte_mbuf *m)
{
	/* 22.11 keeps its clock without a lock */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const struct note *note = rte_mbuf_to_priv((struct rte_mbuf *)(uintptr_t)m);
	uint64_t ns = time_ns(capture, note->tsc);
	struct frame_block *block;
	struct rte_mbuf *made;

	pthread_mutex_lock(&lock);
	made = vdpa_pcapng_copy(
		PORT_ID, note->queue, m, capture->blocks, m->data_len, note->direction);
	pthread_mutex_unlock(&lock);
	if (made == NULL)
		return NULL;
	block = rte_pktmbuf_mtod(made, struct frame_block *);
	block->interface = 0;
	block->time_high = ns >> 32;
	block->time_low = (uint32_t)ns;
	return made;
}

/* All or nothing of it stays in the file. 0, or a negative errno. */
static int
append(struct sw_net_capture *capture, struct iovec *iov, int nr)
{
	off_t end = capture->end;
	int rc;

	for (int i = 0; i < nr; i++)
		end += iov[i].iov_len;
	while (nr > 0) {
		ssize_t done = writev(capture->fd, iov, nr);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			rc = done < 0 ? -errno : -EIO;
			/* what is there already can be read */
			if (ftruncate(capture->fd, capture->end) != 0)
				SW_NET_LOG(WARNING, "%s: its last frame may be cut short",
					capture->path);
			return rc;
		}
		for (; nr > 0 && (size_t)done >= iov->iov_len; iov++, nr--)
			done -= iov->iov_len;
		if (nr > 0) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= done;
		}
	}
	capture->end = end;
	return 0;
}

static void
write_frames(struct sw_net_capture *capture, struct rte_mbuf **frames, unsigned int nr)
{
	struct rte_mbuf *blocks[BATCH];
	struct iovec iov[BATCH];
	unsigned int nr_blocks = 0;
	int rc = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct rte_mbuf *block = make_block(capture, frames[i]);

		if (block == NULL) {
			rc = -ENOMEM;
			break;
		}
		iov[nr_blocks].iov_base = rte_pktmbuf_mtod(block, void *);
		iov[nr_blocks].iov_len = block->data_len;
		blocks[nr_blocks++] = block;
	}
	if (rc == 0)
		rc = append(capture, iov, nr_blocks);
	rte_pktmbuf_free_bulk(blocks, nr_blocks);
	if (rc == 0)
		return;
	atomic_store(&capture->error, rc);
	SW_NET_LOG(
		ERR, "%s: capture to %s ended: %s", capture->device, capture->path, strerror(-rc));
}

static void *
capture_thread(void *arg)
{
	struct sw_net_capture *capture = arg;
	struct rte_mbuf *frames[BATCH];
	unsigned int nr;

	for (;;) {
		/* read first: nothing is put on the ring after it was set */
		bool stop = atomic_load(&capture->stop);

		nr = rte_ring_sc_dequeue_burst(capture->ring, (void **)frames, BATCH, NULL);
		if (nr != 0 && atomic_load(&capture->error) == 0)
			write_frames(capture, frames, nr);
		rte_pktmbuf_free_bulk(frames, nr);
		if (nr == 0 && stop)
			return NULL;
		if (nr == 0)
			usleep(IDLE_US);
	}
}

/* ---- management ---- */

static int
file_error(const struct sw_net_capture *capture, int error, const char *why)
{
	return vdpa_error_set(error, "capture=%s: %s", capture->path, why);
}

/* Like tcpdump's -w a file that is there is overwritten; but only if nobody else can get at it. */
static int
file_take(struct sw_net_capture *capture)
{
	struct stat st;

	/* not blocked by a pipe without a reader */
	capture->fd = open(
		capture->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (capture->fd < 0)
		return file_error(
			capture, -errno, errno == ELOOP ? "is a symbolic link" : strerror(errno));
	if (fstat(capture->fd, &st) != 0)
		return file_error(capture, -errno, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return file_error(capture, -EINVAL, "expected a regular file");
	if (st.st_uid != geteuid() || st.st_nlink != 1)
		return file_error(capture, -EPERM,
			"is there already, and belongs to another user or has another name");
	if (flock(capture->fd, LOCK_EX | LOCK_NB) != 0)
		return file_error(capture, -EBUSY, "another capture writes to it");
	if (fchmod(capture->fd, 0600) != 0 || ftruncate(capture->fd, 0) != 0)
		return file_error(capture, -errno, strerror(errno));
	return 0;
}

static int
file_interface(struct sw_net_capture *capture)
{
	const struct {
		uint16_t resolution_code, resolution_bytes;
		uint8_t resolution, padding[3];
		uint16_t end_code, end_bytes;
	} options = {9, 1, 9, {0}, 0, 0}; /* nanoseconds */
	struct interface_block block = {.type = 1, .link_type = 1, .name_code = 2};
	uint32_t name_bytes = strlen(capture->device), head_bytes;
	struct iovec iov[3];

	memcpy(block.name, capture->device, name_bytes);
	head_bytes = offsetof(struct interface_block, name) + RTE_ALIGN_CEIL(name_bytes, 4);
	block.name_bytes = name_bytes;
	block.snaplen = capture->snaplen;
	block.len_bytes = head_bytes + sizeof(options) + sizeof(block.len_bytes);
	iov[0] = (struct iovec){&block, head_bytes};
	iov[1] = (struct iovec){(void *)(uintptr_t)&options, sizeof(options)};
	iov[2] = (struct iovec){&block.len_bytes, sizeof(block.len_bytes)};
	return append(capture, iov, 3);
}

static int
file_begin(struct sw_net_capture *capture)
{
	char comment[COMMENT_MAX];
	struct timespec now;
	uint32_t section[2] = {0};
	int rc;

	snprintf(
		comment, sizeof(comment), "vDPA device %s, as its driver sees it", capture->device);
	capture->file = rte_pcapng_fdopen(capture->fd, NULL, NULL, "dpdk-vdpa sw_net", comment);
	if (capture->file == NULL)
		return file_error(capture, errno != 0 ? -errno : -EIO, strerror(errno));
	/* 22.11 lists all ethdevs behind the section: they have nothing to do with this */
	if (pread(capture->fd, section, sizeof(section), 0) != sizeof(section) ||
		lseek(capture->fd, 0, SEEK_END) < (off_t)section[1] ||
		ftruncate(capture->fd, section[1]) != 0)
		return file_error(capture, -ENOSPC, strerror(ENOSPC));
	capture->end = lseek(capture->fd, section[1], SEEK_SET);
	clock_gettime(CLOCK_REALTIME, &now);
	capture->base_tsc = rte_rdtsc();
	capture->base_ns = now.tv_sec * NS_A_SECOND + now.tv_nsec;
	rc = file_interface(capture);
	return rc != 0 ? file_error(capture, rc, strerror(-rc)) : 0;
}

static int
make_pools(struct sw_net_capture *capture)
{
	static unsigned int number;
	uint32_t room_bytes = RTE_PKTMBUF_HEADROOM + capture->snaplen + TAIL_BYTES;
	unsigned int nr = POOL_BYTES / room_bytes;
	char name[RTE_MEMPOOL_NAMESIZE];

	/* workers that share a CPU must not wait for each other: rts */
	snprintf(name, sizeof(name), "vdpa_capture_f%u", number);
	capture->frames = rte_pktmbuf_pool_create_by_ops(name, nr, 0,
		RTE_ALIGN_CEIL(sizeof(struct note), RTE_MBUF_PRIV_ALIGN), room_bytes, SOCKET_ID_ANY,
		"ring_mt_rts");
	snprintf(name, sizeof(name), "vdpa_capture_b%u", number);
	capture->blocks = rte_pktmbuf_pool_create_by_ops(
		name, BATCH, 0, 0, room_bytes, SOCKET_ID_ANY, "ring_mt_rts");
	snprintf(name, sizeof(name), "vdpa_capture_r%u", number++);
	capture->ring = rte_ring_create(
		name, rte_align32pow2(nr + 1), SOCKET_ID_ANY, RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
	if (capture->frames == NULL || capture->blocks == NULL || capture->ring == NULL)
		return file_error(capture, -ENOMEM,
			"not enough EAL memory for frames that wait to be written");
	return 0;
}

static int
start_thread(struct sw_net_capture *capture)
{
	sigset_t all, before;
	int rc;

	/* SIGXFSZ among them: a file beyond its limit is an error of write */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rc = pthread_create(&capture->thread, NULL, capture_thread, capture);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return file_error(capture, -rc, strerror(rc));
	pthread_setname_np(capture->thread, "vdpa-capture");
	capture->started = true;
	return 0;
}

int
sw_net_capture_open(
	const char *device, const char *path, uint32_t snaplen, struct sw_net_capture **out)
{
	struct sw_net_capture *capture = calloc(1, sizeof(*capture));
	int rc;

	*out = NULL;
	if (capture == NULL)
		return vdpa_error_set(-ENOMEM, "%s: out of memory", device);
	snprintf(capture->device, sizeof(capture->device), "%s", device);
	capture->snaplen = snaplen;
	capture->fd = -1;
	capture->path = strdup(path);
	rc = capture->path != NULL ? file_take(capture) : -ENOMEM;
	if (rc == 0)
		rc = make_pools(capture);
	if (rc == 0)
		rc = file_begin(capture);
	if (rc == 0)
		rc = start_thread(capture);
	if (rc != 0) {
		sw_net_capture_close(capture);
		return rc;
	}
	*out = capture;
	return 0;
}

int
sw_net_capture_close(struct sw_net_capture *capture)
{
	int error;

	if (capture == NULL)
		return 0;
	atomic_store(&capture->stop, true);
	if (capture->started)
		pthread_join(capture->thread, NULL);
	if (capture->file != NULL)
		rte_pcapng_close(capture->file);
	else if (capture->fd >= 0)
		close(capture->fd);
	rte_ring_free(capture->ring);
	rte_mempool_free(capture->frames);
	rte_mempool_free(capture->blocks);
	error = atomic_load(&capture->error);
	if (error != 0)
		vdpa_error_set(error, "%s: the capture to %s had ended: %s", capture->device,
			capture->path, strerror(-error));
	free(capture->path);
	free(capture);
	return error;
}

bool
sw_net_capture_runs(const struct sw_net_capture *capture)
{
	return capture != NULL && atomic_load(&capture->error) == 0;
}

const char *
sw_net_capture_path(const struct sw_net_capture *capture)
{
	return capture->path;
}
