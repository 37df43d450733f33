# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A Debian guest under QEMU's translator (no KVM) as front end.

devtools/guest.sh fetches its kernel and makes its initrd. It is some ten times slower than User Mode
Linux, but it is what people run: QEMU's vhost-user, virtio-pci and Debian's kernel.
"""

import socket
import subprocess
from pathlib import Path
from typing import List, Sequence

from guest import AGENT, Guest
from proc import Program, ProgramSet
from qemu import Qmp

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


SEND = '''#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
while read -r module; do
	insmod "/modules/$module.ko"
done < /modules/order
exec > /dev/ttyS0 2>&1
ip link set eth0 up
ip addr add {address}/24 dev eth0
dd if=/dev/urandom of=/data bs=1M count={mib}
echo "sum $(sha256sum < /data)"
nc {to} {port} < /data
echo "nc ended with $?"
poweroff -f
'''


def cpio(name: str, data: bytes) -> bytes:
    """An archive with one executable file, as the kernel takes it behind an initrd."""
    def entry(name: str, mode: int, data: bytes) -> bytes:
        fields = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
        return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    return entry(name, 0o100755, data) + entry('TRAILER!!!', 0, b'')


class Sender:
    """A Debian guest in memory alone, so that it can migrate: it sends random bytes over TCP at once.

    Its console says first their SHA-256 and in the end how sending ended."""

    def __init__(self, programs: ProgramSet, folder: Path, qemu: str, files: Path, path: str, *,
                 name: str, address: str, to: str, port: int, mib: int, nic: str = '',
                 options: Sequence[str] = ()):
        initrd = folder / 'sender.img'
        image = (files / 'initrd.img').read_bytes()
        init = SEND.format(address=address, to=to, port=port, mib=mib).encode()
        initrd.write_bytes(image + bytes(-len(image) % 4) + cpio('init', init))
        self.console = folder / f'{name}.console'
        qmp = folder / f'{name}.qmp'
        self.program = programs.start([
            qemu, '-machine', 'pc,memory-backend=ram', '-accel', 'tcg,thread=single', '-cpu', 'max',
            '-m', '128M', '-nodefaults', '-display', 'none', '-no-reboot',
            '-object', 'memory-backend-memfd,id=ram,size=128M,share=on',
            '-kernel', str(files / 'vmlinuz'), '-initrd', str(initrd), '-append',
            'console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable panic=-1',
            '-chardev', f'file,id=console,path={self.console}', '-serial', 'chardev:console',
            '-chardev', f'socket,id=v0,path={path}', '-netdev', 'vhost-user,id=n0,chardev=v0',
            '-device', f'virtio-net-pci,netdev=n0,romfile=,vectors=0,{nic}'.rstrip(','),
            '-qmp', f'unix:{qmp},server=on,wait=off', *options], name=name)
        self.qmp = Qmp(qmp, self.program)

    def said(self) -> str:
        return self.console.read_text(errors='replace') if self.console.exists() else ''
