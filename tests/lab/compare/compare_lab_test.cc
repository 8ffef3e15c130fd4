// SPDX-License-Identifier: LGPL-2.1-or-later
// The parts of output comparison around two real QEMU guests with Redis, and without a session:
// both run, what both say leaves, and when the primary dies its client's connections go on with the
// follower, which is not loaded for it. Checkpoints are taken by hand, and hold nothing back
// but what was not compared.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <semaphore>
#include <thread>
#include <utility>

#include "guest/qemu/speculation.h"
#include "lab/guest_image.h"
#include "lab/hosts.h"
#include "os/real_clock.h"
#include "output/frames_gate.h"
#include "strategy/compare/follower.h"
#include "strategy/compare/referee.h"
#include "support/frames_world.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::steady_clock;
using Then = compare::Referee::Then;

namespace {

[[noreturn]] void skip(const std::string& reason) {
  std::printf("skipped: %s\n", reason.c_str());
  std::fflush(stdout);
  std::_Exit(77);
}

double ms_since(steady_clock::time_point from) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - from).count();
}

std::string spread(std::vector<double> values) {
  if (values.empty()) return "none";
  std::ranges::sort(values);
  const auto at = [&](double share) {
    return values[std::size_t(share * double(values.size() - 1))];
  };
  return fmt::format("p50 {:.2f} p99 {:.2f} max {:.1f} ({})", at(0.5), at(0.99), values.back(),
                     values.size());
}

// One connection to Redis, from the client's namespace.
class Redis {
 public:
  bool connect() {
    fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const timeval patience{30, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in redis{};
    redis.sin_family = AF_INET;
    redis.sin_port = htons(6379);
    ::inet_pton(AF_INET, kGuestAddress, &redis.sin_addr);
    return ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&redis), sizeof redis) == 0;
  }

  // What it answers to an inline command, up to and without the last line's end.
  std::optional<std::string> ask(const std::string& command, int lines = 1) {
    const std::string line = command + "\r\n";
    if (::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return std::nullopt;
    std::string answer;
    char c = 0;
    while (::recv(fd_.get(), &c, 1, 0) == 1) {
      answer += c;
      if (c == '\n' && --lines == 0) return answer.substr(0, answer.size() - 2);
    }
    return std::nullopt;
  }

 private:
  os::ScopedFd fd_;
};

struct Folder {
  Folder() {
    char name[] = "/tmp/ft-compare-lab-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

// Frames from one half to the other, as a connection would carry them; and the Referee's clock.
class Link {
 public:
  Link() = default;
  void join(compare::Referee& referee, compare::Follower& follower) {
    thread_ = std::jthread([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        (void)something_.try_acquire_for(Millis{5});
        carry(referee.take_copies(), [&](const auto& f) { return follower.on_frames_in(f); });
        carry(follower.take_said(), [&](const auto& f) { return referee.on_frames_out(f); });
        referee.tick();
      }
    });
  }
  void wake() { something_.release(); }
  void cut() { thread_ = {}; }

 private:
  template <class Take>
  static void carry(const std::vector<std::byte>& bytes, Take take) {
    wire::FrameReader reader;
    for (std::span<const std::byte> rest = bytes; !rest.empty();) {
      const auto space = reader.space();
      const auto now = std::min(space.size(), rest.size());
      std::copy_n(rest.begin(), now, space.begin());
      reader.stored(now);
      rest = rest.subspan(now);
      for (auto frame = reader.next(); frame && *frame; frame = reader.next())
        if (!take(**frame).ok()) std::abort();
    }
  }

  std::counting_semaphore<> something_{0};
  std::jthread thread_;
};

class World {
 public:
  World() {
    if (::access("/dev/net/tun", R_OK | W_OK) != 0) skip("/dev/net/tun cannot be opened");
    auto image = make_guest(FT_MAKE_GUEST, FT_GUEST_FOLDER, std::chrono::minutes(5));
    if (!image) skip(image.error().message());
    const Status root = become_namespace_root();
    auto made = root.ok() ? TwoHosts::create() : failure(root);
    if (!made) skip(made.error().message());
    hosts = std::move(*made);
    start_primary(*image);
    start_standby();
  }
  ~World() {
    link.cut();
    primary->destroy();
    if (standby) standby->destroy();
  }

  qemu::HostPaths paths(const std::string& side) const {
    return {folder.path + "/" + side + ".qmp",
            {{folder.path + "/" + side + ".guest", folder.path + "/" + side + ".gate"}}};
  }

