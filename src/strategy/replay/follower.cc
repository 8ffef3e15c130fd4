// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/follower.h"

#include <fmt/format.h>

#include "strategy/replay/stretch.h"

namespace libft::replay {
namespace {

constexpr std::size_t kUnreleasedBytesMax = 4u << 20;  // Older frames are lost, as on any network.

}  // namespace

Follower::Follower(DeterministicGuest& guest, const std::atomic<bool>* interrupted)
    : guest_(guest), interrupted_(interrupted != nullptr ? *interrupted : told_to_stop_) {
  guest_.set_output_sink([this](Position, const GuestOutput& output) { heard(output); });
  // What it says is compared from here on.
  [[maybe_unused]] const Status marked =
      guest_.mark(WithHash::no, [this](const Mark& mark) { here_ = equal_ = mark.at; });
}

Follower::~Follower() { guest_.set_output_sink({}); }

void Follower::heard(const GuestOutput& output) {
  if (output.kind != GuestOutput::Kind::frame) return;
  unreleased_.push_back({executing_, {output.bytes.begin(), output.bytes.end()}});
  unreleased_bytes_ += output.bytes.size();
  while (unreleased_bytes_ > kUnreleasedBytesMax) {
    unreleased_bytes_ -= unreleased_.front().frame.size();
    unreleased_.pop_front();
  }
}

Status Follower::run_until(Position until) {
  return run_in_stretches(guest_, here_, until, interrupted_);
}

Status Follower::follow(const wire::LogEpoch& epoch) {
  executing_ = epoch.id;
  came_to_.reset();
  while (!unreleased_.empty() && unreleased_.front().epoch <= epoch.mark.released) {
    unreleased_bytes_ -= unreleased_.front().frame.size();
    unreleased_.pop_front();
  }
  std::span<const std::byte> rest = epoch.coded;
  for (Position at = epoch.mark.from; !rest.empty();) {
    FT_ASSIGN(const wire::LoggedInput input, wire::next_input(rest, at));
    at = input.at;
    FT_TRY(run_until(at));
    FT_TRY(guest_.deliver(input.input));
  }
  const Status ran = run_until(epoch.mark.until);
  // It ends by itself where the primary's did.
  if (!ran && !(epoch.mark.guest_ended && ran.code() == Code::guest_gone)) return ran;
  return compare(epoch);
}

Status Follower::compare(const wire::LogEpoch& epoch) {
  Mark here;
  FT_TRY(guest_.mark(epoch.mark.hash ? WithHash::yes : WithHash::no,
                     [&here](const Mark& mark) { here = mark; }));
  came_to_ = here;
  if (here.said != epoch.mark.said) return apart(epoch, "output", here.said, epoch.mark.said);
  if (!epoch.mark.hash) return {};
  if (here.hash != epoch.mark.hash) return apart(epoch, "state", *here.hash, *epoch.mark.hash);
  equal_ = here_;
  return {};
}

Status Follower::apart(const wire::LogEpoch& epoch, const char* what, std::uint64_t here,
                       std::uint64_t there) const {
  return Status(Code::corrupt,
                fmt::format("the executions came apart between positions {} and {} (epoch {}): "
                            "{} {:016x} here, {:016x} at the primary",
                            equal_.value, here_.value, to_string(epoch.id), what, here, there));
}

std::uint64_t Follower::go_live() {
  guest_.set_output_sink({});
  for (const Said& said : unreleased_) guest_.send_again({GuestOutput::Kind::frame, said.frame});
  const std::uint64_t frames = unreleased_.size();
  unreleased_.clear();
  return frames;
}

}  // namespace libft::replay
