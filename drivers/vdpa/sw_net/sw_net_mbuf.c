/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "sw_net_gso.h"

#define TX_MARKS \
	(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6)
#define L2_LEN_MAX 127 /* what the fields of an mbuf hold */
#define L3_LEN_MAX 511

struct rte_mempool *
sw_net_pool_create(const char *device, uint32_t nr, uint32_t bytes)
{
	static unsigned int serial;
	struct rte_mempool *pool;
	char name[24];

	snprintf(name, sizeof(name), "sw_net_%u", __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED));
	/* no cache: workers are no lcores */
	pool = rte_pktmbuf_pool_create(name, nr, 0, 0, bytes, SOCKET_ID_ANY);
	if (pool == NULL)
		vdpa_error_set(-ENOMEM,
			"%s: no room for %u mbufs of %u bytes in DPDK's memory (%s)", device, nr,
			bytes, rte_strerror(rte_errno));
	return pool;
}

void
sw_net_pool_retire(struct rte_mempool *pool)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct rte_mempool **retired;
	static unsigned int nr_retired;
	struct rte_mempool **more;
	unsigned int kept = 0;

	pthread_mutex_lock(&lock);
	more = pool == NULL ? NULL : realloc(retired, (nr_retired + 1) * sizeof(*retired));
	if (more != NULL) {
		retired = more;
		retired[nr_retired++] = pool;
	}
	for (unsigned int i = 0; i < nr_retired; i++)
		if (rte_mempool_full(retired[i]))
			rte_mempool_free(retired[i]);
		else
			retired[kept++] = retired[i];
	nr_retired = kept;
	pthread_mutex_unlock(&lock);
}

struct rte_mbuf *
sw_net_mbuf_copy(struct rte_mempool *pool, struct vring_cursor src, uint32_t len)
{
	struct rte_mbuf *first = rte_pktmbuf_alloc(pool), *last = first;

	while (last != NULL) {
		uint32_t part = RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(last));

		vring_copy_from(rte_pktmbuf_mtod(last, void *), &src, part);
		last->data_len = part;
		first->pkt_len += part;
		len -= part;
		if (len == 0)
			return first;
		last->next = rte_pktmbuf_alloc(pool);
		last = last->next;
		first->nb_segs += last != NULL;
	}
	rte_pktmbuf_free(first);
	return NULL;
}

struct vring_cursor
sw_net_mbuf_cursor(const struct rte_mbuf *m, struct vring_seg *segs)
{
	struct vring_cursor cursor = {.seg = segs};

	for (; m != NULL && cursor.nr_segs < SW_NET_MBUF_SEGS_MAX; m = m->next)
		if (m->data_len != 0)
			segs[cursor.nr_segs++] = (struct vring_seg){
				.va = rte_pktmbuf_mtod(m, uint8_t *), .len = m->data_len};
	return cursor;
}

/* ---- what is marked ---- */

static uint16_t
checksum_offset(const struct rte_mbuf *m)
{
	if ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM)
		return offsetof(struct rte_udp_hdr, dgram_cksum);
	return offsetof(struct rte_tcp_hdr, cksum);
}

/* Mark TCP and UDP over IP as in need of a checksum, with the lengths of the headers. */
static bool
mark_checksum(struct rte_mbuf *m)
{
	struct rte_net_hdr_lens lens;
	uint32_t type = rte_net_get_ptype(
		m, &lens, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK | RTE_PTYPE_L4_MASK);
	uint64_t marks;

	if (RTE_ETH_IS_IPV4_HDR(type))
		marks = RTE_MBUF_F_TX_IPV4;
	else if (RTE_ETH_IS_IPV6_HDR(type))
		marks = RTE_MBUF_F_TX_IPV6;
	else
		return false;
	if ((type & RTE_PTYPE_L4_MASK) == RTE_PTYPE_L4_TCP &&
		lens.l4_len >= sizeof(struct rte_tcp_hdr))
		marks |= RTE_MBUF_F_TX_TCP_CKSUM;
	else if ((type & RTE_PTYPE_L4_MASK) == RTE_PTYPE_L4_UDP)
		marks |= RTE_MBUF_F_TX_UDP_CKSUM;
	else
		return false;
	if (lens.l2_len > L2_LEN_MAX || lens.l3_len > L3_LEN_MAX ||
		(uint32_t)lens.l2_len + lens.l3_len + lens.l4_len > m->data_len)
		return false;
	m->l2_len = lens.l2_len;
	m->l3_len = lens.l3_len;
	m->l4_len = lens.l4_len;
	m->ol_flags |= marks;
	return true;
}

