// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/guest_port.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace libft::output {
namespace {

constexpr const char* kQueueLengthFile = "/proc/sys/net/unix/max_dgram_qlen";
// A unix socket charges the sender: this bounds what waits in QEMU's queue, and the kernel cuts it
// down to net.core.wmem_max.
constexpr int kSendBufferBytes = 8 << 20;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return failure(Code::invalid, fmt::format("socket path \"{}\": must have 1 to {} characters",
                                              path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<os::ScopedFd> datagram_socket() {
  os::ScopedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failure(os::errno_status("open a unix datagram socket"));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof kSendBufferBytes);
  return fd;
}

// Makes way for a bind when a process that died left its socket behind.
Status remove_dead_socket(const std::string& path, const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) return {};
  if (!S_ISSOCK(found.st_mode)) {
    return Status(Code::busy, fmt::format("{} exists and is no socket: choose another path", path));
  }
  FT_ASSIGN(const auto probe, datagram_socket());
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EPERM) {
    return Status(Code::busy, fmt::format("{} is in use by another process", path));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return os::errno_status(fmt::format("remove the dead socket {}", path));
  }
  return {};
}

}  // namespace

FrameBatch::FrameBatch() : memory_(new std::byte[kFramesMax * kFrameBytesMax]) {
  for (unsigned i = 0; i < kFramesMax; ++i) {
    parts_[i] = {memory_.get() + i * kFrameBytesMax, kFrameBytesMax};
    messages_[i].msg_hdr.msg_iov = &parts_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

unsigned FrameBatch::receive(int fd, unsigned frames_max) {
  const unsigned wanted = std::min(frames_max, kFramesMax);
  if (wanted == 0) return 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const int got = ::recvmmsg(fd, messages_.data(), wanted, MSG_DONTWAIT, nullptr);
    if (got >= 0) return static_cast<unsigned>(got);
    // ECONNRESET reports once that QEMU's end went away; frames it sent before are still there.
    if (errno != EINTR && errno != ECONNRESET) return 0;
  }
  return 0;
}

std::span<const std::byte> FrameBatch::frame(unsigned index) const {
  return {memory_.get() + index * kFrameBytesMax, messages_[index].msg_len};
}

std::span<std::byte> FrameBatch::frame(unsigned index) {
  return {memory_.get() + index * kFrameBytesMax, messages_[index].msg_len};
}

bool FrameBatch::truncated(unsigned index) const {
  return (messages_[index].msg_hdr.msg_flags & MSG_TRUNC) != 0;
}

Result<GuestPort> GuestPort::bind(const std::string& gate_path, const std::string& guest_path) {
  FT_ASSIGN(const auto address, address_of(gate_path));
  FT_ASSIGN(const auto guest_address, address_of(guest_path));
  static_cast<void>(guest_address);
  FT_TRY(remove_dead_socket(gate_path, address));
  FT_ASSIGN(auto fd, datagram_socket());
  if (::bind(fd.get(), generic(address), sizeof address) != 0) {
    return failure(os::errno_status(fmt::format("bind {}", gate_path)));
  }
  GuestPort port(std::move(fd));
  port.gate_path_ = gate_path;
  port.guest_path_ = guest_path;
  port.look_for_guest();
  return port;
}

Result<GuestPort> GuestPort::take_up(os::ScopedFd fd, const std::string& gate_path,
                                     const std::string& guest_path) {
  sockaddr_un bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    return failure(os::errno_status("look at an inherited socket"));
  if (bound.sun_family != AF_UNIX || gate_path != bound.sun_path)
    return failure(Code::invalid,
                   fmt::format("the inherited descriptor is not the socket {}", gate_path));
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  GuestPort port(std::move(fd));
  port.gate_path_ = gate_path;
  port.guest_path_ = guest_path;
  port.look_for_guest();
  return port;
}

Result<GuestPort> GuestPort::from_pair(os::ScopedFd fd) {
  int type = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    return failure(os::errno_status("look at the guest's descriptor"));
  }
  if (type != SOCK_DGRAM) {
    return failure(Code::invalid, "the guest's descriptor must be a connected datagram socket");
  }
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof kSendBufferBytes);
  GuestPort port(std::move(fd));
  port.connected_ = true;
  return port;
}

GuestPort::~GuestPort() {
  if (fd_.valid() && !gate_path_.empty()) ::unlink(gate_path_.c_str());
}

GuestPort::Sent GuestPort::send(std::span<const std::byte> frame) {
  if (!connected_) return Sent::absent;
  for (;;) {
    if (::send(fd_.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      return Sent::yes;
    }
    if (errno == EINTR || errno == ECONNRESET) continue;
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return Sent::full;
    // ECONNREFUSED: QEMU is gone. A pair is then dead for good; a path may come to life again.
    connected_ = false;
    guest_inode_ = 0;
    return Sent::absent;
  }
}

// Being connected is more than convenience. To a peer that is connected back to it the kernel does
// not apply the queue length (unix_dgram_sendmsg: `unix_peer(other) != sk && recvq_full`), so the
// default of 10 frames no longer makes QEMU queue frames inside itself, to purge them at the next
// `stop`; what remains is QEMU's send buffer, some hundred frames.
void GuestPort::look_for_guest() {
  if (guest_path_.empty()) return;
  struct stat found {};
  if (::stat(guest_path_.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return;
  if (connected_ && found.st_ino == guest_inode_) return;
  const auto address = address_of(guest_path_);
  if (!address) return;
  connected_ = ::connect(fd_.get(), generic(*address), sizeof *address) == 0;
  guest_inode_ = connected_ ? found.st_ino : 0;
}

Status raise_datagram_queue(unsigned frames) {
  os::ScopedFd fd(::open(kQueueLengthFile, O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return os::errno_status(fmt::format("open {}", kQueueLengthFile));
  char text[32] = {};
  if (::read(fd.get(), text, sizeof text - 1) > 0 && std::strtoul(text, nullptr, 10) >= frames) {
    return {};
  }
  const std::string wanted = std::to_string(frames);
  if (::pwrite(fd.get(), wanted.data(), wanted.size(), 0) < 0) {
    return os::errno_status(fmt::format("write {} to {}", frames, kQueueLengthFile));
  }
  return {};
}

}  // namespace libft::output
