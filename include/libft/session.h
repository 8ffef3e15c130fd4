// SPDX-License-Identifier: LGPL-2.1-or-later
// A Session protects one guest: it wires a guest, a gate, an arbiter and connections to the
// checkpoint strategy, and lives through every role that a replica can have: backup, primary,
// alone, fenced. Start here. A session owns one thread (and its adapters theirs); every call below
// may come from any thread. Events are delivered by process(), on the caller's thread.
//
//   primary:  Session::protect(parts, options)   offer() it each connection that a backup makes
//   backup:   Session::stand_by(parts, options)  dials the primary; after a take-over it *is* one
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libft/arbiter.h"
#include "libft/clock.h"
#include "libft/compared_gate.h"
#include "libft/detector.h"
#include "libft/deterministic_guest.h"
#include "libft/executor.h"
#include "libft/fence.h"
#include "libft/guest.h"
#include "libft/input_tap.h"
#include "libft/log.h"
#include "libft/output_gate.h"
#include "libft/release_guard.h"
#include "libft/speculative_guest.h"
#include "libft/staging_arena.h"
#include "libft/transport.h"

namespace libft {

// How the backup is kept equal.
enum class Strategy {
  checkpoint,  // Any guest: what it changed is copied, epoch by epoch.
  replay,      // A DeterministicGuest: its inputs are logged, and the backup executes them.
  lockstep,    // The same, and output leaves only when both executions have produced it.
  // A DeterministicGuest: its inputs are logged, and now and then a checkpoint makes the older log
  // needless. The backup executes what is left when it takes over, and nothing before.
  hybrid,
  // A guest whose standby is a SpeculativeGuest: both hosts run it from the same checkpoint, and
  // what both say leaves at once. Where they differ, a checkpoint makes them one again.
  compare,
};
std::string_view to_string(Strategy strategy);
Result<Strategy> strategy_from(std::string_view name);

struct SessionOptions {
  Strategy strategy = Strategy::checkpoint;  // A backup learns its primary's, and keeps to it.
  // --- interval ---
  bool adaptive = true;         // False: a checkpoint every `interval`, whatever the guest does.
  Nanos interval = Millis{25};  // The shortest time between checkpoints while no output waits.
  Nanos floor = Millis{4};      // The shortest run between two pauses when output waits.
  Nanos idle = Millis{1000};    // The longest time between two checkpoints of an idle guest.
  // --- limits ---
  std::uint32_t inflight_max = 2;         // Epochs captured and not yet acknowledged.
  std::size_t staging_bytes = 64u << 20;  // Backed by memory from the start, a slot.
  // Delta reference: the whole guest, or a hot set of it. By default as much as the guest has, but
  // no more than half of what the host has available when the first backup comes: who runs out of
  // memory may lose the guest.
  std::uint64_t reference_bytes_max = ~0ull;
  std::uint32_t sync_rounds_max = 12;    // First synchronisation: then it joins regardless.
  std::uint64_t sync_pages_left = 2000;  // ... or as soon as a round leaves no more than this.
  // --- failover ---
  bool automatic_failover = true;  // False: only switch_over() and fail_over().
  // What a suspecting backup leaves to a primary that may live, as far as its detector did not.
  Nanos head_start = Millis{25};
  Nanos arbiter_timeout = Millis{2000};  // Then the answer counts as unknown, and is asked again.
  // --- replay, lockstep, hybrid ---
  Nanos follow_max =
      Millis{50};  // How far the backup's execution may lag before the guest is slowed.
  Nanos hash_interval = Millis{500};  // Between two comparisons of the whole state.
  // 0: what comes in takes effect at once, at a position that the primary decides and logs. Else at
  // the end of the epoch, and epochs are no longer than this, nor than 10 ms, as hypervisors must
  // do it that cannot count to any instruction (Bressoud and Schneider, SOSP 1995).
  Nanos input_epoch{0};
  // Not yet acknowledged, or (hybrid) since the backup's image; then protection is given up.
  std::size_t log_bytes_max = 64u << 20;
  // hybrid: between two checkpoints, if they arrive as fast. A take-over has about so much left to
  // execute; the guest stands still for each while its changed pages are copied.
  Nanos rebase_interval = Millis{1000};
  // On the backup: executions that came apart are executed again, to say where and by what. Takes
  // as much memory as the guest has, and five times as much while it is found out.
  bool locate_difference = true;
  // On the backup, replay only: it executes so much later than it could, while it acknowledges at
  // once. What was the case so long ago can be looked at here, and the disk gone back to; a take-over
  // first executes all that is left.
  Nanos follow_delay{0};
  // Of logs that wait for that; beyond, the oldest are executed before their time.
  std::size_t delay_bytes_max = 256u << 20;

