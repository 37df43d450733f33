#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Looks for forbidden words (lint_tokens.list), licence lines, white space and long lines.

usage: lint_tokens.py FILE...

Paths are relative to the folder in which it runs. Exit code: 0 nothing found, 1 something found.
"""

import re
import sys
from pathlib import Path

RULES = Path(__file__).with_suffix(".list")
MAX_COLUMNS = {".py": 110}
MAX_COLUMNS_OTHERS = 100
TAB_COLUMNS = 8
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
CODE = {".c", ".h", ".py", ".sh", ".build", ".map", ".cc"}
# Where a licence line would not be a comment, or the file is text to be read.
NO_SPDX = {".md", ".list", ".json", ".ini", ".txt", ".rst"}
NO_SPDX_NAMES = {"LICENSE", ".gitignore", "version.map"}
TAB_INDENTED = {".build"}
QUOTES_WORDS = "app/test/build/test_lint.py"  # names them in order to test this
BLANKED = "\x00"  # stands for a comment or string of one line
UNFINISHED = re.compile(r"\b(TO[D]O|FIXM[E]|XX[X])\b")
C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
HASH_NOISE = re.compile(r"(^|\s)#[^\n]*")


def load_rules():
    """(pattern, folders, folders left out, advice) per line of the list."""
    rules = []
    for line in RULES.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern, where, but, advice = (part.strip() for part in re.split(r"\s\|(?=\s|$)", line))
        rules.append((re.compile(pattern), where.split(), but.split(), advice))
    return rules


def below(path, folders):
    """Whether a path is one of some folders or files, or below one."""
    return any(folder == "." or path == folder or path.startswith(folder + "/")
               for folder in folders)


def code_only(path, text):
    """The text with comments (and C strings, but not names of headers) blanked, lines kept."""
    if path.suffix in (".c", ".h", ".cc"):
        def blank(found):
            word = found.group(0)
            start = text.rfind("\n", 0, found.start()) + 1
            if word[0] == '"' and text[start:found.start()].lstrip().startswith("#include"):
                return word
            return "\n" * word.count("\n") or BLANKED
        return C_NOISE.sub(blank, text)
    return HASH_NOISE.sub(r"\1", text)


def word_faults(path, text, rules):
    """Yields (line number, what is wrong) for forbidden words."""
    rules = [rule for rule in rules
             if below(str(path), rule[1]) and not below(str(path), rule[2])]
    for number, line in enumerate(code_only(path, text).splitlines(), 1):
        for pattern, _, _, advice in rules:
            found = pattern.search(line)
            if found:
                yield number, f"'{found.group(0).strip()}' is not for here: {advice}"


def form_faults(path, text):
    """Yields (line number, what is wrong) for the form of a file."""
    lines = text.splitlines()
    if path.name not in NO_SPDX_NAMES and path.suffix not in NO_SPDX:
        if not any(SPDX in line for line in lines[:3]):
            yield 1, f"no line '{SPDX}' at the top"
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end of the file"
    if text.endswith("\n\n"):
        yield len(lines), "empty line at the end of the file"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        limit = MAX_COLUMNS.get(path.suffix, MAX_COLUMNS_OTHERS)
        if path.suffix in CODE and len(line.expandtabs(TAB_COLUMNS)) > limit:
            yield number, f"longer than {limit} columns"
        if path.suffix in TAB_INDENTED and re.match(r" {2}", line):
            yield number, "indented with spaces: use tabs"
        if UNFINISHED.search(line):
            yield number, "unfinished: finish it, or open an issue"


def main():
    """See the top of the file."""
    rules = load_rules()
    number_faults = 0
    for path in map(Path, sys.argv[1:]):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            print(f"{path}: not text in UTF-8")
            number_faults += 1
            continue
        faults = list(form_faults(path, text))
        if (path.suffix in CODE or path.parts[0] == ".ci") and str(path) != QUOTES_WORDS:
            faults += word_faults(path, text, rules)
        for number, fault in sorted(faults):
            print(f"{path}:{number}: {fault}")
        number_faults += len(faults)
    sys.exit(1 if number_faults else 0)


if __name__ == "__main__":
    main()
