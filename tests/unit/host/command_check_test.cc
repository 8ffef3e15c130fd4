// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/command_check.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "guest/memory/memory_guest.h"

using namespace libft;
using host::CommandCheck;

namespace {

struct Program {
  std::string folder, path;
  explicit Program(const std::string& text) {
    folder = (std::filesystem::temp_directory_path() / "libft-check-XXXXXX").string();
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    path = folder + "/check";
    std::ofstream(path) << "#!/bin/sh\n" << text;
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
  }
  ~Program() { std::filesystem::remove_all(folder); }
};

const GuestId kGuest = *GuestId::from_name("web");

}  // namespace

TEST_CASE("a program sees the copy's memory, and says what it thinks of it") {
  const Program program(
      "[ \"$1\" = web ] || exit 9\n"
      "dd if=/proc/$2/mem bs=4096 skip=$(($4 / 4096)) count=$(($5 / 4096)) 2> \"$0.log\" |\n"
      "  grep -q evil && exit 3\n"
      "exit 0\n");
  guest::MemoryGuest guest(guest::MemoryGuestOptions{.pages = 64, .seed = 1, .standby = true});
  const auto check = CommandCheck::make(program.path, kGuest);
  REQUIRE(check);
  const Status before = (*check)(guest);
  CHECK_MESSAGE(before.ok(), before.to_string());
  std::memcpy(guest.info().memory[0].bytes.data() + 5000, "evil", 4);
  const Status found = (*check)(guest);
  CHECK(found.code() == Code::refused);
  CHECK(found.message().find("exit code 3") != std::string::npos);
}

TEST_CASE("a program that does not end has found something") {
  const Program program("exec sleep 60\n");
  guest::MemoryGuest guest(guest::MemoryGuestOptions{.pages = 1, .seed = 1, .standby = true});
  const auto check = CommandCheck::make(program.path, kGuest);
  REQUIRE(check);
  CHECK((*check)(guest).code() == Code::timeout);
}

TEST_CASE("a program that is not there is noticed before it is needed") {
  CHECK(CommandCheck::make("relative", kGuest).error().code() == Code::invalid);
  CHECK(CommandCheck::make("/nowhere/check", kGuest).error().message().find("/nowhere/check") !=
        std::string::npos);
}
