// SPDX-License-Identifier: LGPL-2.1-or-later
// Copies of what came in for the guest travel to the backup at once, so that a promoted guest can
// be given what arrived after the epoch it continues from. Best effort: bounded, dropped when full,
// and never waited for; the senders' own retransmission is what correctness rests on.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "libft/input_tap.h"
#include "libft/types.h"
#include "wire/frame.h"

namespace libft::session {

struct InputCopy {
  Epoch epoch;  // The epoch in which it came in.
  unsigned nic = 0;
  std::vector<std::byte> frame;
};

// Primary: collects copies on the gate's thread until the connection's sender takes them.
class InputForwarder {
 public:
  // `wake` is called, on the gate's thread, when copies wait and nobody was told yet.
  InputForwarder(InputTap& tap, std::function<void()> wake);
  ~InputForwarder();

  void set_epoch(Epoch current) { epoch_.store(current.value, std::memory_order_relaxed); }
  // Whole frames for all that waited, back to back.
  std::vector<std::byte> take(const GuestId& guest, Generation generation);

 private:
  static constexpr std::size_t kBytesMax = 1u << 20;
  InputTap& tap_;
  std::atomic<std::uint64_t> epoch_{0};
  std::mutex mutex_;
  std::vector<InputCopy> waiting_;
  std::size_t bytes_ = 0;
  bool told_ = false;
};

// Backup: keeps copies until their epoch is complete here.
class InputMemory {
 public:
  Status keep(const wire::Frame& frame);
  void forget_through(Epoch complete);
  void clear();
  std::size_t kept() const { return copies_.size(); }
  // Delivers what is left, oldest first; returns how many the guest's NICs took.
  std::size_t deliver(InputTap& tap);

 private:
  static constexpr std::size_t kBytesMax = 4u << 20;
  std::deque<InputCopy> copies_;
  std::size_t bytes_ = 0;
};

}  // namespace libft::session
