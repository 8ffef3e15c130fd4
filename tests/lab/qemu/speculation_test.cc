// SPDX-License-Identifier: LGPL-2.1-or-later
// A standby that executes ahead of its image and is rolled back, over real QEMU processes.
#include "guest/qemu/speculation.h"

#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <cstring>

#include "guest/qemu/process_memory.h"
#include "lab/qemu/tiny_guest.h"

using namespace libft;

namespace {

// The memory in which a process executes: a standby's info() shows its image.
class Memory {
 public:
  explicit Memory(pid_t pid) : mapped_(*qemu::SharedMemory::map(pid, *qemu::find_memory(pid))) {}
  std::span<const std::byte> bytes() const { return mapped_.tracked()[0].bytes; }
  std::uint32_t count() const {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes().data() + test::kCountAt, sizeof word);
    return word;
  }
  bool counts_on() const {
    const std::uint32_t before = count();
    return test::eventually([&] { return count() > before + 20; });
  }

 private:
  qemu::SharedMemory mapped_;
};

std::uint64_t inode_of(const std::string& path) {
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  return about.st_ino;
}

class Pair {
 public:
  explicit Pair(bool with_nic = false) : tiny_(with_nic) {
    qemu::QemuStandbyOptions options;
    options.arguments.paths = test::tiny_options(folder_, with_nic).paths;
    options.launch.preload = LIBFT_PRELOAD;
    auto made = qemu::SpeculativeStandby::start(primary().info(), options);
    REQUIRE_MESSAGE(made, made.error().to_string());
    standby_ = std::move(*made);
    REQUIRE(standby_->begin_speculation().ok());
    REQUIRE(primary().start_tracking().ok());
  }

  qemu::QemuGuest& primary() { return *tiny_.guest; }
  qemu::SpeculativeStandby& standby() { return *standby_; }
  const test::Folder& folder() const { return folder_; }
  std::span<std::byte> image() { return standby().info().memory[0].bytes; }
  std::span<const std::byte> state() const { return state_; }
  std::uint32_t count() { return test::word_at(standby(), test::kCountAt); }

  // What the primary is now becomes the image: all of it, or what it wrote since.
  void checkpoint() {
    REQUIRE(primary().pause().ok());
    PageSet written;
    REQUIRE(primary().take_written(written).ok());
    if (state_.empty()) written.add(PageNo{0}, primary().info().pages());
    REQUIRE(primary().save_state().ok());
    const auto from = primary().info().memory[0].bytes;
    for (const PageRun& run : written.runs())
      std::memcpy(image().data() + run.first.value * 4096, from.data() + run.first.value * 4096,
                  run.count * 4096);
    REQUIRE(primary().resume().ok());
    REQUIRE(primary().fetch_state(state_).ok());
    standby().image_changed(written);
  }

  void reload() {
    const Status status = standby().reload(state_);
    REQUIRE_MESSAGE(status.ok(), status.to_string());
  }
  void run() { REQUIRE(standby().run().ok()); }
  bool is_as_image() {
    const Memory memory(standby().pid());
    return std::memcmp(memory.bytes().data(), image().data(), image().size()) == 0;
  }

 private:
  test::Folder folder_;
  test::TinyGuest tiny_;
  std::vector<std::byte> state_;
  std::unique_ptr<qemu::SpeculativeStandby> standby_;
};

}  // namespace

TEST_CASE("a standby runs ahead and is rolled back, again and again, and its image is whole" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair;
  pid_t before = 0;
  for (int round = 0; round < 4; ++round) {
    CAPTURE(round);
    REQUIRE(test::counts_on(pair.primary()));
    pair.standby().halt();
    CHECK_FALSE(pair.standby().runs());
    pair.checkpoint();
    pair.reload();
    CHECK(pair.standby().pid() != before);
    before = pair.standby().pid();
    CHECK(pair.is_as_image());
    const std::vector<std::byte> image(pair.image().begin(), pair.image().end());
    pair.run();
    CHECK(pair.standby().runs());
    CHECK(Memory(before).counts_on());
    CHECK_FALSE(pair.is_as_image());
    CHECK(std::memcmp(image.data(), pair.image().data(), image.size()) == 0);
  }
}

