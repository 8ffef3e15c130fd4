// SPDX-License-Identifier: LGPL-2.1-or-later
// The BackupRunner does what the pure Backup decides: it decodes and applies epochs, acknowledges,
// asks the arbiter, and loads and runs the guest when it is promoted. Session's thread, except
// where the connector prepares the standby.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "core/backup.h"
#include "session/actions.h"
#include "session/connector.h"
#include "session/context.h"
#include "session/examine_thread.h"
#include "session/follow_thread.h"
#include "session/held.h"
#include "session/input_copies.h"
#include "session/memory_hash.h"
#include "session/reload_thread.h"
#include "session/trial.h"
#include "session/witness_link.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "strategy/replay/log_assembler.h"
#include "strategy/replay/log_delay.h"
#include "strategy/replay/log_shelf.h"
#include "strategy/replay/vote.h"

namespace libft::session {

// A backup that became the owner: what its PrimaryRunner begins with.
struct Promotion {
  OwnershipRecord record;
  Incarnation self;
  Epoch next;
  bool stay_paused = false;
};

core::BackupOptions core_options(const Context& context);

class BackupRunner {
 public:
  using Promoted = std::function<void(Promotion)>;

  // Dials at once. `promoted` is called when the arbiter granted the guest and its state is loaded:
  // the guest is then ready to run.
  static Result<std::unique_ptr<BackupRunner>> make(Context& context, Replica& replica,
                                                    Promoted promoted);
  // Goes on where another process stood still: what make_standby gives holds its image.
  static Result<std::unique_ptr<BackupRunner>> take_up(Context& context, Replica& replica,
                                                       Promoted promoted, Held held);
  ~BackupRunner();

  std::optional<Time> wake_at() const;
  void tick();
  Status fail_over();
  using TrialDone = std::function<void(Result<std::string>)>;
  void test_failover(TrialDone done);
  // A connection of somebody who would be a witness; anybody else's is refused.
  void offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received);
  // As in PrimaryRunner.
  using HoldDone = std::function<void(Result<HeldSession>)>;
  void hold(Nanos at_most, HoldDone done);
  void let_go();
  void leave() { left_ = true; }
  // A trial that this runner leaves behind: it may take seconds to end.
  std::unique_ptr<Trial> take_trial();

 private:
  BackupRunner(Context& context, Replica& replica, Promoted promoted, Incarnation self);

  void perform(core::Actions actions);
  void perform_one(const core::Action& action);
  void announce();
  void connect();
  Status prepare(const wire::Welcome& welcome);  // The connector's thread.
  void on_welcomed(const wire::Welcome& welcome, Generation generation,
                   const std::string& description);
  void on_frame(OwnedFrame frame);
  void handle_waiting();
  void handle(const OwnedFrame& frame);
  void on_bulk(const wire::Frame& frame);
  void on_message(const wire::Message& message, Generation generation);
  void on_corrupt(const Status& status);
  void on_log(const wire::Frame& frame);
  void apply(EpochId id);
  void begin_log(EpochId base);
  void become(Strategy strategy);
  std::unique_ptr<FollowThread> follower();
  Status load_image();
  void follow_shelf();
  void adopt();
  FollowThread::Sinks follow_sinks();
  void on_rebase(EpochId id);
  void apply_image();
  void keep_log(wire::LogEpoch log);
  bool is_late() const { return context_.options.follow_delay > Nanos{0}; }
  void keep_until_due(wire::LogEpoch log);
  void execute_due();
  void say_followed();
  Status execute_rest();
  Status execute_shelf();
  void on_followed(EpochId id);
  void acknowledge_executed();
  void stop_following();
  void on_apart(const Status& status);
  void tell_diverged(const Status& status);
  void come_apart(Status status);  // After the follower has failed.
  void on_check_failed(const Status& status);
  bool acknowledges_executed() const;
  Status can_follow(const wire::Welcome& welcome) const;
  std::unique_ptr<replay::Landmark> set_landmark();
  void examine(std::unique_ptr<replay::Landmark> landmark);
  // Of a guest that runs here, too:
  Status begin_speculation();
  Status begin_to_shadow();
  void apply_shadowed(const checkpoint::CompleteEpoch& epoch);
  void prepare_image_to_probe();
  void apply_to_image(const checkpoint::CompleteEpoch& epoch);
  void on_reloaded(const ReloadThread::Order& order, const Status& status, Nanos took);
  void send_said();
  void on_frames_in(const wire::Frame& frame);
  void end_shadowing();
  Status load_newest();
  void take_over_shadowed();
  // With a witness:
  Status can_have_witness(const wire::Hello& hello) const;
  void welcome_witness(std::unique_ptr<Transport> connection, std::vector<std::byte> received,
                       const wire::Hello& hello);
  WitnessLink::Sinks witness_sinks();
  void on_came_to(EpochId id, const replay::Ballot& primary, const replay::Ballot& backup);
  void on_witness(const wire::Message& message);
  void settle(EpochId id, replay::Verdict verdict);
  void on_witness_agrees(EpochId id);
  void outvote_witness(EpochId id);
  bool asks_witness(const Status& apart);
  void decide();
  void outvote_primary();
  void outvote_self();
  void on_witness_image(EpochId id);
  Status load_witness_image(EpochId id);
  void watch_witness();
  void drop_witness(const std::string& why);
  void forget_doubt();
  void tell_outvoted(const std::string& who, EpochId id);
  bool in_doubt() const { return doubt_.has_value(); }
  void check();
  void on_trial_wants();
  void on_trial_over();
  void on_trial_done(const Status& status);
  void give_up_trial(const std::string& why);
  Status can_hold() const;
  void on_hold(const wire::Hold& hold);
  void bear_silence(Nanos at_most);
  void go_on_with_hold();
  void end_hold(Result<HeldSession> outcome);
  HeldSession held() const;
  void answer_probe(const std::vector<std::byte>& state);
  void on_lost(const Status& status);
  void on_not_welcome(const Status& status);
  void keep_waiting_inputs();
  void keep_input(const wire::Frame& frame);
  void clear_waiting();
  void on_guest_event(const GuestEvent& event);
  void on_detector(const DetectorEvent& event);
  void start_over(const std::string& why);
  void stand_down(const std::string& why);
  void promote(const core::Promote& order);
  void deliver_input();
  void send(const wire::Message& message, Generation generation);
  void publish();

