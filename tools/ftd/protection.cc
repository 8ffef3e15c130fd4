// SPDX-License-Identifier: LGPL-2.1-or-later
#include "protection.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "descriptor.h"
#include "state_file.h"

namespace libft::ftd {

namespace fs = std::filesystem;

namespace {

constexpr char kSuffix[] = ".protection.json";
constexpr char kMaintenance[] = "maintenance";

Result<Start> start_from(const std::string& text) {
  for (const Start start : {Start::primary, Start::backup, Start::nothing}) {
    if (to_string(start) == text) return start;
  }
  return failure(Code::corrupt,
                 fmt::format("start: {} is neither primary, backup nor nothing", text));
}

Result<Protection> read_protection(const std::string& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  try {
    const Json json = Json::parse(text.str());
    Protection protection;
    protection.name = json.at("guest").get<std::string>();
    protection.section = json.at("settings");
    FT_ASSIGN(protection.start, start_from(json.at("start").get<std::string>()));
    protection.note = json.value("note", "");
    protection.owner_paused = json.value("owner_paused", false);
    return protection;
  } catch (const Json::exception& error) {
    return failure(Code::corrupt, fmt::format("{}: {}", file, error.what()));
  }
}

}  // namespace

std::string_view to_string(Start start) {
  switch (start) {
    case Start::primary: return "primary";
    case Start::backup: return "backup";
    case Start::nothing: return "nothing";
  }
  return "nothing";
}

std::string Store::file_of(const std::string& name) const {
  return fmt::format("{}/{}{}", folder_, name, kSuffix);
}

Result<std::vector<Protection>> Store::load(std::vector<std::string>& notes) const {
  FT_TRY(ftctl::ensure_state_dir(folder_));
  std::vector<Protection> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    if (!entry.path().filename().string().ends_with(kSuffix)) continue;
    auto protection = read_protection(entry.path().string());
    if (protection) {
      all.push_back(std::move(*protection));
    } else {
      notes.push_back(protection.error().message());
    }
  }
  std::sort(all.begin(), all.end(),
            [](const Protection& a, const Protection& b) { return a.name < b.name; });
  return all;
}

Status Store::save(const Protection& protection) const {
  const Json json{{"guest", protection.name},
                  {"settings", protection.section},
                  {"start", to_string(protection.start)},
                  {"note", protection.note},
                  {"owner_paused", protection.owner_paused}};
  return ftctl::replace_file(file_of(protection.name),
                             json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Store::remove(const std::string& name) const { ::unlink(file_of(name).c_str()); }

bool Store::maintenance() const { return fs::exists(folder_ + "/" + kMaintenance); }

Status Store::set_maintenance(bool on) const {
  const std::string file = folder_ + "/" + kMaintenance;
  if (on) return ftctl::replace_file(file, "on\n");
  if (::unlink(file.c_str()) == 0 || errno == ENOENT) return {};
  return ftctl::system_error(file);
}

}  // namespace libft::ftd