TEST_CASE("a checkpoint that comes while it runs is not seen before it is rolled back" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair;
  pair.checkpoint();
  pair.reload();
  pair.run();
  REQUIRE(Memory(pair.standby().pid()).counts_on());
  const pid_t follower = pair.standby().pid();
  for (int n = 0; n < 50; ++n) REQUIRE(test::counts_on(pair.primary()));
  pair.checkpoint();
  CHECK(pair.standby().runs());
  CHECK(Memory(follower).count() != pair.count());
  // Who takes over now, takes the follower: it was never stopped.
  REQUIRE(pair.standby().load_state(pair.state()).ok());
  CHECK(pair.standby().pid() == follower);
  CHECK(Memory(follower).counts_on());
  pair.standby().halt();
  REQUIRE(pair.standby().load_state(pair.state()).ok());
  CHECK(pair.is_as_image());
}

TEST_CASE("one that runs becomes the guest, and a standby can be made of it" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair;
  for (int round = 0; round < 2; ++round) {
    pair.standby().halt();
    pair.checkpoint();
    pair.reload();
    pair.run();
  }
  std::vector<GuestEvent> events;
  std::mutex mutex;
  pair.standby().set_event_sink([&](const GuestEvent& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event);
  });
  const pid_t follower = pair.standby().pid();
  REQUIRE(pair.standby().activate().ok());
  CHECK(pair.standby().pid() == follower);
  REQUIRE(test::counts_on(pair.standby()));
  REQUIRE(pair.standby().start_tracking().ok());
  REQUIRE(pair.standby().pause().ok());
  REQUIRE(pair.standby().save_state().ok());
  REQUIRE(pair.standby().resume().ok());
  std::vector<std::byte> state;
  REQUIRE(pair.standby().fetch_state(state).ok());
  {
    const std::lock_guard lock(mutex);
    CHECK(events.empty());
  }
  // The promoted process shares memory with processes that are gone; its standby has its own.
  const test::Folder folder;
  const auto next = test::tiny_standby(pair.standby().info(), folder);
  CHECK(next->accepts(pair.standby().info()).ok());
  CHECK(next->info().memory[0].bytes.size() == pair.standby().info().memory[0].bytes.size());
  next->destroy();
  test::order(pair.standby(), 1);  // It powers off, and that is told.
  CHECK(test::eventually([&] {
    const std::lock_guard lock(mutex);
    return events.size() == 1 && events[0].kind == GuestEvent::Kind::ended;
  }));
  pair.standby().destroy();
}

TEST_CASE("the death of the process that runs is told, and the next one begins with the image" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair;
  pair.checkpoint();
  pair.reload();
  pair.run();
  std::atomic<int> died = 0;
  pair.standby().set_event_sink([&](const GuestEvent& event) {
    died += event.kind == GuestEvent::Kind::process_died ? 1 : 100;
  });
  REQUIRE(Memory(pair.standby().pid()).counts_on());
  REQUIRE(::kill(pair.standby().pid(), SIGKILL) == 0);
  CHECK(test::eventually([&] { return died == 1; }));
  pair.standby().halt();
  pair.reload();
  CHECK(pair.is_as_image());
  pair.run();
  CHECK(Memory(pair.standby().pid()).counts_on());
  CHECK(died == 1);
}

TEST_CASE("a state that cannot be loaded costs a process, and the next one is taken" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair;
  pair.checkpoint();
  const std::vector<std::byte> nonsense(1000, std::byte{0x5a});
  CHECK_FALSE(pair.standby().reload(nonsense).ok());
  CHECK_FALSE(pair.standby().runs());
  pair.reload();
  pair.run();
  CHECK(Memory(pair.standby().pid()).counts_on());
}

TEST_CASE("the newest process is found under the names that the gate knows" *
          doctest::skip(!test::qemu_is_there())) {
  Pair pair(true);
  const std::string known = pair.folder() / "guest0";
  for (int round = 0; round < 3; ++round) {
    pair.standby().halt();
    pair.checkpoint();
    pair.reload();
    const std::string suffix = round == 0 ? "" : ".w" + std::to_string(round);
    CHECK(inode_of(known) == inode_of(known + suffix));
    CHECK(pair.standby().monitor() == (pair.folder() / "qmp") + suffix);
  }
}
