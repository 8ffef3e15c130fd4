// SPDX-License-Identifier: LGPL-2.1-or-later
#include "redact.h"

#include <regex>
#include <sstream>

namespace libft::ftctl {

namespace {

// std::regex recurses for each character of a match; and nobody reads more of a line.
constexpr std::size_t kLineBytesMax = 8192;

std::string redact_line(const std::string& line) {
  static const std::regex key("[0-9a-fA-F]{64,}");
  static const std::regex url("://[^/@\\s\"]*@");
  static const std::regex data("(secret,[^\\s\"]*data=)[^\\s\",]+");
  static const std::regex named(
      "((?:password|passwd|secret|token|credential)(?:\"?\\s*[:=]\\s*\"?|\\s+))"
      "([^\\s\",&]+)",
      std::regex::icase);
  std::string out = std::regex_replace(line, key, "<key removed>");
  out = std::regex_replace(out, url, "://<removed>@");
  out = std::regex_replace(out, data, "$1<removed>");
  return std::regex_replace(out, named, "$1<removed>");
}

}  // namespace

std::string redact(const std::string& text) {
  std::istringstream in(text);
  std::string out;
  for (std::string line; std::getline(in, line);) {
    const bool cut = line.size() > kLineBytesMax;
    out += redact_line(line.substr(0, kLineBytesMax)) + (cut ? "<cut>\n" : "\n");
  }
  return out;
}

}  // namespace libft::ftctl
