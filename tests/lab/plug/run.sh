#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh PROGRAM FOLDER [doctest options...]: runs PROGRAM as the only process of a virtual machine
# with Debian's kernel, its modules of network queues, and Debian's Open vSwitch, and passes on what it
# printed. FOLDER keeps kernel and switch for the next run. Exit code 77, with the reason, where this machine cannot run it.
set -euo pipefail
export LC_ALL=C

program=$1 folder=$2
shift 2
modules=(
  net/llc/llc net/802/stp net/bridge/bridge drivers/net/tun drivers/net/veth drivers/net/ifb
  net/sched/sch_ingress net/sched/sch_plug net/sched/act_mirred net/sched/cls_matchall
  # Open vSwitch, each after those that it needs.
  lib/libcrc32c net/ipv4/netfilter/nf_defrag_ipv4
  net/ipv6/netfilter/nf_defrag_ipv6 net/netfilter/nf_conntrack net/netfilter/nf_nat
  net/netfilter/nf_conncount net/nsh/nsh net/openvswitch/openvswitch
)
# With the libraries that this machine may not have.
switch_packages=(
  openvswitch-switch openvswitch-common libbpf1 libcap-ng0 libelf1 libevent-2.1-7 libnuma1 libunbound8 libxdp1
)
switch_programs=(
  usr/bin/ovsdb-tool usr/bin/ovs-vsctl usr/sbin/ovsdb-server usr/lib/openvswitch-switch/ovs-vswitchd
)
skip() { echo "skipped: $*"; exit 77; }
for tool in qemu-system-x86_64:qemu-system-x86 cpio:cpio dpkg-deb:dpkg; do
  command -v "${tool%%:*}" > /dev/null || skip "no ${tool%%:*} (apt-get install ${tool##*:})"
done

package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$package" ] || skip "apt knows no linux-image-cloud-amd64 (apt-get update)"
version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
kernel=$folder/plug-kernel-$version-ovs
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
  mkdir -p "$work/switch" "$work/kernel/switch"
  (cd "$work/switch" && apt-get -qq download "${switch_packages[@]}" 2> ../apt.log) ||
    skip "Open vSwitch cannot be downloaded: $(cat "$work/apt.log")"
  for file in "$work"/switch/*.deb; do dpkg-deb -x "$file" "$work/kernel/switch"; done
  rm -rf "$work"/kernel/switch/usr/share/{doc,man,python3}
  mkdir -p "$folder"
  # Two runs at once: the one that comes second keeps the first one's.
  mv -T "$work/kernel" "$kernel" 2> /dev/null || [ -e "$kernel/vmlinuz" ]
fi

root=$work/root
mkdir -p "$root"/{proc,sys,dev,tmp,modules,lib64}
install -m 755 "$program" "$root/init"
strip "$root/init"
libraries_of() { # Without the loader's own, of a program whose libraries may be the switch's.
  LD_LIBRARY_PATH=$kernel/switch/usr/lib/x86_64-linux-gnu:$kernel/switch/lib/x86_64-linux-gnu \
    ldd "$1" | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p'
}
put_libraries() { # PROGRAM
  libraries_of "$1" | while read -r library; do
    local place=${library#"$kernel/switch"}
    mkdir -p "$root/${place%/*}"
    cp -L "$library" "$root/$place"
  done
}
put_libraries "$program"
mkdir -p "$root/switch"
for file in "${switch_programs[@]}"; do
  install -m 755 "$kernel/switch/$file" "$root/switch/"
  put_libraries "$kernel/switch/$file"
done
cp "$kernel/switch/usr/share/openvswitch/vswitch.ovsschema" "$root/switch/"
for module in "${modules[@]}"; do
  cp "$kernel/${module##*/}.ko" "$root/modules/"
  echo "${module##*/}.ko" >> "$root/modules/order"
done
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) > "$work/initrd"

# On a busy machine an emulated timer can be too slow for the kernel's check of it.
timeout 380 qemu-system-x86_64 -accel tcg -machine pc -smp 2 -m 512M -nodefaults -display none \
  -no-reboot -serial stdio -kernel "$kernel/vmlinuz" -initrd "$work/initrd" \
  -append "console=ttyS0 quiet panic=-1 no_timer_check -- $*" < /dev/null | tr -d '\r' |
  tee "$work/printed"
grep -q '^PASS$' "$work/printed"
