#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-image.sh FOLDER
#
# Builds what the Xen lab boots, from Debian packages that are downloaded and unpacked, never
# installed: the hypervisor, dom0 (kernel, initramfs, root image) and the guests. Prints the folder
# with `xen`, `vmlinuz`, `initrd.img` and `root.ext4`; when an equal one (same scripts, same package
# versions) is there already, that one. Any user; needs apt-get, dpkg-deb, gcc, cpio, kmod, xz and
# e2fsprogs.
set -euo pipefail
export LC_ALL=C
export PATH=$PATH:/usr/sbin:/sbin
umask 022

here=$(cd "$(dirname "$0")" && pwd)
guest_script=$here/../../../tools/lab/make-guest.sh

# What dom0 runs. Packages are unpacked without their scripts, so what these would link is linked
# below.
dom0_packages=(
  base-files bash coreutils dash diffutils findutils gawk grep gzip hostname kmod libc-bin mount
  ncurses-base procps psmisc sed tar util-linux
  xen-utils-4.17 xen-utils-common xenstore-utils qemu-system-xen
  bridge-utils iproute2 iputils-ping socat strace tcpdump
  # What ftctl and its modules are linked with.
  libcurl4 libfmt9 libnl-route-3-200 libssl3 libstdc++6 libxxhash0
  libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 libxenstore4
)
# Needed by nothing that runs here, and large.
left_out='^(iso-codes|perl.*|libperl.*|udev|adduser|passwd|debconf|usrmerge|dpkg)$'
hypervisor=xen-hypervisor-4.17-amd64
dom0_modules=(
  virtio_pci virtio_blk virtio_net ext4 xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs
  xen-netback xen-blkback bridge br_netfilter sch_plug sch_ingress sch_netem act_mirred
  cls_matchall cls_u32 ifb loop nbd tun veth dummy
)
root_modules=(virtio_pci virtio_blk ext4)  # What dom0's initramfs needs to find its root.
guest_modules=(xen-netfront xen-blkfront e1000)

fail() { echo "make-image.sh: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: make-image.sh FOLDER"
for tool in apt-get apt-cache dpkg-deb gcc cpio sha256sum depmod xz mke2fs; do
  command -v "$tool" > /dev/null ||
    fail "$tool is missing: apt-get install apt dpkg gcc libc6-dev cpio kmod xz-utils e2fsprogs"
done
mkdir -p "$1"
cache=$(cd "$1" && pwd)

# Asking apt for versions takes seconds. While neither these scripts nor what apt knows have
# changed, the answer is the last one.
question=$({
  cat "$0" "$here"/dom0/* "$guest_script" "${guest_script%/*}"/guest/*
  stat -c '%n %s %Y' /var/lib/apt/lists/*_Packages*
} 2> /dev/null | sha256sum | cut -c 1-16)
answer=$cache/xen-question-$question
done_with() {
  echo "$1" > "$answer.$$" && mv "$answer.$$" "$answer"
  echo "$1"
  exit 0
}
if [ -e "$answer" ] && [ -e "$(cat "$answer")/complete" ]; then cat "$answer" && exit 0; fi

kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$kernel" ] || fail "apt knows no linux-image-amd64: run apt-get update (as root)"
release=${kernel#linux-image-}
guest=$("$guest_script" "$cache")

key=$({
  cat "$0" "$here"/dom0/*
  echo "${guest##*/}"
  apt-cache show --no-all-versions "$kernel" "$hypervisor" busybox-static "${dom0_packages[@]}" |
    grep -E '^(Package|Version): '
} | sha256sum | cut -c 1-16)
out=$cache/xen-$key
[ ! -e "$out/complete" ] || done_with "$out"

