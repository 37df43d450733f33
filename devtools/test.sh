#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

# shellcheck disable=SC2317 # functions that trap or run() call

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [OPTION...] [-- PYTEST_ARGUMENT...]

Installs what is missing, builds, and runs the tests. Trees are build-test-RELEASE*/ in the
checkout; what each step printed is in their folder results/.

  --all-releases   also on Debian 13 and Debian testing (devtools/distro.sh), one after the other
                   and beside this machine's own: most tests wait more than they work.
                   A test that fails is run again, three times and with nothing beside it;
                   if it passes each time it counts as passed and is listed as unsteady
  --sample         of each system test only the first and the last set of parameters; the other
                   releases of --all-releases run like that, unless --long
  --release NAME   only on this release: trixie, forky, or this machine's own
  --only STEPS     only these steps, separated by commas (see below); "build" is always done
  --long           the large counts, hours instead of minutes
  --verbose        show what the steps print while they run
  --help           show this text

Everything after -- goes to pytest in the steps tools and system: -k NAME, -x, a file.

Steps: build     the tree, warnings are errors
       unit      unit tests and the checks of what was built (meson test)
       tools     tests of the build's own tools (app/test/build)
       system    tests against stock programs (app/test/system)
     and on this machine's own release alone:
       lint      devtools/lint.sh
       asan      unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
       tsan      unit tests under ThreadSanitizer
       asan-system, tsan-system  (with --long, or if named) the system tests of relay and live
                 migration with the daemon under them; asan-system those of hostile front ends,
                 faults and disks, too
       clang     the tree, built by clang, and its unit tests
       fuzz      a short round of each libFuzzer target (app/test/fuzz)
       headers   the tree, built with DPDK's own driver-side headers, and its unit tests

The last line is "N passed, N failed, N skipped". Exit code: 0 nothing failed, 1 something did,
2 wrong usage, 130 or 143 interrupted.
TEXT
}

host_release() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

wanted() { case ,${only:-$1}, in *,"$1",*) return 0 ;; *) return 1 ;; esac; }

# Ends what runs: first as a person would, so that tests tidy up.
interrupted() {
	trap '' INT TERM
	local signal pid running
	for signal in INT TERM KILL; do
		running=no
		for pid in $child $others; do
			if kill "-$signal" -- "-$pid" 2>/dev/null; then running=yes; fi
		done
		[ "$running" = yes ] || break
		for pid in $child $others; do
			timeout 20 tail --pid="$pid" -f /dev/null || true
		done
	done
	say "interrupted" 2>&7
	exit "$1"
}
child=
others=
exec 7>&2	# the trap may run where a step's output goes to its log
trap 'interrupted 130' INT
trap 'interrupted 143' TERM

# Runs a command in a process group of its own, so that it and all below can be ended.
run() {
	local rc=0
	set -m
	"$@" < /dev/null 7>&- 8>&- &
	child=$!
	set +m
	wait $child || rc=$?
	child=
	return $rc
}

