# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Many devices in one daemon, each with a front end of its own."""

import json
import resource
import time

import pytest

from daemon import Daemon, Prompt
from proc import cpu_seconds_of, wait_until
from raw_nic import RawNic
from traffic import Stream
from vhost_user import Listener
from vnet import run_flows

pytestmark = pytest.mark.ours

LONG_DEVICES = 500        # doc/limits.rst: a listening socket and a connection each
LONG_CLIENTS = 1000       # a connection each
DEVICES = 100
RAM_BYTES = 1 << 20
STEP = 10
FRAMES = 20


def anonymous_kib(pid):
    """Memory of its own: neither rings nor frames, which are shared."""
    with open(f'/proc/{pid}/status') as file:
        return int(next(line for line in file if line.startswith('RssAnon')).split()[1])


def use_all_descriptors():
    """The daemon inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def median(times):
    return sorted(times)[len(times) // 2]


class Answers:
    """What a daemon says, from now on, looked at often enough to time it."""

    def __init__(self, program):
        self.program = program
        self.out = open(program.out, errors='replace')
        self.out.seek(0, 2)

    def ask(self, command, answer):
        """How long it took until the answer came, in seconds."""
        began, seen = time.monotonic(), ''
        self.program.write(command + '\n')
        while answer not in seen:
            seen += self.out.read()
            assert time.monotonic() < began + 60, f'{command}: {seen}'
            time.sleep(0.0002)
        return time.monotonic() - began


class ListeningNic:
    """A front end that the daemon connects to, and how long each step took, in seconds."""

    def __init__(self, answers, device, path):
        self.answers, self.device = answers, device
        self.listener = Listener(path)
        self.create_s = answers.ask(f'create {path} {device}', f'{device} is bound to')
        began = time.monotonic()
        self.nic = RawNic(ring_size=64, memory_bytes=RAM_BYTES).attach(self.listener.accept())
        self.nic.negotiate()
        self.nic.agree()
        self.nic.start()
        self.connect_s = time.monotonic() - began
        self.delete_s = 0.0

    def drive(self):
        stream = Stream(0)
        run_flows(self.nic.flows([stream]), FRAMES, idle_s=5.0)
        assert stream.books().clean(), f'{self.device}: {stream.books()}'

    def delete(self):
        self.delete_s = self.answers.ask(f'delete {self.device}',
                                         f'{self.device} is not bound any more')
        self.nic.close()
        self.listener.close()


def connect_all(answers, vhost, wanted):
    all_nics = []
    for i in range(wanted):
        all_nics.append(ListeningNic(answers, f'v{i}.', vhost.socket(f'v{i}')))
        if i % STEP == 0 or i == wanted - 1:
            all_nics[-1].drive()
    return all_nics


def delete_all(all_nics):
    for nic in all_nics:
        nic.drive()
        nic.delete()


def test_daemon_connects_to_a_thousand(programs, tools, folder, is_long):
    """A descriptor of librte_vhost each; all is given back, and no step gets slower."""
    wanted = LONG_CLIENTS if is_long else DEVICES
    use_all_descriptors()
    vhost = Daemon(programs, tools, folder)
    config = vhost.config([{'name': f'v{i}.', 'mgmtdev': 'sw_net', 'backend': 'loopback'}
                           for i in range(wanted)])
    program = vhost.start(['--config', config, '--interactive', '--client',
                           '--worker-idle', 'sleep'])
    answers = Answers(program)
    ListeningNic(answers, 'v0.', vhost.socket('first')).delete()
    before, before_kib = program.resources(), anonymous_kib(program.pid)
    all_nics = connect_all(answers, vhost, wanted)
    full, full_kib = program.resources(), anonymous_kib(program.pid)
    delete_all(all_nics)
    # a device that was made at the start keeps the call descriptors of its two queues
    wait_until(lambda: program.resources().descriptors <= before.descriptors + 2 * wanted + 8,
               30.0, 'descriptors are given back', 0.1)
    after, after_kib = program.resources(), anonymous_kib(program.pid)
    figures = {'devices': wanted, 'kib_a_device': (full_kib - before_kib) / wanted,
               'descriptors_a_device': (full.descriptors - before.descriptors) / wanted,
               'kib_left': after_kib - before_kib,
               'descriptors_left': after.descriptors - before.descriptors}
    for step in ('create', 'connect', 'delete'):
        times = [getattr(nic, step + '_s') * 1e3 for nic in all_nics]
        # deleted from the first on: the last go while hardly any are left
        figures[step + '_ms'] = [round(median(times[:STEP]), 2), round(median(times[-STEP:]), 2)]
    assert full_kib - before_kib < 64 * wanted
    assert after_kib - before_kib < 8 * wanted + 1024     # what the C library keeps for itself
    delete_all(connect_all(answers, vhost, wanted))
    wait_until(lambda: program.resources().descriptors <= after.descriptors + 8, 30.0,
               'a second round leaves no descriptors', 0.1)
    figures['kib_left_by_second_round'] = anonymous_kib(program.pid) - after_kib
    print(json.dumps(figures))
    assert figures['kib_left_by_second_round'] < wanted + 512, figures
    for step in ('create', 'connect', 'delete'):
        few, many = sorted(figures[step + '_ms'])
        assert many < 2 * few + 50, figures
    assert program.terminate(20.0) == 0
    assert not vhost.left_over()


def test_devices_come_run_and_go(programs, tools, folder, is_long):
    """Time of each step does not grow with what is there already; idle ones cost next to nothing."""
    wanted = LONG_DEVICES if is_long else DEVICES
    use_all_descriptors()
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
        used = cpu_seconds_of(program.pid)
        time.sleep(3)
        idle = (cpu_seconds_of(program.pid) - used) / 3
        first, last = median(times[:STEP]), median(times[-STEP:])
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
