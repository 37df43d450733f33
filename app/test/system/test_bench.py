# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A short round of a benchmark of devtools/bench.sh, so that it runs when it is wanted."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / 'devtools/bench.py'


@pytest.mark.ours
def test_disks_beside_the_stock_back_end(request, folder):
    builddir = request.config.getoption('--builddir')
    if not builddir:
        pytest.skip('give --builddir')
    done = subprocess.run(
        ['/usr/bin/python3', '-B', BENCH, '--builddir', builddir, '--out', folder / 'bench',
         '--cases', 'raw-null', '--pairs', '1', '--seconds', '0.1'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    rows = json.loads((folder / 'bench.json').read_text())['blk_raw']['raw-null']['rows']
    assert len(rows) == 8
    for row in rows:
        assert [len(rates) for rates in row['rates'].values()] == [1, 1], row
        assert all(rate > 0 for rates in row['rates'].values() for rate in rates), row
    assert 'raw-null' in (folder / 'bench.rst').read_text()
