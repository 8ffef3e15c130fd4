// SPDX-License-Identifier: LGPL-2.1-or-later
// The Trace remembers what happened: a hash over everything (two runs of a seed must agree), and,
// when asked to, the text of it. Text is made only then: 10,000 seeds run without formatting a
// line, and a seed that violates a rule is simply run again.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "libft/clock.h"

namespace libft::sim {

class Trace {
 public:
  Trace(const Clock& clock, bool texts, std::function<void(const std::string&)> live)
      : clock_(clock), texts_(texts), live_(std::move(live)) {}

  bool texts() const { return texts_; }
  std::uint64_t hash() const { return hash_; }
  const std::vector<std::string>& lines() const { return lines_; }

  // One step: who, what, and two numbers that tell it from its like.
  void add(std::string_view who, std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0) {
    mix(who, what, a, b);
    if (texts_) keep(who, fmt::format("{} {} {}", what, a, b));
  }
  // The same with a text made only when texts are wanted.
  template <class MakeText>
  void add_text(std::string_view who, std::string_view what, std::uint64_t a, std::uint64_t b,
                MakeText text) {
    mix(who, what, a, b);
    if (texts_) keep(who, fmt::format("{} {}", what, text()));
  }

 private:
  void mix(std::string_view who, std::string_view what, std::uint64_t a, std::uint64_t b) {
    mix(static_cast<std::uint64_t>(clock_.now().since_start.count()));
    mix(who.empty() ? 0 : static_cast<std::uint64_t>(who.front()));
    for (const char c : what) mix(static_cast<std::uint64_t>(c));
    mix(a);
    mix(b);
  }
  void mix(std::uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9fb21c651e98df25ull;
    hash_ ^= hash_ >> 29;
  }
  void keep(std::string_view who, const std::string& text) {
    const auto micros = clock_.now().since_start.count() / 1000;
    lines_.push_back(fmt::format("{:5}.{:03} {:<3} {}", micros / 1000, micros % 1000, who, text));
    if (live_) live_(lines_.back());
  }

  const Clock& clock_;
  bool texts_;
  std::function<void(const std::string&)> live_;
  std::uint64_t hash_ = 0x2545f4914f6cdd1dull;
  std::vector<std::string> lines_;
};

}  // namespace libft::sim
