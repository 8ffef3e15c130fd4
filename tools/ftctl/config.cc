// SPDX-License-Identifier: LGPL-2.1-or-later
#include "config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "libft/types.h"
#include "report.h"

namespace libft::ftctl {

namespace {

std::vector<std::string> known_names(bool top) {
  std::vector<std::string> names;
  for (const Key& key : keys()) {
    if (top || !key.per_process) names.push_back(config_name(key));
  }
  if (top) names.emplace_back("guests");
  return names;
}

Status unknown_key(const std::string& where, const std::string& name, bool top) {
  return with_remedy(Code::invalid, fmt::format("{}: unknown key", where),
                     fmt::format("did you mean `{}`?", nearest(name, known_names(top))));
}

Status apply_section(Settings& settings, const Json& section, const std::string& where, bool top) {
  for (const auto& [name, value] : section.items()) {
    if (top && name == "guests") continue;
    std::string option = name;
    std::replace(option.begin(), option.end(), '_', '-');
    const Key* key = find_key(option);
    const std::string place = where + name;
    if (key == nullptr || name.find('-') != std::string::npos || (!top && key->per_process)) {
      return unknown_key(place, name, top);
    }
    FT_TRY(set(settings, *key, value, place));
  }
  return {};
}

std::string line_and_column(const std::string& text, std::size_t byte) {
  const std::size_t end = std::min(byte > 0 ? byte - 1 : 0, text.size());
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n');
  const std::size_t start = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
  return fmt::format("line {}, column {}", line + 1,
                     end - (start == std::string::npos ? 0 : start + 1) + 1);
}

Result<Json> parse_json(const std::string& text, const std::string& file) {
  try {
    return Json::parse(text, nullptr, true, true);
  } catch (const Json::parse_error& error) {
    return failure(with_remedy(
        Code::invalid, fmt::format("{}: not JSON: {}", file, line_and_column(text, error.byte)),
        "correct the file there"));
  }
}

}  // namespace

Status apply_guest_section(Settings& settings, const Json& section, const std::string& where) {
  return apply_section(settings, section, where, false);
}

Result<Config> parse_config(const std::string& text, const std::string& file) {
  FT_ASSIGN(const Json root, parse_json(text, file));
  if (!root.is_object()) return failure(Code::invalid, file + ": expected an object");
  Config config;
  FT_TRY(apply_section(config.common, root, file + ": ", true));
  const auto guests = root.find("guests");
  if (guests == root.end()) return config;
  if (!guests->is_object()) {
    return failure(Code::invalid, file + ": guests: expected an object with a section a guest");
  }
  for (const auto& [name, section] : guests->items()) {
    const std::string where = fmt::format("{}: guests.{}", file, name);
    if (auto id = GuestId::from_name(name); !id) return failure(id.error().within(where));
    if (!section.is_object()) return failure(Code::invalid, where + ": expected an object");
    Settings settings = config.common;
    settings.name = name;
    FT_TRY(apply_section(settings, section, where + ".", false));
    config.guests.emplace(name, std::move(settings));
  }
  return config;
}

Result<Config> load_config(const std::string& file, bool required) {
  std::ifstream in(file);
  if (!in) {
    const int error = errno;
    if (error == ENOENT && !required) return Config{};
    return failure(with_remedy(Code::invalid, fmt::format("{}: {}", file, std::strerror(error)),
                               "name a configuration that exists with --config"));
  }
  std::stringstream text;
  text << in.rdbuf();
  return parse_config(text.str(), file);
}

}  // namespace libft::ftctl
