#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# in_folder.sh PROGRAM: runs it with a folder of its own, which goes afterwards.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" "$work"
