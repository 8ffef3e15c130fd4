// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/checkpoint/checkpointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "strategy/checkpoint/guest_pages.h"

namespace libft::checkpoint {
namespace {

// So that a pause does not wait for memory: more runs than this are written by few guests in an
// epoch, and cost one allocation, once.
constexpr std::uint64_t kRunsReserved = 64u << 10;
constexpr std::size_t kStateBytesReserved = 1u << 20;

struct Slot {
  CapturedEpoch epoch;
  std::span<std::byte> memory;  // A page for each of the guest's.
  bool taken = false;

  void empty() {  // Keeps the memory: the next pause is not to wait for any.
    epoch.first = epoch.guest_ended = epoch.guest_paused = epoch.rebase = epoch.run = false;
    epoch.pages.clear();
    epoch.raw.clear();
    epoch.state.clear();
    epoch.staging = {};
    epoch.times = {};
    taken = false;
  }
};

bool stays_paused(const CaptureOrder& order) { return order.stay_paused || order.guest_ended; }

}  // namespace

struct Checkpointer::Impl {
  Impl(Guest& guest_in, OutputGate& gate_in, StagingArena& arena_in, const Clock& clock_in)
      : guest(guest_in), gate(gate_in), arena(arena_in), clock(clock_in), pages(guest_in.info()) {}
  ~Impl() {
    for (Slot& slot : slots) arena.give_back(slot.memory);
  }

  Status reserve(unsigned count, std::size_t ready_bytes);
  Slot* free_slot();
  Status run(const CaptureOrder& order, Slot& slot);
  Status stopped(const CaptureOrder& order, Slot& slot, bool& holds);
  Status capture(Slot& slot);
  Status copy_pages(Slot& slot);
  Status hold_and_seal(const CaptureOrder& order, bool& holds);
  Status resume(const CaptureOrder& order, CapturedEpoch& epoch);
  Status undo(const CaptureOrder& order, const CapturedEpoch& epoch, bool holds, bool paused,
              Status why);
  Nanos lap();

