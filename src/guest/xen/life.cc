// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/life.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>

#include <algorithm>
#include <iterator>

#include "guest/xen/facts.h"
#include "guest/xen/inspect.h"
#include "os/poll.h"
#include "os/thread.h"

namespace libft::xen {
namespace {

constexpr Nanos kLookEvery = Millis{500};
constexpr std::size_t kWaitingMax = 64;
constexpr char kReleased[] = "@releaseDomain";
using Kind = GuestEvent::Kind;

Result<Judge::Devices> devices_of(XenCalls& calls, DomId domain) {
  Judge::Devices devices;
  const std::string path = domain_path(domain, "device");
  FT_ASSIGN(const auto kinds, calls.list(path));
  for (const std::string& kind : kinds) {
    FT_ASSIGN(const auto numbers, calls.list(path + "/" + kind));
    for (const std::string& number : numbers) devices.push_back(kind + "/" + number);
  }
  std::sort(devices.begin(), devices.end());
  return devices;
}

Judge::Devices missing_from(const Judge::Devices& those, const Judge::Devices& of) {
  Judge::Devices rest;
  std::set_difference(of.begin(), of.end(), those.begin(), those.end(), std::back_inserter(rest));
  return rest;
}

}  // namespace

// --- Judge --------------------------------------------------------------------------------------

Judge::Verdict Judge::on_look(const std::optional<DomainInfo>& info, bool ours, bool answers_late) {
  Verdict verdict;
  stands_still_ = info && info->paused;
  if (ended_) {
    if (info && !info->dying) return verdict;
    if (!std::exchange(gone_, true))  // Nothing more can be captured.
      verdict.events.push_back({Kind::process_died, "the domain was destroyed"});
    return verdict;
  }
  if (!info || info->dying) {
    ended_ = gone_ = true;
    verdict.events.push_back({Kind::ended, "the domain was destroyed"});
    verdict.events.push_back({Kind::process_died, "the domain was destroyed"});
    return verdict;
  }
  if (info->shutdown) return on_shutdown(info->reason, ours, answers_late);
  suspended_ = false;
  if (!ours && info->paused != paused_) {
    paused_ = info->paused;
    verdict.events.push_back({paused_ ? Kind::paused : Kind::resumed, "by its owner (xl pause)"});
  }
  return verdict;
}

// A domain that shut down stays as it is until its toolstack removes it; a reboot is another
// domain, built by the toolstack. So each reason but a suspend is the end of this one.
Judge::Verdict Judge::on_shutdown(unsigned reason, bool ours, bool answers_late) {
  Verdict verdict;
  if (reason == kShutdownSuspend) {
    if (ours) return verdict;
    if (answers_late) {
      verdict.set_running = true;
    } else if (!std::exchange(suspended_, true)) {
      verdict.events.push_back(
          {Kind::migrating, "somebody else had it suspend itself (xl save or xl migrate)"});
    }
    return verdict;
  }
  ended_ = true;
  if (reason == kShutdownCrash || reason == kShutdownWatchdog)
    verdict.events.push_back(
        {Kind::crashed, reason == kShutdownCrash ? "the guest crashed" : "its watchdog bit"});
  if (reason == kShutdownReboot || reason == kShutdownSoftReset)
    verdict.events.push_back(
        {Kind::ended,
         "it reboots: a domain's reboot is a new domain, which its toolstack builds "
         "and which is to be protected anew"});
  else
    verdict.events.push_back(
        {Kind::ended, reason == kShutdownPoweroff ? "it was shut down" : "it stopped for good"});
  return verdict;
}

std::optional<GuestEvent> Judge::on_target(const std::string& kib) {
  const bool changed = target_ && *target_ != kib;
  target_ = kib;
  if (!changed || ended_) return std::nullopt;
  return GuestEvent{Kind::reconfigured, "its owner set its memory to " + kib + " KiB"};
}

// A new disk would be missing on the backup, and what leaves by a new interface is held by nobody.
// xl destroy pauses a domain, takes away its devices, and then itself: not a reconfiguration.
std::optional<GuestEvent> Judge::on_devices(const Devices& devices) {
  const Devices before = devices_.value_or(devices);
  const Devices more = missing_from(before, devices), gone = missing_from(devices, before);
  if (stands_still_ && more.empty()) return std::nullopt;  // Looked at again when it runs.
  devices_ = devices;
  if (ended_ || before == devices) return std::nullopt;
  std::string what = "its owner";
  if (!more.empty()) what += fmt::format(" attached {}", fmt::join(more, ", "));
  if (!gone.empty())
    what += fmt::format("{} detached {}", more.empty() ? "" : " and", fmt::join(gone, ", "));
  return GuestEvent{Kind::reconfigured, what};
}

// --- Life ---------------------------------------------------------------------------------------

Status Life::start() {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  wake_.emplace(std::move(wake));
  FT_TRY(calls_->watch(kReleased));
  FT_TRY(calls_->watch(domain_path(domain_, "memory/target")));
  FT_TRY(calls_->watch(domain_path(domain_, "control/shutdown")));  // The Suspender counts.
  thread_ = os::start_thread("ft-xen", [this] { run(); });
  return {};
}

void Life::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake_->signal();
  thread_.join();
}

