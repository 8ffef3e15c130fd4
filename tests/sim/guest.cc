// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/guest.h"

#include <cstring>
#include <utility>

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

// --- what it says to clients
// ---------------------------------------------------------------------

std::uint64_t Talks::keep(const ModelGuest& talk) {
  kept_.emplace(++newest_, Kept{talk, clock_.now()});
  if (kept_.size() > kKeptMax) kept_.erase(kept_.begin());
  return newest_;
}

ModelGuest Talks::at(std::uint64_t name) const {
  const Kept& kept = kept_.at(name);
  ModelGuest talk = kept.talk;
  talk.stood(static_cast<std::uint32_t>((clock_.now() - kept.since) / Millis{1}));
  return talk;
}

void SimGuest::make_talkative(Talks& talks, unsigned own_permille,
                              std::function<void(const Said&)> say) {
  talks_ = &talks;
  talk_.emplace(0, own_permille);
  say_ = std::move(say);
}

void SimGuest::hear(const TcpFields& segment) {
  if (runs() && talk_) talk_->on(segment, entropy_);
}

// --- itself
// --------------------------------------------------------------------------------------

SimGuest::SimGuest(std::uint32_t pages, Random entropy, std::function<void(const Packet&)> send)
    : entropy_(entropy),
      send_(std::move(send)),
      memory_(std::size_t{pages} * kPageBytes),
      written_(pages),
      own_(pages),
      changed_(pages) {
  info_.driver = "sim";
  info_.description = "a simulated guest";
  info_.page_bytes = kPageBytes;
  info_.tracker = "exact";
  info_.accelerator = "none";
  info_.compatibility = "{}";
  lead_memory_to(memory_);
}

// Two regions with a hole between them: page numbers are not offsets.
void SimGuest::lead_memory_to(std::vector<std::byte>& memory) {
  const std::size_t low = written_.size() / 2 * std::size_t{kPageBytes};
  info_.memory = {{"low", PageNo{0}, std::span(memory).first(low)},
                  {"high", PageNo{1000}, std::span(memory).subspan(low)}};
}

PageNo SimGuest::page_no(std::uint32_t page) const {
  const std::uint64_t half = written_.size() / 2;
  return PageNo{page < half ? page : 1000 + page - half};
}

PageSet SimGuest::all_pages() const {
  PageSet pages;
  for (std::uint32_t page = 0; page < written_.size(); ++page) pages.add(page_no(page));
  return pages;
}

void SimGuest::boot() {
  for (std::uint32_t page = 0; page < written_.size(); page += 2) write(page, entropy_);
  running_ = true;
}

void SimGuest::write(std::uint32_t page, Random& random) {
  touch(page);
  std::byte* bytes = at(page);
  const std::uint64_t kind = random.below(20);
  if (kind == 0) {
    std::memset(bytes, 0, kPageBytes);
  } else if (kind < 4) {
    for (std::size_t i = 0; i < kPageBytes; i += 8) {
      const std::uint64_t value = random.next();
      std::memcpy(bytes + i, &value, 8);
    }
  } else {
    const std::uint64_t value = random.next();
    std::memcpy(bytes + random.below(kPageBytes / 8) * 8, &value, 8);
  }
}

bool SimGuest::step(unsigned send_permille) {
  if (!runs()) return false;
  if (exact_) {
    live_exactly();
    return true;
  }
  ++registers_.steps;
  registers_.scratch[entropy_.below(10)] = entropy_.next();
  for (std::uint64_t n = entropy_.below(4); n > 0; --n)
    write(static_cast<std::uint32_t>(entropy_.below(written_.size())), entropy_);
  if (entropy_.chance(send_permille)) send(entropy_);
  if (talk_) {
    std::vector<Said> said;
    talk_->run(talks_->clock().now(), entropy_, said);
    for (const Said& one : said) say_(one);
  }
  return true;
}

void SimGuest::send(Random& random) {
  Packet packet;
  packet.counter = ++registers_.counter;
  packet.random = random.next();
  packet.before = registers_.chain;
  packet.chain = registers_.chain = mix(mix(packet.before, packet.counter), packet.random);
  // In memory too, so that pages and registers of different epochs never fit together.
  touch(0);
  std::memcpy(at(0), &registers_.chain, 8);
  said_ = mix(said_, packet.chain);
  if (!output_sink_) return send_(packet);
  output_sink_(*position(), {GuestOutput::Kind::frame, std::as_bytes(std::span(&packet, 1))});
}

void SimGuest::receive(std::uint64_t input) {
  if (!runs()) return;
  if (!exact_) return answer(input, entropy_);
  const auto bytes = std::as_bytes(std::span(&input, 1));
  take({GuestInput::Kind::frame, {bytes.begin(), bytes.end()}});
}

void SimGuest::answer(std::uint64_t input, Random& random) {
  registers_.inputs = mix(registers_.inputs, input);
  const auto page = static_cast<std::uint32_t>(input % written_.size());
  touch(page);
  std::memcpy(at(page) + 64, &registers_.inputs, 8);
  const bool waits = exact_ && registers_.scratch[kAsks] != 0;
  if (input % 3 == 0 && !waits) send(random);  // An answer.
}

void SimGuest::end() {
  if (!runs()) return;
  if (exact_)
    take({GuestInput::Kind::console, {}});
  else
    registers_.ended = 1;
}

