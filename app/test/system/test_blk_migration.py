# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Disks in live migration, and with requests under way when either end goes."""

import pytest

from disk_traffic import DiskTraffic
from migration import Nomad, mode_of
from proc import wait_until
from qemu import Machine
from test_blk_qemu import RINGS
from virtio_blk import WANTED, BlkDriver

pytestmark = [pytest.mark.usefixtures('need_qemu'), pytest.mark.ours]

DEVICES = {'log': '', 'mirrored': 'log=off', 'relayed': 'relay=always', 'slow': 'delay_us=2000'}


class DiskNomad(Nomad):
    """A guest that moves while its driver reads and writes."""
    requests = None

    def pump(self, window: int = 24) -> bool:
        return self.requests is not None and self.requests.pump()

    def drain(self, timeout_s: float = 20.0) -> None:
        self.requests.drain(timeout_s)


@pytest.fixture
def make_nomad(make_disks, programs, tools, folder):
    def make(devargs, feature=0, card=(), seed=1):
        disks = make_disks(kind='file', sockets=2, devargs=devargs, queues=2,
                           options=['--interactive']).start()
        nomad = DiskNomad(programs, tools, folder, disks, seed, disk=True, card=card)
        nomad.driver = BlkDriver(nomad.machine, wanted=WANTED | feature, queues=2).start()
        nomad.requests = DiskTraffic(nomad.driver, seed)
        nomad.traffic(0.2)
        return nomad
    return make


def finish(nomad):
    nomad.traffic(0.1)
    nomad.requests.verify()
    assert nomad.requests.done['OUT'] > 50 and nomad.requests.done['IN'] > 50
    nomad.backend.expect_alive()
    print(f'downtimes {nomad.downtimes_ms} ms, {dict(nomad.requests.done)}, '
          f'devices {[mode_of(nomad.backend, n) for n in (0, 1)]}')


@pytest.mark.parametrize('feature,card', RINGS)
@pytest.mark.parametrize('device', sorted(DEVICES))
def test_there_and_back(make_nomad, is_long, device, feature, card):
    nomad = make_nomad(DEVICES[device], feature, card)
    for _ in range(50 if is_long else 2):
        nomad.move()
        nomad.traffic(0.1)
    finish(nomad)


@pytest.mark.parametrize('device', sorted(DEVICES))
def test_cancelled_at_any_moment(make_nomad, is_long, device):
    nomad = make_nomad(DEVICES[device], seed=3)
    for _ in range(100 if is_long else 3):
        nomad.cancelled()
        nomad.traffic(0.05)
    nomad.move()
    finish(nomad)


@pytest.mark.parametrize('feature,card', RINGS)
@pytest.mark.parametrize('relay', ['auto', 'always'])
def test_daemon_killed_with_requests_under_way(make_disks, programs, tools, folder, is_long, relay,
                                               feature, card):
    """The front end connects again, and what was under way is done: by the inflight region."""
    disks = make_disks(kind='file', devargs=f'delay_us=3000,relay={relay}', queues=2).start()
    machine = Machine(programs, tools, folder, disks.path, disk=True, queues=2, card=card)
    driver = BlkDriver(machine, wanted=WANTED | feature, queues=2).start()
    requests = DiskTraffic(driver, 5)
    for _ in range(50 if is_long else 3):
        done = sum(requests.done.values())
        wait_until(lambda: requests.pump() and sum(requests.done.values()) > done + 30, 20,
                   'requests complete')
        assert len(requests.free) < requests.depth
        disks.kill()
        disks.start()
        requests.drain(30)
    requests.verify()
    disks.expect_alive()
