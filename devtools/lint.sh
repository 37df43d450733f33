#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [--fix] [FILE...]

Checks the style of files, all of the checkout's if none is named: forbidden words (lint_tokens.list
says where and why), licence lines, white space, line lengths, C formatting (clang-format) and
shell scripts (shellcheck).

  --fix       let clang-format write what it wants
  --help      show this text

Exit code: 0 nothing found, 1 something found, 2 wrong usage.
TEXT
}

# only PATTERN FILE...: those whose names match.
only() {
	local pattern=$1 file
	shift
	for file in "$@"; do
		if [[ $file =~ $pattern ]]; then echo "$file"; fi
	done
}

is_shell() { [[ $1 == *.sh ]] || head -n 1 "$1" | grep -qE '^#!.*[/ ](ba)?sh$'; }

fix=no
while [ $# -gt 0 ]; do
	case $1 in
	--fix) fix=yes ;;
	--help | -h) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) break ;;
	esac
	shift
done
if [ $# -gt 0 ]; then
	files=("$@")
else
	cd "$root_dir"
	# inputs of fuzz targets are no text
	mapfile -t files < <(git ls-files --cached --others --exclude-standard -- . \
		':!app/test/fuzz/corpus' | sort -u |
		while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
fi
# Headers are left out: their comments and tables are laid out by hand.
mapfile -t c_files < <(only '\.c$' "${files[@]}")
scripts=()
for file in "${files[@]}"; do
	if is_shell "$file"; then scripts+=("$file"); fi
done

rc=0
if [ ${#c_files[@]} -gt 0 ]; then
	if [ $fix = yes ]; then
		clang-format -i "${c_files[@]}"
	fi
	for file in "${c_files[@]}"; do
		clang-format "$file" | cmp -s "$file" - || {
			echo "$file: not as clang-format writes it (devtools/lint.sh --fix $file)"
			rc=1
		}
	done
fi
/usr/bin/python3 -B "$root_dir/devtools/lint_tokens.py" "${files[@]}" || rc=1
if [ ${#scripts[@]} -gt 0 ]; then
	shellcheck -x -P "$root_dir" "${scripts[@]}" || rc=1
fi
[ $rc = 0 ] || say "found something to mend"
exit $rc
