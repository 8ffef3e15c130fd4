// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/resp.h"

#include <fmt/format.h>

#include <charconv>

namespace libft::demo {
namespace {

// The client asks for nothing longer than its own short values.
constexpr long kBulkMax = 1 << 20;
constexpr std::size_t kLineMax = 64 * 1024;

std::optional<long> number_in(std::string_view digits) {
  long value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string resp_command(std::initializer_list<std::string_view> words) {
  std::string out = fmt::format("*{}\r\n", words.size());
  for (std::string_view word : words) out += fmt::format("${}\r\n{}\r\n", word.size(), word);
  return out;
}

void RespReader::append(std::string_view bytes) { buffer_ += bytes; }

Result<std::optional<Reply>> RespReader::next() {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  const std::size_t end = rest.find("\r\n");
  if (end == std::string_view::npos) {
    if (rest.size() > kLineMax) return failure(Code::corrupt, "a reply's first line has no end");
    return std::optional<Reply>();
  }
  if (end == 0) return failure(Code::corrupt, "an empty line where a reply was due");
  const std::string line(rest.substr(1, end - 1));
  switch (rest[0]) {
    case '+': consume(end + 2); return Reply{ReplyKind::simple, line};
    case '-': consume(end + 2); return Reply{ReplyKind::error, line};
    case ':':
      if (!number_in(line)) return failure(Code::corrupt, "an integer reply that is none");
      consume(end + 2);
      return Reply{ReplyKind::integer, line};
    case '$': return bulk(line, end + 2);
    default:
      return failure(Code::corrupt, fmt::format("a reply begins with byte {:#04x}",
                                                static_cast<unsigned char>(rest[0])));
  }
}

Result<std::optional<Reply>> RespReader::bulk(std::string_view digits, std::size_t body_at) {
  const auto length = number_in(digits);
  if (!length || *length < -1 || *length > kBulkMax) {
    return failure(Code::corrupt, fmt::format("a bulk reply of length \"{}\"", digits));
  }
  if (*length == -1) {
    consume(body_at);
    return Reply{ReplyKind::nil, {}};
  }
  const auto size = static_cast<std::size_t>(*length);
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  if (rest.size() < body_at + size + 2) return std::optional<Reply>();
  if (rest.substr(body_at + size, 2) != "\r\n") {
    return failure(Code::corrupt, "a bulk reply that is longer than it says");
  }
  Reply reply{ReplyKind::bulk, std::string(rest.substr(body_at, size))};
  consume(body_at + size + 2);
  return reply;
}

void RespReader::consume(std::size_t bytes) {
  start_ += bytes;
  if (start_ < buffer_.size() / 2 && start_ < 65536) return;
  buffer_.erase(0, start_);
  start_ = 0;
}

}  // namespace libft::demo
