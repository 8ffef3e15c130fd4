// SPDX-License-Identifier: LGPL-2.1-or-later
// What qemu-system-riscv64 did, instruction by instruction: its log of the processor's state before
// each one (`-singlestep -d cpu,nochain`), read as it comes. Test support; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "os/child.h"

namespace libft::test {

struct TracedState {
  std::uint64_t pc = 0;
  std::array<std::uint64_t, 32> x{};
  std::map<std::string, std::uint64_t> csr;  // As QEMU names them: "mstatus", ...
};

class QemuTrace {
 public:
  static Result<std::unique_ptr<QemuTrace>> start(const std::string& image);  // For 0x80000000.
  ~QemuTrace();
  QemuTrace(const QemuTrace&) = delete;
  QemuTrace& operator=(const QemuTrace&) = delete;

  // The state before the next instruction; nothing at the end.
  std::optional<TracedState> next();

  static bool available();

 private:
  QemuTrace(os::Child child, std::FILE* log) : child_(std::move(child)), log_(log) {}
  static void registers(const char* line, TracedState& state);

  os::Child child_;
  std::FILE* log_;
};

}  // namespace libft::test
