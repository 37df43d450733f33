/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#include "vdpa_log.h"

#define WORD_PAGES 64u

static void
log_lost(void *arg)
{
	atomic_store(&((struct vdpa_log *)arg)->lost, true);
}

int
vdpa_log_create(struct vdpa_log **out, const struct vdpa_wanted *wanted)
{
	uint64_t size_bytes = wanted->log_size_bytes;
	struct vdpa_log *log;
	int rc;

	*out = NULL;
	if (wanted->log_va == NULL || size_bytes == 0)
		return vdpa_error_set(-EINVAL, "a log of %zu bytes", (size_t)size_bytes);
	log = calloc(1, sizeof(*log));
	if (log == NULL)
		return -ENOMEM;
	/* an old size of 0 on a shared mapping makes a second view of it */
	log->base = mremap(wanted->log_va, 0, size_bytes, MREMAP_MAYMOVE);
	if (log->base == MAP_FAILED) {
		rc = -errno;
		free(log);
		return vdpa_error_set(
			rc, "log of %zu bytes: %s", (size_t)size_bytes, strerror(-rc));
	}
	log->size_bytes = size_bytes;
	log->dev = wanted->log_dev;
	log->ino = wanted->log_ino;
	log->offset = wanted->log_offset;
	atomic_init(&log->refs, 1);
	rc = vdpa_sigbus_guard(log->base, size_bytes, log_lost, log);
	if (rc != 0) {
		vdpa_log_put(log);
		return vdpa_error_set(rc, "log: %s", strerror(-rc));
	}
	*out = log;
	return 0;
}

bool
vdpa_log_serves(const struct vdpa_log *log, const struct vdpa_wanted *wanted)
{
	return log != NULL && wanted->log_va != NULL && wanted->log_ino != 0 &&
		log->ino == wanted->log_ino && log->dev == wanted->log_dev &&
		log->offset == wanted->log_offset && log->size_bytes == wanted->log_size_bytes &&
		!atomic_load(&log->lost);
}

struct vdpa_log *
vdpa_log_get(struct vdpa_log *log)
{
	if (log != NULL)
		atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
	return log;
}

void
vdpa_log_put(struct vdpa_log *log)
{
	if (log == NULL || atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) != 1)
		return;
	vdpa_sigbus_unguard(log->base);
	munmap(log->base, log->size_bytes);
	free(log);
}

/* Set bits of one byte that others may be setting too. */
static void
or_byte(struct vdpa_log *log, uint64_t byte, uint8_t bits)
{
	if (byte < log->size_bytes)
		__atomic_fetch_or(&log->base[byte], bits, __ATOMIC_RELAXED);
}

static void
mark_range(struct vdpa_log *log, uint64_t first, uint64_t last)
{
	uint64_t byte = first / 8 + 1, end = last / 8;

	if (first / 8 == last / 8) {
		or_byte(log, first / 8, (0xff << (first % 8)) & (0xff >> (7 - last % 8)));
		return;
	}
	or_byte(log, first / 8, 0xff << (first % 8));
	or_byte(log, last / 8, 0xff >> (7 - last % 8));
	end = RTE_MIN(end, log->size_bytes);
	if (byte < end)
		memset(log->base + byte, 0xff, end - byte);
}

void
vdpa_log_mark_all(struct vdpa_log *log, const struct vdpa_domain *domain)
{
	const struct vdpa_range *ranges;
	uint32_t nr;

	ranges = vdpa_domain_ranges(domain, &nr);
	for (uint32_t i = 0; i < nr; i++)
		mark_range(log, ranges[i].iova >> VDPA_PAGE_SHIFT,
			(ranges[i].iova + ranges[i].size_bytes - 1) >> VDPA_PAGE_SHIFT);
}

