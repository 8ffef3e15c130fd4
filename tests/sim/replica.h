// SPDX-License-Identifier: LGPL-2.1-or-later
// A Replica is one process: the pure machines of src/core, the real checkpointer, encoder,
// assembler and frame codec, a SimGuest and a SimGate, and the runner that does what the machines
// ask, by the rules that the production session follows too: actions in order, one question to the
// arbiter at a time, the guest resumed before anything is sent.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/backup.h"
#include "core/primary.h"
#include "libft/detector.h"
#include "libft/session.h"
#include "session/comparison.h"
#include "sim/gate.h"
#include "sim/guest.h"
#include "sim/network.h"
#include "strategy/checkpoint/checkpointer.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "strategy/checkpoint/epoch_encoder.h"
#include "strategy/compare/follower.h"
#include "strategy/replay/follower.h"
#include "strategy/replay/log_assembler.h"
#include "strategy/replay/log_delay.h"
#include "strategy/replay/log_shelf.h"
#include "strategy/replay/recorder.h"
#include "strategy/replay/vote.h"
#include "wire/frame.h"

namespace libft::sim {

class Host;
class World;

std::uint64_t features_of(Strategy strategy);
Strategy strategy_of(std::uint64_t features);

class Replica {
 public:
  Replica(World& world, Host& host, const Incarnation& self);
  ~Replica();

  const Incarnation& self() const { return self_; }
  core::Primary* primary() { return primary_ ? &*primary_ : nullptr; }
  core::Backup* backup() { return backup_ ? &*backup_ : nullptr; }
  SimGuest& guest() { return *guest_; }
  bool runs_guest() const { return primary_.has_value() && guest_->runs(); }

  void begin_as_owner(const OwnershipRecord& record);
  void begin_as_backup();
  void die();                                  // Nothing more of it happens.
  void stood_still(Nanos length, bool shown);  // After a stall, before anything else.
  void go_on();                                // Does what is still to be done; sets the timers.

  // --- events, on the session's thread ------------------------------------------------------
  void on_connection(ConnectionId connection, int peer, bool dialed);
  void on_bytes(ConnectionId connection, std::span<const std::byte> bytes);
  void on_closed(ConnectionId connection);
  void on_detector(const DetectorEvent& event, const Incarnation& about);

  // --- the world's ----------------------------------------------------------------------------
  void run_guest();  // A while of guest execution.
  void owner_ends_guest();
  void owner_pauses_guest(Nanos length);
  void owner_resumes_guest();
  void guest_process_dies();
  void on_client(const FrameBytes& frame);  // Past the session.
  void owner_switches_over();
  void owner_changes_strategy(Strategy to);
  void owner_unprotects();
  void owner_fails_over();
  void owner_holds();  // Another process is to go on.

 private:
  struct ToDo {
    core::Action action;
    bool begun = false;  // Its batch had begun before the replica stood still.
  };
  struct Flight {
    EpochId id;
    PageSet pages;
  };

  struct Holding {
    std::uint64_t number = 0;
    bool agreed = false;
    std::optional<core::Backup::Image> image{};
    std::vector<std::byte> state{};
  };
  struct Left {  // By a process for the next.
    OwnershipRecord record{};
    EpochId newest{};
    std::optional<core::Backup::Image> image{};
    std::vector<std::byte> state{};
  };

  // Both roles.
  void make_guest();
  void left(const Output& output, const FrameBytes& frame, Leave how, EpochId id);
  bool can_hold() const;
  void let_go();
  void on_hold(const wire::Hold& hold);
  void leave_to_another();
  void end_process();
  void take_up_primary(const Left& left);
  void take_up_backup(const Left& left);
  Time now() const;
  void add(core::Actions actions);
  void perform(const core::Action& action, bool begun);
  void schedule_wake();
  void send(const wire::Message& message, Generation generation);
  void ask_swap(const OwnershipRecord& from, const OwnershipRecord& to);
  void ask_read();
  void answered(bool definite, const OwnershipRecord& record, std::uint64_t asked_at_stall);
  void drop_connection();
  void connection_lost(const std::string& why);
  void read_frames();
  bool handle(const wire::Frame& frame);  // False: stop reading.
  void damaged(const Status& why);
  void note_states();

