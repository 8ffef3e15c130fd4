#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# xen_auto_guard.sh GUARD FTCTL: a host that comes up, with records as failovers leave them. The
# guard reads ftctl's configuration, which must be where it always is: a `ftctl` before it in PATH
# names another one.
guard=$1 ftctl=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $1"; cat "$folder/said"; exit 1; }

mkdir -p "$folder/bin" "$folder/auto" "$folder/arbiter"
here=$(printf '%032d' 1) there=$(printf '%032d' 2)
record() { # GUEST OWNER IN-SYNC ENDED
  mkdir -p "$folder/arbiter/$1"
  printf '{"generation":2,"owner":"%s","in_sync":[%s],"ended":%s}' "$2" "$3" "$4" \
    > "$folder/arbiter/$1/2.json"
}
guest() { printf '# a guest\ntype = "pvh"\n  name = "%s"\nmemory = 128\n' "$1" > "$folder/auto/$1.cfg"; }
record elsewhere "b/$there" "\"b/$there\"" false
record held "a/$here" "\"a/$here\",\"b/$there\"" false
record alone "a/$here" "\"a/$here\"" false
record over "b/$there" "\"b/$there\"" true
for name in elsewhere held alone over unknown new; do guest $name; done
echo 'memory = 1' > "$folder/auto/nameless.cfg"
cat > "$folder/ftctl.json" << JSON
{"host": "a", "arbiter": "file:$folder/arbiter", "guests": {"new": {"guest": "xen:new"}}}
JSON
printf '#!/bin/sh\nexec "%s" "$@" --config "%s"\n' "$ftctl" "$folder/ftctl.json" > "$folder/bin/ftctl"
chmod +x "$folder/bin/ftctl"

PATH="$folder/bin:$PATH" "$guard" "$folder/auto" "$folder/to" 2> "$folder/said" || fail "the guard failed"
[ "$(ls "$folder/to" | xargs)" = "alone.cfg over.cfg unknown.cfg" ] || fail "started: $(ls "$folder/to" | xargs)"
grep -q 'elsewhere is not started.*owned by b/' "$folder/said" || fail "no word about elsewhere"
grep -q 'held is not started.*a backup holds its state' "$folder/said" || fail "no word about held"
grep -q 'new is not started.*no record' "$folder/said" || fail "no word about new"
grep -q 'nameless.cfg' "$folder/said" || fail "no word about nameless.cfg"

# The arbiter does not answer: nothing starts.
mv "$folder/arbiter" "$folder/gone"
PATH="$folder/bin:$PATH" "$guard" "$folder/auto" "$folder/to" 2> "$folder/said"
[ -z "$(ls "$folder/to")" ] || fail "started without an answer: $(ls "$folder/to" | xargs)"
# No ftctl: nothing starts, and whoever asked is told so.
PATH=/usr/bin:/bin "$guard" "$folder/auto" "$folder/to" 2> "$folder/said" && fail "no ftctl, no error"
[ -z "$(ls "$folder/to")" ] || fail "started without ftctl: $(ls "$folder/to" | xargs)"
exit 0
