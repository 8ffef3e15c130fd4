// SPDX-License-Identifier: LGPL-2.1-or-later
// The whole user space of a small virtual machine: a process that plays QEMU (it maps memory of a
// memfd and writes pages when told) and a tracker that watches it from outside. What the tracker
// answers is compared with the exact set. Prints PASS or what was wrong, and ends the machine.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include "guest/qemu/tracker.h"

using namespace libft;

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::uint64_t kSmallPages = 2048, kLargePages = (128u << 20) / kPageBytes;

int failures = 0;

void check(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  fmt::print("FAILED: {}\n", what);
}

[[noreturn]] void give_up(const std::string& what) {
  fmt::print("FAILED: {}\n", what);
  std::fflush(stdout);
  ::sync();
  ::reboot(RB_AUTOBOOT);
  std::_Exit(1);
}

enum class What : std::uint32_t { write, read, receive };
struct Order {
  What what;
  std::uint32_t count;
  std::uint64_t first;
};

// The process that is watched. It touches only the pages that it is told to.
[[noreturn]] void obey(int socket, volatile char* memory) {
  Order order{};
  while (::read(socket, &order, sizeof order) == sizeof order) {
    for (std::uint64_t page = order.first; page < order.first + order.count; ++page) {
      volatile char* at = memory + page * kPageBytes + page % kPageBytes;
      if (order.what == What::write) *at = static_cast<char>(*at + 1);
      if (order.what == What::read) (void)*at;
      // The kernel writes, as it does for a device model that reads from a socket or a file.
      if (order.what == What::receive && ::read(socket, const_cast<char*>(at), 1) != 1) ::_exit(1);
    }
    if (::write(socket, "", 1) != 1) ::_exit(1);
  }
  ::_exit(0);
}

// A memory of a watched process, mapped there and here at different addresses.
class Watched {
 public:
  Watched(std::uint64_t pages, PageNo first) : pages_(pages), first_(first) {
    const int memfd = ::memfd_create("guest", MFD_CLOEXEC);
    const std::size_t bytes = pages * kPageBytes;
    if (memfd < 0 || ::ftruncate(memfd, static_cast<off_t>(bytes)) != 0) give_up("memfd");
    void* theirs = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    int pair[2];
    if (theirs == MAP_FAILED || ::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) give_up("mmap");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(pair[0]);
      obey(pair[1], static_cast<char*>(theirs));
    }
    ::close(pair[1]);
    socket_ = pair[0];
    ::munmap(theirs, bytes);
    void* ours = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (ours == MAP_FAILED) give_up("mmap");
    here_ = {static_cast<std::byte*>(ours), bytes};
    there_ = reinterpret_cast<std::uintptr_t>(theirs);
  }

  qemu::TrackedMemory memory() const { return {there_, first_, here_}; }
  pid_t pid() const { return pid_; }
  std::uint64_t pages() const { return pages_; }

  void order(What what, std::uint64_t first, std::uint64_t count = 1) {
    const Order order{what, static_cast<std::uint32_t>(count), first};
    char done = 0;
    bool good = ::write(socket_, &order, sizeof order) == sizeof order;
    for (std::uint64_t i = 0; what == What::receive && i < count; ++i)
      good = good && ::write(socket_, "x", 1) == 1;
    if (!good || ::read(socket_, &done, 1) != 1) give_up("the watched process does not answer");
  }

  void end() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::munmap(here_.data(), here_.size());
    ::close(socket_);
  }

 private:
  std::uint64_t pages_;
  PageNo first_;
  pid_t pid_ = -1;
  int socket_ = -1;
  std::span<std::byte> here_;
  std::uint64_t there_ = 0;
};

std::string text_of(const PageSet& set) {
  std::string text = fmt::format("{} pages:", set.pages());
  for (const PageRun& run : set.runs()) text += fmt::format(" {}+{}", run.first.value, run.count);
  return text;
}

void expect(qemu::Tracker& tracker, const PageSet& expected, const std::string& what) {
  PageSet written;
  const Status status = tracker.take_written(written);
  check(status.ok(), fmt::format("{}: {}", what, status.to_string()));
  check(written == expected,
        fmt::format("{}: found {}, wrote {}", what, text_of(written), text_of(expected)));
}

