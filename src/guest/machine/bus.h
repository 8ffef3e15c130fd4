// SPDX-License-Identifier: LGPL-2.1-or-later
// Device registers in the physical address space. A device is called at exact positions only: by
// the instruction that reads or writes its register, or when an input is delivered. One thread.
#pragma once

#include <cstdint>
#include <vector>

namespace libft::machine {

class Device {
 public:
  // `offset` is below the size it was added with; `size` is 1, 2, 4 or 8.
  virtual std::uint64_t load(std::uint64_t offset, unsigned size) = 0;
  virtual void store(std::uint64_t offset, unsigned size, std::uint64_t value) = 0;

 protected:
  ~Device() = default;
};

class Bus {
 public:
  void add(std::uint64_t base, std::uint64_t bytes, Device& device) {
    ranges_.push_back({base, bytes, &device});
  }
  // False: nobody is at that address.
  bool load(std::uint64_t address, unsigned size, std::uint64_t& value) const {
    const Range* range = find(address, size);
    if (range != nullptr) value = range->device->load(address - range->base, size);
    return range != nullptr;
  }
  bool store(std::uint64_t address, unsigned size, std::uint64_t value) const {
    const Range* range = find(address, size);
    if (range != nullptr) range->device->store(address - range->base, size, value);
    return range != nullptr;
  }

 private:
  struct Range {
    std::uint64_t base, bytes;
    Device* device;
  };
  const Range* find(std::uint64_t address, unsigned size) const {
    for (const Range& range : ranges_)
      if (address >= range.base && address - range.base + size <= range.bytes) return &range;
    return nullptr;
  }
  std::vector<Range> ranges_;
};

}  // namespace libft::machine
