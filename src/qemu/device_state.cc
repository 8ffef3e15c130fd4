// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/device_state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "os/fd.h"

namespace libft::qemu {
namespace {

using Steady = std::chrono::steady_clock;

constexpr Nanos kSaveTimeout = Millis{10000};
constexpr std::size_t kStateBytesMax = 256u << 20;

struct SocketPair {
  os::ScopedFd ours;
  os::ScopedFd theirs;
};

Result<SocketPair> socket_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return failure(os::errno_status("socketpair"));
  SocketPair pair{os::ScopedFd(ends[0]), os::ScopedFd(ends[1])};
  const int bytes = 1 << 20;  // Whatever part of it the system grants.
  (void)::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  (void)::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return pair;
}

Status give_fd(Qmp& qmp, const char* name, const os::ScopedFd& fd) {
  auto given = qmp.execute("getfd", {{"fdname", name}}, kSaveTimeout, fd.get());
  return given ? Status() : given.error();
}

bool wait_for(int fd, short events, Steady::time_point deadline) {
  const auto left = std::chrono::duration_cast<Millis>(deadline - Steady::now());
  pollfd ready{fd, events, 0};
  return ::poll(&ready, 1, static_cast<int>(std::max<Millis::rep>(0, left.count()))) > 0;
}

// xen-save-devices-state into a memfd. QEMU gets a write-only opening of it in a descriptor set
// (the access mode must match exactly), truncates it at each save and shares its file position.
class DevicesOnly final : public DeviceState {
 public:
  static Result<std::unique_ptr<DeviceState>> open(Qmp& qmp) {
    os::ScopedFd memory(::memfd_create("libft-device-state", MFD_CLOEXEC));
    if (!memory.valid()) return failure(os::errno_status("memfd_create"));
    os::ScopedFd writer(
        ::open(fmt::format("/proc/self/fd/{}", memory.get()).c_str(), O_WRONLY | O_CLOEXEC));
    if (!writer.valid()) return failure(os::errno_status("open the state's memory for QEMU"));
    FT_ASSIGN(const Json set, qmp.execute("add-fd", {{"opaque", "libft device state"}},
                                          kSaveTimeout, writer.get()));
    const std::string line = qmp_line(
        "xen-save-devices-state",
        {{"filename", fmt::format("/dev/fdset/{}", number_at(set, "fdset-id"))}, {"live", false}});
    return std::unique_ptr<DeviceState>(
        new DevicesOnly(std::move(memory), std::move(writer), line));
  }

  Result<std::string> command() override {
    bytes_ = 0;
    if (::lseek(writer_.get(), 0, SEEK_SET) != 0) return failure(os::errno_status("lseek"));
    return line_;
  }

  Status finish(Qmp& qmp, Qmp::Ticket ticket) override {
    auto saved = qmp.wait(ticket, kSaveTimeout);
    if (!saved) return saved.error().within("save device state");
    const off_t end = ::lseek(writer_.get(), 0, SEEK_CUR);
    if (end <= 0) return Status(Code::io, "QEMU saved an empty device state");
    bytes_ = static_cast<std::size_t>(end);
    return {};
  }

  Status fetch(std::vector<std::byte>& state) override {
    if (bytes_ == 0) return Status(Code::invalid, "no device state was saved");
    state.resize(bytes_);
    for (std::size_t done = 0; done < bytes_;) {
      const ssize_t got =
          ::pread(memory_.get(), state.data() + done, bytes_ - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return os::errno_status("read device state");
      if (got == 0) return Status(Code::io, "device state is shorter than QEMU wrote");
      done += static_cast<std::size_t>(got);
    }
    return {};
  }

 private:
  DevicesOnly(os::ScopedFd memory, os::ScopedFd writer, std::string line)
      : memory_(std::move(memory)), writer_(std::move(writer)), line_(std::move(line)) {}

  os::ScopedFd memory_;
  os::ScopedFd writer_;
  std::string line_;
  std::size_t bytes_ = 0;
};

// An ordinary migration to a socket, without the memory that both sides share through libft. It
// also carries the small blocks that no memfd holds.
class Migration final : public DeviceState {
 public:
  static Result<std::unique_ptr<DeviceState>> open(Qmp& qmp) {
    FT_TRY(prepare_incoming(qmp, StateWay::migration));
    return std::unique_ptr<DeviceState>(new Migration);
  }

