#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The first process of a test guest: does what the host asks for on a serial line.

A request is one line of JSON, {"id": N, "argv": [...]} for a program or {"id": N, "call": NAME,
"with": {...}} for a function of guest_net.py; the answer is {"id": N, "rc": R, "out": ...}. Each
request has a thread of its own. The guest switches itself off at {"off": true} and when the host
closes the line.

    guest_agent.py [--hostfs FOLDER] SERIAL [MODULE...]
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
import traceback
import tty
from pathlib import Path
from typing import Dict

import guest_net

SYS_FINIT_MODULE = 313      # x86-64
RB_POWER_OFF = 0x4321fedc
libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, folder: str, options: str = '') -> None:
    """As mount(8), which smaller systems leave out."""
    if libc.mount(kind.encode(), folder.encode(), kind.encode(), 0, options.encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), folder)


def mount_all(writable: str) -> None:
    """For a kernel that starts the agent itself. The root is the host's own, and mounted read only;
    one folder of it is mounted again to be written to."""
    mount('proc', '/proc')
    mount('sysfs', '/sys')
    if ' /dev devtmpfs ' not in Path('/proc/mounts').read_text():
        mount('devtmpfs', '/dev')
    mount('tmpfs', '/run')
    mount('hostfs', writable, writable)
    os.chdir(writable)


def load_module(path: str) -> None:
    """Load a kernel module; one that is there already is all right."""
    with open(path, 'rb') as file:
        if libc.syscall(SYS_FINIT_MODULE, file.fileno(), b'', 0) != 0:
            error = ctypes.get_errno()
            if error != 17:     # EEXIST
                raise OSError(error, os.strerror(error), path)


def power_off() -> None:
    os.sync()
    libc.reboot(RB_POWER_OFF)


def run_program(argv, timeout) -> Dict:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
        return {'rc': done.returncode, 'out': done.stdout.decode(errors='replace')}
    except subprocess.TimeoutExpired as late:
        return {'rc': 124, 'out': (late.stdout or b'').decode(errors='replace') + '\ntimed out'}
    except OSError as error:
        return {'rc': 127, 'out': str(error)}


def run_function(name, arguments) -> Dict:
    try:
        return {'rc': 0, 'out': getattr(guest_net, name)(**arguments)}
    except Exception:           # whatever it is, the host shall read it
        return {'rc': 1, 'out': traceback.format_exc()}


class Line:
    """The serial line to the host."""

    def __init__(self, path: str):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        self.lock = threading.Lock()

    def send(self, answer: Dict) -> None:
        data = json.dumps(answer).encode() + b'\n'
        with self.lock:
            while data:
                data = data[os.write(self.fd, data):]

    def lines(self):
        rest = b''
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            if not data:
                return
            *whole, rest = (rest + data).split(b'\n')
            yield from whole


def serve(line: Line, request: Dict) -> None:
    if 'argv' in request:
        answer = run_program(request['argv'], request.get('timeout'))
    else:
        answer = run_function(request['call'], request.get('with', {}))
    line.send({'id': request['id'], **answer})


def prepare(modules) -> str:
    """Load modules and switch IPv6's own chatter off; an error's text or ''."""
    try:
        for module in modules:
            load_module(module)
        for scope in ('all', 'default'):
            switch = Path(f'/proc/sys/net/ipv6/conf/{scope}/disable_ipv6')
            if switch.exists():
                switch.write_text('1')
        return ''
    except OSError:
        return traceback.format_exc()


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == '--hostfs':
        mount_all(arguments[1])
        del arguments[:2]
    serial, *modules = arguments
    line = Line(serial)
    line.send({'id': 0, 'rc': 0, 'out': {'error': prepare(modules), 'release': os.uname().release}})
    for text in line.lines():
        request = json.loads(text)
        if request.get('off'):
            break
        threading.Thread(target=serve, args=(line, request), daemon=True).start()


if __name__ == '__main__':
    try:
        main()
    finally:
        power_off()
