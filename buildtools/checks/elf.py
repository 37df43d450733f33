# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What the checks need to know of a shared object."""

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

VERSYM_INDEX_MASK = 0x7FFF


class SharedObject:
    """The dynamic symbols of a shared object, with their version nodes."""

    def __init__(self, path):
        self.imports = {}  # symbol -> node it is wanted of, "" if none
        self.exports = {}  # symbol -> set of nodes it is offered under
        self.needed = []
        with open(path, "rb") as file:
            elf = ELFFile(file)
            dynamic = elf.get_section_by_name(".dynamic")
            if dynamic is None:
                raise ValueError(f"{path}: not a shared object")
            self.needed = [t.needed for t in dynamic.iter_tags() if t.entry.d_tag == "DT_NEEDED"]
            nodes = self._nodes(elf)
            versions = elf.get_section_by_name(".gnu.version")
            for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
                if not symbol.name or symbol["st_info"]["bind"] == "STB_LOCAL":
                    continue
                node = ""
                if versions is not None:
                    number = versions.get_symbol(index)["ndx"]
                    if isinstance(number, int):
                        node = nodes.get(number & VERSYM_INDEX_MASK, "")
                if symbol["st_shndx"] == "SHN_UNDEF":
                    self.imports[symbol.name] = node
                elif symbol["st_shndx"] != "SHN_ABS":
                    self.exports.setdefault(symbol.name, set()).add(node)

    @staticmethod
    def _nodes(elf):
        """Version index -> name of the node."""
        nodes = {}
        for section in elf.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for _, names in section.iter_versions():
                    nodes.update({name["vna_other"]: name.name for name in names})
            elif isinstance(section, GNUVerDefSection):
                for definition, names in section.iter_versions():
                    nodes[definition["vd_ndx"]] = next(names).name
        return nodes
