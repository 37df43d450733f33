# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Programs under test: choose, start, watch, measure and end them.

Every program has two files of its own: what it says (standard output) and what it logs (standard
error). Read together, a line of one can lie within a line of the other. A ProgramSet owns programs
and ends them, whatever the test did; it also gives the tails that a failed test prints.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence

PR_SET_PDEATHSIG = 1
PATIENCE = 4        # time limits are written for an idle machine; this one may be busy
_libc = ctypes.CDLL(None, use_errno=True)


class ProgramError(AssertionError):
    """A program ended, or did not do what was awaited; the text names it and why."""


def wait_until(condition: Callable[[], object], timeout_s: float, what: str,
               interval_s: float = 0.005) -> object:
    """Call condition until it returns something true and return that.

    Raises when it does not in PATIENCE times timeout_s. A limit that is the point of a test is
    measured by the test itself."""
    timeout_s *= PATIENCE
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise ProgramError(f'after {timeout_s:g} s still not: {what}')
        time.sleep(interval_s)


@dataclass(frozen=True)
class Resources:
    """What a process holds, as /proc counts it."""
    descriptors: int
    threads: int
    mappings: int
    rss_kib: int


def resources_of(pid: int) -> Resources:
    """Count the resources of a running process. OSError if it is gone."""
    base = Path('/proc') / str(pid)
    status = (base / 'status').read_text()
    rss = re.search(r'^VmRSS:\s+(\d+) kB', status, re.M)
    return Resources(descriptors=len(os.listdir(base / 'fd')),
                     threads=len(os.listdir(base / 'task')),
                     mappings=len((base / 'maps').read_text().splitlines()),
                     rss_kib=int(rss[1]) if rss else 0)


def cpu_seconds_of(pid: int) -> float:
    """User and system time that a running process has used up to now."""
    fields = (Path('/proc') / str(pid) / 'stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Program:
    """One running program. Its standard error goes to the file log, its standard output to a second
    one beside it, its input is a pipe."""

    def __init__(self, argv: Sequence[str], log: Path, *, env: Optional[Mapping[str, str]] = None,
                 cpus: Optional[Iterable[int]] = None, cwd: Optional[Path] = None,
                 pass_fds: Sequence[int] = ()):
        self.argv = [str(a) for a in argv]
        self.name = Path(self.argv[0]).name
        self.log = Path(log)
        self.out = self.log.with_suffix('.out')
        cpu_set = set(cpus) & os.sched_getaffinity(0) if cpus is not None else None

        def in_child() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)   # nothing outlives a killed pytest
            if cpu_set:
                os.sched_setaffinity(0, cpu_set)

        with open(self.log, 'ab') as log_file, open(self.out, 'ab') as out:
            log_file.write(('$ ' + ' '.join(self.argv) + '\n').encode())
            log_file.flush()
            self._popen = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=out,
                                           stderr=log_file, preexec_fn=in_child, cwd=cwd,
                                           pass_fds=pass_fds,
                                           env={**os.environ, **(env or {})})
        self.pid = self._popen.pid

    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> Optional[int]:
        return self._popen.poll()

    def expect_running(self) -> None:
        if not self.running():
            raise ProgramError(f'{self.name} ended with {self.returncode}\n{self.tail()}')

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code (negative: the signal)."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProgramError(f'{self.name} did not end in {timeout_s:g} s\n{self.tail()}') \
                from None

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if the program has ended."""
        self._popen.send_signal(number)

    def terminate(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, then wait: the exit code. Raises if it does not end by itself."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL and reap; may be called again."""
        if self.running():
            self.signal(signal.SIGKILL)
        self._popen.wait()
        self._close_input()

    def end(self, timeout_s: float = 3.0) -> None:
        """SIGTERM, SIGKILL if that did not help. For teardown: asks nothing of the program."""
        if self.running():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def write(self, text: str) -> None:
        """Write to the program's standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text.encode())
        self._popen.stdin.flush()

    def _close_input(self) -> None:
        try:
            if self._popen.stdin is not None:
                self._popen.stdin.close()
        except OSError:
            pass

    def close_input(self) -> None:
        """End of file on the program's standard input."""
        self._close_input()

    def logged(self) -> str:
        """All that it has written to its standard error."""
        return self.log.read_text(errors='replace')

    def said(self, start: int = 0) -> str:
        """What it has written to its standard output, from byte start on."""
        with open(self.out, 'rb') as file:
            file.seek(start)
            return file.read().decode(errors='replace')

    def said_bytes(self) -> int:
        """How much it has written to its standard output."""
        return self.out.stat().st_size

    def text(self) -> str:
        """All that it has written: first what it logged, then what it said."""
        return self.logged() + self.said()

    def tail(self, lines: int = 25) -> str:
        if not self.log.exists():       # a failure in teardown, after the scratch folder went
            return f'--- {self.log.name} is gone'
        result = [f'--- {self.log.name} (end)', *self.logged().splitlines()[-lines:]]
        said = self.said().splitlines()[-lines:]
        return '\n'.join(result + ([f'--- {self.out.name} (end)', *said] if said else []))

    def wait_output(self, pattern: str, timeout_s: float = 10.0, start: int = 0) -> 're.Match[str]':
        """Wait until pattern is found in what it said, or logged beyond character start."""
        wanted = re.compile(pattern, re.M)

        def look() -> Optional['re.Match[str]']:
            ended = not self.running()
            found = wanted.search(self.logged(), start) or wanted.search(self.said())
            if found is None and ended:
                self.expect_running()
            return found
        return wait_until(look, timeout_s, f'{pattern!r} in the output of {self.name}', 0.02)

    def resources(self) -> Resources:
        return resources_of(self.pid)


