# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Our software device against stock net_vhost; bench.sh has the options in words."""

import argparse
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'app/test/system'))

from backend import Backend, TestpmdVhost, VdpaDaemon       # noqa: E402
from frames import Frames                                   # noqa: E402
from proc import ProgramSet, Tools                          # noqa: E402
from testpmd import Testpmd                                 # noqa: E402

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


def commands(programs: ProgramSet) -> List[str]:
    return [' '.join(program.argv) for program in programs.programs]


def run_speed(kind: str, case: Case, tools: Tools, seconds: float,
              told: Dict[str, List[str]]) -> float:
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        backend = back_end(kind, programs, tools, Path(name))
        front = Testpmd(programs, tools, Path(name), backend.path, devargs=case.devargs,
                        eal=case.eal, options=[f'--txpkts={case.size}'])
        front.command(f'start tx_first {case.in_flight // BURST}')
        rate = frames_per_second(front, seconds)
        told[kind] = commands(programs)
        front.quit()
        return rate


def run_latency(kind: str, tools: Tools, told: Dict[str, List[str]]) -> Dict[str, float]:
    with tempfile.TemporaryDirectory(prefix='vb-') as name, ProgramSet(Path(name)) as programs:
        backend = back_end(kind, programs, tools, Path(name))
        run = Frames(programs, tools, Path(name), backend.path, devargs='queue_size=256',
                     options=['--sizes', '64', '--frames', str(LATENCY_FRAMES),
                              '--latency', str(LATENCY_GAP_US)])
        queue = run.result(60)['queues'][0]
        told[kind] = commands(programs)
        return {'median_us': queue['median_us'], 'p99_us': queue['p99_us']}


def measure_speed(case: Case, tools: Tools, pairs: int, seconds: float) -> Dict[str, Any]:
    told: Dict[str, List[str]] = {}
    rates: Dict[str, List[float]] = {'net_vhost': [], 'ours': []}
    for number in range(pairs):
        for kind in ('net_vhost', 'ours') if number % 2 == 0 else ('ours', 'net_vhost'):
            rates[kind].append(run_speed(kind, case, tools, seconds, told))
    ratios = [ours / theirs for ours, theirs in zip(rates['ours'], rates['net_vhost'])]
    return {'what': case.what, 'goal': case.goal, **rates, 'ratios': ratios, 'commands': told}


def measure_latency(idle: str, tools: Tools, pairs: int) -> Dict[str, Any]:
    told: Dict[str, List[str]] = {}
    runs: Dict[str, List[Dict[str, float]]] = {'net_vhost': [], f'ours-{idle}': []}
    for _ in range(pairs):
        for kind, results in runs.items():
            results.append(run_latency(kind, tools, told))
    return {'idle': idle, 'runs': runs, 'commands': told}


def machine(tools: Tools) -> Dict[str, Any]:
    text = Path('/proc/cpuinfo').read_text()
    found = re.search(r'^model name\s*: (.*)$', text, re.M)
    return {'cpu': found[1] if found else 'unknown processor',
            'cpus': len(re.findall(r'^processor', text, re.M)), 'dpdk': tools.dpdk_release,
            'kernel': platform.release(),
            'date': time.strftime('%Y-%m-%d %H:%M', time.gmtime())}


def mega(values: Sequence[float]) -> str:
    return f'{statistics.median(values) / 1e6:.2f}'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """A simple table of reStructuredText."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    rule = '  '.join('=' * width for width in widths)

    def line(row: Sequence[str]) -> str:
        return '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    return [rule, line(head), rule, *map(line, rows), rule]


def speed_rows(speeds: Dict[str, Any]) -> List[List[str]]:
    rows = []
    for name in CASES:
        if name not in speeds:
            continue
        case = speeds[name]
        ratios = case['ratios']
        rows.append([case['what'], mega(case['net_vhost']), mega(case['ours']),
                     f'{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})',
                     f'{case["goal"]:.1f}', case['date']])
    return rows


def latency_rows(latencies: Dict[str, Any]) -> List[List[str]]:
    rows = []
    for name in LATENCY:
        for kind, runs in latencies[name]['runs'].items() if name in latencies else ():
            rows.append([f'{kind} (beside {name})' if kind == 'net_vhost' else kind,
                         *(f'{statistics.median(run[figure] for run in runs):.1f}'
                           for figure in ('median_us', 'p99_us')), latencies[name]['date']])
    return rows


def command_lines(result: Dict[str, Any]) -> List[str]:
    lines: List[str] = []
    for name, case in {**result['speed'], **result['latency']}.items():
        for kind, argvs in case['commands'].items():
            lines += ['', f'{name}, {kind}::', '', *('   ' + argv for argv in argvs)]
    return lines


def page(result: Dict[str, Any]) -> str:
    m = result['machine']
    lines = [f'{m["cpu"]}, {m["cpus"]} CPUs, DPDK {m["dpdk"]}, Linux {m["kernel"]}.', '',
             'Million frames a second; ratio of each pair of runs: median (worst, best).', '']
    lines += table(['case', 'net_vhost', 'sw_net', 'ratio', 'goal', 'measured'],
                   speed_rows(result['speed']))
    if result['latency']:
        lines += ['', 'One frame there and back, microseconds, '
                  f'{LATENCY_GAP_US} after the one before.', '']
        lines += table(['back end', 'median', '99 %', 'measured'],
                       latency_rows(result['latency']))
    return '\n'.join([*lines, '', 'Commands', '--------', *command_lines(result), ''])


def chosen(text: str) -> List[str]:
    names = [*CASES, *LATENCY]
    if text == 'help':
        print('\n'.join([*(f'{n:20} {c.what}' for n, c in CASES.items()),
                         *(f'{n:20} latency through a worker that does so' for n in LATENCY)]))
        sys.exit(0)
    wanted = text.split(',') if text else names
    for name in wanted:
        if name not in names:
            sys.exit(f'bench: {name}: no such case; --cases help lists them')
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--builddir', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--cases', default='')
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.5)
    arguments = parser.parse_args()
    tools = Tools(arguments.builddir.resolve())
    stored = arguments.out.with_name(arguments.out.name + '.json')
    result = {'speed': {}, 'latency': {}}
    if stored.exists():
        result = json.loads(stored.read_text())
    result['machine'] = machine(tools)
    for name in chosen(arguments.cases):
        if name in CASES:
            case = measure_speed(CASES[name], tools, arguments.pairs, arguments.seconds)
            print(*speed_rows({name: {**case, 'date': ''}})[0], sep='  ', flush=True)
        else:
            case = measure_latency(name, tools, arguments.pairs)
            for row in latency_rows({name: {**case, 'date': ''}}):
                print(*row, sep='  ', flush=True)
        case['date'] = result['machine']['date'][:10]
        result['speed' if name in CASES else 'latency'][name] = case
        stored.write_text(json.dumps(result, indent=1))
        arguments.out.with_name(arguments.out.name + '.rst').write_text(page(result))


if __name__ == '__main__':
    main()
