// SPDX-License-Identifier: LGPL-2.1-or-later
#include <cstring>

#include "conformance/gate_suite.h"
#include "output/memory_gate.h"

namespace libft::conformance {
namespace {

class MemoryWorld {
 public:
  static std::unique_ptr<MemoryWorld> create(std::uint32_t epochs_max, std::uint64_t bytes_max) {
    auto world = std::make_unique<MemoryWorld>();
    auto gate = output::MemoryGate::create(
        {.epochs_held_max = epochs_max, .bytes_held_max = bytes_max},
        [raw = world.get()](std::span<const std::byte> bytes) { raw->receive(bytes); });
    REQUIRE(gate);
    world->gate_ = std::move(*gate);
    return world;
  }

  OutputGate& gate() { return *gate_; }
  bool send(std::uint32_t number) { return gate_->emit(std::as_bytes(std::span(&number, 1))); }
  const Numbers& arrived() const { return arrived_; }
  bool wait_for(std::size_t count) const { return arrived_.size() >= count; }

 private:
  void receive(std::span<const std::byte> bytes) {
    std::uint32_t number = 0;
    REQUIRE(bytes.size() == sizeof number);
    std::memcpy(&number, bytes.data(), sizeof number);
    arrived_.push_back(number);
  }

  std::unique_ptr<output::MemoryGate> gate_;
  Numbers arrived_;
};

FT_GATE_SUITE(MemoryWorld);

}  // namespace
}  // namespace libft::conformance
