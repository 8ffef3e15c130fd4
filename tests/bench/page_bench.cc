// SPDX-License-Identifier: LGPL-2.1-or-later
// What is done with one page: copy, checksum, encode, decode. The pages lie scattered in memory
// larger than the caches, as written pages do; the plain copy is the peer of all other figures.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "base/checksum.h"
#include "core/page_codec.h"
#include "guest/memory/memory_guest.h"

using namespace libft;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::uint64_t kGuestPages = 32768;  // 128 MiB.

// A guest, its image as the backup has it, and the pages written since.
class Epoch {
 public:
  explicit Epoch(std::uint64_t writes) : guest_(guest::make_memory_guest(kGuestPages, 1)) {
    guest_->step(kGuestPages / 2);
    const auto memory = guest_->info().memory[0].bytes;
    reference_.assign(memory.begin(), memory.end());
    (void)guest_->start_tracking();
    guest_->step(writes);
    PageSet written;
    (void)guest_->take_written(written);
    for (const PageRun& run : written.runs())
      for (std::uint64_t i = 0; i < run.count; ++i) pages_.push_back(run.first.value + i);
  }

  std::size_t size() const { return pages_.size(); }
  std::span<const std::byte> page(std::size_t i) const {
    return guest_->info().memory[0].bytes.subspan(pages_[i] * kPage, kPage);
  }
  std::span<const std::byte> reference(std::size_t i) const {
    return std::span(reference_).subspan(pages_[i] * kPage, kPage);
  }

 private:
  std::unique_ptr<guest::MemoryGuest> guest_;
  std::vector<std::byte> reference_;
  std::vector<std::uint64_t> pages_;
};

void count_pages(benchmark::State& state, std::size_t pages) {
  const auto all = static_cast<std::int64_t>(pages) * state.iterations();
  state.SetItemsProcessed(all);
  state.SetBytesProcessed(all * static_cast<std::int64_t>(kPage));
}

void PageCopy(benchmark::State& state) {
  const Epoch epoch(static_cast<std::uint64_t>(state.range(0)));
  std::vector<std::byte> staging(epoch.size() * kPage);
  for (auto _ : state) {
    for (std::size_t i = 0; i < epoch.size(); ++i)
      std::memcpy(staging.data() + i * kPage, epoch.page(i).data(), kPage);
    benchmark::ClobberMemory();
  }
  count_pages(state, epoch.size());
}

void PageChecksum(benchmark::State& state) {
  const Epoch epoch(static_cast<std::uint64_t>(state.range(0)));
  for (auto _ : state)
    for (std::size_t i = 0; i < epoch.size(); ++i)
      benchmark::DoNotOptimize(base::checksum(epoch.page(i)));
  count_pages(state, epoch.size());
}

void PageEncode(benchmark::State& state) {
  const Epoch epoch(static_cast<std::uint64_t>(state.range(0)));
  std::vector<std::byte> out(kPage);
  std::size_t coded = 0, passes = 0;
  for (auto _ : state) {
    for (std::size_t i = 0; i < epoch.size(); ++i)
      coded += core::encode_page(epoch.page(i), epoch.reference(i), out).bytes;
    ++passes;
  }
  count_pages(state, epoch.size());
  state.counters["bytes_per_page"] =
      static_cast<double>(coded) / static_cast<double>(passes * epoch.size());
}

void PageEncodeWithoutReference(benchmark::State& state) {
  const Epoch epoch(static_cast<std::uint64_t>(state.range(0)));
  std::vector<std::byte> out(kPage);
  for (auto _ : state)
    for (std::size_t i = 0; i < epoch.size(); ++i)
      benchmark::DoNotOptimize(core::encode_page(epoch.page(i), {}, out));
  count_pages(state, epoch.size());
}

void PageDecode(benchmark::State& state) {
  const Epoch epoch(static_cast<std::uint64_t>(state.range(0)));
  struct Coded {
    core::Coding coding;
    std::vector<std::byte> bytes;
  };
  std::vector<Coded> all(epoch.size());
  std::vector<std::byte> out(kPage);
  for (std::size_t i = 0; i < epoch.size(); ++i) {
    const core::CodedPage page = core::encode_page(epoch.page(i), epoch.reference(i), out);
    all[i] = {page.coding, {out.begin(), out.begin() + static_cast<long>(page.bytes)}};
  }
  for (auto _ : state)
    for (std::size_t i = 0; i < epoch.size(); ++i)
      if (!core::decode_page(all[i].coding, all[i].bytes, epoch.reference(i), out).ok())
        state.SkipWithError("an encoded page did not decode");
  count_pages(state, epoch.size());
}

BENCHMARK(PageCopy)->Arg(500)->Arg(5000);
BENCHMARK(PageChecksum)->Arg(500)->Arg(5000);
BENCHMARK(PageEncode)->Arg(500)->Arg(5000);
BENCHMARK(PageEncodeWithoutReference)->Arg(500)->Arg(5000);
BENCHMARK(PageDecode)->Arg(500)->Arg(5000);

}  // namespace
