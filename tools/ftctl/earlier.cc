// SPDX-License-Identifier: LGPL-2.1-or-later
#include "earlier.h"

#include <fmt/format.h>

#include <algorithm>

#include "report.h"

namespace libft::ftctl {

namespace {

Decision refuse(Decision decision, Code code, const std::string& cause, const std::string& remedy) {
  decision.kind = Decision::Kind::refuse;
  decision.why = with_remedy(code, cause, remedy);
  return decision;
}

bool is_same_guest(const GuestState& a, const GuestState& b) {
  return a.guest.pid == b.guest.pid && a.guest.start_ticks == b.guest.start_ticks &&
         a.domain == b.domain;
}

Decision new_life(Decision decision, const OwnershipRecord& record) {
  decision.kind = Decision::Kind::new_life;
  decision.from = record.owner;
  return decision;
}

Decision without_record(const std::string& guest, Decision decision,
                        const std::vector<Remains>& remains) {
  const auto living = std::find_if(remains.begin(), remains.end(),
                                   [](const Remains& one) { return one.guest_lives; });
  if (living == remains.end()) {
    decision.kind = Decision::Kind::first;
    return decision;
  }
  return refuse(
      std::move(decision), Code::refused,
      fmt::format("guest {} lives here as {}, and its record is missing", guest,
                  whereabouts(living->state)),
      fmt::format("restore the record; or, if no other host runs the guest, remove {} and "
                  "the guest's {}",
                  living->state.file, living->state.domain.empty() ? "process" : "domain"));
}

// The record names an owner whose guest does not run here.
Decision owned_elsewhere(const std::string& guest, Decision decision, bool own_life_is_over,
                         const OwnershipRecord& record, bool anew) {
  if (anew || (own_life_is_over && record.in_sync.size() <= 1)) {
    return new_life(std::move(decision), record);
  }
  if (!own_life_is_over && (!decision.stop.empty() || !decision.discard.empty())) {
    decision.kind = Decision::Kind::fenced;
    decision.why = with_remedy(
        Code::fenced, fmt::format("guest {} is owned by {} now", guest, to_string(record.owner)),
        "what was left of it here was stopped; `ftctl standby` makes this host its backup");
    return decision;
  }
  if (own_life_is_over) {
    return refuse(
        std::move(decision), Code::refused,
        fmt::format("the life of guest {} on this host is over, and a backup holds its state",
                    guest),
        "let the backup carry on (`ftctl failover` there), or begin anew with --anew");
  }
  return refuse(
      std::move(decision), Code::refused,
      fmt::format("guest {} is owned by {}", guest, to_string(record.owner)),
      "run `ftctl standby` here to be its backup; or, if that life of it is over for good, "
      "begin anew with --anew");
}

}  // namespace

Decision decide(const std::string& guest, const std::vector<Remains>& remains,
                const ReadAnswer& answer, bool anew) {
  Decision decision;
  // The dead owner's file stays until a new life has won the record: until then it alone tells this
  // host that the owner cannot come back.
  const bool may_be_owner = answer.outcome == ReadAnswer::Outcome::found && !answer.record.ended;
  for (const Remains& one : remains) {
    const bool owner = may_be_owner && one.state.self == answer.record.owner;
    if (!one.guest_lives && !owner) decision.discard.push_back(one.state);
  }
  if (answer.outcome == ReadAnswer::Outcome::unknown) {
    return refuse(
        std::move(decision), Code::timeout,
        fmt::format("the arbiter does not say who owns guest {}: {}", guest, answer.detail),
        "see that it answers (`ftctl doctor --arbiter SPEC`), then try again; a guest that "
        "runs here is left as it is, its output held");
  }
  if (answer.outcome == ReadAnswer::Outcome::missing) {
    return without_record(guest, std::move(decision), remains);
  }
  const OwnershipRecord& record = answer.record;
  const auto owner = std::find_if(remains.begin(), remains.end(), [&](const Remains& one) {
    return one.state.self == record.owner;
  });
  const bool owned_here = owner != remains.end();
  for (const Remains& one : remains) {
    // By where it lives: an ftctl that died between storing its life and forgetting the one that it
    // had taken up again leaves two files of one guest.
    const bool is_owner = owned_here && !record.ended && is_same_guest(one.state, owner->state);
    if (one.guest_lives && !is_owner) decision.stop.push_back(one.state);
  }
  if (record.ended) return new_life(std::move(decision), record);
  if (owned_here && owner->guest_lives) {
    decision.kind = Decision::Kind::reattach;
    decision.attach = owner->state;
    decision.from = record.owner;
    return decision;
  }
  return owned_elsewhere(guest, std::move(decision), owned_here, record, anew);
}

}  // namespace libft::ftctl
