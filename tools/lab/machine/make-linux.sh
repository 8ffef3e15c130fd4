#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-linux.sh OUT
#
# Builds Linux for the deterministic machine: Debian's linux-source-6.1, cross-compiled with the
# configuration beside this script (RV64IMAC, no floating point), and an initramfs with one program.
# Prints the folder with `Image` and `initrd.cpio`; when an equal one (same scripts, same packages) is
# there already, that one. About 8 minutes of two cores the first time. Any user.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
cross=riscv64-linux-gnu-
source=/usr/src/linux-source-6.1.tar.xz

fail() { echo "make-linux.sh: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: make-linux.sh OUT"
for tool in ${cross}gcc make flex bison bc cpio xz sha256sum; do
  command -v "$tool" > /dev/null ||
    fail "$tool is missing: apt-get install gcc-riscv64-linux-gnu make flex bison bc cpio xz-utils"
done
[ -e "$source" ] || fail "$source is missing: apt-get install linux-source-6.1"

version=$(dpkg-query -W -f '${Version}' linux-source-6.1)
key_of() { { cat "$@"; echo "$version"; } | sha256sum | cut -c 1-16; }
kernel_key=$(key_of "$here/linux-6.1-rv64imac.config")
key=$(key_of "$here/linux-6.1-rv64imac.config" "$here/init.c" "$here/../guest/protocol.h" "$0")
mkdir -p "$1"
out=$(cd "$1" && pwd)/machine-linux-$key
kernel=$(cd "$1" && pwd)/machine-kernel-$kernel_key
if [ -e "$out/complete" ]; then
  echo "$out"
  exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/ft-machine-linux-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ ! -e "$kernel/complete" ]; then
  echo "building Linux for the machine, once: about 8 minutes" >&2
  tar -C "$work" -xf "$source"
  cp "$here/linux-6.1-rv64imac.config" "$work/linux-source-6.1/.config"
  make=(make -C "$work/linux-source-6.1" ARCH=riscv CROSS_COMPILE=$cross
    KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=libft KBUILD_BUILD_HOST=libft)
  { "${make[@]}" olddefconfig && "${make[@]}" -j "$(nproc)" Image; } > "$work/log" 2>&1 ||
    fail "the kernel does not build: $(tail -n 5 "$work/log")"
  mkdir -p "$kernel"
  cp "$work/linux-source-6.1/arch/riscv/boot/Image" "$kernel/Image"
  touch "$kernel/complete"
fi

mkdir -p "$work/root" "$out"
${cross}gcc -O2 -Wall -Wextra -march=rv64imac -mabi=lp64 -static -nostdlib -ffreestanding -fno-builtin \
  -Wl,--build-id=none -o "$work/root/init" "$here/init.c"
${cross}strip "$work/root/init"
touch -d @0 "$work/root/init" "$work/root"
(cd "$work/root" && find . | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) > "$out/initrd.cpio"
cp "$kernel/Image" "$out/Image"
touch "$out/complete"
echo "$out"
