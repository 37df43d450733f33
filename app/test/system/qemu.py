# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A stock QEMU without a guest system: the test is the driver.

The virtual processor halts in a BIOS of one instruction; PCI and the virtio device are driven through
qtest, guest memory is QEMU's own memory file, mapped here. Works with QEMU 7.2, 10 and 11.
No MSI-X: QEMU 7.2 without KVM crashes when a vhost-user device has it.
"""

import base64
import json
import os
import re
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, List, Sequence, Tuple

from guest_memory import GuestMemory, Region
from proc import Program, ProgramError, ProgramSet, Tools, wait_until

BIOS_BYTES = 64 << 10
RAM_BYTES = 64 << 20
DIMM_SLOTS = 8
PIIX4_MEMORY_HOTPLUG_PORT = 0xa00   # the same on pc and q35 (QEMU's docs/specs/acpi_mem_hotplug)
EJECT = 8


def write_bios(path: Path) -> None:
    """64 KiB of HLT. The reset vector, 16 bytes before the end, is cli; hlt; jump back to hlt."""
    image = bytearray(b'\xf4' * BIOS_BYTES)
    image[-16:-12] = b'\xfa\xf4\xeb\xfd'
    path.write_bytes(bytes(image))


def reconnect_option(version: Tuple[int, ...]) -> str:
    """The spelling of 'connect again after a second' changed in QEMU 9.2."""
    return ',reconnect-ms=500' if version >= (9, 2) else ',reconnect=1'


class LineSocket:
    """A UNIX stream socket that talks in lines."""

    def __init__(self, path: Path, program: Program, timeout_s: float = 10.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.program = program

        def attempt() -> bool:
            try:
                self.socket.connect(str(path))
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                program.expect_running()
                return False
        wait_until(attempt, timeout_s, f'{path.name} of {program.name} takes connections')
        self.socket.settimeout(timeout_s)
        self._pending = b''

    def send(self, line: str) -> None:
        try:
            self.socket.sendall(line.encode() + b'\n')
        except (BrokenPipeError, ConnectionResetError):
            raise ProgramError(f'{self.program.name} is gone\n{self.program.tail()}') from None

    def receive(self) -> str:
        while b'\n' not in self._pending:
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                raise ProgramError(f'{self.program.name} does not answer') from None
            except ConnectionResetError:
                data = b''
            if not data:
                raise ProgramError(f'{self.program.name} is gone\n{self.program.tail()}')
            self._pending += data
        line, self._pending = self._pending.split(b'\n', 1)
        return line.decode()

    def readable(self, timeout_s: float) -> bool:
        return b'\n' in self._pending or bool(select.select([self.socket], [], [], timeout_s)[0])

    def close(self) -> None:
        self.socket.close()


class Qtest(LineSocket):
    """qtest: port and memory accesses as the guest's processor makes them."""

    unanswered = 0

    def command(self, text: str) -> int:
        self.settle()
        self.send(text)
        return self._answer()

    def _answer(self) -> int:
        while True:
            words = self.receive().split()
            if words[0] == 'OK':
                return int(words[1], 0) if len(words) > 1 else 0
            if words[0] != 'IRQ':
                raise ProgramError(f'qtest: {" ".join(words)}')

    def post(self, text: str) -> None:
        """A command whose answer is taken later. Commands are carried out in their order."""
        if self.unanswered >= 64:
            self.settle()
        self.send(text)
        self.unanswered += 1

    def settle(self) -> None:
        """Wait until all that was posted is done."""
        while self.unanswered:
            self._answer()
            self.unanswered -= 1

    def out(self, width: int, port: int, value: int) -> None:
        self.command(f'out{"bwl"[width >> 1]} {port:#x} {value:#x}')

    def inp(self, width: int, port: int) -> int:
        return self.command(f'in{"bwl"[width >> 1]} {port:#x}')

    def write(self, width: int, addr: int, value: int) -> None:
        self.command(f'write{"bwl"[width >> 1]} {addr:#x} {value:#x}')

    def read(self, width: int, addr: int) -> int:
        return self.command(f'read{"bwl"[width >> 1]} {addr:#x}')


