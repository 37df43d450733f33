# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Fixtures and options of the system tests."""

import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple, Type

import pytest

from backend import KINDS, Backend
from disk import make_disks     # noqa: F401 -- a fixture
from proc import ProgramSet, Tools
from raw_nic import RawNic

MOST_FAILED = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('vdpa')
    group.addoption('--builddir', default=None, help='build folder with the programs under test')
    group.addoption('--backend', choices=sorted(KINDS), default='vdpa',
                    help='back end under test: our daemon (vdpa), or the stock net_vhost in testpmd, '
                         'which proves the test bed')
    group.addoption('--long', action='store_true', help='the large counts')
    group.addoption('--sample', action='store_true',
                    help='of each test with parameters only the first and the last set, unless it '
                         'is marked every_release: what another release needs beside a full run')
    group.addoption('--failed-in', metavar='REPORT', default=None,
                    help='only the tests that failed in the run that wrote this --junitxml; wrong '
                         f'usage if more than {MOST_FAILED} did: that was no accident')
    group.addoption('--keep', action='store_true', help='keep the scratch folders')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', 'ours: holds for our daemon only, stock net_vhost fails it')
    config.addinivalue_line('markers', 'every_release: about what differs between releases of DPDK')


def failed_in(report: str) -> Set[Tuple[str, str]]:
    """File and name of each test that failed."""
    failed = {(case.get('classname', '').split('.')[-1], case.get('name', ''))
              for case in ElementTree.parse(report).iter('testcase')
              if case.find('failure') is not None or case.find('error') is not None}
    if len(failed) > MOST_FAILED:
        raise pytest.UsageError(f'{report}: {len(failed)} tests failed, which is no accident')
    return failed


def unsampled(items: List[pytest.Item]) -> List[pytest.Item]:
    """What --sample leaves out."""
    sets: Dict[str, List[pytest.Item]] = {}
    for item in items:
        sets.setdefault(item.nodeid.split('[')[0], []).append(item)
    return [item for same in sets.values() for item in same[1:-1]
            if not item.get_closest_marker('every_release')]


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    left: List[pytest.Item] = []
    if config.getoption('--sample'):
        left += unsampled(items)
    if config.getoption('--failed-in'):
        failed = failed_in(config.getoption('--failed-in'))
        left += [item for item in items if (item.path.stem, item.name) not in failed]
    config.hook.pytest_deselected(items=left)
    gone = set(map(id, left))
    items[:] = [item for item in items if id(item) not in gone]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A failed test prints the end of each program's log."""
    outcome = yield
    report = outcome.get_result()       # type: ignore[attr-defined]
    arguments = getattr(item, 'funcargs', {})
    if report.failed:
        for programs in (arguments.get('programs'), *(
                getattr(arguments.get(name), 'programs', None) for name in ('arena', 'shared'))):
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
def backend_kind(request: pytest.FixtureRequest, tools: Tools) -> Type[Backend]:
    """The class of the back end under test."""
    kind = KINDS[request.config.getoption('--backend')]
    if request.node.get_closest_marker('ours') and not kind.is_ours:
        pytest.skip('stock net_vhost does not promise this')
    if kind.is_ours and tools.daemon is None:
        if request.config.getoption('--builddir'):
            pytest.fail('no dpdk-vdpa in the build folder')
        pytest.skip('dpdk-vdpa not found: give --builddir, or --backend testpmd')
    if not kind.is_ours and tools.testpmd is None:
        pytest.skip('dpdk-testpmd is not installed')
    return kind


@pytest.fixture
def make_backend(backend_kind: Type[Backend], tools: Tools, programs: ProgramSet,
                 folder: Path) -> Callable[..., Backend]:
    """Make the back end under test, not started; arguments are those of Backend."""
    return lambda **options: backend_kind(programs, tools, folder, **options)


class SharedBackend:
    """A running back end that tests hand on to each other as long as they want the same one."""

    def __init__(self) -> None:
        self.wanted: Optional[Dict[str, object]] = None
        self.programs: Optional[ProgramSet] = None
        self.backend: Optional[Backend] = None

    def get(self, kind: Type[Backend], tools: Tools, **options: object) -> Backend:
        if self.wanted != options or self.backend is None or \
                not self.backend.running_program.running():
            self.end()
            folder = Path(tempfile.mkdtemp(prefix='vt-'))
            self.programs = ProgramSet(folder)
            self.backend = kind(self.programs, tools, folder,
                                **options).start()      # type: ignore[arg-type]
            self.wanted = options
        return self.backend

    def end(self) -> None:
        """End it; may be called again."""
        if self.programs is not None:
            self.programs.end_all()
            shutil.rmtree(self.programs.folder, ignore_errors=True)
        self.programs = self.backend = self.wanted = None


@pytest.fixture(scope='module')
def shared() -> Iterator[SharedBackend]:
    holder = SharedBackend()
    yield holder
    holder.end()


@pytest.fixture
def shared_backend(request: pytest.FixtureRequest, backend_kind: Type[Backend], tools: Tools,
                   shared: SharedBackend) -> Iterator[Callable[..., Backend]]:
    """A running back end, perhaps one that a test before used; a new one after a failure."""
    failed_before = request.session.testsfailed
    yield lambda **options: shared.get(backend_kind, tools, **options)
    if request.session.testsfailed > failed_before:
        shared.end()


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
