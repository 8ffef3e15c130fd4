// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/guest.h"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace libft::sim {
namespace {
constexpr std::uint32_t kPageBytes = 512;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = (a ^ 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull + b;
  x = (x ^ (x >> 31)) * 0x94d049bb133111ebull;
  return x ^ (x >> 29);
}
}  // namespace

SimGuest::SimGuest(std::uint32_t pages, Random entropy, std::function<void(const Packet&)> send)
    : entropy_(entropy),
      send_(std::move(send)),
      memory_(std::size_t{pages} * kPageBytes),
      written_(pages) {
  info_.driver = "sim";
  info_.description = "a simulated guest";
  info_.page_bytes = kPageBytes;
  info_.tracker = "exact";
  info_.accelerator = "none";
  info_.compatibility = "{}";
  // Two regions with a hole between them: page numbers are not offsets.
  const std::size_t low = pages / 2 * std::size_t{kPageBytes};
  info_.memory = {{"low", PageNo{0}, std::span(memory_).first(low)},
                  {"high", PageNo{1000}, std::span(memory_).subspan(low)}};
}

void SimGuest::boot() {
  for (std::uint32_t page = 0; page < written_.size(); page += 2) write(page);
  running_ = true;
}

void SimGuest::write(std::uint32_t page) {
  touch(page);
  std::byte* bytes = at(page);
  const std::uint64_t kind = entropy_.below(20);
  if (kind == 0) {
    std::memset(bytes, 0, kPageBytes);
  } else if (kind < 4) {
    for (std::size_t i = 0; i < kPageBytes; i += 8) {
      const std::uint64_t value = entropy_.next();
      std::memcpy(bytes + i, &value, 8);
    }
  } else {
    const std::uint64_t value = entropy_.next();
    std::memcpy(bytes + entropy_.below(kPageBytes / 8) * 8, &value, 8);
  }
}

bool SimGuest::step(unsigned send_permille) {
  if (!runs()) return false;
  ++registers_.steps;
  registers_.scratch[entropy_.below(10)] = entropy_.next();
  for (std::uint64_t n = entropy_.below(4); n > 0; --n)
    write(static_cast<std::uint32_t>(entropy_.below(written_.size())));
  if (entropy_.chance(send_permille)) send();
  return true;
}

void SimGuest::send() {
  Packet packet;
  packet.counter = ++registers_.counter;
  packet.random = entropy_.next();
  packet.before = registers_.chain;
  packet.chain = registers_.chain = mix(mix(packet.before, packet.counter), packet.random);
  // In memory too, so that pages and registers of different epochs never fit together.
  touch(0);
  std::memcpy(at(0), &registers_.chain, 8);
  send_(packet);
}

void SimGuest::receive(std::uint64_t input) {
  if (!runs()) return;
  registers_.inputs = mix(registers_.inputs, input);
  const auto page = static_cast<std::uint32_t>(input % written_.size());
  touch(page);
  std::memcpy(at(page) + 64, &registers_.inputs, 8);
  if (input % 3 == 0) send();  // An answer.
}

void SimGuest::end() {
  if (runs()) registers_.ended = 1;
}

std::uint64_t SimGuest::hash(const GuestInfo& info, std::span<const std::byte> state) {
  std::uint64_t h = XXH3_64bits(state.data(), state.size());
  for (const MemoryRegion& region : info.memory)
    h = XXH3_64bits_withSeed(region.bytes.data(), region.bytes.size(), h);
  return h;
}

std::uint64_t SimGuest::hash() const {
  return hash(info_, std::as_bytes(std::span(&registers_, 1)));
}

Status SimGuest::start_tracking() {
  tracking_ = true;
  written_.assign(written_.size(), false);
  return {};
}

Status SimGuest::pause() {
  if (!alive_) return Status(Code::guest_gone, "the guest's process died");
  running_ = false;
  return {};
}

Status SimGuest::resume() {
  if (!alive_) return Status(Code::guest_gone, "the guest's process died");
  running_ = true;
  return {};
}

Status SimGuest::take_written(PageSet& written) {
  if (!tracking_) return Status(Code::invalid, "not tracking");
  written.clear();
  for (std::uint32_t page = 0; page < written_.size(); ++page) {
    if (!written_[page]) continue;
    const std::uint64_t half = written_.size() / 2;
    written.add(PageNo{page < half ? page : 1000 + page - half});
  }
  written_.assign(written_.size(), false);
  return {};
}

Status SimGuest::save_state() {
  const auto bytes = std::as_bytes(std::span(&registers_, 1));
  saved_.assign(bytes.begin(), bytes.end());
  return {};
}

Status SimGuest::fetch_state(std::vector<std::byte>& state) {
  state.assign(saved_.begin(), saved_.end());
  return {};
}

Status SimGuest::probe_state(std::span<const std::byte> state) {
  Registers registers;
  if (state.size() != sizeof registers) return Status(Code::corrupt, "a state of another size");
  std::memcpy(&registers, state.data(), sizeof registers);
  if (registers.magic != kMagic) return Status(Code::corrupt, "not a state");
  return {};
}

Status SimGuest::load_state(std::span<const std::byte> state) {
  FT_TRY(probe_state(state));
  std::memcpy(&registers_, state.data(), sizeof registers_);
  return {};
}

Status SimGuest::activate() {
  running_ = true;
  return {};
}

void SimGuest::destroy() {
  alive_ = false;
  running_ = false;
}

}  // namespace libft::sim
