#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

set -euo pipefail
# shellcheck source=devtools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=devtools/fetch.sh
. "$(dirname "${BASH_SOURCE[0]}")/fetch.sh"

suite=${GUEST_SUITE:-bookworm}
guest_dir=$(realpath -m "$cache_dir/guest")
modules='virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover
	net_failover virtio_net virtio_blk netfs fscache 9pnet 9pnet_virtio 9p'

usage() {
	cat <<TEXT
Usage: ${0##*/} [--refresh] [--help]

Prints a folder with what a Debian guest under QEMU boots from: "vmlinuz", Debian $suite's own
kernel, and "initrd.img", made here. The guest's root is this machine's, read only, by 9p (mount tag
"root"); its first process is what the kernel argument agent= says, with %20 for spaces. "fio.img",
put behind initrd.img, brings this machine's fio for a guest that has no other root.

  --refresh   ask the mirror for a newer kernel, even if one is in the cache
  --help      show this text

Environment:
  VDPA_CACHE   folder for what is fetched (/var/cache/vdpa-distro)
  GUEST_SUITE  Debian suite to take the kernel from (bookworm)

How to boot it: app/test/system/tcg.py. Progress goes to stderr, the folder to stdout.
Exit code: 0 done, 1 could not be fetched, 2 wrong usage.
TEXT
}

write_init() {
	cat > "$1" <<'TEXT'
#!/bin/busybox sh
# Loads the modules in their order, takes the host's root over 9p and starts the agent in it.
/bin/busybox mkdir -p /proc /root /bin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
while read -r module; do
	insmod "/modules/$module.ko" || echo "init: no $module"
done < /modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /root ||
	poweroff -f
agent=$(sed -n 's/.* agent=\([^ ]*\).*/\1/p' /proc/cmdline | sed 's/%20/ /g')
for kind in proc sysfs devtmpfs; do
	case $kind in sysfs) dir=sys ;; devtmpfs) dir=dev ;; *) dir=proc ;; esac
	mount -t $kind $kind /root/$dir
done
mount -t tmpfs tmpfs /root/run
cd /root
exec switch_root /root /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/run \
	TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 $agent
TEXT
	chmod 755 "$1"
}

# pack DIRECTORY OUTPUT
pack() {
	local busybox=$work/initrd/bin/busybox
	(cd "$1" && find . | "$busybox" cpio -o -H newc 2> /dev/null | gzip -1) > "$2"
}

# build_initrd MODULES_DIRECTORY OUTPUT: a module that is not there is built into the kernel.
build_initrd() {
	local root=$work/initrd name
	mkdir -p "$root/bin" "$root/modules" "$root/dev"
	unpack "$(fetched busybox-static)" "$root/bin" '*/bin/busybox'
	for name in $modules; do
		if [ -e "$1/$name.ko" ]; then
			cp "$1/$name.ko" "$root/modules"
			echo "$name" >> "$root/modules/order"
		fi
	done
	write_init "$root/init"
	pack "$root" "$2"
}

# fio and all that it is linked to, where the loader looks for it.
build_fio() {
	local root=$work/fio files
	files=$(ldd /usr/bin/fio | grep -o '/[^ ]*') || die "fio is missing: run devtools/deps.sh"
	mkdir "$root"
	# shellcheck disable=SC2086 # a word a file
	cp -L --parents /usr/bin/fio $files "$root"
	pack "$root" "$1"
}

make_current() {
	local kernel deb target
	fetch_open "$guest_dir" "$suite"
	kernel=$(fetch_apt apt-cache depends linux-image-amd64 |
		sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1)
	[ -n "$kernel" ] || die "$suite has no linux-image-amd64"
	fetch_packages "$kernel" busybox-static
	deb=$(fetched "$kernel")
	mkdir "$work/tree" "$work/kernel"
	unpack "$deb" "$work/kernel" './boot/vmlinuz-*' '*.ko'
	mv "$work"/kernel/vmlinuz-* "$work/tree/vmlinuz"
	build_initrd "$work/kernel" "$work/tree/initrd.img"
	build_fio "$work/tree/fio.img"
	recipe > "$work/tree/recipe"
	target=$guest_dir/${kernel#linux-image-}-$(recipe | cut -c 1-12)
	[ -d "$target" ] || mv "$work/tree" "$target"
	ln -sfn "${target##*/}" "$guest_dir/current"
	say "$kernel"
}

# An initrd made by another version of this script is made again.
recipe() { sha256sum < "${BASH_SOURCE[0]}"; }
cached() { [ "$(cat "$guest_dir/current/recipe" 2> /dev/null)" = "$(recipe)" ]; }

fetch_current "$guest_dir" "$@"
readlink -f "$guest_dir/current"
