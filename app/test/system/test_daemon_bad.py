# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Bad devargs, configuration files and options of dpdk-vdpa.

Of each: the message names key, value and what is allowed, the exit code is not 0, and nothing is
half made: no socket is left, not even that of a good device beside the bad one.
"""

import os
import socket
from pathlib import Path
from typing import Any, List

import pytest

from daemon import Daemon

START_FAILED = 1
WRONG_OPTION = 2


@pytest.fixture
def daemon(programs, tools, folder) -> Daemon:
    return Daemon(programs, tools, folder)


# What is given to a device, and what the message must have.
BAD_KEYS = {
    'unknown backend': ('backend=loopbak', ['backend=loopbak', 'loopback', 'null', 'peer']),
    'no pair': ('max_vqp=0', ['max_vqp=0', '1', '128']),
    'too many pairs': ('max_vqp=129', ['max_vqp=129', '128']),
    'pairs no number': ('max_vqp=two', ['max_vqp=two', 'number', '128']),
    'pairs with a rest': ('max_vqp=2x', ['max_vqp=2x', 'number', '128']),
    'short mtu': ('mtu=67', ['mtu=67', '68', '65535']),
    'long mtu': ('mtu=70000', ['mtu=70000', '68', '65535']),
    'short mac': ('mac=02:00:00:00:00', ['mac=02:00:00:00:00', 'MAC', ':']),
    'broadcast mac': ('mac=ff:ff:ff:ff:ff:ff', ['mac=ff:ff:ff:ff:ff:ff', 'unicast']),
    'zero mac': ('mac=00:00:00:00:00:00', ['mac=00:00:00:00:00:00', 'zero']),
    'mask no number': ('device_features=zz', ['device_features=zz', 'hex', '0x']),
    'mask not offered': ('device_features=8000000000000000',
                         ['device_features=8000000000000000', 'not offered', 'allowed']),
    'unknown key': ('bakend=loopback', ['bakend', 'backend', 'max_vqp']),
    'key twice': ('max_vqp=1,max_vqp=2', ['max_vqp', '2 times']),
    'peer without name': ('backend=peer', ['backend=peer', 'peer=NAME']),
    'peer without backend': ('peer=other', ['peer=other', 'backend=peer']),
    'unknown op': ('hang_op=jump', ['hang_op=jump', 'start', 'stop']),
    'negative delay': ('delay_us=-1', ['delay_us=-1', '0', '1000000']),
    'long delay': ('delay_us=1000001', ['delay_us=1000001', '1000000']),
}


def expect_refused(daemon: Daemon, result, words: List[str], code: int = START_FAILED) -> None:
    status, text = result
    assert status == code, text
    said = '\n'.join(line for line in text.splitlines()[1:] if not line.startswith('EAL:'))
    for word in words:
        assert word in said, f'{word!r} is not in:\n{said}'
    assert daemon.left_over() == []


@pytest.mark.parametrize('case', sorted(BAD_KEYS))
def test_bad_devargs(daemon, case):
    args, words = BAD_KEYS[case]
    result = daemon.run(['--iface', daemon.socket('v')],
                        ['vdpa_sw_net0,backend=loopback', f'vdpa_sw_net1,{args}'])
    expect_refused(daemon, result, ['vdpa_sw_net1', *words])


@pytest.mark.parametrize('case', sorted(set(BAD_KEYS) - {'key twice'}))
def test_bad_keys_in_a_file(daemon, case):
    args, words = BAD_KEYS[case]
    keys: Any = dict(pair.split('=') for pair in args.split(','))
    bad = daemon.device('v1', backend=None, **{k: v for k, v in keys.items() if k != 'backend'})
    bad.update(keys)
    path = daemon.config([daemon.device('v0'), bad])
    expect_refused(daemon, daemon.run(['--config', path]), [path, 'v1', *words])


def bad_bind(**bind):
    return lambda daemon: [daemon.device('v0'), daemon.device('v1', bind=bind)]


def bad_device(**keys):
    return lambda daemon: [daemon.device('v0'), daemon.device('v1', **keys)]


# What is written to the file, and what the message must have.
BAD_FILES = {
    'no JSON': (lambda d: '{"devices": [', ['line 1', 'column']),
    'key twice': (lambda d: '{"devices": [], "devices": []}', ['line 1', 'devices']),
    'top is a list': (lambda d: '[]', ['{"devices"']),
    'unknown top key': (lambda d: {'devices': [], 'device': []}, ['device: unknown', 'devices']),
    'devices no list': (lambda d: {'devices': {}}, ['devices', 'array']),
    'device no object': (lambda d: ['v0'], ['devices[0]', 'object']),
    'no name': (bad_device(name=None), ['devices[1]', 'name', 'missing']),
    'empty name': (bad_device(name=''), ['devices[1]', 'name', 'not empty']),
    'long name': (bad_device(name='n' * 64), ['n' * 64, '63']),
    'name twice': (bad_device(name='v0'), ['devices[1]', 'name=v0', 'devices[0]']),
    'no mgmtdev': (bad_device(mgmtdev=None), ['v1', 'mgmtdev', 'missing']),
    'unknown mgmtdev': (bad_device(mgmtdev='sw_nett'), ['v1', 'mgmtdev=sw_nett', 'sw_net']),
    'value is a list': (bad_device(max_vqp=[2]), ['v1', 'max_vqp', 'number', 'string']),
    'value is a fraction': (bad_device(max_vqp=1.5), ['v1', 'max_vqp', 'whole number']),
    'value with a comma': (bad_device(mac='a,max_vqp=2'), ['v1', 'mac=a,max_vqp=2', 'comma']),
    'bind no object': (bad_device(bind={'driver': None}), ['v1', 'driver', 'missing']),
    'unknown driver': (bad_bind(driver='vhostt'), ['v1', 'driver=vhostt', 'vhost']),
    'unknown bind key': (bad_bind(pfad='x'), ['v1', 'pfad', 'path', 'mode']),
    'no path': (bad_bind(path=None), ['v1', 'path', 'missing']),
    'long path': (bad_bind(path='/tmp/' + 'p' * 110), ['v1', 'path=/tmp/p', '107']),
    'no such folder': (bad_bind(path='/nonexistent/v1'), ['v1', 'path=/nonexistent/v1', 'No such']),
    'path is a file': (bad_bind(path='/etc/hostname'), ['v1', 'path=/etc/hostname', 'no socket']),
    'client neither': (bad_bind(client='perhaps'), ['v1', 'client=perhaps', 'off', 'on']),
    'mode not octal': (bad_bind(mode='0680'), ['v1', 'mode=0680', 'octal', '0777']),
    'mode too large': (bad_bind(mode='4755'), ['v1', 'mode=4755', '0777']),
    'mode a number': (bad_bind(mode=660), ['v1', 'mode=660', 'octal string']),
    'mode of a client': (bad_bind(client=True, mode='0600'), ['v1', 'mode', 'client']),
    'unknown group': (bad_bind(group='no-such-group'), ['v1', 'group=no-such-group', 'group']),
    'path twice': (lambda d: [d.device('v0'), d.device('v1', bind={'path': d.socket('v0')})],
                   ['v1', 'path=', 'v0']),
}


@pytest.mark.parametrize('case', sorted(BAD_FILES))
def test_bad_file(daemon, case):
    content, words = BAD_FILES[case]
    path = daemon.config(content(daemon))
    expect_refused(daemon, daemon.run(['--config', path]), [path, *words])


def test_missing_file(daemon):
    path = str(daemon.folder / 'nothing.json')
    expect_refused(daemon, daemon.run(['--config', path]), [path, 'No such file'])


BAD_OPTIONS = {
    'nothing to do': ([], ['--config', '--iface', '--interactive']),
    'unknown option': (['--ifase', 'x'], ['--ifase']),
    'stray word': (['--interactive', 'x'], ['x: not an option']),
    'empty prefix': (['--iface', ''], ['--iface', 'path']),
    'client of nothing': (['--config', 'x', '--client'], ['--client', '--iface']),
    'unknown idle way': (['--interactive', '--worker-idle', 'spin'],
                         ['--worker-idle=spin', 'poll', 'sleep', 'adaptive']),
}


@pytest.mark.parametrize('case', sorted(BAD_OPTIONS))
def test_bad_option(daemon, case):
    options, words = BAD_OPTIONS[case]
    expect_refused(daemon, daemon.run(options), words, WRONG_OPTION)


@pytest.mark.parametrize('cpulist', ['x', '1-', '4095', '1,,2', ''])
def test_bad_workers(daemon, cpulist):
    result = daemon.run(['--iface', daemon.socket('v'), '--workers', cpulist],
                        ['vdpa_sw_net0,backend=loopback'])
    expect_refused(daemon, result, ['--workers ' + cpulist])


def test_no_device_for_the_prefix(daemon):
    expect_refused(daemon, daemon.run(['--iface', daemon.socket('v')]), ['--iface', '--vdev'])


def test_vdev_without_a_driver(daemon):
    result = daemon.run(['--iface', daemon.socket('v')], ['vdpa_sw_nut0,backend=loopback'])
    expect_refused(daemon, result, ['EAL does not start', 'No such device'])
    assert 'vdpa_sw_nut0' in result[1].split('--iface', 1)[1]       # EAL names it itself


def test_live_socket_is_refused_and_left_alone(daemon):
    path = daemon.socket('v0')
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        status, text = daemon.run(['--config', daemon.config([daemon.device('v0')])])
        assert status == START_FAILED
        assert path in text and f'process {os.getpid()} listens' in text
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    Path(path).unlink()
