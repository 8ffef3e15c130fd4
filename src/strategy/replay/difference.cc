// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/difference.h"

#include <utility>
#include <vector>

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

// Both executions, at one position; inputs at that position are still to be delivered.
class Both {
 public:
  Both(Execution one, Execution other, std::vector<wire::LoggedInput> inputs, Position from)
      : one_(std::move(one)), other_(std::move(other)), inputs_(std::move(inputs)), from_(from) {}

  Status restart() {
    FT_TRY(one_.restart());
    FT_TRY(other_.restart());
    here_ = from_;
    delivered_ = 0;
    return {};
  }

  Status run_to(Position until) {
    std::size_t next = delivered_;
    for (DeterministicGuest* const guest : {&one_.guest, &other_.guest}) {
      next = delivered_;
      for (; next < inputs_.size() && inputs_[next].at < until; ++next) {
        FT_TRY(guest->run_until(inputs_[next].at));
        FT_TRY(guest->deliver(inputs_[next].input));
      }
      FT_TRY(guest->run_until(until));
    }
    delivered_ = next;
    here_ = until;
    return {};
  }

  Result<std::pair<std::uint64_t, std::uint64_t>> hashes() {
    FT_ASSIGN(const std::uint64_t one, one_.guest.state_hash());
    FT_ASSIGN(const std::uint64_t other, other_.guest.state_hash());
    return std::pair{one, other};
  }

 private:
  Execution one_, other_;
  std::vector<wire::LoggedInput> inputs_;
  Position from_, here_;
  std::size_t delivered_ = 0;
};

}  // namespace

Result<std::optional<Difference>> first_difference(Execution one, Execution other,
                                                   std::span<const wire::LogEpoch> logs) {
  if (logs.empty()) return std::nullopt;
  FT_ASSIGN(std::vector<wire::LoggedInput> inputs, inputs_of(logs));
  Position equal = logs.front().mark.from, apart = logs.back().mark.until;
  Both both(std::move(one), std::move(other), std::move(inputs), equal);
  FT_TRY(both.restart());
  FT_TRY(both.run_to(apart));
  FT_ASSIGN(auto hashes, both.hashes());
  if (hashes.first == hashes.second) return std::nullopt;
  bool beyond = true;  // They stand behind `equal`.
  while (apart.value - equal.value > 1) {
    const Position middle{equal.value + (apart.value - equal.value) / 2};
    if (beyond) FT_TRY(both.restart());
    FT_TRY(both.run_to(middle));
    FT_ASSIGN(const auto there, both.hashes());
    beyond = there.first != there.second;
    (beyond ? apart : equal) = middle;
    if (beyond) hashes = there;
  }
  return Difference{equal, hashes.first, hashes.second};
}

}  // namespace libft::replay
