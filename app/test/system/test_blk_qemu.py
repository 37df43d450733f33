# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Disks behind a stock QEMU whose driver is the test: requests of every type, good and bad."""

import random
import re
import struct
import subprocess

import pytest

from backend import cpus
from daemon import Prompt
from disk import MIB
from disk_traffic import DiskTraffic
from proc import wait_until
from qemu import DIMM_SLOTS, Machine
from vhost_user import Feature, bits
from virtio_blk import (ID_BYTES, IOERR, OK, SECTOR, UNSUPP, UNTOUCHED, WANTED, Blk, BlkDriver, Type,
                        header, ranges)
from vring import Segment

pytestmark = pytest.mark.usefixtures('need_qemu')
SIZE = 16 * MIB
SECTORS = SIZE // SECTOR


@pytest.fixture
def start(make_disks, programs, tools, folder):
    """A disk and a machine with a driver that runs it."""
    def begin(*, wanted=WANTED, machine_options=None, **options):
        disks = make_disks(size=SIZE, **options).start()
        machine = Machine(programs, tools, folder, disks.path, disk=True, queues=disks.queues,
                          **(machine_options or {}))
        return disks, BlkDriver(machine, wanted=wanted, queues=disks.queues).start()
    return begin


def pattern(seed, size):
    return random.Random(seed).randbytes(size)


RINGS = [pytest.param(0, [], id='split'),
         pytest.param(bits(Feature.RING_PACKED), ['packed=on'], id='packed',
                      marks=pytest.mark.ours)]


