// SPDX-License-Identifier: LGPL-2.1-or-later
// A fence that is a program of the operator's: one that powers a host off, or closes its switch
// port. It is run as PROGRAM GUEST HOST, without a shell, where HOST is the loser's name as its own
// libft gave it; exit code 0 says that the loser is certainly silent.
// Blocks until the program ends or its deadline passes: the arbiter's thread calls it.
#pragma once

#include "libft/fence.h"

namespace libft::failover {

class CommandFence final : public Fence {
 public:
  CommandFence(std::string program, Nanos deadline)
      : program_(std::move(program)), deadline_(deadline) {}

  std::string description() const override { return "exec " + program_; }
  Status fence(const GuestId& guest, const Incarnation& loser) override;

 private:
  std::string program_;
  Nanos deadline_;
};

// Relies on the arbiter alone, which is what safety rests on anyway.
class NoFence final : public Fence {
 public:
  std::string description() const override { return "none"; }
  Status fence(const GuestId&, const Incarnation&) override { return {}; }
};

// The table of fences: "none", or "exec:/path/of/program". The deadline is for each run.
Result<std::unique_ptr<Fence>> open_fence(std::string_view spec,
                                          Nanos deadline = std::chrono::seconds{8});

}  // namespace libft::failover
