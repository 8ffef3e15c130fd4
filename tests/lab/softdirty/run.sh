#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh PROGRAM FOLDER: runs PROGRAM as the only process of a virtual machine with Debian's kernel,
# and passes on what it printed. Exit code 77, with the reason, where this machine cannot run it.
set -euo pipefail

program=$1 folder=$2
skip() { echo "skipped: $*"; exit 77; }
command -v qemu-system-x86_64 > /dev/null || skip "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
command -v cpio > /dev/null || skip "no cpio (apt-get install cpio)"

guest=$("$(dirname "$0")/../../../tools/lab/make-guest.sh" "$folder")
work=$(mktemp -d "${TMPDIR:-/tmp}/libft-softdirty-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{proc,sys}
install -m 755 "$program" "$work/root/init"
strip "$work/root/init"
(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) > "$work/initrd"

# `panic=-1` and `-no-reboot`: a guest that dies ends QEMU at once, without the line looked for.
timeout 150 qemu-system-x86_64 -accel tcg -machine pc -m 512M -nodefaults -display none -no-reboot \
  -serial stdio -kernel "$guest/vmlinuz" -initrd "$work/initrd" \
  -append "console=ttyS0 quiet panic=-1" < /dev/null | tr -d '\r' | tee "$work/printed"
grep -q '^PASS$' "$work/printed"
