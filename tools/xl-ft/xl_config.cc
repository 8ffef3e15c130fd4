// SPDX-License-Identifier: LGPL-2.1-or-later
#include "xl_config.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config.h"
#include "module.h"
#include "report.h"

namespace libft::xl {

using ftctl::Settings;
using ftctl::with_remedy;

namespace {

std::string module_file() {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  // Installed, beside the tools, or in a build folder.
  for (const char* place : {"../lib/x86_64-linux-gnu/libft", "../lib/libft", "."}) {
    const auto file = (here / place / "libft-xlcfg.so").lexically_normal();
    if (std::filesystem::exists(file, error)) return file.string();
  }
  return "libft-xlcfg.so";
}

Result<ft_xlcfg_read_fn*> reader() {
  static void* const module = ::dlopen(module_file().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    return failure(with_remedy(Code::unsupported,
                               fmt::format("xl.cfg's syntax cannot be read: {}", ::dlerror()),
                               "apt-get install libft-xen for this Xen, or write JSON"));
  }
  void* const found = ::dlsym(module, "ft_xlcfg_read");
  if (found == nullptr) return failure(Code::unsupported, "libft-xlcfg.so: another release's");
  return reinterpret_cast<ft_xlcfg_read_fn*>(found);
}

Result<std::string> read_text(const std::string& file) {
  std::ifstream in(file);
  if (!in) return failure(Code::not_found, fmt::format("{}: {}", file, std::strerror(errno)));
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

Result<Values> parse(const std::string& file, const std::string& text,
                     const std::vector<std::string>& names) {
  FT_ASSIGN(ft_xlcfg_read_fn* const read, reader());
  std::vector<const char*> wanted;
  for (const std::string& name : names) wanted.push_back(name.c_str());
  Values values;
  char problem[512] = {};
  const auto found = [](void* user, const char* name, const char* value) {
    (*static_cast<Values*>(user))[name].emplace_back(value);
  };
  if (read(file.c_str(), text.data(), static_cast<int>(text.size()), wanted.data(), wanted.size(),
           found, &values, problem, sizeof problem) != 0) {
    std::string what = problem;
    while (what.ends_with('\n')) what.pop_back();
    return failure(with_remedy(Code::invalid, what, "correct the file there"));
  }
  return values;
}

std::vector<std::string> known_names() {
  std::vector<std::string> names;
  for (const ftctl::Key& key : ftctl::keys()) {
    if (!key.per_process) names.push_back(ftctl::config_name(key));
  }
  return names;
}

// libxlutil passes over what it is not asked for, and so would a misspelt option be passed over.
Status check_names(const std::string& file, const std::string& text,
                   const std::vector<std::string>& known) {
  std::istringstream in(text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::size_t from = line.find_first_not_of(" \t");
    const std::size_t equals = line.find('=');
    if (from == std::string::npos || equals == std::string::npos || line[from] == '#') continue;
    std::string name = line.substr(from, equals - from);
    while (name.ends_with(' ') || name.ends_with('\t') || name.ends_with('+')) name.pop_back();
    // Not a name: the rest of a list over several lines.
    if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") !=
        std::string::npos) {
      continue;
    }
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return with_remedy(Code::invalid, fmt::format("{}:{}: unknown option {}", file, number, name),
                       fmt::format("did you mean `{}`?", ftctl::nearest(name, known)));
  }
  return {};
}

Status apply_value(Settings& settings, const std::string& name,
                   const std::vector<std::string>& texts, const std::string& where) {
  std::string option = name;
  std::replace(option.begin(), option.end(), '_', '-');
  const ftctl::Key& key = *ftctl::find_key(option);
  if (!std::holds_alternative<bool Settings::*>(key.field)) {
    return ftctl::set_from_text(settings, key, texts).within(where);
  }
  // As in xl.cfg: 0 or 1.
  if (texts.size() == 1 && (texts[0] == "0" || texts[0] == "1")) {
    return ftctl::set(settings, key, texts[0] == "1", where);
  }
  return Status(Code::invalid, fmt::format("{}: {}: expected 0 or 1", where, name));
}

bool is_json(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && text[first] == '{';
}

}  // namespace

Result<Values> read_xl_cfg(const std::string& file, const std::vector<std::string>& names) {
  FT_ASSIGN(const std::string text, read_text(file));
  return parse(file, text, names);
}

Status apply_file(Settings& settings, const std::string& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  FT_ASSIGN(const std::string text, read_text(file));
  if (is_json(text)) {
    const ftctl::Json json = ftctl::Json::parse(text, nullptr, false, true);
    if (!json.is_object()) return Status(Code::invalid, file + ": not a JSON object");
    return ftctl::apply_guest_section(settings, json, file + ": ");
  }
  const std::vector<std::string> known = known_names();
  FT_TRY(check_names(file, text, known));
  FT_ASSIGN(const Values values, parse(file, text, known));
  for (const auto& [name, texts] : values) FT_TRY(apply_value(settings, name, texts, file));
  return {};
}

Result<std::string> name_in_xl_cfg(const std::string& file) {
  FT_ASSIGN(const Values values, read_xl_cfg(file, {"name"}));
  const auto name = values.find("name");
  if (name == values.end()) {
    return failure(with_remedy(Code::invalid, fmt::format("{}: no line name = \"...\"", file),
                               "name the domain itself"));
  }
  return name->second.front();
}

}  // namespace libft::xl
