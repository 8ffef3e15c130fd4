// SPDX-License-Identifier: LGPL-2.1-or-later
// Short names for the answers that every arbiter gives, and the checks that all of them share.
// Pure; any thread.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>

#include "libft/arbiter.h"

namespace libft::failover {

inline SwapAnswer won(OwnershipRecord record) { return {SwapOutcome::won, std::move(record), {}}; }
inline SwapAnswer lost(OwnershipRecord record) {
  return {SwapOutcome::lost, std::move(record), {}};
}
inline SwapAnswer unknown(std::string why) { return {SwapOutcome::unknown, {}, std::move(why)}; }

inline ReadAnswer read_found(OwnershipRecord record) {
  return {ReadAnswer::Outcome::found, std::move(record), {}};
}
inline ReadAnswer read_missing() { return {ReadAnswer::Outcome::missing, {}, {}}; }
inline ReadAnswer read_unknown(std::string why) {
  return {ReadAnswer::Outcome::unknown, {}, std::move(why)};
}

inline std::string missing_text(const GuestId& guest) {
  return fmt::format(
      "guest {} has no record, and a record that vanished is never made again: if no host runs the "
      "guest, protect it anew; else restore the record",
      guest.name());
}

// Whoever computes `to` from a record it read adds one; anything else is a defect of the caller,
// and answering unknown keeps the guest's output held.
inline std::optional<SwapAnswer> refuse_generation(const OwnershipRecord& from,
                                                   const OwnershipRecord& to) {
  if (to.generation == from.generation.next()) return std::nullopt;
  return unknown(fmt::format("a swap from generation {} to {} was asked for: a defect in libft",
                             from.generation.value, to.generation.value));
}

}  // namespace libft::failover
