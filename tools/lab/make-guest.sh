#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-guest.sh OUT
#
# Builds the lab's guest from Debian packages, which are downloaded and not installed: the cloud
# kernel, and an initramfs with busybox, Redis, nginx, QEMU's guest agent and the observer. Prints the
# folder with `vmlinuz`, `initrd.img` and `cmdline`; when an equal guest (same scripts, same package
# versions) is there already, that one. Any user; needs apt-get, dpkg-deb, gcc, cpio.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
modules=(
  drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
  drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci net/core/failover
  drivers/net/net_failover drivers/net/virtio_net drivers/char/virtio_console
)
applets=(sh mount insmod ip cat echo sleep)

fail() { echo "make-guest.sh: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: make-guest.sh OUT"
for tool in apt-get apt-cache dpkg-deb gcc cpio sha256sum; do
  command -v "$tool" > /dev/null || fail "$tool is missing: apt-get install apt dpkg gcc libc6-dev cpio"
done

# All packages that $1 needs, itself included; alternatives and virtual packages are left out.
closure() {
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances "$1" | grep '^[a-z0-9]' | sort -u
}

kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$kernel" ] || fail "apt knows no linux-image-cloud-amd64: run apt-get update (as root)"
packages=("$kernel" busybox-static)
programs='redis-tools qemu-guest-agent'
for package in $(for program in $programs; do closure "$program"; done | sort -u); do
  # Only what holds libraries: debconf, adduser and the like are for installing.
  case $package in redis-tools | qemu-guest-agent | lib*) packages+=("$package") ;; esac
done
# All that nginx itself needs: its other packages' needs are for installing it.
packages+=(nginx libcrypt1 libpcre2-8-0 libssl3 zlib1g)
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)

key=$({
  cat "$0" "$here"/guest/*
  apt-cache show --no-all-versions "${packages[@]}" | grep -E '^(Package|Version): '
} | sha256sum | cut -c 1-16)
out=$(mkdir -p "$1" && cd "$1" && pwd)/guest-$key
if [ -e "$out/complete" ]; then
  echo "$out"
  exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/ft-guest-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{packages,root,image}

(cd "$work/packages" && apt-get -qq download "${packages[@]}" 2> "$work/apt.log") ||
  fail "download ${packages[*]}: $(cat "$work/apt.log")"
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done

image=$work/image
mkdir -p "$image"/{bin,sbin,dev,proc,sys,lib64,modules,lib/x86_64-linux-gnu}
cp "$work/root/bin/busybox" "$image/bin/"
for applet in "${applets[@]}"; do ln -s busybox "$image/bin/$applet"; done
install -m 755 "$here/guest/init" "$image/init"
gcc -std=gnu11 -O2 -Wall -Wextra -static -pthread -s -o "$image/bin/observer" "$here"/guest/{observer,stalls}.c

for module in "${modules[@]}"; do
  cp "$work/root/lib/modules/${kernel#linux-image-}/kernel/$module.ko" "$image/modules/"
  echo "${module##*/}.ko" >> "$image/modules/order"
done

# In Debian redis-server is another name of redis-check-rdb, which is in redis-tools.
install -m 755 "$work/root/usr/bin/redis-check-rdb" "$image/bin/redis-server"
libraries=$work/root/lib/x86_64-linux-gnu:$work/root/usr/lib/x86_64-linux-gnu
install -m 755 "$work/root/usr/sbin/qemu-ga" "$image/bin/qemu-ga"
gcc -std=gnu11 -O2 -Wall -Wextra -static -nostdlib -s -o "$image/sbin/hwclock" "$here/guest/hwclock.c"
install -m 755 "$work/root/usr/sbin/nginx" "$image/bin/nginx"
mkdir -p "$image"/{etc,web,var/lib/nginx,var/log/nginx}
cp "$here/guest/nginx.conf" "$image/etc/"
echo "root:x:0:0::/:/bin/sh" > "$image/etc/passwd"
echo "root:x:0:" > "$image/etc/group"
for ((line = 0; line < 128; ++line)); do printf 'line %3d of a page of four KiB\n' $line; done > "$image/web/page"
for program in redis-server nginx qemu-ga; do
  LD_LIBRARY_PATH=$libraries ldd "$image/bin/$program"
done > "$work/needed"
! grep 'not found' "$work/needed" >&2 || fail "the guest's programs lack the libraries above"
sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' "$work/needed" | sort -u | while read -r library; do
  cp -L "$library" "$image/lib/x86_64-linux-gnu/"
done
cp -L "$work/root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$image/lib64/"

# Not compressed: under software emulation the guest unpacks far slower than its host reads.
stage=$work/stage
mkdir "$stage"
find "$image" -exec touch -h -d @0 {} +
(cd "$image" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0) > "$stage/initrd.img"
cp "$work/root/boot/vmlinuz-${kernel#linux-image-}" "$stage/vmlinuz"
echo "console=ttyS0 quiet panic=-1" > "$stage/cmdline"
touch "$stage/complete"
chmod 755 "$stage"
# Two builds at once: the one that comes second finds the folder there and keeps it.
mv -T "$stage" "$out" 2> /dev/null || [ -e "$out/complete" ] || fail "cannot write $out"
echo "$out"
