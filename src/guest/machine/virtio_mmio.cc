// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtio_mmio.h"

#include <cstring>

namespace libft::machine {

namespace {

// 4.2.2.
enum Register : std::uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDescriptorsLow = 0x080,
  kQueueDescriptorsHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};
constexpr std::uint32_t kMagicValue = 0x74726976, kVendor = 0x7466626c;  // "virt", "lbft"
constexpr std::uint64_t kVersion1 = std::uint64_t{1} << 32;
constexpr std::uint32_t kDriverOk = 4, kNeedsReset = 64;
constexpr std::uint32_t kUsedBuffer = 1, kConfigChange = 2;

void set_low(std::uint64_t& value, std::uint32_t half) {
  value = (value & ~std::uint64_t{0xffffffff}) | half;
}
void set_high(std::uint64_t& value, std::uint32_t half) {
  value = (value & 0xffffffff) | std::uint64_t{half} << 32;
}

}  // namespace

VirtioMmio::VirtioMmio(Memory& memory, std::uint32_t device_id, std::uint64_t features)
    : memory_(memory), device_id_(device_id), features_(features | kVersion1) {}

void VirtioMmio::reset() {
  driver_features_ = 0;
  features_select_ = driver_select_ = queue_select_ = status_ = interrupt_status_ = 0;
  queues_ = {};
  reset_device();
}

bool VirtioMmio::driver_ready() const { return (status_ & (kDriverOk | kNeedsReset)) == kDriverOk; }

std::uint64_t VirtioMmio::load(std::uint64_t offset, unsigned size) {
  if (offset < kConfig) return size == 4 ? register_value(offset) : 0;
  std::uint64_t value = 0;
  const auto bytes = config();
  for (unsigned i = 0; i < size; ++i) {
    const std::uint64_t at = offset - kConfig + i;
    if (at < bytes.size()) value |= std::to_integer<std::uint64_t>(bytes[at]) << (8 * i);
  }
  return value;
}

std::uint32_t VirtioMmio::register_value(std::uint64_t offset) const {
  const bool queue_exists = queue_select_ < queues_.size();
  switch (offset) {
    case kMagic: return kMagicValue;
    case kVersion: return 2;
    case kDeviceId: return device_id_;
    case kVendorId: return kVendor;
    case kDeviceFeatures:
      return features_select_ > 1
                 ? 0
                 : static_cast<std::uint32_t>(features_ >> (32 * features_select_));
    case kQueueSizeMax: return queue_exists ? VirtioQueue::kSizeMax : 0;
    case kQueueReady: return queue_exists && queues_[queue_select_].ready ? 1 : 0;
    case kInterruptStatus: return interrupt_status_;
    case kStatus: return status_;
    default: return 0;
  }
}

void VirtioMmio::store(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset < kConfig && size == 4) set_register(offset, static_cast<std::uint32_t>(value));
}

void VirtioMmio::set_register(std::uint64_t offset, std::uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSelect: features_select_ = value; break;
    case kDriverFeaturesSelect: driver_select_ = value; break;
    case kDriverFeatures:
      if (driver_select_ == 0) set_low(driver_features_, value);
      if (driver_select_ == 1) set_high(driver_features_, value);
      break;
    case kQueueSelect: queue_select_ = value; break;
    case kQueueNotify:
      if (value < queues_.size() && driver_ready()) serve(value);
      notice_broken_queues();
      break;
    case kInterruptAck: interrupt_status_ &= ~value; break;
    case kStatus: set_status(value); break;
    default:
      if (queue_select_ < queues_.size()) set_queue_register(offset, value);
  }
}

void VirtioMmio::set_queue_register(std::uint64_t offset, std::uint32_t value) {
  VirtioQueue& queue = queues_[queue_select_];
  switch (offset) {
    case kQueueSize:
      if (value != 0 && value <= VirtioQueue::kSizeMax && (value & (value - 1)) == 0)
        queue.size = value;
      break;
    case kQueueReady: queue.ready = (value & 1) != 0; break;
    case kQueueDescriptorsLow: set_low(queue.descriptors, value); break;
    case kQueueDescriptorsHigh: set_high(queue.descriptors, value); break;
    case kQueueDriverLow: set_low(queue.available, value); break;
    case kQueueDriverHigh: set_high(queue.available, value); break;
    case kQueueDeviceLow: set_low(queue.used, value); break;
    case kQueueDeviceHigh: set_high(queue.used, value); break;
    default: break;
  }
}

void VirtioMmio::set_status(std::uint32_t value) {
  if (value == 0) {
    reset();
  } else {
    status_ = (value & ~kNeedsReset) | (status_ & kNeedsReset);
  }
}

void VirtioMmio::finish(VirtioQueue& queue, const VirtioQueue::Chain& chain, std::uint32_t bytes) {
  if (queue.give_back(memory_, chain, bytes)) interrupt_status_ |= kUsedBuffer;
}

void VirtioMmio::notice_broken_queues() {
  for (const VirtioQueue& queue : queues_) {
    if (!queue.broken() || (status_ & kNeedsReset) != 0) continue;
    status_ |= kNeedsReset;
    interrupt_status_ |= kConfigChange;
  }
}

void VirtioMmio::archive(Archive& a) {
  a.field(driver_features_);
  for (std::uint32_t* field :
       {&features_select_, &driver_select_, &queue_select_, &status_, &interrupt_status_}) {
    a.field(*field);
  }
  for (VirtioQueue& queue : queues_) queue.archive(a);
  archive_device(a);
}

}  // namespace libft::machine