  Guest& guest;
  OutputGate& gate;
  StagingArena& arena;
  const Clock& clock;
  const GuestPages pages;
  std::vector<Slot> slots;
  PageSet again;  // Taken from the guest by captures that failed.
  PageSet raw;    // Given by carry().
  Time mark;      // Where the current phase began.
};

Status Checkpointer::Impl::reserve(unsigned count, std::size_t ready_bytes) {
  slots.reserve(count);
  for (unsigned i = 0; i < count; ++i) {
    auto memory = arena.reserve(pages.bytes(), std::min(pages.bytes(), ready_bytes));
    if (!memory) return memory.error().within("reserve staging memory");
    Slot& slot = slots.emplace_back();
    slot.memory = *memory;
    slot.epoch.pages.reserve(std::min(pages.pages() / 2 + 1, kRunsReserved));
    slot.epoch.state.reserve(kStateBytesReserved);
  }
  return {};
}

Slot* Checkpointer::Impl::free_slot() {
  const auto slot =
      std::find_if(slots.begin(), slots.end(), [](const Slot& s) { return !s.taken; });
  return slot == slots.end() ? nullptr : &*slot;
}

Nanos Checkpointer::Impl::lap() {
  const Time now = clock.now();
  const Nanos lap = now - mark;
  mark = now;
  return lap;
}

// --- the phases --------------------------------------------------------------------------------

// pause, capture, seal, resume; then, while the guest runs again, the state is fetched.
Status Checkpointer::Impl::run(const CaptureOrder& order, Slot& slot) {
  CapturedEpoch& epoch = slot.epoch;
  epoch.id = order.id;
  epoch.first = order.begin_hold;
  epoch.guest_ended = order.guest_ended;
  epoch.guest_paused = order.guest_paused;
  epoch.rebase = order.rebase;
  epoch.run = order.run;
  epoch.paused_at = mark = clock.now();
  FT_TRY(guest.pause().within("pause"));
  epoch.times.pause = lap();

  bool holds = false, paused = true;
  Status status = stopped(order, slot, holds);
  if (status.ok()) {
    status = resume(order, epoch);
    paused = stays_paused(order);
  }
  // A resume that failed is asked for once more by undo(): nothing else can be done for the guest.
  if (!status.ok()) return undo(order, epoch, holds, true, status);
  status = guest.fetch_state(epoch.state).within("fetch the device state");
  if (!status.ok()) return undo(order, epoch, holds, paused, status);
  again.clear();
  raw.clear();
  return {};
}

// What is done while the guest stands still.
Status Checkpointer::Impl::stopped(const CaptureOrder& order, Slot& slot, bool& holds) {
  FT_TRY(capture(slot));
  slot.epoch.times.capture = lap();
  FT_TRY(hold_and_seal(order, holds));
  if (order.sealed) order.sealed();
  slot.epoch.times.seal = lap();
  return {};
}

Status Checkpointer::Impl::capture(Slot& slot) {
  CapturedEpoch& epoch = slot.epoch;
  if (Status status = guest.take_written(epoch.pages); !status.ok()) {
    epoch.pages.clear();  // The driver reports them again.
    return status.within("capture: written pages");
  }
  if (!again.empty()) epoch.pages.merge(again);
  if (!raw.empty()) {
    epoch.pages.merge(raw);
    epoch.raw = raw;
  }
  FT_TRY(copy_pages(slot).within("capture"));
  return guest.save_state().within("capture: device state");
}

Status Checkpointer::Impl::copy_pages(Slot& slot) {
  std::size_t used = 0;
  for (const PageRun& run : slot.epoch.pages.runs()) {
    PageNo page = run.first;
    for (std::size_t left = run.count * pages.page_bytes(); left > 0;) {
      const auto here = pages.from(page);
      if (here.empty())
        return Status(Code::internal, fmt::format("the driver reports page {} as written, and the "
                                                  "guest has no such page",
                                                  page.value));
      const std::size_t bytes = std::min(left, here.size());
      std::memcpy(slot.memory.data() + used, here.data(), bytes);
      used += bytes;
      left -= bytes;
      page.value += bytes / pages.page_bytes();
    }
  }
  slot.epoch.staging = slot.memory.first(used);
  return {};
}

Status Checkpointer::Impl::hold_and_seal(const CaptureOrder& order, bool& holds) {
  holds = order.begin_hold;  // Also when hold() fails: half a hold is undone as well.
  if (order.begin_hold) FT_TRY(gate.hold().within("seal: begin to hold output"));
  return gate.seal(order.id).within("seal");
}

Status Checkpointer::Impl::resume(const CaptureOrder& order, CapturedEpoch& epoch) {
  if (!stays_paused(order)) FT_TRY(guest.resume().within("resume"));
  epoch.times.resume = lap();
  epoch.resumed_at = mark;
  return {};
}

// The guest runs again as before, and what was taken from its written set comes again. A gate that
// this very call made hold is opened first: nothing would ever release what it holds.
// A guest that ended on purpose is not set running.
Status Checkpointer::Impl::undo(const CaptureOrder& order, const CapturedEpoch& epoch, bool holds,
                                bool paused, Status why) {
  std::string text = why.message();
  if (holds)
    if (const Status open = gate.open(); !open.ok())
      text += fmt::format("; and the gate could not be opened again: {}", open.message());
  if (paused && !order.guest_ended)
    if (const Status resumed = guest.resume(); !resumed.ok())
      text += fmt::format("; and the guest could not be resumed: {}", resumed.message());
  again.merge(epoch.pages);
  return Status(why.code(), std::move(text));
}

// --- the interface -----------------------------------------------------------------------------

Result<std::unique_ptr<Checkpointer>> Checkpointer::make(Guest& guest, OutputGate& gate,
                                                         StagingArena& arena, const Clock& clock,
                                                         unsigned slots,
                                                         std::size_t staging_bytes) {
  auto impl = std::make_unique<Impl>(guest, gate, arena, clock);
  FT_TRY(impl->reserve(slots, staging_bytes));
  return std::unique_ptr<Checkpointer>(new Checkpointer(std::move(impl)));
}

Checkpointer::Checkpointer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpointer::~Checkpointer() = default;

bool Checkpointer::slot_free() const { return impl_->free_slot() != nullptr; }

Result<CapturedEpoch*> Checkpointer::run(const CaptureOrder& order) {
  Slot* const slot = impl_->free_slot();
  FT_ASSERT(slot != nullptr);
  slot->taken = true;
  if (Status status = impl_->run(order, *slot); !status.ok()) {
    give_back(&slot->epoch);
    return failure(status.within(fmt::format("checkpoint {}", to_string(order.id))));
  }
  return &slot->epoch;
}

void Checkpointer::carry(const PageSet& pages) { impl_->raw.merge(pages); }

void Checkpointer::want(const PageSet& pages) { impl_->again.merge(pages); }

void Checkpointer::give_back(CapturedEpoch* epoch) {
  const auto slot = std::find_if(impl_->slots.begin(), impl_->slots.end(),
                                 [epoch](const Slot& s) { return &s.epoch == epoch; });
  FT_ASSERT(slot != impl_->slots.end() && slot->taken);
  slot->empty();
}

void Checkpointer::reclaim() {
  for (Slot& slot : impl_->slots) slot.empty();
}

}  // namespace libft::checkpoint
