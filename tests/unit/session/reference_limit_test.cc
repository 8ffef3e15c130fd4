// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/reference_limit.h"

#include <doctest/doctest.h>

using libft::session::reference_limit;

TEST_CASE("the default is the whole guest where that leaves the host half of what it has") {
  CHECK(reference_limit(~0ull, 1000, 5000) == 1000);
  CHECK(reference_limit(~0ull, 1000, 2000) == 1000);
  CHECK(reference_limit(~0ull, 1000, 600) == 300);
  CHECK(reference_limit(~0ull, 1000, 0) == 1000);  // The host does not say.
}

TEST_CASE("what somebody asked for is what they get") {
  CHECK(reference_limit(0, 1000, 5000) == 0);
  CHECK(reference_limit(800, 1000, 100) == 800);
  CHECK(reference_limit(5000, 1000, 100) == 5000);
}
