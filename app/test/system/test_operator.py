# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What an operator does with a network device that serves a guest."""

import re

import pytest

from daemon import Prompt
from linux import boot, connect_pair, exchange, linux_kernel, ping, serve, without
from proc import wait_until

__all__ = ['boot', 'linux_kernel', 'serve']     # fixtures

pytestmark = pytest.mark.ours

FRAMES = 2000
DEVICE = 'vdpa_sw_net0'


class Operator:
    """At the prompt of the daemon that serves."""

    def __init__(self, served):
        self.prompt = Prompt(served.backend.running_program)

    def ask(self, command: str, answer: str) -> str:
        return self.prompt.ask(command, answer)

    def set(self, *words: str, device: str = DEVICE) -> None:
        """Change the device."""
        answer = self.ask(f'set {device} {" ".join(words)}', rf'(?m)^(error: .*|{device}: .*)$')
        assert 'error' not in answer, answer

    def link(self, device: str = DEVICE) -> str:
        """The line `link` of `list`."""
        return self.prompt.list()[device]['link']


@pytest.fixture
def operated(serve):
    """serve() of linux.py, and the operator of what it serves."""
    def start(devargs: str = '', **options):
        served = serve(devargs, options=['--interactive'], **options)
        return served, Operator(served)
    return start


def detected(guest) -> bool:
    text = guest.run('ethtool', 'eth0').out
    return {'yes': True, 'no': False}[re.search(r'Link detected: (\w+)', text).group(1)]


def test_link_down_and_up(operated, boot):
    served, operator = operated()
    with boot(*served.paths) as guest:
        guest.nic_up()
        for run in range(1, 4):
            exchange(guest, FRAMES, run=run)
            operator.set('link', 'down')
            guest.wait_carrier(False)
            assert not detected(guest)
            assert operator.link().startswith('down')
            operator.set('link', 'up')
            guest.wait_carrier(True)
            assert detected(guest)
        exchange(guest, FRAMES, run=9)


def test_cable_is_pulled_in_traffic(operated, boot):
    """Both ends see it; what is sent meanwhile is dropped, not kept."""
    served, operator = operated(sockets=2, joined=True)
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        ping(left, '10.9.0.2', 3)
        for device in (DEVICE, 'vdpa_sw_net1'):
            load = left.begin('send_frames', name='eth0', seconds=1, run=1)
            operator.set('link', 'down', device=device)
            for guest in (left, right):
                guest.wait_carrier(False)
            load.result()
            operator.set('link', 'up', device=device)
            for guest in (left, right):
                guest.wait_carrier(True)
            ping(left, '10.9.0.2', 3)
            ping(right, '10.9.0.1', 3)


def test_mtu_is_the_next_drivers(operated, boot):
    """A running driver keeps the MTU that it read (virtio 1.2, 5.1.4.1), the next one reads anew."""
    served, operator = operated('mtu=9000,' + without(mtu=True))
    with boot(*served.paths) as guest:
        nic = guest.nic_up()
        assert nic['mtu'] == 9000
        operator.set('mtu', '4000')
        exchange(guest, FRAMES, largest=9014, window=24)
        assert operator.link().endswith('mtu 9000')
        guest.unbind(nic)
        wait_until(lambda: operator.link().endswith('mtu 4000'), 5.0, 'the new MTU', 0.1)
        guest.bind(nic)
        assert guest.nic_up()['mtu'] == 4000
        exchange(guest, FRAMES, run=2, largest=4014, window=24)


def test_mac_is_set_before_a_driver_comes(operated, boot):
    served, operator = operated()
    operator.set('mac', '02:00:00:00:aa:01', 'link', 'down')
    operator.set('link', 'up')
    with boot(*served.paths) as guest:
        assert guest.nic_up()['mac'] == '02:00:00:00:aa:01'
        answer = operator.ask(f'set {DEVICE} mac 02:00:00:00:aa:02', '(?m)^error: .*$')
        assert 'mac' in answer and 'no driver' in answer, answer
        exchange(guest, FRAMES)


@pytest.mark.parametrize('words, says', [
    ('nobody link up', 'nobody: no such device'),
    (f'{DEVICE} link sideways', 'link=sideways: expected one of up, down'),
    (f'{DEVICE} speed 10', 'speed=10: unknown key, expected one of link'),
    (f'{DEVICE} link down mtu', 'mtu: expected a value'),
    (f'{DEVICE} link down mtu 1400', 'without mtu='),
    (f'{DEVICE} link down,mtu=1', "must not contain ','"),
])
def test_wrong_change(operated, words, says):
    _, operator = operated()
    answer = operator.ask('set ' + words, '(?m)^error: .*$')
    assert says in answer
    assert operator.link().startswith('up')
