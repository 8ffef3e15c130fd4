// SPDX-License-Identifier: LGPL-2.1-or-later
// A GuestPort is one NIC's socket to QEMU (`-netdev dgram`): one frame, one datagram, each way.
// FramesGate owns one for each NIC. receive() and send() may run on two threads at the same time;
// each of them on one at a time.
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "os/fd.h"
#include "output/frame_ring.h"

namespace libft::output {

// Memory for the frames of one recvmmsg call.
class FrameBatch {
 public:
  static constexpr unsigned kFramesMax = 32;
  FrameBatch();
  FrameBatch(const FrameBatch&) = delete;
  FrameBatch& operator=(const FrameBatch&) = delete;

  // Reads what is there now, `frames_max` at most. Returns how many; 0 when there is nothing.
  unsigned receive(int fd, unsigned frames_max);
  std::span<const std::byte> frame(unsigned index) const;
  std::span<std::byte> frame(unsigned index);
  bool truncated(unsigned index) const;  // Larger than any NIC's frame: not to be forwarded.

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::array<iovec, kFramesMax> parts_{};
  std::array<mmsghdr, kFramesMax> messages_{};
};

class GuestPort {
 public:
  // Binds `gate_path` (QEMU's remote.path) and talks to `guest_path` (QEMU's local.path), which
  // need not exist yet. A dead socket at `gate_path` is replaced, a live one is `busy`.
  static Result<GuestPort> bind(const std::string& gate_path, const std::string& guest_path);
  // The socket that an earlier program of this process had bound so, with all that waits in it.
  static Result<GuestPort> take_up(os::ScopedFd fd, const std::string& gate_path,
                                   const std::string& guest_path);
  // One end of a connected pair of datagram sockets: QEMU's `local.type=fd`, or a test.
  static Result<GuestPort> from_pair(os::ScopedFd fd);

  GuestPort(GuestPort&&) noexcept = default;
  GuestPort& operator=(GuestPort&&) = delete;
  ~GuestPort();

  int fd() const { return fd_.get(); }

  enum class Sent { yes, full, absent };
  Sent send(std::span<const std::byte> frame);

  // Connects to the guest's socket when it appeared, or when another QEMU took its place. Cheap.
  void look_for_guest();
  bool connected() const { return connected_; }

 private:
  explicit GuestPort(os::ScopedFd fd) : fd_(std::move(fd)) {}

  os::ScopedFd fd_;
  std::string gate_path_;  // Ours to unlink; empty for a pair.
  std::string guest_path_;
  ino_t guest_inode_ = 0;
  bool connected_ = false;
};

// The length of unix datagram queues of sockets opened from now on in this network namespace
// (net.unix.max_dgram_qlen). Never lowers it. `refused` for who may not write it.
Status raise_datagram_queue(unsigned frames);

}  // namespace libft::output
