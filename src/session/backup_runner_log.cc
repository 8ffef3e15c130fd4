// SPDX-License-Identifier: LGPL-2.1-or-later
// The BackupRunner of a guest whose epochs are logs. They come, are acknowledged when they are
// here, and executed on a thread of their own, or (hybrid) kept until a newer image makes them
// needless.
#include <fmt/format.h>

#include "os/memory_free.h"
#include "session/backup_runner.h"
#include "session/strategy.h"

namespace libft::session {
namespace {

// An image from the start; while a difference is examined, two more and two guests.
constexpr std::uint64_t kGuestsToExamine = 5;

}  // namespace

void BackupRunner::on_log(const wire::Frame& frame) {
  // After a reconnection, what was here and not acknowledged when this replica said hello comes
  // again.
  const bool logged = follow_ || shelf_;
  if (logged && frame.header.id <= logs_.newest()) return;
  auto whole = logs_.on_frame(frame);
  if (whole && *whole && !logged)
    whole = failure(Code::corrupt, "a log, and no checkpoint that it goes on from");
  if (!whole) return on_corrupt(whole.error());
  if (!*whole) return;
  const wire::LogMark mark = (**whole).mark;
  if (acknowledges_executed()) {
    executing_.push_back({(**whole).id, mark.guest_ended, mark.guest_paused});
    core_.on_epoch_here((**whole).id, mark.guest_ended, mark.guest_paused);
    return follow_->take(std::move(**whole));
  }
  log_ = std::move(**whole);
  perform(core_.on_epoch_complete(context_.now(), log_->id, false, mark.guest_ended,
                                  mark.guest_paused));
  announce();
}

bool BackupRunner::acknowledges_executed() const {
  return strategy_ == Strategy::lockstep || context_.parts.check;
}

void BackupRunner::keep_log(wire::LogEpoch log) {
  if (delay_) return keep_until_due(std::move(log));
  if (!shelf_) return follow_->take(std::move(log));
  if (const auto kept = shelf_->keep(std::move(log)); !kept) start_over(kept.to_string());
}

// The checkpoint is applied: here the log begins.
void BackupRunner::begin_log(EpochId base) {
  Status status = replica_.guest->load_state(assembler_->state());
  const auto at = status ? replica_.exact->position() : failure(status);
  if (!at) return start_over(at.error().within("begin to follow").to_string());
  logs_.begin(base, *at);
  followed_ = base;
  if (strategy_ == Strategy::hybrid) {
    shelf_.emplace(base);
    return;
  }
  if (is_late()) delay_.emplace(context_.options.follow_delay, context_.options.delay_bytes_max);
  follow_ = follower();
}

std::unique_ptr<FollowThread> BackupRunner::follower() {
  FollowThread::Check check;
  if (context_.parts.check)
    check = [this, copy = replica_.guest.get()] { return context_.parts.check(*copy); };
  return std::make_unique<FollowThread>(
      *replica_.exact, [this] { return set_landmark(); }, std::move(check), follow_sinks());
}

FollowThread::Sinks BackupRunner::follow_sinks() {
  return {.followed = own_posting_.later<EpochId>([this](EpochId id) { on_followed(id); }),
          .failed = own_posting_.later<Status>([this](const Status& s) { on_apart(s); })};
}

// A newer image is whole. The logs up to it are here, and needless from now on.
void BackupRunner::on_rebase(EpochId id) {
  const Status covered =
      shelf_ ? shelf_->covers(id) : Status(Code::corrupt, "an image for a backup that executes");
  if (!covered) {
    context_.statistics.update([](SessionStatus& s) { ++s.corrupt_frames; });
    return start_over(covered.to_string());
  }
  apply_image();
  shelf_->rebase(id);
  send(wire::Followed{id}, core_.generation());
}

// The primary goes over to another strategy. Everything that came before is acknowledged.
void BackupRunner::become(Strategy strategy) {
  if (strategy == strategy_) return;
  const bool follows = follow_ && !shelf_;
  if (strategy == Strategy::compare) {
    if (const Status status = begin_to_shadow(); !status) return start_over(status.to_string());
  }
  strategy_ = strategy;
  context_.statistics.update([&](SessionStatus& s) { s.strategy = to_string(strategy); });
  context_.tell(LogLevel::info, "strategy", std::string(to_string(strategy)), {});
  if (strategy != Strategy::lockstep) drop_witness("the strategy is not lockstep any more");
  if (context_.parts.check && !is_followed(strategy))
    return start_over("there is a check to make here, and nothing is executed any more");
  if (is_late())
    return start_over("this backup is to execute late, which it can under replay only");
  if (follows && strategy == Strategy::checkpoint)
    return start_over("a primary that changes from logs to checkpoints without an image between");
  if (follows && strategy == Strategy::hybrid) {
    shelf_.emplace(logs_.newest());
    if (followed_ == logs_.newest()) adopt();
  } else if (shelf_ && is_logged(strategy)) {
    Status status = load_image();
    if (status && !follow_) follow_ = follower();
    if (status) follow_shelf();
    if (!status) return start_over(status.within("begin to follow").to_string());
    shelf_.reset();
  }  // A shelf serves a take-over until the checkpoint that makes it void is here.
}

// The follower has come to where the shelf begins: its memory is the image.
void BackupRunner::adopt() {
  follow_.reset();
  std::vector<std::byte> state;
  Status status = replica_.guest->save_state();
  if (status) status = replica_.guest->fetch_state(state);
  if (!status) return start_over(status.within("take an image of what was executed").to_string());
  assembler_->adopt(shelf_->image(), std::move(state));
  send(wire::Followed{shelf_->image()}, core_.generation());
}

// A take-over: the image first, then what was logged since. Without a landmark: setting one costs
// time, and nobody is left to compare with.
Status BackupRunner::execute_shelf() {
  FT_TRY(load_image());
  if (!follow_)
    follow_ = std::make_unique<FollowThread>(*replica_.exact, nullptr, nullptr, follow_sinks());
  follow_shelf();
  return follow_->finish();
}

// Where the kept logs begin. A follower that is still on its way there needs none.
Status BackupRunner::load_image() {
  if (follow_) return {};
  FT_TRY(replica_.guest->load_state(assembler_->state()));
  FT_ASSIGN(const Position at, replica_.exact->position());
  if (shelf_->begins_at().value_or(at) == at) return {};
  return Status(Code::corrupt,
                fmt::format("the image of epoch {} is at position {}, its log begins at {}",
                            to_string(shelf_->image()), at.value, shelf_->begins_at()->value));
}

void BackupRunner::follow_shelf() {
  for (auto& log : shelf_->take()) follow_->take(std::move(log));
}

// What a difference can be located by; without it the guest is followed just as well. The
// follower's thread.
std::unique_ptr<replay::Landmark> BackupRunner::set_landmark() {
  if (!context_.options.locate_difference) return nullptr;
  const GuestInfo& info = replica_.guest->info();
  const std::uint64_t needed = kGuestsToExamine * info.pages() * info.page_bytes;
  Status status;
  if (needed > os::memory_bytes_free()) {
    status =
        Status(Code::exhausted, fmt::format("it takes {} MiB of memory, of which this host has "
                                            "{} free",
                                            needed >> 20, os::memory_bytes_free() >> 20));
  } else {
    auto landmark = replay::Landmark::set(*replica_.guest, *replica_.exact);
    if (landmark) return std::move(*landmark);
    status = landmark.error();
  }
  context_.tell(LogLevel::warning, "differences_not_located", status.to_string(), {});
  return nullptr;
}

void BackupRunner::on_followed(EpochId id) {
  followed_ = id;
  if (shelf_) {
    if (id == shelf_->image()) adopt();
    return;
  }
  if (delay_) delay_->executed(id);
  say_followed();
  for (Executing& executing : executing_)
    if (executing.id == id) executing.done = true;
  acknowledge_executed();
  execute_due();  // It may have been full.
  handle_waiting();
}

// Without a connection nobody would hear it; while this replica claims, it acknowledges nothing.
void BackupRunner::acknowledge_executed() {
  while (connected_ && core_.acknowledges() && !executing_.empty() && executing_.front().done) {
    const Executing done = executing_.front();
    executing_.pop_front();
    executed_ = done.id;
    perform(core_.on_epoch_complete(context_.now(), done.id, false, done.guest_ended,
                                    done.guest_paused));
    executed_.reset();
    announce();
  }
}

void BackupRunner::stop_following() {
  drop_witness("the backup is made anew");
  forget_doubt();
  follow_.reset();
  delay_.reset();
  shelf_.reset();
  log_.reset();
  executing_.clear();
}

// What this replica executed is not what the primary executed: it is no replica any more.
void BackupRunner::on_apart(const Status& status) {
  if (core_.state() == core::BackupState::promoted) return;
  if (status.code() == Code::refused) return on_check_failed(status);
  if (asks_witness(status)) return decide();
  come_apart(status);
}

void BackupRunner::tell_diverged(const Status& status) {
  context_.tell(LogLevel::error, "diverged", status.to_string(), {});
  send(wire::Bye{"the backup's execution differs from the primary's: " + status.message()},
       core_.generation());
}

void BackupRunner::come_apart(Status status) {
  tell_diverged(status);
  if (follow_) examine(follow_->take_landmark());
  start_over(status.message());
}

// Whoever owns the guest decides what of it is seen. So this replica becomes the owner, and then
// does not let the guest run: promote() fails with what the check said.
void BackupRunner::on_check_failed(const Status& status) {
  context_.tell(LogLevel::error, "check_failed",
                status.message() +
                    "; the guest is ended, and what it said since the last check that "
                    "passed is not let out; remedy: start it anew from what is known "
                    "to be good",
                {});
  perform(core_.fail_over(context_.now()));
}

void BackupRunner::examine(std::unique_ptr<replay::Landmark> landmark) {
  if (!landmark) return;
  examining_ = std::make_unique<ExamineThread>(
      std::move(landmark), replica_.guest->info(),
      posting_.later<Result<std::string>>([this](const Result<std::string>& found) {
        examining_.reset();
        context_.tell(LogLevel::error, "difference_examined",
                      found ? *found : found.error().within("examine").to_string(), {});
      }));
}

}  // namespace libft::session
