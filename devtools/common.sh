# shellcheck shell=bash disable=SC2034 # used by those who source it
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
#
# Sourced by the scripts beside it.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache_dir=${VDPA_CACHE:-/var/cache/vdpa-distro}

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@"; exit 1; }

# packages all|host: names from packages.list
packages() {
	awk -v where="$1" '!/^#/ && NF && ($2 == "" || $2 == where) { print $1 }' \
		"$root_dir/devtools/packages.list"
}

# The Debian mirror that this machine's apt uses.
mirror() {
	local url file
	for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list \
		/etc/apt/sources.list.d/*.list; do
		[ -r "$file" ] || continue
		url=$(sed -nE -e 's,^URIs:\s*(\S+/debian)/?(\s.*)?$,\1,p' \
			-e 's,^deb\s+(\[[^]]*\]\s+)?(\S+/debian)/?\s.*,\2,p' "$file" | head -n 1)
		[ -z "$url" ] || { echo "$url"; return 0; }
	done
	say "no Debian mirror in this machine's apt configuration"
	return 1
}
