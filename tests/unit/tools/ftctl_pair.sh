#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# ftctl_pair.sh FTCTL [GUEST]: protects a guest, one in memory if none is named, with two ftctl
# processes on loopback, kills one, sees the other take over, and the first find itself fenced; then a re-protection and an orderly end.
ftctl=$1 guest=${2:-memory:mib=16,pages=50}
. "$(dirname "$0")/pair.sh"
is_primary() { "$ftctl" list --state-dir "$folder/$1" | grep 'web *primary' >/dev/null; }
common="--name web --arbiter file:$folder/records"
# Becomes ftctl, so that the process that is killed is the one that was started.
start_primary() {
  exec "$ftctl" protect "$guest" $common --host a --listen "tcp:127.0.0.1:$port" \
    --state-dir "$folder/a" --epochs-log "$folder/epochs" >>"$folder/a.log" 2>&1
}
start_primary & primary=$!
pids="$pids $primary"
until_code 3 "$ftctl" status web --state-dir "$folder/a"
"$ftctl" standby $common --host b --peer "127.0.0.1:$port" --listen "tcp:127.0.0.1:$other" \
  --state-dir "$folder/b" >"$folder/b.log" 2>&1 & backup=$!
pids="$pids $backup"
until_true "$ftctl" status web --state-dir "$folder/a"
until_true "$ftctl" status web --state-dir "$folder/b"
"$ftctl" verify web --state-dir "$folder/a" || fail "verify"
"$ftctl" test-failover web --state-dir "$folder/b" || fail "test-failover"
"$ftctl" status nobody --state-dir "$folder/a" 2>/dev/null
[ $? = 4 ] || fail "the status of a guest that is not there"
"$ftctl" failover web --state-dir "$folder/a" 2>/dev/null
[ $? = 6 ] || fail "a failover on the primary must be refused"
[ -s "$folder/epochs" ] || fail "no epochs were logged"

kill -9 "$primary"
until_true is_primary b  # Under hybrid it has a log to execute first.
until_code 3 "$ftctl" status web --state-dir "$folder/b"  # The owner, and alone.
(start_primary)
[ $? = 5 ] || fail "the old primary was not fenced"

"$ftctl" standby $common --host a --peer "127.0.0.1:$other" --listen "tcp:127.0.0.1:$port" \
  --state-dir "$folder/a" >"$folder/a2.log" 2>&1 & again=$!
pids="$pids $again"
until_true "$ftctl" status web --state-dir "$folder/b"
kill -TERM "$backup"
wait "$backup" || fail "an orderly end after a switch-over is success"
until_true is_primary a
"$ftctl" stop --state-dir "$folder/a" || fail "stop"
wait "$again" || fail "stop ends ftctl in order"
echo "protected, failed over, fenced, protected again, switched over"