  // --- compare ---
  // How long the backup's guest may take to say the same; then a checkpoint. Longer: latency where
  // hosts differ in speed, or are busy; shorter: more checkpoints. The second one: of frames that
  // only acknowledge, which guests delay and merge.
  Millis answer_max{20}, acknowledgement_max{200};
  // How long it may take until it runs from a checkpoint, while output waits; then there are plain
  // checkpoints for a while.
  Nanos reload_max = Millis{1000};
  // Between two checkpoints while both say the same. Longer: what changed meanwhile takes longer to
  // copy in the next one, and the guest stands still for it.
  Nanos compare_interval = std::chrono::seconds{10};

  bool redeliver_input = true;  // After a failover: what came in since the restored epoch.
  DetectorOptions detector;
  bool take_over_record = false;  // protect: the record names an earlier session of this host whose
                                  // guest this one re-attached to (`earlier`): win it by a swap.
  Incarnation earlier;
  // protect, stand_by: goes on in the place of a session that stands still, with these bytes of its
  // hold(). The replica (stand_by: what make_standby gives first) is the same live guest behind the
  // same held output, which makes this the same incarnation; see HeldSession::set_running. Empty:
  // begins anew.
  std::vector<std::byte> held;
};

// A libft with the same number understands what hold() of another one returned.
constexpr std::uint32_t kHeldFormat = 1;
// A peer bears no silence for longer.
constexpr Millis kHoldMax{10000};

// What a replica consists of on this host. The guest goes before its gate.
struct Replica {
  std::unique_ptr<OutputGate> gate;
  std::unique_ptr<Guest> guest;
  InputTap* input = nullptr;            // The gate once more, when it has that facet.
  DeterministicGuest* exact = nullptr;  // The guest once more, when it has that facet.
  SpeculativeGuest* ahead = nullptr;    // The same, of a standby.
  ComparedGate* compared = nullptr;     // The gate once more, when it has that facet.
};

struct SessionParts {
  GuestId guest;
  std::string host;  // This host's name, for incarnations and people.
  // Shared between sessions; they outlive all of them.
  Log& log;
  const Clock& clock;
  Executor& executor;  // Used by one session at a time; they take turns.
  StagingArena& arena;
  // The session's own.
  std::unique_ptr<Arbiter> arbiter;
  std::unique_ptr<Fence> fence;
  // Given to the gate too, so that a primary that stood still lets nothing out before it has asked.
  std::shared_ptr<ReleaseGuard> guard;

