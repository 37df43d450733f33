# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What all kinds of cases of bench.py share."""

import statistics
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence

from proc import ProgramSet, Tools

Told = Dict[str, List[str]]         # back end -> command lines
Results = Dict[str, Any]            # case -> what its kind's measure() returned, with its date


@dataclass(frozen=True)
class Run:
    """What the user asked for: pairs of runs, seconds measured in each."""
    tools: Tools
    pairs: int
    seconds: float


@dataclass(frozen=True)
class Kind:
    """Cases that are measured and shown alike. section: a part of the page, of their results."""
    key: str
    cases: Dict[str, str]
    measure: Callable[[str, Run], Dict[str, Any]]
    section: Callable[[Results], List[str]]


def commands(programs: ProgramSet) -> List[str]:
    return [' '.join(program.argv) for program in programs.programs]


def in_turn(number: int, kinds: Sequence[str]) -> Sequence[str]:
    """The order of a round: every second one is backwards, so that a drift evens out."""
    return kinds if number % 2 == 0 else kinds[::-1]


def spread(ratios: Sequence[float]) -> str:
    return f'{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """A simple table of reStructuredText."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    rule = '  '.join('=' * width for width in widths)

    def line(row: Sequence[str]) -> str:
        return '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    return [rule, line(head), rule, *map(line, rows), rule]
