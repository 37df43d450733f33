# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What the daemon tells of workers and of the relay by DPDK's telemetry, as doc/ names it."""

import pytest

from backend import cpus
from daemon import Prompt
from frames import Frames, expect_right
from proc import wait_until
from telemetry import ask

pytestmark = [pytest.mark.ours, pytest.mark.every_release]

DEVICE = 'vdpa_sw_net0'
FRAMES = 20000
PHASES = ('stop', 'harvest', 'repoint', 'start', 'pause')


def test_workers(make_backend, programs, tools, folder):
    control, data = cpus()
    backend = make_backend(options=['--workers', f'{control},{data}']).start()
    assert ask(backend, '/vdpa/worker/list') == [0, 1]
    for nobody in ('', ',2', ',x'):
        assert ask(backend, '/vdpa/worker/info' + nobody) is None

    def info():
        """Of the worker that has, or has had, the only queue pair."""
        both = [ask(backend, f'/vdpa/worker/info,{n}') for n in range(2)]
        return max(both, key=lambda one: one['loops'])

    before = info()
    assert before['running'] == before['paths'] == before['busy_permille'] == 0
    assert before['loops'] == before['busy_loops'] == before['busy_cycles'] == 0
    run = Frames(programs, tools, folder, backend.path,
                 options=['--frames', '2000000000', '--timeout-s', '60'])

    def at_work():
        now = info()
        return now['running'] == 1 and now['paths'] == 1 and now['busy_permille'] > 0 and now
    busy = wait_until(at_work, 30.0, 'a worker has the queues and is busy', 0.1)
    assert busy['cpu'] in (control, data) and busy['sleeping'] in (0, 1)
    assert busy['busy_permille'] <= 1000
    run.program.terminate(30.0)
    wait_until(lambda: info()['running'] == 0, 30.0, 'the worker has ended', 0.1)
    after = info()
    assert after['paths'] == 0
    assert 0 < busy['busy_loops'] <= after['busy_loops'] <= after['loops']
    assert busy['busy_cycles'] <= after['busy_cycles'] <= after['cycles'] - before['cycles']


def test_relay(make_backend, programs, tools, folder):
    backend = make_backend(sockets=2, devargs=['relay=always', ''],
                           options=['--interactive']).start()
    assert sorted(ask(backend, '/vdpa/relay/list')) == [DEVICE, 'vdpa_sw_net1']
    for nobody in ('', ',', ',vdpa_sw_net'):
        assert ask(backend, '/vdpa/relay/info' + nobody) is None

    def info(device=DEVICE):
        return ask(backend, f'/vdpa/relay/info,{device}')

    other = info('vdpa_sw_net1')
    assert (other['relay'], other['mode'], other['why']) == ('auto', 'stopped', '')
    for key in ('entries', 'behind', 'behind_max', 'log', 'pages', 'tables'):
        assert other[key] == 0
    for phase in (*PHASES, 'mark'):
        assert other[phase]['count'] == 0
    run = Frames(programs, tools, folder, backend.path,
                 options=['--frames', str(FRAMES), '--timeout-s', '60'])
    expect_right(run.result(120), 1, FRAMES)
    wait_until(lambda: info()['mode'] == 'stopped', 30.0, 'the front end has gone', 0.1)
    # a looped frame is two entries, and each goes there and back
    assert info()['entries'] >= 4 * FRAMES
    assert info()['relay'] == 'always'
    run = Frames(programs, tools, folder, backend.path,
                 options=['--frames', '2000000000', '--timeout-s', '60'])
    wait_until(lambda: info()['entries'] >= 8 * FRAMES, 30.0, 'frames are relayed again', 0.1)
    shown = info()
    assert shown['mode'] == 'relayed' and shown['why'] != ''
    assert shown['behind'] <= shown['behind_max']
    Prompt(backend.running_program).relay(DEVICE, 'auto')
    wait_until(lambda: info()['mode'] == 'direct', 30.0, 'the device is direct', 0.1)
    shown = info()
    assert shown['relay'] == 'auto'
    for phase in PHASES:
        times = shown[phase]
        assert times['count'] >= 1, phase
        assert 0 < times['min_ns'] <= times['max_ns'], phase
        assert times['min_ns'] <= times['last_ns'] <= times['max_ns'], phase
        assert times['median_ns'] <= times['p99_ns'], phase
    run.program.terminate(30.0)
