# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Requests that a killed daemon had taken: the next one does each of them, once, in their order."""

import random

import pytest

from proc import wait_until
from raw_disk import RawDisk
from vhost_user import Feature, bits
from virtio_blk import OK, SECTOR, UNTOUCHED, Type

pytestmark = pytest.mark.ours

DONE, HELD = 40, 15


@pytest.fixture
def raw_disk():
    disks = []

    def make(**options):
        disks.append(RawDisk(**options))
        return disks[-1]
    yield make
    for disk in disks:
        disk.close()


def sector_of(rng):
    return rng.randbytes(SECTOR)


def warm_up(disk, rng):
    """DONE requests, answered in any number at a time: descriptors are free in no order then."""
    number = 0
    while number < DONE:
        burst = min(rng.randrange(1, 9), DONE - number)
        for _ in range(burst):
            disk.put(number, Type.OUT, number % 8, sector_of(rng), pieces=rng.choice([1, 2, 4]))
            number += 1
        done = []
        wait_until(lambda: done.extend(disk.poll()) or len(done) == burst, 20, 'requests complete')


@pytest.mark.parametrize('feature', [0, bits(Feature.RING_PACKED)], ids=['split', 'packed'])
@pytest.mark.parametrize('relay', ['auto', 'always'], ids=['direct', 'relayed'])
@pytest.mark.parametrize('kind', ['file', 'malloc'])
def test_done_once_and_in_order(make_disks, raw_disk, is_long, kind, relay, feature):
    rng = random.Random(7)
    disks = make_disks(kind=kind, size=1 << 20, devargs=f'relay={relay},hang_after={DONE}').start()
    disk = raw_disk(features=feature).bring_up(disks.path)
    warm_up(disk, rng)
    for life in range(20 if is_long else 2):
        # all write to one sector: the last that was taken is what it holds
        contents = [sector_of(rng) for _ in range(HELD)]
        for n, data in enumerate(contents):
            disk.put(100 + n, Type.OUT, 9, data, pieces=rng.choice([1, 2]))
        wait_until(lambda: disk.in_flight() == HELD, 20, 'the device has taken them')
        assert not disk.poll()
        disks.kill()
        disk.disconnect()
        assert [disk.status(100 + n) for n in range(HELD)] == [UNTOUCHED] * HELD
        disks.devargs = [f'relay={relay},hang_after={HELD + 1}']
        disks.start()
        disk.bring_up(disks.path)
        done = []
        wait_until(lambda: done.extend(disk.poll()) or len(done) >= HELD, 20, 'they are done')
        order = [used.token for used in done]
        assert sorted(order) == list(range(100, 100 + HELD))
        if kind == 'malloc':
            assert order == sorted(order), order
        assert [disk.status(n) for n in order] == [OK] * HELD
        wait_until(lambda: disk.in_flight() == 0, 20, 'the notes say so')
        disk.put(200, Type.IN, 9)
        wait_until(lambda: done.extend(disk.poll()) or len(done) > HELD, 20, 'it is read')
        assert len(done) == HELD + 1 and done[-1].token == 200
        if kind == 'malloc':
            assert disk.data(200) == contents[-1]
        else:
            assert disk.data(200) in contents
    disks.expect_alive()
