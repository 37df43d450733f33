#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=devtools/fetch.sh
. "$(dirname "${BASH_SOURCE[0]}")/fetch.sh"

suite=${UML_SUITE:-forky}
uml_dir=$(realpath -m "$cache_dir/uml")
modules='failover.ko net_failover.ko virtio_net.ko virtio_blk.ko
	llc.ko stp.ko garp.ko mrp.ko 8021q.ko'
loader=ld-linux-x86-64.so.2

usage() {
	cat <<TEXT
Usage: ${0##*/} [--refresh] [--help]

Prints the path of a stock Linux kernel built as a program (User Mode Linux), fetched from Debian
$suite on the first call. Its virtio modules lie in the folder "modules" beside it, its version in
the file "version". A libc of its own comes with it, so it runs on older distributions too.

  --refresh   ask the mirror for a newer kernel, even if one is in the cache
  --help      show this text

Environment:
  VDPA_CACHE  folder for what is fetched (/var/cache/vdpa-distro)
  UML_SUITE   Debian suite to take the kernel from (forky)

How to boot it: app/test/system/uml.py. Progress goes to stderr, the path to stdout.
Exit code: 0 done, 1 could not be fetched or does not run, 2 wrong usage.
TEXT
}

# $1 is where the tree will stand: the loader's path is written into the kernel.
build_tree() {
	local tree=$work/tree uml name lib
	mkdir -p "$tree/modules" "$tree/lib"
	uml=$(fetched user-mode-linux)
	unpack "$uml" "$tree" '*/linux.uml'
	for name in $modules; do
		unpack "$uml" "$tree/modules" "*/$name" || die "the package has no module $name"
	done
	for lib in libc.so.6 "$loader"; do
		unpack "$(fetched libc6)" "$tree/lib" "*/x86_64-linux-gnu/$lib"
	done
	patchelf --set-interpreter "$1/lib/$loader" --set-rpath "$1/lib" "$tree/linux.uml"
	mv "$tree/linux.uml" "$tree/linux"
	echo "$version" > "$tree/version"
}

# The tree in $1 runs here, and has all that this version asks for.
is_whole() {
	local name
	for name in $modules; do
		[ -r "$1/modules/$name" ] || return 1
	done
	[ -x "$1/linux" ] && "$1/linux" --version >/dev/null 2>&1
}

cached() { is_whole "$uml_dir/current"; }

make_current() {
	local libc target
	command -v patchelf > /dev/null || die "patchelf is missing: run devtools/deps.sh"
	fetch_open "$uml_dir" "$suite"
	fetch_packages user-mode-linux libc6
	version=$(dpkg-deb -f "$(fetched user-mode-linux)" Version)
	libc=$(dpkg-deb -f "$(fetched libc6)" Version)
	target=$uml_dir/$(echo "$version-libc$libc" | tr -c 'A-Za-z0-9.+\n-' _)
	if ! is_whole "$target"; then
		build_tree "$target"
		rm -rf "$target"
		mv "$work/tree" "$target"
	fi
	ln -sfn "${target##*/}" "$uml_dir/current"
	cached || die "the kernel in $uml_dir/current does not run here"
	say "user-mode-linux $version, Linux $("$target/linux" --version 2>/dev/null || echo '?')"
}

fetch_current "$uml_dir" "$@"
readlink -f "$uml_dir/current/linux"