@dataclass
class Tools:
    """Which binaries a run uses: environment first, then the build folder, then PATH."""
    builddir: Optional[Path] = None
    _release: Optional[str] = field(default=None, repr=False)

    @staticmethod
    def _pick(variable: str, *candidates: Optional[str]) -> Optional[str]:
        for name in (os.environ.get(variable), *candidates):
            found = shutil.which(name) if name else None
            if found:
                return found
        return None

    @property
    def qemu(self) -> Optional[str]:
        return self._pick('QEMU', 'qemu-system-x86_64')

    @property
    def testpmd(self) -> Optional[str]:
        return self._pick('DPDK_TESTPMD', 'dpdk-testpmd')

    @property
    def daemon(self) -> Optional[str]:
        built = str(self.builddir / 'examples/dpdk-vdpa') if self.builddir else None
        return self._pick('DPDK_VDPA', built, 'dpdk-vdpa')

    @property
    def dpdk_release(self) -> str:
        """Release of the installed DPDK, as '22.11.11'."""
        if self._release is None:
            done = subprocess.run(['pkg-config', '--modversion', 'libdpdk'], text=True,
                                  capture_output=True, check=True)
            self._release = done.stdout.strip()
        return self._release

    @property
    def dpdk_series(self) -> str:
        """The release series, as '22.11'."""
        return '.'.join(self.dpdk_release.split('.')[:2])

    def qemu_version(self) -> tuple:
        done = subprocess.run([self.qemu or 'qemu-system-x86_64', '--version'], text=True,
                              capture_output=True, check=True)
        found = re.search(r'version (\d+)\.(\d+)\.(\d+)', done.stdout)
        if not found:
            raise ProgramError('no version in: ' + done.stdout)
        return tuple(int(n) for n in found.groups())


class ProgramSet:
    """The programs of one test. Leaving it as a context ends all of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.programs: List[Program] = []
        self._serial: Dict[str, int] = {}

    def start(self, argv: Sequence[str], *, name: Optional[str] = None, **options) -> Program:
        """Start a program; its files are <folder>/<name>.<n>.log and .out. Options are Program's."""
        name = name or Path(str(argv[0])).name
        number = self._serial.get(name, 0)
        self._serial[name] = number + 1
        program = Program(argv, self.folder / f'{name}.{number}.log', **options)
        self.programs.append(program)
        return program

    def end_all(self) -> None:
        for program in reversed(self.programs):
            program.end()

    def tails(self, lines: int = 25) -> str:
        return '\n'.join(p.tail(lines) for p in self.programs)

    def __enter__(self) -> 'ProgramSet':
        return self

    def __exit__(self, *exc) -> None:
        self.end_all()
