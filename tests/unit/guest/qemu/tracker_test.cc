// SPDX-License-Identifier: LGPL-2.1-or-later
// Each tracker that this host's kernel offers, on memory of this process.
#include "guest/qemu/tracker.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace libft;
using namespace libft::qemu;

TEST_CASE("the probe names every tracker, and a reason where one does not work") {
  const auto probes = probe_trackers();
  REQUIRE(probes.size() == 3);
  CHECK(probes.back().name == "compare");
  CHECK(probes.back().works);
  for (const TrackerProbe& probe : probes) {
    MESSAGE(probe.name << ": " << (probe.works ? "works" : probe.reason) << ", "
                       << probe.scan_ms_per_gib << " ms/GiB");
    CHECK(probe.works == probe.reason.empty());
    CHECK((probe.scan_ms_per_gib > 0) == probe.works);
    CHECK_FALSE(probe.advice.empty());
  }
}

TEST_CASE("compare reports what changed, once, and nothing else") {
  constexpr std::size_t kBytes = 16 * 4096;
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  const std::span<std::byte> bytes(static_cast<std::byte*>(mapped), kBytes);
  auto tracker = open_compare_tracker(::getpid(), {{0, PageNo{100}, bytes}});
  REQUIRE(tracker);
  bytes[5 * 4096] = std::byte{1};
  REQUIRE((*tracker)->start().ok());
  bytes[2 * 4096 + 17] = std::byte{1};
  bytes[3 * 4096] = std::byte{1};
  PageSet written;
  REQUIRE((*tracker)->take_written(written).ok());
  PageSet expected;
  expected.add(PageNo{102}, 2);
  CHECK(written == expected);
  written.clear();
  REQUIRE((*tracker)->take_written(written).ok());
  CHECK(written.empty());
  ::munmap(mapped, kBytes);
}

TEST_CASE("memory that nobody registered is no case for userfaultfd") {
  void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  const auto tracker =
      open_userfaultfd_tracker(::getpid(), {{reinterpret_cast<std::uintptr_t>(mapped),
                                             PageNo{0},
                                             {static_cast<std::byte*>(mapped), 4096}}});
  REQUIRE_FALSE(tracker);
  CHECK(tracker.error().code() == Code::unsupported);
  ::munmap(mapped, 4096);
}
