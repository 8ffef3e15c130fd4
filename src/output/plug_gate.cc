// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/plug_gate.h"

#include <fmt/format.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "os/event_fd.h"
#include "os/thread.h"
#include "output/output_watch.h"
#include "output/plug_rig.h"

namespace libft::output {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kLookPause = 50us;        // While an epoch leaves the kernel's queue.
constexpr auto kReleasePatience = 50ms;  // Then the gate's thread goes on with it.
constexpr auto kSealPatience = 500ms;    // The guest is paused; without a seal it loses protection.
constexpr int kFinishAgainMs = 10;
constexpr int kLookForDropsMs = 1000;  // Each epoch has its own look; this is for a standby.

// Kernel queues take their limit as a signed number of 32 bits.
constexpr std::uint64_t kBytesHeldMin = 8ull << 10, kBytesHeldMost = 2ull << 30;

// The last frame of one queue may still be on its way up the stack, on a processor that was
// interrupted there; a frame of the other queue could overtake it on another one. This waits until
// every processor has finished what it was doing for the network: tens of milliseconds, therefore
// not for each epoch, between which there is time enough. A kernel without it risks a swap of two
// frames.
void let_softirqs_end() { ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); }

class PlugGate final : public OutputGate {
 public:
  PlugGate(PlugRig rig, OutputWatch watch, os::EventFd wake, PlugGateOptions options, Log& log);
  ~PlugGate() override;
  PlugGate(const PlugGate&) = delete;
  PlugGate& operator=(const PlugGate&) = delete;

  Status begin();  // Once, before anything else.

  GateLimits limits() const override { return {1, options_.bytes_held_max}; }
  void set_waiting_sink(std::function<void()> sink) override;
  Status hold() override;
  Status seal(EpochId id) override;
  Status release(EpochId id) override;
  void discard() override;
  Status open() override;
  GateStatistics statistics() const override;

 private:
  // Of the queue that is not being filled.
  enum class Other {
    empty,
    inherited,  // It holds what an earlier process had sealed.
    sealed,     // It holds the epoch last sealed.
    leaving,    // It may leave: unblocked as soon as may_release agrees, until nothing is left.
  };
  enum class State { held, opening, open };  // opening: open() was called, and waits for Other.
  // For which the waiting sink is called. untold: output came, and nobody had given a sink.
  enum class Watch { nothing, what_comes, what_is_there, untold };
  struct Counts {
    std::uint64_t left = 0, drops = 0;  // Of a queue; a new one begins at 0.
    std::uint64_t strays = 0;           // Of its ifb device.
  };

  // All of these REQUIRE mutex_.
  unsigned other() const { return 1 - rig_.filling(); }
  bool unfinished() const { return other_ == Other::leaving || state_ == State::opening; }
  Result<bool> finish(SteadyClock::duration patience);
  Result<bool> let_other_leave(SteadyClock::time_point until);
  Result<QueueState> look(unsigned queue) const;
  void discard_queue(unsigned queue);
  Status report_drops();

  void watch_for(Watch what);
  void run();
  int list_waits(std::vector<pollfd>& waits);
  void notice_output(std::vector<pollfd>& waits);
  void go_on();

  PlugGateOptions options_;
  Log& log_;
  OutputWatch watch_;
  os::EventFd wake_;
  std::atomic<bool> stopping_ = false;

  mutable std::mutex mutex_;
  mutable PlugRig rig_;
  State state_ = State::held;
  Other other_ = Other::empty;
  bool other_unblocked_ = false;
  std::uint64_t other_count_ = 0;  // Of its ifb device, when all has left.
  bool other_used_ = false;        // Something left by it since the gate was opened last.
  EpochId sealed_last_;
  mutable std::array<Counts, 2> seen_;  // What each queue had counted when last looked at.
  mutable std::uint64_t released_ = 0, dropped_ = 0;
  std::uint64_t discarded_ = 0, drops_reported_ = 0, towards_guest_before_ = 0;
  std::string trouble_;  // Reported last, not to be repeated.

