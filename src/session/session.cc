// SPDX-License-Identifier: LGPL-2.1-or-later
// The session's thread: it runs what others posted, ticks the machine of its present role, and
// turns a promoted backup into a primary.
#include "libft/session.h"

#include <fmt/format.h>

#include <atomic>
#include <deque>
#include <future>

#include "libft/witness.h"
#include "os/event_fd.h"
#include "os/thread.h"
#include "session/backup_runner.h"
#include "session/primary_runner.h"
#include "session/witness_runner.h"
#include "wire/frame.h"

namespace libft {
namespace {

using session::BackupRunner;
using session::Held;
using session::Mailbox;
using session::PrimaryRunner;
using session::Promotion;
using session::Trial;
using session::WitnessRunner;
using session::Work;

constexpr Nanos kProgressEvery = Millis{40};  // The detector's peer wants to see progress.
constexpr std::size_t kEventsMax = 16384;     // Undelivered; the oldest go first.

class SessionImpl final : public Session {
 public:
  using Done = std::function<void(Result<std::string>)>;

  SessionImpl(SessionParts parts, SessionOptions options, os::EventFd events)
      : arbiter_(std::move(parts.arbiter), {.deadline = options.arbiter_timeout}),
        events_fd_(std::move(events)),
        context_{std::move(parts),
                 std::move(options),
                 mailbox_,
                 statistics_,
                 arbiter_,
                 replica_mutex_,
                 false,
                 [this](LogLevel level, std::string name, std::string text, std::string json) {
                   tell(level, std::move(name), std::move(text), std::move(json));
                 }} {
    statistics_.update([&](SessionStatus& s) {
      s.guest = context_.parts.guest.name();
      s.host = context_.parts.host;
      s.arbiter = arbiter_.description();
    });
  }

  ~SessionImpl() override {
    {
      const std::scoped_lock lock(hold_mutex_);
      leaving_ = true;
    }
    hold_over_.notify_all();
    mailbox_.post([this] { stopping_ = true; });
    if (thread_.joinable()) thread_.join();
    mailbox_.close();
  }

  Status begin_primary(Replica replica) {
    replica_ = std::move(replica);
    if (!context_.options.held.empty()) return take_up_primary();
    FT_ASSIGN(auto self, session::new_incarnation(context_.parts.host));
    FT_ASSIGN(auto record, claim_first(self));
    describe_guest();
    FT_TRY(become_primary({std::move(record), std::move(self), Epoch{1}, false}));
    run_thread();
    return {};
  }

  Status begin_backup() {
    const auto on_promoted = [this](Promotion p) { promoted(std::move(p)); };
    if (context_.options.held.empty()) {
      FT_ASSIGN(backup_, BackupRunner::make(context_, replica_, on_promoted));
    } else {
      FT_ASSIGN(Held held, held_as(Held::Role::backup));
      FT_ASSIGN(backup_, BackupRunner::take_up(context_, replica_, on_promoted, std::move(held)));
    }
    run_thread();
    return {};
  }

  Status begin_witness() {
    FT_ASSIGN(witness_, WitnessRunner::make(context_, replica_));
    run_thread();
    return {};
  }

  void offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received) override {
    auto shared = std::make_shared<std::unique_ptr<Transport>>(std::move(connection));
    mailbox_.post([this, shared, received = std::move(received)]() mutable {
      if (primary_) return primary_->offer(std::move(*shared), std::move(received));
      if (backup_) return backup_->offer(std::move(*shared), std::move(received));
      const auto no = wire::encode(wire::Refuse{Code::refused, "this host is a witness"},
                                   context_.parts.guest, {});
      const std::span<const std::byte> piece(no);
      (void)(*shared)->send({&piece, 1});  // Then it is closed, and dials its next peer.
    });
  }

  SessionStatus status() const override {
    auto status = statistics_.snapshot();
    const std::scoped_lock lock(replica_mutex_);
    if (replica_.gate) status.gate = replica_.gate->statistics();
    return status;
  }

  Status switch_over() override { return ask(Wish::switch_over); }
  Status fail_over() override { return ask(Wish::fail_over); }
  Status unprotect() override { return ask(Wish::unprotect); }
  Result<std::string> verify(Nanos patience) override { return wait_for(Wish::verify, patience); }
  Result<std::string> test_failover(Nanos patience) override {
    return wait_for(Wish::test_failover, patience);
  }

  Result<std::string> change_strategy(Strategy to, Nanos patience) override {
    return wait_while(patience, [&](Done done) { post_change(to, std::move(done)); });
  }

