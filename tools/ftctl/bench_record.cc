// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench_record.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "bench_image.h"
#include "guest/machine/machine_guest.h"
#include "os/poll.h"
#include "strategy/replay/recorder.h"

namespace libft::ftctl {

namespace {

using Clock = std::chrono::steady_clock;
using machine::MachineGuest;

constexpr double kTargetPercent = 8;
constexpr std::chrono::milliseconds kCutEvery{10};  // As a session does while no output waits,
constexpr unsigned kHashEvery = 50;                 // and compares states every half second.
constexpr std::chrono::seconds kPatience{60};

// The log of a guest that runs, cut and coded as a session does.
class Recording {
 public:
  explicit Recording(MachineGuest& guest) : recorder_(guest) {
    [[maybe_unused]] const Status begun = recorder_.begin(EpochId{{1}, {1}});
    thread_ = std::jthread([this](const std::stop_token& stop) { cut(stop); });
  }
  // What travelled, once all is cut.
  std::size_t finish() {
    thread_.request_stop();
    thread_.join();
    return bytes_;
  }

 private:
  void cut(const std::stop_token& stop) {
    for (std::uint64_t number = 2; !stop.stop_requested(); ++number) {
      std::this_thread::sleep_for(kCutEvery);
      const EpochId id{{1}, {number}};
      const auto epoch =
          recorder_.cut({.id = id,
                         .hash = number % kHashEvery == 0 ? WithHash::yes : WithHash::no,
                         .released = {}});
      if (epoch) bytes_ += wire::encode_log(guest_id_, **epoch).size();
      recorder_.acknowledged(id);
    }
  }

  const GuestId guest_id_ = *GuestId::from_name("bench");
  replay::Recorder recorder_;
  std::size_t bytes_ = 0;
  std::jthread thread_;
};

struct Sample {
  double seconds = 0;
  std::size_t log_bytes = 0;
};

double since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

machine::MachineGuestOptions guest_of(std::span<const std::byte> image) {
  machine::MachineGuestOptions options;
  options.machine.memory_bytes = 128 << 20;
  options.machine.kernel.assign(image.begin(), image.end());
  return options;
}

// Until the guest says it has done its work.
Result<Sample> compute(bool record) {
  std::mutex mutex;
  std::condition_variable changed;
  std::string line;
  Clock::time_point begin;
  std::optional<double> seconds;
  machine::MachineGuestOptions options = guest_of(bench_image());
  options.console = [&](std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex);
    for (const std::byte byte : bytes) line += static_cast<char>(byte);
    if (line == "begin\n") begin = Clock::now();
    if (line.ends_with("digest ")) seconds = since(begin);
    changed.notify_all();
  };
  FT_ASSIGN(const std::unique_ptr<MachineGuest> guest, MachineGuest::create(std::move(options)));
  std::optional<Recording> recording;
  if (record) recording.emplace(*guest);
  {
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, kPatience, [&] { return seconds.has_value(); }))
      return failure(Code::timeout, "the guest did not finish its work");
  }
  return Sample{*seconds, recording ? recording->finish() : 0};
}

// "Who has 10.0.0.2?", from 10.0.0.1: what the guest answers with a frame of its own.
constexpr std::array<unsigned char, 42> kQuestion{
    255, 255, 255, 255, 255, 255, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
    1,   2,   0,   0,   0,   0,   1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};

// The guest's link, of which a few questions are always on their way.
class Client {
 public:
  explicit Client(os::ScopedFd link) : link_(std::move(link)) {}

  Status ask(unsigned questions) {
    constexpr unsigned kOnTheirWay = 8;
    for (unsigned sent = 0, answered = 0; answered < questions;) {
      if (sent < questions && sent - answered < kOnTheirWay) {
        if (::send(link_.get(), kQuestion.data(), kQuestion.size(), MSG_NOSIGNAL) < 0)
          return os::errno_status("ask the guest");
        ++sent;
        continue;
      }
      FT_TRY(await_answer());
      ++answered;
    }
    return {};
  }
  // A guest that is not ready drops what it is asked.
  Status await_guest() {
    for (unsigned tries = 0; tries < 1000; ++tries) {
      ::send(link_.get(), kQuestion.data(), kQuestion.size(), MSG_NOSIGNAL);
      pollfd wanted{link_.get(), POLLIN, 0};
      if (::poll(&wanted, 1, 20) > 0) return await_answer();
    }
    return Status(Code::timeout, "the guest does not answer");
  }

