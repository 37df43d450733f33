# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Live swap: a front end moves from device to device under traffic; stand-ins; faults on the way."""

import re
import time

import pytest

from daemon import Daemon, Prompt, wait_listening
from migration import Nomad
from proc import wait_until
from raw_nic import BASIC
from traffic import Stream
from vhost_user import Feature, bits
from virtio_pci import BASIC as GUEST_BASIC
from virtio_pci import NetDriver
from vnet import run_flows

pytestmark = pytest.mark.ours

MAC = '02:00:00:00:57:a9'
MOVED = r'{0}: its front end moved to {1}'

# The parent for vendors to copy: a plug-in of its own.
SKELETON = {'mgmtdev': 'skeleton', 'backend': None, 'max_vqp': None}

# What the first and the second device have.
PAIRS = {
    'alike': ({}, {}),
    'no-start-index': ({}, {'state': 'get'}),
    'no-state': ({'state': 'off'}, {}),
    'no-log': ({}, {'log': 'off', 'state': 'get'}),
    'relayed': ({}, {'relay': 'always'}),
    'skeleton': (SKELETON, {}),
}


class Ferry:
    """A daemon with a front end at device a, a free device b, and a witness at device w."""

    def __init__(self, programs, tools, folder, nics, first, second, packed=False, bind=None):
        self.daemon = Daemon(programs, tools, folder)
        if SKELETON in (first, second):
            self.daemon.plugins = [str(tools.builddir / 'examples/vdpa_skeleton.so')]
        self.nics = nics
        devices = [
            self.daemon.device('a', bind=bind or {}, **{'mac': MAC, 'max_vqp': 1, **first}),
            self.daemon.device('b', **{'mac': MAC, 'max_vqp': 1, **second}),
            self.daemon.device('w', max_vqp=1)]
        del devices[1]['bind']
        self.program = self.daemon.start(
            ['--config', self.daemon.config(devices), '--interactive'])
        self.prompt = Prompt(self.program)
        wait_listening(self.daemon.socket('a'))
        features = BASIC | bits(Feature.MAC) | (bits(Feature.RING_PACKED) if packed else 0)
        self.nic = nics(features=features).bring_up(self.daemon.socket('a'))
        assert self.nic.has(Feature.RING_PACKED) == packed
        self.flows = self.nic.flows([Stream(0)])
        self.witness = nics().bring_up(self.daemon.socket('w'))
        self.witness_flows = self.witness.flows([Stream(1)])
        self.at = 'a'

    def pump(self):
        self.flows[0].pump(self.flows[0].stream.sent() + 8, 24)

    def swap(self, to=None):
        """Under traffic; what was answered."""
        to = to or ('b' if self.at == 'a' else 'a')
        answer = self.prompt.begin(f'swap {self.at} to {to}')

        def answered():
            self.pump()
            return answer()
        text = wait_until(answered, 30.0, 'the swap ends', 0)
        if re.search(MOVED.format(self.at, to), text, re.M):
            self.at = to
        return text

    def traffic(self, frames=100):
        run_flows(self.flows, frames, idle_s=5.0)

    def check(self, may_repeat=False):
        self.traffic()
        books = self.flows[0].stream.books()
        if may_repeat:
            assert not (books.lost or books.changed or books.reordered or books.foreign), str(books)
        else:
            assert books.clean(), str(books)
        self.check_witness()

    def check_witness(self):
        run_flows(self.witness_flows, 50, idle_s=5.0)
        assert self.witness_flows[0].stream.books().clean()


@pytest.fixture
def ferry(programs, tools, folder, nics):
    return lambda first=None, second=None, **options: Ferry(
        programs, tools, folder, nics, first or {}, second or {}, **options)


@pytest.mark.parametrize('pair, packed', [
    pytest.param(pair, packed, id=pair + ('-packed' if packed else '-split'))
    for pair in sorted(PAIRS) for packed in (False, True) if not (packed and pair == 'skeleton')])
def test_there_and_back(ferry, is_long, pair, packed):
    boat = ferry(*PAIRS[pair], packed=packed)
    pauses = []
    for _ in range(200 if is_long else 20):
        text = boat.swap()
        pauses.append(int(re.search(r'pause (\d+) us', text)[1]))
        boat.traffic(20)
    assert boat.at == 'a'
    # a device that does not tell where it stopped may send again what it had taken
    boat.check(may_repeat=pair == 'no-state')
    print(f'pause {sorted(pauses)[len(pauses) // 2]} us, at most {max(pauses)} us')
    assert boat.program.terminate(10.0) == 0


def test_the_former_device_is_free(ferry):
    """It can be bound, and serve another front end; the socket stays with the first one."""
    boat = ferry()
    boat.swap()
    listed = boat.prompt.list()
    assert listed['b']['front end'].startswith('vhost:' + boat.daemon.socket('a'))
    assert listed['a']['front end'].startswith('not bound')
    boat.prompt.ask(f'create {boat.daemon.socket("second")} a', 'a is bound to')
    other = boat.nics().bring_up(boat.daemon.socket('second'))
    flows = other.flows([Stream(7)])
    run_flows(flows, 200, idle_s=5.0)
    assert flows[0].stream.books().clean()
    boat.check()
    # it is in use now
    assert 'is bound to' in boat.swap() or 'is attached' in boat.program.text()
    boat.prompt.ask('delete b', 'b is not bound any more')
    run_flows(flows, 200, idle_s=5.0)
    assert flows[0].stream.books().clean()
    assert boat.program.terminate(10.0) == 0


