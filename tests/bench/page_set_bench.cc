// SPDX-License-Identifier: LGPL-2.1-or-later
// Page sets on the hot path: filled in ascending order every epoch, and merged.
#include <benchmark/benchmark.h>

#include "guest/memory/memory_guest.h"
#include "libft/page_set.h"

using namespace libft;

namespace {

PageSet every_third(std::uint64_t pages, std::uint64_t from) {
  PageSet set;
  for (std::uint64_t i = 0; i < pages; ++i) set.add(PageNo{from + 3 * i});
  return set;
}

void PageSetFill(benchmark::State& state) {
  const auto pages = static_cast<std::uint64_t>(state.range(0));
  PageSet set;
  for (auto _ : state) {
    set.clear();
    for (std::uint64_t i = 0; i < pages; ++i) set.add(PageNo{3 * i});
    benchmark::DoNotOptimize(set);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void PageSetMerge(benchmark::State& state) {
  const auto pages = static_cast<std::uint64_t>(state.range(0));
  const PageSet a = every_third(pages, 0), b = every_third(pages, 1);
  for (auto _ : state) {
    PageSet sum = a;
    sum.merge(b);
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(2 * state.iterations() * state.range(0));
}

void PageSetContains(benchmark::State& state) {
  const auto pages = static_cast<std::uint64_t>(state.range(0));
  const PageSet set = every_third(pages, 0);
  std::uint64_t page = 0;
  for (auto _ : state) benchmark::DoNotOptimize(set.contains(PageNo{page = (page + 7) % pages}));
}

// The memory guest's answer to "what was written", for 256 MiB.
void TakeWritten(benchmark::State& state) {
  auto guest = guest::make_memory_guest(65536, 1);
  (void)guest->start_tracking();
  PageSet written;
  for (auto _ : state) {
    state.PauseTiming();
    guest->step(static_cast<std::uint64_t>(state.range(0)));
    state.ResumeTiming();
    (void)guest->take_written(written);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

BENCHMARK(PageSetFill)->Arg(500)->Arg(50000);
BENCHMARK(PageSetMerge)->Arg(500)->Arg(50000);
BENCHMARK(PageSetContains)->Arg(50000);
BENCHMARK(TakeWritten)->Arg(500)->Arg(5000)->Arg(50000)->Iterations(100);

}  // namespace
