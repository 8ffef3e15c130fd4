#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# packages.sh BUILD SOURCE: makes the Debian packages, unpacks them into an empty root, and builds and
# runs the examples with what is in there: by CMake's package, and by pkg-config.
set -euo pipefail
build=$1 source=$2
for tool in cpack dpkg-deb dpkg-shlibdeps pkg-config; do
  command -v $tool > /dev/null || { echo "skipped: packages: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

(cd "$build" && cpack -G DEB -B "$work/made" > "$work/cpack.log" 2>&1) || { cat "$work/cpack.log"; exit 1; }
for name in libft1 libft-dev libft-tools; do
  package=$(echo "$work"/made/${name}_*.deb)
  dpkg-deb --field "$package" Package Depends
  dpkg-deb -x "$package" "$root"
done
depends=$(dpkg-deb --field "$work"/made/libft1_*.deb Depends)
for library in libssl3 libcurl; do
  grep -q "$library" <<< "$depends" || { echo "libft1's modules need $library: $depends"; exit 1; }
done
grep -q libxen <<< "$depends" && { echo "libft1 depends on Xen: $depends"; exit 1; }

# libft-tools: ftd with its unit, and xl-ft, which reaches Xen's library through libft-xen only.
tools=$(echo "$work"/made/libft-tools_*.deb)
! grep -q libxen <<< "$(dpkg-deb --field "$tools" Depends)" || { echo "libft-tools depends on Xen"; exit 1; }
grep -q '^ExecStart=/usr/sbin/ftd$' "$root/usr/lib/systemd/system/ftd.service"
dpkg-deb -e "$tools" "$work/control"
grep -q '^drwxr-xr-x root/root .* \./etc/libft/$' <<< "$(dpkg-deb -c "$tools")" ||
  { echo "libft-tools has no /etc/libft that all may read"; exit 1; }
for script in postinst prerm postrm; do
  [ -x "$work/control/$script" ] && sh -n "$work/control/$script"
done
if command -v systemd-analyze > /dev/null; then
  sed 's|^ExecStart=.*|ExecStart=/bin/true|' "$root/usr/lib/systemd/system/ftd.service" > "$work/ftd.service"
  said=$(systemd-analyze verify "$work/ftd.service" 2>&1 | grep ftd.service || true)
  [ -z "$said" ] || { echo "ftd.service: $said"; exit 1; }
fi
lib=$(dirname "$(find "$root" -name libft.so.1)")
[ -f "$lib/libft/libft-tls.so" ] && [ -f "$root/usr/include/libft.h" ]
[ -f "$lib/libft/libft-preload.so" ]  # Which the QEMU driver of both needs.
man=$root/usr/share/man/man3
[ -f "$man/libft.3" ] && [ "$(readlink "$man/ft_options_set.3")" = ft_options.3 ] ||
  { echo "libft-dev has no manual pages in $man"; exit 1; }
for page in ftctl ftd xl-ft; do
  [ -f "$root/usr/share/man/man8/$page.8" ] || { echo "libft-tools has no manual page of $page"; exit 1; }
done
export LD_LIBRARY_PATH=$lib
"$root/usr/bin/ftctl" --version
"$root/usr/sbin/ftd" --version
"$root/usr/bin/xl-ft" --version

cmake -S "$source/examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$root/usr" > "$work/cmake.log" ||
  { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/examples" > "$work/build.log" || { cat "$work/build.log"; exit 1; }
for example in event_loop my_guest my_arbiter; do
  mkdir "$work/$example"
  "$work/examples/example_$example" "$work/$example"
done

if [ -x "$work/examples/example_protect_ml" ]; then "$work/examples/example_protect_ml"; fi

export PKG_CONFIG_PATH=$lib/pkgconfig
mkdir "$work/by_pkg_config"
# shellcheck disable=SC2046
cc -std=c11 -D_GNU_SOURCE "$source/examples/event_loop.c" -o "$work/linked" $(pkg-config --cflags --libs libft)
"$work/linked" "$work/by_pkg_config"

# With a key, so that the module is found where the package puts it.
"$root/usr/bin/ftctl" keygen "$work/key" > /dev/null
mkdir "$work/keyed"
LIBRARY=$lib/libft.so.1 python3 "$source/tests/capi/keyed.py" "$work/keyed" "$work/key"
