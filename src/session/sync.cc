// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/sync.h"

#include <algorithm>
#include <cstring>

namespace libft::session {
namespace {

std::span<const std::byte> bytes_of(const GuestInfo& info, PageNo first, std::uint64_t count) {
  for (const auto& region : info.memory) {
    const std::uint64_t pages = region.bytes.size() / info.page_bytes;
    if (first.value < region.first.value || first.value >= region.first.value + pages) continue;
    const auto at = first.value - region.first.value;
    return region.bytes.subspan(at * info.page_bytes,
                                std::min(count, pages - at) * info.page_bytes);
  }
  return {};
}

}  // namespace

PageSet all_pages(const GuestInfo& info) {
  PageSet pages;
  for (const auto& region : info.memory)
    pages.add(region.first, region.bytes.size() / info.page_bytes);
  return pages;
}

Status send_round(const GuestInfo& info, const PageSet& pages, Generation generation,
                  checkpoint::EpochEncoder& encoder, const checkpoint::FrameSink& sink) {
  std::vector<std::byte> copy(kSyncPagesAPiece * info.page_bytes);
  for (const auto& run : pages.runs()) {
    for (std::uint64_t done = 0; done < run.count;) {
      const PageNo first{run.first.value + done};
      const auto from = bytes_of(info, first, std::min(kSyncPagesAPiece, run.count - done));
      if (from.empty())
        return Status(Code::internal, "the driver reported a page outside of the guest's memory");
      std::memcpy(copy.data(), from.data(), from.size());
      FT_TRY(encoder.encode_sync(generation, first, std::span(copy).first(from.size()), sink));
      done += from.size() / info.page_bytes;
    }
  }
  return {};
}

void copy_pages(const GuestInfo& info, const PageSet& pages, std::vector<std::byte>& copy) {
  for (const auto& run : pages.runs()) {
    for (std::uint64_t done = 0; done < run.count;) {
      const auto from = bytes_of(info, PageNo{run.first.value + done}, run.count - done);
      if (from.empty()) return;
      copy.insert(copy.end(), from.begin(), from.end());
      done += from.size() / info.page_bytes;
    }
  }
}

Status send_copied(const GuestInfo& info, const PageSet& pages, std::span<const std::byte> copy,
                   Generation generation, checkpoint::EpochEncoder& encoder,
                   const checkpoint::FrameSink& sink) {
  if (copy.size() != pages.pages() * info.page_bytes)
    return Status(Code::internal, "the driver reported a page outside of the guest's memory");
  for (const auto& run : pages.runs()) {
    for (std::uint64_t done = 0; done < run.count;) {
      const auto piece = std::min(kSyncPagesAPiece, run.count - done);
      FT_TRY(encoder.encode_sync(generation, PageNo{run.first.value + done},
                                 copy.first(piece * info.page_bytes), sink));
      copy = copy.subspan(piece * info.page_bytes);
      done += piece;
    }
  }
  return {};
}

bool SyncRounds::converged(std::uint64_t written) {
  ++round_;
  return written <= pages_left_ || round_ >= rounds_max_;
}

}  // namespace libft::session
