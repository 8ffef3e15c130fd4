// SPDX-License-Identifier: LGPL-2.1-or-later
// The long set of the Xen lab, `./dev lab xen --full`: hosts of each kind of guest die at moments
// that nobody chose, xl orders about a guest that a failover brought there, and two saturated hosts
// believe in one another. A line of JSON for each goes to a file at once, so that a set which is
// cut short has said what it saw.
#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <fstream>
#include <random>

#include "demo/statistics.h"
#include "lab/xen/ends.h"
#include "lab/xen/host_death.h"

using namespace libft;
using namespace libft::lab;
using demo::Json;
using std::chrono::seconds;

namespace {

constexpr Programs kPrograms{FT_FTCTL, FT_XEN_MODULE};
constexpr Nanos kLongestWait = seconds(5);  // Some checkpoints of any guest.

struct Options {
  std::string cache, runs, out = "xen-full.jsonl";
  std::vector<std::string> kinds = {"pvh", "pvh2", "hvm", "hvm-bare"};
  int kills = 10, saturate_s = 600;
  std::vector<std::string> orders;  // Rows of all_ends(); empty: all.
  bool no_orders = false;
};

void told(const Options& options, const Json& line) {
  std::ofstream(options.out, std::ios::app) << line.dump() << "\n";
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

// --- deaths -------------------------------------------------------------------------------------

bool is_hvm(GuestKind kind) { return kind == GuestKind::hvm || kind == GuestKind::hvm_bare; }

DeathPlan plan_for(GuestKind kind, std::mt19937& random) {
  DeathPlan plan = is_hvm(kind) ? kHvmDeath : kPvhDeath;
  plan.longer = std::chrono::milliseconds(
      std::uniform_int_distribution<long>(0, kLongestWait / Millis{1})(random));
  return plan;
}

bool die_once(const XenLab& lab, const Options& options, GuestKind kind, std::mt19937& random) {
  const std::string name = fmt::format("full-{}", to_string(kind));
  Json line{{"guest", to_string(kind)}};
  const DeathPlan plan = plan_for(kind, random);
  const Status done =
      attempt_on_pairs(lab, name, XenGuest{.kind = kind}, [&](XenPair& pair) -> Status {
        FT_ASSIGN(const DeathReport report, kill_host_under_load(pair, kPrograms, plan));
        line.update(report.json());
        return {};
      });
  line["ok"] = done.ok();
  if (!done) line["why"] = done.to_string();
  told(options, line);
  return done.ok();
}

int die(const XenLab& lab, const Options& options) {
  std::random_device seed;
  std::mt19937 random(seed());
  int failed = 0;
  for (const std::string& name : options.kinds) {
    const auto kind = guest_kind_from(name);
    if (!kind) {
      fmt::print("no guest kind \"{}\"\n", name);
      return 2;
    }
    int survived = 0;
    for (int i = 0; i < options.kills; ++i)
      survived += die_once(lab, options, *kind, random) ? 1 : 0;
    fmt::print("{}: {} of {} deaths survived\n", name, survived, options.kills);
    failed += options.kills - survived;
  }
  return failed == 0 ? 0 : 1;
}

// --- xl's orders to a promoted domain -----------------------------------------------------------

// libft has built that domain, not xl: and yet xl is to save, migrate and reboot it as its own.
Status end_promoted(XenPair& pair, const End& end) {
  FT_ASSIGN(const auto libft, Protection::install(pair, kPrograms, kLabHeartbeats));
  FT_TRY(install_duty(pair, Side::b));
  FT_TRY(libft->establish(Side::a));
  FT_ASSIGN(const auto said, libft->order(Side::a, "switchover"));
  FT_TRY(libft->expect_end(Side::a, kFine));
  FT_TRY(libft->stand_by(Side::a));
  FT_TRY(libft->wait_until_protected(Side::b));
  FT_TRY(meet_end(pair, *libft, end, Side::b));
  if (end.afterwards != Afterwards::saved) return {};
  FT_ASSIGN(const auto restored,
            pair.host(Side::b).run("xl restore /tmp/guest.save", seconds(240)));
  return pair.wait_for_redis(seconds(120));
}

int order_promoted(const XenLab& lab, const Options& options) {
  if (options.no_orders) return 0;
  const auto& wanted = options.orders;
  int failed = 0;
  for (const End& end : all_ends()) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), end.row) == wanted.end())
      continue;
    const Status done = attempt_on_pairs(lab, "full-promoted", XenGuest{},
                                         [&](XenPair& pair) { return end_promoted(pair, end); });
    Json line{{"promoted", end.row}, {"ok", done.ok()}};
    if (!done) line["why"] = done.to_string();
    told(options, line);
    failed += done.ok() ? 0 : 1;
  }
  return failed == 0 ? 0 : 1;
}

