#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# man.sh FOLDER FTCTL FTD XL-FT: each tool has a page, every command and every option of the programs is on
# it, and no page offends the linter.
set -euo pipefail
folder=$1 ftctl=$2 ftd=$3 xl=$4
failed=0
complain() { echo "$*"; failed=1; }
words() { grep -oE '^  (-[a-z],)?(--)?[a-z][a-z-]+' | sed 's/^ *//;s/^-.,//' | grep -vx -- --help || true; }

# on_page PAGE PROGRAM [SUBCOMMAND]: what the program's --help lists.
on_page() {
  local page=$1 word
  for word in $("${@:2}" --help | sed '/^Exit codes/,$d;/^Positionals/,/^$/d' | words); do
    grep -q "^\.It .*${word//-/\\\\-}\b" "$folder/$page.8" || complain "$page.8 does not tell of $word (${*:3})"
  done
}

for page in ftctl ftd xl-ft xen-auto-guard xen-end-duty; do
  [ -s "$folder/$page.8" ] || complain "$page has no page"
done
on_page ftctl "$ftctl"
for command in protect standby status events forget upgrade doctor; do on_page ftctl "$ftctl" $command; done
on_page ftd "$ftd"
on_page xl-ft "$xl"
for command in protect list; do on_page xl-ft "$xl" $command; done

command -v mandoc > /dev/null || { echo "skipped: tools_man: no mandoc"; [ $failed = 0 ] && exit 77; exit 1; }
for page in "$folder"/*.8; do mandoc -T lint -W warning "$page" || failed=1; done
exit $failed
