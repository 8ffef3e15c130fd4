// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/socket.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "os/event_fd.h"
#include "os/poll.h"

using namespace libft;
using namespace libft::os;

namespace {

constexpr Nanos kLong = std::chrono::seconds{30};

SocketAddress address_of(const std::string& host, std::uint16_t port) {
  auto found = resolve({host, port}, ResolveFor::connecting);
  REQUIRE(found.has_value());
  REQUIRE_FALSE(found->empty());
  return found->front();
}

}  // namespace

TEST_CASE("addresses are read and written") {
  CHECK(parse_host_port("10.0.0.2:7070")->host == "10.0.0.2");
  CHECK(parse_host_port("10.0.0.2:7070")->port == 7070);
  CHECK(parse_host_port("[::1]:1")->host == "::1");
  CHECK(parse_host_port(":7")->host.empty());
  CHECK(parse_host_port("*:7")->host.empty());
  for (const char* wrong : {"", "host", "host:", "host:x", "host:65536", "host:-1", "::1:7070"}) {
    CAPTURE(wrong);
    CHECK(parse_host_port(wrong).error().code() == Code::invalid);
  }
  CHECK(address_of("127.0.0.1", 80).to_string() == "127.0.0.1:80");
  CHECK(address_of("::1", 80).to_string() == "[::1]:80");
}

TEST_CASE("what is loopback and what is not") {
  for (const char* host : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"})
    CHECK(address_of(host, 1).loopback());
  for (const char* host : {"10.0.0.1", "128.0.0.1", "fe80::1", "::ffff:10.0.0.1", "::"})
    CHECK_FALSE(address_of(host, 1).loopback());
}

TEST_CASE("a unix socket is its owner's, and replaces one that was left behind") {
  std::string folder = (std::filesystem::temp_directory_path() / "libft-sock-XXXXXX").string();
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  auto path = SocketAddress::unix_path(folder + "/s");
  REQUIRE(path.has_value());
  {
    auto listening = listen_socket(*path);
    REQUIRE(listening.has_value());
    struct stat about {};
    REQUIRE(::stat(path->to_string().c_str(), &about) == 0);
    CHECK((about.st_mode & 0777) == 0600);
    CHECK(listen_socket(*path).error().code() == Code::busy);
    auto client = connect_socket(*path, kLong);
    REQUIRE(client.has_value());
    auto server = accept_socket(listening->get(), -1, kLong);
    REQUIRE(server.has_value());
    CHECK(*peer_uid(server->get()) == ::geteuid());
  }
  CHECK(connect_socket(*path, kLong).error().code() == Code::peer_lost);
  CHECK(listen_socket(*path).has_value());
  CHECK(SocketAddress::unix_path(std::string(200, 'x')).error().code() == Code::invalid);
  std::filesystem::remove_all(folder);
}

TEST_CASE("accepting ends at its deadline and when it is called off") {
  auto listening = listen_socket(address_of("127.0.0.1", 0));
  REQUIRE(listening.has_value());
  auto wake = EventFd::create();
  REQUIRE(wake.has_value());
  CHECK(accept_socket(listening->get(), wake->fd(), Millis{1}).error().code() == Code::timeout);
  wake->signal();
  CHECK(accept_socket(listening->get(), wake->fd(), kLong).error().code() == Code::cancelled);
  const auto at = SocketAddress::local(listening->get());
  REQUIRE(at.has_value());
  CHECK(at->port() != 0);
  CHECK(listen_socket(*at).error().code() == Code::busy);
  auto client = connect_socket(*at, kLong);
  REQUIRE(client.has_value());
  CHECK(tune_tcp(client->get(), std::chrono::seconds{10}).ok());
  CHECK(SocketAddress::peer(client->get())->port() == at->port());
}
