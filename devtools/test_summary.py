#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Sums up what devtools/test.sh ran: a table, skips with their reasons, logs of what failed.

usage: test_summary.py TREE...
       test_summary.py --failed-in REPORT.json

Each tree's folder results/ has, per step, NAME.status (exit code and seconds), NAME.log, and
where tests were counted NAME.json (meson) or NAME.xml (pytest). NAME.skipped holds the reason why
a step could not run. NAME.again-N.json or .xml are runs of what failed in NAME, with nothing beside
them: a test that passed in all of them was let down by the load of the machine. It counts as passed
and is listed as unsteady, with its log; but what a sanitizer found is a fault however often the test
passes. Exit code: 0 nothing failed, 1 something did, or nothing ran.

With --failed-in: prints the programs that failed in a meson test log, for such runs; none where
there are so many that it was no accident.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 60
CMOCKA_LINE = re.compile(r"\[\s*(OK|FAILED|SKIPPED)\s*\] (.*)")
MOST_FAILED = 10
TIMES_ALONE = 3
FINDING = re.compile(r"Sanitizer:|runtime error:|libFuzzer:")
MESON_PASSED = ("OK", "EXPECTEDFAIL")
MESON_NOT_FAILED = MESON_PASSED + ("SKIP",)


@dataclass
class Step:
    """What came of one step of one tree."""

    tree: str
    name: str
    seconds: int = 0
    passed: list = field(default_factory=list)  # names
    failed: list = field(default_factory=list)  # (name, log)
    skipped: list = field(default_factory=list)  # (name, reason)
    unsteady: list = field(default_factory=list)  # (name, log of when it failed)


def tail(text):
    """The end of a log."""
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])


def last_line(text):
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def cmocka_cases(output):
    """(name, result, line before) of each test function in a cmocka program's output, once."""
    cases, before = {}, "no reason given"
    for line in output.splitlines():
        found = CMOCKA_LINE.search(line)
        if found and not re.search(r"\d+ test\(s\)", found.group(2)):
            cases.setdefault(found.group(2).strip(), (found.group(1), before))
        elif line.strip() and not line.startswith("["):
            before = line.strip()
    return cases


def meson_tests(path):
    """(name, what meson says of it) of each program in a meson test log."""
    for line in path.read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        yield test["name"].split(" / ")[-1].split(":")[-1], test


def add_meson(step, path):
    """Counts a meson test log: the functions of cmocka programs, else one a program."""
    for name, test in meson_tests(path):
        output = test.get("stdout", "") + "\n" + test.get("stderr", "")
        cases = cmocka_cases(output)
        failures = [case for case, (result, _) in cases.items() if result == "FAILED"]
        step.passed += [f"{name}: {case}" for case, (result, _) in cases.items()
                        if result == "OK"]
        step.skipped += [(f"{name}: {case}", reason) for case, (result, reason) in cases.items()
                         if result == "SKIPPED"]
        if test["result"] == "SKIP" and not cases:
            step.skipped.append((name, last_line(test.get("stdout", "") or output)))
        elif test["result"] in MESON_PASSED and not cases:
            step.passed.append(name)
        elif test["result"] not in MESON_NOT_FAILED:
            log = f"{test['result']}\n{tail(output)}"
            step.failed += [(f"{name}: {case}", log if case == failures[0] else "see above")
                            for case in failures] or [(name, log)]


def name_of(case):
    """Of a test in a pytest report."""
    return f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"


def add_pytest(step, path):
    """Counts a pytest report."""
    for case in ElementTree.parse(path).iter("testcase"):
        name = name_of(case)
        faults = [*case.findall("failure"), *case.findall("error")]
        skip = case.find("skipped")
        if faults:
            logs = [fault.text or fault.get("message", "") for fault in faults]
            logs += [case.findtext(output) or "" for output in ("system-out", "system-err")]
            step.failed.append((name, tail("\n".join(logs))))
        elif skip is not None:
            step.skipped.append((name, skip.get("message", "no reason given")))
        else:
            step.passed.append(name)


ADD = {".json": add_meson, ".xml": add_pytest}


def passed_in(step, test):
    """Whether a test, or all that there is of a program, passed in a step."""
    def is_of(name):
        return name == test or name.startswith(f"{test}: ")

    return any(map(is_of, step.passed)) and not any(is_of(name) for name, _ in step.failed)


