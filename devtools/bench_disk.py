# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A virtio-blk driver over vhost-user that is not the limit of what it measures.

All descriptors and the whole available ring are laid out beforehand. A burst of `depth` requests is
then a copy of prepared headers, one store of the available index, a kick if the device wants one,
and waiting until the used index has come so far: some microseconds, however many requests.
"""

import random
import time
from typing import List

from guest_memory import GuestMemory, Region, create_memory_file, full_fence
from raw_nic import EventFd
from vhost_user import Feature, Protocol, bits, connect
from virtio_blk import HEADER_BYTES, OK, SECTOR, UNTOUCHED, Blk, Type, header
from vring import SPLIT_NO_NOTIFY, Segment, SplitRing

RING_SIZE = 128         # 32 requests of three descriptors
BASE_GPA = 0x100000
WANTED = bits(Feature.VERSION_1, Feature.PROTOCOL_FEATURES, Blk.FLUSH)
BURSTS = 256            # prepared ones
LOOKS = 20000           # at the used index between two at the clock
ANSWER_S = 10.0


class RawDisk:
    """Bursts of `depth` (it divides RING_SIZE) requests of one kind and size over one disk."""

    def __init__(self, path: str, *, kind: Type, size: int, depth: int, disk_bytes: int,
                 in_sequence: bool = False):
        self.depth = depth
        self.mem = GuestMemory()
        memory_bytes = depth * size + (1 << 20)
        region = self.mem.add(Region(BASE_GPA, memory_bytes,
                                     create_memory_file('ram', memory_bytes, True)))
        self.mem.use_for_alloc(BASE_GPA, BASE_GPA + memory_bytes)
        self.ring = SplitRing(self.mem, RING_SIZE)
        self._lay_out(kind, size)
        self._prepare_headers(kind, size, disk_bytes, in_sequence)
        self._bytes, self._words = region.bytes, region.words[2]
        self._avail = (self.ring.driver_addr - BASE_GPA) // 2 + 1
        self._used = (self.ring.device_addr - BASE_GPA) // 2
        for n in range(RING_SIZE):      # the same buffers over and over
            self._words[self._avail + 1 + n] = self._words[self._avail + 1 + n % depth]
        self.index = self.count = 0
        self.kick, self.call = EventFd(), EventFd()
        self._connect(path)

    def _lay_out(self, kind: Type, size: int) -> None:
        self._headers = self.mem.alloc(self.depth * HEADER_BYTES) - BASE_GPA
        statuses = self.mem.alloc(self.depth)
        self._statuses = slice(statuses - BASE_GPA, statuses - BASE_GPA + self.depth)
        data = self.mem.alloc(self.depth * size, 4096)
        for n in range(self.depth):
            added = self.ring.add([
                Segment(BASE_GPA + self._headers + n * HEADER_BYTES, HEADER_BYTES, False),
                Segment(data + n * size, size, kind == Type.IN),
                Segment(statuses + n, 1, True)], n)
            assert added, 'the ring is too small'

    def _prepare_headers(self, kind: Type, size: int, disk_bytes: int, in_sequence: bool) -> None:
        places = disk_bytes // size
        rng = random.Random(1)
        numbers = range(BURSTS * self.depth)
        self._prepared: List[bytes] = []
        heads = [header(kind, (n % places if in_sequence else rng.randrange(places))
                        * (size // SECTOR)) for n in numbers]
        for at in range(0, len(heads), self.depth):
            self._prepared.append(b''.join(heads[at:at + self.depth]))

    def _connect(self, path: str) -> None:
        self.vu = connect(path)
        offered = self.vu.get_features()
        self.vu.set_protocol_features(self.vu.get_protocol_features()
                                      & bits(Protocol.REPLY_ACK))
        self.vu.set_owner()
        self.vu.set_features(offered & WANTED)
        self.vu.set_mem_table(self.mem)
        user, ring = self.mem.user_addr, self.ring
        self.vu.set_vring_num(0, RING_SIZE)
        self.vu.set_vring_base(0, 0)
        self.vu.set_vring_addr(0, user(ring.desc_addr), user(ring.device_addr),
                               user(ring.driver_addr))
        self.vu.set_vring_call(0, self.call.fd)
        self.vu.set_vring_kick(0, self.kick.fd)
        self.vu.set_vring_enable(0, True)

    def burst(self) -> None:
        """Ask for `depth` requests and wait for all of them."""
        words, used, index = self._words, self._used, (self.index + self.depth) & 0xffff
        prepared = self._prepared[self.count % BURSTS]
        self._bytes[self._headers:self._headers + len(prepared)] = prepared
        self._bytes[self._statuses] = bytes([UNTOUCHED]) * self.depth
        words[self._avail] = self.index = index
        full_fence()
        if not words[used] & SPLIT_NO_NOTIFY:
            self.kick.signal()
        looks, end = 0, time.monotonic() + ANSWER_S
        while words[used + 1] != index:
            looks += 1
            if looks % LOOKS == 0 and time.monotonic() > end:
                raise TimeoutError(f'used index {words[used + 1]} instead of {index}')
        self.count += 1
        if self._bytes[self._statuses] != bytes([OK]) * self.depth:
            raise IOError(f'status {bytes(self._bytes[self._statuses])!r}')

    def per_second(self, seconds: float) -> float:
        """Requests a second over so long."""
        before, start = self.count, time.monotonic()
        while time.monotonic() - start < seconds:
            self.burst()
        return (self.count - before) * self.depth / (time.monotonic() - start)

    def close(self) -> None:
        self.vu.close()
        self.kick.close()
        self.call.close()
        del self._bytes, self._words
