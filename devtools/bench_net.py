# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_net beside stock net_vhost: frames a second and latency, with the same stock client."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import telemetry
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


def worker_counters(backend: Backend) -> Dict[str, int]:
    return telemetry.ask(backend, '/vdpa/worker/info,0') if backend.is_ours else {}


def measure_run(front: Testpmd, backend: Backend, seconds: float) -> Tuple[float, Dict[str, float]]:
    """Frames a second that came back to the client, by its own counter; what our worker says."""
    time.sleep(WARM_S)
    worker = worker_counters(backend)
    start, before = time.monotonic(), front.stats()['RX-packets']
    time.sleep(seconds)
    after, end = front.stats()['RX-packets'], time.monotonic()
    now, frames = worker_counters(backend), after - before
    if not worker or not frames:
        return frames / (end - start), {}
    rounds = max(1, now['busy_loops'] - worker['busy_loops'])
    return frames / (end - start), {
        'cycles_a_frame': (now['busy_cycles'] - worker['busy_cycles']) / frames,
        'burst': frames / rounds, 'idle_share': 1 - (now['busy_cycles'] - worker['busy_cycles']) /
        (now['cycles'] - worker['cycles'])}


def run_speed(kind: str, case: Case, tools: Tools, seconds: float,
              told: Told) -> Tuple[float, Dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        backend = back_end(kind, programs, tools, Path(name))
        front = Testpmd(programs, tools, Path(name), backend.path, devargs=case.devargs,
                        eal=case.eal, options=[f'--txpkts={case.size}'])
        front.command(f'start tx_first {case.in_flight // BURST}')
        result = measure_run(front, backend, seconds)
        told[kind] = commands(programs)
        front.quit()
        return result


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
    workers: List[Dict[str, float]] = []
    for number in range(run.pairs):
        for kind in in_turn(number, ['net_vhost', 'ours']):
            rate, worker = run_speed(kind, case, run.tools, run.seconds, told)
            rates[kind].append(rate)
            workers += [worker] if worker else []
    ratios = [ours / theirs for ours, theirs in zip(rates['ours'], rates['net_vhost'])]
    return {'what': case.what, 'goal': case.goal, **rates, 'ratios': ratios, 'workers': workers,
            'commands': told}


def measure_latency(idle: str, run: Run) -> Dict[str, Any]:
    told: Told = {}
    runs: Dict[str, List[Dict[str, float]]] = {'net_vhost': [], f'ours-{idle}': []}
    for _ in range(run.pairs):
        for kind, results in runs.items():
            results.append(run_latency(kind, run.tools, told))
    return {'idle': idle, 'runs': runs, 'commands': told}


def mega(values: Sequence[float]) -> str:
    return f'{statistics.median(values) / 1e6:.2f}'


def of_workers(case: Dict[str, Any], figure: str, digits: int) -> str:
    samples = [worker[figure] for worker in case.get('workers', ())]
    return f'{statistics.median(samples):.{digits}f}' if samples else 'not measured'


def speed_section(speeds: Results) -> List[str]:
    rows = [[case['what'], mega(case['net_vhost']), mega(case['ours']), spread(case['ratios']),
             f'{case["goal"]:.1f}', of_workers(case, 'cycles_a_frame', 0),
             of_workers(case, 'burst', 1), of_workers(case, 'idle_share', 2), case['date']]
            for case in (speeds[name] for name in CASES if name in speeds)]
    return ['Million frames a second; ratio of each pair of runs: median (worst, best). Of our worker,',
            'medians: TSC cycles a frame in rounds that found work (*cycles*), frames in such a round',
            '(*burst*), share of the time in rounds that found none (*idle*).', '',
            *table(['case', 'net_vhost', 'sw_net', 'ratio', 'goal', 'cycles', 'burst', 'idle',
                    'measured'], rows)]


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
