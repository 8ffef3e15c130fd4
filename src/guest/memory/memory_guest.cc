// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/memory/memory_guest.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/assert.h"
#include "base/checksum.h"

namespace libft::guest {
namespace {

constexpr std::uint64_t kPage = MemoryGuest::kPageBytes;
constexpr std::uint64_t kSlice = 64;  // Writes between two looks for somebody who waits.
constexpr std::uint64_t kMagic = 0x314754534d454d46;  // First word of the state.

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::span<std::byte> map_pages(std::uint64_t pages) {
  void* mapped = ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  FT_ASSERT(mapped != MAP_FAILED);
  return {static_cast<std::byte*>(mapped), pages * kPage};
}

// Takes the lock in front of a workload that would otherwise take it again at once.
class Entry {
 public:
  Entry(std::atomic<unsigned>& wanted, std::mutex& mutex) : lock_(mutex, std::defer_lock) {
    ++wanted;
    lock_.lock();
    --wanted;
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace

MemoryGuest::MemoryGuest(const MemoryGuestOptions& options)
    : pages_(std::max<std::uint64_t>(options.pages, 2)),
      first_part_(options.hole_pages > 0 ? pages_ / 2 : pages_),
      hole_(options.hole_pages),
      life_(options.standby ? Life::waiting : Life::alive),
      written_((pages_ + 63) / 64) {
  memory_ = map_pages(pages_);
  registers_.seed = registers_.random = options.seed;
  info_.driver = "memory";
  info_.description = fmt::format("memory guest, {} pages", pages_);
  info_.page_bytes = kPageBytes;
  info_.tracker = "exact";
  info_.accelerator = "none";
  info_.compatibility = fmt::format(R"({{"pages":{},"hole":{}}})", pages_, hole_);
  info_.memory.push_back({"ram", PageNo{0}, memory_.first(first_part_ * kPage)});
  if (first_part_ < pages_)
    info_.memory.push_back({"high", page_of(first_part_), memory_.subspan(first_part_ * kPage)});
}

MemoryGuest::~MemoryGuest() { ::munmap(memory_.data(), memory_.size()); }

PageNo MemoryGuest::page_of(std::uint64_t index) const {
  return PageNo{index < first_part_ ? index : index + hole_};
}

std::span<std::byte> MemoryGuest::page(std::uint64_t index) const {
  return memory_.subspan(index * kPage, kPage);
}

std::uint64_t MemoryGuest::random() { return next_random(registers_.random); }

void MemoryGuest::touch(std::uint64_t index) {
  if (tracking_) written_[index / 64] |= std::uint64_t{1} << (index % 64);
}

// Mostly a few words somewhere in the page; now and then the page is cleared, as by an allocator.
void MemoryGuest::write_page(std::uint64_t index) {
  const std::span<std::byte> target = page(index);
  const std::uint64_t chance = random();
  touch(index);
  ++registers_.steps;
  if (chance % 64 == 0) {
    std::ranges::fill(target, std::byte{0});
    return;
  }
  const std::uint64_t words = 1 + (chance >> 8) % 32;
  const std::uint64_t offset = (chance >> 16) % (kPage / 8 - words) * 8;
  std::uint64_t value = chance;
  for (std::uint64_t i = 0; i < words; ++i) {
    value = value * 6364136223846793005 + registers_.steps;
    std::memcpy(target.data() + offset + i * 8, &value, sizeof value);
  }
}

// A stride without a common factor visits every page but the journal before it meets one again.
std::uint64_t MemoryGuest::step(std::uint64_t writes) {
  const std::uint64_t pages = pages_ - 1;
  std::uint64_t stride = 1, at = 0, done = 0;
  for (bool first = true; done < writes; first = false) {
    while (wanted_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
    std::lock_guard lock(mutex_);
    if (!running_locked()) break;
    if (first) {
      at = random() % pages;
      stride = 1 + random() % pages;
      while (std::gcd(stride, pages) != 1) stride = stride % pages + 1;
    }
    done += step_some(std::min(kSlice, writes - done), at, stride);
  }
  return done;
}

std::uint64_t MemoryGuest::step_some(std::uint64_t writes, std::uint64_t& at,
                                     std::uint64_t stride) {
  for (std::uint64_t i = 0; i < writes; ++i) {
    write_page(at + 1);
    at = (at + stride) % (pages_ - 1);
  }
  return writes;
}

bool MemoryGuest::emit(std::uint64_t value) {
  Entry entry(wanted_, mutex_);
  if (!running_locked()) return false;
  const MemoryGuestOutput output{++registers_.counter, value};
  std::memcpy(page(0).data() + output.counter % kJournalEntries * sizeof output, &output,
              sizeof output);
  touch(0);
  if (output_sink_) output_sink_(output);
  return true;
}

void MemoryGuest::set_output_sink(std::function<void(MemoryGuestOutput)> sink) {
  Entry entry(wanted_, mutex_);
  output_sink_ = std::move(sink);
}

std::optional<std::uint64_t> MemoryGuest::journal(std::uint64_t counter) const {
  std::lock_guard lock(mutex_);
  MemoryGuestOutput output;
  std::memcpy(&output, page(0).data() + counter % kJournalEntries * sizeof output, sizeof output);
  if (output.counter != counter || counter == 0) return std::nullopt;
  return output.value;
}

std::uint64_t MemoryGuest::counter() const {
  std::lock_guard lock(mutex_);
  return registers_.counter;
}

std::uint64_t MemoryGuest::steps_done() const {
  std::lock_guard lock(mutex_);
  return registers_.steps;
}

std::uint64_t MemoryGuest::memory_hash() const {
  std::lock_guard lock(mutex_);
  return base::checksum(memory_);
}

bool MemoryGuest::running() const {
  std::lock_guard lock(mutex_);
  return running_locked();
}

void MemoryGuest::owner_pause() {
  {
    Entry entry(wanted_, mutex_);
    owner_paused_ = true;
  }
  happen(GuestEvent::Kind::paused, "by its owner");
}

void MemoryGuest::owner_resume() {
  {
    Entry entry(wanted_, mutex_);
    owner_paused_ = false;
  }
  happen(GuestEvent::Kind::resumed, "by its owner");
}

void MemoryGuest::happen(GuestEvent::Kind kind, std::string detail) {
  using Kind = GuestEvent::Kind;
  std::function<void(GuestEvent)> sink;
  {
    Entry entry(wanted_, mutex_);
    if (kind == Kind::ended || kind == Kind::crashed || kind == Kind::process_died)
      life_ = Life::ended;
    sink = event_sink_;
  }
  if (sink) sink(GuestEvent{kind, std::move(detail)});
}

void MemoryGuest::set_event_sink(std::function<void(GuestEvent)> sink) {
  Entry entry(wanted_, mutex_);
  event_sink_ = std::move(sink);
}

Status MemoryGuest::start_tracking() {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "track pages: the guest has ended");
  std::ranges::fill(written_, 0);
  tracking_ = true;
  return {};
}

void MemoryGuest::stop_tracking() {
  Entry entry(wanted_, mutex_);
  tracking_ = false;
}

Status MemoryGuest::pause() {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "pause: the guest has ended");
  if (life_ != Life::alive) return Status(Code::invalid, "pause: the guest was not activated yet");
  if (paused_) return Status(Code::invalid, "pause: the guest is paused already");
  paused_ = true;
  return {};
}

Status MemoryGuest::resume() {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "resume: the guest has ended");
  if (!paused_) return Status(Code::invalid, "resume: the guest was not paused");
  paused_ = false;
  return {};
}

Status MemoryGuest::take_written(PageSet& written) {
  Entry entry(wanted_, mutex_);
  if (!tracking_) return Status(Code::invalid, "take written pages: they are not tracked");
  written.clear();
  for (std::uint64_t word = 0; word < written_.size(); ++word) {
    for (std::uint64_t bits = std::exchange(written_[word], 0); bits != 0; bits &= bits - 1)
      written.add(page_of(word * 64 + static_cast<unsigned>(std::countr_zero(bits))));
  }
  return {};
}

std::vector<std::byte> MemoryGuest::to_bytes(const Registers& registers) {
  const std::array<std::uint64_t, 5> words{kMagic, registers.seed, registers.random,
                                           registers.counter, registers.steps};
  std::vector<std::byte> bytes(sizeof words);
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

Result<MemoryGuest::Registers> MemoryGuest::from_bytes(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, 5> words{};
  if (bytes.size() != sizeof words)
    return failure(Code::corrupt, fmt::format("memory guest's state: {} bytes instead of {}",
                                              bytes.size(), sizeof words));
  std::memcpy(words.data(), bytes.data(), bytes.size());
  if (words[0] != kMagic)
    return failure(Code::corrupt, "memory guest's state: it does not begin as one");
  return Registers{words[1], words[2], words[3], words[4]};
}

Status MemoryGuest::save_state() {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "save state: the guest has ended");
  if (!paused_) return Status(Code::invalid, "save state: the guest is not paused");
  saved_ = to_bytes(registers_);
  return {};
}

Status MemoryGuest::fetch_state(std::vector<std::byte>& state) {
  Entry entry(wanted_, mutex_);
  if (saved_.empty()) return Status(Code::invalid, "fetch state: none was saved");
  state = saved_;
  return {};
}

Status MemoryGuest::accepts(const GuestInfo& primary) const {
  std::string differs;
  const auto add = [&](std::string_view what, const auto& there, const auto& here) {
    if (there != here) differs += fmt::format("; {} is {} there and {} here", what, there, here);
  };
  add("the driver", primary.driver, info_.driver);
  add("the page size", primary.page_bytes, info_.page_bytes);
  add("the number of pages", primary.pages(), info_.pages());
  add("the layout", primary.compatibility, info_.compatibility);
  if (differs.empty()) return {};
  return Status(Code::refused, "this guest cannot continue that one" + differs);
}

Status MemoryGuest::probe_state(std::span<const std::byte> state) {
  FT_ASSIGN([[maybe_unused]] const Registers registers, from_bytes(state));
  return {};
}

Status MemoryGuest::trial_run(StillMoment& moment) {
  MemoryGuest trial({.pages = pages_, .hole_pages = hole_, .standby = true});
  FT_ASSIGN(const auto state, moment.hold());
  {
    Entry entry(wanted_, mutex_);
    std::copy(memory_.begin(), memory_.end(), trial.memory_.begin());
  }
  FT_TRY(trial.load_state(state));
  FT_TRY(moment.let_go());
  FT_TRY(trial.activate());
  if (trial.step(1) != 1) return Status(Code::internal, "the copy does not run");
  return {};
}

Status MemoryGuest::load_state(std::span<const std::byte> state) {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "load state: the guest has ended");
  if (life_ == Life::alive) return Status(Code::invalid, "load state: the guest is a primary");
  FT_ASSIGN(registers_, from_bytes(state));
  life_ = Life::loaded;
  return {};
}

Status MemoryGuest::activate() {
  Entry entry(wanted_, mutex_);
  if (life_ == Life::ended) return Status(Code::guest_gone, "activate: the guest has ended");
  if (life_ != Life::loaded) return Status(Code::invalid, "activate: no state was loaded");
  life_ = Life::alive;
  return {};
}

void MemoryGuest::destroy() {
  Entry entry(wanted_, mutex_);
  life_ = Life::ended;
  tracking_ = false;
}

std::unique_ptr<MemoryGuest> make_memory_guest(std::uint64_t pages, std::uint64_t seed) {
  return std::make_unique<MemoryGuest>(MemoryGuestOptions{.pages = pages, .seed = seed});
}

std::unique_ptr<MemoryGuest> make_memory_standby(std::uint64_t pages) {
  return std::make_unique<MemoryGuest>(MemoryGuestOptions{.pages = pages, .standby = true});
}

}  // namespace libft::guest
