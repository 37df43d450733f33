# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What a hostile or broken front end sends: message sequences and rings, by name.

A sequence gets a RawNic that is connected and negotiated (EARLY) or runs with traffic (RUNNING). It may
end with a closed connection; what it must not do is harm anybody else.
"""

import os
import struct
from typing import Callable, Dict

from guest_memory import Region, create_memory_file
from raw_nic import RawNic
from vhost_user import HEADER, FrontEnd, Request
from vring import DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE

Sequence = Callable[[RawNic, FrontEnd], None]
EARLY: Dict[str, Sequence] = {}
RUNNING: Dict[str, Sequence] = {}
INDEXES: Dict[str, Sequence] = {}
BAD_INDEXES = (4, 9, 200, 256, 0xffffffff)     # of a device with 4 rings and a control queue


def early(function: Sequence) -> Sequence:
    EARLY[function.__name__] = function
    return function


def running(function: Sequence) -> Sequence:
    RUNNING[function.__name__] = function
    return function


def anytime(function: Sequence) -> Sequence:
    return early(running(function))


def table(*regions: tuple) -> bytes:
    """Payload of SET_MEM_TABLE from (gpa, size, user address, offset) tuples."""
    return struct.pack('=II', len(regions), 0) + b''.join(struct.pack('=QQQQ', *r) for r in regions)


def region_tuple(region: Region) -> tuple:
    return (region.gpa, region.size, region.user_addr, region.offset)


# Rings named at a bad moment or with bad numbers

@early
def kick_before_memory(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@early
def address_before_memory(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 256))
    vu.send(Request.SET_VRING_ADDR, struct.pack('=IIQQQQ', 0, 0, 0x1000, 0x2000, 0x3000, 0))
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@early
def address_nowhere(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, *vu.mem_table(nic.mem.regions))
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 256))
    vu.send(Request.SET_VRING_ADDR, struct.pack('=IIQQQQ', 0, 0, 8, 2 ** 64 - 8, 2 ** 63, 0))
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@early
def address_at_the_end_of_memory(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, *vu.mem_table(nic.mem.regions))
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 256))
    last = nic.ram.user_addr + nic.ram.size - 16
    vu.send(Request.SET_VRING_ADDR, struct.pack('=IIQQQQ', 0, 0, last, last, last, 0))
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@anytime
def address_not_aligned(nic: RawNic, vu: FrontEnd) -> None:
    if not nic.rings:
        vu.send(Request.SET_MEM_TABLE, *vu.mem_table(nic.mem.regions))
        vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 256))
    odd = nic.ram.user_addr + 0x10001
    vu.send(Request.SET_VRING_ADDR, struct.pack('=IIQQQQ', 0, 0, odd, odd + 0x2001, odd + 0x3003, 0))
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@anytime
def ring_size_0(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 0))


@anytime
def ring_size_3(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 3))


@anytime
def ring_size_65536(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 65536))


@running
def ring_grows_while_running(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, struct.pack('=II', 0, 32768))
    for kick in nic.kicks:
        kick.signal()


@anytime
def base_beyond_the_ring(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_BASE, struct.pack('=II', 0, 0xffffffff))


def _index_sequence(request: Request, index: int) -> Sequence:
    def send(nic: RawNic, vu: FrontEnd) -> None:
        if request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR):
            vu.send(request, struct.pack('=Q', index), [nic.kicks[0].fd])
        elif request == Request.SET_VRING_ADDR:
            vu.send(request, struct.pack('=IIQQQQ', index, 0, *[nic.ram.user_addr] * 3, 0))
        else:
            vu.send(request, struct.pack('=II', index, 1))
    return send


for _request in (Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.SET_VRING_ADDR,
                 Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR,
                 Request.SET_VRING_ENABLE, Request.GET_VRING_BASE):
    for _index in BAD_INDEXES:
        INDEXES[f'{_request.name}_{_index}'] = _index_sequence(_request, _index)


@early
def every_ring_index_complete(nic: RawNic, vu: FrontEnd) -> None:
    """256 rings, all with size, address and kick, where the device has 4."""
    vu.send(Request.SET_MEM_TABLE, *vu.mem_table(nic.mem.regions))
    for index in range(256):
        vu.send(Request.SET_VRING_NUM, struct.pack('=II', index, 256))
        at = nic.ram.user_addr + 0x10000
        vu.send(Request.SET_VRING_ADDR, struct.pack('=IIQQQQ', index, 0, at, at + 0x2000,
                                                    at + 0x4000, 0))
        vu.send(Request.SET_VRING_KICK, struct.pack('=Q', index), [nic.kicks[0].fd])
        vu.send(Request.SET_VRING_CALL, struct.pack('=Q', index), [nic.calls[0].fd])


@running
def kick_again(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.kicks[0].fd])


@anytime
def kick_without_descriptor(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0))


@anytime
def kick_is_a_file(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_KICK, struct.pack('=Q', 0), [nic.ram.fd])


@anytime
def call_is_a_full_pipe(nic: RawNic, vu: FrontEnd) -> None:
    """A call descriptor that blocks whoever writes to it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    for index in range(2):
        vu.send(Request.SET_VRING_CALL, struct.pack('=Q', index), [writer])
        if nic.rings:
            nic.rings[index].want_interrupts(True)
    os.close(writer)
    os.close(reader)


