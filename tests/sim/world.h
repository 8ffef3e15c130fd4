// SPDX-License-Identifier: LGPL-2.1-or-later
// The World is one run of the simulation: three hosts, the network, the arbiter, the oracle and
// time, all made from one seed. First phase: faults. Second phase: none, and progress is required.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/backup.h"
#include "core/primary.h"
#include "libft/session.h"
#include "sim/arbiter.h"
#include "sim/clients.h"
#include "sim/event_queue.h"
#include "sim/memory.h"
#include "sim/mutants.h"
#include "sim/network.h"
#include "sim/oracle.h"
#include "sim/random.h"
#include "sim/trace.h"

namespace libft::sim {

class Host;
class Replica;

struct Counters {
  std::uint64_t seeds = 0, faults = 0, failovers = 0, switchovers = 0, solo_swaps = 0, unknowns = 0,
                reprotects = 0, resumes = 0, partial_epochs = 0, epochs = 0, logs = 0, rebases = 0,
                changes = 0, holds = 0, flips = 0, outvoted = 0, replaced = 0, majority_erred = 0,
                delayed = 0, shortened = 0, rests = 0, answered = 0, follows = 0, compared = 0,
                ended = 0, lost = 0, violations = 0;
  void add(const Counters& other);
};

struct Violation {
  std::string rule, text;
  Time at;
};

struct WorldOptions {
  std::uint64_t seed = 1;
  Mutant mutant = Mutant::none;
  bool texts = false;                                 // Keep the trace's texts.
  std::function<void(const std::string&)> live = {};  // And tell them at once.
};

class World {
 public:
  explicit World(WorldOptions options);
  ~World();

  // --- running ------------------------------------------------------------------------------
  void begin();              // A owns the guest and runs it; B dials.
  void run_until(Time end);  // Or the first violation.
  void stop_faults();        // Everything heals, everybody lives again.
  bool is_settled() const;   // The guest runs, is protected, and is heard of outside.
  bool run_to_progress(Nanos patience);
  bool is_over() const { return !violations.empty() || oracle.majority_erred(); }

  // --- the parts, for hosts, replicas and faults --------------------------------------------
  bool is(Mutant mutant) const { return options.mutant == mutant; }
  void report(const char* rule, const std::string& text);
  Random stream(std::uint64_t number) const { return Random(options.seed, number); }
  Incarnation new_incarnation(int host);
  Replica* owner();  // As the record has it, if it lives.
  Host& host(int index) { return *hosts[static_cast<std::size_t>(index)]; }

  WorldOptions options;
  EventQueue queue;
  Trace trace;
  Network network;
  SimArbiter arbiter;
  Oracle oracle;
  PageArena arena;
  InlineExecutor executor;
  GuestId guest;
  Random random;  // For everything that has no stream of its own.
  Random handshakes;
  Random flips;
  Random rebases;
  Random delays;
  Random votes;
  Random compares;
  Random holds;
  Talks talks;
  std::optional<Clients> clients;  // The guest has some.
  unsigned own_permille = 0;       // So often a host's chances get into what it says to them.
  bool exact = false;              // The guest can be executed again: every strategy is possible.
  Strategy strategy = Strategy::checkpoint;  // Of the first pair. (lockstep: a bit may be lost.)
  bool comparable = false;   // It can run on both hosts: the strategy may be compare.
  bool rewriting = false;    // The newest owner's gate rewrites connections.
  bool witnessed = false;    // Under lockstep, a witness may vote.
  bool late = false;         // Backups may execute late on purpose.
  bool cooperative = false;  // Whether the guest must be asked before it can be paused.
  bool calm = false;         // The second phase: nothing fails any more.
  std::array<std::unique_ptr<Host>, kHosts> hosts;
  core::PrimaryOptions primary_options;
  core::BackupOptions backup_options;
  std::uint32_t guest_pages = 16;
  unsigned send_permille = 200;
  Counters counters;
  std::vector<Violation> violations;

 private:
  std::uint64_t incarnations_ = 0;
  std::uint64_t packets_at_heal_ = 0;
};

// One seed from beginning to end.
struct Outcome {
  Counters counters;
  std::vector<Violation> violations;
  std::uint64_t trace_hash = 0;
  std::vector<std::string> trace;
};
Outcome run_seed(const WorldOptions& options);

}  // namespace libft::sim
