// SPDX-License-Identifier: LGPL-2.1-or-later
// Bytes through a transport from one thread to another, and a small message there and back.
#include <benchmark/benchmark.h>

#include <thread>
#include <vector>

#include "transport/memory.h"
#include "transport/transports.h"

using namespace libft;
using namespace libft::transport;

namespace {

struct Ends {
  std::unique_ptr<Transport> client, server;
};

Ends connect(const std::string& address, const Options& options) {
  auto listener = listen(address, options);
  if (!listener) return {};
  Ends ends;
  std::jthread client([&] {
    if (auto opened = open((*listener)->address(), options)) ends.client = std::move(*opened);
  });
  if (auto accepted = (*listener)->accept()) ends.server = std::move(*accepted);
  if (ends.server != nullptr) (void)ends.server->send({});  // The handshake.
  client.join();
  return ends;
}

Ends make_ends(std::int64_t kind) {
  if (kind == 0) {
    auto [a, b] = make_memory_pair();
    return {std::move(a), std::move(b)};
  }
  Options options;
  if (kind == 2) options.psk = make_key().value();
  return connect("tcp:127.0.0.1:0", options);
}

constexpr const char* kKinds[] = {"memory", "tcp", "tcp with TLS"};

void TransportStream(benchmark::State& state) {
  Ends ends = make_ends(state.range(0));
  if (ends.client == nullptr || ends.server == nullptr) {
    state.SkipWithError("no connection");
    return;
  }
  state.SetLabel(kKinds[state.range(0)]);
  std::jthread receiver([&] {
    std::vector<std::byte> buffer(256 * 1024);
    while (ends.server->receive(buffer)) {
    }
  });
  const std::vector<std::byte> bytes(1 << 20, std::byte{'x'});
  const std::span<const std::byte> pieces[] = {bytes};
  for (auto _ : state)
    if (!ends.client->send(pieces).ok()) state.SkipWithError("send failed");
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
  ends.client->close();
}

void TransportRoundTrip(benchmark::State& state) {
  Ends ends = make_ends(state.range(0));
  if (ends.client == nullptr || ends.server == nullptr) {
    state.SkipWithError("no connection");
    return;
  }
  state.SetLabel(kKinds[state.range(0)]);
  std::jthread echo([&] {
    std::vector<std::byte> buffer(64);
    while (auto got = ends.server->receive(buffer)) {
      const std::span<const std::byte> pieces[] = {std::span(buffer).first(*got)};
      if (!ends.server->send(pieces).ok()) return;
    }
  });
  std::vector<std::byte> message(64), answer(64);
  const std::span<const std::byte> pieces[] = {message};
  for (auto _ : state) {
    if (!ends.client->send(pieces).ok()) state.SkipWithError("send failed");
    for (std::size_t done = 0; done < message.size();) {
      auto got = ends.client->receive(answer);
      if (!got) return state.SkipWithError("receive failed");
      done += *got;
    }
  }
  ends.client->close();
}

BENCHMARK(TransportStream)->Arg(0)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(TransportRoundTrip)->Arg(0)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