@anytime
def get_base_twice(nic: RawNic, vu: FrontEnd) -> None:
    for _ in range(2):
        vu.send(Request.GET_VRING_BASE, struct.pack('=II', 0, 0))


@running
def enable_storm(nic: RawNic, vu: FrontEnd) -> None:
    for turn in range(400):
        vu.send(Request.SET_VRING_ENABLE, struct.pack('=II', turn & 3, turn >> 2 & 1))


# Memory tables

@running
def same_table_again(nic: RawNic, vu: FrontEnd) -> None:
    for _ in range(20):
        vu.send(Request.SET_MEM_TABLE, *vu.mem_table(nic.mem.regions))


@running
def table_without_the_rings(nic: RawNic, vu: FrontEnd) -> None:
    fd = create_memory_file('other', 1 << 20, True)
    vu.send(Request.SET_MEM_TABLE, table((1 << 40, 1 << 20, 1 << 45, 0)), [fd])
    os.close(fd)
    for kick in nic.kicks:
        kick.signal()


@running
def table_with_other_contents(nic: RawNic, vu: FrontEnd) -> None:
    """The same addresses, another file: all rings are zero at once."""
    fd = create_memory_file('other', nic.ram.size, True)
    vu.send(Request.SET_MEM_TABLE, table(region_tuple(nic.ram)), [fd])
    os.close(fd)


@anytime
def table_empty(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table())


@anytime
def table_of_9(nic: RawNic, vu: FrontEnd) -> None:
    one = region_tuple(nic.ram)
    vu.send(Request.SET_MEM_TABLE, table(*[one] * 9), [nic.ram.fd] * 9)


@anytime
def table_claims_2_billion(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, struct.pack('=II', 0x7fffffff, 0) + table(
        region_tuple(nic.ram))[8:], [nic.ram.fd])


@anytime
def table_without_descriptor(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table(region_tuple(nic.ram)))


@anytime
def table_with_too_many_descriptors(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table(region_tuple(nic.ram)), [nic.ram.fd] * 8)


@anytime
def table_wraps_around(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table((2 ** 64 - 4096, 1 << 20, 1 << 45, 0)), [nic.ram.fd])


@anytime
def table_size_overflows(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table((0, 2 ** 64 - 1, 1 << 45, 1 << 20)), [nic.ram.fd])


@anytime
def table_of_size_0(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_MEM_TABLE, table((0x100000, 0, 1 << 45, 0)), [nic.ram.fd])


