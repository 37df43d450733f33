#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Writes a plug-in's PMD information: a C file with the strings that dpdk-pmdinfo.py prints.

Drivers leave their names and parameters as strings with known symbol names in their object files
(see VDPA_REGISTER_VDEV and VDPA_PMD_PARAMS in lib/dpdk_abi/vdpa_dpdk_abi.h).

usage: pmdinfo.py ARCHIVE OUTPUT.c
"""

import io
import json
import os
import re
import sys

from elftools.elf.elffile import ELFFile

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


def archive_objects(data, path):
    """Yields the ELF members of an ar archive, thin ones (which only name files) too."""
    thin = data.startswith(b"!<thin>\n")
    if not thin and not data.startswith(AR_MAGIC):
        sys.exit(f"{path}: not an archive")
    long_names = b""
    pos = len(AR_MAGIC)
    while pos + AR_HEADER_BYTES <= len(data):
        header = data[pos : pos + AR_HEADER_BYTES]
        name = header[:16].rstrip()
        size = int(header[48:58])
        pos += AR_HEADER_BYTES
        special = name in (b"/", b"//", b"/SYM64/")
        body = b"" if thin and not special else data[pos : pos + size]
        if name == b"//":
            long_names = body
        elif not special and thin:
            start = int(name[1:])
            member = long_names[start : long_names.index(b"/\n", start)].decode()
            with open(os.path.join(os.path.dirname(path), member), "rb") as file:
                yield file.read()
        elif not special:
            yield body
        pos += len(body) + len(body) % 2


def strings(elf):
    """Maps the name of each symbol that may be one of ours to the string it stands for."""
    found = {}
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        section = symbol["st_shndx"]
        wanted = re.fullmatch(r"this_pmd_name\d+|__\w+_param_string_export", symbol.name)
        if wanted and isinstance(section, int):
            start = symbol["st_value"]
            value = elf.get_section(section).data()[start : start + symbol["st_size"]]
            found[symbol.name] = value.split(b"\0")[0].decode("ascii")
    return found


def drivers(data, path):
    """Yields what dpdk-pmdinfo.py shall print, one dictionary per driver."""
    for obj in archive_objects(data, path):
        found = strings(ELFFile(io.BytesIO(obj)))
        for symbol in sorted(name for name in found if name.startswith("this_pmd_name")):
            info = {"name": found[symbol], "pci_ids": []}
            params = found.get(f"__{found[symbol]}_param_string_export")
            if params is not None:
                info["params"] = params
            yield info


def main():
    """See the top of the file."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        infos = list(drivers(file.read(), sys.argv[1]))
    with open(sys.argv[2], "w", encoding="ascii") as out:
        for info in infos:
            text = json.dumps("PMD_INFO_STRING= " + json.dumps(info))
            out.write(f"extern const char {info['name']}_pmd_info[];\n")
            out.write(f"const char {info['name']}_pmd_info[] __attribute__((used)) = {text};\n")


if __name__ == "__main__":
    main()
