# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Memory that a disk's front end gives and takes region by region (CONFIGURE_MEM_SLOTS)."""

import dataclasses
import os
import random
import struct

import pytest

from guest_memory import Region, create_memory_file
from hostile import region_tuple, table
from proc import wait_until
from raw_disk import SLOT_BYTES, RawDisk
from vhost_user import Disconnected, Feature, Protocol, Request, bits, connect
from virtio_blk import OK, SECTOR, Type

pytestmark = [pytest.mark.ours, pytest.mark.every_release]

SLOTS = 32
MIB = 1 << 20
FAR = 1 << 36       # where regions are plugged


@pytest.fixture
def disks(make_disks):
    return make_disks(size=MIB).start()


@pytest.fixture
def raw_disk():
    made = []

    def make(**options):
        made.append(RawDisk(by_region=True, **options))
        return made[-1]
    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def disk(disks, raw_disk):
    return raw_disk().bring_up(disks.path)


def answers(disk, count):
    done = []
    wait_until(lambda: done.extend(disk.poll()) or len(done) >= count, 20, f'{count} requests')
    return [used.token for used in done]


def write(disk, data, sector=0, at=None):
    disk.put(sector, Type.OUT, sector, data, at=at)
    assert answers(disk, 1) == [sector]


def read(disk, sector=0):
    disk.put(sector, Type.IN, sector)
    assert answers(disk, 1) == [sector] and disk.status(sector) == OK
    return disk.data(sector)


def expect_served(disk):
    data = os.urandom(SECTOR)
    write(disk, data)
    assert read(disk) == data


def plugged(number, size=MIB):
    return Region(FAR + number * MIB, size, create_memory_file('plugged', size, True))


def test_offered_with_its_number(disks):
    with connect(disks.path) as vu:
        vu.get_features()
        assert vu.get_protocol_features() >> Protocol.CONFIGURE_MEM_SLOTS & 1
        vu.set_protocol_features(bits(Protocol.REPLY_ACK, Protocol.CONFIGURE_MEM_SLOTS))
        assert vu.get_max_mem_slots() == SLOTS


@pytest.mark.parametrize('feature', [0, bits(Feature.RING_PACKED)], ids=['split', 'packed'])
@pytest.mark.parametrize('relay', ['auto', 'always'], ids=['direct', 'relayed'])
def test_memory_may_be_used_once_it_is_acknowledged(make_disks, raw_disk, is_long, relay, feature):
    disks = make_disks(size=MIB, devargs=f'relay={relay}').start()
    disk = raw_disk(features=feature).bring_up(disks.path)
    expect_served(disk)
    before = disks.settled_resources()
    for number in range(1000 if is_long else 100):
        region = disk.mem.add(plugged(number % 3))
        disk.vu.add_mem_reg(region)
        data = os.urandom(SECTOR)
        write(disk, data, 3, at=region.gpa + number * 16)
        assert read(disk, 3) == data, number
        disk.vu.rem_mem_reg(region)
        disk.mem.remove(region)
        region.close()
    disks.expect_no_growth(before)


def test_as_many_regions_as_there_are_slots(disk, disks):
    regions = [disk.mem.add(plugged(number)) for number in range(SLOTS)]
    for number, region in enumerate(regions[:-1]):
        disk.vu.add_mem_reg(region)
        write(disk, bytes([number]) * SECTOR, number, at=region.gpa + MIB - SLOT_BYTES)
    with pytest.raises(RuntimeError):
        disk.vu.add_mem_reg(regions[-1])
    for number in range(SLOTS - 1):
        assert read(disk, number) == bytes([number]) * SECTOR
    disk.vu.rem_mem_reg(regions[7])
    disk.vu.add_mem_reg(regions[-1])
    write(disk, bytes(SECTOR), 9, at=regions[-1].gpa)
    disks.expect_alive()


