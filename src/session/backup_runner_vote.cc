// SPDX-License-Identifier: LGPL-2.1-or-later
// The BackupRunner with a witness, under lockstep: where three replicas come to different things,
// the one that two contradict is outvoted, and made anew. Nobody waits for the witness unless its
// vote is needed: an epoch that primary and backup agree on is acknowledged at once.
#include <fmt/format.h>

#include <utility>

#include "session/backup_runner.h"
#include "session/first_frame.h"

namespace libft::session {
namespace {

using replay::Verdict;
using replay::Voter;

constexpr std::size_t kEpochsBehindMax = 1u << 14;  // Then a witness is of no use any more.
// For a copy of the guest to travel, and to be compared.
constexpr Nanos kJoinPatience = std::chrono::seconds{60};
constexpr Nanos kReplacePatience = std::chrono::seconds{10};
// How long the primary's output waits for the witness's vote where the two others differ. A witness
// that is further behind is dropped.
constexpr Nanos kVotePatience = std::chrono::seconds{1};

}  // namespace

// --- it comes and goes --------------------------------------------------------------------------

void BackupRunner::offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received) {
  const auto first = read_hello(context_.parts.guest, received);
  const Status welcome = first ? can_have_witness(first->hello) : first.error();
  if (!welcome) {  // Then it is closed, and dials its next peer.
    const auto no = wire::encode(wire::Refuse{welcome.code(), welcome.message()},
                                 context_.parts.guest, core_.generation());
    const std::span<const std::byte> piece(no);
    (void)connection->send({&piece, 1});
    return;
  }
  received.erase(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(first->bytes));
  welcome_witness(std::move(connection), std::move(received), first->hello);
}

Status BackupRunner::can_have_witness(const wire::Hello& hello) const {
  if ((hello.features & wire::feature::votes) == 0)
    return Status(Code::refused, "this host is a backup too");
  if (strategy_ != Strategy::lockstep && core_.newest().epoch.value != 0)
    return Status(Code::refused,
                  fmt::format("a witness votes under lockstep, and the guest's strategy is {}: "
                              "remedy: `ftctl strategy GUEST lockstep` on the primary",
                              to_string(strategy_)));
  if (!follow_ || shelf_ || in_doubt() || !core_.acknowledges())
    return Status(Code::refused, "the backup is not in sync: later");
  if (voting_ && voting_->link->host() != hello.backup.host)
    return Status(Code::refused,
                  fmt::format("{} is the witness here already", voting_->link->host()));
  return suits(hello, replica_.guest->info());
}

void BackupRunner::welcome_witness(std::unique_ptr<Transport> connection,
                                   std::vector<std::byte> received, const wire::Hello& hello) {
  drop_witness("it dialled anew");
  dropped_.reset();
  voting_ = Voting{};
  voting_->since = context_.now();
  voting_->link =
      std::make_unique<WitnessLink>(context_, *replica_.guest, std::move(connection),
                                    std::move(received), hello, core_.self(), witness_sinks());
  context_.tell(LogLevel::info, "witness_connected", hello.backup.host, {});
}

WitnessLink::Sinks BackupRunner::witness_sinks() {
  return {.ready = voting_posting_.later([this] { follow_->relay_to(voting_->link->relay()); }),
          .came_to = voting_posting_.later<EpochId, replay::Ballot, replay::Ballot>(
              [this](EpochId id, const replay::Ballot& primary, const replay::Ballot& backup) {
                on_came_to(id, primary, backup);
              }),
          .message = voting_posting_.later<wire::Message>(
              [this](const wire::Message& message) { on_witness(message); }),
          .image = voting_posting_.later<EpochId>([this](EpochId id) { on_witness_image(id); }),
          .broken = voting_posting_.later<Status>(
              [this](const Status& status) { drop_witness(status.to_string()); })};
}

void BackupRunner::drop_witness(const std::string& why) {
  if (!voting_) return;
  context_.tell(LogLevel::warning, "witness_lost",
                fmt::format("{}: {}", voting_->link->host(), why), {});
  if (follow_) follow_->relay_to(nullptr);
  voting_posting_.forget();
  voting_->link->say(wire::Bye{why});
  dropped_ = std::move(voting_->link);
  voting_.reset();
  if (in_doubt()) come_apart(doubt_->apart);
}

// Called now and then.
void BackupRunner::watch_witness() {
  if (!voting_) return;
  const Time now = context_.now();
  if (in_doubt()) {
    if (now - doubt_->since > (doubt_->replacing ? kReplacePatience : kVotePatience))
      drop_witness(doubt_->replacing ? "its image did not come" : "it did not vote in time");
    return;
  }
  const auto waits = voting_->poll.waits_since();
  const Nanos behind = waits ? now - *waits : Nanos{0};
  if (voting_->votes && behind < kVotePatience / 2) voting_->keeps_up = true;
  if (voting_->keeps_up ? behind > kVotePatience : now - voting_->since > kJoinPatience)
    return drop_witness("it is too far behind");
  if (voting_->poll.size() > kEpochsBehindMax) drop_witness("it is too many epochs behind");
}

// --- votes --------------------------------------------------------------------------------------

void BackupRunner::on_came_to(EpochId id, const replay::Ballot& primary,
                              const replay::Ballot& backup) {
  if (voting_->first == EpochId{}) voting_->first = id;
  voting_->poll.vote(context_.now(), id, Voter::primary, primary);
  settle(id, voting_->poll.vote(context_.now(), id, Voter::backup, backup));
}

