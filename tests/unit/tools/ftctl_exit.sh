#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# ftctl_exit.sh CODE TEXT PROGRAM ARGUMENTS...: runs it in an empty folder; it must end with CODE and
# say something that contains TEXT.
code=$1 text=$2
shift 2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
export XDG_RUNTIME_DIR="$folder"
cd "$folder" || exit 1
said=$("$@" 2>&1 </dev/null)
got=$?
echo "$said"
[ "$got" = "$code" ] || { echo "exit code $got, expected $code"; exit 1; }
case $said in *"$text"*) exit 0 ;; esac
echo "not said: $text"
exit 1
