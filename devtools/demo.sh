#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

# shellcheck disable=SC2317 # the function that a trap calls

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [--builddir DIR] [--seconds N] [--help]

Shows the framework at work, in a few minutes and without hugepages or special hardware: installs
what is missing, builds, starts the daemon with a software device, sends frames through it with
stock dpdk-testpmd and with the checking program vdpa-frames, tells what happened, and cleans up.

  --builddir DIR   use this build, do not install or build anything
  --seconds N      how long testpmd sends each time (3)
  --help           show this text

Exit code: 0 all frames came back as they were sent, 1 not.
TEXT
}

builddir=
seconds=3
while [ $# -gt 0 ]; do
	case $1 in
	--builddir) builddir=${2:?--builddir needs a folder}; shift ;;
	--seconds) seconds=${2:?--seconds needs a number}; shift ;;
	--help | -h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds $seconds: must be a whole number from 1"

scratch=
daemon=
clean_up() {
	local rc=$?
	trap '' INT TERM
	if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
		kill -TERM "$daemon" || true
		wait "$daemon" || true
	fi
	[ -z "$scratch" ] || rm -rf "$scratch"
	exit $rc
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
	"$root_dir/devtools/deps.sh"
	say "building in build-demo/"
	[ -e "$builddir/build.ninja" ] ||
		meson setup "$builddir" "$root_dir" > "$scratch/meson.log" ||
		{ cat "$scratch/meson.log" >&2; die "the build cannot be configured"; }
	ninja -C "$builddir" > "$scratch/ninja.log" ||
		{ tail -n 40 "$scratch/ninja.log" >&2; die "the build failed"; }
}

# eal NAME CPUS: EAL's options of one program; all that it leaves lies in the scratch folder.
eal() {
	echo --no-huge --no-pci --no-telemetry --file-prefix "demo-$1" --lcores "$2"
}

start_daemon() {
	local i
	cat > "$scratch/config.json" <<TEXT
{ "devices": [ { "name": "demo", "mgmtdev": "sw_net", "backend": "loopback", "max_vqp": 2,
  "bind": { "driver": "vhost", "path": "$socket", "mode": "0600" } } ] }
TEXT
	mkfifo "$scratch/prompt"
	# shellcheck disable=SC2046 # words are wanted
	"$builddir/examples/dpdk-vdpa" $(eal daemon "0@$cpu_control") -m 64 -- --interactive \
		--config "$scratch/config.json" --workers "$cpu_data" \
		< "$scratch/prompt" > "$scratch/daemon.log" 2>&1 &
	daemon=$!
	exec 3> "$scratch/prompt"
	for ((i = 0; i < 200; i++)); do
		! grep -q 'dpdk-vdpa: ready' "$scratch/daemon.log" || return 0
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	cat "$scratch/daemon.log" >&2
	die "the daemon does not start"
}

# ask COMMAND: what the daemon's prompt answers.
ask() {
	local before
	before=$(wc -c < "$scratch/daemon.log")
	echo "$1" >&3
	sleep 0.3
	tail -c "+$((before + 1))" "$scratch/daemon.log"
}

# row CLIENT RING FRAMES RATE RESULT
row() { printf '%-26s %-22s %12s %10s  %s\n' "$@"; }

