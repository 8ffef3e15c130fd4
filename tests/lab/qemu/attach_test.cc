// SPDX-License-Identifier: LGPL-2.1-or-later
// Attaching to a QEMU that somebody else started; promotion, and being the next primary.
#include <fmt/format.h>

#include <atomic>
#include <cstdio>

#include "lab/qemu/tiny_guest.h"
#include "os/child.h"
#include "qemu/qmp.h"
#include "support/moment.h"

using namespace libft;

namespace {

os::Child run(const qemu::Arguments& arguments) {
  os::ChildOptions options;
  options.argv = arguments;
  auto child = os::Child::start(options);
  REQUIRE_MESSAGE(child, child.error().to_string());
  return std::move(*child);
}

void wait_for_monitor(const std::string& path) {
  REQUIRE(test::eventually([&] { return std::filesystem::exists(path); }));
}

// Copies everything as a session would: memory while it runs, the rest in one pause.
std::vector<std::byte> replicate(Guest& primary, Guest& backup) {
  REQUIRE(primary.start_tracking().ok());
  const auto from = primary.info().memory[0].bytes;
  const auto to = backup.info().memory[0].bytes;
  std::memcpy(to.data(), from.data(), from.size());
  PageSet written;
  REQUIRE(primary.pause().ok());
  REQUIRE(primary.take_written(written).ok());
  for (const PageRun& run : written.runs())
    std::memcpy(to.data() + run.first.value * 4096, from.data() + run.first.value * 4096,
                run.count * 4096);
  REQUIRE(primary.save_state().ok());
  std::vector<std::byte> state;
  REQUIRE(primary.fetch_state(state).ok());
  return state;
}

double milliseconds_of(const std::function<Status()>& action) {
  const auto begin = std::chrono::steady_clock::now();
  const Status status = action();
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

}  // namespace

TEST_CASE("everything that is missing is named at once" * doctest::skip(!test::qemu_is_there())) {
  const test::Folder folder;
  os::Child process =
      run({"qemu-system-x86_64", "-display", "none", "-accel", "tcg", "-m", "64M", "-S", "-netdev",
           "user,id=n0", "-device", "e1000,netdev=n0", "-drive", "driver=null-co,if=virtio", "-qmp",
           "unix:" + (folder / "qmp") + ",server=on,wait=off"});
  wait_for_monitor(folder / "qmp");
  auto guest = qemu::QemuGuest::attach(process.pid(), test::tiny_options(folder));
  REQUIRE_FALSE(guest);
  for (const char* part :
       {"memory-backend-memfd", "vga.vram", "send-configuration=off", "n0 (user)", "is writable"})
    CHECK_MESSAGE(guest.error().message().find(part) != std::string::npos, guest.error().message());
  CHECK_FALSE(process.wait(Nanos{0}));  // It runs on.
}

TEST_CASE("attach, without the preload object: another tracker, and why" *
          doctest::skip(!test::qemu_is_there())) {
  const test::Folder folder;
  const auto arguments =
      qemu::arguments_for(test::tiny_description(folder), test::tiny_options(folder).paths);
  REQUIRE(arguments);
  os::Child process = run(*arguments);
  // At once: its monitor is not there yet.
  auto guest = qemu::QemuGuest::attach(process.pid(), test::tiny_options(folder));
  REQUIRE_MESSAGE(guest, guest.error().to_string());
  CHECK((*guest)->info().tracker != "userfaultfd");
  REQUIRE_FALSE((*guest)->tracker_notes().empty());
  CHECK((*guest)->tracker_notes()[0].find("preload") != std::string::npos);
  CHECK(test::counts_on(**guest));
  auto second = qemu::Qmp::connect(folder / "qmp", nullptr, Millis{100});
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::busy);
  guest->reset();
  CHECK_FALSE(process.wait(Nanos{0}));  // The guest survives libft.
}

TEST_CASE("a guest that stands still when it is taken up runs when its owner says so" *
          doctest::skip(!test::qemu_is_there())) {
  const test::Folder folder;
  auto arguments =
      qemu::arguments_for(test::tiny_description(folder), test::tiny_options(folder).paths);
  REQUIRE(arguments);
  arguments->emplace_back("-S");
  os::Child process = run(*arguments);
  wait_for_monitor(folder / "qmp");
  auto guest = qemu::QemuGuest::attach(process.pid(), test::tiny_options(folder));
  REQUIRE_MESSAGE(guest, guest.error().to_string());
  std::atomic<int> told = 0;
  (*guest)->set_event_sink([&](const GuestEvent&) { ++told; });
  CHECK((*guest)->stands_still());
  REQUIRE((*guest)->pause().ok());  // A checkpoint leaves it as it is.
  REQUIRE((*guest)->resume().ok());
  CHECK((*guest)->stands_still());
  CHECK(test::word_at(**guest, test::kCountAt) == 0);
  REQUIRE((*guest)->set_running().ok());
  CHECK(test::counts_on(**guest));
  CHECK_FALSE((*guest)->stands_still());
  CHECK(told == 0);  // libft did it: no event of somebody else's.
}

TEST_CASE("a promoted guest can be protected again" * doctest::skip(!test::qemu_is_there())) {
  test::TinyGuest tiny(true);
  const test::Folder second_folder;
  const test::Folder third_folder;
  auto second = test::tiny_standby(tiny.guest->info(), second_folder, true);
  const auto state = replicate(*tiny.guest, *second);
  const std::uint32_t count = test::word_at(*tiny.guest, test::kCountAt);
  test::NowForTrial moment(state);
  const Status trial = second->trial_run(moment);
  CHECK_MESSAGE(trial.ok(), trial.to_string());
  CHECK(test::word_at(*second, test::kCountAt) == count);  // The trial left it alone.
  tiny.guest->destroy();
  const double load = milliseconds_of([&] { return second->load_state(state); });
  const double run = milliseconds_of([&] { return second->activate(); });
  fmt::print("promotion: load {:.1f} ms, run {:.1f} ms\n", load, run);
  CHECK(test::counts_on(*second));
  CHECK(test::word_at(*second, test::kCountAt) > count);
  CHECK(second->info().tracker == tiny.guest->info().tracker);

  auto third = test::tiny_standby(second->info(), third_folder, true);
  const auto next = replicate(*second, *third);
  second->destroy();
  REQUIRE(third->load_state(next).ok());
  REQUIRE(third->activate().ok());
  CHECK(test::counts_on(*third));
  third->destroy();
}
