# SPDX-License-Identifier: LGPL-2.1-or-later
# What the tests with two ftctl processes on loopback share; they source it. A folder that goes with the test, two
# ports, and $pids, the processes that end with it.
folder=$(mktemp -d) || exit 1
mkdir "$folder/records"
port=$((20000 + $$ % 20000))
other=$((port + 2))
pids=
cleanup() {
  [ -n "$pids" ] && kill -9 $pids 2>/dev/null
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1"
  cat "$folder"/*.log
  exit 1
}
# until_code CODE COMMAND...: repeats it until it ends so; 60 s at most.
until_code() {
  wanted=$1
  shift
  tries=0
  while :; do
    "$@" >"$folder/said" 2>&1
    [ $? = "$wanted" ] && return 0
    tries=$((tries + 1))
    [ $tries -gt 300 ] && { cat "$folder/said"; fail "$* never ended with $wanted"; }
    sleep 0.2
  done
}
until_true() { until_code 0 "$@"; }
