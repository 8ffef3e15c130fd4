// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/transports.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "os/file.h"
#include "transport/close_after.h"
#include "transport/delayed.h"
#include "transport/faulty.h"
#include "transport/memory.h"

using namespace libft;
using namespace libft::transport;

namespace {

bool contains(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string::npos;
}

Status send_text(Transport& to, std::string_view text) {
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(text))};
  return to.send(pieces);
}

Result<std::string> receive_text(Transport& from, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    std::vector<std::byte> buffer(bytes - text.size());
    FT_ASSIGN(const std::size_t got, from.receive(buffer));
    text.append(reinterpret_cast<char*>(buffer.data()), got);
  }
  return text;
}

Options with_key(const Key& key, Nanos timeout = std::chrono::seconds{20}) {
  Options options;
  options.psk = key;
  options.connect_timeout = timeout;
  return options;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = (std::filesystem::temp_directory_path() / "libft-transport-XXXXXX").string();
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("addresses that mean nothing are refused with the ones that do") {
  for (const char* address : {"", "tcp", "carrier-pigeon:x", "tcp:nowhere", "tcp:[::1", "unix:"}) {
    CAPTURE(address);
    CHECK(transport::open(address, {}).error().code() == Code::invalid);
    CHECK(transport::listen(address, {}).error().code() == Code::invalid);
  }
  CHECK(contains(transport::open("x:y", {}).error(), "tcp:HOST:PORT"));
  CHECK(transport::open("memory:x", {}).error().code() == Code::unsupported);
}

TEST_CASE("off loopback, no key, not insecure: refused before anything is sent") {
  // 192.0.2.0/24 is for documentation (RFC 5737): nothing is there.
  for (const char* address : {"tcp:192.0.2.1:7070", "tcp:[2001:db8::1]:7070"}) {
    const Status refused = transport::open(address, {}).error();
    CAPTURE(refused.to_string());
    CHECK(refused.code() == Code::refused);
    CHECK(contains(refused, "ftctl keygen"));
    CHECK(contains(refused, "--key-file"));
  }
  const Status refused = transport::listen("tcp:0.0.0.0:0", {}).error();
  CHECK(refused.code() == Code::refused);
  CHECK(contains(refused, "ftctl keygen"));
  CHECK(transport::listen("tcp::0", {}).error().code() == Code::refused);
  Options insecure;
  insecure.insecure = true;
  CHECK(transport::listen("tcp:0.0.0.0:0", insecure).has_value());
  CHECK(transport::listen("tcp:*:0", with_key(make_key().value())).has_value());
}

TEST_CASE("IPv6 works where the host has it") {
  auto listener = transport::listen("tcp:[::1]:0", {});
  if (!listener) {
    MESSAGE("no IPv6 here: " << listener.error().to_string());
    return;
  }
  CHECK((*listener)->address().starts_with("tcp:[::1]:"));
  auto client = transport::open((*listener)->address(), {});
  REQUIRE(client.has_value());
  auto server = (*listener)->accept();
  REQUIRE(server.has_value());
  REQUIRE(send_text(**client, "over six").ok());
  CHECK(receive_text(**server, 8).value() == "over six");
  CHECK((*server)->authenticated());
}

TEST_CASE("a port in use is named, with what to do") {
  auto first = transport::listen("tcp:127.0.0.1:0", {});
  REQUIRE(first.has_value());
  const std::string address = (*first)->address();
  const Status taken = transport::listen(address, {}).error();
  CHECK(taken.code() == Code::busy);
  CHECK(contains(taken, "choose another port"));
  CHECK(contains(taken, address.substr(address.rfind(':') + 1)));
  first->reset();
  CHECK(transport::listen(address, {}).has_value());
}

TEST_CASE("nobody listens: the peer is lost; the address is named") {
  auto listener = transport::listen("tcp:127.0.0.1:0", {});
  REQUIRE(listener.has_value());
  const std::string address = (*listener)->address();
  listener->reset();
  const Status lost = transport::open(address, {}).error();
  CHECK(lost.code() == Code::peer_lost);
  CHECK(contains(lost, address));
}

TEST_CASE("closing the listener ends accept(), and its path goes") {
  TemporaryFolder folder;
  for (const std::string& address : {std::string("tcp:127.0.0.1:0"), "unix:" + folder.file("s")}) {
    auto listener = transport::listen(address, {});
    REQUIRE(listener.has_value());
    Status ended;
    std::jthread thread([&] { ended = (*listener)->accept().error(); });
    (*listener)->close();
    thread.join();
    CHECK(ended.code() == Code::cancelled);
    CHECK((*listener)->accept().error().code() == Code::cancelled);
  }
  CHECK_FALSE(std::filesystem::exists(folder.file("s")));
}

TEST_CASE("bad peers keep nobody waiting: silent, garbage, wrong key, then a good one") {
  const Key key = make_key().value();
  auto listener = transport::listen("tcp:127.0.0.1:0", with_key(key, std::chrono::hours{1}));
  REQUIRE(listener.has_value());
  const std::string address = (*listener)->address();

  auto silent = transport::open(address, {});
  auto garbage = transport::open(address, {});
  REQUIRE(silent.has_value());
  REQUIRE(garbage.has_value());
  REQUIRE(send_text(**garbage, "\x13\x37 nonsense, and more of it").ok());
  Status wrong;
  std::jthread stranger(
      [&] { wrong = transport::open(address, with_key(make_key().value())).error(); });
  std::jthread friendly;

  std::vector<std::jthread> handlers;
  std::vector<Result<std::string>> outcomes(4, failure(Code::internal, "not finished"));
  std::vector<std::unique_ptr<Transport>> accepted(4);
  for (std::size_t i = 0; i < 4; ++i) {
    if (i == 3) {
      friendly = std::jthread([&] {
        auto good = transport::open(address, with_key(key));
        if (good) (void)send_text(**good, "hello");
      });
    }
    auto connection = (*listener)->accept();
    REQUIRE(connection.has_value());
    accepted[i] = std::move(*connection);
    handlers.emplace_back([&, i] { outcomes[i] = receive_text(*accepted[i], 5); });
  }
  for (std::size_t i = 1; i < 4; ++i) handlers[i].join();
  accepted[0]->close();  // The silent one would wait for its hour.
  handlers[0].join();
  stranger.join();
  friendly.join();
  CHECK(outcomes[0].error().code() == Code::cancelled);
  CHECK(outcomes[1].error().code() == Code::corrupt);
  CHECK(contains(outcomes[2].error(), "does not know the shared key"));
  CHECK(contains(wrong, "does not know the shared key"));
  REQUIRE(outcomes[3].has_value());
  CHECK(*outcomes[3] == "hello");
}

TEST_CASE("a key on one side only is an error on both, not a hang") {
  const Key key = make_key().value();
  auto keyless = transport::listen("tcp:127.0.0.1:0", {});
  REQUIRE(keyless.has_value());
  Status client_says;
  std::jthread client(
      [&] { client_says = transport::open((*keyless)->address(), with_key(key)).error(); });
  auto server = (*keyless)->accept();
  REQUIRE(server.has_value());
  CHECK(receive_text(**server, 1).value() == "\x16");  // TLS, which is no libft frame: hangs up.
  server->reset();
  client.join();
  CHECK(contains(client_says, "--key-file"));
}

TEST_CASE("a send that nobody receives ends after the io timeout") {
  Options options;
  options.io_timeout = Millis{100};
  TemporaryFolder folder;
  auto listener = transport::listen("unix:" + folder.file("s"), options);
  REQUIRE(listener.has_value());
  auto client = transport::open((*listener)->address(), options);
  REQUIRE(client.has_value());
  auto server = (*listener)->accept();
  REQUIRE(server.has_value());
  Status sent;
  while (sent.ok()) sent = send_text(**client, std::string(100'000, 'x'));
  CHECK(sent.code() == Code::peer_lost);
  CHECK(contains(sent, "100 ms"));
}

TEST_CASE("CloseAfter closes what takes too long, and nothing else") {
  auto [a, b] = make_memory_pair();
  {
    CloseAfter deadline(*a, std::chrono::hours{1});
    CHECK(send_text(*a, "x").ok());
    CHECK_FALSE(deadline.fired());
  }
  CHECK(send_text(*a, "x").ok());
  CloseAfter deadline(*b, Millis{10});
  CHECK(receive_text(*b, 3).error().code() == Code::cancelled);
  CHECK(deadline.fired());
}

TEST_CASE("keys: written, read, and refused when others can read them") {
  TemporaryFolder folder;
  const Key key = make_key().value();
  CHECK_FALSE(key == make_key().value());
  CHECK(to_text(key).size() == 64);
  CHECK(key_from_text(to_text(key)).value() == key);
  const std::string path = folder.file("key");
  REQUIRE(os::write_file_atomically(path, to_text(key) + "\n", 0600).ok());
  CHECK(load_key(path).value() == key);
  for (const mode_t mode : {0640, 0604, 0620}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    const Status refused = load_key(path).error();
    CHECK(refused.code() == Code::refused);
    CHECK(contains(refused, "chmod 600"));
  }
  REQUIRE(os::write_file_atomically(path, "not a key", 0600).ok());
  const Status invalid = load_key(path).error();
  CHECK(invalid.code() == Code::invalid);
  CHECK(contains(invalid, "ftctl keygen"));
  CHECK(contains(invalid, path));
  CHECK(load_key(folder.file("absent")).error().code() == Code::not_found);
}

TEST_CASE("delay delays") {
  auto [a, b] = make_memory_pair();
  auto slow = delayed(std::move(a), Millis{60});
  const auto before = std::chrono::steady_clock::now();
  REQUIRE(send_text(*slow, "late").ok());
  CHECK(receive_text(*b, 4).value() == "late");
  CHECK(std::chrono::steady_clock::now() - before >= Millis{60});
}

TEST_CASE("faults: bits flip, bytes vanish, the connection is cut, all by the seed") {
  const std::string text(10'000, 'x');
  const auto received = [&](const Faults& faults) {
    auto [a, b] = make_memory_pair();
    auto bad = faulty(std::move(a), faults);
    (void)send_text(*bad, text);
    bad->close();
    std::string all;
    for (auto piece = receive_text(*b, 1); piece; piece = receive_text(*b, 1)) all += *piece;
    return all;
  };
  CHECK(received({}) == text);
  const std::string flipped = received({.seed = 3, .flip_every_bytes = 1000});
  CHECK(flipped.size() == text.size());
  CHECK(flipped != text);
  CHECK(flipped == received({.seed = 3, .flip_every_bytes = 1000}));
  CHECK(flipped != received({.seed = 4, .flip_every_bytes = 1000}));
  const std::string dropped = received({.drop_every_bytes = 1000});
  CHECK(dropped.size() < text.size());
  CHECK(dropped.size() > text.size() - 100);
  CHECK(received({.cut_after_bytes = 123}).size() == 123);
}
