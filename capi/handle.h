// SPDX-License-Identifier: LGPL-2.1-or-later
// What every handle of the C ABI begins with, and what every function does with it first: is it
// one, of the right kind, and of this process? Any thread.
#pragma once

#include <unistd.h>

#include <cstdint>

#include "outcome.h"

namespace libft::capi {

enum class Kind : std::uint64_t {  // Bytes that no other object begins with by chance.
  options = 0x6674'6f70'7469'6f6eu,
  session = 0x6674'7365'7373'696fu,
  op = 0x6674'6f70'6572'6174u,
};

class Handle {
 public:
  explicit Handle(Kind kind) : kind_(static_cast<std::uint64_t>(kind)), process_(::getpid()) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { kind_ = 0; }

  Outcome check(Kind kind) const;

 private:
  volatile std::uint64_t kind_;
  const pid_t process_;
};

// `handle` may be anything that a caller confused with a handle of libft's.
Outcome check_handle(const Handle* handle, Kind kind);

}  // namespace libft::capi
