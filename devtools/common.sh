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
	local url
	# shellcheck disable=SC2016 # $(REPO_URI) is apt's
	url=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m 1 '/debian/*$') ||
		url=$(sed -nE 's,^URIs:\s*(\S+/debian)/*\s*$,\1,p' \
			/etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1) || true
	[ -n "$url" ] || die "no Debian mirror in this machine's apt configuration"
	echo "$url"
}
