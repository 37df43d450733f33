# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A Debian guest under QEMU's translator (no KVM) as front end.

devtools/guest.sh fetches its kernel and makes its initrd. It is some ten times slower than User Mode
Linux, but it is what people run: QEMU's vhost-user, virtio-pci and Debian's kernel.
"""

import socket
import subprocess
from pathlib import Path
from typing import List

from guest import AGENT, Guest
from proc import Program

FETCH = Path(__file__).resolve().parents[3] / 'devtools/guest.sh'


def guest_files() -> Path:
    """The folder with vmlinuz and initrd.img. CalledProcessError if it cannot be had."""
    done = subprocess.run([FETCH], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                          check=True)
    return Path(done.stdout.strip())


class Tcg(Guest):
    """A QEMU guest. options: qemu=PATH, files=Path, pairs=N, nic='virtio-net-pci properties'."""
    memory_mib = 256
    slowness = 4.0

    def _network(self) -> List[str]:
        pairs = self.options.get('pairs', 1)
        argv: List[str] = []
        for number, path in enumerate(self.sockets):
            argv += ['-chardev', f'socket,id=v{number},path={path}',
                     '-netdev', f'vhost-user,id=n{number},chardev=v{number},queues={pairs}',
                     # MSI-X: this QEMU's vhost start would crash under the translator.
                     '-device', f'virtio-net-pci,netdev=n{number},romfile=,vectors=0,'
                     f'mq={"on" if pairs > 1 else "off"},{self.options.get("nic", "")}'.rstrip(',')]
        return argv

    def _start(self, line: socket.socket) -> Program:
        files: Path = self.options.get('files') or guest_files()
        size = self.options.get('memory_mib', self.memory_mib)
        agent = f'/usr/bin/python3%20{AGENT}%20/dev/ttyS0'
        argv = [self.options['qemu'], '-machine', 'pc', '-accel', 'tcg,thread=single', '-cpu', 'max',
                '-m', f'{size}M', '-nodefaults', '-display', 'none', '-no-reboot',
                '-object', f'memory-backend-memfd,id=ram,size={size}M,share=on',
                '-machine', 'memory-backend=ram',
                '-kernel', str(files / 'vmlinuz'), '-initrd', str(files / 'initrd.img'), '-append',
                f'console=ttyS1 mitigations=off random.trust_cpu=on tsc=reliable agent={agent} panic=-1',
                '-chardev', f'socket,id=line,fd={line.fileno()}', '-serial', 'chardev:line',
                '-chardev', 'file,id=log,path=/dev/stdout', '-serial', 'chardev:log',
                '-fsdev', 'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap',
                '-device', 'virtio-9p-pci,fsdev=root,mount_tag=root',
                *self._network(), *self.options.get('arguments', [])]
        return self.programs.start(argv, name=self.name, pass_fds=[line.fileno()])
