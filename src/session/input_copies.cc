// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/input_copies.h"

#include "wire/pages.h"

namespace libft::session {

InputForwarder::InputForwarder(InputTap& tap, std::function<void()> wake) : tap_(tap) {
  tap_.set_input_sink(
      [this, wake = std::move(wake)](std::span<const std::byte> frame, unsigned nic) {
        {
          const std::scoped_lock lock(mutex_);
          if (bytes_ + frame.size() > kBytesMax) return;
          bytes_ += frame.size();
          waiting_.push_back(
              {Epoch{epoch_.load(std::memory_order_relaxed)}, nic, {frame.begin(), frame.end()}});
          if (told_) return;
          told_ = true;
        }
        wake();
      });
}

InputForwarder::~InputForwarder() { tap_.set_input_sink(nullptr); }

std::vector<std::byte> InputForwarder::take(const GuestId& guest, Generation generation) {
  std::vector<InputCopy> copies;
  {
    const std::scoped_lock lock(mutex_);
    copies.swap(waiting_);
    bytes_ = 0;
    told_ = false;
  }
  std::vector<std::byte> frames;
  for (auto& copy : copies) {
    copy.frame.insert(copy.frame.begin(), static_cast<std::byte>(copy.nic));
    const auto frame = wire::encode_input_copy(guest, {generation, copy.epoch}, copy.frame);
    frames.insert(frames.end(), frame.begin(), frame.end());
  }
  return frames;
}

Status InputMemory::keep(const wire::Frame& frame) {
  FT_ASSIGN(const auto bytes, wire::decode_input_copy(frame));
  if (bytes.empty()) return Status(Code::corrupt, "an input copy without a NIC");
  if (bytes_ + bytes.size() > kBytesMax) return {};
  bytes_ += bytes.size();
  copies_.push_back({frame.header.id.epoch,
                     std::to_integer<unsigned>(bytes[0]),
                     {bytes.begin() + 1, bytes.end()}});
  return {};
}

void InputMemory::forget_through(Epoch complete) {
  while (!copies_.empty() && copies_.front().epoch <= complete) {
    bytes_ -= copies_.front().frame.size() + 1;
    copies_.pop_front();
  }
}

void InputMemory::clear() {
  copies_.clear();
  bytes_ = 0;
}

std::size_t InputMemory::deliver(InputTap& tap) {
  std::size_t delivered = 0;
  for (const auto& copy : copies_)
    if (tap.inject_input(copy.nic, copy.frame)) ++delivered;
  clear();
  return delivered;
}

}  // namespace libft::session
