// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/checkpoint/epoch_assembler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/checksum.h"
#include "core/page_codec.h"
#include "strategy/checkpoint/epoch_checksum.h"
#include "strategy/checkpoint/guest_pages.h"
#include "wire/pages.h"

namespace libft::checkpoint {
namespace {

constexpr std::size_t kReadyBytes = 16u << 20;  // An epoch of 4096 pages finds its memory there.

using wire::Coding;

Status corrupt(std::string what) { return Status(Code::corrupt, std::move(what)); }

// Copying zeros over zeros would make a sparse guest's memory real.
void write_zero(std::span<std::byte> page) {
  if (!core::is_zero(page)) std::memset(page.data(), 0, page.size());
}

}  // namespace

struct EpochAssembler::Impl {
  // idle -> pages -> state -> idle with `complete`; anything wrong: broken, until drop_partial().
  enum class Phase { idle, pages, state, broken };
  struct Staged {  // A page of the epoch, to be copied by apply().
    std::byte* to;
    const std::byte* from;  // Null: zero.
  };

  Impl(const GuestId& guest_in, const GuestInfo& info, StagingArena& arena_in)
      : guest(guest_in.bytes()),
        pages(info),
        arena(arena_in),
        scratch(pages.page_bytes()),
        covered(pages.pages(), false),
        zero_checksum(core::page_checksum(scratch)) {
    auto reserved = arena.reserve(pages.bytes(), std::min(pages.bytes(), kReadyBytes));
    if (reserved)
      staging = *reserved;
    else
      no_staging = reserved.error().within("reserve memory to decode epochs into");
  }
  ~Impl() {
    if (no_staging.ok()) arena.give_back(staging);
  }

  Result<std::optional<CompleteEpoch>> dispatch(const wire::Frame& frame);
  Status check_order(const wire::Frame& frame) const;
  Status on_sync(const wire::Frame& frame);
  Status on_probe(const wire::Frame& frame);
  Status on_begin(const wire::Frame& frame);
  Status on_pages(const wire::Frame& frame);
  Status on_state(const wire::Frame& frame);
  Result<std::optional<CompleteEpoch>> on_end(const wire::Frame& frame);
  Status check_part(const wire::Frame& frame, const EpochId& frame_base, Phase wanted) const;
  Status check_end(const wire::EpochEnd& end) const;
  Status sync_page(const wire::PageEntry& entry);
  Status stage_page(const wire::PageEntry& entry);
  Status decode(const wire::PageEntry& entry, std::span<const std::byte> held,
                std::span<std::byte> page) const;
  Result<std::uint64_t> locate(const wire::PageEntry& entry) const;
  Status decode_state();
  void cover(std::uint64_t index);
  void forget_epoch();
  void drop_partial();
  void start_anew();

  const std::array<std::uint8_t, 16> guest;
  GuestPages pages;
  StagingArena& arena;
  std::span<std::byte> staging;
  Status no_staging;
  std::vector<std::byte> scratch;

  // The image: what is in the guest's memory.
  EpochId applied;
  bool image_complete = false;  // An epoch with the flag `first` was applied.
  std::vector<bool> covered;    // Until then: pages that came, by sync or in an applied epoch.
  std::uint64_t covered_pages = 0;
  std::uint64_t sync_sequence = 0;
  std::vector<std::byte> state;
  const std::uint32_t zero_checksum;

  // The epoch that is half here, or complete and not applied.
  Phase phase = Phase::idle;
  EpochId id;
  wire::EpochBegin plan;
  std::optional<CompleteEpoch> complete;
  std::vector<Staged> staged;
  PageSet staged_pages;
  std::uint64_t pages_here = 0, uncovered_here = 0, frames_here = 0;
  std::size_t staging_used = 0;
  std::optional<PageNo> last_page;
  EpochChecksum checksum;
  std::vector<std::byte> state_coded, state_next;

