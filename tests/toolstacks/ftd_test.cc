// SPDX-License-Identifier: LGPL-2.1-or-later
// ftd's parts without processes: what is started after an end, what is stored, what is told.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "decide.h"
#include "ftctl/control.h"
#include "ftctl/redact.h"
#include "ftctl/settings.h"
#include "metrics.h"
#include "notify.h"
#include "protection.h"

using namespace libft;
using namespace libft::ftd;
using ftctl::End;
using ftctl::Ending;

namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/ftd-test-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

std::optional<Ending> ended(End how) { return Ending{0, how, "why"}; }

}  // namespace

TEST_CASE("what is started after an end") {
  const Situation primary{Start::primary, true, true, 0}, backup{Start::backup, false, true, 0};
  SUBCASE("the guest ended on purpose: it is not brought to life again") {
    CHECK(next_after(primary, ended(End::guest_ended)).start == Start::nothing);
    CHECK(next_after(backup, ended(End::guest_ended)).start == Start::nothing);
  }
  SUBCASE("somebody ended ftctl on purpose") {
    CHECK(next_after(primary, ended(End::left)).start == Start::nothing);
  }
  SUBCASE("handed over or fenced: this host becomes the backup") {
    CHECK(next_after(primary, ended(End::handed_over)).start == Start::backup);
    CHECK(next_after(primary, ended(End::fenced)).start == Start::backup);
    Situation alone = primary;
    alone.has_peer = false;
    const Next next = next_after(alone, ended(End::fenced));
    CHECK(next.start == Start::nothing);
    CHECK(next.note.find("no --peer") != std::string::npos);
  }
  SUBCASE("killed: the same again, at once for a guest that nobody hears") {
    const Next next = next_after(primary, std::nullopt);
    CHECK(next.start == Start::primary);
    CHECK(next.delay == Nanos{});
    CHECK(next.resume);
    CHECK(next_after(backup, std::nullopt).start == Start::backup);
    // It had been promoted: what was a backup is taken up again as a primary.
    CHECK(next_after({Start::backup, true, true, 0}, std::nullopt).start == Start::primary);
  }
  SUBCASE("refused: the record says that the other role is due") {
    CHECK(next_after({Start::primary, false, true, 0}, ended(End::refused)).start == Start::backup);
    CHECK(next_after(backup, ended(End::refused)).start == Start::primary);
  }
  SUBCASE("a mistake is not repeated; a failure is, ever more slowly") {
    CHECK(next_after(primary, ended(End::usage)).start == Start::nothing);
    Nanos before{};
    for (unsigned failures = 0; failures < 20; ++failures) {
      const Next next = next_after({Start::backup, false, true, failures}, ended(End::failed));
      CHECK(next.start == Start::backup);
      CHECK(next.delay >= before);
      CHECK(next.delay <= Nanos{std::chrono::seconds{30}});
      before = next.delay;
    }
  }
}

TEST_CASE("protections outlive whoever stored them, and are their owner's only") {
  const Folder folder;
  const Store store(folder.path + "/store");
  std::vector<std::string> notes;
  REQUIRE(store.load(notes));
  Protection web{
      "web", {{"peer", {"tcp:b:7070"}}, {"interval", 10}}, Start::backup, "a \"note\"", true};
  REQUIRE(store.save(web).ok());
  std::ofstream(folder.path + "/store/bad.protection.json") << "{\"guest\": 7";
  const auto all = store.load(notes);
  REQUIRE(all);
  REQUIRE(all->size() == 1);
  CHECK((*all)[0].section == web.section);
  CHECK((*all)[0].start == Start::backup);
  CHECK((*all)[0].note == web.note);
  CHECK((*all)[0].owner_paused);
  CHECK(notes.size() == 1);
  struct stat there {};
  REQUIRE(::stat((folder.path + "/store/web.protection.json").c_str(), &there) == 0);
  CHECK((there.st_mode & 0777) == 0600);
  store.remove("web");
  CHECK(store.load(notes)->empty());
}

TEST_CASE("maintenance is remembered") {
  const Folder folder;
  const Store store(folder.path);
  CHECK_FALSE(store.maintenance());
  REQUIRE(store.set_maintenance(true).ok());
  CHECK(Store(folder.path).maintenance());
  REQUIRE(store.set_maintenance(false).ok());
  REQUIRE(store.set_maintenance(false).ok());
  CHECK_FALSE(store.maintenance());
}

