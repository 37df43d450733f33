# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Many devices in one daemon, each with a front end of its own."""

import json
import resource
import time

import pytest

from daemon import Daemon, Prompt
from proc import wait_until
from raw_nic import RawNic
from traffic import Stream
from vnet import run_flows

pytestmark = pytest.mark.ours

LONG_DEVICES = 500        # doc/limits.rst: a listening socket and a connection each
DEVICES = 100
STEP = 10
FRAMES = 20


def cpu_s(pid):
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_devices_come_run_and_go(programs, tools, folder, is_long):
    """Time of each step does not grow with what is there already; idle ones cost next to nothing."""
    wanted = LONG_DEVICES if is_long else DEVICES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))    # the daemon inherits it
    vhost = Daemon(programs, tools, folder)
    config = vhost.config([vhost.device(f'v{i}') for i in range(wanted)])
    program = vhost.start(['--config', config, '--interactive', '--worker-idle', 'sleep'])
    prompt = Prompt(program)
    nics, times = [], []
    try:
        RawNic(ring_size=64).bring_up(vhost.socket('v0')).close()
        before = program.resources()
        for i in range(wanted):
            began = time.monotonic()
            nic = RawNic(ring_size=64).bring_up(vhost.socket(f'v{i}'))
            times.append(time.monotonic() - began)
            nics.append(nic)
            if i % STEP == 0 or i == wanted - 1:
                stream = Stream(0)
                run_flows(nic.flows([stream]), FRAMES, idle_s=5.0)
                assert stream.books().clean(), f'device {i}: {stream.books()}'
        full = program.resources()
        used = cpu_s(program.pid)
        time.sleep(3)
        idle = (cpu_s(program.pid) - used) / 3
        first, last = sorted(times[:STEP])[STEP // 2], sorted(times[-STEP:])[STEP // 2]
        print(json.dumps({
            'devices': wanted, 'connect_first_ms': first * 1e3, 'connect_last_ms': last * 1e3,
            'kib_a_device': (full.rss_kib - before.rss_kib) / wanted,
            'descriptors_a_device': (full.descriptors - before.descriptors) / wanted,
            'idle_share': idle}))
        assert idle < 0.01 * max(1, wanted / 256) + 0.01     # /proc counts in 1/100 s
        assert last < 2 * first + 0.05, f'{first} s, then {last} s'
        assert full.threads <= before.threads + 64      # the op pool, however many devices
        assert full.rss_kib - before.rss_kib < 64 * wanted
    finally:
        for nic in nics:
            nic.close()
    # a device keeps the call descriptors that its first start made
    wait_until(lambda: program.resources().descriptors <= before.descriptors + 3 * wanted, 30.0,
               'the descriptors of the front ends are closed', 0.1)
    for i in range(wanted):
        prompt.ask(f'delete v{i}', rf'(?m)^v{i} is not bound any more$')
    assert program.terminate(20.0) == 0
    assert not vhost.left_over()
