// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/faulty.h"

#include <algorithm>
#include <random>
#include <vector>

namespace libft::transport {
namespace {

class FaultyTransport final : public Transport {
 public:
  FaultyTransport(std::unique_ptr<Transport> inner, const Faults& faults)
      : inner_(std::move(inner)), faults_(faults), random_(faults.seed) {
    to_flip_ = distance(faults_.flip_every_bytes);
    to_drop_ = distance(faults_.drop_every_bytes);
  }

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    std::vector<std::byte> bytes;
    bool cut = false;
    for (const auto& piece : pieces)
      for (const std::byte byte : piece) {
        cut = cut || (faults_.cut_after_bytes > 0 && passed_ >= faults_.cut_after_bytes);
        if (!cut) pass(byte, bytes);
      }
    const std::span<const std::byte> damaged[] = {bytes};
    Status sent = bytes.empty() ? Status() : inner_->send(damaged);
    if (!cut) return sent;
    inner_->close();
    return Status(Code::peer_lost, "send: the connection was cut");
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    return inner_->receive(buffer);
  }
  void close() override { inner_->close(); }
  std::string description() const override { return inner_->description() + ", faulty"; }
  bool authenticated() const override { return inner_->authenticated(); }

 private:
  static constexpr std::uint64_t kNever = UINT64_MAX;

  std::uint64_t distance(std::uint64_t mean) {
    return mean == 0 ? kNever : std::uniform_int_distribution<std::uint64_t>(1, 2 * mean)(random_);
  }

  // Counts down to the next fault of a kind; true when it is due with this byte.
  bool due(std::uint64_t& left, std::uint64_t mean) {
    if (left == kNever || --left > 0) return false;
    left = distance(mean);
    return true;
  }

  void pass(std::byte byte, std::vector<std::byte>& out) {
    ++passed_;
    if (due(to_drop_, faults_.drop_every_bytes)) return;
    if (due(to_flip_, faults_.flip_every_bytes)) byte ^= std::byte{1} << (random_() % 8);
    out.push_back(byte);
  }

  const std::unique_ptr<Transport> inner_;
  const Faults faults_;
  std::mt19937_64 random_;
  std::uint64_t to_flip_ = kNever, to_drop_ = kNever;
  std::uint64_t passed_ = 0;
};

}  // namespace

std::unique_ptr<Transport> faulty(std::unique_ptr<Transport> inner, const Faults& faults) {
  return std::make_unique<FaultyTransport>(std::move(inner), faults);
}

}  // namespace libft::transport
