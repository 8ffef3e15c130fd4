// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/history.h"

#include <doctest/doctest.h>

#include "demo/statistics.h"

namespace libft::demo {
namespace {

Time at_ms(int ms) { return Time{Millis{ms}}; }
OutputValue value_of(std::uint8_t byte) {
  OutputValue value{};
  value.fill(byte);
  return value;
}

TEST_CASE("percentiles are measured values") {
  CHECK(percentile({}, 99) == 0);
  CHECK(percentile({7}, 0) == 7);
  CHECK(percentile({3, 1, 2}, 50) == 2);
  CHECK(percentile({4, 1, 3, 2}, 50) == 2);
  std::vector<double> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(i);
  CHECK(percentile(hundred, 99) == 99);
  CHECK(percentile(hundred, 100) == 100);
  CHECK(median({10, 30, 20, 1000}) == 20);
}

TEST_CASE("a write that is gone, or older, is lost; one of another run is no answer") {
  WriteHistory history("run1");
  const std::uint64_t first = history.begin(at_ms(0), at_ms(1));
  const std::uint64_t second = history.begin(at_ms(5), at_ms(5));
  history.answer(first, at_ms(9), true);
  history.answer(second, at_ms(9), false);
  CHECK(history.acknowledged() == 1);
  CHECK(history.samples()[first].latency_ms() == 9);
  CHECK(history.samples()[first].round_trip_ms() == 8);
  CHECK(history.holds(first, history.value(first)));
  CHECK_FALSE(history.holds(first, std::nullopt));
  CHECK_FALSE(history.holds(first, history.value(second)));
  CHECK_FALSE(history.holds(first, WriteHistory("run2").value(first)));
}

TEST_CASE("the gap is the longest silence that touches the failure") {
  std::vector<RequestSample> samples;
  for (int ms : {0, 10, 500, 510, 520, 830, 840, 2000}) {
    samples.push_back({samples.size(), at_ms(ms), at_ms(ms), true});
  }
  samples.push_back({samples.size(), at_ms(2001), Time{}, false});
  CHECK(longest_gap_ms(samples, at_ms(519), at_ms(900)) == 1160);
  CHECK(longest_gap_ms(samples, at_ms(519), at_ms(835)) == 310);
  CHECK(longest_gap_ms(samples, at_ms(600), at_ms(700)) == 310);
  CHECK(longest_gap_ms({}, at_ms(0), at_ms(1)) == 0);
}

TEST_CASE("an output repeated is allowed, one contradicted is not") {
  OutputHistory history;
  CHECK(history.see({1, value_of(1), at_ms(1)}));
  CHECK(history.see({2, value_of(2), at_ms(2)}));
  CHECK(history.see({2, value_of(2), at_ms(3)}));
  CHECK(history.repeated() == 1);
  CHECK(history.contradicted() == 0);
  CHECK_FALSE(history.see({1, value_of(9), at_ms(4)}));
  CHECK(history.contradicted() == 1);
  CHECK(history.newest() == 2);
}

TEST_CASE("the promoted guest must know what was seen; what nobody saw may be anything") {
  OutputHistory history;
  for (std::uint8_t n : {10, 11, 13}) history.see({n, value_of(n), at_ms(n)});
  const auto known = [](std::initializer_list<int> bytes) {
    std::vector<std::optional<OutputValue>> values;
    for (int byte : bytes) {
      values.push_back(byte < 0 ? std::nullopt
                                : std::optional(value_of(static_cast<std::uint8_t>(byte))));
    }
    return values;
  };
  CHECK(history.count_unknown(10, known({10, 11, 12, 13})) == 0);
  CHECK(history.count_unknown(10, known({10, 11, -1, 13})) == 0);
  CHECK(history.count_unknown(10, known({10, 11, 12, -1})) == 1);  // The guest went back.
  CHECK(history.count_unknown(10, known({10, 99, 12, 98})) == 2);  // The guest says otherwise.
  CHECK(history.count_unknown(11, known({11})) == 0);              // Only what was asked for.
  CHECK(history.seen_since(at_ms(11)).size() == 2);
}

}  // namespace
}  // namespace libft::demo