  std::mutex watch_mutex_;
  Watch watching_ = Watch::nothing;

  std::mutex sink_mutex_;
  std::function<void()> waiting_sink_;

  std::jthread thread_;
};

PlugGate::PlugGate(PlugRig rig, OutputWatch watch, os::EventFd wake, PlugGateOptions options,
                   Log& log)
    : options_(std::move(options)),
      log_(log),
      watch_(std::move(watch)),
      wake_(std::move(wake)),
      rig_(std::move(rig)) {}

Status PlugGate::begin() {
  towards_guest_before_ = rig_.packets_towards_guest();
  for (unsigned queue = 0; queue < 2; ++queue) {
    FT_ASSIGN(const QueueState held, look(queue));
    // In a queue that was made just now there are only strays: nobody's epoch.
    if (rig_.adopted() && queue == other() && held.packets != 0) other_ = Other::inherited;
  }
  released_ = dropped_ = 0;  // What was counted until now was an earlier process's.
  watch_for(Watch::what_comes);
  thread_ = os::start_thread("ft-plug", [this] { run(); });
  return {};
}

PlugGate::~PlugGate() {
  stopping_ = true;
  wake_.signal();
  if (thread_.joinable()) thread_.join();
  if (state_ != State::open || other_ != Other::empty) return;  // It stays held.
  rig_.detach();
  const auto until = SteadyClock::now() + kReleasePatience;
  for (;;) {
    const auto drained = rig_.drained(rig_.filling(), 0);
    if (!drained || *drained || SteadyClock::now() >= until) break;
    std::this_thread::sleep_for(kLookPause);
  }
  rig_.take_apart();
}

void PlugGate::set_waiting_sink(std::function<void()> sink) {
  const bool somebody = static_cast<bool>(sink);
  {
    const std::lock_guard lock(sink_mutex_);
    waiting_sink_ = std::move(sink);
  }
  const std::lock_guard lock(watch_mutex_);
  if (!somebody || watching_ != Watch::untold) return;
  watching_ = Watch::what_is_there;
  wake_.signal();
}

Status PlugGate::hold() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::held) return {};
  if (state_ == State::open) FT_TRY(rig_.block(rig_.filling()).within("hold output"));
  state_ = State::held;
  watch_for(Watch::what_comes);
  return {};
}

Status PlugGate::seal(EpochId id) {
  const std::lock_guard lock(mutex_);
  if (id <= sealed_last_) {
    return Status(Code::invalid,
                  fmt::format("seal epoch {}: epoch {} was sealed before, and ids ascend",
                              to_string(id), to_string(sealed_last_)));
  }
  if (state_ == State::held) {
    if (const auto left = finish(kSealPatience); !left) return left.error().within("seal");
    if (other_ == Other::sealed || other_ == Other::leaving) {
      return Status(Code::exhausted,
                    fmt::format("seal epoch {}: epoch {} {}, and a plug gate holds one",
                                to_string(id), to_string(sealed_last_),
                                other_ == Other::sealed ? "waits for its release"
                                                        : "has not left the host's kernel yet"));
    }
    // The watch first, then the line, so that the first frame after the line is noticed.
    watch_for(other_ == Other::inherited ? Watch::what_is_there : Watch::what_comes);
    if (other_ == Other::empty) FT_TRY(rig_.redirect_to(other()).within("seal"));
    other_ = Other::sealed;
  }
  sealed_last_ = id;
  return {};
}

Status PlugGate::release(EpochId id) {
  const std::lock_guard lock(mutex_);
  if (other_ != Other::sealed || id < sealed_last_) return {};
  other_ = Other::leaving;
  FT_ASSIGN(const bool done, finish(kReleasePatience));
  if (!done) wake_.signal();
  return {};
}

