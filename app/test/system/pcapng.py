# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Captures, read by a reader of our own (queue and direction) and by tcpdump (a stock one)."""

import struct
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

SECTION, INTERFACE, FRAME = 0x0a0d0d0a, 1, 6
IF_NAME, IF_TSRESOL, FRAME_FLAGS, FRAME_QUEUE = 2, 9, 2, 6
DIRECTIONS = {1: 'in', 2: 'out'}


class Captured(NamedTuple):
    """One frame of a capture."""
    data: bytes
    original: int           # bytes before it was cut
    direction: str
    queue: int
    time_s: float


def options(data: bytes) -> Dict[int, bytes]:
    """The options of a block; a list may end without an end."""
    found: Dict[int, bytes] = {}
    while len(data) >= 4:
        code, length = struct.unpack_from('=HH', data)
        if code == 0:
            break
        found[code] = data[4:4 + length]
        data = data[4 + (length + 3) // 4 * 4:]
    return found


def blocks(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Type and body of each block; AssertionError if one is not whole."""
    while data:
        kind, length = struct.unpack_from('=II', data)
        assert length % 4 == 0 and 12 <= length <= len(data), f'block of {length} bytes'
        assert struct.unpack_from('=I', data, length - 4)[0] == length
        yield kind, data[8:length - 4]
        data = data[length:]


def read(path: Path) -> Tuple[str, List[Captured]]:
    """The name of the only interface, and all frames."""
    found = list(blocks(path.read_bytes()))
    assert [kind for kind, _ in found[:2]] == [SECTION, INTERFACE]
    assert struct.unpack_from('=IHH', found[0][1]) == (0x1a2b3c4d, 1, 0)
    assert struct.unpack_from('=H', found[1][1])[0] == 1, 'link type Ethernet'
    about = options(found[1][1][8:])
    assert about[IF_TSRESOL] == b'\x09'
    frames = []
    for kind, body in found[2:]:
        assert kind == FRAME
        interface, high, low, length, original = struct.unpack_from('=5I', body)
        assert interface == 0
        more = options(body[20 + (length + 3) // 4 * 4:])
        flags, = struct.unpack('=I', more[FRAME_FLAGS])
        queue, = struct.unpack('=I', more[FRAME_QUEUE])
        frames.append(Captured(body[20:20 + length], original, DIRECTIONS[flags & 3], queue,
                               (high << 32 | low) / 1e9))
    return about[IF_NAME].decode(), frames


def read_by_tcpdump(path: Path) -> List[bytes]:
    """All frames as tcpdump reads them: it writes them anew in the classic format."""
    done = subprocess.run(['tcpdump', '-r', path, '-w', '-'], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    data, frames = done.stdout[24:], []
    while data:
        length = struct.unpack_from('=4I', data)[2]
        frames.append(data[16:16 + length])
        data = data[16 + length:]
    return frames