# testpmd MODE RING DEVARGS: stock testpmd sends what it received, again and again. It compares no
# contents, but a frame that is lost is never seen again, so that received and sent must not differ
# by more than what was under way at the end.
testpmd() {
	local log=$scratch/testpmd.log sent received rate
	# shellcheck disable=SC2046
	if ! sleep "$seconds" | dpdk-testpmd $(eal testpmd "$two_lcores") -m 256 \
		--vdev "net_virtio_user0,path=$socket,queues=2,queue_size=256,$3" -- --no-mlockall \
		--total-num-mbufs=8192 --port-topology=loop --rxq=2 --txq=2 --forward-mode="$1" \
		--auto-start --tx-first > "$log" 2>&1; then
		tail -n 20 "$log" >&2
		failed=1
		row "testpmd $1" "$2" - - "did not run"
		return
	fi
	received=$(sed -nE 's/^ *RX-packets: +([0-9]+).*/\1/p' "$log" | tail -n 1)
	sent=$(sed -nE 's/^ *TX-packets: +([0-9]+).*/\1/p' "$log" | tail -n 1)
	# --tx-first sends a burst of 32 on each queue that is not counted as forwarded.
	if [ -n "$sent" ] && [ "$received" -gt 10000 ] && [ "$received" -le $((sent + 64)) ]; then
		rate=$(awk "BEGIN { printf \"%.2f\", $received / $seconds / 1e6 }")
		row "testpmd $1" "$2" "$received" "$rate" "came back"
	else
		failed=1
		row "testpmd $1" "$2" "${received:-0}" - "FAILED"
	fi
}

# frames RING DEVARGS: every frame is compared.
frames() {
	local result=$scratch/frames.json number rate verdict
	# shellcheck disable=SC2046
	"$builddir/app/test/frames/vdpa-frames" $(eal frames "$two_lcores") -m 256 \
		--vdev "net_virtio_user0,path=$socket,queues=2,queue_size=256,$2" -- --json \
		--queues 2 --frames 100000 --sizes 64-9000 \
		> "$result" 2> "$scratch/frames.log" || failed=1
	/usr/bin/python3 - "$result" > "$scratch/row" <<'PYTHON' || cat "$scratch/frames.log" >&2
import json, sys
result = json.loads(open(sys.argv[1]).read())
rate = sum(queue['frames_per_second'] for queue in result['queues']) / 1e6
verdict = 'none lost, changed or reordered' if result['ok'] else result['why']
print(result['received'], f'{rate:.2f}', verdict)
PYTHON
	read -r number rate verdict < "$scratch/row" || verdict="FAILED"
	row "vdpa-frames, 64-9000 B" "$1" "${number:-0}" "${rate:--}" "$verdict"
}

scratch=$(mktemp -d)
export RUNTIME_DIRECTORY=$scratch
socket=$scratch/demo.sock
failed=0
if [ -z "$builddir" ]; then
	builddir=$root_dir/build-demo
	build
fi
[ -x "$builddir/examples/dpdk-vdpa" ] || die "--builddir $builddir: has no examples/dpdk-vdpa"
# Two processors, or one twice: the worker of the device has one, everything else the other.
read -r cpu_control cpu_data < <(/usr/bin/python3 -c \
	'import os; cpus = sorted(os.sched_getaffinity(0)); print(cpus[0], cpus[-1])')
two_lcores="0@$cpu_control,1@$cpu_control"

start_daemon
say "the daemon serves a software device in loopback at a vhost-user socket:"
ask list
echo
say "sending frames to it on two queue pairs:"
row client ring frames Mframes/s result
testpmd io "split" ""
testpmd io "packed" "packed_vq=1"
testpmd macswap "packed, in order" "packed_vq=1,in_order=1"
frames "split" "packed_vq=0"
frames "split, one buffer" "mrg_rxbuf=0"
frames "packed, in order" "packed_vq=1,in_order=1"
echo
say "what the device counted:"
ask stats | sed -E 's/ [a-z_]+ 0\b//g'
echo
say "what the daemon logged:"
grep 'dpdk-vdpa:' "$scratch/daemon.log"
rc=0
kill -TERM "$daemon"
wait "$daemon" || rc=$?
daemon=
echo
left=gone
[ ! -e "$socket" ] || left="STILL THERE"
say "SIGTERM: the daemon left with exit code $rc, its socket is $left"
[ $rc = 0 ] && [ "$left" = gone ] || failed=1
[ $failed = 0 ] || die "something went wrong, see above"
say "all went well, after $SECONDS s"