static struct vdpa_dirty_span *
make_spans(const struct vdpa_range *ranges, uint32_t nr, uint64_t first_page)
{
	struct vdpa_dirty_span *spans = calloc(nr, sizeof(*spans));

	for (uint32_t i = 0; spans != NULL && i < nr; i++) {
		uint64_t first = (ranges[i].iova >> VDPA_PAGE_SHIFT) - first_page;
		uint64_t last = ((ranges[i].iova + ranges[i].size_bytes - 1) >> VDPA_PAGE_SHIFT) -
			first_page;

		spans[i].first_word = first / WORD_PAGES;
		spans[i].nr_words = last / WORD_PAGES - spans[i].first_word + 1;
	}
	return spans;
}

struct vdpa_dirty *
vdpa_dirty_create(const struct vdpa_domain *domain)
{
	struct vdpa_dirty *dirty = calloc(1, sizeof(*dirty));
	const struct vdpa_range *ranges;
	uint64_t first, last;
	uint32_t nr;

	if (dirty == NULL)
		return NULL;
	ranges = vdpa_domain_ranges(domain, &nr);
	if (nr == 0) {
		free(dirty);
		return NULL;
	}
	/* sorted; what lies between ranges costs address space only */
	first = ranges[0].iova >> VDPA_PAGE_SHIFT;
	last = (ranges[nr - 1].iova + ranges[nr - 1].size_bytes - 1) >> VDPA_PAGE_SHIFT;
	dirty->first_page = RTE_ALIGN_FLOOR(first, (uint64_t)WORD_PAGES);
	dirty->nr_pages = last - dirty->first_page + 1;
	dirty->map_bytes = RTE_ALIGN_CEIL(dirty->nr_pages, (uint64_t)WORD_PAGES) / 8;
	dirty->spans = make_spans(ranges, nr, dirty->first_page);
	dirty->nr_spans = nr;
	dirty->words = mmap(NULL, dirty->map_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (dirty->words == MAP_FAILED || dirty->spans == NULL) {
		vdpa_dirty_free(dirty);
		return NULL;
	}
	return dirty;
}

void
vdpa_dirty_free(struct vdpa_dirty *dirty)
{
	if (dirty == NULL)
		return;
	if (dirty->words != MAP_FAILED)
		munmap((void *)dirty->words, dirty->map_bytes);
	free(dirty->spans);
	free(dirty);
}

void
vdpa_dirty_mark(struct vdpa_dirty *dirty, uint64_t iova, uint64_t len_bytes)
{
	uint64_t page = (iova >> VDPA_PAGE_SHIFT) - dirty->first_page;
	uint64_t last = ((iova + len_bytes - 1) >> VDPA_PAGE_SHIFT) - dirty->first_page;

	if (len_bytes == 0)
		return;
	for (; page <= last && page < dirty->nr_pages; page++) {
		_Atomic(uint64_t) *word = &dirty->words[page / WORD_PAGES];
		uint64_t bit = UINT64_C(1) << page % WORD_PAGES;

		/* most pages are marked again and again */
		if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0)
			atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
	}
}

static void
or_word(struct vdpa_log *log, uint64_t word, uint64_t bits)
{
	if ((word + 1) * 8 <= log->size_bytes) {
		__atomic_fetch_or(
			(uint64_t *)log->base + word, rte_cpu_to_le_64(bits), __ATOMIC_RELAXED);
		return;
	}
	for (unsigned int i = 0; i < 8; i++)
		or_byte(log, word * 8 + i, bits >> (8 * i));
}

static uint64_t
sync_words(struct vdpa_dirty *dirty, const struct vdpa_dirty_span *span, struct vdpa_log *log)
{
	uint64_t first_word = dirty->first_page / WORD_PAGES;
	uint64_t nr = 0;

	for (uint64_t i = span->first_word; i < span->first_word + span->nr_words; i++) {
		uint64_t bits;

		if (atomic_load_explicit(&dirty->words[i], memory_order_relaxed) == 0)
			continue;
		bits = atomic_exchange_explicit(&dirty->words[i], 0, memory_order_acquire);
		or_word(log, first_word + i, bits);
		nr += __builtin_popcountll(bits);
	}
	return nr;
}

uint64_t
vdpa_dirty_sync(struct vdpa_dirty *dirty, struct vdpa_log *log)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < dirty->nr_spans; i++)
		nr += sync_words(dirty, &dirty->spans[i], log);
	return nr;
}
