# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Back ends with disks: our daemon, and stock qemu-storage-daemon to prove the test bed itself."""

import shutil
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import pytest

from backend import Backend, VdpaDaemon, cpus
from proc import ProgramSet, Tools

MIB = 1 << 20


class Disks(Backend):
    """A back end with a disk of size bytes behind each of `sockets` sockets, `queues` each.

    kind: 'malloc' (remembers), 'null' or 'file', then its file is `file`, made unless it exists."""

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, *, kind: str = 'malloc',
                 size: int = 64 * MIB, queues: int = 1, readonly: bool = False,
                 file: Optional[Path] = None, **options: object):
        super().__init__(programs, tools, folder, pairs=queues, **options)  # type: ignore[arg-type]
        self.kind, self.size, self.queues, self.readonly = kind, size, queues, readonly
        self.file = file or folder / 'disk.img'
        if kind == 'file' and not self.file.exists():
            with open(self.file, 'wb') as made:
                made.truncate(size)


class VdpaDisks(Disks, VdpaDaemon):
    """Our dpdk-vdpa with software block devices."""
    device = 'vdpa_sw_blk'

    def vdevs(self) -> List[str]:
        where = f'path={self.file}' if self.kind == 'file' else f'size={self.size}'
        return [','.join([f'{self.device}{n}', f'backend={self.kind}', where,
                          f'num_queues={self.queues}', *(['readonly=on'] if self.readonly else []),
                          *filter(None, [extra])])
                for n, extra in enumerate(self.devargs)]


class QemuStorageDaemon(Disks):
    """Stock qemu-storage-daemon: one socket."""
    name = 'qemu-storage-daemon'

    def argv(self) -> List[str]:
        node = {'file': f'driver=file,filename={self.file},discard=unmap',
                'malloc': f'driver=file,filename={self.folder}/malloc.img,discard=unmap',
                'null': f'driver=null-co,size={self.size},read-zeroes=off'}[self.kind]
        if self.kind == 'malloc':
            with open(self.folder / 'malloc.img', 'wb') as made:
                made.truncate(self.size)
        writable = 'off' if self.readonly else 'on'
        return ['qemu-storage-daemon', '--blockdev', f'node-name=n,{node}', '--export',
                f'type=vhost-user-blk,id=e,node-name=n,writable={writable},num-queues={self.queues},'
                f'addr.type=unix,addr.path={self.path}']


DISKS = {'vdpa': VdpaDisks, 'testpmd': QemuStorageDaemon}


@pytest.fixture
def make_disks(request: pytest.FixtureRequest, tools: Tools, programs: ProgramSet,
               folder: Path) -> Callable[..., Disks]:
    """Make the back end under test, not started; arguments are those of Disks."""
    kind = DISKS[request.config.getoption('--backend')]
    if kind.is_ours and tools.daemon is None:
        pytest.fail('no dpdk-vdpa: give --builddir')
    if not kind.is_ours:
        if request.node.get_closest_marker('ours'):
            pytest.skip('qemu-storage-daemon does not promise this')
        if shutil.which('qemu-storage-daemon') is None:
            pytest.skip('qemu-storage-daemon is not installed')
    return lambda folder=folder, **options: kind(programs, tools, folder, **options)