@pytest.mark.parametrize('feature,card', RINGS)
@pytest.mark.parametrize('indirect', [False, True], ids=['chain', 'indirect'])
def test_what_was_written_is_read(start, feature, card, indirect):
    disks, disk = start(wanted=WANTED | feature, machine_options={'card': card}, queues=2)
    assert disk.sectors == SECTORS
    rng = random.Random(1)
    for number in range(200):
        size = SECTOR * rng.choice([1, 2, 7, 8, 64, 128])
        sector = rng.randrange(SECTORS - size // SECTOR)
        pieces = rng.choice([None, [1], [511], [4096], [size - 1], [3, 5, 1000]])
        gap = rng.choice([16, 17, 61, 4096])
        data = pattern(number, size)
        disk.write(sector, data, pieces=pieces, queue=number % 2, indirect=indirect, gap=gap)
        assert disk.read(sector, size, pieces=pieces, queue=(number + 1) % 2, indirect=indirect,
                         gap=gap) == data
    disks.expect_alive()


def test_largest_requests(start):
    _, disk = start()
    data = pattern(2, 2 * MIB)
    pieces = [64 << 10] * 31
    disk.write(8, data, pieces=pieces)
    assert disk.read(8, len(data), pieces=pieces) == data
    assert disk.read(SECTORS - 1, SECTOR) == bytes(SECTOR)


def test_flush_id_discard_and_zeroes(start):
    disks, disk = start(kind='file')
    assert disk.request(Type.FLUSH).status == OK
    answer = disk.request(Type.GET_ID, in_bytes=ID_BYTES)
    assert answer.status == OK
    if disks.is_ours:
        assert answer.data.rstrip(b'\0') == b'vdpa_sw_blk0'
    disk.write(0, pattern(3, 64 * SECTOR))
    kept = disk.read(0, 64 * SECTOR)
    assert disk.request(Type.WRITE_ZEROES, data=ranges((8, 8, 0))).status == OK
    assert disk.read(0, 64 * SECTOR) == kept[:8 * SECTOR] + bytes(8 * SECTOR) + kept[16 * SECTOR:]
    assert disk.request(Type.WRITE_ZEROES, data=ranges((32, 8, 1))).status == OK
    assert disk.read(32, 8 * SECTOR) == bytes(8 * SECTOR)
    assert disk.request(Type.DISCARD, data=ranges((48, 8, 0))).status == OK
    assert disk.read(56, 8 * SECTOR) == kept[56 * SECTOR:]
    assert disks.file.read_bytes()[:8 * SECTOR] == kept[:8 * SECTOR]


def test_header_in_pieces(start):
    _, disk = start()
    for pieces in ([1] * 15, [4, 4], [8], [15]):
        disk.write(5, pattern(4, SECTOR), header_pieces=pieces)
        assert disk.read(5, SECTOR, header_pieces=pieces) == pattern(4, SECTOR)


# Requests that are wrong: (name, what the driver may read, what the device may write, statuses).
H = header
OUT, IN = Type.OUT, Type.IN
SEC = bytes(SECTOR)
HUGE = (1 << 64) // SECTOR
BAD = [
    ('read beyond the end', [H(IN, SECTORS)], [SECTOR, 1], {IOERR}),
    ('read across the end', [H(IN, SECTORS - 1)], [2 * SECTOR, 1], {IOERR}),
    ('read at the last number', [H(IN, (1 << 64) - 1)], [SECTOR, 1], {IOERR}),
    ('read that wraps', [H(IN, HUGE - 1)], [2 * SECTOR, 1], {IOERR}),
    ('write beyond the end', [H(OUT, SECTORS), SEC], [1], {IOERR}),
    ('write across the end', [H(OUT, SECTORS - 1), SEC, SEC], [1], {IOERR}),
    ('write at the last number', [H(OUT, (1 << 64) - 1), SEC], [1], {IOERR}),
    ('write that wraps', [H(OUT, HUGE - 1), SEC, SEC], [1], {IOERR}),
    ('read of no whole sector', [H(IN)], [511, 1], {IOERR}),
    ('read of a sector and a byte', [H(IN)], [513, 1], {IOERR}),
    ('write of no whole sector', [H(OUT), SEC[1:]], [1], {IOERR}),
    ('write of a sector and a byte', [H(OUT), SEC + b'x'], [1], {IOERR}),
    ('unknown type', [H(99)], [1], {UNSUPP}),
    ('unknown type with data', [H(0x7fffffff), SEC], [SECTOR, 1], {UNSUPP}),
    ('type with a barrier of old', [H(0x80000000)], [1], {UNSUPP}),
    ('scsi command', [H(2), SEC], [SECTOR, 1], {UNSUPP}),
    ('secure erase', [H(14), ranges((0, 8, 0))], [1], {UNSUPP}),
    ('discard beyond the end', [H(Type.DISCARD), ranges((SECTORS, 8, 0))], [1], {IOERR}),
    ('discard across the end', [H(Type.DISCARD), ranges((SECTORS - 1, 8, 0))], [1], {IOERR}),
    ('discard that wraps', [H(Type.DISCARD), ranges(((1 << 64) - 1, 8, 0))], [1], {IOERR}),
    ('discard with unmap', [H(Type.DISCARD), ranges((0, 8, 1))], [1], {UNSUPP}),
    ('discard with unknown flags', [H(Type.DISCARD), ranges((0, 8, 0x80))], [1], {UNSUPP}),
    ('discard of no range', [H(Type.DISCARD)], [1], {IOERR}),
    ('discard of half a range', [H(Type.DISCARD), ranges((0, 8, 0))[:8]], [1], {IOERR}),
    ('discard of a range and a half', [H(Type.DISCARD), ranges((0, 8, 0)) + b'12345678'], [1],
     {IOERR}),
    ('discard too large', [H(Type.DISCARD), ranges((0, 0xffffffff, 0))], [1], {IOERR}),
    ('zeroes beyond the end', [H(Type.WRITE_ZEROES), ranges((SECTORS, 8, 0))], [1], {IOERR}),
    ('zeroes that wrap', [H(Type.WRITE_ZEROES), ranges(((1 << 64) - 8, 8, 0))], [1], {IOERR}),
    ('zeroes with unknown flags', [H(Type.WRITE_ZEROES), ranges((0, 8, 2))], [1], {UNSUPP}),
    ('zeroes of no range', [H(Type.WRITE_ZEROES)], [1], {IOERR}),
    ('zeroes of too many ranges', [H(Type.WRITE_ZEROES), ranges(*[(0, 1, 0)] * 4000)], [1],
     {IOERR, UNSUPP}),
    ('zeroes too large', [H(Type.WRITE_ZEROES), ranges((0, 0xffffffff, 0))], [1], {IOERR}),
    ('id without room', [H(Type.GET_ID)], [1], {IOERR, OK}),
    ('id with little room', [H(Type.GET_ID)], [10, 1], {IOERR, OK}),
]
# Buffers that are no requests: they cannot be answered, and the queue may be given up.
NO_REQUEST = [
    ('short header', [H(IN)[:8]], [SECTOR, 1]),
    ('no header', [], [SECTOR, 1]),
    ('header and no status', [H(IN)], []),
    ('write and no status', [H(OUT), SEC], []),
    ('one byte', [b'x'], []),
    ('one byte of room', [], [1]),
    ('header that the device writes', [], [16, SECTOR, 1]),
]


def still_works(disk):
    """The disk, after its driver has reset it if it asked for that, serves as before."""
    if disk.needs_reset:
        disk.start()
    disk.write(100, pattern(5, SECTOR))
    assert disk.read(100, SECTOR) == pattern(5, SECTOR)


@pytest.mark.ours       # qemu-storage-daemon answers some of these otherwise
def test_wrong_requests_get_their_status(start):
    disks, disk = start(kind='file')
    disk.write(0, pattern(6, 64 * SECTOR))
    before = disks.file.read_bytes()
    for name, out, in_bytes, statuses in BAD:
        answer = disk.run(out, in_bytes, indirect=len(out) > 2)
        assert answer.status in statuses, f'{name}: status {answer.status}'
        assert len(answer.data) == sum(in_bytes) - 1
        assert disks.file.read_bytes() == before, f'{name}: the disk has changed'
        assert not disk.needs_reset, name
    still_works(disk)
    disks.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('feature,card', RINGS)
def test_buffers_that_are_no_requests(start, feature, card):
    disks, disk = start(kind='file', wanted=WANTED | feature, machine_options={'card': card})
    before = disks.file.read_bytes()
    for name, out, in_bytes in NO_REQUEST:
        segments = disk.lay_out(out, in_bytes)
        disk.put(segments, name)
        assert disk.machine.qtest.read(1, 0x400) is not None        # time for it
        done = disk.rings[0].poll()
        disk.expect_canaries(segments)
        for segment in segments:
            if segment.writable and segment.size > 1:
                assert disk.mem.read(segment.addr, segment.size) == \
                    bytes([UNTOUCHED]) * segment.size, f'{name}: written'
        if not done:
            disk.start()
        assert disks.file.read_bytes() == before, f'{name}: the disk has changed'
    disk.start()
    still_works(disk)
    disks.expect_alive()


@pytest.mark.ours
def test_readonly(start):
    disks, disk = start(kind='file', readonly=True)
    assert disk.has(Blk.RO)
    for kind, data in ((OUT, SEC), (Type.DISCARD, ranges((0, 8, 0))),
                       (Type.WRITE_ZEROES, ranges((0, 8, 0)))):
        assert disk.request(kind, data=data).status in (IOERR, UNSUPP)
    assert disk.read(0, SECTOR) == SEC
    assert disk.request(Type.FLUSH).status == OK
    disks.expect_alive()


@pytest.mark.ours
def test_config_space_tells_all(start):
    _, disk = start(queues=4)
    assert disk.sectors == SECTORS
    assert disk.config(4, 12) >= 126                    # seg_max
    assert disk.config(4, 20) == SECTOR                 # blk_size
    assert disk.config(2, 34) == 4                      # num_queues
    assert disk.config(4, 36) > 0 and disk.config(4, 40) > 0        # discard
    assert disk.config(4, 48) > 0 and disk.config(4, 52) > 0        # write-zeroes


@pytest.mark.ours
def test_full_disk_fails_with_an_error_alone(start, folder):
    """A file on a file system without room: IOERR for what does not fit, the rest goes on."""
    room = folder / 'small'
    room.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', str(room)],
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'no file system of our own: {mounted.stderr.strip()}')
    try:
        disks, disk = start(kind='file', file=room / 'disk.img')
        results = [disk.request(OUT, n * 256, pattern(n, 256 * SECTOR)).status for n in range(16)]
        assert OK in results and IOERR in results and set(results) <= {OK, IOERR}
        good = results.index(OK)
        assert disk.read(good * 256, 256 * SECTOR) == pattern(good, 256 * SECTOR)
        disks.expect_alive()
        disks.stop()
    finally:
        subprocess.run(['umount', '-l', str(room)], check=True)


