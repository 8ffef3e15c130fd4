// SPDX-License-Identifier: LGPL-2.1-or-later
// A Linux guest that is stopped thirty times a second, as checkpoints do it: its clock falls behind
// by the sum of the stops, and with QEMU's guest agent it does not, also after a promotion.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "guest/qemu/guest_clock.h"
#include "guest/qemu/qemu_guest.h"
#include "qemu/qmp.h"
#include "lab/guest_image.h"

using namespace libft;
using qemu::Json;
using qemu::QemuGuest;

namespace {

using Steady = std::chrono::steady_clock;

constexpr Nanos kGood = Millis{100};

bool eventually(const std::function<bool()>& condition, std::chrono::seconds patience) {
  const auto deadline = Steady::now() + patience;
  while (!condition()) {
    if (Steady::now() > deadline) return false;
    std::this_thread::sleep_for(Millis{2});
  }
  return true;
}

double ms(Nanos time) { return std::chrono::duration<double, std::milli>(time).count(); }

// A client of the agent's that is not libft's: QEMU serves one at a time.
class Agent {
 public:
  explicit Agent(const std::string& path) {
    auto connected = qemu::connect_agent(path);
    REQUIRE_MESSAGE(connected, connected.error().to_string());
    socket_ = std::move(*connected);
  }
  // False while the agent does not answer.
  bool synchronise() {
    const int id = ++id_;
    send("\xff" + qemu::qmp_line("guest-sync", {{"id", id}}));
    for (;;) {
      const Json answer = line(Millis{2000});
      if (answer.is_null()) return false;
      if (answer.contains("return") && answer["return"] == id) return true;
    }
  }
  struct Lag {
    Nanos min{}, max{};
  };
  // The narrowest of several readings.
  Lag lag() {
    Lag best{-std::chrono::hours{1}, std::chrono::hours{1}};
    for (int i = 0; i < 10; ++i) {
      const Nanos asked = std::chrono::system_clock::now().time_since_epoch();
      send(qemu::qmp_line("guest-get-time"));
      const Json answer = line(std::chrono::seconds{20});
      const Nanos answered = std::chrono::system_clock::now().time_since_epoch();
      REQUIRE(answer.is_object());
      REQUIRE(answer.contains("return"));
      const Nanos guest{answer["return"].get<std::int64_t>()};
      if (answered - asked < best.max - best.min) best = {asked - guest, answered - guest};
    }
    return best;
  }

 private:
  void send(const std::string& text) const {
    REQUIRE(::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
  Json line(Nanos patience) {
    const auto deadline = Steady::now() + patience;
    while (input_.find('\n') == std::string::npos) {
      const auto left = std::chrono::duration_cast<Millis>(deadline - Steady::now()).count();
      pollfd ready{socket_.get(), POLLIN, 0};
      if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) <= 0) return {};
      char bytes[4096];
      const ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, 0);
      if (count <= 0) return {};
      input_.append(bytes, static_cast<std::size_t>(count));
    }
    const std::size_t end = input_.find('\n');
    const Json json = Json::parse(input_.substr(0, end), nullptr, false);
    input_.erase(0, end + 1);
    return json.is_object() ? json : Json::object();
  }

  os::ScopedFd socket_;
  std::string input_;
  int id_ = 1000;
};

