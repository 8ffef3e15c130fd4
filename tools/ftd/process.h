// SPDX-License-Identifier: LGPL-2.1-or-later
// A Process is an ftctl that serves one guest, held by a pidfd: started by this ftd, or by an
// earlier one and found again. It outlives ftd on purpose. One thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "descriptor.h"
#include "os/child.h"
#include "state_file.h"

namespace libft::ftd {

class Process {
 public:
  // In a session of its own; what it says is appended to `log`.
  static Result<Process> start(std::vector<std::string> argv, const std::string& log);
  // Fails with Code::not_found when it has ended.
  static Result<Process> adopt(const ftctl::ProcessId& id);

  Process(Process&&) noexcept = default;
  Process& operator=(Process&&) noexcept = default;
  ~Process();

  const ftctl::ProcessId& id() const { return id_; }
  int pidfd() const;  // Readable once it has ended.
  bool ended();       // Reaps it, if this ftd is its parent.

 private:
  explicit Process(os::Child child);
  Process(ftctl::ProcessId id, ftctl::Descriptor pidfd) : id_(id), pidfd_(std::move(pidfd)) {}

  ftctl::ProcessId id_;
  std::optional<os::Child> child_;  // Else:
  ftctl::Descriptor pidfd_;
};

}  // namespace libft::ftd