class QtestWords:
    """Words of a region: read from the memory file, written by QEMU, which logs that."""

    def __init__(self, qtest: Qtest, region: Region, width: int):
        self.qtest, self.width, self.gpa = qtest, width, region.gpa
        self.view = region.words[width]
        self._write = 'write' + ' wlq'[width.bit_length() - 1]

    def __getitem__(self, at: int) -> int:
        self.qtest.settle()
        return self.view[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.qtest.post(f'{self._write} {self.gpa + at * self.width:#x} {value:#x}')

    def release(self) -> None:
        self.view.release()


class QtestMemory(GuestMemory):
    """Guest memory that is written as the guest's processor does it: a migration takes it along.

    What a test writes to the memory file itself, QEMU does not know of."""

    def __init__(self, qtest: Qtest):
        super().__init__()
        self.qtest = qtest

    def add(self, region: Region) -> Region:
        region.words = {width: QtestWords(self.qtest, region, width)    # type: ignore[misc]
                        for width in region.words}
        return super().add(region)

    def read(self, addr: int, size: int) -> bytes:
        self.qtest.settle()
        return super().read(addr, size)

    def write(self, addr: int, data: bytes) -> None:
        for start in range(0, len(data), 4096):
            part = data[start:start + 4096]
            self.qtest.post(f'b64write {addr + start:#x} {len(part):#x} '
                            f'{base64.b64encode(part).decode()}')


class Qmp(LineSocket):
    """QEMU's management protocol."""

    def __init__(self, path: Path, program: Program):
        super().__init__(path, program)
        self.events: Deque[Dict[str, Any]] = deque()
        json.loads(self.receive())
        self.execute('qmp_capabilities')

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command. Underlines in argument names stand for the protocol's hyphens."""
        named = {key.replace('_', '-'): value for key, value in arguments.items()}
        self.send(json.dumps({'execute': command, 'arguments': named}))
        while True:
            answer = json.loads(self.receive())
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise ProgramError(f'QMP {command}: {answer["error"]["desc"]}')
            else:
                return answer['return']

    def wait_event(self, name: str, timeout_s: float = 5.0) -> Dict[str, Any]:
        """The next event of that name, dropping others."""
        end = time.monotonic() + timeout_s
        while True:
            while self.events:
                event = self.events.popleft()
                if event['event'] == name:
                    return event
            if not self.readable(max(0.0, end - time.monotonic())):
                raise ProgramError(f'no {name} event in {timeout_s:g} s')
            answer = json.loads(self.receive())
            if 'event' in answer:
                self.events.append(answer)


class Machine:
    """One QEMU. Its card, a disk with disk=True, else for a network, is behind the vhost-user
    socket `path`.

    server: QEMU listens and the back end connects. card is a list of the card's properties, such as
    'packed=on'. It is at PCI slot 4. logged: what the driver writes is in QEMU's log of dirty pages
    (slower). options: more of QEMU's command line."""

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, path: str, *,
                 queues: int = 1, server: bool = False, reconnect: bool = True,
                 machine: str = 'pc', card: Sequence[str] = (), name: str = 'vm', disk: bool = False,
                 memory: str = 'memory-backend-memfd,share=on', wait: bool = True,
                 logged: bool = False, options: Sequence[str] = ()):
        assert tools.qemu is not None
        self.version = tools.qemu_version()
        self.folder, self.name = folder, name
        self.queues = queues
        bios = folder / 'halt.bin'
        if not bios.exists():
            write_bios(bios)
        chardev = f'socket,id=c0,path={path}'
        if server:
            chardev += ',server=on,wait=off'
        elif reconnect:
            chardev += reconnect_option(self.version)
        common = ['disable-legacy=on', 'vectors=0', 'addr=4', *card]
        if machine == 'q35':
            common.append('bus=pcie.0')
        argv = [tools.qemu, '-nodefaults', '-no-user-config', '-display', 'none', '-machine',
                f'{machine},memory-backend=ram', '-accel', 'tcg', '-cpu', 'qemu64',
                '-m', f'{RAM_BYTES >> 20}M,slots={DIMM_SLOTS},maxmem=1G', '-bios', str(bios),
                '-object', f'{memory},id=ram,size={RAM_BYTES}',
                '-qtest', f'unix:{folder}/{name}.qtest,server=on,wait=off', '-qtest-log', 'none',
                '-qmp', f'unix:{folder}/{name}.qmp,server=on,wait=off',
                '-chardev', chardev, *(self._disk(common) if disk else self._nic(common)), *options]
        for leftover in ('qtest', 'qmp'):
            (folder / f'{name}.{leftover}').unlink(missing_ok=True)
        self.program = programs.start(argv, name=f'qemu-{name}')
        self.logged = logged
        self.mem = GuestMemory()
        self.dimms: Dict[str, Region] = {}
        self.plugged = 0
        if wait:
            self.connect()

    def _disk(self, properties: Sequence[str]) -> List[str]:
        return ['-device', ','.join(['vhost-user-blk-pci', 'chardev=c0', 'id=blk0',
                                     f'num-queues={self.queues}', *properties])]

    def _nic(self, properties: Sequence[str]) -> List[str]:
        many = self.queues > 1
        netdev = 'vhost-user,id=n0,chardev=c0' + (f',queues={self.queues}' if many else '')
        nic = ['virtio-net-pci', 'netdev=n0', 'id=net0', 'romfile=', 'mac=52:54:00:12:34:56',
               *(['mq=on'] if many else []), *properties]
        return ['-netdev', netdev, '-device', ','.join(nic)]

    def connect(self) -> None:
        """Open qtest and QMP and map the guest's memory. QEMU answers once the back end is there."""
        self.qtest = Qtest(self.folder / f'{self.name}.qtest', self.program)
        self.qmp = Qmp(self.folder / f'{self.name}.qmp', self.program)
        if self.logged:
            self.mem = QtestMemory(self.qtest)
        self.mem.add(self._map_memory(0, RAM_BYTES))
        self.mem.use_for_alloc(1 << 20, RAM_BYTES)

    def _map_memory(self, gpa: int, size: int) -> Region:
        """Map QEMU's newest memory file of that size: the test's view of guest memory."""
        known = {os.fstat(region.fd).st_ino for region in self.mem.regions}
        base = Path('/proc') / str(self.program.pid) / 'fd'
        for number in sorted(base.iterdir(), key=lambda p: int(p.name)):
            try:
                target = os.readlink(number)
                if not re.search(r'/memfd:|/dev/shm/', target):
                    continue
                fd = os.open(number, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            found = os.fstat(fd)
            if found.st_size == size and found.st_ino not in known:
                return Region(gpa, size, fd)
            os.close(fd)
        raise ProgramError(f'QEMU {self.name} has no memory file of {size} bytes')

    # Memory hot-plug

    def plug_dimm(self, dimm: str, size: int = 64 << 20, backend: str = 'memory-backend-memfd') \
            -> Region:
        """Hot-plug memory; returns the new region (its address is QEMU's choice).

        QEMU 10 looks for a backend's memory file under the backend's id, and frees a deleted one
        late: a second of the same id may get the file that is about to be closed."""
        self.plugged += 1
        memory = f'mem{self.plugged}'
        self.qmp.execute('object-add', qom_type=backend, id=memory, size=size, share=True)
        self.qmp.execute('device_add', driver='pc-dimm', id=dimm, memdev=memory)
        info = [d['data'] for d in self.qmp.execute('query-memory-devices')
                if d['data'].get('id') == dimm][0]
        region = self.mem.add(self._map_memory(info['addr'], size))
        self.dimms[dimm] = region
        return region

    def unplug_dimm(self, dimm: str) -> None:
        """Hot-unplug: ask, then eject through ACPI's port as the guest's system would."""
        info = [d['data'] for d in self.qmp.execute('query-memory-devices')
                if d['data'].get('id') == dimm][0]
        self.qmp.execute('device_del', id=dimm)
        self.qtest.out(4, PIIX4_MEMORY_HOTPLUG_PORT, info['slot'])
        self.qtest.out(1, PIIX4_MEMORY_HOTPLUG_PORT + 0x14, EJECT)
        self.qmp.wait_event('DEVICE_DELETED')
        self.qmp.execute('object-del', id=info['memdev'].rsplit('/', 1)[-1])
        region = self.dimms.pop(dimm)
        self.mem.remove(region)
        region.close()

    # The back end's connection

    def set_link(self, up: bool) -> None:
        self.qmp.execute('set_link', name='n0', up=up)

    def kill(self) -> None:
        """SIGKILL, as a crash of QEMU."""
        self.program.kill()
        self._drop()

    def quit(self) -> int:
        """Leave by QMP; the exit code."""
        self.qmp.send(json.dumps({'execute': 'quit'}))
        code = self.program.wait(10)
        self._drop()
        return code

    def _drop(self) -> None:
        self.qtest.close()
        self.qmp.close()
        self.mem.close()


class PciDevice:
    """A PCI function reached through configuration mechanism 1 (ports 0xcf8 and 0xcfc)."""

    def __init__(self, qtest: Qtest, slot: int, bus: int = 0, function: int = 0):
        self.qtest = qtest
        self._select = 0x80000000 | bus << 16 | slot << 11 | function << 8

    def read(self, width: int, offset: int) -> int:
        self.qtest.out(4, 0xcf8, self._select | offset & 0xfc)
        return self.qtest.inp(width, 0xcfc + (offset & 3))

    def write(self, width: int, offset: int, value: int) -> None:
        self.qtest.out(4, 0xcf8, self._select | offset & 0xfc)
        self.qtest.out(width, 0xcfc + (offset & 3), value)

    def capabilities(self) -> List[int]:
        """Offsets of all capabilities."""
        result = []
        at = self.read(1, 0x34) & 0xfc
        while at and at not in result:
            result.append(at)
            at = self.read(1, at + 1) & 0xfc
        return result

    def place_bars(self, base: int) -> Dict[int, int]:
        """Give each memory BAR an address from base on and switch memory and DMA on."""
        bars: Dict[int, int] = {}
        number = 0
        while number < 6:
            at = 0x10 + 4 * number
            self.write(4, at, 0xffffffff)
            mask = self.read(4, at)
            wide = mask & 7 == 4
            if mask and not mask & 1:
                size = (~(mask & ~0xf) & 0xffffffff) + 1
                base = (base + size - 1) // size * size
                self.write(4, at, base)
                bars[number] = base
                base += size
            if wide:
                self.write(4, at + 4, 0)
            number += 2 if wide else 1
        self.write(2, 4, self.read(2, 4) | 0x6)
        return bars
