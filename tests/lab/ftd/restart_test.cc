// SPDX-License-Identifier: LGPL-2.1-or-later
// A real guest under a live client, kept up by ftd on two hosts; ftd is restarted on both, one
// after the other, in order and by force. Nothing but ftd itself may be disturbed: no failover, no
// second copy of memory, the same processes; and what the client noticed is measured.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

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

}  // namespace

TEST_CASE("a restart of ftd on either host disturbs no protection") {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0 || !lab::become_namespace_root().ok()) {
    fmt::print("skipped: lab_ftd_restart: no /dev/net/tun, or neither root nor user namespaces\n");
    std::exit(77);
  }
  auto interrupt = Interrupt::take();
  REQUIRE(interrupt);
  const auto guest =
      lab::run_image_script(FT_MAKE_GUEST, FT_GUEST_FOLDER, std::chrono::minutes{15});
  REQUIRE_MESSAGE(guest, guest.error().message());
  DemoOptions options;
  options.ftctl = FT_FTCTL;
  options.through = "ftd";
  const std::string folder = make_folder();
  const RunParts parts{options, *interrupt, *guest, folder,
                       [](const std::string& text) { fmt::print("  {}\n", text); }};
  {
    auto stage = set_stage(parts, "restart");
    REQUIRE_MESSAGE(stage, stage.error().message() << ", logs in " << folder);
    const Status done = protect_stage(parts, *stage);
    REQUIRE_MESSAGE(done.ok(), done.message() << ", logs in " << folder);
    stage->client->offer(Load::open, options.writes_per_s);
    REQUIRE(interrupt->sleep(seconds{2}).ok());
    const Time quiet = now();
    REQUIRE(interrupt->sleep(seconds{4}).ok());
    const Standing a = standing_of(*stage->primary), b = standing_of(*stage->backup);
    REQUIRE(a.is_protected);
    const Time from = now();
    for (const Side side : {Side::a, Side::b}) {
      const Time began = now();
      const Status restarted = stage->world->restart_ftd(side);
      REQUIRE_MESSAGE(restarted.ok(), restarted.message());
      fmt::print("  ftd restarted on {} in {:.0f} ms\n", letter(side),
                 std::chrono::duration<double, std::milli>(now() - began).count());
      REQUIRE(interrupt->sleep(seconds{1}).ok());
    }
    REQUIRE(interrupt->sleep(seconds{1}).ok());
    const Time to = now();
    check_undisturbed(a, standing_of(*stage->primary));
    check_undisturbed(b, standing_of(*stage->backup));
    CHECK(standing_of(*stage->primary).is_protected);
    REQUIRE(stage->client->drain(seconds{30}).ok());
    const auto lost = stage->client->read_back(seconds{30});
    REQUIRE(lost);
    CHECK(lost->lost == 0);
    CHECK(lost->checked > 0);
    CHECK(stage->client->survived());
    CHECK(stage->observer->contradicted() == 0);
    const auto samples = stage->client->samples();
    fmt::print(
        "  longest gap of the client: {:.1f} ms in {:.0f} s before, {:.1f} ms in {:.0f} s of "
        "restarts\n",
        longest_gap_ms(samples, quiet, from), std::chrono::duration<double>(from - quiet).count(),
        longest_gap_ms(samples, from, to), std::chrono::duration<double>(to - from).count());
  }
  std::filesystem::remove_all(folder);
}
