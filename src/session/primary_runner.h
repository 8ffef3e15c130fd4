// SPDX-License-Identifier: LGPL-2.1-or-later
// The PrimaryRunner does what the pure Primary decides: it runs checkpoints, moves epochs to the
// connection's sender, asks the arbiter and opens or discards the gate's output. Everything runs on
// the session's thread except encoding and sending.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "core/primary.h"
#include "session/actions.h"
#include "session/comparison.h"
#include "session/connection.h"
#include "session/context.h"
#include "session/held.h"
#include "session/input_copies.h"
#include "session/memory_hash.h"
#include "session/sync.h"
#include "strategy/checkpoint/checkpointer.h"
#include "strategy/checkpoint/epoch_encoder.h"
#include "strategy/replay/recorder.h"

namespace libft::session {

core::PrimaryOptions core_options(const SessionOptions& options, const GateLimits& gate);

class PrimaryRunner {
 public:
  // `record` is definite and names `self`. The gate is opened; the guest runs, or is about to.
  static Result<std::unique_ptr<PrimaryRunner>> make(Context& context, Replica& replica,
                                                     Incarnation self, OwnershipRecord record,
                                                     Epoch next);
  // Goes on where another process stood still: nothing is opened before the record was read.
  static Result<std::unique_ptr<PrimaryRunner>> take_up(Context& context, Replica& replica,
                                                        const Held& held);
  ~PrimaryRunner();

  void offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received);
  Time wake_at() const;
  void tick();
  Status switch_over();
  Status unprotect();
  using VerifyDone = std::function<void(Result<std::string>)>;
  void verify(VerifyDone done);
  // `done` when it is in effect, or will not be.
  using ChangeDone = std::function<void(Result<std::string>)>;
  void change_strategy(Strategy to, ChangeDone done);
  // Whoever is handed the bytes has no more to do with this runner before let_go(); leave() is for
  // one whose replica goes on without it.
  using HoldDone = std::function<void(Result<HeldSession>)>;
  void hold(Nanos at_most, HoldDone done);
  void let_go();
  void leave() { left_ = true; }
  const core::Primary& core() const { return core_; }

 private:
  // An epoch that was captured and is not yet acknowledged and released.
  struct Pending {
    EpochRecord record;
    PageSet pages;
    Time sealed_at, sent_at;
    bool sent = false;
    bool log = false;
  };
  struct Sync {
    SyncRounds rounds;
    PageSet written;
    bool probed = false;
  };
  struct Cut {
    std::shared_ptr<const wire::LogEpoch> log;
    checkpoint::CapturedEpoch* image = nullptr;  // hybrid, now and then: of the same moment.
  };
  struct Verification {
    VerifyDone done;
    EpochId id;
    PageSet left_out;
    std::optional<MemoryHash> memory;  // Of the guest as it was captured.
  };

  struct Holding {
    HoldDone done;
    Time until;
    bool agreed = false;  // The backup answered.
    bool stands = false;  // The guest, after an epoch that is released.
  };

  PrimaryRunner(Context& context, Replica& replica, core::Primary core);
  Status prepare();
  Status open_gate();
  Status can_hold() const;
  void on_hold(const wire::Hold& hold);
  void go_on_with_hold();
  void end_hold(Result<HeldSession> outcome);
  HeldSession held() const;
  Status prepare_to_replicate();
  std::uint64_t reference_bytes_max() const;

  void perform(core::Actions actions);
  void perform_one(const core::Action& action);
  using Still = std::function<void(const Status&, Nanos handshake)>;
  void when_still(Still then);
  void let_run();
  void let_run_again();
  void begin_checkpoint(const core::TakeCheckpoint& order);
  void checkpoint(const core::TakeCheckpoint& order, Nanos handshake);
  Status begin_log(EpochId base);
  void cut_log(const core::TakeCheckpoint& order);
  Status seal_and_cut(const core::TakeCheckpoint& order, Cut& cut);
  Result<std::shared_ptr<const wire::LogEpoch>> cut_recorder(const core::TakeCheckpoint& order,
                                                             WithHash hash);
  bool logging() const { return following_ && following_->recorder.begun(); }
  bool hybrid() const { return context_.options.strategy == Strategy::hybrid; }
  bool rebase_due(const core::TakeCheckpoint& order) const;
  bool change_first(const core::TakeCheckpoint& order);
  void forget_written();
  void take_step(const core::TakeCheckpoint& order);
  void adopt_strategy(Strategy to);
  bool drained() const;
  void go_on_with_change();
  void end_change(Result<std::string> outcome);
  Status capture_and_cut(const core::TakeCheckpoint& order, Cut& cut);
  void send_rebase(checkpoint::CapturedEpoch* image);
  void on_rebased(EpochId image);
  void count_sent(const checkpoint::EncodeStatistics& encoded);
  void forward_input(Epoch epoch);
  void send_log(std::shared_ptr<const wire::LogEpoch> log);
  void on_log_sent(EpochId id, std::size_t bytes, Nanos took);
  void on_followed(const wire::Followed& followed);
  void keep_pace();
  void watch_log();
  void end_log();
  // When the backup runs the guest, too:
  Status can_compare() const;
  Strategy strategy_with(std::uint64_t peer_features) const;
  void tell_not_compared();
  void begin_comparison();
  bool may_run_from(const core::TakeCheckpoint& order) const;
  void keep_rhythm();
  void rest_comparison();
  void watch_comparison();
  void send_copies();
  void on_output_waiting();
  void on_checkpoint_wanted();
  void note_reload(const std::optional<Nanos>& took);
  void capture_for_verify(const checkpoint::CapturedEpoch& epoch, bool stay_paused);
  void ask_to_verify();
  void end_verification(Result<std::string> outcome);
  void send_epoch(checkpoint::CapturedEpoch* epoch);
  void on_sent(EpochId id, checkpoint::CapturedEpoch* epoch,
               const Result<checkpoint::EncodeStatistics>& encoded, Nanos took);
  void release(const core::ReleaseOutput& order);
  void finish_released(EpochId through, Nanos took);
  void disconnect();
  void drop_peer(const std::string& why);
  void forget_peer();
  void stop_guest(const std::string& why);

