// SPDX-License-Identifier: LGPL-2.1-or-later
// A real guest under a live client, kept up by ftd on two hosts. ftd is restarted on both, one
// after the other: nothing but ftd itself may be disturbed, no failover, no second copy of memory,
// the same processes. Then each host's part of the guest is upgraded, in place: what serves it
// becomes another program, and guest, incarnations, record and image stay. What the client noticed
// is measured.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "demo/control_client.h"
#include "demo/history.h"
#include "demo/run.h"
#include "lab/guest_image.h"
#include "lab/namespace.h"
#include "os/file.h"
#include "os/poll.h"
#include "os/real_clock.h"
#include "os/socket.h"

using namespace libft;
using namespace libft::demo;

namespace {

using std::chrono::seconds;

Time now() { return os::RealClock().now(); }

// What must be the same after a restart, and what must have gone on.
struct Standing {
  std::string role, self;
  int pid = 0;
  std::vector<int> children;  // Its QEMU.
  bool is_protected = false;
  std::uint64_t sync_pages_sent = 0, failovers = 0, reprotects = 0, epoch = 0, generation = 0;
};

std::vector<int> children_of(int pid) {
  std::vector<int> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream stat(entry.path() / "stat");
    int child = 0, parent = 0;
    std::string name, state;  // A QEMU's name has no space.
    if (stat >> child >> name >> state >> parent && parent == pid) children.push_back(child);
  }
  return children;
}

Standing standing_of(const Ftctl& ftctl) {
  const auto status = ftctl.status();
  REQUIRE(status);
  const int pid = (*status)["keeper"].value("pid", 0);
  return {status->value("role", ""),
          status->value("incarnation", ""),
          pid,
          children_of(pid),
          status->value("protected", false),
          status->value("sync_pages_sent", std::uint64_t{0}),
          status->value("failovers", std::uint64_t{0}),
          status->value("reprotects", std::uint64_t{0}),
          std::max(status->value("epoch_captured", std::uint64_t{0}),
                   status->value("epoch_acknowledged", std::uint64_t{0})),
          status->value("generation", std::uint64_t{0})};
}

void check_undisturbed(const Standing& before, const Standing& after) {
  CHECK(after.role == before.role);
  CHECK(after.pid == before.pid);
  CHECK(after.sync_pages_sent == before.sync_pages_sent);
  CHECK(after.failovers == before.failovers);
  CHECK(after.reprotects == before.reprotects);
  CHECK(after.generation == before.generation);
  CHECK(after.epoch > before.epoch);
}

// Its ftctl is another program, so that it counts from nothing; all that matters is as it was.
void check_taken_up(const Standing& before, const Standing& after) {
  CHECK(after.role == before.role);
  CHECK(after.self == before.self);
  CHECK(after.pid == before.pid);
  CHECK(after.children == before.children);
  CHECK(after.children.size() == 1);
  CHECK(after.sync_pages_sent == 0);
  CHECK(after.failovers == 0);
  CHECK(after.generation == before.generation);
  CHECK(after.epoch > before.epoch);
}

std::string make_folder() {
  std::string path = "/tmp/ft-lab-ftd-XXXXXX";
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  return path;
}

// A guest that is protected through ftd, and a client that writes to it.
class Protected {
 public:
  explicit Protected(Interrupt& interrupt) : interrupt_(interrupt), folder_(make_folder()) {
    const auto guest =
        lab::run_image_script(FT_MAKE_GUEST, FT_GUEST_FOLDER, std::chrono::minutes{15});
    REQUIRE_MESSAGE(guest, guest.error().message());
    options_.ftctl = FT_FTCTL;
    options_.through = "ftd";
    const RunParts parts{options_, interrupt_, *guest, folder_,
                         [](const std::string& text) { fmt::print("  {}\n", text); }};
    auto stage = set_stage(parts, "restart");
    REQUIRE_MESSAGE(stage, stage.error().message() << ", logs in " << folder_);
    stage_.emplace(std::move(*stage));
    const Status done = protect_stage(parts, *stage_);
    REQUIRE_MESSAGE(done.ok(), done.message() << ", logs in " << folder_);
    stage_->client->offer(Load::open, options_.writes_per_s);
    wait(seconds{2});
    quiet_ = now();
    wait(seconds{4});
    began_ = now();
  }
  ~Protected() {
    stage_.reset();
    std::filesystem::remove_all(folder_);
  }

