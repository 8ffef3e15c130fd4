// SPDX-License-Identifier: LGPL-2.1-or-later
// What a primary's connection sends first, when something long is on its way.
#include "session/connection.h"

#include <doctest/doctest.h>

#include <future>
#include <mutex>
#include <string>

using namespace libft;
using session::Connection;

namespace {

// Remembers what was sent; nothing ever comes in.
class Remembering final : public Transport {
 public:
  Remembering(std::string& sent, std::mutex& mutex) : sent_(sent), mutex_(mutex) {}
  Status send(std::span<const std::span<const std::byte>> pieces) override {
    const std::scoped_lock lock(mutex_);
    for (const auto& piece : pieces)
      for (const std::byte byte : piece) sent_ += static_cast<char>(byte);
    return {};
  }
  Result<std::size_t> receive(std::span<std::byte>) override {
    closed_.get_future().wait();
    return failure(Code::peer_lost, "closed");
  }
  void close() override {
    if (!std::exchange(is_closed_, true)) closed_.set_value();
  }
  std::string description() const override { return "a test's"; }
  bool authenticated() const override { return true; }

 private:
  std::string& sent_;
  std::mutex& mutex_;
  std::promise<void> closed_;
  bool is_closed_ = false;
};

Connection::Job says(char what) {
  return [what](Transport& transport) {
    const auto byte = static_cast<std::byte>(what);
    const std::span<const std::byte> piece(&byte, 1);
    return transport.send({&piece, 1});
  };
}

}  // namespace

TEST_CASE("a long job lets go first what need not wait, up to what must") {
  std::string sent;
  std::mutex mutex;
  std::promise<void> queued, done;
  {
    Connection connection(std::make_unique<Remembering>(sent, mutex), *GuestId::from_name("web"),
                          {}, {.message = [](const wire::Message&) {}, .broken = [](Status) {}});
    connection.send([&](Transport& transport) -> Status {
      FT_TRY(says('1')(transport));
      queued.get_future().wait();
      FT_TRY(connection.give_way());
      return says('2')(transport);
    });
    connection.send_beside(says('a'));
    connection.send_beside(says('b'));
    connection.send(says('c'));
    connection.send_beside(says('d'));
    connection.send([&](Transport&) {
      done.set_value();
      return Status();
    });
    queued.set_value();
    done.get_future().wait();
  }
  CHECK(sent == "1ab2cd");
}
