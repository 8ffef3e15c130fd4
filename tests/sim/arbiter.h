// SPDX-License-Identifier: LGPL-2.1-or-later
// The SimArbiter holds the one record and answers late, wrongly never, and sometimes not at all: an
// unanswered swap may have landed, may land seconds later (also after its asker died), or never.
// Every landing is told to a listener: the oracle's truth.
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "libft/arbiter.h"
#include "sim/event_queue.h"
#include "sim/network.h"
#include "sim/random.h"

namespace libft::sim {

struct ArbiterManners {
  Nanos low = std::chrono::microseconds{500}, high = Millis{4};  // One way.
  unsigned unknown_permille = 0;      // Questions that get no answer though the arbiter is there.
  unsigned lands_permille = 600;      // Of the unanswered swaps: those that happen all the same,
  Nanos lands_within = Millis{1500};  // some time within this.
  unsigned doubled_permille = 0;      // Swaps that a retrying client sends twice.
};

class SimArbiter {
 public:
  SimArbiter(EventQueue& queue, Random random) : queue_(queue), random_(random) {}

  void create(const OwnershipRecord& record) { record_ = record; }
  const OwnershipRecord& truth() const { return record_; }
  void set_listener(std::function<void(const OwnershipRecord&)> listener) {
    landed_ = std::move(listener);
  }

  void ask_swap(int host, const OwnershipRecord& from, const OwnershipRecord& to,
                std::function<void(SwapAnswer)> answer);
  void ask_read(int host, std::function<void(ReadAnswer)> answer);

  ArbiterManners manners;
  std::array<bool, kHosts> cut_off{};  // That host cannot reach it.
  std::optional<Nanos>
      next_swap_lands_in;              // For scenarios: the next swap is unknown and lands then;
  bool next_swap_never_lands = false;  // or never does.
  std::uint64_t unknowns() const { return unknowns_; }

 private:
  SwapAnswer swap(const OwnershipRecord& from, const OwnershipRecord& to);
  bool unanswered(int host);
  void leave_unanswered(const OwnershipRecord& from, const OwnershipRecord& to,
                        const std::function<void(SwapAnswer)>& answer);

  EventQueue& queue_;
  Random random_;
  OwnershipRecord record_;
  std::function<void(const OwnershipRecord&)> landed_;
  std::uint64_t unknowns_ = 0;
};

}  // namespace libft::sim
