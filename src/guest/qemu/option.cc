// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/option.h"

#include <algorithm>

namespace libft::qemu {
namespace {

// Up to the next single comma; `text` moves behind it.
std::string next_part(std::string_view& text) {
  std::string part;
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == ',' && (text.empty() || text.front() != ',')) break;
    if (c == ',') text.remove_prefix(1);
    part += c;
  }
  return part;
}

std::string quoted(std::string_view value) {
  std::string text;
  for (const char c : value) text += c == ',' ? std::string(",,") : std::string(1, c);
  return text;
}

}  // namespace

Option::Option(std::string_view text) {
  for (bool first = true; !text.empty(); first = false) {
    std::string part = next_part(text);
    const std::size_t equals = part.find('=');
    if (first && equals == std::string::npos)
      kind_ = std::move(part);
    else if (equals == std::string::npos)
      pairs_.emplace_back(std::move(part), "on");  // The short form of a switch.
    else
      pairs_.emplace_back(part.substr(0, equals), part.substr(equals + 1));
  }
}

std::optional<std::string> Option::get(std::string_view key) const {
  for (auto pair = pairs_.rbegin(); pair != pairs_.rend(); ++pair)
    if (pair->first == key) return pair->second;
  return std::nullopt;
}

void Option::set(std::string_view key, std::string_view value) {
  for (auto pair = pairs_.rbegin(); pair != pairs_.rend(); ++pair)
    if (pair->first == key) {
      pair->second = value;
      return;
    }
  pairs_.emplace_back(key, value);
}

void Option::erase(std::string_view key) {
  std::erase_if(pairs_, [&](const auto& pair) { return pair.first == key; });
}

void Option::keep_only(std::string_view key) {
  std::erase_if(pairs_, [&](const auto& pair) { return pair.first != key; });
}

std::string Option::text() const {
  std::string text = quoted(kind_);
  for (const auto& [key, value] : pairs_) {
    if (!text.empty()) text += ',';
    text += key + "=" + quoted(value);
  }
  return text;
}

bool is_option(std::string_view argument, std::string_view name) {
  if (argument.starts_with("--")) argument.remove_prefix(1);
  return argument.starts_with('-') && argument.substr(1) == name;
}

}  // namespace libft::qemu
