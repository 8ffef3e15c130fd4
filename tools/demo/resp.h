// SPDX-License-Identifier: LGPL-2.1-or-later
// The part of Redis's protocol (RESP2) that the demo's client speaks: requests as arrays of bulk
// strings, replies one at a time out of a stream that arrives in any pieces. Pure; one thread.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "libft/status.h"

namespace libft::demo {

enum class ReplyKind { simple, error, integer, bulk, nil };

struct Reply {
  ReplyKind kind = ReplyKind::nil;
  std::string text;  // Of an integer: its digits.
  bool operator==(const Reply&) const = default;
};

std::string resp_command(std::initializer_list<std::string_view> words);

class RespReader {
 public:
  void append(std::string_view bytes);
  // The next whole reply, or nothing yet. Code::corrupt when the stream is not RESP; it stays so.
  Result<std::optional<Reply>> next();

 private:
  Result<std::optional<Reply>> bulk(std::string_view digits, std::size_t body_at);
  void consume(std::size_t bytes);

  std::string buffer_;
  std::size_t start_ = 0;
};

}  // namespace libft::demo
