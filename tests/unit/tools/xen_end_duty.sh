#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# xen_end_duty.sh DUTY: ends of a domain of every kind, with an `xl` that prints what 4.17 prints and
# notes what it is asked to do.
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
  dump-core) echo "dump-core \$2" >> "$folder/done" ;;
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

store=$folder/xl/userdata-d.7.$uuid.libxl-json
mkdir -p "$folder/etc/auto" "$folder/libvirt"
echo -1 > "$folder/marked"
ends() { # REASON WHAT_LIBXL_KEEPS EXPECTED
  echo - > "$folder/reason"  # It runs when the duty begins.
  echo "$1" > "$folder/next"
  : > "$folder/done"
  rm -f "$store"
  [ -z "$2" ] || printf '{\n    "c_info": {\n        "name": "web"\n    },\n%b}\n' "$2" > "$store"
  PATH="$folder/bin:$PATH" "$duty" 7 "$folder/xl" "$folder/etc" "$folder/libvirt" 2> "$folder/said"
  [ "$(xargs < "$folder/done")" = "$3" ] || fail "$1 of $2: not \"$3\""
}

# What xl 4.17 has libxl keep of a configuration that says nothing of these.
default='    "on_reboot": "restart",\n    "on_soft_reset": "soft_reset"\n'
ends 0 "$default" 'destroy 7'
ends 3 "$default" 'destroy 7'
# Nothing says how to build it again.
ends 1 "$default" 'destroy 7'
grep -q 'web is not started again: no file' "$folder/said" || fail "no word about the missing one"
echo "name = 'other' # web" > "$folder/etc/auto/first.cfg"
echo 'name = "web" # one' > "$folder/etc/web-1.cfg"
ends 1 "$default" 'destroy 7 create name = web # one'
# "destroy" is left out by libxl.
ends 1 '    "on_soft_reset": "soft_reset"\n' 'destroy 7'
ends 3 '    "on_crash": "restart"\n' 'destroy 7 create name = web # one'
ends 4 '    "on_watchdog": "preserve"\n' ''
ends 3 '    "on_crash": "coredump_destroy"\n' 'dump-core 7 destroy 7'
# Promoted on this host.
ends 0 '' 'destroy 7'
ends 1 '' 'destroy 7 create name = web # one'
# Taken up again: another duty will begin when that libft lets go.
echo 1 > "$folder/marked"
ends 0 "$default" ''
echo -1 > "$folder/marked"
# Built anew from what libxl keeps; its duty begins at once: it is gone.
cp "$duty" "$folder/duty"
cat > "$folder/xen-adopt" << SH
#!/bin/sh
echo "\$1 \$(grep on_reboot "\$2")" >> "$folder/done"
echo 8
SH
chmod +x "$folder/duty" "$folder/xen-adopt"
duty=$folder/duty
ends 1 "$default" 'destroy 7 create on_reboot: restart,'
ends 0 "$default" 'destroy 7'
# It cannot.
printf '#!/bin/sh\nexit 1\n' > "$folder/xen-adopt"
ends 1 "$default" 'destroy 7 create name = web # one'
# libvirt's, which has a process of its own.
: > "$folder/libvirt/web.xml"
ends 0 "$default" ''
exit 0