# step TREE NAME COMMAND...: runs it, keeps its output and its exit code in the tree's results.
step() {
	local results=$1/results label=${1##*/build-test-} name=$2 start=$SECONDS rc=0 outcome
	shift 2
	mkdir -p "$results"
	if [ $verbose = yes ]; then
		run "$@" > >(tee "$results/$name.log") 2>&1 || rc=$?
	else
		run "$@" > "$results/$name.log" 2>&1 || rc=$?
	fi
	echo "$rc $((SECONDS - start))" > "$results/$name.status"
	if [ $rc = 0 ]; then outcome=ok; else outcome="exit code $rc"; fi
	say "$label: $name: $outcome, $((SECONDS - start)) s"
	return $rc
}

configure_and_build() {
	local tree=$1
	shift
	if [ -e "$tree/build.ninja" ]; then
		meson setup --reconfigure -Dwerror=true "$@" "$tree" "$root_dir" || return
	else
		meson setup -Dwerror=true "$@" "$tree" "$root_dir" || return
	fi
	# shellcheck disable=SC2086 # targets, or none for all
	nice ninja -C "$tree" $ninja_targets
}
ninja_targets=

# build TREE NAME MESON_OPTION...
build() {
	local tree=$1 name=$2
	shift 2
	step "$tree" "$name" configure_and_build "$tree" "$@"
}

# meson_test TREE NAME ARGUMENT...: meson's tests, their log moved to the results.
meson_test() {
	local tree=$1 name=$2 rc=0
	shift 2
	rm -f "$tree"/meson-logs/testlog*.json
	step "$tree" "$name" nice meson test -C "$tree" --no-rebuild "$@" || rc=$?
	# With --wrapper the name has the wrapper's in it.
	mv "$tree"/meson-logs/testlog*.json "$tree/results/$name.json" || rc=1
	return $rc
}

# unit TREE ARGUMENT...: the step of this name; how it was run is kept for unit_again().
unit() {
	local tree=$1
	shift
	: > "$tree/unit.arguments"
	[ $# = 0 ] || printf '%s\n' "$@" > "$tree/unit.arguments"
	meson_test "$tree" unit "$@"
}

# unit_again TREE
unit_again() {
	local tree=$1 report=$1/results/unit.json arguments failed turn
	[ -e "$report" ] || return 0
	mapfile -t arguments < "$tree/unit.arguments"
	mapfile -t failed < <(/usr/bin/python3 -B devtools/test_summary.py --failed-in "$report")
	[ ${#failed[@]} -gt 0 ] || return 0
	for turn in 1 2 3; do
		meson_test "$tree" "unit.again-$turn" "${arguments[@]}" "${failed[@]}" || true
	done
}

# pytest TREE NAME ARGUMENT...
pytest() {
	local tree=$1 name=$2
	shift 2
	step "$tree" "$name" nice /usr/bin/python3 -B -m pytest -p no:cacheprovider -v -ra \
		--junitxml="$tree/results/$name.xml" "$@" "${pytest_args[@]}"
}

# tools NAME: the tests of the build's tools.
tools() {
	pytest "$tree" "$1" "$root_dir/app/test/build" --builddir "$tree" || true
}

# system NAME ARGUMENT...: the system tests.
system() {
	local args=(--builddir "$tree")
	[ $long = no ] || args+=(--long)
	[ $sample = no ] || args+=(--sample)
	pytest "$tree" "$1" "$root_dir/app/test/system" "${args[@]}" "${@:2}" || true
}

# Did tests of this pytest step fail?
failed() { [ -e "$tree/results/$1.xml" ] && ! grep -q '^0 ' "$tree/results/$1.status"; }

# Releases are tested beside each other. Was it the load that made a test fail?
test_again() {
	local turn unit_tree
	for unit_tree in "$tree" "$tree"-*; do
		if [ -d "$unit_tree" ]; then unit_again "$unit_tree"; fi
	done
	for turn in 1 2 3; do
		if failed tools; then tools "tools.again-$turn"; fi
		if failed system; then
			system "system.again-$turn" --failed-in "$tree/results/system.xml"
		fi
	done
}

# What runs on every release.
test_release() {
	local mutations=false
	if [ $long = yes ] || [ $inside = no ]; then mutations=true; fi
	build "$tree" build -Dmutations=$mutations || return
	if wanted unit; then unit "$tree" || true; fi
	if wanted tools; then tools tools; fi
	if wanted system; then system system; fi
}

show_and_fail() {
	cat "$@"
	return 1
}

# sanitized_system NAME TEST...: these system tests with the daemon of that tree, short counts. What
# it is found guilty of is a failed step, whatever its test thought.
sanitized_system() {
	local tests=() name built=$tree-$1 reports=$tree-$1/results/report
	for name in "${@:2}"; do
		tests+=("$root_dir/app/test/system/test_$name.py")
	done
	mkdir -p "$built/results"
	# Not at random addresses: TSan's shadow memory.
	printf '#!/bin/sh\nexec setarch -R "%s" "$@"\n' "$built/examples/dpdk-vdpa" \
		> "$built/results/dpdk-vdpa"
	chmod +x "$built/results/dpdk-vdpa"
	# What was freed is kept for a while: little, as tests compare how memory grows.
	VDPA_TEST_LONG='' DPDK_VDPA=$built/results/dpdk-vdpa TSAN_OPTIONS=log_path=$reports \
		ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=1:log_path=$reports \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$reports \
		pytest "$built" "$1-system" "${tests[@]}" --builddir "$built" \
		-k 'not downtime' || true
	if compgen -G "$reports.*" > /dev/null; then
		step "$built" "$1-reports" show_and_fail "$reports".* || true
	fi
}

# Is this step among those that only --long or a name asks for?
asked_for() { { [ $long = yes ] || [ -n "$only" ]; } && wanted "$1"; }

# What runs on this machine's own release alone.
test_host() {
	local headers
	if wanted lint; then step "$tree" lint devtools/lint.sh || true; fi
	if wanted asan && build "$tree-asan" build -Db_sanitize=address,undefined; then
		unit "$tree-asan" --suite unit --timeout-multiplier 3 || true
	fi
	if asked_for asan-system && build "$tree-asan" build -Db_sanitize=address,undefined; then
		sanitized_system asan dirty_log migration switch_faults hostile raw_client faults \
			blk_qemu blk_slots
	fi
	# It warns of fences, which it does not model, and its shadow memory does not fit where the
	# kernel randomises much.
	if wanted tsan && build "$tree-tsan" build -Db_sanitize=thread \
		-Dc_args=-Wno-tsan; then
		unit "$tree-tsan" --suite unit --timeout-multiplier 4 \
			--wrapper 'setarch -R' || true
	fi
	if asked_for tsan-system && build "$tree-tsan" build -Db_sanitize=thread \
		-Dc_args=-Wno-tsan; then
		sanitized_system tsan dirty_log migration switch_faults
	fi
	if wanted clang && CC=clang CXX=clang++ build "$tree-clang" build; then
		unit "$tree-clang" || true
	fi
	if wanted fuzz; then
		ninja_targets=fuzzers
		if CC=clang CXX=clang++ build "$tree-fuzz" build -Dfuzz=true -Db_lundef=false; then
			unit "$tree-fuzz" --suite fuzz || true
		fi
		ninja_targets=
	fi
	if wanted headers; then
		mkdir -p "$tree-headers/results"
		if headers=$(devtools/dpdk_source.sh 2> "$tree-headers/results/reason"); then
			if build "$tree-headers" build "-Ddpdk_source=$headers"; then
				unit "$tree-headers" || true
			fi
		else
			mv "$tree-headers/results/reason" "$tree-headers/results/headers.skipped"
		fi
	fi
}

all_releases=no
long=no
sample=no
verbose=no
only=
release=
inside=no
pytest_args=()
while [ $# -gt 0 ]; do
	case $1 in
	--all-releases) all_releases=yes ;;
	--release) release=${2:?--release wants a name}; shift ;;
	--only) only=${2:?--only wants steps}; shift ;;
	--long) long=yes ;;
	--verbose) verbose=yes ;;
	--sample) sample=yes ;;
	--inside) inside=test_release ;;
	--inside-again) inside=test_again ;;
	--help | -h) usage; exit 0 ;;
	--) shift; pytest_args=("$@"); break ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
