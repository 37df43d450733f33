# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""QEMU's own block layer as client, with no guest: qemu-io and qemu-img by libblkio.

The tests prove themselves with qemu-storage-daemon (--backend testpmd).
"""

import random
import re
import subprocess

import pytest

from disk import MIB

SIZE = 64 * MIB


def run(*argv, check=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)
    assert not check or done.returncode == 0, f'{argv}: exit code {done.returncode}\n{done.stdout}'
    return done.stdout


@pytest.fixture(scope='module')
def need_blkio():
    """QEMU of Debian 12 has no such driver."""
    if 'virtio-blk-vhost-user' not in run('qemu-img', '--help'):
        pytest.skip('this QEMU has no driver virtio-blk-vhost-user')


def image(disks):
    return ['--image-opts', f'driver=virtio-blk-vhost-user,path={disks.path},cache.direct=on']


def qemu_io(disks, *commands):
    """Run commands of qemu-io; each must succeed and find what it verifies."""
    text = run('qemu-io', *image(disks), *[word for c in commands for word in ('-c', c)])
    assert 'failed' not in text and 'error' not in text.lower(), text
    return text


@pytest.mark.parametrize('kind', ['malloc', 'file'])
def test_patterns(need_blkio, make_disks, kind):
    disks = make_disks(kind=kind, size=SIZE, queues=2).start()
    rng = random.Random(7)
    written = {}
    commands = []
    for number in range(60):
        size = 512 * rng.choice([1, 3, 8, 128, 2048])
        offset = 512 * rng.randrange((SIZE - size) // 512)
        if any(offset < o + s and o < offset + size for o, s in written):
            continue
        written[offset, size] = number + 1
        commands.append(f'write -P {number + 1} {offset} {size}')
    qemu_io(disks, *commands, 'flush')
    qemu_io(disks, *[f'read -P {value} {o} {s}' for (o, s), value in written.items()])
    (offset, size), _ = next(iter(written.items()))
    qemu_io(disks, f'write -z {offset} {size}', f'read -P 0 {offset} {size}',
            f'discard {offset} {size}', f'aio_write -P 9 {offset} {size}', 'aio_flush',
            f'read -P 9 {offset} {size}')
    disks.expect_alive()


def test_images_are_converted_there_and_back(need_blkio, make_disks, folder):
    disks = make_disks(kind='file', size=SIZE).start()
    source, back = folder / 'source.raw', folder / 'back.raw'
    source.write_bytes(random.Random(3).randbytes(SIZE // 2) + bytes(SIZE // 2))
    target = f'driver=virtio-blk-vhost-user,path={disks.path},cache.direct=on'
    run('qemu-img', 'convert', '-n', '-f', 'raw', '--target-image-opts', str(source), target)
    run('qemu-img', 'convert', '--image-opts', target, '-O', 'raw', str(back))
    assert back.read_bytes() == source.read_bytes() == disks.file.read_bytes()
    assert re.search('identical', run('qemu-img', 'compare', str(source), str(back)))
    disks.expect_alive()
