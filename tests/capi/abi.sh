#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# abi.sh LIBFT.SO BASELINE HEADERS: what the library promises to those who were linked with it.
# `abi.sh --renew LIBFT.SO BASELINE HEADERS` makes the baseline anew: until 1.0, said in CHANGELOG.
set -euo pipefail
renew=no
[ "$1" = --renew ] && renew=yes && shift
library=$1 baseline=$2 headers=$3
failed=0

others=$(nm -D --defined-only "$library" | awk '$2 != "A" && $3 !~ /^ft_/ {print $3}')
[ -z "$others" ] || { echo "exported, and not of the ABI:" "$others"; failed=1; }

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for name in $needed; do
  case $name in
    libc.so.6 | libm.so.6 | libstdc++.so.6 | libgcc_s.so.1 | ld-linux*) ;;
    lib*san.so.* | libclang_rt.*) ;;
    *) echo "needs $name, which it may not drag into its host"; failed=1 ;;
  esac
done
grep -q 'SONAME.*\[libft.so.1\]' <<< "$(readelf -d "$library")" || { echo "its SONAME is not libft.so.1"; failed=1; }

# Every function that the header declares is there, under a version node, and no other.
declared=$(grep -oE '\bft_[a-z_]+\(' "$headers/libft.h" | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$library" | sed -n 's/.* \(ft_[a-z_]*\)@@LIBFT_.*/\1/p' | sort -u)
[ "$declared" = "$exported" ] || { echo "header and library differ:"; diff <(echo "$declared") <(echo "$exported") || true; failed=1; }

command -v abidiff > /dev/null || { echo "skipped: abidiff: no abigail-tools"; [ $failed = 0 ] && exit 77; exit 1; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
now=$work/now.abi
# What other headers there define is nobody's outside: handles are opaque.
mkdir "$work/public" && cp "$headers/libft.h" "$work/public"
abidw --headers-dir "$work/public" --drop-private-types --exported-interfaces-only --no-corpus-path --no-comp-dir-path \
  --no-show-locs --out-file "$now" "$library"
if [ $renew = yes ]; then cp "$now" "$baseline"; exit $failed; fi
abidiff "$baseline" "$now" || {
  echo "the ABI differs from $baseline"
  failed=1
}
exit $failed
