#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Checks what plug-ins import from the installed DPDK.

Every rte_ symbol must be exported, under the version node that the plug-in was linked with, by a
DPDK library that the plug-in names; a symbol of node INTERNAL must also be in
internal_symbols.list. Exit code: 0 all are there, 1 not (each one is printed).
"""

import argparse
import re
import sys
from pathlib import Path

from elf import SharedObject


def offered(libraries):
    """Symbol -> {node: library} over some libraries."""
    table = {}
    for library in libraries:
        for name, nodes in SharedObject(library).exports.items():
            for node in nodes:
                table.setdefault(name, {})[node] = library.name
    return table


def faults(plugin, libdir, allowed):
    """Yields (symbol, what is wrong) for one plug-in and prints its INTERNAL imports."""
    shared = SharedObject(plugin)
    libraries = [libdir / name for name in shared.needed if name.startswith("librte_")]
    for missing in (path for path in libraries if not path.is_file()):
        yield missing.name, f"library not in {libdir}"
    table = offered(path for path in libraries if path.is_file())
    for name, node in sorted(shared.imports.items()):
        if not re.match(r"(per_lcore__)?rte_", name):
            continue
        if node not in table.get(name, {}):
            yield name, f"wanted of node {node or '(none)'}, offered: {table.get(name, 'nowhere')}"
        elif node == "INTERNAL":
            print(f"{plugin.name}: {name} of {table[name][node]}, node INTERNAL")
            if name not in allowed:
                yield name, "node INTERNAL, but not in internal_symbols.list"


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libdir", type=Path, required=True, help="folder with DPDK's libraries")
    parser.add_argument("plugins", nargs="+", type=Path)
    args = parser.parse_args()
    lines = (Path(__file__).parent / "internal_symbols.list").read_text().splitlines()
    allowed = {line for line in lines if line and not line.startswith("#")}
    wrong = 0
    for plugin in args.plugins:
        for name, fault in faults(plugin, args.libdir, allowed):
            print(f"{plugin.name}: {name}: {fault}")
            wrong += 1
    print(f"{len(args.plugins)} files checked, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
