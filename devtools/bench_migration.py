# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""QEMU's own downtime of a live migration: our daemon beside stock net_vhost as a no-op back end.

QEMU to QEMU without a guest's operating system; the driver rests, so that what is measured is the
stop on one side and the start on the other.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

from backend import Backend, TestpmdVhost, VdpaDaemon
from bench_common import Kind, Results, Run, Told, commands, in_turn, table
from migration import Nomad
from proc import ProgramSet
from traffic import Stream
from virtio_pci import BASIC, MULTIQUEUE, NetDriver

HOPS = 4                # of a run
CASES = {'downtime-1': 1, 'downtime-64': 64}
BACK_ENDS: Dict[str, Tuple[type, str]] = {
    'net_vhost': (TestpmdVhost, ''), 'sw_net, device log': (VdpaDaemon, ''),
    'sw_net, mirrored': (VdpaDaemon, 'log=off')}


def downtimes_ms(kind: str, pairs: int, run: Run, told: Told) -> List[int]:
    """Of HOPS migrations between two sockets of one back end."""
    make, devargs = BACK_ENDS[kind]
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        folder = Path(name)
        backend: Backend = make(programs, run.tools, folder, sockets=2, pairs=pairs,
                                devargs=devargs).start()
        nomad = Nomad(programs, run.tools, folder, backend, seed=1)
        nomad.driver = NetDriver(nomad.machine, wanted=MULTIQUEUE if pairs > 1 else BASIC,
                                 pairs=pairs, ring_size=64).start()
        nomad.flows = nomad.driver.flows([Stream(n, seed=1) for n in range(pairs)])
        for _ in range(HOPS):
            nomad.move(pause=False)
        nomad.traffic(0.2)
        nomad.drain()
        assert all(flow.stream.books().received for flow in nomad.flows), 'a queue is dead'
        told[kind] = commands(programs)[:2]
        return nomad.downtimes_ms


def measure(name: str, run: Run) -> Dict[str, Any]:
    told: Told = {}
    found: Dict[str, List[int]] = {kind: [] for kind in BACK_ENDS}
    for number in range(run.pairs):
        for kind in in_turn(number, list(BACK_ENDS)):
            found[kind] += downtimes_ms(kind, CASES[name], run, told)
    return {'ms': found, 'commands': told}


def section(results: Results) -> List[str]:
    rows = []
    for name in CASES:
        if name not in results:
            continue
        stock = statistics.median(results[name]['ms']['net_vhost'])
        for kind, times in results[name]['ms'].items():
            median = statistics.median(times)
            rows.append([str(CASES[name]), kind, str(len(times)), f'{median:g}', f'{max(times)}',
                         f'{median / stock:.2f}' if stock else '-', results[name]['date']])
    return ["QEMU's own downtime of a live migration, milliseconds; ratio of the medians.", '',
            *table(['pairs', 'back end', 'migrations', 'median', 'worst', 'ratio', 'measured'],
                   rows)]


DOWNTIME = Kind('downtime', {name: f'downtime of a live migration, {pairs} queue pairs'
                             for name, pairs in CASES.items()}, measure, section)
