// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/suspend.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "guest/xen/facts.h"
#include "guest/xen/inspect.h"

namespace libft::xen {
namespace {

using Steady = std::chrono::steady_clock;

// Where xenstored is watched for ends of domains, it wakes whoever waits. Asking Xen besides is for
// who does not watch, and for a xenstored that is silent. Seldom: on a dom0 with one processor each
// question interrupts the very guest that is waited for, and twice a millisecond made its handshake
// several times longer (docs/XEN.md).
constexpr Nanos kAskXenFirst = std::chrono::microseconds(500);
constexpr Nanos kAskXenSeldom = Millis{20};

// The order is written, the guest empties the node when it has read it. Anything else was not us
// alone.
constexpr std::uint64_t kQuestionAndAnswer = 2;

// In which a guest that runs reads another's order.
constexpr Nanos kHearingPatience = Millis{1000};

constexpr char kSuspend[] = "suspend";

constexpr Nanos kDeviceModelPatience = Millis{10000};

Result<DomainInfo> living(XenCalls& calls, DomId domain) {
  FT_ASSIGN(const auto info, calls.domain(domain));
  if (!info || info->dying) return failure(Code::guest_gone, "the domain was destroyed");
  return *info;
}

}  // namespace

Result<Stopped> Suspender::stop(Nanos patience, const std::atomic<bool>* cancelled) {
  FT_ASSIGN(const DomainInfo info, living(calls_, domain_));
  if (info.shutdown && info.reason != kShutdownSuspend) return Stopped{info, Nanos{0}, true};
  if (info.shutdown)
    return failure(Code::busy, "somebody else has suspended the guest (xl save, xl migrate)");
  if (way_ == StopWay::suspended) return suspend();
  if (way_ == StopWay::asked) {
    if (info.paused)
      return failure(Code::busy,
                     "the guest's owner has paused it, so that it cannot suspend "
                     "itself: `xl unpause` it");
    return ask(patience, cancelled);
  }
  ++intentions_.stops;
  intentions_.pausing = true;
  if (const Status paused = calls_.pause(domain_); !paused.ok()) {
    // Whether it was paused is not known; one unpause too many does nothing.
    (void)calls_.unpause(domain_);
    intentions_.pausing = false;
    return failure(paused);
  }
  return Stopped{info, Nanos{0}, false};
}

// An order to suspend cannot be taken back: what comes after its time is undone by Life.
Result<Stopped> Suspender::suspend() {
  ++intentions_.stops;
  intentions_.suspending = true;
  Status status = calls_.suspend(domain_);
  if (!status.ok()) status = calls_.suspend(domain_);
  if (status.ok()) {
    auto stopped = wait_for_suspend(kDeviceModelPatience, nullptr);
    if (stopped || stopped.error().code() == Code::guest_gone) return stopped;
    status = Status(stopped.error().code(),
                    "a processor of the guest waits for its device model and gets no answer");
  }
  // Whether it was ordered is not known.
  const auto info = living(calls_, domain_);
  if (info && info->shutdown) {
    FT_TRY(go_on());
    (void)tell_store(calls_, domain_);
  } else {
    intentions_.answers_late = true;
    intentions_.suspending = false;
  }
  return failure(status);
}

Result<Stopped> Suspender::ask(Nanos patience, const std::atomic<bool>* cancelled) {
  ++intentions_.stops;
  intentions_.suspending = true;
  const std::string node = domain_path(domain_, "control/shutdown");
  const auto begun = Steady::now();
  std::uint64_t before = 0;
  if (const Status asked = put_question(before); !asked.ok()) {
    if (asked.code() == Code::busy) {
      intentions_.suspending = false;
      return failure(asked);
    }
    const Status undone = give_up(Millis{1000});
    return failure(undone.ok() ? asked
                               : Status(asked.code(), asked.message() + "; " + undone.message()));
  }
  auto stopped = wait_for_suspend(patience, cancelled);
  if (stopped && !stopped->by_itself) {
    (void)calls_.wait(Nanos{0}, -1);
    const std::uint64_t happened = calls_.fired(node) - before;
    if (happened != kQuestionAndAnswer && is_for_others(node, happened)) {
      intentions_.suspending = false;
      return failure(Code::busy,
                     "somebody else (xl save, xl migrate) asked the guest at the same time, and "
                     "it stands still for them");
    }
  }
  if (stopped) {
    stopped->handshake = Steady::now() - begun;
    return stopped;
  }
  if (stopped.error().code() == Code::guest_gone) return stopped;
  const Status undone = give_up(Millis{1000});
  if (undone.ok()) return stopped;
  return failure(stopped.error().code(), stopped.error().message() + "; " + undone.message());
}

// Whose the guest's suspend is, when more or less was written than our order and the guest's
// answer. Who gives the same order before the guest reads it sees one answer, as we do, and each
// takes it for its own. An order of another kind that stands there has not been read yet.
bool Suspender::is_for_others(const std::string& node, std::uint64_t happened) {
  const auto stands = calls_.read(node);
  if (!stands || !*stands || (*stands)->empty()) return happened > kQuestionAndAnswer;
  if (**stands != kSuspend) return false;
  (void)calls_.replace(node, kSuspend, "");  // Ours, unread.
  return true;
}

// Another's order (xl shutdown, reboot, save) that the guest has not read yet stays, and is waited
// for: Linux reads one that came while it suspended itself as soon as it goes on.
Status Suspender::put_question(std::uint64_t& before) {
  const std::string node = domain_path(domain_, "control/shutdown");
  const auto deadline = Steady::now() + kHearingPatience;
  for (;;) {
    (void)calls_.wait(Nanos{0}, -1);  // What fired until now is of no question of ours.
    before = calls_.fired(node);
    FT_ASSIGN(const bool put, calls_.replace(node, "", kSuspend));
    if (put) return {};
    FT_ASSIGN(const auto other, calls_.read(node));
    if (!other) return calls_.write(node, kSuspend);
    if (Steady::now() >= deadline)
      return Status(Code::busy, "somebody else has just ordered the guest to \"" + *other + "\"");
    (void)calls_.wait(kAskXenSeldom, -1);
  }
}

// One failed question to Xen does not end the wait: the guest may be suspended by now.
Result<Stopped> Suspender::wait_for_suspend(Nanos patience, const std::atomic<bool>* cancelled) {
  const auto deadline = Steady::now() + patience;
  unsigned failures = 0;
  for (Nanos rest = kAskXenFirst;; rest = std::min(2 * rest, kAskXenSeldom)) {
    auto info = living(calls_, domain_);
    if (!info && (info.error().code() == Code::guest_gone || ++failures > 2))
      return failure(info.error());
    if (info && info->shutdown) return Stopped{*info, Nanos{0}, info->reason != kShutdownSuspend};
    if (info && info->paused && way_ == StopWay::asked)
      return failure(Code::busy, "the guest's owner paused it before it could suspend itself");
    if (cancelled != nullptr && *cancelled)
      return failure(Code::cancelled, "the guest was not waited for any longer");
    if (Steady::now() >= deadline)
      return failure(
          Code::timeout,
          fmt::format("the guest did not suspend itself within {} s: is its kernel "
                      "alive, and does it know Xen's control/shutdown?",
                      std::chrono::duration_cast<std::chrono::seconds>(patience).count()));
    if (const Status waited = calls_.wait(rest, -1); !waited.ok() && ++failures > 2)
      return failure(waited);
  }
}

// Takes the question back. When the guest has read it, its answer must come, and it is set running
// as soon as it does: here, or by Life.
Status Suspender::give_up(Nanos patience) {
  const std::string node = domain_path(domain_, "control/shutdown");
  auto taken_back = calls_.replace(node, kSuspend, "");
  if (!taken_back) taken_back = calls_.replace(node, kSuspend, "");
  if (taken_back && *taken_back) {
    intentions_.suspending = false;
    return {};
  }
  const auto deadline = Steady::now() + patience;
  while (Steady::now() < deadline) {
    const auto info = living(calls_, domain_);
    if (info && info->shutdown && info->reason == kShutdownSuspend) {
      FT_TRY(go_on());
      return tell_store(calls_, domain_);
    }
    if (!info && info.error().code() == Code::guest_gone) return info.error();
    (void)calls_.wait(kAskXenSeldom, -1);
  }
  intentions_.answers_late = true;
  intentions_.suspending = false;
  return taken_back ? Status() : taken_back.error();
}

Status Suspender::go_on() {
  if (intentions_.pausing) {
    Status status = calls_.unpause(domain_);
    if (!status.ok()) status = calls_.unpause(domain_);
    if (status.ok()) intentions_.pausing = false;
    return status;
  }
  FT_TRY(run());
  intentions_.suspending = false;
  return {};
}

Status Suspender::tell_store(XenCalls& calls, DomId domain) {
  const Status told = calls.store_resumed(domain);
  return told.ok() ? told : calls.store_resumed(domain);
}

// Whether a call that failed did its work is looked up: a domain that runs must not be resumed.
Status Suspender::run() {
  Status status;
  for (int attempt = 0; attempt < 3; ++attempt) {
    status = calls_.resume(domain_);
    if (status.ok()) return {};
    const auto info = living(calls_, domain_);
    if (info && !info->shutdown) return {};
    if (!info && info.error().code() == Code::guest_gone) return info.error();
  }
  return status;
}

}  // namespace libft::xen
