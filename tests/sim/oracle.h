// SPDX-License-Identifier: LGPL-2.1-or-later
// The Oracle sees everything (the true record, every image, every packet that reached the world)
// and judges each step by the rules of the design: what a replica could not know itself. It never
// influences what happens.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "libft/arbiter.h"
#include "sim/guest.h"

namespace libft::sim {

// The rules by the names under which a violation is reported.
namespace rule {
constexpr const char* kOutputCommit = "1 output commit";
constexpr const char* kOneOwner = "2 one owner";
constexpr const char* kPrefix = "3 prefix";
constexpr const char* kNothingPartial = "4 nothing partial";
constexpr const char* kBounded = "5 bounded";
constexpr const char* kOwnersWill = "8 owner's will";
constexpr const char* kReplay = "replay";  // The follower's state is the primary's, at each mark.
constexpr const char* kLockstep = "lockstep";  // Output leaves when both have produced it.
constexpr const char* kVote = "vote";          // Of three, two that agree go on.
constexpr const char* kDelay = "delay";        // Nothing is executed before its time.
constexpr const char* kClient = "client";      // What a client was told is never contradicted.
constexpr const char* kProgress = "progress";
}  // namespace rule

using Id = std::array<std::uint8_t, 16>;

// What the guest was when an epoch was captured.
struct Moment {
  std::uint64_t hash = 0, counter = 0, chain = 0;
  bool ended = false, paused = false;
  bool spoilt = false;  // It had lost a bit.
};

class Oracle {
 public:
  explicit Oracle(const OwnershipRecord& truth,
                  std::function<void(const char* rule, const std::string& text)> report)
      : truth_(truth), report_(std::move(report)) {}

  // --- lives --------------------------------------------------------------------------------
  void on_birth(const Incarnation& who, bool owner);  // A process or an image begins.
  void on_death(const Incarnation& who);

  // --- the arbiter --------------------------------------------------------------------------
  void on_landed(const OwnershipRecord& record);
  void on_swap_asked(const Incarnation& who, const OwnershipRecord& to);
  void on_end_claimed(const Incarnation& who, EpochId newest);  // By a backup, as of that epoch.
  void on_definite(const Incarnation& who, const OwnershipRecord& record);

  // --- epochs -------------------------------------------------------------------------------
  void on_captured(EpochId id, const Moment& moment, bool lockstep = false);
  void on_complete(const Incarnation& who, EpochId id);
  void on_applied(const Incarnation& who, EpochId id, std::uint64_t hash);
  void on_ack_sent(const Incarnation& who, EpochId id);
  void on_ack_heard(const Incarnation& primary, const Incarnation& backup, EpochId id);

  // --- executed by both: what the follower's state is after its log, and what it ought to be --
  void on_executed(const Incarnation& who, EpochId id, const SimGuest& guest);

  // Epoch `id` is what the backup came to, and not what the primary did.
  void on_outvoted(EpochId id, const SimGuest& guest, const SimGuest& witness);
  bool is_spoilt(EpochId id) const;

  // --- executed late on purpose: what waits, is handed to the follower, is left at a take-over --
  void on_kept(const Incarnation& who, EpochId id, std::size_t bytes, Time due);
  void on_due(const Incarnation& who, EpochId id, Time now, std::size_t bytes_max);
  void on_rest(const Incarnation& who) { life(who).kept.clear(); }
  void check_kept(const Incarnation& who, std::size_t bytes_max, bool follower_full);

  // --- what the world sees ------------------------------------------------------------------
  // `known`: the record that the replica goes by. `stood_still`: it stood still for longer than the
  // limit, saw that on its clock, and has not asked the arbiter since.
  void on_release(const Incarnation& who, EpochId through, const OwnershipRecord& known,
                  bool stood_still);
  void on_open(const Incarnation& who);
  void on_packet(const Incarnation& who, const Packet& packet, std::optional<EpochId> sealed);
  void on_frame(const Incarnation& who, std::optional<EpochId> sealed);  // For a client.
  // One leaves because both have said it, while so many epochs are sealed.
  void on_compared(const Incarnation& who, std::size_t sealed);
  void on_sent(const Packet& packet);  // By a guest, perhaps only into a gate.

  // --- who runs -----------------------------------------------------------------------------
  void on_promote(const Incarnation& who, const OwnershipRecord& record, EpochId newest,
                  const SimGuest& guest, bool runs, bool follows);
  // The backup's guest begins to run from that checkpoint, and is this.
  void on_follows(const Incarnation& who, EpochId id, std::uint64_t hash);
  void on_guest_step(const Incarnation& who, const SimGuest& guest, bool owner_resumed);

  void check_bounds(std::uint32_t inflight, std::uint32_t inflight_max, std::size_t held,
                    std::uint32_t held_max, std::size_t queued);

  // --- for the second phase -----------------------------------------------------------------
  // No living replica that the record lists holds a complete image: the guest is lost.
  bool guest_is_lost() const;
  // Backup and witness had both lost a bit, unnoticed, and came to the same: a double fault, where
  // two of three are wrong and nobody can know. Nothing after it is judged.
  bool majority_erred() const { return majority_erred_; }
  std::uint64_t packets_seen() const { return packets_seen_; }
  const OwnershipRecord& truth() const { return truth_; }

 private:
  struct Kept {
    EpochId id;
    std::size_t bytes;
    Time due;
  };
  struct Life {
    bool alive = false;
    bool owner = false;
    std::optional<EpochId> complete;  // The newest epoch that it holds whole.
    std::optional<EpochId> promoted_from;
    Generation attempted;             // Of its swap that nobody answered yet; 0: none.
    EpochId acknowledged;             // As its primary heard it.
    std::optional<EpochId> executed;  // lockstep: to the primary's output.
    Id heard_by{};
    std::deque<Kept> kept;  // Acknowledged, and waits for its time.
    std::size_t kept_bytes() const;
  };

  Life& life(const Incarnation& who) { return lives_[who.id]; }
  bool covers(const Incarnation& who, EpochId sealed) const;
  bool same_history(std::uint64_t chain_a, std::uint64_t counter_a, std::uint64_t chain_b,
                    std::uint64_t counter_b) const;
  void check_listed();
  void fail(const char* rule, const std::string& text) { report_(rule, text); }

  const OwnershipRecord& truth_;
  std::function<void(const char*, const std::string&)> report_;
  std::map<Id, Life> lives_;
  std::set<Generation> owned_;  // Generations under which somebody was promoted.
  std::map<EpochId, Moment> moments_;
  std::unordered_map<std::uint64_t, std::uint64_t> before_;  // Chain to the chain before.
  std::unordered_map<std::uint64_t, std::uint64_t> seen_;    // Counter to random, outside.
  std::uint64_t tip_counter_ = 0, tip_chain_ = 0;            // Newest output outside.
  std::uint64_t packets_seen_ = 0;
  bool majority_erred_ = false;
  EpochId released_;
  std::set<Epoch> lockstep_;  // Epochs whose output both must have produced.
};

}  // namespace libft::sim
