// SPDX-License-Identifier: LGPL-2.1-or-later
// The Faults of one seed: which kinds may happen at all (a few of them, so that each seed is a
// world of its own kind), how often, and then one after the other at random moments.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/random.h"

namespace libft::sim {

class World;

class Faults {
 public:
  explicit Faults(World& world);
  void begin(Time end);  // Faults from now until `end`.

 private:
  enum class Kind : std::uint8_t {
    crash_process,
    crash_host,
    crash_in_batch,
    stall,
    stall_hidden,
    stall_session,
    stall_in_batch,
    block_one_way,
    block_both,
    reset,
    damage,
    slow_network,
    lossy_datagrams,
    arbiter_slow,
    arbiter_mute,
    arbiter_cut_off,
    arbiter_doubles,
    guest_ends,
    guest_paused,
    guest_dies,
    switch_over,
    unprotect,
    fail_over,
    change_strategy,
  };
  struct Weighted {
    Kind kind;
    unsigned weight;
  };

  void choose_kinds();
  void next();
  void strike();
  Kind pick();
  void crash(Kind kind);
  void stall(Kind kind);
  void harm_network(Kind kind);
  void harm_arbiter(Kind kind);
  void owner_acts(Kind kind);
  void hold_some();
  int some_host() { return static_cast<int>(random_.below(3)); }

  World& world_;
  Random random_;
  std::vector<Weighted> kinds_;
  unsigned weight_sum_ = 0;
  Nanos pause_{0};
  Time end_;
};

}  // namespace libft::sim
