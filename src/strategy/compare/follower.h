// SPDX-License-Identifier: LGPL-2.1-or-later
// The Follower is the backup's half of a comparison: it has the guest run from a checkpoint, gives
// it what came in for the primary's, and collects what it says, under that checkpoint's name. What
// the world would not understand of it is rewritten, so that a promoted one goes on with the
// primary's connections.
// applied(), restart(), load(), stop() and take_over() on one thread at a time, which may be
// another one than that of the session; the rest on any thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "libft/compared_gate.h"
#include "libft/input_tap.h"
#include "libft/speculative_guest.h"
#include "strategy/compare/rewriter.h"
#include "wire/copies.h"

namespace libft::compare {

class Follower {
 public:
  // `says`: take_said() has something; told once, on any thread, and returns quickly.
  Follower(SpeculativeGuest& guest, ComparedGate& gate, InputTap& tap, const GuestId& id,
           std::function<void()> says);
  // Guest and gate stay as they are; what the guest says is rewritten as long as the gate lives.
  ~Follower() = default;

  // Checkpoint `id` is in the image, which it changed so. Whoever runs, runs on.
  void applied(EpochId id, const PageSet& pages);
  // The one that runs is stopped, and one runs from checkpoint `id`: `state`, and the image as it
  // is now. On failure none runs.
  Status restart(EpochId id, std::span<const std::byte> state);
  void stop();  // What it said and nobody took is forgotten.

  // Nobody runs from the newest checkpoint, which is to be the guest: `state` is loaded, on the
  // image as it is now, ready to be activated.
  Status load(std::span<const std::byte> state);
  // A guest from checkpoint `id` runs for the world: it gets all that came in since. True: the
  // world knows connections of it by other numbers than it does, and the gate goes on rewriting.
  bool take_over(EpochId id);

  // Where it runs from; none runs: nothing.
  std::optional<EpochId> from() const;

  // frames_in. What is for a later checkpoint's follower waits for it.
  Status on_frames_in(const wire::Frame& frame);
  std::vector<std::byte> take_said() { return said_->take(); }

 private:
  struct Kept {
    EpochId from;
    unsigned nic;
    std::vector<std::byte> bytes;
  };
  void give(unsigned nic, std::span<const std::byte> frame);
  void begin(EpochId id);
  void give_kept();                // REQUIRES: in_mutex_
  void forget_before(EpochId id);  // REQUIRES: in_mutex_

  static constexpr std::size_t kKeptBytesMax = 4u << 20;  // Beyond, copies are left out.

  SpeculativeGuest& guest_;
  ComparedGate& gate_;
  InputTap& tap_;

  // What the gate's threads use, as long as the gate lives.
  struct Said {
    Said(const GuestId& id, std::function<void()> tell)
        : says(std::move(tell)), copies(wire::FrameType::frames_out, id) {}
    void add(const EpochId& from, unsigned nic, std::span<const std::byte> frame);
    std::vector<std::byte> take();

    static constexpr std::size_t kBytesMax = 4u << 20;  // Beyond, copies are left out.
    std::mutex mutex;
    const std::function<void()> says;
    wire::CopiesWriter copies;
    bool told = false;
  };
  struct Rewriting {
    std::mutex mutex;
    Rewriter rewriter{RewriterOptions{}};
  };
  const std::shared_ptr<Said> said_;
  const std::shared_ptr<Rewriting> rewriting_ = std::make_shared<Rewriting>();

  mutable std::mutex in_mutex_;  // What comes in, in order.
  std::optional<EpochId> from_;
  std::deque<Kept> kept_;
  std::size_t kept_bytes_ = 0;
};

}  // namespace libft::compare
