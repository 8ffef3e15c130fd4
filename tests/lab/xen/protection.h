// SPDX-License-Identifier: LGPL-2.1-or-later
// A Protection is libft on the two hosts of a XenPair, used as an operator uses it: ftctl in both
// dom0s with one key, etcd as arbiter, orders and questions as commands; or as a toolstack uses it,
// through the C ABI. Outsiders are the client with its one connection and the observer, which judge
// it. The test's main thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "demo/observer.h"
#include "demo/redis_client.h"
#include "demo/result.h"
#include "lab/xen/pair.h"

namespace libft::lab {

struct Programs {
  const char *ftctl, *module;
  // When given, these serve in the place of ftctl, which is only asked: ft-pair, and libft.so,
  // beside which its modules lie.
  const char *pair = nullptr, *library = nullptr;
};

inline constexpr int kFine = 0, kFenced = 5;  // ftctl's exit codes, as documented.

Status expect(bool as_it_must_be, std::string otherwise);

struct Heartbeats {
  unsigned interval_ms, missed;
};

class Protection {
 public:
  // Both programs and a new key onto both hosts; the arbiter.
  static Result<std::unique_ptr<Protection>> install(XenPair& pair, const Programs& programs,
                                                     Heartbeats heartbeats);

  const std::string& arbiter() const { return arbiter_; }
  Status favour_dom0(
      Side side);  // Done by install(); a host that was booted anew has forgotten it.

  // Each starts an ftctl that stays.
  Status protect(Side side);   // The guest that runs there.
  Status stand_by(Side side);  // For the other side.
  // Both of them, and until the guest is protected. The owner's host is `side`.
  Status establish(Side side);

  Result<demo::Json> status(Side side);
  // Each fails at once when the ftctl there ends meanwhile, with what it said.
  Status wait_until_protected(Side side);
  Status wait_for_event(Side side, std::string_view event, Nanos patience);  // In its log.
  Status wait_for_epochs(Side side, std::uint64_t count, Nanos patience);    // In epochs().
  Status wait_for_more_epochs(Side side, std::uint64_t more, Nanos patience);
  // Whether the log of the ftctl that was started there last has it.
  Result<bool> has_told(Side side, std::string_view event);
  Status expect_told(Side side, std::string_view event);
  Status expect_untold(Side side, std::string_view event);
  Status begin_log_anew(Side side);  // What it told until now is not found any more.

  // `ftctl ORDER guest`, which must succeed. Returns what it printed.
  Result<std::string> order(Side side, std::string_view order);
  // The exit code of the ftctl that was started there last, which ends by itself.
  Result<int> exit_code(Side side, Nanos patience);
  Status expect_end(Side side, int code);
  Status kill(Side side);   // The ftctl there: SIGKILL.
  Status leave(Side side);  // SIGTERM, unless it has ended, and until it has.
  // Of the ftctl that was started there last: a line an epoch.
  Result<std::vector<demo::Json>> epochs(Side side);
  // The names of the domains there, without dom0.
  Result<std::vector<std::string>> domains(Side side);
  Status expect_domains(Side side, const std::vector<std::string>& names);

 private:
  Protection(XenPair& pair, Heartbeats heartbeats, bool through_capi)
      : pair_(pair), heartbeats_(heartbeats), through_capi_(through_capi) {}
  std::string ftctl_line(Side side, std::string_view what) const;
  std::string pair_line(Side side, std::string_view what) const;
  Status start(Side side, std::string_view what);
  Status wait_for(Side side, std::string_view what, Nanos patience, std::string_view condition);
  std::string last_words(Side side);

  XenPair& pair_;
  const Heartbeats heartbeats_;
  const bool through_capi_;
  std::string arbiter_;
};

struct Verdict {
  std::uint64_t writes = 0;   // Acknowledged, and read back.
  std::uint64_t outputs = 0;  // Seen outside, and confirmed by the guest.
};

struct Outsiders {
  std::unique_ptr<demo::Observer> observer;
  std::unique_ptr<demo::RedisClient> client;
  Time since;  // Outputs are judged from here.

  static Result<Outsiders> meet(XenPair& pair);
  void offer_load();
  // Until the client has had `more` answers that came after this call.
  Status wait_for_answers(std::uint64_t more, Nanos patience);
  // Ends the load, and asks the guest that runs now what it knows: a failure unless the connection
  // lives, every acknowledged write is there, and no output is contradicted. Prints the counts.
  Result<Verdict> judge();
  // Asks the guest's own software to power off, crash or reboot (lab/guest/protocol.h).
  static Status tell_guest(XenPair& pair, int kind);
};

}  // namespace libft::lab
