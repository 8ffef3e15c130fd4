// SPDX-License-Identifier: LGPL-2.1-or-later
// HVM domains, whose device model has a state of its own, outlive their host too.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "demo/statistics.h"
#include "lab/xen/protection.h"
#include "os/real_clock.h"

using namespace libft;
using namespace libft::lab;
using demo::Json;
using std::chrono::seconds;

namespace {

// A guest that suspends itself saves and restores every PCI device of its device model, register by
// register, and each of these accesses is a journey through an emulated dom0: seconds an epoch.
constexpr Heartbeats kHeartbeats{200, 10};
constexpr std::uint64_t kEpochsUnderLoad = 5, kAnswersAfterwards = 10;

double p50(const std::vector<Json>& epochs, const char* key) {
  std::vector<double> values;
  for (const Json& epoch : epochs) values.push_back(epoch.value(key, 0.0));
  return demo::percentile(values, 50);
}

void print_figures(const std::vector<Json>& epochs) {
  fmt::print(
      "{} epochs under load, p50 ms: handshake {:.0f}, stopped without it {:.0f} (pause {:.0f}, "
      "capture {:.0f}, seal {:.0f}, resume {:.0f}), output held {:.0f}; {:.0f} pages, {:.0f} "
      "bytes\n",
      epochs.size(), p50(epochs, "handshake_ms"), p50(epochs, "stopped_ms"),
      p50(epochs, "pause_ms"), p50(epochs, "capture_ms"), p50(epochs, "seal_ms"),
      p50(epochs, "resume_ms"), p50(epochs, "output_held_ms"), p50(epochs, "pages"),
      p50(epochs, "bytes"));
}

Status survives(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  FT_ASSIGN(const auto before, libft->epochs(Side::a));
  outsiders.offer_load();
  FT_TRY(libft->wait_for_epochs(Side::a, before.size() + kEpochsUnderLoad, seconds(240)));
  FT_ASSIGN(auto epochs, libft->epochs(Side::a));
  epochs.erase(epochs.begin(), epochs.begin() + static_cast<std::ptrdiff_t>(before.size()));
  print_figures(epochs);

  // Each output seen from here on is asked for again, which such a guest answers slowly.
  outsiders.since = os::RealClock().now();
  FT_TRY(libft->wait_for_epochs(Side::a, before.size() + kEpochsUnderLoad + 1, seconds(120)));
  const Time killed = os::RealClock().now();
  pair.host(Side::a).kill();
  FT_TRY(libft->wait_for_event(Side::b, "promoted: ", seconds(60)));
  FT_TRY(outsiders.wait_for_answers(kAnswersAfterwards, seconds(240)));
  const auto answered = os::RealClock().now() - killed;
  FT_ASSIGN(const Json survivor, libft->status(Side::b));
  FT_TRY(outsiders.judge());
  fmt::print(
      "from the failure to {} answers: {:.1f} s; detected in {} ms, arbiter {} ms, taken over in "
      "{} ms\n",
      kAnswersAfterwards, std::chrono::duration<double>(answered).count(),
      survivor["detect_ms"].dump(), survivor["arbitrate_ms"].dump(),
      survivor["takeover_ms"].dump());
  FT_ASSIGN(const auto domains, libft->domains(Side::b));
  CHECK(domains == std::vector<std::string>{"guest"});
  CHECK(survivor.value("failovers", std::uint64_t{0}) == 1);
  // The toolstack finds the device model, and ends it with the domain.
  FT_ASSIGN(const auto ended,
            pair.host(Side::b).run("pidof xen-qemu-system-i386 && xl destroy guest && "
                                   "while pidof xen-qemu-system-i386; do sleep 0.5; done",
                                   seconds(60)));
  return {};
}

}  // namespace

TEST_CASE("an HVM guest with drivers for Xen survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "hvm", XenGuest{.kind = GuestKind::hvm}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}

TEST_CASE("an HVM guest with nothing but emulated devices survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done =
      attempt_on_pairs(lab, "hvm-bare", XenGuest{.kind = GuestKind::hvm_bare}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}
