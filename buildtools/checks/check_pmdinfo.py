#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Checks that DPDK's own dpdk-pmdinfo.py prints the name and the parameters of each plug-in.

Exit code: 0 it does, 1 not (what it printed is shown), 77 the tool is not installed.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path


def main():
    """See the top of the file. The arguments are the plug-ins of parents."""
    tool = shutil.which("dpdk-pmdinfo.py")
    if tool is None:
        print("dpdk-pmdinfo.py is not installed")
        sys.exit(77)
    wrong = 0
    for plugin in map(Path, sys.argv[1:]):
        done = subprocess.run(["/usr/bin/python3", tool, plugin], check=True, text=True,
                              capture_output=True)
        infos = json.loads(done.stdout)
        print(plugin.name, infos)
        if not any(info.get("name") == plugin.stem and info.get("params") for info in infos):
            print(f"{plugin.name}: no entry with name {plugin.stem} and parameters")
            wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
