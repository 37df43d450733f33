# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A Debian guest under QEMU's translator (no KVM) as front end.

devtools/guest.sh fetches its kernel and makes its initrd. It is some ten times slower than User Mode
Linux, but it is what people run: QEMU's vhost-user, virtio-pci and Debian's kernel.
"""

import re
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest

from guest import AGENT, Guest, fetched
from migration import SLOW
from proc import Program, ProgramError, ProgramSet, wait_until
from qemu import LineSocket, Qmp

FETCH = Path(__file__).resolve().parents[3] / 'devtools/guest.sh'


def guest_files() -> Path:
    """The folder with vmlinuz and initrd.img. CalledProcessError if it cannot be had."""
    done = subprocess.run([FETCH], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                          check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope='session')
def boot_files() -> Path:
    """What guest_files() says, on Debian 12."""
    if not re.search(r'^VERSION_ID="?12"?$', Path('/etc/os-release').read_text(), re.M):
        pytest.skip('Debian 12 only: slow')
    return fetched('guest', guest_files)


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


HEAD = '''#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
while read -r module; do
	insmod "/modules/$module.ko"
done < /modules/order
exec > /dev/ttyS0 2>&1
'''


def cpio(name: str, data: bytes) -> bytes:
    """An archive with one executable file, as the kernel takes it behind an initrd."""
    def entry(name: str, mode: int, data: bytes) -> bytes:
        fields = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
        return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    return entry(name, 0o100755, data) + entry('TRAILER!!!', 0, b'')


class Bare:
    """A Debian guest in memory alone, so that it can migrate: it runs a script, then is off.

    The script is what follows HEAD, card is QEMU's words for the device behind chardev v0, archives
    are what its root is made of."""

    def __init__(self, programs: ProgramSet, folder: Path, qemu: str, files: Path, path: str,
                 script: str, card: Sequence[str], *, name: str, reconnect: str = '',
                 memory_mib: int = 128, archives: Sequence[str] = ('initrd.img',),
                 options: Sequence[str] = ()):
        initrd = folder / f'{name}.img'
        with open(initrd, 'wb') as made:
            for archive in archives:
                image = (files / archive).read_bytes()
                made.write(image + bytes(-len(image) % 4))
            made.write(cpio('init', (HEAD + script).encode()))
        self.console, self.line = folder / f'{name}.console', folder / f'{name}.line'
        qmp = folder / f'{name}.qmp'
        self.program = programs.start([
            qemu, '-machine', 'pc,memory-backend=ram', '-accel', 'tcg,thread=single', '-cpu', 'max',
            '-m', f'{memory_mib}M', '-nodefaults', '-display', 'none', '-no-reboot',
            '-object', f'memory-backend-memfd,id=ram,size={memory_mib}M,share=on',
            '-kernel', str(files / 'vmlinuz'), '-initrd', str(initrd), '-append',
            'console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable panic=-1',
            '-chardev', f'socket,id=line,path={self.line},server=on,wait=off,logfile={self.console}',
            '-serial', 'chardev:line', '-chardev', f'socket,id=v0,path={path}{reconnect}', *card,
            '-qmp', f'unix:{qmp},server=on,wait=off', *options], name=name)
        self.qmp = Qmp(qmp, self.program)

    def said(self) -> str:
        """What its console shows."""
        return self.console.read_text(errors='replace') if self.console.exists() else ''

    def expect_running(self) -> None:
        """A guest that has ended shows its console."""
        if not self.program.running():
            raise ProgramError(f'the guest is off:\n{self.said()}')

    def type(self, text: str) -> None:
        """A line on its console's keyboard."""
        self.keyboard = LineSocket(self.line, self.program)     # open, or QEMU may drop what is unread
        self.keyboard.send(text)

    def migration(self) -> Dict[str, Any]:
        """How it goes."""
        return self.qmp.execute('query-migrate')

    def migrate(self, target: 'Bare', uri: str, meanwhile: Callable[[], None]) -> None:
        """Move to target, which waits for it at this URI, and go on there. meanwhile is called with
        the migration under way.

        The translator loses pages that its guest writes at the moment in which QEMU collects what
        is dirty: the guest rests when that begins, and when it ends."""
        self.qmp.execute('migrate-set-parameters', max_bandwidth=SLOW)
        self.qmp.execute('stop')
        self.qmp.execute('migrate', uri=uri)
        wait_until(lambda: self.migration().get('status') == 'active', 20, 'the migration begins')
        self.qmp.execute('cont')
        meanwhile()
        info = self.migration()
        assert info['status'] == 'active' and info['ram']['dirty-sync-count'] == 1, info
        self.qmp.execute('stop')
        self.qmp.execute('migrate-set-parameters', max_bandwidth=1 << 32)
        wait_until(lambda: self.migration()['status'] in ('completed', 'failed'), 60,
                   'the migration ends')
        assert self.migration()['status'] == 'completed', self.migration()
        wait_until(lambda: target.qmp.execute('query-status')['status'] != 'inmigrate', 20,
                   'the destination has it all')
        target.qmp.execute('cont')


SEND = '''ip link set eth0 up
ip addr add {address}/24 dev eth0
dd if=/dev/urandom of=/data bs=1M count={mib}
echo "sum $(sha256sum < /data)"
nc {to} {port} < /data
echo "nc ended with $?"
poweroff -f
'''


class Sender(Bare):
    """It sends random bytes over TCP at once.

    Its console says first their SHA-256 and in the end how sending ended."""

    def __init__(self, *where: Any, address: str, to: str, port: int, mib: int, nic: str = '',
                 **options: Any):
        super().__init__(*where, SEND.format(address=address, to=to, port=port, mib=mib), [
            '-netdev', 'vhost-user,id=n0,chardev=v0',
            '-device', f'virtio-net-pci,netdev=n0,romfile=,vectors=0,{nic}'.rstrip(',')], **options)


FIO = '''(read -r _; : > /enough) < /dev/ttyS0 &
round=0
until [ -e /enough ]; do
	said=$(fio --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=8 --thread --randrepeat=0 \\
		--rw=randwrite --verify=crc32c --verify_backlog=64 --verify_fatal=1 \\
		--name=small --bs=4k --size=4M --name=large --bs=64k --offset=4M --size=24M 2>&1) || {
		echo "fio ended with $?"
		echo "$said"
		poweroff -f
	}
	round=$((round + 1))
	echo "round $round"
done
echo "no error in $round rounds"
poweroff -f
'''


class Fio(Bare):
    """fio writes a disk and reads it again, round after round, until it is told that it is enough.

    Its console counts the rounds and tells an error."""

    def __init__(self, *where: Any, card: str = '', **options: Any):
        super().__init__(*where, FIO, [
            '-device', f'vhost-user-blk-pci,chardev=v0,vectors=0,num-queues=2,{card}'.rstrip(','),
            '-smp', '2'], memory_mib=320, archives=('initrd.img', 'fio.img'), **options)

    def end(self) -> None:
        """Let it finish its round, and expect that there was no error."""
        self.type('')
        assert self.program.wait(120) == 0
        assert 'no error in' in self.said(), self.said()
