// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>

#include "libft/arbiter.h"
#include "libft/types.h"

using namespace libft;

TEST_CASE("guest names are checked, and hash to what frames carry") {
  CHECK(GuestId::from_name("db-1.prod_A"));
  for (const char* bad : {"", "..", "a/b", "a b", "ä"}) CHECK_FALSE(GuestId::from_name(bad));
  CHECK_FALSE(GuestId::from_name(std::string(65, 'a')));
  CHECK(GuestId::from_name("a")->bytes() != GuestId::from_name("b")->bytes());
}

TEST_CASE("an ownership record survives its text form") {
  OwnershipRecord record;
  record.generation = Generation{7};
  record.owner = Incarnation{"host-a", {1, 2, 3}};
  record.in_sync = {record.owner, Incarnation{"host-b", {0xff}}};
  record.ended = true;
  const auto back = record_from_string(to_string(record));
  REQUIRE(back);
  CHECK(*back == record);
}

TEST_CASE("a damaged record is corrupt, never half read") {
  for (const char* bad : {"", "{", "[]", "{}", R"({"generation":-1})",
                          R"({"generation":1,"owner":"x","in_sync":[],"ended":false})",
                          R"({"generation":1,"owner":"h/00","in_sync":[3],"ended":false})"}) {
    const auto record = record_from_string(bad);
    REQUIRE_FALSE(record);
    CHECK(record.error().code() == Code::corrupt);
  }
}