  void post_hold(Nanos at_most, std::function<void(Result<HeldSession>)> done) override {
    if (at_most < Millis{1} || at_most > kHoldMax)
      return done(failure(Code::invalid,
                          fmt::format("hold: it may last from 1 to {} ms", kHoldMax.count())));
    mailbox_.post([this, at_most, done = std::move(done)] {
      const auto stand_still = [this, done](Result<HeldSession> outcome) {
        if (outcome) {
          const std::scoped_lock lock(hold_mutex_);
          held_ = true;
        }
        done(std::move(outcome));
      };
      if (primary_) return primary_->hold(at_most, stand_still);
      if (backup_) return backup_->hold(at_most, stand_still);
      done(failure(Code::refused, witness_
                                      ? "hold: a witness leaves nothing: end it and start another"
                                      : "hold: this replica has ended"));
    });
  }

  Result<HeldSession> hold(Nanos at_most) override {
    auto promise = std::make_shared<std::promise<Result<HeldSession>>>();
    auto answer = promise->get_future();
    post_hold(at_most, [promise](auto outcome) { promise->set_value(std::move(outcome)); });
    return answer.get();  // The runner keeps to the time, and its end answers too.
  }

  Status let_go() override {
    {
      const std::scoped_lock lock(hold_mutex_);
      if (!held_ || std::exchange(let_go_, true))
        return Status(Code::invalid, "this session is not held");
    }
    hold_over_.notify_all();
    return {};
  }

  void post(Wish wish, Done done) override {
    mailbox_.post([this, wish, done = std::move(done)]() mutable { grant(wish, std::move(done)); });
  }

  void post_change(Strategy to, Done done) override {
    mailbox_.post([this, to, done = std::move(done)]() mutable {
      if (primary_) return primary_->change_strategy(to, std::move(done));
      done(failure(Code::refused, "this replica is not the primary: ask the other host"));
    });
  }

  int poll_fd() const override { return events_fd_.fd(); }

  void process(const std::function<void(const SessionEvent&)>& sink) override {
    std::deque<SessionEvent> events;
    {
      const std::scoped_lock lock(events_mutex_);
      events_fd_.drain();
      events.swap(events_);
    }
    for (const auto& event : events) sink(event);
  }

 private:
  void tell(LogLevel level, std::string name, std::string text, std::string json) {
    if (name == "arbiter_unknown" && repeats(text)) return;
    if (level != LogLevel::debug) {
      context_.parts.log.write(level, "session",
                               text.empty() ? name : fmt::format("{}: {}", name, text));
      statistics_.update([&](SessionStatus& s) { s.detail = fmt::format("{}: {}", name, text); });
    }
    const std::scoped_lock lock(events_mutex_);
    if (events_.size() == kEventsMax) events_.pop_front();
    events_.push_back({context_.now(), std::move(name), std::move(text), std::move(json)});
    events_fd_.signal();
  }

  // An arbiter that is away is asked many times a second; people are told every ten.
  bool repeats(const std::string& text) {
    const Time now = context_.now();
    if (text == unknown_told_ && now - unknown_told_at_ < std::chrono::seconds{10}) return true;
    unknown_told_ = text;
    unknown_told_at_ = now;
    return false;
  }

  Result<Held> held_as(Held::Role role) const {
    FT_ASSIGN(Held held, session::decode_held(context_.options.held, context_.parts.guest));
    if (held.role == role) return held;
    return failure(Code::invalid,
                   "what was held is of the other role: protect() goes on with a primary, "
                   "stand_by() with a backup");
  }

  Status take_up_primary() {
    FT_ASSIGN(const Held held, held_as(Held::Role::primary));
    describe_guest();
    FT_ASSIGN(primary_, PrimaryRunner::take_up(context_, replica_, held));
    run_thread();
    return {};
  }

  // The record of a first protection, or of a guest whose earlier session died on this host.
  Result<OwnershipRecord> claim_first(const Incarnation& self) {
    OwnershipRecord mine{Generation{1}, self, {self}, false};
    auto answer = swap_now(
        [&](auto done) { arbiter_.post_create(context_.parts.guest, mine, std::move(done)); });
    if (answer.outcome == SwapOutcome::won) return mine;
    if (answer.outcome == SwapOutcome::unknown)
      return failure(
          Code::timeout,
          fmt::format("{}: no definite answer ({}): nothing is protected before it gives one",
                      arbiter_.description(), answer.detail));
    const auto found = answer.record;
    const bool ours = context_.options.take_over_record && found.owner == context_.options.earlier;
    // Somebody took over from the life that is taken up: its guest has lost.
    if (!found.ended && !ours && context_.options.take_over_record)
      return failure(Code::fenced,
                     fmt::format("{}: {} owns this guest now: what is left of it here must not run",
                                 arbiter_.description(), to_string(found.owner)));
    if (!found.ended && !ours)
      return failure(
          Code::refused,
          fmt::format("{}: the record says that {} owns this guest: make sure that it runs "
                      "nowhere else, then remove the record",
                      arbiter_.description(), to_string(found.owner)));
    mine.generation = found.generation.next();
    answer = swap_now(
        [&](auto done) { arbiter_.post_swap(context_.parts.guest, found, mine, std::move(done)); });
    if (answer.outcome == SwapOutcome::won) return mine;
    return failure(answer.outcome == SwapOutcome::lost ? Code::fenced : Code::timeout,
                   fmt::format("{}: {}", arbiter_.description(),
                               answer.outcome == SwapOutcome::lost ? to_string(answer.record)
                                                                   : answer.detail));
  }

