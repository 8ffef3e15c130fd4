// SPDX-License-Identifier: LGPL-2.1-or-later
// The Stream is what the follower said in one TCP connection, in whatever pieces it came: against
// it the primary's segments are compared, however those are cut. Positions count modulo 2^32. One
// thread.
#pragma once

#include <map>

#include "strategy/compare/packet.h"

namespace libft::compare {

class Stream {
 public:
  enum class Before { unknown, settled };  // What lies before the beginning: may it be said again?

  Stream() = default;
  Stream(std::uint32_t begin, Before before) : begun_(true), settled_(before == Before::settled) {
    low_ = kFirst + begin;
  }

  bool begun() const { return begun_; }

  // The follower said that. False: it had said something else there before.
  bool put(std::uint32_t at, BytesView bytes);

  // `missing`: the follower has not said all of it yet. `unknown`: it is about what was said before
  // the beginning. What is behind low() and settled is equal.
  enum class Match { equal, differs, missing, unknown };
  Match match(std::uint32_t at, BytesView bytes) const;

  // Whether `at` is before everything that is kept, and settled.
  bool settled(std::uint32_t at) const { return begun_ && settled_ && position(at) < low_; }
  // Whether the follower said something at `at` or behind it, without a gap.
  bool reaches_beyond(std::uint32_t at) const { return begun_ && position(at) < end(); }

  // The client has everything up to `to`: what it gets again of that it throws away.
  void trim(std::uint32_t to);

  std::size_t bytes() const { return kept_.size() + later_bytes_; }

 private:
  // Positions that do not wrap; the first of them are never negative.
  static constexpr std::uint64_t kFirst = 1ull << 32;
  static constexpr std::size_t kPieceBytes = 64;  // What a piece costs besides its bytes, about.
  std::uint64_t position(std::uint32_t at) const;
  std::uint64_t end() const { return low_ + kept_.size() - dropped_; }
  bool agrees(std::uint64_t at, BytesView bytes) const;
  bool join_later();

  bool begun_ = false, settled_ = false;
  std::uint64_t low_ = 0;
  Bytes kept_;  // From low_ on, behind `dropped_` bytes that are not needed any more.
  std::size_t dropped_ = 0;
  std::multimap<std::uint64_t, Bytes> later_;  // What came before what precedes it.
  std::size_t later_bytes_ = 0;
};

}  // namespace libft::compare