bool
sw_net_mbuf_mark(struct rte_mbuf *m, const struct virtio_net_hdr_v1 *hdr)
{
	uint8_t gso = sw_net_gso_bits(hdr->gso_type);

	m->ol_flags &= ~TX_MARKS;
	if (!mark_checksum(m))
		return false;
	if (rte_le_to_cpu_16(hdr->csum_start) != m->l2_len + m->l3_len ||
		rte_le_to_cpu_16(hdr->csum_offset) != checksum_offset(m))
		goto other;
	if (gso == 0)
		return true;
	if ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_TCP_CKSUM ||
		((m->ol_flags & RTE_MBUF_F_TX_IPV4) != 0) != ((gso & SW_NET_GSO_TCP4) != 0))
		goto other;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	m->tso_segsz = rte_le_to_cpu_16(hdr->gso_size);
	return true;
other:
	m->ol_flags &= ~TX_MARKS;
	return false;
}

void
sw_net_mbuf_mark_received(struct rte_mbuf **frame)
{
	struct rte_mbuf *m = *frame;
	uint64_t said = m->ol_flags;

	/* without room for its tag it goes on without one */
	if ((said & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && rte_vlan_insert(frame) == 0)
		m = *frame;
	/* what an ethdev was told by another sender may stand here still (net_ring) */
	m->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
	switch (said & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
		m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
		break;
	case RTE_MBUF_F_RX_L4_CKSUM_NONE:
		/* right, but its checksum was never written */
		if (mark_checksum(m))
			sw_net_mbuf_pseudo_sum(m, m->pkt_len - m->l2_len - m->l3_len);
		break;
	}
}

void
sw_net_mbuf_header(const struct rte_mbuf *m, struct virtio_net_hdr_v1 *hdr)
{
	memset(hdr, 0, sizeof(*hdr));
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		hdr->flags = VIRTIO_NET_HDR_F_DATA_VALID;
	if ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == 0)
		return;
	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->csum_start = rte_cpu_to_le_16(m->l2_len + m->l3_len);
	hdr->csum_offset = rte_cpu_to_le_16(checksum_offset(m));
	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) == 0)
		return;
	hdr->gso_type = (m->ol_flags & RTE_MBUF_F_TX_IPV4) != 0 ? VIRTIO_NET_HDR_GSO_TCPV4
								: VIRTIO_NET_HDR_GSO_TCPV6;
	hdr->gso_size = rte_cpu_to_le_16(m->tso_segsz);
	hdr->hdr_len = rte_cpu_to_le_16(m->l2_len + m->l3_len + m->l4_len);
}

/* ---- checksums ---- */

void
sw_net_mbuf_pseudo_sum(struct rte_mbuf *m, uint32_t bytes)
{
	uint8_t *l3 = rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len);
	bool is_udp = (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	bool is_ipv4 = (m->ol_flags & RTE_MBUF_F_TX_IPV4) != 0;
	struct {
		uint8_t addresses[32];
		rte_be32_t bytes, protocol;
	} pseudo = {
		.bytes = rte_cpu_to_be_32(bytes),
		.protocol = rte_cpu_to_be_32(is_udp ? IPPROTO_UDP : IPPROTO_TCP),
	};
	uint16_t sum;

	if (is_ipv4)
		memcpy(pseudo.addresses, l3 + offsetof(struct rte_ipv4_hdr, src_addr), 8);
	else
		memcpy(pseudo.addresses, l3 + offsetof(struct rte_ipv6_hdr, src_addr), 32);
	sum = rte_raw_cksum(&pseudo, sizeof(pseudo));
	memcpy(l3 + m->l3_len + checksum_offset(m), &sum, sizeof(sum));
}

void
sw_net_mbuf_complete(struct rte_mbuf *m, uint32_t start, uint32_t offset)
{
	struct vring_seg segs[SW_NET_MBUF_SEGS_MAX];

	sw_net_complete_checksum(sw_net_mbuf_cursor(m, segs), m->pkt_len, start, offset);
	m->ol_flags &= ~TX_MARKS;
}