  template <class Ask>
  SwapAnswer swap_now(Ask&& request) {
    auto promise = std::make_shared<std::promise<SwapAnswer>>();
    auto answer = promise->get_future();
    request([promise](SwapAnswer a) { promise->set_value(std::move(a)); });
    return answer.get();  // The arbiter's thread answers within its deadline.
  }

  void describe_guest() {
    const auto& info = replica_.guest->info();
    statistics_.update([&](SessionStatus& s) {
      s.guest_description = info.description;
      s.strategy = to_string(context_.options.strategy);
      s.tracker = info.tracker;
      s.accelerator = info.accelerator;
      s.staging_bytes = context_.options.staging_bytes * (context_.options.inflight_max + 1);
    });
  }

  Status become_primary(Promotion promotion) {
    FT_ASSIGN(primary_, PrimaryRunner::make(context_, replica_, promotion.self, promotion.record,
                                            promotion.next));
    return {};
  }

  // Called inside the backup's runner, with the guest loaded. The gate opens before the guest runs.
  void promoted(Promotion promotion) {
    Status status = become_primary(promotion);
    if (status && !promotion.stay_paused) status = replica_.guest->activate();
    if (!status) {
      tell(LogLevel::error, "promotion_failed", status.to_string(), {});
      statistics_.update([](SessionStatus& s) { s.role = Role::failed; });
      return;
    }
    describe_guest();
    tell(LogLevel::warning, "promoted",
         fmt::format("generation {}, from epoch {} on", promotion.record.generation.value,
                     promotion.next.value),
         {});
    retired_ = true;  // The runner that called us goes when it has returned.
  }

  void run_thread() {
    thread_ = os::start_thread("ft-session", [this] { run(); });
  }

  void run() {
    std::vector<Work> batch;
    while (!stopping_) {
      mailbox_.take(batch, wait());
      for (auto& work : batch) {
        work();
        retire_backup();
        if (stood_still_for_good()) break;
      }
      if (stopping_) break;
      if (primary_) primary_->tick();
      if (backup_) backup_->tick();
      retire_backup();
      (void)stood_still_for_good();
    }
    primary_.reset();
    backup_.reset();
    witness_.reset();
    trial_.reset();
  }

  // Held: nothing at all is done before let_go(), or ever.
  bool stood_still_for_good() {
    std::unique_lock lock(hold_mutex_);
    if (!held_) return false;
    hold_over_.wait(lock, [this] { return let_go_ || leaving_; });
    const bool for_good = !let_go_;
    held_ = let_go_ = false;
    lock.unlock();
    if (for_good) {
      stopping_ = true;
      if (primary_) primary_->leave();
      if (backup_) backup_->leave();
    } else {
      if (primary_) primary_->let_go();
      if (backup_) backup_->let_go();
    }
    return for_good;
  }

  void retire_backup() {
    if (!retired_) return;
    retired_ = false;
    trial_ = backup_->take_trial();
    backup_.reset();
  }

  Nanos wait() const {
    Time at = context_.now() + kProgressEvery;
    if (primary_) at = std::min(at, primary_->wake_at());
    if (backup_ && backup_->wake_at()) at = std::min(at, *backup_->wake_at());
    return std::max(Nanos{0}, at - context_.now());
  }

  void grant(Wish wish, Done done) {
    const auto finish = [&](const Status& status) {
      status ? done(std::string()) : done(failure(status));
    };
    const bool of_backup = wish == Wish::fail_over || wish == Wish::test_failover;
    if (of_backup && !backup_)
      return finish(
          Status(Code::refused, wish == Wish::fail_over
                                    ? "this replica is not a backup: it owns the guest, "
                                      "or lost it"
                                    : "this replica is not a backup: ask the other host"));
    if (!of_backup && !primary_)
      return finish(Status(Code::refused, "this replica is not the primary: ask the other host"));
    switch (wish) {
      case Wish::switch_over: return finish(primary_->switch_over());
      case Wish::unprotect: return finish(primary_->unprotect());
      case Wish::verify: return primary_->verify(std::move(done));
      case Wish::fail_over: return finish(backup_->fail_over());
      case Wish::test_failover: return backup_->test_failover(std::move(done));
    }
  }