  Result<std::string> command() override { return std::string(); }

  Status finish(Qmp& qmp, Qmp::Ticket) override {
    FT_ASSIGN(SocketPair pair, socket_pair());
    FT_TRY(give_fd(qmp, "libft-save", pair.theirs));
    pair.theirs.reset();
    auto begun = qmp.execute("migrate", {{"uri", "fd:libft-save"}}, kSaveTimeout);
    if (!begun) return begun.error();
    const auto deadline = Steady::now() + kSaveTimeout;
    FT_TRY(read_all(pair.ours.get(), deadline));
    return wait_completed(qmp, deadline);
  }

  Status fetch(std::vector<std::byte>& state) override {
    if (state_.empty()) return Status(Code::invalid, "no device state was saved");
    state = state_;
    return {};
  }

 private:
  Status read_all(int fd, Steady::time_point deadline) {
    state_.clear();
    for (std::size_t used = 0;;) {
      if (used > kStateBytesMax)
        return Status(Code::exhausted, "device state is larger than 256 MiB");
      state_.resize(used + (256u << 10));
      if (!wait_for(fd, POLLIN, deadline)) return Status(Code::timeout, "QEMU's state stalled");
      const ssize_t got = ::recv(fd, state_.data() + used, state_.size() - used, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return os::errno_status("receive device state");
      used += static_cast<std::size_t>(got);
      state_.resize(used);
      if (got == 0) return {};
    }
  }

  static Status wait_completed(Qmp& qmp, Steady::time_point deadline) {
    while (Steady::now() < deadline) {
      FT_ASSIGN(const Json progress, qmp.execute("query-migrate"));
      const std::string status = text_at(progress, "status");
      if (status == "completed") return {};
      if (status == "failed" || status == "cancelled")
        return Status(Code::io,
                      "QEMU could not save its state: " + text_at(progress, "error-desc"));
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return Status(Code::timeout, "QEMU did not complete saving its state");
  }

  std::vector<std::byte> state_;
};

Status send_state(int fd, std::span<const std::byte> state, Steady::time_point deadline) {
  while (!state.empty()) {
    if (!wait_for(fd, POLLOUT, deadline))
      return Status(Code::timeout, "QEMU does not read its device state");
    const ssize_t sent = ::send(fd, state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return os::errno_status("send device state to QEMU");
    state = state.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

}  // namespace

std::string_view to_string(StateWay way) {
  return way == StateWay::devices_only ? "devices-only" : "migration";
}

Result<std::unique_ptr<DeviceState>> open_device_state(Qmp& qmp, StateWay way) {
  return way == StateWay::devices_only ? DevicesOnly::open(qmp) : Migration::open(qmp);
}

Status prepare_incoming(Qmp& qmp, StateWay way) {
  if (way == StateWay::devices_only) return {};
  const Json capabilities = Json::array({{{"capability", "x-ignore-shared"}, {"state", true}}});
  auto set = qmp.execute("migrate-set-capabilities", {{"capabilities", capabilities}});
  return set ? Status() : set.error();
}

Status load_device_state(Qmp& qmp, std::span<const std::byte> state, Nanos timeout) {
  const auto deadline = Steady::now() + timeout;
  FT_ASSIGN(SocketPair pair, socket_pair());
  FT_TRY(give_fd(qmp, "libft-load", pair.theirs));
  pair.theirs.reset();
  auto begun = qmp.execute("migrate-incoming", {{"uri", "fd:libft-load"}}, timeout);
  if (!begun) return begun.error();
  FT_TRY(send_state(pair.ours.get(), state, deadline));
  pair.ours.reset();
  while (Steady::now() < deadline) {
    FT_ASSIGN(const Json answer, qmp.execute("query-status", Json::object(), timeout));
    if (text_at(answer, "status") != "inmigrate") return {};
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return Status(Code::timeout, "QEMU did not finish loading its device state");
}

}  // namespace libft::qemu
