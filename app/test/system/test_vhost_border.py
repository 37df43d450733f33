# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What the bus driver vhost promises beyond traffic: who is told, and who has to wait."""

import socket
import time
from typing import Dict

import pytest

import telemetry
from raw_nic import WANTED_PROTOCOL, RawNic
from traffic import Stream
from vhost_user import Protocol, bits
from vnet import run_flows

pytestmark = pytest.mark.every_release

LINK_UP = 1
CONFIG_CHANGE = 2
STOP_DEADLINE_US = 200000        # whoever waits for a device that hangs waits at least so long
STATUS_OFFSET = 6       # of struct virtio_net_config


def messages(backend) -> Dict[str, Dict[str, int]]:
    """Count and longest time of each kind of message, from the back end's telemetry."""
    return telemetry.ask(backend, '/vdpa/vhost/messages')


def report(title: str, seen: Dict[str, Dict[str, int]]) -> None:
    print(f'\n{title}: time on the event thread')
    for name, one in sorted(seen.items()):
        print(f'  {name:24} {one["count"]:6} times, at most {one["max_us"]:8} us')


@pytest.mark.ours
@pytest.mark.parametrize('hang', [None, 'start'], ids=['well', 'hangs-in-start'])
def test_only_the_stop_waits_for_a_device(make_backend, nics, hang):
    """A device that never comes back from its start holds no message; its stop ends in time."""
    backend = make_backend(sockets=2, pairs=2,
                           devargs=[f'hang_op={hang}' if hang else '', '']).start()
    sick, other = nics(pairs=2), nics(pairs=2)
    sick.bring_up(backend.paths[0])
    other.bring_up(backend.paths[1])
    streams = [Stream(0), Stream(1)]
    run_flows(other.flows(streams), 200)
    assert all(stream.books().clean() for stream in streams)
    start = time.monotonic()
    if hang:
        time.sleep(0.1)
    sick.stop()
    assert time.monotonic() - start < 2.0
    other.stop()
    seen = messages(backend)
    report('device ' + ('hangs' if hang else 'well'), seen)
    assert seen['SET_MEM_TABLE']['count'] >= 2 and seen['GET_VRING_BASE']['count'] >= 8
    assert 'SET_STATUS' in seen and 'SET_VRING_KICK' in seen
    for name, one in seen.items():
        if name != 'GET_VRING_BASE':
            assert one['max_us'] < STOP_DEADLINE_US, name
    assert seen['GET_VRING_BASE']['max_us'] < 1000000


def take_config_change(channel: socket.socket, timeout_s: float) -> bool:
    channel.settimeout(timeout_s)
    try:
        message = channel.recv(12)
    except TimeoutError:
        return False
    assert message == CONFIG_CHANGE.to_bytes(4, 'little') + b'\x01\0\0\0' + bytes(4)
    return True


def link(nic: RawNic) -> int:
    return nic.vu.get_config(0, 12)[STATUS_OFFSET] & LINK_UP


@pytest.mark.ours
def test_front_end_is_told_when_the_link_changes(make_backend, nics):
    """The other guest comes and goes: a message on the back-end channel, and the new status."""
    backend = make_backend(sockets=2, pairs=1, joined=True).start()
    protocol = WANTED_PROTOCOL | bits(Protocol.BACKEND_REQ, Protocol.CONFIG)
    nic = nics(protocol=protocol)
    nic.connect(backend.paths[0])
    nic.negotiate()
    channel = nic.vu.set_backend_req_fd()
    nic.agree()
    nic.start()
    while take_config_change(channel, 0.3):
        pass
    assert link(nic) == 0
    other = RawNic().bring_up(backend.paths[1])
    assert take_config_change(channel, 3.0)
    assert link(nic) == LINK_UP
    other.close()
    assert take_config_change(channel, 3.0)
    assert link(nic) == 0
    # A channel that nobody reads, and one that is closed, hold neither the back end nor its end.
    channel.close()
    other = RawNic().bring_up(backend.paths[1])
    other.close()
    nic.vu.get_features()
    assert backend.stop() == 0
