// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/host_death.h"

#include <fmt/format.h>
#include <unistd.h>

#include "demo/statistics.h"
#include "os/real_clock.h"

namespace libft::lab {
namespace {

using demo::Json;
using std::chrono::seconds;
using Ms = std::chrono::duration<double, std::milli>;

constexpr Nanos kEpochsPatience = seconds(240), kPromotionPatience = seconds(60),
                kAnswersPatience = seconds(240);

Time now() { return os::RealClock().now(); }

std::uint64_t number(const Json& status, const char* key) {
  return status.value(key, std::uint64_t{0});
}

Status work(Protection& libft, Outsiders& outsiders, const DeathPlan& plan, DeathReport& report) {
  FT_ASSIGN(const auto before, libft.epochs(Side::a));
  outsiders.offer_load();
  const std::uint64_t wanted = before.size() + plan.epochs_under_load;
  FT_TRY(libft.wait_for_epochs(Side::a, wanted, kEpochsPatience));
  if (plan.verify) {
    FT_ASSIGN(const auto said, libft.order(Side::a, "verify"));
    fmt::print("verify: {}", said);
  }
  FT_ASSIGN(report.epochs, libft.epochs(Side::a));
  report.epochs.erase(report.epochs.begin(),
                      report.epochs.begin() + static_cast<std::ptrdiff_t>(before.size()));
  std::this_thread::sleep_for(plan.longer);
  return {};
}

double answered_after_ms(const Outsiders& outsiders, Time killed) {
  double first = 0;
  for (const auto& write : outsiders.client->samples()) {
    if (!write.acknowledged || write.answered <= killed) continue;
    const double after = Ms(write.answered - killed).count();
    if (first == 0 || after < first) first = after;
  }
  return first;
}

// The other host is dead: one owner is one domain, and nothing that waits beside it.
Status check_survivor(Protection& libft, const Json& last, const Json& survivor) {
  FT_ASSIGN(const auto domains, libft.domains(Side::b));
  if (domains != std::vector<std::string>{"guest"})
    return Status(Code::corrupt, fmt::format("{} domains run on host b", domains.size()));
  if (number(survivor, "generation") <= number(last, "generation") ||
      number(survivor, "failovers") != 1)
    return Status(Code::corrupt, "this was no failover: " + survivor.dump());
  return {};
}

}  // namespace

double DeathReport::epochs_of(const char* key, double percent) const {
  std::vector<double> values;
  for (const Json& epoch : epochs) values.push_back(epoch.value(key, 0.0));
  return demo::percentile(std::move(values), percent);
}

Json DeathReport::json() const {
  return {{"answered_ms", answered_ms},
          {"detect_ms", survivor["detect_ms"]},
          {"arbitrate_ms", survivor["arbitrate_ms"]},
          {"takeover_ms", survivor["takeover_ms"]},
          {"stopped_ms_p50", epochs_of("stopped_ms", 50)},
          {"handshake_ms_p50", epochs_of("handshake_ms", 50)},
          {"writes", verdict.writes},
          {"outputs", verdict.outputs}};
}

void print(const DeathReport& report) {
  const auto of = [&](const char* key, double percent) { return report.epochs_of(key, percent); };
  fmt::print("{} epochs under load (heartbeats each {} ms, {} may be missed):\n",
             report.epochs.size(), kLabHeartbeats.interval_ms, kLabHeartbeats.missed);
  fmt::print("  stopped without the handshake, ms: p50 {:.1f}, p99 {:.1f}\n", of("stopped_ms", 50),
             of("stopped_ms", 99));
  fmt::print("  pause / capture / seal / resume, ms: p50 {:.1f} / {:.1f} / {:.1f} / {:.1f}\n",
             of("pause_ms", 50), of("capture_ms", 50), of("seal_ms", 50), of("resume_ms", 50));
  fmt::print("  handshake, ms: p50 {:.1f}, p99 {:.1f}\n", of("handshake_ms", 50),
             of("handshake_ms", 99));
  fmt::print("  output held, ms: p50 {:.1f}, p99 {:.1f}\n", of("output_held_ms", 50),
             of("output_held_ms", 99));
  fmt::print("  pages p50 {:.0f}, bytes p50 {:.0f}\n", of("pages", 50), of("bytes", 50));
  if (report.epochs.size() > 1) {
    const double span_ms =
        report.epochs.back().value("at_ms", 0.0) - report.epochs.front().value("at_ms", 0.0);
    fmt::print("  {:.2f} checkpoints a second\n",
               static_cast<double>(report.epochs.size() - 1) / span_ms * 1000);
  }
  fmt::print(
      "from the failure to the first answer: {:.0f} ms; detected in {} ms, arbiter {} ms, taken "
      "over in {} ms; {}\n",
      report.answered_ms, report.survivor["detect_ms"].dump(),
      report.survivor["arbitrate_ms"].dump(), report.survivor["takeover_ms"].dump(),
      report.survivor.value("detail", ""));
}

Result<DeathReport> kill_host_under_load(XenPair& pair, const Programs& programs,
                                         const DeathPlan& plan) {
  DeathReport report;
  FT_ASSIGN(const auto libft, Protection::install(pair, programs, kLabHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(libft->establish(Side::a));
  FT_TRY(work(*libft, outsiders, plan, report));
  FT_ASSIGN(const Json last, libft->status(Side::a));

  const Time killed = now();
  if (plan.judge_last != Nanos{0}) outsiders.since = killed - plan.judge_last;
  pair.host(Side::a).kill();
  FT_TRY(libft->wait_for_event(Side::b, "promoted: ", kPromotionPatience));
  FT_TRY(outsiders.wait_for_answers(plan.answers_afterwards, kAnswersPatience));
  FT_ASSIGN(report.survivor, libft->status(Side::b));
  FT_ASSIGN(report.verdict, outsiders.judge());
  report.answered_ms = answered_after_ms(outsiders, killed);
  FT_TRY(check_survivor(*libft, last, report.survivor));
  return report;
}

}  // namespace libft::lab
