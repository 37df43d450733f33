# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Stock dpdk-testpmd as a front end: the net_virtio_user ethdev, driven by its command line."""

import re
import shutil
import time
from pathlib import Path
from typing import Dict, Sequence

from backend import cpus
from proc import ProgramSet, Tools, wait_until

PROMPT = 'testpmd> '


class Testpmd:
    """One testpmd with one net_virtio_user port."""
    __test__ = False

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, path: str, *,
                 queues: int = 1, devargs: str = '', mode: str = 'io', name: str = 'front',
                 eal: Sequence[str] = (), options: Sequence[str] = ()):
        control = cpus()[0]     # the other one is the back end's
        vdev = f'net_virtio_user0,path={path},queues={queues},queue_size=256'
        vdev += ',' + devargs if devargs else ''
        runtime = folder / f'{name}.run'
        runtime.mkdir(exist_ok=True)
        self.queues = queues
        # A pipe would make printf buffer whole blocks: stdbuf asks for lines.
        argv = [shutil.which('stdbuf') or 'stdbuf', '-oL', str(tools.testpmd), '--no-huge', '-m',
                '256', '--no-pci', '--file-prefix', f'{folder.name}{name}', '--lcores',
                f'0@{control},1@{control}', *eal, '--vdev', vdev, '--', '-i', '--no-mlockall',
                '--total-num-mbufs=8192', f'--forward-mode={mode}', '--port-topology=loop',
                f'--rxq={queues}', f'--txq={queues}', *options]
        self.program = programs.start(argv, name=f'testpmd-{name}',
                                      env={'RUNTIME_DIRECTORY': str(runtime)})
        self.program.wait_output(re.escape(PROMPT), 15.0)

    def command(self, text: str, timeout_s: float = 10.0) -> str:
        """Give one command and return what it printed."""
        before = self.program.said_bytes()
        self.program.write(text + '\n')

        def answer() -> str:
            self.program.expect_running()
            new = self.program.said(before)
            echo = new.find(text)
            at = new.find(PROMPT, echo + len(text)) if echo >= 0 else -1
            return new[echo:at] if at >= 0 else ''
        return str(wait_until(answer, timeout_s, f'testpmd answers {text!r}', 0.02))

    def stats(self) -> Dict[str, int]:
        """Counters of the port, by testpmd's names: RX-packets, TX-packets, TX-errors, ..."""
        text = self.command('show port stats 0')
        return {name: int(value) for name, value in re.findall(r'([RT]X-\w+):\s+(\d+)', text)}

    def drain(self) -> Dict[str, int]:
        """Receive, without sending, what is still on its way; the counters after that."""
        self.command('stop')
        self.command('set fwd rxonly')
        self.command('start')
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 1:
            now = self.stats()
            if now['RX-packets'] == now['TX-packets']:
                break
            if now['RX-packets'] != last:
                last, since = now['RX-packets'], time.monotonic()
        self.command('stop')
        return self.stats()

    def quit(self) -> int:
        """Leave; the exit code."""
        self.program.write('quit\n')
        return self.program.wait(15)
