# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The test bed's own checks: what must be noticed is noticed."""

import pytest

from guest_memory import GuestMemory, Region, create_memory_file
from traffic import HEADER, Stream
from vring import PACKED_F_AVAIL, PACKED_F_USED, Segment, make_ring, need_event


def frames_of(stream, count):
    return [stream.make() for _ in range(count)]


def test_all_frames_back_is_clean():
    stream = Stream()
    for frame in frames_of(stream, 50):
        stream.take(frame)
    assert stream.books().clean() and stream.outstanding() == 0


def test_missing_frame_is_lost():
    stream = Stream()
    for frame in frames_of(stream, 50)[:-1]:
        stream.take(frame)
    assert stream.books().lost == [49] and not stream.books().clean()


def test_abandoned_frame_is_not_lost():
    stream = Stream()
    frames_of(stream, 3)
    assert stream.abandon({1, 2}) == 2
    assert stream.books().lost == [0]


@pytest.mark.parametrize('at', [0, 6, 12, 18, 22, 26, HEADER.size, -1])
def test_changed_byte_is_noticed(at):
    stream = Stream()
    frame = bytearray(stream.make())
    frame[at] ^= 1
    stream.take(bytes(frame))
    assert not stream.books().clean()


@pytest.mark.parametrize('change', [lambda f: f[:-1], lambda f: f + b'\0', lambda f: f[:20]])
def test_changed_length_is_noticed(change):
    stream = Stream()
    stream.take(change(stream.make()))
    assert not stream.books().clean()


def test_repeated_and_reordered_frames_are_told_apart():
    stream = Stream()
    first, second, third = frames_of(stream, 3)
    for frame in (first, third, second, second):
        stream.take(frame)
    books = stream.books()
    assert books.reordered == 1 and books.repeated == [1] and not books.lost


def test_frame_of_another_stream_is_foreign():
    stream = Stream(0)
    stream.make()
    assert not stream.take(Stream(1).make())
    assert stream.books().foreign == 1


@pytest.mark.parametrize('event, new, old, expected', [
    (0, 1, 0, True), (1, 1, 0, False), (5, 6, 5, True), (5, 10, 6, False),
    (0xffff, 0, 0xffff, True), (0, 2, 0xffff, True), (3, 2, 0xffff, False)])
def test_event_index(event, new, old, expected):
    assert need_event(event, new, old) is expected


@pytest.fixture
def mem():
    memory = GuestMemory()
    memory.add(Region(0, 1 << 20, create_memory_file('test', 1 << 20, True)))
    memory.use_for_alloc(4096, 1 << 20)
    yield memory
    memory.close()


def use_split(memory, ring, head, length, batch=1):
    idx = memory.load(ring.device_addr + 2, 2)
    at = ring.device_addr + 4 + 8 * (idx % ring.size)
    memory.store(at, 4, head)
    memory.store(at + 4, 4, length)
    memory.store(ring.device_addr + 2, 2, idx + batch & 0xffff)


def test_split_ring_reports_an_unknown_buffer(mem):
    ring = make_ring(mem, 8, False)
    ring.add([Segment(0, 64, True)], 'a')
    ring.publish()
    use_split(mem, ring, 5, 64)
    with pytest.raises(AssertionError, match='did not have'):
        ring.poll()


def test_split_ring_reports_a_jumping_index(mem):
    ring = make_ring(mem, 8, False)
    mem.store(ring.device_addr + 2, 2, 100)
    with pytest.raises(AssertionError, match='jumped'):
        ring.poll()


def test_split_ring_in_order_batch(mem):
    ring = make_ring(mem, 8, False, in_order=True)
    for token in 'abc':
        ring.add([Segment(0, 64, True)], token)
    ring.publish()
    use_split(mem, ring, 2, 60, batch=3)
    assert [(u.token, u.length) for u in ring.poll()] == [('a', None), ('b', None), ('c', 60)]
    assert not ring.in_flight()


@pytest.mark.parametrize('in_order', [False, True])
def test_packed_ring_goes_round(mem, in_order):
    """A device of two lines: three times round a ring of 8, chains of 3."""
    ring = make_ring(mem, 8, True, in_order=in_order)
    at, wrap = 0, 1
    for number in range(8):
        assert ring.add([Segment(0, 64, False)] * 3, number)
        ring.publish()
        base = ring.desc_addr + 16 * at
        flags = mem.load(base + 14, 2)
        assert bool(flags & PACKED_F_AVAIL) == bool(wrap) != bool(flags & PACKED_F_USED)
        ident = mem.load(base + 12, 2)
        assert not ring.poll()
        mem.store(base + 8, 4, 7)
        mem.store(base + 12, 2, ident)
        mem.store(base + 14, 2, (PACKED_F_AVAIL | PACKED_F_USED) if wrap else 0)
        at += 3
        if at >= 8:
            at, wrap = at - 8, wrap ^ 1
        assert [(u.token, u.length) for u in ring.poll()] == [(number, 7)]
        assert ring.base() & 0xffff == at | wrap << 15
