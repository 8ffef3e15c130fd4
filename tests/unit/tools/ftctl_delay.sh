#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# ftctl_delay.sh FTCTL IMAGE: a standby that executes 3 s late on purpose, with a guest on libft's machine: the delay is
# kept, is no lag for the primary, is refused where it means nothing, and a take-over executes the rest.
ftctl=$1 image=$2
. "$(dirname "$0")/pair.sh"
lag_ms() {
  "$ftctl" status web --json --state-dir "$folder/$1" | sed -n 's/.*"follow_lag_ms":\([0-9]*\).*/\1/p' | head -1
}
lag_is() { [ "$(lag_ms "$1")" "$2" "$3" ]; }
says() { grep -q "$2" "$folder/$1.log"; }
is_primary() { "$ftctl" list --state-dir "$folder/b" | grep -q 'web *primary'; }

common="--name web --arbiter file:$folder/records"
"$ftctl" protect "machine:$image,mib=8" --strategy hybrid $common --host a --listen "tcp:127.0.0.1:$port" \
  --state-dir "$folder/a" >"$folder/a.log" 2>&1 & primary=$!
pids="$pids $primary"
"$ftctl" standby $common --host b --delay 3 --peer "127.0.0.1:$port" --listen "tcp:127.0.0.1:$other" \
  --state-dir "$folder/b" >"$folder/b.log" 2>&1 & backup=$!
pids="$pids $backup"
until_true says b "to execute late, and under hybrid it executes nothing"

until_true "$ftctl" strategy web replay --state-dir "$folder/a"
until_true "$ftctl" status web --state-dir "$folder/a"
until_true lag_is b -ge 2500
until_true lag_is a -lt 1000
until_true lag_is b -le 3500

kill -9 "$primary"
until_true is_primary
says b "executing_rest" || fail "nothing was left to execute"
"$ftctl" stop --state-dir "$folder/b" || fail "stop"
wait "$backup" || fail "stop ends ftctl in order"
echo "refused, late by choice, taken over"
