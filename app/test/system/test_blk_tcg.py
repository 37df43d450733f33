# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_blk with a Debian guest under stock QEMU, which migrates, and whose daemon is killed: slow.

fio of the guest verifies throughout."""

import os
import random
import re
import time
from pathlib import Path
from typing import Callable

import pytest

from daemon import Prompt
from disk import MIB, Disks
from migration import mode_of
from proc import wait_until
from qemu import reconnect_option
from raw_disk import noted
from tcg import Fio, boot_files

__all__ = ['boot_files']    # a fixture

pytestmark = [pytest.mark.usefixtures('need_qemu'), pytest.mark.ours]

SIZE = 32 * MIB
QUEUES = 2


@pytest.fixture
def start_disks(make_disks) -> Callable[..., Disks]:
    """Start a daemon with the disk that all of them share."""
    return lambda **options: make_disks(kind='file', size=SIZE, queues=QUEUES, options=['--interactive'],
                                        **options).start()


@pytest.fixture
def boot(programs, folder, tools, boot_files) -> Callable[..., Fio]:
    """Boot a guest whose disk is behind this socket."""
    return lambda path, **options: Fio(programs, folder, tools.qemu, boot_files, path, **options)


def requests(disks: Disks) -> int:
    """Reads and writes that this daemon has taken."""
    stats = Prompt(disks.running_program).answer(f'stats {disks.device}0')
    return sum(map(int, re.findall(r'\b(?:reads|writes) (\d+)', stats)))


def wait_requests(guest: Fio, disks: Disks, count: int) -> None:
    def come() -> bool:
        guest.expect_running()
        return requests(disks) >= count
    wait_until(come, 60, f'{count} requests have come', 0.1)


@pytest.mark.parametrize('devargs, card', [('log=off', ''), ('', 'packed=on')],
                         ids=['mirrored-split', 'log-packed'])
def test_fio_outlives_live_migration(start_disks, boot, folder, is_long, devargs, card):
    """Between two daemons, which share the disk's file."""
    daemons = []
    for name in ('here', 'there'):
        (folder / name).mkdir()
        daemons.append(start_disks(folder=folder / name, file=folder / 'disk.img', devargs=devargs))
    guest = boot(daemons[0].path, card=card, name='debian0')
    wait_requests(guest, daemons[0], 500)
    for move in range(10 if is_long else 1):
        here, there = (daemons[(move + n) % 2] for n in (0, 1))
        uri = f'unix:{folder}/migrate{move}'
        target = boot(there.path, card=card, name=f'debian{move + 1}', options=['-S', '-incoming', uri])

        def meanwhile():
            wait_until(lambda: mode_of(here, 0)['log'] == 'on', 10, 'the log is engaged')
            wait_requests(guest, here, requests(here) + 500)
            assert mode_of(here, 0)['mode'] == \
                ('relayed: log wanted' if devargs else 'logging: log wanted')
        before = requests(there)
        guest.migrate(target, uri, meanwhile)
        guest.program.end()
        guest = target
        wait_requests(guest, there, before + 500)
    guest.end()
    for disks in daemons:
        disks.expect_alive()


def in_flight(guest: Fio, packed: bool) -> int:
    """Requests that are with the device by the inflight region, which QEMU keeps."""
    for fd in (Path('/proc') / str(guest.program.pid) / 'fd').iterdir():
        if 'vdpa-inflight' in os.readlink(fd):
            region = fd.read_bytes()
            half = len(region) // QUEUES
            return sum(noted(region[n * half:(n + 1) * half], packed) for n in range(QUEUES))
    return 0


@pytest.mark.parametrize('relay, card', [('auto', ''), ('always', 'packed=on')],
                         ids=['direct-split', 'relayed-packed'])
def test_fio_outlives_killed_daemons(start_disks, boot, tools, is_long, relay, card):
    """Each but the last stops answering after some requests, and is killed with more in its hands."""
    rng = random.Random(relay)

    def life(last=False):
        return [f'relay={relay}' + ('' if last else f',hang_after={rng.randrange(100, 500)}')]
    disks = start_disks(devargs=life())
    guest = boot(disks.path, card=card, name='debian', reconnect=reconnect_option(tools.qemu_version()))

    def hangs():
        guest.expect_running()
        if requests(disks) < 100:       # the BIOS has split rings
            return False
        before = requests(disks), in_flight(guest, bool(card))
        time.sleep(0.3)
        return before[1] and before == (requests(disks), in_flight(guest, bool(card)))
    kills = 10 if is_long else 1
    for kill in range(kills):
        wait_until(hangs, 60, 'requests are with the device, and stay there')
        disks.kill()
        assert in_flight(guest, bool(card))
        disks.devargs = life(kill == kills - 1)
        disks.start()
    wait_requests(guest, disks, 500)
    guest.end()
    disks.expect_alive()
