# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""dpdk-vdpa itself under test: any arguments, files, its prompt on a pipe or a terminal."""

import itertools
import json
import os
import re
import select
import signal
import subprocess
import termios
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import pytest

from backend import cpus, listening
from proc import PR_SET_PDEATHSIG, Program, ProgramSet, Tools, _libc, wait_until

READY = r'dpdk-vdpa: ready'


class Daemon:
    """Starts dpdk-vdpa with arguments of the test's choice."""

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path):
        if tools.daemon is None:
            if tools.builddir:
                pytest.fail('no dpdk-vdpa in the build folder')
            pytest.skip('dpdk-vdpa not found: give --builddir')
        self.programs, self.tools, self.folder = programs, tools, folder
        self.sockets = folder / 's'
        self.sockets.mkdir()
        self.environment = {'RUNTIME_DIRECTORY': str(folder)}
        self.plugins: List[str] = []    # files, for -d

    def argv(self, options: Sequence[str], vdevs: Sequence[str] = ()) -> List[str]:
        argv = [str(self.tools.daemon), '--no-huge', '-m', '64', '--no-pci', '--no-telemetry',
                '--file-prefix', self.folder.name, '--lcores', f'0@{cpus()[0]}']
        for plugin in self.plugins:
            argv += ['-d', plugin]
        for vdev in vdevs:
            argv += ['--vdev', vdev]
        return argv + ['--', *options]

    def socket(self, name: str) -> str:
        """Path of a socket in the folder that must be empty in the end."""
        return str(self.sockets / name)

    def left_over(self) -> List[str]:
        return sorted(os.listdir(self.sockets))

    def start(self, options: Sequence[str], vdevs: Sequence[str] = ()) -> Program:
        """Start it and wait until it serves."""
        program = self.programs.start(self.argv(options, vdevs), name='daemon',
                                      env=self.environment)
        program.wait_output(READY, 15.0)
        return program

    def run(self, options: Sequence[str], vdevs: Sequence[str] = ()) -> Tuple[int, str]:
        """Run to its end: exit code and output."""
        program = self.programs.start(self.argv(options, vdevs), name='daemon',
                                      env=self.environment)
        code = program.wait(15.0)
        return code, program.text()

    def config(self, devices: Any, name: str = 'config.json') -> str:
        """Write a configuration file; a string is written as it is, a list is its devices."""
        path = self.folder / name
        text = devices if isinstance(devices, str) else json.dumps(
            devices if isinstance(devices, dict) else {'devices': devices})
        path.write_text(text)
        return str(path)

    def device(self, socket_name: str, **keys: Any) -> Dict[str, Any]:
        """A device of a configuration file, bound to the socket of its name; None removes a key."""
        device: Dict[str, Any] = {
            'name': socket_name, 'mgmtdev': 'sw_net', 'backend': 'loopback',
            'bind': {'driver': 'vhost', 'path': self.socket(socket_name)}}
        device['bind'].update(keys.pop('bind', {}))
        device.update(keys)
        device['bind'] = {k: v for k, v in device['bind'].items() if v is not None}
        return {k: v for k, v in device.items() if v is not None}


class Prompt:
    """The prompt of a daemon whose standard input is a pipe: one command, one answer."""
    _marks = itertools.count()

    def __init__(self, program: Program):
        self.program = program

    def begin(self, command: str) -> Callable[[], Optional[str]]:
        """Give a command. What is returned tells the whole answer, None as long as it is not there:
        the answer to a second command, which names nothing, must have come behind it."""
        start, mark = self.program.said_bytes(), f'end-{next(self._marks)}'
        self.program.write(f'{command}\nrelay {mark} auto\n')
        end = re.compile(rf'^error: {mark}: no such device;.*\n', re.M)

        def answer() -> Optional[str]:
            ended = not self.program.running()
            said = self.program.said(start)
            found = end.search(said)
            if found is None and ended:
                self.program.expect_running()
            return said[:found.start()] if found else None
        return answer

    def answer(self, command: str, timeout_s: float = 30.0) -> str:
        """Give a command: its answer, which may be empty."""
        answer = self.begin(command)
        wait_until(lambda: answer() is not None, timeout_s, f'{command!r} is answered')
        return str(answer())

    def ask(self, command: str, pattern: str, timeout_s: float = 30.0) -> str:
        """Give a command: its answer, in which pattern must be found."""
        text = self.answer(command, timeout_s)
        assert re.search(pattern, text, re.M), f'{command}: {text}'
        return text

    def relay(self, device: str, policy: str) -> None:
        self.ask(f'relay {device} {policy}', f'{re.escape(device)}: relay {policy}')

    def list(self) -> Dict[str, Dict[str, str]]:
        """The answer to `list`: device -> key -> text."""
        return parse_list(self.answer('list'))


def parse_list(text: str) -> Dict[str, Dict[str, str]]:
    devices: Dict[str, Dict[str, str]] = {}
    current: Dict[str, str] = {}
    for line in text.splitlines():
        found = re.match(r'  (parent|front end|peer|stand-in|features|state|mode|link|last error)'
                         r'\s+(.*)', line)
        if found:
            current[found[1]] = found[2].strip()
        elif re.fullmatch(r'[\w.-]+', line):
            current = devices.setdefault(line, {})
            current.clear()
    return devices


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv: Sequence[str], env: Dict[str, str]):
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)

        def in_child() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self.popen = subprocess.Popen(list(argv), stdin=self.slave, stdout=self.slave,
                                      stderr=subprocess.PIPE, start_new_session=True,
                                      preexec_fn=in_child, env={**os.environ, **env})
        self.seen = ''

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait(self, pattern: str, timeout_s: float = 10.0) -> str:
        """Wait until pattern came since the last wait; returns all that came since."""
        def look() -> Optional[str]:
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536).decode(errors='replace')
            return self.seen if re.search(pattern, self.seen) else None
        text = str(wait_until(look, timeout_s, f'{pattern!r} on the terminal', 0))
        self.seen = ''
        return text

    def settings(self) -> list:
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()
        os.close(self.master)
        os.close(self.slave)


def wait_listening(path: str) -> None:
    wait_until(lambda: listening(path), 10.0, f'somebody listens on {path}')
