# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""User Mode Linux: a stock Linux kernel, with its own virtio drivers, as vhost-user front end.

devtools/uml.sh fetches it. It runs as an ordinary process at native speed and boots in a second.
It never connects again: the front end of a restarted back end is a new guest.
"""

import os
import socket
import subprocess
from pathlib import Path
from typing import List

from guest import AGENT, Guest
from proc import Program, wait_until

FETCH = Path(__file__).resolve().parents[3] / 'devtools/uml.sh'
VIRTIO_ID_NET, VIRTIO_ID_BLOCK = 1, 2
MODULES = ('failover.ko', 'net_failover.ko', 'virtio_net.ko', 'virtio_blk.ko')

INIT = '''#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/run TMPDIR=/run PYTHONDONTWRITEBYTECODE=1
exec {agent}
'''


def kernel() -> Path:
    """The kernel to run: $UML_KERNEL, else what devtools/uml.sh fetches. CalledProcessError if it cannot."""
    path = os.environ.get('UML_KERNEL')
    if not path:
        done = subprocess.run([FETCH], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                              check=True)
        path = done.stdout.strip()
    return Path(path)


def descendants(pid: int) -> List[int]:
    """Processes below this one."""
    found: List[int] = []
    try:
        for task in (Path('/proc') / str(pid) / 'task').iterdir():
            for child in (task / 'children').read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:         # ended meanwhile
        pass
    return found


class Uml(Guest):
    """A User Mode Linux. options: kernel=Path, memory_mib=N, arguments=[kernel arguments],
    disks=[vhost-user sockets, one block device each]."""

    def _start(self, line: socket.socket) -> Program:
        binary: Path = self.options.get('kernel') or kernel()
        modules = [str(binary.parent / 'modules' / name) for name in MODULES]
        agent = ' '.join(['/usr/bin/python3', str(AGENT), '--hostfs', str(self.folder),
                          '/dev/ttyS0', *modules])
        init = self.folder / 'init'
        init.write_text(INIT.format(agent=agent))
        init.chmod(0o755)
        argv = [str(binary), f'mem={self.options.get("memory_mib", self.memory_mib)}M',
                'seccomp=auto', 'noreboot', f'umid={self.name}', f'uml_dir={self.folder}',
                'root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', f'init={init}',
                'con=null', 'con0=null,fd:1', 'ssl=null', f'ssl0=fd:{line.fileno()}']
        argv += [f'virtio_uml.device={path}:{VIRTIO_ID_NET}' for path in self.sockets]
        argv += [f'virtio_uml.device={path}:{VIRTIO_ID_BLOCK}'
                 for path in self.options.get('disks', [])]
        return self.programs.start([*argv, *self.options.get('arguments', [])], name=self.name,
                                   pass_fds=[line.fileno()])

    def kill(self, timeout_s: float = 5.0) -> None:
        """SIGKILL; its helper processes end by themselves, which is waited for."""
        helpers = descendants(self.program.pid)
        super().kill()
        for pid in helpers:
            wait_until(lambda: not alive(pid), timeout_s, f'helper {pid} of {self.name} ends')


def alive(pid: int) -> bool:
    """True if the process runs (a zombie does not)."""
    try:
        stat = (Path('/proc') / str(pid) / 'stat').read_text()
    except OSError:
        return False
    return stat.rsplit(')', 1)[1].split()[0] not in 'ZX'
