// SPDX-License-Identifier: LGPL-2.1-or-later
// The messages of libft's protocol, as values. FORMAT.md is the specification; frame.h carries
// them. Bulk data (pages, device state) does not pass through here: see pages.h.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "libft/guest.h"
#include "libft/types.h"

namespace libft::wire {

constexpr std::uint16_t kVersion = 1;        // Highest version this code speaks.
constexpr std::uint16_t kVersionOldest = 1;  // Lowest.

// What both sides may use; the connection uses the intersection.
namespace feature {
constexpr std::uint64_t delta_pages = 1u << 0;
constexpr std::uint64_t delta_state = 1u << 1;
constexpr std::uint64_t input_copies = 1u << 2;  // Incoming frames are forwarded to the backup.
// Epochs may be logs of inputs, which the backup executes as they come.
constexpr std::uint64_t logs = 1u << 3;
constexpr std::uint64_t executed = 1u << 4;  // A log is acknowledged when it was executed.
// Checkpoints travel beside the logs; what they cover need not be executed.
constexpr std::uint64_t rebases = 1u << 5;
constexpr std::uint64_t changes = 1u << 6;  // The strategy may change: see Change.
constexpr std::uint64_t delays = 1u << 7;   // A backup may execute late on purpose: see Followed.
// The backup runs the guest from checkpoints that say so, and what both say is compared: copies.h.
constexpr std::uint64_t compares = 1u << 8;
// Whoever says hello with it is a witness, and wants to be no backup: see Vote.
constexpr std::uint64_t votes = 1u << 9;
constexpr std::uint64_t holds = 1u << 10;  // Either side may stand still for a moment: see Hold.
}  // namespace feature

struct RegionShape {  // A GuestInfo::memory entry without its bytes.
  std::string name;
  PageNo first;
  std::uint64_t pages = 0;
  bool operator==(const RegionShape&) const = default;
};

// A guest as its primary describes it to a backup.
struct GuestShape {
  std::string driver, description, compatibility;
  std::uint32_t page_bytes = 4096;
  std::uint32_t vcpus = 1;
  std::vector<RegionShape> memory;
  bool operator==(const GuestShape&) const = default;
};

// Backup to primary, first message of a connection.
struct Hello {
  std::uint16_t version_min = kVersionOldest, version_max = kVersion;
  std::uint64_t features = 0;
  std::string guest;  // Name; the frame's guest id is its hash.
  Incarnation backup;
  EpochId newest_complete;  // {0,0}: holds nothing.
  Incarnation image_of;     // Whose stream that image came from; nobody when it holds nothing.
  std::uint64_t memory_bytes_free = 0;  // What this host can give to the guest.
  GuestShape shape;                     // The standby instance; empty driver: made after Welcome.
  bool operator==(const Hello&) const = default;
};

// Primary to backup: accepted.
struct Welcome {
  std::uint16_t version = kVersion;
  std::uint64_t features = 0;
  Incarnation primary;
  GuestShape shape;
  bool resume = false;  // The image that Hello names is the base; else all memory follows.
  std::uint64_t heartbeat_token = 0;  // Binds heartbeats to this connection.
  std::uint16_t heartbeat_port = 0;   // Where the primary hears them; 0: no heartbeats.
  std::uint32_t heartbeat_interval_ms = 50;
  bool operator==(const Welcome&) const = default;
};

struct Refuse {  // Either side: no, and why. The connection ends.
  Code code = Code::refused;
  std::string text;
  bool operator==(const Refuse&) const = default;
};

struct SyncRound {  // Primary to backup: progress of the first synchronisation.
  std::uint32_t round = 0;
  std::uint64_t pages_sent = 0, pages_total = 0;
  bool operator==(const SyncRound&) const = default;
};

struct ProbeAnswer {  // Backup to primary: whether a first device state could be loaded.
  bool loadable = false;
  std::string text;
  bool operator==(const ProbeAnswer&) const = default;
};

struct Ack {  // Backup to primary: everything up to `id` is complete, verified and decoded here.
  EpochId id;
  bool operator==(const Ack&) const = default;
};

struct Joined {  // Primary to backup: the arbiter's record of this generation lists you.
  Generation generation;
  bool operator==(const Joined&) const = default;
};

struct SwitchOver {  // Primary to backup: paused after epoch `id`, all released; take over.
  EpochId id;
  bool operator==(const SwitchOver&) const = default;
};

struct Ended {  // Primary to backup: the guest ended on purpose, and the arbiter's record says so.
  Generation generation;
  std::string text;
  bool operator==(const Ended&) const = default;
};

struct Bye {  // Either side: an orderly end of the connection; `text` for the log.
  std::string text;
  bool operator==(const Bye&) const = default;
};

struct PageHash {
  PageNo page;
  std::uint64_t hash = 0;  // XXH3-64.
  bool operator==(const PageHash&) const = default;
};

// Both ways, for `ftctl verify`. The primary asks right behind epoch `id`; the backup answers with
// the hash of its own memory as of that epoch, and with what tells where the two differ.
struct Verify {
  EpochId id;
  std::uint64_t memory_hash = 0;    // XXH3-64 over the XXH3-64 of each page, ascending.
  std::vector<PageRun> left_out{};  // From the primary: these pages are not hashed.
  // From the primary: a hash for each group of so many pages; none: where is not asked.
  std::uint32_t group_pages = 0;
  std::vector<std::uint64_t> groups{};
  // From the backup: its pages of the first groups that differ.
  std::vector<PageHash> pages{};
  bool operator==(const Verify&) const = default;
};

// Backup to primary: epoch `id`, a log, was executed here, up to its mark. With feature `compares`:
// the guest runs here from checkpoint `id` on.
struct Followed {
  EpochId id;
  // From a backup that executes late on purpose: without that, it would have executed so much.
  std::optional<EpochId> caught_up{};
  bool operator==(const Followed&) const = default;
};

// Primary to backup: what follows is of the strategy of these features; no others are among them.
// Everything before was acknowledged.
struct Change {
  std::uint64_t features = 0;
  bool operator==(const Change&) const = default;
};

// Witness to backup: what epoch `id`, a log, came to here.
struct Vote {
  EpochId id;
  bool executed = true;    // False: it could not be executed to its end.
  std::uint64_t said = 0;  // As a log's mark has it.
  std::optional<std::uint64_t> hash{};
  bool operator==(const Vote&) const = default;
};

// Backup to witness: send what the guest is there, at the end of epoch `id`.
struct ImageWanted {
  EpochId id;
  bool operator==(const ImageWanted&) const = default;
};

// Either side: another process is about to go on with this replica; its silence is to be borne for
// so long, and it comes back as the same incarnation. The other side answers, or it does not begin.
struct Hold {
  std::uint32_t at_most_ms = 0;
  bool answer = false;
  bool operator==(const Hold&) const = default;
};

inline constexpr std::uint32_t kHoldMsMax = 10'000;
inline constexpr std::size_t kVerifyGroupsMax = 1u << 16;
inline constexpr std::size_t kVerifyPagesMax = 1u << 14;

using Message = std::variant<Hello, Welcome, Refuse, SyncRound, ProbeAnswer, Ack, Joined,
                             SwitchOver, Ended, Bye, Verify, Followed, Change, Vote, ImageWanted,
                             Hold>;

}  // namespace libft::wire
