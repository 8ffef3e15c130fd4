// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "conformance/temp_folder.h"
#include "failover/command_fence.h"
#include "failover/open_arbiter.h"
#include "os/file.h"

using namespace libft;
using namespace libft::failover;
using conformance::TempFolder;

TEST_CASE("arbiters are opened by what an operator writes") {
  const struct {
    const char *spec, *description;
    bool automatic;
  } good[] = {
      {"file:/srv/ft", "file /srv/ft", true},
      {"manual:/var/lib/ft", "manual /var/lib/ft", false},
      {"etcd:http://10.0.0.1:2379,https://[fd00::1]:2379",
       "etcd http://10.0.0.1:2379,https://[fd00::1]:2379", true},
      {"etcd:http://a:1?connect-ms=100&total-ms=500&ca=/c&user=u&password-file=/p",
       "etcd http://a:1", true},
  };
  for (const auto& row : good) {
    const auto arbiter = open_arbiter(row.spec);
    REQUIRE_MESSAGE(arbiter, row.spec);
    CHECK((*arbiter)->description() == row.description);
    CHECK((*arbiter)->automatic() == row.automatic);
  }
}

TEST_CASE("what is no arbiter is refused with the remedy") {
  const struct {
    const char *spec, *remedy;
  } bad[] = {
      {"none", "etcd:http://HOST:2379"},
      {"", "file:/DIRECTORY"},
      {"zookeeper:a", "manual:/DIRECTORY"},
      {"file", "file:/DIR"},
      {"file:relative", "file:/DIR"},
      {"etcd:", "http://HOST:PORT"},
      {"etcd:10.0.0.1:2379", "http://HOST:PORT"},
      {"etcd:http://a:1,", "http://HOST:PORT"},
      {"etcd:http://a:1/path", "http://HOST:PORT"},
      {"etcd:http://a:1?total-ms=0", "milliseconds"},
      {"etcd:http://a:1?total-ms=9x", "milliseconds"},
      {"etcd:http://a:1?colour=red", "password-file="},
      {"etcd:http://a:1?user=u", "password file"},
  };
  for (const auto& row : bad) {
    const auto arbiter = open_arbiter(row.spec);
    REQUIRE_FALSE_MESSAGE(arbiter, row.spec);
    CHECK_MESSAGE(arbiter.error().message().find(row.remedy) != std::string::npos,
                  arbiter.error().message());
  }
}

namespace {

std::string program(const TempFolder& folder, const char* body) {
  const std::string path = folder.path() + "/fence";
  REQUIRE(os::write_file_atomically(path, std::string("#!/bin/sh\n") + body + "\n", 0755).ok());
  return path;
}

const GuestId kGuest = *GuestId::from_name("db-1");
const Incarnation kLoser{"host b; $(reboot)", {1}};  // No shell looks at it.

}  // namespace

TEST_CASE("a fence's program gets guest and host, and its exit code counts") {
  const TempFolder folder;
  const auto path = program(folder, R"(printf '%s|%s|%s' "$#" "$1" "$2" > "$0.told")");
  const auto fence = open_fence("exec:" + path);
  REQUIRE(fence);
  CHECK((*fence)->description() == "exec " + path);
  CHECK((*fence)->fence(kGuest, kLoser).ok());
  CHECK(*os::read_file(path + ".told", 1000) == "2|db-1|host b; $(reboot)");

  program(folder, "exit 3");
  const Status failed = (*fence)->fence(kGuest, kLoser);
  CHECK(failed.code() == Code::io);
  CHECK(failed.message().find("exit code 3") != std::string::npos);
}

TEST_CASE("a fence that does not end is killed at its deadline") {
  const TempFolder folder;
  const auto fence = open_fence("exec:" + program(folder, "exec sleep 1000"), Millis{100});
  REQUIRE(fence);
  CHECK((*fence)->fence(kGuest, kLoser).code() == Code::timeout);
}

TEST_CASE("a name that could be taken for an option is not passed on") {
  const TempFolder folder;
  const auto fence = open_fence("exec:" + program(folder, "exit 0"));
  REQUIRE(fence);
  CHECK((*fence)->fence(kGuest, Incarnation{"--force", {1}}).code() == Code::invalid);
  CHECK((*fence)->fence(kGuest, Incarnation{"", {1}}).code() == Code::invalid);
  CHECK((*fence)->fence(*GuestId::from_name("-x"), kLoser).code() == Code::invalid);
}

TEST_CASE("fences are opened by what an operator writes") {
  const TempFolder folder;
  REQUIRE(open_fence("none"));
  CHECK((*open_fence("none"))->fence(kGuest, kLoser).ok());
  for (const std::string& bad : {std::string(""), std::string("ipmi"), std::string("exec:"),
                                 std::string("exec:relative"), "exec:" + folder.path() + "/no"})
    CHECK_FALSE_MESSAGE(open_fence(bad), bad);
}
