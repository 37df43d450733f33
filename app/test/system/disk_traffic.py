# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Random reads, writes and flushes of a disk, many at once, whose contents are known throughout."""

import random
from collections import Counter
from typing import Dict, List, NamedTuple, Optional

from proc import wait_until
from virtio_blk import OK, SECTOR, UNTOUCHED, BlkDriver, Type, header
from vring import Segment

BLOCK = 8 * SECTOR
SLOT_BYTES = 2 * BLOCK


class Request(NamedTuple):
    """One under way: its slot in memory, and for a write what it writes."""
    slot: int
    kind: Type
    block: Optional[int]
    data: bytes


class DiskTraffic:
    """Up to `depth` requests at a time to different blocks of a disk."""

    def __init__(self, driver: BlkDriver, seed: int, depth: int = 16, blocks: int = 256):
        self.driver, self.depth = driver, depth
        self.random = random.Random(seed)
        self.blocks = blocks
        self.content: Dict[int, bytes] = {}     # what was written and answered
        self.busy = set()
        self.free = list(range(depth))
        self.base = driver.mem.alloc(depth * SLOT_BYTES, 4096)
        self.done: Counter = Counter()

    def _addr(self, slot: int) -> int:
        return self.base + slot * SLOT_BYTES

    def _next(self, slot: int) -> Request:
        kind = self.random.choice([Type.IN, Type.IN, Type.OUT, Type.OUT, Type.OUT, Type.FLUSH])
        if kind == Type.FLUSH:
            return Request(slot, kind, None, b'')
        block = self.random.choice([b for b in range(self.blocks) if b not in self.busy])
        self.busy.add(block)
        return Request(slot, kind, block,
                       self.random.randbytes(BLOCK) if kind == Type.OUT else b'')

    def _submit(self, request: Request, queue: int) -> None:
        mem, at = self.driver.mem, self._addr(request.slot)
        mem.write(at, header(request.kind, (request.block or 0) * (BLOCK // SECTOR)))
        segments: List[Segment] = [Segment(at, 16, False)]
        if request.kind == Type.OUT:
            mem.write(at + BLOCK, request.data)
            segments.append(Segment(at + BLOCK, BLOCK, False))
        elif request.kind == Type.IN:
            segments.append(Segment(at + BLOCK, BLOCK, True))
        mem.write(at + 64, bytes([UNTOUCHED]))
        segments.append(Segment(at + 64, 1, True))
        self.driver.put(segments, request, queue)

    def _complete(self, request: Request) -> None:
        mem, at = self.driver.mem, self._addr(request.slot)
        status = mem.read(at + 64, 1)[0]
        assert status == OK, f'{request.kind.name} of block {request.block}: status {status}'
        if request.kind == Type.OUT:
            assert request.block is not None
            self.content[request.block] = request.data
        elif request.kind == Type.IN:
            expected = self.content.get(request.block or 0, bytes(BLOCK))
            assert mem.read(at + BLOCK, BLOCK) == expected, f'block {request.block} was read wrong'
        self.busy.discard(request.block)
        self.free.append(request.slot)
        self.done[request.kind.name] += 1

    def pump(self, more: bool = True) -> bool:
        """Take what completed; ask for more. True: something moved."""
        moved = False
        for queue, ring in enumerate(self.driver.rings):
            for used in ring.poll():
                self._complete(used.token)
                moved = True
            while more and self.free and len(self.free) > self.depth * queue // 2:
                self._submit(self._next(self.free.pop()), queue)
                moved = True
        return moved

    def drain(self, timeout_s: float = 20.0) -> None:
        """Wait for all that is under way."""
        def none() -> bool:
            self.pump(False)
            return len(self.free) == self.depth
        wait_until(none, timeout_s, f'{self.depth - len(self.free)} requests complete')

    def verify(self) -> None:
        """Read the whole disk again."""
        self.drain()
        for block in range(self.blocks):
            self.busy.add(block)
            self._submit(Request(self.free.pop(), Type.IN, block, b''), 0)
            self.drain()
