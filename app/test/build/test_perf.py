# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""vdpa-perf: what it refuses, and that a short run gives figures that can be true."""

import json
import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

DOC = Path(__file__).resolve().parents[3] / "doc" / "vdpa_perf.rst"
SHORT = ["--repeats", "2", "--ms", "5"]


@pytest.fixture(scope="module", name="perf")
def perf_program(builddir):
    program = builddir / "app" / "vdpa-perf" / "vdpa-perf"
    if not program.exists():
        pytest.skip("vdpa-perf is not built here")

    def run(*args):
        return subprocess.run([program, *args], text=True, stdout=subprocess.PIPE, check=False,
                              stderr=subprocess.PIPE, timeout=120)
    return run


def subcommands(perf):
    text = perf("--help").stdout
    return re.findall(r"^  ([a-z]+) {2,}", text, re.MULTILINE)


def test_every_subcommand_and_option_is_documented(perf):
    names = subcommands(perf)
    text = DOC.read_text()
    assert {"blk", "loopback", "ring"} <= set(names)
    for name in names:
        assert f"\n{name}\n" in text
        done = perf(name, "--help")
        assert done.returncode == 0
        options = re.findall(r"^ +(--[a-z-]+)", done.stdout, re.MULTILINE)
        assert len(options) >= 7
        assert [option for option in options if f"``{option}" not in text] == []


@pytest.mark.parametrize("args, said", [
    ([], "Usage:"),
    (["fly"], "fly: no such subcommand"),
    (["ring", "--burst", "0"], "--burst 0: must be a number from 1 to 64"),
    (["ring", "--burst", "-1"], "--burst -1: must be"),
    (["ring", "--burst", "8x"], "--burst 8x: must be"),
    (["ring", "--size", "9001"], "--size 9001: must be a number from 14 to 9000"),
    (["ring", "--format", "round"], "--format round: must be one of all,split,"),
    (["ring", "--wings", "2"], "wings"),
    (["ring", "left"], "left: no such argument"),
    (["ring", "--repeats", "65"], "--repeats 65: must be"),
    (["ring", "--plot"], "requires an argument"),
    (["ring", "--cpu-driver", "4095"], "CPU 4095 cannot be used"),
    (["loopback", "--in-flight", "16"], "--in-flight: must be from --burst"),
    (["loopback", "--cpu-device", "4095"], "4095"),
    (["neighbour", "--in-flight", "16"], "--in-flight: must be from --burst"),
    (["neighbour", "--hostile", "17"], "--hostile 17: must be a number from 1 to 16"),
    (["blk", "--size", "513"], "--size: must be a multiple of 512"),
    (["blk", "--in-flight", "86"], "--in-flight: must be from --burst"),
    (["blk", "--idle", "dream"], "--idle dream: must be one of poll,"),
])
def test_what_is_refused(perf, args, said):
    done = perf(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def figures(perf, *args):
    done = perf(*args, *SHORT, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["command"] == args[0]
    assert result["machine"]["cpus"] >= 1 and result["machine"]["tsc_hz"] > 1e8
    assert re.match(r"\d\d\.\d\d\.\d", result["machine"]["dpdk"])
    rows = {}
    for row in result["rows"]:
        for metric in row["metrics"]:
            assert len(metric["samples"]) == 2
            assert metric["least"] <= metric["median"] <= metric["most"]
            assert metric["least"] == min(metric["samples"])
        rows[row["label"]] = {metric["name"]: metric["median"] for metric in row["metrics"]}
    return result["options"], rows


def test_ring_tells_what_each_step_costs(perf):
    options, rows = figures(perf, "ring", "--burst", "16")
    assert options["burst"] == 16 and options["size"] == 64 and options["format"] == "all"
    assert list(rows) == ["split", "split, in order", "packed", "packed, in order"]
    for row in rows.values():
        parts = row["device_take"] + row["device_copy"] + row["device_give"]
        assert all(cycles > 0 for cycles in row.values())
        assert row["device_loop"] == pytest.approx(parts, rel=0.6)


@pytest.mark.parametrize("args", [
    [], ["--size", "1518", "--in-order", "on"], ["--mergeable", "off", "--in-flight", "128"],
    ["--idle", "sleep", "--burst", "1", "--in-flight", "1"]])
def test_loopback_tells_what_a_frame_costs(perf, args):
    _, rows = figures(perf, "loopback", *args)
    assert list(rows) == ["split", "packed"]
    for row in rows.values():
        assert row["device_cycles_a_frame"] > 1
        assert row["frames_per_second"] > 0
        assert 0 < row["real_burst"] <= 64
        assert row["device_idle_share"] < 1


@pytest.mark.parametrize("args", [
    [], ["--hostile", "1", "--size", "1518", "--idle", "sleep", "--worker", "shared"]])
def test_neighbour_tells_what_attacks_cost_another_device(perf, args):
    _, rows = figures(perf, "neighbour", *args)
    places = ["one worker"] if "shared" in args else ["a worker of their own", "one worker"]
    assert list(rows) == [f"{ring}, {place}" for ring in ("split", "packed") for place in places]
    for row in rows.values():
        assert all(figure >= 0 for figure in row.values())
        assert row["frames_per_second"] > 0 and row["frames_per_second_attacked"] > 0
        assert row["attacks_per_second"] > 0


@pytest.mark.parametrize("args", [
    [], ["--size", "512", "--indirect", "on", "--in-flight", "128"],
    ["--idle", "sleep", "--burst", "1", "--in-flight", "1", "--request", "read"]])
def test_blk_tells_what_a_request_costs(perf, args):
    _, rows = figures(perf, "blk", *args)
    kinds = ["read"] if "read" in args else ["write", "read"]
    assert list(rows) == [f"{backend}, {ring}, {kind}" for backend in ("null", "malloc", "file")
                          for ring in ("split", "packed") for kind in kinds]
    for row in rows.values():
        assert row["device_cycles_a_request"] > 1
        assert row["requests_per_second"] > 0
        assert 0 < row["real_burst"] <= 64
        assert row["device_idle_share"] < 1


def test_plot_is_a_picture_of_the_medians(perf, tmp_path):
    plot = tmp_path / "plot.svg"
    assert perf("ring", *SHORT, "--format", "packed", "--plot", plot).returncode == 0
    top = xml.etree.ElementTree.parse(plot).getroot()
    assert len(top.findall("{http://www.w3.org/2000/svg}rect")) == 6


def test_table_names_the_machine(perf):
    lines = perf("ring", *SHORT, "--format", "split").stdout.splitlines()
    assert "CPUs, DPDK" in lines[0]
    assert lines[2] == "split" and "device_loop" in lines[3]


def test_what_cannot_be_written_is_told(perf):
    done = perf("ring", *SHORT, "--plot", "/nowhere/plot.svg")
    assert done.returncode == 2
    assert "cannot be written: No such file" in done.stderr
