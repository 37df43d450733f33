# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""devtools/lint.sh: each rule must see what it is there for, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
C_TOP = f"/* {SPDX}\n * Copyright (c) 2026 The vDPA framework authors\n */\n\n"

if not shutil.which("clang-format") or not shutil.which("shellcheck"):
    pytest.skip("lint needs clang-format and shellcheck, which are on the host only",
                allow_module_level=True)


def lint(folder, name, text):
    """What lint.sh says about one file of that name and text, and its exit code."""
    shutil.copy(ROOT / ".clang-format", folder)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = subprocess.run([ROOT / "devtools" / "lint.sh", name], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


def c_function(body):
    return f"{C_TOP}void\nvdpa_f(void)\n{{\n\t{body}\n}}\n"


@pytest.mark.parametrize("name, body, word", [
    ("lib/vdpa/a.c", "rte_vhost_driver_start(0);", "rte_vhost_"),
    ("drivers/vdpa/sw_net/a.c", "rte_vdpa_find_device_by_name(0);", "rte_vdpa_"),
    ("drivers/vdpa_bus/vhost/a.c", "rte_vhost_driver_set_features(0, 0);",
     "rte_vhost_driver_set_features"),
    ("drivers/vdpa_bus/vhost/a.c", "rte_pci_register(0);", "rte_pci_"),
    ("lib/vring/a.c", "rte_free(0);", "rte_free"),
    ("lib/vdpa/a.c", 'printf("x");', "printf("),
    ("drivers/vdpa/sw_net/a.c", "abort();", "abort("),
    ("lib/vdpa/a.c", "exit(1);", "exit("),
    ("lib/vdpa/a.c", "pthread_cancel(0);", "pthread_cancel"),
    ("lib/vdpa/a.c", "return -1;", "return -1;"),
    ("drivers/vdpa/x/a.c", "RTE_PMD_REGISTER_VDEV(a, b);", "RTE_PMD_REGISTER_"),
    ("lib/vdpa/a.c", "rte_thread_create(0, 0, 0, 0);", "rte_thread_create"),
    ("examples/vdpa/a.c", "strcpy(a, b);", "strcpy("),
    ("app/test/a.c", "int x = RTE_VER_YEAR;", "RTE_VER_YEAR"),
])
def test_forbidden_word_is_seen(tmp_path, name, body, word):
    code, said = lint(tmp_path, name, c_function(body))
    assert code == 1
    assert f"{name}:8: '{word}" in said


@pytest.mark.parametrize("name, body", [
    ("drivers/vdpa_bus/vhost/a.c", "rte_vhost_driver_start(0);"),
    ("lib/vdpa/a.c", "snprintf(a, n, b);"),
    ("lib/vdpa/a.c", "/* printf(a), abort() and rte_vhost_x stay out */"),
    ("lib/vdpa/a.c", 'log("exit(1)");'),
    ("lib/vdpa/a.c", "return -1; /* no such queue */"),
    ("examples/vdpa/a.c", 'printf("x");'),
    ("app/test/a.c", "exit(1);"),
])
def test_allowed_word_passes(tmp_path, name, body):
    assert lint(tmp_path, name, c_function(body)) == (0, "")


@pytest.mark.parametrize("name, text, complaint", [
    ("lib/a.c", "int vdpa_a;\n", "a.c:1: no line 'SPDX"),
    ("lib/a.c", f"{C_TOP}int vdpa_a; \n", "a.c:5: white space at the end"),
    ("lib/a.c", f"{C_TOP}int vdpa_a;", "a.c:5: no newline at the end"),
    ("lib/a.c", f"{C_TOP}int vdpa_a;\n\n", "a.c:6: empty line at the end"),
    ("lib/a.c", f"{C_TOP}int vdpa_a; /* {'x' * 100} */\n", "a.c:5: longer than 100"),
    ("lib/a.c", f"{C_TOP}/* FI" "XME */\n", "a.c:5: unfinished"),
    ("lib/a.c", f"{C_TOP}int  vdpa_a;\n", "a.c: not as clang-format writes it"),
    ("lib/a.h", f'{C_TOP}#include "vdpa_dpdk_vhost.h"\n', "a.h:5: 'vdpa_dpdk_vhost.h'"),
    ("meson.build", f"# {SPDX}\nif true\n    a = 1\nendif\n", "meson.build:3: indented with"),
    ("devtools/a.sh", f"#!/bin/sh\n# {SPDX}\nrm -f $1\n", "SC2086"),
    ("devtools/a.sh", f"#!/bin/sh\n# {SPDX}\npki" "ll x\n", "a.sh:3: 'pkill'"),
])
def test_bad_form_is_seen(tmp_path, name, text, complaint):
    code, said = lint(tmp_path, name, text)
    assert code == 1
    assert complaint in said


def test_every_pattern_of_the_list_has_four_parts_and_compiles():
    done = subprocess.run(["/usr/bin/python3", "-B", ROOT / "devtools" / "lint_tokens.py",
                           ROOT / "LICENSE"], check=False)
    assert done.returncode == 0