@anytime
def table_beyond_the_file(nic: RawNic, vu: FrontEnd) -> None:
    gpa, size, user, _ = region_tuple(nic.ram)
    vu.send(Request.SET_MEM_TABLE, table((gpa, size, user, 1 << 40)), [nic.ram.fd])


@anytime
def table_overlaps(nic: RawNic, vu: FrontEnd) -> None:
    gpa, size, user, _ = region_tuple(nic.ram)
    vu.send(Request.SET_MEM_TABLE, table((gpa, size, user, 0), (gpa + 4096, size, user + 4096, 0)),
            [nic.ram.fd] * 2)


@anytime
def table_of_a_pipe(nic: RawNic, vu: FrontEnd) -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    vu.send(Request.SET_MEM_TABLE, table(region_tuple(nic.ram)), [reader])
    os.close(reader)
    os.close(writer)


# Features, status, config

@running
def other_features_while_running(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_FEATURES, struct.pack('=Q', nic.features ^ (1 << 34 | 1 << 15)))
    for kick in nic.kicks:
        kick.signal()


@anytime
def features_not_offered(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_FEATURES, struct.pack('=Q', 2 ** 64 - 1))


@anytime
def protocol_features_not_offered(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_PROTOCOL_FEATURES, struct.pack('=Q', 2 ** 64 - 1))


@anytime
def status_0(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_STATUS, struct.pack('=Q', 0))


@anytime
def status_of_all_ones(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_STATUS, struct.pack('=Q', 2 ** 64 - 1))


@early
def driver_ok_without_rings(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_STATUS, struct.pack('=Q', 15))


@anytime
def owner_reset(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.RESET_OWNER)


@anytime
def device_reset(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.RESET_DEVICE)


@anytime
def log_without_feature(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_LOG_BASE, struct.pack('=QQ', 1 << 20, 0), [nic.ram.fd])


@anytime
def log_without_descriptor(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_LOG_BASE, struct.pack('=QQ', 2 ** 64 - 1, 2 ** 64 - 1))


@anytime
def config_read_beyond(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.GET_CONFIG, struct.pack('=III', 0xfffffff0, 256, 0) + bytes(256))


@anytime
def config_claims_4_gb(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.GET_CONFIG, struct.pack('=III', 0, 0xffffffff, 0) + bytes(16))


@anytime
def config_write_beyond(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_CONFIG, struct.pack('=III', 250, 256, 0) + bytes(256))


@anytime
def strange_requests(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.NET_SET_MTU, struct.pack('=Q', 0xffffffffffff))
    vu.send(Request.SEND_RARP, bytes(8))
    vu.send(Request.IOTLB_MSG, bytes(32))


@anytime
def inflight_descriptor(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_INFLIGHT_FD, struct.pack('=QQHH', 4096, 0, 2, 256), [nic.ram.fd])


@anytime
def backend_channel_is_a_file(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_BACKEND_REQ_FD, b'', [nic.ram.fd])


# Messages that are wrong in form

