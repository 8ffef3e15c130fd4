// SPDX-License-Identifier: LGPL-2.1-or-later
#include "left.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/hex.h"

namespace libft::capi {
namespace {

using Json = nlohmann::json;
constexpr int kFormat = 1;  // Of this text; kHeldFormat is that of the session's bytes.

Json to_json(const host::HeldQemu& qemu) {
  Json descriptors = Json::array();
  for (const auto& nic : qemu.descriptors) descriptors.push_back({nic.guest, nic.link});
  return {{"pid", qemu.pid}, {"qmp", qemu.qmp}, {"descriptors", descriptors}};
}

host::HeldQemu qemu_from(const Json& json) {
  host::HeldQemu qemu{json.at("pid").get<pid_t>(), json.at("qmp").get<std::string>(), {}};
  for (const Json& nic : json.at("descriptors"))
    qemu.descriptors.push_back({nic.at(0).get<int>(), nic.at(1).get<int>()});
  return qemu;
}

Status damaged() {
  return Status(Code::corrupt,
                "this is no text of ft_session_hold; remedy: begin without it, as after a session "
                "that died");
}

}  // namespace

std::string to_text(const Left& left) {
  Json json{{"format", kFormat},
            {"session", base::to_hex(left.session.bytes)},
            {"set_running", left.session.set_running}};
  if (left.qemu) json["qemu"] = to_json(*left.qemu);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Left> left_from_text(const std::string& text) try {
  const Json json = Json::parse(text);
  if (const int format = json.at("format").get<int>(); format != kFormat)
    return failure(Code::unsupported,
                   fmt::format("the text is of format {}, and this libft reads format {}; remedy: "
                               "begin without it, as after a session that died",
                               format, kFormat));
  auto session = base::from_hex(json.at("session").get<std::string>());
  if (!session || session->empty()) return failure(damaged());
  Left left{{std::move(*session), json.at("set_running").get<bool>()}, {}};
  if (!json.contains("qemu")) return left;
  left.qemu = qemu_from(json.at("qemu"));
  left.qemu->set_running = left.session.set_running;
  return left;
} catch (const Json::exception&) {
  return failure(damaged());
}

}  // namespace libft::capi
