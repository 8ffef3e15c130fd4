// SPDX-License-Identifier: LGPL-2.1-or-later
// What every Guest driver must do, checked through the port alone. A driver instantiates it with a
// function that makes a GuestPair: a running guest and a standby that can continue it.
// The suite never relies on time, except that a paused guest is watched for a moment.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "libft/guest.h"

namespace libft::test {

// What the suite needs besides the port.
class GuestPair {
 public:
  virtual ~GuestPair() = default;
  virtual Guest& primary() = 0;  // Runs.
  virtual Guest& backup() = 0;   // Waits for load_state().

  // Returns when `guest`, which runs, has written to some pages (again).
  virtual void work(Guest& guest) = 0;

  // Whether take_written() reports no page that was not written.
  virtual bool exact() const { return false; }
};
using MakeGuestPair = std::function<std::unique_ptr<GuestPair>()>;

// A copy of all memory, region after region.
class MemoryCopy {
 public:
  explicit MemoryCopy(const Guest& guest) : info_(&guest.info()) {
    for (const MemoryRegion& region : info_->memory)
      regions_.emplace_back(region.bytes.begin(), region.bytes.end());
  }

  // The pages of the guest that differ from the copy now.
  PageSet changed() const {
    PageSet result;
    const std::size_t page = info_->page_bytes;
    for (std::size_t r = 0; r < regions_.size(); ++r) {
      const MemoryRegion& region = info_->memory[r];
      for (std::size_t at = 0; at < regions_[r].size(); at += page)
        if (std::memcmp(regions_[r].data() + at, region.bytes.data() + at, page) != 0)
          result.add(PageNo{region.first.value + at / page});
    }
    return result;
  }

