// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/checkpoint/epoch_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checksum.h"
#include "core/page_codec.h"
#include "strategy/checkpoint/epoch_checksum.h"
#include "strategy/checkpoint/guest_pages.h"
#include "strategy/checkpoint/reference_image.h"
#include "wire/frame.h"
#include "wire/pages.h"

namespace libft::checkpoint {
namespace {

// One frame is one piece of work. Big enough that frames cost nothing, small enough that the
// backup decodes the first while the last is being coded.
constexpr std::size_t kChunkBytes = 256u << 10;
constexpr std::size_t kChunksPerWorker = 4;

std::size_t chunk_pages(std::size_t page_bytes) {
  return std::max<std::size_t>(1, kChunkBytes / page_bytes);
}
static_assert(wire::PagesFrameWriter::bytes_needed(1, wire::kPageBytesMax) <=
              wire::kHeaderBytes + wire::kPayloadBytesMax);

using Held = ReferenceImage::Held;

struct Task {  // One page of a wave.
  PageNo page;
  std::uint64_t index = 0;
  std::span<const std::byte> bytes;
  ReferenceImage::Place place;
  bool raw = false;
  wire::Coding coding = wire::Coding::raw;  // The answer.
  std::uint32_t checksum = 0;               // Likewise.
};

struct Chunk {  // The part of a wave that becomes one frame.
  std::unique_ptr<std::byte[]> buffer;
  std::span<Task> tasks;
  std::uint64_t sequence = 0;
  std::span<const std::byte> frame;
};

// Where pages come from: copies that lie back to back in the order of the runs.
struct Source {
  std::span<const PageRun> runs;
  std::span<const std::byte> copies;
  const PageSet* raw = nullptr;
};

void pad_to_words(std::vector<std::byte>& bytes, std::span<const std::byte> from,
                  std::size_t size) {
  bytes.assign(from.begin(), from.begin() + std::ptrdiff_t(std::min(from.size(), size)));
  bytes.resize((size + 7) / 8 * 8);
}

}  // namespace

struct EpochEncoder::Impl {
  Impl(const GuestId& guest, const GuestInfo& info, Executor& executor_in,
       EncoderOptions options_in)
      : pages(info),
        executor(executor_in),
        options(options_in),
        reference(pages.pages(), pages.page_bytes(),
                  options.delta ? options.reference_bytes_max : 0),
        zero_page(pages.page_bytes()),
        per_chunk(chunk_pages(pages.page_bytes())) {
    header.guest = guest.bytes();
    chunks.resize(std::max(1u, executor.workers()) * kChunksPerWorker);
    tasks.resize(chunks.size() * per_chunk);
    const auto bytes = wire::PagesFrameWriter::bytes_needed(per_chunk, pages.page_bytes());
    for (Chunk& chunk : chunks) chunk.buffer.reset(new std::byte[bytes]);
    pieces.reserve(chunks.size() + 2);
  }

  Status send_pages(wire::FrameType type, const Source& source, std::uint64_t& sequence,
                    const FrameSink& sink);
  void encode_wave(wire::FrameType type, std::size_t count, std::uint64_t& sequence);
  void encode_chunk(Chunk& chunk) const;
  void encode_task(Task& task, wire::PagesFrameWriter& frame) const;
  void settle_wave(std::size_t count);
  Status flush(const FrameSink& sink);

  wire::EpochBegin plan(const CapturedEpoch& epoch);
  void encode_state(std::span<const std::byte> state, wire::EpochBegin& begin);
  void append_tail(const wire::EpochBegin& begin, std::uint64_t frames,
                   std::span<const std::byte> state);
  Status encode(const CapturedEpoch& epoch, const FrameSink& sink);
  void failed(const CapturedEpoch& epoch);

  GuestPages pages;
  Executor& executor;
  EncoderOptions options;
  ReferenceImage reference;
  std::vector<std::byte> zero_page;
  std::size_t per_chunk;

  wire::FrameHeader header;  // Of the frames being written.
  EpochId base;              // The newest epoch of this stream.
  std::uint64_t sync_sequence = 0;
  std::vector<Chunk> chunks;
  std::vector<Task> tasks;
  std::vector<std::byte> head, tail;  // Small frames before and after the pages.
  std::vector<std::span<const std::byte>> pieces;
  EpochChecksum checksum;
  EncodeStatistics statistics;

