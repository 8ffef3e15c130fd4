// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ftd_socket.h"

#include "control.h"
#include "settings.h"

namespace libft::ftctl {

namespace {
constexpr char kSystem[] = "/run/ftd/socket";
}

std::string ftd_socket(const std::string& state_dir) {
  return state_dir == "/run/libft" ? kSystem : state_dir + "/ftd.sock";
}

Result<std::optional<std::string>> running_ftd(const std::string& state_dir) {
  const std::string path = ftd_socket(state_dir);
  const auto there = connect_control(path);
  if (there) return std::optional<std::string>(path);
  if (there.error().code() == Code::refused) return failure(there.error());
  return std::optional<std::string>();
}

Result<std::optional<std::string>> ftd_to_look_at(const std::string& state_dir) {
  FT_ASSIGN(const std::optional<std::string> own, running_ftd(state_dir));
  if (own || state_dir != default_state_dir() || !connect_control(kSystem)) return own;
  return std::optional<std::string>(kSystem);
}

}  // namespace libft::ftctl
