#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# keyed.sh LIBFT.SO FTCTL: a pair with a key, by the TLS module of the build folder.
set -euo pipefail
command -v python3 > /dev/null || { echo "skipped: capi_keyed: no python3"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$2" keygen "$work/key" > /dev/null
mkdir "$work/records"
LIBRARY=$1 python3 "$(dirname "$0")/keyed.py" "$work/records" "$work/key"