  // The primary's.
  void become_primary(const OwnershipRecord& record, Epoch next);
  void on_hello(ConnectionId connection, int peer, const wire::Hello& hello);
  void make_checkpointer();
  void begin_sync();
  void sync_chunk(std::uint64_t serial);
  void end_of_round(std::uint64_t serial);
  void begin_checkpoint(const core::TakeCheckpoint& order);
  void take_checkpoint(const core::TakeCheckpoint& order);
  void captured(checkpoint::CapturedEpoch* epoch);
  void replicate(checkpoint::CapturedEpoch& epoch);
  void carry_what_lacks(const EpochId& newest_complete);
  void cut_log(const core::TakeCheckpoint& order);
  void send_log(wire::LogEpoch log);
  checkpoint::CapturedEpoch* capture_image(const core::TakeCheckpoint& order);
  void send_image(checkpoint::CapturedEpoch* image);
  void send_image_frame(ConnectionId connection);
  void on_rebased(EpochId image);
  bool change_first(const core::TakeCheckpoint& order);
  bool logging() const;
  bool drained() const;
  void forget_written();
  void take_step(const core::TakeCheckpoint& order);
  void trouble_a_change();
  void go_on_with_change();
  bool goes_on_with_logs(const EpochId& newest_complete);
  void send_lacking_logs(const EpochId& newest_complete);
  void on_message_of_backup(const wire::Message& message);
  void release(EpochId through, bool begun);
  void open_gate();
  Status to_network(std::span<const std::span<const std::byte>> pieces);

  // When the backup runs the guest, too:
  void begin_comparison();
  bool may_run_from(const core::TakeCheckpoint& order) const;
  void keep_rhythm();
  void rest_comparison();
  void watch_comparison();
  void send_copies();
  void on_checkpoint_wanted();
  void on_frames_out(const wire::Frame& frame);
  void left_compared(const Said& said);
  std::uint64_t features() const;

  // The backup's.
  void begin_to_shadow();
  void apply_shadowed(const checkpoint::CompleteEpoch& epoch);
  void apply_to_image(const checkpoint::CompleteEpoch& epoch);
  void reloaded(EpochId id, bool run, std::span<const std::byte> state);
  void send_said();
  void end_shadowing();
  void run_follower();
  bool load_shadowed();
  void take_over_shadowed(EpochId newest);
  void dial();
  void send_hello();
  void on_message_of_primary(const wire::Message& message, const wire::FrameHeader& header);
  void on_bulk(const wire::Frame& frame);
  void on_complete(const checkpoint::CompleteEpoch& complete);
  void apply(EpochId id);
  void on_log(const wire::Frame& frame);
  void begin_to_follow(EpochId base);
  void on_image(EpochId id);
  void become(Strategy strategy);
  void adopt();
  void cut_shelf(EpochId id);
  void take_from_shelf();
  void follow_later();
  bool follow_one();
  void acknowledge_executed();
  // With a witness:
  bool in_doubt() const { return doubt_.has_value(); }
  bool has_witness() const { return witness_ != nullptr; }
  bool primary_may_lose_bit() const;
  void forget_votes();
  void drop_witness();
  void join_witness();
  void give_witness(const wire::LogEpoch& log);
  void witness_later();
  void witness_votes();
  void vote_here(const wire::LogEpoch& log);
  void settle(replay::Verdict verdict);
  bool asks_witness(EpochId id);
  void decide();
  void outvote_primary();
  void outvote_self();
  void be_replaced();
  bool heard_in_doubt(bool suspected, bool alive);
  void lose_life();
  void spoil(wire::LogEpoch& log);
  void choose_delay();
  void begin_delay();
  bool follower_full() const;
  bool has_room() const;
  void cannot_be_late();
  void keep_until_due(wire::LogEpoch log);
  void execute_due();
  void execute_next(wire::LogEpoch log);
  void take_delayed();
  void start_over();
  void promote(const core::Promote& order);

  World& world_;
  Host& host_;
  Incarnation self_;
  std::unique_ptr<SimGuest> guest_;
  std::unique_ptr<SimGate> gate_;
  std::optional<core::Primary> primary_;
  std::optional<core::Backup> backup_, backup_before_swap_;
  bool dead_ = false;

  std::deque<ToDo> todo_;
  std::optional<Time> wake_;  // The timer that is set, on this host's clock.
  bool doing_ = false;
  std::uint64_t question_ = 0;     // Answers to others are for an incarnation given up.
  std::uint64_t stalls_ = 0;       // How often it stood still for too long, and saw it;
  std::uint64_t asked_after_ = 0;  // of these, how many it has asked the arbiter after.
  bool attempt_counted_ = false;
  std::string state_told_;

  std::optional<ConnectionId> connection_;
  int peer_ = -1;
  std::unique_ptr<wire::FrameReader> reader_;
  std::map<ConnectionId, std::pair<int, std::unique_ptr<wire::FrameReader>>> strangers_;