 private:
  const GuestInfo* info_;
  std::vector<std::vector<std::byte>> regions_;
};

inline std::uint64_t pages_not_in(const PageSet& pages, const PageSet& in) {
  std::uint64_t missing = 0;
  for (const PageRun& run : pages.runs())
    for (std::uint64_t i = 0; i < run.count; ++i)
      missing += in.contains(PageNo{run.first.value + i}) ? 0 : 1;
  return missing;
}

inline std::span<std::byte> page_bytes(const Guest& guest, PageNo page) {
  const GuestInfo& info = guest.info();
  for (const MemoryRegion& region : info.memory) {
    const std::uint64_t pages = region.bytes.size() / info.page_bytes;
    if (page.value >= region.first.value && page.value - region.first.value < pages)
      return region.bytes.subspan((page.value - region.first.value) * info.page_bytes,
                                  info.page_bytes);
  }
  return {};
}

inline void copy_pages(const Guest& from, Guest& to, const PageSet& pages) {
  for (const PageRun& run : pages.runs())
    for (std::uint64_t i = 0; i < run.count; ++i) {
      const PageNo page{run.first.value + i};
      const auto source = page_bytes(from, page), target = page_bytes(to, page);
      REQUIRE(source.size() == from.info().page_bytes);  // A reported page is a page of the guest.
      REQUIRE(target.size() == source.size());
      std::memcpy(target.data(), source.data(), source.size());
    }
}

inline PageSet all_pages(const Guest& guest) {
  PageSet all;
  for (const MemoryRegion& region : guest.info().memory)
    all.add(region.first, region.bytes.size() / guest.info().page_bytes);
  return all;
}

inline void check_ok(const Status& status) {
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
}

inline std::vector<std::byte> saved_state(Guest& guest) {
  check_ok(guest.save_state());
  std::vector<std::byte> state;
  check_ok(guest.fetch_state(state));
  CHECK_FALSE(state.empty());
  return state;
}

// Pauses the primary, brings the backup's memory to the same and returns the state.
inline std::vector<std::byte> checkpoint_everything(GuestPair& pair) {
  check_ok(pair.primary().pause());
  copy_pages(pair.primary(), pair.backup(), all_pages(pair.primary()));
  return saved_state(pair.primary());
}

// --- the rules ------------------------------------------------------------------------------

inline void check_description(GuestPair& pair) {
  const GuestInfo& info = pair.primary().info();
  CHECK_FALSE(info.driver.empty());
  CHECK_FALSE(info.description.empty());
  CHECK_FALSE(info.tracker.empty());
  CHECK(info.page_bytes >= 512);
  CHECK(info.vcpus >= 1);
  REQUIRE_FALSE(info.memory.empty());
  std::uint64_t end = 0, total = 0;
  for (const MemoryRegion& region : info.memory) {
    CHECK(region.first.value >= end);  // Sorted, without overlap.
    CHECK(region.bytes.size() % info.page_bytes == 0);
    CHECK_FALSE(region.bytes.empty());
    end = region.first.value + region.bytes.size() / info.page_bytes;
    total += region.bytes.size() / info.page_bytes;
  }
  CHECK(info.pages() == total);
}

inline void check_paused_guest_stands_still(GuestPair& pair) {
  Guest& guest = pair.primary();
  pair.work(guest);
  check_ok(guest.pause());
  const MemoryCopy before(guest);
  std::this_thread::sleep_for(std::chrono::milliseconds{100});
  CHECK(before.changed().empty());
  check_ok(guest.resume());
  pair.work(guest);
  check_ok(guest.pause());
  CHECK_FALSE(before.changed().empty());
  check_ok(guest.resume());
}

// Whatever differs between two pauses must be in what was reported between them, also when it is
// asked for while the guest runs, and when tracking ended and began again.
inline void check_written_pages_are_reported(GuestPair& pair, Guest& guest) {
  check_ok(guest.start_tracking());
  PageSet written, sum;
  for (int round = 0; round < 5; ++round) {
    check_ok(guest.pause());
    check_ok(guest.take_written(written));
    const MemoryCopy before(guest);
    sum.clear();
    check_ok(guest.resume());
    for (int asks = 0; asks < round; ++asks) {
      pair.work(guest);
      check_ok(guest.take_written(written));
      sum.merge(written);
    }
    pair.work(guest);
    check_ok(guest.pause());
    check_ok(guest.take_written(written));
    sum.merge(written);
    CHECK_FALSE(before.changed().empty());
    CHECK(pages_not_in(before.changed(), sum) == 0);
    check_ok(guest.resume());
    if (round == 2) {
      guest.stop_tracking();
      pair.work(guest);
      check_ok(guest.start_tracking());
    }
  }
  guest.stop_tracking();
}

inline void check_nothing_written_nothing_reported(GuestPair& pair) {
  if (!pair.exact()) return;
  Guest& guest = pair.primary();
  check_ok(guest.start_tracking());
  pair.work(guest);
  check_ok(guest.pause());
  PageSet written;
  check_ok(guest.take_written(written));
  CHECK_FALSE(written.empty());
  check_ok(guest.take_written(written));
  CHECK(written.empty());
  check_ok(guest.resume());
}

// A backup that is given only the reported pages stays equal, epoch after epoch.
inline void check_incremental_copies_are_complete(GuestPair& pair) {
  Guest& primary = pair.primary();
  Guest& backup = pair.backup();
  check_ok(primary.start_tracking());
  check_ok(primary.pause());
  PageSet written;
  check_ok(primary.take_written(written));
  copy_pages(primary, backup, all_pages(primary));
  check_ok(primary.resume());
  for (int epoch = 0; epoch < 8; ++epoch) {
    pair.work(primary);
    check_ok(primary.pause());
    check_ok(primary.take_written(written));
    copy_pages(primary, backup, written);
    for (std::size_t r = 0; r < primary.info().memory.size(); ++r)
      CHECK(std::ranges::equal(primary.info().memory[r].bytes, backup.info().memory[r].bytes));
    check_ok(primary.resume());
  }
}

inline void check_state_can_be_fetched_late(GuestPair& pair) {
  Guest& guest = pair.primary();
  pair.work(guest);
  check_ok(guest.pause());
  check_ok(guest.save_state());
  check_ok(guest.resume());
  pair.work(guest);
  std::vector<std::byte> once, twice(3);
  check_ok(guest.fetch_state(once));
  check_ok(guest.fetch_state(twice));  // Replaces what was there.
  CHECK_FALSE(once.empty());
  CHECK(once == twice);
}

inline void check_backup_continues(GuestPair& pair) {
  pair.work(pair.primary());
  const std::vector<std::byte> state = checkpoint_everything(pair);
  check_ok(pair.backup().accepts(pair.primary().info()));
  const MemoryCopy before(pair.backup());
  check_ok(pair.backup().probe_state(state));
  CHECK(before.changed().empty());  // The throw-away instance is another one.
  check_ok(pair.backup().load_state(state));
  pair.primary().destroy();
  check_ok(pair.backup().activate());
  pair.work(pair.backup());
  // From here on it is a guest like any other.
  check_written_pages_are_reported(pair, pair.backup());
  check_ok(pair.backup().pause());
  CHECK_FALSE(saved_state(pair.backup()).empty());
  check_ok(pair.backup().resume());
}

inline void check_newer_state_replaces_older(GuestPair& pair) {
  const std::vector<std::byte> older = checkpoint_everything(pair);
  check_ok(pair.backup().probe_state(older));
  check_ok(pair.primary().resume());
  pair.work(pair.primary());
  const std::vector<std::byte> newer = checkpoint_everything(pair);
  check_ok(pair.backup().load_state(newer));
  check_ok(pair.backup().activate());
  pair.work(pair.backup());
}

inline void check_bad_state_is_refused(GuestPair& pair) {
  const std::vector<std::byte> good = checkpoint_everything(pair);
  std::vector<std::byte> garbage(good.size(), std::byte{0x5a});
  const MemoryCopy before(pair.backup());
  CHECK_FALSE(pair.backup().probe_state(garbage).ok());
  CHECK_FALSE(pair.backup().probe_state(std::span(good).first(good.size() / 2)).ok());
  CHECK_FALSE(pair.backup().probe_state({}).ok());
  CHECK(before.changed().empty());
  check_ok(pair.backup().probe_state(good));  // A bad one does not spoil the next.
}

inline void check_another_guest_is_not_accepted(GuestPair& pair) {
  check_ok(pair.backup().accepts(pair.primary().info()));
  GuestInfo other = pair.primary().info();
  other.memory.front().bytes = other.memory.front().bytes.subspan(other.page_bytes);
  const Status smaller = pair.backup().accepts(other);
  CHECK_FALSE(smaller.ok());
  CHECK_FALSE(smaller.message().empty());
  other = pair.primary().info();
  other.driver = "another";
  CHECK_FALSE(pair.backup().accepts(other).ok());
}

inline void check_destroyed_guest_is_gone(GuestPair& pair) {
  pair.primary().destroy();
  pair.primary().destroy();
  CHECK(pair.primary().pause().code() == Code::guest_gone);
  pair.backup().destroy();
  pair.backup().destroy();
}

// One pair for each rule. Call it from a TEST_CASE; doctest's -sc=... picks a single rule.
inline void guest_suite(const MakeGuestPair& make) {
  const auto with_pair = [&](auto rule) {
    const std::unique_ptr<GuestPair> pair = make();
    REQUIRE(pair != nullptr);
    rule(*pair);
  };
  SUBCASE("it describes itself") { with_pair(check_description); }
  SUBCASE("a paused guest stands still") { with_pair(check_paused_guest_stands_still); }
  SUBCASE("every written page is reported") {
    with_pair([](GuestPair& p) { check_written_pages_are_reported(p, p.primary()); });
  }
  SUBCASE("nothing written, nothing reported") {
    with_pair(check_nothing_written_nothing_reported);
  }
  SUBCASE("incremental copies are complete") { with_pair(check_incremental_copies_are_complete); }
  SUBCASE("state can be fetched late") { with_pair(check_state_can_be_fetched_late); }
  SUBCASE("a backup continues") { with_pair(check_backup_continues); }
  SUBCASE("newer state replaces older") { with_pair(check_newer_state_replaces_older); }
  SUBCASE("bad state is refused") { with_pair(check_bad_state_is_refused); }
  SUBCASE("another guest is not accepted") { with_pair(check_another_guest_is_not_accepted); }
  SUBCASE("a destroyed guest is gone") { with_pair(check_destroyed_guest_is_gone); }
}

}  // namespace libft::test
