// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests on libft's machine, opened by options alone: two hosts of one program that knows nothing
// but libft.h. The guest is a bank that adds up its books for ever and says on its console how that
// went; a lost or doubled step would show there.
#include <doctest/doctest.h>
#include <libft.h>
#include <poll.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "by_name.h"

namespace {

class Host {
 public:
  Host(const Folder& folder, const std::string& name, const Pairs& more) {
    Pairs all{{"name", "bank"},
              {"host", name},
              {"arbiter", "file:" + folder.path},
              {"listen", "unix:" + folder.path + "/" + name},
              {"heartbeat_missed_max", "20"}};  // Everything shares this machine's processor.
    all.insert(all.end(), more.begin(), more.end());
    session = session_by_name(all);
    ft_log_sink sink{};
    sink.struct_size = sizeof sink;
    sink.user = this;
    sink.write = [](void* user, std::int32_t, const char* area, const char* text) {
      static_cast<Host*>(user)->hear(area, text);
    };
    REQUIRE(ft_session_set_log(session, &sink, nullptr) == FT_OK);
  }
  ~Host() { die(); }
  Host(const Host&) = delete;

  void die() {
    if (session != nullptr) ft_session_free(session);
    session = nullptr;
  }

  ft_state state() const {
    ft_state state{};
    state.struct_size = sizeof state;
    ft_session_state(session, &state, nullptr);
    return state;
  }

  const ft_completion* completion() {
    done.struct_size = sizeof done;
    done.user = this;
    done.done = [](void* user, std::int32_t status, const char*, const ft_error* error) {
      static_cast<Host*>(user)->ended = {status, error->cause};
    };
    return &done;
  }

  ft_session* session = nullptr;
  std::string log;
  std::uint64_t audits = 0;  // The newest that the guest told of here.
  bool wrong = false;
  std::pair<std::int32_t, std::string> ended{1, ""};

 private:
  void hear(const std::string& area, const std::string& text) {
    log += area + ": " + text + "\n";
    if (area != "console") return;
    if (text.starts_with("WRONG")) wrong = true;
    if (text.starts_with("audit ")) audits = std::stoull(text.substr(6), nullptr, 16);
  }

  ft_completion done{};
};

bool drive(const std::vector<Host*>& hosts, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::vector<pollfd> waits;
    for (const Host* host : hosts)
      if (host->session != nullptr) waits.push_back({ft_session_poll_fd(host->session), POLLIN, 0});
    ::poll(waits.data(), waits.size(), 20);  // A state can change without a descriptor's word.
    for (const Host* host : hosts)
      if (host->session != nullptr) ft_session_process(host->session, nullptr);
  }
  return true;
}

std::string bank() { return std::string("machine:") + LIBFT_MACHINE_GUESTS + "/bank.bin,mib=8"; }

