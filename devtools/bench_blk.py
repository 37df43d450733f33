# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_blk beside the vhost-user-blk export of stock qemu-storage-daemon: requests a second.

blk-*: fio in one User Mode Linux guest that has a disk of each. raw-*: the driver of bench_disk.py,
which is not the limit. Both back ends run all the time on one CPU; an idle one sleeps. The client
has the other CPU. *-sleep: our worker sleeps after 3 microseconds without work; otherwise it is
adaptive, as it comes.
"""

import contextlib
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from backend import cpus
from bench_common import Kind, Results, Run, Told, commands, in_turn, spread, table
from disk import MIB, Disks, QemuStorageDaemon, VdpaDisks
from proc import ProgramSet, Tools
from bench_disk import RawDisk
from uml import Uml
from virtio_blk import Type

DISK_BYTES = 64 * MIB
GUEST_MIB = 768
GOALS = {'null': 1.5, 'file': 1.1}
BACK_ENDS: Dict[str, type] = {'ours': VdpaDisks, 'qemu-storage-daemon': QemuStorageDaemon}
RATE = Callable[[str, 'Work'], float]


class Work(NamedTuple):
    """What is asked of a disk. rw is fio's name for it."""
    rw: str
    size: int
    depth: int

    def __str__(self) -> str:
        size = f'{self.size >> 10} KiB' if self.size < MIB else f'{self.size >> 20} MiB'
        return f'{size} {self.rw}, depth {self.depth}'


WORKS = [*(Work(rw, 4096, depth) for depth in (1, 32) for rw in ('randread', 'randwrite')),
         *(Work(rw, MIB, depth) for depth in (1, 32) for rw in ('read', 'write'))]


@contextlib.contextmanager
def only_on(cpu: int) -> Iterator[None]:
    """What is started in this context, and this program, runs on that CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def disks(kind: str, tools: Tools,
          options: Sequence[str] = ()) -> Iterator[Tuple[Path, ProgramSet, Dict[str, Disks]]]:
    """A disk of each back end; both have the same file, full of data and in the page cache.

    options: of our daemon. The client is to run in this context."""
    control, data = cpus()
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        started = {}
        file = Path(name) / 'disk.img'
        if kind == 'file':
            with file.open('wb') as made:
                made.write(os.urandom(MIB) * (DISK_BYTES // MIB))
                made.flush()
                os.fsync(made.fileno())     # or it reaches the disk while others are measured
        for back_end, make in BACK_ENDS.items():
            folder = Path(name) / back_end[:4]
            folder.mkdir()
            started[back_end] = make(programs, tools, folder, kind=kind, size=DISK_BYTES,
                                     file=file, options=options)
            with only_on(data) if back_end != 'ours' else contextlib.nullcontext():
                started[back_end].start()       # ours pins its worker itself
        with only_on(control):
            yield Path(name), programs, started


def both(run: Run, rate: RATE) -> List[Dict[str, Any]]:
    """Each kind of work on the two in turn."""
    rows = []
    for work in WORKS:
        rates: Dict[str, List[float]] = {kind: [] for kind in BACK_ENDS}
        for number in range(run.pairs):
            for kind in in_turn(number, list(BACK_ENDS)):
                rates[kind].append(rate(kind, work))
        rows.append({'work': str(work), 'rates': rates, 'ratios': [
            ours / theirs for ours, theirs in zip(*(rates[kind] for kind in BACK_ENDS))]})
    return rows


def fio(guest: Uml, device: str, work: Work, seconds: float) -> float:
    text = guest.sh(f'fio --name=b --filename=/dev/{device} --rw={work.rw} --bs={work.size} '
                    f'--iodepth={work.depth} --ioengine=libaio --direct=1 --thread --time_based '
                    f'--runtime={seconds:g} --output-format=json', timeout_s=60).out
    job = json.loads(text[text.index('{'):])['jobs'][0]
    return job['read' if 'read' in work.rw else 'write']['iops']


def measure_guest(name: str, run: Run) -> Dict[str, Any]:
    kind = name.split('-')[1]
    with disks(kind, run.tools) as (folder, programs, started):
        with Uml(programs, folder, [], disks=[one.path for one in started.values()],
                 memory_mib=GUEST_MIB) as guest:
            devices = dict(zip(started, ('vda', 'vdb')))
            rows = both(run, lambda back_end, work: fio(guest, devices[back_end], work,
                                                        run.seconds))
        told: Told = {'all': commands(programs)}
        return {'rows': rows, 'goal': GOALS[kind], 'commands': told}


def raw(path: str, work: Work, seconds: float) -> float:
    disk = RawDisk(path, kind=Type.IN if 'read' in work.rw else Type.OUT, size=work.size,
                   depth=work.depth, disk_bytes=DISK_BYTES, in_sequence='rand' not in work.rw)
    try:
        disk.burst()
        return disk.per_second(seconds)
    finally:
        disk.close()


def measure_raw(name: str, run: Run) -> Dict[str, Any]:
    kind = name.split('-')[1]
    options = ['--worker-idle', 'sleep'] if name.endswith('-sleep') else []
    with disks(kind, run.tools, options) as (_, programs, started):
        rows = both(run, lambda back_end, work: raw(started[back_end].path, work, run.seconds))
        return {'rows': rows, 'goal': GOALS[kind], 'commands': {'all': commands(programs)}}


def section_of(client: str, names: Dict[str, str]) -> Callable[[Results], List[str]]:
    def section(results: Results) -> List[str]:
        rows = []
        for name in names:
            for row in results[name]['rows'] if name in results else ():
                rows.append([name, row['work'],
                             *(f'{statistics.median(row["rates"][kind]):,.0f}'
                               for kind in ('qemu-storage-daemon', 'ours')), spread(row['ratios']),
                             f'{results[name]["goal"]:.1f}', results[name]['date']])
        return [f'Disk requests a second, {client}; ratio of each pair of runs: median (worst, '
                'best).', '', *table(['case', 'requests', 'qemu-storage-daemon', 'sw_blk', 'ratio',
                                      'goal', 'measured'], rows)]
    return section


GUEST_CASES = {f'blk-{kind}': f'{kind} disks under User Mode Linux, fio' for kind in GOALS}
RAW_CASES = {f'raw-{kind}{idle}': f'{kind} disks, bursts of a driver that is not the limit{how}'
             for kind in GOALS for idle, how in (('', ''), ('-sleep', '; our worker sleeps'))}
BLK = Kind('blk', GUEST_CASES, measure_guest,
           section_of('fio in a User Mode Linux guest', GUEST_CASES))
BLK_RAW = Kind('blk_raw', RAW_CASES, measure_raw,
               section_of('in bursts of the depth', RAW_CASES))
