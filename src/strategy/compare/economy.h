// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether it pays that the backup runs the guest, too. Until it runs, output waits; from then on
// what both say leaves at once, until they differ. When they come apart sooner than it took to make
// them run, or nothing had left, a checkpoint an interval would have been cheaper: then there are
// checkpoints for a while, longer each time it did not pay, until it is tried again. A value; times
// are arguments.
#pragma once

#include <cstdint>
#include <optional>

#include "libft/types.h"

namespace libft::compare {

struct EconomyOptions {
  // Checkpoints alone, after comparing did not pay: shorter finds out sooner that it does again,
  // longer wastes less where it never does.
  Nanos rest{Millis{500}};
  Nanos rest_max{std::chrono::seconds{30}};
};

class Economy {
 public:
  explicit Economy(const EconomyOptions& options = {}) : options_(options), rest_(options.rest) {}

  // A checkpoint is taken: is the backup to run from it?
  bool worth(Time now) const { return !rest_until_ || now >= *rest_until_; }

  void captured(Time now);  // One that it is to run from.
  void runs(Time now);      // It does.
  // They differ, or what else needs a checkpoint. `in_vain`: something waited, and nothing had left.
  void ended(Time now, bool in_vain = false);
  bool rests() const { return rest_until_.has_value(); }

  std::uint64_t runs() const { return runs_; }
  std::uint64_t in_vain() const { return in_vain_; }  // That did not pay.

 private:
  EconomyOptions options_;
  Nanos rest_;
  std::optional<Time> rest_until_;
  std::optional<Time> captured_at_, runs_at_;
  std::uint64_t runs_ = 0, in_vain_ = 0;
};

}  // namespace libft::compare
