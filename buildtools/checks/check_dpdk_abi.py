#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Compares the declarations of lib/dpdk_abi with DPDK's own driver-side headers.

A C program is generated from dpdk_abi.list and compiled twice: once with our declarations, once
with DPDK's. It prints every size, offset and value; a field's type is compared as the compiler
prints it in C++ (typeid), where a type that differs has another name.

DPDK's headers are those of the folder that is named (an installed driver SDK, or the build's
copies), else of the distribution's source package (devtools/dpdk_source.sh).

Exit code: 0 same, 1 different (each line that differs is printed), 77 no headers to compare with.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ABI = ROOT / "lib" / "dpdk_abi"
SOURCE_FOLDERS = ("lib/eal/include", "lib/vhost", "drivers/bus/vdev")
HEADERS = ("dev_driver.h", "bus_driver.h", "bus_vdev_driver.h", "vdpa_driver.h")

# Each program must really see the headers that it is meant to see.
ORIGIN_GUARD = """
#ifdef VDPA_DPDK_ABI_OWN
#if defined(VDPA_DPDK_ABI_FROM_DPDK) || defined(VDPA_DPDK_VHOST_FROM_DPDK)
#error "not our own declarations"
#endif
#elif !defined(VDPA_DPDK_ABI_FROM_DPDK) || !defined(VDPA_DPDK_VHOST_FROM_DPDK)
#error "not DPDK's own declarations"
#endif
"""


def program(lines):
    """The C++ program that prints one line per size, offset, type and value."""
    out = ["#include <cstdio>", "#include <typeinfo>", "#include <type_traits>"]
    out += ['#include "vdpa_dpdk_vhost.h"', ORIGIN_GUARD, "int main() {"]
    for line in lines:
        what, rest = line.split(":", 1)
        kind, name = what.split()
        if kind == "struct":
            out.append(f'printf("sizeof({name}) %zu\\n", sizeof(struct {name}));')
            for field in rest.split():
                out.append(
                    f'printf("{name}.{field} at %zu, %zu bytes, %s\\n", offsetof(struct {name},'
                    f" {field}), sizeof(((struct {name} *)0)->{field}),"
                    f" typeid(decltype({name}::{field})).name());"
                )
        elif kind == "enum":
            out.append(f'printf("sizeof({name}) %zu\\n", sizeof(enum {name}));')
            out += [f'printf("{value} = %d\\n", (int){value});' for value in rest.split()]
        else:
            out.append(
                f'printf("{name} is%s {rest.strip()}\\n",'
                f' std::is_same<decltype(&{name}), {rest.strip()}>::value ? "" : " not");'
            )
    return "\n".join(out + ["return 0;", "}", ""])


def table(compiler, source, extra, folder, name):
    """Compiles and runs the program; returns its lines."""
    binary = Path(folder) / name
    command = [*compiler, "-x", "c++", source, "-o", binary, "-I", ABI, *extra]
    command += ["-DALLOW_INTERNAL_API", "-DALLOW_EXPERIMENTAL_API", "-O0", "-Wno-invalid-offsetof"]
    # The functions' addresses are never taken at run time, so nothing is linked with DPDK.
    subprocess.run(command, check=True)
    return subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()


def dpdk_includes(named):
    """Include options for DPDK's own headers."""
    if named and all((Path(named) / header).is_file() for header in HEADERS):
        return ["-I", named], named
    tool = ROOT / "devtools" / "dpdk_source.sh"
    found = subprocess.run([tool], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        reason = found.stderr.strip().replace("\n", ", ")
        print(f"no driver-side headers of this DPDK to compare with: {reason}")
        sys.exit(77)
    folder = Path(found.stdout.strip())
    return [arg for sub in SOURCE_FOLDERS for arg in ("-I", folder / sub)], folder


def shadow(includes, folder):
    """DPDK's headers alone in a folder: beside them in the sources stand others of its own."""
    for header in HEADERS:
        for place in includes[1::2]:
            if (Path(place) / header).is_file():
                (folder / header).symlink_to(Path(place) / header)
                break
        else:
            sys.exit(f"{header} is not among DPDK's headers")
    return ["-I", folder]


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--headers", default="", help="folder with DPDK's driver-side headers")
    parser.add_argument("--abi-list", type=Path, default=Path(__file__).parent / "dpdk_abi.list")
    parser.add_argument("--cflags", default="", help="DPDK's own compiler flags")
    parser.add_argument("compiler", nargs="+", help="a C++ compiler")
    args = parser.parse_args()
    lines = [line for line in args.abi_list.read_text().splitlines() if line[:1] not in ("#", "")]
    includes, origin = dpdk_includes(args.headers)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "abi.cc"
        source.write_text(program(lines))
        dpdk = Path(folder) / "dpdk"
        dpdk.mkdir()
        cflags = shlex.split(args.cflags)
        own = table(args.compiler, source, ["-DVDPA_DPDK_ABI_OWN", *cflags], folder, "own")
        theirs = table(args.compiler, source, [*shadow(includes, dpdk), *cflags], folder, "theirs")
    wrong = [(a, b) for a, b in zip(own, theirs) if a != b or " is not " in a]
    for mine, other in wrong:
        print(f"lib/dpdk_abi: {mine}\n        DPDK: {other}")
    print(f"{len(own)} sizes, offsets, types and values compared with {origin}, {len(wrong)} wrong")
    sys.exit(1 if wrong or len(own) != len(theirs) else 0)


if __name__ == "__main__":
    main()
