// SPDX-License-Identifier: LGPL-2.1-or-later
// A FramesGate with a socket pair in place of QEMU and another one in place of the TAP device, for
// tests. One test thread.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "os/fd.h"
#include "output/frames_gate.h"

namespace libft::support {

class MemoryLog final : public Log {
 public:
  void write(LogLevel, std::string_view area, std::string_view text) override {
    const std::lock_guard lock(mutex_);
    text_ += std::string(area) + ": " + std::string(text) + "\n";
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

struct SocketPair {
  os::ScopedFd ours, gates;
};

inline SocketPair socket_pair() {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
  return {os::ScopedFd(fds[0]), os::ScopedFd(fds[1])};
}

inline bool wait_readable(int fd, short events, int timeout_ms) {
  pollfd one{fd, events, 0};
  return ::poll(&one, 1, timeout_ms) > 0;
}

// The deadline of every wait that must succeed.
inline constexpr int kPatienceMs = 30'000;

template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// A frame that a test can tell from others.
inline std::span<const std::byte> bytes_of(const std::uint32_t& number) {
  return std::as_bytes(std::span(&number, 1));
}

class FramesWorld {
 public:
  explicit FramesWorld(output::FramesGateOptions options = {}) {
    auto guest = socket_pair();
    auto link = socket_pair();
    guest_ = std::move(guest.ours);
    outside_ = std::move(link.ours);
    auto port = output::GuestPort::from_pair(std::move(guest.gates));
    REQUIRE(port);
    std::vector<output::GateNic> nics;
    nics.push_back({"net0", std::move(*port), std::move(link.gates)});
    auto gate = output::FramesGate::create(std::move(nics), std::move(options), log_);
    REQUIRE(gate);
    gate_ = std::move(*gate);
  }

  static std::unique_ptr<FramesWorld> create(std::uint32_t epochs_max, std::uint64_t bytes_max) {
    output::FramesGateOptions options;
    options.epochs_held_max = epochs_max;
    options.bytes_held_max = bytes_max;
    return std::make_unique<FramesWorld>(options);
  }

  output::FramesGate& gate() { return *gate_; }
  const MemoryLog& log() const { return log_; }
  int guest_fd() const { return guest_.get(); }
  int outside_fd() const { return outside_.get(); }
  void close_outside() { outside_.reset(); }
  void destroy_gate() { gate_.reset(); }

  // The guest sends; false when its link stays full although the pump had time to read.
  bool send(std::uint32_t number) {
    while (::send(guest_.get(), &number, sizeof number, MSG_NOSIGNAL) < 0) {
      if (errno != EAGAIN || !wait_readable(guest_.get(), POLLOUT, 500)) return false;
    }
    return true;
  }

  const std::vector<std::uint32_t>& arrived() {
    std::uint32_t number = 0;
    while (::recv(outside_.get(), &number, sizeof number, 0) == sizeof number) {
      arrived_.push_back(number);
    }
    return arrived_;
  }

  bool wait_for(std::size_t count) {
    while (arrived().size() < count) {
      if (!wait_readable(outside_.get(), POLLIN, kPatienceMs)) return false;
    }
    return true;
  }

 private:
  MemoryLog log_;
  os::ScopedFd guest_, outside_;
  std::unique_ptr<output::FramesGate> gate_;
  std::vector<std::uint32_t> arrived_;
};

}  // namespace libft::support
