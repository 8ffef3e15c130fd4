#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh CASE FTCTL STRANGE_PEER TINY_GUEST: brings one kind of trouble upon ftctl, and checks that
# what it says names the cause and what helps, and that the guest goes on. Exit code 77, with the
# reason, where this machine cannot run it.
set -euo pipefail

case=$1 ftctl=$2 strange_peer=$3 tiny_guest=$4
skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*"; tail -n 40 "$work"/*.log; exit 1; }

command -v qemu-system-x86_64 > /dev/null || skip "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
if [[ $case == full_* && -z ${FT_OWN_MOUNTS:-} ]]; then
  unshare -rm true 2> /dev/null || skip "neither root nor user namespaces here"
  FT_OWN_MOUNTS=1 exec unshare -rm "$0" "$@"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/libft-trouble-XXXXXX")
pids=()
end() {
  # ftctl detaches the guests that it starts; their command lines name our folder.
  local pid
  for pid in "${pids[@]}" $(grep -lsF "$work" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill -9 "$pid" 2> /dev/null || true
  done
  wait 2> /dev/null || true
  umount "$work/small" 2> /dev/null || true
  rm -rf "$work"
}
trap end EXIT
mkdir "$work"/{arbiter,primary,backup,small}
cp "$tiny_guest" "$work/kernel"

# --- looking ------------------------------------------------------------------------------------

# eventually SECONDS COMMAND...
eventually() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || return 1
    sleep 0.05
  done
}
says() { grep -qF -- "$2" "$work/$1.log"; }
expect_says() { # WHO WORDS...: all of them, in one line.
  local who=$1 lines word
  shift
  eventually 60 says "$who" "$1" || fail "$who never said: $1"
  lines=$(cat "$work/$who.log")
  for word in "$@"; do
    lines=$(grep -F -- "$word" <<< "$lines") || fail "$who said nothing with all of: $*"
  done
}
memory_of() { find "/proc/$1/fd" -lname '/memfd:memory-backend-memfd*' 2> /dev/null | head -n 1; }
# The guest's own counter, or, where its memory cannot be seen from outside, QEMU's processor time.
steps_of() {
  local memory
  memory=$(memory_of "$1")
  if [ -n "$memory" ] && [ -z "${private:-}" ]; then
    od -An -tu4 -j $((0x200000)) -N4 "$memory"
  else
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f12
  fi
}
advanced() { [ "$(steps_of "$1")" -gt "$2" ]; }
expect_runs() {
  local before
  kill -0 "$1" || fail "the guest's process ended"
  before=$(steps_of "$1")
  eventually 60 advanced "$1" "$before" || fail "the guest stands still"
}

# --- acting -------------------------------------------------------------------------------------

# guest [ARGUMENTS...]: a guest that somebody else started. Sets $guest and $qmp.
guest() {
  qmp=$work/qmp
  qemu-system-x86_64 -display none -nodefaults -accel tcg -kernel "$work/kernel" \
    -qmp "unix:$qmp,server=on,wait=off" "$@" > "$work/qemu.log" 2>&1 &
  guest=$!
  pids+=("$guest")
  eventually 60 test -S "$qmp" || fail "QEMU did not start"
}
protectable=(-m 64M -object "memory-backend-memfd,id=ram,size=64M,share=on"
  -machine pc,memory-backend=ram -global migration.send-configuration=off)
here() { # ROLE: the options that both sides have in this test.
  options=(--name tiny --arbiter "${arbiter:-file:$work/arbiter}" --state-dir "${state:-$work/$1}"
    --listen tcp:127.0.0.1:0 --host "$1")
}
# protect CODE [OPTIONS...]: is refused with this exit code.
protect() {
  local code=0 expected=$1
  shift
  here primary
  timeout 60 "$ftctl" protect "qemu:pid=$guest,qmp=$qmp" "${options[@]}" "$@" \
    > "$work/primary.log" 2>&1 || code=$?
  [ $code = "$expected" ] || fail "exit code $code instead of $expected"
}
# protecting [OPTIONS...]: goes on in the background. Sets $primary and $address.
protecting() {
  here primary
  : > "$work/primary.log"  # Here: what an earlier one said must not be taken for this one's words.
  "$ftctl" protect "qemu:pid=$guest,qmp=$qmp" "${options[@]}" "$@" > "$work/primary.log" 2>&1 &
  primary=$!
  pids+=("$primary")
  expect_says primary "listening on tcp:"
  address=$(grep -m 1 -o 'listening on tcp:.*' "$work/primary.log" | cut -d' ' -f3)
  eventually 60 answers || fail "protect did not begin"
}
answers() { [ "$(status_code)" != 4 ]; }
status_code() {
  local code=0
  "$ftctl" status --state-dir "${state:-$work/primary}" > "$work/status.log" 2>&1 || code=$?
  echo $code
}
is_protected() { [ "$(status_code)" = 0 ]; }
standing_by() { # [OPTIONS...]
  here backup
  "$ftctl" standby --peer "$address" "${options[@]}" "$@" > "$work/backup.log" 2>&1 &
  backup=$!
  pids+=("$backup")
}

