# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Fixtures and options of the system tests."""

import shutil
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest

from backend import KINDS, Backend
from proc import ProgramSet, Tools
from raw_nic import RawNic


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('vdpa')
    group.addoption('--builddir', default=None, help='build folder with the programs under test')
    group.addoption('--backend', choices=sorted(KINDS), default='vdpa',
                    help='back end under test: our daemon (vdpa), or the stock net_vhost in testpmd, '
                         'which proves the test bed')
    group.addoption('--long', action='store_true', help='the large counts')
    group.addoption('--keep', action='store_true', help='keep the scratch folders')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', 'ours: holds for our daemon only, stock net_vhost fails it')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A failed test prints the end of each program's log."""
    outcome = yield
    report = outcome.get_result()       # type: ignore[attr-defined]
    arguments = getattr(item, 'funcargs', {})
    if report.failed:
        for programs in (arguments.get('programs'), getattr(arguments.get('arena'), 'programs', None)):
            if programs is not None and programs.programs:
                report.sections.append(('logs', programs.tails()))


@pytest.fixture(scope='session')
def tools(request: pytest.FixtureRequest) -> Tools:
    """The binaries of this run."""
    builddir = request.config.getoption('--builddir')
    return Tools(Path(builddir).resolve() if builddir else None)


@pytest.fixture(scope='session')
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption('--long'))


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A scratch folder with a short name: socket paths hold 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix='vt-'))
    yield path
    if not request.config.getoption('--keep'):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def programs(folder: Path) -> Iterator[ProgramSet]:
    with ProgramSet(folder) as running:
        yield running


@pytest.fixture
def make_backend(request: pytest.FixtureRequest, tools: Tools, programs: ProgramSet,
                 folder: Path) -> Callable[..., Backend]:
    """Make the back end under test, not started; arguments are those of Backend."""
    kind = KINDS[request.config.getoption('--backend')]
    if request.node.get_closest_marker('ours') and not kind.is_ours:
        pytest.skip('stock net_vhost does not promise this')
    if kind.is_ours and tools.daemon is None:
        if request.config.getoption('--builddir'):
            pytest.fail('no dpdk-vdpa in the build folder')
        pytest.skip('dpdk-vdpa not found: give --builddir, or --backend testpmd')
    if not kind.is_ours and tools.testpmd is None:
        pytest.skip('dpdk-testpmd is not installed')
    return lambda **options: kind(programs, tools, folder, **options)


@pytest.fixture
def need_qemu(tools: Tools) -> None:
    if tools.qemu is None:
        pytest.skip('qemu-system-x86_64 is not installed')


@pytest.fixture
def need_testpmd(tools: Tools) -> None:
    if tools.testpmd is None:
        pytest.skip('dpdk-testpmd is not installed')


@pytest.fixture
def nics() -> Iterator[Callable[..., RawNic]]:
    """Raw front ends of a test, closed at its end: nics(options of RawNic)."""
    made = []

    def make(**options: object) -> RawNic:
        made.append(RawNic(**options))      # type: ignore[arg-type]
        return made[-1]
    yield make
    for nic in made:
        nic.close()
