# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The documentation builds without a warning, and names what the programs take."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOC = ROOT / "doc"


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is on the host only")


def test_guides_build(tmp_path):
    need("sphinx-build")
    done = subprocess.run(["sphinx-build", "-q", "-W", "--keep-going", "-b", "html", DOC, tmp_path],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    for guide in DOC.glob("*.rst"):
        assert (tmp_path / f"{guide.stem}.html").exists()


def test_api_pages_build(tmp_path):
    need("doxygen")
    settings = (DOC / "Doxyfile").read_text() + f"\nOUTPUT_DIRECTORY = {tmp_path}\n"
    done = subprocess.run(["doxygen", "-"], cwd=ROOT, input=settings, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0 and done.stdout == "", done.stdout
    assert "vdpa_device_register" in (tmp_path / "html" / "vdpa__parent_8h.html").read_text()


@pytest.fixture(scope="module", name="help_text")
def help_of_daemon(builddir):
    done = subprocess.run([builddir / "examples" / "dpdk-vdpa", "--", "--help"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout


def test_every_option_is_documented(help_text):
    options = re.findall(r"^ +(--[a-z-]+)", help_text, re.MULTILINE)
    text = (DOC / "dpdk_vdpa.rst").read_text()
    assert len(options) >= 8
    assert [option for option in options if f"``{option}" not in text] == []


@pytest.mark.parametrize("mgmtdev", ["sw_net", "sw_blk"])
def test_every_key_is_documented(help_text, mgmtdev):
    keys = re.search(rf"^ +{mgmtdev} +(\S+)", help_text, re.MULTILINE).group(1)
    names = re.findall(r"(?:^|,)([a-z_]+)=", keys)
    text = (DOC / f"{mgmtdev}.rst").read_text()
    assert len(names) >= 9
    assert [name for name in names if f"``{name}``" not in text] == []


def test_every_guide_is_in_the_index():
    index = (DOC / "index.rst").read_text()
    guides = [guide.stem for guide in DOC.glob("*.rst") if guide.stem != "index"]
    assert [guide for guide in guides if f"\n   {guide}\n" not in index] == []
