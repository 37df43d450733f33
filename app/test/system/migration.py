# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Live migration from QEMU to QEMU on one machine, under traffic of a driver that is the test.

QEMU pauses before the switch-over (capability pause-before-switchover: the device is stopped,
memory not yet sent to its end), so that the driver stops between two of its steps, as a processor
does. Memory is compared while the destination has not been continued: nobody writes to either then.
"""

import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from backend import Backend
from daemon import Prompt
from proc import ProgramError, ProgramSet, Tools, wait_until
from qemu import Machine
from virtio_pci import NetDriver
from vnet import Flow

PAGE = 4096
SLOW = 16 << 10        # bytes a second: does not end by itself


def differing_pages(one: Machine, other: Machine) -> List[int]:
    """Addresses of the pages in which the memory of two machines differs."""
    step, result = 1 << 20, []
    mine, theirs = one.mem.regions, other.mem.regions
    assert [(r.gpa, r.size) for r in mine] == [(r.gpa, r.size) for r in theirs]
    for a, b in zip(mine, theirs):
        for start in range(0, a.size, step):
            if a.map[start:start + step] == b.map[start:start + step]:
                continue
            result += [a.gpa + at for at in range(start, start + step, PAGE)
                       if a.map[at:at + PAGE] != b.map[at:at + PAGE]]
    return result


def state_of(backend: Backend, number: int) -> str:
    """The line `state` of a device."""
    return Prompt(backend.running_program).list()[f'vdpa_sw_net{number}']['state']


def mode_of(backend: Backend, number: int) -> Dict[str, Any]:
    """The line `mode` of a device, taken apart."""
    text = Prompt(backend.running_program).list()[f'{backend.device}{number}']['mode']
    found = re.match(r'(?P<mode>[^;]*); relay (?P<relay>\w+), (?P<relayed>\d+) entries relayed; '
                     r'log (?P<log>\w+), (?P<pages>\d+) pages and (?P<tables>\d+) tables marked; '
                     r'(?P<switches>\d+) switches(, pause (?P<pause>\d+) us, at most '
                     r'(?P<longest>\d+) us)?', text)
    assert found, text
    return {key: int(value) if value and value.isdigit() else value
            for key, value in found.groupdict().items()}


def switch(backend: Backend, number: int, relayed: bool) -> Dict[str, Any]:
    """Put a device on shadow rings by hand, or back, and wait until it is so: its mode then."""
    Prompt(backend.running_program).relay(f'vdpa_sw_net{number}', 'always' if relayed else 'auto')
    wanted = 'relayed: relay=always' if relayed else 'direct'

    def now() -> Optional[Dict[str, Any]]:
        mode = mode_of(backend, number)
        return mode if mode['mode'] == wanted else None
    return wait_until(now, 10, f'the device is {wanted}')      # type: ignore[return-value]


class Nomad:
    """A guest that moves between the sockets of a back end. machine is where it is."""

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, backend: Backend,
                 seed: int, **options: Any):
        self.programs, self.tools, self.folder, self.backend = programs, tools, folder, backend
        self.options = options
        self.random = random.Random(seed)
        self.count = 0
        self.at = 0
        self.window = 24            # frames on their way at most
        self.differing = 0
        self.downtimes_ms: List[int] = []
        self.cancelled_in: Counter = Counter()
        self.machine = self._machine(0)
        self.driver: Optional[NetDriver] = None
        self.flows: List[Flow] = []

    def _machine(self, at: int, options: Sequence[str] = ()) -> Machine:
        self.count += 1
        return Machine(self.programs, self.tools, self.folder, self.backend.paths[at],
                       queues=self.backend.pairs, name=f'vm{self.count}', logged=True,
                       options=options, **self.options)

    def pump(self) -> bool:
        """One step of the driver: some frames there, some back."""
        return any([flow.pump(flow.stream.sent() + 8, self.window) for flow in self.flows])

    def drain(self, timeout_s: float = 10.0) -> None:
        """Send no more, wait for what is outstanding."""
        def all_back() -> bool:
            for flow in self.flows:
                flow.pump(flow.stream.sent())
            return not any(flow.stream.outstanding() for flow in self.flows)
        wait_until(all_back, timeout_s, 'all frames came back: ' + ', '.join(
            str(flow.stream.books()) for flow in self.flows))

    def traffic(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump()

    # Migration

    def begin(self, uri: str, bandwidth: int, pause: bool = True) -> None:
        """Start to migrate, slowly enough that there is traffic meanwhile."""
        qmp = self.machine.qmp
        qmp.execute('migrate-set-capabilities', capabilities=[
            {'capability': 'pause-before-switchover', 'state': pause}])
        qmp.execute('migrate-set-parameters', max_bandwidth=bandwidth)
        qmp.execute('migrate', uri=uri)

    def status(self) -> str:
        return self.machine.qmp.execute('query-migrate').get('status', 'none')

    def pump_until(self, statuses: Sequence[str], timeout_s: float = 30.0) -> str:
        """Traffic until the migration has one of these states."""
        end = time.monotonic() + timeout_s
        while True:
            for _ in range(4):
                self.pump()
            status = self.status()
            if status in statuses:
                return status
            if status == 'failed' or time.monotonic() > end:
                raise ProgramError(f'migration is {status}: '
                                   f'{self.machine.qmp.execute("query-migrate")}')

    def migrate(self, watch: Optional[Callable[[], None]] = None, pause: bool = True) -> Machine:
        """To the other socket, without continuing there: the machine there.

        watch is called once with the migration in full swing. Without pause the driver rests."""
        there = 1 - self.at
        uri = f'unix:{self.folder}/migrate{self.count}'
        target = self._machine(there, ['-S', '-incoming', uri])
        bandwidth = self.random.choice([8, 16, 64]) << 20
        self.begin(uri, SLOW if watch is not None else bandwidth, pause)
        if watch is not None:
            wait_until(lambda: self.pump() and mode_of(self.backend, self.at)['log'] == 'on', 10,
                       'the log is engaged')
            watch()
            self.machine.qmp.execute('migrate-set-parameters', max_bandwidth=bandwidth)
        if pause:
            self.pump_until(['pre-switchover'])
            self.machine.qtest.settle()
            self.machine.qmp.execute('migrate-continue', state='pre-switchover')
        wait_until(lambda: self.status() in ('completed', 'failed'), 30, 'migration completes')
        info = self.machine.qmp.execute('query-migrate')
        assert info['status'] == 'completed', info
        self.downtimes_ms.append(info['downtime'])
        wait_until(lambda: target.qmp.execute('query-status')['status'] != 'inmigrate', 10,
                   'the destination has it all')
        return target

    def settle_in(self, target: Machine) -> None:
        """Compare memory, leave the source, go on at the destination."""
        pages = differing_pages(self.machine, target)
        self.differing += len(pages)
        assert not pages, f'{len(pages)} pages differ: {[hex(page) for page in pages[:8]]}'
        source, self.machine, self.at = self.machine, target, 1 - self.at
        if self.driver is not None:
            self.driver.move(target)
        target.qmp.execute('cont')
        source.quit()

    def move(self, **options: Any) -> None:
        self.settle_in(self.migrate(**options))



    def _wait_cancelled(self) -> None:
        """A cancel in the moment before QEMU pauses leaves it waiting to be continued for ever."""
        end = time.monotonic() + 10
        while self.status() not in ('cancelled', 'failed', 'completed'):
            if time.monotonic() > end - 8 and self.status() == 'cancelling':
                self.cancelled_in['just before the pause'] += 1
                self.machine.qmp.execute('migrate-continue', state='cancelling')
                end += 10
            if time.monotonic() > end:
                raise ProgramError(f'migration is {self.status()} after it was cancelled')
            time.sleep(0.005)

    def cancelled(self) -> None:
        """Begin a migration, cancel it at a random moment, perhaps with the device stopped."""
        uri = f'unix:{self.folder}/migrate{self.count}'
        target = self._machine(1 - self.at, ['-S', '-incoming', uri])
        self.begin(uri, self.random.choice([1, 8, 64]) << 20)
        self.traffic(self.random.choice([0, 0.01, 0.05, 0.2]) * self.random.random())
        self.cancelled_in[self.status()] += 1
        self.machine.qmp.execute('migrate_cancel')
        self._wait_cancelled()
        # failed: it met the socket that the cancel shut down before the cancel itself
        assert self.status() in ('cancelled', 'failed'), self.status()
        wait_until(lambda: self.machine.qmp.execute('query-status')['status'] == 'running', 5,
                   'the source goes on')
        target.kill()
