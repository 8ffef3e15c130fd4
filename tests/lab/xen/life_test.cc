// SPDX-License-Identifier: LGPL-2.1-or-later
// docs/guest-life.md, "Xen, with xl", on a real Xen: what its owner does to a protected guest that
// runs on, and what libft makes of it. No row promotes the backup, and none makes two of the guest.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/xen/progress.h"
#include "lab/xen/protection.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr std::uint64_t kAnswers = 20, kEpochs = 3;
constexpr Nanos kPatience = seconds(240), kOrder = seconds(240);

// What every row works with. The guest is on host a, and b's ftctl stands by.
struct Scene {
  XenPair& pair;
  Protection& libft;
  Progress progress;

  Status order(std::string_view line, Side side = Side::a) {
    FT_ASSIGN(const auto said, pair.host(side).run(line, kOrder));
    return {};
  }
  Status protect_anew() {
    FT_TRY(libft.protect(Side::a));
    return libft.wait_until_protected(Side::a);
  }
};

Status expect_protected(Scene& scene, bool wanted) {
  FT_ASSIGN(const auto status, scene.libft.status(Side::a));
  return expect(status.value("protected", !wanted) == wanted, "status: " + status.dump());
}

// --- rows that leave it protected ---------------------------------------------------------------

Status is_paused(Scene& scene, Outsiders& outsiders) {
  FT_TRY(scene.order("xl pause guest"));
  FT_TRY(scene.libft.wait_for_event(Side::a, "guest_paused: ", kPatience));
  FT_TRY(expect_protected(scene, true));
  FT_TRY(scene.order("xl unpause guest"));
  FT_TRY(scene.libft.wait_for_event(Side::a, "guest_resumed: ", kPatience));
  FT_TRY(scene.libft.wait_for_more_epochs(Side::a, kEpochs, kPatience));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  scene.progress.passed("xl pause, xl unpause");
  return {};
}

Status keeps_its_disc(Scene& scene) {
  FT_TRY(scene.order("! xl cd-insert guest hdc /guest/vmlinux"));
  FT_TRY(scene.libft.wait_for_more_epochs(Side::a, kEpochs, kPatience));
  FT_TRY(expect_protected(scene, true));
  scene.progress.passed("xl cd-insert");
  return {};
}

// --- rows that end the protection, loudly -------------------------------------------------------

struct Reconfiguration {
  const char *row, *order, *undo;  // Without an undo: the last one.
};
constexpr Reconfiguration kReconfigurations[] = {
    {"xl mem-set", "xl mem-set guest 188",
     "xl mem-set guest 192; until [ $(xl list guest | awk 'NR == 2 { print $3 }') = 192 ]; do "
     "sleep 1; done"},
    {"xl network-attach, -detach", "xl network-attach guest bridge=xenbr0",
     "xl network-detach guest 1"},
    // No udev is in the lab's dom0, and so no disk: that one was announced is what counts.
    {"xl block-attach",
     "truncate -s 1M /tmp/disk; xl block-attach guest format=raw,vdev=xvda,target=/tmp/disk || :",
     nullptr},
};

Status is_reconfigured(Scene& scene, Outsiders& outsiders, const Reconfiguration& what) {
  FT_TRY(scene.order(what.order));
  FT_TRY(scene.libft.wait_for_event(Side::a, "guest_reconfigured: ", kPatience));
  FT_TRY(scene.libft.wait_for_event(Side::a, "unprotected: ", kPatience));
  FT_TRY(expect_protected(scene, false));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_TRY(scene.libft.expect_domains(Side::a, {"guest"}));
  FT_TRY(scene.libft.expect_untold(Side::b, "promoted: "));
  scene.progress.passed(what.row);
  if (what.undo == nullptr) return {};
  FT_TRY(scene.order(what.undo));
  FT_TRY(scene.libft.leave(Side::a));
  FT_TRY(scene.protect_anew());
  scene.progress.passed("undone, and protected anew");
  return {};
}

}  // namespace

TEST_CASE("what its owner does to a protected PVH guest that runs on") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "life", XenGuest{}, [](XenPair& pair) -> Status {
    FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
    FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
    Scene scene{pair, *libft};
    FT_TRY(libft->establish(Side::a));
    outsiders.offer_load();
    scene.progress.passed("protected");
    FT_TRY(is_paused(scene, outsiders));
    FT_TRY(keeps_its_disc(scene));
    for (const Reconfiguration& what : kReconfigurations)
      FT_TRY(is_reconfigured(scene, outsiders, what).within(what.row));
    FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
    return {};
  });
  INFO(done.to_string());
  CHECK(done.ok());
}