// --- saturation ---------------------------------------------------------------------------------

constexpr int kBusyLoops = 4;

// All that may not happen: the backup suspects its primary for long enough to take over. Asking the
// arbiter and being refused would be one, too.
Status stays_calm(XenPair& pair, const Options& options) {
  FT_ASSIGN(const auto libft, Protection::install(pair, kPrograms, kLabHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  // One request at a time: so busy a guest could not answer many, and they would have to be waited
  // for.
  outsiders.client->offer(demo::Load::closed);
  for (const Side side : {Side::a, Side::b}) {
    FT_ASSIGN(const auto busy,
              pair.host(side).run(fmt::format("for i in $(seq {}); do setsid sh -c 'while :; do :; "
                                              "done' > /dev/null 2>&1 < /dev/null & done",
                                              kBusyLoops),
                                  seconds(60)));
  }
  FT_ASSIGN(const auto before, libft->epochs(Side::a));
  std::this_thread::sleep_for(seconds(options.saturate_s));
  FT_ASSIGN(const auto epochs, libft->epochs(Side::a));
  FT_ASSIGN(const auto said,
            pair.host(Side::b).run(
                "uptime; grep -cE ' (suspected|claiming|promoted): ' /tmp/ftctl.log || true",
                seconds(120)));
  FT_ASSIGN(const Json primary, libft->status(Side::a));
  FT_ASSIGN(const Json backup, libft->status(Side::b));
  const Json line{{"saturated_s", options.saturate_s},
                  {"epochs", epochs.size() - before.size()},
                  {"failovers", backup.value("failovers", 0)},
                  {"protected", primary.value("protected", false)},
                  {"backup_said", said},
                  {"writes", outsiders.client->acknowledged()}};
  told(options, line);
  if (backup.value("failovers", 0) != 0 || !primary.value("protected", false))
    return Status(Code::corrupt, "a false failover, or a lost protection: " + line.dump());
  FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
  return {};
}

int saturate(const XenLab& lab, const Options& options) {
  if (options.saturate_s == 0) return 0;
  const Status done = attempt_on_pairs(lab, "full-saturated", XenGuest{},
                                       [&](XenPair& pair) { return stays_calm(pair, options); });
  fmt::print("{} s with saturated hosts: {}\n", options.saturate_s, done.to_string());
  return done.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The long set of the Xen lab"};
  Options options;
  app.add_option("--cache", options.cache, "keeps images and saved hosts")->required();
  app.add_option("--runs", options.runs, "folders of what failed")->required();
  app.add_option("--out", options.out, "a line of JSON a death is added to it");
  app.add_option("--guests", options.kinds, "pvh, pvh2, hvm, hvm-bare");
  app.add_option("--orders", options.orders, "to a promoted guest, such as \"xl save\"; all");
  app.add_flag("--no-orders", options.no_orders, "none of them");
  app.add_option("--kills", options.kills, "of the host of each kind of guest");
  app.add_option("--saturate", options.saturate_s, "seconds; 0: not at all");
  CLI11_PARSE(app, argc, argv);
  const auto lab = XenLab::find(options.cache, options.runs);
  if (!lab) {
    fmt::print("xenfull: {}\n", lab.error().to_string());
    return 2;
  }
  if (const Status root = become_namespace_root(); !root.ok()) {
    fmt::print("xenfull: {}\n", root.to_string());
    return 2;
  }
  const int deaths = die(*lab, options);
  const int orders = order_promoted(*lab, options);
  return std::max({deaths, orders, saturate(*lab, options)});
}