  // The state to be tried.
  std::vector<std::byte> probe;
  bool probe_partial = false;
  std::optional<std::vector<std::byte>> probe_complete;
};

// --- one page ----------------------------------------------------------------------------------

Result<std::uint64_t> EpochAssembler::Impl::locate(const wire::PageEntry& entry) const {
  if (last_page && entry.page <= *last_page)
    return failure(corrupt(fmt::format("page {} after page {}: twice, or out of order",
                                       entry.page.value, last_page->value)));
  const auto index = pages.index(entry.page);
  if (!index) return failure(corrupt(fmt::format("page {} is not this guest's", entry.page.value)));
  const bool needs_base = entry.coding == Coding::delta || entry.coding == Coding::unchanged;
  if (needs_base && !image_complete && !covered[*index])
    return failure(
        corrupt(fmt::format("page {} is a change of a page that never came", entry.page.value)));
  return *index;
}

Status EpochAssembler::Impl::decode(const wire::PageEntry& entry, std::span<const std::byte> held,
                                    std::span<std::byte> page) const {
  Status status = core::decode_page(entry.coding, entry.coded, held, page);
  if (status.ok() && core::page_checksum(page) != entry.checksum)
    status = corrupt("its checksum does not match what was decoded");
  return status.within(fmt::format("page {}", entry.page.value));
}

void EpochAssembler::Impl::cover(std::uint64_t index) {
  if (covered[index]) return;
  covered[index] = true;
  ++covered_pages;
}

// --- first synchronisation ---------------------------------------------------------------------

Status EpochAssembler::Impl::on_sync(const wire::Frame& frame) {
  auto sync = wire::decode_pages(frame);
  if (!sync) return sync.error();
  if (phase != Phase::idle) return corrupt("sync_pages inside an epoch");
  if (image_complete) return corrupt("sync_pages after the image was complete");
  if (sync->base != applied)
    return corrupt(fmt::format("sync_pages build upon epoch {}, here is {}", to_string(sync->base),
                               to_string(applied)));
  if (sync->sequence != sync_sequence)
    return corrupt(
        fmt::format("sync_pages number {} where {} was due", sync->sequence, sync_sequence));
  ++sync_sequence;
  last_page.reset();
  for (auto entries = sync->entries; !entries.empty();) {
    auto entry = wire::next_entry(entries);
    if (!entry) return entry.error();
    FT_TRY(sync_page(*entry));
  }
  return {};
}

Status EpochAssembler::Impl::sync_page(const wire::PageEntry& entry) {
  const auto index = locate(entry);
  if (!index) return index.error();
  last_page = entry.page;
  const auto page = pages.from(entry.page).first(pages.page_bytes());
  FT_TRY(decode(entry, page, scratch));
  if (entry.coding == Coding::zero)
    write_zero(page);
  else if (entry.coding != Coding::unchanged)
    std::memcpy(page.data(), scratch.data(), page.size());
  cover(*index);
  return {};
}

Status EpochAssembler::Impl::on_probe(const wire::Frame& frame) {
  auto chunk = wire::decode_probe_chunk(frame);
  if (!chunk) return chunk.error();
  if (chunk->offset == 0) {
    probe.clear();
    probe_partial = true;
  }
  if (!probe_partial || chunk->offset != probe.size())
    return corrupt("probe_state: a part is missing or came twice");
  if (chunk->bytes.size() > chunk->state_bytes - std::min(chunk->offset, chunk->state_bytes))
    return corrupt("probe_state: more bytes than announced");
  probe.insert(probe.end(), chunk->bytes.begin(), chunk->bytes.end());
  if (probe.size() < chunk->state_bytes)
    return chunk->bytes.empty() ? corrupt("probe_state: an empty part") : Status();
  probe_partial = false;
  if (base::checksum(probe) != chunk->checksum)
    return corrupt("probe_state: its checksum does not match");
  probe_complete = std::move(probe);
  probe = {};
  return {};
}

// --- an epoch ----------------------------------------------------------------------------------

Status EpochAssembler::Impl::on_begin(const wire::Frame& frame) {
  auto begin = wire::decode_epoch_begin(frame);
  if (!begin) return begin.error();
  if (phase != Phase::idle) return corrupt(fmt::format("it begins inside epoch {}", to_string(id)));
  if (begin->base != applied)
    return corrupt(fmt::format("it builds upon epoch {}, here is {}", to_string(begin->base),
                               to_string(applied)));
  const EpochId& next = frame.header.id;
  if (next.generation < applied.generation || next.epoch <= applied.epoch)
    return corrupt(fmt::format("it is not newer than its base {}", to_string(applied)));
  if (!image_complete && !begin->first) return corrupt("it builds upon an incomplete image");
  if (begin->pages > pages.pages())
    return corrupt(fmt::format("{} pages of a guest that has {}", begin->pages, pages.pages()));
  forget_epoch();  // last_page may be left from the synchronisation.
  phase = Phase::pages;
  id = next;
  plan = *begin;
  checksum.begin(id, plan);
  return {};
}

// What all frames between begin and end must agree upon.
Status EpochAssembler::Impl::check_part(const wire::Frame& frame, const EpochId& frame_base,
                                        Phase wanted) const {
  if (phase == Phase::idle) return corrupt("a part without a begin");
  if (frame.header.id != id)
    return corrupt(fmt::format("a part of it inside epoch {}", to_string(id)));
  if (frame_base != plan.base)
    return corrupt(fmt::format("a part that builds upon epoch {} instead of {}",
                               to_string(frame_base), to_string(plan.base)));
  if (phase != wanted && wanted == Phase::pages) return corrupt("pages after its device state");
  if (wanted == Phase::state && pages_here != plan.pages)
    return corrupt(fmt::format("{} of {} pages came", pages_here, plan.pages));
  return {};
}

Status EpochAssembler::Impl::on_pages(const wire::Frame& frame) {
  auto part = wire::decode_pages(frame);
  if (!part) return part.error();
  FT_TRY(check_part(frame, part->base, Phase::pages));
  if (part->sequence != frames_here)
    return corrupt(
        fmt::format("epoch_pages number {} where {} was due", part->sequence, frames_here));
  ++frames_here;
  for (auto entries = part->entries; !entries.empty();) {
    auto entry = wire::next_entry(entries);
    if (!entry) return entry.error();
    FT_TRY(stage_page(*entry));
  }
  return {};
}

Status EpochAssembler::Impl::stage_page(const wire::PageEntry& entry) {
  if (pages_here == plan.pages)
    return corrupt(fmt::format("more pages than the {} announced", plan.pages));
  const auto index = locate(entry);
  if (!index) return index.error();
  last_page = entry.page;
  ++pages_here;
  if (!covered[*index]) ++uncovered_here;
  checksum.page(entry.page, entry.checksum);
  if (entry.coding != Coding::unchanged) staged_pages.add(entry.page);
  const auto held = pages.from(entry.page).first(pages.page_bytes());
  if (entry.coding == Coding::zero) {
    if (!entry.coded.empty() || entry.checksum != zero_checksum)
      return corrupt(fmt::format("page {}: a zero page that is none", entry.page.value));
    staged.push_back({held.data(), nullptr});
    return {};
  }
  if (entry.coding == Coding::unchanged) {
    if (!entry.coded.empty() || entry.checksum != core::page_checksum(held))
      return corrupt(fmt::format("page {}: said to be unchanged, and differs", entry.page.value));
    return {};
  }
  const auto to = staging.subspan(staging_used, pages.page_bytes());
  FT_TRY(decode(entry, held, to));
  staging_used += to.size();
  staged.push_back({held.data(), to.data()});
  return {};
}

Status EpochAssembler::Impl::on_state(const wire::Frame& frame) {
  auto chunk = wire::decode_state_chunk(frame);
  if (!chunk) return chunk.error();
  FT_TRY(check_part(frame, chunk->base, Phase::state));
  if (chunk->offset != state_coded.size())
    return corrupt("device state: a part is missing or came twice");
  if (chunk->bytes.size() > plan.state_coded_bytes - state_coded.size())
    return corrupt("device state: more bytes than announced");
  state_coded.insert(state_coded.end(), chunk->bytes.begin(), chunk->bytes.end());
  phase = Phase::state;
  return {};
}

Status EpochAssembler::Impl::decode_state() {
  if (plan.state_coding == Coding::raw) {
    state_next.swap(state_coded);
    return {};
  }
  state_next.assign(state.begin(), state.begin() + std::ptrdiff_t(std::min<std::size_t>(
                                                       state.size(), plan.state_bytes)));
  state_next.resize((plan.state_bytes + 7) / 8 * 8);
  FT_TRY(core::apply_delta(state_coded, state_next).within("device state"));
  state_next.resize(plan.state_bytes);
  return {};
}

Status EpochAssembler::Impl::check_end(const wire::EpochEnd& end) const {
  if (end.pages != plan.pages || end.page_frames != frames_here)
    return corrupt(fmt::format("its end counts {} pages in {} frames, here are {} in {}", end.pages,
                               end.page_frames, pages_here, frames_here));
  if (state_coded.size() != plan.state_coded_bytes)
    return corrupt(fmt::format("{} of {} bytes of its device state came", state_coded.size(),
                               plan.state_coded_bytes));
  if (!image_complete && covered_pages + uncovered_here != pages.pages())
    return corrupt(fmt::format("it should complete the image, and {} of {} pages never came",
                               pages.pages() - covered_pages - uncovered_here, pages.pages()));
  return {};
}

Result<std::optional<CompleteEpoch>> EpochAssembler::Impl::on_end(const wire::Frame& frame) {
  FT_ASSIGN(const auto end, wire::decode_epoch_end(frame));
  FT_TRY(check_part(frame, end.base, Phase::state));
  FT_TRY(check_end(end));
  FT_TRY(decode_state());
  if (checksum.end(state_next) != end.checksum)
    return failure(corrupt("the checksum of the whole epoch does not match"));
  phase = Phase::idle;
  complete =
      CompleteEpoch{id, plan.first, plan.guest_ended, plan.guest_paused, plan.rebase, plan.run};
  return complete;
}

Result<std::optional<CompleteEpoch>> EpochAssembler::Impl::dispatch(const wire::Frame& frame) {
  switch (frame.header.type) {
    case wire::FrameType::sync_pages: FT_TRY(on_sync(frame)); break;
    case wire::FrameType::probe_state: FT_TRY(on_probe(frame)); break;
    case wire::FrameType::epoch_begin: FT_TRY(on_begin(frame)); break;
    case wire::FrameType::epoch_pages: FT_TRY(on_pages(frame)); break;
    case wire::FrameType::epoch_state: FT_TRY(on_state(frame)); break;
    case wire::FrameType::epoch_end: return on_end(frame);
    case wire::FrameType::input_copy: break;  // The session's; no part of an image.
    default: return failure(corrupt("not a bulk frame"));
  }
  return std::nullopt;
}

// Whether a frame may be looked at now at all. Not the peer's fault, save for the last.
Status EpochAssembler::Impl::check_order(const wire::Frame& frame) const {
  FT_TRY(no_staging);
  const bool image = frame.header.type != wire::FrameType::probe_state &&
                     frame.header.type != wire::FrameType::input_copy;
  if (complete && image)
    return Status(Code::busy, fmt::format("epoch {} is complete and must be applied first",
                                          to_string(complete->id)));
  if (phase == Phase::broken)
    return corrupt("the stream was corrupt before: close this connection");
  if (frame.header.guest != guest) return Status(Code::refused, "a frame of another guest");
  return {};
}

// --- the whole ---------------------------------------------------------------------------------

void EpochAssembler::Impl::forget_epoch() {
  complete.reset();
  staged.clear();
  staged_pages.clear();
  pages_here = uncovered_here = frames_here = 0;
  staging_used = 0;
  last_page.reset();
  state_coded.clear();
}

void EpochAssembler::Impl::drop_partial() {
  phase = Phase::idle;
  probe.clear();
  probe_partial = false;
  if (complete) return;  // Nothing of another epoch can be here beside it.
  // Half a first synchronisation cannot be continued: nobody knows which of it is the newest.
  if (image_complete)
    forget_epoch();
  else
    start_anew();
}

void EpochAssembler::Impl::start_anew() {
  forget_epoch();
  phase = Phase::idle;
  probe.clear();
  probe_partial = false;
  applied = {};
  image_complete = false;
  covered.assign(pages.pages(), false);
  covered_pages = 0;
  sync_sequence = 0;
  state.clear();
}

EpochAssembler::EpochAssembler(const GuestId& guest, const GuestInfo& info, StagingArena& arena)
    : impl_(std::make_unique<Impl>(guest, info, arena)) {}
EpochAssembler::~EpochAssembler() = default;

void EpochAssembler::reset() {
  impl_->start_anew();
  impl_->probe_complete.reset();
}

void EpochAssembler::move_to(const GuestInfo& info) {
  FT_ASSERT(!impl_->complete);
  impl_->drop_partial();
  impl_->pages = GuestPages(info);
}

void EpochAssembler::drop_partial() { impl_->drop_partial(); }

Result<std::optional<CompleteEpoch>> EpochAssembler::on_frame(const wire::Frame& frame) {
  FT_TRY(impl_->check_order(frame));
  auto answer = impl_->dispatch(frame);
  if (answer) return answer;
  if (!impl_->complete) impl_->forget_epoch();
  impl_->phase = Impl::Phase::broken;
  return failure(answer.error().within(fmt::format(
      "frame type {}, epoch {}", unsigned(frame.header.type), to_string(frame.header.id))));
}

void EpochAssembler::each_page(const std::function<void(std::span<const std::byte>)>& visit) const {
  for (const Impl::Staged& page : impl_->staged) visit({page.to, impl_->pages.page_bytes()});
}

const PageSet& EpochAssembler::pages() const {
  FT_ASSERT(impl_->complete.has_value());
  return impl_->staged_pages;
}

void EpochAssembler::apply() {
  FT_ASSERT(impl_->complete.has_value());
  for (const Impl::Staged& page : impl_->staged) {
    if (page.from == nullptr)
      write_zero({page.to, impl_->pages.page_bytes()});
    else
      std::memcpy(page.to, page.from, impl_->pages.page_bytes());
  }
  impl_->state.swap(impl_->state_next);
  impl_->applied = impl_->complete->id;
  if (impl_->complete->first) impl_->image_complete = true;
  impl_->forget_epoch();
}

void EpochAssembler::adopt(EpochId id, std::vector<std::byte> state) {
  FT_ASSERT(impl_->image_complete);
  impl_->drop_partial();
  impl_->applied = id;
  impl_->state = std::move(state);
}

void EpochAssembler::take_over(EpochId id, std::vector<std::byte> state) {
  impl_->image_complete = true;
  adopt(id, std::move(state));
}

EpochId EpochAssembler::newest_applied() const { return impl_->applied; }

bool EpochAssembler::partial() const {
  return impl_->phase == Impl::Phase::pages || impl_->phase == Impl::Phase::state;
}

std::span<const std::byte> EpochAssembler::state() const { return impl_->state; }

std::optional<std::vector<std::byte>> EpochAssembler::take_probe_state() {
  return std::exchange(impl_->probe_complete, std::nullopt);
}

}  // namespace libft::checkpoint
