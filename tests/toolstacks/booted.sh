#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# booted.sh BUILD SOURCE: makes the Debian packages, and boots a host in which they are installed: this
# machine's files under an overlay that is forgotten afterwards, with a systemd of its own as process
# 1, in namespaces. What happens there is in booted_inside.sh. Needs root and nothing else of the machine.
set -euo pipefail
build=$1 source=$2
skip() { echo "skipped: booted: $*" && exit 77; }
[ "$(id -u)" = 0 ] || skip "not root"
[ -x /lib/systemd/systemd ] || skip "no systemd (apt-get install systemd)"
grep -qw overlay /proc/filesystems || skip "the kernel has no overlay"
cgroups=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
[ -n "$cgroups" ] || skip "no cgroup2 is mounted"
for tool in cpack dpkg apt-get unshare ip; do
  command -v $tool > /dev/null || skip "no $tool"
done

work=$(mktemp -d)
cgroup=$cgroups/libft-booted.$$
end() {
  echo $$ > "$cgroups/cgroup.procs"
  echo 1 > "$cgroup/cgroup.kill"
  for _ in $(seq 100); do
    grep -q 'populated 0' "$cgroup/cgroup.events" && break
    sleep 0.1
  done
  find "$cgroup" -depth -type d -exec rmdir {} \;
  rm -rf "$work"
}
mkdir "$cgroup"
trap end EXIT

mkdir "$work"/{debs,overlay,out}
(cd "$build" && cpack -G DEB -D CPACK_COMPONENTS_ALL="library;tools" -B "$work/debs" > "$work/cpack.log" 2>&1) ||
  { cat "$work/cpack.log" && exit 1; }
cp "$source/tests/toolstacks/booted_inside.sh" "$source/tests/guests/machine/images/kv.bin" "$work/out"

cat > "$work/enter" << 'END'
set -eu
work=$1 root=$1/overlay/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/overlay"
mkdir "$work/overlay/upper" "$work/overlay/scratch" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/overlay/upper,workdir=$work/overlay/scratch" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$root/$folder"; done
mkdir "$root/dev/shm" "$root/dev/net" "$root/booted"
for node in null zero full random urandom net/tun; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mount --bind "$work/out" "$root/booted"
mkdir "$root/booted/debs"
cp "$work"/debs/*.deb "$root/booted/debs"
ip link set lo up

# Nothing of this machine's own is started.
rm -rf "$root"/etc/systemd/system/*
cat > "$root/etc/systemd/system/booted.target" << 'UNIT'
[Unit]
Wants=booted.service
UNIT
cat > "$root/etc/systemd/system/booted.service" << 'UNIT'
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c 'bash /booted/booted_inside.sh > /booted/said 2>&1; echo $? > /booted/code; systemctl --force --force exit'
KillMode=process
UNIT
exec chroot "$root" env -i container=libft PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=booted.target --log-target=console --log-level=warning --show-status=0
END
echo $$ > "$cgroup/cgroup.procs"
timeout 240 unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup \
  sh "$work/enter" "$work" > "$work/systemd.log" 2>&1 || true  # Its process 1 is killed in the end.
cat "$work/out/said" || { cat "$work/systemd.log" && exit 1; }
exit "$(cat "$work/out/code" || echo 1)"
