#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh FTCTL CASE FOLDER: one run of the demo. CASE is a victim, `etcd`, `ftd`, `capi-VICTIM`,
# qemu_STRATEGY_VICTIM, or machine_STRATEGY_VICTIM for a guest on libft's own machine; or
# strategies-GUEST: each row of the table of strategies for that kind of guest, a second long. Exit
# code 77, with the reason, where this machine cannot run it.
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

json=$folder/demo-$case.json
rm -f "$json"
if [[ $case == strategies-* ]]; then
  guest=machine loads=("key-value server")
  if [ "$case" = strategies-qemu ]; then
    guest=$("$(dirname "$0")/../../../tools/lab/make-guest.sh" "$folder")
    loads=(Redis "web, connections kept" "web, a connection each" idle)
  fi
  document=$folder/$case.md
  printf '<!-- strategies -->\n<!-- /strategies -->\n' > "$document"
  "$ftctl" demo --strategies --guest "$guest" --seconds 1 --verbose --json "$json" --document "$document"
  for load in "${loads[@]}"; do
    grep -q ": $load, .* | checkpoint | " "$document" || { echo "$document lacks: $load"; exit 1; }
  done
  rows=$(grep -c '"asked"' "$json") answered=$(grep -c '"requests_per_s": [0-9.]*[1-9]' "$json")
  [ "$rows" = "$answered" ] || { echo "$json has a row without an answer"; exit 1; }
  [ "$rows" = "$(grep -c '"errors": 0,' "$json")" ] || { echo "$json has errors"; exit 1; }
  grep -q '"gap_at_failure_ms"' "$json" || { echo "$json says nothing of the failure"; exit 1; }
  exit 0
fi

strategy=checkpoint guest=qemu
if [[ $case == machine_* || $case == qemu_* ]]; then
  IFS=_ read -r guest strategy victim <<< "$case"
fi
if [ "$guest" = qemu ]; then
  guest=$("$(dirname "$0")/../../../tools/lab/make-guest.sh" "$folder")
fi
# Three runs in a row hit each of three replicas once.
more=()
[ "$victim" != corrupt ] || more=(--replicas 3 --runs 3)
# Two emulated guests, on a host that may have much to do, do not answer within 20 ms of one another.
[ "$strategy" != compare ] || more=(--answer-max 1000 --seconds 8)
"$ftctl" demo "${more[@]}" --victim "$victim" --arbiter "$arbiter" --through "$through" --guest "$guest" \
  --strategy "$strategy" --verbose \
  --json "$json" --html "$folder/demo-$case.html"

# The exit code said it already; this is what a script that reads the file relies on.
for expected in '"writes_lost": 0' '"outputs_contradicted": 0' '"connection_survived": true'; do
  grep -q "$expected" "$json" || { echo "$json lacks $expected"; exit 1; }
done
if [ "$strategy" = compare ]; then
  grep -Eq '[1-9][0-9]* frames left by comparison' "$json" || { echo "no frame left by comparison"; exit 1; }
fi
# Of three bits one may be overwritten before it matters, but hardly all of them.
if [ "$victim" = corrupt ]; then
  grep -q '"outvoted": true' "$json" || { echo "no lost bit of three was seen"; exit 1; }
fi