def test_what_a_device_lacks_is_listed(ferry):
    boat = ferry(second={'mac': '02:00:00:00:00:01', 'mtu': 1400, 'relay': 'off', 'log': 'off'})
    text = boat.swap()
    assert 'b: its MAC address is 02:00:00:00:00:01, the consumer knows ' + MAC in text
    assert 'b: what it writes cannot be logged (relay=off)' in text
    assert 'error: b lacks part of what a was promised; a serves' in text
    assert boat.at == 'a'
    assert "error" in boat.prompt.ask('swap a to nobody', 'no such device')
    assert 'serves a already' in boat.swap('a')
    boat.check()


def test_what_the_skeleton_lacks_is_listed(ferry):
    """It cannot take over from a device that promised more than it has."""
    boat = ferry(second=SKELETON)
    text = boat.swap()
    for feature in ('MRG_RXBUF, which the consumer uses', 'RING_PACKED, which the consumer was offered',
                    'CTRL_VQ, which the consumer was offered'):
        assert f'b: it does not offer {feature}\n' in text
    assert 'b: it has 2 virtqueues, the consumer was offered 3\n' in text
    assert 'a control virtqueue' not in text
    assert 'b: it cannot announce a guest that has arrived' in text
    assert 'error: b lacks part of what a was promised; a serves' in text
    assert boat.at == 'a'
    boat.check()


@pytest.mark.parametrize('op', ['start', 'update_memory', 'reset'])
@pytest.mark.parametrize('fault', ['fail_op', 'hang_op'])
def test_the_other_device_is_sick(ferry, fault, op):
    """The front end stays where it was, or has moved; it never sees more than a pause."""
    boat = ferry(second={fault: op})
    text = boat.swap()
    assert ('error' in text) == (op == 'start'), text
    boat.check()
    assert boat.program.terminate(10.0) in ((0, 3) if fault == 'hang_op' else (0,))


@pytest.mark.parametrize('fault', ['fail_op', 'hang_op'])
def test_the_first_device_is_sick(ferry, fault):
    """It fails or hangs while it is asked to stop: the other one goes on where memory says."""
    boat = ferry(first={fault: 'stop'})
    text = boat.swap()
    assert boat.at == 'b', text
    assert ('by force' in text) == (fault == 'hang_op')
    boat.check(may_repeat=True)
    assert boat.program.terminate(10.0) in ((0, 3) if fault == 'hang_op' else (0,))


def test_stand_in(ferry):
    """The device hangs when it is switched; its stand-in takes over by itself."""
    boat = ferry(first={'hang_op': 'stop'}, bind={'standin': 'b'})
    assert boat.prompt.list()['a']['stand-in'] == 'b'
    boat.traffic()
    boat.prompt.ask('relay a always', 'a: relay always')

    def taken_over():
        boat.pump()
        return 'connected' == boat.prompt.list()['b']['front end'].split(', ')[-1]
    wait_until(taken_over, 20.0, 'the stand-in serves', 0.1)
    boat.check(may_repeat=True)
    assert boat.program.terminate(10.0) in (0, 3)


def test_front_end_dies_while_it_moves(ferry):
    boat = ferry()
    for _ in range(5):
        boat.traffic(50)
        boat.program.write('swap a to b\nswap b to a\n')
        boat.nic.disconnect()
        boat.check_witness()
        boat.nic.bring_up(boat.daemon.socket('a'))
        run_flows(boat.flows, 50, idle_s=5.0)
        if boat.prompt.list()['b']['front end'].startswith('vhost'):
            boat.prompt.ask('swap b to a', MOVED.format('b', 'a'))
    assert boat.program.terminate(10.0) == 0


def test_daemon_ends_while_it_moves(ferry):
    boat = ferry()
    boat.traffic(50)
    boat.program.write('swap a to b\nswap b to a\nswap a to b\n')
    start = time.monotonic()
    assert boat.program.terminate(10.0) == 0
    assert time.monotonic() - start < 6.0


@pytest.mark.usefixtures('need_qemu')
def test_a_guest_migrates_to_other_kinds_of_devices(make_backend, programs, tools, folder, is_long):
    """From a device with state and log to one without, and back."""
    backend = make_backend(sockets=2, devargs=['', 'state=get,log=off'],
                           options=['--interactive']).start()
    nomad = Nomad(programs, tools, folder, backend, 1)
    nomad.driver = NetDriver(nomad.machine, wanted=GUEST_BASIC, pairs=1).start()
    nomad.flows = nomad.driver.flows([Stream(0)])
    for _ in range(20 if is_long else 4):
        nomad.traffic(0.2)
        nomad.move()
    nomad.traffic(0.2)
    nomad.drain()
    books = nomad.flows[0].stream.books()
    assert books.clean() and books.received > 100, str(books)
