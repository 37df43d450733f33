# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Our devices in a program that knows librte_vhost and nothing of us: plug-ins by -d, found by
name. Its sockets are not ours: librte_vhost passes its own features there, and the hooks come late.
"""

import signal
import time
from pathlib import Path

import pytest

from backend import listening
from proc import wait_until
from raw_nic import RawNic, works
from traffic import Stream
from vhost_user import HEADER, Disconnected, Feature, NoAnswer, Protocol, Request, bits, connect
from vnet import run_flows

pytestmark = pytest.mark.every_release

# They say something about configuration space, which a stock socket does not pass, or librte_vhost
# does not know them.
NEVER = bits(Feature.MAC, Feature.MTU, Feature.STATUS, Feature.GUEST_ANNOUNCE,
             Feature.CTRL_MAC_ADDR, Feature.ACCESS_PLATFORM, Feature.NOTIFICATION_DATA,
             Feature.RING_RESET)
ALWAYS = bits(Feature.VERSION_1, Feature.PROTOCOL_FEATURES, Feature.MRG_RXBUF,
              Feature.RING_PACKED, Feature.EVENT_IDX, Feature.INDIRECT_DESC, Feature.IN_ORDER,
              Feature.MQ, Feature.CTRL_VQ)


class Stock:
    """vdpa-stock with `sockets` devices, each on a socket of its own."""

    def __init__(self, programs, tools, folder: Path, sockets: int = 2):
        built = tools.builddir / 'app/test/stock/vdpa-stock' if tools.builddir else None
        if built is None or not built.exists():
            pytest.skip('vdpa-stock not found: give --builddir')
        self.paths = [str(folder / f's{n}') for n in range(sockets)]
        argv = [str(built), '--no-huge', '-m', '256', '--no-pci', '--file-prefix', folder.name,
                '--lcores', '0@0', '-d', str(tools.builddir / 'drivers')]
        for number in range(sockets):
            argv += ['--vdev', f'vdpa_sw_net{number},max_vqp=2']
        argv += ['--'] + [f'vdpa_sw_net{n}={path}' for n, path in enumerate(self.paths)]
        self.program = programs.start(argv, name='vdpa-stock',
                                      env={'RUNTIME_DIRECTORY': str(folder)})
        wait_until(lambda: all(listening(path) for path in self.paths), 15.0, 'its sockets')

    def heard(self, line: str, timeout_s: float = 5.0) -> None:
        wait_until(lambda: line in self.program.text(), timeout_s, line)

    def stop(self) -> None:
        assert self.program.terminate() == 0, self.program.tail()


@pytest.fixture
def stock(programs, tools, folder) -> Stock:
    return Stock(programs, tools, folder)


def clean_traffic(nic: RawNic, frames: int = 200) -> None:
    streams = [Stream(n) for n in range(nic.pairs)]
    run_flows(nic.flows(streams), frames)
    for stream in streams:
        assert stream.books().clean(), str(stream.books())


def test_offers_what_librte_vhost_passes_and_serves_it(stock, nics):
    nic = nics(pairs=2)
    nic.connect(stock.paths[0])
    offered = nic.negotiate()
    assert offered & NEVER == 0, hex(offered & NEVER)
    assert offered & ALWAYS == ALWAYS, hex(~offered & ALWAYS)
    protocol = nic.vu.get_protocol_features()
    assert protocol == bits(Protocol.MQ, Protocol.LOG_SHMFD, Protocol.RARP, Protocol.REPLY_ACK,
                            Protocol.BACKEND_REQ, Protocol.STATUS)
    assert nic.vu.get_queue_num() == 5      # two pairs and a control queue, as a count of rings
    nic.agree()
    nic.start()
    clean_traffic(nic)
    nic.disconnect()
    stock.heard('connection 0 ends')
    assert works(stock.paths[0])
    stock.stop()
    # Frames and what they were counted as, by DPDK's own statistics of vDPA devices.
    assert 'vdpa_sw_net0: queue 0 packets ' in stock.program.text()


@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_stops_and_starts_where_it_was(stock, nics, packed):
    features = bits(Feature.VERSION_1, Feature.PROTOCOL_FEATURES, Feature.MRG_RXBUF)
    features |= bits(Feature.RING_PACKED) if packed else 0
    nic = nics(pairs=2, features=features).bring_up(stock.paths[0])
    for _ in range(5):
        clean_traffic(nic, 300)
        bases = nic.stop()
        for index, base in enumerate(bases):
            nic.start_ring(index, base)
        for index in range(len(bases)):
            nic.vu.set_vring_enable(index, True)
        nic.set_status(15)
    clean_traffic(nic)
    stock.stop()


def test_second_front_end_is_sent_away(stock, nics):
    nic = nics(pairs=2).bring_up(stock.paths[0])
    clean_traffic(nic)
    second = nics(pairs=2)
    with pytest.raises((Disconnected, NoAnswer)):
        second.bring_up(stock.paths[0])
        second.vu.get_features()
    clean_traffic(nic)
    stock.stop()


def test_half_a_message_holds_nobody_else(stock, nics):
    """The hooks of a stock socket come with the first op: from SET_FEATURES on."""
    witness = nics(pairs=2).bring_up(stock.paths[1])
    hostile = nics(pairs=2).bring_up(stock.paths[0])
    hostile.vu.send_bytes(HEADER.pack(Request.SET_VRING_NUM, 1, 8))
    start = time.monotonic()
    witness.vu.get_features()
    assert time.monotonic() - start < 1.0
    assert hostile.vu.hung_up_within(10.0), 'still connected'
    clean_traffic(witness)
    assert works(stock.paths[0])
    stock.stop()


def test_reset_owner_and_a_new_beginning(stock, nics):
    nic = nics(pairs=2).bring_up(stock.paths[0])
    clean_traffic(nic)
    nic.vu.send(Request.RESET_OWNER)
    nic.rings.clear()
    nic.negotiate()
    nic.agree()
    nic.start()
    clean_traffic(nic)
    stock.stop()


def test_comes_and_goes_without_growth(stock):
    assert works(stock.paths[0])
    time.sleep(0.3)
    before = stock.program.resources()
    for _ in range(20):
        assert works(stock.paths[0])
    def settled() -> bool:
        after = stock.program.resources()
        return after.descriptors <= before.descriptors and after.threads <= before.threads
    wait_until(settled, 5.0, f'no more than {before}')
    stock.stop()


def test_unplugged_below_a_socket(stock, nics):
    """The front end is sent away, the program and its other socket live; a new device serves."""
    nic = nics(pairs=2).bring_up(stock.paths[0])
    other = nics(pairs=2).bring_up(stock.paths[1])
    clean_traffic(nic)
    stock.program.signal(signal.SIGUSR1)
    stock.heard('unplugged: 0')
    assert nic.vu.hung_up_within(10.0), 'still connected'
    clean_traffic(other)
    # Nothing to agree on and no datapath, but nobody follows a stale pointer.
    front = connect(stock.paths[0])
    try:
        assert front.get_features() & ~bits(Feature.PROTOCOL_FEATURES) == 0
    finally:
        front.close()
    assert not works(stock.paths[0])
    stock.program.signal(signal.SIGUSR2)
    stock.heard('plugged again: 0')
    assert works(stock.paths[0])
    clean_traffic(other)
    stock.stop()
