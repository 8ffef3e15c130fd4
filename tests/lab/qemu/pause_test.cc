// SPDX-License-Identifier: LGPL-2.1-or-later
// What a checkpoint's parts cost while the guest stands still, through the port, as a session does
// it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "lab/qemu/tiny_guest.h"

using namespace libft;

namespace {

using Steady = std::chrono::steady_clock;

struct Samples {
  const char* name;
  std::vector<double> ms{};
  void add(Steady::time_point from, Steady::time_point to) {
    ms.push_back(std::chrono::duration<double, std::milli>(to - from).count());
  }
  void print() {
    std::sort(ms.begin(), ms.end());
    fmt::print("{:<8} p50 {:6.2f}  p90 {:6.2f}  p99 {:6.2f} ms\n", name, ms[ms.size() / 2],
               ms[ms.size() * 9 / 10], ms[ms.size() * 99 / 100]);
  }
};

void copy_pages(const Guest& guest, const PageSet& pages, std::vector<std::byte>& into) {
  std::size_t used = 0;
  for (const PageRun& run : pages.runs()) {
    const std::size_t bytes = run.count * 4096;
    if (into.size() < used + bytes) into.resize(used + bytes);
    std::memcpy(into.data() + used, guest.info().memory[0].bytes.data() + run.first.value * 4096,
                bytes);
    used += bytes;
  }
}

}  // namespace

TEST_CASE("parts of a pause" * doctest::skip(!test::qemu_is_there())) {
  test::TinyGuest tiny(true);
  Guest& guest = *tiny.guest;
  REQUIRE(guest.start_tracking().ok());
  Samples stop{"stop"}, scan{"scan"}, copy{"copy"}, save{"save"}, resume{"resume"}, all{"all"};
  Samples fetch{"fetch*"};
  PageSet written;
  std::vector<std::byte> pages(64u << 20);
  std::vector<std::byte> state;
  std::uint64_t written_pages = 0;
  constexpr int kRounds = 120;
  for (int i = 0; i < kRounds; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    const auto begin = Steady::now();
    REQUIRE(guest.pause().ok());
    const auto stopped = Steady::now();
    REQUIRE(guest.take_written(written).ok());
    const auto scanned = Steady::now();
    copy_pages(guest, written, pages);
    const auto copied = Steady::now();
    REQUIRE(guest.save_state().ok());
    const auto saved = Steady::now();
    REQUIRE(guest.resume().ok());
    const auto resumed = Steady::now();
    REQUIRE(guest.fetch_state(state).ok());
    fetch.add(resumed, Steady::now());
    stop.add(begin, stopped);
    scan.add(stopped, scanned);
    copy.add(scanned, copied);
    save.add(copied, saved);
    resume.add(saved, resumed);
    all.add(begin, resumed);
    written_pages += written.pages();
  }
  fmt::print("{}; tracker {}; {} pages an epoch; state {} bytes; *: after the resume\n",
             guest.info().description, guest.info().tracker, written_pages / kRounds, state.size());
  for (Samples* part : {&stop, &scan, &copy, &save, &resume, &all, &fetch}) part->print();
  CHECK(written_pages > kRounds);
  CHECK(guest.clock_lag() > Nanos{0});
}