void protect_pair(const Folder& folder, Host& a, Host& b) {
  (void)folder;
  REQUIRE(ft_session_protect(a.session, a.completion(), nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive({&a}, [&] { return a.ended.first <= 0; }), a.log);
  REQUIRE_MESSAGE(a.ended.first == FT_OK, a.ended.second);
  REQUIRE(ft_session_stand_by(b.session, nullptr, nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive({&a, &b}, [&] { return a.state().is_protected == 1 && a.audits > 2; }),
                  (a.log + b.log));
}

}  // namespace

TEST_CASE("a guest of the machine is protected by each strategy, through the C ABI") {
  for (const std::string strategy : {"checkpoint", "replay", "lockstep", "hybrid"}) {
    CAPTURE(strategy);
    const Folder folder;
    Host a(folder, "a", {{"guest", bank()}, {"strategy", strategy}});
    Host b(folder, "b", {{"peer", "unix:" + folder.path + "/a"}});
    protect_pair(folder, a, b);
    REQUIRE_MESSAGE(drive({&a, &b}, [&] { return strategy == b.state().strategy; }), b.log);
    const auto said = a.audits;
    a.die();  // Without a word: its guest was in the session.
    REQUIRE_MESSAGE(drive({&b}, [&] { return b.state().role == FT_ROLE_PRIMARY; }), b.log);
    REQUIRE_MESSAGE(drive({&b}, [&] { return b.audits > said + 2; }), b.log);
    CHECK_FALSE(a.wrong);
    CHECK_FALSE(b.wrong);
    CHECK(std::string(b.state().strategy) == strategy);
  }
}

TEST_CASE("a guest that is executed on both hosts is switched over, and protected again") {
  const Folder folder;
  const std::string at = "unix:" + folder.path + "/";
  Host a(folder, "a", {{"guest", bank()}, {"strategy", "replay"}});
  Host b(folder, "b", {{"peer", at + "a," + at + "c"}});
  Host c(folder, "c", {{"peer", at + "b"}});
  protect_pair(folder, a, b);
  REQUIRE(ft_session_switch_over(a.session, a.completion(), nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive({&a, &b}, [&] { return b.state().role == FT_ROLE_PRIMARY; }),
                  (a.log + b.log));
  CHECK(a.ended.first == FT_OK);
  REQUIRE(ft_session_stand_by(c.session, nullptr, nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive({&b, &c}, [&] { return b.state().is_protected == 1; }), (b.log + c.log));
  const auto said = b.audits;
  REQUIRE_MESSAGE(drive({&b, &c}, [&] { return c.audits > said + 2; }), c.log);  // It executes too.
  CHECK_FALSE(b.wrong);
  CHECK_FALSE(c.wrong);
  CHECK(std::string(c.state().strategy) == "replay");
  ft_statistics statistics{};
  statistics.struct_size = sizeof statistics;
  REQUIRE(ft_session_statistics(b.session, &statistics, nullptr) == FT_OK);
  CHECK(statistics.follow_lag_ms < 60000);
}

// How the change ended: its status, and what was said of it.
std::pair<std::int32_t, std::string> change(Host& of, Host& other, const char* strategy) {
  of.ended = {1, ""};
  REQUIRE(ft_session_change_strategy(of.session, strategy, of.completion(), nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive({&of, &other}, [&] { return of.ended.first <= 0; }), (of.log + other.log));
  return of.ended;
}

TEST_CASE("the strategy changes while the guest runs protected, and its last one takes over") {
  const Folder folder;
  Host a(folder, "a", {{"guest", bank()}, {"strategy", "checkpoint"}});
  Host b(folder, "b", {{"peer", "unix:" + folder.path + "/a"}});
  protect_pair(folder, a, b);
  CHECK_MESSAGE(change(b, a, "replay").first == FT_E_REFUSED, "a backup is not asked");
  for (const std::string strategy : {"replay", "lockstep", "hybrid", "checkpoint", "replay"}) {
    CAPTURE(strategy);
    const auto changed = change(a, b, strategy.c_str());
    REQUIRE_MESSAGE(changed.first == FT_OK, changed.second);
    CHECK(a.state().is_protected == 1);
    CHECK(std::string(a.state().strategy) == strategy);
    REQUIRE_MESSAGE(drive({&a, &b}, [&] { return strategy == b.state().strategy; }), b.log);
    const auto said = a.audits;
    REQUIRE_MESSAGE(drive({&a, &b}, [&] { return a.audits > said; }), a.log);
  }
  CHECK(a.state().generation == b.state().generation);
  const auto said = a.audits;
  a.die();
  REQUIRE_MESSAGE(drive({&b}, [&] { return b.audits > said + 2; }), b.log);
  CHECK_FALSE(a.wrong);
  CHECK_FALSE(b.wrong);
}

double lag_ms(const Host& host) {
  ft_statistics statistics{};
  statistics.struct_size = sizeof statistics;
  REQUIRE(ft_session_statistics(host.session, &statistics, nullptr) == FT_OK);
  return statistics.follow_lag_ms;
}

TEST_CASE("a backup executes late on purpose, and what is left when it takes over") {
  const Folder folder;
  Host a(folder, "a", {{"guest", bank()}, {"strategy", "replay"}});
  Host b(folder, "b", {{"peer", "unix:" + folder.path + "/a"}, {"follow_delay_us", "600000000"}});
  protect_pair(folder, a, b);
  REQUIRE_MESSAGE(drive({&a, &b}, [&] { return lag_ms(b) > 500; }), (a.log + b.log));
  CHECK(a.state().is_protected == 1);
  CHECK(b.audits == 0);  // Ten minutes are not over.
  const auto said = a.audits;
  a.die();
  REQUIRE_MESSAGE(drive({&b}, [&] { return b.audits > said + 2; }), b.log);
  CHECK(b.log.find("executing_rest") != std::string::npos);
  CHECK_FALSE(b.wrong);
}

TEST_CASE("a delay that has room for no log is cut short, and said to be") {
  const Folder folder;
  Host a(folder, "a", {{"guest", bank()}, {"strategy", "replay"}});
  Host b(folder, "b",
         {{"peer", "unix:" + folder.path + "/a"},
          {"follow_delay_us", "600000000"},
          {"delay_bytes_max", "4096"}});
  protect_pair(folder, a, b);
  const auto told = [&] { return b.log.find("delay_shortened") != std::string::npos; };
  REQUIRE_MESSAGE(drive({&a, &b}, [&] { return told() && b.audits > 0; }), (a.log + b.log));
}

// A program for the option `check`: says nothing against the copy, and leaves a file that it
// looked.
std::string looker(const Folder& folder) {
  const std::string program = folder.path + "/look";
  std::ofstream(program) << "#!/bin/sh\necho \"$1\" > " << folder.path << "/looked\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  return program;
}

std::string content(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_CASE("a backup has a disk of its own, and a program that looks at its copy") {
  const Folder folder;
  const std::string disk = folder.path + "/a.img", copy = folder.path + "/b.img";
  std::ofstream(disk) << std::string(1u << 20, 'Z');
  Host a(folder, "a", {{"guest", bank() + ",rwdisk=" + disk}, {"strategy", "replay"}});
  Host b(folder, "b",
         {{"peer", "unix:" + folder.path + "/a"}, {"disk", copy}, {"check", looker(folder)}});
  protect_pair(folder, a, b);
  const auto looked = [&] { return content(folder.path + "/looked") == "bank\n"; };
  REQUIRE_MESSAGE(drive({&a, &b}, looked), (a.log + b.log));
  CHECK(content(copy) == content(disk));
  CHECK_FALSE(a.wrong);
}

TEST_CASE("a guest that can only be copied takes no other strategy, and no delay") {
  const Folder folder;
  Host a(folder, "a", {{"guest", "memory:mib=8"}});
  REQUIRE(ft_session_protect(a.session, a.completion(), nullptr) == FT_OK);
  REQUIRE(drive({&a}, [&] { return a.ended.first <= 0; }));
  REQUIRE_MESSAGE(a.ended.first == FT_OK, a.ended.second);
  const auto changed = change(a, a, "lockstep");
  CHECK_MESSAGE(changed.first == FT_E_UNSUPPORTED, changed.second);
  Host b(folder, "b", {{"peer", "unix:" + folder.path + "/a"}, {"follow_delay_us", "1000000"}});
  REQUIRE(ft_session_stand_by(b.session, nullptr, nullptr) == FT_OK);
  const auto told = [&] { return b.log.find("without a delay") != std::string::npos; };
  CHECK_MESSAGE(drive({&a, &b}, told), b.log);
}

TEST_CASE("what a strategy cannot have is refused with a remedy") {
  const Folder folder;
  ft_error error{};
  error.struct_size = sizeof error;
  Host unknown(folder, "a", {{"guest", bank()}, {"strategy", "prayer"}});
  CHECK(ft_session_protect(unknown.session, nullptr, &error) == FT_E_INVALID);
  CHECK(std::string(error.cause).find("replay") != std::string::npos);

  Host memory(folder, "b", {{"guest", "memory:mib=8"}, {"strategy", "replay"}});
  REQUIRE(ft_session_protect(memory.session, memory.completion(), nullptr) == FT_OK);
  REQUIRE(drive({&memory}, [&] { return memory.ended.first <= 0; }));
  CHECK_MESSAGE(memory.ended.first == FT_E_UNSUPPORTED, memory.ended.second);

  Host both(folder, "f",
            {{"peer", "unix:" + folder.path + "/b"},
             {"follow_delay_us", "1000000"},
             {"check", looker(folder)}});
  REQUIRE(ft_session_stand_by(both.session, both.completion(), nullptr) == FT_OK);
  REQUIRE(drive({&both}, [&] { return both.ended.first <= 0; }));
  CHECK_MESSAGE(both.ended.first == FT_E_INVALID, both.ended.second);

  Host unlooked(folder, "d",
                {{"peer", "unix:" + folder.path + "/a"}, {"check", folder.path + "/none"}});
  REQUIRE(ft_session_stand_by(unlooked.session, unlooked.completion(), nullptr) == FT_OK);
  REQUIRE(drive({&unlooked}, [&] { return unlooked.ended.first <= 0; }));
  CHECK_MESSAGE(unlooked.ended.second.find("none") != std::string::npos, unlooked.ended.second);

  Host nowhere(folder, "c", {{"guest", "machine:" + folder.path + "/none"}});
  REQUIRE(ft_session_protect(nowhere.session, nowhere.completion(), nullptr) == FT_OK);
  REQUIRE(drive({&nowhere}, [&] { return nowhere.ended.first <= 0; }));
  CHECK_MESSAGE(nowhere.ended.first < 0, nowhere.ended.second);
  CHECK(nowhere.ended.second.find("machine:") != std::string::npos);
}
