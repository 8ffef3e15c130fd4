// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/difference.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "strategy/replay/stretch.h"

namespace libft::replay {
namespace {

Result<std::vector<wire::LoggedInput>> inputs_of(std::span<const wire::LogEpoch> logs) {
  std::vector<wire::LoggedInput> inputs;
  for (const wire::LogEpoch& log : logs) {
    std::span<const std::byte> rest = log.coded;
    for (Position at = log.mark.from; !rest.empty();) {
      FT_ASSIGN(wire::LoggedInput input, wire::next_input(rest, at));
      at = input.at;
      inputs.push_back(std::move(input));
    }
  }
  return inputs;
}

const std::atomic<bool> kNever{false};

// Where executions can be looked at. Within a round of harts at once there is no such place: then
// it is only where inputs were delivered.
class Places {
 public:
  explicit Places(const std::vector<wire::LoggedInput>& inputs) {
    const auto is_round = [](const auto& i) { return i.input.kind == GuestInput::Kind::schedule; };
    everywhere_ = std::ranges::none_of(inputs, is_round);
    for (const wire::LoggedInput& input : inputs) inputs_.push_back(input.at);
  }

  // Near the middle between the two; nothing: there is none between them.
  std::optional<Position> between(Position from, Position to) const {
    const Position middle{from.value + (to.value - from.value) / 2};
    if (everywhere_) return middle > from ? std::optional(middle) : std::nullopt;
    const auto behind = std::ranges::lower_bound(inputs_, middle);
    if (behind != inputs_.end() && *behind > from && *behind < to) return *behind;
    if (behind != inputs_.begin() && *std::prev(behind) > from) return *std::prev(behind);
    return std::nullopt;
  }

 private:
  bool everywhere_ = true;
  std::vector<Position> inputs_;  // In order.
};

// Both executions, at one position; inputs at that position are still to be delivered.
class Both {
 public:
  Both(Execution one, Execution other, std::vector<wire::LoggedInput> inputs, Position from,
       const SearchOptions& options)
      : one_(std::move(one)),
        other_(std::move(other)),
        inputs_(std::move(inputs)),
        options_(options),
        begin_{from, 0},
        here_(begin_) {}

  Status restart() {
    FT_TRY(one_.restart());
    FT_TRY(other_.restart());
    here_ = begin_;
    return {};
  }

  Status run_to(Position until) {
    Place end = here_;
    for (const Execution* const execution : {&one_, &other_}) {
      end = here_;
      FT_TRY(run(execution->guest, end, until));
    }
    here_ = end;
    return {};
  }

  Result<std::pair<std::uint64_t, std::uint64_t>> hashes() {
    FT_ASSIGN(const std::uint64_t one, hash(one_));
    FT_ASSIGN(const std::uint64_t other, hash(other_));
    return std::pair{one, other};
  }

  Status keep() {
    if (!options_.keep) return {};
    FT_TRY(options_.keep());
    begin_ = here_;
    return {};
  }

 private:
  struct Place {
    Position at;
    std::size_t delivered = 0;
  };

  Status run(DeterministicGuest& guest, Place& place, Position until) const {
    const auto& interrupted = options_.interrupted != nullptr ? *options_.interrupted : kNever;
    for (; place.delivered < inputs_.size() && inputs_[place.delivered].at < until;
         ++place.delivered) {
      const wire::LoggedInput& next = inputs_[place.delivered];
      FT_TRY(run_in_stretches(guest, place.at, next.at, interrupted));
      FT_TRY(guest.deliver(next.input));
    }
    return run_in_stretches(guest, place.at, until, interrupted);
  }

  static Result<std::uint64_t> hash(const Execution& execution) {
    return execution.hash ? execution.hash() : execution.guest.state_hash();
  }

  Execution one_, other_;
  std::vector<wire::LoggedInput> inputs_;
  const SearchOptions& options_;
  Place begin_, here_;
};

}  // namespace

Result<std::optional<Difference>> first_difference(Execution one, Execution other,
                                                   std::span<const wire::LogEpoch> logs,
                                                   const SearchOptions& options) {
  if (logs.empty()) return std::nullopt;
  FT_ASSIGN(std::vector<wire::LoggedInput> inputs, inputs_of(logs));
  Position equal = logs.front().mark.from, apart = logs.back().mark.until;
  const Places places(inputs);
  Both both(std::move(one), std::move(other), std::move(inputs), equal, options);
  FT_TRY(both.restart());
  FT_TRY(both.run_to(apart));
  FT_ASSIGN(auto hashes, both.hashes());
  if (hashes.first == hashes.second) return std::nullopt;
  bool beyond = true;  // They stand behind `equal`.
  while (const auto middle = places.between(equal, apart)) {
    if (beyond) FT_TRY(both.restart());
    FT_TRY(both.run_to(*middle));
    FT_ASSIGN(const auto there, both.hashes());
    beyond = there.first != there.second;
    (beyond ? apart : equal) = *middle;
    if (beyond)
      hashes = there;
    else
      FT_TRY(both.keep());
  }
  return Difference{equal, apart, hashes.first, hashes.second};
}

}  // namespace libft::replay
