# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Back ends under test: our daemon, and stock net_vhost in testpmd to prove the test bed itself.

Both send a frame of pair n back on pair n. A test takes the back end as a fixture and asks `is_ours`
only where stock librte_vhost is known not to hold what our daemon promises.
"""

import os
import time
from pathlib import Path
from typing import List, Optional, Sequence, Union

from proc import Program, ProgramError, ProgramSet, Resources, Tools, wait_until

ACCEPTS_CONNECTIONS = 0x10000


def listening(path: str) -> bool:
    """True if somebody listens on this UNIX socket; nobody is disturbed by the question."""
    for line in Path('/proc/net/unix').read_text().splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[7] == path and int(words[3], 16) & ACCEPTS_CONNECTIONS:
            return True
    return False


def cpus() -> List[int]:
    """The two processors of a test: [for control, for the datapath]; the same one if it is alone."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[0], allowed[-1]]


class Backend:
    """A back end program with `sockets` vhost-user sockets of `pairs` queue pairs each.

    client: it connects to front ends that listen. `devargs` is added to each device. joined: sockets
    0 and 1, 2 and 3, ... are joined frame for frame instead of looped."""
    is_ours = False
    name = 'backend'
    device = ''

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, *, sockets: int = 1,
                 pairs: int = 1, client: bool = False, devargs: Union[str, Sequence[str]] = '',
                 options: Sequence[str] = (), joined: bool = False):
        self.programs, self.tools, self.folder = programs, tools, folder
        self.pairs, self.client = pairs, client
        self.devargs = [devargs] * sockets if isinstance(devargs, str) else list(devargs)
        self.options, self.joined = list(options), joined
        self.paths = [str(folder / f'v{n}') for n in range(sockets)]
        self.program: Optional[Program] = None

    @property
    def path(self) -> str:
        return self.paths[0]

    @property
    def running_program(self) -> Program:
        assert self.program is not None, 'back end not started'
        return self.program

    @property
    def pid(self) -> int:
        return self.running_program.pid

    def argv(self) -> List[str]:
        raise NotImplementedError

    def eal(self, lcores: str) -> List[str]:
        return ['--no-huge', '-m', '256', '--no-pci', '--file-prefix', self.folder.name,
                '--lcores', lcores]

    def start(self) -> 'Backend':
        """Start, and in server mode wait until every socket takes connections."""
        self.program = self.programs.start(self.argv(), name=self.name,
                                           env={'RUNTIME_DIRECTORY': str(self.folder)})
        if not self.client:
            def ready() -> bool:
                self.running_program.expect_running()
                return all(listening(path) for path in self.paths)
            wait_until(ready, 15.0, f'{self.name} listens on {self.paths}')
        return self

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM; the exit code."""
        return self.running_program.terminate(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.running_program.kill()

    def settled_resources(self) -> Resources:
        """Resources once the back end has finished with the last connection."""
        last = self.running_program.resources()
        for _ in range(20):
            time.sleep(0.1)
            now = self.running_program.resources()
            if (now.descriptors, now.threads, now.mappings) == \
                    (last.descriptors, last.threads, last.mappings):
                break
            last = now
        return now

    def expect_no_growth(self, before: Resources, rss_kib: int = 2048) -> None:
        """Compare with what settled_resources() gave before."""
        def as_before() -> bool:
            after = self.running_program.resources()
            # the allocator may split one; a thread has its stack
            more = 4 + 4 * max(0, after.threads - before.threads)
            return (after.descriptors <= before.descriptors and
                    after.threads <= before.threads + 2 and     # the op pool keeps what it needed
                    after.mappings <= before.mappings + more and
                    after.rss_kib <= before.rss_kib + rss_kib)
        try:
            wait_until(as_before, 3, f'no more than {before}', 0.1)
        except ProgramError as error:
            raise ProgramError(f'{error}: {self.running_program.resources()}') from None

    def expect_alive(self) -> None:
        self.running_program.expect_running()


class TestpmdVhost(Backend):
    """Stock dpdk-testpmd with net_vhost in io forward."""
    name = 'testpmd-vhost'
    __test__ = False

    def argv(self) -> List[str]:
        control, data = cpus()
        argv = [str(self.tools.testpmd), *self.eal(f'0@{control},1@{data}')]
        for number, path in enumerate(self.paths):
            client = ',client=1' if self.client else ''
            argv += ['--vdev', f'net_vhost{number},iface={path},queues={self.pairs}{client}']
        topology = 'paired' if self.joined else 'loop'
        return argv + ['--', '--auto-start', '--no-mlockall', '--total-num-mbufs=8192',
                       '--forward-mode=io', f'--port-topology={topology}', '--max-pkt-len=9728',
                       f'--rxq={self.pairs}', f'--txq={self.pairs}', *self.options]

    def start(self) -> 'Backend':
        if not self.client:
            for path in self.paths:         # librte_vhost does not remove a dead socket
                Path(path).unlink(missing_ok=True)
        return super().start()


class VdpaDaemon(Backend):
    """Our dpdk-vdpa with software net devices."""
    is_ours = True
    name = 'dpdk-vdpa'
    device = 'vdpa_sw_net'      # its devices' names, before their numbers

    def argv(self) -> List[str]:
        control, data = cpus()
        argv = [str(self.tools.daemon), *self.eal(f'0@{control}')]
        for vdev in self.vdevs():
            argv += ['--vdev', vdev]
        argv += ['--', '--iface', str(self.folder / 'v'), '--workers', str(data)]
        return argv + (['--client'] if self.client else []) + self.options

    def vdevs(self) -> List[str]:
        """What EAL is to make."""
        made = []
        for number, devargs in enumerate(self.devargs):
            extra = ',' + devargs if devargs else ''
            kind = f'peer,peer={self.device}{number ^ 1}' if self.joined else 'loopback'
            made.append(f'{self.device}{number},backend={kind},max_vqp={self.pairs}{extra}')
        return made


KINDS = {'vdpa': VdpaDaemon, 'testpmd': TestpmdVhost}
