# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_blk with a stock Linux kernel (User Mode Linux) and its own virtio-blk driver."""

import hashlib
from typing import Callable, List

import pytest

from daemon import Daemon
from linux import boot, linux_kernel

__all__ = ['boot', 'linux_kernel']      # fixtures

FILES = 20
DISKS = {
    'malloc': 'backend=malloc,size=64M',
    'file': 'backend=file,size=64M,path={folder}/disk',
    'direct': 'backend=file,size=64M,path={folder}/disk,direct=on',
    'relayed': 'backend=file,size=64M,path={folder}/disk,relay=always',
    'plain': 'backend=malloc,size=64M,device_features=100004200',
}
SHORT = ['direct', 'plain']     # the others take the long run


@pytest.fixture
def disk(programs, tools, folder) -> Callable[..., str]:
    """Start the daemon with this disk; its socket."""
    def start(args: str) -> str:
        (folder / 'disk').touch()
        daemon = Daemon(programs, tools, folder)
        daemon.start(['--iface', daemon.socket('d')],
                     ['vdpa_sw_blk0,' + args.format(folder=folder)])
        return daemon.socket('d0')
    return start


def sums(guest) -> List[str]:
    return sorted(guest.sh('cd /run/m && sha256sum f*').out.splitlines())


@pytest.mark.parametrize('kind', sorted(DISKS))
def test_file_system_survives_a_reboot(disk, boot, is_long, kind):
    if kind not in SHORT and not is_long:
        pytest.skip('only with --long')
    path = disk(DISKS[kind])
    with boot(disks=[path], name='first') as guest:
        guest.sh(f"""
            mkdir /run/m
            mkfs.ext4 -q /dev/vda
            mount /dev/vda /run/m
            for n in $(seq {FILES}); do
                dd if=/dev/urandom of=/run/m/f$n bs=7777 count=100 status=none
            done
            sync
            echo 3 >/proc/sys/vm/drop_caches""", timeout_s=60)
        before = sums(guest)
        guest.sh('umount /run/m; fsck.ext4 -fn /dev/vda')
    with boot(disks=[path], name='second') as guest:
        guest.sh('mkdir /run/m; fsck.ext4 -fn /dev/vda; mount -o ro /dev/vda /run/m')
        assert len(before) == FILES and sums(guest) == before


@pytest.mark.parametrize('kind', ['file', 'malloc'])
def test_fio_finds_what_it_wrote(disk, boot, is_long, kind):
    if kind != 'file' and not is_long:
        pytest.skip('only with --long')
    with boot(disks=[disk(DISKS[kind])], memory_mib=512) as guest:
        for depth in (1, 32):
            for size in ('4k', '64k', '1m') if is_long else ('4k', '1m'):
                guest.sh(f"""
                    fio --name=v --filename=/dev/vda --rw=randwrite --bs={size} --direct=1 \\
                        --ioengine=libaio --iodepth={depth} --size={48 if is_long else 8}M \\
                        --verify=crc32c --verify_fatal=1 --do_verify=1 --thread""",
                         timeout_s=120)


@pytest.mark.parametrize('kind', ['file'])
def test_blkdiscard_leaves_zeros(disk, boot, folder, kind):
    with boot(disks=[disk(DISKS[kind])]) as guest:
        guest.sh("""
            dd if=/dev/urandom of=/dev/vda bs=1M count=8 oflag=direct status=none
            blkdiscard -o 1M -l 2M /dev/vda
            blkdiscard -z -o 4M -l 1M /dev/vda
            sync""")
        digest = guest.sh('sha256sum /dev/vda', timeout_s=30).out.split()[0]
    data = (folder / 'disk').read_bytes()
    mib = 1 << 20
    assert data[mib:3 * mib] == bytes(2 * mib) and data[4 * mib:5 * mib] == bytes(mib)
    assert data[:mib] != bytes(mib) and data[3 * mib:4 * mib] != bytes(mib)
    assert hashlib.sha256(data).hexdigest() == digest