// Thirty stops a second of 8 ms and what `stop` and `cont` take, for `time`.
void checkpoint_for(Guest& guest, Nanos time) {
  const auto end = Steady::now() + time;
  for (auto next = Steady::now(); next < end; next += std::chrono::microseconds{33'333}) {
    std::this_thread::sleep_until(next);
    REQUIRE(guest.pause().ok());
    std::this_thread::sleep_for(Millis{8});
    REQUIRE(guest.resume().ok());
  }
}

struct Lab {
  Lab() {
    char name[] = "/tmp/libft-clock-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
  }
  ~Lab() {
    if (guest)
      guest->destroy();
    else if (let_go > 0)
      ::kill(let_go, SIGKILL);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  qemu::QemuOptions options() {
    qemu::QemuOptions options;
    options.paths.qmp = folder + "/primary.qmp";
    options.launch.preload = LIBFT_PRELOAD;
    return options;
  }
  // libft lets go of the guest, which runs on; the agent is free for another client.
  Agent::Lag lag_behind_libfts_back(const std::string& agent) {
    let_go = guest->pid();
    guest.reset();
    Agent client(agent);
    REQUIRE(eventually([&] { return client.synchronise(); }, std::chrono::seconds{30}));
    return client.lag();
  }

  std::string folder;
  std::unique_ptr<QemuGuest> guest;
  pid_t let_go = -1;  // Still this process's child, so that the number is nobody else's.
};

std::unique_ptr<QemuGuest> promoted(Lab& lab) {
  qemu::QemuStandbyOptions options;
  options.arguments.paths.qmp = lab.folder + "/standby.qmp";
  options.launch.preload = LIBFT_PRELOAD;
  auto started = QemuGuest::start_standby(lab.guest->info(), options);
  REQUIRE_MESSAGE(started, started.error().to_string());
  std::unique_ptr<QemuGuest> standby = std::move(*started);
  REQUIRE(lab.guest->pause().ok());
  REQUIRE(lab.guest->save_state().ok());
  std::vector<std::byte> state;
  REQUIRE(lab.guest->fetch_state(state).ok());
  const auto& from = lab.guest->info().memory;
  const auto& to = standby->info().memory;
  REQUIRE(from.size() == to.size());
  for (std::size_t i = 0; i < from.size(); ++i)
    std::memcpy(to[i].bytes.data(), from[i].bytes.data(), from[i].bytes.size());
  lab.guest->destroy();
  REQUIRE(standby->load_state(state).ok());
  std::this_thread::sleep_for(Millis{700});  // As long as a detector and an arbiter may take.
  REQUIRE(standby->activate().ok());
  return standby;
}

}  // namespace

TEST_CASE("the guest's clock under checkpoints, without and with its agent") {
  if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
    std::puts("skipped: no qemu-system-x86_64 (apt-get install qemu-system-x86)");
    std::exit(77);
  }
  const auto image = lab::make_guest(FT_MAKE_GUEST, FT_GUEST_FOLDER, std::chrono::minutes{5});
  if (!image) {
    fmt::print("skipped: {}\n", image.error().to_string());
    std::exit(77);
  }
  Lab lab;
  qemu::QemuDescription description;
  description.kernel = image->kernel;
  description.initrd = image->initrd;
  description.append = image->command_line;
  description.serial = lab.folder + "/console";
  description.guest_agent = true;
  auto started = QemuGuest::start(description, lab.options());
  REQUIRE_MESSAGE(started, started.error().to_string());
  lab.guest = std::move(*started);
  const std::string socket = qemu::agent_path(lab.options().paths);

  {
    Agent other(socket);  // While it has the port, libft's questions wait.
    REQUIRE(eventually([&] { return other.synchronise(); }, std::chrono::seconds{120}));
    const Agent::Lag before = other.lag();
    checkpoint_for(*lab.guest, std::chrono::seconds{10});
    const Agent::Lag after = other.lag();
    const Nanos stopped = lab.guest->stopped_by_libft();
    fmt::print("uncorrected: {:.0f} ms of stops in 10 s; the guest's clock lost {:.0f}..{:.0f}\n",
               ms(stopped), ms(after.min - before.max), ms(after.max - before.min));
    CHECK(stopped > std::chrono::seconds{1});
    CHECK(lab.guest->clock_lag() == stopped);
    CHECK(lab.guest->clock_corrections() == 0);
    // Stamps are put on events a little before the clock stops, and after it runs.
    CHECK(after.max - before.min > stopped * 7 / 10);
    CHECK(after.min - before.max < stopped * 12 / 10 + kGood);
  }

  const auto is_good = [&] {
    return lab.guest->clock_corrections() > 0 && lab.guest->clock_lag() < kGood;
  };
  REQUIRE(eventually(is_good, std::chrono::seconds{60}));
  const Nanos stopped_before = lab.guest->stopped_by_libft();
  const std::uint64_t corrections_before = lab.guest->clock_corrections();
  checkpoint_for(*lab.guest, std::chrono::seconds{10});
  fmt::print("corrected: {:.0f} ms of stops in 10 s, {} corrections, {:.0f} ms left\n",
             ms(lab.guest->stopped_by_libft() - stopped_before),
             lab.guest->clock_corrections() - corrections_before, ms(lab.guest->clock_lag()));
  CHECK(lab.guest->clock_corrections() > corrections_before);
  REQUIRE(eventually(is_good, std::chrono::seconds{30}));
  const pid_t pid = lab.guest->pid();
  const Agent::Lag corrected = lab.lag_behind_libfts_back(socket);
  fmt::print("corrected, measured from outside: {:.0f}..{:.0f} ms behind\n", ms(corrected.min),
             ms(corrected.max));
  CHECK(corrected.min < kGood);
  CHECK(corrected.max > -kGood);

  auto attached = QemuGuest::attach(pid, lab.options());
  REQUIRE_MESSAGE(attached, attached.error().to_string());
  lab.guest = std::move(*attached);
  lab.guest = promoted(lab);
  const auto at_once = [&] { return lab.guest->clock_corrections() > 0; };
  CHECK(eventually(at_once, std::chrono::seconds{30}));
  const Agent::Lag afterwards = lab.lag_behind_libfts_back(lab.folder + "/standby.qmp.agent");
  fmt::print("after a promotion: {:.0f}..{:.0f} ms behind\n", ms(afterwards.min),
             ms(afterwards.max));
  CHECK(afterwards.min < kGood);
  CHECK(afterwards.max > -kGood);
}
