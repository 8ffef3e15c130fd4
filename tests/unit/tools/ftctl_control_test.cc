// SPDX-License-Identifier: LGPL-2.1-or-later
// The control socket: garbage, several clients, an end while somebody waits.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <condition_variable>
#include <cstring>
#include <fstream>
#include <string>

#include "ftctl/control.h"
#include "ftctl/event_book.h"

using namespace libft;
using namespace libft::ftctl;

namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/ftctl-test-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { ::rmdir(path.c_str()); }
  std::string path;
};

// A client that sends what it is told to, lines or not.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void send(const std::string& bytes) {
    // What the server refuses to read may fail; what it answers is what is checked.
    (void)!::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  Json answer() {
    std::string line;
    for (char c = 0; ::recv(fd_.get(), &c, 1, 0) == 1 && c != '\n';) line += c;
    return Json::parse(line, nullptr, false);
  }

 private:
  Descriptor fd_;
};

void echo(const Json& request, const ControlServer::Reply& reply) {
  reply(Json{{"ok", true}, {"command", request["command"]}});
}

}  // namespace

TEST_CASE("a request is answered, on a socket that is only its owner's") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  const auto server = ControlServer::open(path, echo);
  REQUIRE(server);
  struct stat there {};
  REQUIRE(::stat(path.c_str(), &there) == 0);
  CHECK((there.st_mode & 0777) == 0600);
  const auto answer = ask_once(path, {{"command", "status"}});
  REQUIRE(answer);
  CHECK((*answer)["command"] == "status");
}

TEST_CASE("garbage gets an error line, and the connection goes on") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  const auto server =
      ControlServer::open(path, [](const Json& request, const ControlServer::Reply& reply) {
        reply(Json{{"ok", true}, {"guest", request.value("guest", "")}});
      });
  REQUIRE(server);
  RawClient client(path);
  for (const char* garbage : {"\n", "not json\n", "[1]\n", "{}\n", "{\"command\": 7}\n",
                              "{\"command\": \"x\", \"guest\": 7}\n", "\xff\xfe\n"}) {
    CAPTURE(garbage);
    client.send(garbage);
    const Json answer = client.answer();
    REQUIRE(answer.is_object());
    CHECK(answer["ok"] == false);
    CHECK(answer["code"] == "invalid");
  }
  client.send("{\"command\": \"x\"}\n");
  CHECK(client.answer()["ok"] == true);
}

TEST_CASE("a line without an end is cut off") {
  const Folder folder;
  const auto server = ControlServer::open(folder.path + "/s", echo);
  REQUIRE(server);
  RawClient client(folder.path + "/s");
  client.send(std::string(kRequestBytesMax + 100000, 'x'));
  CHECK(client.answer()["ok"] == false);
  CHECK(client.answer().is_discarded());  // Closed.
}

TEST_CASE("a client that waits keeps nobody else from being served, nor the server from ending") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  std::mutex mutex;
  std::condition_variable changed;
  bool waiting = false, go_on = false;
  auto server =
      ControlServer::open(path, [&](const Json& request, const ControlServer::Reply& reply) {
        if (request["command"] == "wait") {
          std::unique_lock lock(mutex);
          waiting = true;
          changed.notify_all();
          changed.wait(lock, [&] { return go_on; });
        }
        echo(request, reply);
      });
  REQUIRE(server);
  RawClient slow(path);
  slow.send("{\"command\": \"wait\"}\n");
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return waiting; });
  }
  CHECK(ask_once(path, {{"command", "status"}}));
  {
    const std::lock_guard lock(mutex);
    go_on = true;
  }
  changed.notify_all();
  CHECK(slow.answer()["command"] == "wait");
  server->reset();  // With a client connected that says nothing.
  CHECK(!ask_once(path, {{"command", "status"}}));
}

TEST_CASE("a socket that is in use is not taken, one that was left behind is") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  auto first = ControlServer::open(path, echo);
  REQUIRE(first);
  const auto second = ControlServer::open(path, echo);
  REQUIRE(!second);
  CHECK(second.error().code() == Code::refused);
  CHECK(ask_once(path, {{"command", "status"}}));
  first->reset();
  {  // A socket without a listener, as a killed process leaves it.
    const Descriptor fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  CHECK(ControlServer::open(path, echo));
  std::ofstream(path) << "a file";
  CHECK(!ControlServer::open(path, echo));
  ::unlink(path.c_str());
}

TEST_CASE("who asks an ftctl to stop that is ending anyway has what was asked for") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  CHECK(ask_to_stop(path, 10000).code() == Code::not_found);
  {  // It takes the connection, and ends before it answers.
    const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket.get(), 1) == 0);
    std::jthread ending([&] { const Descriptor client(::accept(socket.get(), nullptr, nullptr)); });
    CHECK(ask_to_stop(path, 10000));
    ::unlink(path.c_str());
  }
  const auto server = ControlServer::open(path, [](const Json&, const ControlServer::Reply& reply) {
    reply(error_answer(Status(Code::refused, "no")));
  });
  REQUIRE(server);
  CHECK(ask_to_stop(path, 10000).code() == Code::refused);
}

TEST_CASE("an error travels with its code and its remedy") {
  const Status back = answer_status(error_answer(Status(Code::refused, "no; remedy: ask")));
  CHECK(back.code() == Code::refused);
  CHECK(back.message() == "no; remedy: ask");
}

TEST_CASE("events are kept up to a limit, and what was missed is counted") {
  EventBook book;
  for (std::size_t i = 0; i < EventBook::kEventsMax + 3; ++i) book.add({{"i", i}});
  const auto page = book.read(0, Nanos{0});
  CHECK(page.missed == 3);
  CHECK(page.events.size() == EventBook::kEventsMax);
  CHECK(page.events[0]["i"] == 3);
  CHECK(book.read(page.next, Nanos{0}).events.empty());
}
