# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Runs vdpa-frames, which sends numbered frames through stock net_virtio_user and checks them.

net_virtio_user offers neither EVENT_IDX nor NOTIFICATION_DATA to a vhost-user back end, in any of
the releases: what a device does with event indexes is shown by the QEMU and Linux tests only.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest

from backend import cpus
from proc import Program, ProgramSet, Tools

NOT_RUN = 2


def frames_program(tools: Tools) -> str:
    """Path of vdpa-frames; the test is skipped where there is none."""
    built = tools.builddir / 'app/test/frames/vdpa-frames' if tools.builddir else None
    for name in (os.environ.get('VDPA_FRAMES'), built and str(built), 'vdpa-frames'):
        found = shutil.which(name) if name else None
        if found:
            return found
    if tools.builddir:
        pytest.fail('no vdpa-frames in the build folder')
    pytest.skip('vdpa-frames not found: give --builddir')


class Frames:
    """One run of vdpa-frames on one socket; `options` are those after `--`."""

    def __init__(self, programs: ProgramSet, tools: Tools, folder: Path, path: str, *,
                 queues: int = 1, devargs: str = '', options: Sequence[str] = (),
                 eal: Sequence[str] = (), name: str = 'frames'):
        control = cpus()[0]     # the other one is the back end's
        runtime = folder / f'{name}.run'
        runtime.mkdir(exist_ok=True)
        vdev = f'net_virtio_user0,path={path},queues={queues}'
        vdev += ',' + devargs if devargs else ''
        self.program: Program = programs.start(
            [frames_program(tools), '--no-huge', '-m', '320', '--no-pci', '--no-telemetry',
             '--file-prefix', folder.name + name, '--lcores', f'0@{control},1@{control}', *eal,
             '--vdev', vdev, '--', '--json', '--queues', str(queues), *options],
            name=name, env={'RUNTIME_DIRECTORY': str(runtime)})

    def result(self, timeout_s: float) -> Dict[str, Any]:
        """Wait for the end; the JSON that it printed."""
        code = self.program.wait(timeout_s)
        assert code != NOT_RUN, self.program.tail()
        lines = [line for line in self.program.said().splitlines() if line.startswith('{')]
        assert lines, f'exit code {code} and no result\n{self.program.tail()}'
        result = json.loads(lines[-1])
        assert result['ok'] == (code == 0)
        return result


def expect_right(result: Dict[str, Any], queues: int, frames: int) -> None:
    """Each queue sent so many frames and had every one back, once, whole and in order."""
    assert result['ok'], result['why']
    assert len(result['queues']) == queues
    for queue in result['queues']:
        assert queue['sent'] == queue['received'] == frames, queue
        for fault in ('lost', 'changed', 'reordered', 'repeated', 'misrouted'):
            assert queue[fault] == 0, queue
