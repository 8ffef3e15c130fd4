// SPDX-License-Identifier: LGPL-2.1-or-later
// The suite over everything that ends in a file descriptor, with and without TLS.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "conformance/transport_suite.h"
#include "transport/fd_stream.h"
#include "transport/transports.h"

using namespace libft;
using namespace libft::transport;

namespace {

test::TransportPair connect_through(const std::string& address, const Options& options) {
  auto listener = listen(address, options);
  REQUIRE(listener.has_value());
  test::TransportPair pair;
  Status opened, greeted;
  std::jthread client([&] {
    auto transport = open((*listener)->address(), options);
    if (transport)
      pair.a = std::move(*transport);
    else
      opened = transport.error();
  });
  auto accepted = (*listener)->accept();
  REQUIRE(accepted.has_value());
  pair.b = std::move(*accepted);
  if (options.psk) {
    // The server shakes hands when it is first used.
    (void)pair.b->send({});
  }
  client.join();
  CHECK(opened.to_string() == "ok");
  REQUIRE(pair.a != nullptr);
  return pair;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = (std::filesystem::temp_directory_path() / "libft-transport-XXXXXX").string();
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }

 private:
  std::string path_;
};

Options with_key() {
  Options options;
  options.psk = make_key().value();
  return options;
}

constexpr Nanos kIoTimeout = std::chrono::seconds{10};

std::unique_ptr<Transport> over(int in, int out) {
  auto transport =
      from_fds(os::ScopedFd(in), os::ScopedFd(out), "given", Trust::proven, kIoTimeout);
  REQUIRE(transport.has_value());
  return std::move(*transport);
}

}  // namespace

TEST_CASE("tcp") {
  test::transport_suite([] { return connect_through("tcp:127.0.0.1:0", {}); });
}

TEST_CASE("unix") {
  TemporaryFolder folder;
  test::transport_suite([&] { return connect_through("unix:" + folder.path() + "/s", {}); });
}

TEST_CASE("tls over tcp") {
  test::transport_suite([] { return connect_through("tcp:127.0.0.1:0", with_key()); });
}

TEST_CASE("given descriptors: a socket") {
  test::transport_suite([] {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    return test::TransportPair{over(ends[0], -1), over(ends[1], -1)};
  });
}

TEST_CASE("given descriptors: two pipes") {
  test::transport_suite([] {
    int there[2], back[2];
    REQUIRE(::pipe2(there, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(back, O_CLOEXEC) == 0);
    return test::TransportPair{over(back[0], there[1]), over(there[0], back[1])};
  });
}