 private:
  Status await_answer() {
    std::array<std::byte, 2048> answer;
    if (::recv(link_.get(), answer.data(), answer.size(), 0) > 0) return {};
    return os::errno_status("hear from the guest");
  }
  os::ScopedFd link_;
};

Result<Sample> network(bool record) {
  constexpr unsigned kQuestions = 100'000;
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return failure(os::errno_status("make the guest's cable"));
  machine::MachineGuestOptions options = guest_of(kv_image());
  options.nic = os::ScopedFd(ends[0]);
  Client client{os::ScopedFd(ends[1])};
  const timeval patience{kPatience.count(), 0};
  ::setsockopt(ends[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  FT_ASSIGN(const std::unique_ptr<MachineGuest> guest, MachineGuest::create(std::move(options)));
  FT_TRY(client.await_guest());
  std::optional<Recording> recording;
  if (record) recording.emplace(*guest);
  const auto begin = Clock::now();
  FT_TRY(client.ask(kQuestions));
  return Sample{since(begin), recording ? recording->finish() : 0};
}

struct Load {
  const char* name;
  Result<Sample> (*run)(bool record);
};
constexpr Load kLoads[] = {{"compute-bound", compute}, {"network-bound", network}};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Alternately, so that both see the same machine.
Result<Json> measure(const Load& load, int repeats) {
  std::vector<double> plain, recorded;
  std::size_t log_bytes = 0;
  for (int i = 0; i < repeats; ++i) {
    FT_ASSIGN(const Sample without, load.run(false));
    FT_ASSIGN(const Sample with, load.run(true));
    fmt::print("  {} of {}, {}: {:.2f} s, recorded {:.2f} s\n", i + 1, repeats, load.name,
               without.seconds, with.seconds);
    plain.push_back(without.seconds);
    recorded.push_back(with.seconds);
    log_bytes = with.log_bytes;
  }
  const double overhead = 100 * (median(recorded) / median(plain) - 1);
  return Json{{"load", load.name},
              {"seconds_p50", median(plain)},
              {"recorded_seconds_p50", median(recorded)},
              {"overhead_percent", overhead},
              {"log_bytes", log_bytes},
              {"within_target", overhead < kTargetPercent}};
}

}  // namespace

Status bench_record(const Arguments& arguments, Json& report) {
  constexpr int kRepeats = 5;
  const int repeats = arguments.epochs > 0 ? arguments.epochs : kRepeats;
  report = {{"repeats", repeats}, {"rows", Json::array()}};
  fmt::print(
      "A guest that computes and one that answers, each {} time{} without recording and "
      "with it.\n\n",
      repeats, repeats == 1 ? "" : "s");
  for (const Load& load : kLoads) {
    FT_ASSIGN(const Json row, measure(load, repeats));
    report["rows"].push_back(row);
  }
  fmt::print("\n{:<16} {:>10} {:>12} {:>10} {:>12}  {}\n", "guest", "seconds", "recorded s",
             "overhead", "log bytes", "in target");
  for (const Json& row : report["rows"])
    fmt::print("{:<16} {:>10.3f} {:>12.3f} {:>+8.1f} % {:>12}  {}\n",
               row["load"].get<std::string>(), row["seconds_p50"].get<double>(),
               row["recorded_seconds_p50"].get<double>(), row["overhead_percent"].get<double>(),
               row["log_bytes"].get<std::size_t>(),
               row["within_target"].get<bool>() ? "yes" : "NO");
  fmt::print(
      "\nRecorded: inputs with their positions, cut and coded every {} ms, a hash of the state "
      "with "
      "each\n{}th cut; medians of {}, alternately. Target: less than {} % on either.\n",
      kCutEvery.count(), kHashEvery, repeats, kTargetPercent);
  return {};
}

}  // namespace libft::ftctl
