# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_net beside stock net_vhost: frames a second and latency, with the same stock client."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

from backend import Backend, TestpmdVhost, VdpaDaemon
from bench_common import Kind, Results, Run, Told, commands, in_turn, spread, table
from frames import Frames
from proc import ProgramSet, Tools
from testpmd import Testpmd

WARM_S = 0.4
LATENCY_FRAMES = 20000
LATENCY_GAP_US = 50
BURST = 32          # testpmd's


@dataclass(frozen=True)
class Case:
    """One row of the page. goal: ratio that the project wants."""
    what: str
    goal: float
    devargs: str = ''
    size: int = 64
    in_flight: int = BURST
    eal: Sequence[str] = ()


VECTOR = ('--force-max-simd-bitwidth=512',)
CASES: Dict[str, Case] = {
    'split': Case('64 bytes split', 1.5),
    'split-nomrg': Case('64 bytes split, mrg_rxbuf=0', 1.5, 'mrg_rxbuf=0'),
    'split-inorder': Case('64 bytes split, in_order=1', 1.5, 'in_order=1'),
    'split-inorder-nomrg': Case('64 bytes split, in_order=1, mrg_rxbuf=0', 1.5,
                                'in_order=1,mrg_rxbuf=0'),
    'packed': Case('64 bytes packed', 1.0, 'packed_vq=1'),
    'packed-inorder': Case('64 bytes packed, in_order=1', 1.0, 'packed_vq=1,in_order=1'),
    'packed-vector': Case('64 bytes packed, vectorised', 1.0,
                          'packed_vq=1,in_order=1,mrg_rxbuf=0,vectorized=1', eal=VECTOR),
    'split-1518': Case('1518 bytes split', 2.0, size=1518),
    'packed-1518': Case('1518 bytes packed', 2.0, 'packed_vq=1', 1518),
    'split-128': Case('64 bytes split, 128 in flight', 1.0, in_flight=128),
    'packed-128': Case('64 bytes packed, 128 in flight', 1.0, 'packed_vq=1', in_flight=128),
    'packed-vector-128': Case('64 bytes packed, vectorised, 128 in flight', 1.0,
                              'packed_vq=1,in_order=1,mrg_rxbuf=0,vectorized=1',
                              in_flight=128, eal=VECTOR),
}
LATENCY = ('sleep', 'poll')


def back_end(kind: str, programs: ProgramSet, tools: Tools, folder: Path) -> Backend:
    if kind == 'net_vhost':
        return TestpmdVhost(programs, tools, folder).start()
    idle = 'poll' if kind == 'ours' else kind.removeprefix('ours-')
    return VdpaDaemon(programs, tools, folder, options=['--worker-idle', idle]).start()


def frames_per_second(front: Testpmd, seconds: float) -> float:
    """Frames that came back to the client, by its own counter."""
    time.sleep(WARM_S)
    start, before = time.monotonic(), front.stats()['RX-packets']
    time.sleep(seconds)
    after, end = front.stats()['RX-packets'], time.monotonic()
    return (after - before) / (end - start)


def run_speed(kind: str, case: Case, tools: Tools, seconds: float,
              told: Told) -> float:
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        backend = back_end(kind, programs, tools, Path(name))
        front = Testpmd(programs, tools, Path(name), backend.path, devargs=case.devargs,
                        eal=case.eal, options=[f'--txpkts={case.size}'])
        front.command(f'start tx_first {case.in_flight // BURST}')
        rate = frames_per_second(front, seconds)
        told[kind] = commands(programs)
        front.quit()
        return rate


def run_latency(kind: str, tools: Tools, told: Told) -> Dict[str, float]:
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        backend = back_end(kind, programs, tools, Path(name))
        run = Frames(programs, tools, Path(name), backend.path, devargs='queue_size=256',
                     options=['--sizes', '64', '--frames', str(LATENCY_FRAMES),
                              '--latency', str(LATENCY_GAP_US)])
        queue = run.result(60)['queues'][0]
        told[kind] = commands(programs)
        return {'median_us': queue['median_us'], 'p99_us': queue['p99_us']}


def measure_speed(name: str, run: Run) -> Dict[str, Any]:
    case = CASES[name]
    told: Told = {}
    rates: Dict[str, List[float]] = {'net_vhost': [], 'ours': []}
    for number in range(run.pairs):
        for kind in in_turn(number, ['net_vhost', 'ours']):
            rates[kind].append(run_speed(kind, case, run.tools, run.seconds, told))
    ratios = [ours / theirs for ours, theirs in zip(rates['ours'], rates['net_vhost'])]
    return {'what': case.what, 'goal': case.goal, **rates, 'ratios': ratios, 'commands': told}


def measure_latency(idle: str, run: Run) -> Dict[str, Any]:
    told: Told = {}
    runs: Dict[str, List[Dict[str, float]]] = {'net_vhost': [], f'ours-{idle}': []}
    for _ in range(run.pairs):
        for kind, results in runs.items():
            results.append(run_latency(kind, run.tools, told))
    return {'idle': idle, 'runs': runs, 'commands': told}


def mega(values: Sequence[float]) -> str:
    return f'{statistics.median(values) / 1e6:.2f}'


def speed_section(speeds: Results) -> List[str]:
    rows = [[case['what'], mega(case['net_vhost']), mega(case['ours']), spread(case['ratios']),
             f'{case["goal"]:.1f}', case['date']]
            for case in (speeds[name] for name in CASES if name in speeds)]
    return ['Million frames a second; ratio of each pair of runs: median (worst, best).', '',
            *table(['case', 'net_vhost', 'sw_net', 'ratio', 'goal', 'measured'], rows)]


def latency_section(latencies: Results) -> List[str]:
    rows = []
    for name in LATENCY:
        for kind, runs in latencies[name]['runs'].items() if name in latencies else ():
            rows.append([f'{kind} (beside {name})' if kind == 'net_vhost' else kind,
                         *(f'{statistics.median(run[figure] for run in runs):.1f}'
                           for figure in ('median_us', 'p99_us')), latencies[name]['date']])
    return [f'One frame there and back, microseconds, {LATENCY_GAP_US} after the one before.', '',
            *table(['back end', 'median', '99 %', 'measured'], rows)]


SPEED = Kind('speed', {name: case.what for name, case in CASES.items()}, measure_speed,
             speed_section)
DELAY = Kind('latency', {name: 'latency through a worker that does so' for name in LATENCY},
             measure_latency, latency_section)
