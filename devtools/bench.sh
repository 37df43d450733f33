#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [OPTION...]

Measures our back ends and stock ones (net_vhost, qemu-storage-daemon) in turn, with the same
client on the same CPUs, and writes one page: ratios, the machine, and the exact commands. The two
CPUs that it uses (the first and the last it may) should have nothing else to do.

  --builddir DIR   use this build (default: build-bench/, made here as a release build)
  --cases LIST     only these cases, separated by commas
  --pairs N        runs of each of the two, in turn (default 5)
  --seconds N      how long a run is measured (default 1.5); of downtime-*, a run is 4 migrations
  --out NAME       write NAME.rst and NAME.json (default build-bench/bench); cases of an existing
                   NAME.json that are not run again are kept
  --help           show this text

Exit code: 0 measured, 1 something did not run, 2 wrong usage.

Cases:
TEXT
	"${bench[@]}" --builddir . --out . --cases help | sed 's/^/  /'
}

bench=(/usr/bin/python3 -B "$root_dir/devtools/bench.py")

builddir=
out=
arguments=()
while [ $# -gt 0 ]; do
	case $1 in
	--builddir) builddir=${2:?--builddir needs a folder}; shift ;;
	--out) out=${2:?--out needs a name}; shift ;;
	--cases | --pairs | --seconds) arguments+=("$1" "${2:?$1 needs a value}"); shift ;;
	--help | -h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

if [ -z "$builddir" ]; then
	builddir=$root_dir/build-bench
	[ -e "$builddir/build.ninja" ] || meson setup "$builddir" "$root_dir" > /dev/null
	ninja -C "$builddir" > /dev/null || die "the build failed"
fi
exec "${bench[@]}" --builddir "$builddir" --out "${out:-$builddir/bench}" "${arguments[@]}"
