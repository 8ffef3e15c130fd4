// SPDX-License-Identifier: LGPL-2.1-or-later
// The configuration file: JSON (comments allowed), the keys of settings.h at the top for all
// guests, and a section a guest under "guests" that overrides them. Values; any thread.
#pragma once

#include <map>
#include <string>

#include "settings.h"

namespace libft::ftctl {

inline constexpr char kDefaultConfig[] = "/etc/libft/ftctl.json";

struct Config {
  Settings common;
  std::map<std::string, Settings> guests;  // By name; `common` is already in each.
};

// One guest's section over `settings`; `where` names the section in errors ("guests.web.").
Status apply_guest_section(Settings& settings, const Json& section, const std::string& where);

// `file` is only named in errors, each of which says where, what was expected and what was found.
Result<Config> parse_config(const std::string& text, const std::string& file);

// `required`: a file that does not exist is an error; else it is an empty configuration.
Result<Config> load_config(const std::string& file, bool required);

}  // namespace libft::ftctl
