# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Our back ends beside stock ones; bench.sh has the options in words."""

import argparse
import json
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'app/test/system'))

from bench_blk import BLK, BLK_RAW              # noqa: E402
from bench_common import Kind, Run              # noqa: E402
from bench_migration import DOWNTIME            # noqa: E402
from bench_net import DELAY, SPEED              # noqa: E402
from proc import Tools                          # noqa: E402

KINDS = (SPEED, DELAY, DOWNTIME, BLK, BLK_RAW)
OF_CASE: Dict[str, Kind] = {name: kind for kind in KINDS for name in kind.cases}


def machine(tools: Tools) -> Dict[str, Any]:
    text = Path('/proc/cpuinfo').read_text()
    found = re.search(r'^model name\s*: (.*)$', text, re.M)
    return {'cpu': found[1] if found else 'unknown processor',
            'cpus': len(re.findall(r'^processor', text, re.M)), 'dpdk': tools.dpdk_release,
            'kernel': platform.release(),
            'date': time.strftime('%Y-%m-%d %H:%M', time.gmtime())}


def command_lines(result: Dict[str, Any]) -> List[str]:
    lines: List[str] = []
    for kind in KINDS:
        for name, case in result[kind.key].items():
            for program, argvs in case['commands'].items():
                lines += ['', f'{name}, {program}::', '', *('   ' + argv for argv in argvs)]
    return lines


def page(result: Dict[str, Any]) -> str:
    m = result['machine']
    lines = [f'{m["cpu"]}, {m["cpus"]} CPUs, DPDK {m["dpdk"]}, Linux {m["kernel"]}.']
    for kind in KINDS:
        if result[kind.key]:
            lines += ['', *kind.section(result[kind.key])]
    return '\n'.join([*lines, '', 'Commands', '--------', *command_lines(result), ''])


def chosen(text: str) -> List[str]:
    if text == 'help':
        print('\n'.join(f'{name:20} {kind.cases[name]}' for name, kind in OF_CASE.items()))
        sys.exit(0)
    wanted = text.split(',') if text else list(OF_CASE)
    for name in wanted:
        if name not in OF_CASE:
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
    cases = chosen(arguments.cases)
    run = Run(Tools(arguments.builddir.resolve()), arguments.pairs, arguments.seconds)
    stored = arguments.out.with_name(arguments.out.name + '.json')
    result = {kind.key: {} for kind in KINDS}
    if stored.exists():
        result.update(json.loads(stored.read_text()))
    result['machine'] = machine(run.tools)
    for name in cases:
        kind = OF_CASE[name]
        case = {**kind.measure(name, run), 'date': result['machine']['date'][:10]}
        print(*kind.section({name: case}), sep='\n', flush=True)
        result[kind.key][name] = case
        stored.write_text(json.dumps(result, indent=1))
        arguments.out.with_name(arguments.out.name + '.rst').write_text(page(result))


if __name__ == '__main__':
    main()
