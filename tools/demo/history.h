// SPDX-License-Identifier: LGPL-2.1-or-later
// What the world saw of the guest, and the two questions that decide whether protection held: is an
// acknowledged write gone, and did the guest contradict what it had said? Pure; used by the client
// and the observer, each on its own thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libft/types.h"

namespace libft::demo {

// One numbered request as the client saw it.
struct RequestSample {
  std::uint64_t number = 0;
  Time due;                   // When it was meant to be sent: latency counts from here.
  Time answered;              // Zero: no answer (yet).
  bool acknowledged = false;  // As it should be.
  Time sent;                  // When the client got round to it.
  double latency_ms() const;
  double round_trip_ms() const;
};

// All writes of one connection, in the order of their numbers.
class WriteHistory {
 public:
  explicit WriteHistory(std::string token) : token_(std::move(token)) {}

  std::uint64_t begin(Time due, Time sent);  // The number of the new write.
  void answer(std::uint64_t number, Time at, bool accepted);

  std::string key(std::uint64_t number) const;
  std::string value(std::uint64_t number) const;
  // Whether what the server holds now under the key of an acknowledged write is that write.
  bool holds(std::uint64_t number, const std::optional<std::string>& found) const;

  const std::vector<RequestSample>& samples() const { return samples_; }
  std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  std::string token_;
  std::vector<RequestSample> samples_;
  std::uint64_t acknowledged_ = 0;
};

// The longest silence between two answers that touches [from, to]. Milliseconds; 0 without answers.
double longest_gap_ms(const std::vector<RequestSample>& samples, Time from, Time to);

// What the guest sent: each counter has one random value, drawn when it was sent.
using OutputValue = std::array<std::uint8_t, 16>;

struct Output {
  std::uint64_t counter = 0;
  OutputValue value{};
  Time seen;
};

class OutputHistory {
 public:
  // False: this counter was seen with another value before, so the guest took back what it said.
  bool see(const Output& output);

  // What the guest knows about counters [first, first + values.size()): empty where it has none.
  // Returns the number of counters seen in that range that the guest does not know, or knows
  // differently. An output the guest knows and nobody saw is a lost datagram: allowed.
  std::uint64_t count_unknown(std::uint64_t first,
                              const std::vector<std::optional<OutputValue>>& known) const;

  std::vector<Output> seen_since(Time from) const;
  std::uint64_t seen() const { return outputs_.size(); }
  std::uint64_t repeated() const { return repeated_; }
  std::uint64_t contradicted() const { return contradicted_; }
  std::uint64_t newest() const { return outputs_.empty() ? 0 : outputs_.rbegin()->first; }

 private:
  std::map<std::uint64_t, Output> outputs_;
  std::uint64_t repeated_ = 0;
  std::uint64_t contradicted_ = 0;
};

}  // namespace libft::demo
