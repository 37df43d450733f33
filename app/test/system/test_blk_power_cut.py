# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A disk's file on a file system whose power is cut: what was flushed is there.

ext4 on a loop device is shut down without writing anything more (EXT4_IOC_SHUTDOWN, which its own
tests use): what was not synced is lost. Then it is mounted again, and its journal replayed.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess

import pytest

from disk import MIB
from qemu import Machine
from virtio_blk import IOERR, OK, BlkDriver, Type

pytestmark = [pytest.mark.usefixtures('need_qemu'), pytest.mark.ours]

EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = 2
BLOCK = 4096
BLOCKS = 512


def run(*argv, check=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not check or done.returncode == 0, f'{argv}: {done.stderr}'
    return done


class FileSystem:
    """ext4 in a file, mounted."""

    def __init__(self, folder):
        self.folder, self.image, self.root = folder, folder / 'fs.img', folder / 'fs'
        self.root.mkdir()
        with open(self.image, 'wb') as made:
            made.truncate(64 * MIB)
        run('mkfs.ext4', '-q', str(self.image))
        done = run('mount', '-o', 'loop', str(self.image), str(self.root), check=False)
        if done.returncode:
            pytest.skip(f'no loop device with ext4 here: {done.stderr.strip()}')

    def cut_power(self):
        fd = os.open(self.root, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack('<I', NO_LOG_FLUSH))
        os.close(fd)

    def repair(self):
        """Mount what the disk has. A copy: namespaces of others may hold the first mount."""
        self.unmount()
        self.image = shutil.copy(self.image, self.folder / 'after.img')
        run('mount', '-o', 'loop', str(self.image), str(self.root))

    def unmount(self):
        run('umount', '--lazy', str(self.root))


@pytest.fixture
def file_system(folder):
    made = FileSystem(folder)
    yield made
    made.unmount()


@pytest.mark.parametrize('keys', ['', 'direct=on', 'write_cache=off', 'relay=always'],
                         ids=['buffered', 'direct', 'write-through', 'relayed'])
def test_what_was_flushed_is_there(make_disks, programs, tools, folder, file_system, keys):
    disks = make_disks(kind='file', file=file_system.root / 'disk.img', size=BLOCK * BLOCKS,
                       devargs=keys).start()
    disk = BlkDriver(Machine(programs, tools, folder, disks.path, disk=True)).start()
    through = keys == 'write_cache=off'
    rng = random.Random(keys)
    safe = [bytes(BLOCK)] * BLOCKS      # what must be there at least
    later = [[] for _ in range(BLOCKS)]
    for number in range(300):
        block, data = rng.randrange(BLOCKS), rng.randbytes(BLOCK)
        disk.write(block * BLOCK // 512, data)
        later[block].append(data)
        if through or number in (60, 150, 220):
            if not through:
                assert disk.request(Type.FLUSH).status == OK
            for at, versions in enumerate(later):
                safe[at] = versions[-1] if versions else safe[at]
                versions.clear()
    file_system.cut_power()
    # Nothing is promised any more, and said so.
    statuses = {disk.request(Type.OUT, 0, bytes(BLOCK)).status, disk.request(Type.FLUSH).status}
    assert IOERR in statuses and statuses <= {OK, IOERR}
    disks.expect_alive()
    assert disks.stop() == 0

    file_system.repair()
    lost = 0
    with open(disks.file, 'rb') as file:
        for block in range(BLOCKS):
            found = file.read(BLOCK).ljust(BLOCK, b'\0')
            assert found in (safe[block], *later[block], bytes(BLOCK) if block == 0 else b''), \
                f'block {block} is neither as flushed nor as written later'
            lost += bool(later[block]) and found == safe[block]
    assert lost or through or keys == 'direct=on', 'nothing was lost: the power was not cut'
