#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A round of a fuzz target: the same inputs each time. VDPA_TEST_LONG=1 makes it a hundred times as
long. What it finds stays in the current folder."""

import argparse
import os
import subprocess
import sys
import tempfile


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=50_000, help='inputs (%(default)s)')
    parser.add_argument('--seconds', type=int, default=0, help='for so long, with another seed')
    parser.add_argument('--keep', metavar='DIR', help='new inputs that reach new code go here')
    parser.add_argument('target')
    parser.add_argument('corpus')
    args = parser.parse_args()
    runs = args.runs * (100 if os.environ.get('VDPA_TEST_LONG') else 1)
    length = [f'-max_total_time={args.seconds}'] if args.seconds else [f'-runs={runs}', '-seed=1']
    with tempfile.TemporaryDirectory(prefix='vdpa-fuzz-') as folder:
        return subprocess.run(
            [args.target, *length, '-max_len=2048', '-timeout=20', '-rss_limit_mb=2048',
             '-print_final_stats=1', '-verbosity=0' if not args.seconds else '-verbosity=1',
             args.keep or folder, args.corpus], check=False).returncode


sys.exit(main())