void PlugGate::discard() {
  const std::lock_guard lock(mutex_);
  discard_queue(0);
  discard_queue(1);
  state_ = State::held;
  other_ = Other::empty;
  other_unblocked_ = false;
  watch_for(Watch::what_comes);
}

void PlugGate::discard_queue(unsigned queue) {
  const auto held = look(queue);
  Status status = rig_.empty(queue);
  if (status.ok()) {
    if (held) discarded_ += held->packets;
    seen_[queue].left = seen_[queue].drops = 0;
    return;
  }
  // Then at least nothing of it may leave.
  if (const Status blocked = rig_.block(queue); !blocked.ok()) status = blocked;
  log_.write(LogLevel::error, "plug", status.within("discard held output").message());
}

Status PlugGate::open() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::open) return {};
  if (other_ != Other::empty) other_ = Other::leaving;
  state_ = State::opening;
  watch_for(Watch::nothing);
  FT_ASSIGN(const bool done, finish(kReleasePatience));
  if (!done) wake_.signal();
  return {};
}

GateStatistics PlugGate::statistics() const {
  const std::lock_guard lock(mutex_);
  GateStatistics statistics;
  for (unsigned queue = 0; queue < 2; ++queue) {
    const auto state = look(queue);
    if (!state) continue;  // Gone: it holds nothing.
    statistics.packets_held += state->packets;
    statistics.bytes_held += state->bytes;
  }
  statistics.packets_released = released_;
  statistics.packets_dropped = dropped_;
  statistics.packets_discarded = discarded_;
  const std::uint64_t in = rig_.packets_towards_guest();
  statistics.packets_in = in > towards_guest_before_ ? in - towards_guest_before_ : 0;
  return statistics;
}

// What was asked to leave leaves: the older queue first, the other one only when nothing of the
// first is on its way any more. False: not all of it yet.
Result<bool> PlugGate::finish(SteadyClock::duration patience) {
  if (!unfinished()) return true;
  if (options_.may_release && !options_.may_release()) return false;
  if (other_ == Other::leaving) {
    FT_ASSIGN(const bool left, let_other_leave(SteadyClock::now() + patience));
    if (!left) return false;
  }
  if (state_ == State::opening) {
    if (std::exchange(other_used_, false)) let_softirqs_end();
    if (const auto open = rig_.unblock(rig_.filling()); !open) {
      return failure(open.error().within("open the gate"));
    }
    state_ = State::open;
  }
  return true;
}

Result<bool> PlugGate::let_other_leave(SteadyClock::time_point until) {
  if (!other_unblocked_) {
    const auto count = rig_.unblock(other());
    if (!count) return failure(count.error().within("release"));
    other_count_ = *count;
    other_unblocked_ = other_used_ = true;
  }
  for (;;) {
    auto drained = rig_.drained(other(), other_count_);
    if (!drained) return failure(drained.error().within("release"));
    if (*drained) break;
    if (SteadyClock::now() >= until) return false;
    std::this_thread::sleep_for(kLookPause);
  }
  // Only a queue that is known to hold may be filled again.
  FT_TRY(rig_.block(other()).within("release"));
  other_unblocked_ = false;
  other_ = Other::empty;
  return true;
}

// Strays leave the queue too, but are not the guest's output. While they are in it nothing tells
// them apart. They are read first, so that none is taken off before it was added; only when the
// queue was replaced meanwhile can there be more of them than frames that were seen to leave.
Result<QueueState> PlugGate::look(unsigned queue) const {
  FT_ASSIGN(const std::uint64_t strays, rig_.strays(queue));
  FT_ASSIGN(const QueueState state, rig_.look(queue));
  Counts& seen = seen_[queue];
  released_ += state.packets_left - seen.left;
  released_ -= std::min(released_, strays - seen.strays);
  dropped_ += state.drops - seen.drops;
  seen = {state.packets_left, state.drops, strays};
  return state;
}

