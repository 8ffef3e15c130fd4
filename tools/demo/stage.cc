// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fmt/format.h>

#include "demo/run.h"
#include "os/file.h"

namespace libft::demo {
namespace {

// Under software emulation on a busy machine a boot takes a while.
constexpr Nanos kBootPatience = std::chrono::seconds{120};
constexpr Nanos kProtectPatience = std::chrono::seconds{60};

std::string last_lines(const std::string& path) {
  const auto text = os::read_file(path, 64u << 20);
  if (!text) return {};
  std::size_t from = text->size();
  for (int line = 0; line < 4 && from > 0; ++line) {
    const std::size_t before = text->rfind('\n', from >= 2 ? from - 2 : 0);
    from = before == std::string::npos ? 0 : before + 1;
  }
  return "\n" + text->substr(from);
}

}  // namespace

Status wait_for(const RunParts& parts, Ftctl& ftctl, std::string_view what, Nanos patience,
                const std::function<bool()>& done) {
  std::optional<os::ChildEnd> end;
  const Status waited = parts.interrupt.wait(what, patience, [&] {
    if (done()) return true;
    if (auto ended = ftctl.child->wait(Nanos{0})) end = *ended;
    return end.has_value();
  });
  if (end) {
    return Status(
        Code::guest_gone,
        fmt::format("waiting for {}: ftctl on host {} ended with {}; {}:{}", what,
                    letter(ftctl.side), os::to_string(*end), ftctl.log, last_lines(ftctl.log)));
  }
  return waited;
}

Result<Stage> set_stage(const RunParts& parts, const std::string& token) {
  Stage stage;
  parts.say("making two hosts");
  FT_ASSIGN(stage.world, World::create(parts.options, parts.guest, parts.folder, parts.interrupt));
  const int outside = stage.world->hosts().client().fd();
  FT_ASSIGN(stage.observer, Observer::start({lab::kGuestAddress, outside}));
  FT_ASSIGN(stage.primary, stage.world->protect(Side::a));
  parts.say("booting the guest on host A");
  FT_TRY(wait_for(parts, *stage.primary, "the guest to boot", kBootPatience,
                  [&] { return stage.observer->seen() > 0; }));
  RedisClientOptions client;
  client.address = lab::kGuestAddress;
  client.netns_fd = outside;
  client.token = token;
  client.connect_timeout = std::chrono::seconds{60};
  FT_ASSIGN(stage.client, RedisClient::connect(client));
  return stage;
}

Status protect_stage(const RunParts& parts, Stage& stage) {
  parts.say("starting the backup on host B");
  FT_ASSIGN(stage.backup, stage.world->stand_by(Side::b));
  return wait_for(parts, *stage.backup, "the guest to be protected", kProtectPatience,
                  [&] { return stage.primary->protects(); });
}

}  // namespace libft::demo
