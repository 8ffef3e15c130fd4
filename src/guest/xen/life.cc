// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/life.h"

#include <poll.h>

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

}  // namespace

// --- Judge --------------------------------------------------------------------------------------

Judge::Verdict Judge::on_look(const std::optional<DomainInfo>& info, bool ours, bool answers_late) {
  Verdict verdict;
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

// --- Life ---------------------------------------------------------------------------------------

Status Life::start() {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  wake_.emplace(std::move(wake));
  FT_TRY(calls_->watch(kReleased));
  FT_TRY(calls_->watch(domain_path(domain_, "memory/target")));
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
  if (judge_.ended()) return;
  const auto target = calls_->read(domain_path(domain_, "memory/target"));
  if (!target || !*target) return;
  if (auto event = judge_.on_target(**target)) tell(std::move(*event));
}

}  // namespace libft::xen
