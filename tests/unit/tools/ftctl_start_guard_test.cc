// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>

#include "start_guard.h"

using namespace libft;
using namespace libft::ftctl;

namespace {

Incarnation replica(const char* host, std::uint8_t n) {
  Incarnation who;
  who.host = host;
  who.id.fill(n);
  return who;
}
const Incarnation kHere = replica("a", 1), kThere = replica("b", 2);
const StartQuestion kProtected{"web", "a", true}, kOther{"web", "a", false};

ReadAnswer record(const Incarnation& owner, std::vector<Incarnation> in_sync, bool ended = false) {
  return {ReadAnswer::Outcome::found, {Generation{4}, owner, std::move(in_sync), ended}, {}};
}

}  // namespace

TEST_CASE("a guest that runs on another host is not started here") {
  const Status no = may_start(kProtected, record(kThere, {kThere}));
  CHECK(no.code() == Code::fenced);
  CHECK(no.message().find("b/0202") != std::string::npos);
  CHECK(may_start(kOther, record(kThere, {kThere, kHere})).code() == Code::fenced);
}

TEST_CASE("a guest whose backup may be taking over now is not started either") {
  CHECK(may_start(kProtected, record(kHere, {kHere, kThere})).code() == Code::refused);
}

TEST_CASE("a guest that nobody else holds, or that ended, may be started") {
  CHECK(may_start(kProtected, record(kHere, {kHere})).ok());
  CHECK(may_start(kProtected, record(kThere, {kThere}, true)).ok());
}

TEST_CASE("without an answer nothing starts; without a record only what nobody protects") {
  const ReadAnswer silent{ReadAnswer::Outcome::unknown, {}, "connection refused"};
  const Status no = may_start(kOther, silent);
  CHECK(no.code() == Code::timeout);
  CHECK(no.message().find("connection refused") != std::string::npos);
  const ReadAnswer missing{ReadAnswer::Outcome::missing, {}, {}};
  CHECK(may_start(kProtected, missing).code() == Code::refused);
  CHECK(may_start(kOther, missing).ok());
}
