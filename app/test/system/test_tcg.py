# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A Debian guest under stock QEMU without KVM as front end: slow, so little traffic, Debian 12 only.

QEMU serves the control virtqueue itself and tells the back end which queue pairs are on.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from linux import (RING_PACKED, connect_pair, exchange, ping, serve, transfer, without)
from tcg import Tcg, guest_files
from uml import Uml, kernel

__all__ = ['serve']     # a fixture

FRAMES = 2000
MIB = 1 << 20


@pytest.fixture(scope='session')
def boot_files() -> Path:
    if not re.search(r'^VERSION_ID="?12"?$', Path('/etc/os-release').read_text(), re.M):
        pytest.skip('Debian 12 only: other releases have User Mode Linux')
    try:
        return guest_files()
    except subprocess.CalledProcessError as error:
        if os.environ.get('CI'):
            pytest.fail(f'no guest: {error}')
        pytest.skip(f'no guest: {error}')


@pytest.fixture
def boot(need_qemu, programs, folder, tools, boot_files) -> Callable[..., Tcg]:
    """Boot a guest with a network device for each socket."""
    return lambda *paths, **options: Tcg(programs, folder, paths, qemu=tools.qemu, files=boot_files,
                                         **options)


def in_qemu(backend):
    """QEMU serves the control virtqueue, so its sockets need no filter: the back end's own paths."""
    return backend.backend.paths


@pytest.mark.parametrize('nic', [
    pytest.param('', id='split'),
    pytest.param('packed=on', id='packed', marks=pytest.mark.ours),
    pytest.param('mrg_rxbuf=off,csum=off,guest_csum=off', id='plain', marks=pytest.mark.ours),
])
def test_frames_come_back(serve, boot, is_long, nic):
    served = serve()
    with boot(*in_qemu(served), nic=nic) as guest:
        guest.nic_up()
        exchange(guest, FRAMES * (20 if is_long else 1), idle_s=10)
        guest.run('ip', 'link', 'set', 'eth0', 'down')
        guest.run('ip', 'link', 'set', 'eth0', 'up')
        guest.wait_carrier(True)
        exchange(guest, FRAMES, run=2, idle_s=10)
    served.backend.expect_alive()


def test_queue_pairs_and_driver_are_changed(serve, boot):
    served = serve(pairs=2)
    with boot(*in_qemu(served), pairs=2) as guest:
        for run in range(2):
            nic = guest.nic_up()
            for pairs in (2, 1, 2):
                guest.run('ethtool', '-L', 'eth0', 'combined', str(pairs))
                exchange(guest, FRAMES, run=10 * run + pairs, flows=8, idle_s=10)
            guest.unbind(nic)
            guest.bind(nic)
    served.backend.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('devargs', [without(), without(RING_PACKED)], ids=['all', 'split'])
def test_talks_with_user_mode_linux(serve, boot, programs, folder, is_long, record_property,
                                    devargs):
    """Debian's kernel under QEMU and Linux 7.2 in User Mode Linux, joined."""
    served = serve(devargs, sockets=2, joined=True)
    with boot(served.paths[0], name='debian') as debian, \
            Uml(programs, folder, [served.paths[1]], name='uml', kernel=kernel()) as uml:
        connect_pair(debian, uml)
        ping(debian, '10.9.0.2', 5)
        ping(uml, '10.9.0.1', 5)
        size = (256 if is_long else 16) * MIB
        record_property('to_uml', round(transfer(debian, uml, '10.9.0.2', size)))
        record_property('to_debian', round(transfer(uml, debian, '10.9.0.1', size, port=5002)))


@pytest.mark.ours
def test_guest_killed_in_traffic(serve, boot):
    served = serve()
    with boot(*in_qemu(served), name='first') as guest:
        guest.nic_up()
        guest.begin('exchange', name='eth0', count=1_000_000)
        guest.sh('sleep 0.5')
        guest.kill()
    served.backend.expect_alive()
    with boot(*in_qemu(served), name='second') as guest:
        guest.nic_up()
        exchange(guest, FRAMES, idle_s=10)
