// SPDX-License-Identifier: LGPL-2.1-or-later
// A real guest under a live client, kept up by ftd on two hosts. ftd is restarted on both, one
// after the other: nothing but ftd itself may be disturbed, no failover, no second copy of memory,
// the same processes. Then each host's part of the guest is upgraded, by a switch-over each. What
// the client noticed is measured.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "demo/history.h"
#include "demo/run.h"
#include "lab/guest_image.h"
#include "lab/namespace.h"
#include "os/real_clock.h"

using namespace libft;
using namespace libft::demo;

namespace {

using std::chrono::seconds;

Time now() { return os::RealClock().now(); }

// What must be the same after a restart, and what must have gone on.
struct Standing {
  std::string role;
  int pid = 0;
  bool is_protected = false;
  std::uint64_t sync_pages_sent = 0, failovers = 0, reprotects = 0, epoch = 0, generation = 0;
};

Standing standing_of(const Ftctl& ftctl) {
  const auto status = ftctl.status();
  REQUIRE(status);
  return {status->value("role", ""),
          (*status)["keeper"].value("pid", 0),
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
  void tell_gap(std::string_view what, Time from, Time to) {
    fmt::print("  {}: the client's longest gap in {:.1f} s was {:.1f} ms\n", what,
               std::chrono::duration<double>(to - from).count(),
               longest_gap_ms(stage_->client->samples(), from, to));
  }

 private:
  Interrupt& interrupt_;
  const std::string folder_;
  DemoOptions options_;
  std::optional<Stage> stage_;
  Time quiet_, began_;
};

// What of it was the new primary's.
void tell_take_over(const Ftctl& primary) {
  const auto status = primary.status();
  REQUIRE(status);
  const auto ms = [&](const char* key) { return status->value(key, 0.0); };
  fmt::print("  the arbiter was asked for {:.1f} ms of it, and the guest loaded in {:.1f} ms\n",
             ms("arbitrate_ms"), ms("load_ms"));
}

double ms_since(Time began) {
  return std::chrono::duration<double, std::milli>(now() - began).count();
}

}  // namespace

TEST_CASE("a restart of ftd disturbs no protection, and an upgrade loses nothing") {
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
    const int served[] = {standing_of(pair.on(Side::a)).pid, standing_of(pair.on(Side::b)).pid};
    for (const Side side : {Side::a, Side::b}) {
      const Time began = now();
      const Status upgraded = pair->world->upgrade(side);
      REQUIRE_MESSAGE(upgraded.ok(), upgraded.message());
      fmt::print("  upgraded on {}: protected again after {:.0f} ms\n", letter(side),
                 ms_since(began));
      CHECK(standing_of(pair.on(side)).role == "backup");
      CHECK(standing_of(pair.on(other(side))).is_protected);
      pair.wait(seconds{1});
      pair.tell_gap("while the guest was handed over", began, now());
      tell_take_over(pair.on(other(side)));
    }
    const Time to = now();
    CHECK(standing_of(pair.on(Side::a)).role == "primary");
    CHECK(standing_of(pair.on(Side::a)).pid != served[0]);
    CHECK(standing_of(pair.on(Side::b)).pid != served[1]);
    pair.check_and_tell(to, "while both hosts were upgraded");
  }
}
