// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/tls.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "transport/faulty.h"
#include "transport/memory.h"

using namespace libft;
using namespace libft::transport;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Status send_text(Transport& to, std::string_view text) {
  const std::span<const std::byte> pieces[] = {bytes_of(text)};
  return to.send(pieces);
}

std::unique_ptr<TlsTransport> wrap(std::unique_ptr<Transport> inner, TlsRole role, const Key& key,
                                   Nanos timeout = std::chrono::seconds{20}) {
  auto wrapped = wrap_tls(std::move(inner), role, key, {.handshake_timeout = timeout});
  REQUIRE(wrapped.has_value());
  return std::move(*wrapped);
}

bool contains(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string::npos;
}

// Passes on what is sent and keeps a copy.
class Eavesdropper final : public Transport {
 public:
  Eavesdropper(std::unique_ptr<Transport> inner, std::string& heard)
      : inner_(std::move(inner)), heard_(heard) {}
  Status send(std::span<const std::span<const std::byte>> pieces) override {
    for (const auto& piece : pieces)
      heard_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    return inner_->send(pieces);
  }
  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    return inner_->receive(buffer);
  }
  void close() override { inner_->close(); }
  std::string description() const override { return inner_->description(); }
  bool authenticated() const override { return inner_->authenticated(); }

 private:
  std::unique_ptr<Transport> inner_;
  std::string& heard_;
};

}  // namespace

TEST_CASE("both sides of a wrong key say so") {
  auto [a, b] = make_memory_pair();
  auto client = wrap(std::move(a), TlsRole::client, make_key().value());
  auto server = wrap(std::move(b), TlsRole::server, make_key().value());
  Status client_says;
  std::jthread thread([&] { client_says = client->handshake(); });
  const Status server_says = server->handshake();
  thread.join();
  for (const Status& status : {client_says, server_says}) {
    CAPTURE(status.to_string());
    CHECK(status.code() == Code::refused);
    CHECK(contains(status, "copy the same key file to both hosts"));
  }
  CHECK_FALSE(client->authenticated());
  CHECK_FALSE(server->authenticated());
  CHECK(server->handshake().code() == Code::refused);  // Remembered.
  CHECK(send_text(*client, "secret").code() == Code::refused);
}

TEST_CASE("what is sent cannot be read on the way, and changes are noticed") {
  const Key key = make_key().value();
  const std::string text(100, 's');
  std::string heard;
  auto [a, b] = make_memory_pair();
  auto client = wrap(std::make_unique<Eavesdropper>(std::move(a), heard), TlsRole::client, key);
  auto server = wrap(std::move(b), TlsRole::server, key);
  Status sent;
  std::jthread thread([&] { sent = send_text(*client, text); });
  std::vector<std::byte> buffer(1000);
  const auto got = server->receive(buffer);
  thread.join();
  REQUIRE(got.has_value());
  CHECK(sent.ok());
  CHECK(std::string(reinterpret_cast<char*>(buffer.data()), *got) == text);
  CHECK(heard.find("ssssss") == std::string::npos);
  CHECK(client->authenticated());
  CHECK(server->authenticated());
  CHECK(client->description().find("TLS 1.3") != std::string::npos);
}

TEST_CASE("a damaged byte ends the connection; nothing damaged is delivered") {
  const Key key = make_key().value();
  auto [a, b] = make_memory_pair();
  auto client =
      wrap(faulty(std::move(a), {.seed = 4, .flip_every_bytes = 20'000}), TlsRole::client, key);
  auto server = wrap(std::move(b), TlsRole::server, key);
  std::jthread thread([&] {
    while (send_text(*client, std::string(5000, 'x')).ok()) {
    }
  });
  std::vector<std::byte> buffer(4096);
  bool all_right = true;
  auto got = server->receive(buffer);
  for (; got; got = server->receive(buffer))
    for (std::size_t i = 0; i < *got; ++i) all_right = all_right && buffer[i] == std::byte{'x'};
  CHECK(all_right);
  CHECK(got.error().code() == Code::corrupt);
  server->close();
}

TEST_CASE("garbage is told apart from a wrong key") {
  auto [a, b] = make_memory_pair();
  auto server = wrap(std::move(b), TlsRole::server, make_key().value());
  REQUIRE(send_text(*a, "GET / HTTP/1.0\r\n\r\n").ok());
  Status status = server->handshake();
  CAPTURE(status.to_string());
  CHECK(status.code() == Code::corrupt);
  CHECK(contains(status, "not TLS"));

  auto [c, d] = make_memory_pair();
  server = wrap(std::move(d), TlsRole::server, make_key().value());
  REQUIRE(send_text(*c, std::string(64, '\0')).ok());
  status = server->handshake();
  CAPTURE(status.to_string());
  CHECK_FALSE(status.ok());
  // A plain end: a peer without a key has no use for an alert.
  std::vector<std::byte> buffer(100);
  CHECK(c->receive(buffer).error().code() == Code::peer_lost);
}

TEST_CASE("a silent peer is given up, and close() ends the waiting at once") {
  auto [a, b] = make_memory_pair();
  auto server = wrap(std::move(b), TlsRole::server, make_key().value(), Millis{50});
  const Status silent = server->handshake();
  CHECK(silent.code() == Code::timeout);
  CHECK(contains(silent, "50 ms"));

  auto [c, d] = make_memory_pair();
  auto closed = wrap(std::move(d), TlsRole::server, make_key().value(), std::chrono::hours{1});
  Status ended;
  std::jthread thread([&] { ended = closed->handshake(); });
  closed->close();
  thread.join();
  CHECK(ended.code() == Code::cancelled);
}

TEST_CASE("a peer that hangs up during the handshake is named as such") {
  auto [a, b] = make_memory_pair();
  auto client = wrap(std::move(a), TlsRole::client, make_key().value());
  b->close();
  const Status status = client->handshake();
  CHECK(status.code() == Code::peer_lost);
  CHECK(contains(status, "--key-file"));
}
