// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests live, and what they did is done again beside them from their logs, to the same states:
// 10^10 instructions, or as many as LIBFT_REPLAY_INSTRUCTIONS says.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>

#include "guest/machine/machine_guest.h"
#include "strategy/replay/examine.h"
#include "strategy/replay/follower.h"
#include "strategy/replay/recorder.h"
#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/kv_memory.h"
#include "unit/guest/machine/udp_frames.h"

using namespace libft;
using machine::MachineGuest;
using machine::MachineGuestOptions;

namespace {

constexpr std::chrono::milliseconds kCutEvery{5};
constexpr unsigned kHashEvery = 10;
constexpr std::size_t kLogsWaiting = 20;  // Then the guest stands until its follower is there.

double instructions_wanted() {
  const char* const wanted = std::getenv("LIBFT_REPLAY_INSTRUCTIONS");
  return wanted == nullptr ? 1e10 : std::atof(wanted);
}

struct Report {
  std::uint64_t instructions = 0, logs = 0, hashes = 0, bytes = 0, inputs = 0;
  void print(const char* guest) const {
    std::printf(
        "%-28s %14llu positions, %6llu logs, %5llu states compared, %7llu inputs, "
        "%.5f bytes a 1,000 positions\n",
        guest, (unsigned long long)instructions, (unsigned long long)logs,
        (unsigned long long)hashes, (unsigned long long)inputs,
        1000.0 * double(bytes) / double(std::max<std::uint64_t>(instructions, 1)));
    std::fflush(stdout);
  }
};

// A guest that lives, and another one that follows on a thread of its own.
class Pair {
 public:
  explicit Pair(const machine::MachineOptions& machine, os::ScopedFd nic = {})
      : live_(make(machine, false, std::move(nic))), again_(make(machine, true, {})) {}

  // From where the live guest is now.
  void begin() {
    REQUIRE(live_->pause().ok());
    const auto from = live_->info().memory[0].bytes, to = again_->info().memory[0].bytes;
    std::ranges::copy(from, to.begin());
    REQUIRE(live_->save_state().ok());
    std::vector<std::byte> state;
    REQUIRE(live_->fetch_state(state).ok());
    REQUIRE(again_->load_state(state).ok());
    recorder_.emplace(*live_);
    REQUIRE(recorder_->begin(EpochId{{1}, {1}}).ok());
    begun_at_ = live_->position()->value;
    auto landmark = replay::Landmark::set(*again_, *again_);
    REQUIRE(landmark);
    landmark_ = std::move(*landmark);
    follower_.emplace(*again_);
    thread_ = std::jthread([this] { follow(); });
    REQUIRE(live_->resume().ok());
  }

  void cut() {
    const EpochId id{{1}, {++epoch_}};
    const bool hash = epoch_ % kHashEvery == 0;
    const auto log =
        recorder_->cut({.id = id, .hash = hash ? WithHash::yes : WithHash::no, .released = id});
    REQUIRE(log);
    recorder_->acknowledged(id);
    std::unique_lock lock(mutex_);
    if (waiting_.size() >= kLogsWaiting) {
      REQUIRE(live_->pause().ok());
      changed_.wait(lock, [this] { return waiting_.empty() || !outcome_.ok(); });
      REQUIRE(live_->resume().ok());
    }
    waiting_.push_back(**log);
    changed_.notify_all();
    report_.instructions = (*log)->mark.until.value - begun_at_;
    ++report_.logs;
    report_.hashes += hash;
    report_.inputs += (*log)->mark.inputs;
    report_.bytes += wire::encode_log(name_, **log).size();
  }

  const Report& report() const { return report_; }
  bool apart() {
    const std::lock_guard lock(mutex_);
    return !outcome_.ok();
  }

  // One bit of the follower's memory, where the guest keeps a value. Between two
  // logs: that guest stands.
  void flip_bit(const std::string& key, const std::string& value) {
    const std::lock_guard lock(following_);
    const auto memory = again_->info().memory[0].bytes;
    memory[test::kv_value_at(memory, key, value)] ^= std::byte{1};
  }
  // After apart().
  replay::Examination examine() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    const std::atomic<bool> never{false};
    const auto found = replay::examine(*landmark_, never);
    REQUIRE(found);
    std::printf("%s\n", replay::describe(*found, live_->info()).c_str());
    return *found;
  }

  Report finish() {
    epoch_ += kHashEvery - 1 - epoch_ % kHashEvery;  // The last one is compared.
    cut();
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    CHECK_MESSAGE(outcome_.ok(), outcome_.to_string());
    return report_;
  }

 private:
  static std::unique_ptr<MachineGuest> make(const machine::MachineOptions& machine, bool standby,
                                            os::ScopedFd nic) {
    MachineGuestOptions options;
    options.machine = machine;
    options.standby = standby;
    options.nic = std::move(nic);
    auto made = MachineGuest::create(std::move(options));
    REQUIRE(made);
    return std::move(*made);
  }

