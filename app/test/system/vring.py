# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Driver side of virtqueues over shared guest memory (virtio 1.2, sections 2.7 split, 2.8 packed).

A buffer is a list of segments. add() puts it into the ring, publish() shows all added buffers to the
device and says whether the device wants a kick, poll() returns the buffers that the device has used.
Both formats have the same methods; a ring lies in one memory region.
"""

from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence

from guest_memory import GuestMemory, full_fence

DESC_F_NEXT = 1
DESC_F_WRITE = 2
DESC_F_INDIRECT = 4
PACKED_F_AVAIL = 1 << 7
PACKED_F_USED = 1 << 15
PACKED_EVENT_ENABLE = 0
PACKED_EVENT_DISABLE = 1
PACKED_EVENT_DESC = 2
SPLIT_NO_NOTIFY = 1
DESC_SIZE = 16


class Segment(NamedTuple):
    """One piece of a buffer; writable means written by the device."""
    addr: int
    size: int
    writable: bool


class Used(NamedTuple):
    """A buffer that came back. length is None for all but the last of an in-order batch."""
    token: Any
    length: Optional[int]


class _Chain(NamedTuple):
    token: Any
    slots: List[int]


def need_event(event: int, new: int, old: int) -> bool:
    """True if index event was passed on the way from old to new (modulo 2**16)."""
    return (new - event - 1) & 0xffff < (new - old) & 0xffff


class _Ring:
    """What both formats share: memory, the buffers in flight and indirect tables."""
    packed = False

    def __init__(self, mem: GuestMemory, size: int, *, event_idx: bool, in_order: bool,
                 max_indirect: int, device_area: int, driver_area: int):
        self.size = size
        self.event_idx = event_idx
        self.in_order = in_order
        self.max_indirect = max_indirect
        self.desc_addr = mem.alloc(DESC_SIZE * size, 4096)
        self.driver_addr = mem.alloc(driver_area, 64)
        self.device_addr = mem.alloc(device_area, 64)
        self.attach(mem)
        self._desc = (self.desc_addr - self._origin) // 8
        self._driver = (self.driver_addr - self._origin) // 2
        self._device = (self.device_addr - self._origin) // 2
        self._tables: Dict[int, int] = {}
        self._order: Deque[int] = deque()
        self.chains: Dict[int, _Chain] = {}
        self.nr_free = size
        self.added = 0
        self.used = 0

    def attach(self, mem: GuestMemory) -> None:
        """Go on in this memory, which has the same contents at the same addresses."""
        self.mem = mem
        region = mem.region_of(self.desc_addr)
        self._origin = region.gpa
        self._w16, self._w32, self._w64 = (region.words[n] for n in (2, 4, 8))

    def in_flight(self) -> List[Any]:
        """Tokens of the buffers that the device has, oldest first."""
        return [self.chains[head].token for head in self._order if head in self.chains]

    def _put(self, at: int, addr: int, length: int, first: int, second: int) -> None:
        self._w64[at] = addr
        self._w64[at + 1] = length | first << 32 | second << 48

    def _table_of(self, head: int) -> int:
        """Address of the indirect table that belongs to a head, made at its first use."""
        if head not in self._tables:
            self._tables[head] = self.mem.alloc(DESC_SIZE * self.max_indirect, 16)
        return self._tables[head]

    def _finish(self, head: int) -> List[_Chain]:
        """Take the chain of a used head, with all before it if the ring is in order."""
        if head not in self.chains:
            raise AssertionError(f'device used buffer {head}, which it did not have')
        done = []
        while self.in_order:
            first = self._order.popleft()
            done.append(self.chains.pop(first))
            if first == head:
                return done
        self._order.remove(head)
        return [self.chains.pop(head)]


class SplitRing(_Ring):
    """Split virtqueue: descriptor table, available ring (driver), used ring (device)."""

    def __init__(self, mem: GuestMemory, size: int, *, event_idx: bool = False,
                 in_order: bool = False, max_indirect: int = 8):
        super().__init__(mem, size, event_idx=event_idx, in_order=in_order,
                         max_indirect=max_indirect, driver_area=6 + 2 * size,
                         device_area=6 + 8 * size)
        self._free: Deque[int] = deque(range(size))
        self._avail = 0
        self._shown = 0
        self._last_used = 0
        self._interrupts = False
        mem.write(self.driver_addr, bytes(6 + 2 * size))
        mem.write(self.device_addr, bytes(6 + 8 * size))
        self.want_interrupts(False)

    def add(self, segments: Sequence[Segment], token: Any, indirect: bool = False) -> bool:
        """Put a buffer into the ring. False: no room. Nothing is shown to the device yet."""
        count = 1 if indirect else len(segments)
        if count > len(self._free):
            return False
        slots = [self._free.popleft() for _ in range(count)]
        head = slots[0]
        if indirect:
            table = self._table_of(head)
            self._chain(table, list(range(len(segments))), segments)
            self._put(self._desc + 2 * head, table, DESC_SIZE * len(segments), DESC_F_INDIRECT, 0)
        else:
            self._chain(self.desc_addr, slots, segments)
        self.chains[head] = _Chain(token, slots)
        self._order.append(head)
        self._w16[self._driver + 2 + self._avail % self.size] = head
        self._avail = (self._avail + 1) & 0xffff
        self.added += 1
        self.nr_free = len(self._free)
        return True

    def _chain(self, table: int, slots: List[int], segments: Sequence[Segment]) -> None:
        at = (table - self._origin) // 8
        last = len(segments) - 1
        for n, segment in enumerate(segments):
            flags = DESC_F_WRITE if segment.writable else 0
            following = 0
            if n < last:
                flags |= DESC_F_NEXT
                following = slots[n + 1]
            self._put(at + 2 * slots[n], segment.addr, segment.size, flags, following)

    def publish(self) -> bool:
        """Show the added buffers to the device. True: it wants a kick."""
        old, new = self._shown, self._avail
        if old == new:
            return False
        self._w16[self._driver + 1] = new
        self._shown = new
        full_fence()
        if self.event_idx:
            return need_event(self._w16[self._device + 2 + 4 * self.size], new, old)
        return not self._w16[self._device] & SPLIT_NO_NOTIFY

    def device_index(self) -> int:
        """used->idx as it stands in memory."""
        return self._w16[self._device + 1]

    def poll(self) -> List[Used]:
        """Buffers used since the last call."""
        result: List[Used] = []
        index = self.device_index()
        if (index - self._last_used) & 0xffff > self.size:
            raise AssertionError(f'used index jumped from {self._last_used} to {index}')
        entries = (self.device_addr + 4 - self._origin) // 4
        while self._last_used != index:
            at = entries + 2 * (self._last_used % self.size)
            done = self._finish(self._w32[at])
            for chain in done:
                result.append(Used(chain.token, None))
                self._free.extend(chain.slots)
            result[-1] = Used(done[-1].token, self._w32[at + 1])
            self._last_used = (self._last_used + len(done)) & 0xffff
        self.used += len(result)
        self.nr_free = len(self._free)
        if result and self._interrupts:
            self.want_interrupts(True)
        return result

    def want_interrupts(self, on: bool, after: int = 1) -> None:
        """Ask for an interrupt at the after-th buffer from now, or for none at all."""
        self._interrupts = on
        if self.event_idx:
            distance = after - 1 if on else 0x8000
            self._w16[self._driver + 2 + self.size] = (self._last_used + distance) & 0xffff
        else:
            self._w16[self._driver] = 0 if on else 1
        full_fence()

    def base(self) -> int:
        """Where a device goes on that starts now: vhost-user's ring base."""
        return self.device_index()


