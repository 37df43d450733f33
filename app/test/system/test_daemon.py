# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""dpdk-vdpa: start, sockets, signals and stop, what it logs, its prompt on pipe and terminal."""

import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from daemon import Daemon, Prompt, Terminal, parse_list, wait_listening
from frames import Frames, expect_right
from proc import cpu_seconds_of, resources_of, wait_until
from vhost_user import connect

LOOPBACK = 'vdpa_sw_net{},backend=loopback'
FENCED = 3
# The stop deadline of a device, one second, and what a loaded machine adds.
STOP_LIMIT_S = 0.2 + 1 + 4      # two deadlines, and a busy machine


@pytest.fixture
def daemon(programs, tools, folder) -> Daemon:
    return Daemon(programs, tools, folder)


@pytest.fixture
def serving(daemon):
    """A daemon with one device and its prompt on a pipe."""
    program = daemon.start(['--iface', daemon.socket('v'), '--interactive'], [LOOPBACK.format(0)])
    return program


def traffic(daemon, name, path, frames=0):
    """Traffic through a socket; frames 0: until it is told to stop."""
    run = Frames(daemon.programs, daemon.tools, daemon.folder, path, name=name,
                 options=['--frames', str(frames), '--timeout-s', '5', '--progress'])
    run.program.wait_output(r'progress: [1-9]\d* frames sent, [1-9]|"ok"', 15.0)
    return run


# ---- what needs no device ----

@pytest.mark.parametrize('where', ['before', 'after'])
def test_help_and_version(daemon, where):
    dashes = ['--'] if where == 'after' else []
    for option, words in (('--help', ['--config FILE', '--iface', '--workers', 'max_vqp']),
                          ('--version', [f'DPDK {daemon.tools.dpdk_series}'])):
        done = subprocess.run([daemon.tools.daemon, *dashes, option], text=True,
                              capture_output=True, timeout=10)
        assert done.returncode == 0
        assert done.stderr == ''
        for word in words:
            assert word in done.stdout
    assert re.fullmatch(r'dpdk-vdpa \d+\.\d+\.\d+ \(DPDK .*\)\n', done.stdout)


# ---- sockets ----

def test_prefix_numbers_devices_in_the_order_of_the_command_line(daemon):
    names = ['vdpa_sw_net7', 'vdpa_sw_net2', 'vdpa_sw_netx']
    program = daemon.start(['--iface', daemon.socket('v'), '--interactive'],
                           [name + ',backend=loopback' for name in names])
    assert daemon.left_over() == ['v0', 'v1', 'v2']
    devices = Prompt(program).list()
    assert list(devices) == names
    for number, name in enumerate(names):
        assert f'vhost:{daemon.socket("v")}{number} (server)' in devices[name]['front end']
    assert program.terminate() == 0
    assert daemon.left_over() == []


def test_configuration_file(daemon):
    devices = [daemon.device('first', max_vqp=2), daemon.device('second', max_vqp='3', mtu=9000),
               daemon.device('third', backend='null')]
    del devices[2]['bind']
    program = daemon.start(['--config', daemon.config(devices), '--interactive'])
    assert daemon.left_over() == ['first', 'second']
    shown = Prompt(program).list()
    assert list(shown) == ['first', 'second', 'third']
    assert '2 queue pairs' in shown['first']['parent']
    assert '3 queue pairs' in shown['second']['parent']
    assert shown['third']['front end'].startswith('not bound')
    for name in ('first', 'second'):
        run = Frames(daemon.programs, daemon.tools, daemon.folder, daemon.socket(name), name=name,
                     options=['--frames', '2000'])
        expect_right(run.result(30), 1, 2000)
    assert program.terminate() == 0
    assert daemon.left_over() == []


def test_file_and_prefix_together(daemon):
    path = daemon.config([daemon.device('named')])
    program = daemon.start(['--config', path, '--iface', daemon.socket('v')], [LOOPBACK.format(0)])
    assert daemon.left_over() == ['named', 'v0']
    assert program.terminate() == 0
    assert daemon.left_over() == []


def test_mode_and_group(daemon):
    group = 1
    path = daemon.config([
        daemon.device('both', bind={'mode': '0640', 'group': str(group)}),
        daemon.device('mode', bind={'mode': '0600'}),
        daemon.device('group', bind={'group': 'daemon'})])
    program = daemon.start(['--config', path])

    def found(name):
        status = os.stat(daemon.socket(name))
        return stat.S_IMODE(status.st_mode), status.st_gid
    assert found('both') == (0o640, group)
    assert found('mode') == (0o600, os.getgid())
    assert found('group') == (0o660, group)
    assert program.terminate() == 0


