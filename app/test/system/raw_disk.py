# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A virtio-blk driver that speaks vhost-user itself; it keeps the inflight region, as a front end does."""

import struct
from typing import Any, List, Optional

from guest_memory import Region
from raw_nic import RawNic
from vhost_user import (STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
                        Feature, Protocol, Request, bits)
from virtio_blk import SECTOR, UNTOUCHED, Type, header
from vring import Segment, Used, make_ring

PROTOCOL = bits(Protocol.REPLY_ACK, Protocol.STATUS, Protocol.CONFIG, Protocol.INFLIGHT_SHMFD)
WANTED = bits(Feature.VERSION_1, Feature.PROTOCOL_FEATURES)
SLOT_BYTES = 4 * SECTOR


def noted(notes: Any, packed: bool) -> int:
    """How many buffers a queue's inflight region says are with the device."""
    entry = 32 if packed else 16
    size, = struct.unpack_from('=H', notes, 10)
    return sum(notes[entry + n * entry] for n in range(size))


class RawDisk(RawNic):
    """One queue. Requests are writes and reads of single sectors, each in a slot of memory.

    by_region: memory is given by ADD_MEM_REG."""

    def __init__(self, *, ring_size: int = 64, features: int = 0, by_region: bool = False):
        super().__init__(ring_size=ring_size, features=WANTED | features,
                         protocol=PROTOCOL | bits(Protocol.CONFIGURE_MEM_SLOTS) * by_region)
        self.by_region = by_region
        self.inflight: Optional[Region] = None
        self._inflight_payload = b''

    def make_rings(self) -> None:
        self.mem.use_for_alloc(self.ram.gpa + 0x1000, self.ram.gpa + self.ram.size)
        self.rings = [make_ring(self.mem, self.ring_size, self.has(Feature.RING_PACKED),
                                event_idx=False, in_order=False)]
        self._slots = self.mem.alloc(SLOT_BYTES * self.ring_size, 4096)

    def start(self, active_pairs: Optional[int] = None) -> 'RawDisk':
        assert self.vu is not None
        if not self.rings:
            self.make_rings()
        if self.inflight is None:
            answer = self.vu.ask(Request.GET_INFLIGHT_FD,
                                 struct.pack('=QQHHI', 0, 0, 1, self.ring_size, 0))
            size, offset, queues, ring = struct.unpack_from('=QQHH', answer.payload)
            assert (queues, ring, offset) == (1, self.ring_size, 0) and len(answer.fds) == 1
            self.inflight = Region(0, size, answer.fds[0])
            self._inflight_payload = answer.payload
        self.vu.tell(Request.SET_INFLIGHT_FD, self._inflight_payload, [self.inflight.fd])
        if self.by_region:
            for region in self.mem.regions:
                self.vu.add_mem_reg(region)
        else:
            self.vu.set_mem_table(self.mem)
        self.start_ring(0)
        self.vu.set_vring_enable(0, True)
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK)
        self.kicks[0].signal()
        return self

    def put(self, number: int, kind: Type, sector: int, data: bytes = b'', pieces: int = 1,
            at: Optional[int] = None) -> None:
        """A request, in the slot of this number, which also comes back with it. data is cut.

        at: elsewhere in memory."""
        at = at or self._slots + number % self.ring_size * SLOT_BYTES
        self.mem.write(at, header(kind, sector) + bytes([UNTOUCHED]))
        segments = [Segment(at, 16, False)]
        if data:
            self.mem.write(at + SECTOR, data)
        step = SECTOR // pieces
        segments += [Segment(at + SECTOR + n * step, step, kind == Type.IN) for n in range(pieces)]
        segments.append(Segment(at + 16, 1, True))
        assert self.rings[0].add(segments, number)
        self.rings[0].publish()
        self.kicks[0].signal()

    def poll(self) -> List[Used]:
        return self.rings[0].poll()

    def status(self, number: int) -> int:
        return self.mem.read(self._slots + number % self.ring_size * SLOT_BYTES + 16, 1)[0]

    def data(self, number: int) -> bytes:
        return self.mem.read(self._slots + number % self.ring_size * SLOT_BYTES + SECTOR, SECTOR)

    def in_flight(self) -> int:
        """How many buffers the region says are with the device."""
        assert self.inflight is not None
        return noted(self.inflight.map, self.has(Feature.RING_PACKED))

    def close(self) -> None:
        super().close()
        if self.inflight is not None:
            self.inflight.close()
            self.inflight = None
