#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# old_binaries.sh LIBFT.SO SOURCE: programs that were compiled with the baseline's header, and linked
# with a library that has the baseline's functions and versions and nothing else, run with the
# library of today.
set -euo pipefail
library=$1 source=$2
baseline=$source/capi/abi/libft-baseline.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/include" "$work/then"
cp "$baseline" "$work/include/libft.h"

# What stands in for the library of then: empty functions under its version node.
functions=$(grep -oE '\bft_[a-z_]+\(' "$baseline" | tr -d '(' | sort -u)
for name in $functions; do echo "void $name(void) {}"; done > "$work/then.c"
{ echo 'LIBFT_0.1 { global:'; for name in $functions; do echo "$name;"; done; echo 'local: *; };'; } > "$work/then.map"
cc -shared -fPIC -Wl,-soname,libft.so.1 -Wl,--version-script="$work/then.map" -o "$work/then/libft.so" "$work/then.c"

newer=$(cmp -s "$baseline" "$source/capi/libft.h" && echo no || echo yes)
echo "the baseline has $(wc -w <<< "$functions") functions; today's header differs from it: $newer"
export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$library")
for program in "$source"/examples/{event_loop,my_guest,my_arbiter}.c "$source/tests/capi/every_port.c"; do
  name=$(basename "$program" .c)
  cc -std=c11 -D_GNU_SOURCE -I"$work/include" -I"$source/examples" "$program" -o "$work/$name" -L"$work/then" -lft
  mkdir "$work/run-$name"
  echo "--- $name"
  "$work/$name" "$work/run-$name" | tail -n 3
done
