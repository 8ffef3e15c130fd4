// SPDX-License-Identifier: LGPL-2.1-or-later
// The lab itself: two Xen hosts that see one another, a PVH guest on one of them whose Redis a
// client outside reaches, a host's death, and nothing left of it all.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>

#include "lab/xen/pair.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

Status hosts_work(XenPair& pair) {
  for (const Side side : {Side::a, Side::b}) {
    FT_ASSIGN(const auto info, pair.host(side).run("xl info", seconds(30)));
    if (info.find("xen_version            : 4.17") == info.npos) {
      return Status(Code::corrupt, "not the Xen that was built: " + info);
    }
    FT_ASSIGN(const auto client, pair.host(side).run("ping -c 1 -W 10 10.77.0.100", seconds(30)));
  }
  FT_ASSIGN(const auto ping, pair.host(Side::a).run("ping -c 1 -W 10 xen2", seconds(30)));
  FT_ASSIGN(const auto guests, pair.host(Side::a).run("xl list guest", seconds(30)));
  return {};
}

Status commands_end(XenPair& pair) {
  auto& host = pair.host(Side::a);
  FT_ASSIGN(const auto wrong, host.command("echo said; exit 7", seconds(20)));
  if (wrong.code != 7 || wrong.output != "said\n") {
    return Status(Code::corrupt, fmt::format("exit 7 came as {}: {}", wrong.code, wrong.output));
  }
  FT_ASSIGN(const auto late, host.command("sleep 100", seconds(1)));
  if (late.code != 124) return Status(Code::corrupt, "a late command was not ended");
  return {};
}

Status files_arrive(XenPair& pair) {
  FT_TRY(pair.host(Side::b).push({"/proc/self/exe"}, "/tmp/pushed", seconds(60)));
  FT_ASSIGN(const auto size,
            pair.host(Side::b).run("stat -L -c %F /tmp/pushed/exe; ls /tmp/pushed", seconds(20)));
  return size.find("exe") != size.npos ? Status{} : Status(Code::corrupt, "no file: " + size);
}

Status death_is_seen(XenPair& pair) {
  pair.host(Side::a).kill();
  if (pair.host(Side::a).running()) return Status(Code::corrupt, "a killed host runs");
  if (pair.wait_for_redis(seconds(3)).ok()) return Status(Code::corrupt, "its guest still answers");
  FT_ASSIGN(const auto alone, pair.host(Side::b).run("xl list", seconds(30)));
  return {};
}

}  // namespace

TEST_CASE("two Xen hosts, a guest, a client outside, and the end of it") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  std::string folder;
  const Status done = attempt_on_pairs(lab, "boot", XenGuest{}, [&](XenPair& pair) -> Status {
    folder = pair.folder();
    FT_TRY(hosts_work(pair));
    FT_TRY(commands_end(pair));
    FT_TRY(files_arrive(pair));
    return death_is_seen(pair);
  });
  INFO(done.to_string());
  REQUIRE(done.ok());
  CHECK_FALSE(std::filesystem::exists(folder));
}
