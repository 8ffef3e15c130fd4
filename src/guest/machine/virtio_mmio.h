// SPDX-License-Identifier: LGPL-2.1-or-later
// The MMIO transport of a virtio device (virtio 1.2, 4.2, version 2). A device derives from it and
// serves its queues when the driver notifies it: at that position, wholly, so that nothing is ever
// under way between two instructions.
#pragma once

#include <array>

#include "bus.h"
#include "virtio_queue.h"

namespace libft::machine {

class VirtioMmio : public Device {
 public:
  static constexpr std::uint64_t kBytes = 0x1000;

  std::uint64_t load(std::uint64_t offset, unsigned size) final;
  void store(std::uint64_t offset, unsigned size, std::uint64_t value) final;
  bool interrupts() const { return interrupt_status_ != 0; }
  void reset();
  void archive(Archive& a);

 protected:
  VirtioMmio(Memory& memory, std::uint32_t device_id, std::uint64_t features);
  ~VirtioMmio() = default;

  virtual void serve(std::uint32_t queue) = 0;
  virtual void reset_device() = 0;
  virtual void archive_device(Archive& a) = 0;
  virtual std::span<const std::byte> config() const = 0;

  bool driver_ready() const;
  VirtioQueue& queue(std::uint32_t index) { return queues_[index]; }
  void finish(VirtioQueue& queue, const VirtioQueue::Chain& chain, std::uint32_t bytes);
  Memory& memory() { return memory_; }

 private:
  std::uint32_t register_value(std::uint64_t offset) const;
  void set_register(std::uint64_t offset, std::uint32_t value);
  void set_queue_register(std::uint64_t offset, std::uint32_t value);
  void set_status(std::uint32_t value);
  void notice_broken_queues();

  Memory& memory_;
  std::uint32_t device_id_;
  std::uint64_t features_;
  std::uint64_t driver_features_ = 0;
  std::uint32_t features_select_ = 0, driver_select_ = 0, queue_select_ = 0, status_ = 0,
                interrupt_status_ = 0;
  std::array<VirtioQueue, 2> queues_;
};

}  // namespace libft::machine