  // backup only: makes the warm, stopped replica for a guest of that description (its regions carry
  // sizes, no bytes). Called on a thread of the session's that may block.
  std::function<Result<Replica>(const GuestInfo& primary)> make_standby;
  // backup only: a connection to whoever may be the primary now, or why not. May block.
  // `another_way`: the way that the last connection took is silent while another one is not; begin
  // with that.
  std::function<Result<std::unique_ptr<Transport>>(bool another_way)> dial;
  // backup only: heartbeats to the primary of the last connection; the first path is the way that
  // this connection takes. `port` is the primary's.
  std::function<Result<std::unique_ptr<Detector>>(std::uint64_t token, std::uint16_t port)>
      dial_heartbeats;
  // backup of a guest that is executed here too: looks at the copy, which stands still at an epoch's
  // end, and says what is wrong with it. The primary's output up to there waits until it passed; if
  // it fails, the guest ends, and none of that output leaves. None: nobody looks. Called on the
  // follower's thread; may block.
  std::function<Status(const Guest& copy)> check{};
  // primary (now or later): heartbeats from a backup that will send this token.
  std::function<Result<std::unique_ptr<Detector>>(std::uint64_t token)> expect_heartbeats;
  std::uint16_t heartbeat_port = 0;  // What a primary tells its backup; 0: no heartbeats.
};

enum class Role {
  backup,   // Waits.
  primary,  // Owns and runs the guest.
  fenced,   // Another replica owns it; this one was stopped.
  ended,    // The guest ended on purpose.
  failed,   // This replica can do nothing more: `detail` says why. The guest, where it runs, runs.
};
std::string_view to_string(Role role);

// Milliseconds, over the newest few thousand epochs.
struct Percentiles {
  double p50 = 0, p99 = 0, max = 0;
};

// Of the strategy compare.
struct CompareStatus {
  // Primary: "comparing", "loading" (the backup is about to run the guest), "checkpoints: WHY".
  // Empty under another strategy.
  std::string state;
  std::uint64_t frames_compared = 0;       // Left because both said the same.
  std::uint64_t frames_by_checkpoint = 0;  // Waited for one.
  // Why checkpoints were needed: both said different things; the backup's guest did not say the
  // same in time; a frame cannot be compared; too much waited to be compared.
  std::uint64_t differences = 0, timeouts = 0, not_understood = 0, limits = 0;
  std::uint64_t runs = 0, runs_in_vain = 0;  // Of the backup's guest; in vain: shorter than loading.
  // Primary: from the capture until the backup's guest ran from it. Backup: the loading alone.
  Percentiles reload_ms;
};

struct SessionStatus {
  std::string guest, host, peer;  // peer: empty when there is none.
  Role role = Role::backup;
  std::string state;          // The machine's state: "protecting", "in_sync", ...
  bool is_protected = false;  // A primary with a backup that can take over now.
  std::string detail;         // The last thing worth telling.
  Incarnation self;
  Generation generation;
  std::uint64_t epoch_captured = 0, epoch_acknowledged = 0, epoch_released = 0;
  std::uint64_t epochs = 0;      // Checkpoints taken (primary) or applied (backup) here.
  std::uint32_t sync_round = 0;  // First synchronisation.
  std::uint64_t sync_pages_sent = 0, sync_pages_total = 0;
  std::string strategy;      // "checkpoint", "replay", "lockstep", "hybrid", "compare"
  double follow_lag_ms = 0;  // How far the backup's execution, or (hybrid) image, is behind.
  std::uint64_t bytes_sent = 0, bytes_received = 0;
  std::uint64_t pages_sent = 0, pages_zero = 0, pages_delta = 0, pages_raw = 0;
  Percentiles handshake_ms;  // Of a cooperative guest: from the wish to the pause.
  Percentiles pause_ms, capture_ms, seal_ms, resume_ms, replicate_ms, acknowledge_ms, release_ms;
  Percentiles stopped_ms;                // pause + capture + seal + resume
  Percentiles output_held_ms;            // From the seal of an epoch to its release.
  Percentiles dirty_pages, interval_ms;  // Pages; and time from one pause to the next.
  CompareStatus compare;
  double guest_clock_lag_ms = 0;
  std::string guest_description, tracker, accelerator, transport, arbiter;
  GateStatistics gate;
  // The last take-over by this replica, 0 when there was none. Milliseconds.
  double detect_ms = 0, arbitrate_ms = 0, takeover_ms = 0, load_ms = 0;
  std::uint64_t heartbeat_suspicions = 0, failovers = 0, reprotects = 0, corrupt_frames = 0;
  std::uint64_t reference_bytes = 0, staging_bytes = 0;  // Memory that the protection costs here.
};
std::string to_json(const SessionStatus& status);  // One line.

struct SessionEvent {
  Time at;
  std::string name;  // "protected", "unprotected", "suspected", "promoted", "fenced", "epoch", ...
  std::string text;  // For people.
  std::string json;  // "epoch": the epoch's record as JSON; else empty.
};

// What a session that stands still leaves to the one that takes its place.
struct HeldSession {
  std::vector<std::byte> bytes;  // For SessionOptions::held.
  // A primary's guest stands still for this alone: whoever attaches to it sets it running, behind a
  // gate that holds.
  bool set_running = false;
};

class Session {
 public:
  // Protects a running guest: creates (or, with take_over_record, wins) the arbiter's record, and
  // waits for a backup to be offered. On failure the guest runs on as before and `replica` is given
  // back to nobody: it is destroyed *without* destroying the guest's process.
  static Result<std::unique_ptr<Session>> protect(SessionParts parts, Replica replica,
                                                  SessionOptions options);

