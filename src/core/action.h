// SPDX-License-Identifier: LGPL-2.1-or-later
// Actions are what the pure machines of a replica ask to be done. They are done in the order of the
// list, by the session's runner in production and by the simulation's in tests; nothing here does
// I/O.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "libft/arbiter.h"
#include "libft/types.h"
#include "wire/message.h"

namespace libft::core {

// --- the primary's ----------------------------------------------------------------------------

struct BeginSync {};  // Copy all memory in rounds, load-probe a state: on_sync_converged.
struct DropPeer {
  std::string why;
};                       // Close the connection, abandon what is in flight.
struct TakeCheckpoint {  // Run the phases; then on_captured or on_capture_failed.
  EpochId id;
  bool begin_hold = false;
  bool stay_paused = false;
  bool guest_ended = false;
};
struct ReleaseOutput {
  EpochId through;
};
struct OpenOutput {};
struct DiscardOutput {};
struct ResumeGuest {};  // After a checkpoint with stay_paused.
struct Held {};  // Paused, the last epoch acknowledged and released: another process may go on.
struct StopGuest {
  std::string why;
};  // For good: another replica owns it, or it ended.

// --- the backup's -----------------------------------------------------------------------------

struct ApplyEpoch {
  EpochId id;
};  // Copy the decoded epoch into the guest's memory.
struct StartOver {
  std::string why;
};  // Give up the image and the incarnation; dial as a new one.
struct StandDown {
  std::string why;
};                // Give up for good: the guest ended.
struct Promote {  // Finish applying, load, run (unless its owner had paused it).
  OwnershipRecord record;
  Incarnation loser;  // For the fence.
  bool stay_paused = false;
};

// --- both -------------------------------------------------------------------------------------

struct SendMessage {
  wire::Message message;
  Generation generation;
};
// The arbiter is asked once; the answer comes back as on_swap or on_read. Never more than one
// question is out at a time.
struct SwapRecord {
  OwnershipRecord from, to;
};
struct ReadRecord {};
struct Tell {
  std::string event;
  std::string text;
};  // For the log and the host's event sink.

using Action = std::variant<BeginSync, DropPeer, TakeCheckpoint, ReleaseOutput, OpenOutput,
                            DiscardOutput, ResumeGuest, Held, StopGuest, ApplyEpoch, StartOver,
                            StandDown, Promote, SendMessage, SwapRecord, ReadRecord, Tell>;
using Actions = std::vector<Action>;

}  // namespace libft::core
