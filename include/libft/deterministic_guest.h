// SPDX-License-Identifier: LGPL-2.1-or-later
// A DeterministicGuest is a Guest's second, optional facet: its execution is a function of its
// inputs and of the exact positions at which they were delivered, so that it can be logged and
// executed again. The machine driver implements it; no stock hypervisor can (docs/MACHINE.md says
// what is missing). The session's thread calls it, except where a comment says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libft/guest.h"
#include "libft/status.h"
#include "libft/types.h"

namespace libft {

// Counts what the guest's processors executed, and slept. The guest's own time is a function of it.
using Position = Number<struct PositionTag>;

// What is not determined by the guest's state.
struct GuestInput {
  enum class Kind : std::uint8_t {
    frame,    // Received by the network interface.
    console,  // Typed.
    entropy,  // Random bytes that the guest asked for.
    // How processors that execute at once took part in what follows, as the guest recorded it: the
    // log carries the bytes. It is told after it has happened, and before output that depends on
    // it; done again, it is delivered where it began.
    schedule,
  };
  Kind kind = Kind::frame;
  std::vector<std::byte> bytes;
  bool operator==(const GuestInput&) const = default;
};

struct GuestOutput {
  enum class Kind : std::uint8_t { frame, console };
  Kind kind = Kind::frame;
  std::span<const std::byte> bytes;  // Valid during the call.
};

// A place in the guest's execution that its log can be cut at.
struct Mark {
  Position at;
  std::optional<std::uint64_t> hash;  // Of the whole state there, where it was asked for.
  // Of the frames that the guest sent since the mark before, and of the positions of each; since it
  // began or was loaded, if there was none.
  std::uint64_t said = 0;
  bool ended = false;  // It has shut down there.
  bool operator==(const Mark&) const = default;
};

enum class WithHash { no, yes };

// Where what comes in from outside takes effect, in a guest that runs.
enum class InputAt {
  any_position,  // At once.
  marks,         // What came since the mark before, at the mark.
};

class DeterministicGuest;

// A guest that executes again, in private, what another one did.
struct GuestCopy {
  std::unique_ptr<Guest> guest;
  DeterministicGuest* exact = nullptr;  // The guest once more.
};

class DeterministicGuest {
 public:
  // How far it has come. REQUIRES: paused, or loaded and not activated.
  virtual Result<Position> position() = 0;

  // Executes until exactly `until`, not before and not beyond, and pauses again; without input,
  // except what deliver() brought. Code::guest_gone when the guest ended by itself on the way.
  // REQUIRES: paused, or loaded and not activated; `until` is not behind it.
  virtual Status run_until(Position until) = 0;

  // Lets an input happen at the current position. The same inputs at the same positions lead to the
  // same states; input that a device has no room for is dropped, and that too is determined.
  // REQUIRES: as run_until().
  virtual Status deliver(const GuestInput& input) = 0;

  // Of the whole state, memory included. Equal states have equal hashes, on every host.
  // REQUIRES: as run_until().
  virtual Result<std::uint64_t> state_hash() = 0;

  // Is told every input of a guest that runs, before it takes effect, and where. Called on the
  // guest's own thread, in the order of positions; returns quickly. An empty sink: nobody wants to
  // know.
  using InputSink = std::function<void(Position, const GuestInput&)>;
  virtual void set_input_sink(InputSink sink) = 0;

  // From now on; at first, at any position. What the guest asked for itself (entropy) it gets at
  // once in any case.
  virtual void set_input_at(InputAt where) = 0;

  // Where a guest is that runs, stands still, or has ended. It stands still for that, no longer than
  // the hash takes, and for `there`, which is called meanwhile on the calling thread: what the
  // sinks were told before happened at this position or before it, what they are told afterwards at
  // it or behind it.
  virtual Status mark(WithHash hash, const std::function<void(const Mark&)>& there) = 0;

  // How fast a guest executes that runs: percent of what it could, 1 to 100. So is a guest slowed
  // whose follower lags.
  virtual void set_pace(unsigned percent) = 0;

  // Sends once more what the guest sent before, on its way to the gate. REQUIRES: as run_until().
  virtual void send_again(const GuestOutput& output) = 0;

  // Gets what the guest sends, with the position, instead of where it would go otherwise: during
  // run_until(), or on the guest's own thread. An empty sink: it goes where it went.
  using OutputSink = std::function<void(Position, const GuestOutput&)>;
  virtual void set_output_sink(OutputSink sink) = 0;

  // One of the same kind that waits for load_state() and is connected to nothing. Loaded with this
  // guest's memory and state as of a mark with a hash, it executes the log since to the same states.
  virtual Result<GuestCopy> make_copy() const = 0;

 protected:
  ~DeterministicGuest() = default;
};

}  // namespace libft