// --- a standby that runs ahead
// ---------------------------------------------------------------------

Status SimGuest::begin_speculation() {
  if (std::exchange(ahead_, true)) return {};
  image_ = memory_;
  lead_memory_to(image_);
  return {};
}

void SimGuest::image_changed(const PageSet& pages) {
  for (std::uint32_t page = 0; page < written_.size(); ++page)
    if (pages.contains(page_no(page))) changed_[page] = true;
}

Status SimGuest::reload(std::span<const std::byte> state) {
  FT_TRY(probe_state(state));
  for (std::uint32_t page = 0; page < written_.size(); ++page) {
    if (!changed_[page] && (!own_[page] || keeps_own_pages)) continue;
    std::memcpy(at(page), image_.data() + std::size_t{page} * kPageBytes, kPageBytes);
    own_[page] = changed_[page] = false;
  }
  std::memcpy(&registers_, state.data(), sizeof registers_);
  if (talk_) talk_ = talks_->at(registers_.talk);
  return {};
}

Status SimGuest::run() {
  running_ = true;
  return {};
}

std::uint64_t SimGuest::hash_of_running() const {
  const auto state = std::as_bytes(std::span(&registers_, 1));
  const std::size_t low = written_.size() / 2 * std::size_t{kPageBytes};
  std::uint64_t h = XXH3_64bits(state.data(), state.size());
  h = XXH3_64bits_withSeed(memory_.data(), low, h);
  return XXH3_64bits_withSeed(memory_.data() + low, memory_.size() - low, h);
}

// --- an exact guest
// -------------------------------------------------------------------------------

void SimGuest::make_exact(unsigned send_permille) {
  exact_ = true;
  send_permille_ = send_permille;
}

// A few positions of execution; what it asked for is there before them, or not yet.
void SimGuest::live_exactly() {
  if (registers_.scratch[kAsks] != 0 && !forgets_request_ && entropy_.chance(700)) {
    const std::uint64_t fresh = entropy_.next();
    const auto bytes = std::as_bytes(std::span(&fresh, 1));
    take({GuestInput::Kind::entropy, {bytes.begin(), bytes.end()}});
  }
  for (std::uint64_t n = 1 + entropy_.below(3); n > 0; --n) execute();
}

void SimGuest::execute() {
  ++registers_.scratch[kPositions];
  ++registers_.steps;
  if (registers_.scratch[kAsks] != 0) return;  // It waits.
  Random random(registers_.scratch[kGenerator], registers_.scratch[kPositions]);
  registers_.scratch[random.below(kPositions)] = random.next();
  for (std::uint64_t n = random.below(3); n > 0; --n)
    write(static_cast<std::uint32_t>(random.below(written_.size())), random);
  if (random.chance(send_permille_)) send(random);
  if (random.chance(250)) registers_.scratch[kAsks] = 1;
}

void SimGuest::take(GuestInput input) {
  if (input_sink_) input_sink_(*position(), input);
  (void)deliver(input);
}

Status SimGuest::deliver(const GuestInput& input) {
  std::uint64_t value = 0;
  if (input.bytes.size() == sizeof value) std::memcpy(&value, input.bytes.data(), sizeof value);
  std::uint64_t& generator = registers_.scratch[kGenerator];
  switch (input.kind) {
    case GuestInput::Kind::entropy:
      registers_.scratch[kAsks] = 0;
      generator = mix(generator, value);
      break;
    case GuestInput::Kind::frame: {
      generator = mix(generator, ~value);
      Random random(generator, registers_.scratch[kPositions]);
      answer(value, random);
      break;
    }
    case GuestInput::Kind::schedule:  // It has one processor.
    case GuestInput::Kind::console: registers_.ended = 1; break;
  }
  return {};
}

Status SimGuest::run_until(Position until) {
  while (registers_.scratch[kPositions] < until.value) execute();
  return registers_.scratch[kPositions] == until.value
             ? Status()
             : Status(Code::invalid, "a position that is behind");
}

Status SimGuest::mark(WithHash with_hash, const std::function<void(const Mark&)>& there) {
  Mark mark{*position(), std::nullopt, std::exchange(said_, 0), ended()};
  if (with_hash == WithHash::yes) mark.hash = hash();
  if (amid_mark) amid_mark();
  there(mark);
  return {};
}

void SimGuest::send_again(const GuestOutput& output) {
  Packet packet;
  std::memcpy(&packet, output.bytes.data(), sizeof packet);
  send_(packet);
}

// --- its hash
// -------------------------------------------------------------------------------------

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
    written.add(page_no(page));
  }
  written_.assign(written_.size(), false);
  return {};
}

Status SimGuest::save_state() {
  if (talk_) registers_.talk = talks_->keep(*talk_);
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
  if (ahead_) memory_ = image_;
  lost_bit_ = false;
  if (talk_) talk_ = talks_->at(registers_.talk);
  return {};
}

void SimGuest::copy(const SimGuest& other) {
  std::memcpy(memory_.data(), other.memory_.data(), memory_.size());
  registers_ = other.registers_;
  lost_bit_ = other.lost_bit_;
  said_ = 0;
}

Status SimGuest::activate() {
  if (std::exchange(ahead_, false)) lead_memory_to(memory_);
  running_ = true;
  return {};
}

void SimGuest::destroy() {
  alive_ = false;
  running_ = false;
}

}  // namespace libft::sim