def test_driver_resets_in_traffic(start):
    disks, disk = start()
    for number in range(20):
        disk.write(number, pattern(number, SECTOR))
        segments = disk.lay_out([struct.pack('<IIQ', IN, 0, 0)], [SECTOR, 1])
        disk.put(segments)
        disk.start()
        assert disk.read(number, SECTOR) == pattern(number, SECTOR)
    disks.expect_alive()


def test_memory_is_plugged_under_requests(start):
    """librte_vhost forgets block devices then."""
    disks, disk = start()
    for number in range(4):
        disk.write(number, pattern(number, SECTOR))
        disk.machine.plug_dimm(f'd{number}')
        assert disk.read(number, SECTOR) == pattern(number, SECTOR)
        if number % 2:
            disk.machine.unplug_dimm(f'd{number}')
        assert disk.read(number, SECTOR) == pattern(number, SECTOR)
    disks.expect_alive()


def test_memory_in_more_regions_than_a_table_has(start):
    """QEMU gives them one by one then."""
    disks, disk = start()
    for number in range(DIMM_SLOTS):
        dimm = disk.machine.plug_dimm(f'd{number}', 16 * MIB)
        disk.mem.write(dimm.gpa, H(OUT, number) + pattern(number, SECTOR) + bytes([UNTOUCHED]))
        disk.put([Segment(dimm.gpa, 16, False), Segment(dimm.gpa + 16, SECTOR, False),
                  Segment(dimm.gpa + 16 + SECTOR, 1, True)])
        disk.take()
        assert disk.mem.read(dimm.gpa + 16 + SECTOR, 1) == bytes([OK])
    for number in range(DIMM_SLOTS):
        assert disk.read(number, SECTOR) == pattern(number, SECTOR)
    disks.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('relay', ['auto', 'always'])