void BackupRunner::on_witness(const wire::Message& message) {
  if (const auto* vote = std::get_if<wire::Vote>(&message))
    return settle(vote->id, voting_->poll.vote(context_.now(), vote->id, Voter::witness,
                                               {vote->executed, vote->said, vote->hash}));
  const auto* bye = std::get_if<wire::Bye>(&message);
  drop_witness(bye ? bye->text : "it said what no witness says");
}

void BackupRunner::settle(EpochId id, Verdict verdict) {
  switch (verdict) {
    case Verdict::open:
    case Verdict::agreed: return;
    case Verdict::unanimous: return on_witness_agrees(id);
    case Verdict::witness_odd: return outvote_witness(id);
    case Verdict::primary_odd:
    case Verdict::backup_odd:
    case Verdict::no_majority: decided_ = {id, verdict}; return decide();
  }
}

void BackupRunner::on_witness_agrees(EpochId id) {
  if (std::exchange(voting_->votes, true)) return;
  context_.tell(LogLevel::info, "witness_votes",
                fmt::format("{}, from epoch {} on", voting_->link->host(), to_string(id)), {});
}

void BackupRunner::tell_outvoted(const std::string& who, EpochId id) {
  context_.tell(LogLevel::error, "outvoted",
                fmt::format("{}: it came to something else in epoch {} than the other two; remedy: "
                            "test that host's memory and processor",
                            who, to_string(id)),
                {});
}

// What it was given has the hash that both had when it was taken; if what came has not, a byte of
// this replica had changed unnoticed.
void BackupRunner::outvote_witness(EpochId id) {
  if (!voting_->votes && id == voting_->first) {
    const Status changed(Code::corrupt,
                         "a copy of this replica, made for the witness, has not the state that "
                         "both replicas had: a byte of its memory changed unnoticed");
    tell_diverged(changed);
    return start_over(changed.message());
  }
  tell_outvoted("the witness " + voting_->link->host(), id);
  drop_witness("it was outvoted, and is made anew");
}

// --- this replica differs from the primary ------------------------------------------------------

// Whether the witness will be heard before anything is given up.
bool BackupRunner::asks_witness(const Status& apart) {
  if (!voting_ || !voting_->votes || strategy_ != Strategy::lockstep || !core_.acknowledges())
    return false;
  context_.tell(LogLevel::warning, "in_doubt", apart.message() + "; the witness is asked", {});
  doubt_ = Doubt{apart, context_.now()};
  return true;
}

void BackupRunner::forget_doubt() {
  doubt_.reset();
  decided_.reset();
  outvoted_primary_ = false;
}

void BackupRunner::decide() {
  if (!doubt_ || doubt_->replacing || !decided_) return;
  switch (decided_->verdict) {
    case Verdict::primary_odd: return outvote_primary();
    case Verdict::backup_odd: return outvote_self();
    default: return come_apart(doubt_->apart);
  }
}

// Nothing of that epoch was acknowledged, so nothing that the primary said in it has left. The
// guest goes on here, from what two of three came to. No word to the primary, which would go on
// alone if it knew in time: it learns from the record that it lost.
void BackupRunner::outvote_primary() {
  const EpochId id = decided_->id;
  tell_outvoted("the primary " + core_.primary().host, id);
  const Mark here = follow_->overrule();
  follow_->take_rest();
  while (!executing_.empty() && executing_.back().id > id) executing_.pop_back();
  // Whether the guest ended is what two of three came to as well. Its owner paused it, or not.
  core_.on_epoch_here(id, here.ended, executing_.back().guest_paused);
  forget_doubt();
  outvoted_primary_ = true;
  perform(core_.fail_over(context_.now()));
}

// The witness stands where this replica should: what came behind was not given to it.
void BackupRunner::outvote_self() {
  tell_outvoted("this backup " + context_.parts.host, decided_->id);
  // Harts that execute at once can go on from a copy at a hash only.
  if (replica_.guest->info().vcpus > 1) return come_apart(doubt_->apart);
  doubt_->replacing = true;
  doubt_->since = context_.now();
  voting_->link->fetch_image(decided_->id);
}

void BackupRunner::on_witness_image(EpochId id) {
  if (!doubt_ || !doubt_->replacing) return;
  auto rest = follow_->take_rest();
  auto landmark = follow_->take_landmark();
  if (const Status loaded = load_witness_image(id); !loaded)
    return come_apart(loaded.within("be replaced by the witness's image"));
  for (auto& log : rest) follow_->take(std::move(log));
  const auto suspected = doubt_->suspected;
  context_.tell(LogLevel::info, "replaced",
                fmt::format("by the witness's image of epoch {}, {:.0f} ms after it was outvoted",
                            to_string(id), to_ms(context_.now() - doubt_->since)),
                {});
  forget_doubt();
  on_followed(id);
  examine(std::move(landmark));
  if (suspected) on_detector(*suspected);
}

Status BackupRunner::load_witness_image(EpochId id) {
  if (id != decided_->id)
    return Status(Code::corrupt, fmt::format("it is of epoch {}, wanted was {}", to_string(id),
                                             to_string(decided_->id)));
  follow_.reset();
  const auto state = voting_->link->apply_image();
  FT_TRY(replica_.guest->load_state(state));
  follow_ = follower();
  follow_->relay_to(voting_->link->relay_on());
  return {};
}

}  // namespace libft::session
