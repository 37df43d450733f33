# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Datapath workers of the daemon: shown, moved by hand under traffic, two on one processor."""

import re

import pytest

from backend import cpus
from daemon import Prompt
from frames import Frames, expect_right
from proc import wait_until

pytestmark = pytest.mark.ours

DEVICE = 'vdpa_sw_net0'
LINE = re.compile(r'worker (\d+)  cpu (\d+), (\d+) paths, busy (\d+)\.\d %, '
                  r'(sleeping|polling|not started) \((\w+)\)')


def workers(prompt):
    """The answer to `worker`: a match of LINE for each."""
    return list(LINE.finditer(prompt.ask('worker', '^worker 1  ')))


def start(make_backend, options, **more):
    backend = make_backend(options=['--interactive', *options], **more).start()
    return backend, Prompt(backend.running_program)


@pytest.mark.parametrize('devargs', ['', 'relay=always'], ids=['direct', 'relayed'])
def test_moves_under_traffic_lose_nothing(make_backend, programs, tools, folder, devargs):
    control, data = cpus()
    backend, prompt = start(make_backend, ['--workers', f'{control},{data}'], pairs=2,
                            devargs=devargs)
    frames = 400_000
    run = Frames(programs, tools, folder, backend.path, queues=2,
                 options=['--frames', str(frames), '--timeout-s', '20'])
    wait_until(lambda: sum(int(w[3]) for w in workers(prompt)) == (6 if devargs else 2), 15.0,
               'all paths are with workers', 0.1)
    moves = 0
    while moves < 200 and run.program.running():
        queue, worker = ('rx0', 'tx0', 'rx1', '3')[moves % 4], moves // 4 % 2
        answer = prompt.ask(f'worker move {DEVICE} {queue} {worker}',
                            rf'(?m)^({DEVICE}: {queue} is with worker {worker}|error.*)$')
        if 'error' in answer:   # the client has just ended
            assert 'no worker works on' in answer
            break
        moves += 1
    expect_right(run.result(120), 2, frames)
    assert moves >= 10


def test_list_tells_what_workers_do(make_backend, programs, tools, folder):
    control, data = cpus()
    backend, prompt = start(make_backend, ['--workers', f'{control},{data}'], pairs=2)
    first, second = workers(prompt)
    assert (int(first[2]), int(second[2])) == (control, data)
    for worker in (first, second):
        assert worker[5] == 'not started' and worker[6] == 'adaptive' and worker[3] == '0'
    run = Frames(programs, tools, folder, backend.path, queues=2,
                 options=['--frames', '2000000000', '--timeout-s', '20'])
    wait_until(lambda: [int(w[4]) >= 5 and w[3] == '1' for w in workers(prompt)] == [True, True],
               30.0, 'both workers have a path and are busy', 0.3)
    run.program.terminate(10.0)
    wait_until(lambda: {w[5] for w in workers(prompt)} == {'not started'}, 10.0, 'both ended', 0.1)


@pytest.mark.parametrize('words, says', [
    ('nobody rx0 0', 'nobody: no such device'),
    (f'{DEVICE} up 0', 'queue=up: expected'),
    (f'{DEVICE} rx9 0', 'has no virtqueue 18'),
    (f'{DEVICE} rx0 7', 'there is no worker 7'),
    (f'{DEVICE} rx0 x', 'worker=x: expected'),
    (f'{DEVICE} rx0 0', 'no worker works on virtqueue 0'),
])
def test_wrong_move(make_backend, words, says):
    _, prompt = start(make_backend, ['--workers', f'{cpus()[0]},{cpus()[1]}'])
    assert says in prompt.ask('worker move ' + words, '(?m)^error: .*$')


@pytest.mark.parametrize('idle', ['poll', 'sleep', 'adaptive'])
def test_two_workers_share_a_processor(make_backend, programs, tools, folder, idle):
    """And the client's threads are on it, too: a worker that held it would cost whole time slices."""
    control, _ = cpus()
    backend, prompt = start(
        make_backend, ['--workers', f'{control},{control}', '--worker-idle', idle], pairs=2)
    run = Frames(programs, tools, folder, backend.path, queues=2,
                 options=['--frames', '20000', '--timeout-s', '20'])
    result = run.result(100)
    expect_right(result, 2, 20000)
    assert [w[6] for w in workers(prompt)] == [idle, idle]
