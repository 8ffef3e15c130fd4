// SPDX-License-Identifier: LGPL-2.1-or-later
// Life watches what happens to a domain through others: its own software, its owner, its host. A
// thread with Xen calls of its own looks whenever xenstored says that some domain ended, and twice
// a second, because Xen tells nobody of a pause. Judge is the thinking part of it, without a
// thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "guest/xen/calls.h"
#include "guest/xen/suspend.h"
#include "libft/guest.h"
#include "os/event_fd.h"

namespace libft::xen {

class Judge {
 public:
  struct Verdict {
    std::vector<GuestEvent> events;
    bool set_running = false;  // It answered our question after its time.
  };

  // `ours`: libft was stopping, had stopped or was starting the domain while it was looked at.
  Verdict on_look(const std::optional<DomainInfo>& info, bool ours, bool answers_late);
  std::optional<GuestEvent> on_target(const std::string& kib);  // Of memory/target.
  using Devices = std::vector<std::string>;                     // "vif/0", "vbd/51712", sorted.
  std::optional<GuestEvent> on_devices(const Devices& devices);
  bool ended() const { return ended_; }

 private:
  Verdict on_shutdown(unsigned reason, bool ours, bool answers_late);
  bool ended_ = false, gone_ = false, paused_ = false, suspended_ = false;
  bool stands_still_ = false;  // Paused by whomever, when it was looked at last.
  std::optional<std::string> target_;
  std::optional<Devices> devices_;
};

class Life {
 public:
  Life(std::unique_ptr<XenCalls> calls, DomId domain, StopWay way, Intentions& intentions)
      : calls_(std::move(calls)),
        domain_(domain),
        intentions_(intentions),
        suspender_(*calls_, domain, way, intentions) {}
  ~Life() { stop(); }

  Status start();
  void stop();
  // Called by the thread; several events that nobody heard yet come at once.
  void set_sink(std::function<void(GuestEvent)> sink);
  // As if the thread had seen it: what another part of the driver noticed. Any thread.
  void tell(GuestEvent event);

  // Something was attached, detached or given another size since libft looked at the domain.
  bool reconfigured() const { return reconfigured_; }

  // Has the thread stop the domain, and call `ready` with the outcome. REQUIRES: no other such
  // order is under way, and the domain runs.
  using Ready = std::function<void(Result<Stopped>)>;
  void stop_domain(Nanos patience, Ready ready);
  // Libft set the domain running after it had suspended itself.
  void domain_resumed();

 private:
  void run();
  void obey();
  void look();
  void look_closer();

  std::unique_ptr<XenCalls> calls_;
  const DomId domain_;
  Intentions& intentions_;
  Suspender suspender_;
  Judge judge_;
  std::optional<os::EventFd> wake_;
  std::chrono::steady_clock::time_point look_closer_at_{};
  std::atomic<bool> stopping_{false}, resumed_{false}, reconfigured_{false};
  std::mutex mutex_;  // What is below.
  std::function<void(GuestEvent)> sink_;
  std::vector<GuestEvent> waiting_;
  Ready ordered_;
  Nanos patience_{0};
  std::jthread thread_;
};

}  // namespace libft::xen
