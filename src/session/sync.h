// SPDX-License-Identifier: LGPL-2.1-or-later
// The first synchronisation: all memory while the guest runs, in rounds, each with what was written
// during the one before, until little is left. SyncRounds decides (session's thread); send_round
// copies and encodes (the connection's sender thread).
#pragma once

#include <vector>

#include "libft/guest.h"
#include "libft/session.h"
#include "strategy/checkpoint/epoch_encoder.h"

namespace libft::session {

constexpr std::uint64_t kSyncPagesAPiece = 256;  // 1 MiB of 4 KiB pages: fits the larger caches.

PageSet all_pages(const GuestInfo& info);

// Copies `pages` from the guest's memory, piece by piece, and sends each piece. A page that the
// guest writes meanwhile may be torn: it is in the next round's set, or in the joining epoch's.
Status send_round(const GuestInfo& info, const PageSet& pages, Generation generation,
                  checkpoint::EpochEncoder& encoder, const checkpoint::FrameSink& sink);

// Appends the bytes of `pages`, back to back. REQUIRES: all of them are the guest's.
void copy_pages(const GuestInfo& info, const PageSet& pages, std::vector<std::byte>& copy);

// The same as send_round for pages that were copied before.
Status send_copied(const GuestInfo& info, const PageSet& pages, std::span<const std::byte> copy,
                   Generation generation, checkpoint::EpochEncoder& encoder,
                   const checkpoint::FrameSink& sink);

// When to stop sending rounds.
class SyncRounds {
 public:
  SyncRounds(std::uint32_t rounds_max, std::uint64_t pages_left)
      : rounds_max_(rounds_max), pages_left_(pages_left) {}

  // `written`: pages to go after the rounds so far. True: few enough, or sending more of them does
  // not help, because the guest writes as fast as they are sent.
  bool converged(std::uint64_t written);
  std::uint32_t round() const { return round_; }

 private:
  std::uint32_t rounds_max_;
  std::uint64_t pages_left_;
  std::uint32_t round_ = 0;
};

}  // namespace libft::session