  Stage* operator->() { return &*stage_; }
  Ftctl& on(Side side) { return side == Side::a ? *stage_->primary : *stage_->backup; }
  const std::string& folder() const { return folder_; }
  void wait(Nanos duration) { REQUIRE(interrupt_.sleep(duration).ok()); }

  // The questions to the guest, and how long its client was without an answer until `to`.
  void check_and_tell(Time to, std::string_view what) {
    REQUIRE(stage_->client->drain(seconds{30}).ok());
    const auto lost = stage_->client->read_back(seconds{30});
    REQUIRE(lost);
    CHECK(lost->lost == 0);
    CHECK(lost->checked > 0);
    CHECK(stage_->client->survived());
    CHECK(stage_->observer->contradicted() == 0);
    tell_gap("before", quiet_, began_);
    tell_gap(what, began_, to);
  }
  double tell_gap(std::string_view what, Time from, Time to) {
    const double gap = longest_gap_ms(stage_->client->samples(), from, to);
    fmt::print("  {}: the client's longest gap in {:.1f} s was {:.1f} ms\n", what,
               std::chrono::duration<double>(to - from).count(), gap);
    return gap;
  }

 private:
  Interrupt& interrupt_;
  const std::string folder_;
  DemoOptions options_;
  std::optional<Stage> stage_;
  Time quiet_, began_;
};

// A program that takes ftctl's place, spoils what the one before left, and then is ftctl: it has a
// number that no format has.
std::string make_spoiler(const std::string& folder) {
  const std::string path = folder + "/spoiler";
  std::ofstream(path) << R"(#!/bin/sh
for descriptor; do :; done
case "$*" in *--hand-over*)
  left=$(sed 's/"session":"48454c44/"session":"00000000/' /proc/self/fd/$descriptor)
  printf %s "$left" > /proc/self/fd/$descriptor
esac
exec )" << FT_FTCTL << R"( "$@")"
                      << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

// As ftd asks it: the process goes on as that program, with the arguments that it has.
Status replace_by(const std::string& program, int pid) {
  FT_ASSIGN(const std::string line, os::read_file(fmt::format("/proc/{}/cmdline", pid), 1u << 16));
  std::vector<std::string> argv;
  for (std::size_t at = 0; at < line.size(); at = line.find('\0', at) + 1)
    argv.emplace_back(line.c_str() + at);
  std::ifstream config(argv.back());
  argv.front() = program;
  const std::string control = Json::parse(config).at("control");
  FT_ASSIGN(const os::SocketAddress at, os::SocketAddress::unix_path(control));
  FT_ASSIGN(const os::ScopedFd fd, os::connect_socket(at, seconds{5}));
  // Longer than anybody needs here: what is late is another matter.
  const Json request{{"command", "hold"}, {"at_most_ms", 5000}, {"argv", argv}};
  FT_TRY(os::write_all(fd.get(), request.dump() + "\n"));
  FT_ASSIGN(const os::Woke woke, os::wait_ready(fd.get(), POLLIN, -1, seconds{20}));
  if (woke != os::Woke::ready) return Status(Code::timeout, "ftctl does not answer");
  char refusal[4096];
  const ssize_t got = ::read(fd.get(), refusal, sizeof refusal);
  if (got == 0) return {};  // Nobody is left who could answer.
  return Status(Code::refused, std::string(refusal, got < 0 ? 0 : static_cast<std::size_t>(got)));
}

