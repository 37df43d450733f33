# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Linux guests as front ends: the part that is the same for User Mode Linux and QEMU.

A guest runs guest_agent.py as its first process, with this machine's own programs (its root is this
machine's, read only). Requests go over a serial line, several may be under way at once:

    with Uml(programs, folder, [backend.path]) as guest:
        guest.sh('ip link set eth0 up')
        later = guest.begin('exchange', name='eth0', count=1000)    # a Future
        guest.run('ethtool', '-L', 'eth0', 'combined', '2')
        assert later.result(20)['lost'] == 0
"""

import json
import os
import socket
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, TypeVar

import pytest

from proc import Program, ProgramError, ProgramSet, wait_until

T = TypeVar('T')

AGENT = Path(__file__).resolve().parent / 'guest_agent.py'
BOOT_TIMEOUT_S = 30.0
OFF_TIMEOUT_S = 10.0
PROMPT_S = 5.0              # over the guest's own limit, so that its answer is heard


class GuestError(ProgramError):
    """The guest said no, did not answer, or its kernel complained."""


def fetched(what: str, fetch: Callable[[], T]) -> T:
    """What fetch() brings. Where it cannot be had the test is skipped; in CI it fails."""
    try:
        return fetch()
    except subprocess.CalledProcessError as error:
        if os.environ.get('CI'):
            pytest.fail(f'no {what}: {error}')
        pytest.skip(f'no {what}: {error}')


class Guest:
    """One guest. As a context: switched off at the end, its log checked; after an error killed."""
    memory_mib = 128
    slowness = 1.0          # by which its time limits are multiplied

    def __init__(self, programs: ProgramSet, folder: Path, sockets: Sequence[str], *,
                 name: str = 'guest', **options: Any):
        """sockets: vhost-user sockets, one network device each. Boots, but does not wait for it:
        the first request does."""
        self.name, self.sockets, self.programs = name, list(sockets), programs
        self.folder = folder / name
        self.folder.mkdir()
        self.options = options
        self._ids = 0
        self._waiting: Dict[int, 'Future[Dict]'] = {}
        self._lock = threading.Lock()
        self._host, guest_end = socket.socketpair()
        self._ready: 'Future[Dict]' = Future()
        self._waiting[0] = self._ready
        self._release = ''
        with guest_end:
            self.program = self._start(guest_end)
        threading.Thread(target=self._read, daemon=True).start()

    def _start(self, line: socket.socket) -> Program:
        """Start the program, its serial line on this descriptor."""
        raise NotImplementedError

    @property
    def release(self) -> str:
        """Release of its kernel; waits until it has booted."""
        if not self._release:
            hello = self._result(self._ready, BOOT_TIMEOUT_S * self.slowness, 'boot')['out']
            if hello['error']:
                raise GuestError(f'{self.name}: {hello["error"]}\n{self.program.tail()}')
            self._release = str(hello['release'])
        return self._release

    def _read(self) -> None:
        """Thread: hand each answer to whom it belongs; at the end tell those who still wait."""
        try:
            with self._host.makefile('rb') as lines:
                for line in lines:
                    answer = json.loads(line)
                    with self._lock:
                        future = self._waiting.pop(answer['id'])
                    future.set_result(answer)
        except (OSError, ValueError, KeyError) as error:
            reason: Exception = GuestError(f'{self.name}: bad answer: {error!r}')
        else:
            reason = GuestError(f'{self.name} is gone')
        with self._lock:
            rest, self._waiting = self._waiting, {}
        for future in rest.values():
            future.set_exception(reason)

    def _send(self, request: Dict) -> 'Future[Dict]':
        assert self.release
        future: 'Future[Dict]' = Future()
        with self._lock:
            self._ids += 1
            request = {'id': self._ids, **request}
            self._waiting[self._ids] = future
        try:
            self._host.sendall(json.dumps(request).encode() + b'\n')
        except OSError as error:
            raise GuestError(f'{self.name}: {error}\n{self.program.tail()}') from error
        return future

    def _result(self, future: 'Future[Dict]', timeout_s: float, what: str) -> Dict:
        def done() -> bool:
            if not future.done():
                self.program.expect_running()
            return future.done()
        wait_until(done, timeout_s, f'{self.name}: {what}', 0.001)
        return future.result(0)

    def begin(self, function: str, **arguments: Any) -> 'Answer':
        """Start a function of guest_net.py and return at once."""
        return Answer(self, self._send({'call': function, 'with': arguments}), function)

    def call(self, function: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Run a function of guest_net.py; its value."""
        return self.begin(function, **arguments).result(timeout_s)

    def run(self, *argv: str, timeout_s: float = 20.0, check: bool = True) -> 'Done':
        """Run a program; its exit code and output. check: another code than 0 is an error."""
        limit = timeout_s * self.slowness
        answer = self._result(self._send({'argv': argv, 'timeout': limit}), limit + PROMPT_S,
                              ' '.join(argv))
        done = Done(answer['rc'], answer['out'])
        if check and done.rc != 0:
            raise GuestError(f'{self.name}: {" ".join(argv)}: exit {done.rc}\n{done.out}')
        return done

    def sh(self, script: str, timeout_s: float = 20.0, check: bool = True) -> 'Done':
        """Run a shell script."""
        return self.run('/bin/sh', '-ec', script, timeout_s=timeout_s, check=check)

    def python(self, script: str, timeout_s: float = 20.0, check: bool = True) -> 'Done':
        """Run a Python script."""
        return self.run('/usr/bin/python3', '-c', script, timeout_s=timeout_s, check=check)

    def nic(self, index: int = 0) -> Dict:
        """An interface of a virtio device, see guest_net.nics()."""
        found = self.call('nics')
        if index >= len(found):
            raise GuestError(f'{self.name}: has only {found}\n{self.program.tail(60)}')
        return found[index]

    def nic_up(self, index: int = 0, address: Optional[str] = None,
               wait: bool = True) -> Dict:
        """Bring an interface up, with an IPv4 address/prefix if given, and wait for its carrier
        (wait=False: do not); what nic() says of it."""
        nic = self.nic(index)
        if address:
            self.run('ip', 'address', 'add', address, 'dev', nic['name'])
        self.run('ip', 'link', 'set', nic['name'], 'up')
        if wait:
            self.wait_carrier(True, nic['name'])
        return nic

    def wait_carrier(self, up: bool, name: str = 'eth0', limit_s: float = 20.0) -> float:
        """Wait until an interface that is up has its carrier, or has lost it; seconds."""
        return self.call('wait_carrier', name=name, up=up, limit_s=limit_s)

    def unbind(self, nic: Dict) -> None:
        """Take the kernel's driver off a device."""
        self.call('write_file', path='/sys/bus/virtio/drivers/virtio_net/unbind',
                  text=nic['device'])

    def bind(self, nic: Dict) -> Dict:
        """Put the kernel's driver on again; the interface as it is then."""
        self.call('write_file', path='/sys/bus/virtio/drivers/virtio_net/bind', text=nic['device'])
        return [n for n in self.call('wait_nic', count=len(self.sockets), limit_s=20)
                if n['device'] == nic['device']][0]

    def expect_clean_log(self) -> None:
        """Nothing that the kernel complains of with a call trace."""
        text = self.program.text()
        for sign in ('Call Trace', 'Kernel panic', 'BUG:'):
            if sign in text:
                at = text.index(sign)
                raise GuestError(f'{self.name}: {sign}\n{text[max(0, at - 2000):at + 2000]}')

    def off(self, expect_clean: bool = True) -> None:
        """Switch it off in order; it must end with exit code 0 and a clean log."""
        self._host.sendall(b'{"off": true}\n')
        code = self.program.wait(OFF_TIMEOUT_S * self.slowness)
        if code != 0:
            raise GuestError(f'{self.name} ended with {code}\n{self.program.tail(60)}')
        if expect_clean:
            self.expect_clean_log()

    def kill(self) -> None:
        """SIGKILL, as power failure; may be called again."""
        self.program.kill()
        self._host.close()

    def __enter__(self) -> 'Guest':
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self.program.running():
                self.off()
        finally:
            self.kill()


class Done:
    """How a program in a guest ended."""

    def __init__(self, rc: int, out: str):
        self.rc, self.out = rc, out


class Answer:
    """A request under way."""

    def __init__(self, guest: Guest, future: 'Future[Dict]', what: str):
        self._guest, self._future, self._what = guest, future, what

    def done(self) -> bool:
        return self._future.done()

    def result(self, timeout_s: float = 30.0) -> Any:
        """Wait for the function's value."""
        answer = self._guest._result(self._future, timeout_s * self._guest.slowness, self._what)
        if answer['rc'] != 0:
            raise GuestError(f'{self._guest.name}: {self._what}: {answer["out"]}')
        return answer['out']


def together(*answers: Answer, timeout_s: float = 60.0) -> List[Any]:
    """The values of several requests, which all have this long."""
    return [answer.result(timeout_s) for answer in answers]
