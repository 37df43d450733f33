#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Compiles each public header alone, in C and in C++, with nothing but the public ones beside it.

Exit code: 0 all compile, 1 not (the compiler says why).
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
LANGUAGES = {"c": ["-x", "c", "-std=c11"], "c++": ["-x", "c++", "-std=c++17"]}


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", required=True, help="C compiler")
    parser.add_argument("--cxx", required=True, help="C++ compiler")
    parser.add_argument("--cflags", default="", help="DPDK's own compiler flags")
    parser.add_argument("headers", type=Path, nargs="+")
    args = parser.parse_args()
    compilers = {"c": shlex.split(args.cc), "c++": shlex.split(args.cxx)}
    cflags = [f"-isystem{flag[2:]}" if flag.startswith("-I") else flag
              for flag in shlex.split(args.cflags)]
    with tempfile.TemporaryDirectory() as folder:
        for header in args.headers:
            shutil.copy(header, folder)

        def compile_alone(job):
            language, header = job
            command = [*compilers[language], *LANGUAGES[language], *WARNINGS, *cflags]
            done = subprocess.run([*command, "-I", folder, "-"], text=True, check=False,
                                  input=f"#include <{header.name}>\n",
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return done.returncode, f"{header.name} alone in {language}:\n{done.stdout}"

        jobs = [(language, header) for header in args.headers for language in LANGUAGES]
        with ThreadPoolExecutor(2) as pool:
            faults = [text for code, text in pool.map(compile_alone, jobs) if code != 0]
    print("\n".join(faults))
    print(f"{len(args.headers)} headers in C and C++, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