  // Nothing that the session does for these takes long.
  Status ask(Wish wish) {
    auto answer = wait_for(wish, std::chrono::seconds(10));
    if (answer) return {};
    if (answer.error().code() != Code::timeout) return answer.error();
    return Status(Code::timeout, "the session did not answer within 10 s");
  }

  Result<std::string> wait_for(Wish wish, Nanos patience) {
    return wait_while(patience, [&](Done done) { post(wish, std::move(done)); });
  }

  template <class Begin>
  Result<std::string> wait_while(Nanos patience, Begin&& begin) {
    auto promise = std::make_shared<std::promise<Result<std::string>>>();
    auto answer = promise->get_future();
    begin([promise](Result<std::string> value) { promise->set_value(std::move(value)); });
    if (answer.wait_for(patience) == std::future_status::ready) return answer.get();
    return failure(Code::timeout, "no answer in time");
  }

  Mailbox mailbox_;
  session::Statistics statistics_;
  failover::ArbiterThread arbiter_;
  os::EventFd events_fd_;
  std::mutex events_mutex_;
  std::deque<SessionEvent> events_;
  mutable std::mutex replica_mutex_;
  session::Context context_;
  Replica replica_;
  std::unique_ptr<BackupRunner> backup_;
  std::unique_ptr<PrimaryRunner> primary_;
  std::unique_ptr<WitnessRunner> witness_;
  std::unique_ptr<Trial> trial_;  // That a backup left behind.
  bool stopping_ = false, retired_ = false;
  std::mutex hold_mutex_;
  std::condition_variable hold_over_;
  bool held_ = false, let_go_ = false, leaving_ = false;
  std::string unknown_told_;
  Time unknown_told_at_;
  std::jthread thread_;
};

Result<std::unique_ptr<SessionImpl>> make(SessionParts parts, SessionOptions options) {
  if (!parts.arbiter)
    return failure(Code::invalid,
                   "no arbiter: choose file:DIRECTORY, etcd:URL or manual:DIRECTORY");
  if (!parts.guard) parts.guard = std::make_shared<ReleaseGuard>(parts.clock);
  if (options.inflight_max == 0) return failure(Code::invalid, "inflight_max is 0: use at least 1");
  FT_ASSIGN(auto events, os::EventFd::create());
  return std::make_unique<SessionImpl>(std::move(parts), std::move(options), std::move(events));
}

}  // namespace

Result<std::unique_ptr<Session>> Session::protect(SessionParts parts, Replica replica,
                                                  SessionOptions options) {
  FT_ASSIGN(auto session, make(std::move(parts), std::move(options)));
  FT_TRY(session->begin_primary(std::move(replica)));
  return session;
}

Result<std::unique_ptr<Session>> Session::stand_by(SessionParts parts, SessionOptions options) {
  if (!parts.make_standby || !parts.dial)
    return failure(Code::invalid, "a backup needs make_standby and dial");
  if (parts.check && options.follow_delay > Nanos{0})
    return failure(
        Code::invalid,
        "a check is made before output leaves, and a delayed backup executes long after: "
        "stand by with one of the two");
  FT_ASSIGN(auto session, make(std::move(parts), std::move(options)));
  FT_TRY(session->begin_backup());
  return session;
}

namespace {

// A witness owns nothing, and asks nobody.
class NobodyDecides final : public Arbiter {
 public:
  std::string description() const override { return "none"; }
  bool automatic() const override { return false; }
  SwapAnswer create(const GuestId&, const OwnershipRecord&) override { return {}; }
  SwapAnswer swap(const GuestId&, const OwnershipRecord&, const OwnershipRecord&) override {
    return {};
  }
  ReadAnswer read(const GuestId&) override { return {}; }
};

}  // namespace

Result<std::unique_ptr<Session>> bear_witness(SessionParts parts, SessionOptions options) {
  if (!parts.make_standby || !parts.dial)
    return failure(Code::invalid, "a witness needs make_standby and dial");
  parts.arbiter = std::make_unique<NobodyDecides>();
  FT_ASSIGN(auto session, make(std::move(parts), std::move(options)));
  FT_TRY(session->begin_witness());
  return session;
}

}  // namespace libft
