// SPDX-License-Identifier: LGPL-2.1-or-later
// A real guest behind a FramesGate: what it sends reaches a client on the other side of a bridge,
// and holding every frame to an epoch of 10 ms, with QEMU stopped at each end, loses none.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "lab/guest/protocol.h"
#include "lab/guest_image.h"
#include "lab/hosts.h"
#include "os/file.h"
#include "output/frames_gate.h"
#include "support/frames_world.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::steady_clock;

namespace {

constexpr auto kEpochTime = std::chrono::milliseconds(10);
constexpr auto kLoadTime = std::chrono::seconds(20);

[[noreturn]] void skip(const std::string& reason) {
  std::printf("skipped: %s\n", reason.c_str());
  std::fflush(stdout);
  std::_Exit(77);
}

double ms_between(steady_clock::time_point from, steady_clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double percentile(std::vector<double>& values, double share) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void print_spread(const char* what, const char* unit, std::vector<double> values) {
  std::printf("%-28s p50 %8.3f %s  p99 %8.3f %s  max %8.3f %s  (%zu)\n", what,
              percentile(values, 0.5), unit, percentile(values, 0.99), unit,
              percentile(values, 1.0), unit, values.size());
}

void print_latency(const char* what, const std::vector<double>& values) {
  print_spread(what, "ms", values);
}

sockaddr_in internet(const char* address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  ::inet_pton(AF_INET, address, &result.sin_addr);
  return result;
}

const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// One TCP connection to Redis. Blocking; opened on a thread of the client's namespace.
class Redis {
 public:
  bool connect() {
    fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const timeval patience{20, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const auto redis = internet(kGuestAddress, 6379);
    return ::connect(fd_.get(), generic(redis), sizeof redis) == 0;
  }

  bool ask(const std::string& line, std::size_t answer_bytes) {
    if (::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return false;
    std::string answer(answer_bytes, '\0');
    std::size_t have = 0;
    while (have < answer_bytes) {
      const auto got = ::recv(fd_.get(), answer.data() + have, answer_bytes - have, 0);
      if (got <= 0) return false;
      have += static_cast<std::size_t>(got);
    }
    return answer.ends_with("\r\n") && !answer.starts_with('-');
  }

  bool ping() { return ask("PING\r\n", 7); }

 private:
  os::ScopedFd fd_;
};

// Hears the guest's beats and asks the guest questions.
class Observer {
 public:
  Observer() {
    fd_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto here = internet("0.0.0.0", LAB_BEAT_PORT);
    REQUIRE(::bind(fd_.get(), generic(here), sizeof here) == 0);
    asking_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  }

  bool wait_for_beat(int patience_ms) {
    return support::wait_readable(fd_.get(), POLLIN, patience_ms);
  }

  // The counters that arrived since the last call.
  std::vector<std::uint64_t> beats() {
    std::vector<std::uint64_t> counters;
    LabBeat beat;
    while (::recv(fd_.get(), &beat, sizeof beat, MSG_DONTWAIT) == sizeof beat) {
      counters.push_back(beat.counter);
    }
    return counters;
  }

  LabAnswer ask(std::uint32_t kind, std::uint64_t argument = 0) {
    const LabQuery query{LAB_QUERY_MAGIC, kind, argument};
    const auto guest = internet(kGuestAddress, LAB_QUERY_PORT);
    LabAnswer answer{};
    for (int attempt = 0; attempt < 5; ++attempt) {
      ::sendto(asking_.get(), &query, sizeof query, 0, generic(guest), sizeof guest);
      if (!support::wait_readable(asking_.get(), POLLIN, 2000)) continue;
      if (::recv(asking_.get(), &answer, sizeof answer, 0) == sizeof answer) return answer;
    }
    FAIL("the guest does not answer");
    return answer;
  }

 private:
  os::ScopedFd fd_, asking_;
};

class Qmp {
 public:
  explicit Qmp(const std::string& path) {
    fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const auto deadline = steady_clock::now() + std::chrono::seconds(30);
    while (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      REQUIRE(steady_clock::now() < deadline);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    execute("qmp_capabilities");
  }

  void execute(const std::string& command) {
    const std::string line = nlohmann::json{{"execute", command}}.dump() + "\n";
    REQUIRE(::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) > 0);
    while (!nlohmann::json::parse(read_line()).contains("return")) {
    }
  }

 private:
  std::string read_line() {
    for (;;) {
      if (const auto end = text_.find('\n'); end != std::string::npos) {
        const std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return line;
      }
      char buffer[4096];
      const auto got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
      REQUIRE(got > 0);
      text_.append(buffer, static_cast<std::size_t>(got));
    }
  }

  os::ScopedFd fd_;
  std::string text_;
};

struct Folder {
  Folder() {
    char name[] = "/tmp/ft-gate-lab-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

struct GuestWorld {
  GuestWorld() {
    if (::access("/dev/net/tun", R_OK | W_OK) != 0) skip("/dev/net/tun cannot be opened");
    const auto image = make_guest(FT_MAKE_GUEST, FT_GUEST_FOLDER, std::chrono::minutes(5));
    if (!image) skip(image.error().message());
    const Status root = become_namespace_root();
    auto made = root.ok() ? TwoHosts::create() : failure(root);
    if (!made) skip(made.error().message());
    hosts = std::move(*made);
    open_gate();
    start_guest(*image);
  }

  void open_gate() {
    REQUIRE(hosts->add_tap(Side::a, "ft-tap0").ok());
    std::optional<Result<output::GateNic>> nic;
    hosts->host(Side::a).within([&] {
      nic.emplace(
          output::open_gate_nic({"net0", folder.path + "/g", folder.path + "/q", "ft-tap0"}, log));
    });
    REQUIRE_MESSAGE(*nic, (*nic ? "" : nic->error().message()));
    std::vector<output::GateNic> nics;
    nics.push_back(std::move(**nic));
    auto made = output::FramesGate::create(std::move(nics), {}, log);
    REQUIRE(made);
    gate = std::move(*made);
    REQUIRE(gate->open().ok());
  }

  void start_guest(const GuestImage& image) {
    os::ChildOptions options;
    options.argv = {"qemu-system-x86_64",
                    "-accel",
                    "tcg",
                    "-m",
                    "192M",
                    "-nodefaults",
                    "-no-user-config",
                    "-display",
                    "none",
                    "-serial",
                    "file:" + folder.path + "/console",
                    "-qmp",
                    "unix:" + folder.path + "/qmp,server=on,wait=off",
                    "-netdev",
                    fmt::format("dgram,id=n0,local.type=unix,local.path={0}/q,"
                                "remote.type=unix,remote.path={0}/g",
                                folder.path),
                    "-device",
                    "virtio-net-pci,netdev=n0,mac=52:54:00:4d:00:10"};
    for (auto& word : image.qemu_arguments(std::string(kGuestAddress) + "/24", kClientAddress)) {
      options.argv.push_back(word);
    }
    auto started = hosts->host(Side::a).start(options);
    if (!started) skip(started.error().message());
    qemu.emplace(std::move(*started));
  }

  support::MemoryLog log;
  Folder folder;
  std::unique_ptr<TwoHosts> hosts;
  std::unique_ptr<output::FramesGate> gate;
  std::optional<os::Child> qemu;
};

// Small requests one after another on one connection, a large answer now and then on a second one:
// bursts of hundreds of frames are what fills queues.
struct Load {
  std::atomic<bool> stop = false;
  std::atomic<bool> failed = false;
  std::vector<double> latency_ms;
  std::uint64_t large = 0;

  void small_requests() {
    Redis redis;
    if (!redis.connect()) failed = true;
    while (!stop && !failed) {
      const auto before = steady_clock::now();
      if (!redis.ping()) failed = true;
      latency_ms.push_back(ms_between(before, steady_clock::now()));
    }
  }

  void large_answers() {
    constexpr std::size_t kBytes = 300'000;
    Redis redis;
    if (!redis.connect() || !redis.ask("SETRANGE big 299999 x\r\n", 9)) failed = true;
    while (!stop && !failed) {
      if (!redis.ask("GET big\r\n", 9 + kBytes + 2)) failed = true;
      ++large;
    }
  }
};

void check_every_beat_arrived(const std::vector<std::uint64_t>& beats) {
  REQUIRE(beats.size() > 100);
  std::uint64_t missing = 0;
  for (std::size_t i = 1; i < beats.size(); ++i) {
    REQUIRE(beats[i] > beats[i - 1]);
    missing += beats[i] - beats[i - 1] - 1;
  }
  CHECK(missing == 0);
}

// Segments that arrived there although they had arrived before, as its TCP reports them to their
// sender (DSACK, RFC 2883).
std::uint64_t received_twice(lab::Namespace& host) {
  std::string text;
  host.within([&] { text = *os::read_file("/proc/thread-self/net/netstat", 1 << 16); });
  std::istringstream lines(text);
  std::string names, values, name, value;
  std::getline(lines, names);  // Of TcpExt; the values stand below, in the same order.
  std::getline(lines, values);
  std::istringstream heads(names), cells(values);
  std::uint64_t sum = 0;
  while (heads >> name && cells >> value)
    if (name == "TCPDSACKOldSent" || name == "TCPDSACKOfoSent") sum += std::stoull(value);
  return sum;
}

}  // namespace

TEST_CASE("a real guest behind the gate: open, and held to epochs of 10 ms without loss") {
  GuestWorld world;
  const auto started = steady_clock::now();
  std::optional<Observer> observer;
  world.hosts->client().within([&] { observer.emplace(); });
  REQUIRE(observer->wait_for_beat(120'000));
  Redis redis;
  world.hosts->client().within([&] {
    while (!redis.connect() || !redis.ping()) {
      REQUIRE(steady_clock::now() - started < std::chrono::minutes(2));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  std::printf("guest up, Redis answers after %.1f s\n",
              ms_between(started, steady_clock::now()) / 1000);

  std::vector<double> open_ms;
  for (int i = 0; i < 500; ++i) {
    const auto before = steady_clock::now();
    REQUIRE(redis.ping());
    open_ms.push_back(ms_between(before, steady_clock::now()));
  }
  print_latency("open: Redis PING", open_ms);

  Qmp qmp(world.folder.path + "/qmp");
  const LabAnswer tcp_before = observer->ask(LAB_TCP);
  const auto twice_before = received_twice(world.hosts->client());
  observer->beats();
  REQUIRE(world.gate->hold().ok());
  Load load;
  std::jthread first, second;
  world.hosts->client().within([&] {  // Threads inherit the namespace of the one that starts them.
    first = std::jthread([&] { load.small_requests(); });
    second = std::jthread([&] { load.large_answers(); });
  });

  std::vector<double> pause_ms, seal_ms, release_ms, release_us_each;
  std::vector<std::uint64_t> beats;
  const auto end = steady_clock::now() + kLoadTime;
  auto next = steady_clock::now();
  for (std::uint64_t n = 1; steady_clock::now() < end; ++n) {
    std::this_thread::sleep_until(next += kEpochTime);
    const EpochId id{Generation{1}, Epoch{n}};
    const auto t0 = steady_clock::now();
    qmp.execute("stop");
    const auto t1 = steady_clock::now();
    REQUIRE(world.gate->seal(id).ok());
    const auto t2 = steady_clock::now();
    qmp.execute("cont");
    const auto t3 = steady_clock::now();
    const auto released_before = world.gate->statistics().packets_released;
    REQUIRE(world.gate->release(id).ok());
    const auto t4 = steady_clock::now();
    const auto frames = world.gate->statistics().packets_released - released_before;
    pause_ms.push_back(ms_between(t0, t3));
    seal_ms.push_back(ms_between(t1, t2));
    release_ms.push_back(ms_between(t3, t4));
    if (frames > 0) {
      release_us_each.push_back(1000 * ms_between(t3, t4) / static_cast<double>(frames));
    }
    for (const auto counter : observer->beats()) beats.push_back(counter);
    next = std::max(next, steady_clock::now() - kEpochTime);
  }
  REQUIRE(world.gate->open().ok());
  load.stop = true;
  first.join();
  second.join();
  CHECK_FALSE(load.failed);

  print_latency("held: Redis PING", load.latency_ms);
  print_latency("stop + seal + cont", pause_ms);
  print_latency("seal", seal_ms);
  print_latency("release", release_ms);
  print_spread("release, for each frame", "us", release_us_each);
  const LabAnswer tcp_after = observer->ask(LAB_TCP);
  const GateStatistics statistics = world.gate->statistics();
  std::printf(
      "%zu epochs, %llu large answers, %llu segments sent by the guest, %llu again; "
      "%llu frames out, %llu in, %llu dropped\n",
      pause_ms.size(), static_cast<unsigned long long>(load.large),
      static_cast<unsigned long long>(tcp_after.value[1] - tcp_before.value[1]),
      static_cast<unsigned long long>(tcp_after.value[0] - tcp_before.value[0]),
      static_cast<unsigned long long>(statistics.packets_released),
      static_cast<unsigned long long>(statistics.packets_in),
      static_cast<unsigned long long>(statistics.packets_dropped));
  // A guest whose answer comes late sends once more, out of impatience (RFC 8985's tail loss probe
  // after two round trips): that is no loss. What was lost arrives once; what was late, twice.
  const auto again = tcp_after.value[0] - tcp_before.value[0];
  CHECK(received_twice(world.hosts->client()) - twice_before >= again);
  CHECK(statistics.packets_dropped == 0);
  check_every_beat_arrived(beats);
  CHECK(world.log.text().empty());
}
