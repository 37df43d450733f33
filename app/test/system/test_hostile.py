# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Hostile and broken front ends against the back end, one at a time.

Each has a witness: another front end on another socket of the same process, whose messages must be
answered within a second and whose frames must all come back.
"""

import dataclasses
import os
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import pytest

import hostile
from backend import KINDS
from proc import ProgramError, ProgramSet, wait_until
from raw_nic import BASIC, WANTED_PROTOCOL, RawNic, works
from traffic import Stream
from vhost_user import HEADER, Disconnected, Feature, NoAnswer, Protocol, Request, bits
from vnet import run_flows

pytestmark = pytest.mark.every_release

PACKED = bits(Feature.RING_PACKED)
INDIRECT = bits(Feature.INDIRECT_DESC)


class Arena:
    """A back end with two sockets: the first for the hostile front end, the second has the witness."""

    def __init__(self, kind, tools):
        self.folder = Path(tempfile.mkdtemp(prefix='vt-'))
        self.programs = ProgramSet(self.folder)
        self.backend = kind(self.programs, tools, self.folder, sockets=2, pairs=2).start()
        self.witness = RawNic(pairs=2).bring_up(self.backend.paths[1])
        self.streams = [Stream(0), Stream(1)]
        self.check()
        self.check_target()             # a device keeps what its first start made
        self.calm = self.backend.settled_resources()
        self.allowed = self.calm.descriptors

    @property
    def target(self) -> str:
        return self.backend.paths[0]

    def answered(self) -> float:
        """Seconds that the witness waits for an answer."""
        start = time.monotonic()
        self.witness.vu.get_features()
        return time.monotonic() - start

    def check(self) -> None:
        """The back end lives, answers within a second, and loses no frame."""
        self.backend.expect_alive()
        slowest = self.answered()
        run_flows(self.witness.flows(self.streams), 50)
        for stream in self.streams:
            assert stream.books().clean(), f'witness: {stream.books()}'
        slowest = max(slowest, self.answered())
        assert slowest < 1.0, f'the witness waited {slowest:.2f} s for an answer'

    def check_target(self) -> None:
        """The attacked socket takes a good front end once the hostile one has gone."""
        wait_until(lambda: works(self.target), 3.0, 'a good front end on the attacked socket')

    def check_descriptors(self, leak: int = 0) -> None:
        """All descriptors that the hostile front end sent are closed, but for leak of them."""
        try:
            wait_until(lambda: self.descriptors() <= self.allowed + leak, 2.0,
                       f'{self.allowed + leak} descriptors open')
        except ProgramError as error:
            base = Path('/proc') / str(self.backend.pid) / 'fd'
            links = sorted(f'{p.name} {os.readlink(p)}' for p in base.iterdir())
            raise ProgramError(f'{error}: {links}') from None
        self.allowed = max(self.allowed, self.descriptors())

    def descriptors(self) -> int:
        return self.backend.running_program.resources().descriptors

    def close(self) -> None:
        """End it; may be called again."""
        self.programs.end_all()
        self.witness.disconnect()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope='module')
def arena_holder():
    """One back end for all hostile tests."""
    holder = []
    yield holder
    for arena in holder:
        arena.close()


@pytest.fixture
def arena(request, tools, make_backend, arena_holder):
    """The running back end; a new one after a test that failed."""
    if not arena_holder:
        arena_holder.append(Arena(KINDS[request.config.getoption('--backend')], tools))
    failed_before = request.session.testsfailed
    yield arena_holder[0]
    if request.session.testsfailed > failed_before:
        arena_holder.pop().close()


def hostile_nic(arena, nics, negotiate=True, start=True, **options):
    """A front end on the attacked socket that does not wait for acknowledgements."""
    wait_until(lambda: works(arena.target), 3.0, 'the attacked socket is free')
    nic = nics(pairs=2, **options)

    def connected() -> bool:
        nic.connect(arena.target)
        return not nic.vu.hung_up_within(0.02)
    wait_until(connected, 3.0, 'the attacked socket takes a front end')
    if negotiate:
        nic.negotiate()
        nic.agree()
    if start:
        nic.start()
    nic.vu.acknowledge = False
    return nic


# Stock librte_vhost refuses these before its hooks run, and forgets the descriptor that came with them:
# (series, sequence).
NEWER = ('24.11', '25.11')
LEAKS = {(series, f'{request}_{index}') for series in NEWER for index in (200, 0xffffffff)
         for request in ('SET_VRING_KICK', 'SET_VRING_CALL', 'SET_VRING_ERR')}


def attack(arena, nic, sequence, leak: int = 0) -> None:
    """Do it with frames on their way, look after the others, leave, look again.

    In the end the attacked socket takes a good front end, and nothing that was sent is still open."""
    if nic.net:
        for flow in nic.flows([Stream(7), Stream(8)]):
            flow.pump(100)
    try:
        sequence()
        for kick in nic.kicks:
            kick.signal()
    except (Disconnected, TimeoutError):
        pass
    arena.check()
    time.sleep(0.02)
    nic.disconnect()
    arena.check()
    arena.check_target()
    arena.check_descriptors(leak)


@pytest.mark.ours
@pytest.mark.parametrize('data', [
    HEADER.pack(Request.SET_FEATURES, 1, 8),
    HEADER.pack(Request.SET_FEATURES, 1, 8)[:6],
    HEADER.pack(Request.SET_FEATURES, 1, 8) + bytes(3),
    HEADER.pack(Request.SET_MEM_TABLE, 1, 40) + bytes(8),
], ids=['header', 'half-a-header', 'part-of-the-payload', 'memory-table'])
@pytest.mark.parametrize('state', ['connected', 'running'])
def test_message_that_never_ends(arena, nics, data, state):
    """It loses its connection, the others are answered within a second."""
    nic = hostile_nic(arena, nics, negotiate=state == 'running', start=state == 'running')
    nic.vu.send_bytes(data)
    assert arena.answered() < 1.0
    assert nic.vu.hung_up_within(10.0), 'still connected'
    arena.check()


@pytest.mark.ours
def test_front_end_that_never_reads(arena, nics):
    """It loses its connection, the others are answered within a second."""
    nic = hostile_nic(arena, nics)
    nic.vu.socket.setblocking(False)
    try:
        for _ in range(100000):
            nic.vu.send(Request.GET_FEATURES)
    except (BlockingIOError, Disconnected):
        pass
    assert arena.answered() < 1.0
    assert nic.vu.hung_up_within(10.0), 'still connected'
    arena.check()


@pytest.mark.ours
@pytest.mark.parametrize('to', ['nothing', 'half'])
@pytest.mark.parametrize('moment', ['in-traffic', 'before-the-rings', 'before-features'])
def test_front_end_that_truncates_its_memory(arena, nics, moment, to):
    """The process lives on, the others notice nothing."""
    nic = hostile_nic(arena, nics, sealed=False, negotiate=moment != 'before-features',
                      start=moment == 'in-traffic')
    size = nic.ram.size // 2 if to == 'half' else 0

    def shrink() -> None:
        if moment == 'in-traffic':
            os.ftruncate(nic.ram.fd, size)
            return
        nic.make_rings()
        nic.vu.set_mem_table(nic.mem)
        nic.vu.get_features()       # the table is taken over before the file is cut
        # Ring addresses lie at the start of the memory: only 'nothing' takes them away.
        os.ftruncate(nic.ram.fd, size)
        for index in range(4):
            nic.vu.set_vring_num(index, nic.ring_size)
            nic.vu.set_vring_base(index, 0)
            nic.set_ring_addr(index)
            nic.vu.set_vring_kick(index, nic.kicks[index].fd)
            nic.vu.set_vring_call(index, nic.calls[index].fd)
            nic.vu.set_vring_enable(index, True)
        nic.set_status(15)
    attack(arena, nic, shrink)


@pytest.mark.ours
@pytest.mark.parametrize('name', sorted(hostile.EARLY))
def test_bad_message_at_the_start(arena, nics, tools, name):
    nic = hostile_nic(arena, nics, start=False)
    attack(arena, nic, lambda: hostile.EARLY[name](nic, nic.vu),
           (tools.dpdk_series, name) in LEAKS)


@pytest.mark.ours
@pytest.mark.parametrize('name', sorted(hostile.RUNNING))
@pytest.mark.parametrize('protocol', [WANTED_PROTOCOL, bits(Protocol.MQ)],
                         ids=['status', 'plain'])
def test_bad_message_while_running(arena, nics, tools, name, protocol):
    nic = hostile_nic(arena, nics, protocol=protocol)
    attack(arena, nic, lambda: hostile.RUNNING[name](nic, nic.vu),
           (tools.dpdk_series, name) in LEAKS)


@pytest.mark.ours
@pytest.mark.parametrize('name', sorted(hostile.INDEXES))
def test_ring_index_out_of_range(arena, nics, tools, name):
    nic = hostile_nic(arena, nics)
    attack(arena, nic, lambda: hostile.INDEXES[name](nic, nic.vu),
           (tools.dpdk_series, name) in LEAKS)


@pytest.mark.ours
@pytest.mark.parametrize('name', sorted(hostile.RINGS))
def test_bad_split_ring(arena, nics, name):
    nic = hostile_nic(arena, nics, features=BASIC | INDIRECT)
    if nic.features & INDIRECT != INDIRECT and name.startswith('indirect'):
        pytest.fail('INDIRECT_DESC is not offered')
    attack(arena, nic, lambda: hostile.RINGS[name](nic))


@pytest.mark.ours
@pytest.mark.parametrize('name', sorted(hostile.PACKED_RINGS))
def test_bad_packed_ring(arena, nics, name):
    nic = hostile_nic(arena, nics, features=BASIC | PACKED | INDIRECT)
    assert nic.has(Feature.RING_PACKED)
    attack(arena, nic, lambda: hostile.spoil_packed(nic, *hostile.PACKED_RINGS[name]))


def random_messages(chance, nic) -> None:
    """Known sequences and messages with random payloads, one after another on one connection."""
    known = [*hostile.RUNNING.values(), *hostile.RINGS.values()]
    slow = hostile.RUNNING['enable_storm']
    for _ in range(30):
        if chance.random() < 0.5:
            sequence = chance.choice(known)
            if sequence is not slow:
                sequence(*(nic, nic.vu)[:sequence.__code__.co_argcount])
            continue
        fds = [chance.choice([nic.ram.fd, nic.kicks[0].fd, nic.calls[1].fd])
               for _ in range(chance.choice([0, 0, 1, 1, 2, 8]))]
        words = [chance.choice([0, 1, 2, 3, 8, 255, 1 << 31, nic.ram.size, 2 ** 64 - 1, nic.ram.gpa,
                                nic.ram.user_addr, chance.getrandbits(64)])
                 for _ in range(chance.choice([0, 1, 1, 2, 5, 9]))]
        nic.vu.send(chance.randint(1, 41), struct.pack(f'={len(words)}Q', *words), fds,
                    need_reply=chance.random() < 0.3)


@pytest.mark.ours
def test_random_messages(arena, nics, is_long):
    """The seed of a failure is in its message.

    Stock librte_vhost forgets the descriptors of the message for which it ends a connection because of
    a ring index out of range, before its hooks run."""
    for seed in range(1000 if is_long else 40):
        chance = random.Random(seed)
        nic = hostile_nic(arena, nics)
        nic.vu.socket.settimeout(1.0)       # answers are not read: it may get stuck
        try:
            attack(arena, nic, lambda: random_messages(chance, nic), leak=8)
        except (AssertionError, NoAnswer) as error:
            raise AssertionError(f'seed {seed}: {error}') from error


@pytest.mark.ours
def test_hostile_front_ends_left_nothing_behind(arena):
    """Runs after the attacks above, on the back end that saw them."""
    arena.check_target()
    calm = dataclasses.replace(arena.calm, descriptors=arena.allowed)
    arena.backend.expect_no_growth(calm, rss_kib=8192)
    assert arena.backend.stop() == 0, 'no clean end after the attacks'
    arena.close()
