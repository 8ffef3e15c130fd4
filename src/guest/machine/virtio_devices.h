// SPDX-License-Identifier: LGPL-2.1-or-later
// The machine's virtio devices (virtio 1.2, chapter 5): a network interface, a disk, a source of
// entropy. What comes from outside (frames, random bytes) enters by a call, at a position. The
// disk's contents are the machine's own, as its memory is: a request is done when it was made, so
// that none is ever under way.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "virtio_mmio.h"

namespace libft::machine {

class VirtioNet final : public VirtioMmio {
 public:
  static constexpr std::uint32_t kFrameBytesMax = 65536;
  static constexpr std::uint32_t kBacklogMax = 256;  // Frames for a driver that is busy.

  VirtioNet(Memory& memory, std::array<std::uint8_t, 6> mac,
            std::function<void(std::span<const std::byte>)> send);
  // False: dropped, because the driver is not there or the backlog is full.
  bool receive(std::span<const std::byte> frame);

 private:
  void serve(std::uint32_t queue) override;
  void reset_device() override { backlog_.clear(); }
  void archive_device(Archive& a) override;
  std::span<const std::byte> config() const override { return config_; }
  void deliver();
  void transmit();

  std::array<std::byte, 6> config_;
  std::function<void(std::span<const std::byte>)> send_;
  std::deque<std::vector<std::byte>> backlog_;
};

class VirtioBlock final : public VirtioMmio {
 public:
  // Read-only. Whole sectors of 512 bytes count.
  VirtioBlock(Memory& memory, std::shared_ptr<const std::vector<std::byte>> image);
  // Writable. `disk` outlives it.
  VirtioBlock(Memory& memory, Memory& disk);

 private:
  void serve(std::uint32_t queue) override;
  void reset_device() override {}
  void archive_device(Archive&) override {}
  std::span<const std::byte> config() const override { return config_; }
  VirtioBlock(Memory& memory, std::uint64_t features, std::span<const std::byte> contents);
  void answer(const VirtioQueue::Chain& chain);
  std::byte do_request(std::uint32_t kind, std::uint64_t sector, std::span<const std::byte> from,
                       std::span<std::byte> to);
  bool has(std::uint64_t sector, std::uint64_t bytes) const;

  std::shared_ptr<const std::vector<std::byte>> image_;
  Memory* disk_ = nullptr;
  std::span<const std::byte> contents_;  // Of either.
  std::array<std::byte, 8> config_{};
};

class VirtioEntropy final : public VirtioMmio {
 public:
  // `want` is told how many bytes the guest waits for; receive() brings them.
  VirtioEntropy(Memory& memory, std::function<void(std::uint32_t)> want);
  void receive(std::span<const std::byte> bytes);
  std::uint32_t wanted() const { return wanted_; }

 private:
  void serve(std::uint32_t queue) override;
  void reset_device() override { wanted_ = 0; }
  void archive_device(Archive& a) override { a.field(wanted_); }
  std::span<const std::byte> config() const override { return {}; }

  std::function<void(std::uint32_t)> want_;
  std::uint32_t wanted_ = 0;
};

}  // namespace libft::machine
