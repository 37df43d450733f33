# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Huge pages for a test's programs: what DPDK needs to share memory with a secondary process.

The kernel may give a number of pages beyond its pool while they are used; that limit is raised, and
put back afterwards. They are reached by a mount in a namespace of the test's own.
"""

import fcntl
import mmap
from pathlib import Path
from typing import Iterator, List

import pytest

from proc import ProgramSet, wait_until

PAGE_BYTES = 2 << 20
LIMIT = Path('/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages')
MAP_HUGETLB = 0x40000
PAGES = 64


class HugePages:
    """Programs whose command comes from argv() find a hugetlbfs at `path`."""

    def __init__(self, programs: ProgramSet, folder: Path):
        self.path = folder / 'huge'
        self.path.mkdir()
        self.holder = programs.start(
            ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec',
             'mount -t hugetlbfs -o pagesize=2M none "$0"; exec sleep infinity', str(self.path)],
            name='hugetlbfs')
        wait_until(lambda: self.is_mounted() or not self.holder.running(), 30.0,
                   'a mount of huge pages', 0.02)
        if not self.holder.running():
            pytest.skip(f'no mount of huge pages: {self.holder.text().splitlines()[-1]}')

    def is_mounted(self) -> bool:
        try:
            mounts = Path(f'/proc/{self.holder.pid}/mounts').read_text()
        except OSError:
            return False
        return any(line.split()[1:3] == [str(self.path), 'hugetlbfs']
                   for line in mounts.splitlines())

    def argv(self, argv: List[str]) -> List[str]:
        # entering alone would leave a chroot
        holder = f'/proc/{self.holder.pid}'
        return ['nsenter', f'--mount={holder}/ns/mnt', f'--root={holder}/root', *argv]


def can_be_had() -> None:
    """Take that many pages and give them back; OSError if the kernel refuses."""
    mmap.mmap(-1, PAGES * PAGE_BYTES, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_HUGETLB).close()


@pytest.fixture
def huge_pages(programs, folder) -> Iterator[HugePages]:
    """Skips where there are none. One test at a time, in all releases that share the kernel."""
    try:
        limit = open(LIMIT, 'r+')
    except OSError as error:
        pytest.skip(f'huge pages cannot be had: {error}')
    with limit:
        fcntl.flock(limit, fcntl.LOCK_EX)
        before = LIMIT.read_text()
        try:
            try:
                LIMIT.write_text(str(int(before) + PAGES))
                can_be_had()
            except OSError as error:
                pytest.skip(f'{PAGES} huge pages cannot be had: {error}')
            yield HugePages(programs, folder)
        finally:
            try:
                LIMIT.write_text(before)
            except OSError:
                pass
