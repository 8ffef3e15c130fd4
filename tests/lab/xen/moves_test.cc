// SPDX-License-Identifier: LGPL-2.1-or-later
// A protected Xen guest moves between two hosts and back, loses the libft that it is protected by,
// and ends: for the world outside one guest with one connection all the time.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/guest/protocol.h"
#include "lab/xen/protection.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr std::uint64_t kAnswers = 60;  // Of the guest's new place.
constexpr Nanos kPatience = seconds(90);

Status switch_over(Protection& libft, Outsiders& outsiders, Side from, Side to) {
  FT_ASSIGN(const auto said, libft.order(from, "switchover"));
  fmt::print("switch-over: {}", said);
  FT_TRY(libft.expect_end(from, kFine));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(libft.expect_domains(from, {}));
  return libft.expect_domains(to, {"guest"});
}

Status there_and_back(Protection& libft, Outsiders& outsiders) {
  FT_TRY(switch_over(libft, outsiders, Side::a, Side::b));
  FT_TRY(libft.stand_by(Side::a));
  FT_TRY(libft.wait_until_protected(Side::b));
  FT_TRY(switch_over(libft, outsiders, Side::b, Side::a));
  FT_TRY(libft.stand_by(Side::b));
  return libft.wait_until_protected(Side::a);
}

// The domain runs on, unheard, and the backup takes over: two of them until somebody looks.
Status libft_dies(Protection& libft, Outsiders& outsiders) {
  FT_TRY(libft.kill(Side::a));
  FT_TRY(libft.wait_for_event(Side::b, "promoted: ", kPatience));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(libft.expect_domains(Side::a, {"guest"}));
  FT_TRY(libft.protect(Side::a));
  FT_TRY(libft.expect_end(Side::a, kFenced));
  FT_TRY(libft.expect_domains(Side::a, {}));
  FT_TRY(libft.expect_domains(Side::b, {"guest"}));
  fmt::print("libft killed: the backup took over, the old guest was stopped\n");
  return {};
}

Status ends(XenPair& pair, Protection& libft) {
  FT_TRY(libft.stand_by(Side::a));
  FT_TRY(libft.wait_until_protected(Side::b));
  FT_TRY(Outsiders::tell_guest(pair, LAB_POWEROFF));
  FT_TRY(libft.expect_end(Side::b, kFine));
  FT_TRY(libft.expect_end(Side::a, kFine));
  FT_TRY(libft.expect_domains(Side::a, {}));
  fmt::print("powered off inside: recorded as ended, the backup stood down\n");
  return {};
}

// Of a guest that is protected its own checkpoints say how often it can be.
Status plans(XenPair& pair) {
  FT_ASSIGN(
      const auto plan,
      pair.host(Side::a).run("ftctl doctor --plan xen:guest --state-dir /run/libft", kPatience));
  fmt::print("{}", plan);
  for (const char* part : {"pvh, 1 vCPU, 192 MiB", "cooperative", "by its last checkpoints here"})
    FT_TRY(expect(plan.find(part) != std::string::npos, fmt::format("no {} in the plan", part)));
  return {};
}

Status moves(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  outsiders.offer_load();
  FT_TRY(plans(pair));
  FT_TRY(there_and_back(*libft, outsiders));
  FT_TRY(libft_dies(*libft, outsiders));
  FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
  return ends(pair, *libft);
}

}  // namespace

TEST_CASE("a PVH guest moves there and back, survives its libft, and ends in order") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "moves", XenGuest{}, moves);
  INFO(done.to_string());
  CHECK(done.ok());
}
