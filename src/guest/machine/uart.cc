// SPDX-License-Identifier: LGPL-2.1-or-later
#include "uart.h"

#include <algorithm>

namespace libft::machine {

namespace {

constexpr std::uint8_t kEnableReceived = 1, kEnableSent = 2;
constexpr std::uint8_t kDataReady = 0x01, kTransmitterEmpty = 0x60;
constexpr std::uint8_t kModemReady = 0xb0;  // Carrier, data set ready, clear to send.

}  // namespace

void Uart::reset() {
  received_.clear();
  enabled_ = line_control_ = modem_control_ = scratch_ = fifo_ = divisor_low_ = divisor_high_ = 0;
  sent_ = false;
}

void Uart::receive(std::span<const std::byte> bytes) {
  const std::size_t room = kReceivedMax - received_.size();
  const auto some = bytes.first(std::min(room, bytes.size()));
  received_.insert(received_.end(), some.begin(), some.end());
}

std::uint8_t Uart::identification() const {
  if ((enabled_ & kEnableReceived) != 0 && !received_.empty()) return kReceivedInterrupt;
  if ((enabled_ & kEnableSent) != 0 && sent_) return kSentInterrupt;
  return kNoInterrupt;
}

std::uint8_t Uart::take() {
  if (received_.empty()) return 0;
  const auto byte = std::to_integer<std::uint8_t>(received_.front());
  received_.erase(received_.begin());
  return byte;
}

std::uint64_t Uart::load(std::uint64_t offset, unsigned) {
  switch (offset) {
    case 0: return divisor_shows() ? divisor_low_ : take();
    case 1: return divisor_shows() ? divisor_high_ : enabled_;
    case 2: {
      const std::uint8_t what = identification();
      if (what == kSentInterrupt) sent_ = false;
      return what | ((fifo_ & 1) != 0 ? 0xc0 : 0);
    }
    case 3: return line_control_;
    case 4: return modem_control_;
    case 5: return kTransmitterEmpty | (received_.empty() ? 0 : kDataReady);
    case 6: return kModemReady;
    case 7: return scratch_;
    default: return 0;
  }
}

void Uart::store(std::uint64_t offset, unsigned, std::uint64_t value) {
  const auto byte = static_cast<std::uint8_t>(value);
  switch (offset) {
    case 0:
      if (divisor_shows()) {
        divisor_low_ = byte;
      } else {
        send_(std::byte{byte});
        sent_ = true;
      }
      break;
    case 1:
      if (divisor_shows()) {
        divisor_high_ = byte;
      } else {
        sent_ = sent_ || ((byte & kEnableSent) != 0 && (enabled_ & kEnableSent) == 0);
        enabled_ = byte & 0x0f;
      }
      break;
    case 2:
      fifo_ = byte & 1;
      if ((byte & 2) != 0) received_.clear();
      break;
    case 3: line_control_ = byte; break;
    case 4: modem_control_ = byte; break;
    case 7: scratch_ = byte; break;
    default: break;
  }
}

void Uart::archive(Archive& a) {
  a.field(received_, kReceivedMax);
  for (std::uint8_t* field : {&enabled_, &line_control_, &modem_control_, &scratch_, &fifo_,
                              &divisor_low_, &divisor_high_}) {
    a.field(*field);
  }
  a.field(sent_);
}

}  // namespace libft::machine