work=$(mktemp -d "${TMPDIR:-/tmp}/ft-xen-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{packages/partial,boot,root,initramfs,guest,stage}
stage=$work/stage root=$work/root

# Resolved as for an empty machine, so that nothing is missing because it happens to be here.
: > "$work/status"
apt_empty() {
  apt-get -qq -y --no-install-recommends -o Dir::State::status="$work/status" \
    -o Dir::Cache::archives="$work/packages" -o Debug::NoLocking=1 "$@" 2>> "$work/apt.log" ||
    fail "apt-get $*: $(cat "$work/apt.log")"
}
mapfile -t wanted < <(apt_empty -s install "${dom0_packages[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
  grep -vE "$left_out")
[ ${#wanted[@]} -ge ${#dom0_packages[@]} ] || fail "cannot resolve dom0's packages: $(cat "$work/apt.log")"
(cd "$work/packages" &&
  apt_empty download "${wanted[@]}" "$kernel" "$hypervisor" busybox-static)

unpack() { # FOLDER PACKAGE...
  local folder=$1 package
  shift
  for package; do
    dpkg-deb --fsys-tarfile "$work"/packages/"$package"_*.deb |
      tar -x -C "$folder" --no-same-owner --keep-directory-symlink \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
        --exclude='./usr/share/info/*' --exclude='./usr/share/gconv/*' --exclude='./boot/System.map*'
  done
}
unpack "$work/boot" "$kernel" "$hypervisor" busybox-static
for folder in bin sbin lib lib64; do
  mkdir -p "$root/usr/$folder"
  ln -s "usr/$folder" "$root/$folder"
done
unpack "$root" "${wanted[@]}"

# --- What the boot loader would load.
gzip -dc "$work/boot/boot/xen-4.17-amd64.gz" > "$stage/xen"
cp "$work/boot/boot/vmlinuz-$release" "$stage/vmlinuz"
number_at() { od -An -t "u$2" -j "$1" -N "$2" "$stage/vmlinuz" | tr -d ' '; }
# The payload of a bzImage (Documentation/x86/boot.rst): unpacked here, because xz under emulation
# takes seconds at each start of a guest.
payload=$((($(number_at $((0x1f1)) 1) + 1) * 512 + $(number_at $((0x248)) 4)))
tail -c +$((payload + 1)) "$stage/vmlinuz" | head -c "$(number_at $((0x24c)) 4)" |
  xz -dc --single-stream > "$work/vmlinux" 2> "$work/xz.log" || [ -s "$work/vmlinux" ] || fail "unpack the kernel: $(cat "$work/xz.log")"

# --- Modules.
depmod -b "$work/boot" "$release"
files_of() { # The files of the modules "$@" and of what they need, in the order of loading.
  local module
  for module; do
    modprobe -d "$work/boot" -S "$release" --show-depends "$module" | sed -n 's/^insmod //p' | sed 's/ .*//'
  done | awk '!seen[$0]++'
}
modules=usr/lib/modules/$release
mkdir -p "$root/$modules"
cp "$work/boot/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$root/$modules/"
for file in $(files_of "${dom0_modules[@]}"); do
  install -D -m 644 "$file" "$root/$modules/${file#*/lib/modules/"$release"/}"
done
depmod -b "$root/usr" "$release" 2> /dev/null || depmod -b "$root" "$release"

archive() { # FOLDER: a reproducible initramfs on stdout
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0)
}

# --- dom0's initramfs: mounts the root image.
mkdir -p "$work"/initramfs/{bin,modules,proc,sys,dev,root}
cp "$work/boot/bin/busybox" "$work/initramfs/bin/"
ln -s busybox "$work/initramfs/bin/sh"
for file in $(files_of "${root_modules[@]}"); do
  cp "$file" "$work/initramfs/modules/"
  basename "$file" >> "$work/initramfs/modules/order"
done
install -m 755 "$here/dom0/initramfs" "$work/initramfs/init"
archive "$work/initramfs" > "$stage/initrd.img"

# --- The guests: the other lab's initramfs, with Xen's drivers in place of virtio's.
mkdir -p "$work/guest/modules" "$root/guest"
for file in $(files_of "${guest_modules[@]}"); do
  cp "$file" "$work/guest/modules/"
  basename "$file" >> "$work/guest/modules/order"
done
{ cat "$guest/initrd.img"; archive "$work/guest"; } > "$root/guest/initrd.img"
# A device model hands over kernel and initramfs word by word: there, unpacking is the smaller cost.
gzip -9 -n -k "$root/guest/initrd.img"
cp "$work/vmlinux" "$root/guest/vmlinux"    # PVH
cp "$stage/vmlinuz" "$root/guest/vmlinuz"   # HVM takes no other form.

# --- dom0's root.
mkdir -p "$root"/{dev,proc,sys,run,tmp,root,lab,var/lib/xen,var/lib/xenstored,var/log/xen}
rm -rf "$root"/var/{run,lock}
ln -s ../run "$root/var/run"
ln -s ../run/lock "$root/var/lock"
install -m 755 "$here/dom0/init" "$root/lab/init"
install -m 755 "$here/dom0/command" "$root/lab/command"
ln -sf gawk "$root/usr/bin/awk"
ln -sf dash "$root/usr/bin/sh"
echo 'root:x:0:0:root:/root:/bin/bash' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo 'hosts: files' > "$root/etc/nsswitch.conf"
printf 'autoballoon="off"\nvif.default.bridge="xenbr0"\n' >> "$root/etc/xen/xl.conf"
rm -rf "$root"/usr/share/{zoneinfo,perl*,python3,iso-codes} "$root"/boot
# Firmware of machines that no guest here is.
(cd "$root/usr/share/qemu" && rm -f skiboot.lid openbios-* opensbi-* palcode* s390* slof.bin hppa* \
  npcm* u-boot* QEMU,* bamboo* canyon*)

make_root() { mke2fs -q -t ext4 -O ^has_journal -m 0 -L dom0 -d "$root" "$stage/root.ext4" 1G > "$work/mke2fs.log"; }
# Owned by root in the image, whoever builds it.
if [ "$(id -u)" = 0 ]; then make_root; else
  export -f make_root
  export root stage work
  unshare -r bash -c make_root
fi

touch "$stage/complete"
chmod 755 "$stage"
# Two builds at once: the one that comes second finds the folder there and keeps it.
mv -T "$stage" "$out" 2> /dev/null || [ -e "$out/complete" ] || fail "cannot write $out"
done_with "$out"
