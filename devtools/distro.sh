#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
	cat <<TEXT
Usage: ${0##*/} [--net] SUITE [COMMAND [ARGUMENT...]]
       ${0##*/} --remove SUITE
       ${0##*/} --help

Runs a command (a shell if none is given) in another Debian release on this machine: its DPDK, its
QEMU, its compiler. The release is installed into a folder the first time and again whenever
packages.list changes, which takes a minute or two.

  SUITE       trixie (Debian 13, DPDK 24.11) or forky (Debian testing, DPDK 25.11)
  --net       a network of its own, with nothing but lo
  --remove    remove what is installed and cached for SUITE

Inside, this checkout and VDPA_CACHE/uml stand at the same paths as outside and can be written to;
/tmp, /run, /root and /var/tmp are empty and vanish; everything else is read only. Mounts are
private to the command: none is left behind. The environment is a fresh one, with CI and VDPA_*
passed on. Several commands may run in one release at a time.

Environment:
  VDPA_CACHE  where releases are kept (/var/cache/vdpa-distro). Nobody but its owner may write to
              it or to a folder above it: DPDK refuses to load plug-ins from such places.

Exit code: the command's; 1 if the release could not be installed, 2 wrong usage. Must be root.
TEXT
}

# Everything that decides what is installed.
recipe() {
	echo "recipe 1"
	packages all
}

check_cache() {
	local dir
	mkdir -p "$cache_dir/deb/$suite" "$cache_dir/uml"
	cache_dir=$(realpath "$cache_dir")
	dir=$cache_dir
	while :; do
		[ $(($(stat -c 0%a "$dir") & 2)) = 0 ] ||
			die "VDPA_CACHE=$cache_dir: anybody can write to $dir, and DPDK loads" \
				"nothing below such a folder"
		[ "$dir" != / ] || break
		dir=$(dirname "$dir")
	done
}

# Installs into $1. Downloaded packages are kept, so that the next time needs only new ones.
install_suite() {
	local log=$cache_dir/$suite.log debs=$cache_dir/deb/$suite url
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: run devtools/deps.sh"
	[ -r $keyring ] || die "$keyring is missing: run devtools/deps.sh"
	url=$(mirror)
	say "installing $suite, which takes a minute or two (log: $log)"
	# shellcheck disable=SC2016 # $1 in hooks is expanded by mmdebstrap's shell
	# A mirror may serve a testing suite whose Release file has expired; it is still verified.
	unshare --mount --propagation private mmdebstrap --mode=root --variant=apt \
		--architectures=amd64 --keyring=$keyring \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--skip=download/empty --skip=essential/unlink \
		--setup-hook="mkdir -p \"\$1/var/cache/apt/archives\"" \
		--setup-hook="sync-in '$debs' /var/cache/apt/archives" \
		--include="$(packages all | paste -sd,)" \
		--customize-hook="sync-out /var/cache/apt/archives '$debs'" \
		--customize-hook='chroot "$1" apt-get clean' \
		"$suite" "$1" "deb $url $suite main" > "$log" 2>&1 < /dev/null || {
		rm -rf --one-file-system "$1"
		tail -n 20 "$log" >&2
		die "could not install $suite"
	}
}

# Removes the folders of older recipes that nobody is in.
remove_old() {
	local dir
	for dir in "$cache_dir/root/$suite"-*; do
		if [ ! -d "$dir" ] || [ "$dir" = "$tree" ]; then continue; fi
		(flock -n 8 && rm -rf --one-file-system "$dir") 8>> "$cache_dir/${dir##*/}.lock" ||
			say "$dir is in use, not removed"
	done
}

# Whoever is inside holds the lock shared (descriptor 9, inherited by the command).
ensure_suite() {
	tree=$cache_dir/root/$suite-$(recipe | sha256sum | cut -c 1-12)
	exec 9>> "$cache_dir/${tree##*/}.lock"
	flock -s 9
	[ ! -d "$tree" ] || return 0
	flock -u 9
	flock -n -x 9 || { say "waiting for another ${0##*/}"; flock -x 9; }
	if [ ! -d "$tree" ]; then
		mkdir -p "$cache_dir/root"
		rm -rf --one-file-system "$tree.new"
		install_suite "$tree.new"
		mv "$tree.new" "$tree"
	fi
	flock -s 9
	remove_old
}

# Runs in a mount namespace of its own. The variables come by the environment.
enter() {
	local dir
	mkdir -p "$tree$root_dir" "$tree$cache_dir/uml"
	mount --bind "$tree" "$tree"
	mount --bind /proc "$tree/proc"
	mount --rbind /sys "$tree/sys"
	mount --rbind /dev "$tree/dev"
	for dir in run root; do
		mount -t tmpfs -o mode=755 "$dir" "$tree/$dir"
	done
	for dir in tmp var/tmp; do
		mount -t tmpfs -o mode=1777 "${dir##*/}" "$tree/$dir"
	done
	case $root_dir/ in
	/tmp/* | /run/* | /root/* | /var/tmp/*) mkdir -p "$tree$root_dir" ;;
	esac
	mount --bind "$root_dir" "$tree$root_dir"
	mount --bind "$cache_dir/uml" "$tree$cache_dir/uml"
	mount -o remount,bind,ro "$tree"
	[ "$net" = no ] || ip link set lo up
}

net=no
remove=no
while [ $# -gt 0 ]; do
	case $1 in
	--net) net=yes ;;
	--remove) remove=yes ;;
	--help | -h) usage; exit 0 ;;
	--inside) enter; shift; exec chroot "$tree" "$@" ;;
	-*) usage >&2; exit 2 ;;
	*) break ;;
	esac
	shift
done
suite=${1:-}
case $suite in
trixie | forky) shift ;;
'') usage >&2; exit 2 ;;
*) say "unknown suite '$suite': trixie or forky"; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || die "must be root"
check_cache

if [ $remove = yes ]; then
	tree=
	remove_old
	rm -rf "$cache_dir/deb/$suite"
	exit 0
fi
ensure_suite

where=$root_dir
case $PWD/ in "$root_dir"/*) where=$PWD ;; esac
[ $# -gt 0 ] || set -- /bin/bash
pass=()
for name in CI TERM "${!VDPA_@}"; do
	[ -z "${!name+set}" ] || pass+=("$name=${!name}")
done
options=(--mount --propagation private)
[ $net = no ] || options+=(--net)
export tree net VDPA_CACHE=$cache_dir
exec unshare "${options[@]}" "${BASH_SOURCE[0]}" --inside \
	/usr/bin/env -i -C "$where" HOME=/root LANG=C.UTF-8 USER=root SHELL=/bin/bash \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	"${pass[@]}" VDPA_CACHE="$cache_dir" "$@"