cd "$root_dir"
[ $long = no ] || export VDPA_TEST_LONG=1
export PYTHONDONTWRITEBYTECODE=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

if [ $inside != no ]; then
	release=$(host_release)
	tree=$root_dir/build-test-$release
	$inside || true
	exit 0
fi

devtools/deps.sh
host=$(host_release)
if [ $all_releases = yes ]; then
	releases=("$host")
	for name in trixie forky; do
		[ $name = "$host" ] || releases+=("$name")
	done
else
	releases=("${release:-$host}")
fi
exec 8< "$root_dir"
flock -n 8 || { say "waiting for another ${0##*/} in this checkout"; flock 8; }

# test_others HOW RELEASE...: each in its own folder.
test_others() {
	local again=("$1") name rc sampled=$sample
	shift
	[ -z "$only" ] || again+=(--only "$only")
	[ $long = no ] || again+=(--long)
	[ $all_releases$long != yesno ] || sampled=yes
	[ $sampled = no ] || again+=(--sample)
	[ $verbose = no ] || again+=(--verbose)
	[ ${#pytest_args[@]} = 0 ] || again+=(-- "${pytest_args[@]}")
	for name in "$@"; do
		rc=0
		devtools/distro.sh "$name" devtools/test.sh "${again[@]}" 7>&- 8>&- || rc=$?
		[ $rc -lt 128 ] || return # interrupted
		[ $rc = 0 ] || step "$root_dir/build-test-$name" distro false || true
	done
}

trees=()
foreign=()
for release in "${releases[@]}"; do
	tree=$root_dir/build-test-$release
	rm -rf "$tree"*/results
	[ "$release" = "$host" ] || foreign+=("$release")
done
if [ ${#foreign[@]} -gt 0 ]; then
	set -m
	test_others --inside "${foreign[@]}" < /dev/null &
	others=$!
	set +m
fi
if [ "${releases[0]}" = "$host" ]; then
	tree=$root_dir/build-test-$host
	test_release || true
	test_host
fi
[ -z "$others" ] || wait $others || true
others=
for release in "${releases[@]}"; do
	tree=$root_dir/build-test-$release
	trees+=("$tree" "$tree"-*)
	[ ${#foreign[@]} -gt 0 ] || continue
	if [ "$release" = "$host" ]; then test_again; else test_others --inside-again "$release"; fi
done
rc=0
/usr/bin/python3 -B devtools/test_summary.py "${trees[@]}" || rc=$?
exit $rc