  std::unique_ptr<checkpoint::Checkpointer> checkpointer_;
  std::unique_ptr<checkpoint::EpochEncoder> encoder_;
  std::deque<Flight> flight_;  // Captured, not known to have arrived.
  std::optional<Incarnation> peer_incarnation_;
  Time guest_ran_since_;
  std::uint64_t sync_ = 0;          // Of which synchronisation a chunk is part.
  std::vector<PageNo> sync_pages_;  // Of the round, still to be sent.
  unsigned sync_round_ = 0;
  std::uint64_t gate_turns_ = 0;  // How often the gate was opened, or its output discarded.
  bool probing_ = false, capturing_ = false;
  bool was_unprotected_ = false, switching_ = false;

  std::unique_ptr<checkpoint::EpochAssembler> assembler_;
  // Replay: the primary's half, and the backup's.
  std::unique_ptr<replay::Recorder> recorder_;
  std::optional<EpochId> spliced_onto_;  // Mutant.
  replay::LogAssembler logs_;
  std::optional<wire::LogEpoch> log_;  // Whole, and about to be applied.
  std::unique_ptr<replay::Follower> follower_;
  std::deque<wire::LogEpoch> to_follow_;
  bool following_later_ = false;
  struct Executing {  // lockstep: here, and not acknowledged before it was executed.
    EpochId id;
    bool guest_ended = false, guest_paused = false, done = false;
  };
  std::deque<Executing> executing_;
  struct Witness {
    Witness(World& world, const SimGuest& of);
    SimGuest guest, before;  // Mutant: as it was before the newest log.
    std::optional<replay::Follower> follower;
    std::deque<wire::LogEpoch> logs;
    replay::Poll poll;
    bool executes = false;  // It will look for its next log.
    // On the epoch in which this replica and the primary differ.
    std::optional<replay::Verdict> decided;
  };
  std::unique_ptr<Witness> witness_;
  struct Doubt {  // It came to something else than the primary, and a vote decides.
    EpochId id;
    std::uint64_t number = 0;
    bool replacing = false, suspected = false;
  };
  std::optional<Doubt> doubt_;
  std::uint64_t doubts_ = 0;
  bool outvoted_primary_ = false;
  // A follower that is late on purpose: as it was started, and what it has not yet come to.
  struct Late {
    Nanos delay;
    std::size_t bytes_max;
  };
  std::optional<Late> late_;
  std::optional<replay::LogDelay> delay_;
  // hybrid: the primary's image on its way, and what the backup keeps since its image.
  struct Rebase {
    EpochId id;
    PageSet pages;
    bool lost = false, adopted = false;
  };
  std::optional<Rebase> rebase_;
  Time rebase_at_;
  std::deque<std::vector<std::byte>> image_frames_;
  std::optional<replay::LogShelf> shelf_;
  // Changes of strategy.
  Strategy strategy_;
  struct Changing {
    Strategy to;
    bool cut_next = false, rebased = false;
    std::optional<core::TakeCheckpoint> waits;
  };
  std::optional<Changing> change_;
  Epoch log_begun_at_;
  std::optional<std::pair<Epoch, EpochId>> image_before_;  // From that epoch on, on that image.
  std::vector<std::byte> old_state_;                       // Mutants.
  bool flipped_ = false;                                   // Its guest's memory lost a bit.
  int next_to_dial_ = 0;
  bool dialing_ = false;
  ConnectionId dialed_ = 0;
  bool welcomed_ = false;
  std::optional<checkpoint::CompleteEpoch> unapplied_;
  bool owner_resumed_ = true;
  // Compare: the primary's half, and the backup's.
  static constexpr Nanos kCompareInterval = Millis{500};
  bool rewrites_ = false;  // A follower was promoted here, and the gate rewrites for it.
  std::unique_ptr<session::Comparison> comparison_;
  EpochId checkpoint_;  // The newest that was ordered.
  struct Shadow {
    compare::Follower follower;
    bool loading = false;  // Another one is made to run, or the one that ran is ended.
    std::optional<checkpoint::CompleteEpoch> waits{};  // For that.
    Shadow(SimGuest& guest, SimGate& gate, const GuestId& id, std::function<void()> says)
        : follower(guest, gate, gate, id, std::move(says)) {}
  };
  std::unique_ptr<Shadow> shadow_;
  std::optional<Holding> hold_;
  std::uint64_t holds_ = 0;
};

}  // namespace libft::sim