  std::unique_ptr<output::FramesGate> gate_on(Side side, const std::string& name,
                                              output::GateStart start) {
    REQUIRE(hosts->add_tap(side, "ft-tap0").ok());
    const auto nic = paths(name).nics[0];
    std::optional<Result<output::GateNic>> opened;
    hosts->host(side).within([&] {
      opened.emplace(
          output::open_gate_nic({"net0", nic.gate_path, nic.guest_path, "ft-tap0"}, log));
    });
    REQUIRE_MESSAGE(*opened, (*opened ? "" : opened->error().message()));
    std::vector<output::GateNic> nics;
    nics.push_back(std::move(**opened));
    output::FramesGateOptions options;
    options.start = start;
    auto made = output::FramesGate::create(std::move(nics), options, log);
    REQUIRE(made);
    return std::move(*made);
  }

  // Beats with random bytes would be another output in each: they stay in the guest.
  void start_primary(const GuestImage& image) {
    primary_gate = gate_on(Side::a, "a", output::GateStart::held);
    REQUIRE(primary_gate->open().ok());
    const auto words = image.qemu_arguments(std::string(kGuestAddress) + "/24", "127.0.0.1");
    qemu::QemuDescription description;
    description.accel = "tcg";
    description.memory_bytes = 192ull << 20;
    description.kernel = image.kernel;
    description.initrd = image.initrd;
    description.append = words.back();
    description.serial = folder.path + "/console";
    description.nics.push_back({"virtio-net-pci,romfile=", "52:54:00:4d:00:10"});
    qemu::QemuOptions options;
    options.paths = paths("a");
    options.launch.preload = LIBFT_PRELOAD;
    auto started = qemu::QemuGuest::start(description, options);
    REQUIRE_MESSAGE(started, started.error().to_string());
    primary = std::move(*started);
    REQUIRE(primary->start_tracking().ok());
  }

  void start_standby() {
    standby_gate = gate_on(Side::b, "b", output::GateStart::standby);
    qemu::QemuStandbyOptions options;
    options.arguments.paths = paths("b");
    options.launch.preload = LIBFT_PRELOAD;
    auto made = qemu::SpeculativeStandby::start(primary->info(), options);
    REQUIRE_MESSAGE(made, made.error().to_string());
    standby = std::move(*made);
    const Status begun = standby->begin_speculation();
    REQUIRE_MESSAGE(begun.ok(), begun.to_string());
  }

  void compare() {
    compare::ComparatorOptions options;
    options.answer_max = Millis{1000};  // Two emulated guests, on a host that may have much to do.
    options.acknowledgement_max = Millis{2000};
    follower.emplace(*standby, *standby_gate, *standby_gate, *GuestId::from_name("lab"),
                     [this] { link.wake(); });
    REQUIRE(primary_gate->hold().ok());
    referee.emplace(*primary_gate, *primary_gate, clock, *GuestId::from_name("lab"), options,
                    compare::Referee::Sinks{.copies_wait = [this] { link.wake(); },
                                            .checkpoint =
                                                [this](compare::Reason reason) {
                                                  ++wanted[std::size_t(reason)];
                                                  needed.release();
                                                },
                                            .deadline_set = [this] { link.wake(); }});
    link.join(*referee, *follower);
  }

  // Pause, capture, seal, resume; into the image, which is what a backup acknowledges; release; and
  // the follower runs from there, if one is to.
  void checkpoint(Then then = Then::follower) {
    const auto begun = steady_clock::now();
    const EpochId id{Generation{1}, Epoch{++epoch}};
    referee->begin_checkpoint(id);
    REQUIRE(primary->pause().ok());
    PageSet written;
    REQUIRE(primary->take_written(written).ok());
    if (epoch == 1) written.add(PageNo{0}, primary->info().pages());
    const auto from = primary->info().memory[0].bytes;
    const auto image = standby->info().memory[0].bytes;
    for (const PageRun& run : written.runs())
      std::memcpy(image.data() + run.first.value * 4096, from.data() + run.first.value * 4096,
                  run.count * 4096);
    REQUIRE(primary->save_state().ok());
    REQUIRE(primary_gate->seal(id).ok());
    referee->captured(id, then);
    REQUIRE(primary->resume().ok());
    REQUIRE(primary->fetch_state(state).ok());
    stopped_ms.push_back(ms_since(begun));
    follower->applied(id, written);
    REQUIRE(primary_gate->release(id).ok());
    if (then == Then::nobody) return;
    const auto loading = steady_clock::now();
    const Status restarted = follower->restart(id, state);
    REQUIRE_MESSAGE(restarted.ok(), restarted.to_string());
    referee->follower_runs(id);
    reload_ms.push_back(ms_since(loading));
  }