@anytime
def request_0(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(0)


@anytime
def request_99(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(99, bytes(8))


@anytime
def request_of_all_ones(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(0xffffffff, bytes(8))


@anytime
def wrong_version(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.GET_FEATURES, flags=0x2)


@anytime
def size_4_gb(nic: RawNic, vu: FrontEnd) -> None:
    vu.send_bytes(HEADER.pack(Request.SET_FEATURES, 1, 0xffffffff) + bytes(4096))


@anytime
def size_too_small(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_FEATURES, bytes(4))


@anytime
def size_too_large(nic: RawNic, vu: FrontEnd) -> None:
    vu.send(Request.SET_VRING_NUM, bytes(200))


@anytime
def descriptors_where_none_belong(nic: RawNic, vu: FrontEnd) -> None:
    for _ in range(20):
        vu.send(Request.GET_FEATURES, b'', [nic.ram.fd] * 8)
        vu.send(Request.SET_OWNER, b'', [nic.ram.fd] * 8)


# Rings with bad contents. Each function spoils the transmit or receive ring of pair 0.

RINGS: Dict[str, Callable[[RawNic], None]] = {}


def bad_ring(function: Callable[[RawNic], None]) -> Callable[[RawNic], None]:
    RINGS[function.__name__] = function
    return function


def put_desc(nic: RawNic, index: int, slot: int, addr: int, size: int, flags: int,
             following: int = 0) -> None:
    """Write one split descriptor of ring index."""
    at = nic.rings[index].desc_addr + 16 * slot
    nic.mem.store(at, 8, addr & 2 ** 64 - 1)
    nic.mem.store(at + 8, 8, size | flags << 32 | following << 48)


def offer(nic: RawNic, index: int, *heads: int) -> None:
    """Make heads available on split ring index, whatever they are."""
    ring = nic.rings[index]
    idx = nic.mem.load(ring.driver_addr + 2, 2)
    for head in heads:
        nic.mem.store(ring.driver_addr + 4 + 2 * (idx % ring.size), 2, head)
        idx = idx + 1 & 0xffff
    nic.mem.store(ring.driver_addr + 2, 2, idx)
    nic.kicks[index].signal()


@bad_ring
def avail_index_jumps(nic: RawNic) -> None:
    ring = nic.rings[1]
    nic.mem.store(ring.driver_addr + 2, 2, nic.mem.load(ring.driver_addr + 2, 2) + 1000 & 0xffff)
    nic.kicks[1].signal()


@bad_ring
def avail_index_goes_back(nic: RawNic) -> None:
    ring = nic.rings[1]
    nic.mem.store(ring.driver_addr + 2, 2, nic.mem.load(ring.driver_addr + 2, 2) - 1 & 0xffff)
    nic.kicks[1].signal()


@bad_ring
def head_out_of_range(nic: RawNic) -> None:
    offer(nic, 1, nic.ring_size, 0xffff)


@bad_ring
def next_out_of_range(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa, 64, DESC_F_NEXT, 0x7fff)
    offer(nic, 1, 0)


@bad_ring
def chain_loops(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa, 64, DESC_F_NEXT, 1)
    put_desc(nic, 1, 1, nic.ram.gpa, 64, DESC_F_NEXT, 0)
    offer(nic, 1, 0)


@bad_ring
def receive_chain_loops(nic: RawNic) -> None:
    for slot in range(nic.ring_size):
        put_desc(nic, 0, slot, nic.ram.gpa + nic.ram.size - 4096, 64, DESC_F_NEXT | DESC_F_WRITE,
                 slot)
    put_good_frame(nic)


def put_good_frame(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa + 0x100, 1000, 0)
    offer(nic, 1, 0)


@bad_ring
def address_outside(nic: RawNic) -> None:
    put_desc(nic, 1, 0, 1 << 50, 64, 0)
    offer(nic, 1, 0)


@bad_ring
def address_wraps(nic: RawNic) -> None:
    put_desc(nic, 1, 0, 2 ** 64 - 32, 64, 0)
    offer(nic, 1, 0)


@bad_ring
def length_beyond_the_region(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa + nic.ram.size - 32, 0xffffffff, 0)
    offer(nic, 1, 0)


@bad_ring
def length_0(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa, 0, 0)
    offer(nic, 1, 0)


@bad_ring
def shorter_than_the_header(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa, 5, 0)
    offer(nic, 1, 0)


@bad_ring
def chain_sums_to_gigabytes(nic: RawNic) -> None:
    for slot in range(nic.ring_size):
        put_desc(nic, 1, slot, nic.ram.gpa, nic.ram.size, DESC_F_NEXT if slot < nic.ring_size - 1
                 else 0, slot + 1)
    offer(nic, 1, 0)


@bad_ring
def transmit_buffer_writable(nic: RawNic) -> None:
    put_desc(nic, 1, 0, nic.ram.gpa, 64, DESC_F_WRITE)
    offer(nic, 1, 0)


@bad_ring
def receive_buffer_read_only(nic: RawNic) -> None:
    for slot in range(nic.ring_size):
        put_desc(nic, 0, slot, nic.ram.gpa + nic.ram.size - 4096, 2048, 0)
    put_good_frame(nic)


@bad_ring
def receive_buffer_too_small(nic: RawNic) -> None:
    for slot in range(nic.ring_size):
        put_desc(nic, 0, slot, nic.ram.gpa + nic.ram.size - 4096, 3, DESC_F_WRITE)
    put_good_frame(nic)


@bad_ring
def receive_buffer_outside(nic: RawNic) -> None:
    for slot in range(nic.ring_size):
        put_desc(nic, 0, slot, 1 << 50, 2048, DESC_F_WRITE)
    put_good_frame(nic)


def put_indirect(nic: RawNic, addr: int, size: int, flags: int = 0) -> None:
    put_desc(nic, 1, 0, addr, size, DESC_F_INDIRECT | flags, 1)
    offer(nic, 1, 0)


@bad_ring
def indirect_outside(nic: RawNic) -> None:
    put_indirect(nic, 1 << 50, 64)


@bad_ring
def indirect_of_length_0(nic: RawNic) -> None:
    put_indirect(nic, nic.ram.gpa + 0x100, 0)


@bad_ring
def indirect_of_length_24(nic: RawNic) -> None:
    put_indirect(nic, nic.ram.gpa + 0x100, 24)


@bad_ring
def indirect_of_4_gb(nic: RawNic) -> None:
    put_indirect(nic, nic.ram.gpa, 0xfffffff0)


@bad_ring
def indirect_and_next(nic: RawNic) -> None:
    put_desc(nic, 1, 1, nic.ram.gpa, 64, 0)
    put_indirect(nic, nic.ram.gpa + 0x100, 16, DESC_F_NEXT)


@bad_ring
def indirect_nested(nic: RawNic) -> None:
    table_at = nic.ram.gpa + 0x100
    nic.mem.write(table_at, struct.pack('=QIHH', table_at, 16, DESC_F_INDIRECT, 0))
    put_indirect(nic, table_at, 16)


@bad_ring
def indirect_loops(nic: RawNic) -> None:
    table_at = nic.ram.gpa + 0x100
    nic.mem.write(table_at, struct.pack('=QIHH', nic.ram.gpa, 16, DESC_F_NEXT, 1) +
                  struct.pack('=QIHH', nic.ram.gpa, 16, DESC_F_NEXT, 0))
    put_indirect(nic, table_at, 32)


# Packed rings: the whole ring is filled with one descriptor that is available at once.

PACKED_RINGS: Dict[str, tuple] = {
    'address_outside': (1 << 50, 64, 0),
    'address_wraps': (2 ** 64 - 32, 64, 0),
    'length_0': (0x100000, 0, 0),
    'length_of_4_gb': (0x100000, 0xffffffff, 0),
    'chain_without_end': (0x100000, 64, DESC_F_NEXT),
    'writable': (0x100000, 64, DESC_F_WRITE),
    'indirect_outside': (1 << 50, 64, DESC_F_INDIRECT),
    'indirect_of_length_24': (0x100000, 24, DESC_F_INDIRECT),
    'indirect_and_next': (0x100000, 16, DESC_F_INDIRECT | DESC_F_NEXT),
}


def spoil_packed(nic: RawNic, addr: int, size: int, flags: int, ident: int = 0xffff) -> None:
    """Fill the transmit ring of pair 0, both halves of the wrap, with one descriptor."""
    ring = nic.rings[1]
    for _ in range(2):
        avail = (1 << 7) if ring._wrap else (1 << 15)
        for slot in range(ring._next, ring.size):
            nic.mem.store(ring.desc_addr + 16 * slot, 8, addr)
            nic.mem.store(ring.desc_addr + 16 * slot + 8, 8,
                          size | ident << 32 | (flags | avail) << 48)
        nic.kicks[1].signal()
        ring._next, ring._wrap = 0, ring._wrap ^ 1
