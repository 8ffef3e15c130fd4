// SPDX-License-Identifier: LGPL-2.1-or-later
// One guest's many lives, each of which ends otherwise while it is protected.
#include "lab/xen/ends.h"

#include <doctest/doctest.h>

#include "lab/xen/progress.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr Nanos kPatience = seconds(240);

// A guest as it was when it was saved.
Status begin_life(XenPair& pair, Protection& libft) {
  FT_ASSIGN(const auto there, libft.domains(Side::a));
  if (there.empty()) {
    FT_ASSIGN(const auto said, pair.host(Side::a).run("xl restore /tmp/guest.save", kPatience));
  }
  FT_TRY(pair.wait_for_redis(kPatience));
  return libft.establish(Side::a);
}

Status live_and_end(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  FT_TRY(install_duty(pair, Side::a));
  const Progress progress;
  for (const End& end : all_ends()) {
    FT_TRY(begin_life(pair, *libft).within(end.row));
    FT_TRY(meet_end(pair, *libft, end, Side::a).within(end.row));
    progress.passed(end.row);
  }
  return {};
}

}  // namespace

TEST_CASE("what ends a protected PVH guest, and what then becomes of it") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "ends", XenGuest{}, live_and_end);
  INFO(done.to_string());
  CHECK(done.ok());
}