def test_stale_socket_is_replaced(daemon):
    path = daemon.socket('v0')
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    assert daemon.left_over() == ['v0']
    program = daemon.start(['--iface', daemon.socket('v')], [LOOPBACK.format(0)])
    run = Frames(daemon.programs, daemon.tools, daemon.folder, path, options=['--frames', '1000'])
    expect_right(run.result(30), 1, 1000)
    assert program.terminate() == 0


def test_killed_daemon_comes_back_on_its_own_socket(daemon):
    arguments = ['--iface', daemon.socket('v')], [LOOPBACK.format(0)]
    daemon.start(*arguments).kill()
    assert daemon.left_over() == ['v0']
    assert daemon.start(*arguments).terminate() == 0
    assert daemon.left_over() == []


def test_client_connects_to_a_front_end_that_listens(daemon):
    path = daemon.socket('v0')
    # net_virtio_user waits in its probe until a back end has connected.
    run = Frames(daemon.programs, daemon.tools, daemon.folder, path, devargs='server=1',
                 options=['--frames', '10000'])
    wait_listening(path)
    program = daemon.start(['--iface', daemon.socket('v'), '--client'], [LOOPBACK.format(0)])
    expect_right(run.result(30), 1, 10000)
    assert program.terminate() == 0


# ---- signals and stop ----

@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_stops_it_with_traffic(daemon, number):
    program = daemon.start(['--iface', daemon.socket('v')], [LOOPBACK.format(i) for i in range(2)])
    runs = [traffic(daemon, f'f{i}', daemon.socket(f'v{i}')) for i in range(2)]
    begin = time.monotonic()
    program.signal(number)
    assert program.wait(10) == 0
    assert time.monotonic() - begin < STOP_LIMIT_S
    assert daemon.left_over() == []
    for run in runs:
        result = run.result(20)         # it misses what was under way, and no more
        assert result['queues'][0]['changed'] == 0
        assert result['queues'][0]['lost'] <= result['inflight']


@pytest.mark.parametrize('op', ['stop', 'start'])
def test_hung_device_is_fenced_and_named_while_others_stop_well(daemon, op):
    program = daemon.start(['--iface', daemon.socket('v')],
                           [LOOPBACK.format(0), LOOPBACK.format(1) + f',hang_op={op}'])
    good = traffic(daemon, 'good', daemon.socket('v0'))
    bad = Frames(daemon.programs, daemon.tools, daemon.folder, daemon.socket('v1'), name='bad',
                 options=['--frames', '0', '--timeout-s', '60', '--progress'])
    back = '0' if op == 'start' else '[1-9]'
    bad.program.wait_output(rf'progress: [1-9]\d* frames sent, {back}', 15.0)
    begin = time.monotonic()
    program.signal(signal.SIGTERM)
    assert program.wait(10) == FENCED
    assert time.monotonic() - begin < STOP_LIMIT_S
    text = program.text()
    assert re.search(r'vdpa_sw_net1: .*(fenced|hang)', text)
    assert not re.search(r'vdpa_sw_net0: .*(fenced|hang)', text)
    assert daemon.left_over() == []
    good.result(20)
    bad.program.end()


def test_second_signal_ends_it_at_once(daemon):
    program = daemon.start(['--iface', daemon.socket('v')], [LOOPBACK.format(0) + ',hang_op=stop'])
    traffic(daemon, 'front', daemon.socket('v0'))
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    # the first one alone would end it with FENCED
    assert program.wait(5) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_signal_before_it_is_ready(daemon):
    program = daemon.programs.start(
        daemon.argv(['--iface', daemon.socket('v')], [LOOPBACK.format(0)]), name='daemon',
        env=daemon.environment)
    program.wait_output('EAL: ')
    program.signal(signal.SIGTERM)
    assert program.wait(10) == 0
    assert daemon.left_over() == []


# ---- what it logs ----

def test_front_end_coming_and_going_is_one_line_each(daemon):
    program = daemon.start(['--iface', daemon.socket('v')], [LOOPBACK.format(0)])
    run = Frames(daemon.programs, daemon.tools, daemon.folder, daemon.socket('v0'),
                 options=['--frames', '1000'])
    pid = run.program.pid
    expect_right(run.result(30), 1, 1000)
    program.wait_output('vdpa_sw_net0: detached')
    lines = [line for line in program.text().splitlines() if 'vdpa_sw_net0' in line][1:]
    assert re.search(rf'attached: unix:{daemon.socket("v0")} \(pid {pid}\)', lines[1])
    assert 'detached' in lines[2]
    assert len(lines) == 3, lines       # with "bound to"
    assert 'VHOST' not in '\n'.join(lines)


