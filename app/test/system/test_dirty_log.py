# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The log of dirty pages as a front end sees it that marks nothing itself.

Driver and device share no pages but those of a packed descriptor ring: areas begin on own pages.
"""

import mmap
import os
import time

import pytest

from guest_memory import PAGE_SIZE, GuestMemory, Region, create_memory_file
from migration import mode_of
from proc import wait_until
from raw_nic import BASIC, WANTED_PROTOCOL, RawNic
from traffic import HEADER, Stream
from vhost_user import Feature, Protocol, bits
from vnet import NET_HDR_SIZE, run_flows
from vring import DESC_SIZE, Used

pytestmark = pytest.mark.ours

RING_SIZE = 1024
VRING_F_LOG = 1
SYNC_S = 0.05
USED_ENTRY = 8


class Log:
    """A log of size_bytes in shared memory, which can be cut unless it is sealed."""

    def __init__(self, size_bytes, sealed=True):
        self.fd = create_memory_file('log', size_bytes, sealed)
        self.size_bytes = size_bytes
        self.map = mmap.mmap(self.fd, size_bytes)

    def pages(self):
        """Numbers of the pages marked."""
        return {8 * at + bit for at, byte in enumerate(self.map[:]) if byte
                for bit in range(8) if byte >> bit & 1}

    def clear(self):
        """Only while nobody marks."""
        self.map[:] = bytes(self.size_bytes)

    def close(self):
        self.map.close()
        os.close(self.fd)


def span(addr, size):
    """Numbers of the pages of a piece of memory."""
    return set(range(addr // PAGE_SIZE, (addr + size - 1) // PAGE_SIZE + 1))


class LoggedNic(RawNic):
    """A raw front end that logs, and keeps account of what the device has to write."""

    def __init__(self, **options):
        super().__init__(ring_size=RING_SIZE, protocol=WANTED_PROTOCOL | bits(Protocol.LOG_SHMFD),
                         memory_bytes=16 << 20, **options)
        mem = self.mem
        mem.alloc = lambda size, align=64: GuestMemory.alloc(mem, size, max(align, PAGE_SIZE))
        self.logs = []
        self.written = set()

    def bring_up(self, path):
        super().bring_up(path)
        pair = self.net[0]
        poll_rx = pair.rx.poll

        def poll():
            done = poll_rx()
            for used in done:
                addr = pair._rx_base + used.token * pair.rx_size
                length = pair.rx_size if used.length is None else used.length
                self.written |= span(addr, min(length, pair.rx_size))
            return done
        pair.rx.poll = poll
        return self

    def everything(self):
        return set().union(*(span(region.gpa, region.size) for region in self.mem.regions))

    def log_to(self, log):
        self.logs.append(log)
        self.vu.set_log_base(log.size_bytes, 0, log.fd)

    def log_on(self, on=True):
        for index, ring in enumerate(self.rings):
            self.set_ring_addr(index, VRING_F_LOG if on else 0, ring.device_addr if on else 0)
        self.vu.set_features(self.features | (bits(Feature.LOG_ALL) if on else 0))

    def start_again(self, bases):
        """After stop(), at the bases that it gave."""
        for index, base in enumerate(bases):
            self.start_ring(index, base)
            self.vu.set_vring_enable(index, True)
        for kick in self.kicks:
            kick.signal()

    def positions(self):
        """Where the rings stand; the last transmitted buffers come back after their frames."""
        self.net[0].reclaim()
        return [ring._used_at if ring.packed else ring.used for ring in self.rings]

    def ring_pages(self, before, frames):
        """What each ring must have, and what it may have: the second holds the first."""
        must, may = set(), set()
        for ring, start in zip(self.rings, before):
            table = ring.desc_addr if ring.packed else ring.device_addr + 4
            step = DESC_SIZE if ring.packed else USED_ENTRY
            for number in range(frames):
                slot = span(table + (start + number) % ring.size * step, step)
                may |= slot
                # one entry of an in-order batch stands for all before it
                must |= slot if not ring.in_order else set()
            if not ring.packed:
                must |= span(ring.device_addr + 2, 2)
                may |= span(ring.device_addr, 4) | span(table + ring.size * step, 2)
            else:
                may |= span(ring.device_addr, 4)
        return must, may | must

    def changed_by_device(self, snapshot):
        """Pages of device areas and receive buffers that are not as they were."""
        ours = set()
        for ring in self.rings:
            ours |= span(ring.device_addr, 4 if ring.packed else 6 + USED_ENTRY * ring.size)
        pair = self.net[0]
        ours |= span(pair._rx_base, pair.rx_size * pair.rx.size)
        return {page for page in ours
                if self.mem.read(page * PAGE_SIZE, PAGE_SIZE) != snapshot[page]}

    def snapshot(self):
        return {page: self.mem.read(page * PAGE_SIZE, PAGE_SIZE) for page in self.everything()}

    def close(self):
        super().close()
        for log in self.logs:
            log.close()
        self.logs = []


def settle():
    """The device is idle and the class has handed over what it had.

    Where this thread is woken late others are, too: only naps that end in time count.
    """
    calm = 0
    while calm < 4:
        start = time.monotonic()
        time.sleep(SYNC_S)
        calm = calm + 1 if time.monotonic() - start < 1.5 * SYNC_S else 0


def wait_all_marked(nic, log):
    wait_until(lambda: log.pages() >= nic.everything(), 10, 'the whole table is marked')
    assert log.pages() == nic.everything(), 'pages marked that are nobody\'s'

    def at_rest():
        log.clear()
        settle()
        return not log.pages()
    wait_until(at_rest, 10, 'without traffic nothing more is marked')


def exact(nic, log, stream, frames, stop=False):
    """Just the pages needed for this many frames; with stop at once after them: the bases."""
    nic.written.clear()
    before, memory = nic.positions(), nic.snapshot()
    bases = []
    run_flows(nic.flows([stream]), frames)
    assert stream.books().clean(), stream.books()
    must, may = nic.ring_pages(before, frames)
    if stop:
        bases = nic.stop()

    def missing():
        return (must | nic.written | nic.changed_by_device(memory)) - log.pages()

    end = time.monotonic() + (0 if stop else 20)
    while missing() and time.monotonic() < end:
        time.sleep(SYNC_S)
    if not stop:
        settle()
    lost, beyond = missing(), log.pages() - (may | nic.written)
    assert not lost and not beyond, f'missing {sorted(lost)}, beyond {sorted(beyond)}'
    assert nic.written
    log.clear()
    return bases


@pytest.fixture
def raw(make_backend):
    made = []

    def make(devargs, packed, events):
        backend = make_backend(devargs=devargs, options=['--interactive']).start()
        features = BASIC | bits(Feature.LOG_ALL)
        features |= bits(Feature.RING_PACKED) if packed else 0
        features |= bits(Feature.EVENT_IDX) if events else 0
        nic = LoggedNic(features=features)
        made.append(nic)
        agreed = nic.agree

        def agree():
            assert nic.has(Feature.LOG_ALL)
            nic.features &= ~bits(Feature.LOG_ALL)
            agreed()
        nic.agree = agree
        return backend, nic.bring_up(backend.path)
    yield make
    for nic in made:
        nic.close()


DEVICES = pytest.mark.parametrize('devargs', ['', 'log=off', 'relay=always'],
                                  ids=['log', 'mirrored', 'relayed'])
MATRIX = [pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed']),
          pytest.mark.parametrize('events', [False, True], ids=['flags', 'events']), DEVICES]
DIAGONAL = pytest.mark.parametrize('packed, events', [(False, False), (True, True)],
                                   ids=['split-flags', 'packed-events'])


def matrix(test):
    for mark in MATRIX:
        test = mark(test)
    return test


def log_bytes(nic):
    return (max(nic.everything()) // 8 + 8) // 8 * 8


@matrix
def test_exactly_what_was_written(raw, devargs, packed, events):
    backend, nic = raw(devargs, packed, events)
    stream = Stream(0, sizes=(200, 1400))
    run_flows(nic.flows([stream]), 3000)
    log = Log(log_bytes(nic))
    nic.log_to(log)
    nic.log_on()
    wait_all_marked(nic, log)
    for frames in (1, 10, 100, 600):
        exact(nic, log, stream, frames)

    # replaced, under traffic
    for _ in range(3):
        new = Log(log_bytes(nic))
        run_flows(nic.flows([stream]), 300, between=lambda: None)
        nic.log_to(new)
        run_flows(nic.flows([stream]), 300)
        wait_all_marked(nic, new)
        log.clear()
        exact(nic, new, stream, 50)
        assert not log.pages(), 'the former log is still written'
        log = new

    # off: silence; on again: everything once more
    nic.log_on(False)
    wait_until(lambda: mode_of(backend, 0)['log'] == 'off', 5, 'the log is off')
    log.clear()
    run_flows(nic.flows([stream]), 500)
    settle()
    assert not log.pages()
    nic.log_on()
    wait_all_marked(nic, log)
    exact(nic, log, stream, 10)
    exact(nic, log, stream, 300, stop=True)
    backend.expect_alive()


@DEVICES
@DIAGONAL
def test_the_same_log_named_again_is_no_gap(raw, devargs, packed, events):
    """QEMU 7.2 names its log once for each queue pair. What is marked goes on, exactly."""
    backend, nic = raw(devargs, packed, events)
    stream = Stream(0, sizes=(200, 1400))
    log = Log(log_bytes(nic), sealed=False)
    nic.log_to(log)
    nic.log_on()
    wait_all_marked(nic, log)
    tables = mode_of(backend, 0)['tables']
    for frames in (1, 10, 100):
        for _ in range(20):
            nic.vu.set_log_base(log.size_bytes, 0, log.fd)
        exact(nic, log, stream, frames)
    assert mode_of(backend, 0)['tables'] == tables, 'the whole table is marked again'

    # cut, and whole again: what was marked meanwhile went into pages that nobody sees
    os.ftruncate(log.fd, 0)
    for _ in range(2):          # the first may have been under way before the cut
        before = mode_of(backend, 0)['pages']
        run_flows(nic.flows([stream]), 50)
        wait_until(lambda: mode_of(backend, 0)['pages'] > before, 10, 'pages are marked')
    os.ftruncate(log.fd, log.size_bytes)
    nic.vu.set_log_base(log.size_bytes, 0, log.fd)
    wait_all_marked(nic, log)
    exact(nic, log, stream, 10)
    exact(nic, log, stream, 10, stop=True)


@matrix
def test_memory_comes_and_goes_in_a_log(raw, devargs, packed, events):
    """The table grows: a larger log replaces the former, and the new memory is marked, too."""
    backend, nic = raw(devargs, packed, events)
    stream = Stream(0, sizes=(200, 1400))
    log = Log(log_bytes(nic))
    nic.log_to(log)
    nic.log_on()
    wait_all_marked(nic, log)
    exact(nic, log, stream, 50)
    for _ in range(3):
        more = nic.mem.add(Region(0x40000000, 8 << 20, create_memory_file('more', 8 << 20, True)))
        run_flows(nic.flows([stream]), 200)
        larger = Log(log_bytes(nic))
        nic.log_to(larger)
        nic.vu.set_mem_table(nic.mem)
        run_flows(nic.flows([stream]), 200)
        wait_all_marked(nic, larger)
        exact(nic, larger, stream, 50)
        nic.mem.remove(more)
        nic.vu.set_mem_table(nic.mem)
        run_flows(nic.flows([stream]), 200)
        smaller = Log(log_bytes(nic))
        nic.log_to(smaller)
        run_flows(nic.flows([stream]), 200)
        wait_all_marked(nic, smaller)
        exact(nic, smaller, stream, 50)
        more.close()
    assert stream.books().clean(), stream.books()
    backend.expect_alive()


@matrix
def test_stop_engages_a_log_that_came_late(raw, devargs, packed, events):
    """LOG_ALL and the stop at once: when GET_VRING_BASE is answered all is marked."""
    _, nic = raw(devargs, packed, events)
    stream = Stream(0)
    for _ in range(10):
        run_flows(nic.flows([stream]), 100)
        log = Log(log_bytes(nic))
        nic.log_to(log)
        nic.vu.acknowledge = False      # the two messages right behind each other
        nic.vu.set_features(nic.features | bits(Feature.LOG_ALL))
        bases = nic.stop()
        nic.vu.acknowledge = True
        assert log.pages() == nic.everything(), 'not all is marked'
        nic.vu.set_features(nic.features)
        nic.start_again(bases)
    run_flows(nic.flows([stream]), 100)
    assert stream.books().clean(), stream.books()


@DEVICES
@DIAGONAL
def test_frames_right_behind_the_word(raw, devargs, packed, events):
    """Held back until LOG_ALL is answered, sent at once: each page that they change is marked."""
    _, nic = raw(devargs, packed, events)
    stream = Stream(0, sizes=(200, 1400))
    for _ in range(4):
        log = Log(log_bytes(nic))
        nic.log_to(log)
        nic.written.clear()
        before, memory = nic.positions(), nic.snapshot()
        nic.log_on()
        run_flows(nic.flows([stream]), 20)
        changed = nic.written | nic.changed_by_device(memory)
        must, _ = nic.ring_pages(before, 20)
        wait_until(lambda: not (changed | must) - log.pages(), 2,
                   'all that was written after LOG_ALL is marked')
        nic.log_on(False)
    assert stream.books().clean(), stream.books()


@DEVICES
@DIAGONAL
def test_each_stop_hands_over_what_was_marked(raw, devargs, packed, events):
    _, nic = raw(devargs, packed, events)
    stream = Stream(0, sizes=(200, 1400))
    log = Log(log_bytes(nic))
    nic.log_to(log)
    nic.log_on()
    wait_all_marked(nic, log)
    for _ in range(5):
        nic.start_again(exact(nic, log, stream, 20, stop=True))


def see_through_lies(nic):
    """Let the driver take the length of a frame from the frame. Used lengths as they come."""
    pair, lengths = nic.net[0], []
    poll = pair.rx.poll

    def honest():
        done = poll()
        lengths.extend(used.length for used in done)
        heads = (nic.mem.read(pair._rx_base + used.token * pair.rx_size + NET_HDR_SIZE,
                              HEADER.size) for used in done)
        return [Used(used.token, NET_HDR_SIZE + HEADER.unpack(head)[6])
                for used, head in zip(done, heads)]
    pair.rx.poll = honest
    return lengths


@pytest.mark.parametrize('devargs, packed', [
    ('', False), ('', True), ('log=off', False), ('relay=always', True)],
    ids=['log-split', 'log-packed', 'mirrored-split', 'relayed-packed'])
def test_a_length_that_lies_marks_no_more_than_the_buffer(raw, devargs, packed):
    lie = 100000
    _, nic = raw(','.join(filter(None, [f'lie_len={lie}', devargs])), packed,
                 events=packed)
    lengths = see_through_lies(nic)
    stream = Stream(0, sizes=(200, 1400))
    log = Log(log_bytes(nic))
    nic.log_to(log)
    nic.log_on()
    wait_all_marked(nic, log)
    lengths.clear()
    for frames in (1, 10, 100):
        exact(nic, log, stream, frames)
    if devargs:
        assert set(lengths) == {nic.net[0].rx_size}, 'the relay clamps to the buffer'
    else:
        assert min(lengths) > lie, 'the device does not lie'
