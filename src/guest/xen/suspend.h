// SPDX-License-Identifier: LGPL-2.1-or-later
// The Suspender stops a domain so that its state can be taken, and sets it running again. One
// thread an object; what libft is doing is shared with the thread that watches the domain's life.
#pragma once

#include <atomic>

#include "guest/xen/calls.h"
#include "libft/types.h"

namespace libft::xen {

enum class StopWay {
  // A guest with PV drivers suspends itself, and says when it has (the handshake): its drivers must
  // know that they may wake up elsewhere.
  asked,
  // One without PV drivers, and with a device model: Xen stops it, but not while a processor waits
  // for the device model, which would be asked the same thing again on the backup.
  suspended,
  paused,  // With neither.
};

// What libft itself is doing to the domain, so that nobody takes it for somebody else's doing.
struct Intentions {
  std::atomic<bool> suspending{false};    // Asked, or suspended by us.
  std::atomic<bool> pausing{false};       // Paused by us.
  std::atomic<std::uint64_t> stops{0};    // How often either began.
  std::atomic<bool> answers_late{false};  // Read our question and has not suspended itself yet.
  std::atomic<bool> destroying{false};
};

struct Stopped {
  DomainInfo info;         // After it stopped.
  Nanos handshake{0};      // From the question to the guest's answer; 0 when it was not asked.
  bool by_itself = false;  // It had shut down before.
};

class Suspender {
 public:
  Suspender(XenCalls& calls, DomId domain, StopWay way, Intentions& intentions)
      : calls_(calls), domain_(domain), way_(way), intentions_(intentions) {}

  // On failure the guest runs, as before; one that answers after its time is set running when it
  // does (by Life). A guest that its owner paused cannot answer: Code::busy. `cancelled` is looked
  // at while the guest is waited for.
  Result<Stopped> stop(Nanos patience, const std::atomic<bool>* cancelled = nullptr);
  // REQUIRES: stop() succeeded, not by_itself.
  Status go_on();
  // To be called after go_on(), in any thread: without it xenstored would not tell of the domain's
  // next end. The guest runs meanwhile.
  static Status tell_store(XenCalls& calls, DomId domain);

 private:
  Result<Stopped> ask(Nanos patience, const std::atomic<bool>* cancelled);
  // `before`: how often the node had changed until then.
  Status put_question(std::uint64_t& before);
  bool is_for_others(const std::string& node, std::uint64_t happened);
  Result<Stopped> suspend();
  Result<Stopped> wait_for_suspend(Nanos patience, const std::atomic<bool>* cancelled);
  Status give_up(Nanos patience);
  Status run();

  XenCalls& calls_;
  const DomId domain_;
  const StopWay way_;
  Intentions& intentions_;
};

}  // namespace libft::xen
