// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest of one number, whose every position is a step of a generator and whose inputs are mixed
// in: the smallest thing that can be replayed. It lives when a test says so. One thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "libft/deterministic_guest.h"

namespace libft::test {

class ExactGuest final : public DeterministicGuest {
 public:
  // As a guest that runs: to `until`, and takes `input` there.
  void live(Position until) { step_to(until); }
  void take(const GuestInput& input) {
    if (input_sink_) input_sink_(at_, input);
    mix(input);
  }
  void copy_state(const ExactGuest& from) {
    at_ = from.at_;
    state_ = from.state_;
  }
  void flip_bit() { state_ ^= 1; }
  void ends_at(Position at) { end_ = at; }
  void errs_at(Position at) { errs_ = at; }  // As another implementation would, each time.

  Result<Position> position() override { return at_; }
  Status run_until(Position until) override {
    if (until < at_) return Status(Code::invalid, "run backwards");
    step_to(until);
    return at_ == until ? Status() : Status(Code::guest_gone, "ended");
  }
  Status deliver(const GuestInput& input) override {
    mix(input);
    return {};
  }
  Result<std::uint64_t> state_hash() override { return state_; }
  void set_input_sink(InputSink sink) override { input_sink_ = std::move(sink); }
  void set_input_at(InputAt) override {}
  Status mark(WithHash hash, const std::function<void(const Mark&)>& there) override {
    there({at_, hash == WithHash::yes ? std::optional(state_) : std::nullopt,
           std::exchange(said_digest_, 0), at_ == end_});
    return {};
  }
  void set_pace(unsigned) override {}
  void send_again(const GuestOutput& output) override {
    again.emplace_back(reinterpret_cast<const char*>(output.bytes.data()), output.bytes.size());
  }
  void set_output_sink(OutputSink sink) override { output_sink_ = std::move(sink); }

  Result<GuestCopy> make_copy() const override {
    return failure(Code::unsupported, "a number has no copies");
  }

  std::vector<std::string> said, again;  // Without a sink; sent again.

 private:
  static constexpr std::uint64_t kSays = 100;  // At each such position.

  void step_to(Position until) {
    for (; at_ < until && at_ != end_; ++at_.value) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      if (at_ == errs_) state_ ^= 1u << 20;
      if (at_.value % kSays == 0) say(std::to_string(at_.value) + ":" + std::to_string(state_));
    }
  }
  void mix(const GuestInput& input) {
    for (const std::byte byte : input.bytes)
      state_ = (state_ ^ std::to_integer<std::uint64_t>(byte)) * 1099511628211u;
  }
  void say(const std::string& text) {
    said_digest_ = said_digest_ * 31 + std::hash<std::string>()(text);
    if (output_sink_)
      return output_sink_(at_, {GuestOutput::Kind::frame, std::as_bytes(std::span(text))});
    said.push_back(text);
  }

  Position at_;
  std::uint64_t state_ = 42, said_digest_ = 0;
  std::optional<Position> end_, errs_;
  InputSink input_sink_;
  OutputSink output_sink_;
};

}  // namespace libft::test
