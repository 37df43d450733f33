#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [--help]

Prints a folder with the driver-side headers of the DPDK that is installed, laid out as in DPDK's
sources: fit for meson's -Ddpdk_source. They come from Debian's source package of exactly the
installed version, fetched by apt with a sources list of its own: nothing else is changed.

Environment:
  VDPA_CACHE  where the headers are kept (/var/cache/vdpa-distro); if it cannot be written, a
              temporary folder is made that the caller removes

Exit code: 0 done, 77 they cannot be had here (the reason goes to stderr), 2 wrong usage.
TEXT
}

cannot() { say "$@"; exit 77; }

private_apt() {
	apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
		-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
		-o Acquire::Check-Valid-Until=false -o Acquire::Languages=none \
		-o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o APT::Sandbox::User=root "$@"
}

fetch() {
	local suite url keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	url=$(mirror) || cannot "no mirror to ask"
	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	echo "deb-src [signed-by=$keyring] $url $suite main" > "$work/sources.list"
	private_apt update > "$work/log" 2>&1 || cannot "cannot read the source index of $suite"
	(cd "$work" && private_apt source --download-only "dpdk=$version") >> "$work/log" 2>&1 ||
		cannot "source package dpdk $version cannot be fetched:" \
			"$(grep -m 1 '^E:' "$work/log" || tail -n 1 "$work/log")"
}

unpack() {
	mkdir "$work/tree"
	tar -x -f "$work"/dpdk_*.orig.tar.xz -C "$work/tree" --no-same-owner --strip-components=1 \
		--wildcards '*/VERSION' '*/lib/eal/include/*_driver.h' \
		'*/lib/vhost/vdpa_driver.h' '*/drivers/bus/*/bus_*_driver.h'
}

case ${1:-} in
'') ;;
--help | -h) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

version=$(dpkg-query -W -f '${source:Version}' libdpdk-dev 2>/dev/null) ||
	cannot "the installed DPDK is not Debian's"
target=$cache_dir/dpdk-source/$version
if [ ! -e "$target/VERSION" ]; then
	if { mkdir -p "${target%/*}" && [ -w "${target%/*}" ]; } 2>/dev/null; then
		work=$(mktemp -d "${target%/*}/new.XXXXXX")
	else
		work=$(mktemp -d)
		target=$work.headers
	fi
	trap 'rm -rf "$work"' EXIT
	fetch
	unpack
	rm -rf "$target"
	mv "$work/tree" "$target"
fi
echo "$target"