@pytest.mark.parametrize('feature', [0, bits(Feature.RING_PACKED)], ids=['split', 'packed'])
@pytest.mark.parametrize('relay', ['auto', 'always'], ids=['direct', 'relayed'])
def test_region_under_running_rings_is_cut_and_joined(make_disks, raw_disk, is_long, relay, feature):
    """Between two messages the rings lie nowhere; they go on where they stand."""
    disks = make_disks(size=MIB, devargs=f'relay={relay}').start()
    disk = raw_disk(features=feature).bring_up(disks.path)
    ram, rng = disk.ram, random.Random(5)
    whole = [dataclasses.replace(ram)]
    for turn in range(100 if is_long else 10):
        middle = 4096 * rng.randrange(1, ram.size // 4096)
        halves = [Region(ram.gpa, middle, ram.fd),
                  Region(ram.gpa + middle, ram.size - middle, ram.fd, middle)]
        rng.shuffle(halves)
        for former, following in ((whole, halves), (halves, whole)):
            contents = {n: rng.randbytes(SECTOR) for n in range(8)}
            for n, data in contents.items():
                disk.put(n, Type.OUT, n, data)
            for region in former:
                disk.vu.rem_mem_reg(region)
            for region in following:
                disk.vu.add_mem_reg(region)
            assert sorted(answers(disk, 8)) == list(contents), turn
            for n, data in contents.items():
                assert read(disk, n) == data, turn
    disks.expect_alive()


def test_table_and_single_regions_are_mixed(disk):
    """Some give a table at the start, and single regions when memory is plugged."""
    more = disk.mem.add(plugged(0))
    for _ in range(3):
        disk.vu.set_mem_table(disk.mem)
        write(disk, bytes(SECTOR), 1, at=more.gpa)
        disk.vu.rem_mem_reg(more)
        expect_served(disk)
        disk.vu.add_mem_reg(more)
        write(disk, bytes(SECTOR), 1, at=more.gpa)
        disk.vu.tell(Request.SET_MEM_TABLE, *disk.vu.mem_table([disk.ram]))
        expect_served(disk)


def test_disk_stops_and_goes_on(disk):
    for _ in range(3):
        expect_served(disk)
        base = disk.vu.get_vring_base(0)
        assert base == disk.rings[0].base()
        disk.vu.rem_mem_reg(disk.ram)
        disk.vu.add_mem_reg(disk.ram)
        disk.start_ring(0, base)
        disk.vu.set_vring_enable(0, True)
        disk.set_status(15)
        disk.kicks[0].signal()


@pytest.mark.parametrize('status', [True, False], ids=['status', 'plain'])
def test_front_ends_come_and_go(disks, raw_disk, is_long, status):
    """Without STATUS a queue starts when it is complete."""
    disk = raw_disk()
    if not status:
        disk.wanted_protocol &= ~bits(Protocol.STATUS)
    before = None
    for turn in range(200 if is_long else 20):
        disk.bring_up(disks.path)
        expect_served(disk)
        disk.disconnect()
        if turn == 3:
            before = disks.settled_resources()
    disks.expect_no_growth(before)


# What must be refused, and change nothing: request, payload and descriptors from a disk and its RAM.

def _reg(region, **changes):
    values = dict(zip(('gpa', 'size', 'user', 'offset'), region_tuple(region)), **changes)
    return struct.pack('=QQQQQ', 0, values['gpa'], values['size'], values['user'], values['offset'])


FREE = {'gpa': FAR, 'user': FAR, 'size': MIB}
BAD_ADD = {
    'no-descriptor': (FREE, 0),
    'two-descriptors': (FREE, 2),
    'eight-descriptors': (FREE, 8),
    'empty': ({**FREE, 'size': 0}, 1),
    'larger-than-its-file': ({**FREE, 'size': 1 << 40}, 1),
    'all-ones': ({'gpa': 2 ** 64 - 1, 'user': 2 ** 64 - 1, 'size': 2 ** 64 - 1,
                  'offset': 2 ** 64 - 1}, 1),
    'beyond-its-file': ({**FREE, 'offset': 1 << 40}, 1),
    'offset-wraps': ({**FREE, 'offset': 2 ** 64 - 4096}, 1),
    'address-wraps': ({**FREE, 'gpa': 2 ** 64 - 4096}, 1),
    'user-address-wraps': ({**FREE, 'user': 2 ** 64 - 4096}, 1),
    'there-already': ({}, 1),
    'overlaps': ({'user': FAR, 'size': MIB}, 1),
    'last-byte-overlaps': ({'gpa': 0x100001 - MIB, 'user': FAR, 'size': MIB}, 1),
    'user-address-overlaps': ({'gpa': FAR, 'size': MIB}, 1),
}
BAD_REM = {
    'unknown': {**FREE},
    'other-address': {'gpa': FAR},
    'other-user-address': {'user': FAR},
    'part': {'size': MIB},
}
BAD = {
    **{f'add-{name}': (Request.ADD_MEM_REG,
                       lambda ram, c=changes: _reg(ram, **c), count)
       for name, (changes, count) in BAD_ADD.items()},
    **{f'remove-{name}{"-with-descriptors" * bool(count)}': (Request.REM_MEM_REG,
                                                             lambda ram, c=changes: _reg(ram, **c), count)
       for name, changes in BAD_REM.items() for count in (0, 8)},
    'add-cut-short': (Request.ADD_MEM_REG, lambda ram: _reg(ram, **FREE)[:-1], 1),
    'add-nothing': (Request.ADD_MEM_REG, lambda ram: b'', 1),
    'remove-cut-short': (Request.REM_MEM_REG, lambda ram: _reg(ram)[:-1], 0),
    'table-of-9': (Request.SET_MEM_TABLE, lambda ram: table(*[region_tuple(ram)] * 8) + bytes(32), 8),
    'table-claims-9': (Request.SET_MEM_TABLE,
                       lambda ram: struct.pack('=II', 9, 0) + table(region_tuple(ram))[8:], 1),
    'table-overlaps': (Request.SET_MEM_TABLE, lambda ram: table(*[region_tuple(ram)] * 2), 2),
    'table-without-descriptors': (Request.SET_MEM_TABLE, lambda ram: table(region_tuple(ram)), 0),
    'table-with-too-many': (Request.SET_MEM_TABLE, lambda ram: table(region_tuple(ram)), 8),
    'table-empty-with-descriptors': (Request.SET_MEM_TABLE, lambda ram: table(), 8),
    'ring-that-is-not-there': (Request.SET_VRING_ADDR,
                               lambda ram: struct.pack('=IIQQQQ', 200, 0, *[ram.user_addr] * 3, 0), 0),
    'ring-cut-short': (Request.SET_VRING_ADDR, lambda ram: struct.pack('=II', 0, 0), 0),
}


@pytest.mark.parametrize('what', ['add', 'remove', 'table', 'ring'])
def test_refused_and_nothing_changed(disk, disks, what):
    expect_served(disk)
    before = disks.settled_resources()
    for name in [name for name in sorted(BAD) if name.startswith(what)]:
        request, payload, count = BAD[name]
        message = request, payload(disk.ram), [disk.ram.fd] * count
        for _ in range(3):
            with pytest.raises(RuntimeError):
                disk.vu.tell(*message)
                pytest.fail(name)
        expect_served(disk)
        disk.vu.send(*message)
        assert disk.vu.closed_within(10.0), f'{name}: nobody told it that this failed'
        disk.disconnect()
        disk.bring_up(disks.path)
        expect_served(disk)
    disks.expect_no_growth(before)


@pytest.mark.parametrize('kind', ['pipe', 'directory', 'read-only'])
def test_descriptor_that_is_no_memory(disk, disks, folder, kind):
    fds = list(os.pipe()) if kind == 'pipe' else [os.open(
        folder if kind == 'directory' else f'/proc/self/fd/{disk.ram.fd}', os.O_RDONLY)]
    try:
        with pytest.raises(RuntimeError):
            disk.vu.tell(Request.ADD_MEM_REG, _reg(disk.ram, **FREE), fds[:1])
        expect_served(disk)
    finally:
        for fd in fds:
            os.close(fd)
    disks.expect_alive()


def test_removed_for_good(disk, disks):
    """Rings that lie nowhere stop at the latest when the front end stops them."""
    expect_served(disk)
    disk.vu.rem_mem_reg(disk.ram)
    with pytest.raises(RuntimeError):
        disk.vu.rem_mem_reg(disk.ram)
    assert disk.vu.get_vring_base(0) == disk.rings[0].base()
    disk.disconnect()
    disk.bring_up(disks.path)
    expect_served(disk)
    disks.expect_alive()


@pytest.mark.parametrize('request_', [Request.GET_MAX_MEM_SLOTS, Request.ADD_MEM_REG,
                                      Request.REM_MEM_REG], ids=lambda r: r.name)
def test_not_agreed(disks, raw_disk, request_):
    disk = raw_disk()
    disk.wanted_protocol &= ~bits(Protocol.CONFIGURE_MEM_SLOTS)
    disk.by_region = False
    disk.bring_up(disks.path)
    expect_served(disk)
    before = disks.settled_resources()
    disk.vu.send(request_, disk.vu.mem_reg(disk.ram), [disk.ram.fd])
    assert disk.vu.closed_within(10.0)
    disk.disconnect()
    disk.bring_up(disks.path)
    expect_served(disk)
    disks.expect_no_growth(before)


@pytest.mark.parametrize('agreed', [True, False])
def test_way_of_giving_memory_stays(disks, raw_disk, agreed):
    disk = raw_disk()
    if not agreed:
        disk.wanted_protocol &= ~bits(Protocol.CONFIGURE_MEM_SLOTS)
        disk.by_region = False
    disk.bring_up(disks.path)
    disk.vu.set_protocol_features(disk.vu.protocol ^ bits(Protocol.CONFIGURE_MEM_SLOTS))
    assert disk.vu.closed_within(10.0)
    disks.expect_alive()


def test_features_of_a_running_disk_stay(disk, disks):
    disk.vu.set_features(disk.features)
    with pytest.raises((Disconnected, RuntimeError)):
        disk.vu.set_features(disk.features | bits(Feature.RING_PACKED))
    assert disk.vu.closed_within(10.0)
    disks.expect_alive()


def test_random_messages(make_disks, raw_disk, is_long):
    """The seed of a failure is in its message. A neighbour is served, and nothing is left behind."""
    disks = make_disks(size=MIB, sockets=2).start()
    neighbour = raw_disk().bring_up(disks.paths[1])
    expect_served(neighbour)
    before = None
    for seed in range(300 if is_long else 30):
        chance = random.Random(seed)
        disk = raw_disk().bring_up(disks.path)
        disk.vu.acknowledge = False
        spots = [0, 1, 4096, disk.ram.gpa, disk.ram.user_addr, disk.ram.size, FAR, MIB, 2 ** 64 - 1]
        try:
            for _ in range(100):
                request = chance.choice([Request.ADD_MEM_REG, Request.REM_MEM_REG,
                                         Request.SET_MEM_TABLE, Request.SET_VRING_ADDR,
                                         Request.SET_VRING_KICK, Request.SET_VRING_ENABLE,
                                         Request.GET_MAX_MEM_SLOTS])
                good = {Request.ADD_MEM_REG: lambda: disk.vu.mem_reg(disk.ram),
                        Request.REM_MEM_REG: lambda: disk.vu.mem_reg(disk.ram),
                        Request.SET_MEM_TABLE: lambda: table(region_tuple(disk.ram))}.get(request)
                payload = good() if good and chance.random() < 0.5 else struct.pack(
                    '=6Q', *[chance.choice(spots) for _ in range(6)])
                if request in (Request.SET_VRING_KICK, Request.SET_VRING_ENABLE):
                    payload = struct.pack('=II', 0, chance.randrange(2))
                fds = [disk.ram.fd] * chance.choice([0, 1, 1, 1, 2])
                if request == Request.SET_VRING_ADDR:
                    fds = []    # with a bad index stock librte_vhost loses them
                disk.vu.send(request, payload, fds, need_reply=chance.random() < 0.9)
                disk.kicks[0].signal()
        except (Disconnected, TimeoutError):
            pass
        disk.close()
        expect_served(neighbour)
        if seed == 5:
            before = disks.settled_resources()
    disks.expect_no_growth(before, rss_kib=8192)
    assert disks.stop() == 0
