# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A virtio-net driver's queue pair on rings in guest memory (virtio 1.2, section 5.1.6)."""

import time
from typing import Any, Callable, List, Optional, Sequence

from guest_memory import GuestMemory
from traffic import Stream
from vring import Segment

NET_HDR_SIZE = 12
NUM_BUFFERS_AT = 10


class NetPair:
    """Receive ring 2n and transmit ring 2n + 1. kick_rx and kick_tx tell the device to look.

    shape is how a transmitted frame lies in the ring: 'direct' (header and frame in one segment),
    'chained' (header, then the frame in up to three segments) or 'indirect' (the same in a table).
    """

    def __init__(self, mem: GuestMemory, rx: Any, tx: Any, kick_rx: Callable[[], None],
                 kick_tx: Callable[[], None], *, mergeable: bool = True, max_frame: int = 1514,
                 rx_buffer: int = 2048, shape: str = 'direct'):
        self.mem, self.rx, self.tx = mem, rx, tx
        self.kick_rx, self.kick_tx = kick_rx, kick_tx
        self.mergeable = mergeable
        self.shape = shape
        self.slot_size = (max_frame + NET_HDR_SIZE + 63) // 64 * 64
        self.rx_size = rx_buffer if mergeable else self.slot_size
        self._tx_base = mem.alloc(self.slot_size * tx.size, 64)
        self._rx_base = mem.alloc(self.rx_size * rx.size, 64)
        self._tx_free = list(range(tx.size))
        self._rx_free = list(range(rx.size))
        self._partial: List[bytes] = []
        self._missing = 0
        self.kicks = 0
        self.used_lengths: List[Optional[int]] = []

    def fill_rx(self) -> None:
        """Give the device all free receive buffers."""
        while self._rx_free:
            slot = self._rx_free[-1]
            addr = self._rx_base + slot * self.rx_size
            if not self.rx.add([Segment(addr, self.rx_size, True)], slot):
                break
            self._rx_free.pop()
        if self.rx.publish():
            self.kick_rx()

    def _segments(self, slot: int, size: int) -> List[Segment]:
        addr = self._tx_base + slot * self.slot_size
        if self.shape == 'direct':
            return [Segment(addr, size, False)]
        result = [Segment(addr, NET_HDR_SIZE, False)]
        at, step = NET_HDR_SIZE, max(1, (size - NET_HDR_SIZE) // 3 + 1)
        while at < size:
            part = min(step, size - at)
            result.append(Segment(addr + at, part, False))
            at += part
        return result

    def room(self) -> int:
        """How many frames send() takes now."""
        per_frame = 4 if self.shape == 'chained' else 1
        return min(len(self._tx_free), self.tx.nr_free // per_frame)

    def send(self, frames: Sequence[bytes]) -> None:
        """Put frames into the transmit ring and kick; there must be room()."""
        for frame in frames:
            slot = self._tx_free.pop()
            self.mem.write(self._tx_base + slot * self.slot_size, bytes(NET_HDR_SIZE) + frame)
            segments = self._segments(slot, NET_HDR_SIZE + len(frame))
            added = self.tx.add(segments, (slot, frame), self.shape == 'indirect')
            assert added, 'more frames sent than the ring has room for'
        if self.tx.publish():
            self.kicks += 1
            self.kick_tx()

    def rx_capacity(self) -> int:
        """How many of the largest frames fit into the receive ring."""
        return max(1, self.rx.size // -(-self.slot_size // self.rx_size))

    def reclaim(self) -> int:
        """Take back transmitted buffers; how many came."""
        done = self.tx.poll()
        self._tx_free.extend(used.token[0] for used in done)
        return len(done)

    def frames_in_flight(self) -> List[bytes]:
        """Frames that the device has not given back yet."""
        return [frame for _, frame in self.tx.in_flight()]

    def receive_only(self) -> List[bytes]:
        """Frames that have come, put together where they span several buffers."""
        frames: List[bytes] = []
        for used in self.rx.poll():
            length = self.rx_size if used.length is None else used.length
            assert length <= self.rx_size, f'used length {length} of a {self.rx_size} bytes buffer'
            data = self.mem.read(self._rx_base + used.token * self.rx_size, length)
            self._rx_free.append(used.token)
            if not self._missing:
                assert length >= NET_HDR_SIZE, f'used length {length}: no room for a header'
                self._missing = 1
                if self.mergeable:
                    self._missing = int.from_bytes(data[NUM_BUFFERS_AT:NET_HDR_SIZE], 'little')
                    assert self._missing, 'a frame of 0 buffers'
                data = data[NET_HDR_SIZE:]
            self._partial.append(data)
            self._missing -= 1
            if not self._missing:
                frames.append(b''.join(self._partial))
                self._partial.clear()
        return frames

    def receive(self) -> List[bytes]:
        """Frames that have come; their buffers go back into the ring."""
        frames = self.receive_only()
        if self._rx_free:
            self.fill_rx()
        return frames


class Flow:
    """A stream sent through one pair that comes back on the same pair."""

    def __init__(self, pair: NetPair, stream: Stream):
        self.pair, self.stream = pair, stream

    def pump(self, limit: int, window: int = 128) -> bool:
        """Send what fits (up to limit frames in all), take what came. True: something moved."""
        pair, stream = self.pair, self.stream
        window = min(window, pair.rx_capacity())
        moved = pair.reclaim()
        count = min(pair.room(), window - stream.outstanding(), limit - stream.sent())
        if count > 0:
            pair.send([stream.make() for _ in range(count)])
        frames = pair.receive()
        for frame in frames:
            stream.take(frame)
        return bool(moved or count > 0 or frames)


def run_flows(flows: Sequence[Flow], frames: int, *, idle_s: float = 10.0, window: int = 128,
              between: Optional[Callable[[], None]] = None) -> None:
    """Send frames more through each flow and wait until all came back, or nothing moves for idle_s.

    between is called after each round. What was found stands in each stream's books."""
    limits = [flow.stream.sent() + frames for flow in flows]
    last = time.monotonic()
    while True:
        moved = [flow.pump(limit, window) for flow, limit in zip(flows, limits)]
        if all(flow.stream.sent() >= limit and not flow.stream.outstanding()
               for flow, limit in zip(flows, limits)):
            return
        now = time.monotonic()
        if any(moved):
            last = now
        elif now - last > idle_s:
            return
        else:
            time.sleep(0.0002)
        if between is not None:
            between()
