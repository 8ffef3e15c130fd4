// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/history.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::demo {
namespace {

double ms_between(Time from, Time to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

double RequestSample::latency_ms() const { return ms_between(due, answered); }
double RequestSample::round_trip_ms() const { return ms_between(sent, answered); }

std::uint64_t WriteHistory::begin(Time due, Time sent) {
  const std::uint64_t number = samples_.size();
  samples_.push_back({number, due, Time{}, false, sent});
  return number;
}

void WriteHistory::answer(std::uint64_t number, Time at, bool accepted) {
  RequestSample& sample = samples_.at(number);
  sample.answered = at;
  sample.acknowledged = accepted;
  if (accepted) ++acknowledged_;
}

std::string WriteHistory::key(std::uint64_t number) const { return fmt::format("k:{}", number); }

std::string WriteHistory::value(std::uint64_t number) const {
  return fmt::format("{}:{}", number, token_);
}

bool WriteHistory::holds(std::uint64_t number, const std::optional<std::string>& found) const {
  return found && *found == value(number);
}

double longest_gap_ms(const std::vector<RequestSample>& samples, Time from, Time to) {
  double longest = 0;
  std::optional<Time> last;
  for (const RequestSample& sample : samples) {
    if (sample.answered == Time{}) continue;
    if (last && sample.answered >= from && *last <= to) {
      longest = std::max(longest, ms_between(*last, sample.answered));
    }
    last = sample.answered;
  }
  return longest;
}

bool OutputHistory::see(const Output& output) {
  const auto [at, is_new] = outputs_.emplace(output.counter, output);
  if (is_new) return true;
  ++repeated_;
  if (at->second.value == output.value) return true;
  ++contradicted_;
  return false;
}

std::uint64_t OutputHistory::count_unknown(
    std::uint64_t first, const std::vector<std::optional<OutputValue>>& known) const {
  std::uint64_t unknown = 0;
  for (auto at = outputs_.lower_bound(first);
       at != outputs_.end() && at->first - first < known.size(); ++at) {
    const std::optional<OutputValue>& value = known[at->first - first];
    if (!value || *value != at->second.value) ++unknown;
  }
  return unknown;
}

std::vector<Output> OutputHistory::seen_since(Time from) const {
  std::vector<Output> recent;
  for (const auto& [counter, output] : outputs_) {
    if (output.seen >= from) recent.push_back(output);
  }
  return recent;
}

}  // namespace libft::demo
