// SPDX-License-Identifier: LGPL-2.1-or-later
// What separates two Xen hosts that both live: the backup's libft dies, the cables between them are
// cut, and then all cables of the one that has the guest. Each time one host owns the guest, and
// the client's connection goes on. The guest has two vCPUs, of which its owner takes one away.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/xen/protection.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr std::uint64_t kAnswers = 40, kEpochs = 3;
constexpr Nanos kPatience = seconds(240);

char letter(Side side) { return side == Side::a ? 'a' : 'b'; }

// Of the guest's vCPUs, those that are up: "0 1".
constexpr const char* kVcpusUp =
    "echo $(xl vcpu-list guest | awk 'NR > 1 && $5 !~ /p/ { print $3 }')";

Result<std::string> vcpus_up(XenPair& pair, Side side) {
  return pair.host(side).run(kVcpusUp, seconds(60));
}

Status loses_a_vcpu(XenPair& pair, Protection& libft) {
  // The guest's kernel takes it off line in its own time.
  FT_ASSIGN(const auto taken,
            pair.host(Side::a).command(fmt::format("xl vcpu-set guest 1; until [ \"$({})\" = 0 ]; "
                                                   "do sleep 1; done",
                                                   kVcpusUp),
                                       kPatience));
  FT_TRY(expect(taken.code == 0, "the guest keeps its second vCPU"));
  FT_TRY(libft.wait_for_more_epochs(Side::a, kEpochs, kPatience));
  fmt::print("xl vcpu-set: checkpoints go on with one vCPU of two\n");
  std::fflush(stdout);
  return {};
}

Status backup_dies(Protection& libft, Outsiders& outsiders) {
  FT_TRY(libft.kill(Side::b));
  FT_TRY(libft.wait_for_event(Side::a, "unprotected: ", kPatience));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(libft.expect_domains(Side::a, {"guest"}));
  FT_TRY(libft.stand_by(Side::b));
  FT_TRY(libft.wait_until_protected(Side::a));
  FT_TRY(libft.expect_domains(Side::b, {"guest--ft"}));
  fmt::print("libft killed on the backup: the primary went on, and is protected again\n");
  return {};
}

// Both sides ask the arbiter, which may answer either.
Result<Side> owner_without_cables(Protection& libft) {
  FT_TRY(libft.wait_for_event(Side::a, "(unprotected|fenced): ", kPatience));
  FT_ASSIGN(const bool fenced, libft.has_told(Side::a, "fenced: "));
  FT_TRY(fenced ? libft.wait_for_event(Side::b, "promoted: ", kPatience)
                : libft.expect_untold(Side::b, "promoted: "));
  return fenced ? Side::b : Side::a;
}

Status loses_sight(XenPair& pair, Protection& libft, Outsiders& outsiders, Side& owner) {
  for (const Side side : {Side::a, Side::b}) FT_TRY(libft.begin_log_anew(side));
  for (const Path path : {Path::replication, Path::heartbeat})
    FT_TRY(pair.net().cut(Side::a, path));
  FT_ASSIGN(owner, owner_without_cables(libft));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(libft.expect_domains(owner, {"guest"}));
  fmt::print("cables between the hosts cut: host {} owns the guest\n", letter(owner));
  for (const Path path : {Path::replication, Path::heartbeat})
    FT_TRY(pair.net().heal(Side::a, path));
  if (owner == Side::b) {
    FT_TRY(libft.expect_end(Side::a, kFenced));
    FT_TRY(libft.expect_domains(Side::a, {}));
    FT_TRY(libft.stand_by(Side::a));
  }
  return libft.wait_until_protected(owner);
}

// The rest of the world does not see it either: the other host continues the guest.
Status is_cut_off(XenPair& pair, Protection& libft, Outsiders& outsiders, Side owner) {
  const Side successor = other(owner);
  FT_TRY(pair.net().cut(owner));
  FT_TRY(libft.wait_for_event(successor, "promoted: ", kPatience));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(pair.net().heal(owner));
  FT_TRY(libft.expect_end(owner, kFenced));
  FT_TRY(libft.expect_domains(owner, {}));
  FT_TRY(libft.expect_domains(successor, {"guest"}));
  FT_ASSIGN(const auto up, vcpus_up(pair, successor));
  fmt::print("all cables of host {} cut: host {} took over, vCPUs that are up: {}", letter(owner),
             letter(successor), up);
  return expect(up == "0\n", "the guest has a second vCPU again");
}

Status stays_one(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  outsiders.offer_load();
  FT_TRY(loses_a_vcpu(pair, *libft));
  FT_TRY(backup_dies(*libft, outsiders));
  Side owner = Side::a;
  FT_TRY(loses_sight(pair, *libft, outsiders, owner));
  FT_TRY(is_cut_off(pair, *libft, outsiders, owner));
  FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
  return {};
}

}  // namespace

TEST_CASE("two Xen hosts that lose sight of each other run one guest") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done =
      attempt_on_pairs(lab, "cables", XenGuest{.kind = GuestKind::pvh_two}, stays_one);
  INFO(done.to_string());
  CHECK(done.ok());
}
