#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# booted_inside.sh: on a host that systemd has booted, installs the packages in /booted/debs, protects
# two guests, restarts, kills, upgrades and purges ftd under them. The other host is an ftd of the
# same release in a folder of its own.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp
other=/booted/other
fail() {
  echo "FAILED: $*"
  journalctl --no-pager -u ftd 2> /dev/null | tail -n 20 || true
  tail -n 20 /var/log/libft/*.log $other/*.log 2> /dev/null || true
  exit 1
}
eventually() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || fail "never: $*"
    sleep 0.2
  done
}
there() { "$other/ftctl" "$@" --state-dir $other/state; }
of() { # COMMAND GUEST KEY: of its status there (`ftctl` here, `there`).
  "$1" status "$2" --json 2> /dev/null | python3 -c '
import json, sys
status = json.load(sys.stdin)
for key in sys.argv[1].split("."): status = status[key]
print(status)' "$3" 2> /dev/null
}
is() { [ "$(of "$1" "$2" "$3" || true)" = "$4" ]; }
protected() { "$1" status "$2" > /dev/null 2>&1; }
ftd_is_another() { [ "$(systemctl show -p MainPID --value ftd)" != "$1" ] && ftctl list > /dev/null 2>&1; }
network() { ip -o link | cut -d: -f2 && tc qdisc; } # Devices and queues.

# Which guest is served by which process, and how its memory got to the backup.
untouched() {
  local name
  for name in web kv; do
    echo "$name $(of ftctl $name keeper.pid) $(of ftctl $name failovers) $(of ftctl $name reprotects)" \
      "$(of ftctl $name sync_pages_sent)"
  done
}

as_at_first() { [ "$(untouched)" = "$first" ]; }

echo "--- installed"
[ "$(cat /proc/1/comm)" = systemd ] || fail "process 1 is no systemd"
dpkg -i /booted/debs/libft1_*.deb /booted/debs/libft-tools_*.deb > /tmp/dpkg.log 2>&1 ||
  { cat /tmp/dpkg.log && fail "dpkg -i"; }
[ "$(systemctl is-active ftd)/$(systemctl is-enabled ftd)" = active/enabled ] || fail "ftd does not run"
ftctl keygen /etc/libft/key || fail "no place for a key" # Where the manual makes it.
rm /etc/libft/key
said=$(systemd-analyze verify /lib/systemd/system/ftd.service 2>&1 | grep ftd || true)
[ -z "$said" ] || fail "systemd-analyze verify: $said"
systemd-analyze security --no-pager --threshold=85 ftd.service | tail -n 1 || fail "ftd.service is too open"

echo "--- protected"
ip tuntap add tap0 mode tap
ip tuntap add tap1 mode tap
ip link set tap0 up
ip link set tap1 up
before=$(network)
mkdir -p $other/state /booted/records
cp /usr/bin/ftctl /usr/sbin/ftd $other
$other/ftd --state-dir $other/state --ftctl $other/ftctl > $other/ftd.log 2>&1 &
eventually 30 test -S $other/state/ftd.sock
port=7100
pair() { # GUEST-SPEC NAME [OPTION-HERE OPTION-THERE]
  local common=(--name "$2" --arbiter file:/booted/records) port_there=$((port + 2))
  ftctl protect "$1" "${common[@]}" --host a --listen "127.0.0.1:$port" --peer "127.0.0.1:$port_there" ${3:+--tap "$3"}
  there standby "${common[@]}" --host b --listen "127.0.0.1:$port_there" --peer "127.0.0.1:$port" ${4:+--tap "$4"}
  eventually 60 protected ftctl "$2"
  eventually 60 protected there "$2"
  port=$((port + 4))
}
pair memory:mib=8,pages=20 web
pair machine:/booted/kv.bin,mib=8 kv tap0 tap1
first=$(untouched)
echo "$first"

for how in "systemctl restart ftd" "systemctl kill --kill-whom=main -s KILL ftd" "dpkg -i /booted/debs/libft-tools_*.deb"; do
  echo "--- $how"
  pid=$(systemctl show -p MainPID --value ftd)
  # shellcheck disable=SC2086
  $how > /tmp/how.log 2>&1 || { cat /tmp/how.log && fail "$how"; }
  eventually 30 ftd_is_another "$pid"
  for name in web kv; do eventually 30 protected ftctl $name; done
  eventually 30 as_at_first  # Counted from the beginning: what was touched never is as it was.
done

echo "--- ftctl upgrade --all"
for name in web kv; do is ftctl $name keeper.outdated True || fail "$name: the new package is not noticed"; done
ftctl upgrade --all
for name in web kv; do
  is ftctl $name keeper.outdated False || fail "$name is still served by the old ftctl"
  is there $name role primary || fail "$name was not handed over"
  there switchover $name
  eventually 60 is ftctl $name role primary
  eventually 60 protected ftctl $name
done

echo "--- apt-get purge"
apt-get purge -y libft-tools libft1 > /tmp/purge.log 2>&1 || { cat /tmp/purge.log && fail "apt-get purge"; }
grep forgotten /tmp/purge.log || { cat /tmp/purge.log && fail "no word about the guests"; }
for name in web kv; do is there $name role primary || fail "$name was not moved"; done
[ "$(systemctl is-active ftd)" = inactive ] || fail "ftd still runs"
[ -z "$(find /etc/systemd -name 'ftd*')" ] || fail "ftd is still enabled"
for pid in $(pgrep -f '^/usr/(bin/ftctl|sbin/ftd)' || true); do
  fail "still running: $(tr '\0' ' ' < "/proc/$pid/cmdline")"
done
left=$(find /run/libft /run/ftd /var/lib/libft /var/log/libft /etc/libft /usr/lib/x86_64-linux-gnu/libft* /usr/bin/ftctl \
  /usr/sbin/ftd 2> /dev/null || true)
[ -z "$left" ] || fail "files are left: $left"
! grep -E '/run/(libft|ftd)' /proc/net/unix || fail "sockets are left"
[ "$(network)" = "$before" ] || { network && echo "before: $before" && fail "the network is not what it was"; }
! dpkg -l 'libft*' 2> /dev/null | grep -E '^.. +libft' | grep -v '^un' || fail "packages are left"
echo "as it should be"
