// SPDX-License-Identifier: LGPL-2.1-or-later
// A MachineOpener makes replicas of guests on the deterministic machine, inside this process: the
// guest, and the gate for its frames when it has a TAP device. Who embeds libft and ftctl have one
// each for a guest. One thread at a time; its log, and what it opened, outlive it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "guest/machine/machine_guest.h"
#include "libft/log.h"
#include "libft/release_guard.h"
#include "libft/session.h"

namespace libft::host {

struct MachineSite {
  std::vector<std::string> taps;  // One, or none: then its cable leads nowhere.
  std::uint64_t held_bytes_max = 64ull << 20;
  bool redeliver_input = true;  // Without, a primary forwards no input and a backup delivers none.
  std::string disk_file;  // A standby's own writable disk; empty: as the primary calls its.
};

class MachineOpener {
 public:
  // `guard` goes to the gates.
  MachineOpener(MachineSite site, std::shared_ptr<ReleaseGuard> guard, Log& log)
      : site_(std::move(site)), guard_(std::move(guard)), log_(log) {}

  Result<Replica> start(const std::string& spec);  // "IMAGE,mib=128,...": guest/machine/spec.h
  Result<Replica> standby(const GuestInfo& primary);

 private:
  Result<Replica> open(machine::MachineGuestOptions options);
  Result<Replica> without_output(machine::MachineGuestOptions options);

  const MachineSite site_;
  const std::shared_ptr<ReleaseGuard> guard_;
  Log& log_;
};

}  // namespace libft::host
