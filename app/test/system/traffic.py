# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Numbered, checksummed frames and the books on what became of them."""

import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Dict, List, Set, Tuple

MAGIC = b'vDPA'
ETHER_TYPE = b'\x88\xb5'
HEADER = struct.Struct('>6s6s2s4sIIHI')
CRC_AT = HEADER.size - 4
MIN_SIZE = 60


@dataclass
class Books:
    """What a checker found. Frames in `abandoned` may be missing (their ring was reset)."""
    sent: int = 0
    received: int = 0
    changed: int = 0
    reordered: int = 0
    repeated: List[int] = field(default_factory=list)
    lost: List[int] = field(default_factory=list)
    foreign: int = 0

    def clean(self) -> bool:
        return not (self.lost or self.changed or self.reordered or self.repeated or self.foreign)

    def __str__(self) -> str:
        return (f'sent {self.sent}, received {self.received}, lost {len(self.lost)} '
                f'{self.lost[:8]}, changed {self.changed}, reordered {self.reordered}, repeated '
                f'{len(self.repeated)} {self.repeated[:8]}, foreign {self.foreign}')


class Stream:
    """One numbered sequence of frames: makes them and checks what comes back."""

    def __init__(self, number: int = 0, sizes: Tuple[int, int] = (MIN_SIZE, 1514), seed: int = 1,
                 macs_swapped: bool = False):
        self.number = number
        self.sizes = sizes
        self._random = random.Random(f'{seed}.{number}')
        self._noise = self._random.randbytes(sizes[1] + 4096)
        self._macs = (b'\x02vdpa' + bytes([number & 0xff]), b'\x02back' + bytes([number >> 8]))
        self._came_macs = self._macs[::-1] if macs_swapped else self._macs
        self._sent: Dict[int, Tuple[int, int]] = {}
        self._seen: Set[int] = set()
        self._abandoned: Set[int] = set()
        self._highest = -1
        self._next = 0
        self._books = Books()

    def make(self) -> bytes:
        """The next frame. It is outstanding from now on."""
        size = self._random.randint(*self.sizes)
        start = self._random.randrange(4096)
        payload = self._noise[start:start + size - HEADER.size]
        head = HEADER.pack(*self._macs, ETHER_TYPE, MAGIC, self.number, self._next, size, 0)
        crc = zlib.crc32(payload, zlib.crc32(head[12:]))
        self._sent[self._next] = (crc, size)
        self._next += 1
        self._books.sent += 1
        return head[:CRC_AT] + struct.pack('>I', crc) + payload

    def take(self, frame: bytes) -> bool:
        """Note a frame that came back. False: not one of this stream."""
        books = self._books
        if len(frame) < HEADER.size:
            books.foreign += 1
            return False
        dst, src, kind, magic, number, seq, size, crc = HEADER.unpack_from(frame)
        if kind != ETHER_TYPE or magic != MAGIC or number != self.number or seq not in self._sent:
            books.foreign += 1
            return False
        books.received += 1
        blank = frame[12:CRC_AT] + bytes(4)
        real = zlib.crc32(memoryview(frame)[HEADER.size:], zlib.crc32(blank))
        if (crc, size) != self._sent[seq] or real != crc or len(frame) != size or \
                (dst, src) != self._came_macs:
            books.changed += 1
        if seq in self._seen:
            books.repeated.append(seq)
            return True
        if seq < self._highest:
            books.reordered += 1
        self._highest = max(seq, self._highest)
        self._seen.add(seq)
        self._abandoned.discard(seq)
        return True

    def sent(self) -> int:
        return self._next

    def outstanding(self) -> int:
        """Frames that are still to come back."""
        return len(self._sent) - len(self._seen) - len(self._abandoned)

    def abandon(self, numbers: 'Set[int] | None' = None) -> int:
        """Whatever is outstanding (of these numbers) may be lost; how many that are."""
        missing = set(self._sent) - self._seen - self._abandoned
        if numbers is not None:
            missing &= numbers
        self._abandoned |= missing
        return len(missing)

    @staticmethod
    def number_of(frame: bytes) -> int:
        """The number in a frame made by this class."""
        return HEADER.unpack_from(frame)[5]

    def books(self) -> Books:
        """The result up to now; frames still outstanding count as lost."""
        self._books.lost = sorted(set(self._sent) - self._seen - self._abandoned)
        return self._books