  // With the checkpoints that it takes meanwhile.
  void go_on_until(const std::function<bool()>& enough, Then then = Then::follower) {
    const auto deadline = steady_clock::now() + std::chrono::minutes(3);
    while (!enough() && steady_clock::now() < deadline) {
      if (!needed.try_acquire_for(Millis{10})) continue;
      while (needed.try_acquire()) {
      }
      checkpoint(then);
    }
  }

  // The primary's host dies: its guest and its gate. Nothing is loaded.
  void take_over() {
    link.cut();
    primary->destroy();
    primary_gate->discard();
    const auto begun = steady_clock::now();
    REQUIRE(standby->runs());
    REQUIRE(standby_gate->open().ok());
    REQUIRE(standby->activate().ok());
    takeover_ms = ms_since(begun);
  }

  support::MemoryLog log;
  os::RealClock clock;
  Folder folder;
  std::unique_ptr<TwoHosts> hosts;
  std::unique_ptr<output::FramesGate> primary_gate, standby_gate;
  std::unique_ptr<qemu::QemuGuest> primary;
  std::unique_ptr<qemu::SpeculativeStandby> standby;
  std::optional<compare::Follower> follower;
  std::optional<compare::Referee> referee;
  std::array<std::atomic<int>, 5> wanted{};
  std::counting_semaphore<> needed{0};
  std::uint64_t epoch = 0;
  std::vector<std::byte> state;
  std::vector<double> stopped_ms, reload_ms;
  double takeover_ms = 0;
  Link link;  // Last: its thread uses the rest.
};

// A client's connection, on a thread in its namespace; it may have to wait for a checkpoint, also
// to end.
class Client {
 public:
  virtual ~Client() = default;
  void begin(World& world) {
    world.hosts->client().within([&] {
      thread_ = std::jthread([this](const std::stop_token& stop) {
        failed = !redis_.connect();
        while (!stop.stop_requested() && !failed) turn();
        ended = true;
      });
    });
  }
  void ask_to_end() { thread_.request_stop(); }
  void end() { thread_ = {}; }

  std::atomic<bool> failed = false, ended = false;

 protected:
  virtual void turn() = 0;
  Redis redis_;

 private:
  std::jthread thread_;
};

// Writes one after the other, each acknowledged before the next.
class Writer final : public Client {
 public:
  explicit Writer(std::string name) : name_(std::move(name)) {}
  ~Writer() override { end(); }

  // Of what was acknowledged, asked by the same connection. REQUIRES: end().
  std::uint64_t lost() {
    std::uint64_t missing = 0;
    for (std::uint64_t n = 1; n <= acknowledged; ++n)
      if (redis_.ask(fmt::format("GET {}{}", name_, n), 2) !=
          fmt::format("${}\r\n{}", std::to_string(n).size(), n))
        ++missing;
    return missing;
  }

  // The latencies of the first so many. REQUIRES: end().
  std::vector<double> first(std::uint64_t count) const {
    return {latency_ms.begin(), latency_ms.begin() + std::ptrdiff_t(count)};
  }

  std::atomic<std::uint64_t> acknowledged = 0;
  std::vector<double> latency_ms;  // After end().

 private:
  void turn() override {
    const auto begun = steady_clock::now();
    const std::uint64_t next = acknowledged + 1;
    failed = redis_.ask(fmt::format("SET {}{} {}", name_, next, next)) != "+OK";
    if (failed) return;
    acknowledged = next;
    latency_ms.push_back(ms_since(begun));
    std::this_thread::sleep_for(Millis{5});
  }

  const std::string name_;
};

// Asks for what no two guests say alike, now and then.
class TimeAsker final : public Client {
 public:
  ~TimeAsker() override { end(); }
  std::atomic<int> answers = 0;

 private:
  void turn() override {
    failed = !redis_.ask("TIME", 5);
    if (!failed) ++answers;
    for (int n = 0; n < 30 && answers < 5; ++n) std::this_thread::sleep_for(Millis{100});
    if (answers >= 5) ask_to_end();
  }
};

bool redis_answers(World& world) {
  const auto end = steady_clock::now() + std::chrono::minutes(5);
  bool answers = false;
  world.hosts->client().within([&] {
    Redis redis;
    while (!answers && steady_clock::now() < end) {
      answers = redis.connect() && redis.ask("PING") == "+PONG";
      if (!answers) std::this_thread::sleep_for(Millis{100});
    }
  });
  return answers;
}

std::function<bool()> reached(const Writer& writer, std::uint64_t count) {
  return [&writer, count] { return writer.acknowledged >= count || writer.failed; };
}

std::function<bool()> passed(std::chrono::seconds time) {
  return [end = steady_clock::now() + time] { return steady_clock::now() >= end; };
}

}  // namespace

