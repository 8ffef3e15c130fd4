// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/etcd_open.h"

#include <fmt/format.h>

#include <charconv>

#include "failover/etcd_arbiter.h"

namespace libft::failover {
namespace {

std::vector<std::string> split(std::string_view text, char mark) {
  std::vector<std::string> parts;
  for (;;) {
    const auto end = text.find(mark);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Status read_milliseconds(const std::string& text, Nanos& into) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > 60000)
    return Status(Code::invalid, fmt::format("\"{}\" is not 1 to 60000 milliseconds", text));
  into = Millis{value};
  return {};
}

Status read_etcd_option(const std::string& option, EtcdOptions& options) {
  const auto equals = option.find('=');
  const std::string name = option.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
  if (name == "connect-ms") return read_milliseconds(value, options.connect);
  if (name == "total-ms") return read_milliseconds(value, options.total);
  const struct {
    std::string_view name;
    std::string& into;
  } texts[] = {{"ca", options.ca_file},
               {"cert", options.cert_file},
               {"key", options.key_file},
               {"user", options.user},
               {"password-file", options.password_file}};
  for (const auto& text : texts) {
    if (name != text.name || value.empty()) continue;
    text.into = value;
    return {};
  }
  return Status(Code::invalid,
                fmt::format("arbiter etcd: option \"{}\": use ca=, cert=, key=, user=, "
                            "password-file=, connect-ms= or total-ms=",
                            option));
}

}  // namespace

Result<std::unique_ptr<Arbiter>> open_etcd(std::string_view rest) {
  EtcdOptions options;
  const auto question = rest.find('?');
  options.endpoints = split(rest.substr(0, question), ',');
  if (question != std::string_view::npos)
    for (const auto& option : split(rest.substr(question + 1), '&'))
      FT_TRY(read_etcd_option(option, options));
  return EtcdArbiter::open(std::move(options));
}

}  // namespace libft::failover
