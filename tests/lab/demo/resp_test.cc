// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/resp.h"

#include <doctest/doctest.h>

namespace libft::demo {
namespace {

std::vector<Reply> all_in(RespReader& reader) {
  std::vector<Reply> replies;
  for (;;) {
    auto reply = reader.next();
    REQUIRE(reply);
    if (!reply->has_value()) return replies;
    replies.push_back(**reply);
  }
}

TEST_CASE("a command is an array of bulk strings") {
  CHECK(resp_command({"SET", "k:1", ""}) == "*3\r\n$3\r\nSET\r\n$3\r\nk:1\r\n$0\r\n\r\n");
}

TEST_CASE("replies are the same in whichever pieces they arrive") {
  const std::string stream = "+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nbc\r\n$-1\r\n$0\r\n\r\n";
  const std::vector<Reply> expected = {
      {ReplyKind::simple, "OK"},    {ReplyKind::error, "ERR no"}, {ReplyKind::integer, "-42"},
      {ReplyKind::bulk, "a\r\nbc"}, {ReplyKind::nil, ""},         {ReplyKind::bulk, ""},
  };
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    RespReader reader;
    std::vector<Reply> found;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::string_view(stream).substr(at, piece));
      for (Reply& reply : all_in(reader)) found.push_back(std::move(reply));
    }
    CHECK(found == expected);
  }
}

TEST_CASE("what is not RESP is named, not guessed") {
  for (const char* bad :
       {"HTTP/1.1 200\r\n", "\r\n", ":12x\r\n", "$-2\r\n", "$99999999\r\n", "$2\r\nabc\r\n"}) {
    RespReader reader;
    reader.append(bad);
    auto reply = reader.next();
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code() == Code::corrupt);
    CHECK_FALSE(reader.next());
  }
}

TEST_CASE("a long run of replies does not keep what was read") {
  RespReader reader;
  for (int i = 0; i < 50000; ++i) {
    reader.append("+OK\r\n");
    REQUIRE(all_in(reader).size() == 1);
  }
}

}  // namespace
}  // namespace libft::demo
