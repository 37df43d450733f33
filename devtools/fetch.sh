# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
#
# Sourced after common.sh: Debian packages of any suite, by the ordinary apt client with a sources
# list and a state folder of its own. Nothing is installed, this machine's apt is left alone.

# fetch_current DIRECTORY ARGUMENT...: the command line of a script that keeps what it makes of
# packages in DIRECTORY: it has the functions usage, cached and make_current. Locks until it ends.
fetch_current() {
	local dir=$1 arg refresh=no
	shift
	for arg in "$@"; do
		case $arg in
		--help | -h) usage; exit 0 ;;
		--refresh) refresh=yes ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	[ "$(uname -m)" = x86_64 ] || die "only for x86_64"
	mkdir -p "$dir"
	exec 9> "$dir/lock"
	flock -n 9 || { say "waiting for another ${0##*/}"; flock 9; }
	if [ $refresh = yes ] || ! cached; then
		make_current
	fi
}

# fetch_open DIRECTORY SUITE: a folder $work in it, gone at the end, and the suite's package list;
# for the calls below.
fetch_open() {
	local url keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	work=$(mktemp -d "$1/new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	fetch_dir=$work
	[ -r $keyring ] || die "$keyring is missing: run devtools/deps.sh"
	url=$(mirror)
	mkdir -p "$fetch_dir/lists/partial" "$fetch_dir/cache/archives/partial" "$fetch_dir/debs"
	echo "deb [arch=amd64 signed-by=$keyring] $url $2 main" > "$fetch_dir/sources.list"
	say "reading the package list of $2"
	fetch_apt apt-get update >&2 || die "cannot read the package list of $2"
}

fetch_apt() {
	local program=$1
	shift
	# A mirror may serve a testing suite whose Release file has expired; it is still verified.
	"$program" -q -o Dir::Etc::sourcelist="$fetch_dir/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State::lists="$fetch_dir/lists" -o Dir::Cache="$fetch_dir/cache" \
		-o Dir::State::status=/dev/null -o Acquire::Check-Valid-Until=false \
		-o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

# fetch_packages NAME...: into $fetch_dir/debs
fetch_packages() {
	say "fetching $*"
	(cd "$fetch_dir/debs" && fetch_apt apt-get download "$@" >&2) || die "cannot fetch $*"
}

# fetched NAME: the file of a package
fetched() { echo "$fetch_dir/debs/$1"_*.deb; }

# unpack DEB DIRECTORY PATTERN...: the members that match, without their folders.
unpack() {
	local deb=$1 dir=$2
	shift 2
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --wildcards --transform='s,.*/,,' "$@"
}
