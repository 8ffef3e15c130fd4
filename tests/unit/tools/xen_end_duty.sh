#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# xen_end_duty.sh DUTY: ends of a domain of every kind, with an `xl` that prints what 4.17 prints and
# notes what it is asked to do. tests/lab/xen/life_test.cc has the real one.
duty=$1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $1"; cat "$folder"/said "$folder"/done; exit 1; }
uuid=01234567-89ab-cdef-0123-456789abcdef

mkdir -p "$folder/bin" "$folder/xl"
cat > "$folder/bin/xl" << SH
#!/bin/sh
case \$1 in
  domname) echo web ;;
  list)
    [ -e "$folder/reason" ] || exit 1
    echo 'Name ID Mem VCPUs State Time(s) UUID Reason-Code Security Label'
    echo "web 7 192 1 --ps-- 12.3 $uuid \$(cat "$folder/reason") -"
    [ "\$(cat "$folder/reason")" != - ] || echo "\$(cat "$folder/next")" > "$folder/reason"
    ;;
  create) echo "create \$(cat "\$2")" >> "$folder/done" ;;
  destroy) rm -f "$folder/reason"; echo "\$*" >> "$folder/done" ;;
  *) echo "\$*" >> "$folder/done" ;;
esac
SH
printf '#!/bin/sh\necho /vm/%s\n' $uuid > "$folder/bin/xenstore-read"
# The mark of a libft that has the domain: after so many questions.
cat > "$folder/bin/xenstore-exists" << SH
#!/bin/sh
left=\$(cat "$folder/marked")
echo \$((left - 1)) > "$folder/marked"
[ \$left = 0 ]
SH
chmod +x "$folder/bin/"*

config=$folder/xl/userdata-d.7.$uuid.xl
echo -1 > "$folder/marked"
ends() { # REASON CONFIGURATION EXPECTED
  echo - > "$folder/reason"  # It runs when the duty begins.
  echo "$1" > "$folder/next"
  : > "$folder/done"
  rm -f "$config"
  [ -z "$2" ] || printf '%b' "$2" > "$config"
  PATH="$folder/bin:$PATH" "$duty" 7 "$folder/xl" 2> "$folder/said"
  [ "$(xargs < "$folder/done")" = "$3" ] || fail "$1 of $2: not \"$3\""
}

ends 0 'name = "web"' 'destroy 7'
ends 1 'name = "web"' 'destroy 7 create name = web'
ends 3 'name = "web"' 'destroy 7'
ends 1 'on_reboot = "destroy"\n' 'destroy 7'
ends 3 "  on_crash='restart'\n" 'destroy 7 create on_crash=restart'
ends 4 'on_watchdog="preserve"\n' ''
# Promoted on this host: nothing says how to build it again.
ends 1 '' 'destroy 7'
grep -q 'web is not started again: no configuration' "$folder/said" || fail "no word about the missing one"
# Taken up again: another duty will begin when that libft lets go.
echo 1 > "$folder/marked"
ends 0 'name = "web"' ''
echo -1 > "$folder/marked"
# Another toolstack's, which has a process of its own.
: > "$folder/xl/userdata-d.7.$uuid.libxl-json"
ends 0 '' ''
exit 0
