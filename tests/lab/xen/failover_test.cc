// SPDX-License-Identifier: LGPL-2.1-or-later
// The promise of libft, on a real Xen: the host of a protected guest dies, and the world outside
// sees a pause.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "demo/statistics.h"
#include "lab/xen/protection.h"
#include "os/real_clock.h"

using namespace libft;
using namespace libft::lab;
using demo::Json;
using std::chrono::seconds;

namespace {

// A quarter of the defaults' pace: two emulated hosts on one busy machine are silent for longer
// than real ones.
constexpr Heartbeats kHeartbeats{200, 10};
constexpr std::uint64_t kEpochsUnderLoad = 30;
constexpr std::uint64_t kAnswersAfterwards = 100;

Time now() { return os::RealClock().now(); }
double to_ms(Nanos duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

std::uint64_t number(const Json& status, const char* key) {
  return status.value(key, std::uint64_t{0});
}

std::vector<double> column(const std::vector<Json>& epochs, const char* key) {
  std::vector<double> values;
  for (const Json& epoch : epochs) values.push_back(epoch.value(key, 0.0));
  return values;
}

void print_figures(const std::vector<Json>& epochs) {
  const auto of = [&](const char* key, double percent) {
    return demo::percentile(column(epochs, key), percent);
  };
  fmt::print("{} epochs under load (heartbeats each {} ms, {} may be missed):\n", epochs.size(),
             kHeartbeats.interval_ms, kHeartbeats.missed);
  fmt::print("  stopped without the handshake, ms: p50 {:.1f}, p99 {:.1f}\n", of("stopped_ms", 50),
             of("stopped_ms", 99));
  fmt::print("  capture / seal / resume, ms: p50 {:.1f} / {:.1f} / {:.1f}\n", of("capture_ms", 50),
             of("seal_ms", 50), of("resume_ms", 50));
  fmt::print("  handshake, ms: p50 {:.1f}, p99 {:.1f}\n", of("handshake_ms", 50),
             of("handshake_ms", 99));
  fmt::print("  output held, ms: p50 {:.1f}, p99 {:.1f}\n", of("output_held_ms", 50),
             of("output_held_ms", 99));
  fmt::print("  pages p50 {:.0f}, bytes p50 {:.0f}\n", of("pages", 50), of("bytes", 50));
  if (epochs.size() < 2) return;
  const double span_ms = epochs.back().value("at_ms", 0.0) - epochs.front().value("at_ms", 0.0);
  fmt::print("  {:.2f} checkpoints a second\n",
             static_cast<double>(epochs.size() - 1) / span_ms * 1000);
}

Status verified(Protection& libft) {
  FT_ASSIGN(const auto said, libft.order(Side::a, "verify"));
  fmt::print("verify: {}", said);
  return {};
}

// From the failure to the first answer that came after it.
double answered_after_ms(const Outsiders& outsiders, Time killed) {
  double first = 0;
  for (const auto& write : outsiders.client->samples()) {
    if (!write.acknowledged || write.answered <= killed) continue;
    const double after = to_ms(write.answered - killed);
    if (first == 0 || after < first) first = after;
  }
  return first;
}

Status survives(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  FT_ASSIGN(const auto before, libft->epochs(Side::a));
  outsiders.offer_load();
  FT_TRY(libft->wait_for_epochs(Side::a, before.size() + kEpochsUnderLoad, seconds(120)));
  FT_TRY(verified(*libft));
  FT_ASSIGN(auto epochs, libft->epochs(Side::a));
  epochs.erase(epochs.begin(), epochs.begin() + static_cast<std::ptrdiff_t>(before.size()));
  FT_ASSIGN(const Json last, libft->status(Side::a));

  const Time killed = now();
  pair.host(Side::a).kill();
  FT_TRY(libft->wait_for_event(Side::b, "promoted: ", seconds(60)));
  FT_TRY(outsiders.wait_for_answers(kAnswersAfterwards, seconds(60)));
  FT_ASSIGN(const Json survivor, libft->status(Side::b));
  FT_TRY(outsiders.judge());

  print_figures(epochs);
  fmt::print(
      "from the failure to the first answer: {:.0f} ms; detected in {} ms, arbiter {} ms, "
      "taken over in {} ms; {}\n",
      answered_after_ms(outsiders, killed), survivor["detect_ms"].dump(),
      survivor["arbitrate_ms"].dump(), survivor["takeover_ms"].dump(),
      survivor.value("detail", ""));
  // The other host is dead: one owner is one domain, and nothing that waits beside it.
  FT_ASSIGN(const auto domains, libft->domains(Side::b));
  CHECK(domains == std::vector<std::string>{"guest"});
  CHECK(number(survivor, "generation") > number(last, "generation"));
  CHECK(number(survivor, "failovers") == 1);
  CHECK(epochs.size() >= kEpochsUnderLoad);
  return {};
}

}  // namespace

TEST_CASE("a PVH guest survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "failover", XenGuest{}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}
