// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/http.h"

#include <fmt/format.h>
#include <strings.h>

#include <charconv>

namespace libft::demo {
namespace {

constexpr std::size_t kHeadMax = 16384, kBodyMax = 16u << 20;
constexpr std::string_view kVersion = "HTTP/1.1 ", kLength = "content-length:";

template <typename Number>
std::optional<Number> number_of(std::string_view digits) {
  Number value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<int> status_of(std::string_view head) {
  if (!head.starts_with(kVersion) || head.size() < kVersion.size() + 3) return std::nullopt;
  return number_of<int>(head.substr(kVersion.size(), 3));
}

std::optional<std::size_t> length_of(std::string_view head) {
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos;) {
    const std::size_t from = at + 2;
    at = head.find("\r\n", from);
    const std::string_view line = head.substr(from, at == head.npos ? head.npos : at - from);
    if (line.size() < kLength.size()) continue;
    if (::strncasecmp(line.data(), kLength.data(), kLength.size()) != 0) continue;
    return number_of<std::size_t>(trimmed(line.substr(kLength.size())));
  }
  return std::nullopt;
}

}  // namespace

std::string http_get(std::string_view host, std::string_view path, AfterAnswer then) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", path, host,
                     then == AfterAnswer::close ? "Connection: close\r\n" : "");
}

Result<std::optional<HttpAnswer>> HttpReader::next() {
  const std::size_t head_end = buffer_.find("\r\n\r\n");
  if (head_end == std::string::npos) {
    if (buffer_.size() > kHeadMax) return failure(Code::corrupt, "an HTTP answer without an end");
    return std::optional<HttpAnswer>();
  }
  const std::string_view head(buffer_.data(), head_end);
  const auto status = status_of(head);
  const auto length = length_of(head);
  if (!status || !length || *length > kBodyMax)
    return failure(Code::corrupt,
                   fmt::format("not an HTTP answer with a length: {}", head.substr(0, 60)));
  const std::size_t body_at = head_end + 4;
  if (buffer_.size() - body_at < *length) return std::optional<HttpAnswer>();
  HttpAnswer answer{*status, buffer_.substr(body_at, *length)};
  buffer_.erase(0, body_at + *length);
  return std::optional(std::move(answer));
}

}  // namespace libft::demo
