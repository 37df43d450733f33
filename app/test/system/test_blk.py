# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_blk with a stock Linux kernel (User Mode Linux) and its own virtio-blk driver."""

from pathlib import Path
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
KEPT = ['malloc', 'file', 'direct', 'relayed', 'plain']


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


@pytest.mark.parametrize('kind', KEPT)
def test_file_system_survives_a_reboot(disk, boot, kind):
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
