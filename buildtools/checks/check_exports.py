#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Checks that a symbol of libvdpa is exported exactly when version.map and a public header say so.

A public header declares a function of ours by its name before an opening bracket, outside
comments, macros and inline functions. Plug-ins export nothing at all.
Exit code: 0 right, 1 wrong (each fault is printed).
"""

import argparse
import re
import sys
from pathlib import Path

from elf import SharedObject


def mapped(path):
    """Names in a version map."""
    text = re.sub(r"/\*.*?\*/|#[^\n]*", "", path.read_text(), flags=re.S)
    return {name for name in re.findall(r"([A-Za-z_]\w*)\s*;", text) if name != "local"}


def declared(path):
    """Functions and objects of ours that a header declares, without inline functions."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S)
    text = re.sub(r"^[ \t]*#(\\\n|[^\n])*", " ", text, flags=re.M)
    text = re.sub(r'extern\s+"C"\s*\{', " ", text)
    # What stands in braces (inline functions, structures) declares nothing of its own.
    depth, outside = 0, []
    for char in text:
        if char == "}":
            depth -= 1
            outside.append("}")
        if depth == 0 and char != "}":
            outside.append(char)
        if char == "{":
            depth += 1
    names = set()
    for statement in re.split(r"[;}]", "".join(outside)):
        found = re.search(r"\b(v(?:dpa|ring)_\w+)\s*\(", statement)
        if found and not statement.rstrip().endswith("{") and "typedef" not in statement:
            names.add(found.group(1))
    return names


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    parser.add_argument("headers", type=Path, nargs="+")
    args = parser.parse_args()
    exports = set(SharedObject(args.library).exports)
    in_map = mapped(args.map)
    in_headers = set().union(*(declared(header) for header in args.headers))
    faults = [f"{n}: exported, not in {args.map.name}" for n in exports - in_map]
    faults += [f"{n}: in {args.map.name}, not exported" for n in in_map - exports]
    faults += [f"{n}: exported, in no public header" for n in exports - in_headers]
    faults += [f"{n}: in a public header, not exported" for n in in_headers - exports]
    for plugin in args.plugin:
        faults += [f"{n}: exported by {plugin.name}" for n in SharedObject(plugin).exports]
    for fault in sorted(faults):
        print(fault)
    print(f"{len(exports)} exported symbols, {len(args.plugin)} plug-ins, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