  void follow() {
    std::unique_lock lock(mutex_);
    while (outcome_.ok()) {
      changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const wire::LogEpoch log = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      const Status followed = execute(log);
      lock.lock();
      outcome_ = followed;
      changed_.notify_all();
    }
  }

  Status execute(const wire::LogEpoch& log) {
    const std::lock_guard lock(following_);
    const Status followed = follower_->follow(log);
    const Status kept = followed.ok() ? landmark_->passed(log) : landmark_->came_apart(log);
    return followed.ok() ? kept : followed;
  }

  const GuestId name_ = *GuestId::from_name("long");
  std::unique_ptr<MachineGuest> live_, again_;
  std::optional<replay::Recorder> recorder_;
  std::mutex following_;
  std::unique_ptr<replay::Landmark> landmark_;
  std::optional<replay::Follower> follower_;
  std::uint64_t epoch_ = 1, begun_at_ = 0;
  Report report_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::LogEpoch> waiting_;
  bool ending_ = false;
  Status outcome_;
  std::jthread thread_;
};

// The bank never waits: its positions are instructions.
Report run_bank(unsigned harts, double instructions) {
  Pair pair(test::bare_metal("bank", harts));
  pair.begin();
  while (double(pair.report().instructions) < instructions && !pair.apart()) {
    std::this_thread::sleep_for(kCutEvery);
    pair.cut();
  }
  return pair.finish();
}

}  // namespace

TEST_CASE("ten thousand million instructions are done again") {
  const double wanted = instructions_wanted();
  std::uint64_t done = 0;
  for (const auto& [harts, share] : {std::pair{1u, 0.8}, {2u, 0.1}, {4u, 0.1}}) {
    const Report report = run_bank(harts, wanted * share);
    report.print(harts == 1 ? "bank, 1 hart" : harts == 2 ? "bank, 2 harts" : "bank, 4 harts");
    done += report.instructions;
  }
  std::printf("%llu instructions executed twice\n", (unsigned long long)done);
  CHECK(double(done) >= wanted * 0.999);
}

namespace {

// Who asks the key-value guest, and counts answers.
struct Asker {
  os::ScopedFd outside;
  unsigned answered = 0;
  void ask(const std::string& text) {
    const auto frame = test::kv_request(text);
    REQUIRE(::send(outside.get(), frame.data(), frame.size(), 0) > 0);
    pollfd ready{outside.get(), POLLIN, 0};
    if (::poll(&ready, 1, 200) != 1) return;
    std::array<std::byte, 2048> answer;
    answered += ::recv(outside.get(), answer.data(), answer.size(), 0) > 0;
  }
  void ask_until_answered(const std::string& text) {
    const unsigned before = answered;
    for (unsigned tries = 0; answered == before && tries < 100; ++tries) ask(text);
    REQUIRE(answered == before + 1);
  }
};

}  // namespace

TEST_CASE("a bit that flips in a follower's memory is found amid other work") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  Pair pair(test::bare_metal("kv"), os::ScopedFd(ends[0]));
  Asker asker{os::ScopedFd(ends[1])};
  asker.ask_until_answered("S never-changed blue");
  pair.begin();
  const auto work = [&](unsigned questions) {
    for (unsigned number = 0; number < questions; ++number) {
      asker.ask("S key" + std::to_string(number % 64) + " value" + std::to_string(number));
      if (number % 20 == 0) pair.cut();
    }
  };
  work(2000);
  pair.flip_bit("never-changed", "blue");
  // The guest never looks at that byte, but it writes beside it: the next hash of that page differs.
  for (int tries = 0; tries < 100 && !pair.apart(); ++tries) work(100);
  REQUIRE(pair.apart());
  const replay::Examination found = pair.examine();
  CHECK(found.verdict == replay::Examination::Verdict::erred_here);
  REQUIRE(found.lost.size() == 1);
  CHECK(found.lost[0].right == std::byte{'b'});
  CHECK(found.lost[0].wrong == std::byte{'c'});
  CHECK_FALSE(found.misled);
}

TEST_CASE("a guest that is asked all the time is done again") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  Pair pair(test::bare_metal("kv"), os::ScopedFd(ends[0]));
  Asker asker{os::ScopedFd(ends[1])};
  const auto ask = [&](unsigned number) {
    asker.ask("S key" + std::to_string(number % 64) + " value" + std::to_string(number));
  };
  asker.ask_until_answered("S key0 value0");
  pair.begin();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  unsigned number = 1;
  for (; std::chrono::steady_clock::now() < end && !pair.apart(); ++number) {
    ask(number);
    if (number % 20 == 0) pair.cut();
  }
  const Report report = pair.finish();
  report.print("key-value server, 1 hart");
  CHECK(report.inputs >= number / 2);
  CHECK(asker.answered >= number / 2);
}
