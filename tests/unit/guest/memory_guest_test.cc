// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/memory/memory_guest.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

using namespace libft;
using namespace libft::guest;

TEST_CASE("the same seed does the same") {
  auto a = make_memory_guest(256, 5), b = make_memory_guest(256, 5), c = make_memory_guest(256, 6);
  for (auto* guest : {a.get(), b.get(), c.get()}) CHECK(guest->step(1000) == 1000);
  CHECK(a->memory_hash() == b->memory_hash());
  CHECK(a->memory_hash() != c->memory_hash());
}

TEST_CASE("a step writes as many different pages as it was asked for") {
  for (const std::uint64_t pages : {2u, 3u, 64u, 1000u, 1025u}) {
    CAPTURE(pages);
    auto guest = make_memory_guest(pages, 1);
    REQUIRE(guest->start_tracking().ok());
    for (const std::uint64_t writes : {std::uint64_t{1}, pages / 2, pages - 1}) {
      guest->step(writes);
      PageSet written;
      REQUIRE(guest->take_written(written).ok());
      CHECK(written.pages() == writes);
    }
  }
}

TEST_CASE("a continued guest goes on exactly as the first one would have") {
  auto first = make_memory_guest(128, 9), second = make_memory_standby(128);
  first->step(500);
  first->emit(77);
  REQUIRE(first->pause().ok());
  REQUIRE(first->save_state().ok());
  std::vector<std::byte> state;
  REQUIRE(first->fetch_state(state).ok());
  std::ranges::copy(first->info().memory[0].bytes, second->info().memory[0].bytes.begin());
  CHECK(second->step(1) == 0);  // It waits.
  REQUIRE(second->load_state(state).ok());
  CHECK(second->step(1) == 0);
  REQUIRE(second->activate().ok());
  REQUIRE(first->resume().ok());
  first->step(300);
  second->step(300);
  CHECK(first->memory_hash() == second->memory_hash());
  CHECK(second->counter() == 1);
  CHECK(second->journal(1) == 77);
  CHECK(second->steps_done() == 800);
}

TEST_CASE("outputs are numbered, noted in memory and only sent while it runs") {
  auto guest = make_memory_guest(8, 1);
  std::vector<MemoryGuestOutput> sent;
  guest->set_output_sink([&](MemoryGuestOutput output) { sent.push_back(output); });
  CHECK(guest->emit(10));
  CHECK(guest->emit(20));
  REQUIRE(guest->pause().ok());
  CHECK_FALSE(guest->emit(30));
  CHECK(sent == std::vector<MemoryGuestOutput>{{1, 10}, {2, 20}});
  CHECK(guest->journal(2) == 20);
  CHECK_FALSE(guest->journal(3).has_value());
  CHECK_FALSE(guest->journal(0).has_value());
  REQUIRE(guest->resume().ok());
  for (std::uint64_t i = 0; i < MemoryGuest::kJournalEntries; ++i) guest->emit(i);
  CHECK_FALSE(guest->journal(1).has_value());  // Overwritten, and known to be.
}

TEST_CASE("a guest that its owner paused stays paused, and says so") {
  auto guest = make_memory_guest(8, 1);
  std::vector<GuestEvent::Kind> events;
  guest->set_event_sink([&](const GuestEvent& event) { events.push_back(event.kind); });
  guest->owner_pause();
  CHECK_FALSE(guest->running());
  CHECK(guest->pause().ok());
  CHECK(guest->resume().ok());
  CHECK_FALSE(guest->running());
  CHECK(guest->step(5) == 0);
  guest->owner_resume();
  CHECK(guest->running());
  guest->happen(GuestEvent::Kind::rebooted, "by its software");
  CHECK(guest->running());
  guest->happen(GuestEvent::Kind::ended, "shut down");
  CHECK_FALSE(guest->running());
  CHECK(guest->pause().code() == Code::guest_gone);
  using Kind = GuestEvent::Kind;
  CHECK(events == std::vector<Kind>{Kind::paused, Kind::resumed, Kind::rebooted, Kind::ended});
}

TEST_CASE("calls at the wrong time are refused") {
  auto guest = make_memory_guest(8, 1), standby = make_memory_standby(8);
  PageSet written;
  std::vector<std::byte> state;
  CHECK(guest->take_written(written).code() == Code::invalid);
  CHECK(guest->save_state().code() == Code::invalid);
  CHECK(guest->fetch_state(state).code() == Code::invalid);
  CHECK(guest->resume().code() == Code::invalid);
  CHECK(guest->activate().code() == Code::invalid);
  CHECK(standby->pause().code() == Code::invalid);
  CHECK(standby->activate().code() == Code::invalid);
  CHECK(standby->accepts(make_memory_guest(9, 1)->info()).code() == Code::refused);
}

TEST_CASE("a workload in a thread of its own is paused, and no write is lost or unreported") {
  auto guest = make_memory_guest(4096, 3), copy = make_memory_standby(4096);
  REQUIRE(guest->start_tracking().ok());
  std::atomic<bool> stop{false};
  std::jthread workload([&] {
    while (!stop) guest->step(100000);
  });
  const auto from = guest->info().memory[0].bytes, to = copy->info().memory[0].bytes;
  PageSet written;
  std::uint64_t before = 0;
  for (int epoch = 0; epoch < 20; ++epoch) {
    while (guest->steps_done() == before) std::this_thread::yield();
    REQUIRE(guest->pause().ok());
    before = guest->steps_done();
    REQUIRE(guest->take_written(written).ok());
    for (const PageRun& run : written.runs())
      std::memcpy(to.data() + run.first.value * 4096, from.data() + run.first.value * 4096,
                  run.count * 4096);
    CHECK(guest->memory_hash() == copy->memory_hash());
    REQUIRE(guest->resume().ok());
  }
  stop = true;
  guest->destroy();
}
