# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A network namespace of a test's own: the host's side of a TAP interface."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from proc import Program, ProgramError, ProgramSet, wait_until

CALL = '''import json, sys
sys.path.insert(0, sys.argv[1])
import guest_net
print('RESULT ' + json.dumps(getattr(guest_net, sys.argv[2])(**json.loads(sys.argv[3]))))
'''


def pings_answered(text: str) -> int:
    """What `ping -q -c N -w LIMIT` counted: it goes on beyond N until it has seen N answers, and on a
    busy machine sees more at once."""
    found = re.search(r'(\d+) received', text)
    return int(found[1]) if found else 0


class Call:
    """A function of guest_net.py under way in a namespace; like guest.Answer."""

    def __init__(self, program: Program, what: str):
        self.program, self.what = program, what

    def done(self) -> bool:
        return not self.program.running()

    def result(self, timeout_s: float = 30.0) -> Any:
        """Wait for the function's value."""
        code = self.program.wait(timeout_s)
        lines = [line for line in self.program.said().splitlines() if line.startswith('RESULT ')]
        if code != 0 or not lines:
            raise ProgramError(f'{self.what}: exit code {code}\n{self.program.tail()}')
        return json.loads(lines[-1][len('RESULT '):])


class Namespace:
    """Programs started in it share its interfaces; it ends with the test's programs."""

    def __init__(self, programs: ProgramSet, name: str = 'host'):
        self.programs, self.name = programs, name
        own = os.readlink('/proc/self/ns/net')
        self.holder = programs.start(['unshare', '--net', 'sleep', 'infinity'],
                                     name=f'{name}-namespace')
        self.path = Path('/proc') / str(self.holder.pid) / 'ns/net'

        def is_there() -> bool:
            self.holder.expect_running()
            return os.readlink(self.path) != own
        wait_until(is_there, 10.0, 'a network namespace')
        self.sh('ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; '
                'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6')

    def argv(self, argv: List[str]) -> List[str]:
        """The command that runs this one inside."""
        return ['nsenter', f'--net={self.path}', *argv]

    def run(self, *argv: str, check: bool = True) -> 'subprocess.CompletedProcess[str]':
        done = subprocess.run(self.argv(list(argv)), stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30,
                              check=False)
        if check and done.returncode != 0:
            raise ProgramError(f'{" ".join(argv)}: exit code {done.returncode}\n{done.stdout}')
        return done

    def sh(self, script: str) -> None:
        self.run('sh', '-ec', script)

    def begin(self, function: str, **arguments: Any) -> Call:
        """Start a function of guest_net.py."""
        argv = self.argv(['/usr/bin/python3', '-c', CALL, str(Path(__file__).parent), function,
                          json.dumps(arguments)])
        return Call(self.programs.start(argv, name=f'{self.name}-{function}'), function)

    def up(self, name: str, address: str) -> None:
        """Give an interface its address and bring it up."""
        self.run('ip', 'address', 'add', address, 'dev', name)
        self.run('ip', 'link', 'set', name, 'up')

    def ping(self, address: str, count: int = 20) -> None:
        """So many answers at least; a TAP of a busy machine may lose some."""
        done = self.run('ping', '-q', '-n', '-c', str(count), '-i', '0.02', '-w', '20', address,
                        check=False)
        assert pings_answered(done.stdout) >= count, done.stdout


@pytest.fixture
def need_tap() -> None:
    """Network namespaces and TAP interfaces can be made here."""
    if os.geteuid() != 0:
        pytest.skip('only root makes network namespaces and TAP interfaces')
    if not Path('/dev/net/tun').exists():
        pytest.skip('/dev/net/tun is not there')
    done = subprocess.run(['unshare', '--net', 'true'], stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        pytest.skip(f'no network namespaces: {done.stderr.strip()}')


@pytest.fixture
def host(need_tap, programs) -> Iterator[Namespace]:
    yield Namespace(programs)
