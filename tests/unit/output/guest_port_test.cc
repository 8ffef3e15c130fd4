// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/guest_port.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "support/frames_world.h"

using namespace libft;
using namespace libft::output;

namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/ft-port-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const char* file) const { return path + "/" + file; }
  std::string path;
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// Does what QEMU's dgram netdev does: binds its own path, names the peer's at each send.
struct FakeQemu {
  FakeQemu(const std::string& local, const std::string& remote) : remote_(address_of(remote)) {
    fd.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::unlink(local.c_str());
    const auto address = address_of(local);
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  bool send(std::uint32_t number) {
    return ::sendto(fd.get(), &number, sizeof number, 0,
                    reinterpret_cast<const sockaddr*>(&remote_), sizeof remote_) >= 0;
  }
  os::ScopedFd fd;
  sockaddr_un remote_;
};

std::uint32_t number_in(std::span<const std::byte> frame) {
  std::uint32_t number = 0;
  REQUIRE(frame.size() == sizeof number);
  std::memcpy(&number, frame.data(), sizeof number);
  return number;
}

}  // namespace

TEST_CASE("a connected port has no queue of ten frames that makes QEMU purge") {
  Folder folder;
  FakeQemu qemu(folder / "q", folder / "g");
  auto port = GuestPort::bind(folder / "g", folder / "q");
  REQUIRE(port);
  REQUIRE(port->connected());
  for (std::uint32_t n = 0; n < 100; ++n) REQUIRE(qemu.send(n));
  FrameBatch batch;
  std::uint32_t next = 0;
  while (const unsigned got = batch.receive(port->fd(), FrameBatch::kFramesMax)) {
    for (unsigned i = 0; i < got; ++i) CHECK(number_in(batch.frame(i)) == next++);
  }
  CHECK(next == 100);
}

TEST_CASE("a port finds a guest that comes later, and another one after it") {
  Folder folder;
  auto port = GuestPort::bind(folder / "g", folder / "q");
  REQUIRE(port);
  const std::uint32_t number = 7;
  const auto frame = std::as_bytes(std::span(&number, 1));
  CHECK(port->send(frame) == GuestPort::Sent::absent);
  for (int life = 0; life < 3; ++life) {
    FakeQemu qemu(folder / "q", folder / "g");
    // A frame to the one before may have to find out first that it is gone.
    port->look_for_guest();
    if (port->send(frame) != GuestPort::Sent::yes) {
      port->look_for_guest();
      REQUIRE(port->send(frame) == GuestPort::Sent::yes);
    }
    std::uint32_t got = 0;
    CHECK(::recv(qemu.fd.get(), &got, sizeof got, 0) == sizeof got);
    CHECK(got == number);
    CHECK(qemu.send(1));
    FrameBatch batch;
    CHECK(batch.receive(port->fd(), 32) == 1);
  }
  CHECK(port->send(frame) == GuestPort::Sent::absent);
}

TEST_CASE("a socket that an earlier program left open is taken up with what waits in it") {
  Folder folder;
  FakeQemu qemu(folder / "q", folder / "g");
  auto port = GuestPort::bind(folder / "g", folder / "q");
  REQUIRE(port);
  for (std::uint32_t n = 0; n < 3; ++n) REQUIRE(qemu.send(n));
  CHECK_FALSE(GuestPort::take_up(os::ScopedFd(::dup(port->fd())), folder / "other", folder / "q"));
  auto next = GuestPort::take_up(os::ScopedFd(::dup(port->fd())), folder / "g", folder / "q");
  REQUIRE(next);
  CHECK(next->connected());
  FrameBatch batch;
  REQUIRE(batch.receive(next->fd(), FrameBatch::kFramesMax) == 3);
  for (std::uint32_t n = 0; n < 3; ++n) CHECK(number_in(batch.frame(n)) == n);
}

TEST_CASE("a dead socket is replaced, a live one and a file are not") {
  Folder folder;
  { FakeQemu dead(folder / "g", folder / "q"); }
  auto port = GuestPort::bind(folder / "g", folder / "q");
  REQUIRE(port);
  const auto second = GuestPort::bind(folder / "g", folder / "q");
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::busy);

  os::ScopedFd file(::open((folder / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto on_file = GuestPort::bind(folder / "file", folder / "q");
  REQUIRE_FALSE(on_file);
  CHECK(on_file.error().code() == Code::busy);
  CHECK(std::filesystem::exists(folder / "file"));
}

TEST_CASE("bad paths and descriptors are refused by name") {
  const std::string long_path(200, 'x');
  const auto long_one = GuestPort::bind(long_path, "/tmp/q");
  REQUIRE_FALSE(long_one);
  CHECK(long_one.error().code() == Code::invalid);
  CHECK_FALSE(GuestPort::bind("/nonexistent-folder/g", "/tmp/q"));
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  os::ScopedFd other_end(pipe_ends[1]);
  CHECK_FALSE(GuestPort::from_pair(os::ScopedFd(pipe_ends[0])));
}

TEST_CASE("a frame larger than any NIC's is marked") {
  auto pair = support::socket_pair();
  const std::vector<std::byte> huge(kFrameBytesMax + 1);
  REQUIRE(::send(pair.ours.get(), huge.data(), huge.size(), 0) > 0);
  REQUIRE(::send(pair.ours.get(), huge.data(), kFrameBytesMax, 0) > 0);
  FrameBatch batch;
  REQUIRE(batch.receive(pair.gates.get(), 32) == 2);
  CHECK(batch.truncated(0));
  CHECK_FALSE(batch.truncated(1));
  CHECK(batch.frame(1).size() == kFrameBytesMax);
}
