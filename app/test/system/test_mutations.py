# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Dirty marking broken on purpose: the tests of the log and of live migration must fail, each time.

The build option `mutations` makes a second libvdpa, which breaks marking in the way that the
environment names; the daemon takes it by LD_PRELOAD. Each test runs in a pytest of its own.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Dict

import pytest

pytestmark = pytest.mark.ours

HERE = Path(__file__).resolve().parent
EXACT = 'test_dirty_log.py::test_exactly_what_was_written'
WORD = 'test_dirty_log.py::test_frames_right_behind_the_word'
LATE_LOG = 'test_dirty_log.py::test_stop_engages_a_log_that_came_late'
STOP = 'test_dirty_log.py::test_each_stop_hands_over_what_was_marked'
GROWN = 'test_dirty_log.py::test_memory_comes_and_goes_in_a_log'
MOVE = 'test_migration.py::test_there_and_back'
PAIRS = 'test_migration.py::test_pairs_and_frames_outstanding'
PAGES, MARKED, WHOLE = 'pages differ', 'missing', 'whole table is marked'
SLOW_RUN_S = 170

# mutation -> test -> what the failure says. The first test runs in CI, all in the long run, each time.
MUTATIONS: Dict[str, Dict[str, str]] = {
    'late': {f'{WORD}[split-flags-mirrored]': 'written after LOG_ALL',
             f'{WORD}[packed-events-log]': 'written after LOG_ALL',
             f'{WORD}[packed-events-relayed]': 'written after LOG_ALL'},
    'after-stop': {f'{PAIRS}[split-mirrored]': PAGES,
                   f'{PAIRS}[packed-log]': PAGES,
                   f'{LATE_LOG}[packed-flags-mirrored]': 'not all is marked',
                   f'{LATE_LOG}[split-flags-log]': 'not all is marked'},
    'no-ring': {f'{EXACT}[split-flags-mirrored]': MARKED,
                f'{EXACT}[packed-events-mirrored]': MARKED,
                f'{EXACT}[split-flags-log]': MARKED,
                f'{EXACT}[split-events-relayed]': MARKED},
    'short-buffer': {f'{MOVE}[mirrored-packed-events]': PAGES,
                     f'{MOVE}[log-split]': PAGES,
                     f'{EXACT}[packed-flags-mirrored]': MARKED,
                     f'{EXACT}[split-events-log]': MARKED},
    'one-mark-all': {f'{EXACT}[split-flags-mirrored]': WHOLE,
                     f'{GROWN}[packed-flags-log]': WHOLE,
                     f'{EXACT}[packed-events-log]': WHOLE},
    'no-event': {f'{EXACT}[split-events-mirrored]': MARKED,
                 f'{EXACT}[packed-events-relayed]': MARKED,
                 f'{EXACT}[split-events-log]': MARKED},
    'no-sync-at-stop': {f'{STOP}[split-flags-mirrored]': MARKED,
                        f'{STOP}[packed-events-log]': MARKED},
}
IN_CI = 1


@pytest.fixture
def outcomes(tools, folder):
    """Run tests against the broken library: test -> why it failed, or None."""
    library = tools.builddir / 'app/test/mutant/libvdpa.so.0' if tools.builddir else None
    if library is None or not library.exists():
        pytest.skip('built without -Dmutations=true')

    def run(mutation, tests):
        daemon = folder / 'dpdk-vdpa'
        daemon.write_text(f'#!/bin/sh\nVDPA_MUTATION={mutation} LD_PRELOAD={library} '
                          f'exec {tools.builddir}/examples/dpdk-vdpa "$@"\n')
        daemon.chmod(0o755)
        report = folder / 'report.xml'
        done = subprocess.run(
            [sys.executable, '-B', '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
             f'--builddir={tools.builddir}', f'--junitxml={report}',
             *(str(HERE / test) for test in tests)],
            env={**os.environ, 'DPDK_VDPA': str(daemon)}, cwd=folder, timeout=SLOW_RUN_S, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode in (0, 1), done.stdout
        found = {}
        for case in xml.parse(report).iter('testcase'):
            assert case.find('skipped') is None and case.find('error') is None, done.stdout
            failure = case.find('failure')
            name = f'{case.get("classname").rsplit(".", 1)[-1]}.py::{case.get("name")}'
            found[name] = None if failure is None else failure.get('message')
        assert set(found) == set(tests), done.stdout
        return found
    return run


def test_the_library_works_while_nothing_is_broken(outcomes):
    tests = [f'{STOP}[split-flags-mirrored]', f'{PAIRS}[packed-log]']
    assert outcomes('none', tests) == dict.fromkeys(tests)


@pytest.mark.parametrize('mutation', sorted(MUTATIONS))
def test_broken_marking_is_found(outcomes, is_long, need_qemu, mutation):
    expected = MUTATIONS[mutation]
    tests = list(expected)[:None if is_long else IN_CI]
    for _ in range(5 if is_long else 1):
        found = outcomes(mutation, tests)
        alive = {test: why for test, why in found.items()
                 if why is None or expected[test] not in why}
        assert not alive, f'{mutation} goes unseen by {alive}'
