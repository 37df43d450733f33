#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [--check] [--help]

Installs the Debian packages that building and testing need (packages.list). Says nothing and
changes nothing when all are there.

  --check     only say what is missing; exit code 1 if anything is
  --help      show this text
TEXT
}

missing() {
	local package
	for package in $(packages host); do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || echo "$package"
	done
}

install_missing() {
	local log policy=/usr/sbin/policy-rc.d
	[ "$(id -u)" = 0 ] || die "must be root to install: $*"
	say "installing $*"
	log=$(mktemp)
	# Nothing that is installed for tests shall start a service on this machine.
	if [ ! -e $policy ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' > $policy
		chmod 755 $policy
	fi
	if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		--no-install-recommends install "$@"; } > "$log" 2>&1 < /dev/null; then
		tail -n 30 "$log" >&2
		die "apt-get failed, its output is in $log"
	fi
	rm -f "$log"
}

check=no
for arg in "$@"; do
	case $arg in
	--check) check=yes ;;
	--help | -h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done

mapfile -t wanted < <(missing)
[ ${#wanted[@]} -gt 0 ] || exit 0
[ $check = no ] || die "missing: ${wanted[*]}"
install_missing "${wanted[@]}"
