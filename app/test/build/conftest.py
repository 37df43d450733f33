# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Options of the tests of the build."""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--builddir", default=None, help="build folder that is installed from")


@pytest.fixture(scope="session", name="builddir")
def named_builddir(request):
    """The build folder, absolute."""
    builddir = request.config.getoption("--builddir")
    if builddir is None:
        pytest.skip("no --builddir given")
    return Path(builddir).resolve()
