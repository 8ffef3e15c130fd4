#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# man.sh FOLDER LIBFT.H: each function of the header has a page, which names it and shows how it is
# called; every option is described; and no page offends the linter.
set -euo pipefail
folder=$1 header=$2
failed=0
complain() { echo "$*"; failed=1; }

for name in $(grep -oE '\bft_[a-z_]+\(' "$header" | tr -d '(' | sort -u); do
  page=$folder/$name.3
  [ -f "$page" ] || { complain "$name has no page"; continue; }
  grep -q "$name(" "$page" || complain "$page does not show how $name is called"
done
for struct in $(sed -nE 's/^typedef struct (ft_[a-z_]+_port|ft_[a-z]+_sink) \{/\1/p' "$header"); do
  grep -lq "typedef struct $struct" "$folder"/*.3 || complain "$struct is on no page"
done
for option in interval_us key_file tap; do
  grep -q "^\.B $option" "$folder"/ft_options.3 || complain "the option $option is not described"
done
for word in CALLS THREADS CALLBACKS OPERATIONS LIFETIME FORK MISUSE; do
  grep -q "^\.SS $word" "$folder"/libft.3 || complain "libft(3) lacks $word"
done

command -v mandoc > /dev/null || { echo "skipped: capi_man: no mandoc"; [ $failed = 0 ] && exit 77; exit 1; }
for page in "$folder"/*.3; do
  [ -L "$page" ] && continue
  mandoc -T lint -W warning "$page" || failed=1
  mandoc -T ascii "$page" > /dev/null || failed=1
done
exit $failed
