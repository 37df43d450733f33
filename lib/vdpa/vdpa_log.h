/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef VDPA_LOG_H
#define VDPA_LOG_H

/**
 * @file
 * Which pages of a consumer's memory were written.
 *
 *   vdpa_log     our own view of the consumer's log: one bit for each 4 KiB page from address 0 on
 *                (vhost-user, "Migration"). The consumer's library may unmap its own at any time.
 *   vdpa_dirty   the class's bitmap over the addresses of a domain, which datapath workers mark.
 *                Its bits go into the log every 50 ms and at each stop, so that a log which is
 *                replaced never reaches a worker.
 */

#include <stdatomic.h>
#include <stddef.h>

#include "vdpa_consumer.h"
#include "vdpa_domain.h"

#define VDPA_PAGE_SHIFT 12

/** Counted; the last put unmaps. */
struct vdpa_log {
	uint8_t *base;
	uint64_t size_bytes;
	dev_t dev; /**< file and offset; ino 0: not known */
	ino_t ino;
	uint64_t offset;
	atomic_uint refs;
	atomic_bool lost; /**< its owner cut it: zero pages now */
};

/** A second view of the consumer's mapping. 0; -EINVAL; what mremap gave. */
int vdpa_log_create(struct vdpa_log **out, const struct vdpa_wanted *wanted);
/** Is this log, which may be NULL, a sound view of the very memory that is wanted? */
bool vdpa_log_serves(const struct vdpa_log *log, const struct vdpa_wanted *wanted);
struct vdpa_log *vdpa_log_get(struct vdpa_log *log);
void vdpa_log_put(struct vdpa_log *log);
/** Every page of these ranges, by plain stores: nobody else may be relied on to have marked any. */
void vdpa_log_mark_all(struct vdpa_log *log, const struct vdpa_domain *domain);

struct vdpa_dirty_span {
	uint64_t first_word, nr_words;
};

struct vdpa_dirty {
	struct vdpa_dirty *retired; /**< the class's: waits for the datapath's next stop */
	uint64_t first_page;        /**< a multiple of 64 */
	uint64_t nr_pages;
	size_t map_bytes;
	_Atomic(uint64_t) *words;
	struct vdpa_dirty_span *spans; /**< of the ranges: holes between them are never looked at */
	uint32_t nr_spans;
};

/** Over all ranges of a domain; clean. NULL: no memory. */
struct vdpa_dirty *vdpa_dirty_create(const struct vdpa_domain *domain);
void vdpa_dirty_free(struct vdpa_dirty *dirty);
/** Move all bits into the log. @return pages moved */
uint64_t vdpa_dirty_sync(struct vdpa_dirty *dirty, struct vdpa_log *log);
/** Pages of [iova, iova + len). Any thread. What lies outside the domain is left out. */
void vdpa_dirty_mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t len_bytes);

#endif /* VDPA_LOG_H */