  bool state_known = false;
  std::vector<std::byte> state_sent;  // The device state of `base`.
  std::vector<std::byte> state_padded, state_base_padded, state_coded;
  std::span<const std::byte> state_travels;  // Into state_coded or the state itself.
};

// --- pages -------------------------------------------------------------------------------------

Status EpochEncoder::Impl::send_pages(wire::FrameType type, const Source& source,
                                      std::uint64_t& sequence, const FrameSink& sink) {
  std::size_t count = 0;
  const std::byte* from = source.copies.data();
  reference.begin_wave();
  for (const PageRun& run : source.runs) {
    for (std::uint64_t i = 0; i < run.count; ++i, from += pages.page_bytes()) {
      const PageNo page{run.first.value + i};
      const auto index = pages.index(page);
      if (!index)
        return Status(Code::internal, fmt::format("page {} is not the guest's", page.value));
      const bool raw = source.raw != nullptr && source.raw->contains(page);
      tasks[count++] = {page, *index, {from, pages.page_bytes()}, reference.place(*index), raw};
      if (count < tasks.size()) continue;
      encode_wave(type, count, sequence);
      FT_TRY(flush(sink));  // The buffers are needed again.
      reference.begin_wave();
      count = 0;
    }
  }
  encode_wave(type, count, sequence);
  return {};
}

void EpochEncoder::Impl::encode_wave(wire::FrameType type, std::size_t count,
                                     std::uint64_t& sequence) {
  header.type = type;
  const std::size_t jobs = (count + per_chunk - 1) / per_chunk;
  for (std::size_t job = 0; job < jobs; ++job) {
    const std::size_t first = job * per_chunk;
    chunks[job].tasks = std::span(tasks).subspan(first, std::min(per_chunk, count - first));
    chunks[job].sequence = sequence++;
  }
  if (jobs == 1)
    encode_chunk(chunks[0]);  // Waking a worker would take longer.
  else if (jobs > 1)
    executor.run(jobs, [this](std::size_t job) { encode_chunk(chunks[job]); });
  settle_wave(count);
  for (std::size_t job = 0; job < jobs; ++job) pieces.push_back(chunks[job].frame);
}

// On a worker. Reads and writes the slots of its own tasks only.
void EpochEncoder::Impl::encode_chunk(Chunk& chunk) const {
  const auto bytes = wire::PagesFrameWriter::bytes_needed(per_chunk, pages.page_bytes());
  wire::PagesFrameWriter frame({chunk.buffer.get(), bytes}, header, base, chunk.sequence);
  for (Task& task : chunk.tasks) encode_task(task, frame);
  chunk.frame = frame.finish();
}

void EpochEncoder::Impl::encode_task(Task& task, wire::PagesFrameWriter& frame) const {
  std::span<const std::byte> held;
  if (!task.raw && task.place.held == Held::zero) held = zero_page;
  if (!task.raw && task.place.held == Held::image) held = {task.place.slot, task.bytes.size()};
  const auto coded = core::encode_page(task.bytes, held, frame.room());
  task.coding = coded.coding;
  task.checksum = core::page_checksum(task.bytes);
  frame.add(task.page, coded.coding, coded.bytes, task.checksum);
  const bool other = coded.coding == wire::Coding::delta || coded.coding == wire::Coding::raw;
  if (other && task.place.slot != nullptr)
    std::memcpy(task.place.slot, task.bytes.data(), task.bytes.size());
}

void EpochEncoder::Impl::settle_wave(std::size_t count) {
  for (const Task& task : std::span(tasks).first(count)) {
    checksum.page(task.page, task.checksum);
    const bool zero = task.coding == wire::Coding::zero;
    const bool image = !zero && task.place.slot != nullptr;
    reference.settle(task.index, zero ? Held::zero : image ? Held::image : Held::nothing);
    statistics.zero += zero;
    statistics.delta += task.coding == wire::Coding::delta;
    statistics.raw += task.coding == wire::Coding::raw;
    statistics.unchanged += task.coding == wire::Coding::unchanged;
  }
  statistics.pages += count;
}

Status EpochEncoder::Impl::flush(const FrameSink& sink) {
  for (const auto& piece : pieces) statistics.bytes += piece.size();
  const Status status = pieces.empty() ? Status() : sink(pieces);
  pieces.clear();
  return status;
}

// --- device state ------------------------------------------------------------------------------

void EpochEncoder::Impl::encode_state(std::span<const std::byte> state, wire::EpochBegin& begin) {
  begin.state_bytes = state.size();
  begin.state_coding = wire::Coding::raw;
  state_travels = state;
  if (options.delta_state && state_known && !state.empty()) {
    pad_to_words(state_padded, state, state.size());
    pad_to_words(state_base_padded, state_sent, state.size());
    state_coded.resize(state_padded.size());
    auto coded = core::encode_delta(state_padded, state_base_padded, state_coded, state.size() / 2);
    if (coded && *coded == 0 && state.size() >= 4) {
      // Equal: still one operation, one that changes nothing, so that something travels.
      std::fill_n(state_coded.begin(), 2, std::byte{0});
      coded = 2;
    }
    if (coded && *coded > 0) {
      begin.state_coding = wire::Coding::delta;
      state_travels = std::span<const std::byte>(state_coded).first(*coded);
    }
  }
  begin.state_coded_bytes = state_travels.size();
}

void EpochEncoder::Impl::append_tail(const wire::EpochBegin& begin, std::uint64_t frames,
                                     std::span<const std::byte> state) {
  tail.clear();
  for (std::size_t at = 0; at < state_travels.size(); at += wire::kStateChunkBytes) {
    const auto size = std::min(wire::kStateChunkBytes, state_travels.size() - at);
    wire::append_state_chunk(tail, header, {begin.base, at, state_travels.subspan(at, size)});
  }
  wire::append_epoch_end(tail, header, {begin.base, begin.pages, frames, checksum.end(state)});
  pieces.push_back(tail);
}

// --- an epoch ----------------------------------------------------------------------------------

Status EpochEncoder::Impl::encode(const CapturedEpoch& epoch, const FrameSink& sink) {
  if (epoch.state.size() > wire::kStateBytesMax)
    return Status(Code::unsupported, fmt::format("a device state of {} bytes; the limit is {}",
                                                 epoch.state.size(), wire::kStateBytesMax));
  FT_ASSERT(epoch.staging.size() >= epoch.pages.pages() * pages.page_bytes());
  statistics = {};
  pieces.clear();
  header.id = epoch.id;
  wire::EpochBegin begin;
  begin.base = base;
  begin.pages = epoch.pages.pages();
  begin.first = epoch.first;
  begin.guest_ended = epoch.guest_ended;
  begin.guest_paused = epoch.guest_paused;
  begin.rebase = epoch.rebase;
  begin.run = epoch.run;
  encode_state(epoch.state, begin);
  checksum.begin(epoch.id, begin);

  head.clear();
  wire::append_epoch_begin(head, header, begin);
  pieces.push_back(head);
  std::uint64_t frames = 0;
  const PageSet* raw = epoch.raw.empty() ? nullptr : &epoch.raw;
  FT_TRY(send_pages(wire::FrameType::epoch_pages, {epoch.pages.runs(), epoch.staging, raw}, frames,
                    sink));
  append_tail(begin, frames, epoch.state);
  FT_TRY(flush(sink));
  base = epoch.id;
  state_sent = epoch.state;
  state_known = true;
  statistics.reference_bytes = reference.bytes();
  return {};
}

// Nobody knows what of this epoch arrived: what was kept of its pages is worth nothing. (The
// session carries them into the next capture as raw as well; one of the two would do.)
void EpochEncoder::Impl::failed(const CapturedEpoch& epoch) {
  for (const PageRun& run : epoch.pages.runs())
    for (std::uint64_t i = 0; i < run.count; ++i)
      if (const auto index = pages.index(PageNo{run.first.value + i})) reference.forget(*index);
  state_known = false;
  pieces.clear();
}

EpochEncoder::EpochEncoder(const GuestId& guest, const GuestInfo& info, Executor& executor,
                           EncoderOptions options)
    : impl_(std::make_unique<Impl>(guest, info, executor, options)) {}
EpochEncoder::~EpochEncoder() = default;

void EpochEncoder::reset() {
  impl_->reference.clear();
  impl_->base = {};
  impl_->sync_sequence = 0;
  impl_->state_known = false;
}

void EpochEncoder::resume(EpochId base) {
  // The state of `base` itself may not be the one last sent.
  if (impl_->base != base) impl_->state_known = false;
  impl_->base = base;
}

void EpochEncoder::adopt(EpochId base) {
  impl_->reference.clear();
  impl_->base = base;
  impl_->state_known = false;
}

EpochId EpochEncoder::base() const { return impl_->base; }

Status EpochEncoder::encode_sync(Generation generation, PageNo first,
                                 std::span<const std::byte> copy, const FrameSink& sink) {
  FT_ASSERT(copy.size() % impl_->pages.page_bytes() == 0);
  impl_->header.id = {generation, Epoch{}};
  impl_->pieces.clear();
  impl_->statistics = {};
  const PageRun run{first, copy.size() / impl_->pages.page_bytes()};
  FT_TRY(impl_->send_pages(wire::FrameType::sync_pages, {{&run, 1}, copy, nullptr},
                           impl_->sync_sequence, sink));
  return impl_->flush(sink);
}

Status EpochEncoder::encode_probe(Generation generation, std::span<const std::byte> state,
                                  const FrameSink& sink) {
  if (state.size() > wire::kStateBytesMax)
    return Status(Code::unsupported, fmt::format("a device state of {} bytes; the limit is {}",
                                                 state.size(), wire::kStateBytesMax));
  impl_->header.id = {generation, Epoch{}};
  impl_->tail.clear();
  const auto whole = base::checksum(state);
  std::size_t at = 0;
  do {
    const auto size = std::min(wire::kStateChunkBytes, state.size() - at);
    wire::append_probe_chunk(impl_->tail, impl_->header,
                             {state.size(), at, whole, state.subspan(at, size)});
    at += size;
  } while (at < state.size());
  impl_->pieces.assign(1, impl_->tail);
  return impl_->flush(sink);
}

Result<EncodeStatistics> EpochEncoder::encode(const CapturedEpoch& epoch, const FrameSink& sink) {
  if (Status status = impl_->encode(epoch, sink); !status.ok()) {
    impl_->failed(epoch);
    return failure(status.within(fmt::format("encode epoch {}", to_string(epoch.id))));
  }
  return impl_->statistics;
}

}  // namespace libft::checkpoint
