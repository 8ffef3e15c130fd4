// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/http.h"

#include <doctest/doctest.h>

namespace libft::demo {
namespace {

const std::string kPage =
    "HTTP/1.1 200 OK\r\nServer: small\r\nCONTENT-LENGTH:  5 \r\nConnection: "
    "keep-alive\r\n\r\nhello";

TEST_CASE("a request says whether the connection is to be kept") {
  CHECK(http_get("10.0.0.1", "/page", AfterAnswer::keep) ==
        "GET /page HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n");
  CHECK(http_get("10.0.0.1", "/page", AfterAnswer::close) ==
        "GET /page HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n");
}

TEST_CASE("answers come out whole, wherever the stream was cut") {
  const std::string stream = kPage + "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" + kPage;
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    HttpReader reader;
    std::vector<HttpAnswer> answers;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::string_view(stream).substr(at, piece));
      for (;;) {
        const auto answer = reader.next();
        REQUIRE(answer);
        if (!*answer) break;
        answers.push_back(**answer);
      }
    }
    CHECK(answers == std::vector<HttpAnswer>{{200, "hello"}, {404, ""}, {200, "hello"}});
  }
}

TEST_CASE("what is no answer with a length is refused") {
  for (const char* const bytes :
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "+OK\r\n\r\n", "\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 2"
        "\r\n\r\n"}) {
    HttpReader reader;
    reader.append(bytes);
    CHECK_MESSAGE(!reader.next(), bytes);
  }
  HttpReader endless;
  endless.append(std::string(20000, 'x'));
  CHECK(!endless.next());
}

}  // namespace
}  // namespace libft::demo
