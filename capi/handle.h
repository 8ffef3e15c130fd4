// SPDX-License-Identifier: LGPL-2.1-or-later
// What every handle of the C ABI begins with, and what every function does with it first: is it
// one, of the right kind, and of this process? Any thread.
#pragma once

#include <cstdint>

#include "outcome.h"

namespace libft::capi {

enum class Kind : std::uint64_t {  // Bytes that no other object begins with by chance.
  options = 0x6674'6f70'7469'6f6eu,
  session = 0x6674'7365'7373'696fu,
  op = 0x6674'6f70'6572'6174u,
};

// Memory that is zero in every process but the one that made it: the kernel wipes it at fork. A
// look at it costs nothing, where getpid() would be a system call in every function of the ABI.
class OwnProcess {
 public:
  OwnProcess();
  OwnProcess(const OwnProcess&) = delete;
  OwnProcess& operator=(const OwnProcess&) = delete;
  ~OwnProcess();
  bool here() const { return *mark_ != 0; }

 private:
  volatile std::uint32_t* mark_;
};

class Handle {
 public:
  Handle(Kind kind, const OwnProcess& process)
      : kind_(static_cast<std::uint64_t>(kind)), process_(process) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { kind_ = 0; }

  Outcome check(Kind kind) const;

 private:
  volatile std::uint64_t kind_;
  const OwnProcess& process_;
};

// `handle` may be anything that a caller confused with a handle of libft's.
Outcome check_handle(const Handle* handle, Kind kind);

}  // namespace libft::capi