def test_lines_that_a_front_end_causes_are_limited(daemon):
    program = daemon.start(['--iface', daemon.socket('v')], [LOOPBACK.format(0)])
    for _ in range(100):
        with connect(daemon.socket('v0')) as front:
            front.set_owner()
            front.set_features(front.get_features() & ~(1 << 40))
    time.sleep(1.2)
    with connect(daemon.socket('v0')) as front:
        front.set_features(front.get_features())
        program.wait_output(r'\d+ lines like the next were left out')
    lines = [line for line in program.text().splitlines() if 'tached' in line]
    assert 2 <= len(lines) < 60
    assert program.terminate() == 0


# ---- prompt on a pipe ----

def test_prompt_lists_and_counts(daemon, serving):
    prompt = Prompt(serving)
    shown = prompt.list()['vdpa_sw_net0']
    assert shown['front end'].endswith('not connected')
    assert shown['features'] == 'none agreed'
    assert shown['state'].startswith('idle')
    assert shown['last error'] == 'none'
    run = traffic(daemon, 'front', daemon.socket('v0'))
    shown = prompt.list()['vdpa_sw_net0']
    assert shown['front end'].endswith(', connected')
    assert f'pid {run.program.pid}' in shown['peer']
    assert 'VERSION_1' in shown['features'] and 'MRG_RXBUF' in shown['features']
    assert re.match(r'running, \d+ virtqueues', shown['state'])
    run.program.signal(signal.SIGINT)
    result = run.result(20)
    assert result['ok']
    sent = result['sent']
    for queue in ('rx0', 'tx0'):    # a frame is counted once it has been handed on
        counted = re.compile(rf'^  {queue} packets {sent} bytes \d+.* drop_\w+ 0', re.M)
        wait_until(lambda: counted.search(prompt.answer('stats vdpa_sw_net0')), 10.0,
                   f'{queue} has counted {sent} frames', 0.1)
    assert serving.terminate() == 0


def test_prompt_creates_and_deletes(daemon, serving):
    prompt = Prompt(serving)
    other = daemon.socket('other')
    prompt.ask(f'create {other} vdpa_sw_net0', 'error: vdpa_sw_net0: is bound already')
    prompt.ask('delete vdpa_sw_net0', 'vdpa_sw_net0 is not bound any more')
    assert daemon.left_over() == []
    prompt.ask('delete vdpa_sw_net0', 'error: vdpa_sw_net0: no device and no socket')
    prompt.ask(f'create {other} vdpa_sw_net0', f'vdpa_sw_net0 is bound to {other}')
    run = Frames(daemon.programs, daemon.tools, daemon.folder, other, options=['--frames', '1000'])
    expect_right(run.result(30), 1, 1000)
    prompt.ask(f'delete {other}', 'is not bound any more')
    assert daemon.left_over() == []
    prompt.ask(f'create {other} nobody', 'error: nobody: no such device')
    prompt.ask('create /nonexistent/x vdpa_sw_net0', 'error: path=/nonexistent/x: .*No such file')
    prompt.ask('create', 'error: bad arguments')
    prompt.ask('craete x y', 'error: no such command')
    prompt.ask('x' * 600, 'error: a line has at most')
    prompt.ask('help', 'quit .*stop')
    serving.write('quit\n')
    assert serving.wait(10) == 0


def test_prompt_relays_under_traffic(daemon, serving):
    prompt = Prompt(serving)
    assert prompt.list()['vdpa_sw_net0']['mode'].startswith('stopped; relay auto, 0 entries')
    run = traffic(daemon, 'front', daemon.socket('v0'))
    assert prompt.list()['vdpa_sw_net0']['mode'].startswith('direct; relay auto, 0 entries')
    relayed = 0
    for number in range(1, 4):
        prompt.ask('relay vdpa_sw_net0 always', 'vdpa_sw_net0: relay always')
        wait_until(lambda: 'relayed: relay=always' in prompt.list()['vdpa_sw_net0']['mode'], 5,
                   'it is relayed')
        time.sleep(0.2)
        prompt.ask('relay vdpa_sw_net0 auto', 'vdpa_sw_net0: relay auto')
        wait_until(lambda: prompt.list()['vdpa_sw_net0']['mode'].startswith('direct;'), 5,
                   'it is direct')
        mode = prompt.list()['vdpa_sw_net0']['mode']
        now = int(re.search(r'(\d+) entries relayed', mode)[1])
        assert now > relayed, mode
        assert f'; {2 * number} switches, pause ' in mode
        relayed = now
    prompt.ask('relay vdpa_sw_net0 never', 'error: relay never: auto, always or off')
    prompt.ask('relay nobody auto', 'error: nobody: no such device')
    prompt.ask('relay vdpa_sw_net0', 'error: bad arguments')
    run.program.signal(signal.SIGINT)
    assert run.result(20)['ok']
    assert serving.terminate() == 0