double ms_since(Time began) {
  return std::chrono::duration<double, std::milli>(now() - began).count();
}

}  // namespace

TEST_CASE("a restart of ftd disturbs no protection, and an upgrade is a hold") {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0 || !lab::become_namespace_root().ok()) {
    fmt::print("skipped: lab_ftd_restart: no /dev/net/tun, or neither root nor user namespaces\n");
    std::exit(77);
  }
  auto interrupt = Interrupt::take();
  REQUIRE(interrupt);
  SUBCASE("restart") {
    Protected pair(*interrupt);
    const Standing a = standing_of(pair.on(Side::a)), b = standing_of(pair.on(Side::b));
    REQUIRE(a.is_protected);
    for (const Side side : {Side::a, Side::b}) {
      const Time began = now();
      const Status restarted = pair->world->restart_ftd(side);
      REQUIRE_MESSAGE(restarted.ok(), restarted.message());
      fmt::print("  ftd restarted on {} in {:.0f} ms\n", letter(side), ms_since(began));
      pair.wait(seconds{1});
    }
    pair.wait(seconds{1});
    const Time to = now();
    check_undisturbed(a, standing_of(pair.on(Side::a)));
    check_undisturbed(b, standing_of(pair.on(Side::b)));
    CHECK(standing_of(pair.on(Side::a)).is_protected);
    pair.check_and_tell(to, "while ftd was restarted twice");
  }
  SUBCASE("upgrade") {
    Protected pair(*interrupt);
    const Standing before[] = {standing_of(pair.on(Side::a)), standing_of(pair.on(Side::b))};
    for (const Side side : {Side::a, Side::b}) {
      const Time began = now();
      const Status upgraded = pair->world->upgrade(side);
      REQUIRE_MESSAGE(upgraded.ok(), upgraded.message());
      fmt::print("  upgraded on {}: protected again after {:.0f} ms\n", letter(side),
                 ms_since(began));
      pair.wait(seconds{1});
      check_taken_up(before[side == Side::a ? 0 : 1], standing_of(pair.on(side)));
      CHECK(standing_of(pair.on(Side::a)).is_protected);
      CHECK(pair.tell_gap("while it was held", began, now()) < 1000);
    }
    const Time to = now();
    CHECK(standing_of(pair.on(Side::b)).generation == before[0].generation);
    // What was taken up is as good as new: the standby loads, and its guest goes on.
    REQUIRE(ask_to_switch_over(pair.on(Side::a).control).ok());
    REQUIRE(interrupt
                ->wait("the backup to take over", seconds{30},
                       [&] {
                         const auto status = pair.on(Side::b).status();
                         return status && status->value("role", "") == "primary";
                       })
                .ok());
    pair.check_and_tell(to, "while both hosts were upgraded");
  }
  SUBCASE("an upgrade that cannot take up what was left") {
    Protected pair(*interrupt);
    const std::string spoiler = make_spoiler(pair.folder());
    for (const Side side : {Side::b, Side::a}) {
      const Standing before = standing_of(pair.on(side));
      const Status replaced = replace_by(spoiler, before.pid);
      REQUIRE_MESSAGE(replaced.ok(), replaced.message());
      const Status again = interrupt->wait("the guest to be protected again", seconds{60}, [&] {
        const auto here = pair.on(side).status(), backup = pair.on(Side::b).status();
        return here && here->value("incarnation", before.self) != before.self && backup &&
               backup->value("state", "") == "in_sync" && pair.on(Side::a).protects();
      });
      REQUIRE_MESSAGE(again.ok(), again.message());
      const Standing after = standing_of(pair.on(side));
      CHECK(after.role == before.role);
      CHECK(after.pid == before.pid);
      CHECK(after.generation > before.generation);
      CHECK(after.children.size() == 1);
      // The guest goes on; a standby whose image nobody vouches for does not.
      CHECK((after.children == before.children) == (side == Side::a));
    }
    pair.check_and_tell(now(), "while two upgrades took nothing up");
  }
}
