# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The build's own checks: each one must see the fault that it is there for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHECKS = ROOT / "buildtools" / "checks"
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def run(*command, **options):
    """Runs a command; what it says on both outputs is in .stdout."""
    return subprocess.run([str(word) for word in command], env=ENV, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def pkg_config(*args):
    return run("pkg-config", *args, "libdpdk").stdout.strip()


def compile_shared(folder, name, text, *args):
    """A shared object from a C text; returns its path."""
    source = folder / f"{name}.c"
    source.write_text(text)
    target = folder / f"{name}.so"
    done = run("cc", "-shared", "-fPIC", "-o", target, source, *args)
    assert done.returncode == 0, done.stdout
    return target


# ---- the installed DPDK ---------------------------------------------------------------------


def fake_dpdk(folder, version):
    """A pkg-config file as DPDK of that version would install it."""
    (folder / "libdpdk.pc").write_text(
        f"libdir=/usr/lib\nincludedir=/usr/include\n\nName: DPDK\nDescription: DPDK\n"
        f"Version: {version}\nLibs:\nCflags:\n")
    return {**ENV, "PKG_CONFIG_PATH": str(folder)}


@pytest.mark.parametrize("version", ["26.11.0", "23.11.2", "22.12.0"])
def test_unknown_dpdk_stops_the_configuration(tmp_path, version):
    done = subprocess.run(["meson", "setup", tmp_path / "build", ROOT], check=False, text=True,
                          env=fake_dpdk(tmp_path, version), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode != 0
    assert version in done.stdout
    for known in ("22.11", "24.11", "25.11"):
        assert known in done.stdout.split("ERROR", 1)[1]


def test_sources_of_another_dpdk_are_refused(tmp_path):
    (tmp_path / "VERSION").write_text("21.11.0\n")
    done = run("meson", "setup", tmp_path / "build", ROOT, f"-Ddpdk_source={tmp_path}")
    assert done.returncode != 0
    assert "dpdk_source has DPDK 21.11.0, installed is" in done.stdout


# ---- check_dpdk_abi.py ----------------------------------------------------------------------


@pytest.fixture(name="abi_copy")
def copied_abi(tmp_path):
    """A copy of what check_dpdk_abi.py needs, to be broken."""
    for folder in ("lib/dpdk_abi", "buildtools/checks", "devtools"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def check_abi(root):
    return run(sys.executable, root / "buildtools/checks/check_dpdk_abi.py",
               f"--cflags={pkg_config('--cflags')}", "c++")


@pytest.mark.parametrize("header, before, after, complaint", [
    ("vdpa_dpdk_abi.h", "\tconst char *bus_info;\n", "", "error"),
    ("vdpa_dpdk_abi.h", "\tint numa_node;\n", "\tlong numa_node;\n", "rte_device.numa_node at"),
    ("vdpa_dpdk_abi.h", "\tconst char *alias;\n", "\tconst char *alias;\n\tvoid *more;\n",
     "sizeof(rte_driver) 40"),
    ("vdpa_dpdk_abi.h", "RTE_BUS_SCAN_ALLOWLIST,\n\tRTE_BUS_SCAN_BLOCKLIST,",
     "RTE_BUS_SCAN_BLOCKLIST,\n\tRTE_BUS_SCAN_ALLOWLIST,", "RTE_BUS_SCAN_BLOCKLIST = 1"),
    ("vdpa_dpdk_vhost.h", "uint64_t *protocol_features", "uint32_t *protocol_features",
     "rte_vdpa_dev_ops.get_protocol_features at"),
    ("vdpa_dpdk_vhost.h", "uint16_t qid, bool enable", "int qid, bool enable",
     "rte_vhost_host_notifier_ctrl is not"),
])
def test_a_wrong_declaration_is_seen(abi_copy, header, before, after, complaint):
    path = abi_copy / "lib/dpdk_abi" / header
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    done = check_abi(abi_copy)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[0])
    assert done.returncode == 1
    assert complaint in done.stdout


# ---- check_internal.py ----------------------------------------------------------------------


def check_internal(plugin, libdir):
    return run(sys.executable, CHECKS / "check_internal.py", "--libdir", libdir, plugin)


@pytest.fixture(name="fake")
def fake_library(tmp_path):
    """A function that builds librte_fake.so with one symbol under a node, and its folder."""
    def build(folder, symbol, node):
        place = tmp_path / folder
        place.mkdir()
        version = tmp_path / f"{folder}.map"
        version.write_text(f"{node} {{ global: {symbol}; local: *; }};\n")
        library = compile_shared(tmp_path, folder, f"void {symbol}(void) {{}}\n",
                                 "-Wl,-soname,librte_fake.so", f"-Wl,--version-script={version}")
        return library.rename(place / "librte_fake.so").parent
    return build


def importer(folder, libdir, symbol):
    return compile_shared(folder, "importer",
                          f"void {symbol}(void);\nvoid f(void);\nvoid f(void) {{ {symbol}(); }}\n",
                          "-L", libdir, "-l:librte_fake.so")


def test_listed_internal_import_passes(tmp_path, fake):
    libdir = fake("built", "rte_vdev_register", "INTERNAL")
    done = check_internal(importer(tmp_path, libdir, "rte_vdev_register"), libdir)
    assert done.returncode == 0
    assert "rte_vdev_register of librte_fake.so, node INTERNAL" in done.stdout


def test_unlisted_internal_import_is_seen(tmp_path, fake):
    libdir = fake("built", "rte_pci_register", "INTERNAL")
    done = check_internal(importer(tmp_path, libdir, "rte_pci_register"), libdir)
    assert done.returncode == 1
    assert "rte_pci_register: node INTERNAL, but not in" in done.stdout


def test_symbol_under_another_node_is_seen(tmp_path, fake):
    plugin = importer(tmp_path, fake("built", "rte_vdev_register", "INTERNAL"),
                      "rte_vdev_register")
    done = check_internal(plugin, fake("installed", "rte_vdev_register", "DPDK_26"))
    assert done.returncode == 1
    assert "wanted of node INTERNAL, offered: {'DPDK_26'" in done.stdout


def test_symbol_that_is_gone_is_seen(tmp_path, fake):
    plugin = importer(tmp_path, fake("built", "rte_vdev_register", "INTERNAL"),
                      "rte_vdev_register")
    done = check_internal(plugin, fake("installed", "rte_other", "INTERNAL"))
    assert done.returncode == 1
    assert "offered: nowhere" in done.stdout


# ---- check_exports.py -----------------------------------------------------------------------


@pytest.mark.parametrize("code, mapped, header, complaint", [
    ("vdpa_a", "vdpa_a", "int vdpa_a(int);", None),
    ("vdpa_a", "vdpa_a", "/* int vdpa_a(int); */", "vdpa_a: exported, in no public header"),
    ("vdpa_a", "vdpa_a", "static inline int g(void) { return vdpa_a(1); }",
     "vdpa_a: exported, in no public header"),
    ("vdpa_a", "vdpa_a; vdpa_b", "int vdpa_a(int);", "vdpa_b: in v.map, not exported"),
    ("vdpa_a", "vdpa_a", "int vdpa_a(int);\nint vdpa_b(void);",
     "vdpa_b: in a public header, not exported"),
    ("vdpa_a", "vdpa_a; other", "int vdpa_a(int);", "other: exported, in no public header"),
])
def test_exports(tmp_path, code, mapped, header, complaint):
    version = tmp_path / "v.map"
    version.write_text(f"VDPA_0 {{ global: {mapped}; local: *; }};\n")
    (tmp_path / "h.h").write_text(header)
    library = compile_shared(tmp_path, "l", f"int {code}(int x) {{ return x; }}\nint other;\n",
                             f"-Wl,--version-script={version}")
    done = run(sys.executable, CHECKS / "check_exports.py", "--library", library, "--map", version,
               tmp_path / "h.h")
    assert done.returncode == (1 if complaint else 0)
    assert complaint is None or complaint in done.stdout


def test_plugin_that_exports_is_seen(tmp_path):
    version = tmp_path / "v.map"
    version.write_text("VDPA_0 { global: vdpa_a; local: *; };\n")
    (tmp_path / "h.h").write_text("int vdpa_a(void);\n")
    library = compile_shared(tmp_path, "l", "int vdpa_a(void) { return 0; }\n",
                             f"-Wl,--version-script={version}")
    plugin = compile_shared(tmp_path, "vdpa_p", "int leaked(void) { return 0; }\n")
    done = run(sys.executable, CHECKS / "check_exports.py", "--library", library, "--map", version,
               "--plugin", plugin, tmp_path / "h.h")
    assert done.returncode == 1
    assert "leaked: exported by vdpa_p.so" in done.stdout


# ---- check_headers.py -----------------------------------------------------------------------


@pytest.mark.parametrize("text, good", [
    ("#include <stdint.h>\nuint8_t vdpa_a(void);\n", True),
    ("uint8_t vdpa_a(void);\n", False),
    ("#include <errno.h>\nstatic inline char *vdpa_a(void *p) { return p; }\n", False),
    ('#include "private.h"\n', False),
])
def test_headers_alone(tmp_path, text, good):
    (tmp_path / "private.h").write_text("\n")
    (tmp_path / "vdpa_x.h").write_text(text)
    done = run(sys.executable, CHECKS / "check_headers.py", "--cc", "cc", "--cxx", "c++",
               tmp_path / "vdpa_x.h")
    assert done.returncode == (0 if good else 1), done.stdout


# ---- PMD information ------------------------------------------------------------------------


DRIVERS = """
static const char this_pmd_name0[] __attribute__((used)) = "vdpa_first";
static const char __vdpa_first_param_string_export[] __attribute__((used)) = "a=<\\"x\\"> b=<n>";
static const char this_pmd_name1[] __attribute__((used)) = "vdpa_second";
"""


@pytest.mark.parametrize("kind", ["rcs", "rcsT"])
def test_pmdinfo_from_an_archive(tmp_path, kind):
    source = tmp_path / "a_long_name_for_a_source_file.c"
    source.write_text(DRIVERS)
    other = tmp_path / "o.c"
    other.write_text("int o;\n")
    for path in (source, other):
        run("cc", "-c", "-o", path.with_suffix(".o"), path)
    archive = tmp_path / "drivers.a"
    run("ar", kind, archive, other.with_suffix(".o"), source.with_suffix(".o"))
    done = run(sys.executable, ROOT / "buildtools" / "pmdinfo.py", archive, tmp_path / "pmd.c")
    assert done.returncode == 0, done.stdout
    plugin = compile_shared(tmp_path, "vdpa_first", (tmp_path / "pmd.c").read_text(), "-Werror")
    tool = shutil.which("dpdk-pmdinfo.py")
    if tool is None:
        pytest.skip("dpdk-pmdinfo.py is not installed")
    infos = json.loads(run("/usr/bin/python3", tool, plugin).stdout)
    assert sorted(infos, key=lambda info: info["name"]) == [
        {"name": "vdpa_first", "params": 'a=<"x"> b=<n>'}, {"name": "vdpa_second"}]
    assert run(sys.executable, CHECKS / "check_pmdinfo.py", plugin).returncode == 0


def test_plugin_without_pmdinfo_is_seen(tmp_path):
    if shutil.which("dpdk-pmdinfo.py") is None:
        pytest.skip("dpdk-pmdinfo.py is not installed")
    plugin = compile_shared(tmp_path, "vdpa_p", 'const char s[] = "nothing";\n')
    done = run(sys.executable, CHECKS / "check_pmdinfo.py", plugin)
    assert done.returncode == 1
    assert "no entry with name vdpa_p" in done.stdout
