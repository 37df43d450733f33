# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A small virtio-blk driver for QEMU's vhost-user-blk-pci (virtio 1.2, section 5.2)."""

import struct
from enum import IntEnum
from typing import Any, List, NamedTuple, Optional, Sequence

from proc import wait_until
from qemu import Machine
from vhost_user import STATUS_DRIVER_OK, Feature, bits
from virtio_pci import DEVICE_STATUS, PciDriver
from vring import Segment

BLK_DEVICE = 0x1042
SECTOR = 512
HEADER_BYTES = 16
ID_BYTES = 20
SCRATCH_BYTES = 8 << 20
CANARY = 0xa5
ANSWER_S = 20.0


class Type(IntEnum):
    """Of a request (5.2.6)."""
    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


OK, IOERR, UNSUPP = 0, 1, 2
UNTOUCHED = 0x77            # what the status byte is before


class Blk(IntEnum):
    """Feature bits (5.2.3)."""
    SIZE_MAX = 1
    SEG_MAX = 2
    GEOMETRY = 4
    RO = 5
    BLK_SIZE = 6
    FLUSH = 9
    TOPOLOGY = 10
    CONFIG_WCE = 11
    MQ = 12
    DISCARD = 13
    WRITE_ZEROES = 14


WANTED = bits(Feature.VERSION_1, Feature.INDIRECT_DESC, Feature.EVENT_IDX, *Blk)


class Answer(NamedTuple):
    """What became of a request: its status, the bytes that it read, the length that was used."""
    status: Optional[int]
    data: bytes
    length: int


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack('<IIQ', kind, 0, sector)


def ranges(*parts: Sequence[int]) -> bytes:
    """The data of discard and write-zeroes: (sector, sectors, flags) each."""
    return b''.join(struct.pack('<QII', *part) for part in parts)


def cut(size: int, pieces: Optional[Sequence[int]]) -> List[int]:
    """Lengths of segments for so many bytes: those given, then the rest in one."""
    lengths = []
    for piece in pieces or ():
        lengths.append(min(piece, size))
        size -= lengths[-1]
    return [n for n in lengths + [size] if n]


class BlkDriver(PciDriver):
    """Drives the disk of one Machine."""
    device_id = BLK_DEVICE

    def __init__(self, machine: Machine, *, wanted: int = WANTED, queues: int = 1,
                 ring_size: int = 128, slot: int = 4):
        self.queues = queues
        super().__init__(machine, wanted=wanted, ring_size=ring_size, slot=slot)

    def start(self) -> 'BlkDriver':
        """Negotiate, set up the queues, DRIVER_OK."""
        self.negotiate()
        self.rings = [self._set_up_queue(n, self.ring_size) for n in range(self.queues)]
        self._scratch = self.mem.alloc(SCRATCH_BYTES, 4096)
        self._set(1, DEVICE_STATUS, self.status | STATUS_DRIVER_OK)
        return self

    @property
    def generation(self) -> int:
        """Changes with the configuration space (4.1.4.3)."""
        return self._get(1, 21)

    @property
    def sectors(self) -> int:
        return self.config(4, 0) | self.config(4, 4) << 32

    @property
    def needs_reset(self) -> bool:
        return bool(self.status & 0x40)

    # Single buffers

    def put(self, segments: Sequence[Segment], token: Any = None, queue: int = 0,
            indirect: bool = False) -> None:
        assert self.rings[queue].add(segments, token, indirect), 'ring full'
        if self.rings[queue].publish():
            self.kick(queue)

    def take(self, count: int = 1, queue: int = 0) -> List:
        done: List = []

        def enough() -> bool:
            done.extend(self.rings[queue].poll())
            return len(done) >= count
        wait_until(enough, ANSWER_S, f'{count} requests complete')
        return done

    # Requests

    def lay_out(self, out: Sequence[bytes], in_bytes: Sequence[int], gap: int = 64) \
            -> List[Segment]:
        """A segment for each piece, canaries around."""
        at, segments = self._scratch, []
        total = sum(map(len, out)) + sum(in_bytes) + gap * (len(out) + len(in_bytes) + 1)
        assert total <= SCRATCH_BYTES, total
        self.mem.write(at, bytes([CANARY]) * total)
        for piece in out:
            at += gap
            self.mem.write(at, piece)
            segments.append(Segment(at, len(piece), False))
            at += len(piece)
        for size in in_bytes:
            at += gap
            self.mem.write(at, bytes([UNTOUCHED]) * size)
            segments.append(Segment(at, size, True))
            at += size
        self._canaries_end = at + gap
        return segments

    def expect_canaries(self, segments: Sequence[Segment]) -> None:
        """Nothing around the segments was written."""
        memory = bytearray(self.mem.read(self._scratch, self._canaries_end - self._scratch))
        for segment in segments:
            start = segment.addr - self._scratch
            memory[start:start + segment.size] = bytes([CANARY]) * segment.size
        assert not memory.strip(bytes([CANARY])), 'memory around the buffers was written'

    def run(self, out: Sequence[bytes], in_bytes: Sequence[int], *, queue: int = 0,
            indirect: bool = False, gap: int = 64) -> Answer:
        """One buffer of any shape; the last writable byte is taken as its status."""
        segments = self.lay_out(out, in_bytes, gap)
        self.put(segments, 'run', queue, indirect)
        used = self.take(1, queue)[0]
        for piece, segment in zip(out, segments):
            assert self.mem.read(segment.addr, segment.size) == piece, 'a readable segment changed'
        self.expect_canaries(segments)
        written = b''.join(self.mem.read(s.addr, s.size) for s in segments if s.writable)
        return Answer(written[-1] if written else None, written[:-1], used.length)

    def request(self, kind: int, sector: int = 0, data: bytes = b'', in_bytes: int = 0, *,
                pieces: Optional[Sequence[int]] = None, header_pieces: Sequence[int] = (),
                **options: Any) -> Answer:
        """One request as a driver makes it. pieces: lengths of the data's segments."""
        head = header(kind, sector)
        out, at = [], 0
        for size in cut(HEADER_BYTES, header_pieces):
            out.append(head[at:at + size])
            at += size
        at = 0
        for size in cut(len(data), pieces):
            out.append(data[at:at + size])
            at += size
        return self.run(out, [*cut(in_bytes, pieces), 1], **options)

    def write(self, sector: int, data: bytes, **options: Any) -> None:
        answer = self.request(Type.OUT, sector, data, **options)
        assert answer.status == OK, answer.status

    def read(self, sector: int, size: int, **options: Any) -> bytes:
        answer = self.request(Type.IN, sector, in_bytes=size, **options)
        assert (answer.status, answer.length) == (OK, size + 1), (answer.status, answer.length)
        return answer.data