# --- the cases ------------------------------------------------------------------------------------

small_and_full() {
  mount -t tmpfs -o size=64k tmpfs "$work/small"
  head -c 65536 /dev/zero > "$work/small/full"
}

wrong_qmp() {
  guest "${protectable[@]}"
  qmp=$work/elsewhere protect 4
  expect_says primary "$work/elsewhere" "No such file" "-qmp unix:PATH,server=on,wait=off"
}
foreign_process() {
  guest "${protectable[@]}"
  sleep 1000 &
  pids+=($!)
  local real=$guest
  guest=$! protect 1
  expect_says primary "cannot be protected" "memory-backend-memfd"
  guest=$real
}
foreign_qmp() {
  guest "${protectable[@]}"
  local first=$guest
  rm "$work/qmp"
  guest "${protectable[@]}"
  guest=$first protect 2
  expect_says primary "$work/qmp" "process $guest" "not to process $first" "one and the same QEMU"
  expect_runs "$first"
}
private_memory() {
  guest -m 64M -global migration.send-configuration=off
  private=1
  protect 1
  expect_says primary "not shared" "share=on"
}
writable_disk() {
  truncate -s 1M "$work/disk"
  guest "${protectable[@]}" -drive "file=$work/disk,format=raw,if=virtio"
  protect 1
  expect_says primary "$work/disk" "writable" "readonly=on"
}
writable_disk_of_run() {
  guest "${protectable[@]}"  # Somebody else's, which notices nothing.
  printf '#!/bin/sh\ntouch "%s/started"\n' "$work" > "$work/qemu"
  chmod +x "$work/qemu"
  local code=0
  here primary
  timeout 60 "$ftctl" run "${options[@]}" -- "$work/qemu" -nodefaults \
    -drive "file=$work/disk,format=raw,if=virtio" > "$work/primary.log" 2>&1 || code=$?
  [ $code = 1 ] || fail "exit code $code instead of 1"
  expect_says primary "$work/disk" "no gate covers disks" "readonly=on"
  [ ! -e "$work/started" ] || fail "QEMU was started nevertheless"
}
taken_over() { # [OPTIONS...] of the standby: the primary and its guest die, the backup goes on.
  guest "${protectable[@]}"
  protecting
  standing_by "$@"
  eventually 90 is_protected || fail "the guest is not protected"
  kill -9 "$primary" "$guest"
  expect_says backup "promoted"
  guest=$(grep -o 'process [0-9]*: QEMU' "$work/backup.log" | tail -n 1 | grep -o '[0-9]*')
}
input_again() {
  taken_over
  expect_says backup "input_redelivered"
}
take_over_is_done() {  # Its duration is known only after what was kept has been delivered.
  local status
  status=$("$ftctl" status --json --state-dir "$work/backup" 2> /dev/null) || true  # 3: alone.
  grep -Eq '"takeover_ms": ?[0-9.]*[1-9]' <<< "$status"
}
no_input_again() {
  taken_over --no-redeliver-input
  eventually 60 take_over_is_done || fail "the take-over does not end"
  ! says backup "input_redelivered" || fail "input is delivered again nevertheless"
}
killed_in_pause() {
  guest "${protectable[@]}" -S  # As a checkpoint whose ftctl was killed leaves it.
  protecting
  expect_says primary "the guest stands still" "--resume"
  [ "$(steps_of "$guest")" -eq 0 ] || fail "ftctl set a guest running that its owner may have stopped"
  kill -9 "$primary"
  wait "$primary" 2> /dev/null || true
  protecting --resume
  expect_says primary "is set running"
}
full_state() {
  guest "${protectable[@]}"
  small_and_full
  state=$work/small protecting
  state=$work/small
  expect_says primary "No space left" "restarted ftctl will not find the guest" "free space"
  rm "$work/small/full"
  expect_says primary "a restarted ftctl will find the guest again"
  kill -9 "$primary"
  wait "$primary" 2> /dev/null || true
  protecting
  expect_says primary "process $guest"
}
full_arbiter() {
  guest "${protectable[@]}"
  small_and_full
  arbiter=file:$work/small protect 1
  expect_says primary "$work/small" "No space left" "free space"
}
full_epochs_log() {
  guest "${protectable[@]}"
  protecting --epochs-log /dev/full
  standing_by
  expect_says primary "epochs log /dev/full" "No space left" "free space"
  eventually 60 is_protected || fail "the guest is not protected"
}
impossible_epochs_log() {
  guest "${protectable[@]}"
  protect 1 --epochs-log "$work/nowhere/epochs"
  expect_says primary "epochs log $work/nowhere/epochs" "No such file or directory"
  expect_says primary "remedy:" "a folder that exists"
  expect_runs "$guest"
}
port_in_use() {
  guest "${protectable[@]}"
  protecting
  local first=$guest
  rm "$work/qmp"
  guest "${protectable[@]}"
  mkdir "$work/second"
  state=$work/second protect 1 --name other --listen "$address"
  expect_says primary "${address#tcp:}" "Address already in use"
  expect_says primary "remedy:" "--listen"
  expect_runs "$first"
}
heartbeat_port_in_use() {
  guest "${protectable[@]}"
  local port=$((20000 + RANDOM % 10000))
  protecting --heartbeat "127.0.0.1:$port"
  rm "$work/qmp"
  guest "${protectable[@]}"
  mkdir "$work/second"
  state=$work/second protect 1 --name other --heartbeat "127.0.0.1:$port"
  expect_says primary "heartbeats" "127.0.0.1:$port" "Address already in use"
  expect_says primary "remedy:" "--heartbeat"
}
strange_backup() { # WHAT
  guest "${protectable[@]}"
  protecting
  "$strange_peer" backup "$address" tiny "$1" > "$work/peer.log" 2>&1 || fail "no refusal"
}
other_version() {
  strange_backup version
  expect_says peer "protocol" "install the same release of libft on both"
  expect_says primary "backup_refused" "protocol" "install the same release"
}
less_memory() {
  strange_backup memory
  expect_says peer "64 MiB" "1 MiB free" "free memory there, or use another host"
  expect_says primary "backup_refused" "free memory there"
}
other_qemu() {
  guest "${protectable[@]}"
  protecting
  local real=$address
  address=unix:$work/between
  "$strange_peer" between "$address" "$real" tiny > "$work/peer.log" 2>&1 &
  pids+=($!)
  expect_says peer "listening"
  standing_by
  expect_says backup "QEMU" "5.0.0" "equal builds only" "install the same package"
  expect_says peer "refused:" "5.0.0"
}
wrong_key() {
  guest "${protectable[@]}"
  "$ftctl" keygen "$work/one.key"
  "$ftctl" keygen "$work/two.key"
  protecting --key-file "$work/one.key"
  standing_by --key-file "$work/two.key"
  expect_says backup "not_connected" "key" "both hosts"
  expect_says primary "key" "both hosts"
}
no_key() {
  guest "${protectable[@]}"
  protect 6 --listen tcp:0.0.0.0:0
  expect_says primary "is not on this host, and there is no key"
  expect_says primary "remedy:" "ftctl keygen" "--insecure"
}
garbage() {
  guest "${protectable[@]}"
  protecting
  local port=${address##*:}
  head -c 100000 /dev/urandom > "/dev/tcp/127.0.0.1/$port" || true
  printf 'GET / HTTP/1.0\r\n\r\n' > "/dev/tcp/127.0.0.1/$port" || true
  expect_says primary "127.0.0.1" "corrupt" "is the other side libft"
  standing_by
  eventually 90 is_protected || fail "a real backup does not join afterwards"
}
arbiter_hangs() {
  guest "${protectable[@]}"
  mkdir "$work/arbiter/tiny"
  mkfifo "$work/arbiter/tiny/1.json"  # Opening it for reading waits for a writer.
  protect 1
  expect_says primary "$work/arbiter" "no answer in time"
  expect_says primary "remedy:" "ftctl doctor --arbiter"
}
arbiter_hangs_later() {
  guest "${protectable[@]}"
  protecting
  standing_by
  eventually 90 is_protected || fail "the guest is not protected"
  mkfifo "$work/arbiter/tiny/999999.json"
  kill -9 "$backup"
  expect_says primary "no answer in time"
  [ "$(status_code)" = 3 ] || fail "status does not say that the guest is unprotected"
}
arbiter_missing() {
  guest "${protectable[@]}"
  arbiter=file:$work/not-there protect 1
  expect_says primary "$work/not-there" "is it made, and mounted?"
}
etcd_unreachable() {
  guest "${protectable[@]}"
  arbiter=etcd:http://127.0.0.1:1 protect 1
  expect_says primary "http://127.0.0.1:1" "connect"
  expect_says primary "remedy:" "ftctl doctor --arbiter"
}

declare -F "$case" > /dev/null || fail "no such case"
"$case"
expect_runs "$guest"
echo "$case: as it should be"