  Context& context_;
  Replica& replica_;
  Promoted promoted_;
  core::Backup core_;
  Posting posting_;      // What the connector posts, as long as the runner lives.
  Posting own_posting_;  // One incarnation's answers and heartbeats.
  std::unique_ptr<checkpoint::EpochAssembler> assembler_;
  std::unique_ptr<Detector> detector_;
  std::deque<OwnedFrame> waiting_;  // Bounded by the connector's credit.
  InputMemory inputs_;
  checkpoint::CompleteEpoch complete_;  // About to be applied, if it is no log.
  // Of a guest that runs here, too:
  struct Shadow {
    compare::Follower follower;
    std::optional<checkpoint::CompleteEpoch> waits{};  // Acknowledged, and not applied.
    ReloadThread reload;                               // Last: its thread uses the follower.
    Shadow(const Replica& replica, const Context& context, std::function<void()> says,
           ReloadThread::Done reloaded)
        : follower(*replica.ahead, *replica.compared, *replica.input, context.parts.guest,
                   std::move(says)),
          reload(follower, context.parts.clock, std::move(reloaded)) {}
  };
  std::unique_ptr<Shadow> shadow_;
  bool speculates_ =
      false;  // The standby can run beside its image; the connector's thread says so.
  std::atomic<bool> can_compare_{true};
  // Of a guest whose epochs are logs:
  Strategy strategy_ = Strategy::checkpoint;
  replay::LogAssembler logs_;
  std::optional<wire::LogEpoch> log_;     // Whole, and about to be applied.
  std::unique_ptr<FollowThread> follow_;  // replay, lockstep
  // hybrid. Beside a follower: what it has not yet come to is not for it.
  std::optional<replay::LogShelf> shelf_;
  EpochId followed_;  // The newest epoch that was executed here.
  // A follower that is late on purpose: what it has not yet come to.
  std::optional<replay::LogDelay> delay_;
  bool shortened_ = false;  // It was said that not all found room.
  std::unique_ptr<ExamineThread> examining_;
  struct Executing {  // lockstep: here, and not acknowledged before it was executed.
    EpochId id;
    bool guest_ended = false, guest_paused = false, done = false;
  };
  std::deque<Executing> executing_;
  std::optional<EpochId> executed_;  // About to be applied, which it is already.
  struct Voting {
    std::unique_ptr<WitnessLink> link;
    replay::Poll poll;
    Time since;
    EpochId first;          // Of the image that the witness was given.
    bool votes = false;     // It has confirmed that image,
    bool keeps_up = false;  // and done what was executed here meanwhile.
  };
  std::optional<Voting> voting_;
  Posting voting_posting_;
  std::unique_ptr<WitnessLink> dropped_;  // Until its witness has read why.
  struct Doubt {  // This replica came to something else than the primary, and a vote decides.
    Status apart;
    Time since;
    bool replacing = false;  // It was outvoted; the witness's image is on its way.
    std::optional<DetectorEvent> suspected{};  // The primary, meanwhile.
  };
  std::optional<Doubt> doubt_;
  struct Decided {
    EpochId id;
    replay::Verdict verdict;
  };
  std::optional<Decided> decided_;
  bool outvoted_primary_ = false;
  struct Checking {
    wire::Verify question;
    MemoryHash memory;
    Generation generation;
  };
  std::optional<Checking> checking_;
  struct Trying {
    TrialDone done;
    Time begun;
    EpochId id;
    bool holds = false;  // Epochs wait.
  };
  std::optional<Trying> trying_;
  std::unique_ptr<Trial> trial_;
  struct Holding {
    HoldDone done;
    Time until;
  };
  std::optional<Holding> holding_;
  std::uint64_t features_ = 0;  // Of the present connection.
  bool stands_ = false;         // Somebody may go on from the image as it is.
  bool left_ = false;
  ActionQueue actions_;
  bool handling_ = false, connected_ = false;
  Time suspected_at_, claimed_at_;
  std::optional<Time> heard_last_;  // The primary, before the present silence.
  std::string last_trouble_;
  std::unique_ptr<Connector> connector_;  // Last: its thread uses the rest.
};

Result<Incarnation> new_incarnation(const std::string& host);

}  // namespace libft::session
