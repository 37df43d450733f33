# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Guest memory as the driver sees it: regions of shared files at guest physical addresses.

Aligned 16, 32 and 64 bit accesses go through memoryviews of that width, so that each of them is one
load or store of the processor: a ring index must never be seen half written.
"""

import fcntl
import mmap
import os
import threading
from dataclasses import dataclass
from typing import List, Optional, Tuple

F_ADD_SEALS = 1033
F_SEAL_SHRINK = 0x2
F_SEAL_GROW = 0x4
PAGE_SIZE = 4096

_fence_lock = threading.Lock()


def full_fence() -> None:
    """Order earlier stores before later loads, as a processor's full barrier does.

    Taking a free lock is an atomic read-modify-write, which is a full barrier on x86-64."""
    with _fence_lock:
        pass


def create_memory_file(name: str, size_bytes: int, sealed: bool) -> int:
    """A memfd of size_bytes; sealed means that nobody can shrink or grow it any more."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealed else 0))
    os.ftruncate(fd, size_bytes)
    if sealed:
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
    return fd


@dataclass
class Region:
    """One piece of guest memory: addresses gpa .. gpa + size are bytes offset .. of file fd.

    user_addr is the address that a vhost-user front end names the same bytes by."""
    gpa: int
    size: int
    fd: int
    offset: int = 0
    user_addr: Optional[int] = None

    def __post_init__(self) -> None:
        if self.user_addr is None:
            self.user_addr = 0x7e0000000000 + self.gpa
        self.map = mmap.mmap(self.fd, self.size, offset=self.offset)
        self.bytes = memoryview(self.map)
        self.words = {2: self.bytes.cast('H'), 4: self.bytes.cast('I'), 8: self.bytes.cast('Q')}

    def close(self) -> None:
        """Drop mapping and file; views handed out before must be gone."""
        for view in self.words.values():
            view.release()
        self.bytes.release()
        self.map.close()
        os.close(self.fd)


class GuestMemory:
    """All regions of one guest, with a simple allocator that never frees."""

    def __init__(self) -> None:
        self.regions: List[Region] = []
        self._next = 0
        self._end = 0
        self._last: Optional[Region] = None

    def add(self, region: Region) -> Region:
        self.regions.append(region)
        return region

    def remove(self, region: Region) -> None:
        self.regions.remove(region)
        if self._last is region:
            self._last = None

    def close(self) -> None:
        for region in self.regions:
            region.close()
        self.regions.clear()
        self._last = None

    def use_for_alloc(self, start: int, end: int) -> None:
        """Let alloc() take addresses start .. end."""
        self._next, self._end = start, end

    def free_range(self) -> Tuple[int, int]:
        """The addresses that alloc() still has."""
        return self._next, self._end

    def alloc(self, size: int, align: int = 64) -> int:
        """Guest address of size free bytes."""
        addr = (self._next + align - 1) // align * align
        if addr + size > self._end:
            raise MemoryError(f'guest memory: {size} bytes do not fit')
        self._next = addr + size
        return addr

    def region_of(self, addr: int) -> Region:
        last = self._last
        if last is not None and last.gpa <= addr < last.gpa + last.size:
            return last
        for region in self.regions:
            if region.gpa <= addr < region.gpa + region.size:
                self._last = region
                return region
        raise IndexError(f'no guest memory at {addr:#x}')

    def user_addr(self, addr: int) -> int:
        """The front end's own address of a guest address."""
        region = self.region_of(addr)
        assert region.user_addr is not None
        return region.user_addr + addr - region.gpa

    def read(self, addr: int, size: int) -> bytes:
        region = self.region_of(addr)
        start = addr - region.gpa
        return bytes(region.bytes[start:start + size])

    def write(self, addr: int, data: bytes) -> None:
        region = self.region_of(addr)
        start = addr - region.gpa
        region.bytes[start:start + len(data)] = data

    def load(self, addr: int, width: int) -> int:
        """One aligned load of width 2, 4 or 8 bytes."""
        region = self.region_of(addr)
        return region.words[width][(addr - region.gpa) // width]

    def store(self, addr: int, width: int, value: int) -> None:
        """One aligned store of width 2, 4 or 8 bytes."""
        region = self.region_of(addr)
        region.words[width][(addr - region.gpa) // width] = value
