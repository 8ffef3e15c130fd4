// SPDX-License-Identifier: LGPL-2.1-or-later
// The suite over what stays inside one process, and over the wrappers.
#include "conformance/transport_suite.h"
#include "transport/delayed.h"
#include "transport/faulty.h"
#include "transport/memory.h"
#include "transport/tls.h"
#include "transport/transports.h"

using namespace libft;
using namespace libft::transport;

namespace {

test::TransportPair memory_pair() {
  auto [a, b] = make_memory_pair(100'000);
  return {std::move(a), std::move(b)};
}

test::TransportPair tls_pair(test::TransportPair inner, const TlsOptions& options) {
  const Key key = make_key().value();
  auto client = wrap_tls(std::move(inner.a), TlsRole::client, key, options);
  auto server = wrap_tls(std::move(inner.b), TlsRole::server, key, options);
  REQUIRE(client.has_value());
  REQUIRE(server.has_value());
  Status client_done;
  std::jthread thread([&] { client_done = (*client)->handshake(); });
  CHECK((*server)->handshake().to_string() == "ok");
  thread.join();
  CHECK(client_done.to_string() == "ok");
  return {std::move(*client), std::move(*server)};
}

}  // namespace

TEST_CASE("memory") { test::transport_suite(memory_pair); }

TEST_CASE("memory by name") {
  MemoryHub hub;
  Options options;
  options.memory = &hub;
  test::transport_suite([&] {
    auto listener = listen("memory:here", options);
    REQUIRE(listener.has_value());
    auto client = open("memory:here", options);
    REQUIRE(client.has_value());
    auto server = (*listener)->accept();
    REQUIRE(server.has_value());
    return test::TransportPair{std::move(*client), std::move(*server)};
  });
}

TEST_CASE("delayed") {
  test::transport_suite([] {
    auto [a, b] = make_memory_pair();
    return test::TransportPair{delayed(std::move(a), Millis{2}), delayed(std::move(b), Millis{2})};
  });
}

TEST_CASE("faulty, without faults") {
  test::transport_suite([] {
    auto [a, b] = make_memory_pair();
    return test::TransportPair{faulty(std::move(a), {}), faulty(std::move(b), {})};
  });
}

TEST_CASE("tls over memory, with a new traffic key every 100 kB") {
  test::transport_suite([] { return tls_pair(memory_pair(), {.rekey_bytes = 100'000}); });
}
