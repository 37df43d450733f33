# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Stock dpdk-testpmd (net_virtio_user) in io and macswap against the back end.

testpmd compares no contents. But a lost frame is never sent again, so that in the end, after taking
what is still on its way without sending, it has received exactly as many frames as it sent.
"""

import time

import pytest

from migration import mode_of, switch
from proc import wait_until
from testpmd import Testpmd

pytestmark = pytest.mark.every_release

FIRST_BURST = 32

FORMATS = {
    'split': '',
    'split-nomrg': 'mrg_rxbuf=0',
    'split-inorder': 'in_order=1',
    'packed': 'packed_vq=1',
    'packed-nomrg': 'packed_vq=1,mrg_rxbuf=0',
    'packed-inorder': 'packed_vq=1,in_order=1',
}


CASES = [(shape, queues, 'io') for shape in FORMATS for queues in (1, 4)]
CASES += [('split', 4, 'macswap'), ('packed', 4, 'macswap')]


@pytest.mark.parametrize('shape, queues, mode', CASES)
def test_every_frame_comes_back(need_testpmd, make_backend, programs, tools, folder, is_long,
                                shape, queues, mode):
    backend = make_backend(pairs=queues).start()
    front = Testpmd(programs, tools, folder, backend.path, queues=queues, mode=mode,
                    devargs=FORMATS[shape])
    front.command('start tx_first 1')
    time.sleep(20 if is_long else 0.5)
    wanted = 10 * FIRST_BURST * queues
    wait_until(lambda: front.stats()['TX-packets'] > wanted, 10, f'{wanted} frames are sent')
    counters = front.drain()
    assert counters['RX-packets'] == counters['TX-packets']
    assert counters['RX-missed'] == counters['RX-errors'] == counters['TX-errors'] == 0
    assert front.quit() == 0
    backend.expect_alive()


def test_front_end_quits_and_comes_again(need_testpmd, make_backend, programs, tools, folder):
    backend = make_backend(pairs=2).start()
    for _ in range(3):
        front = Testpmd(programs, tools, folder, backend.path, queues=2)
        front.command('start tx_first 1')
        counters = front.drain()
        assert counters['RX-packets'] == counters['TX-packets'] >= 2 * FIRST_BURST
        assert front.quit() == 0


def test_port_stopped_and_started_in_traffic(need_testpmd, make_backend, programs, tools, folder):
    backend = make_backend(pairs=2).start()
    front = Testpmd(programs, tools, folder, backend.path, queues=2)
    for _ in range(5):
        front.command('start tx_first 1')
        front.command('stop')
        front.command('port stop 0')
        front.command('port start 0')
    before = front.stats()
    front.command('start tx_first 1')
    time.sleep(0.2)
    counters = front.drain()
    sent = counters['TX-packets'] - before['TX-packets']
    assert sent >= 2 * FIRST_BURST
    assert counters['RX-packets'] - before['RX-packets'] == sent
    backend.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('shape', ['split', 'packed', 'packed-inorder'])
def test_relayed_and_direct_by_turns(need_testpmd, make_backend, programs, tools, folder, is_long,
                                     shape):
    """A driver that polls, and asks for no interrupt."""
    backend = make_backend(pairs=2, options=['--interactive']).start()
    front = Testpmd(programs, tools, folder, backend.path, queues=2, devargs=FORMATS[shape])
    front.command('start tx_first 1')
    for turn in range(40 if is_long else 4):
        relayed = turn % 2 == 0
        before = switch(backend, 0, relayed)['relayed']
        received = front.stats()['RX-packets']
        time.sleep(1 if is_long else 0.1)
        wait_until(lambda: front.stats()['RX-packets'] > received, 10, 'traffic goes on')
        if relayed:
            wait_until(lambda: mode_of(backend, 0)['relayed'] > before, 10, 'the relay has it')
        else:
            assert mode_of(backend, 0)['relayed'] == before
    wait_until(lambda: front.stats()['TX-packets'] > 10 * FIRST_BURST, 10, 'enough is sent')
    counters = front.drain()
    assert counters['RX-packets'] == counters['TX-packets']
    assert counters['RX-missed'] == counters['RX-errors'] == counters['TX-errors'] == 0
    assert front.quit() == 0
    backend.expect_alive()
