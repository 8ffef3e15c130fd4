// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtio_devices.h"

#include <algorithm>

namespace libft::machine {

namespace {

constexpr std::uint32_t kNetId = 1, kBlockId = 2, kEntropyId = 4;
constexpr std::uint64_t kNetMac = std::uint64_t{1} << 5, kBlockReadOnly = std::uint64_t{1} << 5,
                        kBlockCanFlush = std::uint64_t{1} << 9;
constexpr std::size_t kNetHeaderBytes = 12;  // 5.1.6, with num_buffers.
constexpr std::size_t kNumBuffersAt = 10;
constexpr std::uint32_t kReceiveQueue = 0, kTransmitQueue = 1;

constexpr std::size_t kSectorBytes = 512, kBlockHeaderBytes = 16;
constexpr std::uint32_t kBlockIn = 0, kBlockOut = 1, kBlockFlush = 4, kBlockGetId = 8;
constexpr std::byte kBlockOk{0}, kBlockFailed{1}, kBlockUnsupported{2};

}  // namespace

VirtioNet::VirtioNet(Memory& memory, std::array<std::uint8_t, 6> mac,
                     std::function<void(std::span<const std::byte>)> send)
    : VirtioMmio(memory, kNetId, kNetMac), config_(), send_(std::move(send)) {
  std::ranges::transform(mac, config_.begin(), [](std::uint8_t byte) { return std::byte{byte}; });
}

bool VirtioNet::receive(std::span<const std::byte> frame) {
  if (!driver_ready() || frame.size() > kFrameBytesMax || backlog_.size() >= kBacklogMax)
    return false;
  backlog_.emplace_back(frame.begin(), frame.end());
  deliver();
  return true;
}

void VirtioNet::serve(std::uint32_t queue) {
  if (queue == kTransmitQueue) transmit();
  if (queue == kReceiveQueue) deliver();
}

void VirtioNet::deliver() {
  VirtioQueue& receiving = queue(kReceiveQueue);
  while (!backlog_.empty()) {
    const auto chain = receiving.take(memory());
    if (!chain) return;
    std::vector<std::byte> packet(kNetHeaderBytes);
    packet[kNumBuffersAt] = std::byte{1};
    packet.insert(packet.end(), backlog_.front().begin(), backlog_.front().end());
    backlog_.pop_front();
    finish(receiving, *chain, VirtioQueue::scatter(memory(), chain->writable, packet));
  }
}

void VirtioNet::transmit() {
  VirtioQueue& sending = queue(kTransmitQueue);
  while (const auto chain = sending.take(memory())) {
    const std::vector<std::byte> packet = VirtioQueue::gather(memory(), chain->readable);
    finish(sending, *chain, 0);
    if (packet.size() > kNetHeaderBytes) send_(std::span(packet).subspan(kNetHeaderBytes));
  }
}

void VirtioNet::archive_device(Archive& a) {
  backlog_.resize(a.size(backlog_.size(), kBacklogMax));
  for (std::vector<std::byte>& frame : backlog_) a.field(frame, kFrameBytesMax);
}

VirtioBlock::VirtioBlock(Memory& memory, std::uint64_t features,
                         std::span<const std::byte> contents)
    : VirtioMmio(memory, kBlockId, features), contents_(contents) {
  base::store_le<std::uint64_t>(config_.data(), contents.size() / kSectorBytes);
}

VirtioBlock::VirtioBlock(Memory& memory, std::shared_ptr<const std::vector<std::byte>> image)
    : VirtioBlock(memory, kBlockReadOnly, *image) {
  image_ = std::move(image);
}

VirtioBlock::VirtioBlock(Memory& memory, Memory& disk)
    : VirtioBlock(memory, kBlockCanFlush, disk.bytes()) {
  disk_ = &disk;
}

void VirtioBlock::serve(std::uint32_t index) {
  if (index != 0) return;
  while (const auto chain = queue(0).take(memory())) answer(*chain);
}

bool VirtioBlock::has(std::uint64_t sector, std::uint64_t bytes) const {
  const std::uint64_t sectors = contents_.size() / kSectorBytes;
  return sector <= sectors && bytes <= (sectors - sector) * kSectorBytes;
}

// The header says what is wanted; the last writable byte takes the status (5.2.6).
void VirtioBlock::answer(const VirtioQueue::Chain& chain) {
  const std::vector<std::byte> request = VirtioQueue::gather(memory(), chain.readable);
  const std::uint32_t room = chain.writable_bytes();
  if (request.size() < kBlockHeaderBytes || room == 0) return finish(queue(0), chain, 0);
  std::vector<std::byte> answer(room);
  const auto kind = base::load_le<std::uint32_t>(request.data());
  const auto sector = base::load_le<std::uint64_t>(request.data() + 8);
  answer.back() = do_request(kind, sector, std::span(request).subspan(kBlockHeaderBytes),
                             std::span(answer).first(room - 1));
  finish(queue(0), chain, VirtioQueue::scatter(memory(), chain.writable, answer));
}

// A flush has nothing to wait for: what keeps a write from being lost is the other replica.
std::byte VirtioBlock::do_request(std::uint32_t kind, std::uint64_t sector,
                                  std::span<const std::byte> from, std::span<std::byte> to) {
  const std::uint64_t at = sector * kSectorBytes;
  switch (kind) {
    case kBlockIn:
      if (!has(sector, to.size())) return kBlockFailed;
      std::copy_n(contents_.begin() + static_cast<std::ptrdiff_t>(at), to.size(), to.begin());
      return kBlockOk;
    case kBlockOut:
      if (disk_ == nullptr) return kBlockUnsupported;
      if (!has(sector, from.size()) || from.size() % kSectorBytes != 0) return kBlockFailed;
      disk_->write(disk_->base() + at, from);
      return kBlockOk;
    case kBlockFlush:
    case kBlockGetId: return kBlockOk;
    default: return kBlockUnsupported;
  }
}

VirtioEntropy::VirtioEntropy(Memory& memory, std::function<void(std::uint32_t)> want)
    : VirtioMmio(memory, kEntropyId, 0), want_(std::move(want)) {}

// One request is answered at a time, each with its own bytes.
void VirtioEntropy::serve(std::uint32_t index) {
  if (index != 0 || wanted_ != 0 || !queue(0).has_chain(memory())) return;
  VirtioQueue look = queue(0);
  if (const auto chain = look.take(memory())) wanted_ = chain->writable_bytes();
  if (wanted_ != 0) want_(wanted_);
}

void VirtioEntropy::receive(std::span<const std::byte> bytes) {
  if (!driver_ready() || wanted_ == 0) return;
  wanted_ = 0;
  const auto chain = queue(0).take(memory());
  if (!chain) return;
  finish(queue(0), *chain, VirtioQueue::scatter(memory(), chain->writable, bytes));
  serve(0);
}

}  // namespace libft::machine