TEST_CASE("Prometheus gets base units, and names that cannot break the format") {
  const Json status{{"guest", "we\"b\n"},
                    {"role", "primary"},
                    {"protected", true},
                    {"epochs", 7},
                    {"stopped_ms", {{"p50", 3.0}, {"p99", 5.0}}},
                    {"gate", {{"packets_dropped", 2}}}};
  const std::string text = prometheus_text({status, Json{{"guest", "db"}, {"role", "none"}}}, true);
  CHECK(text.find("libft_protected{guest=\"we\\\"b\\n\"} 1\n") != std::string::npos);
  CHECK(text.find("libft_protected{guest=\"db\"} 0\n") != std::string::npos);
  CHECK(text.find("libft_stopped_seconds{guest=\"we\\\"b\\n\",of=\"p50\"} 0.003\n") !=
        std::string::npos);
  CHECK(text.find("libft_gate_packets_dropped_total{guest=\"we\\\"b\\n\"} 2\n") !=
        std::string::npos);
  CHECK(text.find("libft_maintenance 1\n") != std::string::npos);
  CHECK(text.find("max") == std::string::npos);  // What was not told is not made up.
}

TEST_CASE("what goes into a bug report has no secrets") {
  const std::string key(64, 'a');
  const std::string clean =
      ftctl::redact("key " + key +
                    "\netcd:https://me:pw@a:2379?user=me\n\"password\": \"hunter2\"\n"
                    "-object secret,id=s,data=geheim\n" +
                    std::string(1u << 20, 'f') + "\ngood");
  for (const char* secret : {"aaaa", "me:pw", "hunter2", "geheim", "ffff"}) {
    CHECK_MESSAGE(clean.find(secret) == std::string::npos, secret);
  }
  CHECK(clean.ends_with("good\n"));
  CHECK(clean.find("@a:2379?user=me") != std::string::npos);
}

TEST_CASE("settings survive the way to ftd, without what belongs to one start") {
  ftctl::Settings settings;
  settings.name = "web";
  settings.peer = {"a:1", "b:2"};
  settings.interval = 7;
  settings.fixed = true;
  settings.anew = settings.resume = true;
  settings.state_dir = "/elsewhere";
  const Json section = ftctl::to_section(settings);
  CHECK(section ==
        Json{{"name", "web"}, {"peer", {"a:1", "b:2"}}, {"interval", 7}, {"fixed", true}});
}

TEST_CASE("an ending is known to whoever could not wait for it, unless it was another's") {
  const Folder folder;
  const std::string file = folder.path + "/end.json";
  REQUIRE(ftctl::write_ending(file, {5, End::fenced, "owned by b"}).ok());
  const auto read = ftctl::read_ending(file, ::getpid());
  REQUIRE(read);
  CHECK(read->code == 5);
  CHECK(read->how == End::fenced);
  CHECK(read->why == "owned by b");
  CHECK_FALSE(ftctl::read_ending(file, ::getpid() + 1));  // What an earlier process left.
  std::ofstream(file) << "{\"pid\": ";
  CHECK_FALSE(ftctl::read_ending(file, ::getpid()));
  CHECK_FALSE(ftctl::read_ending(folder.path + "/none", ::getpid()));
}

TEST_CASE("a control socket that a group may use says who asks") {
  const Folder folder;
  const std::string path = folder.path + "/s";
  const auto server = ftctl::ControlServer::open_for_group(
      path, ::getegid(),
      [](const ftctl::Caller& caller, const Json&, const ftctl::ControlServer::Reply& reply) {
        reply(Json{{"ok", true}, {"uid", caller.uid}, {"pid", caller.pid}});
      });
  REQUIRE(server);
  struct stat there {};
  REQUIRE(::stat(path.c_str(), &there) == 0);
  CHECK((there.st_mode & 0777) == 0660);
  const auto answer = ftctl::ask_once(path, {{"command", "status"}});
  REQUIRE(answer);
  CHECK((*answer)["uid"] == ::geteuid());
  CHECK((*answer)["pid"] == ::getpid());
  const auto listener = ftctl::listener_of(path);
  REQUIRE(listener);
  CHECK(listener->pid == ::getpid());
}

TEST_CASE("systemd is told, once for each change") {
  const Folder folder;
  const std::string path = folder.path + "/notify";
  const ftctl::Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  Notifier notifier;
  CHECK(::getenv("NOTIFY_SOCKET") == nullptr);
  const auto told = [&] {
    char text[256];
    const ssize_t got = ::recv(socket.get(), text, sizeof text, 0);
    return got < 0 ? std::string("nothing") : std::string(text, static_cast<std::size_t>(got));
  };
  notifier.ready("1 guest");
  CHECK(told() == "READY=1\nSTATUS=1 guest");
  notifier.status("1 guest");
  CHECK(told() == "nothing");
  notifier.status("2 guests");
  CHECK(told() == "STATUS=2 guests");
  notifier.stopping();
  CHECK(told() == "STOPPING=1");
}