// Output that was seen before is forgotten.
void PlugGate::watch_for(Watch what) {
  {
    const std::lock_guard lock(watch_mutex_);
    watch_.flush();
    watching_ = what;
  }
  wake_.signal();
}

void PlugGate::run() {
  os::prefer_this_thread();
  std::vector<pollfd> waits;
  while (!stopping_) {
    const int timeout_ms = list_waits(waits);
    ::poll(waits.data(), waits.size(), timeout_ms);
    wake_.drain();
    if (stopping_) return;
    notice_output(waits);
    go_on();
  }
}

int PlugGate::list_waits(std::vector<pollfd>& waits) {
  waits.assign(1, {wake_.fd(), POLLIN, 0});
  {
    const std::lock_guard lock(watch_mutex_);
    if (watching_ == Watch::what_is_there) return 0;
    if (watching_ == Watch::what_comes) {
      for (const auto& socket : watch_.sockets()) waits.push_back({socket.get(), POLLIN, 0});
    }
  }
  const std::lock_guard lock(mutex_);
  if (unfinished()) return kFinishAgainMs;
  return kLookForDropsMs;
}

void PlugGate::notice_output(std::vector<pollfd>& waits) {
  const std::lock_guard sink_lock(sink_mutex_);
  {
    // Looked at again: a seal may have forgotten what woke us.
    const std::lock_guard lock(watch_mutex_);
    const bool came = watching_ == Watch::what_comes && waits.size() > 1 &&
                      ::poll(&waits[1], waits.size() - 1, 0) > 0;
    if (!came && watching_ != Watch::what_is_there) return;
    watching_ = waiting_sink_ ? Watch::nothing : Watch::untold;
  }
  if (waiting_sink_) waiting_sink_();
}

void PlugGate::go_on() {
  const std::lock_guard lock(mutex_);
  const auto done = finish(0ms);
  const Status status = done ? report_drops() : done.error();
  if (!status.ok() && status.message() != trouble_) {
    log_.write(LogLevel::error, "plug", status.message());
  }
  trouble_ = status.message();
}

Status PlugGate::report_drops() {
  for (unsigned queue = 0; queue < 2; ++queue) {
    if (const auto state = look(queue); !state) return state.error();
  }
  const std::uint64_t fresh = dropped_ - drops_reported_;
  drops_reported_ = dropped_;
  if (fresh == 0) return {};
  log_.write(LogLevel::warning, "plug",
             fmt::format("{} frames of the guest were dropped: more than {} bytes in one epoch; "
                         "remedy: shorter epochs, a faster link to the backup, or a higher limit",
                         fresh, options_.bytes_held_max / 2));
  return {};
}

}  // namespace

Result<std::unique_ptr<OutputGate>> open_plug_gate(PlugGateOptions options, Log& log) {
  if (options.bytes_held_max < kBytesHeldMin || options.bytes_held_max > kBytesHeldMost) {
    return failure(Code::invalid,
                   fmt::format("a plug gate holds {} to {} bytes; {} were asked for", kBytesHeldMin,
                               kBytesHeldMost, options.bytes_held_max));
  }
  const auto queue_bytes = static_cast<std::uint32_t>(options.bytes_held_max / 2);
  FT_ASSIGN(auto rig, PlugRig::assemble({options.guest, options.devices, queue_bytes,
                                         options.leftovers == PlugLeftovers::adopt}));
  // From here on a failure leaves the guest's output held, as a crash would.
  FT_ASSIGN(auto watch, OutputWatch::open(rig.device_ifindexes()));
  FT_ASSIGN(auto wake, os::EventFd::create());
  auto gate = std::make_unique<PlugGate>(std::move(rig), std::move(watch), std::move(wake),
                                         std::move(options), log);
  FT_TRY(gate->begin());
  return gate;
}

Status remove_plug_gate(const GuestId& guest, const std::vector<std::string>& devices) {
  return PlugRig::remove({guest, devices, 0, true});
}

}  // namespace libft::output
