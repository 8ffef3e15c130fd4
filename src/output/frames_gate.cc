// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/frames_gate.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "os/thread.h"
#include "output/tap.h"

namespace libft::output {
namespace {

constexpr unsigned kDatagramQueueFrames = 4096;

}  // namespace

std::string_view to_string(DropReason reason) {
  switch (reason) {
    case DropReason::link_refused: return "link_refused";
    case DropReason::frame_too_large: return "frame_too_large";
    case DropReason::guest_queue_full: return "guest_queue_full";
  }
  return "unknown";
}

Result<GateNic> open_gate_nic(const GateNicPaths& paths, Log& log) {
  if (const Status raised = raise_datagram_queue(kDatagramQueueFrames); !raised.ok()) {
    log.write(LogLevel::warning, "frames",
              fmt::format("{}: bursts towards the guest wait in libft instead of in the socket; "
                          "remedy: sysctl net.unix.max_dgram_qlen={}",
                          raised.message(), kDatagramQueueFrames));
  }
  FT_ASSIGN(auto guest, GuestPort::bind(paths.gate_path, paths.guest_path));
  FT_ASSIGN(auto link, open_tap(paths.tap));
  return GateNic{paths.name, std::move(guest), std::move(link)};
}

void listen_beside_taps(std::span<GateNic> nics, std::span<const std::string> taps,
                        std::span<const MacAddress> guest, Log& log) {
  for (std::size_t i = 0; i < std::min(nics.size(), taps.size()); ++i) {
    auto beside = listen_beside(taps[i], guest);
    if (beside)
      nics[i].beside = std::move(*beside);
    else
      log.write(
          LogLevel::warning, "frames",
          fmt::format("{}: {}; after a failover, what clients said meanwhile waits until they "
                      "say it again",
                      nics[i].name, beside.error().message()));
  }
}

GateDescriptors descriptors_of(const GateNic& nic) { return {nic.guest.fd(), nic.link.get()}; }

Result<GateNic> take_up_gate_nic(const GateNicPaths& paths, const GateDescriptors& left) {
  os::ScopedFd link(left.link);
  FT_ASSIGN(auto guest,
            GuestPort::take_up(os::ScopedFd(left.guest), paths.gate_path, paths.guest_path));
  if (::fcntl(link.get(), F_SETFD, FD_CLOEXEC) != 0)
    return failure(os::errno_status("take up the TAP device " + paths.tap));
  return GateNic{paths.name, std::move(guest), std::move(link)};
}

Result<std::unique_ptr<FramesGate>> FramesGate::create(std::vector<GateNic> nics,
                                                       FramesGateOptions options, Log& log) {
  HeldLimits limits;
  limits.bytes_max = options.bytes_held_max;
  limits.frames_max = options.frames_held_max;
  limits.epochs_max = options.epochs_held_max;
  // A seal must find room for all that is on its way: what a sender's socket buffer can hold.
  limits.reserve_bytes = nics.size() * (8ull << 20) + FrameBatch::kFramesMax * kFrameBytesMax;
  FT_ASSIGN(auto held, HeldFrames::create(limits));
  std::vector<Nic> with_backlog;
  for (GateNic& nic : nics) {
    FT_ASSIGN(auto backlog, FrameRing::create(options.backlog_bytes_max));
    with_backlog.push_back(Nic{std::move(nic), std::move(backlog)});
  }
  FT_ASSIGN(auto recent, RecentFrames::create(options.recent_bytes_max));
  std::unique_ptr<FramesGate> gate(new FramesGate(std::move(with_backlog), std::move(held),
                                                  std::move(recent), std::move(options), log));
  if (!gate->wake_.valid()) return failure(os::errno_status("open an eventfd"));
  gate->pump_thread_ = os::start_thread("ft-frames", [raw = gate.get()] { raw->pump(); });
  return gate;
}

FramesGate::FramesGate(std::vector<Nic> nics, HeldFrames held, RecentFrames recent,
                       FramesGateOptions options, Log& log)
    : options_(std::move(options)),
      log_(log),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      state_(options_.start == GateStart::standby ? State::standby : State::held),
      held_(std::move(held)),
      nics_(std::move(nics)),
      injected_(kFrameBytesMax),
      recent_(std::move(recent)),
      beside_(kFrameBytesMax),
      input_frame_(kFrameBytesMax) {}

FramesGate::~FramesGate() {
  stopping_ = true;
  wake_pump();
}

GateLimits FramesGate::limits() const {
  return {options_.epochs_held_max, options_.bytes_held_max};
}

void FramesGate::set_waiting_sink(std::function<void()> sink) {
  const std::lock_guard lock(sink_mutex_);
  waiting_sink_ = std::move(sink);
}

void FramesGate::set_drop_sink(DropSink sink) {
  const std::lock_guard lock(sink_mutex_);
  drop_sink_ = std::move(sink);
}

void FramesGate::set_input_sink(InputSink sink) {
  const std::lock_guard between_frames(input_mutex_);
  const std::lock_guard lock(sink_mutex_);
  input_sink_ = std::move(sink);
}

Status FramesGate::hold() {
  const std::lock_guard lock(output_mutex_);
  held_.hold();
  state_ = State::held;
  return {};
}

Status FramesGate::seal(EpochId id) {
  const std::lock_guard lock(output_mutex_);
  if (!collect_all()) {
    return Status(Code::exhausted,
                  fmt::format("seal epoch {}: {} bytes of output are held already and the guest "
                              "sent more; release, or raise bytes_held_max",
                              to_string(id), held_.bytes()));
  }
  waiting_ = false;  // Whoever seals knows already.
  const Status sealed = held_.seal(id);
  if (held_.due()) wake_pump();  // The judge let out some of what was read just now.
  return sealed;
}

Status FramesGate::release(EpochId id) {
  {
    const std::lock_guard lock(output_mutex_);
    held_.release(id);
  }
  write_due_and_tell();
  return {};
}

void FramesGate::discard() {
  {
    const std::lock_guard lock(output_mutex_);
    do {  // What still lies in a socket is held output as well.
      discarded_ += held_.discard();
    } while (!collect_all());
    discarded_ += held_.discard();
    waiting_ = stopped_ = false;
    for (Nic& nic : nics_) nic.link_full = false;
    state_ = State::held;
  }
  wake_pump();
}

Status FramesGate::open() {
  {
    const std::lock_guard lock(output_mutex_);
    held_.open();
    waiting_ = false;
    state_ = State::open;
  }
  write_due_and_tell();
  return {};
}

void FramesGate::set_judge(Judge judge) {
  const std::lock_guard lock(output_mutex_);
  judge_ = std::move(judge);
}

void FramesGate::let_out(std::span<const FrameNo> frames) {
  {
    const std::lock_guard lock(output_mutex_);
    for (const FrameNo frame : frames) held_.let_out(frame.value);
  }
  write_due_and_tell();
}

// What an earlier guest sent lies in the socket until it is read, or the port turns to another.
void FramesGate::follow(FollowerSink sink) {
  const std::lock_guard input_lock(input_mutex_);
  const std::lock_guard output_lock(output_mutex_);
  FT_ASSERT(state_ == State::standby || state_ == State::follows);
  for (Nic& nic : nics_) {
    while (batch_.receive(nic.ports.guest.fd(), FrameBatch::kFramesMax) > 0) {
    }
    nic.backlog.clear();
    nic.ports.guest.look_for_guest();
  }
  discarded_ += held_.discard();
  waiting_ = false;
  follower_sink_ = std::move(sink);
  state_ = State::follows;
}

void FramesGate::set_rewrite(Rewrite rewrite) {
  const std::lock_guard input_lock(input_mutex_);
  const std::lock_guard output_lock(output_mutex_);
  to_guest_ = std::move(rewrite.to_guest);
  to_world_ = std::move(rewrite.to_world);
}

GateStatistics FramesGate::statistics() const {
  GateStatistics statistics;
  for (const auto& count : dropped_) statistics.packets_dropped += count;
  statistics.packets_in = packets_in_;
  const std::lock_guard lock(output_mutex_);
  statistics.packets_held = held_.frames();
  statistics.bytes_held = held_.bytes();
  statistics.packets_released = released_;
  statistics.packets_discarded = discarded_;
  return statistics;
}

// Reads what the guest sent, one batch. Normally only below the limit; a seal may use the reserve.
FramesGate::Collected FramesGate::collect_batch(unsigned nic, bool use_reserve) {
  if (!use_reserve && held_.full()) return Collected::no_room;
  const auto room =
      static_cast<unsigned>(std::min<std::size_t>(held_.room(), FrameBatch::kFramesMax));
  if (room == 0) return Collected::no_room;
  const unsigned got = batch_.receive(nics_[nic].ports.guest.fd(), room);
  for (unsigned i = 0; i < got; ++i) {
    if (batch_.truncated(i)) {
      count_drop(DropReason::frame_too_large);
      continue;
    }
    take_output(nic, batch_.frame(i));
  }
  return got < room ? Collected::all : Collected::batch;
}

// REQUIRES: there is room for it.
void FramesGate::take_output(unsigned nic, std::span<std::byte> frame) {
  const FrameNo number{held_.next_number()};
  const bool follows = state_ == State::follows;
  if (follows && follower_sink_) follower_sink_(nic, frame);
  if (judge_ && state_ == State::held) judge_(number, nic, frame, leave_);
  if (to_world_) to_world_(nic, frame);
  if (follows) return;
  if (held_.push({nic, frame}) == HeldFrames::Pushed::first_waiting) waiting_ = true;
  for (const FrameNo one : leave_) held_.let_out(one.value);
  leave_.clear();
}

bool FramesGate::collect_all() {
  for (unsigned nic = 0; nic < nics_.size(); ++nic) {
    Collected collected;
    do {
      collected = collect_batch(nic, true);
    } while (collected == Collected::batch);
    if (collected == Collected::no_room) return false;
  }
  return true;
}

void FramesGate::write_due() {
  while (write_batch() == Wrote::batch) {
  }
}

// From another thread than the pump, which has to learn that something is left to do, or that there
// is room to read again.
void FramesGate::write_due_and_tell() {
  write_due();
  bool wake = false;
  {
    const std::lock_guard lock(output_mutex_);
    wake = held_.due() || (pump_waits_for_room_ && !held_.full());
  }
  if (wake) wake_pump();
}

FramesGate::Wrote FramesGate::write_batch() {
  const std::lock_guard lock(output_mutex_);
  for (unsigned i = 0; i < FrameBatch::kFramesMax; ++i) {
    if (!held_.due()) return Wrote::nothing_due;
    stopped_ = options_.may_release && !options_.may_release();
    if (stopped_ || !write_front()) return Wrote::must_wait;
  }
  return Wrote::batch;
}

// False when the link takes no frame now.
bool FramesGate::write_front() {
  const Frame frame = held_.front();
  Nic& nic = nics_[frame.nic];
  for (;;) {
    if (::write(nic.ports.link.get(), frame.bytes.data(), frame.bytes.size()) >= 0) {
      ++released_;
      break;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      nic.link_full = true;
      return false;
    }
    count_drop(DropReason::link_refused);
    break;
  }
  nic.link_full = false;
  held_.pop();
  return true;
}

void FramesGate::count_drop(DropReason reason) { ++dropped_[static_cast<std::size_t>(reason)]; }

void FramesGate::wake_pump() {
  const std::uint64_t one = 1;
  // A full counter wakes as well: nothing to check.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace libft::output