  // Becomes a backup: dials until somebody welcomes it.
  static Result<std::unique_ptr<Session>> stand_by(SessionParts parts, SessionOptions options);

  virtual ~Session() = default;  // Stops the session's threads. A guest that runs goes on.

  // A connection whose first frame was a Hello for this guest; `received` are the bytes read from
  // it so far, from the first on. A session that does not want it says why and closes it.
  virtual void offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received) = 0;

  virtual SessionStatus status() const = 0;

  // The owner's wishes. They return when the wish is accepted or refused; its end is an event and
  // shows in status().
  virtual Status switch_over() = 0;  // On the primary: planned, no output lost.
  virtual Status fail_over() = 0;    // On the backup: take over now; the arbiter still decides.
  virtual Status unprotect() = 0;    // On the primary: runs on alone, output open.

  // On the primary: goes over to another strategy between two epochs, protected all the while. Waits
  // until it is in effect. Its backup goes with it; without one, the next backup is protected so.
  virtual Result<std::string> change_strategy(Strategy to, Nanos patience) = 0;

  // Compares the hashes of all memory of both replicas at one acknowledged epoch. Primary. Waits.
  virtual Result<std::string> verify(Nanos patience) = 0;
  // Runs a copy of the newest epoch on this backup, unplugged, for a moment, then discards it;
  // protection goes on. Backup. Waits. The text tells how long each part took.
  virtual Result<std::string> test_failover(Nanos patience) = 0;

  // Stands still, for another process that takes this one's place, with a newer libft perhaps: no
  // failover, no copy of memory. The peer is told to bear the silence for `at_most`, up to kHoldMax;
  // a primary takes one more epoch, lets its output out, and leaves its guest paused. From the
  // return on this session does nothing at all, and may be replaced (execve), or destroyed where
  // guest, gate and the backup's memory outlive it; they are the caller's to hand over.
  // Refused, and all goes on as before: not in sync with a peer that knows holds; a strategy other
  // than checkpoint; a guest without tracking_stays. Waits, no longer than about `at_most`.
  virtual Result<HeldSession> hold(Nanos at_most) = 0;
  // Nobody takes its place: goes on. What hold() returned is void.
  virtual Status let_go() = 0;

  // The same wishes for a caller that must not wait: `done` is called once, on the session's
  // thread, and returns quickly; a session that ends first may leave it out.
  enum class Wish { switch_over, fail_over, unprotect, verify, test_failover };
  virtual void post(Wish wish, std::function<void(Result<std::string>)> done) = 0;
  virtual void post_change(Strategy to, std::function<void(Result<std::string>)> done) = 0;
  virtual void post_hold(Nanos at_most, std::function<void(Result<HeldSession>)> done) = 0;

  // Readable when process() has something to deliver. Level-triggered; valid while the session is.
  virtual int poll_fd() const = 0;
  // Delivers what has happened, oldest first. Never blocks.
  virtual void process(const std::function<void(const SessionEvent&)>& sink) = 0;
};

// Accepts connections for several sessions on one listener and offers each to the session of its
// guest; refuses, with a reason, those that nobody here wants. Owns a thread. Sessions are added
// and taken away at any time; take one away before destroying it.
class Switchboard {
 public:
  static std::unique_ptr<Switchboard> open(std::unique_ptr<Listener> listener, Log& log);
  virtual ~Switchboard() = default;
  virtual void add(const GuestId& guest, Session& session) = 0;
  virtual void remove(const GuestId& guest) = 0;
};

}  // namespace libft
