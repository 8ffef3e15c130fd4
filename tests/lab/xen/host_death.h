// SPDX-License-Identifier: LGPL-2.1-or-later
// The promise of libft on a real Xen, as one thing that tests do: a guest is protected, works, its
// host dies, and the world outside judges what it saw. The test's main thread.
#pragma once

#include <vector>

#include "lab/xen/protection.h"

namespace libft::lab {

// A quarter of the defaults' pace: two emulated hosts on one busy machine are silent for longer
// than real ones.
inline constexpr Heartbeats kLabHeartbeats{200, 10};

struct DeathPlan {
  std::uint64_t epochs_under_load, answers_afterwards;
  bool verify = true;   // Before. The guest stands still for it, an HVM guest for long.
  Nanos longer{0};      // Killed so long after all that: a moment that nobody chose.
  Nanos judge_last{0};  // Outputs of this last time are asked for again; 0: all of them.
};

// A guest that suspends itself saves and restores every PCI device of its device model, register by
// register, and each of these accesses is a journey through an emulated dom0: seconds an epoch. Nor
// is an HVM guest quick to answer for every output that was seen.
inline constexpr DeathPlan kPvhDeath{.epochs_under_load = 30, .answers_afterwards = 100};
inline constexpr DeathPlan kHvmDeath{.epochs_under_load = 5,
                                     .answers_afterwards = 10,
                                     .verify = false,
                                     .judge_last = std::chrono::seconds(20)};

struct DeathReport {
  std::vector<demo::Json> epochs;  // Under load.
  double answered_ms = 0;          // From the death to the first answer that came after it.
  demo::Json survivor;             // What ftctl says on the other host afterwards.
  Verdict verdict;

  double epochs_of(const char* key, double percent) const;
  demo::Json json() const;  // The figures, for a table of many deaths.
};
void print(const DeathReport& report);

// On host a the guest runs. A failure unless exactly one domain is left, a new generation owns it,
// the client's connection lives, every acknowledged write is there and no output is contradicted.
Result<DeathReport> kill_host_under_load(XenPair& pair, const Programs& programs,
                                         const DeathPlan& plan);

}  // namespace libft::lab
