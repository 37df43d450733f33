# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""devtools/test_summary.py: nothing that failed may vanish from the sum."""

import json
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "devtools" / "test_summary.py"
CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] a
[       OK ] a
[ RUN      ] b
this machine has no clock
[  SKIPPED ] b
[ RUN      ] c
"""
CMOCKA_FAILED = """[  ERROR   ] --- 1 != 2
[  FAILED  ] c
[==========] 3 test(s) run.
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] c
"""
XML = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="m" name="t1"/>
<testcase classname="m" name="t2"><skipped message="no qemu"/></testcase>
<testcase classname="m" name="t3"><failure message="f">why t3 failed</failure></testcase>
<testcase classname="m" name="t4"><error message="e">why t4 broke</error></testcase>
</testsuite></testsuites>"""


def step(tree, name, code, **files):
    """Writes what test.sh would leave of a step."""
    results = tree / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.status").write_text(f"{code} 7\n")
    for suffix, text in files.items():
        (results / f"{name}.{suffix}").write_text(text)


def summary(*trees):
    done = subprocess.run(["/usr/bin/python3", "-B", TOOL, *trees], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout, done.stdout.splitlines()[-1]


def meson(**test):
    return json.dumps({"name": "vdpa:unit / ring", "stdout": "", "stderr": "", **test}) + "\n"


def test_a_good_run(tmp_path):
    step(tmp_path / "build-test-x", "build", 0, log="lots")
    step(tmp_path / "build-test-x", "unit", 0, json=meson(result="OK") + meson(
        result="OK", stdout="[       OK ] a\n[       OK ] b\n[  PASSED  ] 2 test(s).\n"))
    assert summary(tmp_path / "build-test-x")[::2] == (0, "4 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("group", ["", "tests: "])  # cmocka 1.1 and 2.0
def test_cmocka_functions_are_counted_once(tmp_path, group):
    failed = CMOCKA_FAILED.replace("] 1 test(s)", f"] {group}1 test(s)")
    step(tmp_path, "unit", 1, json=meson(result="FAIL", stdout=CMOCKA, stderr=failed))
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "1 passed, 1 failed, 1 skipped")
    assert "this machine has no clock" in said
    assert "ring: c" in said


@pytest.mark.parametrize("result", ["FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"])
def test_a_program_that_ends_badly_fails(tmp_path, result):
    step(tmp_path, "unit", 1, json=meson(result=result, stdout="[       OK ] a\nthen it died\n"))
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "1 passed, 1 failed, 0 skipped")
    assert "then it died" in said


def test_a_skipped_program_has_its_reason(tmp_path):
    step(tmp_path, "unit", 0, json=meson(result="SKIP", stdout="no headers here\n")
         + meson(result="OK"))
    code, said, last = summary(tmp_path)
    assert (code, last) == (0, "1 passed, 0 failed, 1 skipped")
    assert "no headers here" in said


def test_pytest_report(tmp_path):
    step(tmp_path, "system", 1, xml=XML)
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "1 passed, 2 failed, 1 skipped")
    for text in ("why t3 failed", "why t4 broke", "no qemu"):
        assert text in said


def test_bad_exit_code_without_a_failed_test_fails(tmp_path):
    good = XML.split("<testcase classname=\"m\" name=\"t3\"", maxsplit=1)[0]
    step(tmp_path, "system", 2, xml=good + "</testsuite></testsuites>", log="collection broke")
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "1 passed, 1 failed, 1 skipped")
    assert "collection broke" in said


def test_a_build_that_fails(tmp_path):
    step(tmp_path, "build", 1, log="error: no such thing")
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "0 passed, 1 failed, 0 skipped")
    assert "error: no such thing" in said


def test_a_report_without_tests_fails(tmp_path):
    step(tmp_path, "unit", 0, json="")
    assert summary(tmp_path)[::2] == (1, "0 passed, 1 failed, 0 skipped")


def test_nothing_at_all_fails(tmp_path):
    assert summary(tmp_path)[::2] == (1, "0 passed, 0 failed, 0 skipped")


def test_a_step_that_could_not_run(tmp_path):
    step(tmp_path, "build", 0)
    (tmp_path / "results" / "headers.skipped").write_text("a mirror without them\n")
    code, said, last = summary(tmp_path)
    assert (code, last) == (0, "1 passed, 0 failed, 1 skipped")
    assert "a mirror without them" in said


