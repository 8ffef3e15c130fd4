// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sbi.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kBase = 0x10, kTimer = 0x54494d45, kIpi = 0x735049, kFences = 0x52464e43,
                        kHartState = 0x48534d, kSystemReset = 0x53525354;
constexpr std::uint64_t kVersion = 2 << 24;          // 2.0
constexpr std::uint64_t kImplementation = 0x6c6674;  // Not a registered one.
constexpr std::int64_t kNotSupported = -2, kInvalidParameter = -3, kAlreadyAvailable = -6;
constexpr unsigned kA0 = 10, kA1 = 11, kA2 = 12, kA6 = 16, kA7 = 17;
constexpr std::uint64_t kStarted = 0, kStopped = 1;

bool supported(std::uint64_t extension) {
  switch (extension) {
    case kBase:
    case kTimer:
    case kIpi:
    case kFences:
    case kHartState:
    case kSystemReset: return true;
    default: return extension <= 8;
  }
}

}  // namespace

void Sbi::call(Hart& caller) {
  caller.pc += 4;
  const std::uint64_t extension = caller.x[kA7];
  std::uint64_t result = 0;
  if (legacy(caller, extension, result)) {
    caller.x[kA0] = result;
    return;
  }
  const Answer answer = serve(caller, extension, caller.x[kA6]);
  caller.x[kA0] = static_cast<std::uint64_t>(answer.error);
  caller.x[kA1] = answer.value;
}

Sbi::Answer Sbi::serve(Hart& caller, std::uint64_t extension, std::uint64_t function) {
  const std::uint64_t a0 = caller.x[kA0], a1 = caller.x[kA1];
  switch (extension) {
    case kBase: return base(function, a0);
    case kTimer:
      if (function != 0) return {kNotSupported};
      deadlines_[caller.id] = a0;
      return {};
    case kIpi: return function == 0 ? send_ipi(a0, a1) : Answer{kNotSupported};
    // Stores to code and page tables have taken effect when they were made (memory.h).
    case kFences: return function <= 2 ? Answer{} : Answer{kNotSupported};
    case kHartState: return manage_hart(caller, function);
    case kSystemReset: return function == 0 ? system_reset(a0, a1) : Answer{kNotSupported};
    default: return {kNotSupported};
  }
}

Sbi::Answer Sbi::base(std::uint64_t function, std::uint64_t extension) const {
  switch (function) {
    case 0: return {0, kVersion};
    case 1: return {0, kImplementation};
    case 2: return {0, 1};
    case 3: return {0, supported(extension) ? 1u : 0u};
    case 4:
    case 5:
    case 6: return {0, 0};  // mvendorid, marchid, mimpid
    default: return {kNotSupported};
  }
}

Sbi::Answer Sbi::send_ipi(std::uint64_t mask, std::uint64_t first) {
  const bool all = first == ~std::uint64_t{0};
  for (unsigned id = 0; id < host_.harts(); ++id) {
    const bool named = id >= first && id - first < 64 && (mask >> (id - first) & 1) != 0;
    if (all || named) host_.hart(id).pending |= bit(kSupervisorSoftware);
  }
  return {};
}

Sbi::Answer Sbi::manage_hart(Hart& caller, std::uint64_t function) {
  const std::uint64_t id = caller.x[kA0];
  if (function == 1) {
    caller.started = false;
    return {};
  }
  if (function == 3) return suspend(caller);
  if (function > 3) return {kNotSupported};
  if (id >= host_.harts()) return {kInvalidParameter};
  const Hart& other = host_.hart(static_cast<unsigned>(id));
  if (function == 2) return {0, other.started ? kStarted : kStopped};
  if (other.started) return {kAlreadyAvailable};
  host_.start_hart(static_cast<unsigned>(id), caller.x[kA1], caller.x[kA2]);
  return {};
}

// Retentive suspension is WFI; there is no other.
Sbi::Answer Sbi::suspend(Hart& caller) {
  if (caller.x[kA0] != 0) return {kNotSupported};
  caller.waiting = true;
  return {};
}

Sbi::Answer Sbi::system_reset(std::uint64_t kind, std::uint64_t reason) {
  if (kind > 2 || reason > 1) return {kInvalidParameter};
  host_.end(reason == 1 ? End::failed : kind == 0 ? End::shut_down : End::reset_requested);
  return {};
}

// Chapter 5: one register in, one out. Also what Linux prints with before it has a console.
bool Sbi::legacy(Hart& caller, std::uint64_t function, std::uint64_t& result) {
  switch (function) {
    case 0: deadlines_[caller.id] = caller.x[kA0]; return true;
    case 1: host_.console_put(static_cast<std::byte>(caller.x[kA0])); return true;
    case 2: result = host_.console_get(); return true;
    case 3: caller.pending &= ~bit(kSupervisorSoftware); return true;
    // With a hart mask in memory; Linux uses the IPI extension instead.
    case 4: send_ipi(0, ~std::uint64_t{0}); return true;
    case 5:
    case 6:
    case 7: return true;
    case 8: host_.end(End::shut_down); return true;
    default: return false;
  }
}

}  // namespace libft::machine