class PackedRing(_Ring):
    """Packed virtqueue: one descriptor ring and two event suppression areas."""
    packed = True

    def __init__(self, mem: GuestMemory, size: int, *, event_idx: bool = False,
                 in_order: bool = False, max_indirect: int = 8):
        super().__init__(mem, size, event_idx=event_idx, in_order=in_order,
                         max_indirect=max_indirect, driver_area=4, device_area=4)
        mem.write(self.desc_addr, bytes(DESC_SIZE * size))
        mem.write(self.driver_addr, bytes(4))
        mem.write(self.device_addr, bytes(4))
        self._free: Deque[int] = deque(range(size))
        self._next = 0
        self._wrap = 1
        self._first: Optional[tuple] = None
        self._batch = 0
        self._used_at = 0
        self._used_wrap = 1
        self._interrupts = False
        self.want_interrupts(False)

    def add(self, segments: Sequence[Segment], token: Any, indirect: bool = False) -> bool:
        """Put a buffer into the ring. False: no room. Nothing is shown to the device yet."""
        count = 1 if indirect else len(segments)
        if count > self.nr_free:
            return False
        head = self._free.popleft()
        if indirect:
            table = self._table_of(head)
            at = (table - self._origin) // 8
            for n, segment in enumerate(segments):
                self._put(at + 2 * n, segment.addr, segment.size, 0,
                          DESC_F_WRITE if segment.writable else 0)
            segments = [Segment(table, DESC_SIZE * len(segments), False)]
        first = None
        for n, segment in enumerate(segments):
            flags = PACKED_F_AVAIL if self._wrap else PACKED_F_USED
            flags |= DESC_F_WRITE if segment.writable else 0
            flags |= DESC_F_NEXT if n < len(segments) - 1 else 0
            flags |= DESC_F_INDIRECT if indirect else 0
            at = self._desc + 2 * self._next
            if n == 0:
                first = (at, segment.addr, segment.size, head, flags)
            else:
                self._put(at, segment.addr, segment.size, head, flags)
            self._next += 1
            if self._next == self.size:
                self._next, self._wrap = 0, self._wrap ^ 1
        assert first is not None
        # The head of the batch is written by publish(): nothing behind it is seen before that.
        if self._first is None:
            self._first = first
        else:
            self._put(*first)
        self.chains[head] = _Chain(token, [head] * count)
        self._order.append(head)
        self.nr_free -= count
        self._batch += count
        self.added += 1
        return True

    def publish(self) -> bool:
        """Show the added buffers to the device. True: it wants a kick."""
        if self._first is None:
            return False
        at, addr, size, head, flags = self._first
        self._w64[at] = addr
        self._w32[2 * at + 2] = size
        self._w16[4 * at + 6] = head
        self._w16[4 * at + 7] = flags
        self._first = None
        batch, self._batch = self._batch, 0
        full_fence()
        mode = self._w16[self._device + 1]
        if mode != PACKED_EVENT_DESC:
            return mode == PACKED_EVENT_ENABLE
        off_wrap = self._w16[self._device]
        event = off_wrap & 0x7fff
        if off_wrap >> 15 != self._wrap:
            event -= self.size
        return need_event(event & 0xffff, self._next, (self._next - batch) & 0xffff)

    def _used_here(self) -> bool:
        flags = self._w16[2 * 2 * (self._desc + 2 * self._used_at) + 7]
        bits = PACKED_F_AVAIL | PACKED_F_USED
        return flags & bits == (bits if self._used_wrap else 0)

    def poll(self) -> List[Used]:
        """Buffers used since the last call."""
        result: List[Used] = []
        while self.chains and self._used_here():
            at = 2 * (self._desc + 2 * self._used_at)
            length, head = self._w32[at + 2], self._w16[2 * at + 6]
            done = self._finish(head)
            for chain in done:
                result.append(Used(chain.token, None))
                self._free.append(chain.slots[0])
                self.nr_free += len(chain.slots)
                self._used_at += len(chain.slots)
                if self._used_at >= self.size:
                    self._used_at -= self.size
                    self._used_wrap ^= 1
            result[-1] = Used(done[-1].token, length)
        self.used += len(result)
        if result and self._interrupts:
            self.want_interrupts(True)
        return result

    def want_interrupts(self, on: bool, after: int = 1) -> None:
        """Ask for an interrupt at the after-th descriptor from now, or for none at all."""
        self._interrupts = on
        if on and self.event_idx:
            at, wrap = self._used_at + after - 1, self._used_wrap
            if at >= self.size:
                at, wrap = at - self.size, wrap ^ 1
            self._w16[self._driver] = at | wrap << 15
            self._w16[self._driver + 1] = PACKED_EVENT_DESC
        else:
            self._w16[self._driver + 1] = PACKED_EVENT_ENABLE if on else PACKED_EVENT_DISABLE
        full_fence()

    def base(self) -> int:
        """Where a device goes on that starts now: vhost-user's ring base, both halves alike.

        Buffers in flight are offered again only where the device used all before them in order."""
        half = self._used_at | self._used_wrap << 15
        return half | half << 16


def make_ring(mem: GuestMemory, size: int, packed: bool, **options) -> Any:
    """A ring of the wanted format."""
    return (PackedRing if packed else SplitRing)(mem, size, **options)
