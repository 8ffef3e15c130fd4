// SPDX-License-Identifier: LGPL-2.1-or-later
// What of HTTP/1.1 a client needs that asks for one page: a request, and answers one at a time out
// of a stream that arrives in any pieces. Only bodies whose length is said first. Pure; one thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "libft/status.h"

namespace libft::demo {

struct HttpAnswer {
  int status = 0;
  std::string body;
  bool operator==(const HttpAnswer&) const = default;
};

enum class AfterAnswer { keep, close };
std::string http_get(std::string_view host, std::string_view path, AfterAnswer then);

class HttpReader {
 public:
  void append(std::string_view bytes) { buffer_ += bytes; }
  // The next whole answer, or nothing yet. Code::corrupt when the stream is not that; it stays so.
  Result<std::optional<HttpAnswer>> next();

 private:
  std::string buffer_;
};

}  // namespace libft::demo