def forgive_unsteady(step, path):
    """Takes out of the failed tests of a report those that passed each time alone."""
    alone = []
    for report in path.parent.glob(f"{path.stem}.again-*{path.suffix}"):
        alone.append(Step(step.tree, step.name))
        ADD[path.suffix](alone[-1], report)
    if len(alone) < TIMES_ALONE:
        return
    step.unsteady = [(test, log) for test, log in step.failed
                     if not FINDING.search(log) and all(passed_in(turn, test) for turn in alone)]
    step.failed = [test for test in step.failed if test not in step.unsteady]
    step.passed += [test for test, _ in step.unsteady]


def steps_of(tree):
    """The steps of a tree, in the order in which they ended."""
    results = tree / "results"
    if not results.is_dir():
        return
    for path in sorted(results.glob("*.status"), key=lambda p: p.stat().st_mtime_ns):
        if ".again-" in path.name:
            continue
        code, seconds = map(int, path.read_text().split())
        step = Step(tree.name.removeprefix("build-test-"), path.stem, seconds)
        reports = [path.with_suffix(suffix) for suffix in ADD
                   if path.with_suffix(suffix).is_file()]
        for report in reports:
            ADD[report.suffix](step, report)
            forgive_unsteady(step, report)
        if not reports and code == 0:
            step.passed.append(path.stem)
        # Whatever ended badly and told nobody why is a failure too.
        if code != 0 and not step.failed and not step.unsteady:
            log = path.with_suffix(".log")
            text = log.read_text(errors="replace") if log.is_file() else ""
            step.failed.append((f"{path.stem}, exit code {code}", tail(text)))
        if reports and not (step.passed or step.failed or step.skipped):
            step.failed.append((path.stem, "ran no test"))
        yield step
    for path in sorted(results.glob("*.skipped")):
        step = Step(tree.name.removeprefix("build-test-"), path.stem)
        step.skipped.append((path.stem, last_line(path.read_text())))
        yield step


def print_names(heading, tests_of_steps):
    """A list of tests, if there are any."""
    if any(tests for _, tests in tests_of_steps):
        print(heading)
    for step, tests in tests_of_steps:
        for name, _ in tests:
            print(f"  {step.tree} {step.name}: {name}")


def print_details(steps):
    """Skips, each reason once, and the logs of what failed."""
    reasons = Counter((step.tree, step.name, reason) for step in steps
                      for _, reason in step.skipped)
    if reasons:
        print("\nSkipped:")
    for (tree, name, reason), number in reasons.items():
        print(f"  {tree} {name}: {f'{number} times: ' if number > 1 else ''}{reason}")
    for step in steps:
        for name, log in step.unsteady:
            print(f"\n==== UNSTEADY {step.tree} {step.name}: {name}\n{log}")
    for step in steps:
        for name, log in step.failed:
            print(f"\n==== FAILED {step.tree} {step.name}: {name}\n{log}")
    print_names("\nUnsteady (failed beside other work, then passed "
                f"{TIMES_ALONE} times alone):", [(step, step.unsteady) for step in steps])
    print_names("\nFailed:", [(step, step.failed) for step in steps])


def print_failed_programs(path):
    """See the top of the file."""
    failed = {name for name, test in meson_tests(path)
              if test["result"] not in MESON_NOT_FAILED}
    for name in sorted(failed) if len(failed) <= MOST_FAILED else ():
        print(name)


def main():
    """See the top of the file."""
    if sys.argv[1:2] == ["--failed-in"]:
        print_failed_programs(Path(sys.argv[2]))
        return
    steps = [step for tree in map(Path, sys.argv[1:]) for step in steps_of(tree)]
    print_details(steps)
    print(f"\n{'release':<20}{'step':<10}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for step in steps:
        print(f"{step.tree:<20}{step.name:<10}{len(step.passed):>8}{len(step.failed):>8}"
              f"{len(step.skipped):>8}{step.seconds:>9}")
    passed = sum(len(step.passed) for step in steps)
    failed = sum(len(step.failed) for step in steps)
    skipped = sum(len(step.skipped) for step in steps)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
