// SPDX-License-Identifier: LGPL-2.1-or-later
// An Arbiter keeps one small record a guest and decides, by compare-and-swap, who may own it.
// Implement it over anything that has an atomic swap: a shared directory, etcd, a person.
// Calls may block and come from a thread of their own, one at a time: never the session's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

// Who owns the guest, and who holds a complete copy. Every change raises the generation by one.
struct OwnershipRecord {
  Generation generation;
  Incarnation owner;
  std::vector<Incarnation> in_sync;  // Includes the owner. Only these may try to take over.
  bool ended = false;                // The guest ended on purpose: nobody runs it again.
  auto operator<=>(const OwnershipRecord&) const = default;
  bool lists(const Incarnation& replica) const;
};
std::string to_string(const OwnershipRecord& record);  // JSON, one line; what file and etcd store.
Result<OwnershipRecord> record_from_string(std::string_view text);

enum class SwapOutcome {
  won,      // The record is now `to`.
  lost,     // The record is something else, told in `record`.
  unknown,  // No definite answer: it may have happened, or may still happen later.
};

struct SwapAnswer {
  SwapOutcome outcome = SwapOutcome::unknown;
  OwnershipRecord record;  // For won and lost: the record as it is.
  std::string detail;      // For unknown: why, for the log.
};

struct ReadAnswer {
  enum class Outcome { found, missing, unknown } outcome = Outcome::unknown;
  OwnershipRecord record;
  std::string detail;
};

class Arbiter {
 public:
  virtual ~Arbiter() = default;

  virtual std::string description() const = 0;  // "file /srv/ft", "etcd http://10.0.0.9:2379"

  // False for an arbiter that waits for a person: no automatic failover with it.
  virtual bool automatic() const = 0;

  // Creates the record of a guest that has none: the first protection, and nothing else, does this.
  // lost: there is a record already.
  virtual SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) = 0;

  // Replaces the record by `to` if it is exactly `from`. A missing record is unknown: it is never
  // created again. REQUIRES: to.generation == from.generation + 1.
  virtual SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                          const OwnershipRecord& to) = 0;

  virtual ReadAnswer read(const GuestId& guest) = 0;
};

}  // namespace libft