void Life::set_sink(std::function<void(GuestEvent)> sink) {
  const std::scoped_lock lock(mutex_);
  sink_ = std::move(sink);
  if (!sink_) return;
  for (GuestEvent& event : std::exchange(waiting_, {})) sink_(std::move(event));
}

void Life::tell(GuestEvent event) {
  if (event.kind == Kind::reconfigured) reconfigured_ = true;
  const std::scoped_lock lock(mutex_);
  if (sink_) return sink_(std::move(event));
  if (waiting_.size() == kWaitingMax) waiting_.pop_back();
  waiting_.push_back(std::move(event));
}

void Life::stop_domain(Nanos patience, Ready ready) {
  {
    const std::scoped_lock lock(mutex_);
    ordered_ = std::move(ready);
    patience_ = patience;
  }
  wake_->signal();
}

void Life::domain_resumed() {
  resumed_ = true;
  wake_->signal();
}

// Who does not hear of an end from xenstored sees it half a second later: nothing to tell of.
void Life::obey() {
  if (resumed_.exchange(false)) (void)Suspender::tell_store(*calls_, domain_);
  Ready ready;
  {
    const std::scoped_lock lock(mutex_);
    ready = std::exchange(ordered_, nullptr);
  }
  if (ready) ready(suspender_.stop(patience_, &stopping_));
}

void Life::run() {
  while (!stopping_) {
    obey();
    look();
    if (!calls_->wait(kLookEvery, wake_->fd()).ok()) {
      // xenstored is gone or confused: Xen still answers.
      (void)os::wait_ready(wake_->fd(), POLLIN, -1, kLookEvery);
    }
    (void)wake_->drain();
  }
  obey();  // Its answer is still waited for.
}

// Between the two looks at the intentions libft may have stopped the domain and set it running.
void Life::look() {
  const auto stops = intentions_.stops.load();
  bool ours = intentions_.suspending || intentions_.pausing;
  const auto info = calls_->domain(domain_);
  if (!info) return;  // The next look tells.
  ours = ours || intentions_.suspending || intentions_.pausing || stops != intentions_.stops;
  if (intentions_.destroying) return;
  Judge::Verdict verdict = judge_.on_look(*info, ours, intentions_.answers_late);
  if (verdict.set_running && calls_->resume(domain_).ok()) {
    intentions_.answers_late = false;
    (void)Suspender::tell_store(*calls_, domain_);
  }
  for (GuestEvent& event : verdict.events) tell(std::move(event));
  if (!judge_.ended()) look_closer();
}

// Not at each of the guest's suspends, of which xenstored tells as well: dom0 has better to do
// then.
void Life::look_closer() {
  const auto now = std::chrono::steady_clock::now();
  if (now < look_closer_at_) return;
  look_closer_at_ = now + kLookEvery;
  if (const auto devices = devices_of(*calls_, domain_))
    if (auto event = judge_.on_devices(*devices)) tell(std::move(*event));
  const auto target = calls_->read(domain_path(domain_, "memory/target"));
  if (!target || !*target) return;
  if (auto event = judge_.on_target(**target)) tell(std::move(*event));
}

}  // namespace libft::xen
