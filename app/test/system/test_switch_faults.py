# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What goes wrong while a device switches between its guest's rings and the relay's.

The result is defined: messages are answered in time or the connection ends; a device that failed says
so; what the log promised holds; a neighbour in the same process never notices.
"""

import random
import time

import pytest

from daemon import Prompt
from migration import mode_of
from proc import wait_until
from raw_nic import BASIC, RawNic
from test_dirty_log import Log, LoggedNic, log_bytes
from traffic import Stream
from vhost_user import Disconnected, Feature, NoAnswer, bits
from vnet import run_flows

pytestmark = pytest.mark.ours

FENCED = 3
STOP_LIMIT_S = 6.0

# What happens from the start on: start, stop and start into the relay (or dirty_start), stop and
# start back.
PHASES = {
    'stopping-for-relay': ('stop', 1, 'log=off'),
    'mapping-shadow-rings': ('update_memory', 1, 'log=off'),
    'starting-relayed': ('start', 2, 'log=off'),
    'stopping-for-direct': ('stop', 2, 'log=off'),
    'starting-direct': ('start', 3, 'log=off'),
    'starting-the-log': ('dirty_start', 1, 'log=on'),
}
ERRORS = {'update_memory': 'mapping memory'}
ENDS = (Disconnected, NoAnswer)


@pytest.fixture
def make_logged(nics):
    made = []

    def make(path, packed=False):
        nic = LoggedNic(features=BASIC | bits(Feature.LOG_ALL) |
                        (bits(Feature.RING_PACKED) if packed else 0))
        made.append(nic)

        def agreed():
            """The former front end may not have gone yet: a second one is refused."""
            try:
                return nic.connect(path).negotiate()
            except Disconnected:
                return 0
        wait_until(agreed, 5, 'the socket takes a front end')
        assert nic.has(Feature.LOG_ALL)
        nic.features &= ~bits(Feature.LOG_ALL)
        nic.agree()
        nic.start()
        return nic
    yield make
    for nic in made:
        nic.close()


class Witness:
    """A healthy neighbour: answered at once, its frames come back."""

    def __init__(self, nic: RawNic):
        self.nic, self.stream = nic, Stream(0)

    def check(self, frames=50):
        start = time.monotonic()
        self.nic.vu.get_features()
        assert time.monotonic() - start < 1.0, 'the healthy device waits for the sick one'
        run_flows(self.nic.flows([self.stream]), frames)
        assert self.stream.books().clean(), str(self.stream.books())


def expect_said(backend, fault, op):
    """It is shown what failed; a failed stop is mended by a reset, a failed log by the relay."""
    shown = Prompt(backend.running_program).list()['vdpa_sw_net0']
    mended = fault == 'fail_op' and op in ('stop', 'dirty_start')
    assert ('health ok' if mended else 'health failed') in shown['state'], shown
    if fault == 'hang_op':
        assert shown['last error'].endswith('did not return in time: fenced'), shown
    else:
        assert shown['last error'] == f'{ERRORS.get(op, op)}: Input/output error', shown


@pytest.mark.parametrize('phase', sorted(PHASES))
@pytest.mark.parametrize('fault', ['fail_op', 'hang_op'])
def test_device_fails(make_backend, nics, make_logged, fault, phase):
    op, call, devargs = PHASES[phase]
    backend = make_backend(sockets=2, devargs=[f'{devargs},{fault}={op},fault_from={call}', ''],
                           options=['--interactive']).start()
    witness = Witness(nics().bring_up(backend.paths[1]))
    sick = make_logged(backend.paths[0])
    stream = Stream(1)
    log = Log(log_bytes(sick))
    bases = None
    try:
        run_flows(sick.flows([stream]), 50)
        assert stream.books().clean(), 'healthy up to here'
        sick.log_to(log)
        for on in (True, False, True):
            memory = sick.snapshot()
            sick.log_on(on)
            run_flows(sick.flows([stream]), 50, idle_s=0.5)
            witness.check()
        memory = sick.snapshot()
        run_flows(sick.flows([stream]), 50, idle_s=0.2)
        bases = sick.stop()
    except ENDS:
        pass
    witness.check()
    expect_said(backend, fault, op)
    books = stream.books()
    assert not (books.changed or books.reordered or books.repeated or books.foreign), str(books)
    if bases is not None:       # answered: then the log is as true as ever
        missing = sick.changed_by_device(memory) - log.pages()
        assert not missing, f'missing {sorted(missing)}'
    sick.disconnect()
    witness.check()
    start = time.monotonic()
    code = backend.stop()
    assert time.monotonic() - start < STOP_LIMIT_S
    assert code == (FENCED if fault == 'hang_op' else 0)


@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
@pytest.mark.parametrize('devargs', ['log=off', ''], ids=['mirrored', 'log'])
def test_front_end_goes_in_the_middle(make_backend, nics, make_logged, is_long, devargs, packed):
    """At any moment of a switch, with and without a stop before: the next one finds all well."""
    backend = make_backend(sockets=2, devargs=[devargs, ''], options=['--interactive']).start()
    witness = Witness(nics().bring_up(backend.paths[1]))
    rng = random.Random(5)
    before = None
    for turn in range(300 if is_long else 15):
        sick = make_logged(backend.paths[0], packed)
        stream = Stream(turn)
        run_flows(sick.flows([stream]), 20)
        assert stream.books().clean(), str(stream.books())
        log = Log(log_bytes(sick))
        sick.log_to(log)
        sick.vu.acknowledge = False
        for on in (True, False, True)[:rng.randint(1, 3)]:
            sick.log_on(on)
            time.sleep(rng.choice([0, 0.0005, 0.002]))
        if rng.random() < 0.3:
            sick.stop()
        sick.close()
        if turn == 9:
            witness.check(500)      # what its frames touch first is no growth
            before = backend.settled_resources()
    witness.check(500)
    backend.expect_no_growth(before)
    assert mode_of(backend, 1)['mode'] == 'direct'
    assert backend.stop() == 0


@pytest.mark.parametrize('devargs', ['log=off', ''], ids=['mirrored', 'log'])
def test_daemon_killed_in_the_middle(make_backend, make_logged, is_long, devargs):
    """The front end's memory holds all that a new daemon needs: frames are lost or repeated by none."""
    backend = make_backend(devargs=devargs, options=['--interactive']).start()
    rng = random.Random(6)
    nic = make_logged(backend.path)
    stream = Stream(0)
    for turn in range(50 if is_long else 2):
        run_flows(nic.flows([stream]), 50)
        log = Log(log_bytes(nic))
        nic.log_to(log)
        nic.vu.acknowledge = False
        nic.log_on()
        for _ in range(rng.randint(0, 20)):
            nic.flows([stream])[0].pump(stream.sent() + 4)
        backend.kill()
        nic.disconnect()
        backend.start()
        nic.connect(backend.path)
        nic.negotiate()
        nic.features &= ~bits(Feature.LOG_ALL)
        nic.agree()
        nic.start()
        run_flows(nic.flows([stream]), 50)
        books = stream.books()
        assert not (books.lost or books.changed or books.foreign), str(books)
    backend.expect_alive()
