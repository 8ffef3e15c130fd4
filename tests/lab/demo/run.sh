#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh FTCTL CASE FOLDER: one run of the demo. CASE is a victim, `etcd`, `ftd`, `capi-VICTIM`, or
# machine_STRATEGY_VICTIM for a guest on libft's own machine. Exit code 77, with the reason, where this
# machine cannot run it.
set -euo pipefail

ftctl=$1 case=$2 folder=$3
skip() { echo "skipped: $*"; exit 77; }

command -v qemu-system-x86_64 > /dev/null || skip "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
unshare -rn true 2> /dev/null || skip "neither root nor user namespaces here"
[ -r /dev/net/tun ] && [ -w /dev/net/tun ] || skip "/dev/net/tun is not there or not open to this user"
victim=${case#capi-} arbiter=file through=ftctl
[ "$victim" = "$case" ] || through=capi
if [ "$case" = etcd ]; then
  command -v etcd > /dev/null || skip "no etcd (apt-get install etcd-server)"
  victim=primary arbiter=etcd
fi
if [ "$case" = ftd ]; then
  victim=primary through=ftd
fi

strategy=checkpoint
if [[ $case == machine_* ]]; then
  IFS=_ read -r guest strategy victim <<< "$case"
else
  guest=$("$(dirname "$0")/../../../tools/lab/make-guest.sh" "$folder")
fi
# Three runs in a row hit each of three replicas once.
more=()
[ "$victim" != corrupt ] || more=(--replicas 3 --runs 3)
json=$folder/demo-$case.json
rm -f "$json"
"$ftctl" demo "${more[@]}" --victim "$victim" --arbiter "$arbiter" --through "$through" --guest "$guest" \
  --strategy "$strategy" --verbose \
  --json "$json" --html "$folder/demo-$case.html"

# The exit code said it already; this is what a script that reads the file relies on.
for expected in '"writes_lost": 0' '"outputs_contradicted": 0' '"connection_survived": true'; do
  grep -q "$expected" "$json" || { echo "$json lacks $expected"; exit 1; }
done
# Of three bits one may be overwritten before it matters, but hardly all of them.
if [ "$victim" = corrupt ]; then
  grep -q '"outvoted": true' "$json" || { echo "no lost bit of three was seen"; exit 1; }
fi
