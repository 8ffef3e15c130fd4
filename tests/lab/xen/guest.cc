// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/guest.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "lab/hosts.h"

namespace libft::lab {
namespace {

constexpr std::array<std::pair<GuestKind, std::string_view>, 4> kNames = {{
    {GuestKind::pvh, "pvh"},
    {GuestKind::pvh_two, "pvh2"},
    {GuestKind::hvm, "hvm"},
    {GuestKind::hvm_bare, "hvm-bare"},
}};

// Without a serial port and early PCI scans: under emulation these took a minute and more.
std::string kernel_arguments(GuestKind kind) {
  std::string words = "quiet panic=-1 mitigations=off tsc=reliable";
  if (kind == GuestKind::hvm) words += " console=hvc0 pci=noearly iommu=off";
  if (kind == GuestKind::hvm_bare) words += " console=ttyS0 xen_nopv pci=noearly iommu=off";
  // `xl shutdown` has its kernel call a program that is not there.
  if (kind != GuestKind::hvm && kind != GuestKind::hvm_bare)
    words += " console=hvc0 \"sysctl.kernel.poweroff_cmd=/bin/busybox poweroff -f\"";
  if (kind == GuestKind::pvh_two) words += " libft.second=10.77.0.11/24";
  return words + fmt::format(" libft.ip={}/24 libft.observer={}", kGuestAddress, kClientAddress);
}

std::string quoted(const std::string& text) {
  return text.find('"') == std::string::npos ? '"' + text + '"' : '\'' + text + '\'';
}

}  // namespace

std::string_view to_string(GuestKind kind) {
  for (const auto& [value, name] : kNames) {
    if (value == kind) return name;
  }
  return "?";
}

std::optional<GuestKind> guest_kind_from(std::string_view name) {
  for (const auto& [value, its_name] : kNames) {
    if (its_name == name) return value;
  }
  return std::nullopt;
}

std::string xl_config(const XenGuest& guest) {
  const bool hvm = guest.kind == GuestKind::hvm || guest.kind == GuestKind::hvm_bare;
  const char* second = guest.kind == GuestKind::pvh_two ? ", 'mac=00:16:3e:77:01:10'" : "";
  std::string text =
      fmt::format("name = \"{}\"\ntype = \"{}\"\nmemory = {}\nmaxmem = {}\nvcpus = {}\n",
                  guest.name, hvm ? "hvm" : "pvh", guest.memory_mib, guest.memory_mib,
                  guest.kind == GuestKind::pvh_two ? 2 : 1);
  text += fmt::format(
      "kernel = \"/guest/{}\"\nramdisk = \"/guest/{}\"\nextra = {}\n"
      "vif = ['mac=00:16:3e:77:00:10{}'{}]\n",
      hvm ? "vmlinuz" : "vmlinux", hvm ? "initrd.img.gz" : "initrd.img",
      quoted(kernel_arguments(guest.kind)), guest.kind == GuestKind::hvm_bare ? ",model=e1000" : "",
      second);
  if (hvm) text += "vga = \"none\"\nvnc = 0\nsdl = 0\nusb = 0\nacpi = 1\n";
  if (guest.kind == GuestKind::hvm_bare) text += "serial = \"pty\"\n";
  return text;
}

}  // namespace libft::lab
