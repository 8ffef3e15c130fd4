#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# ftctl_manual.sh FTCTL: two ftctl processes on loopback that a person decides between. The primary
# dies, and nothing happens until `ftctl failover` says that it did.
ftctl=$1
. "$(dirname "$0")/pair.sh"
is() { # HOST ROLE: what the guest is there.
  "$ftctl" list --state-dir "$folder/$1" | grep -q "web *$2"
}
tells() { # HOST EVENT
  "$ftctl" events web --state-dir "$folder/$1" | grep -q " $2 "
}
common="--name web --manual-failover"
"$ftctl" protect memory:mib=16,pages=50 $common --host a --listen "tcp:127.0.0.1:$port" \
  --state-dir "$folder/a" >"$folder/a.log" 2>&1 & primary=$!
pids=$primary
"$ftctl" standby $common --host b --peer "127.0.0.1:$port" --listen "tcp:127.0.0.1:$other" \
  --state-dir "$folder/b" >"$folder/b.log" 2>&1 & backup=$!
pids="$pids $backup"
until_true "$ftctl" status web --state-dir "$folder/a"
until_true "$ftctl" status web --state-dir "$folder/b"

kill -9 "$primary"
wait "$primary" 2>/dev/null
until_true tells b suspected
# That nothing happens can only be waited for: an automatic backup asks the arbiter 25 ms after this.
sleep 2
is b backup || fail "it took over by itself"
"$ftctl" failover web --state-dir "$folder/b" || fail "ftctl failover"
is b primary || fail "it does not own the guest"
tells b promoted || fail "no event says so"
[ "$("$ftctl" status web --state-dir "$folder/b" >/dev/null 2>&1; echo $?)" = 3 ] ||
  fail "alone, it must not call itself protected"

# What the dead life left on host a stays while the record there names it, and goes once it does not.
"$ftctl" standby $common --host a --peer "127.0.0.1:$other" --listen "tcp:127.0.0.1:$port" \
  --state-dir "$folder/a" >"$folder/a2.log" 2>&1 & again=$!
pids="$pids $again"
until_true "$ftctl" status web --state-dir "$folder/a"
nothing_left() { ! ls "$folder/$1"/*.guest.json; }
until_true nothing_left a
kill -9 "$again"
wait "$again" 2>/dev/null
"$ftctl" stop --state-dir "$folder/b" || fail "stop"
wait "$backup" || fail "stop ends ftctl in order"
echo "protected; alone, it waited; told to, it took over; nothing of the dead life was left"