TEST_CASE("two guests say the same; connections older and younger than the checkpoint survive") {
  World world;
  REQUIRE(redis_answers(world));
  Writer alone("alone"), checkpointed("checkpointed"), older("older"), younger("younger"),
      youngest("youngest");
  TimeAsker asker;
  const auto ends = [&](Client& client) {
    client.ask_to_end();
    return [&client] { return client.ended.load(); };
  };
  alone.begin(world);
  while (!reached(alone, 300)()) std::this_thread::sleep_for(Millis{10});
  alone.ask_to_end();
  alone.end();
  CHECK(alone.lost() == 0);

  // Checkpoints alone, as soon as output waits: what a comparison is to be better than.
  world.compare();
  world.primary_gate->set_waiting_sink([&] { world.needed.release(); });
  world.checkpoint(Then::nobody);
  checkpointed.begin(world);
  const auto begun = steady_clock::now();
  world.go_on_until(passed(std::chrono::seconds(10)), Then::nobody);
  const double checkpoints_a_second = double(world.epoch) / ms_since(begun) * 1000;
  world.go_on_until(ends(checkpointed), Then::nobody);
  older.begin(world);
  world.go_on_until(reached(older, 1), Then::nobody);
  world.primary_gate->set_waiting_sink({});
  const auto stopped_ms = std::exchange(world.stopped_ms, {});

  // The two are compared. Where they differ, as about the time, a checkpoint makes them one.
  const std::uint64_t epochs_before = world.epoch;
  const std::uint64_t released_before = world.referee->statistics().released;
  world.checkpoint();
  younger.begin(world);
  asker.begin(world);
  world.go_on_until([&] { return world.referee->statistics().released >= released_before + 1000; });
  world.go_on_until(reached(younger, 50));
  world.go_on_until(ends(asker));
  const auto statistics = world.referee->statistics();
  const std::uint64_t epochs = world.epoch - epochs_before;
  youngest.begin(world);
  world.go_on_until(reached(youngest, 5));
  world.go_on_until([&] { return world.standby->runs() && world.referee->compares(); });

  const std::uint64_t before[] = {older.acknowledged, younger.acknowledged, youngest.acknowledged};
  world.take_over();
  const auto goes_on = [](const Writer& writer, std::uint64_t count) {
    const auto reaches = reached(writer, count + 100);
    const auto deadline = passed(std::chrono::seconds(120));
    while (!reaches() && !deadline()) std::this_thread::sleep_for(Millis{10});
    return writer.acknowledged >= count + 100;
  };
  CHECK(goes_on(older, before[0]));
  CHECK(goes_on(younger, before[1]));
  CHECK(goes_on(youngest, before[2]));
  for (Writer* writer : {&checkpointed, &older, &younger, &youngest}) {
    writer->ask_to_end();
    writer->end();
    CHECK_FALSE(writer->failed);
    CHECK(writer->lost() == 0);
  }
  CHECK(statistics.released >= released_before + 1000);
  CHECK(asker.answers > 0);
  CHECK(world.wanted[std::size_t(compare::Reason::content_differs)] > 0);
  CHECK(epochs > 1);

  const auto print = [](const char* what, const std::string& figures) {
    std::printf("%-28s %s\n", what, figures.c_str());
  };
  print("alone, ms", spread(alone.latency_ms));
  print("by checkpoints, ms", spread(checkpointed.latency_ms));
  print("  checkpoints a second", fmt::format("{:.1f}", checkpoints_a_second));
  print("  stopped, ms", spread(stopped_ms));
  print("compared, ms", spread(older.first(before[0])));
  print("  younger connection, ms", spread(younger.first(before[1])));
  print("  frames by comparison", fmt::format("{}", statistics.released - released_before));
  print("  checkpoints", fmt::format("{}", epochs));
  for (const auto reason : {compare::Reason::content_differs, compare::Reason::not_understood,
                            compare::Reason::no_answer, compare::Reason::limit})
    print(fmt::format("    {}", compare::to_string(reason)).c_str(),
          std::to_string(world.wanted[std::size_t(reason)]));
  print("  stopped, ms", spread(world.stopped_ms));
  print("  until the follower runs, ms", spread(world.reload_ms));
  print("take-over, ms", fmt::format("{:.1f}", world.takeover_ms));
}