def again(tree, turn, **results):
    """A run of what failed, alone."""
    cases = "".join(f'<testcase classname="m" name="{name}">{inside}</testcase>'
                    for name, inside in results.items())
    step(tree, f"system.again-{turn}", 1,
         xml=f"<testsuites><testsuite>{cases}</testsuite></testsuites>")


def test_what_passes_each_time_alone_is_unsteady(tmp_path):
    step(tmp_path, "system", 1, xml=XML)
    for turn in (1, 2, 3):
        again(tmp_path, turn, t3="", t4="" if turn != 2 else '<failure message="f">x</failure>')
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "2 passed, 1 failed, 1 skipped")
    names = said[said.index("\nUnsteady"):]
    assert names.index("m::t3") < names.index("\nFailed:") < names.index("m::t4")
    assert "why t3 failed" in said and "why t4 broke" in said


def test_twice_alone_is_not_enough(tmp_path):
    step(tmp_path, "system", 1, xml=XML)
    for turn in (1, 2):
        again(tmp_path, turn, t3="", t4="")
    assert summary(tmp_path)[::2] == (1, "1 passed, 2 failed, 1 skipped")


def test_a_skip_alone_forgives_nothing(tmp_path):
    step(tmp_path, "system", 1, xml=XML)
    for turn in (1, 2, 3):
        again(tmp_path, turn, t3='<skipped message="s"/>', t4="")
    code, _, last = summary(tmp_path)
    assert (code, last) == (1, "2 passed, 1 failed, 1 skipped")


def test_a_program_that_passes_each_time_alone_is_unsteady(tmp_path):
    step(tmp_path, "unit", 1, json=meson(result="FAIL", stdout=CMOCKA, stderr=CMOCKA_FAILED)
         + meson(name="died", result="TIMEOUT", stdout="[       OK ] a\n")
         + meson(name="whole", result="FAIL"))
    for turn in (1, 2, 3):
        step(tmp_path, f"unit.again-{turn}", 0,
             json=meson(result="OK", stdout="[       OK ] a\n[       OK ] c\n")
             + meson(name="died", result="OK", stdout="[       OK ] a\n[       OK ] b\n")
             + meson(name="whole", result="OK" if turn != 3 else "FAIL"))
    code, said, last = summary(tmp_path)
    assert (code, last) == (1, "4 passed, 1 failed, 1 skipped")
    names = said[said.index("\nUnsteady"):]
    assert names.index("ring: c") < names.index("died") < names.index("\nFailed:")
    assert names.index("\nFailed:") < names.index("whole")


@pytest.mark.parametrize("found", ["WARNING: ThreadSanitizer: data race",
                                   "x.c:1:2: runtime error: signed integer overflow",
                                   "==7==ERROR: AddressSanitizer: heap-use-after-free",
                                   "==7== ERROR: libFuzzer: deadly signal"])
def test_what_a_sanitizer_found_is_not_forgiven(tmp_path, found):
    step(tmp_path, "unit", 1, json=meson(result="FAIL", stderr=found))
    for turn in (1, 2, 3):
        step(tmp_path, f"unit.again-{turn}", 0, json=meson(result="OK"))
    assert summary(tmp_path)[::2] == (1, "0 passed, 1 failed, 0 skipped")


def test_a_test_may_name_a_sanitizer(tmp_path):
    step(tmp_path, "unit", 1, json=meson(result="FAIL", stderr="skipped: ThreadSanitizer knows no"
                                                               " second address of memory"))
    for turn in (1, 2, 3):
        step(tmp_path, f"unit.again-{turn}", 0, json=meson(result="OK"))
    assert summary(tmp_path)[::2] == (0, "1 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("nr_failed, named", [(0, 0), (1, 1), (10, 10), (11, 0)])
def test_programs_to_run_again(tmp_path, nr_failed, named):
    report = tmp_path / "unit.json"
    report.write_text(meson(result="OK") + meson(name="s", result="SKIP") + "".join(
        meson(name=f"vdpa:unit / p{i}", result="FAIL") for i in range(nr_failed)))
    said = subprocess.run(["/usr/bin/python3", "-B", TOOL, "--failed-in", report], text=True,
                          check=True, stdout=subprocess.PIPE).stdout
    assert said.splitlines() == sorted(f"p{i}" for i in range(named))
