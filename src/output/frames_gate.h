// SPDX-License-Identifier: LGPL-2.1-or-later
// A FramesGate stands between QEMU's NICs (`-netdev dgram`, see GuestPort) and their TAP devices.
// It holds every frame that the guest sends, of every protocol, until its epoch is released, and
// hands the frames that come in to the guest at once. The session's thread calls it; statistics()
// any thread. A pump thread of its own moves frames.
//
// What happens to a frame:
//
//            outgoing (guest to world)             incoming (world to guest)
//   standby  held, as in "held"                    not counted: nobody is at home. Remembered for
//                                                  a moment, should the guest be promoted
//   follows  to the follower's sink                as in "standby"; inject_input() delivers
//   held     kept until release() of its epoch,    delivered at once
//            or until the judge says so
//   open     forwarded at once                     delivered at once
//
// hold() and open() leave `standby` and `follows` for ever. A gate on standby has its TAP attached
// and its carrier up: a promotion then needs no change of a link, an event that bridges and the
// kernel may delay. A switch sends it nothing but broadcasts, because it never saw the guest's
// address on that port; but when the primary's host dies, it sends what is for the guest to every
// port (uplink.h). Whoever promotes calls deliver_recent(), so that no sender has to find out by
// its timers that a dead host did not hear it, and open() (or hold(), with a backup in place), and
// sends nothing itself: QEMU's own announcement passes through.
//
// Nothing is lost without a fault. At its limit the gate stops reading from QEMU and the guest
// finds its link full; towards a guest that reads nothing there is a bounded backlog. What is
// dropped all the same is counted and reported.
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libft/compared_gate.h"
#include "libft/input_tap.h"
#include "libft/log.h"
#include "libft/output_gate.h"
#include "output/guest_port.h"
#include "output/held_frames.h"
#include "output/recent_frames.h"
#include "output/uplink.h"

namespace libft::output {

enum class GateStart { held, standby };

struct FramesGateOptions {
  std::uint64_t bytes_held_max = 64ull << 20;  // Memory against how long a slow backup is borne.
  std::uint32_t frames_held_max = 1u << 17;
  std::uint32_t epochs_held_max = 64;
  std::uint64_t backlog_bytes_max = 4ull << 20;  // For each NIC, towards a guest that is busy.
  std::uint64_t recent_bytes_max = 1ull << 20;   // On standby: what came in last.
  GateStart start = GateStart::held;
  // Asked before each frame is written, on whichever thread writes; false stops all output, which
  // stays held, until it says true again (asked again every 10 ms). For a primary that finds that
  // it stood still. Must be quick and must not call the gate. Empty: always.
  std::function<bool()> may_release;
};

// One NIC: where the guest is, and where the world is.
struct GateNic {
  std::string name;  // For messages: "net0".
  GuestPort guest;
  os::ScopedFd link;  // One read or write, one frame: a TAP device, or a datagram socket.
  std::vector<os::ScopedFd> beside = {};  // On standby: what the link does not get (uplink.h).
};

struct GateNicPaths {
  std::string name;
  std::string gate_path;   // QEMU's remote.path; the gate binds it.
  std::string guest_path;  // QEMU's local.path.
  std::string tap;
};

// Raises the datagram queue length for the sockets to come (with a warning when that is refused),
// binds the socket and opens the TAP device.
Result<GateNic> open_gate_nic(const GateNicPaths& paths, Log& log);

// For a gate on standby: has each NIC hear what comes in for the guest beside its TAP device, which
// of `taps` is the one of the same place. What cannot be heard is logged, and waits for its sender.
void listen_beside_taps(std::span<GateNic> nics, std::span<const std::string> taps,
                        std::span<const MacAddress> guest, Log& log);

// The same with the descriptors that an earlier program of this process left open: nothing is lost
// between the two, and the TAP device keeps its carrier. GuestPort's socket, then the link.
struct GateDescriptors {
  int guest = -1, link = -1;
};
GateDescriptors descriptors_of(const GateNic& nic);
Result<GateNic> take_up_gate_nic(const GateNicPaths& paths, const GateDescriptors& left);

enum class DropReason {
  link_refused,      // The TAP device did not take an outgoing frame: it is down or gone.
  frame_too_large,   // From the guest, beyond any MTU.
  guest_queue_full,  // The guest did not read, and the backlog is full.
};
std::string_view to_string(DropReason reason);

struct GateDrop {
  DropReason reason;
  std::uint64_t frames;  // Since the last report of this reason; at most ten reports a second.
};

class FramesGate final : public OutputGate, public InputTap, public ComparedGate {
 public:
  // Sinks are called on any of the gate's threads, return quickly, and must not call the gate
  // except statistics(). Once a set_*_sink() returned, the sink before is not running any more.
  using DropSink = std::function<void(const GateDrop&)>;
  using InputSink = std::function<void(std::span<const std::byte> frame, unsigned nic)>;

