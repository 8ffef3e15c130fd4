// SPDX-License-Identifier: LGPL-2.1-or-later
// The pump thread of FramesGate: it waits, reads what the guest sent, writes what is due, and hands
// the guest what comes in.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "os/real_clock.h"
#include "os/thread.h"
#include "output/frames_gate.h"

namespace libft::output {
namespace {

constexpr int kAskAgainMs = 10;      // may_release said no.
constexpr int kLookForGuestMs = 20;  // No QEMU yet.
constexpr int kLookAgainMs = 250;    // Another QEMU may have taken the place of the first.
constexpr int kReportMs = 100;
constexpr unsigned kBatchesInTurn = 8;  // Then the other direction has its turn.

std::int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

void FramesGate::pump() {
  os::prefer_this_thread();
  while (!stopping_) {
    wait_for_work();
    collect_output();
    write_due();
    for (unsigned nic = 0; nic < nics_.size(); ++nic) {
      deliver_backlog(nic);
      take_input(nic);
      take_beside(nic);
    }
    look_for_guests();
    report_drops();
  }
}

// Returns how long to wait. A descriptor of which nothing is wanted now is left out (-1), else its
// POLLERR would spin.
int FramesGate::list_waits() {
  int timeout_ms = kLookAgainMs;
  waits_.assign(1, {wake_.get(), POLLIN, 0});
  const std::lock_guard input_lock(input_mutex_);
  const std::lock_guard output_lock(output_mutex_);
  pump_waits_for_room_ = held_.full() || held_.room() == 0;
  if (stopped_ && held_.due()) timeout_ms = kAskAgainMs;
  for (const Nic& nic : nics_) {
    int guest_events = pump_waits_for_room_ ? 0 : POLLIN;
    if (!nic.backlog.empty()) guest_events |= POLLOUT;
    int link_events = nic.link_gone ? 0 : POLLIN;
    if (nic.link_full) link_events |= POLLOUT;
    const auto add = [&](int fd, int events) {
      waits_.push_back({events != 0 ? fd : -1, static_cast<short>(events), 0});
    };
    add(nic.ports.guest.fd(), guest_events);
    add(nic.ports.link.get(), link_events);
    for (const os::ScopedFd& socket : nic.ports.beside) add(socket.get(), POLLIN);
    if (!nic.ports.guest.connected()) timeout_ms = std::min(timeout_ms, kLookForGuestMs);
  }
  return timeout_ms;
}

void FramesGate::wait_for_work() {
  const int timeout_ms = list_waits();
  if (stopping_) return;
  ::poll(waits_.data(), waits_.size(), timeout_ms);
  std::uint64_t woken = 0;
  [[maybe_unused]] const auto got = ::read(wake_.get(), &woken, sizeof woken);
}

void FramesGate::collect_output() {
  for (unsigned nic = 0; nic < nics_.size(); ++nic) {
    for (unsigned turn = 0; turn < kBatchesInTurn; ++turn) {
      Collected collected;
      bool tell = false;
      {
        const std::lock_guard lock(output_mutex_);
        collected = collect_batch(nic, false);
        tell = std::exchange(waiting_, false);
      }
      if (tell) call_waiting_sink();
      if (collected != Collected::batch) break;
    }
  }
}

void FramesGate::call_waiting_sink() {
  const std::lock_guard lock(sink_mutex_);
  if (waiting_sink_) waiting_sink_();
}

void FramesGate::take_input(unsigned nic) {
  Nic& here = nics_[nic];
  for (unsigned n = 0; n < kBatchesInTurn * FrameBatch::kFramesMax && !here.link_gone; ++n) {
    const auto got = ::read(here.ports.link.get(), input_frame_.data(), input_frame_.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN && errno != ECONNREFUSED && errno != ECONNRESET) {
      here.link_gone = true;
      log_.write(LogLevel::error, "frames",
                 os::errno_status(fmt::format("{}: read from its TAP device; nothing comes in "
                                              "any more",
                                              here.ports.name))
                     .message());
    }
    if (got <= 0) return;
    const std::span<std::byte> frame(input_frame_.data(), static_cast<std::size_t>(got));
    const std::lock_guard lock(input_mutex_);
    if (on_standby()) {
      take_early(nic, frame);
      continue;
    }
    {
      const std::lock_guard sink_lock(sink_mutex_);
      if (input_sink_) input_sink_(frame, nic);
    }
    if (to_guest_) to_guest_(nic, frame);
    deliver(nic, frame);
  }
}

void FramesGate::deliver(unsigned nic, std::span<const std::byte> frame) {
  Nic& here = nics_[nic];
  if (here.backlog.empty()) {
    switch (here.ports.guest.send(frame)) {
      case GuestPort::Sent::yes: ++packets_in_; return;
      case GuestPort::Sent::absent: return;  // No guest, no loss: as with a cable to nowhere.
      case GuestPort::Sent::full: break;
    }
  }
  if (here.backlog.push({nic, frame})) {
    ++packets_in_;
  } else {
    count_drop(DropReason::guest_queue_full);
  }
}

void FramesGate::deliver_backlog(unsigned nic) {
  const std::lock_guard lock(input_mutex_);
  Nic& here = nics_[nic];
  while (!here.backlog.empty()) {
    if (here.ports.guest.send(here.backlog.front().bytes) == GuestPort::Sent::full) return;
    here.backlog.pop();
  }
}

Status FramesGate::inject_input(unsigned nic, std::span<const std::byte> frame) {
  if (nic >= nics_.size() || frame.size() > kFrameBytesMax) {
    return Status(Code::invalid, fmt::format("deliver a recorded frame of {} bytes to NIC {}: the "
                                             "guest has {} NICs, frames up to {} bytes",
                                             frame.size(), nic, nics_.size(), kFrameBytesMax));
  }
  {
    const std::lock_guard lock(input_mutex_);
    inject(nic, frame);
  }
  wake_pump();  // Should it have gone to the backlog.
  return {};
}

void FramesGate::inject(unsigned nic, std::span<const std::byte> frame) {
  if (to_guest_) {
    const std::span<std::byte> copy(injected_.data(), frame.size());
    std::copy(frame.begin(), frame.end(), copy.begin());
    to_guest_(nic, copy);
    frame = copy;
  }
  deliver(nic, frame);
}

// --- what comes in on standby -------------------------------------------------------------------

void FramesGate::take_early(unsigned nic, std::span<const std::byte> frame) {
  if (promoted_)
    inject(nic, frame);
  else
    recent_.push({nic, frame}, os::RealClock().now());
}

// Once the guest has said where it is, its TAP device gets what is for it.
void FramesGate::take_beside(unsigned nic) {
  if (nics_[nic].ports.beside.empty()) return;
  const std::lock_guard lock(input_mutex_);
  hear_beside(nic);
  if (!on_standby()) nics_[nic].ports.beside.clear();
}

void FramesGate::hear_beside(unsigned nic) {
  for (const os::ScopedFd& socket : nics_[nic].ports.beside)
    for (auto frame = receive_frame(socket.get(), beside_); !frame.empty();
         frame = receive_frame(socket.get(), beside_))
      take_early(nic, frame);
}

std::size_t FramesGate::deliver_recent(Nanos age) {
  std::size_t count = 0;
  {
    const std::lock_guard lock(input_mutex_);
    if (!on_standby()) return 0;
    for (unsigned nic = 0; nic < nics_.size(); ++nic) hear_beside(nic);
    promoted_ = true;
    recent_.drain(os::RealClock().now() - age, [&](const Frame& frame) {
      inject(frame.nic, frame.bytes);
      ++count;
    });
  }
  wake_pump();  // Should some have gone to the backlog.
  return count;
}

void FramesGate::look_for_guests() {
  const std::int64_t now = now_ms();
  if (now - looked_ms_ < kLookForGuestMs) return;
  looked_ms_ = now;
  const std::lock_guard lock(input_mutex_);
  for (Nic& nic : nics_) nic.ports.guest.look_for_guest();
}

void FramesGate::report_drops() {
  const std::int64_t now = now_ms();
  if (now - drops_reported_ms_ < kReportMs) return;
  for (std::size_t i = 0; i < kReasons; ++i) {
    const std::uint64_t fresh = dropped_[i] - dropped_reported_[i];
    if (fresh == 0) continue;
    dropped_reported_[i] += fresh;
    drops_reported_ms_ = now;
    const std::lock_guard lock(sink_mutex_);
    if (drop_sink_) drop_sink_({static_cast<DropReason>(i), fresh});
  }
}

}  // namespace libft::output