def test_queues_move_between_workers(start, relay):
    """A relayed queue's two paths, the relay's and the disk's, are one group."""
    control, data = cpus()
    disks, disk = start(queues=2, devargs=f'relay={relay}',
                        options=['--interactive', '--workers', f'{control},{data}'])
    prompt = Prompt(disks.running_program)
    requests = DiskTraffic(disk, 4)
    each = 2 if relay == 'always' else 1

    def paths():
        return [int(n) for n in re.findall(r'cpu \d+, (\d+) paths',
                                           prompt.ask('worker', r'(?s)worker 1  [^\n]*\)\n'))]
    wait_until(lambda: sum(paths()) == 2 * each, 20, 'both queues are with workers')
    for move in range(8):
        done = sum(requests.done.values())
        queue, worker = move % 2, move // 2 % 2
        prompt.ask(f'worker move vdpa_sw_blk0 {queue} {worker}',
                   rf'(?m)^vdpa_sw_blk0: {queue} is with worker {worker}$')
        if queue:
            assert paths() == [2 * each * (worker == n) for n in (0, 1)]
        wait_until(lambda: requests.pump() and sum(requests.done.values()) > done + 20, 20,
                   'requests complete')
    requests.verify()
    disks.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('kind', ['file', 'malloc'])
def test_size_changes_at_run_time(start, kind):
    disks, disk = start(kind=kind, options=['--interactive'])
    prompt = Prompt(disks.running_program)
    for size in (2 * SIZE, 3 * SIZE):
        last = size // SECTOR - 1
        assert disk.request(OUT, last, SEC).status == IOERR
        generation = disk.generation
        prompt.ask(f'set vdpa_sw_blk0 size {size}', '(?m)^vdpa_sw_blk0: .*$')
        wait_until(lambda: disk.sectors == last + 1, 20, 'the driver sees the new capacity')
        assert disk.generation != generation
        disk.write(last, pattern(size, SECTOR))
        assert disk.read(last, SECTOR) == pattern(size, SECTOR)
        assert disk.request(OUT, last + 1, SEC).status == IOERR
    assert 'error' in prompt.ask(f'set vdpa_sw_blk0 size {SIZE + 1}', '(?m)^error: .*$')
    disks.expect_alive()
