#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh PROGRAM FOLDER [doctest options...]: runs PROGRAM as the only process of a virtual machine
# with Debian's kernel and its modules of network queues, and passes on what it printed. FOLDER keeps
# the kernel for the next run. Exit code 77, with the reason, where this machine cannot run it.
set -euo pipefail
export LC_ALL=C

program=$1 folder=$2
shift 2
modules=(
  net/llc/llc net/802/stp net/bridge/bridge drivers/net/tun drivers/net/veth drivers/net/ifb
  net/sched/sch_ingress net/sched/sch_plug net/sched/act_mirred net/sched/cls_matchall
)
skip() { echo "skipped: $*"; exit 77; }
for tool in qemu-system-x86_64:qemu-system-x86 cpio:cpio dpkg-deb:dpkg; do
  command -v "${tool%%:*}" > /dev/null || skip "no ${tool%%:*} (apt-get install ${tool##*:})"
done

package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$package" ] || skip "apt knows no linux-image-cloud-amd64 (apt-get update)"
version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
kernel=$folder/plug-kernel-$version
work=$(mktemp -d "${TMPDIR:-/tmp}/libft-plug-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ ! -e "$kernel/vmlinuz" ]; then
  (cd "$work" && apt-get -qq download "$package" 2> apt.log) ||
    skip "$package cannot be downloaded: $(cat "$work/apt.log")"
  dpkg-deb -x "$work"/"$package"_*.deb "$work/unpacked"
  mkdir -p "$work/kernel"
  for module in "${modules[@]}"; do
    cp "$work/unpacked/lib/modules/${package#linux-image-}/kernel/$module.ko" "$work/kernel/"
  done
  cp "$work/unpacked/boot/vmlinuz-${package#linux-image-}" "$work/kernel/vmlinuz"
  mkdir -p "$folder"
  # Two runs at once: the one that comes second keeps the first one's.
  mv -T "$work/kernel" "$kernel" 2> /dev/null || [ -e "$kernel/vmlinuz" ]
fi

root=$work/root
mkdir -p "$root"/{proc,sys,dev,tmp,modules,lib64}
install -m 755 "$program" "$root/init"
strip "$root/init"
ldd "$program" | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
  mkdir -p "$root/${library%/*}"
  cp -L "$library" "$root/$library"
done
for module in "${modules[@]}"; do
  cp "$kernel/${module##*/}.ko" "$root/modules/"
  echo "${module##*/}.ko" >> "$root/modules/order"
done
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) > "$work/initrd"

# On a busy machine an emulated timer can be too slow for the kernel's check of it.
timeout 280 qemu-system-x86_64 -accel tcg -machine pc -smp 2 -m 512M -nodefaults -display none \
  -no-reboot -serial stdio -kernel "$kernel/vmlinuz" -initrd "$work/initrd" \
  -append "console=ttyS0 quiet panic=-1 no_timer_check -- $*" < /dev/null | tr -d '\r' |
  tee "$work/printed"
grep -q '^PASS$' "$work/printed"
