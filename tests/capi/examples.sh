#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# examples.sh NAME FOLDER-OF-PROGRAMS LIBFT.SO: runs one example to its end, as its first lines say.
set -euo pipefail
name=$1 programs=$2 library=$3
here=$(dirname "$0")
work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2> /dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

# waits FILE TEXT: until a line of the file begins with the text.
waits() {
  for _ in $(seq 600); do
    grep -q "^$2" "$1" 2> /dev/null && return 0
    sleep 0.1
  done
  echo "no '$2' within a minute:" && cat "$1" && return 1
}

case $name in
  protect)
    common=(name=web arbiter=file:"$work")
    "$programs"/example_protect options > "$work"/options
    grep -q interval_us "$work"/options
    "$programs"/example_protect primary guest=memory:mib=8 host=a listen=unix:"$work"/a "${common[@]}" \
      > "$work"/a.log 2>&1 & pids+=($!)
    waits "$work"/a.log started
    "$programs"/example_protect backup peer=unix:"$work"/a host=b listen=unix:"$work"/b "${common[@]}" \
      > "$work"/b.log 2>&1 & pids+=($!)
    waits "$work"/a.log protected
    waits "$work"/b.log in_sync
    kill -9 "${pids[0]}"
    waits "$work"/b.log promoted
    grep promoted "$work"/b.log
    # What cannot be is refused, with cause and remedy.
    ! "$programs"/example_protect primary name=x listen=tcp:192.0.2.1:7070 2> "$work"/no || exit 1
    cat "$work"/no && grep -q remedy "$work"/no ;;
  my_transport)
    command -v socat > /dev/null || { echo "skipped: my_transport: no socat"; exit 77; }
    "$programs"/example_my_transport "$work" socat - UNIX-CONNECT:"$work"/a.sock ;;
  protect.py)
    command -v python3 > /dev/null || { echo "skipped: protect.py: no python3"; exit 77; }
    python3 "$here"/../../examples/protect.py "$work" "$library" ;;
  protect.ml)
    [ -x "$programs"/example_protect_ml ] || { echo "skipped: protect.ml: no ocamlopt (apt-get install ocaml-nox)"; exit 77; }
    "$programs"/example_protect_ml ;;
  *) "$programs"/example_"$name" "$work" ;;
esac
