#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-guests.sh: builds the bare-metal guests beside this script into images/, which is committed, for
# hosts without the cross compiler. The same compiler makes the same bytes.
set -euo pipefail
cd "$(dirname "$0")"
cross=riscv64-linux-gnu-
command -v ${cross}gcc > /dev/null || {
  echo "make-guests.sh: ${cross}gcc is missing: apt-get install gcc-riscv64-linux-gnu" >&2
  exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p images
for guest in bank bench kv race share; do
  ${cross}gcc -O2 -Wall -Wextra -march=rv64imac_zicsr -mabi=lp64 -mcmodel=medany -ffreestanding -fno-builtin \
    -fno-pic -no-pie -fno-asynchronous-unwind-tables -nostdlib -static -Wl,--build-id=none \
    -Wl,-T,guest.ld -o "$work/$guest" start.S $guest.c
  ${cross}objcopy -O binary "$work/$guest" images/$guest.bin
done
ls -l images
