// SPDX-License-Identifier: LGPL-2.1-or-later
// The guests of the Xen lab: the other lab's guest (Redis, and a sender of beats), as a domain of
// each kind that libft protects. A value; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace libft::lab {

enum class GuestKind {
  pvh,
  pvh_two,   // Of everything two: vCPUs, and interfaces, by which its beats leave in turn.
  hvm,       // With Xen's drivers beside its device model.
  hvm_bare,  // Without: an emulated card, and nothing in the guest that knows of Xen.
};

std::string_view to_string(GuestKind kind);  // "pvh", "pvh2", "hvm", "hvm-bare"
std::optional<GuestKind> guest_kind_from(std::string_view name);

struct XenGuest {
  GuestKind kind = GuestKind::pvh;
  std::string name = "guest";
  unsigned memory_mib = 192;  // The kernel and an initramfs with Redis need about 150.
};

// For `xl create`.
std::string xl_config(const XenGuest& guest);

}  // namespace libft::lab
