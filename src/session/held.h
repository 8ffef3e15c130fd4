// SPDX-License-Identifier: LGPL-2.1-or-later
// What a session that stands still (Session::hold) hands to the one that takes its place, perhaps
// in another process and of another release: which replica it was, and how far. Values; any thread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "wire/message.h"

namespace libft::session {

struct Held {
  enum class Role : std::uint8_t { primary = 1, backup = 2 };
  Role role = Role::primary;
  Incarnation primary, backup;  // Both are in the record.
  Generation generation;
  // Primary: captured, acknowledged and released. Backup: complete and applied.
  EpochId newest;
  bool guest_paused = false;     // By its owner.
  wire::GuestShape shape;        // Of this replica's guest.
  std::vector<std::byte> state;  // Backup: the device state of `newest`.

  bool operator==(const Held&) const = default;
};

std::vector<std::byte> encode(const Held& held, const GuestId& guest);
// Code::unsupported: of a release that says it otherwise. Code::corrupt: damaged, or another
// guest's.
Result<Held> decode_held(std::span<const std::byte> bytes, const GuestId& guest);

}  // namespace libft::session