def test_delete_ends_a_front_end_that_is_connected(daemon, serving):
    run = traffic(daemon, 'front', daemon.socket('v0'))
    Prompt(serving).ask('delete vdpa_sw_net0', 'is not bound any more', 10)
    assert daemon.left_over() == []
    assert not run.result(20)['ok']
    shown = Prompt(serving).list()['vdpa_sw_net0']
    assert shown['front end'] == 'not bound, not connected'
    assert serving.terminate() == 0


def test_create_and_delete_many_times_leaks_nothing(daemon, serving):
    prompt, path = Prompt(serving), daemon.socket('v0')

    def rounds(count):
        for _ in range(count):
            prompt.ask(f'delete {path}', 'is not bound any more')
            prompt.ask(f'create {path} vdpa_sw_net0', 'is bound to')
    rounds(3)
    before = resources_of(serving.pid)
    rounds(20)
    after = resources_of(serving.pid)
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    assert after.rss_kib - before.rss_kib < 512


@pytest.mark.parametrize('how', ['quit', 'end of input'])
def test_prompt_ends_it(daemon, serving, how):
    if how == 'quit':
        serving.write('quit\nlist\n')
    else:
        serving.close_input()
    assert serving.wait(10) == 0
    assert 'last error' not in serving.text()
    assert daemon.left_over() == []


# ---- prompt on a terminal ----

@pytest.fixture
def terminal(daemon):
    window = Terminal(daemon.argv(['--iface', daemon.socket('v'), '--interactive'],
                                  [LOOPBACK.format(0)]), daemon.environment)
    try:
        window.wait('vdpa> ')
        yield window
    finally:
        window.close()


def test_terminal_completes_and_remembers(daemon, terminal):
    terminal.type('li\t')
    terminal.wait('list')
    terminal.type('\n')
    devices = parse_list(terminal.wait(r'(?s)last error.*vdpa> ').replace('\r', ''))
    assert 'vdpa_sw_net0' in devices
    terminal.type('stats v\t')
    terminal.wait('stats.*vdpa_sw_net0')
    terminal.type('\n')
    terminal.wait(r'(?s)tx0 packets 0.*vdpa> ')
    terminal.type(f'delete {daemon.socket("")}\t\n')
    terminal.wait(rf'(?s){daemon.socket("v0")} is not bound any more.*vdpa> ')
    terminal.type('\x1b[A\x1b[A\n')             # up, up
    terminal.wait(r'(?s)tx0 packets 0.*vdpa> ')
    terminal.type('set v\tli\tdo\t')
    terminal.wait('set.*vdpa_sw_net0.*link.*down')
    terminal.type('\n')
    terminal.wait(r'(?s)vdpa_sw_net0: link=down.*vdpa> ')
    terminal.type('relay v\tal\t')
    terminal.wait('relay.*vdpa_sw_net0.*always')
    terminal.type('\n')
    terminal.wait(r'(?s)vdpa_sw_net0: relay always.*vdpa> ')
    assert terminal.settings() != terminal.before
    terminal.type('\x04')                       # end of input
    assert terminal.popen.wait(10) == 0
    assert terminal.settings() == terminal.before
    assert daemon.left_over() == []


@pytest.mark.parametrize('nr_signals', [1, 2])
def test_terminal_is_given_back_after_signals(daemon, terminal, nr_signals):
    assert terminal.settings() != terminal.before
    terminal.popen.send_signal(signal.SIGTERM)
    if nr_signals == 2:
        terminal.popen.send_signal(signal.SIGINT)
    terminal.popen.wait(10)
    assert terminal.settings() == terminal.before


# ---- workers ----

@pytest.mark.parametrize('way', ['poll', 'sleep', 'adaptive'])
def test_worker_idle_ways_carry_traffic(daemon, way):
    program = daemon.start(['--iface', daemon.socket('v'), '--worker-idle', way, '--workers', '0'],
                           [LOOPBACK.format(0)])
    run = Frames(daemon.programs, daemon.tools, daemon.folder, daemon.socket('v0'),
                 options=['--frames', '20000'])
    expect_right(run.result(60), 1, 20000)
    wait_until(lambda: 'detached' in program.text(), 5, 'the front end is gone')
    if way != 'poll':
        time.sleep(0.2)
        before = cpu_seconds_of(program.pid)
        time.sleep(1.0)
        assert cpu_seconds_of(program.pid) - before < 0.2
    assert program.terminate() == 0