  static Result<std::unique_ptr<FramesGate>> create(std::vector<GateNic> nics,
                                                    FramesGateOptions options, Log& log);
  ~FramesGate() override;
  FramesGate(const FramesGate&) = delete;
  FramesGate& operator=(const FramesGate&) = delete;

  GateLimits limits() const override;
  void set_waiting_sink(std::function<void()> sink) override;
  void set_drop_sink(DropSink sink);
  // Sees a copy of each frame that goes in to the guest, in order, before the guest does.
  void set_input_sink(InputSink sink) override;

  Status hold() override;
  // Reads everything that QEMU sent before it was paused, from the calling thread, then draws the
  // line. `exhausted`: no room for all of it; nothing was sealed.
  Status seal(EpochId id) override;
  // Writes to the link from the calling thread: what this returns after has left, unless the link
  // was full or may_release said no; then the pump goes on.
  Status release(EpochId id) override;
  void discard() override;
  Status open() override;
  GateStatistics statistics() const override;

  // Delivers a recorded frame to the guest, after those delivered before it. In any state.
  Status inject_input(unsigned nic, std::span<const std::byte> frame) override;
  std::size_t deliver_recent(Nanos age) override;

  void set_judge(Judge judge) override;
  void let_out(std::span<const FrameNo> frames) override;
  void follow(FollowerSink sink) override;
  void set_rewrite(Rewrite rewrite) override;

 private:
  struct Nic {
    GateNic ports;
    FrameRing backlog;       // input_mutex_
    bool link_full = false;  // output_mutex_: wait until it is writable.
    bool link_gone = false;  // pump only
  };
  enum class Wrote { batch, nothing_due, must_wait };
  enum class Collected { all, no_room, batch };
  enum class State { standby, follows, held, open };

  FramesGate(std::vector<Nic> nics, HeldFrames held, RecentFrames recent, FramesGateOptions options,
             Log& log);

  void pump();
  void wait_for_work();
  int list_waits();
  void collect_output();
  Collected collect_batch(unsigned nic, bool use_reserve);     // REQUIRES: output_mutex_
  bool collect_all();                                          // REQUIRES: output_mutex_
  void take_output(unsigned nic, std::span<std::byte> frame);  // REQUIRES: output_mutex_
  void write_due();
  void write_due_and_tell();
  Wrote write_batch();
  bool write_front();  // REQUIRES: output_mutex_
  void take_input(unsigned nic);
  bool on_standby() const { return state_ == State::standby || state_ == State::follows; }
  void take_beside(unsigned nic);
  // REQUIRES: input_mutex_
  void hear_beside(unsigned nic);
  void take_early(unsigned nic, std::span<const std::byte> frame);
  void inject(unsigned nic, std::span<const std::byte> frame);
  void deliver(unsigned nic, std::span<const std::byte> frame);
  void deliver_backlog(unsigned nic);
  void look_for_guests();
  void count_drop(DropReason reason);
  void report_drops();
  void call_waiting_sink();
  void wake_pump();

  FramesGateOptions options_;
  Log& log_;
  os::ScopedFd wake_;
  std::atomic<bool> stopping_ = false;
  std::atomic<State> state_;

  // Outgoing. The output mutex is held for one batch at most, so that neither thread waits long.
  mutable std::mutex output_mutex_;
  HeldFrames held_;
  FrameBatch batch_;
  bool stopped_ = false;  // may_release said no.
  bool waiting_ = false;  // The waiting sink is to be called once the mutex is free.
  bool pump_waits_for_room_ = false;
  std::uint64_t released_ = 0;
  std::uint64_t discarded_ = 0;
  Judge judge_;
  std::vector<FrameNo> leave_;  // What the judge said of one frame.
  FollowerSink follower_sink_;
  std::function<void(unsigned, std::span<std::byte>)> to_world_;

  // Incoming: the pump's and inject_input()'s. Where both are held, this one is taken first.
  std::mutex input_mutex_;
  std::vector<Nic> nics_;
  std::function<void(unsigned, std::span<std::byte>)> to_guest_;
  std::vector<std::byte> injected_;     // input_mutex_
  RecentFrames recent_;                 // input_mutex_
  bool promoted_ = false;               // input_mutex_: a gate on standby delivers already.
  std::vector<std::byte> beside_;       // input_mutex_
  std::vector<std::byte> input_frame_;  // pump only
  std::vector<pollfd> waits_;           // pump only: what it polls for
  std::atomic<std::uint64_t> packets_in_ = 0;

  static constexpr std::size_t kReasons = 3;
  std::array<std::atomic<std::uint64_t>, kReasons> dropped_{};
  std::array<std::uint64_t, kReasons> dropped_reported_{};  // pump only
  std::int64_t drops_reported_ms_ = 0;                      // pump only
  std::int64_t looked_ms_ = 0;                              // pump only

  std::mutex sink_mutex_;
  std::function<void()> waiting_sink_;
  DropSink drop_sink_;
  InputSink input_sink_;

  std::jthread pump_thread_;  // Last: joined before anything it uses goes.
};

}  // namespace libft::output
