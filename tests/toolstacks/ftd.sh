#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# ftd.sh CASE FTD FTCTL [MORE...]: two ftds, as on two hosts, and guests in memory between them.
set -euo pipefail
case=$1 ftd=$2 ftctl=$3
folder=$(mktemp -d "${TMPDIR:-/tmp}/libft-ftd-XXXXXX")
port=$((20000 + RANDOM % 20000))
declare -A daemons=()
end() {
  # ftd leaves the guests' ftctls alive on purpose; their command lines name our folder.
  local pid
  for pid in "${daemons[@]}" $(grep -lsF "$folder" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill -9 "$pid" 2> /dev/null || true
  done
  wait 2> /dev/null || true
  rm -rf "$folder"
}
trap end EXIT
fail() {
  echo "FAILED: $*"
  tail -n 30 "$folder"/*.log "$folder"/?/*.log
  exit 1
}
eventually() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || fail "never: $*"
    sleep 0.1
  done
}
mkdir "$folder/records"

start() { # SIDE [OPTIONS...]: a host's ftd, which is left to itself as a service is.
  local side=$1
  shift
  "$ftd" --state-dir "$folder/$side" --ftctl "$ftctl" "$@" >> "$folder/$side.log" 2>&1 &
  daemons[$side]=$!
  eventually 60 test -S "${socket:-$folder/$side/ftd.sock}"
}
stop() { # SIDE SIGNAL
  kill "-$2" "${daemons[$1]}"
  wait "${daemons[$1]}" 2> /dev/null || true
}
on() { # SIDE COMMAND...: ftctl there.
  local side=$1
  shift
  "$ftctl" "$@" --state-dir "$folder/$side"
}
of() { # SIDE GUEST KEY: of its status.
  on "$1" status "$2" --json 2> /dev/null | python3 -c '
import json, sys
status = json.load(sys.stdin)
for key in sys.argv[1].split("."): status = status[key]
print(status)' "$3"
}
is() { [ "$(of "$1" "$2" "$3" || true)" = "$4" ]; }
protected() { on "$1" status "$2" > /dev/null 2>&1; }
newer_epoch() { [ "$(of "$1" "$2" epoch_captured)" -gt "$3" ]; }  # SIDE GUEST EPOCH
common() { # SIDE OTHER-PORT PORT
  options=(--arbiter "file:$folder/records" --host "$1" --peer "tcp:127.0.0.1:$2"
    --listen "tcp:127.0.0.1:$3")
}
pair() { # GUEST [PORT]: protected, the primary on a.
  local name=$1 at=${2:-$port}
  common a $((at + 2)) "$at"
  # `protect` takes no --peer: ftd's primary has one for the time when it is the backup.
  on a protect "${guest:-memory:mib=8,pages=20}" --name "$name" "${options[@]}"
  common b "$at" $((at + 2))
  on b standby --name "$name" "${options[@]}"
  eventually 60 protected a "$name"
  eventually 60 protected b "$name"
}

# What a restart must not touch: the same processes, the same epochs going on, no page sent again.
restart() {
  start a
  start b
  pair web
  local side pid_a pid_b sent epoch signal
  pid_a=$(of a web keeper.pid) pid_b=$(of b web keeper.pid)
  sent=$(of a web sync_pages_sent) epoch=$(of a web epoch_captured)
  for signal in TERM KILL; do
    for side in a b; do
      stop "$side" $signal
      start "$side"
      eventually 30 protected "$side" web
      [ "$(of a web keeper.pid)/$(of b web keeper.pid)" = "$pid_a/$pid_b" ] || fail "another process"
    done
  done
  [ "$(of a web role)/$(of b web role)" = primary/backup ] || fail "a role changed"
  [ "$(of a web failovers)/$(of b web failovers)" = 0/0 ] || fail "a failover"
  [ "$(of a web sync_pages_sent)" = "$sent" ] || fail "memory was copied again"
  [ "$(of a web reprotects)" = 1 ] || fail "protected again"
  eventually 10 newer_epoch a web "$epoch"
  [ "$(on a events web | grep -c ' protected ')" = 1 ] || fail "events are told twice, or forgotten"
}

# The primary's ftctl is killed: the backup takes over, and the old host backs it, by itself.
killed() {
  start a
  start b
  pair web
  kill -9 "$(of a web keeper.pid)"
  eventually 60 is b web role primary
  eventually 60 is a web role backup
  eventually 60 protected b web
  eventually 60 protected a web
  # And back, in order: the one that handed over becomes the backup again.
  on b switchover web
  eventually 60 is a web role primary
  eventually 60 is b web role backup
  eventually 60 protected a web
  on b failover web
  eventually 60 is b web role primary
  eventually 60 is a web role backup
  eventually 60 protected b web
}

# Boot: nothing of the old processes is left but what was stored.
boot() {
  start a
  start b
  pair web
  local pid
  pid=$(of a web keeper.pid)
  stop a KILL
  kill -9 "$pid"
  find "$folder/a" -maxdepth 1 -type f -delete  # As /run is after a boot.
  rm -f "$folder"/a/*.sock
  eventually 60 is b web role primary
  start a
  eventually 60 protected b web
  is a web role backup || fail "the host that came back is no backup"
}

maintenance() {
  start a
  start b
  pair web
  guest=memory:mib=4 pair db $((port + 4))
  on b forget db
  eventually 60 is a db protected False
  ! on a maintenance on 2> "$folder/said.log" || fail "a guest without a backup does not stop it"
  grep -q 'no peer can take db' "$folder/said.log" || fail "no word about db"
  protected a web || fail "web was moved although db cannot be"
  on a forget db
  grep -q 'no guest runs' <<< "$(on a maintenance on)" || fail "maintenance"
  is b web role primary || fail "web did not move"
  is a web role none || fail "something of web still runs on a"
  is a web state maintenance || fail "a does not say why"
  ! on a protect memory: --name new --arbiter "file:$folder/records" 2> "$folder/said.log" ||
    fail "a guest is started in maintenance"
  grep -q 'maintenance off' "$folder/said.log" || fail "no remedy"
  stop a TERM
  start a  # Also after a restart.
  is a web state maintenance || fail "maintenance is forgotten"
  on a maintenance off
  eventually 60 protected b web
  is a web role backup || fail "a does not back web again"
}

# What a person sees: events with everything in them, the hook, metrics, and refusals that help.
told() {
  printf '#!/bin/sh\necho "$FT_GUEST $FT_EVENT $FT_ROLE" >> "%s/hooked"\ncat >> "%s/hooked.json"\n' \
    "$folder" "$folder" > "$folder/hook"
  chmod +x "$folder/hook"
  start a --on-event "$folder/hook" --events-file "$folder/events.jsonl" --metrics 127.0.0.1:0
  start b
  "$ftctl" keygen "$folder/key" > /dev/null
  pair web
  eventually 30 grep -q 'web protected primary' "$folder/hooked"
  python3 - "$folder/hooked.json" "$folder/events.jsonl" << 'PY' || fail "events"
import json, sys
for name in sys.argv[1:]:
    events = [json.loads(line) for line in open(name)]
    told = [event for event in events if event["event"] == "protected"]
    assert len(told) == 1, told
    for key in ("guest", "time", "at_s", "text", "role", "state", "generation", "epoch", "uuid"):
        assert key in told[0], key
PY
  grep -Eq 'web: primary protecting PROTECTED; event=protected uuid=- epoch=[0-9]+ generation=[0-9]+ .*cause: ' \
    "$folder/a.log" || fail "no line for the change of state"
  local url
  url=$(grep -o 'http://[^ ]*' "$folder/a.log" | head -n 1)
  python3 -c 'import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())' \
    "$url" > "$folder/metrics"
  grep -q '^libft_protected{guest="web"} 1$' "$folder/metrics" || fail "metrics over HTTP"
  grep -q '^libft_role{guest="web",role="primary"' <<< "$(on a metrics)" || fail "ftctl metrics"
  on a verify web > /dev/null || fail "verify through ftd"
  on b test-failover web > /dev/null || fail "test-failover through ftd"
  local code=0
  on a status nobody 2> /dev/null || code=$?
  [ $code = 4 ] || fail "the status of a guest that is not there: $code"
  ! on a protect memory: --name web --arbiter "file:$folder/records" 2> "$folder/said.log" || fail "twice"
  grep -q 'kept up here already' "$folder/said.log" || fail "no word about twice"
  ! on a protect memory: --name bad --listen tcp:0.0.0.0:0 --arbiter "file:$folder/records" \
    2> "$folder/said.log" || fail "no key"
  grep -q 'keygen' "$folder/said.log" || fail "no remedy for a missing key"
  ! grep -q bad <<< "$(on a list)" || fail "what could not be started is kept"
  ! on a stop 2> "$folder/said.log" || fail "stop ends all at once"
  grep -q 'forget' "$folder/said.log" || fail "no remedy for stop"
  on a bugreport "$folder/report.tar.gz" > /dev/null
  tar -xzf "$folder/report.tar.gz" -C "$folder"
  grep -q '"web"' "$folder/libft-bugreport/status.json" || fail "no status in the report"
  ! grep -rqF "$(cat "$folder/key")" "$folder/libft-bugreport" || fail "a key in the report"
  grep -q forgotten <<< "$(on a forget web)" || fail "forget"
  eventually 60 is b web role primary  # A protected guest is moved first.
  [ ! -e "$folder/a/protections/web.protection.json" ] || fail "it is still stored"
  local file
  for file in "$folder"/a/protections/*.json "$folder"/a/*.json; do
    [ ! -e "$file" ] || [ "$(stat -c %a "$file")" = 600 ] || fail "$file is not only its owner's"
  done
}

# Members of the group look; only the owner changes.
group() {
  [ "$(id -u)" = 0 ] && command -v setpriv > /dev/null || { echo "skipped: ftd_group: not root"; exit 77; }
  mkdir "$folder/open"
  socket=$folder/open/socket start a --group nogroup --socket "$folder/open/socket"
  chmod 711 "$folder"
  chmod 755 "$folder/open"
  local ask='
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n"); print(s.makefile().readline())'
  asked() { setpriv --reuid=65534 --regid="$1" --clear-groups /usr/bin/python3 -c "$ask" "$folder/open/socket" "$2" 2>&1; }
  # Not through a pipe to grep -q: what it does not read breaks whoever still writes.
  answers() { # USER-GROUP COMMAND TEXT
    asked "$1" "$2" > "$folder/said.log" || true
    grep -q "$3" "$folder/said.log"
  }
  may_look() { answers nogroup '{"command": "status"}' '"ok":true'; }
  eventually 10 may_look  # A socket is there before it is the group's.
  answers nogroup '{"command": "forget", "guest": "web"}' 'may only look' || fail "the group may change"
  answers daemon '{"command": "status"}' 'Permission denied' || fail "anybody may look"
}

# A new ftctl is installed: each host's part of the guest is started anew, and the guest is back.
upgrade() {
  cp "$ftctl" "$folder/ftctl"
  ftctl=$folder/ftctl
  start a
  start b
  pair web
  is a web keeper.outdated False || fail "it is outdated before anything was installed"
  cp "$folder/ftctl" "$folder/new" && mv "$folder/new" "$folder/ftctl"
  is a web keeper.outdated True || fail "what was installed is not noticed"
  local old=$(of a web keeper.pid)
  ! on a upgrade 2> "$folder/said.log" || fail "which guest?"
  ! on a upgrade nobody 2> "$folder/said.log" || fail "a guest that there is not"
  on a upgrade web
  is b web role primary && is a web role backup || fail "web was not handed over"
  protected a web || fail "it said so before web was protected again"
  is a web keeper.outdated False && ! kill -0 "$old" 2> /dev/null || fail "the old ftctl is still there"
  on b upgrade --all
  is a web role primary && is b web role backup || fail "web did not come back"
  is b web keeper.outdated False || fail "b is outdated"
  grep -q 'every guest' <<< "$(on a upgrade --all)" || fail "nothing is outdated any more"
  ! grep -q ' suspected ' <<< "$(on a events web)" || fail "somebody suspected somebody"
  old=$(of b web keeper.pid)
  on b upgrade web  # A backup, in its place.
  is a web role primary && is b web role backup || fail "roles changed for a backup's sake"
  ! is b web keeper.pid "$old" || fail "the backup is the old process"
  on b forget web
  eventually 30 is a web protected False
  ! on a upgrade web 2> "$folder/said.log" || fail "a guest without a backup was moved"
  grep -q 'no backup' "$folder/said.log" || fail "no reason"
  is a web role primary || fail "web does not run any more"
}

# What the package's removal does: guests are moved away first, and one that cannot go keeps it here.
purge() {
  local prerm=$4 side
  start a
  start b
  pair web
  for side in a b; do
    mkdir "$folder/$side.bin"
    printf '#!/bin/sh\ncommand=$1\nshift\nexec "%s" "$command" --state-dir "%s" "$@"\n' \
      "$ftctl" "$folder/$side" > "$folder/$side.bin/ftctl"
    printf '#!/bin/sh\necho "$@" >> "%s/systemctl"\n' "$folder" > "$folder/$side.bin/systemctl"
    chmod +x "$folder/$side.bin"/*
  done
  local pid
  pid=$(of a web keeper.pid)
  PATH=$folder/a.bin:$PATH "$prerm" upgrade 0.2 > "$folder/said.log"
  kill -0 "$pid" || fail "an upgrade ended a guest's ftctl"
  PATH=$folder/a.bin:$PATH "$prerm" remove > "$folder/said.log" || fail "the removal"
  grep -q 'web: forgotten' "$folder/said.log" || fail "no word about web"
  is b web role primary || fail "web was not moved"
  ! kill -0 "$pid" 2> /dev/null || fail "its ftctl still runs"
  [ -z "$(ls "$folder"/a/*.guest.json "$folder"/a/protections/* 2> /dev/null)" ] || fail "something is left"
  ! PATH=$folder/b.bin:$PATH "$prerm" remove 2> "$folder/said.log" || fail "a guest was cut off"
  grep -q 'web would end' "$folder/said.log" || fail "no reason"
  is b web role primary || fail "web does not run any more"
}

# Xen's tool, with a guest in memory in a domain's place.
xl() {
  local xl=$4
  start a
  start b
  mkdir "$folder/ft"
  local conf=$folder/libft.json
  printf '{"arbiter": "file:%s/records"}\n' "$folder" > "$conf"
  ask() { "$xl" --conf "$conf" --ft-dir "$folder/$1.ft" --state-dir "$folder/$1" "${@:2}"; }
  mkdir "$folder"/{a,b}.ft
  printf '{"guest": "memory:mib=4", "host": "a", "listen": "tcp:127.0.0.1:%d"}\n' "$port" > "$folder/a.ft/web.json"
  printf '{"host": "b", "listen": "tcp:127.0.0.1:%d"}\n' $((port + 2)) > "$folder/b.ft/web.json"
  ask a protect web "127.0.0.1:$((port + 2))"
  ask b receive web "127.0.0.1:$port"
  eventually 60 protected a web
  ask a list | grep -Eq '^web +- +primary +b +protecting +[0-9]+ +[0-9.]+$' || { ask a list; fail "list"; }
  ask b list | grep -Eq '^web +- +backup +a +in_sync ' || { ask b list; fail "list of the backup"; }
  grep -q PROTECTED <<< "$(ask a status web)" || fail "status"
  ask b failover web
  eventually 60 is b web role primary
  ! ask a status nobody 2> /dev/null || fail "status of nobody"
}

# xapi's calling convention.
xapi() {
  start a
  LIBFT_SOCKET=$folder/a/ftd.sock LIBFT_FTCTL=$ftctl python3 "$4" "$5" "$folder/records" "$port"
}

"$case" "$@"
echo "$case: as it should be"