std::unique_ptr<qemu::Tracker> open_tracker(const Watched& watched) {
  auto tracker = qemu::open_soft_dirty_tracker(watched.pid(), {watched.memory()});
  if (!tracker) give_up(tracker.error().to_string());
  return std::move(*tracker);
}

constexpr std::uint64_t kFirst = 1000;  // The memory does not begin at page 0 of the guest.

PageSet pages(std::initializer_list<PageRun> runs) {
  PageSet set;
  for (const PageRun& run : runs) set.add(PageNo{kFirst + run.first.value}, run.count);
  return set;
}

void exact_sets() {
  Watched guest(kSmallPages, PageNo{kFirst});
  guest.order(What::write, 5);  // Before the start: not to be reported.
  const auto tracker = open_tracker(guest);
  check(tracker->start().ok(), "start");
  expect(*tracker, {}, "nothing written");
  guest.order(What::write, 0);
  guest.order(What::write, 64, 17);
  guest.order(What::write, kSmallPages - 1);
  expect(*tracker, pages({{PageNo{0}, 1}, {PageNo{64}, 17}, {PageNo{kSmallPages - 1}, 1}}),
         "first writes to pages that were not there");
  expect(*tracker, {}, "nothing written since");
  guest.order(What::write, 64, 2);
  expect(*tracker, pages({{PageNo{64}, 2}}), "written again");
  guest.order(What::read, 300, 40);
  guest.order(What::read, 64, 2);
  expect(*tracker, {}, "only read");
  guest.order(What::write, 301, 3);
  expect(*tracker, pages({{PageNo{301}, 3}}), "first read, then written");
  guest.order(What::receive, 70, 2);
  guest.order(What::receive, 900);
  expect(*tracker, pages({{PageNo{70}, 2}, {PageNo{900}, 1}}), "written by the kernel");
  guest.end();
  PageSet none;
  check(tracker->take_written(none).code() == Code::guest_gone, "an ended process is named so");
}

void random_sets() {
  Watched guest(kSmallPages, PageNo{kFirst});
  const auto tracker = open_tracker(guest);
  check(tracker->start().ok(), "start");
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    PageSet expected;
    for (unsigned i = random() % 40; i > 0; --i) {
      const std::uint64_t first = random() % kSmallPages;
      const std::uint64_t count = std::min<std::uint64_t>(1 + random() % 9, kSmallPages - first);
      const What what = random() % 4 == 0 ? What::read : What::write;
      guest.order(what, first, count);
      if (what == What::write) expected.add(PageNo{kFirst + first}, count);
    }
    expect(*tracker, expected, fmt::format("round {}", round));
  }
  guest.end();
}

void measure() {
  Watched guest(kLargePages, PageNo{0});
  guest.order(What::write, 0, kLargePages);
  const auto tracker = open_tracker(guest);
  check(tracker->start().ok(), "start");
  constexpr int kRounds = 10;
  std::chrono::duration<double, std::milli> spent{};
  for (int round = 0; round < kRounds; ++round) {
    PageSet expected, written;
    for (std::uint64_t i = 0; i < 250; ++i) {
      const std::uint64_t page = (i * 263 + static_cast<std::uint64_t>(round)) % kLargePages;
      guest.order(What::write, page);
      expected.add(PageNo{page});
    }
    const auto begin = std::chrono::steady_clock::now();
    const Status status = tracker->take_written(written);
    spent += std::chrono::steady_clock::now() - begin;
    check(status.ok() && written == expected,
          fmt::format("large memory, round {}: found {}", round, text_of(written)));
  }
  guest.end();
  fmt::print("take_written: {:.1f} ms a GiB, 250 pages written (this machine's emulation)\n",
             spent.count() / kRounds * 8);
}

}  // namespace

int main() {
  const bool alone = ::getpid() == 1;
  if (alone && ::mount("proc", "/proc", "proc", 0, nullptr) != 0) give_up("mount /proc");
  // Present in every installed system; here nobody mounted it yet, and the tracker looks at it.
  if (alone && ::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0) give_up("mount /sys");
  ::utsname system{};
  ::uname(&system);
  fmt::print("kernel {}\n", system.release);
  exact_sets();
  random_sets();
  measure();
  fmt::print("{}\n", failures == 0 ? "PASS" : "FAIL");
  std::fflush(stdout);
  if (!alone) return failures == 0 ? 0 : 1;
  ::sync();
  ::reboot(RB_AUTOBOOT);  // QEMU runs with -no-reboot.
  return 1;
}