  void welcome(std::unique_ptr<Transport> transport, std::vector<std::byte> rest,
               const wire::Hello& hello, bool resume);
  void refuse(Transport& transport, Code code, const std::string& why);
  void continue_from(EpochId newest);
  void start_detector(std::uint64_t token);
  void on_detector(const DetectorEvent& event);
  void begin_sync();
  void sync_round(const PageSet& pages);
  void on_round_done();
  void probe();
  void send_probe();
  void on_probe_answer(const wire::ProbeAnswer& answer);
  void on_message(const wire::Message& message);
  void on_verify(const wire::Verify& answer);
  void on_guest_event(const GuestEvent& event);
  void send_inputs();
  void publish();
  void fail_sync(const Status& status);

  Context& context_;
  Replica& replica_;
  core::Primary core_;
  Posting posting_;           // Outlives no connection: forgotten with each.
  Posting own_posting_;       // Lives as long as the runner.
  Posting detector_posting_;  // One detector's: it outlives a connection that is lost.
  std::unique_ptr<checkpoint::Checkpointer> checkpointer_;
  std::unique_ptr<checkpoint::EpochEncoder> encoder_;
  std::unique_ptr<Connection> connection_;  // Uses encoder_: goes first.
  std::unique_ptr<InputForwarder> inputs_;
  std::unique_ptr<Comparison> comparison_;  // Of the present backup, when it can run the guest.
  std::atomic<Comparison*> listening_{};    // The same, for the connection, which goes first.
  // Of a guest that is replayed, while it has a backup.
  struct Following {
    replay::Recorder recorder;
    struct Ahead {
      EpochId id;
      Time cut_at;
      std::size_t bytes;
    };
    std::deque<Ahead> ahead;  // Not yet executed by the backup; hybrid: not yet in its image.
    struct Rebase {           // hybrid: captured, and not known to be the backup's image.
      EpochId id;
      PageSet pages;
      bool lost = false;     // Its connection broke.
      bool adopted = false;  // Not sent: the backup's own memory, once it is that far.
    };
    std::optional<Rebase> rebase;
    Epoch begun_at;
    Time hashed_at, rebased_at;
    unsigned pace = 100;
    Following(DeterministicGuest& guest, const SessionOptions& options)
        : recorder(guest, options.input_epoch > Nanos{0} ? InputAt::marks : InputAt::any_position) {
    }
  };
  std::unique_ptr<Following> following_;
  std::unique_ptr<Detector> detector_;
  std::deque<Pending> pending_;
  std::optional<Sync> sync_;
  std::optional<Verification> verification_;
  struct Changing {
    Strategy to;
    ChangeDone done;
    Time asked_at;
    bool cut_next = false;  // The cut that follows is the last under the old strategy.
    std::optional<core::TakeCheckpoint> waits;  // For what is in flight.
  };
  std::optional<Changing> change_;
  std::optional<Holding> holding_;
  struct ImageBefore {  // The checkpoint of that epoch builds on an image older than the log.
    Epoch first;
    EpochId image;
  };
  std::optional<ImageBefore> image_before_;
  std::uint64_t peer_features_ = 0;
  ActionQueue actions_;
  std::uint64_t gate_turns_ = 0;  // How often the gate was opened, or its output discarded.
  bool tracking_ = false;
  bool owner_paused_ = false;
  bool heard_ = false;  // The present detector has heard the backup.
  bool was_protected_ = false;
  bool left_ = false;
  Time paused_before_;
};

}  // namespace libft::session
