// SPDX-License-Identifier: LGPL-2.1-or-later
// What the tests of the checkpoint strategy stand on: guests that are only memory, a staging arena
// on the heap, and the way from an encoder's sink to an assembler. One thread.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <random>

#include "base/bytes.h"
#include "libft/executor.h"
#include "libft/guest.h"
#include "libft/staging_arena.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "strategy/checkpoint/epoch_encoder.h"
#include "wire/frame.h"

namespace libft::test {

using Bytes = std::vector<std::byte>;
using Random = std::mt19937_64;

class HeapArena final : public StagingArena {
 public:
  Result<std::span<std::byte>> reserve(std::size_t bytes, std::size_t) override {
    if (empty) return failure(Code::exhausted, "no memory");
    return std::span(blocks_.emplace_back(bytes));
  }
  void give_back(std::span<std::byte> reserved) override {
    for (auto& block : blocks_)
      if (block.data() == reserved.data()) ++given_back;
  }
  bool empty = false;
  int given_back = 0;
  std::size_t reservations() const { return blocks_.size(); }

 private:
  std::deque<Bytes> blocks_;
};

// Two regions with a hole between them, as below and above 4 GiB on a PC.
class Memory {
 public:
  explicit Memory(std::uint64_t low = 40, std::uint64_t high = 24, std::uint32_t page_bytes = 4096)
      : low_(low * page_bytes), high_(high * page_bytes) {
    info_.driver = "test";
    info_.page_bytes = page_bytes;
    info_.memory = {{"low", PageNo{0}, low_}, {"high", PageNo{low + 100}, high_}};
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const GuestInfo& info() const { return info_; }
  std::uint64_t pages() const { return info_.pages(); }
  PageNo number(std::uint64_t index) const {
    const std::uint64_t low = low_.size() / info_.page_bytes;
    return PageNo{index < low ? index : index + 100};
  }
  std::span<std::byte> page(std::uint64_t index) {
    const std::uint64_t low = low_.size() / info_.page_bytes;
    auto& region = index < low ? low_ : high_;
    return std::span(region).subspan((index < low ? index : index - low) * info_.page_bytes,
                                     info_.page_bytes);
  }
  bool operator==(const Memory& other) const { return low_ == other.low_ && high_ == other.high_; }

 private:
  Bytes low_, high_;
  GuestInfo info_;
};

inline void fill_random(std::span<std::byte> bytes, Random& random) {
  for (std::byte& b : bytes) b = std::byte(random());
}

// Changes a page as guests do: a few words, a stretch, everything, to zero, or not at all.
inline void scribble(std::span<std::byte> page, Random& random) {
  switch (random() % 6) {
    case 0:
      for (int i = 0; i < 5; ++i) page[random() % page.size()] = std::byte(random());
      break;
    case 1: {
      const std::size_t from = random() % page.size();
      fill_random(page.subspan(from, random() % (page.size() - from)), random);
      break;
    }
    case 2: fill_random(page, random); break;
    case 3: std::fill(page.begin(), page.end(), std::byte{0}); break;
    case 4: page[random() % page.size()] ^= std::byte{1}; break;
    default: break;
  }
}

inline Bytes random_bytes(std::size_t size, Random& random) {
  Bytes bytes(size);
  fill_random(bytes, random);
  return bytes;
}

// An epoch as the checkpointer would bring it home.
class Captured {
 public:
  Captured(Memory& memory, EpochId id, const std::vector<std::uint64_t>& indexes, Bytes state) {
    epoch.id = id;
    for (auto index : indexes) epoch.pages.add(memory.number(index));
    auto sorted = indexes;
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    for (auto index : sorted) {
      const auto page = memory.page(index);
      copies_.insert(copies_.end(), page.begin(), page.end());
    }
    epoch.staging = copies_;
    epoch.state = std::move(state);
  }
  checkpoint::CapturedEpoch epoch;

 private:
  Bytes copies_;
};

inline EpochId id_of(std::uint64_t generation, std::uint64_t epoch) {
  return {Generation{generation}, Epoch{epoch}};
}

// Collects what an encoder sends.
struct Wire {
  Bytes bytes;
  int sends_left = -1;  // So many may still succeed; -1: all.
  checkpoint::FrameSink sink() {
    return [this](std::span<const std::span<const std::byte>> pieces) -> Status {
      if (sends_left == 0) return Status(Code::peer_lost, "cut");
      if (sends_left > 0) --sends_left;
      for (const auto& piece : pieces) bytes.insert(bytes.end(), piece.begin(), piece.end());
      return {};
    };
  }
};

// Runs bytes through a FrameReader in pieces of `step` and hands every frame on.
inline Status for_each_frame(std::span<const std::byte> bytes, const GuestId& guest,
                             std::size_t step,
                             const std::function<Status(const wire::Frame&)>& take) {
  wire::FrameReader reader(guest);
  while (!bytes.empty()) {
    const auto space = reader.space();
    const std::size_t now = std::min({step, space.size(), bytes.size()});
    std::memcpy(space.data(), bytes.data(), now);
    reader.stored(now);
    bytes = bytes.subspan(now);
    for (;;) {
      auto frame = reader.next();
      if (!frame) return frame.error();
      if (!*frame) break;
      FT_TRY(take(**frame));
    }
  }
  return {};
}

// The frames of a stream, each with its header.
inline std::vector<Bytes> split(std::span<const std::byte> bytes) {
  std::vector<Bytes> frames;
  while (bytes.size() >= wire::kHeaderBytes) {
    const std::size_t size = wire::kHeaderBytes + base::load_le<std::uint32_t>(bytes.data() + 12);
    frames.emplace_back(bytes.begin(), bytes.begin() + std::ptrdiff_t(size));
    bytes = bytes.subspan(size);
  }
  return frames;
}

// A backup: every complete epoch is applied at once.
struct Backup {
  explicit Backup(const GuestId& guest_in, std::uint64_t low = 40, std::uint64_t high = 24,
                  std::uint32_t page_bytes = 4096)
      : guest(guest_in), memory(low, high, page_bytes), assembler(guest, memory.info(), arena) {}

  Status feed(std::span<const std::byte> bytes, std::size_t step = 100000) {
    return for_each_frame(bytes, guest, step,
                          [this](const wire::Frame& frame) { return take(frame); });
  }
  Status take(const wire::Frame& frame) {
    FT_ASSIGN(auto complete, assembler.on_frame(frame));
    if (!complete) return {};
    newest = *complete;
    assembler.apply();
    return {};
  }

  GuestId guest;
  Memory memory;
  HeapArena arena;
  checkpoint::EpochAssembler assembler;
  checkpoint::CompleteEpoch newest;
};

}  // namespace libft::test
