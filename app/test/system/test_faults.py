# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A device whose ops hang or fail, beside a healthy one in the same process.

Whatever the sick device does, the messages of the healthy one's front end are answered within a second,
its frames come back, and the process ends in time.
"""

import time

import pytest

from guest_memory import Region, create_memory_file
from proc import ProgramError, wait_until
from raw_nic import BASIC, RawNic
from traffic import Stream
from vhost_user import Disconnected, Feature, NoAnswer, Protocol, bits
from vnet import run_flows

pytestmark = pytest.mark.ours

OPS = ['start', 'stop', 'reset', 'vq_start', 'vq_stop', 'set_active_queues', 'cvq', 'update_memory']
PROTOCOL = bits(Protocol.MQ, Protocol.REPLY_ACK, Protocol.STATUS, Protocol.CONFIG)
STOP_LIMIT_S = 6.0      # every deadline of a stop, and a loaded machine
FENCED = 3


def live_a_life(nic: RawNic) -> None:
    """All that a front end does, without expecting that it works."""
    nic.negotiate()
    nic.vu.get_config(0, 12)
    nic.agree()
    nic.start()
    run_flows(nic.flows([Stream(5), Stream(6)]), 20, idle_s=0.1)
    nic.mem.add(Region(1 << 32, 1 << 20, create_memory_file('more', 1 << 20, True)))
    nic.vu.set_mem_table(nic.mem)
    for enable in (False, True):
        for index in (2, 3):
            nic.vu.set_vring_enable(index, enable)
    run_flows(nic.flows([Stream(5), Stream(6)]), 20, idle_s=0.1)
    nic.stop()
    nic.set_status(0)


@pytest.mark.parametrize('op', OPS)
@pytest.mark.parametrize('fault', ['hang_op', 'fail_op'])
def test_sick_device_beside_a_healthy_one(make_backend, nics, fault, op):
    backend = make_backend(sockets=2, pairs=2, devargs=[f'{fault}={op}', '']).start()
    witness = nics(pairs=2).bring_up(backend.paths[1])
    streams = [Stream(0), Stream(1)]

    def check_witness() -> None:
        start = time.monotonic()
        witness.vu.get_features()
        assert time.monotonic() - start < 1.0, 'the healthy device waits for the sick one'
        run_flows(witness.flows(streams), 50)
        for stream in streams:
            assert stream.books().clean(), str(stream.books())

    for _ in range(2):
        sick = nics(pairs=2, protocol=PROTOCOL)
        try:
            live_a_life(sick.connect(backend.paths[0], timeout_s=3.0))
        except (Disconnected, NoAnswer, RuntimeError):
            pass        # a sick device may refuse
        check_witness()
        sick.disconnect()
        check_witness()
    start = time.monotonic()
    code = backend.stop()
    assert time.monotonic() - start < STOP_LIMIT_S
    assert code in ((0, FENCED) if fault == 'hang_op' else (0,))


def test_device_whose_config_space_fails_is_not_made(make_backend):
    """It is read when the device is made: that is refused, and the message says why."""
    backend = make_backend(devargs='fail_op=config_read')
    with pytest.raises(ProgramError, match='ended with 1'):
        backend.start()
    assert 'config_read' in backend.running_program.text()


@pytest.mark.parametrize('relay, packed', [('auto', True), ('always', False), ('always', True)],
                         ids=['direct-packed', 'relayed-split', 'relayed-packed'])
def test_a_device_that_completes_nothing_more_stops_when_told(make_backend, nics, relay, packed):
    """Frames before that are back, its positions are told in time and tell no more than that."""
    done = 300
    backend = make_backend(sockets=2, devargs=[f'hang_after={done},relay={relay}', '']).start()
    features = BASIC | (bits(Feature.RING_PACKED) if packed else 0)
    sick, witness = (nics(features=features).bring_up(path) for path in backend.paths)
    stream, other = Stream(0), Stream(1)
    flow, = sick.flows([stream])

    def came():
        flow.pump(400)
        return stream.books().received >= done
    wait_until(came, 10, 'the first are back')
    run_flows([flow], 100, idle_s=0.2)
    books = stream.books()
    assert books.received == done and books.lost == list(range(done, stream.sent())), str(books)
    assert stream.outstanding()
    run_flows(witness.flows([other]), 500)
    start = time.monotonic()
    bases = sick.stop()
    assert time.monotonic() - start < STOP_LIMIT_S
    sick.net[0].reclaim()
    sick.net[0].receive_only()
    assert stream.books().received == done
    assert [base & 0xffff for base in bases] == [ring.base() & 0xffff for ring in sick.rings]
    sick.disconnect()
    run_flows(witness.flows([other]), 500)
    assert other.books().clean(), str(other.books())
    assert backend.stop() == 0


def test_a_delayed_device_is_only_late(make_backend, nics):
    backend = make_backend(sockets=2, pairs=2, devargs=['delay_us=20000', '']).start()
    late, quick = (nics(pairs=2).bring_up(path) for path in backend.paths)
    streams = [Stream(0), Stream(1)]
    run_flows(late.flows(streams), 50)
    for stream in streams:
        assert stream.books().clean(), str(stream.books())
    others = [Stream(2), Stream(3)]
    run_flows(quick.flows(others), 2000)
    for stream in others:
        assert stream.books().clean(), str(stream.books())
